// Soak runs transactions through a proxy that cuts connections at random, and
// then compares what it was told with what is in the database.
//
//	SOAK_OPS=20000 go run ./internal/soak
//
// SOAK_OPS is how many transactions (1,000,000), SOAK_RATE the chance of each
// message to be hit (0.001), SOAK_ONCE=0 runs them without Once.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgcmd/pgcmd"
	"github.com/pgcmd/pgcmd/internal/faults"
	"github.com/pgcmd/pgcmd/pgcmdtest"
)

const (
	workers  = 32
	accounts = 1000
	schema   = `
		create table accounts (id int primary key, balance bigint not null);
		insert into accounts select n, 0 from generate_series(0, 999) n;
		create table ops (id bigint not null)` // no key: a duplicate must be seen, not prevented
)

type transfer struct {
	ID       int64
	From, To int
	Amount   int64
}

var (
	withdraw = pgcmd.Exec[transfer]("accounts.withdraw", `update accounts set balance = balance - @amount where id = @from`)
	deposit  = pgcmd.Exec[transfer]("accounts.deposit", `update accounts set balance = balance + @amount where id = @to`)
	record   = pgcmd.Exec[transfer]("ops.record", `insert into ops values (@id)`)

	plain = pgcmd.Transaction("soak.transfer", func(ctx context.Context, tx *pgcmd.Tx, in transfer) (int64, error) {
		if _, err := withdraw.Run(ctx, tx, in); err != nil {
			return 0, err
		}
		if _, err := deposit.Run(ctx, tx, in); err != nil {
			return 0, err
		}
		return record.Run(ctx, tx, in)
	}).With(pgcmd.Options{Timeout: 30 * time.Second, Retry: pgcmd.Retry{Attempts: 10}})

	once = pgcmd.Once(plain, func(in transfer) string { return strconv.FormatInt(in.ID, 10) })
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "soak:", err)
		os.Exit(1)
	}
}

// A soak is one run: the plan, and what was told of each operation.
type soak struct {
	ops     int64
	command *pgcmd.Command[transfer, int64]
	pool    *pgcmd.Pool

	told     []pgcmd.Effect // told[id] of operation id; Applied if acknowledged
	done     atomic.Int64
	retries  atomic.Int64
	unknown  atomic.Int64
	refused  atomic.Int64
	surprise atomic.Pointer[error] // an error that is neither NotApplied nor Unknown
}

func run(ctx context.Context) error {
	ops, err := number("SOAK_OPS", 1_000_000)
	if err != nil {
		return err
	}
	rate, err := number("SOAK_RATE", 0.001)
	if err != nil {
		return err
	}
	server, err := pgcmdtest.Start(ctx, pgcmdtest.WithSetting("max_connections", "200"), pgcmdtest.WithSetting("max_wal_size", "4GB"))
	if err != nil {
		return err
	}
	defer server.Close()
	url, err := server.Database(ctx, schema, pgcmd.OnceSchema)
	if err != nil {
		return err
	}
	direct, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	defer direct.Close(context.Background())
	goroutines := runtime.NumGoroutine()

	proxy, err := faults.Start(url)
	if err != nil {
		return err
	}
	defer proxy.Close()
	s := &soak{ops: int64(ops), command: once, told: make([]pgcmd.Effect, int64(ops))}
	if os.Getenv("SOAK_ONCE") == "0" {
		s.command = plain
	}
	if s.pool, err = pgcmd.Connect(ctx, pgcmd.Config{URL: proxy.URL(), MaxConns: workers}); err != nil {
		return err
	}
	proxy.Random(rate, 1, faults.CutBefore, faults.CutAfter, faults.Reset, faults.HalfClose)
	start := time.Now()
	s.work(ctx, start)
	elapsed := time.Since(start)
	hits := proxy.Fired()
	proxy.Heal()
	if err := ctx.Err(); err != nil {
		return err
	}

	leaked := s.pool.Stat().AcquiredConns()
	closing, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if err := s.pool.Close(closing); err != nil {
		return err
	}
	if err := proxy.Close(); err != nil {
		return err
	}
	return s.judge(ctx, direct, elapsed, hits, leaked, goroutines)
}

func number(name string, otherwise float64) (float64, error) {
	text := os.Getenv(name)
	if text == "" {
		return otherwise, nil
	}
	n, err := strconv.ParseFloat(text, 64)
	if err != nil || n < 0 {
		return 0, fmt.Errorf("%s=%q is not a number from 0 on", name, text)
	}
	return n, nil
}

// work runs all operations, and tells every ten seconds how far it is.
func (s *soak) work(ctx context.Context, start time.Time) {
	var next atomic.Int64
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for id := next.Add(1) - 1; id < s.ops && ctx.Err() == nil; id = next.Add(1) - 1 {
				s.one(ctx, id)
			}
		})
	}
	finished := make(chan struct{})
	go func() { wg.Wait(); close(finished) }()
	ticker := time.NewTicker(10 * time.Second)
	defer ticker.Stop()
	for {
		select {
		case <-finished:
			return
		case <-ticker.C:
			n := s.done.Load()
			fmt.Printf("%9d of %d, %5.0f a second, %d retries, %d unresolved\n",
				n, s.ops, float64(n)/time.Since(start).Seconds(), s.retries.Load(), s.unknown.Load())
		}
	}
}

func (s *soak) one(ctx context.Context, id int64) {
	// Both accounts in one order, so that there is no deadlock to wait for.
	from := int(id*7919) % accounts
	in := transfer{ID: id, From: from, To: (from + 1) % accounts, Amount: id%100 + 1}
	if in.To < in.From {
		in.From, in.To, in.Amount = in.To, in.From, -in.Amount
	}
	o := pgcmd.Try(ctx, s.pool, s.command, in)
	s.told[id] = pgcmd.EffectOf(o.Err)
	s.retries.Add(int64(max(0, o.Attempts-1)))
	s.done.Add(1)
	switch {
	case o.Err == nil:
	case s.told[id] == pgcmd.NotApplied:
		s.refused.Add(1)
	case s.told[id] == pgcmd.Unknown:
		s.unknown.Add(1)
	default:
		s.surprise.Store(&o.Err)
	}
}

// judge compares what was told with what is there, and prints the table.
func (s *soak) judge(ctx context.Context, direct *pgx.Conn, elapsed time.Duration, hits int, leaked int32, goroutines int) error {
	there := make([]uint8, s.ops)
	rows, err := direct.Query(ctx, `select id, least(count(*), 2) from ops group by id`)
	if err != nil {
		return err
	}
	var id int64
	var n int
	if _, err := pgx.ForEachRow(rows, []any{&id, &n}, func() error { there[id] = uint8(n); return nil }); err != nil {
		return err
	}
	var acknowledged, lost, duplicated, falsely, unresolvedApplied int
	for id, effect := range s.told {
		if there[id] > 1 {
			duplicated++
		}
		switch {
		case effect == pgcmd.Applied:
			acknowledged++
			if there[id] == 0 {
				lost++
			}
		case effect == pgcmd.NotApplied && there[id] > 0:
			falsely++
		case effect == pgcmd.Unknown && there[id] > 0:
			unresolvedApplied++
		}
	}
	var sum, open int
	if err := direct.QueryRow(ctx, `select sum(balance), (select count(*) from pg_stat_activity
		where datname = current_database() and pid <> pg_backend_pid() and state like 'idle in transaction%') from accounts`).Scan(&sum, &open); err != nil {
		return err
	}
	extra := runtime.NumGoroutine() - goroutines
	for deadline := time.Now().Add(20 * time.Second); extra > 0 && time.Now().Before(deadline); extra = runtime.NumGoroutine() - goroutines {
		runtime.Gosched() // pgx says goodbye to dead connections in the background
	}
	var memory runtime.MemStats
	runtime.ReadMemStats(&memory)

	for _, line := range []struct {
		what string
		n    any
	}{
		{"operations", s.ops}, {"messages hit", hits}, {"retries", s.retries.Load()},
		{"acknowledged", acknowledged}, {"lost", lost}, {"duplicated", duplicated},
		{"not applied, as told", int(s.refused.Load()) - falsely}, {"falsely told not applied", falsely},
		{"unresolved", s.unknown.Load()}, {"  of which applied", unresolvedApplied},
		{"sum of all balances", sum}, {"leaked connections", leaked}, {"leaked goroutines", max(0, extra)}, {"backends idle in transaction", open},
		{"heap, MB", memory.HeapAlloc >> 20}, {"seconds", int(elapsed.Seconds())}, {"operations a second", int(float64(s.ops) / elapsed.Seconds())},
	} {
		fmt.Printf("%-30s %10v\n", line.what, line.n)
	}
	if err := s.surprise.Load(); err != nil {
		return fmt.Errorf("an effect that cannot be: %w", *err)
	}
	if lost+duplicated+falsely+sum+int(leaked)+open+max(0, extra) > 0 || sum < 0 || s.command == once && s.unknown.Load() > 0 {
		return fmt.Errorf("the table has what must be zero")
	}
	return nil
}
