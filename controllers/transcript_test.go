package controllers

import (
	"context"
	"flag"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/events"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	infrav1 "github.com/sendan-io/sendan/api/infrastructure/v1alpha1"
	"github.com/sendan-io/sendan/cloud"
	"github.com/sendan-io/sendan/cloud/simulator"
)

var (
	update = flag.Bool("update", false, "write the golden files of transcripts anew")

	idPattern      = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`)
	requestPattern = regexp.MustCompile(`req-[0-9a-z…-]+`)
	clockPattern   = regexp.MustCompile(`\b\d\d:\d\d:\d\d\b`)
)

// transcript writes down a story as users see it: Events, changes of conditions and phases. Times
// count from its beginning, and ids are replaced by names.
type transcript struct {
	w     *world
	began time.Time
	lines []string
	// told is what was last written about a condition or a phase.
	told  map[string]string
	names map[string]string
}

func newTranscript(w *world, title string) *transcript {
	now := w.clock.Now()
	w.clock.Advance(now.Truncate(time.Second).Add(time.Second).Sub(now)) // conditions know whole seconds only
	tr := &transcript{w: w, began: w.clock.Now(), told: map[string]string{}, names: map[string]string{}, lines: []string{"# " + title}}
	w.after = func(item work) { tr.look(item) }
	tr.catchUp()
	return tr
}

// catchUp takes note of what there is without telling it.
func (tr *transcript) catchUp() {
	tr.w.settle()
	for _, c := range tr.w.clusters() {
		tr.look(work{kind: kindCluster, key: client.ObjectKeyFromObject(&c)})
	}
	for _, m := range tr.w.machines() {
		tr.look(work{kind: kindMachine, key: client.ObjectKeyFromObject(&m)})
	}
	tr.lines = tr.lines[:1]
}

func (tr *transcript) line(format string, args ...any) {
	since := tr.w.clock.Since(tr.began)
	tr.lines = append(tr.lines, fmt.Sprintf("%s %s", minutes(since), tr.anonymous(fmt.Sprintf(format, args...))))
}

func minutes(d time.Duration) string {
	return fmt.Sprintf("%02d:%02d", int(d.Minutes()), int(d.Seconds())%60)
}

// happens tells of something from outside.
func (tr *transcript) happens(what string) { tr.line("~ %s", what) }

// look tells what is new about an object.
func (tr *transcript) look(item work) {
	tr.learnNames()
	var recorder events.EventRecorder
	var subject string
	switch item.kind {
	case kindCluster:
		recorder, subject = tr.w.process.clusters.Recorder, "cluster "+item.key.Name
	case kindMachine:
		recorder, subject = tr.w.process.machines.Recorder, "machine "+item.key.Name
	}
	tr.tellEvents(subject, recorder)
	switch item.kind {
	case kindCluster:
		obj := &infrav1.SendanCluster{}
		if tr.w.client.Get(context.Background(), item.key, obj) != nil {
			tr.tell(subject, "is gone")
			return
		}
		tr.tellConditions(subject, obj.Status.Conditions)
		if ptr.Deref(obj.Status.Initialization.Provisioned, false) {
			tr.tell(subject+" endpoint", "provisioned at "+obj.Spec.ControlPlaneEndpoint.Host)
		}
	case kindMachine:
		obj := &infrav1.SendanMachine{}
		if tr.w.client.Get(context.Background(), item.key, obj) != nil {
			tr.tell(subject, "is gone")
			return
		}
		tr.tellConditions(subject, obj.Status.Conditions)
		tr.tell(subject+" phase", string(obj.Status.Phase))
	}
}

func (tr *transcript) tellEvents(subject string, recorder events.EventRecorder) {
	for {
		select {
		case event := <-recorder.(*events.FakeRecorder).Events:
			kind, rest, _ := strings.Cut(event, " ")
			reason, text, _ := strings.Cut(rest, " ")
			if kind == "Warning" {
				text = reason + " warning: " + text
			}
			tr.line("%s: %s", subject, text)
		default:
			return
		}
	}
}

// tellConditions tells what changed. Ready repeats the first of the others that is not true.
func (tr *transcript) tellConditions(subject string, conditions []metav1.Condition) {
	for _, c := range conditions {
		text := string(c.Status)
		switch {
		case c.Type == "Paused":
			continue
		case c.Type == infrav1.ReadyCondition:
		case c.Message != "":
			text = c.Reason + ": " + c.Message
		}
		tr.tell(subject+" "+c.Type, text)
	}
}

func (tr *transcript) tell(what, text string) {
	if text = tr.anonymous(text); text != "" && tr.told[what] != text {
		tr.told[what] = text
		tr.line("%s → %s", what, text)
	}
}

// learnNames remembers what the cluster's objects are called.
func (tr *transcript) learnNames() {
	for _, inventory := range tr.w.process.open {
		snapshot := inventory.Snapshot()
		for _, c := range tr.w.clusters() {
			mark := cloud.Mark{Cluster: c.Annotations[infrav1.OwnerIDAnnotation]}
			for _, o := range snapshot.NetworksOf(mark) {
				tr.names[o.ID] = o.Name
			}
			for _, o := range snapshot.SubnetsOf(mark) {
				tr.names[o.ID] = o.Name
			}
			for _, o := range snapshot.RoutersOf(mark) {
				tr.names[o.ID] = o.Name
			}
			for _, o := range snapshot.SecurityGroupsOf(mark) {
				tr.names[o.ID] = o.Name
			}
			for _, o := range snapshot.ServerGroupsOf(mark) {
				tr.names[o.ID] = o.Mark.Role
			}
			for _, o := range snapshot.PortsOf(mark) {
				tr.names[o.ID] = o.Name
			}
			for _, o := range snapshot.ServersOf(mark) {
				tr.names[o.ID] = o.Name
			}
			for _, o := range snapshot.FloatingIPsOf(mark) {
				tr.names[o.ID] = o.Address
			}
			for _, o := range snapshot.LoadBalancersOf(mark) {
				tr.names[o.ID] = o.Name
			}
		}
	}
}

// anonymous replaces what differs from run to run.
func (tr *transcript) anonymous(text string) string {
	text = requestPattern.ReplaceAllString(text, "req-…")
	text = idPattern.ReplaceAllStringFunc(text, func(id string) string {
		if name, known := tr.names[id]; known {
			return name
		}
		return "…"
	})
	return clockPattern.ReplaceAllStringFunc(text, func(clock string) string {
		at, err := time.Parse(time.TimeOnly, clock)
		if err != nil {
			return clock
		}
		began := tr.began.UTC()
		midnight := time.Date(began.Year(), began.Month(), began.Day(), 0, 0, 0, 0, time.UTC)
		since := at.Sub(time.Date(0, 1, 1, 0, 0, 0, 0, time.UTC)) - began.Sub(midnight)
		if since < -12*time.Hour {
			since += 24 * time.Hour
		}
		return minutes(since)
	})
}

func (tr *transcript) compare(t *testing.T, name string) {
	t.Helper()
	got := strings.Join(tr.lines, "\n") + "\n"
	file := filepath.Join("testdata", name+".golden")
	if *update {
		tr.w.must(os.WriteFile(file, []byte(got), 0o600))
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got == string(want) {
		return
	}
	gotLines, wantLines := strings.Split(got, "\n"), strings.Split(string(want), "\n")
	for i := range max(len(gotLines), len(wantLines)) {
		if i >= len(gotLines) || i >= len(wantLines) || gotLines[i] != wantLines[i] {
			t.Fatalf("%s differs at line %d; run with -update if that is meant\n%s", file, i+1, got)
		}
	}
}

func TestTranscriptOfACreation(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	tr := newTranscript(w, "one control-plane machine and one worker")
	w.creating("tenant", "one")
	w.run("all ready", 10*time.Minute, w.allReady)
	w.pass(time.Minute)
	tr.compare(t, "create")
}

func TestTranscriptOfADeletion(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.creating("tenant", "one")
	w.run("all ready", 10*time.Minute, w.allReady)
	w.pass(10 * time.Minute)
	tr := newTranscript(w, "the same cluster is deleted")
	tr.happens("the Cluster is deleted")
	w.removeAll()
	w.run("all gone", 10*time.Minute, w.allGone)
	tr.compare(t, "delete")
}

func TestTranscriptOfWantOfCapacity(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	disable := func(disabled bool) {
		for _, host := range w.sim.Hosts() {
			if strings.HasPrefix(host.Name, "h100") {
				w.must(w.sim.SetHost(host.Name, simulator.HostChange{Disabled: ptr.To(disabled)}))
			}
		}
	}
	disable(true)
	w.addCluster("tenant", "one")
	w.run("cluster ready", 10*time.Minute, w.allReady)
	tr := newTranscript(w, "no host takes the worker until one is added, five minutes later")
	w.addMachine("tenant", "one", "worker-0", func(m *infrav1.SendanMachine) { m.Spec.Flavor = "g1.h100.8" })
	w.pass(5 * time.Minute)
	tr.happens("hosts are there")
	disable(false)
	w.run("all ready", 20*time.Minute, w.allReady)
	tr.compare(t, "no-valid-host")
}

func TestTranscriptOfALostReply(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.addCluster("tenant", "one")
	w.run("cluster ready", 10*time.Minute, w.allReady)
	w.pass(time.Minute)
	w.must(w.sim.AddFault(simulator.Fault{Name: "lost", Service: "compute", Method: http.MethodPost, Path: "/v2.1/servers", AfterEffect: true, Status: http.StatusBadGateway}))
	tr := newTranscript(w, "Nova makes the server, but its answer is lost on the way")
	w.addMachine("tenant", "one", "worker-0")
	w.run("all ready", 20*time.Minute, w.allReady)
	w.pass(time.Minute)
	tr.compare(t, "lost-reply")
	if servers := len(w.sim.Servers()); servers != 1 {
		t.Errorf("there are %d servers", servers)
	}
}

func TestTranscriptOfAFailedBoot(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.addCluster("tenant", "one")
	w.run("cluster ready", 10*time.Minute, w.allReady)
	tr := newTranscript(w, "the first boot of a worker fails, and somebody mends it on the machine an hour later")
	w.nodesStayAway = true
	w.addMachine("tenant", "one", "worker-0")
	w.run("all ready", 10*time.Minute, w.allReady)
	tr.happens("cloud-init fails")
	w.prints("kubeadm: error execution phase preflight\ncc_scripts_user.py[WARNING]: Failed to run module scripts_user\n")
	w.pass(time.Hour)
	tr.happens("the node is there")
	w.nodesStayAway = false
	w.pass(time.Minute)
	tr.compare(t, "failed-boot")
}
