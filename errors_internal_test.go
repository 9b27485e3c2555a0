package pgcmd

import (
	"bufio"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgcmd/pgcmd/internal/sqlstate"
)

func codeOfState(state string) Code {
	code, _ := sqlstate.Lookup(state)
	return Code(code)
}

// The table of sqlstate has the codes as strings.
func TestTheTableOfSQLSTATEsHasOnlyKnownCodes(t *testing.T) {
	t.Parallel()
	all := []Code{CodeInvalid, CodeNotFound, CodeTooManyRows, CodeConflict, CodeAborted, CodeTimeout,
		CodeCanceled, CodeUnavailable, CodeExhausted, CodePermission, CodeUnknownEffect, CodeSkipped, CodeNestedAcquire, CodeFailed, CodeInternal}
	file, err := os.Open("internal/sqlstate/sqlstate.txt")
	require.NoError(t, err)
	defer file.Close()
	n := 0
	for scanner := bufio.NewScanner(file); scanner.Scan(); n++ {
		state := strings.Fields(scanner.Text())[0]
		assert.Contains(t, all, codeOfState(state), state)
	}
	assert.Greater(t, n, 250)
}

func TestTheCodesOfSQLSTATEs(t *testing.T) {
	t.Parallel()
	for state, code := range map[string]Code{
		"22001": CodeInvalid, "22P02": CodeInvalid, "22003": CodeInvalid, "23502": CodeInvalid, "23514": CodeInvalid,
		"23505": CodeConflict, "23503": CodeConflict, "23P01": CodeConflict,
		"40001": CodeAborted, "40P01": CodeAborted, "55P03": CodeAborted,
		"57014": CodeTimeout, "25P03": CodeTimeout,
		"57P01": CodeUnavailable, "57P02": CodeUnavailable, "57P03": CodeUnavailable, "53300": CodeUnavailable,
		"25006": CodeUnavailable, "08006": CodeUnavailable,
		"53100": CodeExhausted, "53200": CodeExhausted,
		"42501": CodePermission, "28000": CodePermission, "28P01": CodePermission,
		"40003": CodeUnknownEffect, "08007": CodeUnknownEffect,
		"42601": CodeInternal, "42P01": CodeInternal, "XX000": CodeInternal,
		"P0001": CodeFailed,
		"MY001": CodeFailed,   // a RAISE with its own class
		"22ZZZ": CodeInvalid,  // not listed: the code of its class
		"42ZZZ": CodeInternal, // not listed: the code of its class
	} {
		assert.Equal(t, code, codeOfState(state), state)
	}
}
