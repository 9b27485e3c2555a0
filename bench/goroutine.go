package main

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/pgcmd/pgcmd/internal/measure"
	"github.com/pgcmd/pgcmd/internal/workload"
)

// depths is how many depths of the caller's stack are measured, 120 bytes apart: 1,440 bytes, most of the 2 KB that a
// new goroutine has. What a statement needs makes its stack grow at all of them, and once more at some.
const depths = 12

// newGoroutines measures one row that is read in a new goroutine, by the depth of its caller's stack.
func newGoroutines(ctx context.Context, r *results, p pace) error {
	conn, err := pgx.ConnectConfig(ctx, workload.Canned(workload.One).ConnConfig())
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	for depth := range depths {
		var sides []measure.Side
		for _, side := range []measure.Side{
			workload.One.Side(ctx, ours, workload.Commands{DB: conn}),
			workload.One.Side(ctx, byHand, workload.Hand{DB: conn}),
		} {
			sides = append(sides, measure.Side{Name: side.Name, Run: func(i int) error {
				done := make(chan error)
				go func() { done <- deeper(depth, side.Run, i) }()
				return <-done
			}})
		}
		t, err := compete(fmt.Sprint(depth), sides, 200, p.race/4, measure.CPU)
		if err != nil {
			return err
		}
		r.goroutines = append(r.goroutines, t)
	}
	return nil
}

// deeper calls run with 120 bytes more of the stack in use for each level.
//
//go:noinline
func deeper(levels int, run func(int) error, i int) error {
	var frame [56]byte
	if levels == 0 {
		return run(i)
	}
	err := deeper(levels-1, run, i)
	touch(&frame)
	return err
}

//go:noinline
func touch(*[56]byte) {}

// goroutineMean is the mean over the depths of pgcmd's time to that by hand.
func goroutineMean(r *results) (float64, bool) {
	sum := 0.0
	for _, t := range r.goroutines {
		sum += t.rows[1].ratio.Median // of pgcmd's time to that by hand
	}
	return sum / depths, len(r.goroutines) == depths
}

// slowGoroutines counts the depths at which pgcmd takes more than 1.5 times the time by hand.
func slowGoroutines(r *results) (float64, bool) {
	slow := 0
	for _, t := range r.goroutines {
		if t.rows[1].ratio.Median > 1.5 {
			slow++
		}
	}
	return float64(slow), len(r.goroutines) == depths
}
