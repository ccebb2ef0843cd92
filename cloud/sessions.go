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

// A session nobody asked for in sessionIdleTimeout is dropped, and the inventory with its last session.
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
	// MayChange is asked right before each request that changes something. Its error keeps the request from being sent.
	MayChange func() error
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
	if o.MayChange == nil {
		o.MayChange = func() error { return nil }
	}
	if o.UserAgent == "" {
		o.UserAgent = defaultUserAgent
	}
	return o
}

// Sessions holds one [Session] per identity and one [Inventory] per project, and what the sessions of
// one cloud share: its request budget and its circuit breakers.
type Sessions struct {
	options          Options
	metrics          *requestMetrics
	inventoryMetrics *inventoryMetrics
	governors        *governors

	mu       sync.Mutex
	sessions map[string]*heldSession
	projects map[project]*heldProject
	hooks    []func(*Inventory)
	// running is the context of Start; nil before it.
	running context.Context
	pollers sync.WaitGroup
}

// heldSession is a session and when somebody last asked for it.
type heldSession struct {
	session  *Session
	lastUsed time.Time
	// project is whose inventory the session feeds; nil before its first login.
	project *heldProject
}

// heldProject is the inventory of a project, the sessions that feed it and its poller.
type heldProject struct {
	inventory *Inventory
	feed      *feed
	// announcing lets the hooks see the inventory once; announced is set then.
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
		projects:         map[project]*heldProject{},
	}
}

// OnNewInventory calls hook once with every inventory, those there are already included, before the
// first session of its project is handed out. Controllers use it to subscribe.
func (s *Sessions) OnNewInventory(hook func(*Inventory)) {
	s.mu.Lock()
	s.hooks = append(s.hooks, hook)
	var known []*Inventory
	for _, held := range s.projects {
		if held.announced {
			known = append(known, held.inventory)
		}
	}
	s.mu.Unlock()
	for _, inventory := range known {
		hook(inventory)
	}
}

// Get is the session of an identity, logged in. Callers that ask at the same time share one login.
// A failed login is remembered and tried again with a growing back-off, so that asking often does
// not mean logging in often; a changed identity is another key and is tried at once.
func (s *Sessions) Get(ctx context.Context, identity Identity) (*Session, error) {
	for {
		session := s.hold(identity)
		if err := session.login(ctx); err != nil {
			return nil, err
		}
		if project, held := s.join(session); held {
			s.announce(project)
			return session, nil
		}
		// It was dropped while it logged in: nobody may use a session whose inventory nobody feeds.
	}
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

// join makes a session feed the inventory of its project, before all others. False: the session has
// been dropped.
func (s *Sessions) join(session *Session) (*heldProject, bool) {
	of := session.scope()
	s.mu.Lock()
	defer s.mu.Unlock()
	held, found := s.sessions[session.key]
	if !found || held.session != session {
		return nil, false
	}
	joined, known := s.projects[of]
	if !known {
		joined = s.newProject(of, session)
		s.projects[of] = joined
	}
	if held.project != joined {
		s.leave(held) // a project named in the credentials may be another one after a login
		held.project = joined
		session.inventory.Store(joined.inventory)
	}
	if joined.feed.prefer(session) {
		joined.inventory.retryRejected()
	}
	return joined, true
}

// newProject makes the inventory of the project a session is logged in to.
func (s *Sessions) newProject(of project, session *Session) *heldProject {
	sources := &feed{of: of}
	return &heldProject{
		feed:      sources,
		inventory: newInventory(sources, s.options, session.logger, s.inventoryMetrics.of(session.cloud())),
	}
}

// leave ends a session's use for its inventory, and with the last one the inventory's poller. The
// caller holds the lock.
func (s *Sessions) leave(held *heldSession) {
	left := held.project
	held.project = nil
	if left == nil || !left.feed.remove(held.session) {
		return
	}
	delete(s.projects, left.feed.of)
	if left.stopPoller != nil {
		left.stopPoller()
	}
}

// announce tells the hooks about an inventory and begins to poll it. The hooks run before any Get for
// its project returns, so that no change is missed.
func (s *Sessions) announce(held *heldProject) {
	held.announcing.Do(func() {
		s.mu.Lock()
		held.announced = true // from here on OnNewInventory calls a new hook itself
		hooks := slices.Clone(s.hooks)
		s.mu.Unlock()
		for _, hook := range hooks {
			hook(held.inventory)
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.projects[held.feed.of] == held {
			s.poll(s.running, held)
		}
	})
}

// poll starts the poller of an inventory once Start runs. The caller holds the lock.
func (s *Sessions) poll(running context.Context, held *heldProject) {
	if running == nil || running.Err() != nil || s.options.ManualPolling || !held.announced || held.stopPoller != nil {
		return
	}
	ctx, cancel := context.WithCancel(running)
	held.stopPoller = cancel
	s.pollers.Go(func() { held.inventory.Run(ctx) })
}

// Start runs the pollers of all inventories until ctx ends, and drops sessions nobody uses.
func (s *Sessions) Start(ctx context.Context) error {
	s.mu.Lock()
	s.running = ctx
	for _, held := range s.projects {
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
			s.leave(held)
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
