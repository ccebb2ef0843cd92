// Package manager is what Sendan's managers have in common: their flags, named as Cluster API's own managers name them,
// and how they reach the management cluster.
package manager

import (
	"context"
	"fmt"
	"os"
	"runtime/debug"
	"time"

	"github.com/jonboulle/clockwork"
	"github.com/spf13/pflag"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
	cliflag "k8s.io/component-base/cli/flag"
	"k8s.io/component-base/logs"
	logsv1 "k8s.io/component-base/logs/api/v1"
	_ "k8s.io/component-base/logs/json/register" // --logging-format=json
	"k8s.io/klog/v2"
	"k8s.io/utils/ptr"
	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"
	"sigs.k8s.io/cluster-api/util/flags"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/config"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/webhook"
)

// Options are the flags that every manager has.
type Options struct {
	// Name of the program. It is also the name of its lease, and a part of its user agent.
	Name string
	// Scheme has the kinds that it works with.
	Scheme *runtime.Scheme
	// Cached narrows down what the cache keeps of some kinds.
	Cached map[client.Object]cache.ByObject
	// Uncached are the kinds of which clients keep nothing in memory.
	Uncached []client.Object

	// WatchFilter is the value of Cluster API's watch label that objects must have; any when empty.
	WatchFilter string
	// SyncPeriod is how often every object is looked at although nothing happened.
	SyncPeriod time.Duration

	logs            *logsv1.LoggingConfiguration
	diagnostics     flags.ManagerOptions
	kubeconfig      string
	leaderElect     bool
	leaseNamespace  string
	lease           *lease
	leaseDuration   time.Duration
	renewDeadline   time.Duration
	retryPeriod     time.Duration
	namespace       string
	profilerAddress string
	kubeAPIQPS      float32
	kubeAPIBurst    int
	webhookPort     int
	webhookCertDir  string
	webhookCertName string
	webhookKeyName  string
	healthAddress   string
}

// AddFlags adds the flags.
func (o *Options) AddFlags(fs *pflag.FlagSet) {
	o.logs = logs.NewOptions()
	logsv1.AddFlags(o.logs, fs)
	flags.AddManagerOptions(fs, &o.diagnostics)
	fs.StringVar(&o.kubeconfig, "kubeconfig", "", "Path of the kubeconfig of the management cluster. Only needed outside of it.")
	fs.BoolVar(&o.leaderElect, "leader-elect", false, "Elect a leader among several managers, so that only one is active.")
	fs.StringVar(&o.leaseNamespace, "leader-elect-namespace", "", "Namespace of the lease. That of the manager's pod when empty, so it is needed outside of a cluster.")
	fs.DurationVar(&o.leaseDuration, "leader-elect-lease-duration", 15*time.Second, "How long others wait before they take over from a leader that is silent.")
	fs.DurationVar(&o.renewDeadline, "leader-elect-renew-deadline", 10*time.Second, "How long a leader tries to renew before it gives up.")
	fs.DurationVar(&o.retryPeriod, "leader-elect-retry-period", 2*time.Second, "How long to wait between tries.")
	fs.StringVar(&o.namespace, "namespace", "", "Namespace to watch. All of them when empty.")
	fs.StringVar(&o.WatchFilter, "watch-filter", "", fmt.Sprintf("Only look at objects with this value of the label %s.", clusterv1.WatchLabel))
	fs.StringVar(&o.profilerAddress, "profiler-address", "", "Address to serve pprof at, such as localhost:6060.")
	fs.DurationVar(&o.SyncPeriod, "sync-period", 10*time.Minute, "How often every object is looked at although nothing happened. Costs the cloud nothing.")
	fs.Float32Var(&o.kubeAPIQPS, "kube-api-qps", 100, "Most requests per second to the Kubernetes API.")
	fs.IntVar(&o.kubeAPIBurst, "kube-api-burst", 200, "Most requests in one burst to the Kubernetes API.")
	fs.IntVar(&o.webhookPort, "webhook-port", 9443, "Port of the webhook server.")
	fs.StringVar(&o.webhookCertDir, "webhook-cert-dir", "/tmp/k8s-webhook-server/serving-certs/", "Folder of the webhook server's certificate.")
	fs.StringVar(&o.webhookCertName, "webhook-cert-name", "tls.crt", "File of the webhook server's certificate.")
	fs.StringVar(&o.webhookKeyName, "webhook-key-name", "tls.key", "File of the webhook server's key.")
	fs.StringVar(&o.healthAddress, "health-addr", ":9440", "Address to serve health checks at.")
}

// gcPercent spends processor time, of which a settled manager needs little, to save memory, most of which is what caches keep.
// The environment variable GOGC takes precedence.
const gcPercent = 50

// shutdownTimeout is how long a manager that is told to stop waits for its reconciles, which are canceled at once. It is
// shorter than the terminationGracePeriodSeconds of the pods, so that a manager says what it waited for before it is killed.
const shutdownTimeout = 8 * time.Second

// Main runs a manager with these flags until it is told to stop.
func Main(o *Options, addFlags func(*pflag.FlagSet), newManager func(context.Context) (ctrl.Manager, error)) {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	if err := run(ctrl.SetupSignalHandler(), o, addFlags, newManager); err != nil {
		fmt.Fprintln(os.Stderr, o.Name+":", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o *Options, addFlags func(*pflag.FlagSet), newManager func(context.Context) (ctrl.Manager, error)) error {
	fs := pflag.NewFlagSet(o.Name, pflag.ContinueOnError)
	fs.SetNormalizeFunc(cliflag.WordSepNormalizeFunc)
	addFlags(fs)
	if err := fs.Parse(os.Args[1:]); err != nil {
		return err
	}
	if err := logsv1.ValidateAndApply(o.logs, nil); err != nil {
		return err
	}
	ctrl.SetLogger(klog.Background())
	mgr, err := newManager(ctx)
	if err != nil {
		return err
	}
	return mgr.Start(ctx)
}

// New makes a manager without controllers, with health checks that include its webhooks.
func New(o *Options) (ctrl.Manager, error) {
	restConfig, err := o.restConfig()
	if err != nil {
		return nil, err
	}
	managerOptions, err := o.managerOptions()
	if err != nil {
		return nil, err
	}
	o.lease = &lease{clock: clockwork.NewRealClock(), deadline: o.renewDeadline}
	managerOptions.LeaderElectionConfig = rest.CopyConfig(restConfig)
	managerOptions.LeaderElectionConfig.Wrap(o.lease.watch)
	mgr, err := ctrl.NewManager(restConfig, managerOptions)
	if err != nil {
		return nil, err
	}
	if err := mgr.AddReadyzCheck("webhook", mgr.GetWebhookServer().StartedChecker()); err != nil {
		return nil, err
	}
	return mgr, mgr.AddHealthzCheck("webhook", mgr.GetWebhookServer().StartedChecker())
}

// NewScheme has the kinds that the functions add.
func NewScheme(adders ...func(*runtime.Scheme) error) (*runtime.Scheme, error) {
	scheme := runtime.NewScheme()
	for _, add := range adders {
		if err := add(scheme); err != nil {
			return nil, err
		}
	}
	return scheme, nil
}

// SlimMachine is a transform of caches, which hold every Machine: it keeps what is looked at. Changes are written as patches, which leave
// alone what is not here.
func SlimMachine(object any) (any, error) {
	if machine, ok := object.(*clusterv1.Machine); ok {
		machine.Status.Deprecated, machine.Status.NodeInfo, machine.Status.Addresses = nil, nil, nil
	}
	return cache.TransformStripManagedFields()(object)
}

// Concurrency has a controller work on n objects at the same time, from a queue that can be shut down.
func Concurrency(n int) controller.Options {
	return controller.Options{MaxConcurrentReconciles: n, NewQueue: newQueue}
}

// Leads tells why another manager may be the leader by now. Whatever must not be done twice asks right before.
func (o *Options) Leads() error {
	if !o.leaderElect {
		return nil
	}
	return o.lease.held()
}

// UserAgent is how the program introduces itself.
func (o *Options) UserAgent() string { return "sendan-" + o.Name }

func (o *Options) restConfig() (*rest.Config, error) {
	load := ctrl.GetConfig
	if o.kubeconfig != "" {
		load = func() (*rest.Config, error) { return clientcmd.BuildConfigFromFlags("", o.kubeconfig) }
	}
	restConfig, err := load()
	if err != nil {
		return nil, fmt.Errorf("find the management cluster: %w", err)
	}
	restConfig.QPS, restConfig.Burst, restConfig.UserAgent = o.kubeAPIQPS, o.kubeAPIBurst, o.UserAgent()
	return restConfig, nil
}

func (o *Options) managerOptions() (ctrl.Options, error) {
	tlsOptions, metricsOptions, err := flags.GetManagerOptions(o.diagnostics)
	if err != nil {
		return ctrl.Options{}, fmt.Errorf("invalid flags: %w", err)
	}
	out := ctrl.Options{
		Scheme: o.Scheme,
		Controller: config.Controller{
			UsePriorityQueue: ptr.To(true),
			CacheSyncTimeout: 5 * time.Minute, // tens of thousands of objects take their time
		},
		LeaderElection: o.leaderElect, LeaderElectionID: "sendan-" + o.Name, LeaderElectionResourceLock: resourcelock.LeasesResourceLock,
		LeaderElectionNamespace: o.leaseNamespace,
		LeaseDuration:           &o.leaseDuration, RenewDeadline: &o.renewDeadline, RetryPeriod: &o.retryPeriod,
		HealthProbeBindAddress: o.healthAddress, PprofBindAddress: o.profilerAddress, Metrics: *metricsOptions, GracefulShutdownTimeout: ptr.To(shutdownTimeout),
		Cache:  cache.Options{SyncPeriod: &o.SyncPeriod, ByObject: o.Cached, DefaultTransform: cache.TransformStripManagedFields()},
		Client: client.Options{Cache: &client.CacheOptions{DisableFor: o.Uncached}},
		WebhookServer: webhook.NewServer(webhook.Options{
			Port: o.webhookPort, CertDir: o.webhookCertDir, CertName: o.webhookCertName, KeyName: o.webhookKeyName, TLSOpts: tlsOptions,
		}),
	}
	if o.namespace != "" {
		out.Cache.DefaultNamespaces = map[string]cache.Config{o.namespace: {}}
	}
	return out, nil
}
