package latency

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

const (
	maxRemembered = 20
	slowFor       = 5 * time.Minute // how long a slow run is remembered
)

// Runs remembers the latest runs that failed, and the slowest of the last minutes.
type Runs[R any] struct {
	floor atomic.Int64 // what a run has to exceed to be among the slowest

	mu      sync.Mutex
	failed  []R       // the latest last
	slowest []slow[R] // the slowest first
}

type slow[R any] struct {
	run     R
	at      time.Time
	elapsed time.Duration
}

// IsSlow reports whether a run may be among the slowest.
func (r *Runs[R]) IsSlow(elapsed time.Duration) bool { return int64(elapsed) > r.floor.Load() }

// Add remembers a run that began at a time, if it failed or is among the slowest.
func (r *Runs[R]) Add(run R, at time.Time, elapsed time.Duration, failed bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if failed {
		if len(r.failed) == maxRemembered {
			r.failed = slices.Delete(r.failed, 0, 1)
		}
		r.failed = append(r.failed, run)
	}
	if r.IsSlow(elapsed) {
		r.forgetOld()
		i, _ := slices.BinarySearchFunc(r.slowest, elapsed, func(a slow[R], elapsed time.Duration) int { return int(elapsed - a.elapsed) })
		r.slowest = slices.Insert(r.slowest, i, slow[R]{run, at, elapsed})
		r.slowest = r.slowest[:min(len(r.slowest), maxRemembered)]
		if len(r.slowest) == maxRemembered {
			r.floor.Store(int64(r.slowest[maxRemembered-1].elapsed))
		}
	}
}

func (r *Runs[R]) forgetOld() {
	r.slowest = slices.DeleteFunc(r.slowest, func(s slow[R]) bool { return time.Since(s.at) > slowFor })
	if len(r.slowest) < maxRemembered {
		r.floor.Store(0)
	}
}

// Read returns the latest that failed, the latest first, and the slowest.
func (r *Runs[R]) Read() (failed, slowest []R) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.forgetOld()
	failed = slices.Clone(r.failed)
	slices.Reverse(failed)
	for _, s := range r.slowest {
		slowest = append(slowest, s.run)
	}
	return failed, slowest
}
