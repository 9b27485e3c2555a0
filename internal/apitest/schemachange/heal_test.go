package schemachange_test

import (
	"context"
	"errors"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgcmd/pgcmd"
	"github.com/pgcmd/pgcmd/pgcmdtest"
)

const someID = "6b0c4c4e-3f0e-4d53-9c5f-0a3a4a6f7a11"

const before = `
	create table s (id text primary key, a text);
	insert into s values ('` + someID + `', 'one');
	create type mood as enum ('one', 'two');
	create type pair as (a int, b text);
	create domain dom as varchar check (value <> '');
	create table e (id int primary key, m mood, d dom);
	insert into e values (1, 'two', 'one');
	create function f(text) returns text language sql as $$ select 'one' $$;
	create function g(text) returns text language sql as $$ select 'one'::text $$;
	create view v as select id, a from s;
	create schema app; create table app.s (id text, a text); insert into app.s values ('` + someID + `', 'one');
	create schema new; create table new.s (id uuid, a text); insert into new.s values ('` + someID + `', 'one');`

const newMood = `drop type mood; create type mood as enum ('two', 'three');`

// A change changes the schema under a statement whose meaning stays the same.
type change struct {
	name, sql, arg, want string
	ddl                  string
	writes               bool
}

var changes = []change{
	{name: "a column of another type", sql: `select a from s where id = $1`, arg: someID, want: "one",
		ddl: `drop view v; alter table s alter id type uuid using id::uuid`},
	{name: "a column of another type, written", sql: `insert into s (id, a) values ($1, 'one') on conflict (id) do update set a = excluded.a returning a`, arg: someID, want: "one",
		ddl: `drop view v; alter table s alter id type uuid using id::uuid`, writes: true},
	{name: "an enum made again", sql: `select $1::mood::text`, arg: "two", want: "two", ddl: `drop table e;` + newMood},
	{name: "an enum made again, as a result", sql: `select m from (select 'two'::mood as m, $1::text) t`, arg: "two", want: "two", ddl: `drop table e;` + newMood},
	{name: "an enum made again, in an array", sql: `select ($1::mood[])[1]::text`, arg: "{two}", want: "two", ddl: `drop table e;` + newMood},
	{name: "an enum made again, written", sql: `update e set m = $1 where id = 1 returning m::text`, arg: "two", want: "two", writes: true,
		ddl: `alter table e alter m type text;` + newMood + `alter table e alter m type mood using m::mood`},
	{name: "a composite type made again", sql: `select row(($1::pair).*)::text`, arg: "(1,one)", want: "(1,one)", ddl: `drop type pair; create type pair as (b text, a text)`},
	{name: "a domain made again", sql: `update e set d = $1 where id = 1 returning d::text`, arg: "one", want: "one", writes: true,
		ddl: `alter table e alter d type text; drop domain dom; create domain dom as text; alter table e alter d type dom`},
	{name: "a function of another argument", sql: `select f($1)`, arg: someID, want: "one",
		ddl: `drop function f; create function f(uuid) returns text language sql as $$ select 'one' $$`},
	{name: "a function of another result", sql: `select g($1)`, arg: someID, want: "one",
		ddl: `drop function g; create function g(text) returns varchar language sql as $$ select 'one'::varchar $$`},
	{name: "a view replaced", sql: `select a from v where id = $1`, arg: someID, want: "one",
		ddl: `drop view v; create view v as select id, a::varchar as a from s`},
	{name: "a view with a column more", sql: `select max(v.a) from v where id = $1 group by v`, arg: someID, want: "one",
		ddl: `create or replace view v as select id, a, 1 as n from s`},
	{name: "a table made again", sql: `select a from s where id = $1`, arg: someID, want: "one",
		ddl: `drop table s cascade; create table s (id uuid, a text); insert into s values ('` + someID + `', 'one')`},
	{name: "another schema under the name", sql: `select a from app.s where id = $1`, arg: someID, want: "one",
		ddl: `alter schema app rename to old; alter schema new rename to app`},
}

// A way is one of the ways to run a statement.
type way struct {
	name    string
	cfg     pgcmd.Config
	run     func(ctx context.Context, pool *pgcmd.Pool, c *pgcmd.Command[string, string], in string) (string, error)
	retries bool // it accepts a Retry
	reads   bool // it runs reads only
	rare    bool // it is tested with a Retry only
}

var ways = []way{
	{name: "a pool", run: onPool, retries: true},
	{name: "shared connections", run: onPool, retries: true, reads: true, cfg: pgcmd.Config{Multiplex: 2}},
	{name: "descriptions without names", run: onPool, retries: true, cfg: modeOf(pgx.QueryExecModeCacheDescribe)},
	{name: "a description each time", rare: true, run: onPool, retries: true, cfg: modeOf(pgx.QueryExecModeDescribeExec)},
	{name: "no description", rare: true, run: onPool, retries: true, cfg: modeOf(pgx.QueryExecModeExec)},
	{name: "a pool with a tracer", run: onPool, retries: true, cfg: pgcmd.Config{Pgx: func(c *pgxpool.Config) { c.ConnConfig.Tracer = tracer{} }}},
	{name: "a pgxpool", retries: true, run: func(ctx context.Context, pool *pgcmd.Pool, c *pgcmd.Command[string, string], in string) (string, error) {
		return c.Run(ctx, pool.Pool, in)
	}},
	{name: "a connection of a pgxpool", retries: true, run: func(ctx context.Context, pool *pgcmd.Pool, c *pgcmd.Command[string, string], in string) (string, error) {
		conn, err := pool.Acquire(ctx)
		if err != nil {
			return "", err
		}
		defer conn.Release()
		return c.Run(ctx, conn, in)
	}},
	{name: "a transaction", retries: true, run: inTransaction(func(ctx context.Context, tx *pgcmd.Tx, c *pgcmd.Command[string, string], in string) (string, error) {
		return c.Run(ctx, tx, in)
	})},
	{name: "the second statement of a transaction", rare: true, retries: true, run: inTransaction(func(ctx context.Context, tx *pgcmd.Tx, c *pgcmd.Command[string, string], in string) (string, error) {
		if _, err := pid.Run(ctx, tx, struct{}{}); err != nil {
			return "", err
		}
		return c.Run(ctx, tx, in)
	})},
	{name: "a transaction that another command joins", rare: true, retries: true, run: inTransaction(func(ctx context.Context, tx *pgcmd.Tx, c *pgcmd.Command[string, string], in string) (string, error) {
		return c.With(pgcmd.Options{InTx: true}).Run(ctx, tx, in)
	})},
	{name: "SQL in the body", retries: true, run: inTransaction(func(ctx context.Context, tx *pgcmd.Tx, c *pgcmd.Command[string, string], in string) (out string, err error) {
		err = tx.QueryRow(ctx, sqlOf(ctx), in).Scan(&out)
		return out, err
	})},
	{name: "a batch in the body", retries: true, run: inTransaction(func(ctx context.Context, tx *pgcmd.Tx, c *pgcmd.Command[string, string], in string) (out string, err error) {
		var b pgx.Batch
		b.Queue(sqlOf(ctx), in).QueryRow(func(row pgx.Row) error { return row.Scan(&out) })
		return out, tx.SendBatch(ctx, &b).Close()
	})},
	{name: "a batch, atomic", retries: true, run: asBatch(pgcmd.Atomic)},
	{name: "a batch, isolated", retries: true, run: asBatch(pgcmd.Isolated)},
	{name: "a batch, independent", retries: true, run: asBatch(pgcmd.Independent)},
	{name: "a batch, sequential", retries: true, run: asBatch(pgcmd.Sequential)},
	{name: "a batch without names, isolated", retries: true, run: asBatch(pgcmd.Isolated), cfg: modeOf(pgx.QueryExecModeCacheDescribe)},
	{name: "a batch without names, independent", retries: true, run: asBatch(pgcmd.Independent), cfg: modeOf(pgx.QueryExecModeExec)},
	{name: "a pipeline, atomic", run: asPipeline(pgcmd.Atomic)},
	{name: "a pipeline, independent", run: asPipeline(pgcmd.Independent)},
	{name: "a stream", retries: true, run: asStream(pgcmd.Options{})},
	{name: "a stream in a transaction", retries: true, run: asStream(pgcmd.Options{InTx: true})},
}

func modeOf(mode pgx.QueryExecMode) pgcmd.Config {
	return pgcmd.Config{Pgx: func(c *pgxpool.Config) { c.ConnConfig.DefaultQueryExecMode = mode }}
}

type tracer struct{}

func (tracer) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	return ctx
}
func (tracer) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

// A statement holds what only some ways need.
type statement struct {
	sql   string
	retry pgcmd.Retry
	reads bool
}

type statementKey struct{}

func of(ctx context.Context) statement { return ctx.Value(statementKey{}).(statement) }
func sqlOf(ctx context.Context) string { return of(ctx).sql }

func onPool(ctx context.Context, pool *pgcmd.Pool, c *pgcmd.Command[string, string], in string) (string, error) {
	return c.Run(ctx, pool, in)
}

func inTransaction(body func(context.Context, *pgcmd.Tx, *pgcmd.Command[string, string], string) (string, error)) func(context.Context, *pgcmd.Pool, *pgcmd.Command[string, string], string) (string, error) {
	return func(ctx context.Context, pool *pgcmd.Pool, c *pgcmd.Command[string, string], in string) (string, error) {
		return pgcmd.Transaction("tx", func(ctx context.Context, tx *pgcmd.Tx, in string) (string, error) { return body(ctx, tx, c, in) }).
			With(pgcmd.Options{Retry: of(ctx).retry}).Run(ctx, pool, in)
	}
}

func asBatch(mode pgcmd.BatchMode) func(context.Context, *pgcmd.Pool, *pgcmd.Command[string, string], string) (string, error) {
	return func(ctx context.Context, pool *pgcmd.Pool, c *pgcmd.Command[string, string], in string) (string, error) {
		result, err := pgcmd.Batch(c, mode).With(pgcmd.Options{Retry: of(ctx).retry}).Run(ctx, pool, []string{in, in, in})
		if err := errors.Join(err, result.Err()); err != nil {
			return "", err
		}
		return result.Outcomes[2].Value, nil
	}
}

func asPipeline(mode pgcmd.BatchMode) func(context.Context, *pgcmd.Pool, *pgcmd.Command[string, string], string) (string, error) {
	return func(ctx context.Context, pool *pgcmd.Pool, c *pgcmd.Command[string, string], in string) (string, error) {
		var p pgcmd.Pipeline
		pgcmd.Queue(&p, c, in)
		result := pgcmd.Queue(&p, c, in)
		if err := p.Run(ctx, pool, mode); err != nil {
			return "", err
		}
		return result.Get()
	}
}

func asStream(o pgcmd.Options) func(context.Context, *pgcmd.Pool, *pgcmd.Command[string, string], string) (string, error) {
	return func(ctx context.Context, pool *pgcmd.Pool, _ *pgcmd.Command[string, string], in string) (out string, err error) {
		o := o
		o.Retry, o.ReadOnly = of(ctx).retry, of(ctx).reads
		for row, err := range pgcmd.Stream(ctx, pool, pgcmd.Query[string, string]("changed", sqlOf(ctx)).With(o), in) {
			if err != nil {
				return "", err
			}
			out = row
		}
		return out, nil
	}
}

// A site is a pool with two connections, on both of which a way was run before the change.
type site struct {
	way
	pool    *pgcmd.Pool
	retry   bool
	command *pgcmd.Command[string, string]
	ctx     context.Context
	change
}

func (s *site) once() error {
	out, err := s.way.run(s.ctx, s.pool, s.command, s.arg)
	if err == nil && out != s.want {
		return errors.New("another value: " + out)
	}
	return err
}

// onBoth runs the way once on each connection of the pool.
func (s *site) onBoth(t *testing.T) (errs []error) {
	one, err := s.pool.Acquire(t.Context())
	require.NoError(t, err)
	two, err := s.pool.Acquire(t.Context())
	require.NoError(t, err)
	if one.Conn().PgConn().PID() > two.Conn().PgConn().PID() {
		one, two = two, one
	}
	one.Release()
	errs = append(errs, s.once())
	one, err = s.pool.Acquire(t.Context())
	require.NoError(t, err)
	two.Release()
	errs = append(errs, s.once())
	one.Release()
	return errs
}

func TestEveryWayOutlivesAChangeOfTheSchema(t *testing.T) {
	t.Parallel()
	server, err := pgcmdtest.Start(t.Context(), pgcmdtest.WithSetting("max_connections", "400"))
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, server.Close()) })
	for nth, c := range changes {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			url, err := server.Database(t.Context(), before)
			require.NoError(t, err)
			var sites []*site
			for i, w := range ways {
				if testing.Short() && i%8 != nth%8 { // some ways for each change
					continue
				}
				for _, retry := range []bool{false, true} {
					if retry && !w.retries || !retry && w.rare || w.reads && c.writes {
						continue
					}
					o, st := pgcmd.Options{ReadOnly: !c.writes}, statement{sql: c.sql, reads: !c.writes}
					if retry {
						st.retry = pgcmd.Retry{Attempts: 2}
						o.Retry = st.retry
					}
					cfg := w.cfg
					cfg.URL, cfg.MaxConns = url, 2
					s := &site{way: w, pool: connect(t, cfg), retry: retry, change: c, ctx: context.WithValue(t.Context(), statementKey{}, st),
						command: pgcmd.QueryOne[string, string]("changed", c.sql).With(o)}
					for _, err := range s.onBoth(t) {
						require.NoError(t, err, w.name)
					}
					sites = append(sites, s)
				}
			}
			_, err = sites[0].pool.Exec(t.Context(), c.ddl)
			require.NoError(t, err)
			for _, s := range sites {
				errs := s.onBoth(t)
				if s.retry {
					for i, err := range errs {
						assert.NoError(t, err, "%s, with a Retry, on connection %d", s.way.name, i)
					}
				}
				for _, err := range errs {
					if err != nil && pgcmd.EffectOf(err) != pgcmd.NotApplied {
						assert.Fail(t, "not proven to be not applied", "%s: %v", s.way.name, err)
					}
				}
				for _, err := range s.onBoth(t) {
					assert.NoError(t, err, "%s, a second time (Retry %v)", s.way.name, s.retry)
				}
			}
		})
	}
}
