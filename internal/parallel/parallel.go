// Package parallel runs a function for many items.
package parallel

import (
	"runtime"
	"sync"
)

// Each calls f for every item, on up to so many goroutines. A panic or a Goexit in one of
// them goes on in the caller's goroutine, when the others have ended; no item is begun
// after it. done is called after every item, one call at a time, with how many are left.
func Each(workers int, items []int, f func(item int), done func(left int)) {
	var (
		mu       sync.Mutex
		next     int
		finished int
		panicked any
		died     bool
		all      sync.WaitGroup
	)
	take := func() (int, bool) {
		mu.Lock()
		defer mu.Unlock()
		if next == len(items) || died {
			return 0, false
		}
		next++
		return items[next-1], true
	}
	report := func() {
		mu.Lock()
		defer mu.Unlock() // also if done panics
		finished++
		done(len(items) - finished)
	}
	for range min(workers, len(items)) {
		all.Go(func() {
			lived := false
			defer func() {
				if reason := recover(); !lived {
					mu.Lock()
					defer mu.Unlock()
					if !died {
						panicked, died = reason, true
					}
				}
			}()
			for i, ok := take(); ok; i, ok = take() {
				f(i)
				report()
			}
			lived = true
		})
	}
	all.Wait()
	switch {
	case panicked != nil:
		panic(panicked)
	case died:
		runtime.Goexit()
	}
}
