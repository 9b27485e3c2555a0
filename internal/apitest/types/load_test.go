package types_test

import (
	"context"
	"strings"
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

var (
	moods      = pgcmd.QueryOne[[]mood, []mood]("moods", `select $1::mood[]`)
	moodsRead  = moods.With(pgcmd.Options{ReadOnly: true})
	pointsRead = pgcmd.QueryOne[[]point3, value[[]point3]]("points", `select $1::point3[] as v`).With(pgcmd.Options{ReadOnly: true})
)

// connect is pgcmdtest.Connect for a database that there is already.
func connect(t *testing.T, cfg pgcmd.Config) (*pgcmd.Pool, error) {
	t.Helper()
	pool, err := pgcmd.Connect(t.Context(), cfg)
	if err == nil {
		t.Cleanup(func() {
			ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
			defer cancel()
			assert.NoError(t, pool.Close(ctx))
		})
	}
	return pool, err
}

func TestConnectRefusesTypesThatTheDatabaseDoesNotHave(t *testing.T) {
	t.Parallel()
	url := pgcmdtest.URL(t, schema)
	for name, c := range map[string]struct {
		types []string
		want  []string
	}{
		"missing":                 {[]string{"mood", "moood", "app.mood", "bil[]"}, []string{"Types names app.mood, which the database does not have", "Types names bil[],", "Types names moood,"}},
		"out of the search_path":  {[]string{"email"}, []string{"Types names email, which the database does not have: migrate the database first, correct the name, or name its schema"}},
		"not a name":              {[]string{"mood; drop"}, []string{"Types"}},
		"empty":                   {[]string{"mood", " "}, []string{"Types[1] is empty: name a type of the database"}},
		"shared connections only": {[]string{"moood"}, []string{"Types names moood,"}},
	} {
		_, err := connect(t, pgcmd.Config{URL: url, Types: c.types, Multiplex: 1})
		e, ok := err.(*pgcmd.Error)
		require.True(t, ok, "%s: %v", name, err)
		assert.Equal(t, pgcmd.CodeInvalid, e.Code, name)
		assert.Equal(t, pgcmd.NotApplied, e.Effect)
		assert.Equal(t, "pgcmd.Connect", e.Command)
		require.Len(t, e.Problems, len(c.want), "%s: %v", name, e)
		for i, want := range c.want {
			assert.Contains(t, e.Problems[i].String(), want, name)
		}
	}
}

func TestNamesAreResolvedAsPostgreSQLDoes(t *testing.T) {
	t.Parallel()
	pool := pgcmdtest.Connect(t, pgcmd.Config{Types: []string{"app.mood", `"Odd Name"`, "app.both", "int4"}}, schema, `
		create type app.mood as enum ('up', 'down');
		create type "Odd Name" as (a int4);
		create type app.both as (theirs app.mood, ours mood);
		create table legacy_mood (mood mood)`)
	type both struct {
		Theirs, Ours string
	}
	got, err := pgcmd.QueryOne[both, value[both]]("both", `select (@theirs, @ours)::app.both as v`).Run(t.Context(), pool, both{"up", "sad"})
	require.NoError(t, err)
	assert.Equal(t, both{"up", "sad"}, got.V)
	up, err := pgcmd.QueryOne[[]mood, []mood]("moods", `select $1::app.mood[]`).Run(t.Context(), pool, []mood{"up"})
	require.NoError(t, err)
	assert.Equal(t, []mood{"up"}, up)
	up, err = moods.Run(t.Context(), pool, []mood{"sad"}) // a part of app.both, and so loaded with its array
	require.NoError(t, err)
	assert.Equal(t, []mood{"sad"}, up)
	type odd struct{ A int32 }
	seven, err := pgcmd.QueryOne[value[odd], value[odd]]("odd", `select @v::"Odd Name" as v`).Run(t.Context(), pool, value[odd]{odd{7}})
	require.NoError(t, err)
	assert.EqualValues(t, 7, seven.V.A)
}

func TestTypesThatWereMadeAgainAreLoadedAfterReset(t *testing.T) {
	t.Parallel()
	for name, shared := range map[string]int{"own connections": 0, "shared connections": 1} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx := t.Context()
			pool := pgcmdtest.Connect(t, pgcmd.Config{Types: []string{"point3", "mood"}, MaxConns: 2, Multiplex: shared}, schema)
			points := []point3{{1, 2, 3}}
			work := func() error {
				if _, err := moods.Run(ctx, pool, []mood{"sad"}); err != nil {
					return err
				}
				if _, err := pointsRead.Run(ctx, pool, points); err != nil {
					return err
				}
				_, err := moodsRead.Run(ctx, pool, []mood{"sad"})
				return err
			}
			require.NoError(t, work())
			_, err := pool.Exec(ctx, `alter table orders drop at, drop path, drop mood, drop moods; drop type bill, item, mood_range cascade; drop type mood, point3;
				create type mood as enum ('sad'); create type point3 as (x float8, y float8, z float8)`)
			require.NoError(t, err)
			said := false
			for range 6 { // what was prepared before fails once, on each connection
				err = work()
				said = said || err != nil && strings.Contains(err.Error(), "call Pool.Reset")
			}
			assert.True(t, said, "the connections have the types of before: %v", err)
			pool.Reset()
			for range 3 {
				require.NoError(t, work())
			}
		})
	}
}

func TestATypeThatWasDroppedHarmsItsStatementsAlone(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	pool := pgcmdtest.Connect(t, pgcmd.Config{Types: []string{"point3", "mood"}, MaxConns: 2}, `create type mood as enum ('sad'); create type point3 as (x float8, y float8, z float8)`)
	_, err := pool.Exec(ctx, `drop type mood`)
	require.NoError(t, err)
	pool.Reset()
	got, err := pointsRead.Run(ctx, pool, []point3{{1, 2, 3}})
	require.NoError(t, err)
	assert.Equal(t, []point3{{1, 2, 3}}, got.V)
	_, err = moods.Run(ctx, pool, []mood{"sad"})
	e, ok := err.(*pgcmd.Error)
	require.True(t, ok)
	assert.Equal(t, "42704", e.SQLState)
}

func TestTheServicesAfterConnectRunsWithTheTypesLoaded(t *testing.T) {
	t.Parallel()
	for _, multiplex := range []int{0, 1} {
		var seen atomic.Int32
		pool := pgcmdtest.Connect(t, pgcmd.Config{Types: []string{"mood", "item"}, MaxConns: 1, Multiplex: multiplex, Pgx: func(c *pgxpool.Config) {
			c.AfterConnect = func(_ context.Context, conn *pgx.Conn) error {
				for _, name := range []string{"mood", "public.mood", "_mood", "item", "_item", "cents", "app.email"} {
					if _, ok := conn.TypeMap().TypeForName(name); ok {
						seen.Add(1)
					}
				}
				conn.TypeMap().RegisterDefaultPgType(mood(""), "mood")
				conn.TypeMap().RegisterDefaultPgType([]mood{}, "_mood")
				return nil
			}
		}}, schema)
		assert.EqualValues(t, 6*(1+multiplex), seen.Load())
		got, err := moods.Run(t.Context(), pool, []mood{"sad"})
		require.NoError(t, err)
		assert.Equal(t, []mood{"sad"}, got)
	}
}

// An enum, a domain, a composite of them may be shared: the codecs have no state.
func TestLoadedTypesAreReadOnSharedConnections(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	pool := pgcmdtest.Connect(t, pgcmd.Config{Types: every, Multiplex: 1}, schema, `create domain moment as timestamptz`)
	reads := func() int64 { return pool.Metrics().Pool.Shared.Reads }
	for i := range 3 {
		got, err := moodsRead.Run(ctx, pool, []mood{"sad", "ok"})
		require.NoError(t, err)
		assert.Equal(t, []mood{"sad", "ok"}, got)
		_, err = pointsRead.Run(ctx, pool, []point3{{1, 2, 3}})
		require.NoError(t, err)
		assert.EqualValues(t, 2*(i+1), reads())
	}
	// A type that is not loaded is read as text, which may be shared too: no hook has added rules for it.
	_, err := pgcmd.QueryOne[struct{}, string]("moment", `select array[now()::moment]::text[]::moment[]`).With(pgcmd.Options{ReadOnly: true}).Run(ctx, pool, struct{}{})
	require.NoError(t, err)
	assert.EqualValues(t, 7, reads())
}

func TestTypesAreLoadedOnReplicas(t *testing.T) {
	t.Parallel()
	for name, shared := range map[string]int{"own connections": 0, "shared connections": 1} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx := t.Context()
			primary, err := pgcmdtest.Start(ctx)
			require.NoError(t, err)
			t.Cleanup(func() { assert.NoError(t, primary.Close()) })
			url, err := primary.Database(ctx, schema)
			require.NoError(t, err)
			standby, err := primary.Standby(ctx)
			require.NoError(t, err)
			t.Cleanup(func() { assert.NoError(t, standby.Close()) })
			require.NoError(t, standby.CatchUp(ctx))
			replica, err := standby.URLOf(url)
			require.NoError(t, err)
			require.NoError(t, standby.PauseReplay(ctx))
			writer, err := pgx.Connect(ctx, url)
			require.NoError(t, err)
			_, err = writer.Exec(ctx, `create type late as (a int4, b text)`) // which the standby does not have yet
			require.NoError(t, err)
			require.NoError(t, writer.Close(ctx))

			pool, err := connect(t, pgcmd.Config{URL: url, Replicas: []string{replica}, MaxConns: 1, Multiplex: shared, Types: []string{"mood", "late"}, MaxReplicaLag: time.Hour})
			require.NoError(t, err)
			standing := pgcmd.QueryOne[[]mood, value[[]mood]]("standing", `select case when pg_is_in_recovery() then $1::mood[] end as v`).With(pgcmd.Options{ReadOnly: true})
			require.Eventually(t, func() bool {
				got, err := standing.Run(ctx, pool, []mood{"sad"})
				return err == nil && len(got.V) == 1
			}, 20*time.Second, 10*time.Millisecond)
			require.NoError(t, standby.ResumeReplay(ctx))
			require.NoError(t, standby.CatchUp(ctx))
			type late struct {
				A int32
				B string
			}
			lates := pgcmd.QueryOne[[]late, value[[]late]]("lates", `select case when pg_is_in_recovery() then $1::late[] end as v`).With(pgcmd.Options{ReadOnly: true})
			got, err := lates.Run(ctx, pool, []late{{1, "x"}})
			require.NoError(t, err, "the connection has the type by the primary")
			assert.Equal(t, []late{{1, "x"}}, got.V)
		})
	}
}

func TestTypesAreLoadedThroughPgBouncer(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	server, err := pgcmdtest.Start(ctx, pgcmdtest.WithTCP())
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, server.Close()) })
	url, err := server.Database(ctx, schema)
	require.NoError(t, err)
	bouncer, err := pgcmdtest.PgBouncer(ctx, url, pgcmdtest.WithSetting("pool_mode", "transaction"), pgcmdtest.WithSetting("default_pool_size", "2"))
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, bouncer.Close()) })
	pool, err := connect(t, pgcmd.Config{URL: bouncer.URL(), PgBouncer: true, Types: every, MaxConns: 4, MinConns: 4})
	require.NoError(t, err)
	want := full()
	_, err = importer.Run(ctx, pool, rows(want))
	require.NoError(t, err)
	for range 4 {
		got, err := echo.Run(ctx, pool, want)
		require.NoError(t, err)
		assert.Equal(t, want, got)
	}
}

// A pool of one's own loads types by pgx.
func TestAnInstrumentedPoolLoadsTypesByPgx(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	cfg, err := pgxpool.ParseConfig(pgcmdtest.URL(t, schema))
	require.NoError(t, err)
	cfg.AfterConnect = func(ctx context.Context, conn *pgx.Conn) error {
		types, err := conn.LoadTypes(ctx, []string{"mood", "_mood", "point3", "_point3"})
		if err != nil {
			return err
		}
		conn.TypeMap().RegisterTypes(types)
		return nil
	}
	pgcmd.Instrument(cfg)
	pool, err := pgxpool.NewWithConfig(ctx, cfg)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	got, err := moods.Run(ctx, pool, []mood{"sad"})
	require.NoError(t, err)
	assert.Equal(t, []mood{"sad"}, got)
	read, err := pointsRead.Run(ctx, pool, []point3{{1, 2, 3}})
	require.NoError(t, err)
	assert.Equal(t, []point3{{1, 2, 3}}, read.V)
}

func TestAServerThatIsSlowWhileTypesAreLoaded(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	url := pgcmdtest.URL(t, schema)
	blocker, err := pgx.Connect(ctx, url)
	require.NoError(t, err)
	tx, err := blocker.Begin(ctx)
	require.NoError(t, err)
	_, err = tx.Exec(ctx, `lock table pg_catalog.pg_range in access exclusive mode`)
	require.NoError(t, err)
	_, err = connect(t, pgcmd.Config{URL: url, Types: []string{"mood_range"}, ConnectTimeout: 300 * time.Millisecond})
	require.Error(t, err)
	assert.NotEqual(t, pgcmd.CodeInvalid, pgcmd.CodeOf(err), "%v", err)
	assert.Equal(t, pgcmd.NotApplied, pgcmd.EffectOf(err))
	require.NoError(t, blocker.Close(ctx))
}

func TestTheSearchPathOfTheURLResolvesNames(t *testing.T) {
	t.Parallel()
	url := pgcmdtest.URL(t, schema, `create type app.tone as enum ('dark')`)
	_, err := connect(t, pgcmd.Config{URL: url, Types: []string{"tone"}})
	assert.ErrorContains(t, err, "Types names tone")
	pool, err := connect(t, pgcmd.Config{URL: url + "&search_path=app", Types: []string{"tone"}})
	require.NoError(t, err)
	got, err := pgcmd.QueryOne[[]mood, []mood]("tones", `select $1::tone[]`).Run(t.Context(), pool, []mood{"dark"})
	require.NoError(t, err)
	assert.Equal(t, []mood{"dark"}, got)
}
