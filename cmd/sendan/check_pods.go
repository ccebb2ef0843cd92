package main

import (
	"context"
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

const (
	// probeImage is part of the node image; its program answers and asks over HTTP.
	probeImage = "sendan/probe:dev"
	probeName  = "probe"
	probePort  = 8080
)

// applyProbes puts a server on every node, a Service before them, and on every node a client that asks the Service by
// its name: that takes DNS, kube-proxy, and pods of different nodes that reach each other.
func (c *checker) applyProbes(ctx context.Context) error {
	api, err := c.tenant.tenantAPI(ctx)
	if err != nil {
		return err
	}
	nodes, err := c.tenant.nodes(ctx)
	if err != nil {
		return err
	}
	objects := []client.Object{probeServers(), probeService()}
	for _, node := range nodes {
		objects = append(objects, probeClient(node.Name))
	}
	for _, object := range objects {
		if err := client.IgnoreAlreadyExists(api.Create(ctx, object)); err != nil {
			return fmt.Errorf("create %T %s: %w", object, object.GetName(), err)
		}
	}
	return nil
}

// probesDone finds a client that has not got an answer.
func (c *checker) probesDone(ctx context.Context) error {
	api, err := c.tenant.tenantAPI(ctx)
	if err != nil {
		return err
	}
	jobs := &batchv1.JobList{}
	if err := api.List(ctx, jobs, client.InNamespace(metav1.NamespaceDefault)); err != nil {
		return fmt.Errorf("list Jobs: %w", err)
	}
	for _, job := range jobs.Items {
		if job.Status.Succeeded == 0 {
			return fmt.Errorf("pod of Job %s has had no answer from the Service", job.Name)
		}
	}
	return nil
}

func probeServers() *appsv1.DaemonSet {
	labels := map[string]string{"app": probeName}
	return &appsv1.DaemonSet{
		ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespaceDefault, Name: probeName},
		Spec: appsv1.DaemonSetSpec{
			Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: probePod("serve")},
		},
	}
}

func probeService() *corev1.Service {
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespaceDefault, Name: probeName},
		Spec: corev1.ServiceSpec{
			Selector: map[string]string{"app": probeName},
			Ports:    []corev1.ServicePort{{Port: 80, TargetPort: intstr.FromInt32(probePort)}},
		},
	}
}

func probeClient(node string) *batchv1.Job {
	pod := probePod("get", "http://"+probeName+"/")
	pod.NodeName, pod.RestartPolicy = node, corev1.RestartPolicyOnFailure
	return &batchv1.Job{
		ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespaceDefault, Name: probeName + "-" + node},
		Spec:       batchv1.JobSpec{Template: corev1.PodTemplateSpec{Spec: pod}},
	}
}

func probePod(args ...string) corev1.PodSpec {
	return corev1.PodSpec{
		Tolerations: []corev1.Toleration{{Operator: corev1.TolerationOpExists}},
		Containers:  []corev1.Container{{Name: probeName, Image: probeImage, ImagePullPolicy: corev1.PullNever, Args: args}},
	}
}
