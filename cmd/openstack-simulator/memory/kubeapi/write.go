package kubeapi

import (
	"errors"
	"fmt"
	"net/http"
	"strings"

	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/rand"
	"k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/yaml"
)

// decodeObject reads an object in any encoding clients use. A built-in type goes through its Go type, which drops what
// it does not know, as a real API server does.
func (c *Cluster) decodeObject(req *request, body []byte) (*unstructured.Unstructured, error) {
	gvk := req.resource.gvk()
	obj := &unstructured.Unstructured{}
	if scheme.Scheme.Recognizes(gvk) {
		typed, _, err := scheme.Codecs.UniversalDeserializer().Decode(body, &gvk, nil)
		if err != nil {
			return nil, apierrors.NewBadRequest(err.Error())
		}
		obj.Object, err = runtime.DefaultUnstructuredConverter.ToUnstructured(typed)
		if err != nil {
			return nil, apierrors.NewBadRequest(err.Error())
		}
		obj.SetGroupVersionKind(typed.GetObjectKind().GroupVersionKind())
		if obj.GetKind() == "" {
			obj.SetGroupVersionKind(gvk)
		}
	} else if err := yaml.Unmarshal(body, &obj.Object); err != nil {
		return nil, apierrors.NewBadRequest(err.Error())
	}
	return obj, c.checkIdentity(req, obj)
}

// checkIdentity makes sure that an object is what its URL says.
func (c *Cluster) checkIdentity(req *request, obj *unstructured.Unstructured) error {
	if obj.GroupVersionKind() != req.resource.gvk() {
		return apierrors.NewBadRequest(fmt.Sprintf("%s is not the %s that the path names", obj.GroupVersionKind(), req.resource.gvk()))
	}
	if !req.resource.namespaced {
		obj.SetNamespace("")
	} else if namespace := obj.GetNamespace(); namespace != "" && namespace != req.key.namespace {
		return apierrors.NewBadRequest(fmt.Sprintf("the namespace of the object (%s) does not match the request's (%s)", namespace, req.key.namespace))
	} else {
		obj.SetNamespace(req.key.namespace)
	}
	if name := obj.GetName(); req.key.name != "" && name != "" && name != req.key.name {
		return apierrors.NewBadRequest(fmt.Sprintf("the name of the object (%s) does not match the request's (%s)", name, req.key.name))
	}
	return nil
}

func (c *Cluster) create(w http.ResponseWriter, req *request) error {
	body, err := readBody(req)
	if err != nil {
		return err
	}
	obj, err := c.decodeObject(req, body)
	if err != nil {
		return err
	}
	if obj.GetResourceVersion() != "" {
		return apierrors.NewBadRequest("resourceVersion should not be set on objects to be created")
	}
	if obj.GetName() == "" && obj.GetGenerateName() != "" {
		obj.SetName(obj.GetGenerateName() + rand.String(5))
	}
	return c.createAndRespond(w, req, obj)
}

func (c *Cluster) createAndRespond(w http.ResponseWriter, req *request, obj *unstructured.Unstructured) error {
	if obj.GetName() == "" {
		return apierrors.NewInvalid(req.resource.gvk().GroupKind(), "", nil)
	}
	if req.resource.namespaced && obj.GetNamespace() == "" {
		return apierrors.NewBadRequest("an empty namespace may not be set during creation")
	}
	if err := encodeStringData(req.resource, obj); err != nil {
		return err
	}
	created, err := c.store.create(req.resource, obj, req.dryRun())
	if err != nil {
		return err
	}
	return c.respond(w, req, http.StatusCreated, created)
}

// encodeStringData moves the plain text of a Secret to where it is read from.
func encodeStringData(res resource, obj *unstructured.Unstructured) error {
	if res.group != "" || res.plural != "secrets" || obj.Object["stringData"] == nil {
		return nil
	}
	var secret secretText
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(obj.Object, &secret); err != nil {
		return apierrors.NewBadRequest(err.Error())
	}
	if secret.Data == nil {
		secret.Data = map[string][]byte{}
	}
	for name, text := range secret.StringData {
		secret.Data[name] = []byte(text)
	}
	secret.StringData = nil
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(&secret)
	if err != nil {
		return apierrors.NewBadRequest(err.Error())
	}
	delete(obj.Object, "stringData")
	obj.Object["data"] = content["data"]
	return nil
}

type secretText struct {
	Data       map[string][]byte `json:"data,omitempty"`
	StringData map[string]string `json:"stringData,omitempty"`
}

func (c *Cluster) update(w http.ResponseWriter, req *request) error {
	body, err := readBody(req)
	if err != nil {
		return err
	}
	obj, err := c.decodeObject(req, body)
	if err != nil {
		return err
	}
	updated, err := c.store.modify(req.resource, req.key, req.dryRun(), func(live *unstructured.Unstructured) error {
		return replace(req, live, obj)
	})
	if err != nil {
		return err
	}
	return c.respond(w, req, http.StatusOK, updated)
}

// replace puts what a client sent in the place of the live object, as far as the endpoint covers it: the status has
// an endpoint of its own.
func replace(req *request, live, sent *unstructured.Unstructured) error {
	if version := sent.GetResourceVersion(); version != "" && version != live.GetResourceVersion() {
		return apierrors.NewConflict(req.resource.groupResource(), req.key.name,
			errors.New("the object has been modified; please apply your changes to the latest version and try again"))
	}
	if uid := sent.GetUID(); uid != "" && uid != live.GetUID() {
		return apierrors.NewConflict(req.resource.groupResource(), req.key.name,
			fmt.Errorf("precondition failed: UID in precondition: %s, UID in object meta: %s", uid, live.GetUID()))
	}
	if err := encodeStringData(req.resource, sent); err != nil {
		return err
	}
	status, hadStatus := live.Object["status"]
	switch {
	case req.subresource == "status":
		live.Object["status"] = sent.Object["status"]
		return nil
	case !req.resource.hasStatus:
	case hadStatus:
		sent.Object["status"] = status
	default:
		delete(sent.Object, "status")
	}
	live.Object = sent.Object
	return nil
}

func (c *Cluster) delete(w http.ResponseWriter, req *request) error {
	options, err := deleteOptions(req)
	if err != nil {
		return err
	}
	return c.deleteOne(w, req, req.key, options)
}

func deleteOptions(req *request) (*metav1.DeleteOptions, error) {
	body, err := readBody(req)
	if err != nil {
		return nil, err
	}
	options := &metav1.DeleteOptions{}
	if len(body) == 0 {
		return options, nil
	}
	gvk := schema.GroupVersionKind{Version: "v1", Kind: "DeleteOptions"}
	decoded, _, err := scheme.Codecs.UniversalDeserializer().Decode(body, &gvk, nil)
	if err != nil {
		return nil, apierrors.NewBadRequest(err.Error())
	}
	if given, ok := decoded.(*metav1.DeleteOptions); ok {
		options = given
	}
	return options, nil
}

func (c *Cluster) deleteOne(w http.ResponseWriter, req *request, k key, options *metav1.DeleteOptions) error {
	dryRun := req.dryRun() || len(options.DryRun) > 0
	gone, err := c.store.delete(req.resource, k, dryRun, preconditions(req, options))
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, metav1.Status{
		TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}, Status: metav1.StatusSuccess,
		Details: &metav1.StatusDetails{Name: k.name, Group: req.resource.group, Kind: req.resource.plural, UID: gone.uid},
	})
}

func preconditions(req *request, options *metav1.DeleteOptions) func(*record) error {
	return func(r *record) error {
		if want := options.Preconditions; want != nil && (want.UID != nil && *want.UID != r.uid ||
			want.ResourceVersion != nil && *want.ResourceVersion != fmt.Sprint(r.version)) {
			return apierrors.NewConflict(req.resource.groupResource(), r.key.name, errors.New("a precondition of the deletion is not met"))
		}
		return nil
	}
}

func (c *Cluster) deleteCollection(w http.ResponseWriter, req *request) error {
	options, err := deleteOptions(req)
	if err != nil {
		return err
	}
	match, err := parseFilter(req.key.namespace, "", req.query)
	if err != nil {
		return err
	}
	found, _ := c.store.list(req.resource, match)
	for _, r := range found {
		_, err := c.store.delete(req.resource, r.key, req.dryRun() || len(options.DryRun) > 0, func(*record) error { return nil })
		if err != nil && !apierrors.IsNotFound(err) {
			return err
		}
	}
	return writeJSON(w, http.StatusOK, metav1.Status{TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}, Status: metav1.StatusSuccess})
}

// evict deletes a pod unless a PodDisruptionBudget forbids it. Nothing here computes the status of a budget, so one
// that selects the pod holds it until somebody writes that disruptions are allowed.
func (c *Cluster) evict(w http.ResponseWriter, req *request) error {
	pod, err := c.store.get(req.resource, req.key)
	if err != nil {
		return err
	}
	body, err := readBody(req)
	if err != nil {
		return err
	}
	gvk := policyv1.SchemeGroupVersion.WithKind("Eviction")
	decoded, _, err := scheme.Codecs.UniversalDeserializer().Decode(body, &gvk, nil)
	if err != nil {
		return apierrors.NewBadRequest(err.Error())
	}
	options := &metav1.DeleteOptions{}
	if eviction, ok := decoded.(*policyv1.Eviction); ok && eviction.DeleteOptions != nil {
		options = eviction.DeleteOptions
	}
	if budget, held := c.holdingBudget(pod); held {
		tooMany := apierrors.NewTooManyRequests("Cannot evict pod as it would violate the pod's disruption budget.", 10)
		tooMany.ErrStatus.Details.Causes = append(tooMany.ErrStatus.Details.Causes, metav1.StatusCause{
			Type: policyv1.DisruptionBudgetCause, Message: "The disruption budget " + budget + " allows no disruption now",
		})
		return tooMany
	}
	return c.deleteOne(w, req, req.key, options)
}

func (c *Cluster) holdingBudget(pod *record) (string, bool) {
	match := everything()
	match.namespace = pod.key.namespace
	budgets, _ := c.store.list(resource{group: "policy", plural: "poddisruptionbudgets"}, match)
	for _, r := range budgets {
		budget := &policyv1.PodDisruptionBudget{}
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(r.decode().Object, budget); err != nil {
			continue
		}
		selector, err := metav1.LabelSelectorAsSelector(budget.Spec.Selector)
		if err == nil && selector.Matches(pod.labels) && budget.Status.DisruptionsAllowed < 1 {
			return budget.Name, true
		}
	}
	return "", false
}

// mediaType is a content type without its parameters.
func mediaType(contentType string) types.PatchType {
	main, _, _ := strings.Cut(contentType, ";")
	return types.PatchType(strings.TrimSpace(main))
}
