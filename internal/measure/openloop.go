package measure

import (
	"context"
	"slices"
	"sync"
	"time"
)

// tick is how often runs start. More often, and the clock would be a good part of the work.
const tick = time.Millisecond

// OpenLoop starts rate runs a second for so long, whether earlier ones have ended or not, and returns how long each
// took from the moment at which it was meant to start: a run that waited for others counts its waiting, so that nothing
// is omitted by being late. workers bounds what runs at a time. The moments are whole milliseconds: of 10,000 runs a
// second, ten are meant to start at once.
func OpenLoop(ctx context.Context, rate, workers int, length time.Duration, run func(ctx context.Context, i int) error) (Latency, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	total := int(int64(rate) * int64(length) / int64(time.Second))
	due := make(chan int, total) // never blocks: who is late is late by the clock
	latencies := make(Latency, total)
	start := time.Now()
	at := func(i int) time.Time {
		return start.Add((time.Duration(i) * time.Second / time.Duration(rate)).Truncate(tick))
	}
	var all sync.WaitGroup
	for range workers {
		all.Go(func() {
			for i := range due {
				if ctx.Err() != nil {
					continue
				}
				if err := run(ctx, i); err != nil {
					cancel(err)
				}
				latencies[i] = time.Since(at(i))
			}
		})
	}
	clock := time.NewTicker(tick)
	defer clock.Stop()
	for i := 0; i < total && ctx.Err() == nil; {
		for now := time.Now(); i < total && !at(i).After(now); i++ {
			due <- i
		}
		select {
		case <-clock.C:
		case <-ctx.Done():
		}
	}
	close(due)
	all.Wait()
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	slices.Sort(latencies)
	return latencies, nil
}
