package pgcmd

import (
	"bytes"
	"encoding/json"
	"slices"
)

// A schema is a JSON Schema: its keywords, in the order in which they are written.
type schema struct{ keywords []keyword }

type keyword struct {
	name  string
	value any
}

// newSchema makes one of a type; an empty one allows anything.
func newSchema(typ string) *schema {
	s := &schema{}
	if typ != "" {
		s.set("type", typ)
	}
	return s
}

func (s *schema) get(name string) any {
	for _, k := range s.keywords {
		if k.name == name {
			return k.value
		}
	}
	return nil
}

func (s *schema) set(name string, value any) *schema {
	for i := range s.keywords {
		if s.keywords[i].name == name {
			s.keywords[i].value = value
			return s
		}
	}
	s.keywords = append(s.keywords, keyword{name, value})
	return s
}

// is reports whether s is of the type, nullable or not.
func (s *schema) is(typ string) bool {
	switch t := s.get("type").(type) {
	case string:
		return t == typ
	case []string:
		return slices.Contains(t, typ)
	}
	return false
}

// nullable is s, or null.
func (s *schema) nullable() *schema {
	if len(s.keywords) == 0 {
		return s
	}
	typ, ok := s.get("type").(string)
	if !ok || s.get("enum") != nil || s.get("const") != nil {
		return newSchema("").set("anyOf", []*schema{s, newSchema("null")})
	}
	n := &schema{slices.Clone(s.keywords)}
	return n.set("type", []string{typ, "null"})
}

// properties are the fields of an object, in their order.
type properties []property

type property struct {
	name   string
	schema *schema
}

// MarshalJSON writes the keywords in their order.
func (s *schema) MarshalJSON() ([]byte, error) {
	return marshalOrdered(len(s.keywords), func(i int) (string, any) { return s.keywords[i].name, s.keywords[i].value })
}

// MarshalJSON writes the fields in their order.
func (p properties) MarshalJSON() ([]byte, error) {
	return marshalOrdered(len(p), func(i int) (string, any) { return p[i].name, p[i].schema })
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
