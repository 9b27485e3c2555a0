package sqltext_test

import (
	"errors"
	"math/rand/v2"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/pgcmd/pgcmd/internal/sqltext"
	"github.com/pgcmd/pgcmd/pgcmdtest"
)

// FuzzAgainstPostgres prepares a query twice, with the placeholders that Parse numbered and with those that the test
// numbered as it put the query together: PostgreSQL must see the same parameters and columns in both.
func FuzzAgainstPostgres(f *testing.F) {
	random := rand.New(rand.NewPCG(1, 1))
	for range 100 {
		f.Add(choices(random, 64))
	}
	server := connect(f)
	f.Fuzz(func(t *testing.T, choices []byte) {
		server.compare(t, compose(choices))
	})
}

func TestRandomQueriesAgainstPostgres(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	server := connect(t)
	const queries = 3000
	accepted := 0
	for range queries {
		if server.compare(t, compose(choices(random, 8+random.IntN(56)))) {
			accepted++
		}
	}
	t.Logf("PostgreSQL accepted %d of %d", accepted, queries)
	require.Greater(t, accepted, queries/4, "the comparison is only worth something for what PostgreSQL accepts")
}

func choices(random *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(random.Uint32())
	}
	return b
}

// query is one query in two spellings.
type query struct {
	source    string   // with @name
	byHand    string   // with $n, each between spaces
	names     []string // those in byHand
	ambiguous bool     // Parse must refuse source
}

// composer writes the two spellings, fragment by fragment. Where fragments are glued together, it knows what comes of it.
type composer struct {
	query
	choices  []byte
	operator string // the fragment that source ends with, if an operator
	literal  string // the fragment that began the literal that source ends with
	name     bool   // source ends with a placeholder
}

// A {name} in a fragment is a placeholder.
var marker = regexp.MustCompile(`\{(\w+)\}`)

// family is operands and operators that mostly fit each other.
type family struct{ operands, prefixes, operators []string }

var (
	literals = []string{"'x @a'", "'it''s @b'", `'\'`, "''", "'\n@a;'"}
	texts    = family{
		[]string{
			"{a}", "{b}::text", "{a}::varchar(9)", "s", "note", "a$1", `"q@a"`, `"it""s 'x"`, `e`, "ä", "(s)",
			"$$ @a ' $$", "$t$ $$ @b $x$ $t$", "$ä1$ @a $$ $ä1$", "$$$$", "coalesce({b},'x')", "cast({c} as text)", "(select{a}::text)",
			"case when s={a} then{b} else s end", "upper({a}::text)", "overlay({a} placing{b} from{i})", "s[{i}]",
		},
		[]string{},
		[]string{"||", "||", "||", "=", "<>", "~", "~*", "!~~", "^@", "<", ">=", "is distinct from", "like", "and", "collate \"C\"||"},
	}
	families = []family{texts, texts, {
		[]string{"1", ".5", "1e3", "1.", "n", "{i}::int", "{i}", "{k}::int8", "{k}::numeric(9,2)", "arr[{i}]", "(-{i}::int)", "n in({i},{k})",
			"n between{i} and{k}", "abs({i}::int)", "extract(day from make_interval(days=>{i}))"},
		[]string{"-", "+", "~", "@", "|/", "@@", "@-@"},
		[]string{"+", "-", "*", "/", "%", "&", "|", "#", "<<", ">>", "=", "<>", "!=", "<", "<=", ">", ">=", "^", "=-", "*-", "<-", "=+", "<@"},
	}, {
		[]string{"j", "{j}::jsonb", "{j}::jsonb", `'{"@a":1}'::jsonb`, "{p}::jsonpath", "{a}::text", "'$.a'", "{i}::int", "{r}::text[]"},
		[]string{},
		[]string{"@>", "<@", "->", "->>", "#>", "||", "-", "@?", "@@", "?", "?|", "#-"},
	}, {
		[]string{"arr", "{r}::int[]", "arr[{i}:{k}]", "arr[:{i}]", "arr[{i}::int:{k}::int]", "array[{i},{k}::int]", "{i}::int"},
		[]string{},
		[]string{"@>", "<@", "&&", "||", "=", "<"},
	}, {
		[]string{"v", "{v}::tsvector", "{q}::tsquery", "to_tsquery({a})", "{l}::lseg", "{l}::lseg"},
		[]string{"@-@", "@@", "!!"},
		[]string{"@@", "@@@", "||", "<->", "&&", "@>", "<@", "?#", "##"},
	}}
	separators = []string{",", ",", ",", "as e,", `as "x@y",`, "note,", `U&"@a\0041",`, "from"}
	gaps       = []string{"", "", "", "", "", " ", "\n", "\t\r\n ", "/* @a ' /* */ ; */", "/**/", "-- it's @b $9\n", "--\r"}
	newlines   = []string{"", "\n", " \t\n", "\r", " -- it's @a\n", "--\n-- @b '\r\n\f"}
	tails      = []string{"", "", ";", " -- @a", "/* ' */;\n", " where s={a}", " where{a}=s", " where n<{i} limit{k}", " order by{i}::int"}
)

const rows = ` from (values ('x', 'x', 'x', 'x', 'x', 'x'::name, 'x'::varchar, 1, '{}'::jsonb, array[1, 2], 'x'::tsvector))` +
	` t(s, note, a$1, "q@a", "it""s 'x", e, ä, n, j, arr, v)`

func compose(data []byte) query {
	c := composer{choices: data}
	c.write("select")
	for {
		f := families[c.choose(len(families))]
		for {
			if len(f.prefixes) > 0 && c.choose(4) == 0 {
				c.add(c.pick(gaps), c.pick(f.prefixes))
			}
			if c.choose(3) == 0 && &f.operands[0] == &texts.operands[0] {
				c.addLiteral()
			} else {
				c.add(c.pick(gaps), c.pick(f.operands))
			}
			if c.choose(2) == 0 || len(c.choices) == 0 {
				break
			}
			c.add(c.pick(gaps), c.pick(f.operators))
			if c.choose(16) == 0 { // not likely to fit
				f = families[c.choose(len(families))]
			}
		}
		if len(c.choices) == 0 {
			break
		}
		c.add(c.pick(gaps), c.pick(separators))
	}
	c.write(rows)
	c.write(tails[c.choose(len(tails))])
	return c.query
}

// addLiteral adds a literal, and some that continue it.
func (c *composer) addLiteral() {
	c.add(c.pick(gaps), c.pick(slices.Concat(literals, []string{`E'\' @a'`, `e'\\'`, `N'\'`, `U&'@a'`, `name'\'`, `n'@a'`, "b'1'", "X'f'"})))
	for c.choose(3) == 0 {
		c.add(c.pick(newlines), c.pick(literals))
	}
}

func (c *composer) add(gap, fragment string) {
	if gap == "" && c.merges(fragment) {
		gap = " "
	}
	if c.literal != "" && fragment[0] == '\'' && !strings.Contains(gap, "/*") && (gap == "" || strings.ContainsAny(gap, "\r\n")) {
		// The literal goes on, and with it the meaning of the backslash.
		if fragment == `'\'` && strings.ContainsAny(c.literal[:1], "eE") {
			fragment = `'\' @c'`
		}
	} else {
		c.literal = ""
	}
	if strings.HasPrefix(marker.ReplaceAllString(fragment, "@"), "@") && gap == "" && fragment[0] == '{' && (c.operator == "<" || c.operator == "^") {
		c.ambiguous = true
	}
	c.write(gap + fragment)
}

// merges reports whether the fragment, directly after source, would not be what it is elsewhere.
func (c *composer) merges(fragment string) bool {
	last := c.source[len(c.source)-1]
	named := last == '_' || last >= '0' && last <= '9' || last >= 'A' && last <= 'Z' || last >= 'a' && last <= 'z' || last >= 0x80
	switch first := fragment[0]; {
	case first == '{' && marker.MatchString(fragment):
		return slices.Contains([]string{"@", "@@", "@-", "?", "^<", "?<"}, c.operator)
	case c.name:
		return first == '_' || first >= '0' && first <= '9' || first >= 'A' && first <= 'Z' || first >= 'a' && first <= 'z' || first >= 0x80
	case strings.IndexByte("~!@#^&|`?+-*/%<>=", first) >= 0:
		return c.operator != ""
	case first == '"' || first == '.':
		return named || last == '"'
	case first == '\'' && last == '\'':
		return c.literal == ""
	default:
		return (named || last == '$') && strings.IndexByte("()[],:;", first) < 0
	}
}

func (c *composer) write(fragment string) {
	numbered := marker.ReplaceAllStringFunc(fragment, func(m string) string {
		name := m[1 : len(m)-1]
		if !slices.Contains(c.names, name) {
			c.names = append(c.names, name)
		}
		return " $" + strconv.Itoa(slices.Index(c.names, name)+1) + " "
	})
	c.byHand += numbered
	c.source += marker.ReplaceAllString(fragment, "@$1")
	c.name = strings.HasSuffix(numbered, " ") && strings.HasSuffix(fragment, "}")
	c.operator = fragment[strings.LastIndexAny(fragment, "\n\r \t/")+1:]
	if strings.Trim(c.operator, "~!@#^&|`?+-*/%<>=") != "" {
		c.operator = ""
	}
}
