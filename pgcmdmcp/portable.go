package pgcmdmcp

import (
	"bytes"
	"encoding/json"
	"maps"
)

// parse reads a schema of the catalog's, whose numbers are larger than a float64 holds.
func parse(schema json.RawMessage) (s map[string]any) {
	dec := json.NewDecoder(bytes.NewReader(schema))
	dec.UseNumber()
	if err := dec.Decode(&s); err != nil {
		panic(err) // the catalog made it
	}
	return s
}

// portable returns the schema with each type that is a list, as of what may be null,
// split into branches of one type: some models' providers take no other, and would drop
// the tool.
func portable(schema any) any {
	s, ok := schema.(map[string]any)
	if !ok { // true or false
		return schema
	}
	s = maps.Clone(s)
	for keyword, value := range s {
		switch value := value.(type) {
		case map[string]any:
			switch keyword {
			case "properties", "$defs":
				value = maps.Clone(value)
				for name, inner := range value {
					value[name] = portable(inner)
				}
				s[keyword] = value
			case "items", "additionalProperties", "propertyNames", "not":
				s[keyword] = portable(value)
			}
		case []any:
			switch keyword {
			case "anyOf", "oneOf", "allOf":
				branches := make([]any, len(value))
				for i, inner := range value {
					branches[i] = portable(inner)
				}
				s[keyword] = branches
			}
		}
	}
	types, ok := s["type"].([]any)
	if !ok {
		return s
	}
	branches := make([]any, len(types))
	for i, typ := range types {
		if typ == "null" {
			branches[i] = map[string]any{"type": typ}
			continue
		}
		branch := maps.Clone(s)
		branch["type"] = typ
		branches[i] = branch
	}
	return map[string]any{"anyOf": branches}
}
