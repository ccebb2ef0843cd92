package webhooks

import (
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/util/validation/field"
)

// expectRefusals checks that each refusal contains the text wanted at its place, and that there are
// no others.
func expectRefusals(t *testing.T, got field.ErrorList, want ...string) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("got %d refusals, want %d:\n%v", len(got), len(want), got)
	}
	for i, refusal := range got {
		if !strings.Contains(refusal.Error(), want[i]) {
			t.Errorf("refusal %d:\n got %s\nwant …%s…", i, refusal.Error(), want[i])
		}
	}
}
