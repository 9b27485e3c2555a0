// Package schematest checks the schemas of a catalog against the schema of their draft, and the inputs and outputs of
// commands against the schemas. It uses a library that no one else in the module needs.
package schematest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgtype"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/pgcmd/pgcmd"
)

type db struct{ pgcmd.DB } // bodies do not touch it

type (
	base struct {
		ID int64 `json:"id"`
	}
	Tree struct {
		Name string `json:"name" validate:"max=5"`
		Kids []Tree `json:"kids,omitempty" validate:"dive"`
		Next *Tree  `json:"next"`
	}
	colour string
	all    struct {
		base
		*Tree  `json:",omitempty"`
		Text   string  `json:"text" validate:"required,min=2,max=8"`
		Colour colour  `validate:"omitempty,oneof=red 'light blue'"`
		Mail   string  `validate:"omitempty,email"`
		Small  int8    `validate:"gte=-3,lt=100"`
		Must   int32   `validate:"required"`
		Count  uint16  `validate:"omitempty,gt=1"`
		Real   float64 `validate:"lte=1.5"`
		Maybe  *int    `validate:"omitempty,min=3"`
		Never  *string `validate:"required"`
		Flag   bool
		Wait   time.Duration
		At     time.Time
		Day    string            `validate:"omitempty,datetime=2006-01-02"`
		List   []string          `validate:"max=2,dive,min=1"`
		Set    []int             `validate:"omitempty,unique"`
		Labels map[string]int    `validate:"max=2,dive,keys,min=2,endkeys,gte=1"`
		By     map[int8]bool     `json:",omitempty"`
		Bytes  []byte            `validate:"max=3"`
		Pair   [2]float32        `json:"pair"`
		Quoted int               `json:",string"`
		Addr   netip.Addr        `json:",omitzero"`
		Num    pgtype.Numeric    `json:",omitzero"`
		Big    *big.Int          `json:",omitempty"`
		Raw    json.RawMessage   `json:",omitempty"`
		Any    any               `json:"any"`
		Secret string            `secret:"true"`
		PIN    int               `secret:"true"`
		Deep   map[string][]Tree `validate:"dive,dive"`

		Zeros  []int8         `validate:"dive,omitempty,gt=3"`
		Named  map[string]int `validate:"dive,keys,omitempty,min=2,endkeys"`
		Few    []string       `validate:"omitzero,min=2"`
		Either *int8          `validate:"omitzero,min=3"`
		Begun  string         `validate:"max=3,omitempty,min=2"`
		Grid   [2]int8        `validate:"omitempty,dive,gt=2"`
		Leaf   leaf           `validate:"omitempty"`
		Leaves []leaf         `validate:"dive,omitempty"`
		Woods  []Tree         `validate:"dive,omitempty"`
		Loud   loud           `validate:"omitempty,oneof=RED"`
		Sure   bool           `validate:"omitempty,eq=true"`
	}
	leaf struct {
		Name string `validate:"required"`
		Next *leaf
		Tags []string
		Size struct{ W, H int16 }
	}
)

// loud is not the text of its JSON.
type loud string

func (l *loud) UnmarshalText(text []byte) error {
	*l = loud(bytes.ToUpper(text))
	return nil
}

const good = `"text":"abc","Must":1,"Never":"x","Real":0.5`

// inputs are parts of an input; what is known of each is only what the schema and
// the catalog say.
var inputs = []string{
	``, `"id":1.0`, `"id":1e3`, `"id":9223372036854775807`, `"id":9223372036854775808`, `"id":"1"`, `"id":null`, `"id":1.5`,
	`"name":"abc"`, `"name":"abcdef"`, `"kids":[{"name":"a","next":null},{"kids":[]}]`, `"kids":[{"nam":""}]`, `"next":null`,
	`"text":"äöüß"`, `"text":"a"`, `"text":"123456789"`, `"text":"12345678"`, `"Colour":"red"`, `"Colour":"light blue"`, `"Colour":"blue"`,
	`"Mail":"ada@example.com"`, `"Small":-3`, `"Small":-4`, `"Small":99`, `"Small":100`, `"Small":99.0`, `"Small":128`, `"Must":0`, `"Must":-1`,
	`"Count":2`, `"Count":1`, `"Count":-1`, `"Count":65536`, `"Real":1.5`, `"Real":1.6`, `"Real":1`, `"Maybe":null`, `"Maybe":3`, `"Maybe":2`,
	`"Never":null`, `"Never":""`, `"Flag":true`, `"Flag":1`, `"Wait":-5`, `"At":"2026-01-02T03:04:05Z"`, `"At":5`, `"Day":"2026-01-02"`,
	`"List":[]`, `"List":null`, `"List":["a","b"]`, `"List":["a","b","c"]`, `"List":[""]`, `"List":{}`, `"Set":[1,2]`, `"Set":[1,1]`,
	`"Labels":{"ab":1}`, `"Labels":{"a":1}`, `"Labels":{"ab":0}`, `"Labels":{"ab":1,"bc":1,"cd":1}`, `"Labels":null`, `"By":{"-5":true}`, `"By":{"x":true}`, `"By":{"05":true}`,
	`"Bytes":"YWFh"`, `"Bytes":"YWFhYQ=="`, `"Bytes":""`, `"pair":[1,2]`, `"pair":[1]`, `"pair":[1,2,3]`, `"Quoted":"5"`, `"Quoted":5`,
	`"Addr":"10.0.0.1"`, `"Addr":7`, `"Num":1.25`, `"Big":123456789012345678901234567890`, `"Big":null`, `"Raw":{"a":[1]}`, `"any":{"a":[null]}`, `"any":null`,
	`"Secret":"s","PIN":4`, `"Deep":{"a":[{"name":"x"}]}`, `"Deep":{"a":[{"name":"xxxxxx"}]}`, `"Deep":{"a":null}`, `"other":1`,

	// what is omitted where it is zero
	`"Colour":""`, `"Colour":null`, `"Mail":""`, `"Count":0`, `"Maybe":0`, `"Day":""`, `"Set":[]`,
	`"Zeros":[0,4]`, `"Zeros":[3]`, `"Named":{"":1,"ab":2}`, `"Named":{"a":1}`, `"Few":[]`, `"Few":["a"]`, `"Few":["a","b"]`,
	`"Either":0`, `"Either":2`, `"Either":3`, `"Either":null`, `"Begun":""`, `"Begun":"a"`, `"Begun":"ab"`, `"Begun":"abcd"`,
	`"Grid":[0,0]`, `"Grid":[0,3]`, `"Grid":[3,4]`, `"Leaf":{}`, `"Leaf":{"Name":""}`, `"Leaf":{"Name":"","Next":null,"Size":{"W":0}}`,
	`"Leaf":{"Name":"x"}`, `"Leaf":{"Size":{"W":1}}`, `"Leaf":{"Tags":[]}`, `"Leaves":[{},{"Name":"x"}]`, `"Leaves":[{"Size":{"H":1}}]`,
	`"Woods":[{}]`, `"Woods":[{"name":""}]`, `"Woods":[{"name":"xxxxxx"}]`, `"Loud":"red"`, `"Loud":""`, `"Sure":false`, `"Sure":true`,
}

func TestSchemasAreValidAndAgreeWithTheCatalog(t *testing.T) {
	catalog := pgcmd.NewCatalog(pgcmd.New("all", func(_ context.Context, _ pgcmd.DB, in all) (all, error) { return in, nil }))
	info := catalog.Manifest().Commands[0]
	in, out := compile(t, info.Input), compile(t, info.Output)
	taken := 0
	for _, part := range inputs {
		input := merge(t, part)
		inSchema := in.Validate(value(t, input))
		result, err := catalog.Run(t.Context(), db{}, "all", input)
		switch {
		case inSchema == nil && err != nil:
			t.Errorf("%s follows the schema and is refused: %v", part, err)
		case inSchema != nil && err == nil:
			t.Errorf("%s is taken and does not follow the schema: %v", part, inSchema)
		case err == nil:
			taken++
			if err := out.Validate(value(t, result)); err != nil {
				t.Errorf("the output of %s does not follow its schema: %v\n%s", part, err, result)
			}
		}
	}
	if taken < len(inputs)/3 {
		t.Errorf("only %d of %d inputs were taken", taken, len(inputs))
	}
	t.Logf("%d of %d inputs taken", taken, len(inputs))
}

func TestTypesOfPgtypeFollowTheirSchemas(t *testing.T) {
	type in struct {
		B  pgtype.Bool
		T  pgtype.Text
		I  pgtype.Int2
		U  pgtype.Uint32
		F  pgtype.Float4
		N  pgtype.Numeric
		D  pgtype.Date
		TS pgtype.Timestamp
		TZ pgtype.Timestamptz
		ID pgtype.UUID
		P  pgtype.Point
	}
	catalog := pgcmd.NewCatalog(pgcmd.New("x", func(_ context.Context, _ pgcmd.DB, given in) (in, error) { return given, nil }))
	info := catalog.Manifest().Commands[0]
	inSchema, outSchema := compile(t, info.Input), compile(t, info.Output)
	taken := 0
	for _, field := range []string{"B", "T", "I", "U", "F", "N", "D", "TS", "TZ", "ID", "P"} {
		for _, json := range []string{`null`, `true`, `5`, `-1`, `70000`, `"x"`, `"NaN"`, `"infinity"`, `"2006-01-02"`, `"2006-01-02T15:04:05Z"`,
			`"6ba7b810-9dad-41d1-80b4-00c04fd430c8"`, `"(1,2)"`, `[1,2]`, `{}`} {
			input := []byte(`{"` + field + `":` + json + `}`)
			result, err := catalog.Run(t.Context(), db{}, "x", input)
			switch schemaErr := inSchema.Validate(value(t, input)); {
			case err != nil: // a schema does not say what a text must hold
				if e, _ := errors.AsType[*pgcmd.Error](err); len(e.Problems) != 1 || e.Problems[0].Field != field || strings.Contains(e.Problems[0].Message, "pgtype") {
					t.Errorf("%s: %v", input, err)
				}
				if json[0] != '"' && schemaErr == nil {
					t.Errorf("%s follows the schema and is refused: %v", input, err)
				}
				continue
			case schemaErr != nil:
				t.Errorf("%s is taken and does not follow the schema: %v", input, schemaErr)
			}
			taken++
			if err := outSchema.Validate(value(t, result)); err != nil {
				t.Errorf("the output of %s does not follow its schema: %v", input, err)
			}
		}
	}
	if taken < 30 {
		t.Errorf("only %d were taken", taken)
	}
}

func TestOutputsFollowTheirSchemas(t *testing.T) {
	name := "x"
	check(t, all{})
	check(t, all{Num: pgtype.Numeric{Int: big.NewInt(5), Exp: -1, Valid: true}, Secret: "x", PIN: 5, Big: big.NewInt(7)})
	check(t, Tree{Kids: []Tree{{Next: &Tree{}}}})
	check(t, []Tree(nil))
	check(t, map[string][]byte{"a": nil, "b": {1}})
	check(t, [][]*string{{nil, &name}, nil})
	check(t, struct{ V, W any }{map[string]any{"a": []int{1}}, nil})
	check(t, []pgtype.Timestamptz{{}, {Time: time.Now(), Valid: true}, {InfinityModifier: pgtype.Infinity, Valid: true}})
	check(t, pgcmd.AdHocResult{})
	check(t, pgcmd.AdHocResult{Columns: []string{"a"}, Rows: []map[string]any{{"a": [16]byte{1}}}})
	check(t, struct {
		T time.Time   `secret:"true"`
		N json.Number `secret:"true"`
		P *string     `secret:"true"`
		S []string    `secret:"true"`
	}{time.Now(), "5", &name, []string{"x"}})
}

func check[T any](t *testing.T, out T) {
	t.Helper()
	follow(t, pgcmd.New("x", func(context.Context, pgcmd.DB, struct{}) (T, error) { return out, nil }), `{}`)
}

func TestBatchesFollowTheirSchemas(t *testing.T) {
	half := pgcmd.New("half", func(_ context.Context, _ pgcmd.DB, n int) (*Tree, error) {
		switch {
		case n < 0:
			return nil, errors.New("a body's own")
		case n == 1:
			return nil, pgcmd.Errorf(pgcmd.CodeInvalid, "odd %w", &pgcmd.Error{Problems: []pgcmd.Problem{{Field: "N", Rule: "odd", Message: "is odd"}}})
		}
		return &Tree{Name: fmt.Sprint(n)}, nil
	})
	follow(t, pgcmd.Batch(half, pgcmd.Independent), `[0,1,2,-1]`)
	follow(t, pgcmd.Batch(half, pgcmd.Sequential), `[0,1,2,-1]`)
	follow(t, pgcmd.Batch(half, pgcmd.Sequential), `[]`)
}

func follow(t *testing.T, def pgcmd.Definition, input string) {
	t.Helper()
	catalog := pgcmd.NewCatalog(def)
	info := catalog.Manifest().Commands[0]
	compile(t, info.Input)
	result, err := catalog.Run(t.Context(), db{}, def.Name(), json.RawMessage(input))
	if result == nil {
		t.Fatal(err)
	}
	if err := compile(t, info.Output).Validate(value(t, result)); err != nil {
		t.Errorf("%v\n%s\n%s", err, result, info.Output)
	}
}

// merge makes an input of the good one and a part that replaces some of it.
func merge(t testing.TB, part string) []byte {
	t.Helper()
	fields := map[string]json.RawMessage{}
	for _, text := range []string{good, part} {
		if err := json.Unmarshal([]byte("{"+text+"}"), &fields); err != nil {
			t.Fatal(text, err)
		}
	}
	text, err := json.Marshal(fields)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func value(t testing.TB, text []byte) any {
	t.Helper()
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// compile checks the schema against the draft's own.
func compile(t testing.TB, text []byte) *jsonschema.Schema {
	t.Helper()
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft2020)
	if err := c.AddResource("schema.json", value(t, text)); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("schema.json")
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return s
}

// What a catalog takes follows the input's schema, and what it gives follows the
// output's. The other way round a schema can be wider: it does not know of names
// that come twice, nor of a base64 that is not strict.
func FuzzSchemas(f *testing.F) {
	for _, part := range inputs {
		f.Add(merge(f, part))
	}
	catalog := pgcmd.NewCatalog(pgcmd.New("all", func(_ context.Context, _ pgcmd.DB, in all) (all, error) { return in, nil }))
	info := catalog.Manifest().Commands[0]
	in, out := compile(f, info.Input), compile(f, info.Output)
	f.Fuzz(func(t *testing.T, input []byte) {
		result, err := catalog.Run(t.Context(), db{}, "all", input)
		if err != nil || len(input) == 0 {
			return
		}
		if err := in.Validate(value(t, input)); err != nil {
			t.Errorf("taken, and does not follow the schema: %v\n%s", err, input)
		}
		if err := out.Validate(value(t, result)); err != nil {
			t.Errorf("the output does not follow its schema: %v\n%s", err, result)
		}
	})
}
