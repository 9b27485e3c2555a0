// Package rows_test holds what the reading of rows promises: how a statement ended is the
// server's word alone, whatever the client finds wrong with a row, and limits act before
// memory is used.
package rows_test

import (
	"context"
	"errors"
	"fmt"
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

// ddl makes f, which inserts i and returns 100000 instead of it if the call is to be
// unreadable, and raises an error at the row fail: after the client has failed to scan.
const ddl = `
	create table t (id int);
	create table parent (id int primary key);
	create table child (id int, parent int constraint has_parent references parent deferrable initially deferred);
	create function f(i int, unreadable int, fail int) returns int language plpgsql as $$ begin
		insert into t values (i);
		if i = fail then raise exception 'no' using errcode = '23514', constraint = 'never'; end if;
		return case when i = unreadable then 100000 else i end;
	end $$`

// small takes what an int16 holds, and nothing else.
type small struct{ V int16 }

func (s *small) ScanRow(rows pgx.Rows) error { return rows.Scan(&s.V) }

// silent does not return the error of Scan.
type silent struct{ V int16 }

func (s *silent) ScanRow(rows pgx.Rows) error {
	_ = rows.Scan(&s.V)
	return nil
}

// byValues reads the row by Values.
type byValues struct{ V int32 }

func (s *byValues) ScanRow(rows pgx.Rows) error {
	values, err := rows.Values()
	if err != nil {
		return err
	}
	if s.V = values[0].(int32); s.V > 1000 {
		return errTooMuch
	}
	return nil
}

var errTooMuch = errors.New("too much")

type plain struct{ V int16 }

// item says which row of five cannot be read, and at which the server fails; 0: none.
type item struct{ Unreadable, Fail int }

var (
	good  = item{}
	scan  = item{Unreadable: 2}          // the client alone fails
	both  = item{Unreadable: 2, Fail: 4} // first the client, then the server
	fails = item{Fail: 4}                // the server alone
)

const five = `select f(i, @unreadable, @fail)::int as v from generate_series(1, 5) i`

// modes are pgx's ways to run a statement.
var modes = []pgx.QueryExecMode{
	pgx.QueryExecModeCacheStatement, pgx.QueryExecModeCacheDescribe, pgx.QueryExecModeDescribeExec, pgx.QueryExecModeExec, pgx.QueryExecModeSimpleProtocol,
}

func connect(t testing.TB, url string, change func(*pgcmd.Config)) *pgcmd.Pool {
	t.Helper()
	config := pgcmd.Config{URL: url, MaxConns: 2}
	if change != nil {
		change(&config)
	}
	pool, err := pgcmd.Connect(t.Context(), config)
	require.NoError(t, err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		require.NoError(t, pool.Close(ctx))
	})
	return pool
}

func inMode(mode pgx.QueryExecMode) func(*pgcmd.Config) {
	return func(c *pgcmd.Config) {
		c.Pgx = func(c *pgxpool.Config) { c.ConnConfig.DefaultQueryExecMode = mode }
	}
}

func observer(t testing.TB, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

// count tells how many rows a table has, and empties it.
func count(t testing.TB, conn *pgx.Conn, table string) (n int) {
	t.Helper()
	require.NoError(t, conn.QueryRow(t.Context(), "select count(*) from "+table).Scan(&n))
	_, err := conn.Exec(t.Context(), "truncate "+table)
	require.NoError(t, err)
	return n
}

func failure(t testing.TB, err error) *pgcmd.Error {
	t.Helper()
	e, ok := err.(*pgcmd.Error)
	require.Truef(t, ok, "%T %v is not an *Error", err, err)
	return e
}

// isServers asserts that the error is the server's refusal, and that it reaches what the
// client had found wrong.
func isServers(t testing.TB, err error, what string) {
	t.Helper()
	e := failure(t, err)
	assert.Equal(t, pgcmd.CodeInvalid, e.Code, what)
	assert.Equal(t, "23514", e.SQLState, what)
	assert.Equal(t, pgcmd.NotApplied, e.Effect, what)
	var pgErr *pgconn.PgError
	assert.ErrorAs(t, err, &pgErr, what)
	var scanErr pgx.ScanArgError
	assert.ErrorAs(t, err, &scanErr, what)
}

// usable asserts that the pool's connections are back, and in step.
func usable(t testing.TB, pool *pgcmd.Pool) {
	t.Helper()
	answer := pgcmd.QueryOne[int, int]("answer", `select $1::int`)
	for i := range 10 {
		got, err := answer.Run(t.Context(), pool, i)
		require.NoError(t, err)
		require.Equal(t, i, got)
	}
	require.Eventually(t, func() bool { return pool.Stat().AcquiredConns() == 0 }, 10*time.Second, time.Millisecond, "connections still held")
}

// A way is one way to run five for one item.
type way func(ctx context.Context, db pgcmd.DB, in item) error

// ways are all of them, by row types whose scan fails in ways of their own.
func ways() map[string]way {
	all := map[string]way{}
	add := func(name string, w way) { all[name] = w }
	addRow[small](add, "a row that scans itself")
	addRow[silent](add, "a row that hides its error")
	addRow[byValues](add, "a row of Values")
	addRow[plain](add, "a struct")
	addRow[int16](add, "a scalar")
	return all
}

func addRow[Row any](add func(string, way), name string) {
	many := pgcmd.Query[item, Row]("many", five)
	one := pgcmd.QueryOne[item, Row]("one", five)
	add("Query of "+name, func(ctx context.Context, db pgcmd.DB, in item) error {
		_, err := many.Run(ctx, db, in)
		return err
	})
	add("QueryOne of "+name, func(ctx context.Context, db pgcmd.DB, in item) error {
		_, err := one.Run(ctx, db, item{Unreadable: min(in.Unreadable, 1), Fail: in.Fail})
		return err
	})
	add("Stream of "+name, func(ctx context.Context, db pgcmd.DB, in item) error {
		for _, err := range pgcmd.Stream(ctx, db, many, in) {
			if err != nil {
				return err
			}
		}
		return nil
	})
	add("a hook after a Query of "+name, func(ctx context.Context, db pgcmd.DB, in item) error {
		_, err := pgcmd.OnError(pgcmd.After(many, func(context.Context, item, *[]Row) error { return nil }), func(_ context.Context, _ item, err error) error { return err }).Run(ctx, db, in)
		return err
	})
	add("InTx of "+name, func(ctx context.Context, db pgcmd.DB, in item) error {
		_, err := many.With(pgcmd.Options{InTx: true}).Run(ctx, db, in)
		return err
	})
}

func TestAnErrorOfTheServerAfterOneOfTheScanIsTheServers(t *testing.T) {
	t.Parallel()
	url := pgcmdtest.URL(t, ddl)
	look := observer(t, url)
	for _, mode := range modes {
		pool := connect(t, url, inMode(mode))
		for name, run := range ways() {
			what := fmt.Sprintf("%s, %s", mode, name)
			err := run(t.Context(), pool, both)
			e := failure(t, err)
			assert.Equal(t, "23514", e.SQLState, what)
			assert.Equal(t, pgcmd.NotApplied, e.Effect, what)
			assert.Equal(t, pgcmd.CodeInvalid, e.Code, what)
			assert.Zero(t, count(t, look, "t"), what)

			// The client alone: it is there, unless a transaction of its own was rolled back.
			err = run(t.Context(), pool, scan)
			e, n := failure(t, err), count(t, look, "t")
			assert.Empty(t, e.SQLState, what)
			assert.Equal(t, n > 0, e.Effect == pgcmd.Applied, "%s: %v, %d there", what, e, n)
			assert.NotEqual(t, pgcmd.Unknown, e.Effect, what)
		}
		usable(t, pool)
	}
}

func TestBothErrorsAreReached(t *testing.T) {
	t.Parallel()
	pool := connect(t, pgcmdtest.URL(t, ddl), nil)
	_, err := pgcmd.Query[item, small]("many", five).Run(t.Context(), pool, both)
	isServers(t, err, "Query")
	_, err = pgcmd.Query[item, byValues]("many", five).Run(t.Context(), pool, both)
	require.ErrorIs(t, err, errTooMuch)
	assert.Equal(t, "23514", failure(t, err).SQLState)
	for mode := range batches(pgcmd.Query[item, small]("many", five)) {
		out := pgcmd.Try(t.Context(), pool, pgcmd.Batch(pgcmd.Query[item, small]("many", five), mode), []item{good, both})
		isServers(t, out.Value.Outcomes[1].Err, mode.String())
	}
	var never = errors.New("never")
	named := pgcmd.Query[item, small]("many", five).With(pgcmd.Options{OnConstraint: map[string]error{"never": never}})
	_, err = named.Run(t.Context(), pool, both)
	require.ErrorIs(t, err, never, "the domain error of the constraint")
	isServers(t, err, "with a domain error")
}

func TestAnErrorOfTheServerAtTheEndOfAStatementIsTheServers(t *testing.T) {
	t.Parallel()
	url := pgcmdtest.URL(t, ddl)
	look := observer(t, url)
	const insert = `insert into child values (100000, 1) returning id as v`
	for _, mode := range modes {
		pool := connect(t, url, inMode(mode))
		for name, run := range map[string]func() error{
			"scans itself": func() error {
				_, err := pgcmd.QueryOne[struct{}, small]("one", insert).Run(t.Context(), pool, struct{}{})
				return err
			},
			"many": func() error {
				_, err := pgcmd.Query[struct{}, small]("many", insert).Run(t.Context(), pool, struct{}{})
				return err
			},
			"null": func() error {
				_, err := pgcmd.QueryOne[struct{}, int]("null", `insert into child values (null, 1) returning id`).Run(t.Context(), pool, struct{}{})
				return err
			},
			"two columns of one name": func() error {
				_, err := pgcmd.QueryOne[struct{}, map[string]any]("map", `insert into child values (1, 1) returning id, parent as id`).Run(t.Context(), pool, struct{}{})
				return err
			},
			"a row that does not fit": func() error {
				_, err := pgcmd.Query[struct{}, struct{ Other int }]("other", insert).Run(t.Context(), pool, struct{}{})
				return err
			},
			"two rows": func() error {
				_, err := pgcmd.QueryOne[struct{}, int]("two", `insert into child values (1, 1), (2, 1) returning id`).Run(t.Context(), pool, struct{}{})
				return err
			},
			"MaxRows": func() error {
				_, err := pgcmd.Query[struct{}, int]("two", `insert into child values (1, 1), (2, 1) returning id`).With(pgcmd.Options{MaxRows: 1}).Run(t.Context(), pool, struct{}{})
				return err
			},
			"AdHoc": func() error {
				_, err := pgcmd.AdHoc.Run(t.Context(), pool, pgcmd.AdHocQuery{SQL: `insert into child values (1, 1) returning id, parent as id`})
				return err
			},
			"Stream": func() error {
				for _, err := range pgcmd.Stream(t.Context(), pool, pgcmd.Query[struct{}, small]("many", insert), struct{}{}) {
					if err != nil {
						return err
					}
				}
				return nil
			},
			"InTx": func() error {
				_, err := pgcmd.Query[struct{}, int]("intx", `insert into child values (1, 1) returning id`).With(pgcmd.Options{InTx: true}).Run(t.Context(), pool, struct{}{})
				return err
			},
		} {
			e := failure(t, run())
			assert.Equal(t, "23503", e.SQLState, "%s, %s: %v", mode, name, e)
			assert.Equal(t, "has_parent", e.Constraint, "%s, %s", mode, name)
			assert.Equal(t, pgcmd.NotApplied, e.Effect, "%s, %s", mode, name)
			assert.Zero(t, count(t, look, "child"), "%s, %s", mode, name)
		}
		usable(t, pool)
	}
}

func TestABodyCannotSwallowAServersErrorBehindOneOfTheScan(t *testing.T) {
	t.Parallel()
	url := pgcmdtest.URL(t, ddl)
	look := observer(t, url)
	for _, mode := range modes {
		pool := connect(t, url, inMode(mode))
		for name, run := range ways() {
			what := fmt.Sprintf("%s, %s", mode, name)
			first := true // also as the statement with which BEGIN travels
			for range 2 {
				swallow := pgcmd.Transaction("swallow", func(ctx context.Context, tx *pgcmd.Tx, in item) (int, error) {
					if !first {
						if _, err := tx.Exec(ctx, `insert into t values (7)`); err != nil {
							return 0, err
						}
					}
					_ = run(ctx, tx, in)
					_, _ = tx.Exec(ctx, `insert into t values (8)`)
					return 0, nil
				})
				_, err := swallow.Run(t.Context(), pool, both)
				e := failure(t, err)
				assert.Equal(t, "23514", e.SQLState, "%s: %v", what, e)
				assert.Equal(t, pgcmd.NotApplied, e.Effect, what)
				assert.Zero(t, count(t, look, "t"), what)

				_, err = swallow.Run(t.Context(), pool, scan)
				require.NoError(t, err, "%s: a scan error aborts nothing", what)
				assert.GreaterOrEqual(t, count(t, look, "t"), 5, what)
				first = false
			}
		}
		usable(t, pool)
	}
}

func TestTryUndoesAStatementThatFailedBehindAScanError(t *testing.T) {
	t.Parallel()
	url := pgcmdtest.URL(t, ddl)
	look := observer(t, url)
	many := pgcmd.Query[item, small]("many", five)
	for _, mode := range modes {
		pool := connect(t, url, inMode(mode))
		for _, in := range []item{both, scan, fails} {
			_, err := pgcmd.Transaction("try", func(ctx context.Context, tx *pgcmd.Tx, in item) (int, error) {
				o := pgcmd.Try(ctx, tx, many, in)
				e := failure(t, o.Err)
				assert.Equal(t, pgcmd.NotApplied, e.Effect, "%s %v", mode, in)
				if in.Fail > 0 {
					assert.Equal(t, "23514", e.SQLState, "%s %v", mode, in)
				}
				_, err := tx.Exec(ctx, `insert into t values (7)`)
				return 0, err
			}).Run(t.Context(), pool, in)
			require.NoError(t, err, "%s %v", mode, in)
			assert.Equal(t, 1, count(t, look, "t"), "%s %v", mode, in)
		}
		usable(t, pool)
	}
}

func TestRowsOfATxTellTheServersErrorBehindOneOfTheScan(t *testing.T) {
	t.Parallel()
	url := pgcmdtest.URL(t, ddl)
	look := observer(t, url)
	pool := connect(t, url, nil)
	const sql = `select f(i, 2, 4) from generate_series(1, 5) i`
	for name, run := range map[string]func(ctx context.Context, tx *pgcmd.Tx){
		"Scan": func(ctx context.Context, tx *pgcmd.Tx) {
			rows, err := tx.Query(ctx, sql)
			require.NoError(t, err)
			var v int16
			for rows.Next() {
				if rows.Scan(&v) != nil {
					break
				}
			}
			var scanErr pgx.ScanArgError
			assert.ErrorAs(t, rows.Err(), &scanErr)
		},
		"CollectRows": func(ctx context.Context, tx *pgcmd.Tx) {
			rows, _ := tx.Query(ctx, sql)
			_, err := pgx.CollectRows(rows, pgx.RowTo[int16])
			assert.Error(t, err)
		},
		"QueryRow": func(ctx context.Context, tx *pgcmd.Tx) {
			var v int16
			assert.Error(t, tx.QueryRow(ctx, `select f(i, 1, 4) from generate_series(1, 5) i`).Scan(&v))
		},
		"a row that scans itself": func(ctx context.Context, tx *pgcmd.Tx) {
			rows, _ := tx.Query(ctx, sql)
			_, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (s small, err error) {
				err = row.Scan(&s)
				return s, err
			})
			assert.Error(t, err)
		},
	} {
		_, err := pgcmd.Transaction("swallow", func(ctx context.Context, tx *pgcmd.Tx, _ struct{}) (int, error) {
			run(ctx, tx)
			return 0, nil
		}).Run(t.Context(), pool, struct{}{})
		e := failure(t, err)
		assert.Equal(t, "23514", e.SQLState, "%s: %v", name, e)
		assert.Zero(t, count(t, look, "t"), name)
	}
	usable(t, pool)
}
