package pgcmdtest

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func startStandby(t *testing.T, primary *Server, opts ...Option) *Server {
	t.Helper()
	began := time.Now()
	standby, err := primary.Standby(t.Context(), opts...)
	require.NoError(t, err)
	t.Logf("standby in %v", time.Since(began))
	t.Cleanup(func() { require.NoError(t, standby.Close()) })
	return standby
}

func write(t *testing.T, address, sql string) {
	t.Helper()
	require.NoError(t, execute(t.Context(), address, sql))
}

func on(t *testing.T, server *Server, address string) string {
	t.Helper()
	address, err := server.URLOf(address)
	require.NoError(t, err)
	return address
}

func TestStandbysReplayLagAndTakeOver(t *testing.T) {
	t.Parallel()
	const count = "select count(*)::text from entries"
	primary := start(t, WithTCP(), WithSetting("max_connections", "20"))
	before, err := primary.Database(t.Context(), "create table entries (n int); insert into entries values (1)")
	require.NoError(t, err)
	one, other := startStandby(t, primary), startStandby(t, primary, WithSetting("application_name", "other"))

	require.NotEqual(t, primary.URL(), one.URL())
	require.NotEqual(t, one.URL(), other.URL())
	require.Contains(t, one.URL(), "@127.0.0.1:", "as the primary's")
	require.Equal(t, "20", ask(t, one.URL(), "show max_connections"), "as the primary's")
	require.Equal(t, "other", ask(t, other.URL(), "show application_name"))
	require.Equal(t, "1", ask(t, on(t, one, before), count), "from the base backup")

	// What comes later is streamed, to each of them by itself.
	later, err := primary.Database(t.Context(), "create table entries (n int); insert into entries values (1)")
	require.NoError(t, err)
	for _, standby := range []*Server{one, other} {
		require.NoError(t, standby.CatchUp(t.Context()))
		require.Equal(t, "1", ask(t, on(t, standby, later), count))
		require.ErrorContains(t, execute(t.Context(), on(t, standby, later), "insert into entries values (2)"), "25006")
	}

	require.NoError(t, one.PauseReplay(t.Context()))
	write(t, later, "insert into entries values (2)")
	require.NoError(t, other.CatchUp(t.Context()))
	require.Equal(t, "2", ask(t, on(t, other, later), count))
	require.Equal(t, "1", ask(t, on(t, one, later), count), "it lags")
	short, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, one.CatchUp(short), context.DeadlineExceeded)
	require.NoError(t, one.ResumeReplay(t.Context()))
	require.NoError(t, one.CatchUp(t.Context()))
	require.Equal(t, "2", ask(t, on(t, one, later), count))

	require.NoError(t, primary.Restart(t.Context(), Fast))
	write(t, later, "insert into entries values (3)")
	require.NoError(t, other.Restart(t.Context(), Immediate))
	require.NoError(t, other.CatchUp(t.Context()), "over restarts of both")
	require.NoError(t, one.CatchUp(t.Context()))

	require.NoError(t, primary.Stop(t.Context(), Immediate))
	require.ErrorContains(t, one.CatchUp(t.Context()), "the primary")
	require.NoError(t, one.PauseReplay(t.Context()))
	require.NoError(t, one.Promote(t.Context()), "even paused")
	require.Equal(t, "false", ask(t, one.URL(), "select pg_is_in_recovery()::text"))
	write(t, on(t, one, later), "insert into entries values (4)")
	require.Equal(t, "4", ask(t, on(t, one, later), count))
	require.Equal(t, "3", ask(t, on(t, other, later), count), "it follows the primary that it was made of")

	// The old primary does not know. A new standby is made of the new one.
	require.NoError(t, primary.Restart(t.Context(), Fast))
	require.Equal(t, "3", ask(t, later, count))
	next := startStandby(t, one)
	require.NoError(t, next.CatchUp(t.Context()))
	require.Equal(t, "4", ask(t, on(t, next, later), count))

	for name, err := range map[string]error{
		"promote": one.Promote(t.Context()), "pause": one.PauseReplay(t.Context()),
		"resume": one.ResumeReplay(t.Context()), "catch up": one.CatchUp(t.Context()),
	} {
		require.ErrorContains(t, err, name)
		require.ErrorContains(t, err, "was promoted")
	}
}

func TestABusyPrimaryHasAStandbyAndLeavesNothing(t *testing.T) {
	t.Parallel()
	primary := start(t)
	address, err := primary.Database(t.Context(), "create table entries (n int)")
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	busy := make(chan error)
	go func() {
		for ctx.Err() == nil {
			if err := execute(ctx, address, "create table scratch as select generate_series(1, 20000) as n",
				"insert into entries select 1 from scratch", "drop table scratch"); err != nil && ctx.Err() == nil {
				busy <- err
				return
			}
		}
		busy <- nil
	}()
	standby := startStandby(t, primary)
	cancel()
	require.NoError(t, <-busy)
	require.NoError(t, standby.CatchUp(t.Context()))
	const sum = "select count(*)::text from entries"
	require.Equal(t, ask(t, address, sum), ask(t, on(t, standby, address), sum))

	_, err = standby.Standby(t.Context())
	require.ErrorContains(t, err, "the server is a standby itself")
	require.ErrorContains(t, primary.Promote(t.Context()), "not a standby")

	pid, folder, primaryPID, primaryFolder := standby.PID(), standby.watcher.folder, primary.PID(), primary.watcher.folder
	require.NoError(t, primary.Close(), "before its standby")
	requireGone(t, primaryPID, primaryFolder)
	require.NoError(t, standby.Promote(t.Context()))
	require.NoError(t, standby.Close())
	requireGone(t, pid, folder)
	_, err = primary.Standby(t.Context())
	require.ErrorContains(t, err, "closed")
}

func TestAddressesAreRedirected(t *testing.T) {
	t.Parallel()
	for address, want := range map[string]string{
		"postgres://u:p@h:1/d?sslmode=disable&application_name=a": "postgres://u@s:2/d?application_name=a&host=%2Ftmp",
		"host=h port=1 user=u dbname=d":                           "postgres://u@s:2/d?host=%2Ftmp",
	} {
		got, err := redirect(address, "postgres://s:2/postgres?host=%2Ftmp&user=postgres")
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
	_, err := redirect("postgres://u:hidden@h:none/", "postgres://s:2/")
	require.Error(t, err)
	require.NotContains(t, err.Error(), "hidden")
}
