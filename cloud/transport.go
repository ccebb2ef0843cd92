package cloud

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/google/uuid"
	"github.com/gophercloud/gophercloud/v2"
	"github.com/jonboulle/clockwork"
)

// The timeouts of one connection; [Options].RequestTimeout bounds the whole request, from the wait for
// a connection to the end of the answer.
const (
	dialTimeout         = 10 * time.Second
	tlsHandshakeTimeout = 10 * time.Second
	idleConnTimeout     = 90 * time.Second
	// A poller and a handful of reconcilers talk to one service at the same time.
	idleConnsPerHost = 8
)

// largestAnswer bounds the memory one answer may take. A page of 1,000 servers is about 5 MiB.
const largestAnswer = 256 << 20

// requestIDHeader carries the id of a request: ours on the way there, the service's on the way back.
const requestIDHeader = "X-Openstack-Request-Id"

// connector makes the HTTP clients of one session. All of them share its connections.
type connector struct {
	identity  *Identity
	timeout   time.Duration
	userAgent string
	mayChange func() error
	clock     clockwork.Clock
	metrics   *requestMetrics
	governed  *governors
	transport http.RoundTripper

	mu        sync.Mutex
	providers map[service]*provider
}

// provider is the client of one service, made for one endpoint.
type provider struct {
	client   *gophercloud.ProviderClient
	root     string
	governor *governor
}

func newConnector(identity *Identity, owner *Sessions) *connector {
	return &connector{
		identity:  identity,
		timeout:   owner.options.RequestTimeout,
		userAgent: owner.options.UserAgent,
		mayChange: owner.options.MayChange,
		clock:     owner.options.Clock,
		metrics:   owner.metrics,
		governed:  owner.governors,
		transport: newTransport(identity),
		providers: map[service]*provider{},
	}
}

// newTransport is the innermost part: connections with timeouts and the identity's trust.
func newTransport(identity *Identity) *http.Transport {
	config := &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: identity.Insecure}
	if len(identity.CACert) > 0 {
		config.RootCAs = x509.NewCertPool()
		config.RootCAs.AppendCertsFromPEM(identity.CACert)
	}
	return &http.Transport{
		Proxy:               http.ProxyFromEnvironment,
		DialContext:         (&net.Dialer{Timeout: dialTimeout, KeepAlive: 30 * time.Second}).DialContext,
		TLSClientConfig:     config,
		TLSHandshakeTimeout: tlsHandshakeTimeout,
		MaxIdleConnsPerHost: idleConnsPerHost,
		IdleConnTimeout:     idleConnTimeout,
		ForceAttemptHTTP2:   true,
	}
}

// provider is the gophercloud client of a service. The token travels in our own transport, so that
// gophercloud neither retries nor logs in by itself. Without auth, requests carry no token.
func (c *connector) provider(of service, at endpoint, region string, auth *authenticator) *gophercloud.ProviderClient {
	c.mu.Lock()
	defer c.mu.Unlock()
	existing, found := c.providers[of]
	if found && existing.root == at.root {
		return existing.client
	}
	made := c.newProvider(of, at, region, auth)
	c.providers[of] = made
	return made.client
}

func (c *connector) newProvider(of service, at endpoint, region string, auth *authenticator) *provider {
	governor := c.governed.of(c.identity.AuthURL, region)
	var chain http.RoundTripper = &wire{next: c.transport, timeout: c.timeout}
	chain = &governedTransport{next: chain, governor: governor, service: of, endpoint: at, mayChange: c.mayChange, clock: c.clock, metrics: c.metrics}
	chain = &resender{next: chain}
	if auth != nil {
		chain = &tokenTransport{next: chain, auth: auth, root: at.address()}
	}
	client := &gophercloud.ProviderClient{
		IdentityBase: c.identity.AuthURL,
		HTTPClient: http.Client{
			Transport: chain,
			// A redirect would carry the token to another host; the answer itself says more.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}
	client.UserAgent.Prepend(c.userAgent)
	return &provider{client: client, root: at.root, governor: governor}
}

func (c *connector) governors() []*governor {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := make([]*governor, 0, len(c.providers))
	for _, provider := range c.providers {
		out = append(out, provider.governor)
	}
	return out
}

// tokenTransport adds the token, and logs in again when the service does not take it. The second
// answer stands, whatever it is.
type tokenTransport struct {
	next http.RoundTripper
	auth *authenticator
	root *url.URL
}

func (t *tokenTransport) RoundTrip(request *http.Request) (*http.Response, error) {
	access, err := t.auth.access(request.Context())
	if err != nil {
		return nil, unsent(request, err)
	}
	response, err := t.next.RoundTrip(t.withToken(request, access.token))
	if err != nil || response.StatusCode != http.StatusUnauthorized {
		return response, err
	}
	again, rewound := rewind(request)
	if !rewound {
		return response, nil
	}
	access, err = t.auth.renew(request.Context(), access.token)
	if err != nil {
		return nil, unsent(request, err)
	}
	return t.next.RoundTrip(t.withToken(again, access.token))
}

// withToken also pins the host: the address of the next page comes from the service, which behind a
// proxy often names itself wrongly, and a token must go nowhere but where the catalog says.
func (t *tokenTransport) withToken(request *http.Request, token string) *http.Request {
	request = request.Clone(request.Context())
	request.URL.Scheme, request.URL.Host, request.Host = t.root.Scheme, t.root.Host, ""
	request.Header.Set("X-Auth-Token", token)
	return request
}

// rewind is the request with its body from the start; false when the body cannot be had again.
func rewind(request *http.Request) (*http.Request, bool) {
	again := request.Clone(request.Context())
	if request.Body == nil || request.Body == http.NoBody {
		return again, true
	}
	if request.GetBody == nil {
		return nil, false
	}
	body, err := request.GetBody()
	if err != nil {
		return nil, false
	}
	again.Body = body
	return again, true
}

// resender sends a GET once more when the connection broke under it, which happens whenever a
// service behind a load balancer restarts. Nothing that writes is ever sent twice.
type resender struct{ next http.RoundTripper }

func (r *resender) RoundTrip(request *http.Request) (*http.Response, error) {
	response, err := r.next.RoundTrip(request)
	if err == nil || request.Method != http.MethodGet || !isBrokenConnection(err) || request.Context().Err() != nil {
		return response, err
	}
	return r.next.RoundTrip(request)
}

func isBrokenConnection(err error) bool {
	return errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) ||
		errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
}

// governedTransport sends one request when the cloud's governor lets it, measures it and reports
// how it went.
type governedTransport struct {
	next     http.RoundTripper
	governor *governor
	service  service
	endpoint endpoint
	// mayChange comes after the governor, which a request may have waited for.
	mayChange func() error
	clock     clockwork.Clock
	metrics   *requestMetrics
}

func (t *governedTransport) RoundTrip(request *http.Request) (*http.Response, error) {
	ctx := request.Context()
	operation := operationOf(request.Method, t.endpoint.relative(request.URL.Path))
	breaker, err := t.governor.admit(ctx, t.service)
	if err != nil {
		return nil, unsent(request, err)
	}
	if t.changes(request) {
		if err := t.mayChange(); err != nil {
			breaker.settle(outcomeUnknown)
			return nil, unsent(request, Errorf(Transient, "not sent: %v", err))
		}
	}
	request = request.Clone(ctx)
	id := "req-" + uuid.NewString()
	request.Header.Set(requestIDHeader, id)

	started := t.clock.Now()
	response, err := t.next.RoundTrip(request)
	code := 0
	if err == nil {
		code = response.StatusCode
	}
	t.metrics.observe(t.governor.cloud, t.service, operation, code, t.clock.Since(started))
	breaker.settle(judge(ctx, code, err))
	if err != nil {
		return nil, &sendError{operation: operation, requestID: id, err: err}
	}
	if wait, asked := t.quietAsked(response); asked {
		t.governor.pause(wait)
	}
	if response.Header.Get(requestIDHeader) == "" {
		response.Header.Set(requestIDHeader, id)
	}
	return response, nil
}

// changes tells requests that read. Who logs in changes nothing.
func (t *governedTransport) changes(request *http.Request) bool {
	return request.Method != http.MethodGet && request.Method != http.MethodHead && t.service != identityService
}

// judge says what an answer means for the breaker. 501 is a feature the cloud lacks, not a failure; and
// a certificate one tenant does not trust must not shut the cloud to all the others.
func judge(ctx context.Context, code int, err error) outcome {
	switch {
	case err != nil && (ctx.Err() != nil || untrusted(err) != ""):
		return outcomeUnknown
	case err != nil, code >= 500 && code != http.StatusNotImplemented:
		return outcomeFailed
	}
	return outcomeHealthy
}

// quietAsked reads for how long a cloud wants no requests. 429 without a time gets a short pause;
// 503 without one is an ordinary failure.
func (t *governedTransport) quietAsked(response *http.Response) (time.Duration, bool) {
	const unsaid = 5 * time.Second
	switch response.StatusCode {
	case http.StatusTooManyRequests:
		if wait := retryAfter(response.Header, t.clock.Now()); wait > 0 {
			return wait, true
		}
		response.Header.Set("Retry-After", strconv.Itoa(int(unsaid.Seconds())))
		return unsaid, true
	case http.StatusServiceUnavailable:
		wait := retryAfter(response.Header, t.clock.Now())
		return wait, wait > 0
	}
	return 0, false
}

// retryAfter reads the header in both its forms, seconds and a date; 0 when there is none.
func retryAfter(header http.Header, now time.Time) time.Duration {
	value := header.Get("Retry-After")
	if seconds, err := strconv.Atoi(value); err == nil {
		return max(0, time.Duration(seconds)*time.Second)
	}
	if at, err := http.ParseTime(value); err == nil {
		return max(0, at.Sub(now))
	}
	return 0
}

// sendError is a request that got no answer.
type sendError struct {
	operation string
	requestID string // empty when it was never sent
	err       error
}

// unsent is the error of a request that did not leave, so that nobody looks for what it made.
func unsent(request *http.Request, err error) error {
	return &sendError{operation: request.Method, err: err}
}

func (e *sendError) Error() string { return e.err.Error() }
func (e *sendError) Unwrap() error { return e.err }

// wire bounds a request in time and reads its answer whole, so that an answer which breaks off in
// the middle is an error of the request and not of whoever parses it.
type wire struct {
	next    http.RoundTripper
	timeout time.Duration
}

func (w *wire) RoundTrip(request *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithTimeout(request.Context(), w.timeout)
	defer cancel()
	response, err := w.next.RoundTrip(request.WithContext(ctx))
	if err != nil {
		return nil, w.explain(ctx, request, err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, largestAnswer+1))
	if err != nil {
		return nil, w.explain(ctx, request, err)
	}
	if len(body) > largestAnswer {
		return nil, fmt.Errorf("the answer is larger than %d MiB", largestAnswer>>20)
	}
	response.Body = io.NopCloser(bytes.NewReader(body))
	return response, nil
}

// explain says that it was our own timeout that ended a request.
func (w *wire) explain(ctx context.Context, request *http.Request, err error) error {
	if request.Context().Err() == nil && errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return fmt.Errorf("no answer from %s within %s: %w", request.URL.Host, w.timeout, err)
	}
	return err
}
