package types_test

import (
	"context"
	"database/sql/driver"
	"errors"
	"flag"
	"fmt"
	"os"
	"reflect"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgtype"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgcmd/pgcmd"
	"github.com/pgcmd/pgcmd/pgcmdtest"
)

var update = flag.Bool("update", false, "write the table of docs/types.md")

const page = "../../../docs/types.md"

// A cube has methods that say how it is sent and read, as the types of pgvector-go have.
type cube []float64

func (c cube) Value() (driver.Value, error) {
	parts := make([]string, len(c))
	for i, f := range c {
		parts[i] = strconv.FormatFloat(f, 'g', -1, 64)
	}
	return "(" + strings.Join(parts, ",") + ")", nil
}

func (c *cube) Scan(src any) error {
	text, ok := src.(string)
	if !ok {
		return errors.New("not a text")
	}
	*c = nil
	for part := range strings.SplitSeq(strings.Trim(text, "()"), ",") {
		f, err := strconv.ParseFloat(strings.TrimSpace(part), 64)
		if err != nil {
			return err
		}
		*c = append(*c, f)
	}
	return nil
}

// A need is a Go type for a type of the database.
type need struct {
	kind, typ, goType string
	try               func(ctx context.Context, db pgcmd.DB) error
}

// needs makes a need that sends v and reads it.
func needs[T any](kind, typ, goType string, v T) need {
	return need{kind, typ, goType, func(ctx context.Context, db pgcmd.DB) error {
		got, err := pgcmd.QueryOne[value[T], value[T]]("echo", "select @v::"+typ+" as v").Run(ctx, db, value[T]{v})
		if err == nil && !reflect.DeepEqual(got.V, v) {
			return fmt.Errorf("read %v", got.V)
		}
		return err
	}}
}

func allNeeds() []need {
	ranged := pgtype.Range[mood]{Lower: "sad", Upper: "happy", LowerType: pgtype.Inclusive, UpperType: pgtype.Exclusive, Valid: true}
	text := "1"
	return []need{
		needs("an enum", "mood", "`string`", "sad"),
		needs("an enum", "mood", "a type of string, `type Mood string`", mood("sad")),
		needs("an array of enums", "mood[]", "`[]string`", []string{"sad"}),
		needs("an array of enums", "mood[]", "a slice of one, `[]Mood`", []mood{"sad"}),
		needs("a domain", "cents", "as its base, here `int64`", int64(7)),
		needs("an array of domains", "cents[]", "as its base, here `[]int64`", []int64{7}),
		needs("a composite", "point3", "a struct, or a pointer to one", point3{1, 2, 3}),
		needs("an array of composites", "point3[]", "a slice of structs", []point3{{1, 2, 3}}),
		needs("a range of the database", "mood_range", "`pgtype.Range`", ranged),
		needs("`citext`", "citext", "`string`", "Ada"),
		needs("`citext`", "citext", "a type of string, `type Mood string`", mood("Ada")),
		needs("`citext[]`", "citext[]", "`[]string`", []string{"Ada"}),
		needs("`citext[]`", "citext[]", "a slice of one, `[]Mood`", []mood{"Ada"}),
		needs("`ltree`", "ltree", "`string`", "top.arts"),
		needs("`ltree[]`", "ltree[]", "`[]string`", []string{"top.arts"}),
		needs("`hstore`", "hstore", "`pgtype.Hstore`", pgtype.Hstore{"a": &text, "b": nil}),
		needs("`hstore`", "hstore", "`map[string]*string`", map[string]*string{"a": &text}),
		needs("`hstore`", "hstore", "`map[string]string`", map[string]string{"a": text}),
		needs("`hstore[]`", "hstore[]", "`[]pgtype.Hstore`", []pgtype.Hstore{{"a": &text}}),
		needs("another type of an extension (`cube`, `vector`)", "cube", "a type with `Value` and `Scan`", cube{1, 2}),
		needs("another type of an extension (`cube`, `vector`)", "cube", "`string`", "(1, 2)"),
		needs("an array of those", "cube[]", "a slice of types with `Value` and `Scan`", []cube{{1, 2}}),
		needs("an array of those", "cube[]", "`[]string`", []string{"(1, 2)"}),
	}
}

func TestThePageSaysWhatNeedsToBeLoaded(t *testing.T) {
	t.Parallel()
	ddl := []string{schema, `create extension cube`}
	without := pgcmdtest.Connect(t, pgcmd.Config{}, ddl...)
	loaded := pgcmdtest.Connect(t, pgcmd.Config{Types: append([]string{"citext", "cube"}, every...)}, ddl...)
	lines := []string{"| PostgreSQL | Go | needs |", "|---|---|---|"}
	for _, n := range allNeeds() {
		bare, full := n.try(t.Context(), without), n.try(t.Context(), loaded)
		needs := ""
		switch {
		case full != nil && bare == nil:
			needs = "not loaded"
			assert.Fail(t, "to load a type breaks it", "%v", full)
		case full != nil:
			needs = "refused"
			assert.Equal(t, pgcmd.CodeInternal, pgcmd.CodeOf(full), "%s by %s: %v", n.typ, n.goType, full)
		case bare != nil:
			needs = "`Types`"
			assert.ErrorContains(t, bare, "Config.Types", "%s by %s", n.typ, n.goType)
		}
		lines = append(lines, fmt.Sprintf("| %s | %s | %s |", n.kind, n.goType, needs))
	}
	inPage(t, "needs", strings.Join(lines, "\n"))
}

// inPage wants a generated part of the page to be what it is now.
func inPage(t *testing.T, name, want string) {
	t.Helper()
	text, err := os.ReadFile(page)
	require.NoError(t, err)
	begin, end := "<!-- "+name+" -->\n", "\n<!-- end -->"
	before, rest, ok := strings.Cut(string(text), begin)
	require.True(t, ok, "%s has no %s", page, begin)
	has, after, ok := strings.Cut(rest, end)
	require.True(t, ok)
	if *update {
		require.NoError(t, os.WriteFile(page, []byte(before+begin+want+end+after), 0o644))
		return
	}
	assert.Equal(t, want, has, "go test -update writes the table anew, if the change is meant")
}
