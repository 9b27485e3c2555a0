package pgcmd_test

import (
	"context"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgcmd/pgcmd"
	"github.com/pgcmd/pgcmd/pgcmdtest"
)

const accountsDDL = `
	create table accounts (id int primary key, balance bigint not null constraint enough check (balance >= 0));
	insert into accounts select n, 100 from generate_series(1, 10) n;
	create table notes (n int constraint notes_n unique deferrable initially deferred)`

type transfer struct{ From, To, Amount int64 }

var (
	debit = pgcmd.Exec[transfer]("accounts.debit", `update accounts set balance = balance - @amount where id = @from`)
	pay   = pgcmd.Exec[transfer]("accounts.credit", `update accounts set balance = balance + @amount where id = @to`)
	move2 = pgcmd.Transaction("bank.transfer", func(ctx context.Context, tx *pgcmd.Tx, in transfer) (int64, error) {
		if _, err := debit.Run(ctx, tx, in); err != nil {
			return 0, err
		}
		return pay.Run(ctx, tx, in)
	})
	note = pgcmd.Exec[int]("notes.add", `insert into notes values ($1)`)
)

// transact makes a transaction of a body without input and output.
func transact(body func(ctx context.Context, tx *pgcmd.Tx) error) *pgcmd.Command[empty, empty] {
	return pgcmd.Transaction("test.tx", func(ctx context.Context, tx *pgcmd.Tx, _ empty) (empty, error) {
		return empty{}, body(ctx, tx)
	})
}

func count(t testing.TB, db pgcmd.DB, sql string) (n int) {
	t.Helper()
	require.NoError(t, db.QueryRow(context.Background(), sql).Scan(&n))
	return n
}

const countNotes = `select count(*) from notes`

// connect makes a pgcmd.Pool on the database of a test's pool.
func connect(t testing.TB, pool *pgxpool.Pool, maxConns int32) *pgcmd.Pool {
	t.Helper()
	p, err := pgcmd.Connect(context.Background(), pgcmd.Config{URL: pool.Config().ConnString(), MaxConns: maxConns})
	require.NoError(t, err)
	t.Cleanup(p.Pool.Close)
	return p
}

func TestATransactionIsAllOrNothing(t *testing.T) {
	t.Parallel()
	plain := pgcmdtest.Pool(t, accountsDDL)
	ctx := t.Context()
	pooled, err := plain.Acquire(ctx)
	require.NoError(t, err)
	defer pooled.Release()
	conn, err := pgx.ConnectConfig(ctx, plain.Config().ConnConfig)
	require.NoError(t, err)
	defer conn.Close(ctx)

	for name, db := range map[string]pgcmd.DB{"a plain pool": plain, "a pool": connect(t, plain, 4), "a pooled connection": pooled, "a connection": conn} {
		n, err := move2.Run(ctx, db, transfer{1, 2, 5})
		require.NoError(t, err, name)
		assert.EqualValues(t, 1, n)
		was := count(t, plain, `select balance from accounts where id = 1`)

		_, err = move2.Run(ctx, db, transfer{1, 2, 1000})
		e := failure(t, err)
		assert.Equal(t, pgcmd.CodeInvalid, e.Code, name)
		assert.Equal(t, pgcmd.NotApplied, e.Effect, name)
		assert.Equal(t, "bank.transfer > accounts.debit", e.Command)
		assert.Equal(t, "enough", e.Constraint)

		assert.Equal(t, "boom", panics(t, func() {
			_, _ = transact(func(ctx context.Context, tx *pgcmd.Tx) error {
				_, _ = debit.Run(ctx, tx, transfer{From: 1, Amount: 1})
				panic("boom")
			}).Run(ctx, db, empty{})
		}))
		done := make(chan struct{})
		go func() {
			defer close(done)
			_, _ = transact(func(ctx context.Context, tx *pgcmd.Tx) error {
				_, _ = debit.Run(ctx, tx, transfer{From: 1, Amount: 1})
				runtime.Goexit()
				return nil
			}).Run(ctx, db, empty{})
		}()
		<-done
		gone, cancel := context.WithCancel(ctx)
		_, err = transact(func(ctx context.Context, tx *pgcmd.Tx) error {
			_, err := debit.Run(ctx, tx, transfer{From: 1, Amount: 1})
			cancel()
			return err
		}).Run(gone, db, empty{})
		e = failure(t, err)
		assert.Equal(t, pgcmd.CodeCanceled, e.Code, name)
		assert.Equal(t, pgcmd.NotApplied, e.Effect, name)
		assert.ErrorIs(t, err, context.Canceled)
		assert.Equal(t, was, count(t, plain, `select balance from accounts where id = 1`), name)
		assert.Zero(t, count(t, plain, `select count(*) from pg_stat_activity where state like 'idle in transaction%' and datname = current_database()`), name)
	}
	assert.Equal(t, 1000, count(t, plain, `select sum(balance) from accounts`))
}

func TestInTx(t *testing.T) {
	t.Parallel()
	pool := pgcmdtest.Pool(t, accountsDDL)
	ctx := t.Context()
	veto := func(context.Context, int, *int64) error { return errHook }

	_, err := pgcmd.After(note.With(pgcmd.Options{InTx: true}), veto).Run(ctx, pool, 1)
	assert.ErrorIs(t, err, errHook)
	assert.Equal(t, pgcmd.NotApplied, failure(t, err).Effect)
	assert.Zero(t, count(t, pool, countNotes), "After returned an error")

	_, err = pgcmd.After(note, veto).Run(ctx, pool, 1)
	assert.Equal(t, pgcmd.Applied, failure(t, err).Effect, "without InTx it had committed")
	assert.Equal(t, 1, count(t, pool, countNotes))

	two := pgcmd.New("notes.two", func(ctx context.Context, db pgcmd.DB, n int) (int64, error) {
		assert.IsType(t, &pgcmd.Tx{}, db)
		if _, err := note.Run(ctx, db, n); err != nil {
			return 0, err
		}
		return note.Run(ctx, db, n)
	}).With(pgcmd.Options{InTx: true})
	_, err = two.Run(ctx, pool, 7)
	e := failure(t, err)
	assert.Equal(t, pgcmd.CodeConflict, e.Code, "a deferred constraint fails at COMMIT")
	assert.Equal(t, pgcmd.NotApplied, e.Effect)
	assert.Equal(t, "notes_n", e.Constraint)
	assert.Equal(t, 1, count(t, pool, countNotes))
	_, err = two.With(pgcmd.Options{OnConstraint: map[string]error{"notes_n": errEmailTaken}}).Run(ctx, pool, 7)
	assert.ErrorIs(t, err, errEmailTaken)
}

func TestNesting(t *testing.T) {
	t.Parallel()
	pool := connect(t, pgcmdtest.Pool(t, accountsDDL), 4)
	ctx := t.Context()
	reset := func() { _, err := pool.Exec(ctx, `delete from notes`); require.NoError(t, err) }

	t.Run("Run joins, and is rolled back with the transaction", func(t *testing.T) {
		inner := transact(func(ctx context.Context, tx *pgcmd.Tx) error { _, err := note.Run(ctx, tx, 1); return err })
		_, err := transact(func(ctx context.Context, tx *pgcmd.Tx) error {
			if _, err := inner.Run(ctx, tx, empty{}); err != nil {
				return err
			}
			return errHook
		}).Run(ctx, pool, empty{})
		assert.ErrorIs(t, err, errHook)
		assert.Zero(t, count(t, pool, countNotes))
	})
	t.Run("Try isolates, and releases in both cases", func(t *testing.T) {
		_, err := transact(func(ctx context.Context, tx *pgcmd.Tx) error {
			for i := range 5 {
				o := pgcmd.Try(ctx, tx, pay, transfer{To: 1, Amount: -1000})
				assert.Equal(t, pgcmd.NotApplied, pgcmd.EffectOf(o.Err))
				assert.Equal(t, "accounts.credit", o.Err.(*pgcmd.Error).Command)
				assert.True(t, pgcmd.Try(ctx, tx, note, i).OK())
			}
			_, err := tx.Exec(ctx, `savepoint probe`)
			assert.NoError(t, err)
			_, err = tx.Exec(ctx, `rollback to savepoint pgcmd_1`)
			assert.Error(t, err, "the savepoint is gone")
			_, err = tx.Exec(ctx, `rollback to savepoint probe`)
			return err
		}).Run(ctx, pool, empty{})
		require.NoError(t, err)
		assert.Equal(t, 5, count(t, pool, countNotes))
		reset()
	})
	t.Run("Try on a pgx.Tx", func(t *testing.T) {
		tx, err := pool.Begin(ctx)
		require.NoError(t, err)
		defer tx.Rollback(ctx)
		assert.Error(t, pgcmd.Try(ctx, tx, pay, transfer{To: 1, Amount: -1000}).Err)
		assert.NoError(t, pgcmd.Try(ctx, tx, note, 1).Err)
		assert.True(t, pgcmd.Try(ctx, tx, move2, transfer{1, 2, 3}).OK())
		require.NoError(t, tx.Commit(ctx))
		assert.Equal(t, 1, count(t, pool, countNotes))
		reset()
	})
	t.Run("a nested Begin, as pgx does it", func(t *testing.T) {
		_, err := transact(func(ctx context.Context, tx *pgcmd.Tx) error {
			assert.Error(t, pgx.BeginFunc(ctx, tx, func(tx pgx.Tx) error {
				_, err := tx.Exec(ctx, `insert into notes values (1)`)
				assert.NoError(t, err)
				return errHook
			}))
			return pgx.BeginFunc(ctx, tx, func(tx pgx.Tx) error {
				_, err := note.Run(ctx, tx, 2)
				return err
			})
		}).Run(ctx, pool, empty{})
		require.NoError(t, err)
		assert.Equal(t, 2, count(t, pool, `select sum(n) from notes`))
		reset()
	})
	t.Run("a connection in a transaction is joined", func(t *testing.T) {
		conn, err := pool.Acquire(ctx)
		require.NoError(t, err)
		defer conn.Release()
		_, err = conn.Exec(ctx, `begin`)
		require.NoError(t, err)
		_, err = move2.Run(ctx, conn.Conn(), transfer{1, 2, 3})
		require.NoError(t, err)
		assert.EqualValues(t, 'T', conn.Conn().PgConn().TxStatus())
		_, err = conn.Exec(ctx, `rollback`)
		require.NoError(t, err)
	})
	t.Run("isolation and access are checked before anything is sent", func(t *testing.T) {
		strict := move2.With(pgcmd.Options{Tx: pgx.TxOptions{IsoLevel: pgx.Serializable}})
		_, err := transact(func(ctx context.Context, tx *pgcmd.Tx) error {
			_, err := strict.Run(ctx, tx, transfer{1, 2, 3})
			assert.Equal(t, pgcmd.NotApplied, pgcmd.EffectOf(err))
			return err
		}).Run(ctx, pool, empty{})
		assert.Contains(t, failure(t, err).Message, "weaker isolation")
		_, err = transact(func(ctx context.Context, tx *pgcmd.Tx) error {
			_, err := move2.Run(ctx, tx, transfer{1, 2, 3})
			return err
		}).With(pgcmd.Options{ReadOnly: true}).Run(ctx, pool, empty{})
		assert.Contains(t, failure(t, err).Message, "read-only")
	})
	t.Run("running on the same pool", func(t *testing.T) {
		for _, cmd := range []func(context.Context, pgcmd.DB) error{
			func(ctx context.Context, db pgcmd.DB) error { return runErr(note.Run(ctx, db, 1)) },
			func(ctx context.Context, db pgcmd.DB) error { return runErr(move2.Run(ctx, db, transfer{3, 4, 1})) },
		} {
			var kept context.Context
			_, err := transact(func(ctx context.Context, tx *pgcmd.Tx) error {
				kept = ctx
				err := cmd(ctx, pool)
				assert.Equal(t, pgcmd.CodeNestedAcquire, pgcmd.CodeOf(err))
				assert.Equal(t, pgcmd.CodeNestedAcquire, pgcmd.CodeOf(cmd(ctx, pool.Pool)), "the pool beneath is the same")
				return cmd(pgcmd.OutsideTx(ctx), pool)
			}).Run(ctx, pool, empty{})
			require.NoError(t, err)
			reset()
			assert.NoError(t, cmd(kept, connect(t, pool.Pool, 1)))
			reset()
			assert.NoError(t, cmd(kept, pool), "a context is of no transaction after it has ended")
			reset()
		}
	})
}

func TestTheDeadlineOfATransactionSetsStatementTimeout(t *testing.T) {
	t.Parallel()
	pool := connect(t, pgcmdtest.Pool(t, accountsDDL), 1)
	sleep := transact(func(ctx context.Context, tx *pgcmd.Tx) error {
		_, err := tx.Exec(ctx, `select pg_sleep($1)`, 60)
		return err
	}).With(pgcmd.Options{Timeout: 400 * time.Millisecond})
	ended := false
	for try := 0; try < 20 && !ended; try++ { // on a busy machine the client can be first
		var before, after int
		require.NoError(t, pool.QueryRow(t.Context(), `select pg_backend_pid()`).Scan(&before))
		_, err := sleep.Run(t.Context(), pool, empty{})
		e := failure(t, err)
		assert.Equal(t, pgcmd.CodeTimeout, e.Code)
		assert.Equal(t, pgcmd.NotApplied, e.Effect)
		assert.ErrorIs(t, err, context.DeadlineExceeded)
		require.NoError(t, pool.QueryRow(t.Context(), `select pg_backend_pid()`).Scan(&after))
		ended = e.SQLState == "57014" && before == after
	}
	assert.True(t, ended, "the server ended it, and the connection stayed open")
	assert.Zero(t, count(t, pool, `select count(*) from pg_settings where name = 'statement_timeout' and setting <> '0'`))
}

func TestTheTimeoutOfACommandThatJoinsEndsWithTheCommand(t *testing.T) {
	t.Parallel()
	pool := connect(t, pgcmdtest.Pool(t, accountsDDL), 1)
	timeout := func(ctx context.Context, tx *pgcmd.Tx) (ms int) {
		require.NoError(t, tx.QueryRow(ctx, `select setting::int from pg_settings where name = 'statement_timeout'`).Scan(&ms))
		return ms
	}
	inner := transact(func(ctx context.Context, tx *pgcmd.Tx) error {
		assert.InDelta(t, 10_000, timeout(ctx, tx), 1_000)
		return nil
	}).With(pgcmd.Options{Timeout: 10 * time.Second})
	sleep := transact(func(ctx context.Context, tx *pgcmd.Tx) error {
		return runErr(tx.Exec(ctx, `select pg_sleep(60)`))
	}).With(pgcmd.Options{Timeout: 300 * time.Millisecond})
	_, err := transact(func(ctx context.Context, tx *pgcmd.Tx) error {
		outer := timeout(ctx, tx)
		assert.InDelta(t, 60_000, outer, 2_000)
		require.NoError(t, runErr(inner.Run(ctx, tx, empty{})))
		assert.Equal(t, outer, timeout(ctx, tx), "the old value is back")
		err := pgcmd.Try(ctx, tx, sleep, empty{}).Err
		assert.Equal(t, "57014", failure(t, err).SQLState, "the server ended it, and the transaction goes on")
		assert.ErrorIs(t, err, context.DeadlineExceeded)
		assert.Equal(t, outer, timeout(ctx, tx))
		return nil
	}).With(pgcmd.Options{Timeout: time.Minute}).Run(t.Context(), pool, empty{})
	require.NoError(t, err)
}

// OnNotice is called while a reply is read. If it panics there, no connection is left that is out of step.
func TestAPanicInOnNoticeEndsTheTransaction(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	url := pgcmdtest.URL(t, `create table told (n int);
		create function tell(n int) returns int language plpgsql as $$ begin for i in 1..n loop raise notice 'one'; end loop; return n; end $$`)
	var loud atomic.Bool
	pool, err := pgcmd.Connect(ctx, pgcmd.Config{URL: url, MaxConns: 1, Pgx: func(c *pgxpool.Config) {
		c.ConnConfig.OnNotice = func(*pgconn.PgConn, *pgconn.Notice) {
			if loud.Load() {
				panic("boom")
			}
		}
	}})
	require.NoError(t, err)
	defer pool.Pool.Close()
	add := pgcmd.Exec[int]("told.add", `insert into told values ($1)`)
	tell := pgcmd.QueryOne[int, int]("told.tell", `select tell($1)`)
	first := pgcmd.Transaction("told.first", func(ctx context.Context, tx *pgcmd.Tx, n int) (int, error) { return tell.Run(ctx, tx, n) })
	second := pgcmd.Transaction("told.second", func(ctx context.Context, tx *pgcmd.Tx, n int) (int, error) {
		if _, err := add.Run(ctx, tx, n); err != nil {
			return 0, err
		}
		return tell.Run(ctx, tx, n)
	})
	all := pgcmd.Query[int, int]("told.all", `select tell($1)`)
	cursor := pgcmd.Transaction("told.cursor", func(ctx context.Context, tx *pgcmd.Tx, n int) (int, error) {
		if _, err := add.Run(ctx, tx, n); err != nil {
			return 0, err
		}
		for _, err := range pgcmd.Stream(ctx, tx, all, n) {
			if err != nil {
				return 0, err
			}
		}
		return n, nil
	})
	for _, cmd := range []*pgcmd.Command[int, int]{tell, first, second, cursor} {
		for _, n := range []int{1, 3} {
			loud.Store(false)
			_, err := cmd.Run(ctx, pool, 1) // prepares
			require.NoError(t, err)
			before := count(t, pool.Pool, `select count(*) from told`)
			loud.Store(true)
			assert.Equal(t, "boom", panics(t, func() { _, _ = cmd.Run(ctx, pool, n) }), "%s, %d", cmd, n)
			loud.Store(false)
			idle(t, pool.Pool)
			got, err := tell.Run(ctx, pool, 7)
			require.NoError(t, err, "%s, %d", cmd, n)
			assert.Equal(t, 7, got)
			assert.Equal(t, before, count(t, pool.Pool, `select count(*) from told`))
		}
	}
}
