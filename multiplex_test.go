package pgcmd_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/pgcmd/pgcmd"
	"github.com/pgcmd/pgcmd/pgcmdtest"
)

// shared connects a pool with so many shared connections.
func shared(t testing.TB, url string, conns int, change ...func(*pgcmd.Config)) *pgcmd.Pool {
	t.Helper()
	cfg := pgcmd.Config{URL: url, MaxConns: 4, Multiplex: conns}
	for _, f := range change {
		f(&cfg)
	}
	pool, err := pgcmd.Connect(context.Background(), cfg)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, pool.Close(context.Background())) })
	return pool
}

func sharedMetrics(p *pgcmd.Pool) pgcmd.SharedMetrics { return p.Metrics().Pool.Shared }

type echoed struct {
	N    int64
	Text string
	Pid  int32
}

// A lookup is the input of heldUp, which returns N as soon as the advisory lock is free.
type lookup struct {
	N    int64
	Lock int64
}

var (
	readOnly    = pgcmd.Options{ReadOnly: true}
	echoSQL     = `select $1::int8 as n, 'n' || $1::int8 as text, pg_backend_pid() as pid`
	echoShared  = pgcmd.QueryOne[int64, echoed]("shared.echo", echoSQL).With(readOnly)
	heldUp      = pgcmd.QueryOne[lookup, int64]("shared.held", `select @n::int8 from pg_advisory_xact_lock_shared(@lock)`).With(readOnly)
	sharedTimes = func(n int) func(*pgcmd.Config) {
		return func(c *pgcmd.Config) { c.StatementTimeout = time.Duration(n) * time.Second }
	}
)

func TestWhichCommandsAreShared(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	pool := shared(t, pgcmdtest.URL(t, `create table words (n int8, word text); insert into words select n, 'w' || n from generate_series(1, 10) n`), 2)
	type word struct {
		N    int64
		Word string
	}
	all := pgcmd.Query[int64, word]("words.all", `select n, word from words where n <= $1 order by n`)
	one := pgcmd.QueryOne[int64, word]("words.one", `select n, word from words where n = $1`)
	touch := pgcmd.Exec[int64]("words.touch", `select n from words where n = $1`)
	run := func(ctx context.Context, db pgcmd.DB) error { _, err := one.With(readOnly).Run(ctx, db, 1); return err }
	for name, c := range map[string]struct {
		run  func() error
		want int64
	}{
		"a Query that is ReadOnly":    {func() error { return runErr(all.With(readOnly).Run(ctx, pool, 3)) }, 1},
		"a QueryOne that is ReadOnly": {func() error { return runErr(one.With(readOnly).Run(ctx, pool, 3)) }, 1},
		"an Exec that is ReadOnly":    {func() error { return runErr(touch.With(readOnly).Run(ctx, pool, 3)) }, 1},
		"with a limit and hooks": {func() error {
			c := pgcmd.After(all.With(readOnly).With(pgcmd.Options{Timeout: time.Minute, Retry: pgcmd.Retry{Attempts: 2}}), func(context.Context, int64, *[]word) error { return nil })
			return runErr(c.Run(ctx, pool, 3))
		}, 1},
		"by Try":               {func() error { return pgcmd.Try(ctx, pool, one.With(readOnly), 3).Err }, 1},
		"a read by its text":   {func() error { return runErr(one.Run(ctx, pool, 3)) }, 1},
		"one that may write":   {func() error { return runErr(one.With(pgcmd.Options{Writes: true}).Run(ctx, pool, 3)) }, 0},
		"one in a transaction": {func() error { return runErr(one.With(readOnly).With(pgcmd.Options{InTx: true}).Run(ctx, pool, 3)) }, 0},
		"one on a pgxpool":     {func() error { return run(ctx, pool.Pool) }, 0},
		"those of a Transaction": {func() error {
			tx := pgcmd.Transaction("words.tx", func(ctx context.Context, tx *pgcmd.Tx, _ struct{}) (int, error) { return 0, run(ctx, tx) })
			return runErr(tx.Run(ctx, pool, struct{}{}))
		}, 0},
		"those of a New body on a connection": {func() error {
			conn, err := pool.Acquire(ctx)
			require.NoError(t, err)
			defer conn.Release()
			return runErr(pgcmd.New("words.new", func(ctx context.Context, db pgcmd.DB, _ struct{}) (int, error) { return 0, run(ctx, db) }).Run(ctx, conn, struct{}{}))
		}, 0},
		"a batch": {func() error {
			return runErr(pgcmd.Batch(one.With(readOnly), pgcmd.Independent).Run(ctx, pool, []int64{1, 2, 3}))
		}, 0},
		"a pipeline": {func() error {
			var p pgcmd.Pipeline
			pgcmd.Queue(&p, one.With(readOnly), 1)
			return p.Run(ctx, pool, pgcmd.Independent)
		}, 0},
		"a stream": {func() error {
			for _, err := range pgcmd.Stream(ctx, pool, all.With(readOnly), 3) {
				if err != nil {
					return err
				}
			}
			return nil
		}, 0},
		"a request of more than 64 KB": {func() error {
			long := pgcmd.QueryOne[string, int64]("words.long", `select length($1)`).With(readOnly)
			return runErr(long.Run(ctx, pool, strings.Repeat("x", 1<<17)))
		}, 0},
	} {
		before := sharedMetrics(pool).Reads
		require.NoError(t, c.run(), name)
		assert.Equal(t, c.want, sharedMetrics(pool).Reads-before, name)
	}
}

type picky struct{ N int64 }

func (p *picky) ScanRow(rows pgx.Rows) error {
	if err := rows.Scan(&p.N); err != nil {
		return err
	}
	if p.N == 7 {
		return errors.New("seven")
	}
	return nil
}

// Multiplex must not change what a caller gets: values, and every part of an error.
func TestSharedReadsReturnWhatOthersReturn(t *testing.T) {
	t.Parallel()
	ctx, url := t.Context(), pgcmdtest.URL(t, `create type mood as enum ('sad', 'happy'); create table things (id int8, name text, at timestamptz, tags text[], price numeric, doc jsonb, mood mood, raw bytea);
		insert into things values (1, 'one', '2020-02-02', '{a,b}', 1.25, '{"k": [1]}', 'happy', '\x0102'), (2, null, null, null, null, null, null, null)`)
	with := func(c *pgcmd.Config) { c.MaxRows = 50 }
	pool := shared(t, url, 2, with)
	cfg := pgcmd.Config{URL: url, MaxConns: 2}
	with(&cfg)
	plain, err := pgcmd.Connect(ctx, cfg)
	require.NoError(t, err)
	defer func() { assert.NoError(t, plain.Close(context.Background())) }()

	type thing struct {
		ID    int64
		Name  *string
		At    *time.Time
		Tags  []string
		Price *float64
		Doc   map[string]any
		Mood  *string
		Raw   []byte
	}
	type named struct {
		ID   int64
		Name string
	}
	const things = `select * from things where id <= $1 order by id`
	for name, run := range map[string]func(db pgcmd.DB) (any, error){
		"structs": func(db pgcmd.DB) (any, error) {
			return pgcmd.Query[int64, thing]("t", things).With(readOnly).Run(ctx, db, 2)
		},
		"no row": func(db pgcmd.DB) (any, error) {
			return pgcmd.Query[int64, thing]("t", things).With(readOnly).Run(ctx, db, 0)
		},
		"maps": func(db pgcmd.DB) (any, error) {
			return pgcmd.Query[int64, map[string]any]("t", things).With(readOnly).Run(ctx, db, 2)
		},
		"scalars": func(db pgcmd.DB) (any, error) {
			return pgcmd.Query[int64, int64]("t", `select n from generate_series(1, $1::int8) n`).With(readOnly).Run(ctx, db, 50)
		},
		"a scanner": func(db pgcmd.DB) (any, error) {
			return pgcmd.Query[int64, picky]("t", `select n from generate_series(1, $1::int8) n`).With(readOnly).Run(ctx, db, 5)
		},
		"one": func(db pgcmd.DB) (any, error) {
			return pgcmd.QueryOne[int64, thing]("t", things).With(readOnly).Run(ctx, db, 1)
		},
		"none": func(db pgcmd.DB) (any, error) {
			return pgcmd.QueryOne[int64, thing]("t", things).With(readOnly).Run(ctx, db, 0)
		},
		"two": func(db pgcmd.DB) (any, error) {
			return pgcmd.QueryOne[int64, thing]("t", things).With(readOnly).Run(ctx, db, 2)
		},
		"affected": func(db pgcmd.DB) (any, error) { return pgcmd.Exec[int64]("t", things).With(readOnly).Run(ctx, db, 2) },
		"show": func(db pgcmd.DB) (any, error) {
			return pgcmd.QueryOne[struct{}, string]("t", `show server_version`).With(readOnly).Run(ctx, db, struct{}{})
		},
		"too many rows": func(db pgcmd.DB) (any, error) {
			return pgcmd.Query[int64, int64]("t", `select n from generate_series(1, $1::int8) n`).With(readOnly).Run(ctx, db, 51)
		},
		"its own limit": func(db pgcmd.DB) (any, error) {
			return pgcmd.Query[int64, int64]("t", `select n from generate_series(1, $1::int8) n`).With(pgcmd.Options{ReadOnly: true, MaxRows: 3}).Run(ctx, db, 1000)
		},
		"a NULL": func(db pgcmd.DB) (any, error) {
			return pgcmd.Query[int64, named]("t", `select id, name from things where id <= $1 order by id`).With(readOnly).Run(ctx, db, 2)
		},
		"a row that does not fit": func(db pgcmd.DB) (any, error) {
			return pgcmd.Query[int64, int64]("t", `select 'x' || $1::int8`).With(readOnly).Run(ctx, db, 2)
		},
		"columns": func(db pgcmd.DB) (any, error) {
			return pgcmd.Query[int64, named]("t", `select id from things where id = $1`).With(readOnly).Run(ctx, db, 2)
		},
		"a scan": func(db pgcmd.DB) (any, error) {
			return pgcmd.Query[int64, picky]("t", `select n from generate_series(1, $1::int8) n`).With(readOnly).Run(ctx, db, 9)
		},
		"bad SQL": func(db pgcmd.DB) (any, error) {
			return pgcmd.Query[int64, int64]("t", `select nothing from nowhere where id = $1`).With(readOnly).Run(ctx, db, 2)
		},
		"a division": func(db pgcmd.DB) (any, error) {
			return pgcmd.QueryOne[int64, int64]("t", `select 1 / $1::int8`).With(readOnly).Run(ctx, db, 0)
		},
		"a late division": func(db pgcmd.DB) (any, error) {
			return pgcmd.Query[int64, int64]("t", `select 1 / (3 - n) from generate_series(1, $1::int8) n`).With(readOnly).Run(ctx, db, 9)
		},
		"a value": func(db pgcmd.DB) (any, error) {
			return pgcmd.QueryOne[string, int64]("t", `select $1::text::int8`).With(readOnly).Run(ctx, db, "secret")
		},
		"an argument": func(db pgcmd.DB) (any, error) {
			return pgcmd.QueryOne[int64, int64]("t", `select $1::int2::int8`).With(readOnly).Run(ctx, db, 1<<40)
		},
		"a NUL byte": func(db pgcmd.DB) (any, error) {
			return pgcmd.QueryOne[string, string]("t", `select $1::text`).With(readOnly).Run(ctx, db, "a\x00b")
		},
		"within another": func(db pgcmd.DB) (any, error) {
			inner := pgcmd.QueryOne[int64, int64]("inner", `select 1 / $1::int8`).With(readOnly)
			return pgcmd.New("outer", func(ctx context.Context, db pgcmd.DB, n int64) (int64, error) { return inner.Run(ctx, db, n) }).With(readOnly).Run(ctx, db, 0)
		},
		"a domain error": func(db pgcmd.DB) (any, error) {
			return pgcmd.OnError(pgcmd.QueryOne[int64, int64]("t", things), func(context.Context, int64, error) error { return errors.ErrUnsupported }).With(readOnly).Run(ctx, db, 0)
		},
		"cancelled": func(db pgcmd.DB) (any, error) {
			ctx, cancel := context.WithCancel(ctx)
			cancel()
			return echoShared.Run(ctx, db, 1)
		},
		"nested": func(db pgcmd.DB) (any, error) {
			return pgcmd.Transaction("tx", func(ctx context.Context, tx *pgcmd.Tx, n int64) (echoed, error) { return echoShared.Run(ctx, db, n) }).Run(ctx, db, 1)
		},
		"tried again": func(db pgcmd.DB) (any, error) {
			o := pgcmd.Try(ctx, db, pgcmd.QueryOne[int64, int64]("t", `select 1 / $1::int8`).With(pgcmd.Options{ReadOnly: true, Retry: pgcmd.Retry{Attempts: 3}}), 0)
			return o.Attempts, o.Err
		},
	} {
		want, wantErr := run(plain)
		got, gotErr := run(pool)
		assert.Equal(t, want, got, name)
		if wantErr == nil {
			assert.NoError(t, gotErr, name)
			continue
		}
		var w, g *pgcmd.Error
		require.ErrorAs(t, wantErr, &w, name)
		require.ErrorAs(t, gotErr, &g, name)
		text := func(e *pgcmd.Error) string {
			return fmt.Sprintf("%s %v %s: %s %v %s %d", e.Code, e.Effect, e.Command, e.Message, e.Problems, e.SQLState, e.Attempts)
		}
		assert.Equal(t, text(w), text(g), name)
		assert.Equal(t, errors.Is(wantErr, pgx.ErrNoRows), errors.Is(gotErr, pgx.ErrNoRows), name)
		assert.Equal(t, errors.As(wantErr, new(*pgconn.PgError)), errors.As(gotErr, new(*pgconn.PgError)), name)
	}
	assert.Positive(t, sharedMetrics(pool).Reads)
	assert.Equal(t, 1, sharedMetrics(pool).Conns, "one at a time needs one")
}

// Many callers run many statements, and each gets its own reply.
func TestSharedRepliesMatchTheirRequests(t *testing.T) {
	t.Parallel()
	pool := shared(t, pgcmdtest.URL(t), 3)
	var all errgroup.Group
	for g := range 64 {
		all.Go(func() error {
			for i := range 50 {
				n := int64(g*1000 + i)
				if got, err := echoShared.Run(context.Background(), pool, n); err != nil || got.N != n || got.Text != fmt.Sprint("n", n) {
					return fmt.Errorf("%d got %+v, %v", n, got, err)
				}
				rows, err := seriesShared.Run(context.Background(), pool, series{n, n + int64(i)})
				if err != nil || len(rows) != i+1 || rows[i] != n+int64(i) {
					return fmt.Errorf("%d got %d rows, %v", n, len(rows), err)
				}
			}
			return nil
		})
	}
	require.NoError(t, all.Wait())
	m := sharedMetrics(pool)
	if m.Aside == 0 { // on a slow machine some run on connections of their own
		assert.EqualValues(t, 6400, m.Reads)
	}
	assert.LessOrEqual(t, m.Conns+m.Apart, 6)
	assert.Zero(t, m.InFlight)
	assert.Zero(t, m.Waiting)
}

type series struct{ From, To int64 }

var seriesShared = pgcmd.Query[series, int64]("shared.series", `select n from generate_series(@from::int8, @to::int8) n`).With(readOnly)

func TestASchemaChangesUnderSharedReads(t *testing.T) {
	t.Parallel()
	url := pgcmdtest.URL(t, `create table items (id int8 primary key, v int4 not null); insert into items select n, n from generate_series(1, 100) n;
		create function forget() returns int4 language plpgsql as $$ begin execute 'deallocate all'; return 1; end $$`)
	pool := shared(t, url, 2)
	type item struct {
		ID int64
		V  int64
	}
	find := pgcmd.QueryOne[int64, item]("items.find", `select * from items where id = $1`).With(readOnly)
	forget := pgcmd.QueryOne[struct{}, int32]("items.forget", `select forget()`).With(readOnly)
	stop := make(chan struct{})
	var found atomic.Int64
	all, failed := errgroup.WithContext(t.Context())
	for g := range 16 {
		all.Go(func() error {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return nil
				default:
				}
				id := int64((g+i)%100 + 1)
				switch got, err := find.Run(context.Background(), pool, id); {
				case pgcmd.Retryable(err) && sharedMetrics(pool).Aside > 0:
					// On a slow machine the statement runs on connections of its own for a while, and there the
					// run that finds it outdated reports that, as on every pool.
				case err != nil || got.ID != id || got.V != id:
					return fmt.Errorf("%d got %+v, %w", id, got, err)
				}
				found.Add(1)
			}
		})
	}
	sql := side(t, url)
	hundred := func() {
		for before := found.Load(); found.Load() < before+100 && failed.Err() == nil; {
			eventually(t, url, `select true`)
		}
	}
	for range 10 {
		sql(`alter table items alter v type int8`)
		hundred()
		require.NoError(t, runErr(forget.Run(t.Context(), pool, struct{}{})))
		sql(`alter table items alter v type int4`)
		hundred()
	}
	close(stop)
	require.NoError(t, all.Wait())
}

func TestWhatMultiplexCannotBeUsedWith(t *testing.T) {
	t.Parallel()
	url := pgcmdtest.URL(t)
	for name, c := range map[string]struct {
		cfg  pgcmd.Config
		want string
	}{
		"PgBouncer":      {pgcmd.Config{URL: url, Multiplex: 1, PgBouncer: true}, "PgBouncer"},
		"less than none": {pgcmd.Config{URL: url, Multiplex: -1}, "is negative"},
		"PrepareConn": {pgcmd.Config{URL: url, Multiplex: 1, Pgx: func(c *pgxpool.Config) {
			c.PrepareConn = func(context.Context, *pgx.Conn) (bool, error) { return true, nil }
		}}, "PrepareConn"},
		"another mode": {pgcmd.Config{URL: url, Multiplex: 1, Pgx: func(c *pgxpool.Config) {
			c.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeExec
		}}, "prepared statements"},
		"a hook that fails": {pgcmd.Config{URL: url, Multiplex: 1, Pgx: func(c *pgxpool.Config) {
			c.AfterConnect = func(context.Context, *pgx.Conn) error { panic("hook") }
		}}, "a hook of the pool"},
	} {
		_, err := pgcmd.Connect(t.Context(), c.cfg)
		require.Error(t, err, name)
		assert.Contains(t, fmt.Sprintf("%+v %v", err, err.(*pgcmd.Error).Problems), c.want, name)
	}
}

type traced struct {
	mu    sync.Mutex
	lines []string
}

func (tr *traced) TraceQueryStart(ctx context.Context, conn *pgx.Conn, data pgx.TraceQueryStartData) context.Context {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	tr.lines = append(tr.lines, fmt.Sprint("start ", data.SQL, len(data.Args), conn.Config().Database != ""))
	return ctx
}

func (tr *traced) TraceQueryEnd(_ context.Context, _ *pgx.Conn, data pgx.TraceQueryEndData) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	tr.lines = append(tr.lines, fmt.Sprint("end ", data.CommandTag, data.Err))
}

// The service's settings apply to shared connections, too.
func TestTypesTracersAndNoticesOfSharedConnections(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	var tr traced
	var notices []string
	url := pgcmdtest.URL(t, `create type mood as enum ('sad', 'happy'); create type pair as (a int4, b text); create domain word as text;
		create function say(what text) returns int4 language plpgsql as $$ begin raise notice '%', what; return 1; end $$`)
	pool := shared(t, url, 1, func(c *pgcmd.Config) {
		c.Pgx = func(c *pgxpool.Config) {
			c.ConnConfig.Tracer = &tr
			c.ConnConfig.OnNotice = func(_ *pgconn.PgConn, n *pgconn.Notice) { notices = append(notices, n.Message) }
			c.AfterConnect = func(ctx context.Context, conn *pgx.Conn) error {
				types, err := conn.LoadTypes(ctx, []string{"mood", "_mood", "pair", "_pair"})
				conn.TypeMap().RegisterTypes(types)
				return err
			}
		}
	})
	type pair struct {
		A int32
		B string
	}
	reads := func(f func()) int64 {
		before := sharedMetrics(pool).Reads
		f()
		return sharedMetrics(pool).Reads - before
	}
	assert.EqualValues(t, 1, reads(func() {
		got, err := pgcmd.QueryOne[int32, pair]("pairs", `select p as pair from (select row($1::int4, 'x')::pair as p) q`).With(readOnly).Run(ctx, pool, 4)
		_ = got
		assert.Error(t, err) // a struct is a row, not a column
	}))
	type row struct{ P []pair }
	assert.EqualValues(t, 1, reads(func() {
		got, err := pgcmd.QueryOne[int32, row]("pairs", `select array[row($1::int4, 'x')::pair] as p`).With(readOnly).Run(ctx, pool, 4)
		require.NoError(t, err)
		assert.Equal(t, []pair{{4, "x"}}, got.P)
	}))
	assert.Zero(t, reads(func() { // an enum's codec has state, for one connection
		got, err := pgcmd.QueryOne[string, []string]("moods", `select array[$1::mood]`).With(readOnly).Run(ctx, pool, "sad")
		require.NoError(t, err)
		assert.Equal(t, []string{"sad"}, got)
	}))
	assert.EqualValues(t, 1, reads(func() {
		require.NoError(t, runErr(pgcmd.QueryOne[string, int32]("say", `select say($1)`).With(readOnly).Run(ctx, pool, "hello")))
	}))
	assert.Equal(t, []string{"hello"}, notices)
	tr.mu.Lock()
	defer tr.mu.Unlock()
	assert.Equal(t, []string{"start select say($1)1 true", "end SELECT 1 <nil>"}, tr.lines[len(tr.lines)-2:])
}

// A select can change the settings of a session. Others that share the connection must not be
// affected for long.
func TestAConnectionWhoseSettingsChangeIsNotShared(t *testing.T) {
	t.Parallel()
	pool := shared(t, pgcmdtest.URL(t), 1)
	ctx := t.Context()
	first, err := echoShared.Run(ctx, pool, 1)
	require.NoError(t, err)
	require.NoError(t, runErr(pgcmd.QueryOne[string, string]("set", `select set_config('TimeZone', $1, false)`).With(readOnly).Run(ctx, pool, "Asia/Tokyo")))
	zone, err := pgcmd.QueryOne[struct{}, string]("zone", `select current_setting('TimeZone')`).With(readOnly).Run(ctx, pool, struct{}{})
	require.NoError(t, err)
	assert.Equal(t, "UTC", zone)
	second, err := echoShared.Run(ctx, pool, 1)
	require.NoError(t, err)
	assert.NotEqual(t, first.Pid, second.Pid)
}

func TestMiddlewareMetricsAndHooksSeeSharedReads(t *testing.T) {
	t.Parallel()
	var seen []string
	pool := shared(t, pgcmdtest.URL(t), 1, func(c *pgcmd.Config) {
		c.Middleware = []pgcmd.Middleware{func(next pgcmd.Handler) pgcmd.Handler {
			return func(ctx context.Context, call *pgcmd.Call) error {
				err := next(ctx, call)
				seen = append(seen, fmt.Sprint(call.Command, call.Attempts, call.Rows, pgcmd.CodeOf(err)))
				return err
			}
		}}
	})
	require.NoError(t, runErr(seriesShared.Run(t.Context(), pool, series{1, 5})))
	require.Error(t, runErr(pgcmd.QueryOne[int64, int64]("shared.divide", `select 1 / $1::int8`).With(readOnly).Run(t.Context(), pool, 0)))
	assert.Equal(t, []string{"shared.series1 5", "shared.divide1 0invalid"}, seen)
	for _, m := range pool.Metrics().Commands {
		assert.EqualValues(t, 1, m.Runs, m.Name)
	}
}
