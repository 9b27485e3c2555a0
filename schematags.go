package pgcmd

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

// constrained describes a field of an input with what its validate tag asks for,
// and reports whether the field must be there. What JSON Schema cannot say is left
// out: validation asks it all the same.
func (b *schemaBuilder) constrained(f jsonfields.Field, path string) (*schema, bool) {
	t := f.Type
	if t.Kind() == reflect.Pointer {
		if t = pointee(t); t == nil {
			return b.of(f.Type, path), false
		}
	}
	rules := validation.ParseTag(f.StructField.Tag.Get("validate"))
	s := applyRules(rules.OfPointee(f.Type), b.of(t, path), t)
	must := !f.Behind && (rules.RefusesZero(f.Type) || needed(s, f.Type) && !rules.Optional)
	if f.Type.Kind() == reflect.Pointer && !must { // where it must, validation refuses nil, and null is nil
		return s.nullable(), false
	}
	return s, must
}

// needed reports whether a struct has a field that must be there, so that the
// struct must be there too.
func needed(s *schema, t reflect.Type) bool {
	return t.Kind() == reflect.Struct && s.get("required") != nil
}

// apply adds the rules to a copy of the schema of type t.
func applyRules(r *validation.Rules, bare *schema, t reflect.Type) *schema {
	s := &schema{slices.Clone(bare.keywords)}
	for _, rule := range r.List {
		applyRule(rule, s, t)
	}
	if items, ok := s.get("items").(*schema); ok && r.Elements != nil {
		s.set("items", applyToElements(r.Elements, items, t.Elem()))
	}
	if values, ok := s.get("additionalProperties").(*schema); ok && r.Elements != nil {
		s.set("additionalProperties", applyToElements(r.Elements, values, t.Elem()))
		if r.Elements.Keys != nil && t.Key().Kind() == reflect.String {
			s.set("propertyNames", applyRules(r.Elements.Keys, newSchema("string"), t.Key()))
		}
	}
	if r.Optional && (t.Kind() == reflect.Struct || !reflect.DeepEqual(s, bare)) {
		return orZero(r, s, t)
	}
	return s
}

// within applies the rules to elements. Those of pointers apply to what they lead to.
func applyToElements(r *validation.Rules, s *schema, t reflect.Type) *schema {
	of := pointee(t)
	if of == nil {
		return s
	}
	choices, ok := s.get("anyOf").([]*schema)
	if t.Kind() == reflect.Pointer && ok { // what they lead to, or null
		return newSchema("").set("anyOf", []*schema{applyRules(r.OfPointee(t), choices[0], of), choices[1]})
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

func applyRule(r validation.Rule, s *schema, t reflect.Type) {
	switch r.Name {
	case "required":
		required(s, t)
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
			s.set("const", value)
		} else if s.is("array") || s.is("object") {
			bound(s, t, r.Param, true, false)
			bound(s, t, r.Param, false, false)
		}
	case "oneof":
		oneOf(s, t, r.Param)
	case "unique":
		if s.is("array") && r.Param == "" {
			s.set("uniqueItems", true)
		}
	case "datetime":
		switch r.Param {
		case time.DateOnly:
			s.set("format", "date")
		case time.RFC3339, time.RFC3339Nano:
			s.set("format", "date-time")
		}
	default:
		if !plainText(s, t) {
			return
		}
		switch {
		case strings.HasPrefix(r.Name, "uuid"):
			s.set("format", "uuid")
		case formats[r.Name] != "":
			s.set("format", formats[r.Name])
		case patterns[r.Name] != "":
			s.set("pattern", patterns[r.Name])
		}
	}
}

// plainText reports whether what validation sees is the text of the JSON.
func plainText(s *schema, t reflect.Type) bool {
	return s.is("string") && t.Kind() == reflect.String && !jsonfields.Implements(t, jsonfields.TextUnmarshaler)
}

// required says that the zero value is refused, where that is so.
func required(s *schema, t reflect.Type) {
	switch {
	case t.Kind() == reflect.Bool:
		s.set("const", true)
	case plainText(s, t):
		bound(s, t, "1", true, false)
	case (s.is("integer") || s.is("number")) && t.Kind() != reflect.String:
		s.set("not", newSchema("").set("const", 0))
	}
}

// literal is a parameter as a JSON value of the schema's type.
func literal(s *schema, t reflect.Type, param string) (any, bool) {
	switch {
	case plainText(s, t):
		return param, true
	case s.is("boolean"):
		v, err := strconv.ParseBool(param)
		return v, err == nil
	}
	return numeral(s, t, param)
}

// numeral is a parameter as validator reads the number in it.
func numeral(s *schema, t reflect.Type, param string) (json.Number, bool) {
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

// bound sets the least or the greatest that a number, the length of a text or the
// size of an array may be.
func bound(s *schema, t reflect.Type, param string, least, exclusive bool) {
	name := map[bool]string{true: "minimum", false: "maximum"}[least]
	if n, ok := numeral(s, t, param); ok {
		if exclusive {
			s.set("exclusive"+strings.ToUpper(name[:1])+name[1:], n)
			return
		}
		if was, ok := s.get(name).(json.Number); !ok || tighter(n, was, least) {
			s.set(name, n)
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
		n = 0 // nothing will do
	}
	switch {
	case jsonfields.IsBase64(t) && s.is("string"): // four letters stand for three bytes
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
	if was, ok := s.get(name).(int); !ok || least && n > was || !least && n < was {
		s.set(name, n)
	}
}

// tighter compares two bounds: exactly, if they are integers.
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

// oneOf sets the values that are allowed.
func oneOf(s *schema, t reflect.Type, param string) {
	var values []any
	for _, word := range validation.Words(param) {
		value, ok := literal(s, t, word)
		if !ok {
			return
		}
		values = append(values, value)
	}
	if len(values) > 0 {
		s.set("enum", values)
	}
}
