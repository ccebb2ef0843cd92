package memory

import (
	"cmp"
	"fmt"
	"net"
	"net/netip"
	"strconv"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"

	"github.com/sendan-io/sendan/cmd/openstack-simulator/kubeadm"
	"github.com/sendan-io/sendan/cmd/openstack-simulator/memory/kubeapi"
)

const (
	kubeadmConfigMap        = "kubeadm-config"
	clusterConfigurationKey = "ClusterConfiguration"
	// unnamedRepository stands in image names where the cluster's configuration names no repository: nothing is pulled.
	unnamedRepository = "kubernetes"
	defaultDNSTag     = "v1.12.4"
	defaultServices   = "10.96.0.0/12"
)

func etcdPodName(nodeName string) string { return "etcd-" + nodeName }

func apiServerPodName(nodeName string) string { return "kube-apiserver-" + nodeName }

// addKubeadmObjects writes what kubeadm init leaves in a cluster and what every cluster has, as far as others read it.
func (c *cluster) addKubeadmObjects(founder *machine) error {
	var objects []runtime.Object
	for _, name := range []string{metav1.NamespaceDefault, "kube-node-lease", metav1.NamespacePublic, metav1.NamespaceSystem} {
		objects = append(objects, &corev1.Namespace{
			ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{corev1.LabelMetadataName: name}},
			Status:     corev1.NamespaceStatus{Phase: corev1.NamespaceActive},
		})
	}
	objects = append(objects, c.configMaps()...)
	objects = append(objects, getNodesRole()...)
	objects = append(objects, c.services()...)
	objects = append(objects, c.kubeProxy(founder.version), c.coreDNS())
	for _, object := range objects {
		if err := c.api.Create(object); err != nil {
			return fmt.Errorf("create %T: %w", object, err)
		}
	}
	return nil
}

func systemMeta(name string, labels map[string]string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: metav1.NamespaceSystem, Name: name, Labels: labels}
}

func (c *cluster) configMaps() []runtime.Object {
	return []runtime.Object{
		&corev1.ConfigMap{ObjectMeta: systemMeta(kubeadmConfigMap, nil), Data: map[string]string{clusterConfigurationKey: c.kubeadm.ClusterYAML}},
		&corev1.ConfigMap{ObjectMeta: systemMeta("kubelet-config", nil), Data: map[string]string{
			"kubelet": "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n",
		}},
		&corev1.ConfigMap{ObjectMeta: systemMeta("coredns", nil), Data: map[string]string{"Corefile": ".:53 {\n    errors\n    ready\n}\n"}},
		&corev1.ConfigMap{
			ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespaceSystem, Name: "kube-root-ca.crt"},
			Data:       map[string]string{"ca.crt": c.kubeadm.clusterCA.pem},
		},
	}
}

// getNodesRole lets bootstrap tokens read nodes; the kubeadm control-plane provider looks for it.
func getNodesRole() []runtime.Object {
	const name = "kubeadm:get-nodes"
	return []runtime.Object{
		&rbacv1.ClusterRole{
			ObjectMeta: metav1.ObjectMeta{Name: name},
			Rules:      []rbacv1.PolicyRule{{Verbs: []string{"get"}, APIGroups: []string{""}, Resources: []string{"nodes"}}},
		},
		&rbacv1.ClusterRoleBinding{
			ObjectMeta: metav1.ObjectMeta{Name: name},
			RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: name},
			Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.GroupKind, Name: "system:bootstrappers:kubeadm:default-node-token"}},
		},
	}
}

func (c *cluster) services() []runtime.Object {
	subnet := c.kubeadm.Cluster.Networking.ServiceSubnet
	dnsLabels := map[string]string{"k8s-app": "kube-dns", "kubernetes.io/name": "CoreDNS"}
	return []runtime.Object{
		&corev1.Service{
			ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespaceDefault, Name: "kubernetes", Labels: map[string]string{"component": "apiserver", "provider": "kubernetes"}},
			Spec: corev1.ServiceSpec{
				Type: corev1.ServiceTypeClusterIP, ClusterIP: serviceAddress(subnet, 1),
				Ports: []corev1.ServicePort{{Name: "https", Protocol: corev1.ProtocolTCP, Port: 443, TargetPort: intstr.FromInt32(kubeadm.DefaultAPIPort)}},
			},
		},
		&corev1.Service{
			ObjectMeta: systemMeta("kube-dns", dnsLabels),
			Spec: corev1.ServiceSpec{
				Type: corev1.ServiceTypeClusterIP, ClusterIP: serviceAddress(subnet, 10), Selector: map[string]string{"k8s-app": "kube-dns"},
				Ports: []corev1.ServicePort{{Name: "dns", Protocol: corev1.ProtocolUDP, Port: 53, TargetPort: intstr.FromInt32(53)}},
			},
		},
	}
}

// serviceAddress is the nth address of the (first) service subnet.
func serviceAddress(subnets string, n int) string {
	prefix, err := netip.ParsePrefix(firstOf(cmp.Or(subnets, defaultServices)))
	if err != nil {
		return ""
	}
	address := prefix.Masked().Addr()
	for range n {
		address = address.Next()
	}
	return address.String()
}

func firstOf(list string) string {
	for i, r := range list {
		if r == ',' {
			return list[:i]
		}
	}
	return list
}

func (c *cluster) image(name, tag string) string {
	return cmp.Or(c.kubeadm.Cluster.ImageRepository, unnamedRepository) + "/" + name + ":" + tag
}

func (c *cluster) kubeProxy(version string) *appsv1.DaemonSet {
	labels := map[string]string{"k8s-app": "kube-proxy"}
	return &appsv1.DaemonSet{
		ObjectMeta: systemMeta("kube-proxy", labels),
		Spec: appsv1.DaemonSetSpec{
			Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: podTemplate(labels, "kube-proxy", c.image("kube-proxy", version)),
		},
	}
}

func (c *cluster) coreDNS() *appsv1.Deployment {
	labels := map[string]string{"k8s-app": "kube-dns"}
	dns := c.kubeadm.Cluster.DNS
	image := c.image("coredns/coredns", cmp.Or(dns.ImageTag, defaultDNSTag))
	if dns.ImageRepository != "" {
		image = dns.ImageRepository + "/coredns:" + cmp.Or(dns.ImageTag, defaultDNSTag)
	}
	deployment := &appsv1.Deployment{
		ObjectMeta: systemMeta("coredns", labels),
		Spec: appsv1.DeploymentSpec{
			Replicas: ptr.To[int32](2),
			Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: podTemplate(labels, "coredns", image),
		},
		Status: appsv1.DeploymentStatus{ObservedGeneration: 1, Replicas: 2, UpdatedReplicas: 2, ReadyReplicas: 2, AvailableReplicas: 2},
	}
	deployment.Spec.Template.Spec.Volumes = []corev1.Volume{{
		Name: "config-volume",
		VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{
			LocalObjectReference: corev1.LocalObjectReference{Name: "coredns"},
			Items:                []corev1.KeyToPath{{Key: "Corefile", Path: "Corefile"}},
		}},
	}}
	return deployment
}

func podTemplate(labels map[string]string, name, image string) corev1.PodTemplateSpec {
	return corev1.PodTemplateSpec{
		ObjectMeta: metav1.ObjectMeta{Labels: labels},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: name, Image: image}}},
	}
}

// staticPods are the components of a control-plane machine, in the order kubeadm starts them.
func staticPods() []string {
	return []string{"etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"}
}

// addStaticPods writes the mirror pods of a machine's control plane.
func (c *cluster) addStaticPods(m *machine) error {
	for _, component := range staticPods() {
		if err := c.api.Put(c.staticPod(m, component)); err != nil {
			return fmt.Errorf("create pod %s: %w", component, err)
		}
	}
	return nil
}

func (c *cluster) staticPod(m *machine, component string) *corev1.Pod {
	now := metav1.NewTime(c.backend.Clock.Now())
	tag := m.version
	if component == "etcd" {
		tag = etcdVersion + "-0"
	}
	pod := &corev1.Pod{
		ObjectMeta: systemMeta(component+"-"+m.nodeName, map[string]string{"component": component, "tier": "control-plane"}),
		Spec: corev1.PodSpec{
			NodeName: m.nodeName, HostNetwork: true, PriorityClassName: "system-node-critical",
			Containers: []corev1.Container{{Name: component, Image: c.image(component, tag)}},
		},
		Status: corev1.PodStatus{
			Phase: corev1.PodRunning, HostIP: m.firstAddress(), PodIP: m.firstAddress(), StartTime: &now, QOSClass: corev1.PodQOSBurstable,
			ContainerStatuses: []corev1.ContainerStatus{{
				Name: component, Image: c.image(component, tag), Ready: true, Started: ptr.To(true),
				State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: now}},
			}},
		},
	}
	for _, kind := range []corev1.PodConditionType{corev1.PodInitialized, corev1.PodReady, corev1.ContainersReady, corev1.PodScheduled} {
		pod.Status.Conditions = append(pod.Status.Conditions, corev1.PodCondition{Type: kind, Status: corev1.ConditionTrue, LastTransitionTime: now})
	}
	pod.Annotations = staticPodAnnotations(m, component)
	return pod
}

func staticPodAnnotations(m *machine, component string) map[string]string {
	annotations := map[string]string{corev1.MirrorPodAnnotationKey: m.spec.ServerID, "kubernetes.io/config.source": "file"}
	switch component {
	case "etcd":
		annotations["kubeadm.kubernetes.io/etcd.advertise-client-urls"] = "https://" + net.JoinHostPort(m.firstAddress(), strconv.Itoa(etcdPort))
	case "kube-apiserver":
		endpoint := m.kubeadm.APIEndpoint()
		annotations["kubeadm.kubernetes.io/kube-apiserver.advertise-address.endpoint"] =
			net.JoinHostPort(cmp.Or(endpoint.AdvertiseAddress, m.firstAddress()), strconv.Itoa(endpoint.BindPort))
	}
	return annotations
}

// setStaticPodsReady follows the machine's node. Pods that are gone with a deleted Node come back, as the kubelet
// mirrors its static pods again.
func (c *cluster) setStaticPodsReady(m *machine) error {
	for _, component := range staticPods() {
		err := c.modifyStaticPod(component, m.nodeName, true)
		if apierrors.IsNotFound(err) {
			err = c.api.Put(c.staticPod(m, component))
		}
		if err != nil {
			return fmt.Errorf("update pod %s of %s: %w", component, m.nodeName, err)
		}
	}
	return nil
}

// setStaticPodsUnready follows a node that fell silent.
func (c *cluster) setStaticPodsUnready(nodeName string) error {
	for _, component := range staticPods() {
		if err := c.modifyStaticPod(component, nodeName, false); err != nil && !apierrors.IsNotFound(err) {
			return fmt.Errorf("update pod %s of %s: %w", component, nodeName, err)
		}
	}
	return nil
}

func (c *cluster) modifyStaticPod(component, nodeName string, ready bool) error {
	return kubeapi.Modify(c.api, metav1.NamespaceSystem, component+"-"+nodeName, func(pod *corev1.Pod) {
		setPodReady(pod, ready)
	})
}

func setPodReady(pod *corev1.Pod, ready bool) {
	status := corev1.ConditionFalse
	if ready {
		status = corev1.ConditionTrue
	}
	for i := range pod.Status.Conditions {
		if condition := &pod.Status.Conditions[i]; condition.Type == corev1.PodReady {
			condition.Status = status
		}
	}
}
