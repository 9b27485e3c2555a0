package schemachange_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgcmd/pgcmd"
	"github.com/pgcmd/pgcmd/pgcmdtest"
)

func TestACopyOutlivesAChangeOfTheSchema(t *testing.T) {
	t.Parallel()
	type row struct{ ID, Mood, Dom string }
	for name, ddl := range map[string]string{
		"a column of another type": `alter table c alter id type uuid using id::uuid`,
		"an enum made again":       `alter table c alter mood type text; ` + newMood + ` alter table c alter mood type mood using mood::mood`,
		"a domain made again":      `alter table c alter dom type text; drop domain dom; create domain dom as text; alter table c alter dom type dom`,
		"a table made again":       `drop table c; create table c (dom text, id uuid, mood varchar)`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx := t.Context()
			pool := connect(t, pgcmd.Config{URL: pgcmdtest.URL(t, before+`; create table c (id text, mood mood, dom dom); drop table e`), MaxConns: 1})
			load := pgcmd.Copy[row]("load", pgx.Identifier{"c"})
			inTx := pgcmd.Transaction("loads", func(ctx context.Context, tx *pgcmd.Tx, _ struct{}) (int64, error) {
				return load.Run(ctx, tx, pgcmd.Rows([]row{{someID, "two", "x"}}))
			})
			run := func() {
				n, err := load.Run(ctx, pool, pgcmd.Rows([]row{{someID, "two", "x"}}))
				require.NoError(t, err)
				require.EqualValues(t, 1, n)
				_, err = inTx.Run(ctx, pool, struct{}{})
				require.NoError(t, err)
			}
			run()
			_, err := pool.Exec(ctx, ddl)
			require.NoError(t, err)
			run()
			var got row
			require.NoError(t, pool.QueryRow(ctx, `select id::text, mood::text, dom::text from c limit 1`).Scan(&got.ID, &got.Mood, &got.Dom))
			assert.Equal(t, row{someID, "two", "x"}, got)
		})
	}
}

// In binary a row for the type of before can be one of the new type.
func TestACopyWaitsForAMigrationBeforeItDescribesTheTable(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	pool := connect(t, pgcmd.Config{URL: pgcmdtest.URL(t, `create table n (v int8)`), MaxConns: 3})
	load := pgcmd.Copy[struct{ V int64 }]("load", pgx.Identifier{"n"})
	migration, err := pool.Begin(ctx)
	require.NoError(t, err)
	defer func() { _ = migration.Rollback(ctx) }()
	_, err = migration.Exec(ctx, `create index on n (v)`)
	require.NoError(t, err)
	copied := make(chan error, 1)
	go func() {
		_, err := load.Run(ctx, pool, pgcmd.Rows([]struct{ V int64 }{{42}}))
		copied <- err
	}()
	require.Eventually(t, func() bool {
		var waits bool
		err := migration.QueryRow(ctx, `select exists (select from pg_locks where relation = 'n'::regclass and not granted)`).Scan(&waits)
		return assert.NoError(t, err) && waits
	}, time.Minute, time.Millisecond)
	_, err = migration.Exec(ctx, `alter table n alter v type float8`)
	require.NoError(t, err)
	require.NoError(t, migration.Commit(ctx))
	err = <-copied
	var stored []float64
	require.NoError(t, pool.QueryRow(ctx, `select array_agg(v) from n`).Scan(&stored))
	require.NoError(t, err)
	assert.Equal(t, []float64{42}, stored)
}

func TestAValueThatFitsTheColumnNowIsSent(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	pool := connect(t, pgcmd.Config{URL: pgcmdtest.URL(t, `create table n (v int4)`), MaxConns: 1})
	add := pgcmd.Exec[int64]("add", `insert into n (v) values ($1)`)
	find := pgcmd.Query[int64, int64]("find", `select v from n where v = $1`).With(readOnly)
	_, err := add.Run(ctx, pool, 1)
	require.NoError(t, err)
	_, err = find.Run(ctx, pool, 1)
	require.NoError(t, err)
	_, err = add.Run(ctx, pool, 1<<40)
	require.Error(t, err)
	assert.Equal(t, pgcmd.CodeInvalid, pgcmd.CodeOf(err))
	_, err = add.Run(ctx, pool, 2)
	require.NoError(t, err)
	_, err = pool.Exec(ctx, `alter table n alter v type int8`)
	require.NoError(t, err)
	_, err = add.Run(ctx, pool, 1<<40)
	require.NoError(t, err)
	got, err := find.Run(ctx, pool, 1<<40)
	require.NoError(t, err)
	assert.Equal(t, []int64{1 << 40}, got)
	in := pgcmd.Transaction("in", func(ctx context.Context, tx *pgcmd.Tx, v int64) (struct{}, error) {
		if _, err := pid.Run(ctx, tx, struct{}{}); err != nil {
			return struct{}{}, err
		}
		_, err := add.Run(ctx, tx, v)
		return struct{}{}, err
	})
	_, err = pool.Exec(ctx, `alter table n alter v type numeric`)
	require.NoError(t, err)
	_, err = in.Run(ctx, pool, 1<<41)
	require.NoError(t, err)
}

func TestAStatementThatIsWrongInAnySchemaIsNotRetried(t *testing.T) {
	t.Parallel()
	url := pgcmdtest.URL(t, before+`;
		create function broken(text) returns text language plpgsql as $$ declare x text; begin execute 'select nosuch' into x; return x; end $$`)
	for name, mux := range map[string]int{"own connections": 0, "shared connections": 1} {
		pool := connect(t, pgcmd.Config{URL: url, MaxConns: 1, Multiplex: mux})
		for _, sql := range []string{`select a from nosuch where id = $1`, `select broken($1)`, `select $1::text::regclass::text`, `select a from s where id = $1 and nosuch`} {
			c := pgcmd.QueryOne[string, string]("wrong", sql).With(pgcmd.Options{ReadOnly: true, Retry: pgcmd.Retry{Attempts: 5}})
			for range 3 {
				o := pgcmd.Try(t.Context(), pool, c, "nosuch")
				require.Error(t, o.Err, sql)
				assert.Equal(t, 1, o.Attempts, "%s: %s: %v", name, sql, o.Err)
			}
		}
	}
}

func TestOneConnectionInvalidatesForAll(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	pool := connect(t, pgcmd.Config{URL: pgcmdtest.URL(t, before), MaxConns: 4})
	find := pgcmd.QueryOne[string, string]("find", `select a from s where id = $1`)
	onEach := func() (errs []error) {
		var held []interface{ Release() }
		for range 4 {
			conn, err := pool.Acquire(ctx)
			require.NoError(t, err)
			_, err = find.Run(ctx, conn, someID)
			errs = append(errs, err)
			held = append(held, conn)
		}
		for _, conn := range held {
			conn.Release()
		}
		return errs
	}
	onEach()
	_, err := pool.Exec(ctx, `drop view v; alter table s alter id type uuid using id::uuid`)
	require.NoError(t, err)
	errs := onEach()
	require.Len(t, slices.DeleteFunc(errs, func(err error) bool { return err == nil }), 1, "the others have invalidated it")
	for _, err := range onEach() {
		require.NoError(t, err)
	}
}

func TestCommandsBehindAPgBouncerOutliveAChangeOfTheSchema(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	direct := pgcmdtest.URL(t, before)
	bouncer, err := pgcmdtest.PgBouncer(ctx, direct, pgcmdtest.WithSetting("default_pool_size", "2"))
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, bouncer.Close()) })
	pool := connect(t, pgcmd.Config{URL: bouncer.URL(), MaxConns: 2, PgBouncer: true})
	o := pgcmd.Options{ReadOnly: true, Retry: pgcmd.Retry{Attempts: 2}}
	find := pgcmd.QueryOne[string, string]("find", `select a from s where id = $1`).With(o)
	mood := pgcmd.QueryOne[string, string]("mood", `select $1::mood::text`).With(o)
	seen := pgcmd.QueryOne[string, map[string]any]("seen", `select * from v where id = $1`).With(o)
	set := pgcmd.QueryOne[string, string]("set", `update s set a = 'one' where id = $1 returning a`).With(pgcmd.Options{Retry: o.Retry})
	many := pgcmd.Batch(find, pgcmd.Isolated)
	run := func() {
		for range 4 {
			_, err := find.Run(ctx, pool, someID)
			require.NoError(t, err)
			_, err = mood.Run(ctx, pool, "two")
			require.NoError(t, err)
			_, err = seen.Run(ctx, pool, someID)
			require.NoError(t, err)
			_, err = set.Run(ctx, pool, someID)
			require.NoError(t, err)
			result, err := many.Run(ctx, pool, []string{someID, someID})
			require.NoError(t, err)
			require.NoError(t, result.Err())
		}
	}
	run()
	conn, err := pgx.Connect(ctx, direct)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	_, err = conn.Exec(ctx, `drop view v; alter table s alter id type uuid using id::uuid; drop table e; `+newMood+` create view v as select id, a, 1 as n from s`)
	require.NoError(t, err)
	run()
}

func TestBytesThatTheColumnTakesNowAreSent(t *testing.T) {
	t.Parallel()
	noText := []byte{0xff, 0xfe}
	type way = func(ctx context.Context, pool *pgcmd.Pool, in []byte) (int64, error)
	count := pgcmd.QueryOne[[]byte, int64]("count", `select count(*) from b where v = $1`).With(readOnly)
	rows := pgcmd.Query[[]byte, int64]("counts", `select count(*) from b where v = $1`).With(readOnly)
	for name, run := range map[string]way{
		"a pool": func(ctx context.Context, pool *pgcmd.Pool, in []byte) (int64, error) {
			return count.Run(ctx, pool.Pool, in)
		},
		"shared connections": func(ctx context.Context, pool *pgcmd.Pool, in []byte) (int64, error) { return count.Run(ctx, pool, in) },
		"a transaction": func(ctx context.Context, pool *pgcmd.Pool, in []byte) (int64, error) {
			return pgcmd.Transaction("tx", func(ctx context.Context, tx *pgcmd.Tx, in []byte) (int64, error) { return count.Run(ctx, tx, in) }).Run(ctx, pool, in)
		},
		"a batch": func(ctx context.Context, pool *pgcmd.Pool, in []byte) (int64, error) {
			result, err := pgcmd.Batch(count, pgcmd.Atomic).Run(ctx, pool, [][]byte{in})
			if err != nil {
				return 0, err
			}
			return result.Outcomes[0].Value, nil
		},
		"a stream in a transaction": func(ctx context.Context, pool *pgcmd.Pool, in []byte) (n int64, err error) {
			for n, err = range pgcmd.Stream(ctx, pool, rows.With(pgcmd.Options{InTx: true}), in) {
				if err != nil {
					return 0, err
				}
			}
			return n, nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx := t.Context()
			pool := connect(t, pgcmd.Config{URL: pgcmdtest.URL(t, `create table b (v text); insert into b values ('one')`), MaxConns: 1, Multiplex: 1})
			n, err := run(ctx, pool, []byte("one"))
			require.NoError(t, err)
			require.EqualValues(t, 1, n)
			_, err = run(ctx, pool, noText)
			require.Equal(t, pgcmd.CodeInvalid, pgcmd.CodeOf(err), "no text has these bytes")
			conn, err := pool.Acquire(ctx)
			require.NoError(t, err)
			_, err = conn.Exec(ctx, `alter table b alter v type bytea using '\xfffe'::bytea`)
			require.NoError(t, err)
			conn.Release()
			failed := 0
			require.Eventually(t, func() bool { // shared connections prepare again after a second
				n, err = run(ctx, pool, noText)
				if err != nil {
					failed++
				}
				return err == nil && n == 1
			}, 20*time.Second, 200*time.Millisecond)
			if name != "shared connections" {
				require.LessOrEqual(t, failed, 1)
			}
		})
	}
}

// The types of two parameters change. What the old types needed must not be sent to the new ones.
func TestArgumentsAreReadAgainForNewTypes(t *testing.T) {
	t.Parallel()
	type row struct{ A, B []byte }
	for name, insert := range map[string]func(ctx context.Context, db pgcmd.DB, in row) error{
		"a statement": func(ctx context.Context, db pgcmd.DB, in row) error {
			_, err := pgcmd.Exec[row]("moods.insert", `insert into moods values (@a, @b)`).Run(ctx, db, in)
			return err
		},
		"a stream in a transaction": func(ctx context.Context, db pgcmd.DB, in row) error {
			c := pgcmd.Query[row, string]("moods.return", `insert into moods values (@a, @b) returning 'x'`).With(pgcmd.Options{InTx: true})
			for _, err := range pgcmd.Stream(ctx, db, c, in) {
				return err
			}
			return nil
		},
	} {
		conn, err := pgx.Connect(t.Context(), pgcmdtest.URL(t, `create type mood as enum ('one'); create table moods (a mood, b text)`))
		require.NoError(t, err)
		defer conn.Close(context.Background())
		require.NoError(t, insert(t.Context(), conn, row{[]byte("one"), []byte("one")}), name)
		_, err = conn.Exec(t.Context(), `drop table moods; create table moods (a bytea, b bytea)`)
		require.NoError(t, err)
		want := row{[]byte(`\x4142`), []byte{0xff}}
		require.NoError(t, insert(t.Context(), conn, want), name)
		var got row
		require.NoError(t, conn.QueryRow(t.Context(), `select a, b from moods`).Scan(&got.A, &got.B))
		assert.Equal(t, want, got, name)
	}
}
