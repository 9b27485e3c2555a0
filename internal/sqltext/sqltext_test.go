package sqltext_test

import (
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgcmd/pgcmd/internal/sqltext"
)

func TestPlaceholders(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		sql   string
		want  string
		names string // joined by spaces
	}{
		{"a name becomes a number", "select @a", "select $1", "a"},
		{"numbers follow first appearance", "select @b, @a, @b", "select $1, $2, $1", "b a"},
		{"names have letters, digits, underscores and bytes beyond ASCII", "select @_a1, @Größe, @名2", "select $1, $2, $3", "_a1 Größe 名2"},
		{"names differ by case", "select @a, @A", "select $1, $2", "a A"},
		{"a name ends before a dot", "select @a.b", "select $1.b", "a"},
		{"a cast follows a name", "select @a::text", "select $1::text", "a"},
		{"a cast precedes none", "select 'x'::text, @a", "select 'x'::text, $1", "a"},
		{"array bounds are placeholders", "select x[@a:@b]", "select x[$1:$2]", "a b"},
		{"a named argument takes one", "select f(x=>@a, y := @b, z:=@c)", "select f(x=>$1, y := $2, z:=$3)", "a b c"},
		{"punctuation keeps no distance", "select(@a),@b;", "select($1),$2;", "a b"},

		{"a doubled quote stays in the literal", "select 'it''s @a', @b", "select 'it''s @a', $1", "b"},
		{"a backslash ends no plain literal late", `select '\', @a`, `select '\', $1`, "a"},
		{"a backslash escapes a quote in an E string", `select E'\' @a', e'\\', @b`, `select E'\' @a', e'\\', $1`, "b"},
		{"a doubled quote stays in an E string", `select E'x''\' @a', @b`, `select E'x''\' @a', $1`, "b"},
		{"an identifier that ends in e is no prefix", `select type'\', @a`, `select type'\', $1`, "a"},
		{"a number that ends in e is no prefix", `select 0xE'\', @a`, `select 0xE'\', $1`, "a"},
		{"an E string may follow a number", `select 1E'\'', @a`, `select 1E'\'', $1`, "a"},
		{"a quoted e is no prefix", `select "e"'\', @a`, `select "e"'\', $1`, "a"},
		{"an e before a space is no prefix", `select e '\', @a`, `select e '\', $1`, "a"},
		{"a placeholder named e is no prefix", `select @e'\', @a`, `select $1'\', $2`, "e a"},
		{"an E string goes on over lines with its escapes", "select E'a'\n  '\\' @a', @b", "select E'a'\n  '\\' @a', $1", "b"},
		{"an E string goes on over line comments", "select E'a' -- it's\n-- @x\r '\\' @a', @b", "select E'a' -- it's\n-- @x\r '\\' @a', $1", "b"},
		{"an E string goes on after a carriage return", "select E'a'\r'\\' @a', @b", "select E'a'\r'\\' @a', $1", "b"},
		{"an E string does not go on over a block comment", "select E'a' /*\n*/ '\\', @a", "select E'a' /*\n*/ '\\', $1", "a"},
		{"an E string does not go on over a mere space", `select E'a' '\', @a`, `select E'a' '\', $1`, "a"},
		{"a plain literal goes on plain", "select 'a'\n'\\', @a", "select 'a'\n'\\', $1", "a"},
		{"an E after a plain literal's new line begins anew", "select 'a'\nE'\\' @a', @b", "select 'a'\nE'\\' @a', $1", "b"},
		{"a placeholder follows a literal and a new line", "select 'a'\n@a", "select 'a'\n$1", "a"},
		{"B X N and U& literals escape nothing", `select B'1', x'f', N'\', U&'\', u&'''@z', @a`, `select B'1', x'f', N'\', U&'\', u&'''@z', $1`, "a"},
		{"a quoted identifier keeps its @", `select "@a", "x""@b", U&"@c", @d`, `select "@a", "x""@b", U&"@c", $1`, "d"},
		{"a quote in a quoted identifier opens nothing", `select "'", @a, "'"`, `select "'", $1, "'"`, "a"},

		{"a dollar body keeps its @", "select $$ @a ' $$, @b", "select $$ @a ' $$, $1", "b"},
		{"a tagged body ends with its own tag", "select $x$ $$ @a $y$ $X$ $x$, @b", "select $x$ $$ @a $y$ $X$ $x$, $1", "b"},
		{"a tag may begin within another", "select $x$ @a $y$x$, @b", "select $x$ @a $y$x$, $1", "b"},
		{"a tag has digits and bytes beyond ASCII", "select $ä1_$ @a $ä1_$, @b", "select $ä1_$ @a $ä1_$, $1", "b"},
		{"a dollar in an identifier opens no body", "select a$$, @a, b$x$, @b", "select a$$, $1, b$x$, $2", "a b"},
		{"a dollar after a number opens a body", "select 1$$@a$$, @b", "select 1$$@a$$, $1", "b"},
		{"a lone dollar is left to PostgreSQL", "select $, $x @a", "select $, $x $1", "a"},

		{"a line comment keeps its @", "select @a -- @b ' \n, @c", "select $1 -- @b ' \n, $2", "a c"},
		{"a carriage return ends a line comment", "select -- @b\r @c", "select -- @b\r $1", "c"},
		{"block comments nest", "select /* @a /* ' */ @b **/ @c", "select /* @a /* ' */ @b **/ $1", "c"},
		{"a slash after the opening closes no comment", "select /*/ @a */ @b", "select /*/ @a */ $1", "b"},
		{"an operator ends where a comment begins", "select 1 =--@a\n@b +/*@c*/@d", "select 1 =--@a\n$1 +/*@c*/$2", "b d"},
		{"a comment's end outside of one is an operator", "select 2*/@a", "select 2*/$1", "a"},

		{"a placeholder follows an operator directly", "email=@email", "email=$1", "email"},
		{"a placeholder stands between operators", "'%'||@q||'%'", "'%'||$1||'%'", "q"},
		{"a sign precedes a placeholder", "select -@a, +@b, 1-@c", "select -$1, +$2, 1-$3", "a b c"},
		{"the last @ of a longer run belongs to the name", "a@>@b and c<@@d and e>=@f and g@@@@h", "a@>$1 and c<@$2 and e>=$3 and g@@@$4", "b d f h"},
		{"operators without @ take a placeholder", "a->>@b, c#>@d, e~*@f, g<->@h, i!=@j, k&&@l, m%@n", "a->>$1, c#>$2, e~*$3, g<->$4, i!=$5, k&&$6, m%$7", "b d f h j l n"},
		{"an operator with its own trailing minus", "a=-@b", "a=-$1", "b"},
		{"PostgreSQL's own operators stay operators", "a@@b, c@@@d, @-@e, f?@g, h^<@i, j?<@k, l @> m, n<@ o, p @? q, r^@ s", "a@@b, c@@@d, @-@e, f?@g, h^<@i, j?<@k, l @> m, n<@ o, p @? q, r^@ s", ""},
		{"a space after the ambiguous operators makes a placeholder", "a < @b, c ^ @d, e <@ @f, g ^@@h", "a < $1, c ^ $2, e <@ $3, g ^@$4", "b d f h"},
		{"the absolute value is an operator", "select @ -5, @-5, @5, @(-5), @ a, @ @b", "select @ -5, @-5, @5, @(-5), @ a, @ $1", "b"},
		{"an @ before a quoted identifier is an operator", `select @"a"`, `select @"a"`, ""},
		{"an @ at the very end is an operator", "select @", "select @", ""},

		{"control characters are left to PostgreSQL", "select \x01\x02\x030, @a", "select \x01\x02\x030, $1", "a"},

		{"a keyword does not grow a number", "select@a", "select $1", "a"},
		{"a number does not grow a number", "select 1@a", "select 1 $1", "a"},
		{"a letter beyond ASCII does not grow a number", "select ä@a", "select ä $1", "a"},
		{"a dollar does not grow a number", "select $@a", "select $ $1", "a"},
		{"a dollar body does not grow a number", "select $$x$$@a", "select $$x$$ $1", "a"},
		{"a placeholder does not grow another", "select @a@b", "select $1 $2", "a b"},
		{"a dollar body does not run into a number", "select @a$$ @b $$", "select $1 $$ @b $$", "a"},
		{"a dollar does not run into a number", "select @a$b", "select $1 $b", "a"},
		{"quotes and brackets need no space", `select 'x'@a"y"@b[@c](@d)`, `select 'x'$1"y"$2[$3]($4)`, "a b c d"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			text, err := sqltext.Parse(c.sql)
			require.NoError(t, err)
			assert.Equal(t, c.want, text.SQL)
			assert.Equal(t, c.names, strings.Join(text.Names, " "))
			assert.Zero(t, text.MaxParam)
		})
	}
}

func TestParameters(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		sql  string
		want int
	}{
		{"the highest counts", "select $2, $1, $3::text", 3},
		{"an unused number is no matter", "select $7", 7},
		{"leading zeros are PostgreSQL's", "select $007", 7},
		{"the highest possible", "select $65535", 65535},
		{"none", "select 1", 0},
		{"a literal has none", `select '$1', E'\'$2', "$3", $$$4$$, $x$ $5 $x$ -- $6 /* $7 */`, 0},
		{"an identifier has none", "select a$1, $2", 2},
		{"an operator precedes one", "select -$1, a=$2, a@>$3, @$4", 4},
		{"one precedes another", "select $1$2", 2},
		{"one precedes a dollar body", "select $1$$ $9 $$", 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			text, err := sqltext.Parse(c.sql)
			require.NoError(t, err)
			assert.Equal(t, c.want, text.MaxParam)
			assert.Equal(t, c.sql, text.SQL)
			assert.Empty(t, text.Names)
		})
	}
}

func TestErrors(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		sql  string
		want string
	}{
		{"no text", "", "the SQL is empty: write one statement"},
		{"only space", " \t\r\n\f\v", "the SQL is empty: write one statement"},
		{"only comments", "-- select 1\n /* select 2 */", "the SQL is empty: write one statement"},
		{"only a semicolon", "; -- select 1", "the SQL is empty: write one statement"},
		{"a NUL byte", "select\n 1\x00", "2:3: a NUL byte, which text in PostgreSQL cannot hold: take it out"},
		{"a NUL byte in a literal", "select '\x00'", "1:9: a NUL byte, which text in PostgreSQL cannot hold: take it out"},
		{"text that is not UTF-8", "select 'ä\xff'", "1:10: byte 0xff is not UTF-8: save the SQL as UTF-8"},
		{"a character cut short", "select 'ä\xc3", "1:10: byte 0xc3 is not UTF-8: save the SQL as UTF-8"},
		{"an open literal", "select\n'a", "2:1: the string that begins here is never closed: end it with '"},
		{"an open literal that ends in a doubled quote", "select 'a''", "1:8: the string that begins here is never closed: end it with '"},
		{"an open E string", `select E'\'`, `1:8: the string that begins here is never closed: end it with '`},
		{"an E string open after a backslash", `select E'\`, `1:8: the string that begins here is never closed: end it with '`},
		{"an open continuation", "select 'a'\n'b", "1:8: the string that begins here is never closed: end it with '"},
		{"an open quoted identifier", `select "ä" "b`, `1:12: the quoted identifier that begins here is never closed: end it with "`},
		{"an open dollar body", "select $$ $a$", "1:8: the dollar-quoted string that begins here is never closed: end it with $$"},
		{"an open tagged body", "select $a$ $$ $A$", "1:8: the dollar-quoted string that begins here is never closed: end it with $a$"},
		{"an open comment", "select 1 /* /* */", "1:10: the comment that begins here is never closed: end it with */"},
		{"an open comment of three bytes", "select 1 /*/", "1:10: the comment that begins here is never closed: end it with */"},
		{"a long open literal", "select '" + strings.Repeat("ä", 40), "1:8: the string that begins here is never closed: end it with '"},
		{"only semicolons", ";;", "the SQL is empty: write one statement"},
		{"two statements", "select 1;\n drop table t", "2:2: a second statement begins here: one command is one statement"},
		{"a semicolon too many", "select 1;;", "1:10: a second statement begins here: one command is one statement"},
		{"a semicolon before the statement", ";select 1", "1:2: a second statement begins here: one command is one statement"},
		{"a semicolon after a stray parenthesis", "select 1); select 2", "1:12: a second statement begins here: one command is one statement"},
		{"a statement before a function", "select 1; create function f() begin atomic; end", "1:11: a second statement begins here: one command is one statement"},
		{"rows that it cannot send", "copy t (a, b)\nfrom stdin", "2:6: a statement cannot send the rows of COPY FROM STDIN: make the command with pgcmd.Copy"},
		{"rows that it cannot receive", "copy (select stdin from stdin) to STDOUT csv", "1:35: a statement cannot receive the rows of COPY TO STDOUT: use a Query, which Stream can run, or CopyTo of pgx"},
		{"a name, then a number", "select @a, $2", "1:12: the SQL mixes @a and $2: use names or numbers, not both"},
		{"a number, then a name", "select $2, $3,\n@a, @b", "2:1: the SQL mixes @a and $2: use names or numbers, not both"},
		{"a number directly after a name", "select @a$1", "1:10: the SQL mixes @a and $1: use names or numbers, not both"},
		{"a zeroth parameter", "select $0", "1:8: $0 is no parameter: PostgreSQL counts from $1 to $65535"},
		{"a parameter beyond the last", "select $65536", "1:8: $65536 is no parameter: PostgreSQL counts from $1 to $65535"},
		{"a parameter beyond an int", "select $99999999999999999999", "1:8: $99999999999999999999 is no parameter: PostgreSQL counts from $1 to $65535"},
		{"an ambiguous less-than", "select a<@b1 from t", `1:9: <@b1 reads two ways: write "< @b1" for the placeholder or "<@ b1" for the operator`},
		{"an ambiguous power", "select a ^@ä", `1:10: ^@ä reads two ways: write "^ @ä" for the placeholder or "^@ ä" for the operator`},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			text, err := sqltext.Parse(c.sql)
			assert.EqualError(t, err, c.want)
			assert.Zero(t, text)
		})
	}
}

func TestNamesAreLimitedAsParametersAre(t *testing.T) {
	t.Parallel()
	var sql strings.Builder
	sql.WriteString("select 0")
	for i := range 65535 {
		fmt.Fprintf(&sql, ", @a%d", i)
	}
	text, err := sqltext.Parse(sql.String() + ", @a0")
	require.NoError(t, err)
	assert.Len(t, text.Names, 65535)
	assert.True(t, strings.HasSuffix(text.SQL, ", $65535, $1"))

	_, err = sqltext.Parse(sql.String() + ", @b")
	assert.ErrorContains(t, err, "@b is one name too many: PostgreSQL takes at most 65535 parameters")
}

func TestOneStatement(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, sql string }{
		{"a last semicolon is kept", "select 1 ; -- done\n"},
		{"semicolons in literals and comments are text", `select ';', E'\';', ";", $$;$$ /*;*/ --;`},
		{"a function body has semicolons", "create function f() returns int language sql\nBEGIN /* */ Atomic select 1; select 2; end;"},
		{"a rule's actions have semicolons", "create rule r as on insert to t do also (delete from a; delete from b);"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			text, err := sqltext.Parse(c.sql)
			require.NoError(t, err)
			assert.Equal(t, c.sql, text.SQL)
		})
	}
}

func TestWrites(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		sql  string
		want bool
	}{
		{"a select reads", "select 1", false},
		{"keywords have any case", "SeLeCt 1", false},
		{"keywords are ASCII", "wİth x as (select 1) select 1", true},
		{"comments come first", "/* insert */ -- delete\n select 1", false},
		{"parentheses come first", "((select 1) union select 2)", false},
		{"values read", "values (1)", false},
		{"a table reads", "table t", false},
		{"show reads", "show all", false},
		{"a row lock reads", "select * from t for update of t", false},
		{"a column may be called delete", "select count(delete), insert from update", false},
		{"a literal is no keyword", "select 'into', $$into$$", false},
		{"a quoted identifier is no keyword", `select "into" from t`, false},
		{"a quoted keyword begins no query", `"select" 1`, true},
		{"a keyword glued to a placeholder", "select@a", false},

		{"an insert writes", "insert into t select 1 on conflict do nothing", true},
		{"an update writes", "Update t set a = 1", true},
		{"a delete writes", "delete from t", true},
		{"a merge writes", "merge into t using s on true when matched then delete", true},
		{"definitions write", "create table t as select 1", true},
		{"calls write", "call p()", true},
		{"settings write", "set a = 1", true},
		{"transactions write", "begin", true},
		{"text that begins with no word writes", "@a", true},
		{"nothing in parentheses reads", "((", false},

		{"select into writes", "select a, b into temp c from t", true},
		{"select into behind a fraction writes", "select 1. into t", true},
		{"select into behind a number writes", "select 1into t", true}, // on PostgreSQL 14
		{"select into of no column writes", "select into c from t", true},
		{"select into in parentheses writes", "((select 1 as a into t) union select 2)", true},
		{"into deeper in a select is no business of ours", "select (select 1 into t)", false},
		{"a label may be called into", "select 1 as into, t.into from t", false},

		{"with of selects reads", "with a as (select 1), b (c, d) as materialized (values (1, 2)) select * from a", false},
		{"with of values or a table reads", "with a as (select 1) table a", false},
		{"an insert in with writes", "with a as (insert into t values (1) returning b) select * from a", true},
		{"an update in with materialized writes", "with a as materialized (update t set a = 1 returning b) select * from a", true},
		{"a delete in with not materialized writes", "with a as not materialized (delete from t returning b) select * from a", true},
		{"a merge in a later with writes", "with a as (select 1), b as (merge into t using s on true when matched then delete returning 1) select 1", true},
		{"a with within with writes", "with a as (with b as (select 1) delete from t returning 1) select * from a", true},
		{"with before an insert writes", "with a as (select 1) insert into t select * from a", true},
		{"with recursive before an update writes", "with recursive a(b) as (select 1 union all select b + 1 from a) update t set c = 1", true},
		{"with before select into writes", "with a as (select 1) select * into t from a", true},
		{"with in parentheses", "(with a as (delete from t returning 1) select * from a)", true},
		{"with before parentheses", "with a as (select 1) (select * from a)", false},
		{"with of keywords as names reads", "with delete (update) as (select 1), recursive as (select 2) select update from delete", false},
		{"a column list is no with", "with a as (select 1) select * from json_to_record('{}') as (update text)", false},
		{"search and cycle before a select", "with recursive a as (select 1) search depth first by b, c set d cycle b, c set e to 1 default 2 using f, g as (select 1) select 1", false},
		{"search into a quoted column", `with recursive a as (select 1) search depth first by b set "c""d" select 1`, false},
		{"search before a delete", "with recursive a as (select 1) search breadth first by b set c delete from t", true},
		{"cycle before a delete", "with recursive a as (select 1) cycle b set c using d delete from t", true},
		{"search before a delete in with", "with recursive a as (select 1) search breadth first by b set c, d as (delete from t returning 1) select 1", true},
		{"with cut short in a delete writes", "with a as (delete", true},
		{"with without a body reads", "with a as", false},
		{"with without a statement reads", "with a as (select 1)", false},
		{"with in mid search reads", "with a as (select 1) search depth", false},

		{"explain reads", "explain insert into t values (1)", false},
		{"explain verbose reads", "explain verbose delete from t", false},
		{"explain with options reads", "explain (format json, verbose) delete from t", false},
		{"explain analyze of a select reads", "explain analyze verbose select 1", false},
		{"explain (analyze) of a select reads", "explain (analyze, buffers) (select 1)", false},
		{"explain of a parenthesis reads", "explain ((select analyze))", false},
		{"explain of a select in a parenthesis reads", "explain (select analyze from t)", false},
		{"explain analyze of a delete writes", "explain analyze delete from t", true},
		{"explain (analyze) of a delete writes", "explain (costs off, analyze) delete from t", true},
		{"explain (analyse) of a delete writes", "explain (analyse) delete from t", true},
		{"explain (analyze false) counts as analyze", "explain (analyze false) delete from t", true},
		{"explain analyze of with writes", "explain analyze with a as (select 1) delete from t", true},
		{"explain analyze of select into writes", "explain analyze select 1 into t", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			text, err := sqltext.Parse(c.sql)
			require.NoError(t, err)
			assert.Equal(t, c.want, text.Writes)
			assert.Equal(t, !c.want, text.Reads)
		})
	}
}

func TestVerb(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, sql, want string }{
		{"the first keyword in lower case", "SeLeCt 1", "select"},
		{"comments and parentheses come first", "/* insert */ ((-- delete\nselect 1))", "select"},
		{"with, whatever follows it", "with a as (select 1) delete from t", "with"},
		{"a placeholder ends it", "commit@a", "commit"},
		{"a quoted identifier is none", `"select" 1`, ""},
		{"parentheses alone have none", "((", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			text, err := sqltext.Parse(c.sql)
			require.NoError(t, err)
			assert.Equal(t, c.want, text.Verb)
		})
	}
}

func FuzzParse(f *testing.F) {
	for _, sql := range []string{
		"select@a@b$$@c$$, '%'||@q||'%', x<@@y, $tag$@z$tag$;",
		"select E'a\\''\n-- it's\n'\\'', \"q\"\"@\", U&'\\0041', /* /* */ */ @ä::text",
		"with a as materialized (insert into t values (@x)) search depth first by b set c select $1",
		"explain (analyze) select 1 into t where a<@b",
		"create function f() begin atomic select 1; end; select $", "values ($1,$65535,$0)", "select a^@b;;",
		"select $@a$1", "$a$a$", "'\x00\xff", "/*/*/", "\"", "e'\\", "@a$$", "a$$@b",
	} {
		f.Add([]byte(sql))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		text, err := sqltext.Parse(string(raw))
		if err != nil {
			require.True(t, utf8.ValidString(err.Error()), "%q", err)
			require.Zero(t, text)
			return
		}
		require.True(t, utf8.ValidString(text.SQL))
		require.NotEqual(t, text.Writes, text.Reads)
		if len(text.Names) == 0 {
			require.Equal(t, string(raw), text.SQL)
			return
		}
		require.Zero(t, text.MaxParam)
		again, err := sqltext.Parse(text.SQL)
		require.NoError(t, err, "%q became %q", raw, text.SQL)
		want := text
		want.Names, want.MaxParam = nil, len(text.Names)
		require.Equal(t, want, again)
	})
}
