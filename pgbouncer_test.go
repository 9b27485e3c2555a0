package pgcmd_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgcmd/pgcmd"
	"github.com/pgcmd/pgcmd/internal/faults"
	"github.com/pgcmd/pgcmd/pgcmdtest"
)

const pooledDDL = writtenDDL + `;
	create table parts (id bigint primary key, name text not null, qty int check (qty >= 0));
	create function wait_at_commit() returns trigger language plpgsql as $$
	begin
		perform pg_advisory_xact_lock_shared(1);
		return null;
	end $$;
	create table late (n bigint not null);
	create constraint trigger late after insert on late deferrable initially deferred for each row execute function wait_at_commit()`

// pooled is a pool of ours before a PgBouncer that has so few connections to a server.
func pooled(t *testing.T, servers int, ddl ...string) (pool *pgcmd.Pool, direct string) {
	t.Helper()
	direct = pgcmdtest.URL(t, append([]string{pooledDDL}, ddl...)...)
	bouncer, err := pgcmdtest.PgBouncer(t.Context(), direct, pgcmdtest.WithSetting("default_pool_size", fmt.Sprint(servers)))
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, bouncer.Close()) })
	pool, err = pgcmd.Connect(t.Context(), pgcmd.Config{URL: bouncer.URL(), MaxConns: 6, MinConns: 6, PgBouncer: true, ApplicationName: "pooled"})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, pool.Close(context.Background())) })
	return pool, direct
}

func TestVerifyWorksBehindAPgBouncer(t *testing.T) {
	t.Parallel()
	pool, _ := pooled(t, 2, usersDDL, pgcmd.OnceSchema)
	defs := []pgcmd.Definition{findUser, createUser, importUsers, pgcmd.Exec[empty]("wrong", `delete from nowhere`),
		pgcmd.Once(pgcmd.Exec[string]("add", `insert into users (email) values ($1)`), func(email string) string { return email })}
	verify := func(db pgcmd.DB) {
		same(t, "through the pooler", want{"wrong: SQL": `relation "nowhere" does not exist`}, problemsOf(t, pgcmd.Verify(t.Context(), db, defs...)))
	}
	var all sync.WaitGroup
	for range 6 {
		all.Go(func() { verify(pool) })
	}
	all.Wait()
	require.NoError(t, runErr(transact(func(_ context.Context, tx *pgcmd.Tx) error { verify(tx); return nil }).Run(t.Context(), pool, empty{})))
}

func TestEveryKindOfCommandWorksBehindAPgBouncer(t *testing.T) {
	t.Parallel()
	for _, servers := range []int{1, 2} {
		t.Run(fmt.Sprint(servers, " servers"), func(t *testing.T) {
			t.Parallel()
			pool, direct := pooled(t, servers, pgcmd.OnceSchema)
			var all sync.WaitGroup
			for worker := range 6 {
				all.Go(func() {
					for round := range 8 {
						everyKind(t, pool, worker*1000+round*100)
					}
				})
			}
			all.Wait()
			assert.Zero(t, pool.Metrics().Pool.Resets)

			// What one client leaves behind, the next would meet.
			var left []string
			rows, err := pool.Query(t.Context(), `select name || ': ' || statement from pg_prepared_statements`, pgx.QueryExecModeExec)
			require.NoError(t, err)
			left, err = pgx.CollectRows(rows, pgx.RowTo[string])
			require.NoError(t, err)
			assert.Empty(t, left, "prepared statements on the server")
			var idle int
			require.NoError(t, pgcmdtestConn(t, direct).QueryRow(t.Context(),
				`select count(*) from pg_stat_activity where datname = current_database() and state like 'idle in transaction%'`).Scan(&idle))
			assert.Zero(t, idle)
		})
	}
}

// everyKind runs a command of each kind, with numbers of its own from n on.
func everyKind(t *testing.T, pool *pgcmd.Pool, n int) {
	ctx := t.Context()
	ok := func(what string, err error) {
		t.Helper()
		assert.NoError(t, err, what)
	}
	insert := pgcmd.Exec[part]("parts.insert", `insert into parts values (@id, @name, @qty)`)
	get := pgcmd.QueryOne[int64, part]("parts.get", `select * from parts where id = $1`).With(pgcmd.Options{ReadOnly: true})
	list := pgcmd.Query[int64, part]("parts.list", `select * from parts where id >= $1 and id < $1 + 100 order by id`)
	id := func(i int) int64 { return int64(n + i) }
	p := func(i int) part { return part{ID: id(i), Name: "x", Qty: i} }

	_, err := insert.Run(ctx, pool, p(0))
	ok("Exec", err)
	got, err := get.Run(ctx, pool, id(0))
	ok("QueryOne", err)
	assert.Equal(t, p(0), got)
	_, err = insert.Run(ctx, pool, p(0))
	assert.Equal(t, pgcmd.CodeConflict, pgcmd.CodeOf(err))

	tx := pgcmd.Transaction("parts.tx", func(ctx context.Context, tx *pgcmd.Tx, i int) (int, error) {
		if _, err := insert.Run(ctx, tx, p(i)); err != nil {
			return 0, err
		}
		assert.Error(t, pgcmd.Try(ctx, tx, insert, p(i)).Err, "isolated by a savepoint")
		seen := 0
		for _, err := range pgcmd.Stream(ctx, tx, list, id(0)) {
			if err != nil {
				return 0, err
			}
			if _, err := get.Run(ctx, tx, id(i)); err != nil {
				return 0, err
			}
			if seen++; seen == 2 {
				break
			}
		}
		_, err := copyParts.Run(ctx, tx, rowsOf(p(i+1)))
		return seen, err
	}).With(pgcmd.Options{Timeout: 30 * time.Second, Tx: pgx.TxOptions{IsoLevel: pgx.RepeatableRead}})
	seen, err := tx.Run(ctx, pool, 1)
	ok("Transaction", err)
	assert.Equal(t, 2, seen)

	for mode, first := range map[pgcmd.BatchMode]int{pgcmd.Atomic: 10, pgcmd.Isolated: 20, pgcmd.Independent: 30, pgcmd.Sequential: 40} {
		r, err := pgcmd.Batch(insert, mode).Run(ctx, pool, []part{p(first), p(first + 1), p(first + 2)})
		ok(fmt.Sprint("Batch ", mode), err)
		assert.Equal(t, 3, r.Succeeded)
	}
	r, err := pgcmd.Batch(insert, pgcmd.Isolated).Run(ctx, pool, []part{p(50), p(50), {ID: id(51), Name: "x", Qty: -1}, p(52)})
	ok("Batch with bad items", err)
	assert.Equal(t, 2, r.Succeeded)
	for _, mode := range []pgcmd.BatchMode{pgcmd.Atomic, pgcmd.Independent} {
		var line pgcmd.Pipeline
		a, b := pgcmd.Queue(&line, insert, p(60+2*int(mode))), pgcmd.Queue(&line, get, id(0))
		ok("Pipeline", line.Run(ctx, pool, mode))
		_, err := a.Get()
		ok("Pipeline", err)
		_, err = b.Get()
		ok("Pipeline", err)
	}
	streamed := 0
	for _, err := range pgcmd.Stream(ctx, pool, list, id(0)) {
		ok("Stream", err)
		streamed++
	}
	assert.Equal(t, 3+12+2+2, streamed)
	for range pgcmd.Stream(ctx, pool, list, id(0)) {
		break
	}
	copied, err := copyParts.Run(ctx, pool, rowsOf(p(80), p(81)))
	ok("Copy", err)
	assert.EqualValues(t, 2, copied)
	_, err = copyParts.Run(ctx, pool, rowsOf(p(82), p(81)))
	assert.Equal(t, pgcmd.NotApplied, failure(t, err).Effect, "Copy of a duplicate")

	once := pgcmd.Once(pgcmd.Exec[part]("parts.once", `insert into parts values (@id, @name, @qty)`), func(p part) string { return fmt.Sprint(p.ID) })
	for i := range 2 {
		o := pgcmd.Try(ctx, pool, once, p(90))
		ok("Once", o.Err)
		assert.Equal(t, i == 1, o.Replayed)
	}
	result, err := pgcmd.AdHoc.Run(ctx, pool, pgcmd.AdHocQuery{SQL: `select @n::int as n`, Args: map[string]any{"n": 7}, Timeout: 10 * time.Second})
	ok("AdHoc", err)
	assert.Equal(t, 1, result.RowCount)
}

func TestPgBouncerRefusesWhatLastsForASession(t *testing.T) {
	t.Parallel()
	direct := pgcmdtest.URL(t)
	_, err := pgcmd.Connect(t.Context(), pgcmd.Config{URL: direct, PgBouncer: true, StatementTimeout: time.Second, LockTimeout: time.Second,
		IdleInTxTimeout: time.Second, Replicas: []string{direct}})
	e := failure(t, err)
	assert.Equal(t, pgcmd.CodeInvalid, e.Code)
	var fields []string
	for _, p := range e.Problems {
		fields = append(fields, p.Field)
	}
	assert.Equal(t, []string{"StatementTimeout", "LockTimeout", "IdleInTxTimeout", "Replicas"}, fields)

	bouncer, err := pgcmdtest.PgBouncer(t.Context(), direct)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, bouncer.Close()) })
	_, err = pgcmd.Connect(t.Context(), pgcmd.Config{URL: bouncer.URL() + "&search_path=app", PgBouncer: true})
	e = failure(t, err)
	assert.Equal(t, pgcmd.NotApplied, e.Effect)
	assert.Contains(t, e.Message, "a setting in the URL")
}

// The connection between the PgBouncer and its server is cut while a command waits.
func TestAServerIsLostBehindAPgBouncer(t *testing.T) {
	t.Parallel()
	pool, direct := pooled(t, 2)
	ctx, sql := t.Context(), side(t, direct)
	write := pgcmd.Exec[int64]("late.write", `with w as (insert into written values ($1)) select pg_advisory_xact_lock_shared(1)`)
	read := pgcmd.Query[int64, string]("late.read", `select pg_advisory_xact_lock_shared(1)::text where $1 > 0`).With(pgcmd.Options{ReadOnly: true})
	inTx := pgcmd.Transaction("late.tx", func(ctx context.Context, tx *pgcmd.Tx, n int64) (int64, error) { return write.Run(ctx, tx, n) })
	atCommit := pgcmd.Transaction("late.commit", func(ctx context.Context, tx *pgcmd.Tx, n int64) (int64, error) {
		return pgcmd.Exec[int64]("late.insert", `insert into late values ($1)`).Run(ctx, tx, n)
	})
	for n, c := range []struct {
		what   string
		run    func(n int64) error
		effect pgcmd.Effect
		retry  bool
	}{
		{"a read", func(n int64) error { return runErr(read.Run(ctx, pool, n)) }, pgcmd.NotApplied, true},
		{"a write", func(n int64) error { return runErr(write.Run(ctx, pool, n)) }, pgcmd.Unknown, false},
		{"a transaction", func(n int64) error { return runErr(inTx.Run(ctx, pool, n)) }, pgcmd.NotApplied, true},
		{"COMMIT", func(n int64) error { return runErr(atCommit.Run(ctx, pool, n)) }, pgcmd.Unknown, false},
	} {
		sql(`select pg_advisory_lock(1)`)
		done := make(chan error)
		go func() { done <- c.run(int64(n + 1)) }()
		eventually(t, direct, waiting, 1)
		sql(`select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and wait_event = 'advisory'`)
		e := failure(t, <-done)
		sql(`select pg_advisory_unlock(1)`)
		assert.Equal(t, c.effect, e.Effect, "%s: %v", c.what, e)
		assert.Equal(t, c.retry, pgcmd.Retryable(e), "%s: %v", c.what, e)
		t.Logf("%s: %v", c.what, e)
		assert.NoError(t, runErr(addOne.With(pgcmd.Options{Retry: pgcmd.Retry{Attempts: 3}}).Run(ctx, pool, 0)), "afterwards")
	}
}

// It is cut without a word: PgBouncer says what it guesses.
func TestAPgBouncersGuessIsNotTrusted(t *testing.T) {
	t.Parallel()
	ctx, direct := t.Context(), pgcmdtest.URL(t, pooledDDL)
	proxy, err := faults.Start(direct)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, proxy.Close()) })
	bouncer, err := pgcmdtest.PgBouncer(ctx, proxy.URL(), pgcmdtest.WithSetting("default_pool_size", "1"))
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, bouncer.Close()) })
	pool, err := pgcmd.Connect(ctx, pgcmd.Config{URL: bouncer.URL(), MaxConns: 1, PgBouncer: true})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, pool.Close(context.Background())) })
	require.NoError(t, runErr(addOne.Run(ctx, pool, 1)))

	proxy.Set(&faults.Fault{Direction: faults.Backend, Match: func(typ byte, _ []byte) bool { return typ == 'Z' }, Action: faults.Reset})
	e := failure(t, runErr(addOne.Run(ctx, pool, 2)))
	assert.Equal(t, "08P01", e.SQLState)
	assert.Equal(t, pgcmd.Unknown, e.Effect)
	assert.Equal(t, pgcmd.CodeUnknownEffect, e.Code)
	assert.False(t, pgcmd.Retryable(e))
	require.NoError(t, runErr(addOne.Run(ctx, pool, 3)))
	assert.Equal(t, 1, count(t, pool, `select count(*) from written where n = 2`), "it had committed")
}
