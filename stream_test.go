package pgcmd_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"os"
	"runtime"
	"runtime/metrics"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgcmd/pgcmd"
	"github.com/pgcmd/pgcmd/internal/faults"
	"github.com/pgcmd/pgcmd/pgcmdtest"
)

const streamDDL = `
	create table rows (n int primary key);
	create table kept (n int constraint kept_n_key unique constraint kept_n_check check (n > 0));
	create sequence seen;
	create type mood as enum ('glad', 'sad')`

type numbered struct {
	N    int64
	Text string
	Half *float64
}

var (
	upTo    = pgcmd.Query[int, numbered]("rows.up_to", `select n, 'row ' || n as text, case when n % 2 = 0 then n / 2.0::float8 end as half from generate_series(1, $1) n order by n`)
	numbers = pgcmd.Query[int, int]("rows.numbers", `select generate_series(1, $1)`)
	fifth   = pgcmd.Query[int, int]("rows.fifth", `select 1 / (5 - n) from generate_series(1, $1) n`)
	seeing  = pgcmd.Query[int, int64]("rows.seeing", `select nextval('seen') from (select generate_series(1, $1)) rows`)
	keeping = pgcmd.Query[int, int]("kept.add", `insert into kept select generate_series(1, $1) returning n`)
	keep    = pgcmd.Exec[int]("kept.one", `insert into kept values ($1)`)
)

const countKept = `select count(*) from kept`

// collect reads a stream to its end.
func collect[Row any](rows iter.Seq2[Row, error]) (all []Row, err error) {
	for row, e := range rows {
		if e != nil {
			err = e
			continue // there must be no more
		}
		if err != nil {
			panic("a row after the error")
		}
		all = append(all, row)
	}
	return all, err
}

// take reads the first n rows of a stream.
func take[Row any](t testing.TB, rows iter.Seq2[Row, error], n int) (first []Row) {
	t.Helper()
	for row, err := range rows {
		require.NoError(t, err)
		if first = append(first, row); len(first) == n {
			break
		}
	}
	return first
}

// places runs f on every kind of DB, outside and inside a transaction.
func places(t *testing.T, pool *pgxpool.Pool, f func(t *testing.T, db pgcmd.DB)) {
	ctx := t.Context()
	t.Run("a plain pool", func(t *testing.T) { f(t, pool) })
	t.Run("a pool", func(t *testing.T) { f(t, connect(t, pool, 4)) })
	conn, err := pgx.ConnectConfig(ctx, pool.Config().ConnConfig)
	require.NoError(t, err)
	defer conn.Close(ctx)
	t.Run("a connection", func(t *testing.T) { f(t, conn) })
	t.Run("a connection in a transaction", func(t *testing.T) {
		_, err := conn.Exec(ctx, "begin")
		require.NoError(t, err)
		defer conn.Exec(ctx, "rollback")
		f(t, conn)
	})
	t.Run("a transaction of pgx's", func(t *testing.T) {
		tx, err := pool.Begin(ctx)
		require.NoError(t, err)
		defer tx.Rollback(ctx)
		f(t, tx)
	})
	t.Run("one that hides its connection", func(t *testing.T) {
		tx, err := pool.Begin(ctx)
		require.NoError(t, err)
		defer tx.Rollback(ctx)
		f(t, hidden{tx})
	})
	t.Run("a Tx", func(t *testing.T) {
		_, _ = transact(func(_ context.Context, tx *pgcmd.Tx) error { f(t, tx); return errHook }).Run(ctx, pool, empty{})
	})
	idle(t, pool)
}

// hidden is a transaction that does not tell its connection.
type hidden struct{ pgx.Tx }

func (hidden) Conn() *pgx.Conn { return nil }

func TestStreamYieldsEveryRowInOrder(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	places(t, pgcmdtest.Pool(t, streamDDL), func(t *testing.T, db pgcmd.DB) {
		for _, n := range []int{0, 1, 127, 128, 129, 20_000} {
			want, err := upTo.Run(ctx, db, n)
			require.NoError(t, err)
			got, err := collect(pgcmd.Stream(ctx, db, upTo.With(pgcmd.Options{MaxRows: 10}), n))
			require.NoError(t, err)
			require.Len(t, got, n)
			if n > 0 {
				require.Equal(t, want, got)
			}
		}
	})
}

func TestStreamTakesEveryKindOfRowAndQuery(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	places(t, pgcmdtest.Pool(t, streamDDL), func(t *testing.T, db pgcmd.DB) {
		maps, err := collect(pgcmd.Stream(ctx, db, pgcmd.Query[empty, map[string]any]("x", `values (1, 'a'), (2, null)`), empty{}))
		require.NoError(t, err)
		assert.Equal(t, []map[string]any{{"column1": int32(1), "column2": "a"}, {"column1": int32(2), "column2": nil}}, maps)

		custom, err := collect(pgcmd.Stream(ctx, db, pgcmd.Query[empty, map[string]any]("x", `select 'sad'::mood as mood, now()::date - now()::date as days`), empty{}))
		require.NoError(t, err)
		assert.Equal(t, []map[string]any{{"mood": "sad", "days": int32(0)}}, custom)

		pairs, err := collect(pgcmd.Stream(ctx, db, pgcmd.Query[empty, scansItself]("x", `values (1, 'a'), (2, 'b')`), empty{}))
		require.NoError(t, err)
		assert.Equal(t, []scansItself{{1, "a"}, {2, "b"}}, pairs)
		pairs, err = collect(pgcmd.Stream(ctx, db, pgcmd.Query[empty, scansItself]("x", `values (1, 'a'), (null, 'b')`).With(pgcmd.Options{ReadOnly: true}), empty{}))
		assert.Len(t, pairs, 1)
		assert.Contains(t, failure(t, err).Message, "the ScanRow method")

		arrays, err := collect(pgcmd.Stream(ctx, db, pgcmd.Query[[]string, []string]("x", `(select $1::text[] union all select '{}') ; -- the end`), []string{"a", "b"}))
		require.NoError(t, err)
		assert.Equal(t, [][]string{{"a", "b"}, {}}, arrays)

		shown, err := collect(pgcmd.Stream(ctx, db, pgcmd.Query[empty, string]("x", `show server_version_num`), empty{}))
		require.NoError(t, err, "SHOW has no cursor")
		assert.Len(t, shown, 1)

		wide, err := collect(pgcmd.Stream(ctx, db, pgcmd.Query[int, string]("x", `select repeat('x', 100000) from generate_series(1, $1)`), 300))
		require.NoError(t, err)
		assert.Len(t, wide, 300)
	})
}

type scansItself struct {
	n    int
	text string
}

func (s *scansItself) ScanRow(rows pgx.Rows) error { return rows.Scan(&s.n, &s.text) }

func TestStreamInEveryModeOfPgx(t *testing.T) {
	t.Parallel()
	pool := pgcmdtest.Pool(t, streamDDL)
	for _, mode := range []pgx.QueryExecMode{pgx.QueryExecModeCacheStatement, pgx.QueryExecModeCacheDescribe, pgx.QueryExecModeDescribeExec, pgx.QueryExecModeExec, pgx.QueryExecModeSimpleProtocol} {
		pool := connectIn(t, pool, mode)
		for _, o := range []pgcmd.Options{{}, {InTx: true}, {InTx: true, Timeout: time.Minute}} {
			for range 2 {
				rows, err := collect(pgcmd.Stream(t.Context(), pool, numbers.With(o), 1000))
				require.NoError(t, err, mode)
				require.Len(t, rows, 1000)
			}
		}
	}
}

func connectIn(t *testing.T, pool *pgxpool.Pool, mode pgx.QueryExecMode) *pgcmd.Pool {
	p, err := pgcmd.Connect(t.Context(), pgcmd.Config{URL: pool.Config().ConnString(), MaxConns: 1,
		Pgx: func(c *pgxpool.Config) { c.ConnConfig.DefaultQueryExecMode = mode }})
	require.NoError(t, err)
	t.Cleanup(p.Pool.Close)
	return p
}

// isolate undoes what f does to a transaction that db may be.
func isolate(t *testing.T, db pgcmd.DB, f func(db pgcmd.DB)) {
	t.Helper()
	if conn, ok := db.(*pgx.Conn); ok && conn.PgConn().TxStatus() == 'I' {
		f(db)
		return
	}
	switch db.(type) {
	case *pgxpool.Pool, *pgcmd.Pool:
		f(db)
		return
	}
	ctx := context.Background()
	_, err := db.Exec(ctx, `savepoint isolate`)
	require.NoError(t, err)
	f(db)
	_, err = db.Exec(ctx, `rollback to savepoint isolate`)
	require.NoError(t, err)
}

func TestStreamOfARowThatDoesNotFit(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	nulls := pgcmd.Query[empty, numbered]("rows.nulls", `select n, case when n < 300 then 'x' end as text, 0::float8 as half from generate_series(1, 1000) n`)
	places(t, pgcmdtest.Pool(t, streamDDL), func(t *testing.T, db pgcmd.DB) {
		for _, c := range []struct {
			effect pgcmd.Effect
			q      *pgcmd.Command[empty, []numbered]
		}{{pgcmd.NotApplied, nulls.With(pgcmd.Options{ReadOnly: true})}, {pgcmd.NotApplied, nulls}, {pgcmd.Unknown, nulls.With(pgcmd.Options{Writes: true})}} {
			rows, err := collect(pgcmd.Stream(ctx, db, c.q, empty{}))
			e := failure(t, err)
			assert.Len(t, rows, 299)
			assert.Equal(t, "text", e.Column)
			assert.Contains(t, e.Message, `column "text" (text) is NULL`)
			if c.effect == pgcmd.NotApplied {
				assert.Equal(t, c.effect, e.Effect)
			} else {
				assert.NotEqual(t, pgcmd.NotApplied, e.Effect, "nobody knows, or it ran to its end all the same")
			}
			if _, ok := db.(*pgxpool.Pool); ok {
				idle(t, db.(*pgxpool.Pool))
			}
			_, err = db.Exec(ctx, `select 1`)
			assert.NoError(t, err, "what it ran on is usable")
		}
		_, err := collect(pgcmd.Stream(ctx, db, pgcmd.Query[empty, numbered]("x", `select 1 as n where false`), empty{}))
		assert.Contains(t, failure(t, err).Message, "has no column", "even without a row")
		_, err = db.Exec(ctx, `select 1`)
		assert.NoError(t, err)
	})
}

func TestStreamRefuses(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	pool := pgcmdtest.Pool(t, streamDDL, pgcmd.OnceSchema)
	var nobody *pgcmd.Command[int, []int]
	var none *pgxpool.Pool
	var noContext context.Context
	once := pgcmd.Stream(ctx, pool, numbers, 3)
	_, err := collect(once)
	require.NoError(t, err)
	for want, rows := range map[string]iter.Seq2[int, error]{
		"used twice":         once,
		"context is nil":     pgcmd.Stream(noContext, pool, numbers, 3),
		"DB is nil":          pgcmd.Stream(ctx, none, numbers, 3),
		"command is nil":     pgcmd.Stream(ctx, pool, nobody, 3),
		"only a Query":       pgcmd.Stream(ctx, pool, pgcmd.New("x", func(context.Context, pgcmd.DB, int) ([]int, error) { return nil, nil }), 3),
		"After hooks":        pgcmd.Stream(ctx, pool, pgcmd.After(numbers, func(context.Context, int, *[]int) error { return nil }), 3),
		"Once command":       pgcmd.Stream(ctx, pool, pgcmd.Once(numbers, func(int) string { return "x" }), 3),
		"transaction on the": pgcmd.Stream(insideOf(t, pool), pool, numbers, 3),
	} {
		got, err := collect(rows)
		e := failure(t, err)
		assert.Empty(t, got)
		assert.Contains(t, e.Message, want)
		assert.Equal(t, pgcmd.NotApplied, e.Effect, want)
		if want != "transaction on the" {
			assert.Equal(t, pgcmd.CodeInternal, e.Code, want)
		}
	}
	one := pgcmd.QueryOne[empty, []byte]("x", `select 'a'::bytea`)
	_, err = collect(pgcmd.Stream(ctx, pool, one, empty{}))
	assert.Contains(t, failure(t, err).Message, "only a Query", "a QueryOne whose row is a slice is none")

	gone, cancel := context.WithCancel(ctx)
	cancel()
	_, err = collect(pgcmd.Stream(gone, pool, numbers, 3))
	assert.Equal(t, pgcmd.CodeCanceled, failure(t, err).Code)
	assert.Equal(t, pgcmd.NotApplied, failure(t, err).Effect)

	type in struct {
		N int `validate:"lt=10"`
	}
	_, err = collect(pgcmd.Stream(ctx, pool, pgcmd.Query[in, int]("x", `select generate_series(1, @n::int)`), in{10}))
	assert.Equal(t, pgcmd.CodeInvalid, failure(t, err).Code)
	assert.Zero(t, failure(t, err).Attempts)
}

// insideOf returns the context of a transaction's body that has not ended.
func insideOf(t *testing.T, pool *pgxpool.Pool) context.Context {
	got, end := make(chan context.Context), make(chan struct{})
	go func() {
		_, _ = transact(func(ctx context.Context, tx *pgcmd.Tx) error { got <- ctx; <-end; return nil }).Run(context.Background(), pool, empty{})
		close(got)
	}()
	t.Cleanup(func() { close(end); <-got })
	return <-got
}

func TestStreamRunsHooksAndMiddleware(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	pool := pgcmdtest.Pool(t, streamDDL)
	var log []string
	note := func(format string, args ...any) { log = append(log, fmt.Sprintf(format, args...)) }
	hooked := func(q *pgcmd.Command[int, []int]) *pgcmd.Command[int, []int] {
		return pgcmd.Cleanup(pgcmd.OnError(pgcmd.Before(q, func(_ context.Context, n *int) error {
			note("before %d", *n)
			if *n++; *n == 1 {
				return errHook
			}
			return nil
		}), func(_ context.Context, n int, err error) error {
			note("error %s", pgcmd.CodeOf(err))
			return pgcmd.Errorf(pgcmd.CodeConflict, "translated")
		}), func(_ context.Context, n int) {
			note("cleanup %d", n)
		}).With(pgcmd.Options{Middleware: []pgcmd.Middleware{func(next pgcmd.Handler) pgcmd.Handler {
			return func(ctx context.Context, call *pgcmd.Call) error {
				note("begin %v", call.Input)
				err := next(ctx, call)
				note("end %d rows, %d attempts, %q", call.Rows, call.Attempts, pgcmd.CodeOf(err))
				return err
			}
		}}})
	}
	told := func() string { defer func() { log = nil }(); return strings.Join(log, "; ") }

	for _, inTx := range []bool{false, true} {
		o := pgcmd.Options{InTx: inTx}
		rows, err := collect(pgcmd.Stream(ctx, pool, hooked(numbers).With(o), 2))
		require.NoError(t, err)
		assert.Equal(t, []int{1, 2, 3}, rows)
		assert.Equal(t, `begin 2; before 2; cleanup 3; end 3 rows, 1 attempts, ""`, told())

		assert.Len(t, take(t, pgcmd.Stream(ctx, pool, hooked(numbers).With(o), 1_000_000), 4), 4)
		assert.Equal(t, `begin 1000000; before 1000000; cleanup 1000001; end 4 rows, 1 attempts, ""`, told())

		rows, err = collect(pgcmd.Stream(ctx, pool, hooked(fifth).With(o), 9))
		assert.Len(t, rows, 4)
		assert.Equal(t, pgcmd.CodeConflict, failure(t, err).Code)
		assert.Equal(t, "22012", failure(t, err).SQLState)
		assert.Equal(t, `begin 9; before 9; error invalid; cleanup 10; end 4 rows, 1 attempts, "conflict"`, told())

		_, err = collect(pgcmd.Stream(ctx, pool, hooked(numbers).With(o), 0))
		assert.ErrorIs(t, err, errHook)
		assert.Equal(t, `begin 0; before 0; error failed; cleanup 1; end 0 rows, 0 attempts, "conflict"`, told())
	}

	refusing := numbers.With(pgcmd.Options{Middleware: []pgcmd.Middleware{func(pgcmd.Handler) pgcmd.Handler {
		return func(context.Context, *pgcmd.Call) error { return errHook }
	}}})
	_, err := collect(pgcmd.Stream(ctx, pool, refusing, 1))
	assert.ErrorIs(t, err, errHook)

	swallowing := numbers.With(pgcmd.Options{Middleware: []pgcmd.Middleware{func(next pgcmd.Handler) pgcmd.Handler {
		return func(ctx context.Context, call *pgcmd.Call) error {
			defer func() { _ = recover() }()
			return next(ctx, call)
		}
	}}})
	assert.Panics(t, func() {
		for range pgcmd.Stream(ctx, pool, swallowing, 1000) {
			panic("boom")
		}
	}, "a panic of the loop's cannot be swallowed")
	idle(t, pool)
}

func TestStreamIsTriedAgainBeforeTheFirstRow(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	pool := pgcmdtest.Pool(t, `create sequence tries`, `create function flaky(at int, n int) returns int language plpgsql as $$ begin
		if n = at then
			if nextval('tries') < 3 then raise exception 'flaky' using errcode = '40001'; end if;
		end if; return n; end $$`)
	type in struct{ At, N int }
	for _, o := range []pgcmd.Options{{ReadOnly: true}, {InTx: true}, {InTx: true, ReadOnly: true, Timeout: time.Minute}} {
		o.Retry = pgcmd.Retry{Attempts: 5}
		if o.InTx {
			o.Tx = pgx.TxOptions{AccessMode: pgx.ReadWrite}
		}
		flaky := pgcmd.Query[in, int]("rows.flaky", `select flaky(@at::int, n) from generate_series(1, @n::int) n`).With(o)
		again := func() { _, err := pool.Exec(ctx, `alter sequence tries restart`); require.NoError(t, err) }

		again()
		rows, err := collect(pgcmd.Stream(ctx, pool, flaky, in{1, 3}))
		require.NoError(t, err)
		assert.Equal(t, []int{1, 2, 3}, rows)

		again()
		rows, err = collect(pgcmd.Stream(ctx, pool, flaky, in{2, 3}))
		e := failure(t, err)
		assert.Equal(t, "40001", e.SQLState)
		assert.Equal(t, 1, e.Attempts)
		assert.Equal(t, []int{1}, rows)

		again()
		attempts := 0
		outer := pgcmd.Transaction("outer", func(ctx context.Context, tx *pgcmd.Tx, _ empty) ([]int, error) {
			attempts++
			return collect(pgcmd.Stream(ctx, tx, flaky, in{2, 3}))
		}).With(pgcmd.Options{Retry: pgcmd.Retry{Attempts: 5}})
		got, err := outer.Run(ctx, pool, empty{})
		require.NoError(t, err)
		assert.Equal(t, []int{1, 2, 3}, got)
		assert.Equal(t, 3, attempts, "the transaction that it is part of is tried again whole")
	}
}

func TestStreamSeesAChangedSchema(t *testing.T) {
	t.Parallel()
	pool := connect(t, pgcmdtest.Pool(t, `create table t (a int); insert into t values (1)`), 1)
	all := pgcmd.Query[empty, map[string]any]("t.all", `select * from t`).With(pgcmd.Options{InTx: true})
	for _, change := range []string{`select 1`, `alter table t add b text default 'x'`, `alter table t alter a type text`} {
		_, err := pool.Exec(t.Context(), change)
		require.NoError(t, err)
		rows, err := collect(pgcmd.Stream(t.Context(), pool, all, empty{}))
		if err != nil { // what was known is forgotten
			rows, err = collect(pgcmd.Stream(t.Context(), pool, all, empty{}))
		}
		require.NoError(t, err, change)
		assert.Len(t, rows, 1)
	}
}

func TestStreamRoundTrips(t *testing.T) {
	t.Parallel()
	proxy, err := faults.Start(pgcmdtest.Pool(t, streamDDL).Config().ConnString())
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, proxy.Close()) })
	pool, err := pgcmd.Connect(t.Context(), pgcmd.Config{URL: proxy.URL(), MaxConns: 1})
	require.NoError(t, err)
	t.Cleanup(pool.Pool.Close)
	in := func(f func(ctx context.Context, tx *pgcmd.Tx) error) func(context.Context) error {
		return func(ctx context.Context) error {
			_, err := transact(f).Run(ctx, pool, empty{})
			return err
		}
	}
	stream := func(ctx context.Context, db pgcmd.DB, n int) error {
		_, err := collect(pgcmd.Stream(ctx, db, numbers, n))
		return err
	}
	for _, c := range []struct {
		what  string
		trips int64
		run   func(ctx context.Context) error
	}{
		{"a stream", 1, func(ctx context.Context) error { return stream(ctx, pool, 10_000) }},
		{"a few rows in a transaction: with BEGIN, and COMMIT", 2, in(func(ctx context.Context, tx *pgcmd.Tx) error { return stream(ctx, tx, 100) })},
		{"the same with a timeout", 2, func(ctx context.Context) error {
			_, err := collect(pgcmd.Stream(ctx, pool, numbers.With(pgcmd.Options{InTx: true, Timeout: time.Minute}), 100))
			return err
		}},
		{"128 and 512 rows, and the end", 4, in(func(ctx context.Context, tx *pgcmd.Tx) error { return stream(ctx, tx, 640) })},
		{"two, of which CLOSE travels with the second", 3, in(func(ctx context.Context, tx *pgcmd.Tx) error {
			return errors.Join(stream(ctx, tx, 100), stream(ctx, tx, 100))
		})},
		{"one that is broken off, and a statement", 3, in(func(ctx context.Context, tx *pgcmd.Tx) error {
			take(t, pgcmd.Stream(ctx, tx, numbers, 1_000_000), 5)
			_, err := tx.Exec(ctx, `select 1`)
			return err
		})},
	} {
		require.NoError(t, c.run(t.Context()), c.what) // prepares
		require.NoError(t, c.run(t.Context()), c.what)
		before := proxy.Counts().RoundTrips
		require.NoError(t, c.run(t.Context()), c.what)
		assert.Equal(t, c.trips, proxy.Counts().RoundTrips-before, c.what)
	}
}

// All rows of 10,000,000, with PGCMD_BIG=1, are to fit into 32 MiB at any time.
func TestStreamTakesConstantMemory(t *testing.T) {
	n := 200_000
	if os.Getenv("PGCMD_BIG") != "" {
		n = 10_000_000
	}
	pool := pgcmdtest.Pool(t, streamDDL)
	for name, o := range map[string]pgcmd.Options{"outside a transaction": {}, "in one": {InTx: true}} {
		peak := peakHeap(func() {
			rows := 0
			for row, err := range pgcmd.Stream(t.Context(), pool, upTo.With(o), n) {
				if rows++; err != nil || row.N != int64(rows) {
					t.Fatal(row, err)
				}
			}
			assert.Equal(t, n, rows)
		})
		t.Logf("%d rows %s: at most %.1f MiB", n, name, float64(peak)/(1<<20))
		assert.Less(t, peak, uint64(32<<20), name)
	}
}

// peakHeap is the most that the heap held while f ran, garbage included.
func peakHeap(f func()) (peak uint64) {
	runtime.GC()
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
		for {
			metrics.Read(sample)
			peak = max(peak, sample[0].Value.Uint64())
			select {
			case <-stop:
				return
			case <-time.After(time.Millisecond):
			}
		}
	}()
	f()
	close(stop)
	<-done
	return peak
}
