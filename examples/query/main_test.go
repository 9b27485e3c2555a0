package main

import (
	"bytes"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgcmd/pgcmd"
	"github.com/pgcmd/pgcmd/pgcmdtest"
)

func TestAllWaysGiveTheSameRows(t *testing.T) {
	var out bytes.Buffer
	pool := pgcmdtest.Pool(t, schema)
	pgcmdtest.VerifyOn(t, pool, optional)
	for _, in := range inputs() {
		require.NoError(t, compare(t.Context(), pool, in, &out), "%+v", in)
	}
	assert.Equal(t, 48, strings.Count(out.String(), "4 ways"))
	assert.Contains(t, out.String(), "4 ways, 3 users: dan@example.org bob@example.com ada@example.com\n")
	assert.Contains(t, out.String(), "4 ways, 1 users: dan@example.org\n")
	assert.Contains(t, out.String(), "4 ways, 3 users: ada@example.com bob@example.com dan@example.org\n")

	for _, c := range commands {
		result, err := pgcmd.Batch(c, pgcmd.Independent).Run(t.Context(), pool, inputs())
		require.NoError(t, err)
		require.NoError(t, result.Err(), c.Name())
	}
}

func TestTheExampleRuns(t *testing.T) {
	var out bytes.Buffer
	require.NoError(t, run(t.Context(), &out))
	assert.Contains(t, out.String(), "Verify has checked the 48 variants")
	assert.Contains(t, out.String(), "Sort must be one of newest, email, or empty for the default [invalid, not applied]")
}
