package pgcmdtest_test

import (
	"context"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgcmd/pgcmd"
	"github.com/pgcmd/pgcmd/internal/faults"
	"github.com/pgcmd/pgcmd/pgcmdtest"
)

type seat struct {
	Row  int
	Name *string
}

var copySeats = pgcmd.Copy[seat]("seats.copy", pgx.Identifier{"seats"})

// What pgx's trace says is what a proxy between client and server sees, on each kind of
// DB. Pipelines are left to the proxy's latency: without it they can be answered while
// they are being sent.
func TestCountRoundTripsAgreesWithTheWire(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	proxy, err := faults.Start(pgcmdtest.URL(t, seats))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, proxy.Close()) })

	ours, err := pgcmd.Connect(ctx, pgcmd.Config{URL: proxy.URL(), MaxConns: 1})
	require.NoError(t, err)
	t.Cleanup(ours.Pool.Close)
	cfg, err := pgxpool.ParseConfig(proxy.URL())
	require.NoError(t, err)
	cfg.MaxConns = 2
	pool, err := pgxpool.NewWithConfig(ctx, cfg)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	pooled, err := pool.Acquire(ctx)
	require.NoError(t, err)
	t.Cleanup(pooled.Release)
	conn, err := pgx.Connect(ctx, proxy.URL())
	require.NoError(t, err)
	t.Cleanup(func() { conn.Close(context.WithoutCancel(ctx)) })

	works := map[string]struct {
		trips int
		run   func(db pgcmd.DB) error
	}{
		"a statement": {1, func(db pgcmd.DB) error { _, err := addSeat.Run(ctx, db, 1); return err }},
		"a statement by the simple protocol": {1, func(db pgcmd.DB) error {
			_, err := db.Exec(ctx, `select 1`, pgx.QueryExecModeSimpleProtocol)
			return err
		}},
		"a transaction by hand": {3, func(db pgcmd.DB) error {
			tx, err := db.Begin(ctx)
			if err != nil {
				return err
			}
			if _, err := addSeat.Run(ctx, tx, 1); err != nil {
				return err
			}
			return tx.Commit(ctx)
		}},
		"a batch": {1, func(db pgcmd.DB) error {
			_, err := pgcmd.Batch(addSeat, pgcmd.Independent).Run(ctx, db, []int{1, 2, 3})
			return err
		}},
		"a copy": {2, func(db pgcmd.DB) error {
			_, err := copySeats.Run(ctx, db, pgcmd.Rows([]seat{{Row: 1}}))
			return err
		}},
		"a refused statement": {3, func(db pgcmd.DB) error {
			_, err := db.Exec(ctx, `insert into seats (row) values ($1)`, nil)
			require.Error(t, err) // pgx forgets the statement, and next time closes, prepares and executes it
			return nil
		}},
		"nothing": {0, func(pgcmd.DB) error { return nil }},
	}
	for kind, db := range map[string]pgcmd.DB{"*pgcmd.Pool": ours, "*pgxpool.Conn": pooled, "*pgx.Conn": conn} {
		for what, w := range works {
			require.NoError(t, w.run(db)) // prepares
			before := proxy.Counts().RoundTrips
			trips := pgcmdtest.CountRoundTrips(t, db, func() { require.NoError(t, w.run(db)) })
			seen := proxy.Counts().RoundTrips - before
			if what == "a batch" {
				seen = min(seen, 1)
			}
			assert.EqualValues(t, seen, trips, "%s on a %s", what, kind)
			assert.Equal(t, w.trips, trips, "%s on a %s", what, kind)
		}
	}
}

func TestCountRoundTripsCountsEveryConnectionOfAPool(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	pool := pgcmdtest.Pool(t, seats)
	both := func() {
		var together sync.WaitGroup
		together.Add(2)
		var all sync.WaitGroup
		for range 2 {
			all.Go(func() {
				conn, err := pool.Acquire(ctx)
				together.Done()
				if assert.NoError(t, err) {
					defer conn.Release()
					together.Wait() // so that there are two
					_, err = addSeat.Run(ctx, conn, 1)
					assert.NoError(t, err)
				}
			})
		}
		all.Wait()
	}
	both()
	assert.Equal(t, 2, pgcmdtest.CountRoundTrips(t, pool, both))
}

func TestCountRoundTripsRefusesWhatItCannotSee(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	pool := pgcmdtest.Pool(t, seats)
	conn, err := pool.Acquire(ctx)
	require.NoError(t, err)

	r := record(t, func(t testing.TB) { pgcmdtest.CountRoundTrips(t, pool, func() {}) })
	assert.Equal(t, []string{"fatal: pgcmdtest: round trips cannot be counted: 1 connections of the pool are in use"}, r)
	conn.Release()

	r = record(t, func(t testing.TB) {
		pgcmdtest.CountRoundTrips(t, pool, func() {
			held, err := pool.Acquire(ctx)
			require.NoError(t, err)
			defer held.Release()
			other, err := pool.Acquire(ctx)
			require.NoError(t, err)
			other.Release()
		})
	})
	require.Len(t, r, 1)
	assert.Contains(t, r[0], "were not counted on 1 connections that the pool opened meanwhile")

	tx, err := pool.Begin(ctx)
	require.NoError(t, err)
	defer tx.Rollback(ctx)
	r = record(t, func(t testing.TB) { pgcmdtest.CountRoundTrips(t, tx, func() {}) })
	assert.Equal(t, []string{"fatal: pgcmdtest: round trips cannot be counted on a *pgxpool.Tx: pass a pool or a connection"}, r)
}
