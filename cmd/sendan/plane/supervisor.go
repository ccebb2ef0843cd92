package plane

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/jonboulle/clockwork"
)

// Times of a supervisor.
const (
	readyPollInterval = 100 * time.Millisecond
	readyCallTimeout  = 3 * time.Second
	// logTailLines is how much of a log a failure shows.
	logTailLines = 15
)

// supervisor starts programs in stages, restarts those that die, and stops them in reverse order.
type supervisor struct {
	layout Layout
	clock  clockwork.Clock
	report func(Event)
	forker *forker

	mu     sync.Mutex
	stages [][]*child
}

func newSupervisor(layout Layout, clock clockwork.Clock, report func(Event)) *supervisor {
	return &supervisor{layout: layout, clock: clock, report: report, forker: newForker()}
}

// startStage starts programs that do not need each other and returns when all are ready. When one
// fails the error tells which, and what it said last; the rest keeps running until stop.
func (s *supervisor) startStage(ctx context.Context, programs ...Program) error {
	stage := make([]*child, 0, len(programs))
	for _, program := range programs {
		stage = append(stage, newChild(program, s))
	}
	s.mu.Lock()
	s.stages = append(s.stages, stage)
	s.mu.Unlock()

	failures := make([]error, len(stage))
	var wg sync.WaitGroup
	for i, c := range stage {
		wg.Go(func() { failures[i] = c.start(ctx) })
	}
	wg.Wait()
	return errors.Join(failures...)
}

// stop ends every program, those started last first, and returns when none is left.
func (s *supervisor) stop() {
	s.mu.Lock()
	stages := s.stages
	s.stages = nil
	s.mu.Unlock()
	for _, stage := range slices.Backward(stages) {
		var wg sync.WaitGroup
		for _, c := range stage {
			wg.Go(c.stop)
		}
		wg.Wait()
	}
	s.forker.close()
}

// pid of a running program.
func (s *supervisor) pid(program string) (int, bool) {
	c := s.find(program)
	if c == nil {
		return 0, false
	}
	return c.pid()
}

func (s *supervisor) kill(program string) error {
	c := s.find(program)
	if c == nil {
		return fmt.Errorf("kill %s: %w", program, ErrNotRunning)
	}
	return c.kill()
}

// find is nil for a program that was not started, or that was stopped.
func (s *supervisor) find(program string) *child {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, stage := range s.stages {
		for _, c := range stage {
			if c.program.Name == program {
				return c
			}
		}
	}
	return nil
}

// describeFailure adds to an error what the program said last.
func (s *supervisor) describeFailure(program Program, err error) error {
	log := s.layout.Log(program.Name)
	return fmt.Errorf("%s: %w\n--- last lines of %s\n%s", program.Name, err, log, Tail(log, logTailLines))
}
