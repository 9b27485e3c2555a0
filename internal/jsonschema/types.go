package jsonschema

import (
	"database/sql"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgtype"

	"github.com/pgcmd/pgcmd/internal/jsonfields"
	"github.com/pgcmd/pgcmd/internal/redact"
	"github.com/pgcmd/pgcmd/internal/strictjson"
	"github.com/pgcmd/pgcmd/internal/structfields"
	"github.com/pgcmd/pgcmd/internal/validation"
)

const draft = "https://json-schema.org/draft/2020-12/schema"

// Of describes the JSON of an input or an output, which direction says, and lists the
// mistakes: types that have no JSON form.
func Of(direction string, t reflect.Type, forms Forms, enums ...Enum) (_ *Schema, mistakes []string) {
	b := &Builder{output: direction == "output", forms: forms, enums: enums}
	body := b.Of(t, direction)
	s := New("").Set("$schema", draft)
	if d := b.definition(t); d != nil { // so that the root is no bare $ref
		body = d
	}
	s.Keywords = append(s.Keywords, body.Keywords...)
	if len(b.defs) > 0 {
		s.Set("$defs", b.defs)
	}
	return s, b.mistakes
}

// Forms describes a type of an output whose JSON the caller knows. ok is false for any
// other type. A nil schema means that the JSON is that of the type's fields.
type Forms func(b *Builder, t reflect.Type) (s *Schema, ok bool)

// An Enum is the texts that a string field of an input can have, or a pointer to one.
type Enum struct {
	Type   reflect.Type // of the struct
	Index  []int        // of the field in it
	Values []string
}

// A Builder builds one schema.
type Builder struct {
	output   bool
	forms    Forms
	enums    []Enum
	mistakes []string
	open     []reflect.Type // the types that are being described
	names    map[reflect.Type]string
	defs     Properties // $defs, of the types that contain themselves
}

// Of describes a type. A mistake names it by path.
func (b *Builder) Of(t reflect.Type, path string) *Schema {
	if t.Name() == "" {
		return b.describe(t, path)
	}
	if _, known := b.names[t]; known || slices.Contains(b.open, t) {
		return b.Refer(t)
	}
	b.open = append(b.open, t)
	s := b.describe(t, path)
	b.open = b.open[:len(b.open)-1]
	name, recursive := b.names[t]
	if !recursive {
		return s
	}
	b.defs = append(b.defs, Property{name, s})
	return b.Refer(t)
}

// Refer returns a reference to a type that is described in $defs.
func (b *Builder) Refer(t reflect.Type) *Schema {
	if b.names == nil {
		b.names = map[reflect.Type]string{}
	}
	if b.names[t] == "" {
		base := strings.Map(func(r rune) rune {
			if r == '_' || r >= '0' && r <= '9' || r >= 'A' && r <= 'Z' || r >= 'a' && r <= 'z' {
				return r
			}
			return '_'
		}, t.Name())
		name := base
		for n := 2; slices.Contains(slices.Collect(maps.Values(b.names)), name); n++ {
			name = base + "_" + strconv.Itoa(n)
		}
		b.names[t] = name
	}
	return New("").Set("$ref", "#/$defs/"+b.names[t])
}

func (b *Builder) definition(t reflect.Type) *Schema {
	for _, d := range b.defs {
		if name := b.names[t]; name != "" && d.Name == name {
			return d.Schema
		}
	}
	return nil
}

// describe describes a type that is not a reference.
func (b *Builder) describe(t reflect.Type, path string) *Schema {
	if t.Kind() == reflect.Pointer {
		if pointee(t) == nil {
			return b.reject(path, "is a %s, which points to itself: take another type", t)
		}
		return b.Of(t.Elem(), path).Nullable()
	}
	if b.output && (t == reflect.TypeFor[pgtype.DriverBytes]() || t == reflect.TypeFor[sql.RawBytes]()) {
		return b.reject(path, "is a %s, memory of the connection that is overwritten before it is written as JSON: use []byte", t)
	}
	if b.output {
		s, known := b.forms(b, t)
		if s != nil {
			return s
		}
		if known {
			return b.byKind(t, path)
		}
	}
	if b.loses(t) {
		return b.reject(path, "is a %s, whose state is unexported and which has no JSON form of its own, so that it is lost: %s", t, b.instead(t))
	}
	if s := b.special(t); s != nil {
		return s
	}
	return b.byKind(t, path)
}

// byKind describes a type without a JSON form of its own.
func (b *Builder) byKind(t reflect.Type, path string) *Schema {
	switch t.Kind() {
	case reflect.Bool:
		return New("boolean")
	case reflect.String:
		return New("string")
	case reflect.Float32, reflect.Float64:
		return New("number")
	case reflect.Interface:
		if !b.output && t.NumMethod() > 0 {
			return b.reject(path, "is the interface %s, and JSON does not say what to put into it: use any, or a type", t)
		}
		return New("")
	case reflect.Struct:
		return b.object(t, path)
	case reflect.Map:
		return b.orNil(b.mapping(t, path))
	case reflect.Slice:
		return b.orNil(New("array").Set("items", b.Of(t.Elem(), path+"[]")))
	case reflect.Array:
		return New("array").Set("items", b.Of(t.Elem(), path+"[]")).Set("minItems", t.Len()).Set("maxItems", t.Len())
	case reflect.Chan, reflect.Func, reflect.UnsafePointer, reflect.Complex64, reflect.Complex128:
		return b.reject(path, "is a %s, which has no JSON form: leave it out with the tag `json:\"-\"`, or take another type", t)
	}
	low, high := strictjson.IntegerBounds(t)
	s := New("integer").Set("minimum", json.Number(low)).Set("maximum", json.Number(high))
	if t == reflect.TypeFor[time.Duration]() {
		s.Set("description", "nanoseconds")
	}
	return s
}

// loses reports whether the JSON of a value of type t lacks all that the value holds.
func (b *Builder) loses(t reflect.Type) bool {
	if t.Kind() != reflect.Struct || t == reflect.TypeFor[time.Time]() {
		return false
	}
	marshals, texts := jsonfields.Unmarshaler, jsonfields.TextUnmarshaler
	if b.output {
		marshals, texts = jsonfields.Marshaler, jsonfields.TextMarshaler
	}
	if jsonfields.Implements(t, marshals) || jsonfields.Implements(t, texts) {
		return false
	}
	if structfields.IsScalar(t) { // one value: an unexported part of it is lost
		for i := range t.NumField() {
			if f := t.Field(i); !f.IsExported() && f.Name != "_" {
				return true
			}
		}
		return false
	}
	if len(jsonfields.Of(t)) > 0 {
		return false
	}
	for i := range t.NumField() {
		switch f := t.Field(i); {
		case f.IsExported() || f.Name == "_":
		case f.Anonymous && f.Type.Kind() == reflect.Struct:
			if b.loses(f.Type) {
				return true
			}
		default:
			return true
		}
	}
	return false
}

// instead says what to do about a type that loses its state.
func (b *Builder) instead(t reflect.Type) string {
	if t.ConvertibleTo(reflect.TypeFor[time.Time]()) {
		return "use time.Time, or *time.Time where it may be missing"
	}
	way := "an UnmarshalJSON"
	if b.output {
		way = "a MarshalJSON"
	}
	return "give it " + way + " method, take another type, or leave it out with the tag `json:\"-\"`"
}

// pointee follows pointers to pointers. It returns nil if there are more than 7, as in a type
// that points to itself.
func pointee(t reflect.Type) reflect.Type {
	for range 8 {
		if t.Kind() != reflect.Pointer {
			return t
		}
		t = t.Elem()
	}
	return nil
}

// orNil returns a schema that allows what s does, and null in an output, which encoding/json
// writes for a nil slice and a nil map.
func (b *Builder) orNil(s *Schema) *Schema {
	if b.output {
		return s.Nullable()
	}
	return s
}

// special describes the types that have a JSON form of their own. It returns nil for others.
func (b *Builder) special(t reflect.Type) *Schema {
	marshals, texts := jsonfields.Unmarshaler, jsonfields.TextUnmarshaler
	if b.output {
		marshals, texts = jsonfields.Marshaler, jsonfields.TextMarshaler
	}
	switch {
	case t == reflect.TypeFor[time.Time]():
		return New("string").Set("format", "date-time")
	case t == reflect.TypeFor[json.Number]():
		return New("number")
	case t.Kind() == reflect.Interface:
		return nil
	}
	if f, ok := strictjson.PGFormOf(t); ok {
		return pgForm(f, t)
	}
	switch {
	case jsonfields.Implements(t, marshals):
		return New("")
	case b.output && jsonfields.Implements(t, texts) && !t.Implements(texts): // its method is called only if it is addressable
		return New("")
	case jsonfields.Implements(t, texts):
		return New("string")
	case jsonfields.IsBase64(t):
		return b.orNil(New("string").Set("contentEncoding", "base64"))
	}
	return nil
}

// pgForm describes a type of pgtype. A description says what JSON Schema cannot: a date may
// be infinity, which no format allows.
func pgForm(f strictjson.PGForm, t reflect.Type) *Schema {
	types := []string{f.JSON, "null"}
	if f.JSON != "string" && len(f.Texts) > 0 {
		types = []string{f.JSON, "string", "null"}
	}
	s := New("").Set("type", types)
	if f.JSON == "integer" { // the first field is the integer
		low, high := strictjson.IntegerBounds(t.Field(0).Type)
		s.Set("minimum", json.Number(low)).Set("maximum", json.Number(high))
	}
	return s.Set("description", strings.TrimPrefix(f.Must, "must be "))
}

func (b *Builder) reject(path, format string, args ...any) *Schema {
	b.mistakes = append(b.mistakes, fmt.Sprintf("a catalog speaks JSON, and %s ", path)+fmt.Sprintf(format, args...))
	return New("")
}

func (b *Builder) mapping(t reflect.Type, path string) *Schema {
	s := New("object")
	key := t.Key()
	texts := jsonfields.TextUnmarshaler
	if b.output {
		texts = jsonfields.TextMarshaler
	}
	switch k := key.Kind(); {
	case jsonfields.Implements(key, texts), k == reflect.String:
	case k >= reflect.Int && k <= reflect.Int64:
		s.Set("propertyNames", New("").Set("pattern", "^(0|-?[1-9][0-9]*)$"))
	case k >= reflect.Uint && k <= reflect.Uintptr:
		s.Set("propertyNames", New("").Set("pattern", "^(0|[1-9][0-9]*)$"))
	default:
		b.reject(path, "is a map with keys of %s, which are no JSON names: use strings or integers", key)
	}
	return s.Set("additionalProperties", b.Of(t.Elem(), path+"[]"))
}

// object describes a struct. It allows no other fields.
func (b *Builder) object(t reflect.Type, path string) *Schema {
	fields := Properties{}
	required := []string{}
	for _, f := range jsonfields.Of(t) {
		at := path + "." + f.StructField.Name
		if !b.output {
			b.rejectUnsettable(t, f, at)
		}
		var s *Schema
		must := !f.Omits
		switch {
		case f.Quoted:
			s = b.quoted(f.Type)
			must = must && (b.output || validation.ParseTag(f.StructField.Tag.Get("validate")).Has("required"))
		case b.output:
			s = b.Of(f.Type, at)
		default:
			s, must = b.constrained(t, f, at)
		}
		if redact.IsSecret(f.StructField) {
			s = b.secret(s)
		}
		fields = append(fields, Property{f.Name, s})
		if must {
			required = append(required, f.Name)
		}
	}
	s := New("object").Set("properties", fields)
	if len(required) > 0 {
		s.Set("required", required)
	}
	return s.Set("additionalProperties", false)
}

// chosen adds the values of an Enum to the schema of a field of t.
func (b *Builder) chosen(s *Schema, t reflect.Type, f jsonfields.Field) *Schema {
	for _, e := range b.enums {
		if e.Type != t || !slices.Equal(e.Index, f.Index) {
			continue
		}
		var values []any
		known, limited := s.Get("enum").([]any)
		for _, value := range e.Values {
			if !limited || slices.ContainsFunc(known, func(k any) bool { return sameJSON(k, value) }) {
				values = append(values, value)
			}
		}
		s = (&Schema{slices.Clone(s.Keywords)}).Set("enum", values)
	}
	return s
}

func sameJSON(a, b any) bool {
	x, _ := json.Marshal(a)
	y, _ := json.Marshal(b)
	return string(x) == string(y)
}

// rejectUnsettable rejects a field in an embedded pointer that only the type's own package
// can set.
func (b *Builder) rejectUnsettable(t reflect.Type, f jsonfields.Field, path string) {
	for _, i := range f.Index[:len(f.Index)-1] {
		if t.Kind() == reflect.Pointer {
			t = t.Elem()
		}
		sf := t.Field(i)
		if sf.Type.Kind() == reflect.Pointer && !sf.IsExported() {
			b.reject(path, "is behind an embedded pointer to an unexported struct, which cannot be set: embed the struct itself")
		}
		t = sf.Type
	}
}

// quoted describes a value that the tag `json:",string"` writes as a text.
func (b *Builder) quoted(t reflect.Type) *Schema {
	s := New("string").Set("description", "the value as JSON, within a text")
	if t.Kind() == reflect.Pointer {
		return s.Nullable()
	}
	return s
}

// secret marks a value that is accepted and never shown.
func (b *Builder) secret(s *Schema) *Schema {
	s = &Schema{slices.Clone(s.Keywords)}
	if b.output {
		return s.Set("description", "a secret, not shown")
	}
	return s.Set("writeOnly", true)
}

// Closed describes an object by the names and the schemas of its fields, in turn: so many are
// required, and there are no others.
func Closed(required int, namesAndSchemas ...any) *Schema {
	fields, names := Properties{}, []string{}
	for i := 0; i < len(namesAndSchemas); i += 2 {
		f := Property{namesAndSchemas[i].(string), namesAndSchemas[i+1].(*Schema)}
		if fields = append(fields, f); len(fields) <= required {
			names = append(names, f.Name)
		}
	}
	return New("object").Set("properties", fields).Set("required", names).Set("additionalProperties", false)
}
