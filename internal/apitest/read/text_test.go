package read_test

import (
	"database/sql"
	"fmt"
	"testing"
	"unicode"

	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgtype/zeronull"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgcmd/pgcmd"
)

type label string

// scanned is a sql.Scanner of a user's.
type scanned struct{ got any }

func (s *scanned) Scan(value any) error {
	s.got = value
	if b, ok := value.([]byte); ok {
		s.got = append([]byte(nil), b...)
	}
	return nil
}

// texts wants one text of all ways, which PostgreSQL reads as the same value, or a refusal
// by name of all.
func texts[T any](t *testing.T, s *server, typ, statement string, text func(T) string) {
	t.Helper()
	var first string
	refused, begun := false, false
	for way, got := range read[value[T]](t, s, statement) {
		if got.err != nil {
			e := failure(t, got.err)
			require.Equal(t, pgcmd.CodeInternal, e.Code, "%s: %v", way, e)
			require.Equal(t, "v", e.Column, way)
			require.Contains(t, e.Message, fmt.Sprintf("(%T)", got.row.V), way)
			require.Contains(t, e.Message, "cast the column to text in the SQL", way)
			require.True(t, refused || !begun, "%s refuses what others read: %s into %T", way, statement, got.row.V)
			refused, begun = true, true
			continue
		}
		require.False(t, refused, "%s reads what others refuse: %s into %T: %q", way, statement, got.row.V, text(got.row.V))
		if !begun {
			first, begun = text(got.row.V), true
		}
		require.Equal(t, first, text(got.row.V), "%s: %s into %T", way, statement, got.row.V)
	}
	if refused {
		return
	}
	for _, r := range first {
		require.True(t, unicode.IsPrint(r), "%s into %T: %q", statement, *new(T), first)
	}
	if _, own := any(*new(T)).(scanned); own {
		return // it has what database/sql has
	}
	// What was read, read by PostgreSQL, is what was selected.
	var same bool
	require.NoError(t, s.pool.QueryRow(t.Context(), "select ($1::text)::"+typ+"::text = v::text from ("+statement+") q", first).Scan(&same), statement)
	assert.True(t, same, "%s into %T: %q", statement, *new(T), first)
}

func TestATextReadsTextOrIsRefused(t *testing.T) {
	t.Parallel()
	s := serverWith(t, `create type color as enum ('red'); create domain email as text; create domain small as int; create type pair as (a int, b text)`)
	for _, v := range [][2]string{{"int4range", "[1,5)"}, {"tstzrange", "[2024-01-01,)"}, {"int4multirange", "{[1,2)}"}, {"int4[]", "{1,2}"},
		{"text[]", "{a,NULL}"}, {"uuid[]", "{a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11}"}, {"xml", "<a>x &amp; y</a>"}, {"xml[]", "{<a>x</a>}"},
		{"json", `{"a": 1}`}, {"json", `"abc"`}, {"jsonb", `{"a": 1}`}, {"jsonb", `"abc"`}, {"uuid", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"},
		{"inet", "1.2.3.4"}, {"cidr", "1.2.3.0/24"}, {"interval", "1 day"}, {"point", "(1,2)"}, {"bit(3)", "101"}, {"varbit", "101"},
		{"tsvector", "a"}, {"color", "red"}, {"color[]", "{red}"}, {"email", "x"}, {"email[]", "{x}"}, {"small", "1"}, {"pair", "(1,x)"},
		{"bool", "t"}, {"int4", "1"}, {"float4", "1e20"}, {"float8", "1e-7"}, {"numeric", "1.50"}, {"numeric", "NaN"}, {"date", "2024-01-01"},
		{"time", "10:00"}, {"timetz", "10:00+02"}, {"timestamp", "2024-01-01"}, {"timestamptz", "infinity"}, {"bytea", `\xff00`},
		{`"char"`, "x"}, {"name", "x"}, {"money", "5"}, {"oid", "5"}, {"tid", "(0,1)"}, {"macaddr", "08:00:2b:01:02:03"}, {"pg_lsn", "1/2"},
		{"jsonpath", "$.a"}, {"regclass", "pg_class"}, {"circle", "<(0,0),1>"}, {"int2vector", "1 2"}} {
		t.Run(v[0], func(t *testing.T) {
			statement := "select '" + v[1] + "'::" + v[0] + " as v"
			texts[string](t, s, v[0], statement, func(v string) string { return v })
			texts[label](t, s, v[0], statement, func(v label) string { return string(v) })
			texts[*string](t, s, v[0], statement, func(v *string) string { return *v })
			texts[*label](t, s, v[0], statement, func(v *label) string { return string(*v) })
			texts[pgtype.Text](t, s, v[0], statement, func(v pgtype.Text) string { return v.String })
			texts[zeronull.Text](t, s, v[0], statement, func(v zeronull.Text) string { return string(v) })
			texts[sql.NullString](t, s, v[0], statement, func(v sql.NullString) string { return v.String })
			texts[sql.Null[string]](t, s, v[0], statement, func(v sql.Null[string]) string { return v.V })
			texts[*sql.NullString](t, s, v[0], statement, func(v *sql.NullString) string { return v.String })
			texts[scanned](t, s, v[0], statement, func(v scanned) string { return fmt.Sprint(v.got) })
		})
	}
	texts[scanned](t, s, "record", `select row(1, 'x') as v`, func(v scanned) string { return fmt.Sprint(v.got) })
}
