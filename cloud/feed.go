package cloud

import (
	"context"
	"slices"
	"sync"
	"time"
)

// project is what one inventory is of. Credentials that log in to the same project share the
// inventory: what one of them makes, the others see at once, and the project is polled once.
type project struct {
	keystone, region, id string
}

// scope is the project a session is logged in to.
func (s *Session) scope() project {
	known := s.auth.known()
	return project{keystone: keystoneRoot(s.identity.AuthURL), region: known.region, id: known.projectID}
}

// feed is where the inventory of a project lists from: any of the project's sessions.
type feed struct {
	of project

	mu sync.Mutex
	// feeders are the sessions in use, the one obtained last first: of several credentials, those
	// somebody has just logged in with are the likeliest to work.
	feeders []feeder
}

// feeder is a session, and how often it had logged in when it was last obtained.
type feeder struct {
	session *Session
	logins  int
}

// prefer makes a session the one to list from. It reports whether the session has logged in since it
// was preferred before, so that what was refused may be granted now.
func (f *feed) prefer(session *Session) (renewed bool) {
	logins := session.auth.loginCount()
	f.mu.Lock()
	defer f.mu.Unlock()
	at := f.find(session)
	renewed = at < 0 || f.feeders[at].logins != logins
	if at >= 0 {
		f.feeders = slices.Delete(f.feeders, at, at+1)
	}
	f.feeders = slices.Insert(f.feeders, 0, feeder{session, logins})
	return renewed
}

// remove ends the use of a session, and reports whether that was the last one.
func (f *feed) remove(session *Session) (dry bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if at := f.find(session); at >= 0 {
		f.feeders = slices.Delete(f.feeders, at, at+1)
	}
	return len(f.feeders) == 0
}

// find is the place of a session, or -1. The caller holds the lock.
func (f *feed) find(session *Session) int {
	return slices.IndexFunc(f.feeders, func(known feeder) bool { return known.session == session })
}

func (f *feed) sessions() []*Session {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := make([]*Session, len(f.feeders))
	for n, known := range f.feeders {
		out[n] = known.session
	}
	return out
}

// list asks with the preferred session, and with the others while the cloud does not accept one. If
// it accepts none, the error is the preferred session's. A login may lead to another project, where
// the one that the credentials name was replaced; what is listed there means nothing here.
func (f *feed) list(ctx context.Context, kind Kind, since time.Time, known *Snapshot) ([]object, error) {
	ctx = inBackground(ctx)
	var rejected error
	for _, session := range f.sessions() {
		objects, err := session.list(ctx, kind, since, known)
		if session.scope() != f.of {
			err = Errorf(Auth, "the credentials now belong to another project than %s", f.of.id)
		}
		if ClassOf(err) != Auth {
			return objects, err
		}
		if rejected == nil {
			rejected = err
		}
	}
	if rejected == nil {
		rejected = Errorf(Auth, "no session of project %s is in use", f.of.id)
	}
	return nil, rejected
}

// background marks the context of calls that nobody waits for.
type background struct{}

// inBackground is a context in which a rejected login is not repeated: clouds lock accounts out after
// a few wrong passwords, and a poller would go on with one for as long as it lives.
func inBackground(ctx context.Context) context.Context {
	return context.WithValue(ctx, background{}, true)
}

func isBackground(ctx context.Context) bool { return ctx.Value(background{}) != nil }
