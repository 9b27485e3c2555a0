package main

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pgcmd/pgcmd"
	"github.com/pgcmd/pgcmd/internal/measure"
	"github.com/pgcmd/pgcmd/internal/workload"
)

// A load is so many callers on so many connections.
type load struct {
	callers, conns int
	time, cpu      table // of a row: of all that passes, and of the CPU of this process
}

var (
	loadCallers = []int{1, 10, 100, 1024}
	loadConns   = []int{2, 10, 32}
)

// loads compares the Pool with a pgxpool by hand under load.
func loads(ctx context.Context, r *results, p pace) error {
	cfg, err := databaseConfig(ctx)
	if err != nil {
		return err
	}
	for _, conns := range loadConns {
		own, plain, err := pools(ctx, cfg, int32(conns))
		if err != nil {
			return err
		}
		m := mains()
		sides := []peer{m[1], m[2]}
		stores := []workload.Store{workload.Commands{DB: own}, workload.Hand{DB: plain}}
		for _, callers := range loadCallers {
			l := load{callers: callers, conns: conns}
			short := p
			short.race = p.race / 3
			if l.time, err = crowd(ctx, callers, sides, stores, short, measure.Wall); err != nil {
				return err
			}
			if l.cpu, err = crowd(ctx, callers, sides, stores, short, measure.CPU); err != nil {
				return err
			}
			r.loads = append(r.loads, l)
		}
		if conns == loadConns[0] {
			if r.waiting, err = memoryOfWaiting(ctx, own, plain, conns); err != nil {
				return err
			}
			if r.stack, err = stacksOfRuns(ctx, stores); err != nil {
				return err
			}
		}
		plain.Close()
		if err := own.Close(ctx); err != nil {
			return err
		}
	}
	return nil
}

func pools(ctx context.Context, cfg *pgx.ConnConfig, conns int32) (*pgcmd.Pool, *pgxpool.Pool, error) {
	c := poolConfig(cfg)
	c.MaxConns = conns
	plain, err := pgxpool.NewWithConfig(ctx, c)
	if err != nil {
		return nil, nil, err
	}
	own, err := pgcmd.Connect(ctx, pgcmd.Config{URL: "postgres://replaced/?sslmode=disable", AllowInsecure: true, MaxConns: conns,
		Pgx: func(c *pgxpool.Config) { c.ConnConfig = cfg.Copy() }})
	if err != nil {
		plain.Close()
	}
	return own, plain, err
}

// memoryOfWaiting is how many bytes a goroutine has that waits for a connection to find a row, stack and all: on the Pool,
// and by hand. What the first of both leaves to the next is not measured.
func memoryOfWaiting(ctx context.Context, own *pgcmd.Pool, plain *pgxpool.Pool, conns int) (bytes [2]float64, err error) {
	for range 2 {
		if bytes[0], err = memoryOfWaitingOn(ctx, own.Pool, workload.Commands{DB: own}, conns); err != nil {
			return bytes, err
		}
		if bytes[1], err = memoryOfWaitingOn(ctx, plain, workload.Hand{DB: plain}, conns); err != nil {
			return bytes, err
		}
	}
	if bytes[0] <= 0 || bytes[1] <= 0 {
		return bytes, errors.New("a goroutine that waits has no memory")
	}
	return bytes, nil
}

func memoryOfWaitingOn(ctx context.Context, pool *pgxpool.Pool, store workload.Store, conns int) (float64, error) {
	var held []*pgxpool.Conn
	defer func() {
		for _, conn := range held {
			conn.Release()
		}
	}()
	for range conns {
		conn, err := pool.Acquire(ctx)
		if err != nil {
			return 0, err
		}
		held = append(held, conn)
	}
	const many = 5000
	before := memoryInUse()
	waits, cancel := context.WithCancel(ctx)
	var all sync.WaitGroup
	defer all.Wait()
	defer cancel()
	var started atomic.Int64
	for range many {
		all.Go(func() {
			started.Add(1)
			_, _ = store.Find(waits, 700) // which is cancelled
		})
	}
	for was := 0.0; ; time.Sleep(20 * time.Millisecond) { // until all of them wait
		now := memoryInUse()
		if now == was && started.Load() == many {
			return (now - before) / many, nil
		}
		was = now
	}
}

// stacksOfRuns is how many bytes the stack of a new goroutine has when it has found a row: on the Pool, and by hand.
func stacksOfRuns(ctx context.Context, stores []workload.Store) (bytes [2]float64, err error) {
	const many = 1000
	defer debug.SetGCPercent(debug.SetGCPercent(-1)) // it would shrink them
	for s, store := range stores {
		runtime.GC()
		before := stacksInUse()
		errs := make(chan error, many)
		end := make(chan struct{})
		var all sync.WaitGroup
		for range many {
			all.Go(func() {
				_, err := store.Find(ctx, 700)
				errs <- err
				<-end
			})
		}
		for range many {
			err = errors.Join(err, <-errs)
		}
		bytes[s] = (stacksInUse() - before) / many
		close(end)
		all.Wait()
	}
	return bytes, err
}

func stacksInUse() float64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.StackInuse)
}

// memoryInUse rounds to what 5,000 goroutines may differ in by chance. A sync.Pool keeps what is in it for two
// collections: what an earlier measurement has left there would be missing from the next.
func memoryInUse() float64 {
	for range 3 {
		runtime.GC()
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64((m.HeapAlloc + m.StackInuse) >> 16 << 16)
}

// underLoad is the ratio of the Pool to by hand for so many callers on ten connections.
func underLoad(callers int, of func(load) table) func(r *results) (float64, bool) {
	return func(r *results) (float64, bool) {
		for _, l := range r.loads {
			if l.callers == callers && l.conns == maxConns {
				hand, ok := of(l).row(byHand)
				return hand.ratio.Median, ok
			}
		}
		return 0, false
	}
}

func (p *page) loads(r *results) {
	p.line("\nCallers that find single rows on a pool of 2, 10 and 32 connections: the Pool, which counts, times and looks at its connections, and a pgxpool by hand.")
	p.head("connections", "callers", "rows a second", "by hand", "time, ratio", "CPU a row", "by hand", "CPU, ratio", "p99", "by hand")
	for _, l := range r.loads {
		us, hand := l.time.rows[0], l.time.rows[1]
		cpu := l.cpu.rows
		p.row(fmt.Sprint(l.conns), fmt.Sprint(l.callers), perSecond(us.time.Median), perSecond(hand.time.Median), spread(hand.ratio),
			ns(cpu[0].time.Median), ns(cpu[1].time.Median), spread(cpu[1].ratio), micro(us.latency.At(0.99)), micro(hand.latency.At(0.99)))
	}
	p.line("\nA goroutine that waits for a connection has %s bytes on the Pool and %s by hand, its stack included. When it has found a row, the stack of a new goroutine has %s and %s bytes.",
		number(r.waiting[0]), number(r.waiting[1]), number(r.stack[0]), number(r.stack[1]))
}
