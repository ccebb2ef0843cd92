package addons

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"

	fleetv1 "github.com/sendan-io/sendan/api/fleet/v1alpha1"
	builtins "github.com/sendan-io/sendan/templates/addons"
)

func TestVariables(t *testing.T) {
	values := map[string]string{"NAME": "training", "EMPTY": ""}
	for text, want := range map[string]string{
		"name: ${NAME}":                       "name: training",
		"${NAME}-${NAME}":                     "training-training",
		"a: ${MTU:=1450}":                     "a: 1450",
		"a: ${NAME:=other}":                   "a: training",
		"a: '${NOTHING:=}'":                   "a: ''",
		"a: '${EMPTY:=not this}'":             "a: ''",
		"a: ${IMAGE:=example/plugin:v1.2}":    "a: example/plugin:v1.2",
		"run: echo $${HOME} $HOME $$ $(date)": "run: echo ${HOME} $HOME $$ $(date)",
		"a: $${NAME} ${NAME}":                 "a: ${NAME} training",
	} {
		got, err := substitute(text, values)
		if err != nil || got != want {
			t.Errorf("%s: got %q (%v), want %q", text, got, err, want)
		}
	}
}

func TestWhatIsWrongWithManifestsIsNamed(t *testing.T) {
	object := configMap("a")
	for text, want := range map[string]string{
		"a: ${ZONE} ${AREA} ${ZONE}":           "no value for ${AREA}, ${ZONE}; declare it in spec.variables, or give it a default as in ${AREA:=default}",
		"a: ${NAME%suffix}":                    "${NAME%suffix} is not a variable",
		"a: ${name}":                           "${name} is not a variable",
		"a: ${NAME":                            "${NAME is not a variable",
		"a: [":                                 "document 1: ",
		object + "---\n" + object:              "ConfigMap kube-system/a is there twice",
		"kind: ConfigMap\nmetadata: {name: a}": "document 1: it has no apiVersion",
		"apiVersion: v1\nmetadata: {name: a}":  "document 1: it has no kind",
		object + "---\napiVersion: v1\nkind: ConfigMap":                "document 2: it has no metadata.name",
		"apiVersion: v1\nkind: ConfigMap\nmetadata: {generateName: a}": "it has no metadata.name",
		object + "data: {}\ndata: {}":                                  "already set",
		"# nothing":                                                    "the manifests have no objects in them",
		object + strings.Repeat("#", 1<<20):                            "at most 1048576 are taken",
		strings.Repeat("---\n"+object, 501):                            "at most 500 are taken",
		"apiVersion: v1\nkind: List\nitems: [{}]":                      "it has no apiVersion",
	} {
		_, err := render("dns", text, map[string]string{"NAME": "training"})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.60q: got %v, want %q", text, err, want)
		}
	}
}

func TestObjectsAreLabeledAndTheDigestFollowsTheContent(t *testing.T) {
	text := configMap("a") + "---\n# empty\n---\napiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: Secret, metadata: {name: '${NAME}', labels: {own: label}}}\n"
	first, err := render("dns", text, map[string]string{"NAME": "one"})
	if err != nil {
		t.Fatal(err)
	}
	if len(first.objects) != 2 {
		t.Fatalf("got %d objects, want 2", len(first.objects))
	}
	for _, object := range first.objects {
		if object.GetLabels()[fleetv1.AddonLabel] != "dns" {
			t.Errorf("%s has the labels %v", referenceTo(object), object.GetLabels())
		}
	}
	if first.objects[1].GetLabels()["own"] != "label" {
		t.Error("its own label is gone")
	}
	again, _ := render("dns", text, map[string]string{"NAME": "one"})
	other, _ := render("dns", text, map[string]string{"NAME": "two"})
	if first.digest != again.digest || first.digest == other.digest || !strings.HasPrefix(first.digest, "sha256:") {
		t.Errorf("digests: %s, the same again %s, other values %s", first.digest, again.digest, other.digest)
	}
}

func TestFactsOfTheClusterItsSiteAndItsTenant(t *testing.T) {
	c := cluster("v1.36.3", map[string]string{
		fleetv1.ReleaseLabel: "2026-10", fleetv1.ChannelLabel: "stable", fleetv1.TenantLabel: "team-a", fleetv1.SiteLabel: "tokyo",
	})
	c.Spec.ClusterNetwork.Pods.CIDRBlocks = []string{"10.1.0.0/16", "fd00::/48"}
	c.Spec.ClusterNetwork.Services.CIDRBlocks = []string{"10.2.0.0/16"}
	c.Spec.ClusterNetwork.ServiceDomain = "cluster.local"
	c.Spec.ControlPlaneEndpoint = clusterv1.APIEndpoint{Host: "192.0.2.7", Port: 6443}
	site := &fleetv1.Site{}
	site.Spec.IdentityRef = fleetv1.SiteIdentityReference{CloudName: "openstack"}
	site.Spec.ExternalNetwork = "public"
	site.Status.Region = "RegionOne"
	got := valuesFor(addon("dns"), Input{Cluster: c, Site: site})
	for name, want := range map[string]string{
		"CLUSTER_NAME": "training", "CLUSTER_NAMESPACE": "team-a", "KUBERNETES_VERSION": "v1.36.3", "POD_CIDR": "10.1.0.0/16,fd00::/48",
		"SERVICE_CIDR": "10.2.0.0/16", "CLUSTER_DNS": "10.2.0.10", "SERVICE_DOMAIN": "cluster.local", "CONTROL_PLANE_ENDPOINT": "192.0.2.7:6443",
		"CONTROL_PLANE_ENDPOINT_HOST": "192.0.2.7", "CONTROL_PLANE_ENDPOINT_PORT": "6443", "RELEASE": "2026-10", "CHANNEL": "stable",
		"TENANT": "team-a", "SITE": "tokyo", "REGION": "RegionOne", "EXTERNAL_NETWORK": "public", "CLOUD_NAME": "openstack",
	} {
		if got[name] != want {
			t.Errorf("%s is %q, want %q", name, got[name], want)
		}
	}
	if len(got) != len(allFacts()) {
		t.Errorf("there are %d facts, and this test looks at %d", len(allFacts()), len(got))
	}
	if bare := valuesFor(addon("dns"), Input{Cluster: cluster("", nil)}); len(bare) != 2 {
		t.Errorf("a bare cluster has only its name, got %v", bare)
	}
}

func TestReferencesKeepTheirMeaningInTheInventory(t *testing.T) {
	result, err := render("dns", configMap("a")+"---\napiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRole\nmetadata: {name: 'system:dns'}\n", nil)
	if err != nil {
		t.Fatal(err)
	}
	before := record{Version: "v1", Objects: referencesTo(result.objects)}
	text, err := json.Marshal(before)
	if err != nil {
		t.Fatal(err)
	}
	if want := `{"version":"v1","objects":["rbac.authorization.k8s.io/v1 ClusterRole system:dns","v1 ConfigMap kube-system/a"]}`; string(text) != want {
		t.Errorf("got %s, want %s", text, want)
	}
	var after record
	if err := json.Unmarshal(text, &after); err != nil {
		t.Fatal(err)
	}
	for i := range before.Objects {
		if before.Objects[i] != after.Objects[i] {
			t.Errorf("got %#v, want %#v", after.Objects[i], before.Objects[i])
		}
	}
}

// TestEveryBuiltinCanBeRendered declares the variables that the builtins need, as docs/addons.md lists them.
func TestEveryBuiltinCanBeRendered(t *testing.T) {
	needs := map[string][]string{
		"sendan-cni":                         nil,
		"nvidia-device-plugin":               {"NVIDIA_DEVICE_PLUGIN_IMAGE"},
		"openstack-cloud-controller-manager": {"OPENSTACK_CCM_IMAGE"},
		"cinder-csi": {"CINDER_CSI_IMAGE", "CSI_PROVISIONER_IMAGE", "CSI_ATTACHER_IMAGE", "CSI_RESIZER_IMAGE", "CSI_NODE_DRIVER_REGISTRAR_IMAGE",
			"CSI_LIVENESS_PROBE_IMAGE"},
		"local-dns": {"LOCAL_DNS_IMAGE"},
	}
	for _, name := range builtins.Names() {
		for _, version := range builtins.Versions(name) {
			t.Run(name+" "+version, func(t *testing.T) {
				variables, known := needs[name]
				if !known {
					t.Fatal("the table of this test does not have it")
				}
				manifests, err := builtins.Manifests(name, version)
				if err != nil {
					t.Fatal(err)
				}
				values := exampleValues(addon(name))
				for _, variable := range variables {
					if _, err := render(name, manifests, values); err == nil || !strings.Contains(err.Error(), variable) {
						t.Errorf("it does not need %s: %v", variable, err)
					}
				}
				for _, variable := range variables {
					values[variable] = "10.96.0.10"
				}
				if _, err := render(name, manifests, values); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

func TestTheAutoscalerCanBeRendered(t *testing.T) {
	text, err := os.ReadFile("../../templates/autoscaler/cluster-autoscaler.yaml")
	if err != nil {
		t.Fatal(err)
	}
	values := map[string]string{"CLUSTER_NAME": "training", "CLUSTER_NAMESPACE": "team-a", "CLUSTER_AUTOSCALER_IMAGE": "example/autoscaler:v1"}
	if _, err := render("autoscaler", string(text), values); err != nil {
		t.Error(err)
	}
}
