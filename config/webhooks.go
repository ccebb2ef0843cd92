package config

import (
	"bytes"
	"embed"
	"fmt"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	"k8s.io/apimachinery/pkg/util/yaml"
)

//go:embed fleet/webhook/manifests.yaml fleet/webhook/match_conditions.yaml
var fleetWebhooks embed.FS

// Webhooks are the two configurations of a manager.
type Webhooks struct {
	Mutating   admissionregistrationv1.MutatingWebhookConfiguration
	Validating admissionregistrationv1.ValidatingWebhookConfiguration
}

// FleetWebhooks are those of the fleet manager as its package has them: generated from the source, with the conditions under which
// the API server asks them, which the source cannot say. Where they are served is for the caller to fill in.
func FleetWebhooks() (Webhooks, error) {
	webhooks, err := readWebhooks("fleet/webhook/manifests.yaml")
	if err != nil {
		return Webhooks{}, err
	}
	conditions, err := readWebhooks("fleet/webhook/match_conditions.yaml")
	if err != nil {
		return Webhooks{}, err
	}
	err = webhooks.take(conditions)
	return webhooks, err
}

func readWebhooks(file string) (Webhooks, error) {
	text, err := fleetWebhooks.ReadFile(file)
	if err != nil {
		return Webhooks{}, err
	}
	var read Webhooks
	decoder := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(text), 4096)
	for _, into := range []any{&read.Mutating, &read.Validating} {
		if err := decoder.Decode(into); err != nil {
			return Webhooks{}, fmt.Errorf("read %s: %w", file, err)
		}
	}
	return read, nil
}

// take adds the conditions of others to the webhooks of the same names.
func (w *Webhooks) take(others Webhooks) error {
	conditions := map[string][]admissionregistrationv1.MatchCondition{}
	for _, other := range others.Mutating.Webhooks {
		conditions[other.Name] = other.MatchConditions
	}
	for _, other := range others.Validating.Webhooks {
		conditions[other.Name] = other.MatchConditions
	}
	for i := range w.Mutating.Webhooks {
		webhook := &w.Mutating.Webhooks[i]
		webhook.MatchConditions = conditions[webhook.Name]
		delete(conditions, webhook.Name)
	}
	for i := range w.Validating.Webhooks {
		webhook := &w.Validating.Webhooks[i]
		webhook.MatchConditions = conditions[webhook.Name]
		delete(conditions, webhook.Name)
	}
	for name := range conditions {
		return fmt.Errorf("there are conditions for %s, which is not a webhook", name)
	}
	return nil
}
