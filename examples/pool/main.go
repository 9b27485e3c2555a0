// Pool shows a pool whose server goes through bad times, on a PostgreSQL that it
// starts for itself: backends killed while idle, connections that fall silent, a
// crash and restart under load. Then it prints what the pool has counted.
//
//	go run ./examples/pool
package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pgcmd/pgcmd"
	"github.com/pgcmd/pgcmd/pgcmdtest"
)

const (
	schema  = `create table orders (id bigint not null)` // no key: a duplicate would be seen
	conns   = 8
	callers = 32
)

var (
	place = pgcmd.Exec[int64]("orders.place", `insert into orders values ($1)`).
		With(pgcmd.Options{Timeout: 10 * time.Second, Retry: pgcmd.Retry{Attempts: 5}})
	placed = pgcmd.QueryOne[struct{}, count]("orders.count", `select count(*) as n, count(distinct id) as ids from orders`).
		With(pgcmd.Options{Retry: pgcmd.Retry{Attempts: 5}})
)

type count struct{ N, IDs int64 }

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "pool:", err)
		os.Exit(1)
	}
}

// A shop places orders, and knows what it was told.
type shop struct {
	pool                         *pgcmd.Pool
	next                         atomic.Int64
	applied, notApplied, unknown atomic.Int64
}

func run(ctx context.Context, out io.Writer) error {
	server, err := pgcmdtest.Start(ctx)
	if err != nil {
		return err
	}
	defer server.Close()
	url, err := server.Database(ctx, schema)
	if err != nil {
		return err
	}
	var network silent
	pool, err := pgcmd.Connect(ctx, pgcmd.Config{URL: url, MaxConns: conns, MinConns: conns, Pgx: func(c *pgxpool.Config) {
		network.dial, c.ConnConfig.DialFunc = c.ConnConfig.DialFunc, network.Dial
	}})
	if err != nil {
		return err
	}
	defer pool.Close(ctx)
	s := &shop{pool: pool}

	s.orders(ctx, 400)
	fmt.Fprintf(out, "400 orders by %d callers on %d connections: %v\n", callers, conns, s.told())

	if _, err := pool.Exec(ctx, `select pg_terminate_backend(pid, 5000) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()`); err != nil {
		return err
	}
	s.orders(ctx, 400)
	fmt.Fprintf(out, "after all idle backends but one were killed: %v\n", s.told())

	network.on.Store(true)
	impatient, cancel := context.WithTimeout(ctx, 200*time.Millisecond)
	s.orders(impatient, conns)
	cancel()
	fmt.Fprintf(out, "all connections fall silent, and the callers give up: %v\n", s.told())
	network.on.Store(false)
	s.orders(ctx, 400)
	fmt.Fprintf(out, "new connections work again: %v\n", s.told())

	under := make(chan struct{})
	go func() { defer close(under); s.orders(ctx, 4000) }()
	if err := server.Restart(ctx, pgcmdtest.Immediate); err != nil {
		return err
	}
	<-under
	s.orders(ctx, 400)
	fmt.Fprintf(out, "4400 orders while the server crashed and came back: %v\n", s.told())
	return s.report(ctx, out)
}

// orders places n orders, from several goroutines.
func (s *shop) orders(ctx context.Context, n int64) {
	var left atomic.Int64
	left.Store(n)
	var all sync.WaitGroup
	for range callers {
		all.Go(func() {
			for left.Add(-1) >= 0 {
				_, err := place.Run(ctx, s.pool, s.next.Add(1))
				switch pgcmd.EffectOf(err) {
				case pgcmd.Applied:
					s.applied.Add(1)
				case pgcmd.NotApplied:
					s.notApplied.Add(1)
				default:
					s.unknown.Add(1) // what Once resolves: see examples/transaction
				}
			}
		})
	}
	all.Wait()
}

func (s *shop) told() string {
	return fmt.Sprintf("%d applied, %d not applied, %d unknown", s.applied.Swap(0), s.notApplied.Swap(0), s.unknown.Swap(0))
}

// report prints what is in the database, and what the pool has counted.
func (s *shop) report(ctx context.Context, out io.Writer) error {
	c, err := placed.Run(ctx, s.pool, struct{}{})
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "orders that are there twice: %d\n", c.N-c.IDs)
	m := s.pool.Metrics()
	fmt.Fprintf(out, "the pool: %d of %d connections in use, taken %d times, of which %d waited; made anew %d times; %d retry tokens left\n",
		m.Pool.Acquired, m.Pool.Max, m.Pool.Acquires, m.Pool.EmptyAcquires, m.Pool.Resets, m.Pool.RetryTokens)
	for _, c := range m.Commands {
		fmt.Fprintf(out, "%s: %d runs, %d retries, errors %v, p50 %v, p99 %v\n",
			c.Name, c.Runs, c.Retries, c.Errors, c.Latency.Quantile(0.5), c.Latency.Quantile(0.99))
	}
	if len(m.Failures) > 0 {
		f := m.Failures[0]
		fmt.Fprintf(out, "the latest failure: %s: %s, effect %s: %s\n", f.Command, f.Code, f.Effect, f.Message)
	}
	return nil
}

// A silent network takes what is sent while it is on, and passes nothing on.
type silent struct {
	dial pgconn.DialFunc
	on   atomic.Bool
}

func (s *silent) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := s.dial(ctx, network, address)
	if err != nil {
		return nil, err
	}
	return &silentConn{socket: conn.(socket), network: s}, nil
}

// A socket is a net.Conn whose state pgcmd can look at before it uses the connection.
type socket interface {
	net.Conn
	syscall.Conn
}

type silentConn struct {
	socket
	network *silent
}

func (c *silentConn) Write(b []byte) (int, error) {
	if c.network.on.Load() {
		return len(b), nil
	}
	return c.socket.Write(b)
}
