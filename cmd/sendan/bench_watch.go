package main

import (
	"context"
	"fmt"
	"io"
	"sync"

	"github.com/jonboulle/clockwork"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"
	toolscache "k8s.io/client-go/tools/cache"
	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"
	"sigs.k8s.io/controller-runtime/pkg/cache"
)

// watcher follows Clusters on their way. It watches, since asking for hundreds of them over and over would be a load of its own.
type watcher struct {
	clock clockwork.Clock
	out   io.Writer
	total int

	mu sync.Mutex
	// clusters by namespace, each of which has one.
	clusters map[string]*timeline
	ready    int
}

func newWatcher(clock clockwork.Clock, out io.Writer, total int) *watcher {
	return &watcher{clock: clock, out: out, total: total, clusters: map[string]*timeline{}}
}

// watch returns once it follows; it does until ctx ends.
func (w *watcher) watch(ctx context.Context, config *rest.Config, scheme *runtime.Scheme) error {
	clusters, err := cache.New(config, cache.Options{Scheme: scheme})
	if err != nil {
		return fmt.Errorf("watch Clusters: %w", err)
	}
	go func() { _ = clusters.Start(ctx) }() // it only fails when it is started twice
	informer, err := clusters.GetInformer(ctx, &clusterv1.Cluster{})
	if err != nil {
		return fmt.Errorf("watch Clusters: %w", err)
	}
	_, err = informer.AddEventHandler(toolscache.ResourceEventHandlerFuncs{
		AddFunc:    w.saw,
		UpdateFunc: func(_, after any) { w.saw(after) },
		DeleteFunc: w.sawGone,
	})
	if err != nil {
		return fmt.Errorf("watch Clusters: %w", err)
	}
	return nil
}

// expect a cluster that is applied now.
func (w *watcher) expect(namespace string) *timeline {
	w.mu.Lock()
	defer w.mu.Unlock()
	t := newTimeline(w.clock.Now())
	w.clusters[namespace] = t
	return t
}

func (w *watcher) saw(object any) {
	cluster, isCluster := object.(*clusterv1.Cluster)
	if !isCluster {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	t, expected := w.clusters[cluster.Namespace]
	if !expected || !t.note(cluster.Status, w.clock.Now()) {
		return
	}
	w.ready++
	_, _ = fmt.Fprintf(w.out, "  %s ready after %.1fs (%d of %d)\n", cluster.Namespace, t.reached[readyStage].Seconds(), w.ready, w.total)
}

func (w *watcher) sawGone(object any) {
	// What vanished while the watch was interrupted comes in an envelope.
	if last, missed := object.(toolscache.DeletedFinalStateUnknown); missed {
		object = last.Obj
	}
	cluster, isCluster := object.(*clusterv1.Cluster)
	if !isCluster {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if t, expected := w.clusters[cluster.Namespace]; expected {
		close(t.gone)
		delete(w.clusters, cluster.Namespace)
	}
}
