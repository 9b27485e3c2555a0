package queryfile_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgcmd/pgcmd/internal/queryfile"
)

func TestAFileOfQueries(t *testing.T) {
	t.Parallel()
	queries, problems := queryfile.Parse("users.sql", "\ufeff-- A licence.\n\n"+`create table users (id int);

-- Above.
-- name: FindUser :one
-- Below,
--
--   indented.
-- @sqlc-vet-disable
/* A block
 * of two lines. */
select u.id, -- the key
  name from users u
where email = @email and note <> '-- name: No :one; @no' ;

  -- name:ListUsers   :many
  select * from users where id = sqlc.arg( user_id ) or nick=sqlc.narg('nick') or id in (sqlc.slice("ids"))
    or id not in ( sqlc.slice(ids) ) or id = any(sqlc.slice(more)::int[]);
`+"\ufeff"+`/* name: Embed :many */
select sqlc.embed(u), x from users u where a > $1
`)
	require.Empty(t, problems)
	require.Len(t, queries, 3)
	assert.Equal(t, queryfile.Query{
		File: "users.sql", Line: 6, Name: "FindUser", Kind: "one",
		Comments: []string{"Above.", "Below,", "", "  indented.", "A block", "of two lines."},
		SQL:      "select u.id, -- the key\n  name from users u\nwhere email = @email and note <> '-- name: No :one; @no'", SQLLine: 13,
		Params: []queryfile.Param{{Name: "email"}},
	}, queries[0])
	assert.Equal(t, queryfile.Query{
		File: "users.sql", Line: 17, Name: "ListUsers", Kind: "many",
		SQL: "select * from users where id = @user_id or nick= @nick or id = any(@ids)\n    or id <> all(@ids) or id = any(@more::int[])", SQLLine: 18, Indent: 2,
		Params: []queryfile.Param{{Name: "user_id"}, {Name: "nick", Null: true}, {Name: "ids", Slice: true}, {Name: "more", Slice: true}},
	}, queries[1])
	assert.Equal(t, "select u.*, x from users u where a > $1", queries[2].SQL)
	require.Len(t, queries[2].Embeds, 1)
	assert.Equal(t, "*", queries[2].SQL[queries[2].Embeds[0].Star:][:1])
	assert.Equal(t, "u", queries[2].Embeds[0].Name)
}

func TestWhatCannotBeReadIsToldWithItsLine(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		sql  string
		want string
		note bool
	}{
		"no annotation":       {"select 1", `q.sql:1: holds no annotated query: write "-- name: FindUser :one" above a statement`, false},
		"a schema":            {"create table a ()", `q.sql:1: holds no annotated query: write "-- name: FindUser :one" above a statement`, true},
		"nothing":             {"", `q.sql:1: holds no annotated query: write "-- name: FindUser :one" above a statement`, false},
		"no kind":             {"\n-- name: FindUser\nselect 1", `q.sql:2: "name: FindUser" is not an annotation: write "-- name: FindUser :one"`, false},
		"two words":           {"-- name: Find User :one\nselect 1", `q.sql:1: "name: Find User :one" is not an annotation: write "-- name: FindUser :one"`, false},
		"another kind":        {"-- name: A :execlastid\nselect 1", `q.sql:1: A: :execlastid is none of the kinds :one, :many, :exec, :execrows, :execresult, :iter, :copyfrom, :batchexec, :batchone, :batchmany`, false},
		"not a name":          {"-- name: 1A :one\nselect 1", `q.sql:1: "1A" is not a name of Go: use letters, digits and _, and begin with a letter`, false},
		"no statement":        {"-- name: A :one\n-- select 1\n;", `q.sql:1: A: has no statement: write one below the annotation`, false},
		"twice":               {"-- name: A :one\nselect 1;\n-- name: A :one\nselect 2", `q.sql:3: A: is the name of another query, in line 1: rename one`, false},
		"a second statement":  {"-- name: A :one\nselect 1;\n\nselect 2;", `q.sql:4: a statement without a name is left out: write "-- name: FindUser :one" above it`, true},
		"an open string":      {"-- name: A :one\nselect\n 'x", `q.sql:3: the string that begins here is never closed: end it with '`, false},
		"another function":    {"-- name: A :one\nselect\n sqlc.column(x)", `q.sql:3: A: sqlc.column is none of sqlc.arg, sqlc.narg, sqlc.slice, sqlc.embed`, false},
		"two arguments":       {"-- name: A :one\nselect sqlc.arg(a, b)", `q.sql:2: A: sqlc.arg takes one name: write sqlc.arg(name)`, false},
		"no argument":         {"-- name: A :one\nselect sqlc.arg()", `q.sql:2: A: sqlc.arg takes one name: write sqlc.arg(name)`, false},
		"a name with a space": {"-- name: A :one\nselect sqlc.arg('a b')", `q.sql:2: A: 'a b' is not a name for a parameter: use letters, digits and _, and begin with a letter`, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			queries, problems := queryfile.Parse("q.sql", c.sql)
			require.Len(t, problems, 1)
			p := problems[0]
			where := fmt.Sprintf("%s:%d: ", p.File, p.Line)
			if p.Query != "" {
				where += p.Query + ": "
			}
			assert.Equal(t, c.want, where+p.Message)
			assert.Equal(t, c.note, p.Note)
			assert.LessOrEqual(t, len(queries), 1)
		})
	}
}

func TestTheMarksOfOptionalPartsArePartOfTheSQL(t *testing.T) {
	t.Parallel()
	queries, problems := queryfile.Parse("q.sql", "-- name: A :many\nselect 1 where true /*? and a = @a */ /* no */;\n/* Of B. */\n-- name: B :many\nselect b from t order by /*= @sort new: c */ b /*=*/\n/* of C */\n-- name: C :many\nselect 1")
	require.Empty(t, problems)
	assert.Equal(t, "select 1 where true /*? and a = @a */", queries[0].SQL)
	assert.Equal(t, "select b from t order by /*= @sort new: c */ b /*=*/", queries[1].SQL)
	assert.Equal(t, []string{"Of B."}, queries[1].Comments)
}

func TestWhatDefinesThingsNeedsNoName(t *testing.T) {
	t.Parallel()
	queries, problems := queryfile.Parse("q.sql", "-- name: A :one\nselect 1;\ncreate table a (id int);\ncomment on table a is 'x';")
	assert.Len(t, queries, 1)
	assert.Empty(t, problems)
}

// Whatever a file holds, it is read or refused, and what is read is within it.
func FuzzParse(f *testing.F) {
	f.Add("-- name: A :one\nselect sqlc.arg(x), sqlc.embed(t), $1, @y /* z */;")
	f.Add("/* name: A :many */ select 'x' in (sqlc.slice(ids)) -- end")
	f.Add("-- name: A :exec\n;-- name:\n$$ -- name: B :one $$")
	f.Fuzz(func(t *testing.T, text string) {
		queries, problems := queryfile.Parse("f.sql", text)
		if len(queries)+len(problems) == 0 {
			t.Fatal("neither a query nor a problem")
		}
		for _, q := range queries {
			if q.SQL == "" || q.Line < 1 || q.SQLLine < q.Line {
				t.Fatalf("%+v", q)
			}
			for _, e := range q.Embeds {
				if q.SQL[e.Star] != '*' {
					t.Fatalf("%+v", q)
				}
			}
		}
	})
}
