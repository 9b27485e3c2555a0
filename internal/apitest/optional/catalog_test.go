package optional_test

import (
	"database/sql"
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgcmd/pgcmd"
)

type Search struct {
	Email *string  `json:"email_like"`
	Tags  []string `json:"tags"`
	Age   int      `json:"age"`
	Sort  string   `json:"sort"`
	Order *Order   `json:"order" validate:"omitempty,oneof=up down"`
	Kind  string   `json:"kind" validate:"omitempty,oneof=a c"`
}

var search = pgcmd.Query[Search, int]("users.search", `
	select id from users
	where age > @age
	/*? and email like @email */
	/*? and
		email = any (@tags) and @email::text <> '' */
	order by /*= @sort email: email; age: age, id */ id /*=*/, /*= @order up: 1; down: 1 desc */ 1 /*=*/, /*= @kind a: 1; b: 1 */ 1 /*=*/`).
	With(pgcmd.Options{ReadOnly: true})

func TestACatalogShowsWhatIsOptionalAndWhatCanBeChosen(t *testing.T) {
	t.Parallel()
	for name, def := range map[string]pgcmd.Definition{"users.search": search, "users.search[]": pgcmd.Batch(search, pgcmd.Atomic)} {
		info := pgcmd.NewCatalog(def).Manifest().Commands[0]
		assert.Equal(t, name, info.Name)
		var schema struct {
			Properties map[string]struct {
				Type  any
				Enum  []any
				AnyOf []struct{ Enum []any }
			}
			Required []string
			Items    json.RawMessage
		}
		require.NoError(t, json.Unmarshal(info.Input, &schema))
		if schema.Items != nil {
			require.NoError(t, json.Unmarshal(schema.Items, &schema))
		}
		assert.Empty(t, schema.Required)
		assert.Equal(t, []any{"string", "null"}, schema.Properties["email_like"].Type)
		assert.Equal(t, []any{"", "email", "age"}, schema.Properties["sort"].Enum)
		assert.Equal(t, []any{"up", "down"}, schema.Properties["order"].AnyOf[0].Enum, "nil is the default, and validation refuses an empty text")
		assert.Equal(t, []any{"", "a"}, schema.Properties["kind"].Enum, "what the tag allows and the choice has")
		assert.Nil(t, schema.Properties["age"].Enum)
	}
	plain := pgcmd.Query[Search, int]("plain", `select id from users where email = @sort`)
	assert.NotContains(t, string(pgcmd.NewCatalog(plain).Manifest().Commands[0].Input), `"age, id"`)
	assert.NotContains(t, string(pgcmd.NewCatalog(plain).Manifest().Commands[0].Input), `["","email","age"]`)
}

func TestACatalogRunsVariants(t *testing.T) {
	t.Parallel()
	pool, sent := connect(t, pgcmd.Config{})
	c := pgcmd.NewCatalog(search, pgcmd.Batch(search, pgcmd.Independent), pgcmd.QueryFunc[Search, int]("built", func(in Search) (string, []any, error) {
		return "select id from users where age > $1 order by id", []any{in.Age}, nil
	}))
	for input, want := range map[string]string{
		`{}`: "[1,2,3]", `{"email_like": "%.com"}`: "[1,2]", `{"email_like": null, "age": 20}`: "[1,3]", `{"sort": "age"}`: "[2,3,1]", `{"sort": "", "order": "up"}`: "[1,2,3]",
		`{"email_like": "%", "tags": ["eve@example.org"]}`: "[3]", `{"tags": ["eve@example.org"]}`: "[1,2,3]",
	} {
		out, err := c.Run(t.Context(), pool, "users.search", json.RawMessage(input))
		require.NoError(t, err, input)
		assert.Equal(t, want, string(out), input)
	}
	out, err := c.Run(t.Context(), pool, "built", json.RawMessage(`{"age": 20}`))
	require.NoError(t, err)
	assert.Equal(t, "[1,3]", string(out))
	sent.take()
	_, err = c.Run(t.Context(), pool, "users.search", json.RawMessage(`{"sort": "name", "kind": "b"}`))
	e := refused(t, err, pgcmd.CodeInvalid, pgcmd.NotApplied, "kind must be one of [a c]; sort must be one of email, age, or empty for the default")
	assert.Equal(t, "sort", e.Problems[1].Field)
	assert.Empty(t, sent.take())
	out, err = c.Run(t.Context(), pool, "users.search[]", json.RawMessage(`[{"sort": "name"}, {"sort": "age"}]`))
	require.NoError(t, err)
	assert.Contains(t, string(out), `"field":"sort","rule":"choice","message":"sort must`)
	assert.Contains(t, string(out), `"value":[2,3,1]`)
}

func TestTheMarkdownOfACatalogListsThePartsAndChoices(t *testing.T) {
	t.Parallel()
	var text strings.Builder
	require.NoError(t, pgcmd.NewCatalog(search, execBuilt).WriteMarkdown(&text))
	for _, want := range []string{
		"```sql\nselect id from users\nwhere age > @age\n/*? and email like @email */\n",
		"order by /*= @sort email: email; age: age, id */ id /*=*/",
		"\n`@age` is age, `@email` is email\\_like, `@tags` is tags\n",
		"\n- sent if `@email` is set: `and email like @email`\n",
		"\n- sent if `@email` and `@tags` are set: `and email = any (@tags) and @email::text <> ''`\n",
		"\n- chosen by sort: `email`, `age`, or the default\n",
		"| sort | string | enum \\[\"\",\"email\",\"age\"\\] |",
		"The SQL is made by a Go function for each input.",
	} {
		assert.Contains(t, text.String(), want)
	}
	info := pgcmd.NewCatalog(execBuilt).Manifest().Commands[0]
	assert.NotContains(t, info.Codes, pgcmd.CodeTooManyRows)
	assert.NotContains(t, info.Codes, pgcmd.CodeNotFound)
	assert.Contains(t, info.Codes, pgcmd.CodeFailed)
}

// What a Null needs to be in JSON is not the library's business: it has the form that Go gives it.
func TestAnAbsentNullInJSON(t *testing.T) {
	t.Parallel()
	pool, _ := connect(t, pgcmd.Config{})
	type In struct{ Name sql.NullString }
	c := pgcmd.NewCatalog(pgcmd.Query[In, int]("x", `select id from users where true /*? and name = @name */ order by id`))
	out, err := c.Run(t.Context(), pool, "x", json.RawMessage(`{"Name": {"String": "Ada", "Valid": true}}`))
	require.NoError(t, err)
	assert.Equal(t, "[1]", string(out))
	out, err = c.Run(t.Context(), pool, "x", nil)
	require.NoError(t, err)
	assert.Equal(t, "[1,2,3]", string(out))
}
