package cloud

import (
	"errors"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// requestMetrics counts what goes over the wire, one count per HTTP request.
type requestMetrics struct {
	requests *prometheus.CounterVec
	duration *prometheus.HistogramVec
	breaker  *prometheus.GaugeVec
	tokens   *prometheus.GaugeVec
	paused   *prometheus.GaugeVec
	refused  *prometheus.CounterVec
}

func newRequestMetrics(registerer prometheus.Registerer) *requestMetrics {
	byOperation := []string{"cloud", "service", "operation"}
	return &requestMetrics{
		requests: register(registerer, prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sendan_cloud_requests_total",
			Help: "HTTP requests to the cloud; the code is 0 when no answer came.",
		}, append(byOperation, "code"))),
		duration: register(registerer, prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "sendan_cloud_request_duration_seconds",
			Help:    "Time from sending a request to the end of its answer, without waiting for the limiter.",
			Buckets: []float64{.025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60},
		}, byOperation)),
		breaker: register(registerer, prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "sendan_cloud_breaker_open",
			Help: "1 while the circuit breaker of a service refuses requests, 0.5 while it lets one probe through, else 0.",
		}, []string{"cloud", "service"})),
		tokens: register(registerer, prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "sendan_cloud_limiter_tokens",
			Help: "Requests the limiter would let through at once; negative while requests wait.",
		}, []string{"cloud"})),
		paused: register(registerer, prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "sendan_cloud_paused_until_timestamp_seconds",
			Help: "Until when the cloud asked for quiet (Retry-After); 0 when it never did.",
		}, []string{"cloud"})),
		refused: register(registerer, prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sendan_cloud_requests_refused_total",
			Help: "Requests not sent, by what held them back: limiter, breaker or pause.",
		}, []string{"cloud", "service", "reason"})),
	}
}

// observe counts one request that was sent.
func (m *requestMetrics) observe(cloud string, of service, operation string, code int, took time.Duration) {
	m.requests.WithLabelValues(cloud, string(of), operation, strconv.Itoa(code)).Inc()
	m.duration.WithLabelValues(cloud, string(of), operation).Observe(took.Seconds())
}

// forget drops everything about a cloud nobody uses any more.
func (m *requestMetrics) forget(cloud string) {
	labels := prometheus.Labels{"cloud": cloud}
	m.requests.DeletePartialMatch(labels)
	m.duration.DeletePartialMatch(labels)
	m.breaker.DeletePartialMatch(labels)
	m.tokens.DeletePartialMatch(labels)
	m.paused.DeletePartialMatch(labels)
	m.refused.DeletePartialMatch(labels)
}

// register adds a collector to the registerer, or returns the one that is there already, so that
// several [Sessions] of one process share their metrics.
func register[C prometheus.Collector](registerer prometheus.Registerer, collector C) C {
	if registerer == nil {
		return collector
	}
	err := registerer.Register(collector)
	var already prometheus.AlreadyRegisteredError
	if errors.As(err, &already) {
		if existing, ok := already.ExistingCollector.(C); ok {
			return existing
		}
	}
	if err != nil {
		panic(err) // two metrics of one name in this program: a mistake no caller can handle
	}
	return collector
}
