package faults_test

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/pgcmd/pgcmd/internal/faults"
	"github.com/pgcmd/pgcmd/pgcmdtest"
)

// patience is for what a machine under load does late. No test passes by it.
const patience = time.Minute

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// start returns a proxy to a database of the test's own, and the way to it past the proxy.
func start(t testing.TB, ddl ...string) (proxy *faults.Proxy, direct string) {
	t.Helper()
	direct = pgcmdtest.URL(t, ddl...)
	proxy, err := faults.Start(direct)
	require.NoError(t, err)
	t.Cleanup(func() {
		require.NoError(t, proxy.Close())
		if t.Failed() {
			for _, line := range proxy.Log() {
				t.Log(line)
			}
		}
	})
	return proxy, direct
}

func within(t testing.TB, bound time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), bound)
	t.Cleanup(cancel)
	return ctx
}

// untilFired is done when the plan has struck so often, for clients that a black hole would keep for ever.
func untilFired(t testing.TB, proxy *faults.Proxy, times int) context.Context {
	ctx, cancel := context.WithCancel(within(t, patience))
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for tick := time.NewTicker(time.Millisecond); ctx.Err() == nil && proxy.Fired() < times; <-tick.C {
		}
		cancel()
	}()
	t.Cleanup(func() { cancel(); <-ended })
	return ctx
}

// connect returns a connection that the test ends with, as its cleanup does too where a fault was first.
func connect(t testing.TB, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(within(t, patience), url)
	require.NoError(t, err)
	t.Cleanup(func() {
		conn.Close(within(t, patience))
		<-conn.PgConn().CleanupDone()
	})
	return conn
}

func value[T any](t testing.TB, conn *pgx.Conn, sql string, args ...any) (v T) {
	t.Helper()
	require.NoError(t, conn.QueryRow(within(t, patience), sql, args...).Scan(&v))
	return v
}
