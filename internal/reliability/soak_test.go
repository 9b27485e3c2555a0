package reliability_test

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/pgcmd/pgcmd"
	"github.com/pgcmd/pgcmd/internal/faults"
	"github.com/pgcmd/pgcmd/pgcmdtest"
)

const (
	soakAccounts = 1000
	soakDDL      = `
		create table accounts (id int8 primary key, balance int8 not null);
		insert into accounts select n, 0 from generate_series(0, 999) n;
		create table transfers (id int8 not null, src int8, dst int8, amount int8)` // no key: a duplicate must be seen, not prevented
)

// soak is one run: the plan, and the reported effect of each operation.
type soak struct {
	command *pgcmd.Command[transfer, int64]
	once    bool
	pool    *pgcmd.Pool

	told       []pgcmd.Effect // told[id] of operation id; Applied if acknowledged
	done       atomic.Int64
	retries    atomic.Int64
	unknown    atomic.Int64
	refused    atomic.Int64
	unexpected atomic.Pointer[error] // an error that is neither NotApplied nor Unknown
}

// TestSoak runs transactions through a proxy that cuts connections at random, and then compares what was reported with
// what is in the database. SOAK_OPS is how many, SOAK_RATE the chance of each message to be hit (0.001), SOAK_ONCE=0
// runs them without Once. It is not parallel: it counts goroutines.
func TestSoak(t *testing.T) {
	if os.Getenv("SOAK_OPS") == "" {
		t.Skip("SOAK_OPS is not set: make soak runs this test")
	}
	ops, rate := soakNumber(t, "SOAK_OPS", 0), soakNumber(t, "SOAK_RATE", 0.001)
	ctx := t.Context()
	server, err := pgcmdtest.Start(ctx, pgcmdtest.WithSetting("max_connections", "200"), pgcmdtest.WithSetting("max_wal_size", "4GB"))
	require.NoError(t, err)
	defer server.Close()
	url, err := server.Database(ctx, soakDDL, pgcmd.OnceSchema)
	require.NoError(t, err)
	direct, err := pgx.Connect(ctx, url)
	require.NoError(t, err)
	defer direct.Close(context.Background())
	goroutines := runtime.NumGoroutine()

	proxy, err := faults.Start(url)
	require.NoError(t, err)
	defer proxy.Close()
	s := &soak{once: os.Getenv("SOAK_ONCE") != "0", told: make([]pgcmd.Effect, int64(ops))}
	s.command = move.With(pgcmd.Options{Timeout: 30 * time.Second, Retry: pgcmd.Retry{Attempts: 10}})
	if s.once {
		s.command = pgcmd.Once(s.command, transferKey)
	}
	s.pool, err = pgcmd.Connect(ctx, pgcmd.Config{URL: proxy.URL(), MaxConns: workers})
	require.NoError(t, err)
	proxy.Random(rate, 1, faults.CutBefore, faults.CutAfter, faults.Reset, faults.HalfClose)
	start := time.Now()
	s.work(ctx, start)
	elapsed := time.Since(start)
	hits := proxy.Fired()
	proxy.Heal()

	allReleased(s.pool.Pool)
	leaked := s.pool.Stat().AcquiredConns()
	closing, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	require.NoError(t, s.pool.Close(closing))
	require.NoError(t, proxy.Close())
	s.check(t, direct, elapsed, hits, leaked, goroutines)
}

// soakNumber is a number from the environment.
func soakNumber(t *testing.T, name string, otherwise float64) float64 {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.ParseFloat(text, 64)
	if err != nil || n < 0 {
		t.Fatalf("%s=%q is not a number from 0 on", name, text)
	}
	return n
}

// work runs all operations, and prints every ten seconds how many are done.
func (s *soak) work(ctx context.Context, start time.Time) {
	var next atomic.Int64
	var running sync.WaitGroup
	for range workers {
		running.Go(func() {
			for id := next.Add(1) - 1; id < int64(len(s.told)); id = next.Add(1) - 1 {
				s.one(ctx, id)
			}
		})
	}
	finished := make(chan struct{})
	go func() { running.Wait(); close(finished) }()
	ticker := time.NewTicker(10 * time.Second)
	defer ticker.Stop()
	for {
		select {
		case <-finished:
			return
		case <-ticker.C:
			n := s.done.Load()
			fmt.Printf("%9d of %d, %5.0f a second, %d retries, %d unresolved\n",
				n, len(s.told), float64(n)/time.Since(start).Seconds(), s.retries.Load(), s.unknown.Load())
		}
	}
}

func (s *soak) one(ctx context.Context, id int64) {
	// Both accounts in one order, so that there are no deadlocks.
	src := id * 7919 % soakAccounts
	in := transfer{ID: id, Src: src, Dst: (src + 1) % soakAccounts, Amount: id%100 + 1}
	if in.Dst < in.Src {
		in.Src, in.Dst, in.Amount = in.Dst, in.Src, -in.Amount
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
		s.unexpected.Store(&o.Err)
	}
}

// check compares what was reported with what is in the database, and prints the table.
func (s *soak) check(t *testing.T, direct *pgx.Conn, elapsed time.Duration, hits int, leaked int32, goroutines int) {
	t.Helper()
	there := make([]uint8, len(s.told))
	rows, err := direct.Query(t.Context(), `select id, least(count(*), 2) from transfers group by id`)
	require.NoError(t, err)
	var id int64
	var n int
	_, err = pgx.ForEachRow(rows, []any{&id, &n}, func() error { there[id] = uint8(n); return nil })
	require.NoError(t, err)
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
	require.NoError(t, direct.QueryRow(t.Context(), `select sum(balance), (select count(*) from pg_stat_activity
		where datname = current_database() and pid <> pg_backend_pid() and state like 'idle in transaction%') from accounts`).Scan(&sum, &open))
	extra := runtime.NumGoroutine() - goroutines
	for deadline := time.Now().Add(20 * time.Second); extra > 0 && time.Now().Before(deadline); extra = runtime.NumGoroutine() - goroutines {
		runtime.Gosched() // pgx closes dead connections in the background
	}
	var memory runtime.MemStats
	runtime.ReadMemStats(&memory)

	for _, line := range []struct {
		what string
		n    any
	}{
		{"operations", len(s.told)}, {"messages hit", hits}, {"retries", s.retries.Load()},
		{"acknowledged", acknowledged}, {"lost", lost}, {"duplicated", duplicated},
		{"not applied, as told", int(s.refused.Load()) - falsely}, {"falsely told not applied", falsely},
		{"unresolved", s.unknown.Load()}, {"  of which applied", unresolvedApplied},
		{"sum of all balances", sum}, {"leaked connections", leaked}, {"leaked goroutines", max(0, extra)}, {"backends idle in transaction", open},
		{"heap, MB", memory.HeapAlloc >> 20}, {"seconds", int(elapsed.Seconds())}, {"operations a second", int(float64(len(s.told)) / elapsed.Seconds())},
	} {
		fmt.Printf("%-30s %10v\n", line.what, line.n)
	}
	if err := s.unexpected.Load(); err != nil {
		t.Errorf("an error that is neither NotApplied nor Unknown: %v", *err)
	}
	if lost+duplicated+falsely+int(leaked)+open+max(0, extra) > 0 || sum != 0 || s.once && s.unknown.Load() > 0 {
		t.Error("the table has what must be zero")
	}
}
