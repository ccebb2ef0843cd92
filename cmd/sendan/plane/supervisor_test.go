package plane

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jonboulle/clockwork"
)

// childArgument makes the test binary behave as a program that is supervised.
const childArgument = "child-of-the-test"

func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == childArgument {
		beChild(os.Args[2], os.Args[3:])
		return
	}
	os.Exit(m.Run())
}

// beChild acts out what a program may do to its supervisor.
func beChild(behavior string, args []string) {
	terminated := make(chan os.Signal, 1)
	signal.Notify(terminated, syscall.SIGTERM)
	switch behavior {
	case "die":
		fmt.Println("cannot open the door")
		os.Exit(3)
	case "serve": // tells its pid, and appends its name to a journal when it is asked to end
		name, pidFile, journal := args[0], args[1], args[2]
		_ = os.WriteFile(pidFile, []byte(strconv.Itoa(os.Getpid())), 0o600)
		<-terminated
		f, err := os.OpenFile(journal, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
		if err == nil {
			_, _ = fmt.Fprintln(f, name)
		}
	case "stubborn": // does not end when asked to
		_ = os.WriteFile(args[0], nil, 0o600)
		select {}
	case "supervise": // supervises a program that serves, and is then killed by the test
		layout := Layout{Dir: args[0]}
		s := newSupervisor(layout, clockwork.NewRealClock(), func(Event) {})
		if err := s.startStage(context.Background(), serving(layout.Dir, "orphan")); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		select {}
	}
}

func TestAProgramThatEndsBeforeItIsReadyFailsTheStartWithItsLastWords(t *testing.T) {
	f := newFixture(t)
	err := f.supervisor.startStage(t.Context(), testProgram("door", time.Minute, never, "die"))
	if err == nil {
		t.Fatal("the start succeeded")
	}
	for _, want := range []string{"door", "exit status 3", "cannot open the door", f.layout.Log("door")} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error does not mention %q:\n%v", want, err)
		}
	}
}

func TestAProgramThatIsNeverReadyFailsTheStartInTimeAndIsStopped(t *testing.T) {
	f := newFixture(t)
	program := serving(f.layout.Dir, "slow")
	program.Ready, program.ReadyWithin = never, 500*time.Millisecond
	err := f.supervisor.startStage(t.Context(), program)
	if err == nil || !strings.Contains(err.Error(), "not ready within 500ms: the test says no") {
		t.Errorf("error is %v", err)
	}
	if pid, running := f.supervisor.pid("slow"); running {
		t.Errorf("it still runs as %d", pid)
	}
}

func TestStartEndsWithTheContext(t *testing.T) {
	f := newFixture(t)
	ctx, cancel := context.WithCancel(t.Context())
	program := serving(f.layout.Dir, "slow")
	program.Ready = func(context.Context) error { cancel(); return never(ctx) }
	if err := f.supervisor.startStage(ctx, program); !errors.Is(err, context.Canceled) || strings.Contains(err.Error(), "last lines") {
		t.Errorf("error is %v, want nothing but %v", err, context.Canceled)
	}
}

func TestAProgramThatDiesIsStartedAgain(t *testing.T) {
	f := newFixture(t)
	f.start(t, serving(f.layout.Dir, "worker"))
	first := f.pid(t, "worker")
	if err := syscall.Kill(first, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it was started again", func() bool {
		second, running := f.supervisor.pid("worker")
		return running && second != first
	})
	eventually(t, "death and restart were reported", func() bool {
		return slices.Equal(f.kinds("worker"), []EventKind{Ready, Died, Restarted})
	})
	f.supervisor.stop()
	if pid, running := f.supervisor.pid("worker"); running {
		t.Errorf("it still runs as %d after the stop", pid)
	}
}

func TestAProgramKilledOnPurposeIsStartedAgainAtOnceEveryTime(t *testing.T) {
	f := newFixture(t)
	f.start(t, serving(f.layout.Dir, "worker"))
	pid := f.pid(t, "worker")
	for range 4 { // as crashes these would have to wait for 1 + 2 + 4 + 8 seconds
		if err := f.supervisor.kill("worker"); err != nil {
			t.Fatal(err)
		}
		before := pid
		eventually(t, "it was started again", func() bool {
			var running bool
			pid, running = f.supervisor.pid("worker")
			return running && pid != before
		})
		if alive(before) {
			t.Errorf("process %d survived", before)
		}
	}
	for _, event := range f.eventsOf("worker", Died) {
		if !strings.Contains(event.Detail, "signal: killed; starting it again at once") {
			t.Errorf("the death was told as %q", event.Detail)
		}
	}
}

func TestOnlyAProgramThatRunsCanBeKilled(t *testing.T) {
	f := newFixture(t)
	f.start(t, serving(f.layout.Dir, "worker"))
	if err := f.supervisor.kill("nobody"); !errors.Is(err, ErrNotRunning) {
		t.Errorf("killing a program that was never started: %v", err)
	}
	f.supervisor.stop()
	if err := f.supervisor.kill("worker"); !errors.Is(err, ErrNotRunning) {
		t.Errorf("killing a program that was stopped: %v", err)
	}
}

func TestStopDoesNotWaitForThePauseAfterADeath(t *testing.T) {
	f := newFixture(t)
	f.start(t, serving(f.layout.Dir, "worker"))
	if err := syscall.Kill(f.pid(t, "worker"), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the death was reported", func() bool { return slices.Contains(f.kinds("worker"), Died) })
	f.supervisor.stop()
	if slices.Contains(f.kinds("worker"), Restarted) {
		t.Error("it was started again while stopping")
	}
}

func TestProgramsStopInTheReverseOrderOfTheirStages(t *testing.T) {
	f := newFixture(t)
	for _, name := range []string{"first", "second", "third"} {
		f.start(t, serving(f.layout.Dir, name))
	}
	f.supervisor.stop()
	got := strings.Fields(string(read(t, journalFile(f.layout.Dir))))
	if want := []string{"third", "second", "first"}; !slices.Equal(got, want) {
		t.Errorf("they stopped as %v, want %v", got, want)
	}
}

func TestAProgramThatDoesNotStopIsKilled(t *testing.T) {
	f := newFixture(t)
	file := filepath.Join(f.layout.Dir, "stubborn")
	program := testProgram("mule", time.Minute, fileExists(file), "stubborn", file)
	program.StopWithin = 200 * time.Millisecond
	f.start(t, program)
	f.supervisor.stop()
	if !slices.Contains(f.kinds("mule"), Killed) {
		t.Errorf("events are %v, want %s among them", f.kinds("mule"), Killed)
	}
}

func TestProgramsDieWithTheirSupervisor(t *testing.T) {
	if !diesWithSupervisor() {
		t.Skip("this system cannot do that")
	}
	layout := testLayout(t)
	supervisor := exec.Command(executable(), childArgument, "supervise", layout.Dir)
	if err := supervisor.Start(); err != nil {
		t.Fatal(err)
	}
	var pid int
	eventually(t, "the program runs", func() bool {
		data, err := os.ReadFile(pidFile(layout.Dir, "orphan"))
		if err != nil {
			return false
		}
		pid, err = strconv.Atoi(string(data))
		return err == nil
	})
	if err := supervisor.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = supervisor.Wait()
	eventually(t, "the program is gone", func() bool { return !alive(pid) })
}

// fixture is a supervisor whose events are kept.
type fixture struct {
	layout     Layout
	supervisor *supervisor

	mu     sync.Mutex
	events []Event
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	f := &fixture{layout: testLayout(t)}
	f.supervisor = newSupervisor(f.layout, clockwork.NewRealClock(), func(event Event) {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.events = append(f.events, event)
	})
	t.Cleanup(f.supervisor.stop)
	return f
}

func testLayout(t *testing.T) Layout {
	t.Helper()
	layout := Layout{Dir: t.TempDir()}
	if err := layout.create(); err != nil {
		t.Fatal(err)
	}
	return layout
}

func (f *fixture) start(t *testing.T, programs ...Program) {
	t.Helper()
	if err := f.supervisor.startStage(t.Context(), programs...); err != nil {
		t.Fatal(err)
	}
}

func (f *fixture) pid(t *testing.T, program string) int {
	t.Helper()
	pid, running := f.supervisor.pid(program)
	if !running {
		t.Fatalf("%s does not run", program)
	}
	return pid
}

func (f *fixture) kinds(program string) []EventKind {
	f.mu.Lock()
	defer f.mu.Unlock()
	var kinds []EventKind
	for _, event := range f.events {
		if event.Program == program {
			kinds = append(kinds, event.Kind)
		}
	}
	return kinds
}

func (f *fixture) eventsOf(program string, kind EventKind) []Event {
	f.mu.Lock()
	defer f.mu.Unlock()
	var events []Event
	for _, event := range f.events {
		if event.Program == program && event.Kind == kind {
			events = append(events, event)
		}
	}
	return events
}

// serving is a program that is ready once it told its pid.
func serving(dir, name string) Program {
	return testProgram(name, time.Minute, fileExists(pidFile(dir, name)), "serve", name, pidFile(dir, name), journalFile(dir))
}

func testProgram(name string, readyWithin time.Duration, ready func(context.Context) error, args ...string) Program {
	return Program{
		Name: name, Path: executable(), Args: append([]string{childArgument}, args...),
		Ready: ready, ReadyWithin: readyWithin, StopWithin: time.Minute,
	}
}

func never(context.Context) error { return fmt.Errorf("the test says no") }

func fileExists(file string) func(context.Context) error {
	return func(context.Context) error {
		_, err := os.Stat(file)
		return err
	}
}

func pidFile(dir, name string) string { return filepath.Join(dir, name+".pid") }
func journalFile(dir string) string   { return filepath.Join(dir, "journal") }
func executable() string              { return os.Args[0] }

// eventually fails the test unless condition holds before a generous deadline.
func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	deadline := time.After(30 * time.Second)
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for !condition() {
		select {
		case <-deadline:
			t.Fatalf("gave up waiting until %s", what)
		case <-ticker.C:
		}
	}
}
