package conformance

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"k8s.io/apimachinery/pkg/util/wait"

	"github.com/sendan-io/sendan/cloud"
)

var (
	cloudName = flag.String("cloud", "", "entry of clouds.yaml to run against; a simulated cloud without it")
	limit     = flag.Duration("limit", 5*time.Minute, "how long to wait for anything the cloud does by itself")
	written   = flag.String("report", "", "file to write the table to")
	sweep     = flag.String("sweep", "", "id of an earlier run: only delete what it left behind")
	wishes    = choice{}
)

func init() {
	flag.StringVar(&wishes.flavor, "flavor", "", "flavor of the servers, by name or id; without it the smallest that fits the image")
	flag.StringVar(&wishes.image, "image", "", "image of the servers, by name or id; without it the one that wants least of a flavor")
	flag.StringVar(&wishes.externalNetwork, "external-network", "", "external network, by name or id; without it the only one")
	flag.StringVar(&wishes.balancerProvider, "load-balancer-provider", "", "provider of the load balancers; without it the cloud's default")
}

// TestConformance never runs against a real cloud by itself: whoever has OS_CLOUD set and runs all tests means the simulator.
func TestConformance(t *testing.T) {
	var at target
	if *cloudName != "" {
		at = realCloud(t, *cloudName)
	} else {
		at = simulated(t, nil).target
	}
	if *sweep != "" {
		if err := uuid.Validate(*sweep); err != nil {
			t.Fatalf("-sweep=%s is not the id of a run (%v): use the one that the run printed first", *sweep, err)
		}
		if err := newSuite(t, at, *sweep).clear(t.Context()); err != nil {
			t.Fatal(err)
		}
		return
	}
	s := newSuite(t, at, uuid.NewString())
	s.conduct(t, slices.Concat(operations(), provider()))
	if *cloudName != "" {
		return
	}
	for _, f := range operations() {
		if seen := s.report.of(f.name); seen.result == skipped {
			t.Errorf("%s was skipped, although the simulator has everything: %s", f.name, seen.detail)
		}
	}
}

// suite is one run against one cloud.
type suite struct {
	target
	// id is the cluster in the marks of everything the run makes.
	id         string
	sessions   *cloud.Sessions
	session    *cloud.Session // after the login
	discovered cloud.Discovery
	chosen     chosen
	made       made
	report     report
}

// made is what features leave for those after them.
type made struct {
	network     cloud.Network
	subnet      cloud.Subnet
	router      cloud.Router
	group       cloud.SecurityGroup
	port        cloud.Port
	serverGroup cloud.ServerGroup
	volume      cloud.Volume
	server      cloud.Server
}

// feature is one line of the table.
type feature struct {
	// name begins with the service. One that the catalog may lack is named as in [cloud.Discovery].
	name string
	// extension of Neutron that it takes; empty for none.
	extension string
	// needs are the features that have to pass before.
	needs []string
	check func(*probe) error
}

// probe is the examination of one feature.
type probe struct {
	*suite
	testing.TB
	// note goes to the table beside the seconds.
	note string
}

// skip is why a feature cannot be examined in this cloud. It is no failure.
type skip string

func (s skip) Error() string { return string(s) }

func skipf(format string, args ...any) error { return skip(fmt.Sprintf(format, args...)) }

func newSuite(t testing.TB, at target, id string) *suite {
	s := &suite{target: at, id: id, sessions: cloud.NewSessions(at.options)}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context())) // what is left is looked for when the test is over
	stopped := make(chan error)
	go func() { stopped <- s.sessions.Start(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-stopped; err != nil {
			t.Error(err)
		}
	})
	return s
}

// conduct examines features in order, cleans up whatever happened, proves it and writes the report.
func (s *suite) conduct(t *testing.T, features []feature) {
	t.Cleanup(func() {
		ctx := context.WithoutCancel(t.Context())
		last := s.examine(t, feature{name: "cleanup/nothing-left", needs: []string{"identity/login"}, check: func(*probe) error { return s.clear(ctx) }})
		if last.result == failed {
			t.Errorf("%s; delete it by hand, or with -sweep=%s", last.detail, s.id)
		}
		s.report.publish(t, s.title(), *written)
	})
	for _, f := range features {
		t.Run(f.name, func(t *testing.T) {
			switch seen := s.examine(t, f); {
			case seen.result == skipped && !t.Skipped():
				t.Skip(seen.detail) // a cloud need not have everything; the table says what it lacks
			case seen.result == failed && !t.Failed():
				t.Error(seen.detail)
			}
		})
	}
}

// examine notes the result of one feature.
func (s *suite) examine(t testing.TB, f feature) (seen line) {
	p := &probe{suite: s, TB: t}
	began := time.Now()
	err := errors.New("it ended early: see the log") // unless the check returns
	defer func() {
		if t.Skipped() {
			err = skip("see the log")
		}
		seen = lineOf(f.name, err, p.note, time.Since(began))
		s.report.add(seen)
	}()
	if err = s.lacks(f); err == nil {
		err = f.check(p)
	}
	return seen
}

// lacks says what a feature takes that is not there.
func (s *suite) lacks(f feature) error {
	for _, need := range f.needs {
		if !s.report.passed(need) {
			return skipf("it needs %s, which did not pass", need)
		}
	}
	of, _, _ := strings.Cut(f.name, "/")
	optional := slices.Contains([]string{"block-storage", "load-balancer", "placement"}, of)
	if optional && s.discovered.Endpoints[of] == "" {
		return skipf("no %s service in the catalog", of)
	}
	if f.extension != "" && !slices.Contains(s.discovered.Extensions, f.extension) {
		return skipf("Neutron has no extension %s", f.extension)
	}
	return nil
}

// name is that of an object, by which a person finds the run's.
func (s *suite) name(what string) string { return "sendan-conformance-" + s.id[:8] + "-" + what }

func (s *suite) mark() cloud.Mark { return cloud.Mark{Cluster: s.id} }

// role is the mark of one object.
func (s *suite) role(role string) cloud.Mark {
	return cloud.Mark{Cluster: s.id, Machine: s.id, Role: role}
}

// look is how often something in this process or in the management cluster is looked at while it is waited for.
const look = 50 * time.Millisecond

// pace is how often the cloud itself may be asked while something is waited for.
func (s *suite) pace() time.Duration { return cmp.Or(s.options.Polling.Building, 2*time.Second) }

// eventually tries until check has no error, and returns its last one when the time is over.
func eventually(ctx context.Context, every time.Duration, what string, check func() error) error {
	var last error
	err := wait.PollUntilContextTimeout(ctx, every, *limit, true, func(context.Context) (bool, error) {
		last = check()
		var final permanent
		if errors.As(last, &final) {
			return false, final.error
		}
		return last == nil, nil
	})
	if wait.Interrupted(err) {
		return fmt.Errorf("%s: not within %s: %w", what, *limit, last)
	}
	return err
}

// permanent is an error that waiting does not help against.
type permanent struct{ error }

// until waits for something in the inventory.
func (p *probe) until(what string, holds func(now *cloud.Snapshot) error) error {
	return eventually(p.Context(), look, what, func() error { return holds(p.session.Inventory().Snapshot()) })
}

// accepted repeats a call for as long as the state of things forbids it.
func (p *probe) accepted(what string, call func() error) error {
	return eventually(p.Context(), p.pace(), what, func() error {
		err := call()
		if err != nil && cloud.ClassOf(err) != cloud.Conflict {
			return permanent{err}
		}
		return err
	})
}

// relist is the inventory after complete listings of some kinds that begin now.
func (p *probe) relist(kinds ...cloud.Kind) (*cloud.Snapshot, error) {
	asked := time.Now()
	for _, kind := range kinds {
		p.session.Inventory().Require(kind, asked)
	}
	err := p.until("a new listing", func(now *cloud.Snapshot) error {
		for _, kind := range kinds {
			if !now.ListedAfter(kind, asked) {
				return errors.Join(fmt.Errorf("%ss are not listed yet", kind), now.Err(kind), now.Suspicious(kind))
			}
		}
		return nil
	})
	return p.session.Inventory().Snapshot(), err
}

// expect is an error unless something holds.
func expect(holds bool, format string, args ...any) error {
	if holds {
		return nil
	}
	return fmt.Errorf(format, args...)
}
