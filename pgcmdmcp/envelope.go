package pgcmdmcp

import (
	"bytes"
	"encoding/json"
	"slices"

	"github.com/pgcmd/pgcmd"
)

// An envelope is the object that MCP wants around an input or an output that is none.
type envelope struct {
	field string // of the object; empty if there is no envelope
	array bool   // what is within is an array, or may be
}

// wrap returns the schema of the enveloped value, and the envelope. items, if not zero,
// is the most elements that an array may have.
func wrap(schema json.RawMessage, field string, items int) (map[string]any, envelope) {
	inner := parse(schema)
	if inner["type"] == "object" {
		return inner, envelope{}
	}
	types, _ := inner["type"].([]any)
	array := inner["type"] == "array" || slices.Contains(types, any("array"))
	if array && items > 0 {
		given, _ := inner["maxItems"].(json.Number)
		if most, err := given.Int64(); err != nil || most > int64(items) {
			inner["maxItems"] = items
		}
	}
	outer := map[string]any{
		"$schema":              inner["$schema"],
		"type":                 "object",
		"properties":           map[string]any{field: inner},
		"required":             []string{field},
		"additionalProperties": false,
	}
	delete(inner, "$schema")
	if defs, ok := inner["$defs"]; ok { // which references look for at the root
		outer["$defs"] = defs
		delete(inner, "$defs")
	}
	return outer, envelope{field, array}
}

func render(v any) json.RawMessage {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		panic(err) // a mistake of this package's
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}

// open takes the value out of an object that has the field and no other. Like the
// catalog it repeats nothing of what it was given.
func (e envelope) open(object json.RawMessage) (value json.RawMessage, problem *pgcmd.Problem) {
	if e.field == "" {
		return object, nil
	}
	if len(object) == 0 {
		object = json.RawMessage("{}")
	}
	dec := json.NewDecoder(bytes.NewReader(object))
	if start, err := dec.Token(); err != nil || start != json.Delim('{') {
		return nil, &pgcmd.Problem{Rule: "type", Message: "must be an object"}
	}
	for dec.More() {
		key, err := dec.Token()
		if err != nil {
			return nil, &pgcmd.Problem{Rule: "json", Message: "is not JSON"}
		}
		switch {
		case key != e.field:
			return nil, &pgcmd.Problem{Rule: "unknown", Message: "has a field that is not known: there is " + e.field + " alone"}
		case value != nil:
			return nil, &pgcmd.Problem{Field: e.field, Rule: "duplicate", Message: "is given twice: give it once"}
		}
		if err := dec.Decode(&value); err != nil {
			return nil, &pgcmd.Problem{Field: e.field, Rule: "json", Message: "is not JSON"}
		}
	}
	if value == nil {
		return nil, &pgcmd.Problem{Field: e.field, Rule: "required", Message: e.field + " is a required field"}
	}
	return value, nil
}

// close puts the value into its object.
func (e envelope) close(value json.RawMessage) json.RawMessage {
	if e.field == "" {
		return value
	}
	text := make([]byte, 0, len(value)+len(e.field)+5)
	text = append(text, `{"`+e.field+`":`...)
	return append(append(text, value...), '}')
}

// named names the fields of the error's problems as the client sees them.
func (e envelope) named(err *pgcmd.Error) *pgcmd.Error {
	if e.field == "" || len(err.Problems) == 0 {
		return err
	}
	whole := *err
	whole.Problems = make([]pgcmd.Problem, len(err.Problems))
	for i, p := range err.Problems {
		switch {
		case p.Field == "":
			p.Field = e.field
		case p.Field[0] == '[':
			p.Field = e.field + p.Field
		default:
			p.Field = e.field + "." + p.Field
		}
		whole.Problems[i] = p
	}
	return &whole
}

// length counts the elements of an array; 0 for what is none.
func length(value json.RawMessage) (n int) {
	dec := json.NewDecoder(bytes.NewReader(value))
	if start, err := dec.Token(); err != nil || start != json.Delim('[') {
		return 0
	}
	var element json.RawMessage
	for dec.More() && dec.Decode(&element) == nil {
		n++
	}
	return n
}
