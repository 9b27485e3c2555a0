package pgcmdotel_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/pgcmd/pgcmd"
	"github.com/pgcmd/pgcmd/pgcmdotel"
	"github.com/pgcmd/pgcmd/pgcmdtest"
)

func TestAPoolIsReported(t *testing.T) {
	t.Parallel()
	s := newTelemetry(t)
	pool := observed(t, s)
	unregister, err := pgcmdotel.RegisterPool(pool, s.options(pgcmdotel.WithPoolName("shop"), pgcmdotel.WithAttributes(attribute.String("tenant", "blue")))...)
	require.NoError(t, err)

	var first atomic.Bool
	retried := pgcmd.Transaction("users.retried", func(ctx context.Context, tx *pgcmd.Tx, _ struct{}) (int, error) {
		if !first.Swap(true) {
			_, err := tx.Exec(ctx, `do $$ begin raise exception using errcode = '40001'; end $$`)
			return 0, err
		}
		return 1, nil
	}).With(pgcmd.Options{Retry: pgcmd.Retry{Attempts: 3}})
	_, err = retried.Run(t.Context(), pool, struct{}{})
	require.NoError(t, err)
	assert.EqualValues(t, 2, attributesOf(s.one().Attributes)["pgcmd.attempts"])
	_, _ = find.Run(t.Context(), pool, findUser{"nobody"})
	_, _ = find.Run(t.Context(), pool, findUser{"carl@example.com"})

	held, err := pool.Acquire(t.Context())
	require.NoError(t, err)
	defer held.Release()
	numbers := func(name string) map[string]float64 {
		return s.numbers(name, "tenant", "db.client.connection.pool.name")
	}
	assert.Equal(t, map[string]float64{"db.client.connection.state=idle": 0, "db.client.connection.state=used": 1, "db.client.connection.state=constructing": 0},
		numbers("db.client.connection.count"))
	assert.Equal(t, map[string]float64{"": 4}, numbers("db.client.connection.max"))
	assert.Equal(t, map[string]float64{"": 0}, numbers("pgcmd.pool.resets"))
	assert.Equal(t, map[string]float64{"": float64(pool.Metrics().Pool.RetryTokens)}, numbers("pgcmd.pool.retry_tokens"))
	assert.Equal(t, map[string]float64{"": float64(pool.Metrics().Pool.Acquires)}, numbers("pgcmd.pool.acquires"))
	assert.Equal(t, map[string]float64{"": float64(pool.Metrics().Pool.EmptyAcquires)}, numbers("pgcmd.pool.waits"))
	assert.Equal(t, map[string]float64{"": pool.Metrics().Pool.Waited.Seconds()}, numbers("pgcmd.pool.wait_time"))
	assert.Equal(t, map[string]float64{"db.operation.name=users.find": 2, "db.operation.name=users.retried": 1}, numbers("pgcmd.command.runs"))
	assert.Equal(t, map[string]float64{"db.operation.name=users.find": 0, "db.operation.name=users.retried": 0}, numbers("pgcmd.command.in_flight"))
	assert.Equal(t, map[string]float64{"db.operation.name=users.find": 0, "db.operation.name=users.retried": 1}, numbers("pgcmd.command.retries"))
	assert.Equal(t, map[string]float64{"db.operation.name=users.find,pgcmd.code=invalid": 1, "db.operation.name=users.find,pgcmd.code=not_found": 1},
		numbers("pgcmd.command.errors"))
	assert.Equal(t, map[string]float64{"db.client.connection.pool.name=shop,tenant=blue": 4}, s.numbers("db.client.connection.max"))

	require.NoError(t, unregister())
	var all metricdata.ResourceMetrics
	require.NoError(t, s.reader.Collect(t.Context(), &all))
	for _, scope := range all.ScopeMetrics {
		for _, m := range scope.Metrics {
			assert.Equal(t, "db.client.operation.duration", m.Name)
		}
	}
}

func TestAClosedPoolCanBeRead(t *testing.T) {
	t.Parallel()
	s := newTelemetry(t)
	pool, err := pgcmd.Connect(t.Context(), pgcmd.Config{URL: pgcmdtest.URL(t), RetryBudget: -1})
	require.NoError(t, err)
	_, err = pgcmdotel.RegisterPool(pool, s.options()...)
	require.NoError(t, err)
	c := pool.Config().ConnConfig
	require.NoError(t, pool.Close(t.Context()))
	name := fmt.Sprintf("%s/.s.PGSQL.%d/%s", c.Host, c.Port, c.Database)
	assert.Contains(t, s.numbers("db.client.connection.max"), "db.client.connection.pool.name="+name)
	var all metricdata.ResourceMetrics
	require.NoError(t, s.reader.Collect(t.Context(), &all))
	for _, m := range all.ScopeMetrics[0].Metrics {
		assert.NotEqual(t, "pgcmd.pool.retry_tokens", m.Name, "it has no limit")
	}
}

func TestReplicasAreReported(t *testing.T) {
	t.Parallel()
	primary, err := pgcmdtest.Start(t.Context())
	require.NoError(t, err)
	defer primary.Close()
	standby, err := primary.Standby(t.Context())
	require.NoError(t, err)
	defer standby.Close()
	require.NoError(t, standby.CatchUp(t.Context()))
	s := newTelemetry(t)
	pool := connect(t, pgcmd.Config{URL: primary.URL(), Replicas: []string{standby.URL()}})
	_, err = pgcmdotel.RegisterPool(pool, s.options(pgcmdotel.WithPoolName("shop"))...)
	require.NoError(t, err)

	fit := func() float64 {
		return s.numbers("pgcmd.replica.fit")["db.client.connection.pool.name=shop,pgcmd.replica=0"]
	}
	require.Eventually(t, func() bool { return fit() == 1 }, 10*time.Second, 50*time.Millisecond)
	assert.Len(t, s.numbers("pgcmd.replica.lag"), 1)
	assert.Contains(t, s.numbers("db.client.connection.count"), `db.client.connection.pool.name=shop replica 0,db.client.connection.state=idle`)
	require.NoError(t, standby.Stop(t.Context(), pgcmdtest.Immediate))
	require.Eventually(t, func() bool { return fit() == 0 }, 10*time.Second, 50*time.Millisecond)
}

func TestAPoolHasToBeThere(t *testing.T) {
	t.Parallel()
	_, err := pgcmdotel.RegisterPool(nil)
	require.Error(t, err)
	_, err = pgcmdotel.RegisterPool(new(pgcmd.Pool))
	require.Error(t, err)
}
