package matrix_test

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const page = "../../../docs/types.md"

// A fit is what the matrix says of the Go types for a type of PostgreSQL.
type fit struct {
	typ    string
	values []string // what is sent and read
	arrays []string
	text   [2]string // whether a string is sent, and read
	texts  bool      // a []string is
}

// unlisted are Go types that the page leaves out: they are of the test, or go where another one goes.
var unlisted = regexp.MustCompile(`^(\[\])?(\*|sql\.Null|named|blob|pgtype\.(Text|Bool|Int2|Int4|Int8|Float4|Float8|Timestamp|Timestamptz|FlatArray|Array|Uint32|Uint64)\b|string$)`)

// called are what the page calls the types of the test.
var called = strings.NewReplacer("id", "a UUID type with `Value` and `Scan`", "decimal", "a decimal type with `Value` and `Scan`", "doc", "a struct")

// fits reads the matrix.
func fits(t *testing.T) (all []*fit) {
	t.Helper()
	text, err := os.ReadFile(goldenFile)
	require.NoError(t, err)
	for _, line := range strings.Split(strings.TrimSpace(string(text)), "\n")[2:] {
		cells := strings.Split(strings.Trim(line, "| "), " | ")
		require.Len(t, cells, 4, line)
		typ, array := strings.CutSuffix(strings.TrimSuffix(cells[0], " (NULL)"), "[]")
		typ = regexp.MustCompile(`\(\d+\)`).ReplaceAllString(typ, "")
		goType, sent, read := strings.Trim(cells[1], "`"), strings.HasPrefix(cells[2], "yes"), strings.HasPrefix(cells[3], "yes")
		i := slices.IndexFunc(all, func(f *fit) bool { return f.typ == typ })
		if i < 0 {
			i, all = len(all), append(all, &fit{typ: typ})
		}
		f := all[i]
		switch {
		case goType == "string" && !array:
			f.text = [2]string{cells[2], cells[3]}
		case goType == "[]string" && !strings.HasSuffix(cells[0], "(NULL)"):
			f.texts = sent && read
		case strings.TrimPrefix(goType, "[]") == "decimal" && typ != "numeric": // a text with methods
			continue
		}
		list := &f.values
		if array {
			list = &f.arrays
		}
		if name := shownType(goType); sent && read && !unlisted.MatchString(goType) && !slices.Contains(*list, name) {
			*list = append(*list, name)
		}
	}
	return all
}

func shownType(goType string) string {
	elem, array := strings.CutPrefix(goType, "[]")
	switch elem {
	case "id", "decimal", "doc":
		if array {
			return "a slice of those"
		}
		return called.Replace(elem)
	}
	return "`" + strings.ReplaceAll(goType, "github.com/jackc/pgx/v5/", "") + "`"
}

// The table of the page is the matrix, which TestAValueIsTheSameByEveryWay holds true.
func TestThePageHoldsTheMatrix(t *testing.T) {
	t.Parallel()
	lines := []string{"| PostgreSQL | Go | an array | as a `string` |", "|---|---|---|---|"}
	for _, f := range fits(t) {
		text := "yes"
		switch {
		case !strings.HasPrefix(f.text[0], "yes"):
			text = "no"
			if strings.HasPrefix(f.text[1], "yes") {
				text = "read only"
			}
		case !strings.HasPrefix(f.text[1], "yes"):
			text = "sent only"
		}
		if text == "yes" && !slices.ContainsFunc(f.values, func(v string) bool { return v != "`[]byte`" }) {
			f.values = append([]string{"`string`"}, f.values...)
		}
		require.NotEmpty(t, f.values, "%s has no Go type", f.typ)
		if len(f.arrays) == 0 && f.texts {
			f.arrays = []string{"`[]string`"}
		}
		says := fmt.Sprintf(" | %s | %s | %s |", strings.Join(f.values, ", "), strings.Join(f.arrays, ", "), text)
		if last := lines[len(lines)-1]; strings.HasSuffix(last, "`"+says) { // as the one before
			lines[len(lines)-1] = strings.TrimSuffix(last, says) + ", `" + f.typ + "`" + says
		} else {
			lines = append(lines, "| `"+f.typ+"`"+says)
		}
	}
	text, err := os.ReadFile(page)
	require.NoError(t, err)
	const begin, end = "<!-- matrix -->\n", "\n<!-- end -->"
	before, rest, ok := strings.Cut(string(text), begin)
	require.True(t, ok)
	has, after, ok := strings.Cut(rest, end)
	require.True(t, ok)
	want := strings.Join(lines, "\n")
	if *update {
		require.NoError(t, os.WriteFile(page, []byte(before+begin+want+end+after), 0o644))
		return
	}
	assert.Equal(t, want, has, "go test -run ThePage -update writes the table anew, if the change is meant")
}
