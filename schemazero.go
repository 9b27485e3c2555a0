package pgcmd

import (
	"encoding/json"
	"reflect"

	"github.com/pgcmd/pgcmd/internal/jsonfields"
	"github.com/pgcmd/pgcmd/internal/validation"
)

// orZero is s, or the zero value, where that is taken although s does not allow it.
func orZero(r *validation.Rules, s *schema, t reflect.Type) *schema {
	zero, v := zeroOf(t), emptyOf(t)
	if r.Pointer {
		pointer := reflect.New(t)
		pointer.Elem().Set(v)
		v = pointer
	}
	if zero == nil || r.Refuses(v) || !r.OnlyIfOmitted(v) {
		return s
	}
	if choices, ok := s.get("enum").([]any); ok && len(choices) > 0 {
		return s.set("enum", append(choices, zero.get("const")))
	}
	if typ, ok := s.get("type").(string); ok && zero.get("type") == nil {
		zero = newSchema(typ).set("const", zero.get("const"))
	}
	return newSchema("").set("anyOf", []*schema{s, zero})
}

// emptyOf is the zero value of t, and of a slice or a map, one that is empty: nil is
// not what an input has.
func emptyOf(t reflect.Type) reflect.Value {
	switch t.Kind() {
	case reflect.Slice:
		return reflect.MakeSlice(t, 0, 0)
	case reflect.Map:
		return reflect.MakeMap(t)
	}
	return reflect.Zero(t)
}

// zeroOf describes emptyOf(t) in an input; nil, if it has no form that is known.
func zeroOf(t reflect.Type) *schema {
	switch {
	case t.Kind() == reflect.Pointer, t.Kind() == reflect.Interface:
		return newSchema("null")
	case t == reflect.TypeFor[json.Number](), jsonfields.Implements(t, jsonfields.Unmarshaler), jsonfields.Implements(t, jsonfields.TextUnmarshaler):
		return nil
	case t.Kind() == reflect.Struct:
		fields := properties{}
		for _, f := range jsonfields.Of(t) {
			zero := zeroOf(f.Type)
			if zero != nil && !f.Quoted && !f.Behind && f.Type.Kind() != reflect.Slice && f.Type.Kind() != reflect.Map {
				fields = append(fields, property{f.Name, zero})
			}
		}
		return newSchema("object").set("properties", fields).set("additionalProperties", false)
	}
	text, err := json.Marshal(emptyOf(t).Interface())
	if err != nil {
		return nil
	}
	return newSchema("").set("const", json.RawMessage(text))
}
