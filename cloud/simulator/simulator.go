package simulator

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/jonboulle/clockwork"
)

// Options say how a [Simulator] behaves. The zero value is a small cloud on the real clock.
type Options struct {
	// Scenario is the cloud's inventory and latencies; the zero value means [DefaultScenario].
	Scenario *Scenario
	// Clock is the time that everything follows; the real one when nil.
	Clock clockwork.Clock
	// Seed makes ids, hosts and jitter repeat themselves.
	Seed uint64
	// Backend runs the servers; nil means they only become ACTIVE.
	Backend NodeBackend
	// Logger is told of every transition; nil means silence.
	Logger *slog.Logger
	// Snapshot is what [Simulator.Snapshot] of an earlier simulator of the same scenario returned: the
	// new one goes on from there. Empty means a fresh cloud.
	Snapshot []byte
}

// Simulator is one OpenStack cloud. Its methods may be called from any goroutine.
type Simulator struct {
	clock    clockwork.Clock
	log      *slog.Logger
	backend  NodeBackend
	scenario Scenario
	// scenarioDigest tells a snapshot of this scenario from one of another.
	scenarioDigest string
	handler        http.Handler

	// mu guards everything below. Service handlers run with it held; what can block (a node backend,
	// a TCP connection) never does.
	mu     sync.Mutex
	rng    *rand.Rand
	source *rand.PCG // of rng
	agenda agenda
	// started is when the cloud was new, which scenario events count from; happened are the indexes of
	// those that are over.
	started  time.Time
	happened []int
	// agendaTime is when the item that is being worked off was due; zero otherwise.
	agendaTime time.Time
	calls      callLog
	faults     faultBook
	quotas     quotaStore

	identity     identityService
	compute      computeService
	network      networkService
	loadBalancer loadBalancerService
	image        imageService
	volume       volumeService
	placement    placementService

	wake   chan struct{}
	ctx    context.Context
	cancel context.CancelFunc
	done   sync.WaitGroup
}

// New makes a cloud. [Simulator.Close] ends what it started.
func New(opts Options) (*Simulator, error) {
	scenario := DefaultScenario()
	if opts.Scenario != nil {
		scenario = *opts.Scenario
	}
	if err := scenario.validate(); err != nil {
		return nil, fmt.Errorf("scenario: %w", err)
	}
	if opts.Clock == nil {
		opts.Clock = clockwork.NewRealClock()
	}
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	if opts.Backend == nil {
		opts.Backend = noNodes{}
	}
	digest, err := scenario.digest()
	if err != nil {
		return nil, fmt.Errorf("scenario: %w", err)
	}
	seed := cmp.Or(opts.Seed, scenario.Seed)
	source := rand.NewPCG(seed, seed)
	ctx, cancel := context.WithCancel(context.Background())
	s := &Simulator{
		clock: opts.Clock, log: opts.Logger, backend: opts.Backend, scenario: scenario, scenarioDigest: digest,
		rng: rand.New(source), source: source, started: opts.Clock.Now(),
		wake: make(chan struct{}, 1), ctx: ctx, cancel: cancel,
	}
	s.setUp()
	if err := s.begin(opts.Snapshot); err != nil {
		cancel()
		return nil, err
	}
	s.handler = s.routes()
	s.done.Add(1)
	go s.workOffAgenda()
	return s, nil
}

// setUp fills every service from the scenario.
func (s *Simulator) setUp() {
	s.quotas.setUp(s)
	s.identity.setUp(s)
	s.network.setUp(s)
	s.compute.setUp(s)
	s.loadBalancer.setUp(s)
	s.image.setUp(s)
	s.volume.setUp(s)
	s.placement.s = s
}

// begin starts the cloud's history, or goes on with that of a snapshot.
func (s *Simulator) begin(snapshot []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(snapshot) > 0 {
		if err := s.restore(snapshot); err != nil {
			return fmt.Errorf("snapshot: %w", err)
		}
	} else {
		for _, f := range s.scenario.Faults {
			s.faults.add(f)
		}
	}
	s.scheduleEvents()
	return nil
}

// scheduleEvents puts what a scenario lets happen on the agenda, unless it has happened.
func (s *Simulator) scheduleEvents() {
	for i, e := range s.scenario.Events {
		if slices.Contains(s.happened, i) {
			continue
		}
		at := s.started.Add(time.Duration(e.AtSeconds * float64(time.Second)))
		s.after(at.Sub(s.now()), func() {
			s.happened = append(s.happened, i)
			if e.Change != nil {
				s.compute.changeHost(s.compute.hostNamed(e.Host), *e.Change)
			}
			if e.Fault != nil {
				s.faults.add(*e.Fault)
			}
			if e.RevokeTokens {
				s.identity.revokeTokens("")
			}
		})
	}
}

// routes mounts every service under the path its catalog entry names.
func (s *Simulator) routes() http.Handler {
	mux := http.NewServeMux()
	s.identity.routes(s.mount(mux, "identity", identityErrors))
	s.compute.routes(s.mount(mux, "compute", computeErrors))
	s.network.routes(s.mount(mux, "network", networkErrors))
	s.loadBalancer.routes(s.mount(mux, "load-balancer", loadBalancerErrors))
	s.image.routes(s.mount(mux, "image", imageErrors))
	s.volume.routes(s.mount(mux, "volume", computeErrors))
	s.placement.routes(s.mount(mux, "placement", placementErrors))
	s.controlRoutes(mux)
	return mux
}

// ServeHTTP answers for all services of the cloud.
func (s *Simulator) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.handler.ServeHTTP(w, r) }

// Close ends the load balancers' listeners and everything else the simulator started.
func (s *Simulator) Close() {
	s.mu.Lock()
	s.cancel() // under the lock, so that no new background work begins while Close waits for the old
	s.mu.Unlock()
	s.loadBalancer.closeListeners()
	s.done.Wait()
}

// newID is a UUID that the seed decides. The lock is held.
func (s *Simulator) newID() string {
	var b [16]byte
	for i := range b {
		b[i] = byte(s.rng.UintN(256))
	}
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// after puts a transition on the agenda. The lock is held, and is held again when do runs.
func (s *Simulator) after(d time.Duration, do func()) {
	s.agenda.add(s.now().Add(d), do)
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// background runs what may block (a node backend) without the lock. Close waits for it. The lock is
// held by the caller.
func (s *Simulator) background(do func(ctx context.Context)) {
	if s.ctx.Err() != nil {
		return
	}
	s.done.Add(1)
	go func() {
		defer s.done.Done()
		do(s.ctx)
	}()
}

// Settle works off whatever is due now. Requests do so by themselves; a test with a fake clock calls
// it when it wants effects without a request.
func (s *Simulator) Settle() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.settle()
}

func (s *Simulator) settle() {
	defer func() { s.agendaTime = time.Time{} }()
	for {
		item, due := s.agenda.next(s.clock.Now())
		if !due {
			return
		}
		s.agendaTime = item.at
		item.do()
	}
}

// now is the time for whoever holds the lock. While the agenda is worked off it is the time an item
// was due, so that the outcome does not depend on how late that happens: after one leap of a fake
// clock every step of a chain has its own, right time.
func (s *Simulator) now() time.Time {
	if !s.agendaTime.IsZero() {
		return s.agendaTime
	}
	return s.clock.Now()
}

// NextTransition is when the next change will happen by itself; false when nothing is pending.
func (s *Simulator) NextTransition() (time.Time, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.agenda.first()
}

func (s *Simulator) workOffAgenda() {
	defer s.done.Done()
	for s.awaitTransition() {
		s.Settle()
	}
}

// awaitTransition waits until something is due or the agenda changed; false when the simulator ends.
func (s *Simulator) awaitTransition() bool {
	var due <-chan time.Time
	if at, pending := s.NextTransition(); pending {
		timer := s.clock.NewTimer(at.Sub(s.clock.Now()))
		defer timer.Stop()
		due = timer.Chan()
	}
	select {
	case <-s.ctx.Done():
		return false
	case <-s.wake:
	case <-due:
	}
	return true
}
