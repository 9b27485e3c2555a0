package commit_test

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/pgcmd/pgcmd"
	"github.com/pgcmd/pgcmd/pgcmdtest"
)

// elsewhere is an error that says of itself that it may be tried again.
var elsewhere = &pgcmd.Error{Code: pgcmd.CodeAborted, Effect: pgcmd.NotApplied, SQLState: "40001", Message: "of another database"}

const insertOne = "insert into t values (1)"

// script sends statements on a connection, one by one.
func script(statements ...string) func(ctx context.Context, c *pgx.Conn) error {
	return func(ctx context.Context, c *pgx.Conn) error {
		for _, sql := range statements {
			if _, err := c.Exec(ctx, sql); err != nil {
				return err
			}
		}
		return nil
	}
}

// endings are ways to end the transaction on its connection. After each of them a row is
// there, or may be there, whatever the transaction does.
var endings = map[string]func(ctx context.Context, c *pgx.Conn) error{
	"a transaction of pgx's": func(ctx context.Context, c *pgx.Conn) error {
		return pgx.BeginFunc(ctx, c, func(pgx.Tx) error { return nil })
	},
	"commit":                     script("commit"),
	"commit and chain":           script("commit and chain"),
	"commit, begin":              script("commit", "begin"),
	"commit; begin":              script("commit; begin"),
	"commit, begin, a write":     script("commit", "begin", insertOne),
	"commit, two transactions":   script("commit", "begin", "commit", "begin"),
	"rollback, a write":          script("rollback", insertOne),
	"rollback, a write, begin":   script("rollback", insertOne, "begin"),
	"rollback, begin read write": script("rollback", insertOne, "begin read write"),
	"commit, begin, savepoint":   script("commit", "begin", "savepoint pgcmd_1", "savepoint pgcmd_2"),
}

// afterwards are ways to go on in a transaction that was ended.
var afterwards = map[string]func(ctx context.Context, tx *pgcmd.Tx, c *pgx.Conn) error{
	"an error of another database": func(context.Context, *pgcmd.Tx, *pgx.Conn) error { return elsewhere },
	"a serialization failure on the connection": func(ctx context.Context, _ *pgcmd.Tx, c *pgx.Conn) error {
		return script("do $$ begin raise sqlstate '40001'; end $$")(ctx, c)
	},
	"a serialization failure in the transaction": func(ctx context.Context, tx *pgcmd.Tx, _ *pgx.Conn) error {
		_, err := tx.Exec(ctx, "do $$ begin raise sqlstate '40001'; end $$")
		return err
	},
	"a command that is refused": func(ctx context.Context, tx *pgcmd.Tx, _ *pgx.Conn) error {
		_, err := pgcmd.Exec[int]("t.insert", "insert into t values ($1 / 0)").Run(ctx, tx, 1)
		return err
	},
	"a lost connection": func(ctx context.Context, _ *pgcmd.Tx, c *pgx.Conn) error {
		_ = c.Close(ctx)
		return elsewhere
	},
	"success": func(context.Context, *pgcmd.Tx, *pgx.Conn) error { return nil },
}

// bodies are where in a transaction its connection is used.
var bodies = map[string]func(ctx context.Context, tx *pgcmd.Tx, use func(ctx context.Context, tx *pgcmd.Tx) error) error{
	"the body": func(ctx context.Context, tx *pgcmd.Tx, use func(context.Context, *pgcmd.Tx) error) error {
		if _, err := tx.Exec(ctx, insertOne); err != nil {
			return err
		}
		return use(ctx, tx)
	},
	"the body, which asks for the connection first": func(ctx context.Context, tx *pgcmd.Tx, use func(context.Context, *pgcmd.Tx) error) error {
		if _, err := tx.Conn().Exec(ctx, insertOne); err != nil {
			return err
		}
		return use(ctx, tx)
	},
	"a nested Tx": func(ctx context.Context, tx *pgcmd.Tx, use func(context.Context, *pgcmd.Tx) error) error {
		return pgx.BeginFunc(ctx, tx, func(nested pgx.Tx) error {
			if _, err := nested.Exec(ctx, insertOne); err != nil {
				return err
			}
			return use(ctx, nested.(*pgcmd.Tx))
		})
	},
	"a Try": func(ctx context.Context, tx *pgcmd.Tx, use func(context.Context, *pgcmd.Tx) error) error {
		if _, err := tx.Exec(ctx, insertOne); err != nil {
			return err
		}
		return pgcmd.Try(ctx, tx, pgcmd.Transaction("inner", func(ctx context.Context, tx *pgcmd.Tx, _ int) (any, error) { return nil, use(ctx, tx) }), 1).Err
	},
	"a Try whose error is swallowed": func(ctx context.Context, tx *pgcmd.Tx, use func(context.Context, *pgcmd.Tx) error) error {
		if _, err := tx.Exec(ctx, insertOne); err != nil {
			return err
		}
		pgcmd.Try(ctx, tx, pgcmd.Transaction("inner", func(ctx context.Context, tx *pgcmd.Tx, _ int) (any, error) { return nil, use(ctx, tx) }), 1)
		return elsewhere
	},
	"the loop of a Stream": func(ctx context.Context, tx *pgcmd.Tx, use func(context.Context, *pgcmd.Tx) error) error {
		if _, err := tx.Exec(ctx, insertOne); err != nil {
			return err
		}
		n := 0
		for _, err := range pgcmd.Stream(ctx, tx, pgcmd.Query[struct{}, int]("many", "select generate_series(1, 1000)"), struct{}{}) {
			if err != nil {
				return err
			}
			if n++; n == 1 {
				if err := use(ctx, tx); err != nil {
					return err
				}
			}
		}
		return nil
	},
}

func TestATransactionThatWasEndedOnItsConnectionIsUnknownAndNotTriedAgain(t *testing.T) {
	t.Parallel()
	pool := pgcmdtest.Pool(t, `create table t (n int)`)
	for ending, end := range endings {
		for after, goOn := range afterwards {
			for place, body := range bodies {
				t.Run(ending+"/"+after+"/"+place, func(t *testing.T) {
					attempts := 0
					c := pgcmd.Transaction("c", func(ctx context.Context, tx *pgcmd.Tx, _ int) (any, error) {
						attempts++
						return nil, body(ctx, tx, func(ctx context.Context, tx *pgcmd.Tx) error {
							conn := tx.Conn()
							if err := end(ctx, conn); err != nil {
								return err
							}
							return goOn(ctx, tx, conn)
						})
					}).With(pgcmd.Options{Retry: pgcmd.Retry{Attempts: 3, Delay: time.Microsecond}})
					_, err := c.Run(t.Context(), pool, 1)
					require.Error(t, err)
					require.Equal(t, pgcmd.Unknown, pgcmd.EffectOf(err), err)
					require.Equal(t, 1, attempts)
				})
			}
		}
	}
}

func TestATransactionOfPgxThatWasEndedOnItsConnectionIsUnknown(t *testing.T) {
	t.Parallel()
	pool := pgcmdtest.Pool(t, `create table t (n int)`)
	for ending, end := range endings {
		for after, goOn := range afterwards {
			if after == "success" {
				continue // its end is the caller's
			}
			for _, try := range []bool{false, true} {
				for again := range 2 {
					conn, err := pool.Acquire(t.Context())
					require.NoError(t, err)
					tx, err := conn.Begin(t.Context())
					require.NoError(t, err)
					readTypeMap := pgcmd.Transaction("read.type.map", func(_ context.Context, tx *pgcmd.Tx, _ int) (any, error) { return tx.Conn().TypeMap(), nil })
					for range again {
						_, err = readTypeMap.Run(t.Context(), tx, 1)
						require.NoError(t, err)
					}
					c := pgcmd.Transaction("c", func(ctx context.Context, tx *pgcmd.Tx, _ int) (any, error) {
						conn := tx.Conn()
						if err := end(ctx, conn); err != nil {
							return nil, err
						}
						return nil, goOn(ctx, tx, conn)
					})
					if try {
						err = pgcmd.Try(t.Context(), tx, c, 1).Err
					} else {
						_, err = c.Run(t.Context(), tx, 1)
					}
					require.Equal(t, pgcmd.Unknown, pgcmd.EffectOf(err), "%s, %s, try %v, after %d: %v", ending, after, try, again, err)
					_ = tx.Rollback(t.Context())
					conn.Release()
				}
			}
		}
	}
}

// uses of a connection that do not end its transaction.
var uses = map[string]func(ctx context.Context, tx *pgcmd.Tx) error{
	"looking at its types": func(_ context.Context, tx *pgcmd.Tx) error { tx.Conn().TypeMap(); return nil },
	"asking for it twice":  func(_ context.Context, tx *pgcmd.Tx) error { tx.Conn(); tx.Conn(); return nil },
	"a write":              func(ctx context.Context, tx *pgcmd.Tx) error { return script(insertOne)(ctx, tx.Conn()) },
	"savepoints": func(ctx context.Context, tx *pgcmd.Tx) error {
		return script("savepoint a", insertOne, "rollback to a", "release a")(ctx, tx.Conn())
	},
	"the isolation level": func(ctx context.Context, tx *pgcmd.Tx) error {
		return script("set transaction isolation level serializable", insertOne)(ctx, tx.Conn())
	},
	"a nested Tx that is rolled back": func(ctx context.Context, tx *pgcmd.Tx) error {
		nested, err := tx.Begin(ctx)
		if err != nil {
			return err
		}
		if err := script(insertOne)(ctx, nested.Conn()); err != nil {
			return err
		}
		return nested.Rollback(ctx)
	},
	"a nested Tx that is rolled back, within one that is kept": func(ctx context.Context, tx *pgcmd.Tx) error {
		return pgx.BeginFunc(ctx, tx, func(outer pgx.Tx) error {
			inner, err := outer.Begin(ctx)
			if err != nil {
				return err
			}
			if err := script(insertOne)(ctx, inner.Conn()); err != nil {
				return err
			}
			return inner.Rollback(ctx)
		})
	},
	"a Try that fails": func(ctx context.Context, tx *pgcmd.Tx) error {
		o := pgcmd.Try(ctx, tx, pgcmd.Transaction("inner", func(ctx context.Context, tx *pgcmd.Tx, _ int) (any, error) {
			return nil, script("select 1/0")(ctx, tx.Conn())
		}), 1)
		if pgcmd.EffectOf(o.Err) != pgcmd.NotApplied {
			return pgcmd.Errorf(pgcmd.CodeInternal, "the Effect is %v", pgcmd.EffectOf(o.Err))
		}
		return nil
	},
	"a savepoint of SQL text and a rollback to it": func(ctx context.Context, tx *pgcmd.Tx) error {
		if _, err := tx.Exec(ctx, "savepoint a"); err != nil {
			return err
		}
		return script(insertOne, "rollback to a")(ctx, tx.Conn())
	},
	"a prepared statement": func(ctx context.Context, tx *pgcmd.Tx) error {
		_, err := tx.Prepare(ctx, "p", "select 1")
		return err
	},
	"a large object": func(ctx context.Context, tx *pgcmd.Tx) error {
		objects := tx.LargeObjects()
		_, err := objects.Create(ctx, 0)
		return err
	},
}

func TestAConnectionThatOnlyServesTheTransactionChangesNothing(t *testing.T) {
	t.Parallel()
	pool := pgcmdtest.Pool(t, `create table t (n int)`)
	for use, do := range uses {
		t.Run(use, func(t *testing.T) {
			t.Parallel()
			attempts := 0
			c := pgcmd.Transaction("c", func(ctx context.Context, tx *pgcmd.Tx, failures int) (n int, err error) {
				attempts++
				if err := do(ctx, tx); err != nil {
					return 0, err
				}
				if attempts <= failures {
					return 0, script("do $$ begin raise sqlstate '40001'; end $$")(ctx, tx.Conn())
				}
				_, err = tx.Exec(ctx, insertOne)
				return attempts, err
			}).With(pgcmd.Options{Retry: pgcmd.Retry{Attempts: 3, Delay: time.Microsecond}})
			_, err := c.Run(t.Context(), pool, 0)
			require.NoError(t, err)
			if use == "a savepoint of SQL text and a rollback to it" {
				return // with which the marker may go, so that an error proves nothing
			}
			attempts = 0
			n, err := c.Run(t.Context(), pool, 2)
			require.NoError(t, err)
			require.Equal(t, 3, n, "each failure is proven to be NotApplied, and tried again")
		})
	}
}
