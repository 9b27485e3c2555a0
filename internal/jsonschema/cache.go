package jsonschema

import (
	"encoding/json"
	"reflect"
	"sync"
)

// A Cache makes the schemas of types, each once. It is safe for concurrent use.
type Cache struct {
	Forms Forms
	known sync.Map // cacheKey -> *Cached
}

// A Cached is a schema, the mistakes in its type, and its text, which is made when it is asked for.
type Cached struct {
	*Schema
	Mistakes []string
	Text     func() json.RawMessage
}

type cacheKey struct {
	direction string
	t         reflect.Type
}

// Of is [Of]. A schema with enums is not kept, since they are not of the type.
func (c *Cache) Of(direction string, t reflect.Type, enums ...Enum) *Cached {
	key := cacheKey{direction, t}
	if known, ok := c.known.Load(key); ok && len(enums) == 0 {
		return known.(*Cached)
	}
	schema, mistakes := Of(direction, t, c.Forms, enums...)
	s := &Cached{schema, mistakes, sync.OnceValue(func() json.RawMessage {
		text, err := json.Marshal(schema)
		if err != nil {
			panic(err) // a bug of this package
		}
		return text
	})}
	if len(enums) == 0 {
		c.known.Store(key, s)
	}
	return s
}
