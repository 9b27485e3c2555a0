package pgcmd_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/pgcmd/pgcmd"
	"github.com/pgcmd/pgcmd/internal/measure"
	"github.com/pgcmd/pgcmd/internal/workload"
	"github.com/pgcmd/pgcmd/pgcmdtest"
)

// BenchmarkPool compares commands on a Pool, counted and timed as they are there, and on a pgxpool, with the
// hand-written twin on a pgxpool, by one goroutine and by 100.
func BenchmarkPool(b *testing.B) {
	ctx := context.Background()
	url := pgcmdtest.URL(b, workload.DDL)
	pool, err := pgcmd.Connect(ctx, pgcmd.Config{URL: url, MaxConns: 10})
	require.NoError(b, err)
	defer pool.Pool.Close()
	plain := plainPool(b, url)
	hand := workload.Hand{DB: plain}
	for _, goroutines := range []int{1, 100} {
		many := func(s workload.Store) func() error {
			return func() error {
				return measure.Concurrently(goroutines, 2000, func(_, i int) error { return workload.One.Run(ctx, s, i) })
			}
		}
		for name, db := range map[string]pgcmd.DB{"Pool": pool, "pgxpool": plain} {
			b.Run(fmt.Sprintf("%d goroutines/%s over pgxpool by hand", goroutines, name), func(b *testing.B) {
				paired(b, 1, many(workload.Commands{DB: db}), many(hand))
			})
		}
	}
}

func plainPool(t testing.TB, url string) *pgxpool.Pool {
	t.Helper()
	cfg, err := pgxpool.ParseConfig(url)
	require.NoError(t, err)
	cfg.MaxConns = 10
	pool, err := pgxpool.NewWithConfig(context.Background(), cfg)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	return pool
}

// BenchmarkConnect compares Connect, which validates and pings, with a pgxpool that is pinged.
func BenchmarkConnect(b *testing.B) {
	ctx := context.Background()
	url := pgcmdtest.URL(b)
	ours := measure.Side{Run: func(int) error {
		pool, err := pgcmd.Connect(ctx, pgcmd.Config{URL: url, MaxConns: 10})
		if err != nil {
			return err
		}
		return pool.Close(ctx)
	}}
	theirs := measure.Side{Run: func(int) error {
		pool, err := pgxpool.New(ctx, url)
		if err != nil {
			return err
		}
		defer pool.Close()
		return pool.Ping(ctx)
	}}
	race(b, 1, ours, theirs)
	distributed(b, 1, ours, theirs)
}
