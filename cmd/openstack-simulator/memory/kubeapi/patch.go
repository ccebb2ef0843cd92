package kubeapi

import (
	"fmt"
	"net/http"

	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/managedfields"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
	"k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/yaml"
)

func (c *Cluster) patch(w http.ResponseWriter, req *request) error {
	body, err := readBody(req)
	if err != nil {
		return err
	}
	kind := mediaType(req.Header.Get("Content-Type"))
	if kind == types.ApplyYAMLPatchType {
		return c.apply(w, req, body)
	}
	patched, err := c.store.modify(req.resource, req.key, req.dryRun(), func(live *unstructured.Unstructured) error {
		sent, err := c.patched(req, kind, live, body)
		if err != nil {
			return err
		}
		return replace(req, live, sent)
	})
	if err != nil {
		return err
	}
	return c.respond(w, req, http.StatusOK, patched)
}

// patched is the live object with a patch applied.
func (c *Cluster) patched(req *request, kind types.PatchType, live *unstructured.Unstructured, patch []byte) (*unstructured.Unstructured, error) {
	before, err := live.MarshalJSON()
	if err != nil {
		return nil, apierrors.NewInternalError(err)
	}
	var after []byte
	switch kind {
	case types.MergePatchType:
		after, err = jsonpatch.MergePatch(before, patch)
	case types.JSONPatchType:
		after, err = applyJSONPatch(before, patch)
	case types.StrategicMergePatchType:
		typed, unknown := scheme.Scheme.New(req.resource.gvk())
		if unknown != nil {
			return nil, unsupportedMediaType(req) // custom resources have no merge strategy
		}
		after, err = strategicpatch.StrategicMergePatch(before, patch, typed)
	default:
		return nil, unsupportedMediaType(req)
	}
	if err != nil {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("apply patch: %v", err))
	}
	return c.decodeObject(req, after)
}

func applyJSONPatch(before, patch []byte) ([]byte, error) {
	decoded, err := jsonpatch.DecodePatch(patch)
	if err != nil {
		return nil, err
	}
	return decoded.Apply(before)
}

// apply is server-side apply. Ownership of fields is known for those who apply: whoever writes in other ways owns
// nothing, so an applier meets a conflict only with another applier.
func (c *Cluster) apply(w http.ResponseWriter, req *request, body []byte) error {
	manager := req.query.Get("fieldManager")
	if manager == "" {
		return apierrors.NewBadRequest("fieldManager is required for apply patch")
	}
	wanted := &unstructured.Unstructured{}
	if err := yaml.Unmarshal(body, &wanted.Object); err != nil {
		return apierrors.NewBadRequest(fmt.Sprintf("decode apply configuration: %v", err))
	}
	if err := c.checkIdentity(req, wanted); err != nil {
		return err
	}
	wanted.SetName(req.key.name)
	applied, err := c.store.modify(req.resource, req.key, req.dryRun(), func(live *unstructured.Unstructured) error {
		merged, err := c.merge(req, live, wanted, manager)
		if err != nil {
			return err
		}
		managed := merged.GetManagedFields()
		if err := replace(req, live, merged); err != nil {
			return err
		}
		live.SetManagedFields(managed)
		return nil
	})
	if !apierrors.IsNotFound(err) || req.subresource != "" {
		if err != nil {
			return err
		}
		return c.respond(w, req, http.StatusOK, applied)
	}
	return c.createByApply(w, req, wanted, manager)
}

func (c *Cluster) createByApply(w http.ResponseWriter, req *request, wanted *unstructured.Unstructured, manager string) error {
	empty := &unstructured.Unstructured{Object: map[string]any{}}
	empty.SetGroupVersionKind(req.resource.gvk())
	merged, err := c.merge(req, empty, wanted, manager)
	if err != nil {
		return err
	}
	return c.createAndRespond(w, req, merged)
}

// merge asks the library that real API servers use what an object becomes.
func (c *Cluster) merge(req *request, live, wanted *unstructured.Unstructured, manager string) (*unstructured.Unstructured, error) {
	fields, err := c.fieldManager(req)
	if err != nil {
		return nil, apierrors.NewInternalError(err)
	}
	force := req.query.Get("force") == "true"
	if len(live.GetManagedFields()) == 0 {
		force = true // see apply: those who never applied own nothing
	}
	before, err := c.liveForMerge(req, live)
	if err != nil {
		return nil, err
	}
	after, err := fields.Apply(before, wanted.DeepCopy(), manager, force)
	if err != nil {
		return nil, err
	}
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(after)
	if err != nil {
		return nil, apierrors.NewInternalError(err)
	}
	merged := &unstructured.Unstructured{Object: content}
	merged.SetGroupVersionKind(req.resource.gvk())
	return merged, nil
}

// liveForMerge is the live object in the type that its field manager works on.
func (c *Cluster) liveForMerge(req *request, live *unstructured.Unstructured) (runtime.Object, error) {
	typed, err := scheme.Scheme.New(req.resource.gvk())
	if err != nil {
		return live.DeepCopy(), nil //nolint:nilerr // a custom resource has no Go type and needs none
	}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(live.Object, typed); err != nil {
		return nil, apierrors.NewInternalError(err)
	}
	typed.GetObjectKind().SetGroupVersionKind(req.resource.gvk())
	return typed, nil
}

func (c *Cluster) fieldManager(req *request) (*managedfields.FieldManager, error) {
	gvk := req.resource.gvk()
	if scheme.Scheme.Recognizes(gvk) {
		return managedfields.NewDefaultFieldManager(c.types.apply(), scheme.Scheme, noDefaults{}, scheme.Scheme,
			gvk, gvk.GroupVersion(), req.subresource, nil)
	}
	return managedfields.NewDefaultCRDFieldManager(managedfields.NewDeducedTypeConverter(), customObjects{}, noDefaults{}, customObjects{},
		gvk, gvk.GroupVersion(), req.subresource, nil)
}

type noDefaults struct{}

func (noDefaults) Default(runtime.Object) {}
