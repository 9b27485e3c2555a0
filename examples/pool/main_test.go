package main

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgcmd/pgcmd/pgcmdtest"
)

func TestTheExampleTellsWhatItClaims(t *testing.T) {
	var out bytes.Buffer
	require.NoError(t, run(t.Context(), &out))
	for _, want := range []string{
		"400 orders by 32 callers on 8 connections: 400 applied, 0 not applied, 0 unknown",
		"after all idle backends but one were killed: ",
		"all connections fall silent, and the callers give up: 0 applied,",
		"new connections work again: 400 applied, 0 not applied, 0 unknown",
		"orders that are there twice: 0",
		"the pool: 0 of 8 connections in use",
		"orders.place: 5608 runs",
		"the latest failure: orders.place: ",
	} {
		assert.Contains(t, out.String(), want)
	}
}

func TestTheCommandsFitTheTable(t *testing.T) {
	t.Parallel()
	pgcmdtest.VerifyOn(t, pgcmdtest.Pool(t, schema), place, placed)
}
