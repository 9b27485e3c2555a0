package main

import (
	"bytes"
	"context"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgcmd/pgcmd"
	"github.com/pgcmd/pgcmd/pgcmdtest"
)

// The figures are the machine's; that both return the same is the example's.
func TestBothReadTheSame(t *testing.T) {
	pool, err := pgcmd.Connect(t.Context(), pgcmd.Config{URL: pgcmdtest.URL(t, schema)})
	require.NoError(t, err)
	defer pool.Close(context.Background())
	pgcmdtest.VerifyOn(t, pool, findUser)
	for _, id := range []int64{1, 500, 1000} {
		byCommand, err := findUser.Run(t.Context(), pool, id)
		require.NoError(t, err)
		byHand, err := findByHand(t.Context(), pool.Pool, id)
		require.NoError(t, err)
		assert.Equal(t, byHand, byCommand)
	}
	var out bytes.Buffer
	require.NoError(t, measure(t.Context(), &out, pool, 3, 5))
	assert.Contains(t, out.String(), "times as long (medians of 3 rounds of 5 reads)")
}
