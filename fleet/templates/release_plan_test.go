package templates

import (
	"fmt"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"
	"sigs.k8s.io/controller-runtime/pkg/client"

	fleetv1 "github.com/sendan-io/sendan/api/fleet/v1alpha1"
)

// apiServer holds what plans of a release ask for, and writes down what happens.
type apiServer struct {
	releaseInput
	templates map[string]bool
	story     strings.Builder
	began     time.Time
}

func newAPIServer(release *fleetv1.Release, sites ...*fleetv1.Site) *apiServer {
	s := &apiServer{templates: map[string]bool{}, began: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}
	s.release, s.namespace, s.now = release, classes, s.began
	for _, site := range sites {
		s.sites = append(s.sites, *site)
	}
	s.has = func(o client.Object) bool { return s.templates[o.GetName()] }
	return s
}

func (s *apiServer) tell(format string, args ...any) {
	fmt.Fprintf(&s.story, "%s "+format+"\n", append([]any{time.Time{}.Add(s.now.Sub(s.began)).Format("15:04")}, args...)...)
}

// settle carries out plans until there is nothing to do, and returns the last.
func (s *apiServer) settle(t *testing.T) releaseIntent {
	t.Helper()
	for range 5 {
		intent := planRelease(s.releaseInput)
		if len(intent.create)+len(intent.inUse)+len(intent.unused)+len(intent.remove) == 0 {
			if s.release != nil {
				s.release.Status = intent.status
			}
			return intent
		}
		s.carryOut(intent)
	}
	t.Fatalf("the plan never settles:\n%s", s.story.String())
	return releaseIntent{}
}

func (s *apiServer) carryOut(intent releaseIntent) {
	made := 0
	for _, object := range intent.create {
		if class, ok := object.(*clusterv1.ClusterClass); ok {
			s.classes = append(s.classes, *class.DeepCopy())
			s.tell("made class %s", class.Name)
			continue
		}
		s.templates[object.GetName()] = true
		made++
	}
	if made > 0 {
		s.tell("made %d templates", made)
	}
	for _, class := range intent.inUse {
		delete(class.Annotations, unusedAnnotation)
		s.tell("%s is in use again", class.Name)
	}
	for _, class := range intent.unused {
		class.Annotations = withEntry(class.Annotations, unusedAnnotation, s.now.Format(time.RFC3339))
		s.tell("%s is not in use", class.Name)
	}
	for _, removed := range intent.remove {
		for i := range s.classes {
			if s.classes[i].Name == removed.Name {
				s.classes = append(s.classes[:i:i], s.classes[i+1:]...)
				break
			}
		}
		s.tell("removed %s", removed.Name)
	}
}

func TestAClassIsKeptAsLongAsItIsUsed(t *testing.T) {
	s := newAPIServer(release("r", "v1.36.3"), tokyo())
	s.tell("release r, site tokyo")
	first := s.settle(t)
	s.clusters = []clusterv1.Cluster{{Spec: clusterv1.ClusterSpec{Topology: clusterv1.Topology{ClassRef: clusterv1.ClusterClassRef{Name: first.status.Sites[0].ClusterClass}}}}}
	s.tell("a cluster uses it")

	s.now = s.now.Add(time.Hour)
	s.sites[0].Spec.Flavors[2].NameInCloud, s.sites[0].Status.Flavors[2].Name = "g2.h100.8", "g2.h100.8"
	s.tell("tokyo renames the flavor g1.h100.8")
	s.settle(t)

	s.now = s.now.Add(time.Hour)
	s.clusters = nil
	s.tell("the cluster is deleted")
	marked := s.settle(t)
	if marked.recheck.Sub(s.now) != unusedFor {
		t.Errorf("looks again after %s, want %s", marked.recheck.Sub(s.now), unusedFor)
	}
	s.now = s.now.Add(unusedFor)
	s.settle(t)
	golden(t, "class-life.golden", []byte(s.story.String()))
}

// `clusterctl move` brings a class and then its Clusters, also where nobody has made the Release.
func TestTheClassesOfAReleaseThatIsGoneGoWhenNobodyUsesThem(t *testing.T) {
	s := newAPIServer(release("r", "v1.36.3"), tokyo())
	class := s.settle(t).status.Sites[0].ClusterClass
	s.release = nil
	s.tell("release r is deleted")
	s.clusters = []clusterv1.Cluster{{Spec: clusterv1.ClusterSpec{Topology: clusterv1.Topology{ClassRef: clusterv1.ClusterClassRef{Name: class}}}}}
	s.tell("a cluster that was moved here uses %s", class)
	s.settle(t)
	s.now = s.now.Add(unusedFor)
	s.settle(t)
	s.clusters = nil
	s.tell("the cluster is deleted")
	s.settle(t)
	s.now = s.now.Add(unusedFor)
	s.settle(t)
	golden(t, "release-gone.golden", []byte(s.story.String()))
	if len(s.classes) > 0 {
		t.Errorf("%d classes are left", len(s.classes))
	}
}

func TestAReleaseSaysWhereItCanBeUsed(t *testing.T) {
	none := newAPIServer(release("r", "v1.36.3")).settle(t)
	wantReady(t, none, metav1.ConditionFalse, fleetv1.NoSiteReason, "There is no Site")

	unread := tokyo()
	unread.Status = fleetv1.SiteStatus{}
	waiting := newAPIServer(release("r", "v1.36.3"), unread).settle(t)
	wantReady(t, waiting, metav1.ConditionFalse, fleetv1.NoSiteReason, "tokyo has not been read yet")

	poor := osaka()
	poor.Status.Images = []string{"kube-1.36"}
	partly := newAPIServer(release("r", "v1.36.3"), poor, tokyo()).settle(t)
	wantReady(t, partly, metav1.ConditionTrue, fleetv1.SitesIncompleteReason, "osaka: a100-mig: site osaka has no image kube-1.36-nvidia")
	if got := partly.status.Sites[1]; got.Site != "tokyo" || len(got.NodeTemplates) != 3 || len(got.SingleNodeClasses) != 1 {
		t.Errorf("tokyo: %+v", got)
	}
}

func wantReady(t *testing.T, intent releaseIntent, status metav1.ConditionStatus, reason, message string) {
	t.Helper()
	if got := intent.ready; got.Status != status || got.Reason != reason || !strings.Contains(got.Message, message) {
		t.Errorf("Ready is %s, %s: %s; want %s, %s: %s", got.Status, got.Reason, got.Message, status, reason, message)
	}
}
