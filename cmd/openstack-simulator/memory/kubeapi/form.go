package kubeapi

import (
	"encoding/json"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// form is how a client wants objects: whole, only their metadata, or as rows of a table.
type form int

const (
	asObject form = iota
	asMetadata
	asTable
)

// negotiate picks the first form in an Accept header that this server knows.
func negotiate(accept string) form {
	for offer := range strings.SplitSeq(accept, ",") {
		if !strings.Contains(offer, "application/json") && !strings.Contains(offer, "*/*") {
			continue
		}
		switch {
		case strings.Contains(offer, "as=Table"):
			return asTable
		case strings.Contains(offer, "as=PartialObjectMetadata"):
			return asMetadata
		}
		return asObject
	}
	return asObject
}

func (f form) render(r *record) ([]byte, error) {
	if f != asMetadata {
		return r.data, nil
	}
	partial := struct {
		metav1.TypeMeta `json:",inline"`
		Metadata        any `json:"metadata"`
	}{
		TypeMeta: metav1.TypeMeta{Kind: "PartialObjectMetadata", APIVersion: metav1.SchemeGroupVersion.String()},
		Metadata: r.decode().Object["metadata"],
	}
	return json.Marshal(partial)
}
