// Package jsonschema describes Go types as JSON Schema of the draft 2020-12: an input as
// strictjson and validation accept it, an output as encoding/json writes it. It knows no
// commands.
package jsonschema

import (
	"bytes"
	"encoding/json"
	"slices"
)

// A Schema is a JSON Schema: its keywords, in the order in which they are written.
type Schema struct{ Keywords []Keyword }

// A Keyword is one keyword of a schema.
type Keyword struct {
	Name  string
	Value any
}

// New returns the schema of a JSON type. Without one it allows any value.
func New(typ string) *Schema {
	s := &Schema{}
	if typ != "" {
		s.Set("type", typ)
	}
	return s
}

// Get returns the value of the keyword called name, nil if s has none.
func (s *Schema) Get(name string) any {
	for _, k := range s.Keywords {
		if k.Name == name {
			return k.Value
		}
	}
	return nil
}

// Set sets the keyword called name, and returns s.
func (s *Schema) Set(name string, value any) *Schema {
	for i := range s.Keywords {
		if s.Keywords[i].Name == name {
			s.Keywords[i].Value = value
			return s
		}
	}
	s.Keywords = append(s.Keywords, Keyword{name, value})
	return s
}

// is reports whether s has the JSON type, nullable or not.
func (s *Schema) is(typ string) bool {
	switch t := s.Get("type").(type) {
	case string:
		return t == typ
	case []string:
		return slices.Contains(t, typ)
	}
	return false
}

// Nullable returns a schema that allows what s does, and null.
func (s *Schema) Nullable() *Schema {
	if len(s.Keywords) == 0 {
		return s
	}
	typ, ok := s.Get("type").(string)
	if !ok || s.Get("enum") != nil || s.Get("const") != nil {
		return New("").Set("anyOf", []*Schema{s, New("null")})
	}
	n := &Schema{slices.Clone(s.Keywords)}
	return n.Set("type", []string{typ, "null"})
}

// Properties are the fields of an object, in their order.
type Properties []Property

// A Property is one field of an object.
type Property struct {
	Name   string
	Schema *Schema
}

// MarshalJSON writes the keywords in their order.
func (s *Schema) MarshalJSON() ([]byte, error) {
	return marshalOrdered(len(s.Keywords), func(i int) (string, any) { return s.Keywords[i].Name, s.Keywords[i].Value })
}

// MarshalJSON writes the fields in their order.
func (p Properties) MarshalJSON() ([]byte, error) {
	return marshalOrdered(len(p), func(i int) (string, any) { return p[i].Name, p[i].Schema })
}

func marshalOrdered(n int, at func(i int) (name string, value any)) ([]byte, error) {
	var b bytes.Buffer
	b.WriteByte('{')
	for i := range n {
		name, value := at(i)
		if i > 0 {
			b.WriteByte(',')
		}
		key, err := json.Marshal(name)
		if err != nil {
			return nil, err
		}
		text, err := json.Marshal(value)
		if err != nil {
			return nil, err
		}
		b.Write(key)
		b.WriteByte(':')
		b.Write(text)
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}
