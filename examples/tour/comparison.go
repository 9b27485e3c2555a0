package main

import (
	"cmp"
	"context"
	"fmt"
	"reflect"
	"slices"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
)

// A comparison is how long a command takes, and the same query in hand-written pgx.
type comparison struct {
	hand, command time.Duration // medians
	ratio         float64       // the median of the pairs' ratios
	pairs         int
}

func (c comparison) String() string {
	return fmt.Sprintf("by hand %.1f µs, command %.1f µs, ratio %.2f (medians of %d pairs)",
		microseconds(c.hand), microseconds(c.command), c.ratio, c.pairs)
}

func microseconds(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1000 }

const (
	warmUp   = 50  // pairs that do not count
	maxRatio = 1.5 // far above what is measured: more is a defect, not noise
)

// measuring is how long a comparison takes, whatever the way to the server costs.
var measuring = 1500 * time.Millisecond

type query[Out any] func(ctx context.Context, pool *pgxpool.Pool) (Out, error)

// compare runs the two in turns, so that whatever else the machine does falls on
// both, and swaps who goes first, so that neither always finds the server warm.
func compare[Out any](ctx context.Context, pool *pgxpool.Pool, hand, command query[Out]) (comparison, error) {
	var hands, commands []time.Duration
	var ratios []float64
	var began time.Time
	for pair := 0; pair <= warmUp || time.Since(began) < measuring; pair++ {
		first, second := hand, command
		if pair%2 == 1 {
			first, second = command, hand
		}
		start := time.Now()
		a, err := first(ctx, pool)
		middle := time.Now()
		if err != nil {
			return comparison{}, err
		}
		b, err := second(ctx, pool)
		end := time.Now()
		if err != nil {
			return comparison{}, err
		}
		if pair < warmUp {
			if !reflect.DeepEqual(a, b) {
				return comparison{}, fmt.Errorf("the rows differ: %v and %v", a, b)
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
	result := comparison{median(hands), median(commands), median(ratios), len(ratios)}
	if result.ratio > maxRatio {
		return result, fmt.Errorf("the command takes more than %.1f times as long", maxRatio)
	}
	return result, nil
}

func median[N cmp.Ordered](values []N) N {
	slices.Sort(values)
	return values[len(values)/2]
}
