package sqltext_test

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgcmd/pgcmd/internal/sqltext"
)

func TestVariants(t *testing.T) {
	t.Parallel()
	all := sqltext.Variant{Parts: 1<<64 - 1}
	second := all.WithOption(0, 2)
	for _, c := range []struct {
		name, sql         string
		none, all, option string // the texts of three variants
		names             string
	}{
		{"a part is left out or stays", "a /*? b @x */ c", "a   c", "a  b $1  c", "a  b $1  c", "x"},
		{"numbers are those of the variant", "@c /*? @b */ @a @b", "$1   $2 $3", "$1  $2  $3 $2", "$1  $2  $3 $2", "c b a"},
		{"lines stay", "a\n/*?\n\nb @x\n\n*/\nc", "a\n\n\n\n\n\nc", "a\n\n\nb $1\n\n\nc", "a\n\n\nb $1\n\n\nc", "x"},
		{"a choice has a default and others", "a /*= @s x: 1; y: @b\n; */ 2 /*=*/ c", "a \n2  c", "a \n2  c", "a  $1\n c", "b"},
		{"a default may be empty", "a/*= @s x: 1; y: 2 *//*=*/c", "a c", "a c", "a 2 c", ""},
		{"a choice of one name twice", "a /*= @s x: 1; y: 2 */ 3 /*=*/ /*= @s y: 4; x: 5 */ 6 /*=*/", "a  3   6 ", "a  3   6 ", "a  2   4 ", ""},
		{"parts after each other", "a/*?b @x*//*?c @y*/d", "a  d", "a b $1  c $2 d", "a b $1  c $2 d", "x y"},
		{"a literal is not continued", "'a'/*?\n||@x||'c'*/\n'b'", "'a'/**/\n\n'b'", "'a'/**/\n||$1||'c'/**/ \n'b'", "'a'/**/\n||$1||'c'/**/ \n'b'", "x"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			template, err := sqltext.ParseTemplate(c.sql)
			require.NoError(t, err)
			require.NotNil(t, template)
			assert.Equal(t, c.names, strings.Join(template.Names, " "))
			for want, v := range map[string]sqltext.Variant{c.none: {}, c.all: all, c.option: second} {
				if len(template.Choices) == 0 {
					v = sqltext.Variant{Parts: v.Parts}
				}
				text, err := template.Text(v)
				require.NoError(t, err)
				assert.Equal(t, want, text.SQL)
				assert.Equal(t, strings.Count(c.sql, "\n"), strings.Count(text.SQL, "\n"))
			}
		})
	}
}

func TestSQLWithoutMarksIsNoTemplate(t *testing.T) {
	t.Parallel()
	for _, sql := range []string{"select 1", "select '/*? @a */'", "select $$/*= @a b: 1 */$$", "-- /*? @a */\nselect 1", "/* /*? @a */ */ select 1", `select "/*?"`, "/*== users ==*/ select 1", "select 1 /*??? why */", "select 1 */ /+*?"} {
		template, err := sqltext.ParseTemplate(sql)
		assert.NoError(t, err, sql)
		assert.Nil(t, template, sql)
	}
}

func TestATemplateHasLimits(t *testing.T) {
	t.Parallel()
	for says, sql := range map[string]string{
		"there are more than 64 optional parts":    "select 1 " + strings.Repeat("/*? @a */", 65),
		"there are more than 8 choices":            "select 1 " + manyChoices(9),
		"the choice has 256 names, and can have 1": "select /*= @a " + manyOptions(256) + " */ 1 /*=*/",
	} {
		_, err := sqltext.ParseTemplate(sql)
		assert.ErrorContains(t, err, says)
	}
	for _, sql := range []string{"select 1 " + strings.Repeat("/*? @a */", 64), "select 1 " + manyChoices(8), "select /*= @a " + manyOptions(255) + " */ 1 /*=*/"} {
		template, err := sqltext.ParseTemplate(sql)
		require.NoError(t, err)
		v := sqltext.Variant{Parts: 1<<64 - 1}
		for i, c := range template.Choices {
			v = v.WithOption(i, len(c.Options))
		}
		assert.Equal(t, template.Merged(v), sqltext.Tokens(template.Write(v)))
	}
}

func manyChoices(n int) string {
	var b strings.Builder
	for i := range n {
		b.WriteString("/*= @" + strings.Repeat("a", i+1) + " x: 1 */ 2 /*=*/")
	}
	return b.String()
}

func manyOptions(n int) string {
	var b strings.Builder
	for i := range n {
		b.WriteString(strings.Repeat("a", i+1) + ": 1;")
	}
	return b.String()
}

// What is sent is, token by token, what is written: without parts it is the text that psql sees, and each part and option
// comes at its place.
func FuzzVariants(f *testing.F) {
	for _, sql := range []string{
		"select 1 /*? and @a */ /*= @s x: 1; y: '2;' */ 3 /*=*/", "'a'/*?\n'b'||@x*/\n'c'", "a/*?+@b*/-c", "E'\\''/*?--@a\n@b--*/\n'\\'",
		"select@a/*?@b*/@c/*? @d */$$ $$", "/*= @s a::b */", "/*=@s a-1:1;b.c : @x;*//*=*//*?@y*/", "'x'/*=@s a:'1';b:\n'2'*/'d'/*=*/\n'e'",
		"a /*? /* @a */ @b */ /* /*? @c */ */ -- /*? @d */", "/*?*/", "/*=*/", "1/*?.5@a*/e5", "a/*?$b$@a$b$*/$b$ $b$", "-/*?-@a*/-\n1",
	} {
		f.Add(sql, uint64(1), uint64(1))
	}
	f.Fuzz(func(t *testing.T, sql string, parts, choices uint64) {
		template, err := sqltext.ParseTemplate(sql)
		if err != nil {
			require.True(t, utf8.ValidString(err.Error()), "%q", err)
			require.Regexp(t, `^\d+:\d+: `, err)
			return
		}
		if template == nil {
			return
		}
		require.Equal(t, sqltext.Tokens(sql), sqltext.Tokens(template.Write(sqltext.Variant{})), "%q", sql)
		v := sqltext.Variant{Parts: parts}
		for i, c := range template.Choices {
			v = v.WithOption(i, int(choices>>(8*i)&0xff)%(len(c.Options)+1))
		}
		require.Equal(t, template.Merged(v), sqltext.Tokens(template.Write(v)), "%q", sql)
		require.Equal(t, strings.Count(sql, "\n"), strings.Count(template.Write(v), "\n"))
		if text, err := template.Text(v); err == nil {
			require.Subset(t, template.Names, text.Names)
		}
	})
}
