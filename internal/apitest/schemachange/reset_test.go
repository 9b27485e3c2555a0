// Package schemachange_test tests that commands outlive changes of the schema and of the settings.
package schemachange_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgcmd/pgcmd"
	"github.com/pgcmd/pgcmd/pgcmdtest"
)

var (
	readOnly = pgcmd.Options{ReadOnly: true}
	path     = pgcmd.QueryOne[struct{}, string]("path", `select current_setting('search_path')`)
	pid      = pgcmd.QueryOne[struct{}, int32]("pid", `select pg_backend_pid()`)
)

// connect makes a pool that is closed when the test ends.
func connect(t *testing.T, cfg pgcmd.Config) *pgcmd.Pool {
	t.Helper()
	pool, err := pgcmd.Connect(t.Context(), cfg)
	require.NoError(t, err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		assert.NoError(t, pool.Close(ctx))
	})
	return pool
}

// setSearchPath sets the database's search_path for later sessions.
func setSearchPath(t *testing.T, pool *pgcmd.Pool, schema string) {
	t.Helper()
	_, err := pool.Exec(t.Context(), `do $$ begin execute format('alter database %I set search_path = `+schema+`', current_database()); end $$`)
	require.NoError(t, err)
}

func TestNoCommandSeesTheOldSearchPathAfterReset(t *testing.T) {
	t.Parallel()
	reads := 200
	if testing.Short() {
		reads = 30
	}
	for name, shared := range map[string]int{"own connections": 0, "shared connections": 2} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx := t.Context()
			pool := connect(t, pgcmd.Config{URL: pgcmdtest.URL(t, `create schema one; create schema two`), MaxConns: 4, Multiplex: shared})
			for _, schema := range []string{"one", "two", "one"} {
				var load sync.WaitGroup
				stop := make(chan struct{})
				end := sync.OnceFunc(func() { close(stop); load.Wait() })
				defer end()
				for range 8 { // waiters are handed connections, which must be new ones
					load.Go(func() {
						for {
							select {
							case <-stop:
								return
							default:
								_, err := path.Run(ctx, pool, struct{}{})
								assert.NoError(t, err)
							}
						}
					})
				}
				setSearchPath(t, pool, schema)
				pool.Reset()
				for range reads {
					seen, err := path.Run(ctx, pool, struct{}{})
					require.NoError(t, err)
					require.Equal(t, schema, seen)
					seen, err = path.With(readOnly).Run(ctx, pool, struct{}{})
					require.NoError(t, err)
					require.Equal(t, schema, seen)
				}
				end()
			}
			if shared > 0 {
				assert.NotZero(t, pool.Metrics().Pool.Shared.Reads)
			}
		})
	}
}

func TestResetReplacesTheConnectionsOfReplicas(t *testing.T) {
	t.Parallel()
	for name, shared := range map[string]int{"own connections": 0, "shared connections": 1} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx := t.Context()
			primary, err := pgcmdtest.Start(ctx)
			require.NoError(t, err)
			t.Cleanup(func() { assert.NoError(t, primary.Close()) })
			standby, err := primary.Standby(ctx)
			require.NoError(t, err)
			t.Cleanup(func() { assert.NoError(t, standby.Close()) })
			pool := connect(t, pgcmd.Config{URL: primary.URL(), Replicas: []string{standby.URL()}, MaxConns: 1, Multiplex: shared})
			standing := pgcmd.QueryOne[struct{}, bool]("standing", `select pg_is_in_recovery()`).With(readOnly)
			require.Eventually(t, func() bool {
				is, err := standing.Run(ctx, pool, struct{}{})
				return err == nil && is
			}, 20*time.Second, 10*time.Millisecond)
			before, err := pid.With(readOnly).Run(ctx, pool, struct{}{})
			require.NoError(t, err)
			pool.Reset()
			after, err := pid.With(readOnly).Run(ctx, pool, struct{}{})
			require.NoError(t, err)
			is, err := standing.Run(ctx, pool, struct{}{})
			require.NoError(t, err)
			require.True(t, is, "the replica answers")
			assert.NotEqual(t, before, after)
		})
	}
}

func TestRunningCommandsOutliveReset(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	pool := connect(t, pgcmd.Config{URL: pgcmdtest.URL(t), MaxConns: 4, Multiplex: 1})
	held := pgcmd.QueryOne[int64, int32]("held", `select pg_backend_pid() from pg_advisory_xact_lock_shared($1)`)
	lock, err := pool.Acquire(ctx)
	require.NoError(t, err)
	_, err = lock.Exec(ctx, `select pg_advisory_lock(1)`)
	require.NoError(t, err)
	type answer struct {
		pid int32
		err error
	}
	answers := make(chan answer, 2)
	for _, c := range []*pgcmd.Command[int64, int32]{held, held.With(readOnly)} {
		go func() {
			pid, err := c.Run(ctx, pool, 1)
			answers <- answer{pid, err}
		}()
	}
	waiting := func(n int) func() bool {
		return func() bool {
			var seen int
			err := lock.QueryRow(ctx, `select count(*) from pg_locks l join pg_stat_activity a using (pid) where l.locktype = 'advisory' and not l.granted and a.datname = current_database()`).Scan(&seen)
			return err == nil && seen == n
		}
	}
	require.Eventually(t, waiting(2), 20*time.Second, 5*time.Millisecond)
	var resets sync.WaitGroup
	for range 8 {
		resets.Go(pool.Reset)
	}
	resets.Wait()
	assert.True(t, waiting(2)(), "both still wait, and were not run again")
	_, err = lock.Exec(ctx, `select pg_advisory_unlock(1)`)
	require.NoError(t, err)
	old := map[int32]bool{}
	for range 2 {
		a := <-answers
		require.NoError(t, a.err)
		old[a.pid] = true
	}
	lock.Release()
	assert.Zero(t, pool.Metrics().Pool.Shared.Reruns)
	for range 10 {
		now, err := pid.Run(ctx, pool, struct{}{})
		require.NoError(t, err)
		assert.False(t, old[now], "a connection from before the Reset is closed when it is released")
		now, err = pid.With(readOnly).Run(ctx, pool, struct{}{})
		require.NoError(t, err)
		assert.False(t, old[now])
	}
}

func TestResetWhileThePoolCloses(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	rounds := 10
	if testing.Short() {
		rounds = 3
	}
	url := pgcmdtest.URL(t)
	for range rounds {
		pool, err := pgcmd.Connect(ctx, pgcmd.Config{URL: url, MaxConns: 2, Multiplex: 2})
		require.NoError(t, err)
		_, err = pid.With(readOnly).Run(ctx, pool, struct{}{})
		require.NoError(t, err)
		var all sync.WaitGroup
		for range 4 {
			all.Go(pool.Reset)
		}
		all.Go(func() { assert.NoError(t, pool.Close(ctx)) })
		all.Go(pool.Reset)
		all.Wait()
		pool.Reset()
		_, err = pid.Run(ctx, pool, struct{}{})
		assert.Equal(t, pgcmd.CodeUnavailable, pgcmd.CodeOf(err))
	}
}
