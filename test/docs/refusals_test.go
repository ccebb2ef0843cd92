package docs_test

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/sendan-io/sendan/test/envtest"
)

// attempt is something that kubectl is told to do.
type attempt struct {
	name     string
	command  string
	manifest string
	refused  bool
}

// attempts are made in this order, in the namespace of the tenant of docs/tenants.md. What is refused is all that pages quote.
func attempts() []attempt {
	ofOne := func(class string) string { return "{name: pool, class: " + class + ", replicas: 1}" }
	labeled := func(label, manifest string) string {
		return strings.Replace(manifest, "namespace:", "labels: {fleet.sendan.io/"+label+"}, namespace:", 1)
	}
	held := func(manifest string) string {
		return strings.Replace(manifest, "namespace:", "finalizers: [example.com/wait], namespace:", 1)
	}
	return []attempt{
		{name: "24 H100", command: "apply", manifest: clusterOf("training", "{name: pool, class: h100, replicas: 3}")},
		{name: "some slices", command: "apply", manifest: clusterOf("serving", ofOne("a100-mig"))},
		{name: "a release with a template that the tenant may not use", command: "apply", manifest: mixedRelease},
		{name: "one that goes", command: "apply", manifest: held(clusterOf("leaving", ofOne("npu")))},
		{name: "what is left of a tenant", command: "apply", manifest: "apiVersion: v1\nkind: Namespace\nmetadata: {name: team-gone, labels: {fleet.sendan.io/tenant: team-gone}}"},

		{refused: true, name: "more than the quota", command: "apply", manifest: clusterOf("notebooks", "{name: pool, class: h100, replicas: 2}")},
		{refused: true, name: "a site of others", command: "apply", manifest: labeled("site: osaka", clusterOf("a", ofOne("h100")))},
		{refused: true, name: "a template of others", command: "apply", manifest: labeled("release: mixed", clusterOf("a", ofOne("mig")))},
		{refused: true, name: "a template of another release", command: "apply", manifest: labeled("release: mixed", clusterOf("a", ofOne("h100")))},
		{refused: true, name: "no topology", command: "apply", manifest: withoutTopology},
		{refused: true, name: "a class of one's own", command: "apply", manifest: strings.Replace(clusterOf("a", ofOne("h100")), "topology:", "topology:\n    classRef: {name: mine}\n    version: v1.36.3", 1)},
		{refused: true, name: "no size any more", command: "apply", manifest: clusterOf("serving", "{name: pool, class: a100-mig}")},
		{refused: true, name: "a tenant that is gone", command: "apply", manifest: strings.Replace(clusterOf("a", ofOne("h100")), "team-vision", "team-gone", 1)},
		{refused: true, name: "an impossible layout", command: "replace", manifest: impossibleLayout},

		{name: "it goes", command: "delete --wait=false -n team-vision cluster leaving"},
		{refused: true, name: "growth while it goes", command: "apply", manifest: held(clusterOf("leaving", "{name: pool, class: npu, replicas: 2}"))},
		{name: "it is gone", command: `patch -n team-vision cluster leaving --type=merge -p {"metadata":{"finalizers":null}}`},
		{refused: true, name: "a tenant with clusters", command: "delete tenant team-vision"},
	}
}

const (
	mixedRelease = `
apiVersion: fleet.sendan.io/v1alpha1
kind: Release
metadata: {name: mixed}
spec:
  kubernetesVersion: v1.36.3
  images: [{family: ubuntu-24.04, image: kube-v1.36.3}]
  controlPlane: {flavor: control-plane, imageFamily: ubuntu-24.04}
  nodeTemplates:
  - {name: mig, spec: {flavor: control-plane, imageFamily: ubuntu-24.04}}
  - {name: npu, spec: {flavor: control-plane, imageFamily: ubuntu-24.04}}
`
	withoutTopology = `
apiVersion: cluster.x-k8s.io/v1beta2
kind: Cluster
metadata: {name: a, namespace: team-vision}
spec: {infrastructureRef: {apiGroup: infrastructure.cluster.x-k8s.io, kind: SendanCluster, name: a}}
`
	impossibleLayout = `
apiVersion: fleet.sendan.io/v1alpha1
kind: NodeTemplate
metadata: {name: a100-mig}
spec:
  flavor: a100-8
  imageFamily: ubuntu-24.04
  gpu: {model: A100-40GB, count: 8, sharing: MIG, migLayout: {instances: [{profile: 4g.20gb, count: 2}]}}
`
)

func clusterOf(name, pool string) string {
	return `
apiVersion: cluster.x-k8s.io/v1beta2
kind: Cluster
metadata: {name: ` + name + `, namespace: team-vision}
spec:
  topology:
    workers:
      machineDeployments: [` + pool + `]
`
}

func (a attempt) run(t *testing.T, env *envtest.Env) (string, error) {
	t.Helper()
	arguments := append(strings.Fields(a.command), "--kubeconfig", env.Kubeconfig)
	if a.manifest != "" {
		arguments = append(arguments, "-f", "-")
	}
	command := exec.CommandContext(t.Context(), filepath.Join(env.AssetsDir, "kubectl"), arguments...)
	command.Stdin = strings.NewReader(a.manifest)
	output, err := command.CombinedOutput()
	return strings.TrimSpace(string(output)), err
}

var quotedRefusal = regexp.MustCompile(`^(The \w+ "[^"]*" is invalid: |Error from server)`)

// refusesAsQuoted holds what pages quote to what kubectl says.
func refusesAsQuoted(t *testing.T, env *envtest.Env) {
	said := refusals(t, env)
	quoted := 0
	for _, page := range pages(t) {
		for _, block := range page.blocks {
			for line := range strings.SplitSeq(block.text, "\n") {
				if !quotedRefusal.MatchString(line) {
					continue
				}
				quoted++
				if !slices.Contains(said, line) {
					t.Errorf("%s:%d quotes what kubectl does not say: %s", page.name, block.line, line)
				}
			}
		}
	}
	for _, cell := range firstCells(pageNamed(t, "docs/tenants.md").section(t, "## Refusals")) {
		quoted++
		if !slices.ContainsFunc(said, func(line string) bool { return hasParts(line, strings.Split(cell, "…")) }) {
			t.Errorf("docs/tenants.md quotes what kubectl does not say: %s", cell)
		}
	}
	if quoted == 0 {
		t.Error("nothing is quoted")
	}
	if t.Failed() {
		t.Logf("kubectl says:\n%s", strings.Join(said, "\n"))
	}
}

// refusals are the lines that kubectl says.
func refusals(t *testing.T, env *envtest.Env) []string {
	t.Helper()
	var said []string
	for _, a := range attempts() {
		if !a.refused {
			envtest.Eventually(t, cachesCatchUp, func() error { // webhooks learn of what was applied before in a moment
				if output, err := a.run(t, env); err != nil {
					return fmt.Errorf("%s: %w: %s", a.name, err, output)
				}
				return nil
			})
			continue
		}
		output, err := a.run(t, env)
		if err == nil {
			t.Errorf("%s was let pass: %s", a.name, output)
		}
		said = append(said, strings.Split(output, "\n")...)
	}
	return said
}

// hasParts reports that a line has these parts in this order.
func hasParts(line string, parts []string) bool {
	for _, part := range parts {
		_, after, found := strings.Cut(line, strings.TrimSpace(part))
		if !found {
			return false
		}
		line = after
	}
	return true
}
