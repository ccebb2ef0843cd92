package main

import (
	"fmt"
	"time"

	"github.com/spf13/pflag"
	"k8s.io/component-base/logs"
	logsv1 "k8s.io/component-base/logs/api/v1"
	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"
	"sigs.k8s.io/cluster-api/util/flags"
)

// options are the flags of the manager, named as Cluster API's own managers name them.
type options struct {
	logs    *logsv1.LoggingConfiguration
	manager flags.ManagerOptions

	kubeconfig            string
	leaderElect           bool
	leaseDuration         time.Duration
	renewDeadline         time.Duration
	retryPeriod           time.Duration
	namespace             string
	watchFilter           string
	profilerAddress       string
	clusterConcurrency    int
	machineConcurrency    int
	templateConcurrency   int
	syncPeriod            time.Duration
	kubeAPIQPS            float32
	kubeAPIBurst          int
	webhookPort           int
	webhookCertDir        string
	webhookCertName       string
	webhookKeyName        string
	healthAddress         string
	cloudRequestsPerSec   float64
	cloudRequestBurst     int
	cloudRequestTimeout   time.Duration
	inventoryPollServers  time.Duration
	inventoryPollSweep    time.Duration
	inventoryPollSlow     time.Duration
	inventoryPollBuilding time.Duration
}

func (o *options) addFlags(fs *pflag.FlagSet) {
	o.logs = logs.NewOptions()
	logsv1.AddFlags(o.logs, fs)
	flags.AddManagerOptions(fs, &o.manager)
	fs.StringVar(&o.kubeconfig, "kubeconfig", "", "Path of the kubeconfig of the management cluster. Only needed outside of it.")
	fs.BoolVar(&o.leaderElect, "leader-elect", false, "Elect a leader among several managers, so that only one is active.")
	fs.DurationVar(&o.leaseDuration, "leader-elect-lease-duration", 15*time.Second, "How long others wait before they take over from a leader that is silent.")
	fs.DurationVar(&o.renewDeadline, "leader-elect-renew-deadline", 10*time.Second, "How long a leader tries to renew before it gives up.")
	fs.DurationVar(&o.retryPeriod, "leader-elect-retry-period", 2*time.Second, "How long to wait between tries.")
	fs.StringVar(&o.namespace, "namespace", "", "Namespace to watch. All of them when empty.")
	fs.StringVar(&o.watchFilter, "watch-filter", "", fmt.Sprintf("Only look at objects with this value of the label %s.", clusterv1.WatchLabel))
	fs.StringVar(&o.profilerAddress, "profiler-address", "", "Address to serve pprof at, such as localhost:6060.")
	fs.IntVar(&o.clusterConcurrency, "sendancluster-concurrency", 10, "Number of SendanClusters to work on at the same time.")
	fs.IntVar(&o.machineConcurrency, "sendanmachine-concurrency", 50, "Number of SendanMachines to work on at the same time.")
	fs.IntVar(&o.templateConcurrency, "sendanmachinetemplate-concurrency", 5, "Number of SendanMachineTemplates to work on at the same time.")
	fs.DurationVar(&o.syncPeriod, "sync-period", 10*time.Minute, "How often every object is looked at although nothing happened. Costs the cloud nothing.")
	fs.Float32Var(&o.kubeAPIQPS, "kube-api-qps", 100, "Most requests per second to the Kubernetes API.")
	fs.IntVar(&o.kubeAPIBurst, "kube-api-burst", 200, "Most requests in one burst to the Kubernetes API.")
	fs.IntVar(&o.webhookPort, "webhook-port", 9443, "Port of the webhook server.")
	fs.StringVar(&o.webhookCertDir, "webhook-cert-dir", "/tmp/k8s-webhook-server/serving-certs/", "Folder of the webhook server's certificate.")
	fs.StringVar(&o.webhookCertName, "webhook-cert-name", "tls.crt", "File of the webhook server's certificate.")
	fs.StringVar(&o.webhookKeyName, "webhook-key-name", "tls.key", "File of the webhook server's key.")
	fs.StringVar(&o.healthAddress, "health-addr", ":9440", "Address to serve health checks at.")
	fs.Float64Var(&o.cloudRequestsPerSec, "cloud-requests-per-second", 20, "Most requests per second to one cloud.")
	fs.IntVar(&o.cloudRequestBurst, "cloud-request-burst", 40, "Most requests in one burst to one cloud.")
	fs.DurationVar(&o.cloudRequestTimeout, "cloud-request-timeout", time.Minute, "How long one request to a cloud may take.")
	fs.DurationVar(&o.inventoryPollBuilding, "inventory-poll-building", 2*time.Second, "How often to list what is building or going away, at first; less often the longer it takes.")
	fs.DurationVar(&o.inventoryPollServers, "inventory-poll-servers", 2*time.Minute, "How often to ask for servers that changed, when nothing is building.")
	fs.DurationVar(&o.inventoryPollSweep, "inventory-poll-sweep", 10*time.Minute, "How often to list ports, volumes, load balancers and security groups, and all servers.")
	fs.DurationVar(&o.inventoryPollSlow, "inventory-poll-slow-sweep", time.Hour, "How often to list what seldom changes: networks, subnets, routers, floating IPs and server groups.")
}
