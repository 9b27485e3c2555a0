package pgcmd_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgcmd/pgcmd"
	"github.com/pgcmd/pgcmd/pgcmdtest"
)

func TestASwallowedErrorNeverEndsInSuccess(t *testing.T) {
	t.Parallel()
	plain := pgcmdtest.Pool(t, accountsDDL)
	pool := connect(t, plain, 4)
	ctx := t.Context()
	for name, c := range map[string]struct {
		body  func(ctx context.Context, tx *pgcmd.Tx)
		state string
		code  pgcmd.Code
		want  string
	}{
		"of a command": {func(ctx context.Context, tx *pgcmd.Tx) {
			_, _ = note.Run(ctx, tx, 1)
			_, _ = debit.Run(ctx, tx, transfer{From: 1, Amount: 1000})
			_, err := note.Run(ctx, tx, 2)
			assert.Equal(t, "enough", failure(t, err).Constraint, "the first error, and not 25P02")
		}, "23514", pgcmd.CodeInvalid, "the body swallowed the error"},
		"of pgx's Exec": {func(ctx context.Context, tx *pgcmd.Tx) {
			_, _ = tx.Exec(ctx, `insert into notes values (1)`)
			_, _ = tx.Exec(ctx, `select 1/0`)
			_, err := tx.Exec(ctx, `select 1`)
			var pgErr *pgconn.PgError
			assert.ErrorAs(t, err, &pgErr)
			assert.Equal(t, "22012", pgErr.Code)
		}, "22012", pgcmd.CodeInvalid, "the body swallowed the error"},
		"of the first statement": {func(ctx context.Context, tx *pgcmd.Tx) {
			_, _ = tx.Exec(ctx, `not SQL`)
			_, _ = tx.Exec(ctx, `insert into notes values (1)`)
		}, "42601", pgcmd.CodeInternal, "the body swallowed the error"},
		"of the first statement, with parameters": {func(ctx context.Context, tx *pgcmd.Tx) {
			_, _ = tx.Exec(ctx, `not SQL $1`, 1)
			_, _ = tx.Exec(ctx, `insert into notes values ($1)`, 1)
		}, "42601", pgcmd.CodeInternal, "the body swallowed the error"},
		"of pgx's rows": {func(ctx context.Context, tx *pgcmd.Tx) {
			rows, err := tx.Query(ctx, `select 1/(2-n) from generate_series(1, 3) n`)
			require.NoError(t, err)
			for rows.Next() {
			}
		}, "22012", pgcmd.CodeInvalid, "the body swallowed the error"},
		"of a batch": {func(ctx context.Context, tx *pgcmd.Tx) {
			b := &pgx.Batch{}
			b.Queue(`insert into notes values (1)`)
			b.Queue(`select 1/0`)
			_ = tx.SendBatch(ctx, b).Close()
		}, "22012", pgcmd.CodeInvalid, "the body swallowed the error"},
		"rows left open": {func(ctx context.Context, tx *pgcmd.Tx) {
			_, _ = tx.Query(ctx, `select generate_series(1, 10)`)
		}, "", pgcmd.CodeInternal, "left rows open"},
		"a batch left open": {func(ctx context.Context, tx *pgcmd.Tx) {
			b := &pgx.Batch{}
			b.Queue(`insert into notes values (1)`)
			_ = tx.SendBatch(ctx, b)
		}, "", pgcmd.CodeInternal, "left a batch open"},
		"Commit in the body": {func(ctx context.Context, tx *pgcmd.Tx) {
			_, _ = note.Run(ctx, tx, 1)
			assert.Error(t, tx.Commit(ctx))
		}, "", pgcmd.CodeInternal, "Commit was called"},
		"Rollback in the body": {func(ctx context.Context, tx *pgcmd.Tx) {
			assert.Error(t, tx.Rollback(ctx))
		}, "", pgcmd.CodeInternal, "Rollback was called"},
	} {
		_, err := transact(func(ctx context.Context, tx *pgcmd.Tx) error { c.body(ctx, tx); return nil }).Run(ctx, pool, empty{})
		e := failure(t, err)
		assert.Equal(t, c.state, e.SQLState, name)
		assert.Equal(t, c.code, e.Code, name)
		assert.Contains(t, e.Message, c.want, name)
		assert.Equal(t, pgcmd.NotApplied, e.Effect, name)
		assert.Zero(t, count(t, pool, countNotes), name)
	}
	for _, sql := range []string{`commit`, `rollback`} {
		for _, first := range []bool{false, true} {
			_, err := transact(func(ctx context.Context, tx *pgcmd.Tx) error {
				if !first {
					_, _ = note.Run(ctx, tx, 1)
				}
				_, _ = tx.Exec(ctx, sql)
				_, err := note.Run(ctx, tx, 2)
				assert.Contains(t, failure(t, err).Message, "by SQL text", "what follows would commit by itself")
				return nil
			}).Run(ctx, pool, empty{})
			assert.Equal(t, pgcmd.Unknown, failure(t, err).Effect, "ended by SQL text: "+sql)
		}
	}
	_, err := pool.Exec(ctx, `delete from notes`)
	require.NoError(t, err)
	_, err = transact(func(ctx context.Context, tx *pgcmd.Tx) error {
		nothing := pgcmd.QueryOne[empty, int]("x", `select 1 where false`)
		_, err := nothing.Run(ctx, tx, empty{})
		assert.Equal(t, pgcmd.CodeNotFound, pgcmd.CodeOf(err))
		_, err = note.Run(ctx, tx, 9)
		return err
	}).Run(ctx, pool, empty{})
	assert.NoError(t, err, "NotFound aborts nothing")
	idle(t, pool.Pool)
}

func TestTryIsolatesWhatTheServerRefusesToPrepare(t *testing.T) {
	t.Parallel()
	plain := pgcmdtest.Pool(t, accountsDDL)
	pool := connect(t, plain, 1)
	for what, refused := range map[string]func(ctx context.Context, db pgcmd.DB) error{
		"a query without arguments": func(ctx context.Context, db pgcmd.DB) error {
			return pgcmd.Try(ctx, db, pgcmd.Query[empty, int]("wrong", `select nowhere`), empty{}).Err
		},
		"an exec without arguments": func(ctx context.Context, db pgcmd.DB) error {
			return pgcmd.Try(ctx, db, pgcmd.Exec[empty]("wrong", `delete from nowhere`), empty{}).Err
		},
		"one with arguments": func(ctx context.Context, db pgcmd.DB) error {
			return pgcmd.Try(ctx, db, pgcmd.Exec[int]("wrong", `delete from nowhere where n = $1`), 1).Err
		},
		"a body's own query": func(ctx context.Context, db pgcmd.DB) error {
			return pgcmd.Try(ctx, db, transact(func(ctx context.Context, tx *pgcmd.Tx) error {
				return tx.QueryRow(ctx, `select nowhere`).Scan(new(int))
			}), empty{}).Err
		},
	} {
		try := func(ctx context.Context, db pgcmd.DB) {
			for range 2 {
				e := failure(t, refused(ctx, db))
				assert.Contains(t, []string{"42703", "42P01"}, e.SQLState, what)
				assert.Equal(t, pgcmd.NotApplied, e.Effect, what)
			}
		}
		for _, first := range []bool{true, false} {
			_, err := transact(func(ctx context.Context, tx *pgcmd.Tx) error {
				if !first {
					require.NoError(t, runErr(note.Run(ctx, tx, 1)))
				}
				try(ctx, tx)
				return runErr(note.Run(ctx, tx, 2))
			}).Run(t.Context(), pool, empty{})
			require.NoError(t, err, "%s, the first: %v", what, first)
			assert.Equal(t, 1, count(t, pool, `delete from notes where n = 2 returning 1`), what)
			require.NoError(t, runErr(pool.Exec(t.Context(), `truncate notes`)))
		}
		tx, err := plain.Begin(t.Context())
		require.NoError(t, err)
		try(t.Context(), tx)
		require.NoError(t, pgcmd.Try(t.Context(), tx, note, 3).Err, what)
		require.NoError(t, tx.Commit(t.Context()), what)
		assert.Equal(t, 1, count(t, pool, `delete from notes where n = 3 returning 1`), what)
	}

	all := pgcmd.Query[empty, int]("notes.all", `select n from notes`)
	some := pgcmd.Query[int, int]("notes.some", `select n from notes where n > $1`)
	_, err := transact(func(ctx context.Context, tx *pgcmd.Tx) error {
		for range 3 {
			require.NoError(t, pgcmd.Try(ctx, tx, all, empty{}).Err)
			require.NoError(t, pgcmd.Try(ctx, tx, some, 1).Err)
		}
		require.NoError(t, runErr(tx.Exec(ctx, `alter table notes rename n to number`)))
		for range 3 {
			assert.Equal(t, "42703", failure(t, pgcmd.Try(ctx, tx, all, empty{}).Err).SQLState)
			assert.Equal(t, "42703", failure(t, pgcmd.Try(ctx, tx, some, 1).Err).SQLState)
		}
		return runErr(tx.Exec(ctx, `alter table notes rename number to n`))
	}).Run(t.Context(), pool, empty{})
	require.NoError(t, err, "of statements that are prepared already, when the schema changes")
	idle(t, plain)
}

func TestAnArgumentThatCannotBeEncodedAbortsNothing(t *testing.T) {
	t.Parallel()
	pool := connect(t, pgcmdtest.Pool(t, accountsDDL), 1)
	conn, err := pool.Acquire(t.Context())
	require.NoError(t, err)
	pid := conn.Conn().PgConn().PID()
	conn.Release()
	overflow := pgcmd.Exec[int64]("notes.long", `insert into notes values ($1)`)
	for i, bad := range []func(ctx context.Context, tx *pgcmd.Tx) error{
		func(ctx context.Context, tx *pgcmd.Tx) error { return runErr(overflow.Run(ctx, tx, 1<<40)) },
		func(ctx context.Context, tx *pgcmd.Tx) error { return pgcmd.Try(ctx, tx, overflow, 1<<40).Err },
		func(ctx context.Context, tx *pgcmd.Tx) error {
			return runErr(tx.Exec(ctx, `insert into notes values ($1)`, int64(1)<<40))
		},
		func(ctx context.Context, tx *pgcmd.Tx) error {
			return tx.QueryRow(ctx, `insert into notes values (@n) returning n`, pgx.NamedArgs{"n": int64(1) << 40}).Scan(new(int))
		},
	} {
		_, err := transact(func(ctx context.Context, tx *pgcmd.Tx) error {
			require.Error(t, bad(ctx, tx), "as the first statement")
			require.NoError(t, runErr(note.Run(ctx, tx, i)))
			require.NoError(t, pgcmd.Try(ctx, tx, overflow, int64(100+i)).Err)
			err := bad(ctx, tx)
			require.Error(t, err, "and as a later one")
			return nil
		}).Run(t.Context(), pool, empty{})
		require.NoError(t, err)
	}
	b := &pgx.Batch{}
	b.Queue(`select 1`)
	b.Queue(`insert into notes values ($1)`, int64(1)<<40)
	tries := 0
	_, err = transact(func(ctx context.Context, tx *pgcmd.Tx) error { tries++; return tx.SendBatch(ctx, b).Close() }).
		With(pgcmd.Options{Retry: pgcmd.Retry{Attempts: 3}}).Run(t.Context(), connect(t, pool.Pool, 1), empty{})
	assert.Equal(t, pgcmd.CodeInvalid, failure(t, err).Code)
	assert.Equal(t, 1, tries, "bad input is not tried again")
	assert.Equal(t, 8, count(t, pool, countNotes))
	assert.EqualValues(t, pid, count(t, pool, `select pg_backend_pid()`), "the connection stays open")
	_, err = overflow.Run(t.Context(), pool, 1<<40)
	assert.Equal(t, "input", failure(t, err).Problems[0].Field)
	_, err = transact(func(ctx context.Context, tx *pgcmd.Tx) error { return runErr(overflow.Run(ctx, tx, 1<<40)) }).Run(t.Context(), pool, empty{})
	e := failure(t, err)
	assert.Equal(t, []any{"input", pgcmd.CodeInvalid, pgcmd.NotApplied}, []any{e.Problems[0].Field, e.Code, e.Effect})
}

func TestAfterCommit(t *testing.T) {
	t.Parallel()
	pool := connect(t, pgcmdtest.Pool(t, accountsDDL), 1)
	ctx := t.Context()
	var ran []string
	add := func(tx *pgcmd.Tx, name string) {
		tx.AfterCommit(func(ctx context.Context) {
			ran = append(ran, name)
			assert.NoError(t, ctx.Err())
			assert.Zero(t, pool.Stat().AcquiredConns(), "the connection was released")
			assert.NoError(t, runErr(pgcmd.Exec[empty]("x", `select 1`).Run(ctx, pool, empty{})), "the context is of no transaction")
		})
	}
	cancelled, cancel := context.WithCancel(ctx)
	inner := transact(func(ctx context.Context, tx *pgcmd.Tx) error {
		add(tx, "inner")
		_, err := note.Run(ctx, tx, 1)
		return err
	})
	failing := transact(func(ctx context.Context, tx *pgcmd.Tx) error { add(tx, "dropped"); return errHook })
	_, err := transact(func(ctx context.Context, tx *pgcmd.Tx) error {
		add(tx, "first")
		assert.NoError(t, pgcmd.Try(ctx, tx, inner, empty{}).Err)
		assert.Error(t, pgcmd.Try(ctx, tx, failing, empty{}).Err)
		add(tx, "last")
		context.AfterFunc(cancelled, func() {})
		return nil
	}).Run(cancelled, pool, empty{})
	cancel()
	require.NoError(t, err)
	assert.Equal(t, []string{"first", "inner", "last"}, ran)

	ran = nil
	_, err = failing.Run(ctx, pool, empty{})
	assert.ErrorIs(t, err, errHook)
	assert.Empty(t, ran)

	assert.Equal(t, "in AfterCommit", panics(t, func() {
		_, _ = transact(func(ctx context.Context, tx *pgcmd.Tx) error {
			tx.AfterCommit(func(context.Context) { panic("in AfterCommit") })
			add(tx, "after a panic")
			_, err := note.Run(ctx, tx, 2)
			return err
		}).Run(ctx, pool, empty{})
	}))
	assert.Equal(t, []string{"after a panic"}, ran)
	assert.Equal(t, 2, count(t, pool, countNotes), "the commit stands")

	tx, err := pool.Begin(ctx)
	require.NoError(t, err)
	defer tx.Rollback(ctx)
	_, err = inner.Run(ctx, tx, empty{})
	assert.Contains(t, failure(t, err).Message, "whose commit it cannot see")
}

func TestATxAfterItsEndAndFromTwoGoroutines(t *testing.T) {
	t.Parallel()
	pool := connect(t, pgcmdtest.Pool(t, accountsDDL), 2)
	ctx := t.Context()
	var kept *pgcmd.Tx
	_, err := transact(func(ctx context.Context, tx *pgcmd.Tx) error {
		kept = tx
		rows, err := tx.Query(ctx, `select 1`)
		require.NoError(t, err)
		_, err = note.Run(ctx, tx, 1)
		assert.Contains(t, failure(t, err).Message, "in use")
		assert.Equal(t, pgcmd.NotApplied, pgcmd.EffectOf(err))
		rows.Close()
		_, err = note.Run(ctx, tx, 1)
		return err
	}).Run(ctx, pool, empty{})
	require.NoError(t, err)
	_, err = note.Run(ctx, kept, 2)
	assert.ErrorIs(t, err, pgx.ErrTxClosed)
	assert.Equal(t, pgcmd.NotApplied, failure(t, err).Effect)
	_, err = kept.Exec(ctx, `insert into notes values (3)`)
	assert.ErrorIs(t, err, pgx.ErrTxClosed)
	assert.ErrorIs(t, kept.QueryRow(ctx, `select 1`).Scan(new(int)), pgx.ErrTxClosed)
	assert.ErrorIs(t, kept.Commit(ctx), pgx.ErrTxClosed)
	assert.Equal(t, 1, count(t, pool, countNotes))
}

// A savepoint of PostgreSQL ends with each one that was made before it. A nested Tx that outlived it could report the rows of
// its own as kept that are gone, or take back rows that were kept.
func TestANestedTxEndsWithThoseBegunBeforeIt(t *testing.T) {
	t.Parallel()
	pool := connect(t, pgcmdtest.Pool(t, accountsDDL), 1)
	begin := func(t *testing.T, tx pgx.Tx, n int) pgx.Tx {
		nested, err := tx.Begin(t.Context())
		require.NoError(t, err)
		_, err = note.Run(t.Context(), nested, n)
		require.NoError(t, err)
		return nested
	}
	for name, c := range map[string]struct {
		body func(t *testing.T, tx *pgcmd.Tx) (ended pgx.Tx)
		kept int
	}{
		"within one that is released": {func(t *testing.T, tx *pgcmd.Tx) pgx.Tx {
			outer := begin(t, tx, 1)
			inner := begin(t, outer, 2)
			require.NoError(t, outer.Commit(t.Context()))
			return inner
		}, 2},
		"within one that is rolled back": {func(t *testing.T, tx *pgcmd.Tx) pgx.Tx {
			outer := begin(t, tx, 1)
			inner := begin(t, outer, 2)
			require.NoError(t, outer.Rollback(t.Context()))
			return inner
		}, 0},
		"beside one that is released": {func(t *testing.T, tx *pgcmd.Tx) pgx.Tx {
			first, second := begin(t, tx, 1), begin(t, tx, 2)
			require.NoError(t, first.Commit(t.Context()))
			return second
		}, 2},
		"beside one that is rolled back": {func(t *testing.T, tx *pgcmd.Tx) pgx.Tx {
			first, second := begin(t, tx, 1), begin(t, tx, 2)
			require.NoError(t, first.Rollback(t.Context()))
			return second
		}, 0},
		"beside one in which nothing was run": {func(t *testing.T, tx *pgcmd.Tx) pgx.Tx {
			first, err := tx.Begin(t.Context())
			require.NoError(t, err)
			second, err := tx.Begin(t.Context())
			require.NoError(t, err)
			require.NoError(t, first.Rollback(t.Context()))
			return second
		}, 0},
		"left by a command that was run by Try": {func(t *testing.T, tx *pgcmd.Tx) (left pgx.Tx) {
			require.NoError(t, pgcmd.Try(t.Context(), tx, transact(func(_ context.Context, tx *pgcmd.Tx) error {
				left = begin(t, tx, 1)
				return nil
			}), empty{}).Err)
			return left
		}, 1},
	} {
		for how, end := range map[string]func(tx pgx.Tx, ctx context.Context) error{"Commit": pgx.Tx.Commit, "Rollback": pgx.Tx.Rollback} {
			t.Run(name+", "+how, func(t *testing.T) {
				_, err := pool.Exec(t.Context(), `delete from notes`)
				require.NoError(t, err)
				ran := false
				_, err = transact(func(ctx context.Context, tx *pgcmd.Tx) error {
					ended := c.body(t, tx)
					ended.(*pgcmd.Tx).AfterCommit(func(context.Context) { ran = true })
					_, err := note.Run(ctx, ended, 3)
					assert.ErrorIs(t, err, pgx.ErrTxClosed)
					assert.ErrorIs(t, end(ended, ctx), pgx.ErrTxClosed)
					return runErr(note.Run(ctx, tx, 4))
				}).Run(t.Context(), pool, empty{})
				require.NoError(t, err)
				assert.Equal(t, c.kept+1, count(t, pool, countNotes))
				assert.False(t, ran)
			})
		}
	}
}

// What Try runs is given a nested Tx, which is as little its own to end as the outermost: rows that it released would stay, of a
// run whose error says that nothing does.
func TestTryFailsAloneIfItsBodyMisusesTheTx(t *testing.T) {
	t.Parallel()
	pool := connect(t, pgcmdtest.Pool(t, accountsDDL), 1)
	misuses := map[string]func(ctx context.Context, tx *pgcmd.Tx){
		"Commit was called":      func(ctx context.Context, tx *pgcmd.Tx) { assert.Error(t, tx.Commit(ctx)) },
		"Rollback was called":    func(ctx context.Context, tx *pgcmd.Tx) { assert.Error(t, tx.Rollback(ctx)) },
		"AfterCommit was called": func(_ context.Context, tx *pgcmd.Tx) { tx.AfterCommit(func(context.Context) { t.Error("it ran") }) },
	}
	body := func(misuse func(ctx context.Context, tx *pgcmd.Tx)) func(ctx context.Context, tx *pgcmd.Tx) error {
		return func(ctx context.Context, tx *pgcmd.Tx) error {
			_, err := note.Run(ctx, tx, 1)
			misuse(ctx, tx)
			return err
		}
	}
	for message, misuse := range misuses {
		for kind, c := range map[string]*pgcmd.Command[empty, empty]{
			"Transaction": transact(body(misuse)),
			"New": pgcmd.New("x", func(ctx context.Context, db pgcmd.DB, _ empty) (empty, error) {
				return empty{}, body(misuse)(ctx, db.(*pgcmd.Tx))
			}),
		} {
			tried := func(ctx context.Context, db pgcmd.DB) error {
				for how, err := range map[string]error{
					"Try":               pgcmd.Try(ctx, db, c, empty{}).Err,
					"an Isolated batch": runOutcomes(pgcmd.Batch(c, pgcmd.Isolated).Run(ctx, db, []empty{{}}))[0].Err,
				} {
					e := failure(t, err)
					assert.Contains(t, e.Message, message, "%s of a %s", how, kind)
					assert.Equal(t, pgcmd.NotApplied, e.Effect, "%s of a %s: %s", how, kind, message)
				}
				return runErr(note.Run(ctx, db, 2))
			}
			foreign, err := pool.Begin(t.Context())
			require.NoError(t, err)
			require.NoError(t, tried(t.Context(), foreign))
			require.NoError(t, foreign.Commit(t.Context()))
			assert.Equal(t, 1, count(t, pool, countNotes), message)
			if message != "AfterCommit was called" {
				_, err = pool.Exec(t.Context(), `delete from notes`)
				require.NoError(t, err)
				_, err = transact(func(ctx context.Context, tx *pgcmd.Tx) error { return tried(ctx, tx) }).Run(t.Context(), pool, empty{})
				require.NoError(t, err)
				assert.Equal(t, 1, count(t, pool, countNotes), message)
			}
			_, err = pool.Exec(t.Context(), `delete from notes`)
			require.NoError(t, err)
		}
	}
}

func runOutcomes[Out any](r pgcmd.BatchResult[Out], _ error) []pgcmd.Outcome[Out] { return r.Outcomes }

// pgcmd does not see the COMMIT of a transaction of others: what must not be committed has to be refused by the server.
func TestTryLeavesATransactionOfOthersAborted(t *testing.T) {
	t.Parallel()
	pool := connect(t, pgcmdtest.Pool(t, accountsDDL), 1)
	ctx := t.Context()
	conflict := pgcmd.Exec[empty]("conflict", `do $$ begin raise exception 'no' using errcode = '40001'; end $$`)
	refused := pgcmd.Exec[empty]("refused", `select 1 / 0`)
	for name, body := range map[string]func(db pgcmd.DB) (*pgcmd.Error, pgcmd.Code){
		// A savepoint of the batch, which has the name of that of Try, is still there.
		"it was aborted before": func(db pgcmd.DB) (*pgcmd.Error, pgcmd.Code) {
			require.NoError(t, runErr(pgcmd.Batch(note, pgcmd.Isolated).Run(ctx, db, []int{1, 2})))
			require.Error(t, runErr(refused.Run(ctx, db, empty{})))
			return failure(t, pgcmd.Try(ctx, db, note, 3).Err), pgcmd.CodeInternal
		},
		"it was aborted before, in a nested one": func(db pgcmd.DB) (*pgcmd.Error, pgcmd.Code) {
			_, err := transact(func(ctx context.Context, tx *pgcmd.Tx) error {
				nested, err := tx.Begin(ctx)
				require.NoError(t, err)
				require.NoError(t, runErr(note.Run(ctx, nested, 1)))
				require.NoError(t, nested.Commit(ctx))
				return nil
			}).Run(ctx, db, empty{})
			require.NoError(t, err)
			require.Error(t, runErr(refused.Run(ctx, db, empty{})))
			return failure(t, pgcmd.Try(ctx, db, pay, transfer{To: 1, Amount: 1}).Err), pgcmd.CodeInternal
		},
		"by a conflict": func(db pgcmd.DB) (*pgcmd.Error, pgcmd.Code) {
			return failure(t, runErr(transact(func(ctx context.Context, tx *pgcmd.Tx) error {
				require.NoError(t, runErr(note.Run(ctx, tx, 1)))
				return pgcmd.Try(ctx, tx, conflict, empty{}).Err
			}).Run(ctx, db, empty{}))), pgcmd.CodeAborted
		},
		"by a conflict that the body swallows": func(db pgcmd.DB) (*pgcmd.Error, pgcmd.Code) {
			return failure(t, pgcmd.Try(ctx, db, transact(func(ctx context.Context, tx *pgcmd.Tx) error {
				require.NoError(t, runErr(note.Run(ctx, tx, 1)))
				require.Error(t, pgcmd.Try(ctx, tx, conflict, empty{}).Err)
				return nil
			}), empty{}).Err), pgcmd.CodeAborted
		},
	} {
		tx, err := pool.Begin(ctx)
		require.NoError(t, err)
		defer tx.Rollback(ctx)
		e, code := body(tx)
		assert.Equal(t, code, e.Code, name)
		assert.Equal(t, pgcmd.NotApplied, e.Effect, name)
		assert.ErrorIs(t, tx.Commit(ctx), pgx.ErrTxCommitRollback, name)
		assert.Zero(t, count(t, pool, countNotes), name)

		conn, err := pool.Acquire(ctx)
		require.NoError(t, err)
		defer conn.Release()
		_, err = conn.Exec(ctx, `begin`)
		require.NoError(t, err)
		body(conn.Conn())
		tag, err := conn.Exec(ctx, `commit`)
		require.NoError(t, err)
		assert.Equal(t, "ROLLBACK", tag.String(), name)
		conn.Release()
	}
}

func TestAConnectionThatWasLostInATransactionRunsNothing(t *testing.T) {
	t.Parallel()
	pool := pgcmdtest.Pool(t, accountsDDL)
	ctx := t.Context()
	conn, err := pgx.ConnectConfig(ctx, pool.Config().ConnConfig)
	require.NoError(t, err)
	_, err = conn.Exec(ctx, `begin`)
	require.NoError(t, err)
	_, err = pool.Exec(ctx, `select pg_terminate_backend($1)`, conn.PgConn().PID())
	require.NoError(t, err)
	_, err = conn.Exec(ctx, `select 1`)
	require.Error(t, err)
	require.EqualValues(t, 'T', conn.PgConn().TxStatus())

	inTx := note.With(pgcmd.Options{InTx: true})
	for name, run := range map[string]func() error{
		"Run":         func() error { return runErr(note.Run(ctx, conn, 1)) },
		"Try":         func() error { return pgcmd.Try(ctx, conn, note, 1).Err },
		"InTx":        func() error { return runErr(inTx.Run(ctx, conn, 1)) },
		"Try of InTx": func() error { return pgcmd.Try(ctx, conn, inTx, 1).Err },
		"Try with hooks": func() error {
			return pgcmd.Try(ctx, conn, pgcmd.Before(note, func(context.Context, *int) error { return nil }), 1).Err
		},
		"Try of a Batch": func() error { return pgcmd.Try(ctx, conn, pgcmd.Batch(note, pgcmd.Atomic), []int{1}).Err },
		"Explain":        func() error { return runErr(pgcmd.Explain(ctx, conn, note, 1)) },
	} {
		e := failure(t, run())
		assert.Equal(t, pgcmd.CodeUnavailable, e.Code, name)
		assert.Equal(t, pgcmd.NotApplied, e.Effect, name)
	}
}

func TestPgxCodeRunsOnATx(t *testing.T) {
	t.Parallel()
	pool := connect(t, pgcmdtest.Pool(t, accountsDDL), 1)
	_, err := transact(func(ctx context.Context, tx *pgcmd.Tx) error {
		n, err := tx.CopyFrom(ctx, pgx.Identifier{"notes"}, []string{"n"}, pgx.CopyFromRows([][]any{{1}, {2}}))
		require.NoError(t, err)
		assert.EqualValues(t, 2, n)
		_, err = tx.Prepare(ctx, "ps", `select $1::int + 1`)
		require.NoError(t, err)
		var got int
		require.NoError(t, tx.QueryRow(ctx, "ps", 41).Scan(&got))
		assert.Equal(t, 42, got)
		require.NoError(t, tx.QueryRow(ctx, `select @a::int`, pgx.NamedArgs{"a": 7}).Scan(&got))
		assert.Equal(t, 7, got)
		rows, _ := tx.Query(ctx, `select n from notes order by n`)
		all, err := pgx.CollectRows(rows, pgx.RowTo[int])
		require.NoError(t, err)
		assert.Equal(t, []int{1, 2}, all)
		assert.ErrorIs(t, tx.QueryRow(ctx, `select 1 where false`).Scan(&got), pgx.ErrNoRows)
		objects := tx.LargeObjects()
		oid, err := objects.Create(ctx, 0)
		require.NoError(t, err)
		require.NoError(t, objects.Unlink(ctx, oid))
		_, err = tx.Exec(ctx, `insert into notes values (3); insert into notes values (4)`)
		require.NoError(t, err)
		b := &pgx.Batch{}
		b.Queue(`insert into notes values (5)`)
		b.Queue(`select count(*) from notes`).QueryRow(func(row pgx.Row) error { return row.Scan(&got) })
		require.NoError(t, tx.SendBatch(ctx, b).Close())
		assert.Equal(t, 5, got)
		assert.NotNil(t, tx.Conn())
		return nil
	}).Run(t.Context(), pool, empty{})
	require.NoError(t, err)
	assert.Equal(t, 5, count(t, pool, countNotes))
	for name, first := range map[string]func(ctx context.Context, tx *pgcmd.Tx) error{
		"CopyFrom": func(ctx context.Context, tx *pgcmd.Tx) error {
			return runErr(tx.CopyFrom(ctx, pgx.Identifier{"notes"}, []string{"n"}, pgx.CopyFromRows([][]any{{6}})))
		},
		"SendBatch": func(ctx context.Context, tx *pgcmd.Tx) error {
			b := &pgx.Batch{}
			b.Queue(`insert into notes values (6)`)
			return tx.SendBatch(ctx, b).Close()
		},
		"Exec": func(ctx context.Context, tx *pgcmd.Tx) error {
			return runErr(tx.Exec(ctx, `insert into notes values (6)`))
		},
		"Exec $1": func(ctx context.Context, tx *pgcmd.Tx) error {
			return runErr(tx.Exec(ctx, `insert into notes values ($1)`, 6))
		},
		"QueryRow": func(ctx context.Context, tx *pgcmd.Tx) error {
			return tx.QueryRow(ctx, `insert into notes values (6) returning n`).Scan(new(int))
		},
		"Conn": func(ctx context.Context, tx *pgcmd.Tx) error {
			return runErr(tx.Conn().Exec(ctx, `insert into notes values (6)`))
		},
	} {
		for _, timeout := range []time.Duration{0, time.Minute} {
			_, err := transact(func(ctx context.Context, tx *pgcmd.Tx) error {
				return errors.Join(first(ctx, tx), errHook)
			}).With(pgcmd.Options{Timeout: timeout}).Run(t.Context(), pool, empty{})
			assert.ErrorIs(t, err, errHook)
			assert.Equal(t, 5, count(t, pool, countNotes), "%s was in the transaction", name)
		}
	}
}

// If all rows that a body left open were received already, the connection stays open, and the outer transaction goes on.
func TestRowsLeftOpenThatWereReceivedDoNotEndTheOuterTransaction(t *testing.T) {
	t.Parallel()
	pool := connect(t, pgcmdtest.Pool(t, streamDDL), 1)
	careless := transact(func(ctx context.Context, tx *pgcmd.Tx) error {
		rows, err := tx.Query(ctx, `select generate_series(1, 300)`)
		require.NoError(t, err)
		require.True(t, rows.Next())
		return errors.New("enough")
	})
	_, err := transact(func(ctx context.Context, tx *pgcmd.Tx) error {
		require.Error(t, pgcmd.Try(ctx, tx, careless, empty{}).Err)
		_, err := keep.Run(ctx, tx, 1)
		return err
	}).Run(t.Context(), pool, empty{})
	require.NoError(t, err)
	assert.Equal(t, 1, count(t, pool, countKept))
}
