package cloud

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/jonboulle/clockwork"
	"github.com/prometheus/client_golang/prometheus"
)

// The defaults of [Options].
const (
	defaultRequestsPerSecond = 20
	defaultBurst             = 40
	defaultRequestTimeout    = 60 * time.Second
	defaultUserAgent         = "sendan"
)

// A session nobody asked for in sessionIdleTimeout is dropped with its poller.
const (
	sessionIdleTimeout   = 30 * time.Minute
	sessionSweepInterval = time.Minute
)

// Options configures [NewSessions]. The zero value works.
type Options struct {
	// Clock is the real clock when nil.
	Clock clockwork.Clock
	// Registerer takes the metrics; nil keeps them unregistered.
	Registerer prometheus.Registerer
	// Logger is silent when nil.
	Logger *slog.Logger
	// RequestsPerSecond and Burst bound the calls to one cloud (auth URL and region), whoever makes
	// them. Defaults: 20 and 40.
	RequestsPerSecond float64
	Burst             int
	// RequestTimeout bounds one HTTP request, its answer's body included. Default: 60 s.
	RequestTimeout time.Duration
	// UserAgent goes before the library's own.
	UserAgent string
	// ManualPolling leaves polling to the caller of [Inventory.Poll]; tests want that.
	ManualPolling bool
	// Polling sets the pace of the inventories.
	Polling PollingOptions
}

func (o Options) withDefaults() Options {
	if o.Clock == nil {
		o.Clock = clockwork.NewRealClock()
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.RequestsPerSecond <= 0 {
		o.RequestsPerSecond = defaultRequestsPerSecond
	}
	if o.Burst <= 0 {
		o.Burst = defaultBurst
	}
	if o.RequestTimeout <= 0 {
		o.RequestTimeout = defaultRequestTimeout
	}
	if o.UserAgent == "" {
		o.UserAgent = defaultUserAgent
	}
	return o
}

// Sessions holds one [Session] per identity, and what the sessions of one cloud share: its request
// budget and its circuit breakers.
type Sessions struct {
	options          Options
	metrics          *requestMetrics
	inventoryMetrics *inventoryMetrics
	governors        *governors

	mu       sync.Mutex
	sessions map[string]*heldSession
	hooks    []func(*Session)
	// running is the context of Start; nil before it.
	running context.Context
	pollers sync.WaitGroup
}

// heldSession is a session and its poller.
type heldSession struct {
	session  *Session
	lastUsed time.Time
	// announcing lets the hooks see the session once, after its first login; announced is set then.
	announcing sync.Once
	announced  bool
	stopPoller context.CancelFunc
}

// NewSessions makes an empty set of sessions. Nothing is sent before [Sessions.Get].
func NewSessions(options Options) *Sessions {
	options = options.withDefaults()
	metrics := newRequestMetrics(options.Registerer)
	return &Sessions{
		options:          options,
		metrics:          metrics,
		inventoryMetrics: newInventoryMetrics(options.Registerer),
		governors:        newGovernors(options, metrics),
		sessions:         map[string]*heldSession{},
	}
}

// OnNewSession calls hook with every session right after its first login, those there are already
// included. Controllers use it to subscribe to each inventory.
func (s *Sessions) OnNewSession(hook func(*Session)) {
	s.mu.Lock()
	s.hooks = append(s.hooks, hook)
	var known []*Session
	for _, held := range s.sessions {
		if held.announced {
			known = append(known, held.session)
		}
	}
	s.mu.Unlock()
	for _, session := range known {
		hook(session)
	}
}

// Get is the session of an identity, logged in. Callers that ask at the same time share one login.
// A failed login is remembered and tried again with a growing back-off, so that asking often does
// not mean logging in often; a changed identity is another key and is tried at once.
func (s *Sessions) Get(ctx context.Context, identity Identity) (*Session, error) {
	session := s.hold(identity)
	if err := session.login(ctx); err != nil {
		return nil, err
	}
	s.announce(session)
	return session, nil
}

// hold finds or makes the session of an identity and marks it used.
func (s *Sessions) hold(identity Identity) *Session {
	key := identity.Key()
	s.mu.Lock()
	defer s.mu.Unlock()
	held, found := s.sessions[key]
	if !found {
		held = &heldSession{session: newSession(identity, s)}
		s.sessions[key] = held
	}
	held.lastUsed = s.options.Clock.Now()
	return held.session
}

// announce tells the hooks about a session after its first login and begins to poll for it. The
// hooks run before any Get of it returns, so that no change of the inventory is missed.
func (s *Sessions) announce(session *Session) {
	s.mu.Lock()
	held, found := s.sessions[session.key]
	s.mu.Unlock()
	if !found || held.session != session { // dropped meanwhile
		return
	}
	held.announcing.Do(func() {
		s.mu.Lock()
		held.announced = true // from here on OnNewSession calls a new hook itself
		hooks := slices.Clone(s.hooks)
		s.mu.Unlock()
		for _, hook := range hooks {
			hook(session)
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.sessions[session.key] == held {
			s.poll(s.running, held)
		}
	})
}

// poll starts the poller of a session once Start runs. The caller holds the lock.
func (s *Sessions) poll(running context.Context, held *heldSession) {
	if running == nil || running.Err() != nil || s.options.ManualPolling || !held.announced || held.stopPoller != nil {
		return
	}
	ctx, cancel := context.WithCancel(running)
	held.stopPoller = cancel
	s.pollers.Go(func() { held.session.inventory.Run(ctx) })
}

// Start runs the pollers of all sessions until ctx ends, and drops sessions nobody uses.
func (s *Sessions) Start(ctx context.Context) error {
	s.mu.Lock()
	s.running = ctx
	for _, held := range s.sessions {
		s.poll(ctx, held)
	}
	s.mu.Unlock()
	defer s.pollers.Wait()

	ticker := s.options.Clock.NewTicker(sessionSweepInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.Chan():
			s.dropIdle()
		}
	}
}

// dropIdle forgets sessions nobody asked for lately, and the clouds only they used.
func (s *Sessions) dropIdle() {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.options.Clock.Now()
	inUse := map[*governor]bool{}
	for key, held := range s.sessions {
		if now.Sub(held.lastUsed) >= sessionIdleTimeout {
			if held.stopPoller != nil {
				held.stopPoller()
			}
			held.session.close()
			delete(s.sessions, key)
			continue
		}
		for _, governor := range held.session.governors() {
			inUse[governor] = true
		}
	}
	s.governors.keepOnly(inUse)
}
