package sqlstate

import (
	"bufio"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The lists are src/backend/utils/errcodes.txt of PostgreSQL, as its packages ship them.
func TestEverySQLSTATEOfPostgreSQLIsInTheTableOnce(t *testing.T) {
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

	all := conditions()
	for state, name := range listed {
		c, ok := all[state]
		assert.True(t, ok, "%s has no line in sqlstate.txt", state)
		if name != "" {
			assert.Equal(t, name, c.name, state)
		}
	}
	for state := range all {
		assert.Contains(t, listed, state, "sqlstate.txt has a state that PostgreSQL does not list")
	}
	lines := regexp.MustCompile(`(?m)^\S{5} `).FindAllString(table, -1)
	assert.Len(t, all, len(lines), "a state is in sqlstate.txt twice")
}

func TestWhichErrorsInvalidateAStatement(t *testing.T) {
	t.Parallel()
	unrelated := map[string]bool{"25P02": true, "40001": true, "40P01": true, "57014": true, "P0001": true, "P0002": true, "P0003": true, "P0004": true}
	n := 0
	for line := range strings.Lines(table) {
		state := strings.Fields(line)[0]
		n++
		want := !unrelated[state]
		switch state[:2] {
		case "22":
			want = state == "22P02" || state == "22P03" || state == "22021"
		case "23":
			want = false
		}
		assert.Equal(t, want, InvalidatesStatement(state), state)
	}
	assert.Greater(t, n, 200)
	for _, unlisted := range []string{"", "42", "APP01", "0A001"} {
		assert.True(t, InvalidatesStatement(unlisted), unlisted)
	}
}

func TestWhichErrorsAreAboutTheStatement(t *testing.T) {
	for _, state := range []string{"42601", "42P01", "0A000", "22P02", "XX000", "42501"} {
		assert.True(t, IsOfStatement(state), state)
	}
	for _, state := range []string{"57014", "55P03", "57P01", "08006", "53200", "53300", "40P01"} {
		assert.False(t, IsOfStatement(state), state)
	}
}

func TestWhichErrorsProveThatAStatementIsOutdated(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		err  pgconn.PgError
		want bool
	}{
		"found in the text":                       {pgconn.PgError{Code: "42883", Position: 8}, true},
		"found in the text of a function":         {pgconn.PgError{Code: "42P01", InternalPosition: 8, Where: "PL/pgSQL function"}, false},
		"a missing privilege":                     {pgconn.PgError{Code: "42501"}, false},
		"another result type":                     {pgconn.PgError{Code: "0A000", Routine: "RevalidateCachedQuery"}, true},
		"an unsupported feature":                  {pgconn.PgError{Code: "0A000", Routine: "other"}, false},
		"a dropped type":                          {pgconn.PgError{Code: "XX000", Message: "cache lookup failed for type 16644"}, true},
		"a dropped type, found by the type cache": {pgconn.PgError{Code: "42704", Routine: "lookup_type_cache"}, true},
		"an internal error":                       {pgconn.PgError{Code: "XX000", Message: "tuple concurrently updated"}, false},
		"another number of columns":               {pgconn.PgError{Code: "08P01", Routine: "PortalSetResultFormat"}, true},
		"a pooler":                                {pgconn.PgError{Code: "08P01", Message: "server conn crashed?"}, false},
		"a constraint":                            {pgconn.PgError{Code: "23505"}, false},
		"a FATAL":                                 {pgconn.PgError{Code: "42883", Position: 8, Severity: "FATAL"}, false},
	} {
		if c.err.Severity == "" {
			c.err.Severity = "ERROR"
		}
		assert.Equal(t, c.want, ProvesOutdated(&c.err), name)
	}
	assert.False(t, ProvesOutdated(nil))
	assert.False(t, ProvesOutdated(assert.AnError))
}
