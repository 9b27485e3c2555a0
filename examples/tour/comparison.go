package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pgcmd/pgcmd"
)

// A comparison is how long a command takes, and the same query in hand-written pgx.
type comparison struct {
	hand, command time.Duration // medians
	ratio         float64       // the median of the pairs' ratios
	pairs         int
	err           error
}

func (c comparison) String() string {
	if c.err != nil {
		return c.err.Error()
	}
	return fmt.Sprintf("by hand %.1f µs, command %.1f µs, ratio %.2f (%d pairs)",
		microseconds(c.hand), microseconds(c.command), c.ratio, c.pairs)
}

func microseconds(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1000 }

// warmUp pairs do not count.
const warmUp = 50

// measuring is how long a comparison takes, however far away the server is.
var measuring = 1500 * time.Millisecond

// compare runs the two in turns, so that whatever else the machine does falls on
// both, and swaps who goes first, so that neither always finds the server warm.
func compare[In, Out any](ctx context.Context, pool *pgxpool.Pool,
	byHand func(context.Context, *pgxpool.Pool) (Out, error), c *pgcmd.Command[In, Out], in In) comparison {

	hand := func() (Out, error) { return byHand(ctx, pool) }
	command := func() (Out, error) { return c.Run(ctx, pool, in) }
	var hands, commands []time.Duration
	var ratios []float64
	var began time.Time
	for pair := 0; pair <= warmUp || time.Since(began) < measuring; pair++ {
		first, second := hand, command
		if pair%2 == 1 {
			first, second = command, hand
		}
		start := time.Now()
		a, errA := first()
		middle := time.Now()
		b, errB := second()
		end := time.Now()
		if err := errors.Join(errA, errB); err != nil {
			return comparison{err: err}
		}
		if pair < warmUp {
			if !reflect.DeepEqual(a, b) {
				return comparison{err: fmt.Errorf("the rows differ: %v and %v", a, b)}
			}
			began = time.Now()
			continue
		}
		h, c := middle.Sub(start), end.Sub(middle)
		if pair%2 == 1 {
			h, c = c, h
		}
		hands, commands = append(hands, h), append(commands, c)
		ratios = append(ratios, float64(c)/float64(h))
	}
	return comparison{hand: median(hands), command: median(commands), ratio: median(ratios), pairs: len(ratios)}
}

func median[N cmp.Ordered](values []N) N {
	slices.Sort(values)
	return values[len(values)/2]
}
