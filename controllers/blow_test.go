package controllers

import (
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"time"
)

// blow is what happens to one request on its way to the cloud or back.
type blow struct {
	name string
	// strike answers in the cloud's place.
	strike func(w *world, rw http.ResponseWriter, r *http.Request)
	// hangs says that the answer never comes, which takes the provider's patience in real time.
	hangs bool
	// kills says that the manager dies of it.
	kills bool
}

// blows are all that can happen to a request.
func blows() []blow {
	refuse := func(status int, header ...string) func(*world, http.ResponseWriter, *http.Request) {
		return func(_ *world, rw http.ResponseWriter, _ *http.Request) {
			for i := 0; i < len(header); i += 2 {
				rw.Header().Set(header[i], header[i+1])
			}
			http.Error(rw, `{"message": "struck"}`, status)
		}
	}
	abort := func(*world, http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }
	hang := func(_ *world, _ http.ResponseWriter, r *http.Request) {
		<-r.Context().Done()
		panic(http.ErrAbortHandler)
	}
	afterEffect := func(then func(*world, http.ResponseWriter, *http.Request)) func(*world, http.ResponseWriter, *http.Request) {
		return func(w *world, rw http.ResponseWriter, r *http.Request) {
			w.sim.ServeHTTP(httptest.NewRecorder(), r)
			then(w, rw, r)
		}
	}
	return []blow{
		{name: "fails before", strike: refuse(http.StatusInternalServerError)},
		{name: "takes effect then fails", strike: afterEffect(refuse(http.StatusBadGateway))},
		{name: "409", strike: refuse(http.StatusConflict)},
		{name: "429", strike: refuse(http.StatusTooManyRequests, "Retry-After", "3")},
		{name: "503", strike: refuse(http.StatusServiceUnavailable)},
		{name: "hangs", strike: hang, hangs: true},
		{name: "takes effect then hangs", strike: afterEffect(hang), hangs: true},
		{name: "reset", strike: abort},
		{name: "takes effect then reset", strike: afterEffect(abort)},
		killed(),
	}
}

// killed lets the manager die right after the call: it takes effect, nobody gets its reply, and the next process starts with nothing
// but what Kubernetes and the cloud hold.
func killed() blow {
	return blow{name: "killed right after", kills: true, strike: func(w *world, _ http.ResponseWriter, r *http.Request) {
		w.sim.ServeHTTP(httptest.NewRecorder(), r)
		w.running.Load().dead.Store(true)
		panic(http.ErrAbortHandler)
	}}
}

// plan says what happens to the nth request since the world began; an empty blow is none.
type plan func(n int64, r *http.Request) blow

// at strikes one request.
func at(number int64, b blow) plan {
	return func(n int64, _ *http.Request) blow {
		if n == number {
			return b
		}
		return blow{}
	}
}

// hail strikes one request in so many, and counts. Whether it strikes goes by the request and how often it has been made, not by the
// order, which is another every time: the inventory lists several kinds at once.
func hail(seed, oneIn uint64, struck *atomic.Int64) plan {
	all := blows()
	var mu sync.Mutex
	made := map[string]int{}
	return func(_ int64, r *http.Request) blow {
		mu.Lock()
		defer mu.Unlock()
		key := r.Method + " " + r.URL.Path
		made[key]++
		h := fnv.New64a()
		_, _ = fmt.Fprint(h, seed, key, made[key])
		rng := rand.New(rand.NewPCG(h.Sum64(), 0))
		if rng.Uint64N(oneIn) > 0 {
			return blow{}
		}
		struck.Add(1)
		return all[rng.IntN(len(all))]
	}
}

// hangingPatience is how long the provider waits where answers never come. A busy machine may take longer for an answer that does:
// then that is one more blow, which must not matter either.
const hangingPatience = 300 * time.Millisecond
