package commit_test

import (
	"context"
	"math"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/pgcmd/pgcmd"
	"github.com/pgcmd/pgcmd/pgcmdtest"
)

// farAway are deadlines beyond what statement_timeout can hold.
var farAway = map[string]time.Time{
	"25 days":       time.Now().Add(25 * 24 * time.Hour),
	"a year":        time.Now().AddDate(1, 0, 0),
	"the year 9999": time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC),
}

type one struct{ N int }

var ints = pgcmd.Rows([]one{{1}})

func TestADeadlineFarAwayBreaksNothing(t *testing.T) {
	t.Parallel()
	pool, err := pgcmd.Connect(t.Context(), pgcmd.Config{URL: pgcmdtest.URL(t, `create table t (n int)`), MaxConns: 2, Multiplex: 1,
		StatementTimeout: math.MaxInt64, LockTimeout: math.MaxInt64, IdleInTxTimeout: math.MaxInt64})
	require.NoError(t, err)
	t.Cleanup(func() { _ = pool.Close(context.Background()) })
	insert := pgcmd.Exec[int]("t.insert", `insert into t values ($1)`)
	list := pgcmd.Query[struct{}, int]("t.list", `select n from t`).With(pgcmd.Options{ReadOnly: true})
	copyIn := pgcmd.Copy[one]("t.copy", pgx.Identifier{"t"})
	inYears := time.Until(farAway["a year"])
	read := func(ctx context.Context, db pgcmd.DB) error {
		for _, err := range pgcmd.Stream(ctx, db, list, struct{}{}) {
			if err != nil {
				return err
			}
		}
		return nil
	}
	runs := map[string]func(ctx context.Context) error{
		"a statement":   func(ctx context.Context) error { _, err := insert.Run(ctx, pool, 1); return err },
		"a shared read": func(ctx context.Context) error { _, err := list.Run(ctx, pool, struct{}{}); return err },
		"a statement InTx": func(ctx context.Context) error {
			_, err := insert.With(pgcmd.Options{InTx: true}).Run(ctx, pool, 1)
			return err
		},
		"a batch": func(ctx context.Context) error {
			_, err := pgcmd.Batch(insert, pgcmd.Isolated).Run(ctx, pool, []int{1})
			return err
		},
		"a stream": func(ctx context.Context) error { return read(ctx, pool) },
		"a copy":   func(ctx context.Context) error { _, err := copyIn.Run(ctx, pool, ints); return err },
		"a copy InTx": func(ctx context.Context) error {
			_, err := copyIn.With(pgcmd.Options{InTx: true}).Run(ctx, pool, ints)
			return err
		},
		"a pipeline": func(ctx context.Context) error {
			var p pgcmd.Pipeline
			pgcmd.Queue(&p, insert, 1)
			return p.Run(ctx, pool, pgcmd.Atomic)
		},
		"a statement in a pgx.Tx": func(ctx context.Context) error {
			tx, err := pool.Begin(ctx)
			if err != nil {
				return err
			}
			defer tx.Rollback(ctx)
			_, err = insert.With(pgcmd.Options{Timeout: inYears}).Run(ctx, tx, 1)
			return err
		},
		"a transaction": func(ctx context.Context) error {
			_, err := pgcmd.Transaction("t.twice", func(ctx context.Context, tx *pgcmd.Tx, n int) (int64, error) {
				if err := read(ctx, tx); err != nil {
					return 0, err
				}
				return insert.With(pgcmd.Options{InTx: true, Timeout: inYears}).Run(ctx, tx, n)
			}).Run(ctx, pool, 1)
			return err
		},
	}
	for away, deadline := range farAway {
		for name, run := range runs {
			t.Run(away+"/"+name, func(t *testing.T) {
				ctx, cancel := context.WithDeadline(t.Context(), deadline)
				defer cancel()
				require.NoError(t, run(ctx))
			})
		}
	}
}
