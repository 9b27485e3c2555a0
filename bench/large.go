package main

import (
	"context"
	"runtime"

	"github.com/jackc/pgx/v5"

	"github.com/pgcmd/pgcmd/internal/measure"
	"github.com/pgcmd/pgcmd/internal/workload"
)

// largeWorks are results from small to large.
var largeWorks = []workload.Work{workload.Simple, workload.Many, workload.Large, workload.Huge}

// largeResults measures results of any size on the in-process server, by the time of the CPU.
func largeResults(ctx context.Context, r *results, p pace) error {
	for _, w := range largeWorks {
		conn, err := pgx.ConnectConfig(ctx, workload.Canned(w).ConnConfig())
		if err != nil {
			return err
		}
		sides := []measure.Side{w.Side(ctx, ours, workload.Commands{DB: conn}), w.Side(ctx, byHand, workload.Hand{DB: conn})}
		t, err := compete(w.Name, sides, max(1, clientTurn*w.Size/10), p.race, measure.CPU)
		if err != nil {
			return err
		}
		for i, side := range sides {
			if t.rows[i].allocs, t.rows[i].bytes, err = measure.Allocs(side, 0, 3); err != nil {
				return err
			}
		}
		r.large = append(r.large, t)
		conn.Close(ctx)
		runtime.GC() // what the server had
	}
	return nil
}

// perRow is what a row takes of a result of the last size, of what it takes at 1,000 rows.
func perRow(figure func(row) float64) func(r *results) (float64, bool) {
	return func(r *results) (float64, bool) {
		large := func(r *results) []table { return r.large }
		many, _, ok := pick(large, workload.Many.Name, byHand)(r)
		huge, _, too := pick(large, workload.Huge.Name, byHand)(r)
		return figure(huge) / float64(workload.Huge.Rows) / (figure(many) / float64(workload.Many.Rows)), ok && too
	}
}
