// Command cni is the network of pods on nodes that share one link, as test nodes do: every pod hangs on its node by a
// cable of its own, and a node reaches the pods of another one through that node's address. Pods see each other's own
// addresses, and the network outside sees those of nodes, which are all that it knows. It writes the configuration of the
// CNI plugins ptp, host-local and portmap, keeps the routes and one table of nftables, and that is all.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"slices"
	"syscall"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
)

const configFile = "/etc/cni/net.d/10-sendan.conflist"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	if err := run(ctx, os.Getenv("NODE_NAME")); err != nil {
		slog.Error("the network of pods ended", "error", err)
		os.Exit(1) //nolint:gocritic // nothing is left to be done
	}
}

func run(ctx context.Context, nodeName string) error {
	if nodeName == "" {
		return errors.New("NODE_NAME is not set: take it from spec.nodeName")
	}
	config, err := rest.InClusterConfig()
	if err != nil {
		return fmt.Errorf("find the cluster: %w", err)
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return fmt.Errorf("connect to the cluster: %w", err)
	}
	changed := make(chan struct{}, 1)
	notify := func() {
		select {
		case changed <- struct{}{}:
		default: // somebody is to look already
		}
	}
	factory := informers.NewSharedInformerFactory(client, 0)
	nodes := factory.Core().V1().Nodes()
	if _, err := nodes.Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc: func(any) { notify() }, UpdateFunc: func(any, any) { notify() }, DeleteFunc: func(any) { notify() },
	}); err != nil {
		return fmt.Errorf("watch nodes: %w", err)
	}
	factory.Start(ctx.Done())
	defer factory.Shutdown()
	factory.WaitForCacheSync(ctx.Done())
	a := agent{nodeName: nodeName, nodes: nodes.Lister(), configFile: configFile}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
			if err := a.follow(); err != nil {
				return err // the kubelet starts this program again, later and later
			}
		}
	}
}

// agent makes one node's network follow the nodes of its cluster.
type agent struct {
	nodeName   string
	nodes      corelisters.NodeLister
	configFile string
	// written is the plan that the file and the table of nftables follow; routes are looked at every time.
	written planned
}

func (a *agent) follow() error {
	nodes, err := a.nodes.List(everything)
	if err != nil {
		return fmt.Errorf("list nodes: %w", err)
	}
	p := plan(a.nodeName, nodes)
	if p.config != "" && p.config != a.written.config {
		if err := replaceFile(a.configFile, p.config); err != nil {
			return fmt.Errorf("write CNI configuration: %w", err)
		}
		slog.Info("pods can start", "podCIDRs", p.podCIDRs)
	}
	if !slices.Equal(p.allPodCIDRs, a.written.allPodCIDRs) {
		if err := masquerade(p.allPodCIDRs); err != nil {
			return err
		}
	}
	a.written = p
	return changeRoutes(p.routes)
}

func internalIP(node *corev1.Node) string {
	for _, address := range node.Status.Addresses {
		if address.Type == corev1.NodeInternalIP {
			return address.Address
		}
	}
	return ""
}
