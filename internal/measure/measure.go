// Package measure compares ways to do the same work.
//
// They take turns, so that what the machine does meanwhile hits all alike, and what is compared is the ratio within a
// turn: medians of ratios, each with the interval that holds the middle half of them.
package measure

import (
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"runtime/debug"
	"slices"
	"sync"
	"syscall"
	"time"
)

// A Clock measures how long something takes, by the difference of two readings.
type Clock func() time.Duration

// Wall is the time that passes.
func Wall() time.Duration { return time.Since(started) }

var started = time.Now()

// CPU is the time that the process computes, the garbage collector included. What else runs on
// the machine is not in it.
func CPU() time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		panic(err) // there is no reason for one
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// A Side is one way to do the work.
type Side struct {
	Name string
	Run  func(i int) error // i counts the runs
}

// Times are how long a run took in each turn, in nanoseconds.
type Times []float64

// A Spread is the median and the interval that holds the middle half.
type Spread struct{ Low, Median, High float64 }

// A Race lets sides take turns.
type Race struct {
	sides []Side
	size  int
	clock Clock
	runs  []int
	turns int
	times []Times
	order *rand.Rand
}

// Start makes a race in which each side runs size times a turn, and lets each run once so, unmeasured.
func Start(sides []Side, size int, clock Clock) (*Race, error) {
	r := &Race{sides: sides, size: size, clock: clock, runs: make([]int, len(sides)), times: make([]Times, len(sides)), order: rand.New(rand.NewPCG(1, 2))}
	for s := range sides {
		if _, err := r.run(s); err != nil {
			return nil, err
		}
	}
	return r, nil
}

func (r *Race) run(s int) (float64, error) {
	side := r.sides[s]
	start := r.clock()
	for range r.size {
		if err := side.Run(r.runs[s]); err != nil {
			return 0, fmt.Errorf("%s: %w", side.Name, err)
		}
		r.runs[s]++
	}
	return float64((r.clock() - start).Nanoseconds()) / float64(r.size), nil
}

// Turn lets each side run once more, in an order of its own: always behind the same neighbour, a side would pay for the
// garbage that that one leaves.
func (r *Race) Turn() error {
	for _, s := range r.order.Perm(len(r.sides)) {
		took, err := r.run(s)
		if err != nil {
			return err
		}
		r.times[s] = append(r.times[s], took)
	}
	r.turns++
	return nil
}

// Times are those of each side so far.
func (r *Race) Times() []Times { return r.times }

// Turns runs a whole race, for about so long and at least five turns.
func Turns(sides []Side, size int, about time.Duration, clock Clock) ([]Times, error) {
	race, err := Start(sides, size, clock)
	if err != nil {
		return nil, err
	}
	const fewest = 5
	for start := time.Now(); race.turns < fewest || time.Since(start) < about; {
		if err := race.Turn(); err != nil {
			return nil, err
		}
	}
	return race.Times(), nil
}

// Spread is that of the times.
func (t Times) Spread() Spread { return SpreadOf(t) }

// Over is the spread of the ratios of t to other, turn by turn.
func (t Times) Over(other Times) Spread {
	ratios := make([]float64, len(t))
	for i := range t {
		ratios[i] = t[i] / other[i]
	}
	return SpreadOf(ratios)
}

// SpreadOf is that of any values.
func SpreadOf(values []float64) Spread {
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	if n == 0 {
		return Spread{math.NaN(), math.NaN(), math.NaN()}
	}
	return Spread{sorted[n/4], sorted[n/2], sorted[n*3/4]}
}

// A Latency is how long single runs took, sorted.
type Latency []time.Duration

// Latencies times every single run of the sides, in turns of size runs each. The clock is in every figure: 50 ns or so.
func Latencies(sides []Side, size int, about time.Duration) ([]Latency, error) {
	all := make([]Latency, len(sides))
	timed := make([]Side, len(sides))
	for s, side := range sides {
		timed[s] = Side{side.Name, func(i int) error {
			start := time.Now()
			err := side.Run(i)
			if took := time.Since(start); i >= size { // the first turn only warms up
				all[s] = append(all[s], took)
			}
			return err
		}}
	}
	if _, err := Turns(timed, size, about, Wall); err != nil {
		return nil, err
	}
	for _, l := range all {
		slices.Sort(l)
	}
	return all, nil
}

// At is the latency that the fraction q of the runs did not exceed.
func (l Latency) At(q float64) time.Duration {
	return l[min(len(l)-1, int(q*float64(len(l))))]
}

// Sorted joins latencies.
func Sorted(all ...Latency) Latency {
	l := slices.Concat(all...)
	slices.Sort(l)
	return l
}

// Max is the longest.
func (l Latency) Max() time.Duration { return l[len(l)-1] }

// Allocs returns the allocations of a run and their bytes, each the average of n runs of i = from and on. Like
// [testing.AllocsPerRun] it rounds allocations down: what others do meanwhile is no whole one a run.
func Allocs(side Side, from, n int) (allocs, bytes float64, err error) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	// Else a collection could empty the pools of memory that is used again.
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	for i := range 10 {
		if err := side.Run(from + i); err != nil {
			return 0, 0, fmt.Errorf("%s: %w", side.Name, err)
		}
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for i := range n {
		if err := side.Run(from + i); err != nil {
			return 0, 0, fmt.Errorf("%s: %w", side.Name, err)
		}
	}
	runtime.ReadMemStats(&after)
	allocs = math.Floor(float64(after.Mallocs-before.Mallocs) / float64(n))
	return allocs, math.Round(float64(after.TotalAlloc-before.TotalAlloc) / float64(n)), nil
}

// Concurrently runs f total times by so many goroutines, and returns the first error. Each goroutine has its number.
func Concurrently(goroutines, total int, f func(goroutine, i int) error) error {
	var all sync.WaitGroup
	errs := make([]error, goroutines)
	for g := range goroutines {
		all.Go(func() {
			for i := g; i < total && errs[g] == nil; i += goroutines {
				errs[g] = f(g, i)
			}
		})
	}
	all.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
