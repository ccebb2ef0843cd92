package controllers

import (
	"strings"
	"testing"
	"time"

	"sigs.k8s.io/cluster-api/util/conditions"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	infrav1 "github.com/sendan-io/sendan/api/infrastructure/v1alpha1"
	"github.com/sendan-io/sendan/cloud/simulator"
)

// failedConsole is a worker's that could not join, as a terminal would show it.
const failedConsole = "[    0.000000] Linux version 6.12\r\n" +
	"\x1b[0;32m  OK  \x1b[0m Started \x1b[0;1;39mcontainerd.service\x1b[0m.\r\n" +
	"[   12.1] cloud-init[900]: kubeadm join 10.6.0.9:6443 --token abcdef.0123456789abcdef --discovery-token-ca-cert-hash sha256:" +
	"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\r\n\r\n" +
	"[   14.2] cloud-init[900]: error execution phase preflight: couldn't validate the identity of the API Server\r\n" +
	"[   14.3] cloud-init[900]: 2026-11-26 12:00:00,000 - cc_scripts_user.py[WARNING]: Failed to run module scripts_user (scripts in /var/lib/cloud/instance/scripts)\r\n" +
	"[   14.4] cloud-init[900]: Cloud-init v. 24.1 finished at Thu, 26 Nov 2026 12:00:00 +0000. Up 14.4 seconds\r\n"

func TestOnlyABootThatFailedIsToldOf(t *testing.T) {
	for console, want := range map[string]string{
		failedConsole: "Failed to run module scripts_user",
		"cloud-init: __init__.py[WARNING]: Unhandled non-multipart (text/x-not-multipart) userdata: 'b'hello'...'\n": "Unhandled non-multipart",
		"util.py[WARNING]: Failed loading yaml blob. Invalid format at line 3 column 1\n":                            "Failed loading yaml blob",
		"[\x1b[0;1;31mFAILED\x1b[0m] Failed to start cloud-final.service\x1b[0m - Execute cloud user/final scripts.": "Failed to start cloud-final.service",
		"[WARNING]: Failed to run bootcmd module\n":                                                                  "Failed to run bootcmd",
		"": "",
		"cloud-init: Cloud-init v. 24.1 running 'modules:final'\n":           "",
		"cloud-init: cc_ntp.py[WARNING]: Failed to run module ntp\n":         "",
		"cloud-init: Cloud-init v. 24.1 finished at Thu. Up 20.33 seconds\n": "",
	} {
		got := describeFailedBoot("5f2c", console)
		if want == "" && got != "" || want != "" && !strings.Contains(got, "The first boot of server 5f2c failed: ") || !strings.Contains(got, want) {
			t.Errorf("console %q: %q, want %q", console, got, want)
		}
	}
}

func TestAConditionShowsTheEndOfAConsoleWithoutSecrets(t *testing.T) {
	got := describeFailedBoot("5f2c", strings.Repeat("early\n", 30)+failedConsole)
	for _, forbidden := range []string{"abcdef.0123456789abcdef", "sha256:0123", "\x1b", "\r", "early\nearly\nearly\nearly\nearly\n"} {
		if strings.Contains(got, forbidden) {
			t.Errorf("%q is shown:\n%s", forbidden, got)
		}
	}
	for _, wanted := range []string{"--token (secret)", "error execution phase preflight", "Up 14.4 seconds", "openstack console log show 5f2c"} {
		if !strings.Contains(got, wanted) {
			t.Errorf("%q is not shown:\n%s", wanted, got)
		}
	}
	if long := describeFailedBoot("5f2c", failedConsole+strings.Repeat("x", 100_000)); len(long) > 4096 {
		t.Errorf("a condition of %d bytes", len(long))
	}
}

// overdue is a world with a worker whose server runs and whose node does not come.
func overdue(t *testing.T) *world {
	t.Helper()
	w := newWorld(t)
	w.nodesStayAway = true
	w.creating("tenant", "one")
	w.run("all ready", 10*time.Minute, w.allReady)
	w.resetCalls()
	return w
}

// prints sets the console of every server.
func (w *world) prints(console string) {
	for _, server := range w.sim.Servers() {
		w.must(w.sim.SetServer(server.ID, simulator.ServerChange{Console: console}))
	}
}

const actionPath = "/v2.1/servers/{id}/action"

func TestAFailedBootIsToldWithinTwoMinutesAndTakenBackWhenANodeComes(t *testing.T) {
	t.Parallel()
	w := overdue(t)
	w.prints(failedConsole)
	w.run("told", 2*time.Minute, func() bool {
		c := conditions.Get(w.machine("tenant", worker), infrav1.BootSucceededCondition)
		return c != nil && c.Status == metav1.ConditionFalse && c.Reason == infrav1.BootFailedReason
	})
	m := w.machine("tenant", worker)
	ready := conditions.Get(m, infrav1.ReadyCondition)
	if ready.Status != metav1.ConditionFalse || ready.Reason != infrav1.BootFailedReason || m.Status.Phase != infrav1.PhaseFailed {
		t.Errorf("Ready %v, phase %s", ready, m.Status.Phase)
	}
	if !*m.Status.Initialization.Provisioned {
		t.Error("it is not provisioned any more")
	}
	w.resetCalls()
	w.pass(time.Hour)
	if calls := w.calls(actionPath); calls != 0 {
		t.Errorf("the console was read %d times more although all is known", calls)
	}
	w.nodesStayAway = false
	w.run("taken back", time.Minute, func() bool {
		c := conditions.Get(w.machine("tenant", worker), infrav1.BootSucceededCondition)
		return c != nil && c.Status == metav1.ConditionTrue && w.allReady()
	})
}

func TestAConsoleIsReadAFewTimesAndNeverOnceTheNodeIsThere(t *testing.T) {
	t.Parallel()
	w := overdue(t)
	w.prints("still booting\n")
	w.pass(2 * time.Hour)
	machines := len(w.machines())
	if calls := w.calls(actionPath); calls < bootLooks*machines || calls > 2*bootLooks*machines {
		t.Errorf("%d looks at %d machines, want about %d each", calls, machines, bootLooks)
	}
	if !w.allReady() {
		t.Error("a boot that takes long is no failure")
	}

	settled := newWorld(t)
	settled.creating("tenant", "one")
	settled.run("all ready", 10*time.Minute, settled.allReady)
	settled.resetCalls()
	settled.pass(2 * time.Hour)
	if calls := settled.calls(actionPath); calls != 0 {
		t.Errorf("%d looks at machines whose nodes are there", calls)
	}
}

func TestAConsoleThatCannotBeReadProvesNothing(t *testing.T) {
	t.Parallel()
	w := overdue(t)
	w.prints(failedConsole)
	w.must(w.sim.AddFault(simulator.Fault{Name: "no console", Service: "compute", Method: "POST", Path: actionPath, Status: 409, Times: -1}))
	w.pass(time.Hour)
	if !w.allReady() {
		t.Errorf("told without having read it:\n%s", w.describe())
	}
}
