package pgcmd_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/pgcmd/pgcmd"
	"github.com/pgcmd/pgcmd/pgcmdtest"
)

// storm runs a command so often from each of 32 goroutines, and returns the attempts
// an operation took.
func storm[In, Out any](t *testing.T, pool *pgcmd.Pool, each int, command *pgcmd.Command[In, Out], input func() In) float64 {
	var tries atomic.Int64
	var wg sync.WaitGroup
	for range 32 {
		wg.Go(func() {
			for range each {
				o := command.Try(context.Background(), pool, input())
				assert.NoError(t, o.Err)
				tries.Add(int64(o.Attempts))
			}
		})
	}
	wg.Wait()
	return float64(tries.Load()) / float64(32*each)
}

func TestSerializationStorm(t *testing.T) {
	t.Parallel()
	pool := connect(t, pgcmdtest.Pool(t, accountsDDL), 32)
	// Read, decide, write: the race that only SERIALIZABLE sees.
	increment := pgcmd.Transaction("counter.increment", func(ctx context.Context, tx *pgcmd.Tx, id int) (int64, error) {
		var balance int64
		if err := tx.QueryRow(ctx, `select balance from accounts where id = $1`, id).Scan(&balance); err != nil {
			return 0, err
		}
		_, err := tx.Exec(ctx, `update accounts set balance = $1 where id = $2`, balance+1, id)
		return balance + 1, err
	}).With(pgcmd.Options{Tx: pgx.TxOptions{IsoLevel: pgx.Serializable}, Retry: pgcmd.Retry{Attempts: 50}})
	attempts := storm(t, pool, 100, increment, func() int { return 1 + rand.N(4) })
	assert.Equal(t, 400+3200, count(t, pool, `select sum(balance) from accounts where id <= 4`))
	t.Logf("serialization storm, 32 workers on 4 rows: %.2f attempts an operation", attempts)
}

func TestDeadlockStorm(t *testing.T) {
	t.Parallel()
	pool := connect(t, pgcmdtest.Pool(t, accountsDDL, `update accounts set balance = 1000000`), 32)
	quick := pgcmd.Transaction("bank.transfer", func(ctx context.Context, tx *pgcmd.Tx, in transfer) (int64, error) {
		if _, err := tx.Exec(ctx, `set local deadlock_timeout = '5ms'`); err != nil {
			return 0, err
		}
		return move2.Run(ctx, tx, in)
	}).With(pgcmd.Options{Retry: pgcmd.Retry{Attempts: 100}})
	attempts := storm(t, pool, 20, quick, func() transfer {
		from := rand.Int64N(3)
		return transfer{From: from + 1, To: (from+1)%3 + 1, Amount: rand.Int64N(9) + 1}
	})
	assert.Equal(t, 10_000_000, count(t, pool, `select sum(balance) from accounts`))
	t.Logf("deadlock storm, 32 workers on 3 rows in opposite order: %.2f attempts an operation", attempts)
}

// Whatever goes wrong at whatever stage leaves no connection, no goroutine and no
// open transaction. PGCMD_FAULTS=all runs it 10,000 times.
func TestNothingIsLeft(t *testing.T) {
	runs := 1000
	if os.Getenv("PGCMD_FAULTS") == "all" {
		runs = 10_000
	}
	direct := pgcmdtest.Pool(t, accountsDDL)
	before := goleak.IgnoreCurrent()
	pool, err := pgcmd.Connect(t.Context(), pgcmd.Config{URL: direct.Config().ConnString(), MaxConns: 8})
	require.NoError(t, err)
	ways := []func(cancel func()) error{
		func(func()) error { return nil },
		func(func()) error { return errHook },
		func(func()) error { panic("on purpose") },
		func(func()) error { runtime.Goexit(); return nil },
		func(cancel func()) error { cancel(); return nil },
	}
	// At every stage, in every way, on every kind of command.
	var wg sync.WaitGroup
	jobs := make(chan int)
	work := func(i int) {
		defer func() { _ = recover() }()
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		stage, way := i%6, ways[i/6%len(ways)]
		at := func(n int) error {
			if n == stage {
				return way(cancel)
			}
			return nil
		}
		cmd := pgcmd.Transaction("x", func(ctx context.Context, tx *pgcmd.Tx, in transfer) (int64, error) {
			if i%4 == 0 {
				tx.AfterCommit(func(context.Context) { _ = at(5) })
			}
			if _, err := debit.Run(ctx, tx, in); err != nil {
				return 0, err
			}
			if i%3 == 0 { // rows that stay open
				rows, err := tx.Query(ctx, `select generate_series(1, 2000)`)
				if err != nil {
					return 0, err
				}
				rows.Next()
				if err := at(1); err != nil {
					return 0, err
				}
				rows.Close()
			}
			return 1, errors.Join(at(1), pay.Try(ctx, tx, transfer{To: in.To, Amount: -1_000_000}).Err)
		}).
			Before(func(context.Context, *transfer) error { return at(0) }).
			After(func(context.Context, transfer, *int64) error { return at(2) }).
			OnError(func(context.Context, transfer, error) error { return at(3) }).
			Cleanup(func(context.Context, transfer) { _ = at(4) })
		_, _ = cmd.Run(ctx, pool, transfer{From: int64(i%10) + 1, To: 1, Amount: 0})
	}
	for range 8 {
		wg.Go(func() {
			for i := range jobs {
				done := make(chan struct{}) // Goexit must not end the worker
				go func() { defer close(done); work(i) }()
				<-done
			}
		})
	}
	for i := range runs {
		jobs <- i
	}
	close(jobs)
	wg.Wait()
	idle(t, pool.Pool)
	assert.Eventually(t, func() bool {
		return count(t, direct, `select count(*) from pg_stat_activity where datname = current_database() and state like 'idle in transaction%'`) == 0
	}, 10*time.Second, time.Millisecond)
	require.NoError(t, pool.Close(t.Context()))
	goleak.VerifyNone(t, before)
	assert.Equal(t, 1000, count(t, direct, `select sum(balance) from accounts`))
}
