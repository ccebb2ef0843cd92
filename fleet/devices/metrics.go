package devices

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"
	"sigs.k8s.io/cluster-api/util/conditions"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	fleetv1 "github.com/sendan-io/sendan/api/fleet/v1alpha1"
)

// scrapeTimeout bounds a count, which reads the manager's cache only.
const scrapeTimeout = 5 * time.Second

// machinesCollector counts Machines when it is asked, from the conditions that they carry; so nothing is counted twice after
// a restart, and nothing stays counted that is gone. It has as many series as there are NodeTemplates, times reasons.
type machinesCollector struct{ reader client.Reader }

func newMachines() *prometheus.GaugeVec {
	return prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "sendan_fleet_devices_machines",
		Help: "Machines whose nodes are to have devices, by NodeTemplate and by the reason of their condition DevicesReady; Available ones are ready.",
	}, []string{"template", "reason"})
}

// Describe implements [prometheus.Collector].
func (c machinesCollector) Describe(descriptions chan<- *prometheus.Desc) {
	newMachines().Describe(descriptions)
}

// Collect implements [prometheus.Collector].
func (c machinesCollector) Collect(metrics chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), scrapeTimeout) // a Collector is given none
	defer cancel()
	var machines clusterv1.MachineList
	if err := c.reader.List(ctx, &machines, client.UnsafeDisableDeepCopy); err != nil {
		ctrl.Log.WithName(controllerName).Error(err, "Count Machines")
		return
	}
	counted := newMachines()
	for i := range machines.Items {
		machine := &machines.Items[i]
		if isPromised(machine) && machine.DeletionTimestamp.IsZero() {
			counted.WithLabelValues(machine.Labels[fleetv1.NodeTemplateLabel], reasonOf(machine)).Inc()
		}
	}
	counted.Collect(metrics)
}

func reasonOf(machine *clusterv1.Machine) string {
	condition := conditions.Get(machine, fleetv1.DevicesReadyCondition)
	if condition == nil || condition.Status == metav1.ConditionUnknown {
		return fleetv1.WaitingForNodeReason
	}
	return condition.Reason
}
