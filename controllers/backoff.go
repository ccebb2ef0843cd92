package controllers

import (
	"time"

	"github.com/sendan-io/sendan/cloud"
)

// pace is how a class of errors is tried again: after first, then twice as long each time, up to
// most.
type pace struct{ first, most time.Duration }

// paces follow who can end the trouble. What the cloud gets over by itself is tried soon. What needs
// a person or somebody else's machine to go away is tried seldom, because each try costs the cloud a
// failed build or a login (design law 7).
var paces = map[cloud.Class]pace{
	cloud.Transient:  {10 * time.Second, 5 * time.Minute},
	cloud.Conflict:   {10 * time.Second, 5 * time.Minute},
	cloud.Throttled:  {30 * time.Second, 5 * time.Minute},
	cloud.Suspicious: {time.Minute, 5 * time.Minute},
	cloud.Auth:       {time.Minute, 5 * time.Minute},
	cloud.Config:     {time.Minute, 10 * time.Minute},
	cloud.Quota:      {time.Minute, 10 * time.Minute},
	cloud.Capacity:   {time.Minute, 15 * time.Minute},
}

// backoff is how long to wait after the given number of failures in a row.
func backoff(class cloud.Class, failures int32) time.Duration {
	p, known := paces[class]
	if !known {
		p = paces[cloud.Transient]
	}
	wait := p.first
	for i := int32(1); i < failures && wait < p.most; i++ {
		wait *= 2
	}
	return min(wait, p.most)
}

// passesByItself reports that no person is needed to end the trouble.
func passesByItself(class cloud.Class) bool {
	switch class {
	case cloud.Transient, cloud.Conflict, cloud.Throttled:
		return true
	}
	return false
}
