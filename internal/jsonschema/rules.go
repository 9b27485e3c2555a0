package jsonschema

import (
	"encoding/json"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pgcmd/pgcmd/internal/jsonfields"
	"github.com/pgcmd/pgcmd/internal/validation"
)

// constrained describes a field of in, part of an input, with the rules of its validate tag, and reports
// whether the field is required. Rules that JSON Schema cannot express are left out.
func (b *Builder) constrained(in reflect.Type, f jsonfields.Field, path string) (*Schema, bool) {
	t := f.Type
	if t.Kind() == reflect.Pointer {
		if t = pointee(t); t == nil {
			return b.Of(f.Type, path), false
		}
	}
	rules := validation.ParseTag(f.StructField.Tag.Get("validate"))
	s := b.chosen(applyRules(rules.OfPointee(f.Type), b.Of(t, path), t), in, f)
	required := !f.Behind && (rules.RefusesZero(f.Type) || hasRequired(s, f.Type) && !rules.Optional)
	if f.Type.Kind() == reflect.Pointer && !required { // if it is required, validation refuses nil, which is null
		return s.Nullable(), false
	}
	return s, required
}

// hasRequired reports whether a struct has a required field, so that the struct is required
// too.
func hasRequired(s *Schema, t reflect.Type) bool {
	return t.Kind() == reflect.Struct && s.Get("required") != nil
}

// applyRules returns a copy of unruled, the schema of type t, with the rules added.
func applyRules(r *validation.Rules, unruled *Schema, t reflect.Type) *Schema {
	s := &Schema{slices.Clone(unruled.Keywords)}
	for _, rule := range r.List {
		applyRule(rule, s, t)
	}
	if items, ok := s.Get("items").(*Schema); ok && r.Elements != nil {
		s.Set("items", applyToElements(r.Elements, items, t.Elem()))
	}
	if values, ok := s.Get("additionalProperties").(*Schema); ok && r.Elements != nil {
		s.Set("additionalProperties", applyToElements(r.Elements, values, t.Elem()))
		if r.Elements.Keys != nil && t.Key().Kind() == reflect.String {
			s.Set("propertyNames", applyRules(r.Elements.Keys, New("string"), t.Key()))
		}
	}
	if r.Optional && (t.Kind() == reflect.Struct || !reflect.DeepEqual(s, unruled)) {
		return orZero(r, s, t)
	}
	return s
}

// applyToElements adds the rules to the schema of elements of type t. Rules of pointers
// apply to the values that they point to.
func applyToElements(r *validation.Rules, s *Schema, t reflect.Type) *Schema {
	of := pointee(t)
	if of == nil {
		return s
	}
	choices, ok := s.Get("anyOf").([]*Schema)
	if t.Kind() == reflect.Pointer && ok { // a value, or null
		return New("").Set("anyOf", []*Schema{applyRules(r.OfPointee(t), choices[0], of), choices[1]})
	}
	return applyRules(r.OfPointee(t), s, of)
}

var formats = map[string]string{
	"email": "email", "url": "uri", "http_url": "uri", "https_url": "uri", "uri": "uri",
	"ipv4": "ipv4", "ipv6": "ipv6", "hostname_rfc1123": "hostname", "fqdn": "hostname",
}

var patterns = map[string]string{
	"alpha": "^[a-zA-Z]+$", "alphanum": "^[a-zA-Z0-9]+$", "number": "^[0-9]+$", "e164": `^\+?[1-9]\d{7,14}$`,
}

func applyRule(r validation.Rule, s *Schema, t reflect.Type) {
	switch r.Name {
	case "required":
		applyRequired(s, t)
	case "min", "gte":
		bound(s, t, r.Param, true, false)
	case "gt":
		bound(s, t, r.Param, true, true)
	case "max", "lte":
		bound(s, t, r.Param, false, false)
	case "lt":
		bound(s, t, r.Param, false, true)
	case "len":
		bound(s, t, r.Param, true, false)
		bound(s, t, r.Param, false, false)
	case "eq":
		if value, ok := literal(s, t, r.Param); ok {
			s.Set("const", value)
		} else if s.is("array") || s.is("object") {
			bound(s, t, r.Param, true, false)
			bound(s, t, r.Param, false, false)
		}
	case "oneof":
		oneOf(s, t, r.Param)
	case "unique":
		if s.is("array") && r.Param == "" {
			s.Set("uniqueItems", true)
		}
	case "datetime":
		switch r.Param {
		case time.DateOnly:
			s.Set("format", "date")
		case time.RFC3339, time.RFC3339Nano:
			s.Set("format", "date-time")
		}
	default:
		if !plainText(s, t) {
			return
		}
		switch {
		case strings.HasPrefix(r.Name, "uuid"):
			s.Set("format", "uuid")
		case formats[r.Name] != "":
			s.Set("format", formats[r.Name])
		case patterns[r.Name] != "":
			s.Set("pattern", patterns[r.Name])
		}
	}
}

// plainText reports whether validation sees the same text as the JSON has.
func plainText(s *Schema, t reflect.Type) bool {
	return s.is("string") && t.Kind() == reflect.String && !jsonfields.Implements(t, jsonfields.TextUnmarshaler)
}

// applyRequired excludes the zero value from the schema.
func applyRequired(s *Schema, t reflect.Type) {
	switch {
	case t.Kind() == reflect.Bool:
		s.Set("const", true)
	case plainText(s, t):
		bound(s, t, "1", true, false)
	case (s.is("integer") || s.is("number")) && t.Kind() != reflect.String:
		s.Set("not", New("").Set("const", 0))
	}
}

// literal returns a parameter as a JSON value of the schema's type.
func literal(s *Schema, t reflect.Type, param string) (any, bool) {
	switch {
	case plainText(s, t):
		return param, true
	case s.is("boolean"):
		v, err := strconv.ParseBool(param)
		return v, err == nil
	}
	return numeral(s, t, param)
}

// numeral returns a parameter as a number, as validator parses it.
func numeral(s *Schema, t reflect.Type, param string) (json.Number, bool) {
	if !s.is("integer") && !s.is("number") || t.Kind() == reflect.String || t.Kind() == reflect.Struct {
		return "", false
	}
	switch k := t.Kind(); {
	case k == reflect.Float32 || k == reflect.Float64:
		f, err := strconv.ParseFloat(param, 64)
		text, jsonErr := json.Marshal(f)
		return json.Number(text), err == nil && jsonErr == nil
	case k >= reflect.Uint && k <= reflect.Uintptr:
		n, err := strconv.ParseUint(param, 0, 64)
		return json.Number(strconv.FormatUint(n, 10)), err == nil
	}
	if t == reflect.TypeFor[time.Duration]() {
		if d, err := time.ParseDuration(param); err == nil {
			return json.Number(strconv.FormatInt(int64(d), 10)), true
		}
	}
	n, err := strconv.ParseInt(param, 0, 64)
	return json.Number(strconv.FormatInt(n, 10)), err == nil
}

// bound sets the minimum or the maximum of a number, the length of a text or the size of an
// array.
func bound(s *Schema, t reflect.Type, param string, least, exclusive bool) {
	name := map[bool]string{true: "minimum", false: "maximum"}[least]
	if n, ok := numeral(s, t, param); ok {
		if exclusive {
			s.Set("exclusive"+strings.ToUpper(name[:1])+name[1:], n)
			return
		}
		if was, ok := s.Get(name).(json.Number); !ok || tighter(n, was, least) {
			s.Set(name, n)
		}
		return
	}
	n, err := strconv.Atoi(param)
	if err != nil {
		return
	}
	switch {
	case exclusive && least:
		n++
	case exclusive:
		n--
	}
	if n < 0 {
		if least {
			return
		}
		n = 0 // no value is allowed
	}
	switch {
	case jsonfields.IsBase64(t) && s.is("string"): // 4 characters hold 3 bytes
		name, n = name[:3]+"Length", (n+2)/3*4
	case plainText(s, t):
		name = name[:3] + "Length"
	case s.is("array"):
		name = name[:3] + "Items"
	case s.is("object") && t.Kind() == reflect.Map:
		name = name[:3] + "Properties"
	default:
		return
	}
	if was, ok := s.Get(name).(int); !ok || least && n > was || !least && n < was {
		s.Set(name, n)
	}
}

// tighter reports whether n is a tighter bound than was. Integers are compared exactly.
func tighter(n, was json.Number, least bool) bool {
	a, errA := strconv.ParseInt(n.String(), 10, 64)
	b, errB := strconv.ParseInt(was.String(), 10, 64)
	if errA == nil && errB == nil {
		return least && a > b || !least && a < b
	}
	x, _ := n.Float64()
	y, _ := was.Float64()
	return least && x > y || !least && x < y
}

// oneOf sets the allowed values.
func oneOf(s *Schema, t reflect.Type, param string) {
	var values []any
	for _, word := range validation.Words(param) {
		value, ok := literal(s, t, word)
		if !ok {
			return
		}
		values = append(values, value)
	}
	if len(values) > 0 {
		s.Set("enum", values)
	}
}
