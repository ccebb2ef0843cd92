package plane

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// child keeps one program running from start to stop.
type child struct {
	program    Program
	supervisor *supervisor

	ctx    context.Context // ends when the program shall stop
	cancel context.CancelFunc
	ended  chan struct{} // closed when it has stopped for good

	mu   sync.Mutex
	life *running // nil while the process does not run
}

// running is one life of a program.
type running struct {
	cmd     *exec.Cmd
	started time.Time
	// exited is closed when the process is gone; exit then says how.
	exited chan struct{}
	exit   error
	// killed is set when the process was killed on purpose.
	killed atomic.Bool
}

func newChild(program Program, s *supervisor) *child {
	ctx, cancel := context.WithCancel(context.Background())
	c := &child{program: program, supervisor: s, ctx: ctx, cancel: cancel, ended: make(chan struct{})}
	return c
}

// start returns when the program is ready, or failed to become so in time. From then on its deaths
// are dealt with in the background.
func (c *child) start(ctx context.Context) error {
	life, err := c.launch()
	if err != nil {
		close(c.ended)
		return fmt.Errorf("start %s: %w", c.program.Name, err)
	}
	if err := c.awaitReady(ctx, life); err != nil {
		c.end(life)
		close(c.ended)
		if ctx.Err() != nil {
			return ctx.Err() // nothing is wrong with the program
		}
		return c.supervisor.describeFailure(c.program, err)
	}
	c.supervisor.report(Event{Program: c.program.Name, Kind: Ready, Took: c.age(life)})
	go c.keepRunning(life)
	return nil
}

// stop ends the program and returns when it is gone.
func (c *child) stop() {
	c.cancel()
	<-c.ended
}

// keepRunning starts the program again whenever it dies, until it shall stop.
func (c *child) keepRunning(life *running) {
	defer close(c.ended)
	var pause backoff
	for {
		select {
		case <-c.ctx.Done():
			c.end(life)
			return
		case <-life.exited:
		}
		var alive bool
		if life, alive = c.relaunch(life, &pause); !alive {
			return
		}
	}
}

// relaunch starts a program that died, after a pause; over and over until that works. It returns false
// when the program shall stop.
func (c *child) relaunch(dead *running, pause *backoff) (*running, bool) {
	lifetime, reason := c.age(dead), describeExit(dead.exit)
	wait := pauseAfter(dead, lifetime, pause)
	for {
		c.supervisor.report(Event{Program: c.program.Name, Kind: Died, Took: lifetime,
			Detail: fmt.Sprintf("%s; starting it again %s, see %s", reason, describeWait(wait), c.supervisor.layout.Log(c.program.Name))})
		select {
		case <-c.ctx.Done():
			return nil, false
		case <-c.supervisor.clock.After(wait):
		}
		life, err := c.launch()
		if err == nil {
			go c.reportRestart(life)
			return life, true
		}
		lifetime, reason, wait = 0, err.Error(), pause.next(0)
	}
}

// pauseAfter a life. Being killed on purpose says nothing about the program: no pause, and none of
// the later ones gets longer.
func pauseAfter(dead *running, lifetime time.Duration, pause *backoff) time.Duration {
	if dead.killed.Load() {
		return 0
	}
	return pause.next(lifetime)
}

func describeWait(wait time.Duration) string {
	if wait == 0 {
		return "at once"
	}
	return "in " + wait.String()
}

func (c *child) reportRestart(life *running) {
	if c.awaitReady(c.ctx, life) == nil {
		c.supervisor.report(Event{Program: c.program.Name, Kind: Restarted, Took: c.age(life)})
	}
}

// launch starts the process with its output going to its log.
func (c *child) launch() (*running, error) {
	log, err := os.OpenFile(c.supervisor.layout.Log(c.program.Name), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open log: %w", err)
	}
	// The process has its own copy of the file.
	defer func() { _ = log.Close() }()

	cmd := exec.Command(c.program.Path, c.program.Args...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = childAttributes()
	if err := c.supervisor.forker.start(cmd); err != nil {
		return nil, err
	}
	life := &running{cmd: cmd, started: c.supervisor.clock.Now(), exited: make(chan struct{})}
	c.setLife(life)
	go func() {
		life.exit = cmd.Wait()
		c.setLife(nil)
		close(life.exited)
	}()
	return life, nil
}

// awaitReady asks the program until it is ready, ends, or runs out of time.
func (c *child) awaitReady(ctx context.Context, life *running) error {
	deadline := c.supervisor.clock.After(c.program.ReadyWithin)
	ticker := c.supervisor.clock.NewTicker(readyPollInterval)
	defer ticker.Stop()
	err := errors.New("was never asked")
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-c.ctx.Done():
			return c.ctx.Err()
		case <-life.exited:
			return errors.New(describeExit(life.exit))
		case <-deadline:
			return fmt.Errorf("not ready within %s: %w", c.program.ReadyWithin, err)
		case <-ticker.Chan():
			if err = c.ask(ctx); err == nil {
				return nil
			}
		}
	}
}

func (c *child) ask(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readyCallTimeout)
	defer cancel()
	return c.program.Ready(ctx)
}

// end asks the process to end, and kills it with all it started when it does not.
func (c *child) end(life *running) {
	_ = life.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-life.exited:
		return
	case <-c.supervisor.clock.After(c.program.StopWithin):
	}
	c.supervisor.report(Event{Program: c.program.Name, Kind: Killed,
		Detail: fmt.Sprintf("it did not stop within %s", c.program.StopWithin)})
	_ = syscall.Kill(-life.cmd.Process.Pid, syscall.SIGKILL)
	<-life.exited
}

func (c *child) age(life *running) time.Duration {
	return c.supervisor.clock.Since(life.started)
}

// kill ends the process as kill -9 does, without a chance to clean up.
func (c *child) kill() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.life == nil {
		return fmt.Errorf("kill %s: %w", c.program.Name, ErrNotRunning)
	}
	c.life.killed.Store(true)
	err := c.life.cmd.Process.Kill()
	if errors.Is(err, os.ErrProcessDone) {
		err = ErrNotRunning
	}
	if err != nil {
		c.life.killed.Store(false)
		return fmt.Errorf("kill %s: %w", c.program.Name, err)
	}
	return nil
}

func (c *child) setLife(life *running) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.life = life
}

func (c *child) pid() (int, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.life == nil {
		return 0, false
	}
	return c.life.cmd.Process.Pid, true
}

// describeExit says in words how a process ended.
func describeExit(err error) string {
	if err == nil {
		return "it ended by itself without an error"
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return "it ended with " + exit.String()
	}
	return err.Error()
}
