package cloud

import (
	"context"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

func TestTheMetricsCountObjectsUntilTheSessionEnds(t *testing.T) {
	cloud := newStoreCloud(t)
	cloud.put(portsPath, cloud.port("p1"))
	cloud.put(portsPath, cloud.port("p2"))
	registry := prometheus.NewRegistry()
	session := cloud.poller(t, func(o *Options) { o.Registerer = registry })
	metrics := session.Inventory().metrics
	objects := func() float64 {
		return testutil.ToFloat64(metrics.metrics.objects.WithLabelValues(session.cloud(), string(KindPort)))
	}
	if objects() != 2 {
		t.Errorf("%v ports counted", objects())
	}
	if got := testutil.ToFloat64(metrics.metrics.success.WithLabelValues(session.cloud(), string(KindPort))); got != float64(cloud.fake.Now().Unix()) {
		t.Errorf("last success %v", got)
	}
	if got := testutil.CollectAndCount(metrics.metrics.duration); got != len(allKinds()) {
		t.Errorf("%d durations", got)
	}
	cloud.take(portsPath, "p2")
	cloud.pollAfter(t, session, 10*time.Minute)
	if objects() != 1 {
		t.Errorf("%v ports counted after one is gone", objects())
	}
	ended, end := context.WithCancel(t.Context())
	end()
	session.Inventory().Run(ended)
	if objects() != 0 {
		t.Errorf("%v ports counted of a session that ended", objects())
	}
}
