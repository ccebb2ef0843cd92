package cloud

import (
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// inventoryMetrics are shared by all inventories of a process.
type inventoryMetrics struct {
	objects  *prometheus.GaugeVec
	missing  *prometheus.GaugeVec
	duration *prometheus.HistogramVec
	success  *prometheus.GaugeVec
}

func newInventoryMetrics(registerer prometheus.Registerer) *inventoryMetrics {
	labels := []string{"cloud", "kind"}
	return &inventoryMetrics{
		objects: register(registerer, prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "sendan_cloud_inventory_objects",
			Help: "Objects known, ours and others', summed over the projects in use.",
		}, labels)),
		missing: register(registerer, prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "sendan_cloud_inventory_suspicious_objects",
			Help: "Objects of ours that are missing from the cloud's list, so many at once that they are kept as if they were there.",
		}, labels)),
		duration: register(registerer, prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "sendan_cloud_inventory_poll_duration_seconds",
			Help:    "Time to list one kind with all its pages.",
			Buckets: []float64{.05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 120},
		}, labels)),
		success: register(registerer, prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "sendan_cloud_inventory_last_success_timestamp_seconds",
			Help: "When a kind was last listed, the latest over the projects in use.",
		}, labels)),
	}
}

// of is one inventory's share in the metrics of a cloud.
func (m *inventoryMetrics) of(cloud string) *inventoryGauges {
	return &inventoryGauges{metrics: m, cloud: cloud, counted: map[Kind]int{}, suspected: map[Kind]int{}}
}

// inventoryGauges is one inventory's share. Projects of one cloud share its gauges, so each adds and
// takes away its part.
type inventoryGauges struct {
	metrics *inventoryMetrics
	cloud   string

	mu        sync.Mutex
	counted   map[Kind]int
	suspected map[Kind]int
	closed    bool
}

func (g *inventoryGauges) count(snapshot *Snapshot) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return
	}
	for kind, table := range snapshot.tables {
		if added := table.count - g.counted[kind]; added != 0 {
			g.metrics.objects.WithLabelValues(g.cloud, string(kind)).Add(float64(added))
			g.counted[kind] = table.count
		}
	}
}

// suspect tells how many objects of a kind are kept although they are missing.
func (g *inventoryGauges) suspect(kind Kind, missing int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed || missing == g.suspected[kind] {
		return
	}
	g.metrics.missing.WithLabelValues(g.cloud, string(kind)).Add(float64(missing - g.suspected[kind]))
	g.suspected[kind] = missing
}

func (g *inventoryGauges) listed(kind Kind, took time.Duration, succeeded bool, now time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return
	}
	g.metrics.duration.WithLabelValues(g.cloud, string(kind)).Observe(took.Seconds())
	if succeeded {
		g.metrics.success.WithLabelValues(g.cloud, string(kind)).Set(float64(now.Unix()))
	}
}

// forget takes the inventory's objects away, for good.
func (g *inventoryGauges) forget() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed = true
	for kind, count := range g.counted {
		g.metrics.objects.WithLabelValues(g.cloud, string(kind)).Sub(float64(count))
	}
	for kind, count := range g.suspected {
		g.metrics.missing.WithLabelValues(g.cloud, string(kind)).Sub(float64(count))
	}
}
