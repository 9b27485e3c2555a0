// Package multiplex_test tests shared connections whose sessions have settings of their own.
package multiplex_test

import (
	"context"
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

var sleep = pgcmd.QueryOne[float64, string]("sleep", `select 'done' || pg_sleep($1)`).With(pgcmd.Options{ReadOnly: true})

// connect makes a pool with two shared connections, whose AfterConnect executes sql.
func connect(t *testing.T, cfg pgcmd.Config, sql string) (*pgcmd.Pool, error) {
	t.Helper()
	cfg.MaxConns, cfg.Multiplex = 2, 2
	cfg.Pgx = func(c *pgxpool.Config) {
		c.AfterConnect = func(ctx context.Context, conn *pgx.Conn) error {
			_, err := conn.Exec(ctx, sql)
			return err
		}
	}
	pool, err := pgcmd.Connect(t.Context(), cfg)
	if err == nil {
		t.Cleanup(func() { assert.NoError(t, pool.Close(context.Background())) })
	}
	return pool, err
}

func TestASharedReadMayTakeAsLongAsItsSessionAllows(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		cfg     pgcmd.Config
		sql     string
		seconds float64
	}{
		"AfterConnect raises the imposed timeout":  {sql: `set statement_timeout = '30s'`, seconds: 3.5},
		"AfterConnect removes the imposed timeout": {sql: `set statement_timeout = 0`, seconds: 3.5},
		"AfterConnect raises Config's":             {cfg: pgcmd.Config{StatementTimeout: 100 * time.Millisecond}, sql: `set statement_timeout = '1min'`, seconds: 1.5},
		"AfterConnect removes Config's":            {cfg: pgcmd.Config{StatementTimeout: 100 * time.Millisecond}, sql: `set statement_timeout to default; set statement_timeout = 0`, seconds: 1.5},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c.cfg.URL = pgcmdtest.URL(t)
			pool, err := connect(t, c.cfg, c.sql)
			require.NoError(t, err)
			out, err := sleep.Run(t.Context(), pool, c.seconds)
			require.NoError(t, err)
			assert.Equal(t, "done", out)
			shared := pool.Metrics().Pool.Shared
			assert.EqualValues(t, 1, shared.Reads)
			assert.Zero(t, shared.Reruns, "it was sent once")
		})
	}
}

func TestASharedReadEndsByTheTimeoutThatItsSessionHas(t *testing.T) {
	t.Parallel()
	for name, cfg := range map[string]pgcmd.Config{"none in Config": {}, "another in Config": {StatementTimeout: time.Minute}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg.URL = pgcmdtest.URL(t)
			pool, err := connect(t, cfg, `set statement_timeout = '200ms'`)
			require.NoError(t, err)
			_, err = sleep.Run(t.Context(), pool, 60)
			require.Error(t, err)
			assert.Equal(t, pgcmd.CodeTimeout, pgcmd.CodeOf(err))
			assert.Zero(t, pool.Metrics().Pool.Shared.Aside, "the limit is the user's: the read was not run again without it")
		})
	}
}

func TestATimeoutInTheOptionsOfTheURLIsTheUsers(t *testing.T) {
	t.Parallel()
	pool, err := connect(t, pgcmd.Config{URL: pgcmdtest.URL(t) + "&options=-c%20statement_timeout%3D30s"}, "")
	require.NoError(t, err)
	limit := pgcmd.QueryOne[struct{}, string]("limit", `select current_setting('statement_timeout')`).With(pgcmd.Options{ReadOnly: true})
	shown, err := limit.Run(t.Context(), pool, struct{}{})
	require.NoError(t, err)
	assert.Equal(t, "30s", shown)
	assert.EqualValues(t, 1, pool.Metrics().Pool.Shared.Reads)
}

func TestAPoolerThatDropsTheTimeoutIsDetected(t *testing.T) {
	t.Parallel()
	server, err := pgcmdtest.Start(t.Context(), pgcmdtest.WithTCP(), pgcmdtest.WithSetting("statement_timeout", "30s"))
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, server.Close()) })
	bouncer, err := pgcmdtest.PgBouncer(t.Context(), server.URL(), pgcmdtest.WithSetting("pool_mode", "session"),
		pgcmdtest.WithSetting("ignore_startup_parameters", "extra_float_digits,statement_timeout"))
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, bouncer.Close()) })
	pool, err := connect(t, pgcmd.Config{URL: bouncer.URL()}, "")
	require.NoError(t, err)
	out, err := sleep.Run(t.Context(), pool, 3.5)
	require.NoError(t, err)
	assert.Equal(t, "done", out)
	assert.Zero(t, pool.Metrics().Pool.Shared.Reruns)
}

func TestAnOpenTransactionOfAfterConnectIsRefused(t *testing.T) {
	t.Parallel()
	_, err := connect(t, pgcmd.Config{URL: pgcmdtest.URL(t)}, `begin`)
	require.Error(t, err)
	assert.ErrorContains(t, err, "AfterConnect left a transaction open")
	assert.Equal(t, pgcmd.CodeInternal, pgcmd.CodeOf(err))
}

// If a backend is terminated while its connection is set up, the client often sees a lost
// connection only, not the server's error.
func TestASharedConnectionThatIsLostInSetupIsDialedAgain(t *testing.T) {
	t.Parallel()
	var made atomic.Int32
	pool, err := pgcmd.Connect(t.Context(), pgcmd.Config{URL: pgcmdtest.URL(t), MaxConns: 2, Multiplex: 1, Pgx: func(c *pgxpool.Config) {
		c.AfterConnect = func(_ context.Context, conn *pgx.Conn) error {
			if n := made.Add(1); n > 2 && n < 5 { // the first two are the pool's and the shared connection
				return conn.PgConn().Conn().Close()
			}
			return nil
		}
	}})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, pool.Close(context.Background())) })
	require.EqualValues(t, 2, made.Load())
	pid := pgcmd.QueryOne[struct{}, uint32]("pid", `select pg_backend_pid()::oid`).With(pgcmd.Options{ReadOnly: true})
	first, err := pid.Run(t.Context(), pool, struct{}{})
	require.NoError(t, err)
	killer := pgcmdtest.Pool(t)
	_, err = killer.Exec(t.Context(), `select pg_terminate_backend($1, 5000)`, int(first))
	require.NoError(t, err)
	second, err := pid.Run(t.Context(), pool, struct{}{})
	require.NoError(t, err)
	assert.NotEqual(t, first, second)
	assert.EqualValues(t, 5, made.Load())
}
