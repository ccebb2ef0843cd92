// Package refusal turns what is wrong with an object into the one error a user sees.
package refusal

import (
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Invalid is nil when nothing is wrong. Each entry names the field, the value and the fix.
func Invalid(kind schema.GroupKind, object client.Object, wrong field.ErrorList) error {
	if len(wrong) == 0 {
		return nil
	}
	return apierrors.NewInvalid(kind, object.GetName(), wrong)
}
