package pgcmdmcp_test

import (
	"context"
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgcmd/pgcmd"
	"github.com/pgcmd/pgcmd/pgcmdmcp"
	"github.com/pgcmd/pgcmd/pgcmdtest"
)

type (
	picky struct {
		Above   int64             `json:"above" validate:"gt=0,lt=100"`
		Share   float64           `json:"share" validate:"gt=0,lt=1"`
		Big     int64             `json:"big"`
		Huge    uint64            `json:"huge"`
		Small   int8              `json:"small" validate:"ne=3"`
		Mood    string            `json:"mood" validate:"omitempty,oneof=glad sad"`
		Mail    string            `json:"mail" validate:"omitempty,email"`
		Level   int               `json:"level" validate:"oneof=1 2 3"`
		Agreed  bool              `json:"agreed" validate:"required"`
		Exactly string            `json:"exactly" validate:"eq=yes"`
		Five    int               `json:"five" validate:"omitempty,eq=5"`
		Count   int               `json:"count" validate:"required"`
		Maybe   *int32            `json:"maybe" validate:"omitempty,gt=2"`
		Moods   []string          `json:"moods" validate:"unique,dive,omitempty,oneof=glad sad"`
		Keys    map[string]string `json:"keys" validate:"dive,keys,max=3,endkeys"`
		Numbers map[int]string    `json:"numbers"`
		Inner   pickyInner        `json:"inner" validate:"omitempty"`
		Kids    []picky           `json:"kids"`
		At      time.Time         `json:"at"`
		Bytes   []byte            `json:"bytes"`
		Secret  string            `json:"secret" secret:"true"`
	}
	pickyInner struct {
		Mood  string `json:"mood" validate:"required,oneof=glad sad"`
		Count int    `json:"count" validate:"gt=5"`
	}
)

// TestInputsHaveNothingThatProvidersAreKnownToRefuse is of what docs/mcp.md lists.
func TestInputsHaveNothingThatProvidersAreKnownToRefuse(t *testing.T) {
	t.Parallel()
	session := connectTo(t, pgcmdtest.Pool(t), pgcmd.NewCatalog(echo[picky]("picky"), echo[[]picky]("pickies")),
		pgcmdmcp.Options{Tools: []pgcmdmcp.Tool{{Command: "picky"}, {Command: "pickies"}}})
	listed, err := session.ListTools(t.Context(), nil)
	require.NoError(t, err)
	name := regexp.MustCompile(`^[a-zA-Z_][a-zA-Z0-9_-]{0,63}$`)
	property := regexp.MustCompile(`^[a-zA-Z0-9_.-]{1,64}$`)
	for _, tool := range listed.Tools {
		assert.Regexp(t, name, tool.Name)
		text, err := json.Marshal(tool.InputSchema)
		require.NoError(t, err)
		for _, keyword := range []string{"$schema", "exclusiveMinimum", "exclusiveMaximum", "const", "not", "propertyNames", "uniqueItems", "contentEncoding", "writeOnly", "multipleOf"} {
			assert.NotContains(t, string(text), `"`+keyword+`":`)
		}
		assert.NotContains(t, string(text), `"type":[`)
		var walk func(path string, schema map[string]any)
		walk = func(path string, schema map[string]any) {
			if enum, ok := schema["enum"].([]any); ok {
				assert.Equal(t, "string", schema["type"], path)
				assert.NotContains(t, enum, "", path)
				for _, value := range enum {
					assert.IsType(t, "", value, path)
				}
			}
			if format, ok := schema["format"]; ok {
				assert.Equal(t, "date-time", format, path)
			}
			for _, bound := range []string{"minimum", "maximum"} {
				if n, ok := schema[bound].(float64); ok {
					assert.LessOrEqual(t, max(n, -n), float64(1<<53), path)
				}
			}
			for keyword, value := range schema {
				switch value := value.(type) {
				case map[string]any:
					if keyword != "properties" && keyword != "$defs" {
						walk(path+"/"+keyword, value)
						continue
					}
					for name, inner := range value {
						assert.Regexp(t, property, name)
						walk(path+"/"+name, inner.(map[string]any))
					}
				case []any:
					for i, inner := range value {
						if inner, ok := inner.(map[string]any); ok {
							walk(fmt.Sprint(path, "/", keyword, i), inner)
						}
					}
				}
			}
		}
		var schema map[string]any
		require.NoError(t, json.Unmarshal(text, &schema))
		walk(tool.Name, schema)
	}
}

// What is right fits the schema, but for zero values that may be left out; what cannot be
// said so that everybody takes it is said in words, and asked by validation.
func TestPortableSchemasAllowWhatIsRight(t *testing.T) {
	t.Parallel()
	session := connectTo(t, pgcmdtest.Pool(t), pgcmd.NewCatalog(echo[picky]("picky")), pgcmdmcp.Options{Tools: []pgcmdmcp.Tool{{Command: "picky"}}})
	listed, err := session.ListTools(t.Context(), nil)
	require.NoError(t, err)
	schema := resolved(t, listed.Tools[0].InputSchema)
	const right = `"above":1,"share":0.5,"level":2,"agreed":true,"exactly":"yes","count":1`
	for fields, want := range map[string]struct{ fits, taken bool }{
		right: {true, true},
		right + `,"big":-9007199254740993,"huge":18446744073709551615`:                                            {true, true},
		right + `,"small":-128,"mood":"sad","mail":"a@example.com","five":5,"maybe":3`:                            {true, true},
		right + `,"maybe":null,"moods":["glad"],"keys":{"a":"b"},"inner":{"mood":"sad","count":6},"bytes":"eA=="`: {true, true},
		right + `,"mood":"","five":0`:                                  {false, true}, // which may be left out
		right + `,"small":3`:                                           {true, false},
		right + `,"mood":"so"`:                                         {false, false},
		right + `,"moods":["x"]`:                                       {false, false},
		right + `,"moods":["sad","sad"]`:                               {true, false},
		right + `,"keys":{"abcd":""}`:                                  {true, false},
		right + `,"inner":{"mood":"sad","count":5}`:                    {false, false},
		right + `,"maybe":2`:                                           {false, false},
		right + `,"five":4`:                                            {true, false},
		strings.Replace(right, `"above":1`, `"above":0`, 1):            {false, false},
		strings.Replace(right, `"above":1`, `"above":100`, 1):          {false, false},
		strings.Replace(right, `"share":0.5`, `"share":0`, 1):          {true, false}, // the next float64 is no round number
		strings.Replace(right, `"level":2`, `"level":4`, 1):            {true, false},
		strings.Replace(right, `"agreed":true`, `"agreed":false`, 1):   {true, false},
		strings.Replace(right, `"exactly":"yes"`, `"exactly":"no"`, 1): {false, false},
	} {
		text := "{" + fields + "}"
		var value any
		require.NoError(t, json.Unmarshal([]byte(text), &value))
		err := schema.Validate(value)
		assert.Equal(t, want.fits, err == nil, "%s: %v", text, err)
		assert.Equal(t, want.taken, !call(t, session, "picky", text).IsError, text)
	}
	text, err := json.Marshal(listed.Tools[0].InputSchema)
	require.NoError(t, err)
	for _, said := range []string{"greater than 0; less than 1", "one of 1, 2, 3", "one of true", "format email", "base64", "a secret"} {
		assert.Contains(t, string(text), said)
	}
}

type (
	spaced struct {
		OrderID int `json:"order id"`
	}
	accented struct {
		Size int        `json:"größe"`
		Kids []accented `json:"kids"`
	}
	named struct {
		Good   int               `json:"good.name-1_A"`
		Filter int               `json:"filter[x]"`
		Long   int               `json:"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"`
		Inner  spaced            `json:"inner"`
		List   []spaced          `json:"list"`
		ByName map[string]spaced `json:"by name"`
		Maybe  *spaced           `json:"maybe"`
		Tree   accented          `json:"tree"`
		spacedToo
	}
	spacedToo struct {
		Cost int `json:"$cost"`
	}
)

func TestNamesThatProvidersRefuseAreRefusedAtNew(t *testing.T) {
	t.Parallel()
	c := pgcmd.NewCatalog(echo[named]("named"), echo[[]spaced]("spaced"), echo[accented]("accented"), echo[pickyInner]("9lives"),
		pgcmd.New("output", func(context.Context, pgcmd.DB, pickyInner) (out []spaced, err error) { return out, nil }).
			With(pgcmd.Options{ReadOnly: true, Description: "x"}))
	refused := func(command, path string) string {
		return fmt.Sprintf("pgcmdmcp: the field %q of the input of %s has a name that models' providers refuse: "+
			"give it 1 to 64 letters, digits, _, . or - by a json tag", path, command)
	}
	_, err := pgcmdmcp.New(c, pgcmdtest.Pool(t), pgcmdmcp.Options{Tools: []pgcmdmcp.Tool{
		{Command: "named"}, {Command: "spaced"}, {Command: "accented"}, {Command: "9lives"}, {Command: "output", Name: "-x"}}})
	var want []string
	for _, path := range []string{"$cost", strings.Repeat("a", 65), "accented.größe", "by name", "by name.order id", "filter[x]", "inner.order id", "list[].order id", "maybe.order id"} {
		want = append(want, refused("named", path))
	}
	want = append(want, refused("spaced", "[].order id"), refused("accented", "accented.größe"), refused("accented", "größe"),
		`pgcmdmcp: 9lives would be the tool "9lives": set Tool.Name to 1 to 64 letters, digits, _ or -, of which the first is a letter or _`,
		`pgcmdmcp: output would be the tool "-x": set Tool.Name to 1 to 64 letters, digits, _ or -, of which the first is a letter or _`)
	assert.EqualError(t, err, strings.Join(want, "\n"))
	_, err = pgcmdmcp.New(c, pgcmdtest.Pool(t), pgcmdmcp.Options{Tools: []pgcmdmcp.Tool{{Command: "output"}, {Command: "9lives", Name: "nine"}}})
	assert.NoError(t, err, "the names of a result are the client's own business")
}

// A field that SQL leaves out if it is absent is not required, and one that chooses SQL lists what it can.
func TestToolsShowOptionalPartsAndChoices(t *testing.T) {
	t.Parallel()
	type filter struct {
		Least *int    `json:"least"`
		Sort  string  `json:"sort"`
		Also  *string `json:"also"`
	}
	count := pgcmd.Query[filter, int]("count", `select n from generate_series(1, 3) n where true /*? and n >= @least */
		order by /*= @sort down: n desc; up: n */ n /*=*/, /*= @also up: n */ 1 /*=*/`)
	session := connectTo(t, pgcmdtest.Pool(t), pgcmd.NewCatalog(count.With(pgcmd.Options{ReadOnly: true, Description: "Counts."})), pgcmdmcp.Options{Tools: []pgcmdmcp.Tool{{Command: "count"}}})
	listed, err := session.ListTools(t.Context(), nil)
	require.NoError(t, err)
	text, err := json.Marshal(listed.Tools[0].InputSchema)
	require.NoError(t, err)
	assert.NotContains(t, string(text), "required")
	assert.Contains(t, string(text), `"enum":["down","up"]`)
	assert.Contains(t, string(text), `"enum":["up"]`)
	for input, want := range map[string]string{`{}`: "[1,2,3]", `{"least": 2, "sort": "down"}`: "[3,2]", `{"least": null, "also": null}`: "[1,2,3]"} {
		result := call(t, session, "count", input)
		got, err := json.Marshal(result.StructuredContent)
		require.NoError(t, err)
		assert.Contains(t, string(got), want, input)
	}
	assert.True(t, call(t, session, "count", `{"sort": "n; drop table x"}`).IsError)
}
