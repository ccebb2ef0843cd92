package controllers

import (
	"context"
	"slices"
	"sync"

	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	infrav1 "github.com/sendan-io/sendan/api/infrastructure/v1alpha1"
	"github.com/sendan-io/sendan/cloud"
)

// InventoryEvents brings objects back when something of theirs changed in the cloud.
type InventoryEvents struct {
	client client.Reader

	mu    sync.Mutex
	sinks []func([]cloud.Change)
}

// NewInventoryEvents makes the changes of all projects, present and future, available as sources.
func NewInventoryEvents(c client.Reader, sessions *cloud.Sessions) *InventoryEvents {
	e := &InventoryEvents{client: c}
	sessions.OnNewInventory(func(i *cloud.Inventory) { i.Subscribe(e.publish) })
	return e
}

func (e *InventoryEvents) publish(changes []cloud.Change) {
	e.mu.Lock()
	sinks := slices.Clone(e.sinks)
	e.mu.Unlock()
	for _, sink := range sinks {
		sink(changes)
	}
}

// toRequests is the map function of one controller.
type toRequests func(ctx context.Context, c client.Reader, change cloud.Change) []reconcile.Request

// source is a controller's stream of requests. Changes from before the controller started are not
// lost: its first reconcile of each object reads the whole inventory.
func (e *InventoryEvents) source(requests toRequests) source.Source {
	return source.Func(func(ctx context.Context, queue workqueue.TypedRateLimitingInterface[reconcile.Request]) error {
		e.mu.Lock()
		defer e.mu.Unlock()
		e.sinks = append(e.sinks, func(changes []cloud.Change) {
			for _, change := range changes {
				for _, request := range requests(ctx, e.client, change) {
					queue.Add(request)
				}
			}
		})
		return nil
	})
}

// clusterRequests: the cluster of a change, unless it is about a machine's own server or volumes,
// which the cluster does not look at.
func clusterRequests(ctx context.Context, c client.Reader, change cloud.Change) []reconcile.Request {
	if change.Mark.IsZero() || change.Kind == cloud.KindServer || change.Kind == cloud.KindVolume {
		return nil
	}
	clusters := &infrav1.SendanClusterList{}
	if err := c.List(ctx, clusters, client.MatchingFields{ownerIDIndex: change.Mark.Cluster}); err != nil {
		return nil
	}
	var requests []reconcile.Request
	for i := range clusters.Items {
		requests = append(requests, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(&clusters.Items[i])})
	}
	return requests
}

// machineRequests: the machine a change is about.
func machineRequests(ctx context.Context, c client.Reader, change cloud.Change) []reconcile.Request {
	if change.Mark.Machine == "" {
		return waitingMachines(ctx, c, change)
	}
	machines := &infrav1.SendanMachineList{}
	if err := c.List(ctx, machines, client.MatchingFields{ownerIDIndex: change.Mark.Machine}); err != nil {
		return nil
	}
	return requestsOf(machines.Items)
}

// waitingMachines are the machines that may wait for an object of the whole cluster: new ones for
// their server group, and those being deleted for the load balancer.
func waitingMachines(ctx context.Context, c client.Reader, change cloud.Change) []reconcile.Request {
	if change.Kind != cloud.KindServerGroup && change.Kind != cloud.KindLoadBalancer {
		return nil
	}
	var waiting []infrav1.SendanMachine
	for _, request := range clusterRequests(ctx, c, change) {
		cluster := &infrav1.SendanCluster{}
		if err := c.Get(ctx, request.NamespacedName, cluster); err != nil {
			continue
		}
		machines, err := machinesOf(ctx, c, cluster)
		if err != nil {
			continue
		}
		for _, machine := range machines {
			if machine.Spec.ProviderID == "" || !machine.DeletionTimestamp.IsZero() {
				waiting = append(waiting, machine)
			}
		}
	}
	return requestsOf(waiting)
}

func requestsOf(machines []infrav1.SendanMachine) []reconcile.Request {
	var requests []reconcile.Request
	for i := range machines {
		requests = append(requests, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(&machines[i])})
	}
	return requests
}
