package recovery

import (
	"context"
	"runtime"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgcmd/pgcmd/internal/faults"
	"github.com/pgcmd/pgcmd/pgcmdtest"
)

// database starts a server with a database.
func database(ctx context.Context, opts ...pgcmdtest.Option) (*pgcmdtest.Server, string, error) {
	server, err := pgcmdtest.Start(ctx, opts...)
	if err != nil {
		return nil, "", err
	}
	url, err := server.Database(ctx, schema)
	if err != nil {
		server.Close()
	}
	return server, url, err
}

// idleKills kills every backend of a warm pool, and writes.
func idleKills(ctx context.Context, k kind, _ bool) ([]figure, error) {
	const conns, writes = 16, 320
	server, url, err := database(ctx)
	if err != nil {
		return nil, err
	}
	defer server.Close()
	c, err := connect(ctx, k, url, conns)
	if err != nil {
		return nil, err
	}
	defer c.close()
	admin, err := pgx.Connect(ctx, server.URL())
	if err != nil {
		return nil, err
	}
	defer admin.Close(ctx)
	insert := func() error { return c.write(ctx, 1) }
	failed := 0
	for range writes / conns {
		burst(conns, insert)
		var pids []int32
		if err := admin.QueryRow(ctx, `select array_agg(pid) from pg_stat_activity where datname like 'pgcmdtest%'`).Scan(&pids); err != nil {
			return nil, err
		}
		if _, err := admin.Exec(ctx, `select pg_terminate_backend(pid) from unnest($1::int[]) pid`, pids); err != nil {
			return nil, err
		}
		for gone := false; !gone; {
			if err := admin.QueryRow(ctx, `select not exists (select from pg_stat_activity where pid = any($1))`, pids).Scan(&gone); err != nil {
				return nil, err
			}
		}
		failed += burst(conns, insert)
	}
	return []figure{{"writes failed of 320, right after all idle backends were killed", failed}}, nil
}

// blackHole stops the answers on every connection until the callers give up. Then new connections work and the old ones
// get no answers, as after a firewall has dropped their state.
func blackHole(ctx context.Context, k kind, _ bool) ([]figure, error) {
	const conns = 8
	server, url, err := database(ctx)
	if err != nil {
		return nil, err
	}
	defer server.Close()
	proxy, err := faults.Start(url)
	if err != nil {
		return nil, err
	}
	defer proxy.Close()
	c, err := connect(ctx, k, proxy.URL(), conns)
	if err != nil {
		return nil, err
	}
	defer c.close()
	burst(conns, func() error { return c.write(ctx, 1) })
	proxy.Random(1, 1, faults.BlackHole)
	burst(conns, func() error {
		ctx, cancel := context.WithTimeout(ctx, 200*time.Millisecond)
		defer cancel()
		return c.write(ctx, 1)
	})
	proxy.Set(nil)
	start := time.Now()
	for c.write(ctx, 2) != nil && ctx.Err() == nil {
	}
	return []figure{{"black hole healed: until the next success", milliseconds(time.Since(start))}}, ctx.Err()
}

// leaks runs many goroutines on few connections under faults, and counts the connections and goroutines that remain.
func leaks(ctx context.Context, k kind, short bool) ([]figure, error) {
	server, url, err := database(ctx)
	if err != nil {
		return nil, err
	}
	defer server.Close()
	goroutines := runtime.NumGoroutine()
	proxy, err := faults.Start(url)
	if err != nil {
		return nil, err
	}
	defer proxy.Close()
	c, err := connect(ctx, k, proxy.URL(), 10)
	if err != nil {
		return nil, err
	}
	proxy.Random(0.002, 1, faults.CutBefore, faults.CutAfter, faults.Reset, faults.HalfClose)
	l := drive(ctx, 200, 0, func(ctx context.Context, n int64) error {
		ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
		defer cancel()
		return c.write(ctx, n)
	})
	time.Sleep(either[time.Duration](short, 5, 60) * time.Second)
	l.end()
	hits := proxy.Fired()
	proxy.Heal()
	leaked := atMost(0, func() int { return int(c.pool.Stat().AcquiredConns()) })
	c.close()
	if err := proxy.Close(); err != nil {
		return nil, err
	}
	left := atMost(0, func() int { return max(0, runtime.NumGoroutine()-goroutines) })
	return []figure{
		{either(short, "5", "60") + " s of 200 goroutines on 10 connections under faults: calls", l.calls.Load()},
		{"  messages hit", hits}, {"  calls failed", l.failed.Load()}, {"  leaked connections", leaked}, {"  leaked goroutines", left},
	}, nil
}

// atMost waits until f returns at most n, as long as pgx may need to close a broken connection, and returns f's value.
func atMost(n int, f func() int) int {
	deadline := time.Now().Add(20 * time.Second)
	for f() > n && time.Now().Before(deadline) {
		time.Sleep(5 * time.Millisecond)
	}
	return f()
}
