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

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/pgcmd/pgcmd/internal/sqltext"
	"github.com/pgcmd/pgcmd/pgcmdtest"
)

// FuzzAgainstPostgres prepares a query twice, with the numbers of Parse and with those of the test, which knew the
// placeholders from the start: PostgreSQL must see the same parameters and columns in both.
func FuzzAgainstPostgres(f *testing.F) {
	random := rand.New(rand.NewPCG(1, 1))
	for range 100 {
		f.Add(choices(random))
	}
	server := connect(f)
	f.Fuzz(func(t *testing.T, choices []byte) { server.compare(t, compose(choices)) })
}

// FuzzTokensAgainstPostgres puts tokens together that mostly make no sense. Where PostgreSQL says that a token does not
// fit, there must be one for Parse too, and a parameter of Parse must be one for PostgreSQL.
func FuzzTokensAgainstPostgres(f *testing.F) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 100 {
		f.Add(choices(random))
	}
	server := connect(f)
	f.Fuzz(func(t *testing.T, choices []byte) { server.locate(t, soup(choices)) })
}

func TestRandomTextAgainstPostgres(t *testing.T) {
	t.Parallel()
	const seed = 3 // fixed: what is random from run to run is the fuzzers' business
	random := rand.New(rand.NewPCG(seed, 0))
	server := connect(t)
	number := version(t, pgcmdtest.Pool(t))
	rounds := 3000
	if testing.Short() {
		rounds = 500
	}
	accepted := 0
	for range rounds {
		if server.compare(t, compose(choices(random))) {
			accepted++
		}
		// PostgreSQL 14 lexes a number with junk behind it as two tokens.
		if soup := soup(choices(random)); number >= 150000 {
			server.locate(t, soup)
		}
	}
	t.Logf("seed %d: PostgreSQL accepted %d of %d queries", seed, accepted, rounds)
	require.Greater(t, accepted, rounds/5, "PostgreSQL must accept many, else it compares errors only")
}

// A read-only transaction is PostgreSQL's word on what writes, but for explain analyze select into, which it lets pass.
func TestWritesAgainstPostgres(t *testing.T) {
	t.Parallel()
	pool := pgcmdtest.Pool(t, "create table t (a int, update int); create table s (a int)")
	for _, sql := range []string{
		"select count(update) from t",
		"select 1 as into",
		"select t.update from t",
		"((select 1) union select 2) order by 1",
		"values (1)",
		"table t",
		"show all",
		"with delete (update) as (select 1) select update from delete",
		"with recursive as (select 1 as a) select * from recursive",
		"with a as (select 1) select * from json_to_record('{}') as (update text)",
		"with recursive a(b) as (select 1 union all select b + 1 from a where b < 3) search depth first by b set c cycle b set d using e, f as (select 2) select * from a, f",
		`with recursive a("b""c") as (select 1 union all select 2 from a where false) search breadth first by "b""c" set "d""e" select 1`,
		"explain insert into t values (1)",
		"explain (verbose) select 1 into u",
		"explain (analyze) ((select 1))",
		"explain (values (1))",
		"explain analyse verbose with a as (select 1) table a",

		"select 1 as a into u",
		"select into u from t",
		"((select 1 as a into u) union select 2)",
		"with a as (select 1 as b) select b into u from a",
		"with a as (with b as (select 1) delete from t returning 1) select * from a",
		"(with a as materialized (delete from t returning 1) select * from a)",
		"with a as (select 1), b as not materialized (update t set a = 1 returning 1) (select * from a)",
		"with recursive a(b) as (select 1 union all select 2 from a where false) search breadth first by b set c delete from t using a",
		"with recursive a(b) as (select 1 union all select 2 from a where false) cycle b set c to 1 default 0 using d insert into t select b from a",
		"with a as (select 1) merge into t using s on t.a = s.a when matched then delete",
		"explain (costs off, analyse) with a as (select 1) delete from t",
		"explain (analyze) (with a as (delete from t returning 1) select 1)",
		"create rule r as on insert to t do also (delete from s; delete from s)",
		"create function f() returns int begin atomic select 1; select 2; end",
	} {
		t.Run(sql, func(t *testing.T) {
			t.Parallel()
			text, err := sqltext.Parse(sql)
			require.NoError(t, err)
			if strings.Contains(sql, "merge") && version(t, pool) < 150000 {
				require.True(t, text.Writes) // PostgreSQL 14 has no MERGE to ask
				return
			}
			err = pgx.BeginTxFunc(t.Context(), pool, pgx.TxOptions{AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
				_, err := tx.Exec(t.Context(), text.SQL)
				return err
			})
			if text.Writes {
				require.ErrorContains(t, err, "in a read-only transaction")
			} else {
				require.NoError(t, err)
			}
		})
	}
}

func choices(random *rand.Rand) []byte {
	b := make([]byte, 4+random.IntN(60))
	for i := range b {
		b[i] = byte(random.Uint32())
	}
	return b
}

type server struct{ conn *pgconn.PgConn }

func connect(t testing.TB) server {
	pool := pgcmdtest.Pool(t)
	conn, err := pool.Acquire(t.Context())
	require.NoError(t, err)
	t.Cleanup(conn.Release)
	return server{conn.Conn().PgConn()}
}

// prepare returns what PostgreSQL makes of sql, or why it refuses.
func (s server) prepare(t *testing.T, sql string) (*pgconn.StatementDescription, *pgconn.PgError) {
	description, err := s.conn.Prepare(t.Context(), "", sql, nil)
	var refused *pgconn.PgError
	if !errors.As(err, &refused) {
		require.NoError(t, err, "%q", sql)
	}
	return description, refused
}

// compare reports whether PostgreSQL accepted the query.
func (s server) compare(t *testing.T, q query) bool {
	text, err := sqltext.Parse(q.source)
	if q.ambiguous {
		require.ErrorContains(t, err, "reads two ways", "%q", q.source)
		return false
	}
	require.NoError(t, err, "%q", q.source)
	require.Equal(t, q.names, text.Names, "%q", q.source)
	require.True(t, text.Reads, "%q", q.source)

	parsed, parsedErr := s.prepare(t, text.SQL)
	byHand, byHandErr := s.prepare(t, q.byHand)
	both := []any{"%q\nbecame\n%q\nand is by hand\n%q", q.source, text.SQL, q.byHand}
	if parsedErr != nil || byHandErr != nil {
		require.NotNil(t, byHandErr, both...)
		require.NotNil(t, parsedErr, both...)
		require.Equal(t, byHandErr.Code, parsedErr.Code, both...)
		return false
	}
	require.Equal(t, byHand.ParamOIDs, parsed.ParamOIDs, both...)
	require.Len(t, parsed.Fields, len(byHand.Fields), both...)
	for i, field := range byHand.Fields {
		require.Equal(t, field.Name, parsed.Fields[i].Name, both...)
		require.Equal(t, field.DataTypeOID, parsed.Fields[i].DataTypeOID, both...)
	}
	return true
}

// refusal is an error of Parse that PostgreSQL shares: it takes several semicolons for one.
var refusal = regexp.MustCompile(`is never closed|a second statement at [^;]`)

// locate compares the tokens of Parse with those of PostgreSQL as far as it lets them be seen.
func (s server) locate(t *testing.T, sql string) {
	text, err := sqltext.Parse(sql)
	if err != nil {
		if refusal.MatchString(err.Error()) {
			_, refused := s.prepare(t, sql)
			require.NotNil(t, refused, "%q: %v", sql, err)
		}
		return
	}
	description, refused := s.prepare(t, text.SQL)
	switch {
	case refused == nil:
		require.Len(t, description.ParamOIDs, max(len(text.Names), text.MaxParam), "%q became %q", sql, text.SQL)
	case strings.HasPrefix(refused.Message, "unterminated"):
		require.Fail(t, refused.Message, "%q became %q", sql, text.SQL)
	case strings.HasPrefix(refused.Message, "syntax error"):
		at := 0
		for range refused.Position - 1 {
			_, size := utf8.DecodeRuneInString(text.SQL[at:])
			at += size
		}
		require.True(t, sqltext.Splits(text.SQL, at), "%q became %q: %s at %d", sql, text.SQL, refused.Message, at)
	}
}

// query is one query in two spellings.
type query struct {
	source    string   // with @name
	byHand    string   // with $n, each between spaces
	names     []string // those in byHand
	ambiguous bool     // Parse must refuse source
}

var (
	marker       = regexp.MustCompile(`\{(\w+)\}`) // a placeholder in a fragment
	operatorTail = regexp.MustCompile("[-~!@#^&|`?+*/%<>=]+$")
	nameStart    = regexp.MustCompile(`^[A-Za-z_\x{80}-\x{10ffff}]`)
	nameTail     = regexp.MustCompile(`[\w\x{80}-\x{10ffff}}$]$`)
	digit        = regexp.MustCompile(`^[0-9]`)
)

// family is operands and operators that mostly fit each other.
type family struct{ operands, prefixes, operators []string }

var families = []family{{
	operands: []string{"{a}", "{b}::text", "{a} ::varchar(9)", "s", "note", "a$1", `"q@a"`, `"it""s 'x"`, "e", "ä", "(s)",
		"$$ @a ' $$", "$t$ $$ @b $x$ $t$", "$ä1$ @a $$ $ä1$", "$$$$", "coalesce({b},'x')", "cast({c} as text)", "(select{a}::text)",
		"case when s={a} then{b} else s end", "upper({a}::text)", "overlay({a} placing{b} from{i})"},
	operators: []string{"||", "||", "||", "=", "<>", "~", "~*", "!~~", "^@", "<", ">=", "is distinct from", "like", "and", `collate "C"||`},
}, {
	operands: []string{"1", ".5", "1e3", "1.", "n", "{i}::int", "{i}", "{k}::int8", "{k}::numeric(9,2)", "arr[{i}]", "(-{i}::int)",
		"n in({i},{k})", "n between{i} and{k}", "abs({i}::int)", "extract(day from make_interval(days=>{i}))"},
	prefixes: []string{"-", "+", "~", "@", "|/"},
	operators: []string{"+", "-", "*", "/", "%", "&", "|", "#", "<<", ">>", "=", "<>", "!=", "<", "<=", ">", ">=", "^", "=-", "*-", "<-",
		"=+", "+@"},
}, {
	operands:  []string{"j", "{j}::jsonb", "{j}", `'{"@a":1}'::jsonb`, "{p}::jsonpath", "{a}::text", "'$.a'", "{i}::int", "{t}::text[]"},
	operators: []string{"@>", "<@", "->", "->>", "#>", "||", "-", "@?", "@@", "?", "?|", "#-"},
}, {
	operands:  []string{"arr", "{r}::int[]", "arr[{i}:{k}]", "arr[:{i}]", "arr[{i}::int:{k}::int]", "array[{i},{k}::int]", "{i}::int"},
	operators: []string{"@>", "<@", "&&", "||", "=", "<"},
}, {
	operands:  []string{"v", "{v}::tsvector", "{q}::tsquery", "to_tsquery({a})", "{q}"},
	operators: []string{"@@", "@@@", "||", "@@", "||"},
}, {
	operands:  []string{"{l}::lseg", "{l}", "lseg'0,0,1,1'", "lseg(l1,{x}::point)"},
	prefixes:  []string{"@-@", "@@", "?-"},
	operators: []string{"<->", "##", "?#", "?-|", "<@"},
}}

const columns = ` from (values ('x', 'x', 'x', 'x', 'x', 'x', 'x', 1, '{}'::jsonb, array[1, 2], 'x'::tsvector, '0,0'::point))` +
	` t(s, note, a$1, "q@a", "it""s 'x", e, ä, n, j, arr, v, l1)`

var (
	separators = []string{",", ",", ",", "as e,", `"x@y",`, "as note,", `U&"@a\0041",`, "as from,"}
	gaps       = []string{"", "", "", "", "", " ", "\n", "\t\r\n ", "/* @a ' /* */ ; */", "/**/", "-- it's @b $9\n", "--\r"}
	tails      = []string{"", "", ";", " -- @a", "/* ' */;\n", " where s={a}", " where{a}=s", " where n>{i} limit{k}", " order by{i}::int"}

	literals  = []string{"'x @a'", "'it''s @b'", `'\'`, "''", "'\n@a;'", `E'\' @a'`, `e'\\'`, `N'\'`, `U&'@a'`, `name'\'`, "n'@a'", "b'1'", "X'f'"}
	newlines  = []string{"", "\n", " \t\n", "\r", " -- it's @a\n", "--\n-- @b '\r\n\f"}
	continued = []string{"'x @a'", "'it''s @b'", `'\'`, "''"}
	escaped   = []string{"'x @a'", `'\' @b'`, `'\\'`, "''"} // after an E string
)

// composer writes a query fragment by fragment. It knows what comes of the fragments that it puts directly together.
type composer struct {
	query
	choices []byte // 0 for ever when they have run out
	last    string // fragment
}

func compose(data []byte) query {
	c := composer{choices: data}
	c.add("", "select")
	for len(c.choices) > 0 {
		c.expression()
		if len(c.choices) > 0 {
			c.add(c.pick(gaps), c.pick(separators))
		}
	}
	if c.last == "select" || strings.HasSuffix(c.last, ",") {
		c.add("", "1")
	}
	c.add("", columns)
	c.add("", c.pick(tails))
	return c.query
}

func (c *composer) expression() {
	kind := c.choose(len(families))
	for {
		f := families[kind]
		if len(f.prefixes) > 0 && c.choose(4) == 0 {
			c.add(c.pick(gaps), c.pick(f.prefixes))
		}
		if kind == 0 && c.choose(3) == 0 {
			c.literal()
		} else {
			c.add(c.pick(gaps), c.pick(f.operands))
		}
		if c.choose(2) == 0 {
			return
		}
		c.add(c.pick(gaps), c.pick(f.operators))
		if c.choose(16) == 1 {
			kind = c.choose(len(families)) // which is not likely to fit
		}
	}
}

// literal adds a literal and some that continue it.
func (c *composer) literal() {
	c.add(c.pick(gaps), c.pick(literals))
	rest := continued
	if strings.ContainsAny(c.last[:1], "eE") {
		rest = escaped
	}
	for c.choose(3) == 1 {
		c.add(c.pick(newlines), c.pick(rest))
	}
}

func (c *composer) choose(n int) int {
	if len(c.choices) == 0 {
		return 0
	}
	b := c.choices[0]
	c.choices = c.choices[1:]
	return int(b) % n
}

func (c *composer) pick(from []string) string { return from[c.choose(len(from))] }

func (c *composer) add(gap, fragment string) {
	if gap == "" && c.merges(fragment) {
		gap = " "
	}
	if gap == "" && slices.Contains([]string{"<@", "^@"}, c.run(fragment)) {
		c.ambiguous = true
	}
	c.source += gap + marker.ReplaceAllString(fragment, "@$1")
	c.byHand += gap + marker.ReplaceAllStringFunc(fragment, func(m string) string {
		name := m[1 : len(m)-1]
		if !slices.Contains(c.names, name) {
			c.names = append(c.names, name)
		}
		return " $" + strconv.Itoa(slices.Index(c.names, name)+1) + " "
	})
	c.last = fragment
}

// merges reports whether the fragment, directly after the last, would mean something else.
func (c *composer) merges(fragment string) bool {
	run := c.run(fragment)
	switch {
	case fragment == "" || c.last == "":
		return false
	case fragment[0] == '{':
		return slices.Contains([]string{"@@", "@@@", "@-@", "?@"}, run)
	case run != "" && strings.HasSuffix(run, "@"):
		return !slices.Contains([]string{"@@", "@@@", "@-@", "<@", "^@"}, run)
	case operatorTail.MatchString(fragment[:1]):
		return operatorTail.MatchString(c.last)
	case nameStart.MatchString(fragment) || fragment[0] == '$' || digit.MatchString(fragment):
		return nameTail.MatchString(c.last)
	}
	return false
}

// run is the operator characters directly before a name, with the @ if the fragment is a placeholder; else "".
func (c *composer) run(fragment string) string {
	switch operator := operatorTail.FindString(c.last); {
	case strings.HasPrefix(fragment, "{"):
		return operator + "@"
	case nameStart.MatchString(fragment):
		return operator
	}
	return ""
}

// soup is any tokens in any order. It does not begin with a semicolon, which PostgreSQL would not mind.
func soup(data []byte) string {
	c := composer{choices: data, query: query{source: "select"}}
	for len(c.choices) > 0 {
		c.source += c.pick(scraps)
	}
	return c.source
}

var scraps = []string{
	"select", " ", " ", " ", "\n", "\r", "\t\f", "'", "'", "''", "'a'", "E'", "e'\\'", "\\", "N'", "U&'", "U&\"", "b'", "X", "e", "\"", "\"a\"",
	"$$", "$$", "$a$", "$a$", "$", "$ä$", "--", "/*", "*/", "/", "*", "-", "+", "<", ">", "=", "|", "@", "@a", "@b", "::text", "::", ":", ":=",
	"(", ")", ",", ",", ";", ".", "1", "0", "1.5", "1e", "a", "ä", "_", "as ", "select 1,", "select@a::int", "select @b::text||", "$1", "'@a'",
}

func version(t *testing.T, pool *pgxpool.Pool) (number int) {
	t.Helper()
	require.NoError(t, pool.QueryRow(t.Context(), `select current_setting('server_version_num')::int`).Scan(&number))
	return number
}
