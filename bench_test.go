package pgcmd_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgcmd/pgcmd"
	"github.com/pgcmd/pgcmd/internal/measure"
	"github.com/pgcmd/pgcmd/internal/workload"
	"github.com/pgcmd/pgcmd/pgcmdtest"
)

// paired measures ours and theirs in turns of size runs, and reports the medians of both and of their ratio, with the
// interval that holds the middle half of the ratios.
func paired(b *testing.B, size int, ours, theirs func() error) {
	race(b, size, measure.Side{Name: "ours", Run: func(int) error { return ours() }}, measure.Side{Name: "theirs", Run: func(int) error { return theirs() }})
}

func race(b *testing.B, size int, ours, theirs measure.Side) {
	r, err := measure.Start([]measure.Side{ours, theirs}, size, measure.Wall)
	require.NoError(b, err)
	for b.Loop() {
		if err := r.Turn(); err != nil {
			b.Fatal(err)
		}
	}
	times := r.Times()
	ratio := times[0].Over(times[1])
	b.ReportMetric(0, "ns/op") // of a turn: means nothing
	b.ReportMetric(times[0].Spread().Median, "ours-ns")
	b.ReportMetric(times[1].Spread().Median, "theirs-ns")
	b.ReportMetric(ratio.Median, "ratio")
	b.ReportMetric(ratio.Low, "ratio-q1")
	b.ReportMetric(ratio.High, "ratio-q3")
}

// distributed adds the percentiles of single runs, the allocations and their bytes.
func distributed(b *testing.B, size int, ours, theirs measure.Side) {
	b.StopTimer()
	sides := []measure.Side{ours, theirs}
	latencies, err := measure.Latencies(sides, size, 500*time.Millisecond)
	require.NoError(b, err)
	for s, who := range []string{"ours", "theirs"} {
		for _, p := range []struct {
			name string
			took time.Duration
		}{{"p50", latencies[s].At(0.50)}, {"p95", latencies[s].At(0.95)}, {"p99", latencies[s].At(0.99)}, {"max", latencies[s].Max()}} {
			b.ReportMetric(float64(p.took), who+"-"+p.name+"-ns")
		}
		allocs, bytes, err := measure.Allocs(sides[s], 0, 100)
		require.NoError(b, err)
		b.ReportMetric(allocs, who+"-allocs")
		b.ReportMetric(bytes, who+"-bytes")
	}
}

// stores are commands, and the others that they are compared with on a work: by hand first.
func stores(w workload.Work, db pgcmd.DB) (ours workload.Store, theirs map[string]workload.Store) {
	hand := workload.Hand{DB: db}
	theirs = map[string]workload.Store{"pgx by hand": hand}
	switch w.Name {
	case workload.One.Name, workload.Simple.Name, workload.Many.Name:
		theirs["RowToStructByName"] = workload.Helpers{Hand: hand}
	case workload.Named.Name:
		theirs["NamedArgs"] = workload.Helpers{Hand: hand}
		theirs["StructArgs"] = workload.StructArgs{Helpers: workload.Helpers{Hand: hand}}
	}
	return workload.Commands{DB: db}, theirs
}

// BenchmarkWork compares commands with pgx by hand and with pgx's own helpers, on the in-process server, where only
// client work counts, and on a real one.
func BenchmarkWork(b *testing.B) {
	ctx := context.Background()
	postgres, err := pgx.Connect(ctx, pgcmdtest.URL(b, workload.DDL))
	require.NoError(b, err)
	defer postgres.Close(ctx)
	for _, w := range workload.All {
		for server, conn := range map[string]*pgx.Conn{"in process": cannedConn(b, w), "postgres": postgres} {
			size := w.Size
			if server == "postgres" {
				size = w.Turn()
			}
			ours, theirs := stores(w, conn)
			for name, s := range theirs {
				b.Run(fmt.Sprintf("%s/%s/over %s", server, w.Name, name), func(b *testing.B) {
					ours, theirs := w.Side(ctx, "ours", ours), w.Side(ctx, name, s)
					race(b, size, ours, theirs)
					distributed(b, size, ours, theirs)
				})
			}
		}
	}
}

// cannedConn connects to an in-process server.
func cannedConn(t testing.TB, w workload.Work) *pgx.Conn {
	t.Helper()
	conn, err := pgx.ConnectConfig(context.Background(), workload.Canned(w).ConnConfig())
	require.NoError(t, err)
	t.Cleanup(func() { conn.Close(context.Background()) })
	return conn
}

// BenchmarkNew is the overhead of a command over calling its body.
func BenchmarkNew(b *testing.B) {
	ctx := context.Background()
	var db pgcmd.DB = cannedConn(b, workload.One)
	direct := func() error { _, err := workload.DoNothing(ctx, db, 1); return err }
	b.Run("Run", func(b *testing.B) {
		paired(b, 10_000, func() error { _, err := workload.Nothing.Run(ctx, db, 1); return err }, direct)
	})
	b.Run("Try", func(b *testing.B) {
		paired(b, 10_000, func() error { return pgcmd.Try(ctx, db, workload.Nothing, 1).Err }, direct)
	})
}

// BenchmarkRefused makes an *Error of an input with three problems, and by hand what the validator says.
func BenchmarkRefused(b *testing.B) {
	ctx := context.Background()
	var db pgcmd.DB = cannedConn(b, workload.One)
	refused := func(run func() error) measure.Side {
		return measure.Side{Run: func(int) error {
			if run() == nil {
				return errors.New("not refused")
			}
			return nil
		}}
	}
	ours := refused(func() error { _, err := workload.SignUp.Run(ctx, db, workload.Refused); return err })
	theirs := refused(func() error { return workload.CheckByHand(workload.Refused) })
	race(b, 1000, ours, theirs)
	distributed(b, 1000, ours, theirs)
}

// BenchmarkErrorJSON renders the error of a statement that failed.
func BenchmarkErrorJSON(b *testing.B) {
	ctx := context.Background()
	conn := cannedConn(b, workload.Failed)
	failed := workload.Commands{DB: conn}.Add(ctx, workload.User{})
	_, byHand := conn.Exec(ctx, workload.AddSQL, 1, "", "", true, time.Now())
	ours := measure.Side{Run: func(int) error { _, err := json.Marshal(failed); return err }}
	theirs := measure.Side{Run: func(int) error { _, err := json.Marshal(workload.AnswerTo(byHand)); return err }}
	race(b, 1000, ours, theirs)
	distributed(b, 1000, ours, theirs)
}

// Allocations are exact, so that they are a test: the budgets are those of the design, against hand-written pgx in the
// same run. It runs alone, for others' allocations would count.
func TestAllocations(t *testing.T) {
	ctx := context.Background()
	allocs := func(side measure.Side) float64 {
		n, _, err := measure.Allocs(side, 0, 200)
		require.NoError(t, err)
		return n
	}
	for _, w := range workload.All {
		ours, theirs := stores(w, cannedConn(t, w))
		us, hand := allocs(w.Side(ctx, "commands", ours)), allocs(w.Side(ctx, "by hand", theirs["pgx by hand"]))
		t.Logf("%-45s %5.0f allocations, by hand %5.0f", w.Name, us, hand)
		most := hand
		if w.Rows > 1 && w.Name != workload.Complex.Name {
			most = 0.70 * hand
		}
		assert.LessOrEqual(t, us, most, w.Name)
		for name, s := range theirs {
			if name != "pgx by hand" {
				assert.Less(t, us, allocs(w.Side(ctx, name, s)), "%s against %s", w.Name, name)
			}
		}
	}
	var db pgcmd.DB = cannedConn(t, workload.One)
	assert.Zero(t, allocs(measure.Side{Run: func(int) error { _, err := workload.Nothing.Run(ctx, db, 1); return err }}))
	assert.Zero(t, allocs(measure.Side{Run: func(int) error { return pgcmd.Try(ctx, db, workload.Nothing, 1).Err }}))
}

func expect(err error, ok bool) error {
	if err == nil && !ok {
		return errors.New("not the expected number of rows")
	}
	return err
}
