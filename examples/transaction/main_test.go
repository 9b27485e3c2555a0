package main

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgcmd/pgcmd"
	"github.com/pgcmd/pgcmd/pgcmdtest"
)

func TestTheExampleTellsWhatItClaims(t *testing.T) {
	var out bytes.Buffer
	require.NoError(t, run(t.Context(), &out))
	for _, want := range []string{
		"64 serializable transfers by 8 goroutines: all applied,", "64 messages sent",
		"errors.Is(err, ErrFunds) = true",
		"pgcmd: bank.transfer > accounts.debit: insufficient funds [invalid, not applied, SQLSTATE 23514]",
		"pgcmd: bank.careless: the body swallowed the error that aborted the transaction",
		"COMMIT was sent, and no reply came: it may or may not be applied [unknown_effect, effect unknown]",
		"the same with Once: ok = true after 2 attempts, replayed = false",
		"and asked again: ok = true, replayed = true",
		"money in the bank: 400, as at the start",
	} {
		assert.Contains(t, out.String(), want)
	}
}

func TestTheCommandsFitTheTables(t *testing.T) {
	t.Parallel()
	pgcmdtest.VerifyOn(t, pgcmdtest.Pool(t, schema, pgcmd.OnceSchema), debit, credit, note, transferOnce, swallow)
}
