package main

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgcmd/pgcmd/pgcmdtest"
)

func TestEveryWayImportsEveryRow(t *testing.T) {
	var out strings.Builder
	require.NoError(t, run(t.Context(), &out, 12_345))
	for _, way := range []string{"a command a row", "Batch, Independent", "Batch, Atomic", "Copy"} {
		assert.Contains(t, out.String(), way)
	}
}

func TestTheCommandsFitTheTable(t *testing.T) {
	t.Parallel()
	pgcmdtest.VerifyOn(t, pgcmdtest.Pool(t, schema), add, load, total, forget)
}
