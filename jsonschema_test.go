package pgcmd_test

import (
	"context"
	"encoding/json"
	"math/big"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgtype"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgcmd/pgcmd"
)

// schemas returns the schemas of an echo of T, without $schema.
func schemas[T any](t testing.TB) (input, output string) {
	t.Helper()
	return schemasOf(t, echo[T]("x"))
}

func schemasOf(t testing.TB, def pgcmd.Definition) (input, output string) {
	t.Helper()
	info := pgcmd.NewCatalog(def).Manifest().Commands[0]
	const draft = `{"$schema":"https://json-schema.org/draft/2020-12/schema"`
	require.True(t, strings.HasPrefix(string(info.Input), draft))
	strip := func(text json.RawMessage) string {
		return "{" + strings.TrimPrefix(strings.TrimPrefix(string(text), draft), ",")
	}
	return strip(info.Input), strip(info.Output)
}

const (
	int32Schema = `{"type":"integer","minimum":-2147483648,"maximum":2147483647}`
	int64Schema = `{"type":"integer","minimum":-9223372036854775808,"maximum":9223372036854775807}`
)

func TestSchemaOfTypes(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		of            func(testing.TB) (input, output string)
		input, output string // output is the input if it is empty
	}{
		"bool":             {schemas[bool], `{"type":"boolean"}`, ``},
		"string":           {schemas[string], `{"type":"string"}`, ``},
		"int8":             {schemas[int8], `{"type":"integer","minimum":-128,"maximum":127}`, ``},
		"int32":            {schemas[int32], int32Schema, ``},
		"int":              {schemas[int], int64Schema, ``},
		"uint16":           {schemas[uint16], `{"type":"integer","minimum":0,"maximum":65535}`, ``},
		"uint64":           {schemas[uint64], `{"type":"integer","minimum":0,"maximum":18446744073709551615}`, ``},
		"float32":          {schemas[float32], `{"type":"number"}`, ``},
		"json.Number":      {schemas[json.Number], `{"type":"number"}`, ``},
		"any":              {schemas[any], `{}`, ``},
		"raw JSON":         {schemas[json.RawMessage], `{}`, ``},
		"time":             {schemas[time.Time], `{"type":"string","format":"date-time"}`, ``},
		"duration":         {schemas[time.Duration], `{"type":"integer","minimum":-9223372036854775808,"maximum":9223372036854775807,"description":"nanoseconds"}`, ``},
		"bytes":            {schemas[[]byte], `{"type":"string","contentEncoding":"base64"}`, `{"type":["string","null"],"contentEncoding":"base64"}`},
		"an address":       {schemas[netip.Addr], `{"type":"string"}`, ``},
		"a pgtype":         {schemas[pgtype.Numeric], `{"type":["number","string","null"],"description":"a number, \"NaN\", \"Infinity\", \"-Infinity\" or null"}`, ``},
		"a big integer":    {schemas[big.Int], `{}`, ``},
		"a pointer":        {schemas[*int32], `{"type":["integer","null"],"minimum":-2147483648,"maximum":2147483647}`, ``},
		"a pointer to any": {schemas[*any], `{}`, ``},
		"a slice":          {schemas[[]string], `{"type":"array","items":{"type":"string"}}`, `{"type":["array","null"],"items":{"type":"string"}}`},
		"an array":         {schemas[[2]bool], `{"type":"array","items":{"type":"boolean"},"minItems":2,"maxItems":2}`, ``},
		"a map":            {schemas[map[string]bool], `{"type":"object","additionalProperties":{"type":"boolean"}}`, `{"type":["object","null"],"additionalProperties":{"type":"boolean"}}`},
		"a map of numbers": {schemas[map[int8]bool], `{"type":"object","propertyNames":{"pattern":"^(0|-?[1-9][0-9]*)$"},"additionalProperties":{"type":"boolean"}}`,
			`{"type":["object","null"],"propertyNames":{"pattern":"^(0|-?[1-9][0-9]*)$"},"additionalProperties":{"type":"boolean"}}`},
		"an empty struct": {schemas[struct{}], `{"type":"object","properties":{},"additionalProperties":false}`, ``},
		"names": {schemas[struct {
			Plain   string
			Tagged  string `json:"tagged"`
			Omitted string `json:",omitempty"`
			Zero    string `json:"zero,omitzero"`
			//lint:ignore SA5008 a name that encoding/json knows
			Dash string `json:"-,"`
			Left string `json:"-"`
		}],
			`{"type":"object","properties":{"Plain":{"type":"string"},"tagged":{"type":"string"},"Omitted":{"type":"string"},"zero":{"type":"string"},"-":{"type":"string"}},"additionalProperties":false}`,
			`{"type":"object","properties":{"Plain":{"type":"string"},"tagged":{"type":"string"},"Omitted":{"type":"string"},"zero":{"type":"string"},"-":{"type":"string"}},"required":["Plain","tagged","-"],"additionalProperties":false}`},
		"embedded structs": {schemas[struct {
			schemaBase
			*SchemaMore
			Named schemaBase `json:"named"`
		}],
			`{"type":"object","properties":{"ID":{"type":"boolean"},"More":{"type":"boolean"},"named":{"type":"object","properties":{"ID":{"type":"boolean"}},"additionalProperties":false}},"additionalProperties":false}`,
			`{"type":"object","properties":{"ID":{"type":"boolean"},"More":{"type":"boolean"},"named":{"type":"object","properties":{"ID":{"type":"boolean"}},"required":["ID"],"additionalProperties":false}},"required":["ID","named"],"additionalProperties":false}`},
		"secrets": {schemas[struct {
			Text string `secret:"true"`
		}],
			`{"type":"object","properties":{"Text":{"type":"string","writeOnly":true}},"additionalProperties":false}`,
			`{"type":"object","properties":{"Text":{"type":"string","description":"a secret, not shown"}},"required":["Text"],"additionalProperties":false}`},
		"quoted": {schemas[struct {
			N *int64 `json:",string"`
		}],
			`{"type":"object","properties":{"N":{"type":["string","null"],"description":"the value as JSON, within a text"}},"additionalProperties":false}`,
			`{"type":"object","properties":{"N":{"type":["string","null"],"description":"the value as JSON, within a text"}},"required":["N"],"additionalProperties":false}`},
		"a tree": {schemas[schemaTree],
			`{"type":"object","properties":{"Name":{"type":"string"},"Under":{"type":"array","items":{"$ref":"#/$defs/schemaTree"}},"Next":{"anyOf":[{"$ref":"#/$defs/schemaTree"},{"type":"null"}]}},"additionalProperties":false,` +
				`"$defs":{"schemaTree":{"type":"object","properties":{"Name":{"type":"string"},"Under":{"type":"array","items":{"$ref":"#/$defs/schemaTree"}},"Next":{"anyOf":[{"$ref":"#/$defs/schemaTree"},{"type":"null"}]}},"additionalProperties":false}}}`,
			`{"type":"object","properties":{"Name":{"type":"string"},"Under":{"type":["array","null"],"items":{"$ref":"#/$defs/schemaTree"}},"Next":{"anyOf":[{"$ref":"#/$defs/schemaTree"},{"type":"null"}]}},"required":["Name","Under","Next"],"additionalProperties":false,` +
				`"$defs":{"schemaTree":{"type":"object","properties":{"Name":{"type":"string"},"Under":{"type":["array","null"],"items":{"$ref":"#/$defs/schemaTree"}},"Next":{"anyOf":[{"$ref":"#/$defs/schemaTree"},{"type":"null"}]}},"required":["Name","Under","Next"],"additionalProperties":false}}}`},
		"trees": {schemas[schemaNest], `{"type":"array","items":{"$ref":"#/$defs/schemaNest"},"$defs":{"schemaNest":{"type":"array","items":{"$ref":"#/$defs/schemaNest"}}}}`,
			`{"type":["array","null"],"items":{"$ref":"#/$defs/schemaNest"},"$defs":{"schemaNest":{"type":["array","null"],"items":{"$ref":"#/$defs/schemaNest"}}}}`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if c.output == "" {
				c.output = c.input
			}
			input, output := c.of(t)
			assert.Equal(t, c.input, input)
			assert.Equal(t, c.output, output)
		})
	}
}

type (
	schemaBase struct{ ID bool }
	SchemaMore struct{ More bool }
	schemaTree struct {
		Name  string
		Under []schemaTree
		Next  *schemaTree
	}
	schemaNest []schemaNest
)

// shouted is not the text of its JSON.
type shouted string

func (s *shouted) UnmarshalText(text []byte) error {
	*s = shouted(strings.ToUpper(string(text)))
	return nil
}

func TestSchemaOfValidateTags(t *testing.T) {
	t.Parallel()
	optional := func(of string) string {
		return `{"type":"object","properties":{"V":` + of + `},"additionalProperties":false}`
	}
	needed := func(of string) string {
		return `{"type":"object","properties":{"V":` + of + `},"required":["V"],"additionalProperties":false}`
	}
	type inner struct {
		V string `validate:"required"`
	}
	for name, c := range map[string]struct {
		of    func(testing.TB) (input, output string)
		input string
	}{
		"required text": {schemas[struct {
			V string `validate:"required"`
		}], needed(`{"type":"string","minLength":1}`)},
		"required number": {schemas[struct {
			V int32 `validate:"required"`
		}], needed(`{"type":"integer","minimum":-2147483648,"maximum":2147483647,"not":{"const":0}}`)},
		"required bool": {schemas[struct {
			V bool `validate:"required"`
		}], needed(`{"type":"boolean","const":true}`)},
		"required pointer": {schemas[struct {
			V *int32 `validate:"required"`
		}], needed(`{"type":"integer","minimum":-2147483648,"maximum":2147483647}`)},
		"required slice": {schemas[struct {
			V []bool `validate:"required"`
		}], needed(`{"type":"array","items":{"type":"boolean"}}`)},
		"a number's bounds": {schemas[struct {
			V int32 `validate:"gte=-1,lt=10"`
		}], optional(`{"type":"integer","minimum":-1,"maximum":2147483647,"exclusiveMaximum":10}`)},
		"a number that must be there": {schemas[struct {
			V int32 `validate:"min=1,max=9"`
		}], needed(`{"type":"integer","minimum":1,"maximum":9}`)},
		"a number that may be left out": {schemas[struct {
			V int32 `validate:"omitempty,min=1"`
		}], optional(`{"anyOf":[{"type":"integer","minimum":1,"maximum":2147483647},{"type":"integer","const":0}]}`)},
		"a fraction": {schemas[struct {
			V float64 `validate:"gt=-0.5,lte=1.5"`
		}], optional(`{"type":"number","exclusiveMinimum":-0.5,"maximum":1.5}`)},
		"an exact number": {schemas[struct {
			V int8 `validate:"len=3"`
		}], needed(`{"type":"integer","minimum":3,"maximum":3}`)},
		"a duration": {schemas[struct {
			V time.Duration `validate:"lte=1s"`
		}], optional(`{"type":"integer","minimum":-9223372036854775808,"maximum":1000000000,"description":"nanoseconds"}`)},
		"a text's length": {schemas[struct {
			V string `validate:"gt=2,lt=10"`
		}], needed(`{"type":"string","minLength":3,"maxLength":9}`)},
		"an exact length": {schemas[struct {
			V string `validate:"omitempty,len=2"`
		}], optional(`{"anyOf":[{"type":"string","minLength":2,"maxLength":2},{"type":"string","const":""}]}`)},
		"a slice's size": {schemas[struct {
			V []string `validate:"max=3,unique,dive,min=1,max=5"`
		}], optional(`{"type":"array","items":{"type":"string","minLength":1,"maxLength":5},"maxItems":3,"uniqueItems":true}`)},
		"elements of elements": {schemas[struct {
			V [][]string `validate:"dive,max=2,dive,required"`
		}], optional(`{"type":"array","items":{"type":"array","items":{"type":"string","minLength":1},"maxItems":2}}`)},
		"a map's keys": {schemas[struct {
			V map[string]string `validate:"max=2,dive,keys,min=2,endkeys,max=9"`
		}], optional(`{"type":"object","additionalProperties":{"type":"string","maxLength":9},"maxProperties":2,"propertyNames":{"type":"string","minLength":2}}`)},
		"bytes": {schemas[struct {
			V []byte `validate:"max=4"`
		}], optional(`{"type":"string","contentEncoding":"base64","maxLength":8}`)},
		"one of some texts": {schemas[struct {
			V string `validate:"oneof=red 'light blue'"`
		}], needed(`{"type":"string","enum":["red","light blue"]}`)},
		"one of some numbers, or null": {schemas[struct {
			V *int8 `validate:"omitempty,oneof=1 2"`
		}], optional(`{"anyOf":[{"type":"integer","minimum":-128,"maximum":127,"enum":[1,2]},{"type":"null"}]}`)},
		"one of some texts, or none": {schemas[struct {
			V string `validate:"omitempty,oneof=red blue"`
		}], optional(`{"type":"string","enum":["red","blue",""]}`)},
		"a text's length, at most": {schemas[struct {
			V string `validate:"omitempty,max=9"`
		}], optional(`{"type":"string","maxLength":9}`)},
		"an element that may be zero": {schemas[struct {
			V []int8 `validate:"dive,omitempty,gt=3"`
		}], optional(`{"type":"array","items":{"anyOf":[{"type":"integer","minimum":-128,"maximum":127,"exclusiveMinimum":3},{"type":"integer","const":0}]}}`)},
		"omitted after it was asked": {schemas[struct {
			V string `validate:"min=1,omitempty,max=9"`
		}], needed(`{"type":"string","minLength":1,"maxLength":9}`)},
		"a text of its own making": {schemas[struct {
			V shouted `validate:"max=3"`
		}], optional(`{"type":"string"}`)},
		"an e-mail address": {schemas[struct {
			V string `validate:"omitempty,email,max=99"`
		}], optional(`{"anyOf":[{"type":"string","format":"email","maxLength":99},{"type":"string","const":""}]}`)},
		"a UUID": {schemas[struct {
			V string `validate:"uuid4"`
		}], needed(`{"type":"string","format":"uuid"}`)},
		"a URL": {schemas[struct {
			V string `validate:"omitempty,url"`
		}], optional(`{"anyOf":[{"type":"string","format":"uri"},{"type":"string","const":""}]}`)},
		"a day": {schemas[struct {
			V string `validate:"omitempty,datetime=2006-01-02"`
		}], optional(`{"anyOf":[{"type":"string","format":"date"},{"type":"string","const":""}]}`)},
		"a nullable text": {schemas[struct {
			V *string `validate:"omitempty,max=3"`
		}], optional(`{"type":["string","null"],"maxLength":3}`)},
		"a rule about another field": {schemas[struct {
			V string `validate:"required_without=W,max=3"`
		}], optional(`{"type":"string","maxLength":3}`)},
		"a choice of rules": {schemas[struct {
			V string `validate:"omitempty,email|url"`
		}], optional(`{"type":"string"}`)},
		"no rules": {schemas[struct {
			V string `validate:"-"`
		}], optional(`{"type":"string"}`)},
		"a struct with a field that must be there": {schemas[struct{ V inner }], needed(needed(`{"type":"string","minLength":1}`))},
		"a pointer to one":                         {schemas[struct{ V *inner }], optional(`{"type":["object","null"],"properties":{"V":{"type":"string","minLength":1}},"required":["V"],"additionalProperties":false}`)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			input, output := c.of(t)
			assert.Equal(t, c.input, input)
			for _, word := range []string{"min", "max", "enum", "const", "format", "not"} {
				if strings.Contains(output, `"`+word) && !strings.Contains(output, `imum":`) {
					t.Errorf("an output is not validated, and its schema must not promise it: %s", output)
				}
			}
		})
	}
}

func TestSchemaOfABatch(t *testing.T) {
	t.Parallel()
	input, output := schemasOf(t, pgcmd.Batch(pgcmd.New("x", func(context.Context, pgcmd.DB, bool) (bool, error) { return true, nil }), pgcmd.Independent))
	assert.Equal(t, `{"type":"array","items":{"type":"boolean"}}`, input)
	assert.True(t, strings.HasPrefix(output, `{"type":"object","properties":{"outcomes":{"type":["array","null"],"items":{"type":"object","oneOf":[`+
		`{"type":"object","properties":{"ok":{"const":true},"value":{"type":"boolean"},"attempts":{"type":"integer"},"elapsed_ms":{"type":"number"},"replayed":{"type":"boolean"},"durability_warning":{"type":"boolean"}},"required":["ok","value","attempts","elapsed_ms"],"additionalProperties":false},`+
		`{"type":"object","properties":{"ok":{"const":false},"error":{"$ref":"#/$defs/Error"}},"required":["ok","error"],"additionalProperties":false}]}},`), output)
}

// What encoding/json makes of embedded structs, the schema and the decoder must
// make of them too.
func TestSchemaNamesTheFieldsThatJSONHas(t *testing.T) {
	t.Parallel()
	type a struct{ X, Y, Z int }
	type b struct {
		X int
		Y int `json:"Y"`
	}
	type c struct {
		a
		b
		Z int
	}
	type twice struct {
		a
		Other struct{ a }
	}
	type left struct{ a }
	type right struct{ a }
	type diamond struct {
		left
		right
	}
	type inline struct {
		A a `json:",inline"`
		b `json:"named"`
		time.Time
	}
	type bad struct {
		//lint:ignore SA5008 a name that encoding/json does not take
		A int `json:"a'b"`
		B int `json:"ä.-"`
	}
	check := func(of func(testing.TB) (string, string), v any) {
		_, output := of(t)
		var schema struct {
			Properties map[string]any
		}
		require.NoError(t, json.Unmarshal([]byte(output), &schema))
		text, err := json.Marshal(v)
		require.NoError(t, err)
		var fields map[string]any
		if json.Unmarshal(text, &fields) != nil {
			assert.Nil(t, schema.Properties, "it marshals itself")
			return
		}
		for name := range schema.Properties {
			assert.Contains(t, fields, name, "%T", v)
		}
		assert.Len(t, schema.Properties, len(fields), "%T", v)
	}
	check(schemas[c], c{})
	check(schemas[twice], twice{})
	check(schemas[diamond], diamond{})
	check(schemas[inline], inline{})
	check(schemas[bad], bad{})
}
