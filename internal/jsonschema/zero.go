package jsonschema

import (
	"encoding/json"
	"reflect"

	"github.com/pgcmd/pgcmd/internal/jsonfields"
	"github.com/pgcmd/pgcmd/internal/validation"
)

// orZero returns a schema that also allows the zero value, if validation accepts it and s
// does not.
func orZero(r *validation.Rules, s *Schema, t reflect.Type) *Schema {
	zero, v := zeroOf(t), emptyOf(t)
	if r.Pointer {
		pointer := reflect.New(t)
		pointer.Elem().Set(v)
		v = pointer
	}
	if zero == nil || r.Refuses(v) || !r.OnlyIfOmitted(v) {
		return s
	}
	if choices, ok := s.Get("enum").([]any); ok && len(choices) > 0 {
		return s.Set("enum", append(choices, zero.Get("const")))
	}
	if typ, ok := s.Get("type").(string); ok && zero.Get("type") == nil {
		zero = New(typ).Set("const", zero.Get("const"))
	}
	return New("").Set("anyOf", []*Schema{s, zero})
}

// emptyOf returns the zero value of t, for a slice or a map an empty one, since an input has
// no nil.
func emptyOf(t reflect.Type) reflect.Value {
	switch t.Kind() {
	case reflect.Slice:
		return reflect.MakeSlice(t, 0, 0)
	case reflect.Map:
		return reflect.MakeMap(t)
	}
	return reflect.Zero(t)
}

// zeroOf describes emptyOf(t) in an input. It returns nil if its JSON is not known.
func zeroOf(t reflect.Type) *Schema {
	switch {
	case t.Kind() == reflect.Pointer, t.Kind() == reflect.Interface:
		return New("null")
	case t == reflect.TypeFor[json.Number](), jsonfields.Implements(t, jsonfields.Unmarshaler), jsonfields.Implements(t, jsonfields.TextUnmarshaler):
		return nil
	case t.Kind() == reflect.Struct:
		fields := Properties{}
		for _, f := range jsonfields.Of(t) {
			zero := zeroOf(f.Type)
			if zero != nil && !f.Quoted && !f.Behind && f.Type.Kind() != reflect.Slice && f.Type.Kind() != reflect.Map {
				fields = append(fields, Property{f.Name, zero})
			}
		}
		return New("object").Set("properties", fields).Set("additionalProperties", false)
	}
	text, err := json.Marshal(emptyOf(t).Interface())
	if err != nil {
		return nil
	}
	return New("").Set("const", json.RawMessage(text))
}
