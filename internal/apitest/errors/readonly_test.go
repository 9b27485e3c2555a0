package errors_test

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgcmd/pgcmd"
	"github.com/pgcmd/pgcmd/pgcmdtest"
)

// A write in a transaction that the program has begun read-only is refused whatever the server is: it is a mistake of the
// program, which no retry helps, and says nothing about the server.
func TestAWriteInAReadOnlyTransactionIsAMistakeOfTheProgram(t *testing.T) {
	t.Parallel()
	type none = struct{}
	type row struct{ N int }
	write := pgcmd.Exec[none]("rows.add", `insert into rows values (1)`)
	read := pgcmd.QueryOne[none, int]("rows.count", `select count(*) from rows`)
	byFunction := pgcmd.QueryOne[none, int]("rows.grow", `select grow()`)
	rows := pgcmd.Query[none, int]("rows.grow_all", `select grow() from generate_series(1, 3)`)
	copied := pgcmd.Copy[row]("rows.import", pgx.Identifier{"rows"})
	body := func(f func(ctx context.Context, tx *pgcmd.Tx) error) *pgcmd.Command[none, none] {
		return pgcmd.Transaction("rows.report", func(ctx context.Context, tx *pgcmd.Tx, _ none) (none, error) {
			if _, err := read.Run(ctx, tx, none{}); err != nil {
				return none{}, err
			}
			err := f(ctx, tx)
			return none{}, err
		})
	}
	retry := pgcmd.Retry{Attempts: 3}
	readOnly := pgcmd.Options{ReadOnly: true, Retry: retry}
	pool := pgcmdtest.Connect(t, pgcmd.Config{}, `create table rows (n int);
		create function grow() returns int language sql as 'insert into rows values (2) returning n'`)
	for name, run := range map[string]func(ctx context.Context) error{
		"an Exec": func(ctx context.Context) error {
			_, err := body(func(ctx context.Context, tx *pgcmd.Tx) error {
				_, err := write.Run(ctx, tx, none{})
				assert.Equal(t, pgcmd.CodeInternal, pgcmd.CodeOf(err), "the body sees it, too")
				assert.False(t, pgcmd.Retryable(err))
				return err
			}).With(readOnly).Run(ctx, pool, none{})
			return err
		},
		"the access mode": func(ctx context.Context) error {
			_, err := body(func(ctx context.Context, tx *pgcmd.Tx) error {
				_, err := write.Run(ctx, tx, none{})
				return err
			}).With(pgcmd.Options{Tx: pgx.TxOptions{AccessMode: pgx.ReadOnly}, Retry: retry}).Run(ctx, pool, none{})
			return err
		},
		"a Try": func(ctx context.Context) error {
			_, err := body(func(ctx context.Context, tx *pgcmd.Tx) error {
				return pgcmd.Try(ctx, tx, write, none{}).Err
			}).With(readOnly).Run(ctx, pool, none{})
			return err
		},
		"an error that is ignored": func(ctx context.Context) error {
			_, err := body(func(ctx context.Context, tx *pgcmd.Tx) error {
				_, _ = write.Run(ctx, tx, none{})
				return nil
			}).With(readOnly).Run(ctx, pool, none{})
			return err
		},
		"SQL of the body": func(ctx context.Context) error {
			_, err := body(func(ctx context.Context, tx *pgcmd.Tx) error {
				_, err := tx.Exec(ctx, `insert into rows values ($1)`, 3)
				return err
			}).With(readOnly).Run(ctx, pool, none{})
			return err
		},
		"a Batch": func(ctx context.Context) error {
			_, err := body(func(ctx context.Context, tx *pgcmd.Tx) error {
				_, err := pgcmd.Batch(write, pgcmd.Atomic).Run(ctx, tx, make([]none, 2))
				assert.Equal(t, pgcmd.CodeInternal, pgcmd.CodeOf(err))
				return err
			}).With(readOnly).Run(ctx, pool, none{})
			return err
		},
		"a Batch of its own": func(ctx context.Context) error {
			_, err := pgcmd.Batch(byFunction, pgcmd.Atomic).With(pgcmd.Options{Tx: pgx.TxOptions{AccessMode: pgx.ReadOnly}, Retry: retry}).Run(ctx, pool, make([]none, 2))
			return err
		},
		"a Copy": func(ctx context.Context) error {
			_, err := body(func(ctx context.Context, tx *pgcmd.Tx) error {
				_, err := copied.Run(ctx, tx, pgcmd.Rows([]row{{1}}))
				assert.Equal(t, pgcmd.CodeInternal, pgcmd.CodeOf(err))
				return err
			}).With(readOnly).Run(ctx, pool, none{})
			return err
		},
		"a Stream": func(ctx context.Context) error {
			_, err := body(func(ctx context.Context, tx *pgcmd.Tx) (err error) {
				for _, err = range pgcmd.Stream(ctx, tx, rows, none{}) {
				}
				assert.Equal(t, pgcmd.CodeInternal, pgcmd.CodeOf(err))
				return err
			}).With(readOnly).Run(ctx, pool, none{})
			return err
		},
		"a function, InTx": func(ctx context.Context) error {
			_, err := byFunction.With(pgcmd.Options{InTx: true, ReadOnly: true, Retry: retry}).Run(ctx, pool, none{})
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			err := run(t.Context())
			var e *pgcmd.Error
			require.ErrorAs(t, err, &e)
			assert.Equal(t, pgcmd.CodeInternal, e.Code, "%v", err)
			assert.Equal(t, pgcmd.NotApplied, e.Effect)
			assert.Equal(t, 1, e.Attempts)
			assert.Contains(t, e.Message, "read-only")
			assert.NotContains(t, e.Message, "standby")
		})
	}
	assert.Nil(t, pool.Health(t.Context()).LastError, "it is none of the server")
	assert.Zero(t, pool.Metrics().Pool.Resets)
	n, err := read.Run(t.Context(), pool, none{})
	require.NoError(t, err)
	assert.Zero(t, n)
}
