package pgcmd_test

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"iter"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgcmd/pgcmd"
	"github.com/pgcmd/pgcmd/internal/faults"
	"github.com/pgcmd/pgcmd/pgcmdtest"
)

const copyDDL = `
	create table owners (id int primary key);
	create table parts (
		id    bigint constraint parts_pkey primary key,
		name  text not null,
		qty   int constraint parts_qty_check check (qty >= 0),
		owner int constraint parts_owner_fkey references owners deferrable initially deferred
	)`

type part struct {
	ID   int64
	Name string
	Qty  int
}

var copyParts = pgcmd.Copy[part]("parts.copy", pgx.Identifier{"parts"})

const countParts = `select count(*) from parts`

// rowsOf is a sequence without an error.
func rowsOf[Row any](rows ...Row) iter.Seq2[Row, error] { return pgcmd.Rows(rows) }

// manyParts yields n good parts, and forever if n is negative; at is called before
// each, with its number.
func manyParts(n int, at func(i int)) iter.Seq2[part, error] {
	return func(yield func(part, error) bool) {
		for i := 1; i <= n || n < 0; i++ {
			if at != nil {
				at(i)
			}
			if !yield(part{ID: int64(i), Name: "an part", Qty: i}, nil) {
				return
			}
		}
	}
}

func TestCopy(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	plain := pgcmdtest.Pool(t, copyDDL)
	pool := connect(t, plain, 2)
	pooled, err := plain.Acquire(ctx)
	require.NoError(t, err)
	defer pooled.Release()
	conn, err := pgx.ConnectConfig(ctx, plain.Config().ConnConfig)
	require.NoError(t, err)
	defer conn.Close(ctx)
	tx, err := plain.Begin(ctx)
	require.NoError(t, err)
	defer tx.Rollback(ctx)

	for name, db := range map[string]pgcmd.DB{"a pool": pool, "a plain pool": plain, "a pooled connection": pooled, "a connection": conn, "a transaction of pgx's": tx} {
		for _, n := range []int{0, 1, 7, 20_000} {
			copied, err := copyParts.Run(ctx, db, manyParts(n, nil))
			require.NoError(t, err, name)
			assert.EqualValues(t, n, copied, name)
			assert.Equal(t, n, count(t, db, countParts), name)
			assert.Equal(t, n*(n+1)/2, count(t, db, `select coalesce(sum(qty), 0) from parts where name = 'an part'`), name)
			_, err = db.Exec(ctx, `delete from parts`)
			require.NoError(t, err)
		}
		if db == pgcmd.DB(tx) {
			require.NoError(t, tx.Rollback(ctx))
			_, err := copyParts.Run(ctx, tx, manyParts(1, nil))
			assert.Equal(t, pgcmd.NotApplied, failure(t, err).Effect, "the transaction has ended")
			assert.Contains(t, err.Error(), "the transaction has ended")
		}
	}
	assert.Zero(t, count(t, plain, countParts))
	idle(t, pool.Pool)
}

func TestACopyThatIsWrongPanicsAtDefinition(t *testing.T) {
	t.Parallel()
	table := pgx.Identifier{"parts"}
	for want, define := range map[string]func(){
		"the row type int names no columns":                                         func() { pgcmd.Copy[int]("parts.copy", table) },
		"the row type time.Time names no columns":                                   func() { pgcmd.Copy[time.Time]("parts.copy", table) },
		"the row type map[string]interface {} names no columns":                     func() { pgcmd.Copy[map[string]any]("parts.copy", table) },
		"use pgcmd_test.part, rows are values":                                      func() { pgcmd.Copy[*part]("parts.copy", table) },
		"the row type struct {} has no exported fields":                             func() { pgcmd.Copy[struct{}]("parts.copy", table) },
		"the row's field C cannot hold a column":                                    func() { pgcmd.Copy[struct{ C chan int }]("parts.copy", table) },
		"fields PartID and Part_ID of":                                              func() { pgcmd.Copy[struct{ PartID, Part_ID int }]("parts.copy", table) },
		"the table has no name":                                                     func() { pgcmd.Copy[part]("parts.copy", nil) },
		`the table name ["public" ""] has a part that is empty or holds a NUL byte`: func() { pgcmd.Copy[part]("parts.copy", pgx.Identifier{"public", ""}) },
		`the table name ["i\x00tems"] has a part that is empty or holds a NUL byte`: func() { pgcmd.Copy[part]("parts.copy", pgx.Identifier{"i\x00tems"}) },
		"Options.ReadOnly, but a Copy is a write":                                   func() { copyParts.With(pgcmd.Options{ReadOnly: true}) },
		"validate tag of": func() {
			pgcmd.Copy[struct {
				A int `validate:"nosuchrule"`
			}]("parts.copy", table)
		},
		"the sequence of a Copy cannot be": func() { pgcmd.Once(copyParts, func(iter.Seq2[part, error]) string { return "k" }) },
	} {
		text := panics(t, define)
		assert.Contains(t, text, want)
		assert.True(t, strings.HasPrefix(text, "pgcmd: parts.copy: "), text)
	}
	assert.Contains(t, panics(t, func() { pgcmd.Copy[part]("", table) }), "a command needs a name")
}

func (bomb) Value() (driver.Value, error) { panic("boom") }

func TestACopyInATransaction(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	pool := connect(t, pgcmdtest.Pool(t, copyDDL), 2)
	bad := rowsOf(part{ID: 1}, part{ID: 1})
	reset := func() { _, err := pool.Exec(ctx, `delete from parts`); require.NoError(t, err) }

	t.Run("joins it, as its first statement too", func(t *testing.T) {
		_, err := transact(func(ctx context.Context, tx *pgcmd.Tx) error {
			n, err := copyParts.Run(ctx, tx, manyParts(3, nil))
			assert.EqualValues(t, 3, n)
			assert.Equal(t, 3, count(t, tx, countParts))
			return errors.Join(err, errHook)
		}).Run(ctx, pool, empty{})
		assert.ErrorIs(t, err, errHook)
		assert.Zero(t, count(t, pool, countParts))
	})
	t.Run("a failure aborts it, and cannot be swallowed", func(t *testing.T) {
		for name, rows := range map[string]iter.Seq2[part, error]{
			"violates unique constraint":   bad,
			"the row was refused":          rowsOf(part{Name: "\x00"}),
			"the sequence failed at row 1": func(yield func(part, error) bool) { yield(part{}, errHook) },
		} {
			_, err := transact(func(ctx context.Context, tx *pgcmd.Tx) error {
				_, err := copyParts.Run(ctx, tx, rows)
				assert.Equal(t, pgcmd.NotApplied, failure(t, err).Effect)
				assert.Equal(t, "parts.copy", failure(t, err).Command)
				_, err = copyParts.Run(ctx, tx, manyParts(1, nil))
				assert.Contains(t, failure(t, err).Error(), name, "the reason, and not its consequence")
				return nil
			}).Run(ctx, pool, empty{})
			e := failure(t, err)
			assert.Equal(t, pgcmd.NotApplied, e.Effect)
			assert.Contains(t, e.Message, "the body swallowed the error")
			assert.Contains(t, e.Message, name)
		}
		assert.Zero(t, count(t, pool, countParts))
	})
	t.Run("Try is isolated", func(t *testing.T) {
		elsewhere := &pgconn.PgError{Code: "40001", Severity: "ERROR"} // of another database, say
		_, err := transact(func(ctx context.Context, tx *pgcmd.Tx) error {
			assert.True(t, pgcmd.Try(ctx, tx, copyParts, manyParts(2, nil)).OK())
			assert.Equal(t, pgcmd.NotApplied, pgcmd.EffectOf(pgcmd.Try(ctx, tx, copyParts, bad).Err))
			assert.ErrorIs(t, pgcmd.Try(ctx, tx, copyParts, func(yield func(part, error) bool) { yield(part{}, elsewhere) }).Err, elsewhere)
			assert.Equal(t, "boom", panics(t, func() { pgcmd.Try(ctx, tx, copyParts, manyParts(5, func(i int) { panicAt(i, 4) })) }))
			return runErr(copyParts.Run(ctx, tx, rowsOf(part{ID: 3})))
		}).Run(ctx, pool, empty{})
		require.NoError(t, err)
		assert.Equal(t, 3, count(t, pool, countParts))
		reset()
		tx, err := pool.Begin(ctx)
		require.NoError(t, err)
		assert.Error(t, pgcmd.Try(ctx, tx, copyParts, bad).Err)
		assert.True(t, pgcmd.Try(ctx, tx, copyParts, manyParts(2, nil)).OK())
		require.NoError(t, tx.Commit(ctx))
		assert.Equal(t, 2, count(t, pool, countParts))
		reset()
	})
	t.Run("InTx, so that After can veto it", func(t *testing.T) {
		veto := func(context.Context, iter.Seq2[part, error], *int64) error { return errHook }
		_, err := pgcmd.After(copyParts.With(pgcmd.Options{InTx: true}), veto).Run(ctx, pool, manyParts(3, nil))
		assert.ErrorIs(t, err, errHook)
		assert.Equal(t, pgcmd.NotApplied, pgcmd.EffectOf(err))
		assert.Zero(t, count(t, pool, countParts))
		_, err = pgcmd.After(copyParts, veto).Run(ctx, pool, manyParts(3, nil))
		assert.Equal(t, pgcmd.Applied, pgcmd.EffectOf(err))
		assert.Equal(t, 3, count(t, pool, countParts))
		reset()
	})
	t.Run("its sequence cannot use the same connection", func(t *testing.T) {
		_, err := transact(func(ctx context.Context, tx *pgcmd.Tx) error {
			return runErr(copyParts.Run(ctx, tx, func(yield func(part, error) bool) {
				_, err := tx.Exec(ctx, `select 1`)
				yield(part{}, err)
			}))
		}).Run(ctx, pool, empty{})
		assert.Contains(t, failure(t, err).Message, "the sequence failed at row 1: the transaction is in use")
	})
	t.Run("a deferred constraint fails at COMMIT", func(t *testing.T) {
		type owned struct {
			ID    int
			Name  string
			Owner int
		}
		c := pgcmd.Copy[owned]("parts.copy", pgx.Identifier{"parts"})
		for _, c := range []*pgcmd.Command[iter.Seq2[owned, error], int64]{c, c.With(pgcmd.Options{InTx: true})} {
			_, err := c.Run(ctx, pool, rowsOf(owned{1, "x", 9}))
			e := failure(t, err)
			assert.Equal(t, "parts_owner_fkey", e.Constraint)
			assert.Equal(t, pgcmd.NotApplied, e.Effect)
		}
		assert.Zero(t, count(t, pool, countParts))
	})
	idle(t, pool.Pool)
}

func TestACopyIsTriedAgainOnlyBeforeItsSequenceIsBegun(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	plain := pgcmdtest.Pool(t, copyDDL)
	proxy, err := faults.Start(plain.Config().ConnString())
	require.NoError(t, err)
	defer proxy.Close()
	pool, err := pgcmd.Connect(ctx, pgcmd.Config{URL: proxy.URL(), MaxConns: 1})
	require.NoError(t, err)
	defer pool.Pool.Close()
	again := pgcmd.Options{Retry: pgcmd.Retry{Attempts: 3, Delay: time.Millisecond}}
	begun := 0
	rows := manyParts(3, func(i int) {
		if i == 1 {
			begun++
		}
	})

	proxy.Set(&faults.Fault{Message: 1, Action: faults.CutBefore}) // the question for the columns
	o := pgcmd.Try(ctx, pool, copyParts.With(again), rows)
	require.NoError(t, o.Err)
	assert.Equal(t, 2, o.Attempts)
	assert.Equal(t, 1, begun)
	_, err = plain.Exec(ctx, `delete from parts`)
	require.NoError(t, err)

	begun = 0
	isDone := func(typ byte, _ []byte) bool { return typ == 'c' }
	isCommit := func(typ byte, body []byte) bool { return typ == 'Q' && strings.Contains(string(body), "commit") }
	for name, c := range map[string]struct {
		match  func(typ byte, body []byte) bool
		run    func() (int64, error)
		effect pgcmd.Effect
	}{
		"alone": {isDone, func() (int64, error) { return copyParts.With(again).Run(ctx, pool, rows) }, pgcmd.Unknown},
		"in its own": {isDone, func() (int64, error) {
			return copyParts.With(again).With(pgcmd.Options{InTx: true}).Run(ctx, pool, rows)
		}, pgcmd.NotApplied},
		"in another's": {isDone, func() (int64, error) {
			return 0, runErr(transact(func(ctx context.Context, tx *pgcmd.Tx) error { return runErr(copyParts.Run(ctx, tx, rows)) }).With(again).Run(ctx, pool, empty{}))
		}, pgcmd.NotApplied},
		"before COMMIT": {isCommit, func() (int64, error) {
			return copyParts.With(again).With(pgcmd.Options{InTx: true}).Run(ctx, pool, rows)
		}, pgcmd.Unknown},
		"a 40001, later": {nil, func() (int64, error) {
			return 0, runErr(transact(func(ctx context.Context, tx *pgcmd.Tx) error {
				_, err := copyParts.Run(ctx, tx, rows)
				require.NoError(t, err)
				return runErr(tx.Exec(ctx, `do $$ begin raise sqlstate '40001'; end $$`))
			}).With(again).Run(ctx, pool, empty{}))
		}, pgcmd.NotApplied},
	} {
		begun = 0
		if c.match != nil {
			proxy.Set(&faults.Fault{Match: c.match, Action: faults.CutBefore})
		}
		_, err := c.run()
		e := failure(t, err)
		assert.Equal(t, 1, begun, name)
		assert.Equal(t, 1, e.Attempts, name)
		assert.Equal(t, c.effect, e.Effect, name)
		assert.Zero(t, count(t, plain, countParts), name)
	}
}

func TestACopyReportsItsProgressAndItsRows(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	pool := pgcmdtest.Pool(t, copyDDL)
	for n, want := range map[int][]int{0: {0}, 10_000: {10_000}, 25_000: {10_000, 20_000, 25_000}} {
		var done []int
		var call *pgcmd.Call
		c := copyParts.With(pgcmd.Options{
			Progress: func(rows, total int) { assert.Equal(t, -1, total); done = append(done, rows) },
			Middleware: []pgcmd.Middleware{func(next pgcmd.Handler) pgcmd.Handler {
				return func(ctx context.Context, c *pgcmd.Call) error { call = c; return next(ctx, c) }
			}},
		})
		_, err := c.Run(ctx, pool, manyParts(n, nil))
		require.NoError(t, err)
		assert.Equal(t, want, done)
		assert.EqualValues(t, n, call.Rows)
		_, err = pool.Exec(ctx, `truncate parts`)
		require.NoError(t, err)
	}
	assert.Equal(t, "boom", panics(t, func() {
		_, _ = copyParts.With(pgcmd.Options{Progress: func(int, int) { panic("boom") }}).Run(ctx, pool, manyParts(15_000, nil))
	}))
	assert.Zero(t, count(t, pool, countParts))
	idle(t, pool)
}

func TestACopyNeedsLittleMemory(t *testing.T) {
	ctx := t.Context()
	pool := pgcmdtest.Pool(t, `create unlogged table parts (id bigint, name text, qty int)`)
	rows := 300_000
	if os.Getenv("PGCMD_FAULTS") == "all" {
		rows = 5_000_000
	}
	var before, now runtime.MemStats
	most := uint64(0)
	n, err := copyParts.Run(ctx, pool, manyParts(rows, func(i int) {
		switch {
		case i == 1000:
			runtime.GC()
			runtime.ReadMemStats(&before)
		case i%50_000 == 0:
			runtime.GC()
			runtime.ReadMemStats(&now)
			most = max(most, now.HeapAlloc)
		}
	}))
	require.NoError(t, err)
	assert.EqualValues(t, rows, n)
	assert.Less(t, int64(most)-int64(before.HeapAlloc), int64(2<<20), "bytes beyond those at row 1,000")
	runtime.ReadMemStats(&now)
	assert.Less(t, float64(now.Mallocs-before.Mallocs)/float64(rows), 0.2, "allocations a row")

	large := rowsOf(part{ID: 1, Name: strings.Repeat("x", 10<<20)}, part{ID: 2, Name: strings.Repeat("y", 200_000)}, part{ID: 3})
	n, err = copyParts.Run(ctx, pool, large)
	require.NoError(t, err)
	assert.EqualValues(t, 3, n)
	assert.Equal(t, 10<<20, count(t, pool, `select length(name) from parts where id = 1 order by length(name) desc limit 1`))
	assert.Equal(t, 200_000, count(t, pool, `select length(name) from parts where name like 'y%'`))
}

func TestACopyIsTracedAsPgxDoes(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	plain := pgcmdtest.Pool(t, copyDDL)
	config := plain.Config().Copy()
	tracer := &copyTracer{}
	config.ConnConfig.Tracer = tracer
	pool, err := pgxpool.NewWithConfig(ctx, config)
	require.NoError(t, err)
	defer pool.Close()
	_, err = copyParts.Run(ctx, pool, manyParts(2, nil))
	require.NoError(t, err)
	_, err = copyParts.Run(ctx, pool, manyParts(2, nil))
	require.Error(t, err)
	assert.Equal(t, []string{"[parts] [id name qty]", "COPY 2 true", "[parts] [id name qty]", " false"}, tracer.seen)
}

type copyTracer struct{ seen []string }

func (c *copyTracer) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	return ctx
}
func (c *copyTracer) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}
func (c *copyTracer) TraceCopyFromStart(ctx context.Context, _ *pgx.Conn, data pgx.TraceCopyFromStartData) context.Context {
	c.seen = append(c.seen, fmt.Sprint(data.TableName, " ", data.ColumnNames))
	return ctx
}
func (c *copyTracer) TraceCopyFromEnd(_ context.Context, _ *pgx.Conn, data pgx.TraceCopyFromEndData) {
	c.seen = append(c.seen, fmt.Sprint(data.CommandTag, " ", data.Err == nil))
}
