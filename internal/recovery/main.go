// Recovery measures how soon a pool works again after its server did not, ours beside
// a pgxpool by hand in the same run, and prints a table.
//
//	RECOVERY_SHORT=1 go run ./internal/recovery
//
// RECOVERY_SHORT=1 is a form that takes less than a minute; without it about five.
package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/signal"
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

var short = os.Getenv("RECOVERY_SHORT") == "1"

// either is the first in the short form.
func either[T any](brief, long T) T {
	if short {
		return brief
	}
	return long
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "recovery:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	fmt.Printf("%-64s %12s %12s\n", "", "pgcmd", "pgxpool")
	for _, measure := range []func(context.Context, kind) ([]figure, error){idleKills, blackHole, restart, failover, outage, cutOff, leaks} {
		ours, err := measure(ctx, commands)
		if err != nil {
			return err
		}
		theirs, err := measure(ctx, byHand)
		if err != nil {
			return err
		}
		for i, f := range ours {
			fmt.Printf("%-64s %12v %12v\n", f.what, f.value, theirs[i].value)
		}
	}
	return nil
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
	again func(ctx context.Context, n int64) error // a read that is tried again
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
	c.again = func(ctx context.Context, n int64) (err error) { // as it is often written
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

// tracer counts what is offered to the server.
type tracer client

func (t *tracer) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	t.statements.Add(1)
	return ctx
}

func (t *tracer) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

// burst runs f from so many goroutines at once, and returns how many failed.
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

// A load is callers who call f again and again.
type load struct {
	calls, failed atomic.Int64
	success       atomic.Pointer[time.Time] // the first since it was forgotten
	stop          chan struct{}
	all           sync.WaitGroup
}

// drive starts a load. A call that fails is not followed by the next at once: callers
// come at their own pace.
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

// reach waits until so many calls were made.
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
