package pgcmd

import (
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/assert"
)

func TestWhichErrorsMayMeanThatADescriptionIsOutOfDate(t *testing.T) {
	t.Parallel()
	unrelated := map[string]bool{"25P02": true, "40001": true, "40P01": true, "57014": true, "P0001": true, "P0002": true, "P0003": true, "P0004": true}
	n := 0
	for line := range strings.Lines(sqlstates) {
		state := strings.Fields(line)[0]
		n++
		want := !unrelated[state]
		switch state[:2] {
		case "22":
			want = state == "22P02" || state == "22P03" || state == "22021"
		case "23":
			want = false
		}
		assert.Equal(t, want, invalidates(state), state)
	}
	assert.Greater(t, n, 200)
	for _, unlisted := range []string{"", "42", "APP01", "0A001"} {
		assert.True(t, invalidates(unlisted), unlisted)
	}
}

func TestWhichErrorsProveThatADescriptionIsOutOfDate(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		err  pgconn.PgError
		want bool
	}{
		"found in the text":                    {pgconn.PgError{Code: "42883", Position: 8}, true},
		"found in the text of a function":      {pgconn.PgError{Code: "42P01", InternalPosition: 8, Where: "PL/pgSQL function"}, false},
		"a right that is missing":              {pgconn.PgError{Code: "42501"}, false},
		"another result type":                  {pgconn.PgError{Code: "0A000", Routine: "RevalidateCachedQuery"}, true},
		"what PostgreSQL does not support":     {pgconn.PgError{Code: "0A000", Routine: "other"}, false},
		"a type that is no more":               {pgconn.PgError{Code: "XX000", Message: "cache lookup failed for type 16644"}, true},
		"a type that is no more, by its cache": {pgconn.PgError{Code: "42704", Routine: "lookup_type_cache"}, true},
		"an internal error":                    {pgconn.PgError{Code: "XX000", Message: "tuple concurrently updated"}, false},
		"another number of columns":            {pgconn.PgError{Code: "08P01", Routine: "PortalSetResultFormat"}, true},
		"a pooler":                             {pgconn.PgError{Code: "08P01", Message: "server conn crashed?"}, false},
		"a constraint":                         {pgconn.PgError{Code: "23505"}, false},
		"a FATAL":                              {pgconn.PgError{Code: "42883", Position: 8, Severity: "FATAL"}, false},
	} {
		if c.err.Severity == "" {
			c.err.Severity = "ERROR"
		}
		assert.Equal(t, c.want, provesOutdated(&c.err), name)
	}
	assert.False(t, provesOutdated(nil))
	assert.False(t, provesOutdated(assert.AnError))
}

func TestAConnectionInvalidatesWhatOthersFoundOutdated(t *testing.T) {
	t.Parallel()
	s := newStaleStatements()
	one, two := &netConn{stale: s}, &netConn{stale: s}
	s.add("a", one)
	assert.True(t, one.upToDate(), "its own is invalidated already")
	assert.False(t, two.upToDate())
	s.add("a", two)
	assert.EqualValues(t, 1, s.count.Load(), "two had missed it: nothing new")
	list, count, ok := s.since(two.seen)
	assert.Equal(t, []string{"a"}, list)
	assert.EqualValues(t, 1, count)
	assert.True(t, ok)
	for i := range maxStatements {
		s.add(strings.Repeat("b", i+1), nil)
	}
	_, _, ok = s.since(two.seen)
	assert.False(t, ok, "too many: some were dropped")
	list, count, ok = s.since(s.count.Load())
	assert.Empty(t, list)
	assert.EqualValues(t, 1+maxStatements, count)
	assert.True(t, ok)
}
