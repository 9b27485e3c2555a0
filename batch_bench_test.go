package pgcmd_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/pgcmd/pgcmd"
	"github.com/pgcmd/pgcmd/internal/faults"
	"github.com/pgcmd/pgcmd/pgcmdtest"
)

const insertItemSQL = `insert into items (id, name, qty, late) values ($1, $2, $3, $4)`

// delayed is the address of a database of its own, at round trips of so long.
func delayed(b *testing.B, rtt time.Duration, ddl ...string) string {
	b.Helper()
	url := pgcmdtest.URL(b, ddl...)
	if rtt == 0 {
		return url
	}
	proxy, err := faults.Start(url)
	require.NoError(b, err)
	b.Cleanup(func() { _ = proxy.Close() })
	proxy.Latency(rtt)
	return proxy.URL()
}

var roundTrips = []time.Duration{0, time.Millisecond, 10 * time.Millisecond}

// BenchmarkPipeline compares three different commands in a pipeline with the same three
// by hand, one after the other.
func BenchmarkPipeline(b *testing.B) {
	ctx := context.Background()
	for _, rtt := range roundTrips {
		pool, err := pgxpool.New(ctx, delayed(b, rtt, itemsDDL, `alter table items drop constraint items_id_key`))
		require.NoError(b, err)
		defer pool.Close()
		ours := func() error {
			var p pgcmd.Pipeline
			pgcmd.Queue(&p, addItem, goods{ID: 1, Qty: 1})
			pgcmd.Queue(&p, insertItem, goods{ID: 1, Qty: 1})
			listed := pgcmd.Queue(&p, tenItems, struct{}{})
			if err := p.Run(ctx, pool, pgcmd.Atomic); err != nil {
				return err
			}
			_, err := listed.Get()
			return err
		}
		theirs := func() error {
			return pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
				if _, err := tx.Exec(ctx, insertItemSQL, 1, "", 1, nil); err != nil {
					return err
				}
				var id int64
				if err := tx.QueryRow(ctx, insertItemSQL+" returning id", 1, "", 1, nil).Scan(&id); err != nil {
					return err
				}
				rows, _ := tx.Query(ctx, `select id from items limit 10`)
				_, err := pgx.CollectRows(rows, pgx.RowTo[int64])
				return err
			})
		}
		b.Run(fmt.Sprintf("rtt %v", rtt), func(b *testing.B) { paired(b, 1, ours, theirs) })
	}
}

var tenItems = pgcmd.Query[struct{}, int64]("items.ten", `select id from items limit 10`)

// BenchmarkBatch compares the modes with what is written by hand, in turns, at round
// trips of 0, 1 and 10 ms.
func BenchmarkBatch(b *testing.B) {
	ctx := context.Background()
	for _, rtt := range roundTrips {
		pool, err := pgxpool.New(ctx, delayed(b, rtt, itemsDDL, `alter table items drop constraint items_id_key`))
		require.NoError(b, err)
		defer pool.Close()

		loop := func(items []goods) error {
			for _, in := range items {
				if _, err := pool.Exec(ctx, insertItemSQL, in.ID, in.Name, in.Qty, in.Late); err != nil {
					return err
				}
			}
			return nil
		}
		txLoop := func(items []goods) error { // one transaction, a statement at a time
			return pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
				for _, in := range items {
					if _, err := tx.Exec(ctx, insertItemSQL, in.ID, in.Name, in.Qty, in.Late); err != nil {
						return err
					}
				}
				return nil
			})
		}
		pgxBatch := func(items []goods) error {
			batch := &pgx.Batch{}
			for _, in := range items {
				batch.Queue(insertItemSQL, in.ID, in.Name, in.Qty, in.Late)
			}
			return pool.SendBatch(ctx, batch).Close()
		}
		txEach := func(items []goods) error { // a transaction for each row
			for _, in := range items {
				err := pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
					_, err := tx.Exec(ctx, insertItemSQL, in.ID, in.Name, in.Qty, in.Late)
					return err
				})
				if err != nil {
					return err
				}
			}
			return nil
		}
		savepoints := func(items []goods) error { // a savepoint for each row
			return pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
				for _, in := range items {
					_ = pgx.BeginFunc(ctx, tx, func(tx pgx.Tx) error {
						_, err := tx.Exec(ctx, insertItemSQL, in.ID, in.Name, in.Qty, in.Late)
						return err
					})
				}
				return nil
			})
		}
		for _, c := range []struct {
			mode      pgcmd.BatchMode
			n         int
			bad       []int
			reference string
			theirs    func([]goods) error
		}{
			{pgcmd.Atomic, 100, nil, "a loop", loop},
			{pgcmd.Atomic, 100, nil, "a loop in a transaction", txLoop},
			{pgcmd.Atomic, 100, nil, "pgx.Batch", pgxBatch},
			{pgcmd.Atomic, 1000, nil, "pgx.Batch", pgxBatch},
			{pgcmd.Isolated, 100, nil, "a loop", loop},
			{pgcmd.Isolated, 1000, nil, "pgx.Batch", pgxBatch},
			{pgcmd.Isolated, 1000, []int{17}, "a savepoint a row", savepoints},
			{pgcmd.Independent, 100, nil, "a loop", loop},
			{pgcmd.Independent, 100, nil, "a transaction a row", txEach},
			{pgcmd.Sequential, 100, nil, "a loop", loop},
		} {
			b.Run(fmt.Sprintf("rtt %v/%v of %d, %d bad/over %s", rtt, c.mode, c.n, len(c.bad), c.reference), func(b *testing.B) {
				items := someItems(c.n, c.bad...)
				batch := pgcmd.Batch(addItem, c.mode)
				paired(b, 1, func() error { return runErr(batch.Run(ctx, pool, items)) }, func() error { return c.theirs(items) })
				_, err := pool.Exec(ctx, `truncate items`)
				require.NoError(b, err)
			})
		}
	}
}
