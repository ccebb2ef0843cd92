// Command cni is the network of pods on nodes that share one link, as test nodes do: every pod hangs on its node by a
// cable of its own, and a node reaches the pods of another one through that node's address. It writes the configuration
// of the CNI plugins ptp, host-local and portmap, keeps the routes, and that is all.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
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
	// written is what the configuration file holds, and routed the routes by destination.
	written string
	routed  map[string]string
}

func (a *agent) follow() error {
	nodes, err := a.nodes.List(everything)
	if err != nil {
		return fmt.Errorf("list nodes: %w", err)
	}
	p := plan(a.nodeName, nodes)
	if p.config != "" && p.config != a.written {
		if err := replaceFile(a.configFile, p.config); err != nil {
			return fmt.Errorf("write CNI configuration: %w", err)
		}
		a.written = p.config
		slog.Info("pods can start", "podCIDRs", p.podCIDRs)
	}
	if err := changeRoutes(a.routed, p.routes); err != nil {
		return err
	}
	a.routed = p.routes
	return nil
}

func internalIP(node *corev1.Node) string {
	for _, address := range node.Status.Addresses {
		if address.Type == corev1.NodeInternalIP {
			return address.Address
		}
	}
	return ""
}
