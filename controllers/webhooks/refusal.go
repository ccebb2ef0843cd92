package webhooks

import (
	"encoding/json"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"sigs.k8s.io/controller-runtime/pkg/client"

	infrav1 "github.com/sendan-io/sendan/api/infrastructure/v1alpha1"
)

// refuse turns what is wrong with an object into the one error a user sees; nil when nothing is.
func refuse(kind string, object client.Object, wrong field.ErrorList) error {
	if len(wrong) == 0 {
		return nil
	}
	return apierrors.NewInvalid(infrav1.GroupVersion.WithKind(kind).GroupKind(), object.GetName(), wrong)
}

// compact is a value as one line of JSON, for a message.
func compact(value any) string {
	text, err := json.Marshal(value)
	if err != nil {
		return "unreadable"
	}
	return string(text)
}
