package pgcmd

import (
	"bufio"
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var everyCode = []Code{CodeInvalid, CodeNotFound, CodeTooManyRows, CodeConflict, CodeAborted, CodeTimeout,
	CodeCanceled, CodeUnavailable, CodeExhausted, CodePermission, CodeUnknownEffect, CodeSkipped, CodeNestedAcquire, CodeFailed, CodeInternal}

// The lists are src/backend/utils/errcodes.txt of PostgreSQL, as its packages ship them.
func TestEverySQLSTATEOfPostgreSQLHasExactlyOneCode(t *testing.T) {
	t.Parallel()
	lists, err := filepath.Glob("testdata/errcodes-*.txt")
	require.NoError(t, err)
	require.NotEmpty(t, lists)
	listed := map[string]string{}
	line := regexp.MustCompile(`^([0-9A-Z]{5})\s+[SWE]\s+ERRCODE_\S+(?:\s+(\S+))?`)
	for _, list := range lists {
		file, err := os.Open(list)
		require.NoError(t, err)
		defer file.Close()
		for scanner := bufio.NewScanner(file); scanner.Scan(); {
			if m := line.FindStringSubmatch(scanner.Text()); m != nil && (listed[m[1]] == "" || m[2] != "") {
				listed[m[1]] = m[2]
			}
		}
	}
	require.Greater(t, len(listed), 250)

	table := conditions()
	for state, name := range listed {
		c, ok := table[state]
		assert.True(t, ok, "%s has no line in sqlstate.txt", state)
		assert.Contains(t, everyCode, c.code, state)
		if name != "" {
			assert.Equal(t, name, c.name, state)
		}
	}
	for state := range table {
		assert.Contains(t, listed, state, "sqlstate.txt has a state that PostgreSQL does not list")
	}
	lines := regexp.MustCompile(`(?m)^\S{5} `).FindAllString(sqlstates, -1)
	assert.Len(t, table, len(lines), "a state stands in sqlstate.txt twice")
}

func TestTheCodesOfTheDesign(t *testing.T) {
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
		"MY001": CodeFailed,   // a RAISE with a class of its own
		"22ZZZ": CodeInvalid,  // not listed: as its class
		"42ZZZ": CodeInternal, // not listed: as its class
	} {
		assert.Equal(t, code, conditionOf(state).code, state)
	}
}
