package simulator

import (
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"
)

// fields is a JSON object under construction.
type fields = map[string]any

// maxPage is the page size the services allow at most (Nova's osapi max_limit).
const maxPage = 1000

// stamp writes a time as all services but Cinder and Keystone do.
func stamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05Z") }

// stampMicros writes a time as Cinder and Nova's faults of old do: microseconds, no zone.
func stampMicros(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000000") }

// parseStamp reads the forms of ISO 8601 that clients send.
func parseStamp(text string) (time.Time, bool) {
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05.999999", "2006-01-02T15:04:05", "2006-01-02 15:04:05", "2006-01-02"} {
		if t, err := time.Parse(layout, text); err == nil {
			return t, true
		}
	}
	return time.Time{}, false
}

// page cuts the part of a list that the query's limit and marker ask for. items are in their final
// order; next is the URL of the following page, empty on the last one. defaultLimit 0 means that a
// request without a limit gets everything, as Neutron does.
func page[T any](c *call, items []T, defaultLimit int, idOf func(T) string) (cut []T, next string, err error) {
	query := c.r.URL.Query()
	limit := defaultLimit
	if text := query.Get("limit"); text != "" {
		asked, err := strconv.Atoi(text)
		if err != nil || asked < 0 {
			return nil, "", problemf(http.StatusBadRequest, "Invalid input for query parameters limit. Value: %s.", text)
		}
		if asked > 0 && (defaultLimit == 0 || asked < defaultLimit) {
			limit = asked
		}
	}
	if marker := query.Get("marker"); marker != "" {
		at := slices.IndexFunc(items, func(item T) bool { return idOf(item) == marker })
		if at < 0 {
			return nil, "", problemf(http.StatusBadRequest, "marker [%s] not found", marker)
		}
		items = items[at+1:]
	}
	if limit <= 0 || len(items) <= limit {
		return items, "", nil
	}
	query.Set("marker", idOf(items[limit-1]))
	return items[:limit], selfURL(c, query), nil
}

// selfURL is the request's own URL with another query.
func selfURL(c *call, query url.Values) string {
	return origin(c.r) + c.r.URL.Path + "?" + query.Encode()
}

// nextLinks is the value of a "<collection>_links" field.
func nextLinks(next string) []fields {
	return []fields{{"rel": "next", "href": next}}
}

// pageReply answers a list the way Nova, Neutron, Octavia and Cinder share: the collection and,
// when there is more, "<collection>_links".
func pageReply(collection string, views any, next string) reply {
	body := fields{collection: views}
	if next != "" {
		body[collection+"_links"] = nextLinks(next)
	}
	return reply{status: http.StatusOK, body: body}
}
