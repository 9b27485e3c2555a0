package pgcmdtest

import (
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"
)

func TestDatabasesAreSeparateAndDropped(t *testing.T) {
	t.Parallel()
	tests := 8
	if testing.Short() {
		tests = 3
	}
	names := make(chan string, tests)
	t.Run("all", func(t *testing.T) {
		for i := range tests {
			t.Run(fmt.Sprint(i), func(t *testing.T) {
				t.Parallel()
				pool := Pool(t, "create table one (n int); create table other (n int)", "insert into one values (1)")
				var count int
				require.NoError(t, pool.QueryRow(t.Context(), "select count(*) from one, (select count(*) from other) as o").Scan(&count))
				require.Equal(t, 1, count)
				names <- pool.Config().ConnConfig.Database
			})
		}
	})
	close(names)
	server, err := serverURL()
	require.NoError(t, err)
	seen := map[string]bool{}
	for name := range names {
		require.False(t, seen[name])
		seen[name] = true
		require.Equal(t, "0", ask(t, server, "select count(*)::text from pg_database where datname = '"+name+"'"))
	}
	require.Len(t, seen, tests)
}

func TestURLSurvivesOpenConnections(t *testing.T) {
	t.Parallel()
	var conn *pgx.Conn
	t.Run("left open", func(t *testing.T) {
		var err error
		conn, err = pgx.Connect(t.Context(), URL(t))
		require.NoError(t, err)
	})
	require.Error(t, conn.Ping(t.Context()), "its database is gone")
}

func TestRefusedDDLSaysWhere(t *testing.T) {
	t.Parallel()
	server, err := serverURL()
	require.NoError(t, err)
	_, err = createDatabase(t.Context(), server, reconnect, []string{"create table fine ()", "-- é\n\tcreate tabel users ()"})
	require.ErrorContains(t, err, "42601")
	require.ErrorContains(t, err, "at line 2: create tabel users ()")
}

func TestUnreleasedConnectionIsReported(t *testing.T) {
	t.Parallel()
	pool, err := pgxpool.New(t.Context(), URL(t))
	require.NoError(t, err)
	conn, err := pool.Acquire(t.Context())
	require.NoError(t, err)
	require.ErrorContains(t, closePool(pool, time.Millisecond), "1 connections of the pool were never released")
	conn.Release()
	require.NoError(t, closePool(pool, time.Minute))
}

func TestBadAddressKeepsItsPassword(t *testing.T) {
	t.Parallel()
	_, err := createDatabase(t.Context(), "postgres://u:hidden@h:none/", reconnect, nil)
	require.Error(t, err)
	require.NotContains(t, err.Error(), "hidden")
}

func TestDatabaseIsReplacedInBothForms(t *testing.T) {
	t.Parallel()
	for address, want := range map[string]string{
		"postgres://u:p@h:1/old?sslmode=disable":        "postgres://u:p@h:1/new?sslmode=disable",
		"postgres:///old?host=%2Ftmp%2Fx&dbname=old":    "postgres:///new?host=%2Ftmp%2Fx",
		"postgresql://h1:1,h2:2":                        "postgresql://h1:1,h2:2/new",
		"host=/tmp/x user=u dbname=old sslmode=disable": "host=/tmp/x user=u dbname=old sslmode=disable dbname=new",
	} {
		got, err := onDatabase(address, "new")
		require.NoError(t, err)
		require.Equal(t, want, got)
		config, err := pgx.ParseConfig(got)
		require.NoError(t, err)
		require.Equal(t, "new", config.Database)
	}
}
