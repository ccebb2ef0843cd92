package simulator

import (
	"cmp"
	"slices"
	"time"
)

// callKey is what calls are counted by.
type callKey struct {
	Service string `json:"service"`
	Method  string `json:"method"`
	// Path is the route's template, so that ids do not multiply the counts.
	Path string `json:"path"`
}

// CallCount is one row of GET /_simulator/calls.
type CallCount struct {
	callKey
	Status int `json:"status"`
	Count  int `json:"count"`
}

// Call is one request of the log.
type Call struct {
	callKey
	Time    time.Time `json:"time"`
	URL     string    `json:"url"`
	Project string    `json:"project,omitempty"`
	Status  int       `json:"status"`
}

// callLogSize bounds the log; the counts go on for ever.
const callLogSize = 10_000

type callLog struct {
	counts map[callKey]map[int]int
	total  int
	log    []Call // a ring, oldest at start
	start  int
}

func (l *callLog) record(key callKey, c *call, status int, now time.Time) {
	if l.counts == nil {
		l.counts = map[callKey]map[int]int{}
	}
	if l.counts[key] == nil {
		l.counts[key] = map[int]int{}
	}
	l.counts[key][status]++
	l.total++
	entry := Call{callKey: key, Time: now, URL: c.r.URL.RequestURI(), Status: status}
	if c.token != nil {
		entry.Project = c.token.project
	}
	if len(l.log) < callLogSize {
		l.log = append(l.log, entry)
		return
	}
	l.log[l.start] = entry
	l.start = (l.start + 1) % callLogSize
}

func (l *callLog) reset() { *l = callLog{} }

// entries are the logged calls, oldest first.
func (l *callLog) entries() []Call { return slices.Concat(l.log[l.start:], l.log[:l.start]) }

// rows are the counts in a stable order.
func (l *callLog) rows() []CallCount {
	rows := []CallCount{}
	for key, byStatus := range l.counts {
		for status, count := range byStatus {
			rows = append(rows, CallCount{callKey: key, Status: status, Count: count})
		}
	}
	slices.SortFunc(rows, func(a, b CallCount) int {
		return cmp.Or(cmp.Compare(a.Service, b.Service), cmp.Compare(a.Path, b.Path), cmp.Compare(a.Method, b.Method), cmp.Compare(a.Status, b.Status))
	})
	return rows
}
