package pgcmd

import (
	"database/sql"
	"encoding/json"
	"fmt"
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

const schemaDraft = "https://json-schema.org/draft/2020-12/schema"

// schemaOf describes, as JSON Schema of the draft 2020-12, the JSON of a command's
// input, as decodeJSON and validation take it, or of its output, as encoding/json
// writes it, and says what has no JSON form.
func schemaOf(direction string, t reflect.Type) (_ *schema, mistakes []string) {
	b := &schemaBuilder{output: direction == "output"}
	body := b.of(t, direction)
	s := newSchema("").set("$schema", schemaDraft)
	if d := b.definition(t); d != nil { // the root keeps its type in sight
		body = d
	}
	s.keywords = append(s.keywords, body.keywords...)
	if len(b.defs) > 0 {
		s.set("$defs", b.defs)
	}
	return s, b.mistakes
}

type schemaBuilder struct {
	output   bool
	mistakes []string
	open     []reflect.Type // that are being described
	names    map[reflect.Type]string
	defs     properties // of the types that hold themselves
}

// of describes a type; path says where it is, for a mistake.
func (b *schemaBuilder) of(t reflect.Type, path string) *schema {
	if t.Name() == "" {
		return b.describe(t, path)
	}
	if _, known := b.names[t]; known || slices.Contains(b.open, t) {
		return b.refer(t)
	}
	b.open = append(b.open, t)
	s := b.describe(t, path)
	b.open = b.open[:len(b.open)-1]
	name, recursive := b.names[t]
	if !recursive {
		return s
	}
	b.defs = append(b.defs, property{name, s})
	return b.refer(t)
}

// refer gives the type a name among the definitions, and returns a reference to it.
func (b *schemaBuilder) refer(t reflect.Type) *schema {
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
		for n := 2; b.taken(name); n++ {
			name = base + "_" + strconv.Itoa(n)
		}
		b.names[t] = name
	}
	return newSchema("").set("$ref", "#/$defs/"+b.names[t])
}

func (b *schemaBuilder) taken(name string) bool {
	for _, other := range b.names {
		if other == name {
			return true
		}
	}
	return false
}

func (b *schemaBuilder) definition(t reflect.Type) *schema {
	for _, d := range b.defs {
		if name := b.names[t]; name != "" && d.name == name {
			return d.schema
		}
	}
	return nil
}

// describe describes a type that is not a reference.
func (b *schemaBuilder) describe(t reflect.Type, path string) *schema {
	if t.Kind() == reflect.Pointer {
		if pointee(t) == nil {
			return b.reject(path, "is a %s, which points to itself: take another type", t)
		}
		return b.of(t.Elem(), path).nullable()
	}
	if lent := reflect.TypeFor[pgtype.DriverBytes](); b.output && (t == lent || t == reflect.TypeFor[sql.RawBytes]()) {
		return b.reject(path, "is a %s, memory of the connection that is another's by the time it is shown: use []byte", t)
	}
	if b.loses(t) {
		return b.reject(path, "is a %s, whose state is unexported and which has no JSON form of its own, so that it is lost: %s", t, b.instead(t))
	}
	if s := b.special(t); s != nil {
		return s
	}
	switch t.Kind() {
	case reflect.Bool:
		return newSchema("boolean")
	case reflect.String:
		return newSchema("string")
	case reflect.Float32, reflect.Float64:
		return newSchema("number")
	case reflect.Interface:
		if !b.output && t.NumMethod() > 0 {
			return b.reject(path, "is the interface %s, and JSON does not say what to put into it: use any, or a type", t)
		}
		return newSchema("")
	case reflect.Struct:
		return b.object(t, path)
	case reflect.Map:
		return b.orNil(b.mapping(t, path))
	case reflect.Slice:
		return b.orNil(newSchema("array").set("items", b.of(t.Elem(), path+"[]")))
	case reflect.Array:
		return newSchema("array").set("items", b.of(t.Elem(), path+"[]")).set("minItems", t.Len()).set("maxItems", t.Len())
	case reflect.Chan, reflect.Func, reflect.UnsafePointer, reflect.Complex64, reflect.Complex128:
		return b.reject(path, "is a %s, which has no JSON form: leave it out with the tag `json:\"-\"`, or take another type", t)
	}
	low, high := strictjson.IntegerBounds(t)
	s := newSchema("integer").set("minimum", json.Number(low)).set("maximum", json.Number(high))
	if t == reflect.TypeFor[time.Duration]() {
		s.set("description", "nanoseconds")
	}
	return s
}

// loses reports whether JSON has nothing of what a value of type t holds.
func (b *schemaBuilder) loses(t reflect.Type) bool {
	if t.Kind() != reflect.Struct || t == reflect.TypeFor[time.Time]() {
		return false
	}
	marshals, texts := jsonfields.Unmarshaler, jsonfields.TextUnmarshaler
	if b.output {
		marshals, texts = jsonfields.Marshaler, jsonfields.TextMarshaler
		if _, ok := reflect.Zero(t).Interface().(outcome); ok || t == reflect.TypeFor[Error]() {
			return false
		}
	}
	if jsonfields.Implements(t, marshals) || jsonfields.Implements(t, texts) {
		return false
	}
	if structfields.IsScalar(t) { // one value: whatever of it is hidden is lost
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

// instead is what to do about a type that loses its state.
func (b *schemaBuilder) instead(t reflect.Type) string {
	if t.ConvertibleTo(reflect.TypeFor[time.Time]()) {
		return "use time.Time, or *time.Time where it may be missing"
	}
	way := "an UnmarshalJSON"
	if b.output {
		way = "a MarshalJSON"
	}
	return "give it " + way + " method, take another type, or leave it out with the tag `json:\"-\"`"
}

// pointee is what a pointer to a pointer leads to in the end; nil if it has no end.
func pointee(t reflect.Type) reflect.Type {
	for range 8 {
		if t.Kind() != reflect.Pointer {
			return t
		}
		t = t.Elem()
	}
	return nil
}

// orNil is s, or null in an output: a nil slice and a nil map are written so.
func (b *schemaBuilder) orNil(s *schema) *schema {
	if b.output {
		return s.nullable()
	}
	return s
}

// special describes the types that have a JSON form of their own, or returns nil.
func (b *schemaBuilder) special(t reflect.Type) *schema {
	marshals, texts := jsonfields.Unmarshaler, jsonfields.TextUnmarshaler
	if b.output {
		marshals, texts = jsonfields.Marshaler, jsonfields.TextMarshaler
		if o, ok := reflect.Zero(t).Interface().(outcome); ok {
			return b.outcome(o.valueType())
		}
		if t == reflect.TypeFor[Error]() {
			return b.error()
		}
	}
	switch {
	case t == reflect.TypeFor[time.Time]():
		return newSchema("string").set("format", "date-time")
	case t == reflect.TypeFor[json.Number]():
		return newSchema("number")
	case t.Kind() == reflect.Interface:
		return nil
	case t == reflect.TypeFor[AdHocResult](): // its JSON is that of its fields
		return nil
	case jsonfields.Implements(t, marshals):
		return newSchema("")
	case b.output && jsonfields.Implements(t, texts) && !t.Implements(texts): // written so only where it has an address
		return newSchema("")
	case jsonfields.Implements(t, texts):
		return newSchema("string")
	case jsonfields.IsBase64(t):
		return b.orNil(newSchema("string").set("contentEncoding", "base64"))
	}
	return nil
}

func (b *schemaBuilder) reject(path, format string, args ...any) *schema {
	b.mistakes = append(b.mistakes, fmt.Sprintf("a catalog speaks JSON, and %s ", path)+fmt.Sprintf(format, args...))
	return newSchema("")
}

func (b *schemaBuilder) mapping(t reflect.Type, path string) *schema {
	s := newSchema("object")
	key := t.Key()
	texts := jsonfields.TextUnmarshaler
	if b.output {
		texts = jsonfields.TextMarshaler
	}
	switch k := key.Kind(); {
	case jsonfields.Implements(key, texts), k == reflect.String:
	case k >= reflect.Int && k <= reflect.Int64:
		s.set("propertyNames", newSchema("").set("pattern", "^(0|-?[1-9][0-9]*)$"))
	case k >= reflect.Uint && k <= reflect.Uintptr:
		s.set("propertyNames", newSchema("").set("pattern", "^(0|[1-9][0-9]*)$"))
	default:
		b.reject(path, "is a map with keys of %s, which are no JSON names: use texts or integers", key)
	}
	return s.set("additionalProperties", b.of(t.Elem(), path+"[]"))
}

// object describes a struct, whose fields are all there is.
func (b *schemaBuilder) object(t reflect.Type, path string) *schema {
	fields := properties{}
	required := []string{}
	for _, f := range jsonfields.Of(t) {
		at := path + "." + f.StructField.Name
		if !b.output {
			b.reachable(t, f, at)
		}
		var s *schema
		must := !f.Omits
		switch {
		case f.Quoted:
			s = b.quoted(f.Type)
			must = must && (b.output || validation.ParseTag(f.StructField.Tag.Get("validate")).Has("required"))
		case b.output:
			s = b.of(f.Type, at)
		default:
			s, must = b.constrained(f, at)
		}
		if redact.IsSecret(f.StructField) {
			s = b.secret(s)
		}
		fields = append(fields, property{f.Name, s})
		if must {
			required = append(required, f.Name)
		}
	}
	s := newSchema("object").set("properties", fields)
	if len(required) > 0 {
		s.set("required", required)
	}
	return s.set("additionalProperties", false)
}

// reachable says if the field is behind an embedded pointer that nobody but the
// type's own package can set.
func (b *schemaBuilder) reachable(t reflect.Type, f jsonfields.Field, path string) {
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

// quoted describes a value that the tag `json:",string"` puts into a text.
func (b *schemaBuilder) quoted(t reflect.Type) *schema {
	s := newSchema("string").set("description", "the value as JSON, within a text")
	if t.Kind() == reflect.Pointer {
		return s.nullable()
	}
	return s
}

// secret marks what is taken and never shown.
func (b *schemaBuilder) secret(s *schema) *schema {
	s = &schema{slices.Clone(s.keywords)}
	if b.output {
		return s.set("description", "a secret, not shown")
	}
	return s.set("writeOnly", true)
}

// An outcome is an [Outcome] of any type.
type outcome interface{ valueType() reflect.Type }

func (o Outcome[Out]) valueType() reflect.Type { return reflect.TypeFor[Out]() }

// outcome describes what MarshalJSON of an Outcome writes.
func (b *schemaBuilder) outcome(value reflect.Type) *schema {
	ok := func(value bool) *schema { return newSchema("").set("const", value) }
	worked := closed(property{"ok", ok(true)}, property{"value", b.of(value, "output.Value")},
		property{"attempts", newSchema("integer")}, property{"elapsed_ms", newSchema("number")})
	worked.set("properties", append(worked.get("properties").(properties), property{"replayed", newSchema("boolean")}, property{"durability_warning", newSchema("boolean")}))
	return newSchema("object").set("oneOf", []*schema{
		worked,
		closed(property{"ok", ok(false)}, property{"error", b.of(reflect.TypeFor[Error](), "output.Err")}),
	})
}

// error describes what MarshalJSON of an Error writes.
func (b *schemaBuilder) error() *schema {
	text := newSchema("string")
	s := closed(property{"code", text}, property{"effect", newSchema("").set("enum", []string{"unknown", "not_applied", "applied"})},
		property{"message", text}, property{"attempts", newSchema("integer")})
	problem := closed(property{"field", text}, property{"rule", text}, property{"message", text}).set("required", []string{"rule", "message"})
	fields := s.get("properties").(properties)
	for _, name := range []string{"command", "sqlstate", "constraint", "table", "column"} {
		fields = append(fields, property{name, text})
	}
	return s.set("properties", append(fields,
		property{"problems", newSchema("array").set("items", problem)},
		property{"earlier", newSchema("array").set("items", b.refer(reflect.TypeFor[Error]()))}))
}

// closed describes an object that has the fields and no other.
func closed(fields ...property) *schema {
	names := make([]string, len(fields))
	for i, f := range fields {
		names[i] = f.name
	}
	return newSchema("object").set("properties", properties(fields)).set("required", names).set("additionalProperties", false)
}
