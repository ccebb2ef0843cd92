package cloud

import (
	"net/http"
	"testing"

	"github.com/jonboulle/clockwork"
)

// A marker that leads back to an earlier page has been seen where ids were not unique.
func TestPagesThatGoRoundInACircleEnd(t *testing.T) {
	fake := newLoginCloud(t, clockwork.NewFakeClock())
	next := map[string]string{"": "a", "a": "b", "b": "a"}
	pages := 0
	fake.answer("GET /network/v2.0/ports", func(w http.ResponseWriter, r *http.Request) {
		if pages++; pages > 10 {
			t.Error("more than 10 pages were asked for")
			writeJSON(w, http.StatusOK, map[string]any{"ports": []any{}})
			return
		}
		writeJSON(w, http.StatusOK, map[string]any{
			"ports":       []any{map[string]any{"id": next[r.URL.Query().Get("marker")]}},
			"ports_links": []any{map[string]any{"rel": "next", "href": "http://internal.example"}},
		})
	})
	visit := func([]wireOwned) {}
	err := listPages(t.Context(), fake.session(), collection{service: networkService, path: "ports", key: "ports", query: map[string][]string{}}, visit)
	wantClass(t, err, Transient, "again and again")
}
