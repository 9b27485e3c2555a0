package pgcmd_test

import (
	"context"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"

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
				o := pgcmd.Try(context.Background(), pool, command, input())
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
