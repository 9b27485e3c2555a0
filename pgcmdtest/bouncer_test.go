package pgcmdtest

import (
	"context"
	"net"
	"net/url"
	"path/filepath"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
)

func startBouncerFor(t *testing.T, address string, opts ...Option) *Bouncer {
	t.Helper()
	began := time.Now()
	bouncer, err := PgBouncer(t.Context(), address, opts...)
	require.NoError(t, err)
	t.Logf("PgBouncer in %v", time.Since(began))
	t.Cleanup(func() { require.NoError(t, bouncer.Close()) })
	return bouncer
}

func TestPgBouncerPoolsTransactionsAndLeavesNothing(t *testing.T) {
	t.Parallel()
	address := URL(t, "create table entries (n int); insert into entries values (7)")
	bouncer := startBouncerFor(t, address, WithSetting("default_pool_size", "1"))
	require.Contains(t, bouncer.URL(), "@127.0.0.1:")
	require.Equal(t, "7", ask(t, bouncer.URL(), "select n::text from entries"))

	// Two clients, one session of the server.
	connect := func() *pgx.Conn {
		conn, err := pgx.Connect(t.Context(), bouncer.URL())
		require.NoError(t, err)
		t.Cleanup(func() { conn.Close(context.Background()) })
		return conn
	}
	one, other := connect(), connect()
	pid := func(conn *pgx.Conn) (pid int) {
		require.NoError(t, conn.QueryRow(t.Context(), "select pg_backend_pid()", pgx.QueryExecModeSimpleProtocol).Scan(&pid))
		return pid
	}
	require.Equal(t, pid(one), pid(other))

	tx, err := one.Begin(t.Context())
	require.NoError(t, err)
	waiting := make(chan int)
	go func() {
		defer close(waiting)
		var answer int
		if other.QueryRow(t.Context(), "select 1", pgx.QueryExecModeSimpleProtocol).Scan(&answer) == nil {
			waiting <- answer
		}
	}()
	select {
	case <-waiting:
		t.Fatal("a transaction has the session for itself")
	case <-time.After(20 * time.Millisecond):
	}
	require.NoError(t, tx.Commit(t.Context()))
	require.Equal(t, 1, <-waiting)

	folder := bouncer.watcher.folder
	listens, err := url.Parse(bouncer.URL())
	require.NoError(t, err)
	require.NoError(t, bouncer.Close())
	require.NoDirExists(t, folder)
	_, err = net.Dial("tcp4", listens.Host)
	require.Error(t, err, "nobody listens")
	require.Error(t, one.Ping(t.Context()), "cut")
	require.NoError(t, bouncer.Close(), "a second time")
}

func TestPgBouncerReachesOtherDatabasesAndSurvivesItsServer(t *testing.T) {
	t.Parallel()
	server := start(t, WithTCP())
	bouncer := startBouncerFor(t, server.URL(), WithSetting("pool_mode", "session"))
	database, err := server.Database(t.Context())
	require.NoError(t, err)
	address, err := bouncer.URLOf(database)
	require.NoError(t, err)
	name := ask(t, database, "select current_database()::text")
	require.Equal(t, name, ask(t, address, "select current_database()::text"))

	require.NoError(t, server.Restart(t.Context(), Immediate))
	require.Eventually(t, func() bool { return ping(t.Context(), address) == nil }, time.Minute, 50*time.Millisecond)
	require.NoError(t, server.Close())
}

func TestPgBouncerReplacesALostPort(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp4", "127.0.0.1:0")
	require.NoError(t, err)
	defer taken.Close()
	choices := 0
	bouncer := startBouncerFor(t, URL(t), func(c *config) {
		c.freePort = func() (int, error) {
			if choices++; choices == 1 {
				return taken.Addr().(*net.TCPAddr).Port, nil
			}
			return freePort()
		}
	})
	require.Equal(t, 2, choices)
	require.Equal(t, "1", ask(t, bouncer.URL(), "select '1'"))
}

func TestPgBouncerSaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	_, err := PgBouncer(t.Context(), URL(t), WithSetting("pool_mode", "none"))
	require.ErrorContains(t, err, "pool_mode")
	_, err = PgBouncer(t.Context(), "postgres://u:hidden@h:none/")
	require.Error(t, err)
	require.NotContains(t, err.Error(), "hidden")
}

func TestMissingPgBouncerSaysHowToInstallIt(t *testing.T) {
	empty := t.TempDir()
	t.Setenv("PATH", empty)
	_, err := findBouncer([]string{filepath.Join(empty, "nowhere")})
	for _, part := range []string{empty, "scripts/ensure-pgbouncer", "apt-get install pgbouncer"} {
		require.ErrorContains(t, err, part)
	}
}
