package pgcmd_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgcmd/pgcmd"
	"github.com/pgcmd/pgcmd/pgcmdtest"
)

// shared is a pool that shares so many connections.
func shared(t testing.TB, url string, lanes int, change ...func(*pgcmd.Config)) *pgcmd.Pool {
	t.Helper()
	cfg := pgcmd.Config{URL: url, MaxConns: 4, Multiplex: lanes}
	for _, f := range change {
		f(&cfg)
	}
	pool, err := pgcmd.Connect(context.Background(), cfg)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, pool.Close(context.Background())) })
	return pool
}

type echoed struct {
	N    int64
	Text string
	Pid  int32
}

var readOnly = pgcmd.Options{ReadOnly: true}

var echoShared = pgcmd.QueryOne[int64, echoed]("shared.echoShared", `select $1::int8 as n, 'n' || $1::int8 as text, pg_backend_pid() as pid`).With(readOnly)

func TestReadsTravelOnSharedConnections(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	pool := shared(t, pgcmdtest.URL(t), 2)
	before := pool.Stat().AcquireCount()
	for n := range int64(100) {
		got, err := echoShared.Run(ctx, pool, n)
		require.NoError(t, err)
		assert.Equal(t, n, got.N)
	}
	assert.Equal(t, before, pool.Stat().AcquireCount())
	assert.EqualValues(t, 100, pool.Metrics().Pool.Shared.Reads)
}
