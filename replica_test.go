package pgcmd_test

import (
	"context"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgcmd/pgcmd"
	"github.com/pgcmd/pgcmd/pgcmdtest"
)

var (
	recovering = pgcmd.QueryOne[struct{}, bool]("replica.recovering", `select pg_is_in_recovery()`).With(pgcmd.Options{ReadOnly: true})
	serverPort = pgcmd.QueryOne[struct{}, string]("replica.which", `select current_setting('data_directory')`).With(pgcmd.Options{ReadOnly: true})
	addOne     = pgcmd.Exec[int64]("replica.write", `insert into written values ($1)`)
)

// A cluster is a primary with two standbys.
type cluster struct {
	primary, a, b *pgcmdtest.Server
	url           string
	replicas      []string
}

func startCluster(t *testing.T) *cluster {
	t.Helper()
	ctx := t.Context()
	c := &cluster{}
	var err error
	c.primary, err = pgcmdtest.Start(ctx, pgcmdtest.WithTCP())
	require.NoError(t, err)
	t.Cleanup(func() { _ = c.primary.Close() })
	for _, standby := range []**pgcmdtest.Server{&c.a, &c.b} {
		*standby, err = c.primary.Standby(ctx)
		require.NoError(t, err)
		t.Cleanup(func() { _ = (*standby).Close() })
	}
	c.url, err = c.primary.Database(ctx, `create table written (n bigint)`)
	require.NoError(t, err)
	for _, standby := range []*pgcmdtest.Server{c.a, c.b} {
		require.NoError(t, standby.CatchUp(ctx))
		url, err := standby.URLOf(c.url)
		require.NoError(t, err)
		c.replicas = append(c.replicas, url)
	}
	return c
}

func fit(p *pgcmd.Pool) (n int) {
	for _, r := range p.Metrics().Replicas {
		if r.Fit {
			n++
		}
	}
	return n
}

func TestReadOnlyCommandsGoToReplicas(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	c := startCluster(t)
	pool, err := pgcmd.Connect(ctx, pgcmd.Config{URL: c.url, Replicas: c.replicas, MaxReplicaLag: 2 * time.Second, MaxConns: 4})
	require.NoError(t, err)
	defer func() { assert.NoError(t, pool.Close(context.Background())) }()
	require.Equal(t, 2, fit(pool))

	seen := map[string]int{}
	for range 20 {
		where, err := serverPort.Run(ctx, pool, struct{}{})
		require.NoError(t, err)
		seen[where]++
		standby, err := recovering.Run(ctx, pool, struct{}{})
		require.NoError(t, err)
		assert.True(t, standby)
	}
	assert.Len(t, seen, 2, "both are used")
	reads := pgcmd.Transaction("replica.reads", func(ctx context.Context, tx *pgcmd.Tx, _ struct{}) (bool, error) {
		return recovering.Run(ctx, tx, struct{}{})
	})
	for ro, want := range map[bool]bool{true: true, false: false} {
		standby, err := reads.With(pgcmd.Options{ReadOnly: ro}).Run(ctx, pool, struct{}{})
		require.NoError(t, err)
		assert.Equal(t, want, standby, "a transaction, ReadOnly %v", ro)
	}
	batch, err := pgcmd.Batch(recovering, pgcmd.Atomic).Run(ctx, pool, make([]struct{}, 3))
	require.NoError(t, err)
	assert.True(t, batch.Outcomes[2].Value, "a batch")
	standby, err := recovering.Run(pgcmd.ReadYourWrites(ctx), pool, struct{}{})
	require.NoError(t, err)
	assert.False(t, standby)
	require.NoError(t, runErr(addOne.Run(ctx, pool, 1)), "a write goes to the primary")

	// One that lags is left out, and comes back by itself.
	require.NoError(t, c.a.PauseReplay(ctx))
	require.Eventually(t, func() bool {
		_ = runErr(addOne.Run(ctx, pool, 1))
		return fit(pool) == 1
	}, 30*time.Second, 50*time.Millisecond)
	h := pool.Health(ctx)
	assert.Equal(t, pgcmd.HealthDegraded, h.Status)
	assert.Equal(t, "a replica is left out: it is too far behind", h.Reason)
	assert.Greater(t, h.Replicas[0].Lag, 2*time.Second)
	require.NoError(t, c.a.ResumeReplay(ctx))
	require.Eventually(t, func() bool { return fit(pool) == 2 }, 30*time.Second, 50*time.Millisecond)

	// One that is down is left out without an error, and comes back by itself.
	require.NoError(t, c.b.Stop(ctx, pgcmdtest.Fast))
	for range 50 {
		_, err := recovering.With(pgcmd.Options{Retry: pgcmd.Retry{Attempts: 3}}).Run(ctx, pool, struct{}{})
		assert.NoError(t, err)
	}
	require.Eventually(t, func() bool { return fit(pool) == 1 }, 30*time.Second, 50*time.Millisecond)
	require.NoError(t, c.b.Restart(ctx, pgcmdtest.Fast))
	require.Eventually(t, func() bool { return fit(pool) == 2 }, 30*time.Second, 50*time.Millisecond)
}

// A standby is promoted under load: what was acknowledged is there, and writes go on.
func TestAPoolFollowsThePrimary(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	c := startCluster(t)
	must(t, pgcmdtestConn(t, c.primary.URL()).Exec, `alter system set synchronous_standby_names = '*'`, nil)
	must(t, pgcmdtestConn(t, c.primary.URL()).Exec, `select pg_reload_conf()`, nil)
	hosts, err := severalHosts(c.url, c.replicas[0])
	require.NoError(t, err)
	pool, err := pgcmd.Connect(ctx, pgcmd.Config{URL: hosts, Replicas: c.replicas, MaxConns: 8})
	require.NoError(t, err)
	defer func() { assert.NoError(t, pool.Close(context.Background())) }()

	var next, failed atomic.Int64
	var acknowledged sync.Map
	stop := make(chan struct{})
	var workers sync.WaitGroup
	write := addOne.With(pgcmd.Options{Timeout: 5 * time.Second})
	for range 4 {
		workers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				n := next.Add(1)
				if _, err := write.Run(ctx, pool, n); err == nil {
					acknowledged.Store(n, true)
				} else {
					failed.Add(1)
					time.Sleep(5 * time.Millisecond)
				}
				_, _ = recovering.Run(ctx, pool, struct{}{})
			}
		})
	}
	require.Eventually(t, func() bool { return next.Load() > 500 }, 30*time.Second, time.Millisecond)
	require.NoError(t, c.primary.Stop(ctx, pgcmdtest.Immediate))
	require.NoError(t, c.a.Promote(ctx))
	promoted := time.Now()
	before := next.Load()
	require.Eventually(t, func() bool {
		_, err := write.Run(ctx, pool, -1)
		return err == nil
	}, 30*time.Second, time.Millisecond)
	t.Logf("the first write was acknowledged %v after the promotion, %d runs had failed", time.Since(promoted).Round(time.Millisecond), failed.Load())
	require.Eventually(t, func() bool { return next.Load() > before+200 }, 30*time.Second, time.Millisecond)
	close(stop)
	workers.Wait()

	lost := 0
	rows, err := pgcmd.Query[struct{}, int64]("replica.all", `select n from written`).Run(ctx, pool, struct{}{})
	require.NoError(t, err)
	there := map[int64]int{}
	for _, n := range rows {
		there[n]++
	}
	acknowledged.Range(func(n, _ any) bool {
		if there[n.(int64)] != 1 {
			lost++
		}
		return true
	})
	assert.Zero(t, lost, "acknowledged writes that are lost, with synchronous replication")
}

func pgcmdtestConn(t *testing.T, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

// severalHosts is a URL that names the hosts of both.
func severalHosts(a, b string) (string, error) {
	ua, err := url.Parse(a)
	if err != nil {
		return "", err
	}
	ub, err := url.Parse(b)
	if err != nil {
		return "", err
	}
	ua.Host += "," + ub.Host
	return ua.String(), nil
}
