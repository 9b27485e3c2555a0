package pgcmdmcp_test

import (
	"context"
	"encoding/json"
	"slices"
	"testing"

	"github.com/google/jsonschema-go/jsonschema"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgcmd/pgcmd"
	"github.com/pgcmd/pgcmd/pgcmdmcp"
	"github.com/pgcmd/pgcmd/pgcmdtest"
)

// A node is a type whose schema refers to itself.
type node struct {
	Name string  `json:"name"`
	Kids []node  `json:"kids"`
	Next *node   `json:"next"`
	Note *string `json:"note"`
}

func echo[T any](name string) *pgcmd.Command[T, T] {
	return pgcmd.New(name, func(_ context.Context, _ pgcmd.DB, in T) (T, error) { return in, nil }).
		With(pgcmd.Options{ReadOnly: true, Description: "Gives back what it is given."})
}

// TestWhatGoesOutFitsItsSchema holds the results of calls against the schemas that the
// client was given, and what the server makes of an input against what its schema says.
func TestWhatGoesOutFitsItsSchema(t *testing.T) {
	t.Parallel()
	trees := pgcmd.NewCatalog(find, list, add, remove, place, numbers, maybe, wait, addGood,
		echo[node]("tree"), echo[[]node]("trees"))
	o := all
	o.Tools = slices.DeleteFunc(slices.Clone(o.Tools), func(t pgcmdmcp.Tool) bool { return t.Command == "boom" })
	o.Tools = append(o.Tools, pgcmdmcp.Tool{Command: "tree"}, pgcmdmcp.Tool{Command: "trees"})
	session := connectTo(t, pgcmdtest.Pool(t, shopDDL), trees, o)
	listed, err := session.ListTools(t.Context(), nil)
	require.NoError(t, err)
	inputs, outputs := map[string]*jsonschema.Resolved{}, map[string]*jsonschema.Resolved{}
	for _, tool := range listed.Tools {
		for _, schema := range []any{tool.InputSchema, tool.OutputSchema} {
			text, err := json.Marshal(schema)
			require.NoError(t, err)
			assert.NotContains(t, string(text), `"type":[`, "some clients take one type at a time")
		}
		inputs[tool.Name], outputs[tool.Name] = resolved(t, tool.InputSchema), resolved(t, tool.OutputSchema)
	}
	for _, c := range []struct {
		tool, arguments string
		fits            bool // the input to its schema
	}{
		{"customers_find", `{"email":"ada@example.com"}`, true},
		{"customers_find", `{"email":"none@example.com"}`, true},
		{"customers_find", `{"email":7}`, false},
		{"customers_find", `{}`, false},
		{"customers_find", `{"email":"ada@example.com","x":1}`, false},
		{"customers_search", `{"text":"example"}`, true},
		{"customers_search", `{"text":"nobody"}`, true},
		{"customers_search", `{"text":"x","by":"note"}`, false},
		{"customers_create", `{"email":"eve@example.com","note":"","token":"x"}`, true},
		{"customers_create", `{"email":"eve@example.com"}`, true},
		{"customers_create_batch", `{"input":[{"email":"1@example.com"},{"email":"eve@example.com"},{"email":"2@example.com"}]}`, true},
		{"customers_create_batch", `{"input":[]}`, true},
		{"customers_create_batch", `{"input":[7]}`, false},
		{"customers_create_batch", `[]`, false},
		{"customers_delete", `{"input":1e0}`, true},
		{"customers_delete", `{"input":9223372036854775807}`, true},
		{"customers_delete", `{"input":"1"}`, false},
		{"orders_place", `{"key":"a","id":1,"customer":2,"cents":3}`, true},
		{"orders_place", `{"key":"a","id":1,"customer":2,"cents":3}`, true},
		{"orders_place", `{"key":"a","id":1,"customer":2,"cents":3000000000}`, false},
		{"numbers", `{"input":10}`, true},
		{"numbers", `{"input":0}`, true},
		{"maybe", `{"input":null}`, true},
		{"maybe", `{"input":1}`, true},
		{"maybe", `{"input":true}`, false},
		{"maybe", `{"input":9223372036854775807}`, true},
		{"wait", `{"input":0}`, true},
		{"tree", `{"name":"a","kids":[{"name":"b","kids":[]}],"note":null}`, true},
		{"tree", `{"name":"a","kids":[{"name":1}]}`, false},
		{"trees", `{"input":[{"name":"a","next":{"name":"b"}}]}`, true},
		{"trees", `{"input":[{"name":"a","next":{"nam":"b"}}]}`, false},
	} {
		var arguments any
		require.NoError(t, json.Unmarshal([]byte(c.arguments), &arguments))
		assert.Equal(t, c.fits, inputs[c.tool].Validate(arguments) == nil, "%s %s", c.tool, c.arguments)
		r := call(t, session, c.tool, c.arguments)
		if !r.IsError {
			assert.True(t, c.fits, "%s took %s", c.tool, c.arguments)
			assert.NoError(t, outputs[c.tool].Validate(r.StructuredContent), "%s %s", c.tool, c.arguments)
		} else if !c.fits {
			assert.Equal(t, "invalid", failure(t, r).Code)
		}
	}
}

func resolved(t testing.TB, schema any) *jsonschema.Resolved {
	t.Helper()
	text, err := json.Marshal(schema)
	require.NoError(t, err)
	var s jsonschema.Schema
	require.NoError(t, json.Unmarshal(text, &s))
	r, err := s.Resolve(nil)
	require.NoError(t, err)
	return r
}
