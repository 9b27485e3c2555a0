package recovery

import (
	"context"
	"net/url"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgcmd/pgcmd/internal/faults"
	"github.com/pgcmd/pgcmd/pgcmdtest"
)

// restart crashes a server under load and starts it again.
func restart(ctx context.Context, k kind, short bool) ([]figure, error) {
	server, url, err := database(ctx)
	if err != nil {
		return nil, err
	}
	defer server.Close()
	c, err := connect(ctx, k, url, 8)
	if err != nil {
		return nil, err
	}
	defer c.close()
	var took []time.Duration
	var calls, failed int64
	for range either(short, 1, 5) {
		l := drive(ctx, 8, time.Millisecond, c.write)
		l.reach(300)
		if err := server.Stop(ctx, pgcmdtest.Immediate); err != nil {
			return nil, err
		}
		time.Sleep(200 * time.Millisecond)
		l.success.Store(nil)
		accepts := make(chan time.Time, 1)
		go func() { accepts <- accepting(ctx, url) }()
		if err := server.Restart(ctx, pgcmdtest.Immediate); err != nil {
			return nil, err
		}
		first := l.first(ctx)
		took = append(took, first.Sub(<-accepts))
		l.end()
		calls, failed = calls+l.calls.Load(), failed+l.failed.Load()
	}
	return []figure{
		{"crash and restart under load: first success after it accepts", milliseconds(median(took))},
		{"  calls", calls}, {"  calls failed", failed},
	}, ctx.Err()
}

// accepting waits until a server takes connections.
func accepting(ctx context.Context, url string) time.Time {
	for ctx.Err() == nil {
		if conn, err := pgx.Connect(ctx, url); err == nil {
			now := time.Now()
			conn.Close(ctx)
			return now
		}
		time.Sleep(time.Millisecond)
	}
	return time.Time{}
}

// failover crashes a primary under load and promotes its synchronous standby.
func failover(ctx context.Context, k kind, short bool) ([]figure, error) {
	primary, address, err := database(ctx, pgcmdtest.WithTCP())
	if err != nil {
		return nil, err
	}
	defer primary.Close()
	standby, err := primary.Standby(ctx)
	if err != nil {
		return nil, err
	}
	defer standby.Close()
	admin, err := pgx.Connect(ctx, primary.URL())
	if err != nil {
		return nil, err
	}
	defer admin.Close(ctx)
	for _, sql := range []string{`alter system set synchronous_standby_names = '*'`, `select pg_reload_conf()`} {
		if _, err := admin.Exec(ctx, sql); err != nil {
			return nil, err
		}
	}
	both, err := hosts(address, standby)
	if err != nil {
		return nil, err
	}
	c, err := connect(ctx, k, both, 8)
	if err != nil {
		return nil, err
	}
	defer c.close()
	var acknowledged sync.Map
	l := drive(ctx, 8, time.Millisecond, func(ctx context.Context, n int64) error {
		ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		err := c.write(ctx, n)
		if err == nil {
			acknowledged.Store(n, true)
		}
		return err
	})
	l.reach(either[int64](short, 1000, 5000))
	if err := primary.Stop(ctx, pgcmdtest.Immediate); err != nil {
		return nil, err
	}
	time.Sleep(500 * time.Millisecond) // an operator needs time too
	l.success.Store(nil)
	if err := standby.Promote(ctx); err != nil {
		return nil, err
	}
	promoted := time.Now()
	took := l.first(ctx).Sub(promoted)
	l.reach(l.calls.Load() + 500)
	l.end()
	lost, acked, err := missing(ctx, c, &acknowledged)
	return []figure{
		{"failover to a synchronous standby: first success after promotion", milliseconds(took)},
		{"  writes acknowledged", acked}, {"  acknowledged and lost, or there twice", lost},
	}, err
}

// hosts is a URL that names both servers.
func hosts(address string, standby *pgcmdtest.Server) (string, error) {
	other, err := standby.URLOf(address)
	if err != nil {
		return "", err
	}
	a, err := url.Parse(address)
	if err != nil {
		return "", err
	}
	b, err := url.Parse(other)
	if err != nil {
		return "", err
	}
	a.Host += "," + b.Host
	return a.String(), nil
}

func missing(ctx context.Context, c *client, acknowledged *sync.Map) (lost, acked int, err error) {
	rows, err := c.pool.Query(ctx, `select n from written`)
	if err != nil {
		return 0, 0, err
	}
	all, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	there := map[int64]int{}
	for _, n := range all {
		there[n]++
	}
	acknowledged.Range(func(n, _ any) bool {
		acked++
		if there[n.(int64)] != 1 {
			lost++
		}
		return true
	})
	return lost, acked, err
}

// offered runs reads for a while with the counters of c at zero, so that these show what was sent to the server.
func offered(ctx context.Context, c *client, short bool, f func(ctx context.Context, n int64) error) *load {
	c.attempts.Store(0)
	c.sockets.Store(0)
	c.statements.Store(0)
	l := drive(ctx, 32, 5*time.Millisecond, func(ctx context.Context, n int64) error {
		ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
		defer cancel()
		return f(ctx, n)
	})
	time.Sleep(either[time.Duration](short, 2, 30) * time.Second)
	l.end()
	return l
}

// outage stops the server while callers go on.
func outage(ctx context.Context, k kind, short bool) ([]figure, error) {
	server, url, err := database(ctx)
	if err != nil {
		return nil, err
	}
	defer server.Close()
	c, err := connect(ctx, k, url, 8)
	if err != nil {
		return nil, err
	}
	defer c.close()
	burst(8, func() error { return c.write(ctx, 1) })
	if err := server.Stop(ctx, pgcmdtest.Immediate); err != nil {
		return nil, err
	}
	l := offered(ctx, c, short, c.again)
	return []figure{
		{"server stopped for " + either(short, "2", "30") + " s, 4 tries a call: calls", l.calls.Load()},
		{"  attempts to connect, a call", ratio(c.attempts.Load(), l.calls.Load())},
	}, nil
}

// cutOff resets every connection at its first message.
func cutOff(ctx context.Context, k kind, short bool) ([]figure, error) {
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
	c, err := connect(ctx, k, proxy.URL(), 8)
	if err != nil {
		return nil, err
	}
	defer c.close()
	burst(8, func() error { return c.write(ctx, 1) })
	proxy.Random(1, 1, faults.Reset)
	l := offered(ctx, c, short, c.again)
	return []figure{
		{"connections that die at the first message, 4 tries a call: calls", l.calls.Load()},
		{"  attempts to connect, a call", ratio(c.attempts.Load(), l.calls.Load())},
		{"  sockets opened, pgx's cancel requests included, a call", ratio(c.sockets.Load(), l.calls.Load())},
		{"  statements offered, a call", ratio(c.statements.Load(), l.calls.Load())},
	}, nil
}
