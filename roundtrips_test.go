package pgcmd_test

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgcmd/pgcmd"
	"github.com/pgcmd/pgcmd/internal/faults"
	"github.com/pgcmd/pgcmd/pgcmdtest"
)

// The round trips are counted by a proxy, once every statement is prepared.
func TestRoundTrips(t *testing.T) {
	t.Parallel()
	proxy, err := faults.Start(pgcmdtest.Pool(t, accountsDDL, pgcmd.OnceSchema).Config().ConnString())
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, proxy.Close()) })
	pool, err := pgcmd.Connect(t.Context(), pgcmd.Config{URL: proxy.URL(), MaxConns: 1})
	require.NoError(t, err)
	t.Cleanup(pool.Pool.Close)

	three := pgcmd.Transaction("bank.three", func(ctx context.Context, tx *pgcmd.Tx, in transfer) (int64, error) {
		for range 2 {
			if _, err := debit.Run(ctx, tx, in); err != nil {
				return 0, err
			}
		}
		return pay.Run(ctx, tx, in)
	})
	total := pgcmd.QueryOne[empty, int64]("accounts.total", `select sum(balance)::int8 from accounts`)
	const debitSQL = `update accounts set balance = balance - $1 where id = $2`
	for _, c := range []struct {
		what  string
		trips int64
		run   func(ctx context.Context) error
	}{
		{"a statement", 1, func(ctx context.Context) error { return runErr(debit.Run(ctx, pool, transfer{From: 1})) }},
		{"a statement in a transaction of its own", 2, func(ctx context.Context) error {
			return runErr(debit.With(pgcmd.Options{InTx: true}).Run(ctx, pool, transfer{From: 1}))
		}},
		{"a transaction of three statements", 4, func(ctx context.Context) error { return runErr(three.Run(ctx, pool, transfer{From: 1, To: 2})) }},
		{"the same with a timeout", 4, func(ctx context.Context) error {
			return runErr(three.With(pgcmd.Options{Timeout: time.Minute, Tx: pgx.TxOptions{IsoLevel: pgx.RepeatableRead}}).Run(ctx, pool, transfer{From: 1, To: 2}))
		}},
		{"the same by pgx.BeginFunc", 5, func(ctx context.Context) error {
			return pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
				for range 3 {
					if _, err := tx.Exec(ctx, debitSQL, 0, 1); err != nil {
						return err
					}
				}
				return nil
			})
		}},
		{"pgx's own calls on a Tx", 4, func(ctx context.Context) error {
			_, err := transact(func(ctx context.Context, tx *pgcmd.Tx) error {
				for range 3 {
					if _, err := tx.Exec(ctx, debitSQL, 0, 1); err != nil {
						return err
					}
				}
				return nil
			}).Run(ctx, pool, empty{})
			return err
		}},
		{"two statements that are tried", 3, func(ctx context.Context) error {
			_, err := transact(func(ctx context.Context, tx *pgcmd.Tx) error {
				if err := debit.Try(ctx, tx, transfer{From: 1}).Err; err != nil {
					return err
				}
				return debit.Try(ctx, tx, transfer{From: 1}).Err
			}).Run(ctx, pool, empty{})
			return err
		}},
		{"two queries without arguments that are tried", 3, func(ctx context.Context) error {
			_, err := transact(func(ctx context.Context, tx *pgcmd.Tx) error {
				if err := total.Try(ctx, tx, empty{}).Err; err != nil {
					return err
				}
				return total.Try(ctx, tx, empty{}).Err
			}).Run(ctx, pool, empty{})
			return err
		}},
		{"an empty transaction", 0, func(ctx context.Context) error {
			_, err := transact(func(context.Context, *pgcmd.Tx) error { return nil }).Run(ctx, pool, empty{})
			return err
		}},
		{"a refused input", 0, func(ctx context.Context) error {
			require.Error(t, runErr(accept[signup]("x").With(pgcmd.Options{InTx: true}).Run(ctx, pool, signup{})))
			return nil
		}},
		{"a statement run once", 4, func(ctx context.Context) error {
			key := func(transfer) string { return time.Now().String() }
			return runErr(pgcmd.Once(debit, key).Run(ctx, pool, transfer{From: 1}))
		}},
	} {
		require.NoError(t, c.run(t.Context()), c.what) // prepares
		before := proxy.Counts().RoundTrips
		require.NoError(t, c.run(t.Context()), c.what)
		assert.Equal(t, c.trips, proxy.Counts().RoundTrips-before, c.what)
	}
}
