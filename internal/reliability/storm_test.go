package reliability_test

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"

	"github.com/pgcmd/pgcmd"
)

// storm is what keeps at it until it is done: conflicts do not draw on the pool's budget.
var storm = move.With(pgcmd.Options{Retry: pgcmd.Retry{Attempts: 100}})

// TestSerializationStorm lets all workers move money between four accounts. How many attempts that takes depends on how
// much the machine does at a time, so that it is shown, and held only to a bound that a policy without jitter breaks.
func TestSerializationStorm(t *testing.T) {
	transfers := 3200
	b := newBank(t, transfers, 0, nil)
	serializable := storm.With(pgcmd.Options{Tx: pgx.TxOptions{IsoLevel: pgx.Serializable}})
	b.work(t.Context(), 4, true, func(ctx context.Context, in transfer) pgcmd.Outcome[int64] {
		return serializable.Try(ctx, b.pool, in)
	})
	assert.Equal(t, transfers, b.check(t)[pgcmd.Applied], "gave up")
	t.Logf("%d transfers at SERIALIZABLE, %d workers, 4 rows: %.2f attempts each", transfers, workers, float64(b.tries.Load())/float64(transfers))
}

// TestDeadlockStorm takes the locks in any order.
func TestDeadlockStorm(t *testing.T) {
	transfers := 1000
	b := newBank(t, transfers, 0, func(config *pgxpool.Config) {
		config.ConnConfig.RuntimeParams["deadlock_timeout"] = "5ms"
	})
	start := time.Now()
	b.work(t.Context(), 8, false, func(ctx context.Context, in transfer) pgcmd.Outcome[int64] {
		return storm.Try(ctx, b.pool, in)
	})
	took := time.Since(start)
	assert.Equal(t, transfers, b.check(t)[pgcmd.Applied], "gave up")
	t.Logf("%d transfers in any order of locks, %d workers, 8 rows: %.2f attempts each, %v", transfers, workers, float64(b.tries.Load())/float64(transfers), took)
}
