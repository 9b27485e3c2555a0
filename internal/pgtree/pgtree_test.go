package pgtree_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgcmd/pgcmd/internal/pgtree"
)

// trees are the statements in testdata, with the text that a version of PostgreSQL stored for each.
func trees(t testing.TB, version int) map[string]string {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("testdata/postgres%d.txt", version))
	require.NoError(t, err)
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	all := map[string]string{}
	for i := 0; i+1 < len(lines); i += 2 {
		all[strings.TrimPrefix(lines[i], "-- ")] = lines[i+1]
	}
	require.Len(t, all, 12)
	return all
}

// summary lists what a tree holds that matters, in words.
func summary(n *pgtree.Node) string {
	var words []string
	n.Walk(func(n *pgtree.Node) bool {
		switch n.Tag {
		case "QUERY":
			cmd, _ := n.Int("commandType")
			words = append(words, fmt.Sprintf("query%d", cmd))
		case "VAR":
			table, _ := n.Int("varno")
			number, _ := n.Int("varattno")
			words = append(words, fmt.Sprintf("%d.%d", table, number))
		case "CONST":
			null, _ := n.Bool("constisnull")
			words = append(words, fmt.Sprintf("const%d:%v", n.OID("consttype"), null))
		case "PARAM":
			number, _ := n.Int("paramid")
			words = append(words, fmt.Sprintf("$%d", number))
		case "TARGETENTRY":
			name, _ := n.Text("resname")
			words = append(words, name)
		default:
			words = append(words, n.Tag)
		}
		return !n.Is("RANGETBLENTRY") || n.Node("subquery") != nil
	})
	return strings.Join(words, " ")
}

func TestEveryVersionIsReadAlike(t *testing.T) {
	t.Parallel()
	for sql := range trees(t, 15) {
		first := ""
		for _, version := range []int{14, 15, 16, 17} { // 18 groups by columns of a table of its own
			nodes, err := pgtree.Parse(trees(t, version)[sql])
			require.NoError(t, err, sql)
			require.Len(t, nodes, 1)
			got := strings.ReplaceAll(summary(nodes[0]), " RTEPERMISSIONINFO", "")
			if first == "" {
				first = got
			}
			assert.Equal(t, first, got, "%s: %d", sql, version)
		}
	}
}

func TestWhatAFieldHoldsIsReadInEveryVersion(t *testing.T) {
	t.Parallel()
	for version := 14; version <= 18; version++ {
		all := trees(t, version)
		query := func(sql string) *pgtree.Node {
			for s, text := range all {
				if strings.HasPrefix(s, sql) {
					nodes, err := pgtree.Parse(text)
					require.NoError(t, err)
					require.Len(t, nodes, 1)
					return nodes[0]
				}
			}
			t.Fatalf("no statement %s", sql)
			return nil
		}
		q := query("select case")
		require.True(t, q.Is("QUERY"))
		list, ok := q.List("targetList")
		require.True(t, ok)
		require.Len(t, list, 6)
		name, ok := list[0].Text("resname")
		assert.True(t, ok)
		assert.Equal(t, "a b", name, "a space is escaped")
		var text []byte
		list[0].Walk(func(n *pgtree.Node) bool {
			if bytes, ok := n.Datum("constvalue"); ok && n.OID("consttype") == 25 {
				text = bytes
			}
			return true
		})
		assert.Equal(t, `it's (a) {b} \ :c`, string(text[4:]), "the bytes of a text follow its length")
		tables, ok := q.List("rtable")
		require.True(t, ok)
		names, ok := tables[0].Node("eref").Texts("colnames")
		assert.True(t, ok)
		assert.Equal(t, []string{"id", "note"}, names)
		none, ok := q.List("cteList")
		assert.True(t, ok, "null is a list of none")
		assert.Empty(t, none)
		_, ok = q.List("absent")
		assert.False(t, ok)
		assert.False(t, q.Has("absent"))
		_, ok = q.Int("targetList")
		assert.False(t, ok, "a list is no number")
		for i, a := range list {
			for j, b := range list {
				assert.Equal(t, i == j, pgtree.Equal(a, b))
			}
		}

		values := query("insert into a")
		rows, ok := values.Node("onConflict").List("onConflictSet")
		assert.True(t, ok)
		assert.Len(t, rows, 1)
		tables, _ = values.List("rtable")
		lists, ok := tables[1].Lists("values_lists")
		require.True(t, ok)
		require.Len(t, lists, 2)
		assert.Len(t, lists[0], 2)
		sets, ok := query("select note, id, sum").List("groupingSets")
		require.True(t, ok)
		inner, ok := sets[0].List("content")
		require.True(t, ok)
		refs, ok := inner[0].Ints("content")
		assert.True(t, ok)
		assert.Equal(t, []int{1}, refs)
	}
}

func TestATextThatIsNoTreeIsRefused(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"{", "(", "{VAR", "{VAR :a", "{VAR :a 1", "{VAR a}", "{}", ")", "}", "{VAR :a (1}", "{ :a 1}", strings.Repeat("(", 20000)} {
		_, err := pgtree.Parse(text)
		assert.ErrorContains(t, err, "the node tree cannot be read at byte", text[:min(len(text), 20)])
	}
	nodes, err := pgtree.Parse("  ({A :x 1 :y <> :z 4 [ 1 -1 ] :later (what {B} \"is\" this)} ({C}))")
	require.NoError(t, err)
	require.Len(t, nodes, 2)
	bytes, ok := nodes[0].Datum("z")
	assert.True(t, ok)
	assert.Equal(t, []byte{1, 255}, bytes)
	nodes, err = pgtree.Parse("")
	assert.NoError(t, err)
	assert.Empty(t, nodes)
}

func FuzzParse(f *testing.F) {
	for version := 14; version <= 18; version++ {
		for _, text := range trees(f, version) {
			f.Add(text)
		}
	}
	f.Add(`{A :b ({C}) :d 1 [ 2 ] :e "x\ y"}`)
	f.Fuzz(func(t *testing.T, text string) {
		nodes, err := pgtree.Parse(text)
		if err != nil {
			return
		}
		for _, n := range nodes {
			_ = summary(n)
			if !pgtree.Equal(n, n) {
				t.Fatal("a node is not equal to itself")
			}
			n.Walk(func(n *pgtree.Node) bool {
				for _, field := range []string{"a", "b", "args", "constvalue", "values_lists", "colnames"} {
					n.Text(field)
					n.Datum(field)
					n.Ints(field)
					n.Texts(field)
					n.Lists(field)
				}
				return true
			})
		}
	})
}
