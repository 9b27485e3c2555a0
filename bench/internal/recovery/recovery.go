// Package recovery measures how soon a pool works again after its server or its connections failed: a pool of Connect's
// beside a pgxpool with its defaults, in the same run.
package recovery

import (
	"context"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pgcmd/pgcmd"
)

const (
	schema   = `create table written (n bigint not null)` // no key: a duplicate must be seen
	writeSQL = `insert into written values ($1)`
	readSQL  = `select $1::bigint`
)

// Run measures everything, and writes the table to out. The short form takes less than a minute, the other about five.
func Run(ctx context.Context, short bool, out io.Writer) error {
	fmt.Fprintf(out, "%-64s %12s %12s\n", "", "pgcmd", "pgxpool")
	for _, measure := range []func(context.Context, kind, bool) ([]figure, error){idleKills, blackHole, restart, failover, outage, cutOff, leaks} {
		ours, err := measure(ctx, commands, short)
		if err != nil {
			return err
		}
		theirs, err := measure(ctx, byHand, short)
		if err != nil {
			return err
		}
		for i, f := range ours {
			fmt.Fprintf(out, "%-64s %12v %12v\n", f.what, f.value, theirs[i].value)
		}
	}
	return nil
}

// either returns brief in the short form, and long in the other.
func either[T any](short bool, brief, long T) T {
	if short {
		return brief
	}
	return long
}

// A figure is a line of the table.
type figure struct {
	what  string
	value any
}

func milliseconds(d time.Duration) string { return fmt.Sprintf("%.0f ms", max(0, d.Seconds()*1000)) }

func ratio(a, b int64) string { return fmt.Sprintf("%.2f", float64(a)/float64(max(1, b))) }

// A kind of pool.
type kind int

const (
	commands kind = iota // a pool of Connect's
	byHand               // a pgxpool with its defaults
)

const tries = 4

var (
	write = pgcmd.Exec[int64]("recovery.write", writeSQL).With(pgcmd.Options{Retry: pgcmd.Retry{Attempts: tries}})
	read  = pgcmd.QueryOne[int64, int64]("recovery.read", readSQL).With(pgcmd.Options{ReadOnly: true, Retry: pgcmd.Retry{Attempts: tries}})
)

// A client is a pool of either kind.
type client struct {
	pool  *pgxpool.Pool
	write func(ctx context.Context, n int64) error
	read  func(ctx context.Context, n int64) error
	again func(ctx context.Context, n int64) error // a read with retries
	close func()

	attempts, sockets, statements atomic.Int64
}

func connect(ctx context.Context, k kind, url string, conns int32) (*client, error) {
	c := &client{}
	settings := func(s *pgxpool.Config) {
		s.MaxConns, s.MinConns = conns, conns
		dial := s.ConnConfig.DialFunc
		s.ConnConfig.DialFunc = pgconn.DialFunc(func(ctx context.Context, network, address string) (net.Conn, error) {
			c.sockets.Add(1)
			return dial(ctx, network, address)
		})
		s.BeforeConnect = func(context.Context, *pgx.ConnConfig) error { c.attempts.Add(1); return nil }
		s.ConnConfig.Tracer = (*tracer)(c)
	}
	if k == commands {
		pool, err := pgcmd.Connect(ctx, pgcmd.Config{URL: url, MaxConns: conns, MinConns: conns, Pgx: settings})
		if err != nil {
			return nil, err
		}
		c.pool = pool.Pool
		c.write = func(ctx context.Context, n int64) error { _, err := write.Run(ctx, pool, n); return err }
		c.read = func(ctx context.Context, n int64) error { _, err := read.Run(ctx, pool, n); return err }
		c.again = c.read
		c.close = func() { _ = pool.Close(ctx) }
		return c, nil
	}
	s, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, err
	}
	settings(s)
	if len(s.ConnConfig.Fallbacks) > 0 {
		s.ConnConfig.ValidateConnect = pgconn.ValidateConnectTargetSessionAttrsReadWrite
	}
	if c.pool, err = pgxpool.NewWithConfig(ctx, s); err != nil {
		return nil, err
	}
	c.write = func(ctx context.Context, n int64) error { _, err := c.pool.Exec(ctx, writeSQL, n); return err }
	c.read = func(ctx context.Context, n int64) error { return c.pool.QueryRow(ctx, readSQL, n).Scan(&n) }
	c.again = func(ctx context.Context, n int64) (err error) { // as many services write it
		for range tries {
			if err = c.read(ctx, n); err == nil || ctx.Err() != nil {
				return err
			}
			time.Sleep(10 * time.Millisecond)
		}
		return err
	}
	c.close = c.pool.Close
	return c, nil
}

// tracer counts the statements that are sent.
type tracer client

func (t *tracer) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	t.statements.Add(1)
	return ctx
}

func (t *tracer) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

// burst runs f in n goroutines at once, and returns how many calls failed.
func burst(n int, f func() error) (failed int) {
	var bad atomic.Int64
	var all sync.WaitGroup
	start := make(chan struct{})
	for range n {
		all.Go(func() {
			<-start
			if f() != nil {
				bad.Add(1)
			}
		})
	}
	close(start)
	all.Wait()
	return int(bad.Load())
}

// A load is a number of goroutines that call f again and again.
type load struct {
	calls, failed atomic.Int64
	success       atomic.Pointer[time.Time] // the first since it was forgotten
	stop          chan struct{}
	all           sync.WaitGroup
}

// drive starts a load. Each goroutine waits for pace before each call.
func drive(ctx context.Context, callers int, pace time.Duration, f func(ctx context.Context, n int64) error) *load {
	l := &load{stop: make(chan struct{})}
	for range callers {
		l.all.Go(func() {
			for {
				select {
				case <-l.stop:
					return
				case <-time.After(pace):
				}
				if err := f(ctx, l.calls.Add(1)); err != nil {
					l.failed.Add(1)
				} else if now := time.Now(); l.success.Load() == nil {
					l.success.CompareAndSwap(nil, &now)
				}
			}
		})
	}
	return l
}

func (l *load) end() {
	close(l.stop)
	l.all.Wait()
}

// reach waits until n calls were made.
func (l *load) reach(n int64) {
	for l.calls.Load() < n {
		time.Sleep(time.Millisecond)
	}
}

// first waits for the first success since it was forgotten.
func (l *load) first(ctx context.Context) time.Time {
	for ctx.Err() == nil {
		if at := l.success.Load(); at != nil {
			return *at
		}
		time.Sleep(time.Millisecond)
	}
	return time.Time{}
}

func median(all []time.Duration) time.Duration {
	slices.Sort(all)
	return all[len(all)/2]
}
