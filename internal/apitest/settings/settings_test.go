// Package settings_test tests Config.Settings on a real PostgreSQL.
package settings_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgcmd/pgcmd"
	"github.com/pgcmd/pgcmd/pgcmdtest"
)

const ddl = `create table notes (id bigint primary key, n int check (n >= 0), tenant text not null default coalesce(current_setting('app.tenant', true), ''));
create function tenant() returns text stable language sql return coalesce(current_setting('app.tenant', true), '(none)');
create function noisy() returns int language plpgsql volatile as $$ begin raise notice 'hear'; return 1; end $$;
create function noisy_row() returns trigger language plpgsql as $$ begin perform noisy(); return new; end $$;
create trigger noisy before insert on notes for each row when (new.n = 7) execute function noisy_row()`

type note struct {
	ID int64
	N  int
}

type none = struct{}

var (
	who     = pgcmd.QueryOne[none, string]("who", `select tenant()`)
	readWho = who.With(pgcmd.Options{ReadOnly: true})
	whoAll  = pgcmd.Query[int, string]("who.all", `select tenant() from generate_series(1, $1)`)
	add     = pgcmd.Exec[note]("notes.add", `insert into notes (id, n) values (@id, @n)`)
	copyIn  = pgcmd.Copy[note]("notes.copy", pgx.Identifier{"notes"})
)

// nobody is what tenant returns without a setting: a setting of one's own that was set once is empty on that connection
// afterwards.
var nobody = []string{"", "(none)"}

type tenantKey struct{}

func as(ctx context.Context, tenant string) context.Context {
	return context.WithValue(ctx, tenantKey{}, tenant)
}

// ofContext is the Settings of most tests.
func ofContext(ctx context.Context) ([]pgcmd.Setting, error) {
	tenant, ok := ctx.Value(tenantKey{}).(string)
	if !ok {
		return nil, nil
	}
	return []pgcmd.Setting{{Name: "app.tenant", Value: tenant}, {Name: "app.user", Value: "u'\\\""}}, nil
}

// A way is one in which pools reach the server.
type way struct {
	config func(*pgcmd.Config)
	pooler bool
}

var ways = map[string]way{
	"prepared statements": {config: func(*pgcmd.Config) {}},
	"Multiplex":           {config: func(c *pgcmd.Config) { c.Multiplex = 2 }},
	"cached descriptions": {config: mode(pgx.QueryExecModeCacheDescribe)},
	"descriptions":        {config: mode(pgx.QueryExecModeDescribeExec)},
	"no descriptions":     {config: mode(pgx.QueryExecModeExec)},
	"a tracer":            {config: func(c *pgcmd.Config) { c.Pgx = func(c *pgxpool.Config) { c.ConnConfig.Tracer = tracer{} } }},
	"PgBouncer":           {config: func(c *pgcmd.Config) { c.PgBouncer = true }, pooler: true},
}

// someWays are the ways, in the short form without the modes of pgx that are sent as another one is.
func someWays() map[string]way {
	some := maps.Clone(ways)
	if testing.Short() {
		delete(some, "descriptions")
		delete(some, "no descriptions")
	}
	return some
}

func mode(m pgx.QueryExecMode) func(*pgcmd.Config) {
	return func(c *pgcmd.Config) { c.Pgx = func(c *pgxpool.Config) { c.ConnConfig.DefaultQueryExecMode = m } }
}

// A tracer does nothing, but pgx has to trace for it.
type tracer struct{}

func (tracer) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	return ctx
}
func (tracer) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

// connect makes a pool of one connection.
func connect(t *testing.T, w way, change ...func(*pgcmd.Config)) *pgcmd.Pool {
	t.Helper()
	url := pgcmdtest.URL(t, ddl, pgcmd.OnceSchema)
	if w.pooler {
		bouncer, err := pgcmdtest.PgBouncer(t.Context(), url, pgcmdtest.WithSetting("default_pool_size", "1"))
		require.NoError(t, err)
		t.Cleanup(func() { assert.NoError(t, bouncer.Close()) })
		url = bouncer.URL()
	}
	cfg := pgcmd.Config{URL: url, MaxConns: 1, Settings: ofContext}
	w.config(&cfg)
	for _, f := range change {
		f(&cfg)
	}
	pool, err := pgcmd.Connect(t.Context(), cfg)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, pool.Close(context.Background())) })
	return pool
}

func rowsOf(notes ...note) iter.Seq2[note, error] {
	return func(yield func(note, error) bool) {
		for _, n := range notes {
			if !yield(n, nil) {
				return
			}
		}
	}
}

var ids atomic.Int64

func next() note { return note{ID: ids.Add(1)} }

// kinds run each kind of command. What returns tenants returns those that it has seen.
func kinds() map[string]func(ctx context.Context, pool *pgcmd.Pool) (tenants []string, err error) {
	one := func(c *pgcmd.Command[none, string]) func(context.Context, *pgcmd.Pool) ([]string, error) {
		return func(ctx context.Context, pool *pgcmd.Pool) ([]string, error) {
			tenant, err := c.Run(ctx, pool, none{})
			return []string{tenant}, err
		}
	}
	transaction := func(body func(ctx context.Context, tx *pgcmd.Tx) ([]string, error)) func(context.Context, *pgcmd.Pool) ([]string, error) {
		c := pgcmd.Transaction("tx", func(ctx context.Context, tx *pgcmd.Tx, _ none) ([]string, error) { return body(ctx, tx) })
		return func(ctx context.Context, pool *pgcmd.Pool) ([]string, error) { return c.Run(ctx, pool, none{}) }
	}
	written := func(ctx context.Context, pool *pgcmd.Pool, notes []note) (tenants []string, err error) {
		for _, n := range notes {
			var tenant string
			if err := pool.QueryRow(ctx, `select tenant from notes where id = $1`, n.ID).Scan(&tenant); err != nil {
				return nil, err
			}
			tenants = append(tenants, tenant)
		}
		return tenants, nil
	}
	write := func(run func(ctx context.Context, pool *pgcmd.Pool, notes []note) error) func(context.Context, *pgcmd.Pool) ([]string, error) {
		return func(ctx context.Context, pool *pgcmd.Pool) ([]string, error) {
			notes := []note{next(), next(), next()}
			if err := run(ctx, pool, notes); err != nil {
				return nil, err
			}
			return written(ctx, pool, notes)
		}
	}
	batch := func(c *pgcmd.Command[note, int64], mode pgcmd.BatchMode) func(context.Context, *pgcmd.Pool) ([]string, error) {
		return write(func(ctx context.Context, pool *pgcmd.Pool, notes []note) error {
			r, err := pgcmd.Batch(c, mode).Run(ctx, pool, notes)
			return errors.Join(err, r.Err())
		})
	}
	pipeline := func(mode pgcmd.BatchMode) func(context.Context, *pgcmd.Pool) ([]string, error) {
		return func(ctx context.Context, pool *pgcmd.Pool) (tenants []string, err error) {
			var p pgcmd.Pipeline
			a, b := pgcmd.Queue(&p, who, none{}), pgcmd.Queue(&p, whoAll, 2)
			if err := p.Run(ctx, pool, mode); err != nil {
				return nil, err
			}
			first, _ := a.Get()
			more, err := b.Get()
			return append(more, first), err
		}
	}
	stream := func(ctx context.Context, db pgcmd.DB, n int) (tenants []string, err error) {
		for tenant, err := range pgcmd.Stream(ctx, db, whoAll, n) {
			if err != nil {
				return nil, err
			}
			tenants = append(tenants, tenant)
		}
		return tenants, nil
	}
	inTx := add.With(pgcmd.Options{InTx: true})
	return map[string]func(ctx context.Context, pool *pgcmd.Pool) ([]string, error){
		"QueryOne":             one(who),
		"a read":               one(readWho),
		"QueryOne with a hook": one(pgcmd.Before(who, func(context.Context, *none) error { return nil })),
		"Query":                func(ctx context.Context, pool *pgcmd.Pool) ([]string, error) { return whoAll.Run(ctx, pool, 3) },
		"Exec": write(func(ctx context.Context, pool *pgcmd.Pool, notes []note) error {
			_, err := add.Run(ctx, pool, notes[0])
			_, err2 := add.Run(ctx, pool, notes[1])
			_, err3 := add.Run(ctx, pool, notes[2])
			return errors.Join(err, err2, err3)
		}),
		"Try": func(ctx context.Context, pool *pgcmd.Pool) ([]string, error) {
			o := pgcmd.Try(ctx, pool, who, none{})
			return []string{o.Value}, o.Err
		},
		"AdHoc": func(ctx context.Context, pool *pgcmd.Pool) ([]string, error) {
			r, err := pgcmd.AdHoc.Run(ctx, pool, pgcmd.AdHocQuery{SQL: `select tenant() as who`})
			if err != nil {
				return nil, err
			}
			return []string{fmt.Sprint(r.Rows[0]["who"])}, nil
		},
		"InTx": one(who.With(pgcmd.Options{InTx: true})),
		"New": one(pgcmd.New("new", func(ctx context.Context, db pgcmd.DB, _ none) (string, error) {
			return who.Run(ctx, db, none{})
		})),
		"New InTx": one(pgcmd.New("new", func(ctx context.Context, db pgcmd.DB, _ none) (string, error) {
			return who.Run(ctx, db, none{})
		}).With(pgcmd.Options{InTx: true})),
		"Once": one(pgcmd.Once(who, func(none) string { return fmt.Sprint(ids.Add(1)) })),
		"Transaction": transaction(func(ctx context.Context, tx *pgcmd.Tx) ([]string, error) {
			a, err := who.Run(ctx, tx, none{})
			b, err2 := pgcmd.Try(ctx, tx, who, none{}).Get()
			more, err3 := stream(ctx, tx, 300)
			return append(more, a, b), errors.Join(err, err2, err3)
		}),
		"Transaction whose first command is tried and fails": transaction(func(ctx context.Context, tx *pgcmd.Tx) ([]string, error) {
			if pgcmd.Try(ctx, tx, add, note{N: -1}).Err == nil {
				return nil, errors.New("it did not fail")
			}
			a, err := who.Run(ctx, tx, none{})
			return []string{a}, err
		}),
		"Transaction that streams first": transaction(func(ctx context.Context, tx *pgcmd.Tx) ([]string, error) { return stream(ctx, tx, 300) }),
		"Transaction with a timeout":     one(who.With(pgcmd.Options{InTx: true, Timeout: time.Hour})),
		"Transaction of pgx's calls": transaction(func(ctx context.Context, tx *pgcmd.Tx) (tenants []string, err error) {
			var tenant string
			err = tx.QueryRow(ctx, `select tenant() where $1`, true).Scan(&tenant)
			return []string{tenant}, err
		}),
		"Transaction of SQL without arguments": transaction(func(ctx context.Context, tx *pgcmd.Tx) (tenants []string, err error) {
			if _, err := tx.Exec(ctx, `create temp table w on commit drop as select tenant() as t`); err != nil {
				return nil, err
			}
			var tenant string
			err = tx.QueryRow(ctx, `select t from w`).Scan(&tenant)
			return []string{tenant}, err
		}),
		"Transaction of a pgx.Batch": transaction(func(ctx context.Context, tx *pgcmd.Tx) (tenants []string, err error) {
			b := &pgx.Batch{}
			var tenant string
			b.Queue(`select tenant()`).QueryRow(func(row pgx.Row) error { return row.Scan(&tenant) })
			err = tx.SendBatch(ctx, b).Close()
			return []string{tenant}, err
		}),
		"Transaction on its Conn": transaction(func(ctx context.Context, tx *pgcmd.Tx) (tenants []string, err error) {
			var tenant string
			err = tx.Conn().QueryRow(ctx, `select tenant()`, pgx.QueryExecModeExec).Scan(&tenant)
			return []string{tenant}, err
		}),
		"Batch, Atomic":                      batch(add, pgcmd.Atomic),
		"Batch, Isolated":                    batch(add, pgcmd.Isolated),
		"Batch, Independent":                 batch(add, pgcmd.Independent),
		"Batch, Sequential":                  batch(add, pgcmd.Sequential),
		"Batch of transactions, Atomic":      batch(inTx, pgcmd.Atomic),
		"Batch of transactions, Isolated":    batch(inTx, pgcmd.Isolated),
		"Batch of transactions, Independent": batch(inTx, pgcmd.Independent),
		"Pipeline, Atomic":                   pipeline(pgcmd.Atomic),
		"Pipeline, Independent":              pipeline(pgcmd.Independent),
		"Stream":                             func(ctx context.Context, pool *pgcmd.Pool) ([]string, error) { return stream(ctx, pool, 300) },
		"Copy": write(func(ctx context.Context, pool *pgcmd.Pool, notes []note) error {
			_, err := copyIn.Run(ctx, pool, rowsOf(notes...))
			return err
		}),
		"Copy InTx": write(func(ctx context.Context, pool *pgcmd.Pool, notes []note) error {
			_, err := copyIn.With(pgcmd.Options{InTx: true}).Run(ctx, pool, rowsOf(notes...))
			return err
		}),
	}
}

// Every kind of command has the settings of its caller, in every way, and leaves nothing behind.
func TestEveryKindOfCommandHasTheSettingsOfItsContext(t *testing.T) {
	t.Parallel()
	for name, w := range ways {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pool := connect(t, w)
			for kind, run := range kinds() {
				if name == "no descriptions" && kind == "Once" {
					continue // pgx cannot encode its key there, with or without settings
				}
				for range 2 { // the first prepares
					for _, tenant := range []string{"red", "blue '\"\\ €"} {
						seen, err := run(as(t.Context(), tenant), pool)
						require.NoError(t, err, kind)
						require.NotEmpty(t, seen, kind)
						for _, s := range seen {
							require.Equal(t, tenant, s, kind)
						}
						var left string
						require.NoError(t, pool.QueryRow(t.Context(), `select tenant()`, pgx.QueryExecModeExec).Scan(&left), kind)
						require.Contains(t, nobody, left, kind)
					}
					left, err := who.Run(t.Context(), pool, none{})
					require.NoError(t, err)
					require.Contains(t, nobody, left, "without settings, after %s", kind)
				}
			}
			if w.pooler {
				return
			}
			if shared := pool.Metrics().Pool.Shared; name == "Multiplex" {
				assert.NotZero(t, shared.Reads)
			}
		})
	}
}

// Readers of many tenants share two connections, and each reads its own rows alone.
func TestTenantsOnSharedConnections(t *testing.T) {
	t.Parallel()
	pool := connect(t, ways["Multiplex"])
	var all sync.WaitGroup
	for i := range 50 {
		all.Go(func() {
			tenant := fmt.Sprint("tenant ", i)
			for range 100 {
				seen, err := readWho.Run(as(t.Context(), tenant), pool, none{})
				if !assert.NoError(t, err) || !assert.Equal(t, tenant, seen) {
					return
				}
			}
		})
	}
	all.Wait()
	assert.GreaterOrEqual(t, pool.Metrics().Pool.Shared.Reads, int64(5000))
}
