package pgcmdmcp

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"math/big"
	"regexp"
	"slices"
	"strings"
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

// each calls f with every schema that is directly within s, and puts what f returns in its
// place. The maps and lists of s are copied first.
func each(s map[string]any, f func(keyword, name string, inner any) any) {
	for keyword, value := range s {
		switch value := value.(type) {
		case map[string]any:
			switch keyword {
			case "properties", "$defs":
				value = maps.Clone(value)
				for name, inner := range value {
					value[name] = f(keyword, name, inner)
				}
				s[keyword] = value
			case "items", "additionalProperties", "propertyNames", "not":
				s[keyword] = f(keyword, "", value)
			}
		case []any:
			switch keyword {
			case "anyOf", "oneOf", "allOf":
				branches := make([]any, len(value))
				for i, inner := range value {
					branches[i] = f(keyword, "", inner)
				}
				s[keyword] = branches
			}
		}
	}
}

// portable returns the schema as most clients and models' providers take it. Each type
// that is a list, as of what may be null, is split into branches of one type, and a bound
// that a client written in JavaScript would round is left out.
func portable(schema any) any {
	s, ok := schema.(map[string]any)
	if !ok { // true or false
		return schema
	}
	s = maps.Clone(s)
	each(s, func(_, _ string, inner any) any { return portable(inner) })
	for _, bound := range []string{"minimum", "maximum"} {
		if n, ok := s[bound].(json.Number); ok && rounded(n) {
			delete(s, bound)
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

// rounded reports whether a number is an integer beyond those that a float64 tells apart.
func rounded(n json.Number) bool {
	f, ok := new(big.Float).SetString(n.String())
	return ok && f.Abs(f).Cmp(big.NewFloat(1<<53)) > 0
}

// forModels returns the schema of an input without what providers of models are known to
// refuse a tool for: docs/mcp.md says which. It allows no less than validation does, but
// for zero values that may as well be left out, and validation asks all the same what it
// does not say.
func forModels(schema any) any {
	s, ok := schema.(map[string]any)
	if !ok {
		return schema
	}
	s = maps.Clone(s)
	for _, keyword := range []string{"$schema", "propertyNames", "uniqueItems"} {
		delete(s, keyword)
	}
	not, _ := s["not"].(map[string]any)
	delete(s, "not")
	if branches, ok := s["anyOf"].([]any); ok { // the zero value of what is optional
		s["anyOf"] = slices.DeleteFunc(slices.Clone(branches), func(b any) bool {
			return onlyZero(b)
		})
	}
	each(s, func(_, _ string, inner any) any { return forModels(inner) })
	if branches, ok := s["anyOf"].([]any); ok && len(branches) == 1 && len(s) == 1 {
		return branches[0]
	}
	if n, ok := s["exclusiveMinimum"].(json.Number); ok {
		delete(s, "exclusiveMinimum")
		inclusive(s, "minimum", n, 1)
	}
	if n, ok := s["exclusiveMaximum"].(json.Number); ok {
		delete(s, "exclusiveMaximum")
		inclusive(s, "maximum", n, -1)
	}
	if value, ok := s["const"]; ok {
		delete(s, "const")
		choices(s, []any{value})
	}
	if values, ok := s["enum"].([]any); ok {
		delete(s, "enum")
		choices(s, values)
	}
	if format, ok := s["format"].(string); ok && format != "date-time" {
		delete(s, "format")
		note(s, "format "+format)
	}
	if encoding, ok := s["contentEncoding"].(string); ok {
		delete(s, "contentEncoding")
		note(s, encoding)
	}
	if s["writeOnly"] == true {
		delete(s, "writeOnly")
		note(s, "a secret")
	}
	if not != nil {
		note(s, fmt.Sprintf("not %v", not["const"]))
	}
	return s
}

// inclusive sets a bound for one that is exclusive: the next integer, or of a number that
// has fractions the bound itself, and says so.
func inclusive(s map[string]any, name string, n json.Number, step int64) {
	if whole, ok := new(big.Int).SetString(n.String(), 10); ok && isType(s, "integer") {
		s[name] = tighter(s[name], json.Number(whole.Add(whole, big.NewInt(step)).String()), step)
		return
	}
	s[name] = tighter(s[name], n, step)
	note(s, map[bool]string{true: "greater than ", false: "less than "}[step > 0]+n.String())
}

// isType reports whether a schema is of a type, be it nullable.
func isType(s map[string]any, typ string) bool {
	types, _ := s["type"].([]any)
	return s["type"] == typ || slices.Contains(types, any(typ))
}

// tighter is the tighter of two bounds, upwards if step is positive.
func tighter(was any, n json.Number, step int64) json.Number {
	other, ok := was.(json.Number)
	if !ok {
		return n
	}
	a, okA := new(big.Float).SetString(n.String())
	b, okB := new(big.Float).SetString(other.String())
	if okA && okB && (a.Cmp(b) > 0) != (step > 0) {
		return other
	}
	return n
}

// choices says which values there are: an enum has texts, and none that is empty.
func choices(s map[string]any, values []any) {
	var texts, others []any
	for _, value := range values {
		if text, ok := value.(string); !ok {
			others = append(others, value)
		} else if text != "" {
			texts = append(texts, value)
		}
	}
	switch {
	case isType(s, "string") && others == nil && texts != nil:
		s["enum"] = texts
	case others != nil:
		said := make([]string, len(values))
		for i, value := range values {
			said[i] = string(render(value))
		}
		note(s, "one of "+strings.Join(said, ", "))
	}
}

// onlyZero reports whether a schema allows zero values alone.
func onlyZero(schema any) bool {
	s, _ := schema.(map[string]any)
	if value, ok := s["const"]; ok {
		return isZero(value)
	}
	properties, ok := s["properties"].(map[string]any)
	if !ok || s["additionalProperties"] != false {
		return false
	}
	for _, inner := range properties {
		if p, _ := inner.(map[string]any); p["type"] != "null" && !onlyZero(inner) {
			return false
		}
	}
	return s["required"] == nil
}

func isZero(value any) bool {
	switch value := value.(type) {
	case []any:
		return !slices.ContainsFunc(value, func(v any) bool { return !isZero(v) })
	case map[string]any:
		return len(value) == 0
	}
	return value == "" || value == json.Number("0") || value == false
}

// note adds to the description.
func note(s map[string]any, text string) {
	if was, ok := s["description"].(string); ok && was != "" {
		text = was + "; " + text
	}
	s["description"] = text
}

// fieldName is what providers take as the name of a property.
var fieldName = regexp.MustCompile(`^[a-zA-Z0-9_.-]{1,64}$`)

// unnamable returns the paths of the properties of a schema whose names are not taken.
func unnamable(schema any, path string) (paths []string) {
	s, ok := schema.(map[string]any)
	if !ok {
		return nil
	}
	each(maps.Clone(s), func(keyword, name string, inner any) any {
		at := path
		switch keyword {
		case "properties":
			if at = strings.TrimPrefix(path+"."+name, "."); !fieldName.MatchString(name) {
				paths = append(paths, at)
			}
		case "items":
			at += "[]"
		case "$defs":
			at = name
		}
		paths = append(paths, unnamable(inner, at)...)
		return inner
	})
	slices.Sort(paths)
	return slices.Compact(paths)
}
