package kubeapi

import (
	"fmt"
	"net/url"
	"strconv"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
)

// filter is what a list, a watch or a deletion of many asks for.
type filter struct {
	namespace string
	labels    labels.Selector
	fields    fields.Selector
}

func everything() filter { return filter{labels: labels.Everything(), fields: fields.Everything()} }

func parseFilter(namespace, name string, query url.Values) (filter, error) {
	f := everything()
	f.namespace = namespace
	var err error
	if f.labels, err = labels.Parse(query.Get("labelSelector")); err != nil {
		return f, apierrors.NewBadRequest(fmt.Sprintf("labelSelector: %v", err))
	}
	if f.fields, err = fields.ParseSelector(query.Get("fieldSelector")); err != nil {
		return f, apierrors.NewBadRequest(fmt.Sprintf("fieldSelector: %v", err))
	}
	if name != "" {
		f.fields = fields.AndSelectors(f.fields, fields.OneTermEqualSelector("metadata.name", name))
	}
	return f, nil
}

func (f filter) accepts(r *record) bool {
	if r == nil || f.namespace != "" && f.namespace != r.key.namespace || !f.labels.Matches(r.labels) {
		return false
	}
	return f.fields.Empty() || f.fields.Matches(fieldsOf{r})
}

// fieldsOf looks fields up by their path in the object. A real API server knows a few of them for each type; here all
// scalar fields can be asked for.
type fieldsOf struct{ *record }

func (o fieldsOf) Has(string) bool { return true }

func (o fieldsOf) Get(path string) string {
	switch path {
	case "metadata.name":
		return o.key.name
	case "metadata.namespace":
		return o.key.namespace
	}
	value, found, err := unstructured.NestedFieldNoCopy(o.decode().Object, strings.Split(path, ".")...)
	switch value := value.(type) {
	case string:
		return value
	case bool:
		return strconv.FormatBool(value)
	case int64:
		return strconv.FormatInt(value, 10)
	}
	// An unset boolean of a node is false, which is how kubectl drain and friends ask.
	if (!found || err != nil) && path == "spec.unschedulable" {
		return "false"
	}
	return ""
}
