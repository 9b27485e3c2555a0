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
		"the settings, as a log shows them: {[secret] MaxConns:8 MinConns:2 Replicas:0}",
		"wrong settings: invalid",
		"LockTimeout is negative: zero is its default",
		"MinConns is 9, more than MaxConns, which is 8",
		"URL leads off this machine without TLS that verifies the server: use sslmode=verify-full, or set AllowInsecure",
		"no connection could be made: is the server running, and is the address right? [unavailable, not applied]",
		"user 1 was created",
		"email is already registered [conflict, not applied, SQLSTATE 23505]",
		"a refused input: pgcmd: users.create: the input was refused",
		"the server's StatementTimeout: pgcmd: reports.slow: the server's statement_timeout passed [timeout, not applied, SQLSTATE 57014]",
		"the caller's deadline: code timeout, effect not_applied, errors.Is(err, context.DeadlineExceeded) = true",
		`GET /ready: 200 {"status":"up"`,
		"the server is stopped: down, ",
	} {
		assert.Contains(t, out.String(), want)
	}
	for _, secret := range []string{"a secret", "hunter2"} {
		assert.NotContains(t, out.String(), secret)
	}
}

func TestTheCommandsFitTheTable(t *testing.T) {
	t.Parallel()
	pgcmdtest.VerifyOn(t, pgcmdtest.Pool(t, schema), createUser, slow)
}
