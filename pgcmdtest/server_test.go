package pgcmdtest

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

// goleak: a test binary that imports the package may check for leaks, so the shared server must not look like one.
func TestMain(m *testing.M) {
	if what := os.Getenv(childVariable); what != "" {
		child(what)
	}
	goleak.VerifyTestMain(m)
}

func start(t *testing.T, opts ...Option) *Server {
	t.Helper()
	began := time.Now()
	server, err := Start(t.Context(), opts...)
	require.NoError(t, err)
	t.Logf("started in %v", time.Since(began))
	t.Cleanup(func() { require.NoError(t, server.Close()) })
	return server
}

// ask runs sql on a connection of its own and returns its one value.
func ask(t *testing.T, address, sql string) string {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), address)
	require.NoError(t, err)
	defer conn.Close(context.Background())
	var answer string
	require.NoError(t, conn.QueryRow(t.Context(), sql).Scan(&answer))
	return answer
}

func requireGone(t *testing.T, pid int, folder string) {
	t.Helper()
	require.Eventually(t, func() bool {
		_, err := os.Lstat(folder)
		return syscall.Kill(pid, 0) == syscall.ESRCH && os.IsNotExist(err)
	}, 20*time.Second, 10*time.Millisecond, "postmaster %d or folder %s is left", pid, folder)
}

func TestServersRunAtOnceAndLeaveNothing(t *testing.T) {
	t.Parallel()
	one, other := start(t), start(t, WithSetting("max_connections", "20"), WithSetting("application_name", `a 'b' \c`))

	require.Equal(t, "100", ask(t, one.URL(), "show max_connections"))
	require.Equal(t, "20", ask(t, other.URL(), "show max_connections"))
	require.Equal(t, `a 'b' \c`, ask(t, other.URL(), "show application_name"))
	require.Equal(t, "UTF8 C UTC", ask(t, one.URL(), `select concat_ws(' ', current_setting('server_encoding'),
		datcollate, current_setting('timezone')) from pg_database where datname = 'template1'`))

	pid, folder := one.PID(), one.watcher.folder
	require.NoError(t, one.Close())
	require.ErrorIs(t, syscall.Kill(pid, 0), syscall.ESRCH)
	require.NoDirExists(t, folder)
	require.Zero(t, one.PID())

	require.NoError(t, one.Close(), "a second time")
	require.ErrorIs(t, one.Stop(t.Context(), Fast), errClosed)
	require.ErrorIs(t, one.Restart(t.Context(), Fast), errClosed)
	_, err := one.Database(t.Context())
	require.Error(t, err)
	require.Equal(t, "1", ask(t, other.URL(), "select '1'"), "the other one still runs")
}

func TestTCPServerReplacesALostPort(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp4", "127.0.0.1:0")
	require.NoError(t, err)
	defer taken.Close()

	choices := 0
	server := start(t, WithTCP(), func(c *config) {
		c.freePort = func() (int, error) {
			if choices++; choices == 1 {
				return taken.Addr().(*net.TCPAddr).Port, nil
			}
			return freePort()
		}
	})
	require.Equal(t, 2, choices)
	require.Contains(t, server.URL(), "@127.0.0.1:")
	require.Equal(t, "127.0.0.1/32", ask(t, server.URL(), "select inet_server_addr()::text"))
}

func TestDataAndAddressSurviveRestarts(t *testing.T) {
	t.Parallel()
	server := start(t, WithTCP())
	address, err := server.Database(t.Context(), "create table kept (n int); insert into kept values (7)")
	require.NoError(t, err)
	session, err := pgx.Connect(t.Context(), address)
	require.NoError(t, err)
	defer session.Close(context.Background())

	for name, stop := range map[string]func(pid int){
		"fast":      func(int) { require.NoError(t, server.Stop(t.Context(), Fast)) },
		"immediate": func(int) { require.NoError(t, server.Stop(t.Context(), Immediate)) },
		"already stopped": func(int) {
			require.NoError(t, server.Stop(t.Context(), Fast))
			require.NoError(t, server.Stop(t.Context(), Fast))
		},
		"killed":  func(pid int) { require.NoError(t, syscall.Kill(pid, syscall.SIGKILL)) },
		"running": func(int) {},
	} {
		require.NoError(t, reconnect(t.Context(), address, func(conn *pgconn.PgConn) error {
			return run(t.Context(), conn, "insert into kept values (7)")
		}), "%s: on the connection that the last stop ended", name)
		pid := server.PID()
		stop(pid)
		require.NoError(t, server.Restart(t.Context(), Immediate), name)
		require.NotEqual(t, pid, server.PID(), name)
		require.Equal(t, "7", ask(t, address, "select distinct n::text from kept"), name)
	}
}

func TestStopGivesUpWithItsContext(t *testing.T) {
	t.Parallel()
	server := start(t)
	pid, folder := server.PID(), server.watcher.folder
	require.NoError(t, syscall.Kill(pid, syscall.SIGSTOP))

	short, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, server.Stop(short, Fast), context.DeadlineExceeded)
	require.NoError(t, server.Close(), "which wakes it")
	requireGone(t, pid, folder)
}

func TestStartSaysWhatPostgreSQLRefused(t *testing.T) {
	t.Parallel()
	_, err := Start(t.Context(), WithSetting("max_connections", "many"))
	require.ErrorContains(t, err, `invalid value for parameter "max_connections": "many"`)
}

func TestStartGivesUpWithItsContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := Start(ctx)
	require.ErrorIs(t, err, context.Canceled)
}

func TestFolderIsMadeWhereTheAccountCan(t *testing.T) {
	t.Parallel()
	closed := filepath.Join(t.TempDir(), "closed")
	require.NoError(t, os.Mkdir(closed, 0o700))
	if os.Geteuid() != 0 {
		require.NoError(t, os.Chmod(closed, 0))
	}
	tooLong := filepath.Join(t.TempDir(), "a-path-that-leaves-no-room-for-the-name-of-a-socket-which-the-kernel-bounds")
	require.NoError(t, os.Mkdir(tooLong, 0o777))

	w, err := watch(t.Context(), []string{closed, tooLong, "/tmp"})
	require.NoError(t, err)
	require.Equal(t, "/tmp", filepath.Dir(w.folder))
	require.NoError(t, w.close())
	require.NoDirExists(t, w.folder)

	_, err = watch(t.Context(), []string{closed, tooLong})
	require.ErrorContains(t, err, "set TMPDIR")
}
