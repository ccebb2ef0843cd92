package templates

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"
	bootstrapv1 "sigs.k8s.io/cluster-api/api/bootstrap/kubeadm/v1beta2"
	controlplanev1 "sigs.k8s.io/cluster-api/api/controlplane/kubeadm/v1beta2"
	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"
	"sigs.k8s.io/controller-runtime/pkg/client"

	fleetv1 "github.com/sendan-io/sendan/api/fleet/v1alpha1"
	infrav1 "github.com/sendan-io/sendan/api/infrastructure/v1alpha1"
)

// Compiled is a release for one site: what the API server is to hold.
type Compiled struct {
	// Classes are the one for clusters with a control plane of their own, and one for each template that may stand alone.
	// There are none where control planes are not possible.
	Classes []*clusterv1.ClusterClass
	// Templates are what the classes refer to. Each is of one class.
	Templates []client.Object
	// Offered are the node templates that the site has everything for.
	Offered []string
	// Missing says what the site lacks, one line for each template that is not offered.
	Missing []string
}

// Compile turns a release into classes for a site. It depends on nothing else, so that the same input has the same names.
func Compile(release *fleetv1.Release, site *fleetv1.Site, namespace string) Compiled {
	c := &compiler{release: release, site: siteFacts{site}, namespace: namespace, templates: map[string]client.Object{}}
	controlPlane, err := c.controlPlane()
	if err != nil {
		c.out.Missing = append(c.out.Missing, "control plane: "+err.Error())
		return c.out
	}
	pools := c.pools()
	class := c.class("", controlPlane, c.infrastructure(infrav1.Endpoint{LoadBalancer: &infrav1.LoadBalancerEndpoint{}}))
	class.Spec.Workers.MachineDeployments = pools
	c.addClass(class)
	for _, node := range c.nodes {
		if ptr.Deref(node.spec.SingleNode, false) {
			c.addClass(c.class(node.name, c.singleNode(node), c.infrastructure(c.site.singleNodeEndpoint())))
		}
	}
	slices.SortFunc(c.out.Templates, func(a, b client.Object) int {
		return cmp.Or(strings.Compare(kindOf(a).Kind, kindOf(b).Kind), strings.Compare(a.GetName(), b.GetName()))
	})
	return c.out
}

type compiler struct {
	release   *fleetv1.Release
	site      siteFacts
	namespace string
	out       Compiled
	nodes     []located
	// templates by kind and name, before they have been given to classes.
	templates map[string]client.Object
}

// located is a resolved template with what the site calls its flavor and image.
type located struct {
	resolved
	flavor fleetv1.SiteFlavor
	// imageName is what the site calls the image.
	imageName string
}

// pools are the worker classes of all templates that the site has everything for.
func (c *compiler) pools() []clusterv1.MachineDeploymentClass {
	var pools []clusterv1.MachineDeploymentClass
	for _, template := range c.release.Spec.NodeTemplates {
		node, err := c.locate(template)
		if err != nil {
			c.out.Missing = append(c.out.Missing, template.Name+": "+err.Error())
			continue
		}
		c.nodes = append(c.nodes, node)
		c.out.Offered = append(c.out.Offered, node.name)
		pools = append(pools, c.pool(node))
	}
	return pools
}

func (c *compiler) locate(template fleetv1.ReleaseNodeTemplate) (located, error) {
	if template.Spec == nil {
		return located{}, fmt.Errorf("the release has no copy of it")
	}
	shape, wrong := ShapeOf(template.Name, *template.Spec, field.NewPath("spec"))
	if len(wrong) > 0 {
		return located{}, wrong.ToAggregate()
	}
	image, err := resolveImage(c.release.Spec.Images, *template.Spec, shape)
	if err != nil {
		return located{}, err
	}
	node := located{resolved: resolved{name: template.Name, spec: *template.Spec, shape: shape, image: image}}
	if node.flavor, err = c.site.flavor(template.Spec.Flavor); err != nil {
		return located{}, err
	}
	if err := c.site.checkGPUs(node.flavor, template.Spec.GPU); err != nil {
		return located{}, err
	}
	node.imageName, err = c.site.image(image.Image)
	return node, err
}

func (c *compiler) pool(node located) clusterv1.MachineDeploymentClass {
	pool := clusterv1.MachineDeploymentClass{
		Class:    node.name,
		Metadata: c.machineMetadata(node),
		Bootstrap: clusterv1.MachineDeploymentClassBootstrapTemplate{TemplateRef: c.add("node-"+node.name, &bootstrapv1.KubeadmConfigTemplate{
			Spec: bootstrapv1.KubeadmConfigTemplateSpec{Template: bootstrapv1.KubeadmConfigTemplateResource{Spec: bootstrapv1.KubeadmConfigSpec{
				JoinConfiguration: bootstrapv1.JoinConfiguration{NodeRegistration: nodeRegistration(node, nil)},
			}}},
		})},
		Infrastructure: clusterv1.MachineDeploymentClassInfrastructureTemplate{TemplateRef: c.machineTemplate(node)},
	}
	maps.Copy(pool.Metadata.Annotations, autoscalerAnnotations(node))
	if len(node.shape.Devices) > 0 {
		pool.ReadinessGates = devicesGate()
	}
	return pool
}

// devicesGate lets a machine count as available only once its devices are there.
func devicesGate() []clusterv1.MachineReadinessGate {
	return []clusterv1.MachineReadinessGate{{ConditionType: fleetv1.DevicesReadyCondition}}
}

// machineMetadata tells the other capabilities what a machine of the template means.
func (c *compiler) machineMetadata(node located) clusterv1.ObjectMeta {
	annotations := chargeOf(node.shape.Charge, node.flavor)
	if len(node.shape.Devices) > 0 {
		annotations[fleetv1.DevicesAnnotation] = devicesText(node.shape.Devices)
	}
	if driver := promisedDriver(node); driver != "" {
		annotations[fleetv1.DriverVersionAnnotation] = driver
	}
	if node.spec.BurnIn.ConditionType != "" {
		annotations[fleetv1.BurnInAnnotation] = fmt.Sprintf("%s=%d", node.spec.BurnIn.ConditionType, cmp.Or(node.spec.BurnIn.TimeoutSeconds, defaultBurnInSeconds))
	}
	return clusterv1.ObjectMeta{Labels: map[string]string{fleetv1.NodeTemplateLabel: node.name}, Annotations: annotations}
}

// promisedDriver is the version that nodes have to say they run. AMD's node labeller tells it only where it is asked to, and never of
// the kernel's own amdgpu, so it is promised only by a template that pins it.
func promisedDriver(node located) string {
	gpu := node.spec.GPU
	if gpu == nil || gpu.Vendor == fleetv1.GPUVendorAMD && gpu.Driver == (fleetv1.GPUDriver{}) {
		return ""
	}
	return node.image.Driver.Version
}

// defaultBurnInSeconds is the API's default, for specs that have not been through the API server.
const defaultBurnInSeconds = 1800

func chargeOf(charge fleetv1.NodeCharge, flavor fleetv1.SiteFlavor) map[string]string {
	charge.VCPUs, charge.MemoryMiB = int64(flavor.VCPUs), int64(flavor.MemoryMiB)
	return map[string]string{fleetv1.NodeChargeAnnotation: compactJSON(charge)}
}

func devicesText(devices []fleetv1.Device) string {
	parts := make([]string, 0, len(devices))
	for _, device := range devices {
		parts = append(parts, fmt.Sprintf("%s=%d", device.ResourceName, device.Count))
	}
	return strings.Join(parts, ",")
}

func (c *compiler) machineTemplate(node located) clusterv1.ClusterClassTemplateReference {
	spec := infrav1.SendanMachineSpec{
		Flavor: node.flavor.Name, Image: infrav1.ResourceReference{Name: node.imageName}, RootVolume: rootVolume(node.spec.RootDisk), Ports: ports(node.spec.Network),
		ServerGroupPolicy: infrav1.ServerGroupPolicy(node.spec.ServerGroupPolicy),
	}
	for _, device := range node.shape.Devices {
		spec.Devices = append(spec.Devices, infrav1.Device{ResourceName: device.ResourceName, Count: device.Count})
	}
	return c.addMachineTemplate("node-"+node.name, spec)
}

func (c *compiler) addMachineTemplate(name string, spec infrav1.SendanMachineSpec) clusterv1.ClusterClassTemplateReference {
	return c.add(name, &infrav1.SendanMachineTemplate{
		Spec: infrav1.SendanMachineTemplateSpec{Template: infrav1.SendanMachineTemplateResource{Spec: spec}},
	})
}

func rootVolume(disk fleetv1.RootDisk) *infrav1.RootVolume {
	if disk.SizeGiB == 0 {
		return nil
	}
	return &infrav1.RootVolume{SizeGiB: disk.SizeGiB, Type: disk.Type}
}

// ports are none where the one on the cluster's network is all, which is what the provider makes without being asked.
func ports(network fleetv1.NodeNetwork) []infrav1.Port {
	if len(network.SRIOV) == 0 {
		return nil
	}
	all := []infrav1.Port{{}}
	for _, wanted := range network.SRIOV {
		port := infrav1.Port{Network: infrav1.ResourceReference{Name: wanted.Network}, VNICType: "direct", PortSecurityDisabled: ptr.To(true)}
		if ptr.Deref(wanted.Physical, false) {
			port.VNICType = "direct-physical"
		}
		if ptr.Deref(wanted.Trusted, false) {
			port.Profile = &apiextensionsv1.JSON{Raw: []byte(`{"trusted":"true"}`)}
		}
		all = append(all, port)
	}
	return all
}

// controlPlane is the class of control-plane machines of their own.
func (c *compiler) controlPlane() (clusterv1.ControlPlaneClass, error) {
	wanted := c.release.Spec.ControlPlane
	chosen, err := chooseImage(c.release.Spec.Images, wanted.ImageFamily, "", fleetv1.GPUDriver{})
	if err != nil {
		return clusterv1.ControlPlaneClass{}, err
	}
	flavor, err := c.site.flavor(wanted.Flavor)
	if err != nil {
		return clusterv1.ControlPlaneClass{}, err
	}
	image, err := c.site.image(chosen.Image)
	if err != nil {
		return clusterv1.ControlPlaneClass{}, err
	}
	registration := bootstrapv1.NodeRegistrationOptions{Name: localHostname, KubeletExtraArgs: []bootstrapv1.Arg{providerID()}}
	class := c.controlPlaneClass("control-plane", registration, bootstrapv1.KubeadmConfigSpec{})
	class.Metadata.Annotations = chargeOf(fleetv1.NodeCharge{}, flavor)
	class.MachineInfrastructure.TemplateRef = c.addMachineTemplate("control-plane", infrav1.SendanMachineSpec{
		Flavor: flavor.Name, Image: infrav1.ResourceReference{Name: image}, RootVolume: rootVolume(wanted.RootDisk),
	})
	return class, nil
}

func (c *compiler) controlPlaneClass(name string, registration bootstrapv1.NodeRegistrationOptions, config bootstrapv1.KubeadmConfigSpec) clusterv1.ControlPlaneClass {
	config.InitConfiguration.NodeRegistration, config.JoinConfiguration.NodeRegistration = registration, registration
	return clusterv1.ControlPlaneClass{TemplateRef: c.add(name, &controlplanev1.KubeadmControlPlaneTemplate{
		Spec: controlplanev1.KubeadmControlPlaneTemplateSpec{Template: controlplanev1.KubeadmControlPlaneTemplateResource{
			Spec: controlplanev1.KubeadmControlPlaneTemplateResourceSpec{KubeadmConfigSpec: config},
		}},
	})}
}

// infrastructure is the network and the endpoint of clusters in the site.
func (c *compiler) infrastructure(endpoint infrav1.Endpoint) clusterv1.ClusterClassTemplateReference {
	site := c.site.Spec
	spec := infrav1.SendanClusterSpec{
		IdentityRef: infrav1.IdentityReference{
			Kind: infrav1.IdentityClusterIdentity, Name: site.IdentityRef.Name, CloudName: site.IdentityRef.CloudName, Region: site.IdentityRef.Region,
		},
		Network: infrav1.ClusterNetwork{Managed: &infrav1.ManagedNetwork{
			CIDRs: []string{c.site.networkCIDR()}, DNSNameservers: site.DNSNameservers,
			ExternalNetwork: infrav1.ResourceReference{Name: site.ExternalNetwork},
		}},
		Endpoint: endpoint,
	}
	for _, zone := range site.FailureDomains {
		spec.FailureDomains = append(spec.FailureDomains, infrav1.FailureDomain{Name: zone})
	}
	return c.add("cluster", &infrav1.SendanClusterTemplate{
		Spec: infrav1.SendanClusterTemplateSpec{Template: infrav1.SendanClusterTemplateResource{Spec: spec}},
	})
}

// class has everything but its name, which is a hash of it.
func (c *compiler) class(singleNode string, controlPlane clusterv1.ControlPlaneClass, infrastructure clusterv1.ClusterClassTemplateReference) *clusterv1.ClusterClass {
	class := &clusterv1.ClusterClass{}
	class.Labels = map[string]string{fleetv1.ReleaseLabel: c.release.Name, fleetv1.SiteLabel: c.site.Name}
	if singleNode != "" {
		class.Labels[fleetv1.SingleNodeLabel] = singleNode
	}
	class.Spec.Infrastructure.TemplateRef = infrastructure
	class.Spec.ControlPlane = controlPlane
	if singleNode == "" {
		class.Spec.Variables, class.Spec.Patches = allowedCIDRsVariable(), allowedCIDRsPatch()
	}
	return class
}

// addClass names a class by its content, and gives it templates of its own. Cluster API makes a class an owner of all its
// templates, and `clusterctl move` fails on a template with an owner in a namespace that it does not move.
func (c *compiler) addClass(class *clusterv1.ClusterClass) {
	prefix := strings.TrimSuffix(c.release.Name+"-"+c.site.Name+"-"+class.Labels[fleetv1.SingleNodeLabel], "-")
	class.TypeMeta = metav1.TypeMeta{APIVersion: clusterv1.GroupVersion.String(), Kind: "ClusterClass"}
	class.Namespace, class.Name = c.namespace, prefix+"-"+hash(class.Spec)
	c.out.Classes = append(c.out.Classes, class)
	own := map[string]bool{}
	for _, ref := range templateRefs(class) {
		template := c.templates[ref.Kind+"/"+ref.Name].DeepCopyObject().(client.Object) //nolint:forcetypeassert // a copy of one
		ref.Name += "-" + hash(class.Name)
		template.SetName(ref.Name)
		if key := ref.Kind + "/" + ref.Name; !own[key] {
			own[key] = true
			c.out.Templates = append(c.out.Templates, template)
		}
	}
}

// templateRefs are all that a class has.
func templateRefs(class *clusterv1.ClusterClass) []*clusterv1.ClusterClassTemplateReference {
	spec := &class.Spec
	refs := []*clusterv1.ClusterClassTemplateReference{
		&spec.Infrastructure.TemplateRef, &spec.ControlPlane.TemplateRef, &spec.ControlPlane.MachineInfrastructure.TemplateRef,
	}
	for i := range spec.Workers.MachineDeployments {
		pool := &spec.Workers.MachineDeployments[i]
		refs = append(refs, &pool.Bootstrap.TemplateRef, &pool.Infrastructure.TemplateRef)
	}
	return refs
}

// contentOf is the part of a template's name that is the same in every class that has an equal one.
func contentOf(ref clusterv1.ClusterClassTemplateReference) string {
	return ref.Kind + "/" + ref.Name[:strings.LastIndex(ref.Name, "-")]
}

// add gives a template a name by its content and keeps it, once.
func (c *compiler) add(prefix string, object client.Object) clusterv1.ClusterClassTemplateReference {
	kind := kindOf(object)
	object.GetObjectKind().SetGroupVersionKind(kind)
	object.SetNamespace(c.namespace)
	object.SetName(prefix + "-" + hash(object))
	c.templates[kind.Kind+"/"+object.GetName()] = object
	return clusterv1.ClusterClassTemplateReference{APIVersion: kind.GroupVersion().String(), Kind: kind.Kind, Name: object.GetName()}
}

func kindOf(object client.Object) schema.GroupVersionKind {
	switch object.(type) {
	case *infrav1.SendanClusterTemplate:
		return infrav1.GroupVersion.WithKind("SendanClusterTemplate")
	case *infrav1.SendanMachineTemplate:
		return infrav1.GroupVersion.WithKind("SendanMachineTemplate")
	case *bootstrapv1.KubeadmConfigTemplate:
		return bootstrapv1.GroupVersion.WithKind("KubeadmConfigTemplate")
	}
	return controlplanev1.GroupVersion.WithKind("KubeadmControlPlaneTemplate")
}

// hash is short, and long enough: a thousand templates of one name share one by a chance of one in ten million million.
func hash(content any) string {
	sum := sha256.Sum256([]byte(compactJSON(content)))
	return hex.EncodeToString(sum[:])[:12]
}

// compactJSON is the same for equal values: maps are sorted.
func compactJSON(value any) string {
	text, err := json.Marshal(value)
	if err != nil {
		panic(fmt.Sprintf("%T has no JSON: %v", value, err)) // only types of the API come here
	}
	return string(text)
}
