// Package jsonfields lists the fields of a struct that encoding/json reads and writes, with
// their JSON names, and tells which types have a JSON form of their own and which lose a part
// of their values in JSON. It decodes nothing and knows no commands.
package jsonfields

import (
	"encoding"
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"sync"
	"unicode"
)

// Field is a field of a struct, as encoding/json sees it.
type Field struct {
	Name        string
	Index       []int
	Type        reflect.Type
	StructField reflect.StructField
	tagged      bool
	Quoted      bool // `json:",string"`
	Behind      bool // it is in an embedded pointer, which may be nil
	Omits       bool // it may be left out: omitempty, omitzero, or Behind
}

var cache sync.Map // reflect.Type -> []Field

// Of lists the fields that encoding/json reads and writes of a struct, in the order in
// which it writes them.
func Of(t reflect.Type) []Field {
	if cached, ok := cache.Load(t); ok {
		return cached.([]Field)
	}
	byName := map[string][]Field{}
	var names []string
	type embedded struct {
		typ     reflect.Type
		index   []int
		pointer bool
	}
	visited := map[reflect.Type]bool{}
	for level := []embedded{{typ: t}}; len(level) > 0; {
		var next []embedded
		times := map[reflect.Type]int{}
		for _, at := range level {
			times[at.typ]++
		}
		for _, at := range level {
			if visited[at.typ] {
				continue
			}
			visited[at.typ] = true
			for i := range at.typ.NumField() {
				sf := at.typ.Field(i)
				inner := sf.Type
				if inner.Kind() == reflect.Pointer && inner.Name() == "" {
					inner = inner.Elem()
				}
				tag := sf.Tag.Get("json")
				if tag == "-" || !sf.IsExported() && !(sf.Anonymous && inner.Kind() == reflect.Struct) {
					continue
				}
				name, options, _ := strings.Cut(tag, ",")
				if !validName(name) {
					name = ""
				}
				index := append(slices.Clone(at.index), i)
				if name == "" && sf.Anonymous && inner.Kind() == reflect.Struct {
					next = append(next, embedded{inner, index, at.pointer || sf.Type.Kind() == reflect.Pointer})
					continue
				}
				has := func(option string) bool { return slices.Contains(strings.Split(options, ","), option) }
				f := Field{Name: name, Index: index, Type: sf.Type, StructField: sf, tagged: name != "",
					Quoted: has("string") && quotable(inner.Kind()),
					Behind: at.pointer,
					Omits:  at.pointer || has("omitempty") || has("omitzero")}
				if name == "" {
					f.Name = sf.Name
				}
				if byName[f.Name] == nil {
					names = append(names, f.Name)
				}
				byName[f.Name] = append(byName[f.Name], f)
				if times[at.typ] > 1 { // the same type is embedded twice: its fields hide each other
					byName[f.Name] = append(byName[f.Name], f)
				}
			}
		}
		level = next
	}
	fields := make([]Field, 0, len(names))
	for _, name := range names {
		if f, ok := dominant(byName[name]); ok {
			fields = append(fields, f)
		}
	}
	slices.SortFunc(fields, func(a, b Field) int { return slices.Compare(a.Index, b.Index) })
	cache.Store(t, fields)
	return fields
}

// dominant returns the one field of a name that no other hides: the shallowest, and of
// those the one with a tag. Two that are equal in both hide each other.
func dominant(fields []Field) (Field, bool) {
	slices.SortStableFunc(fields, func(a, b Field) int {
		switch {
		case len(a.Index) != len(b.Index):
			return len(a.Index) - len(b.Index)
		case a.tagged == b.tagged:
			return 0
		case a.tagged:
			return -1
		}
		return 1
	})
	if len(fields) > 1 && len(fields[0].Index) == len(fields[1].Index) && fields[0].tagged == fields[1].tagged {
		return Field{}, false
	}
	return fields[0], true
}

func validName(name string) bool {
	return !strings.ContainsFunc(name, func(r rune) bool {
		return !strings.ContainsRune("!#$%&()*+-./:;<=>?@[]^_{|}~ ", r) && !unicode.IsLetter(r) && !unicode.IsDigit(r)
	})
}

func quotable(k reflect.Kind) bool {
	return k >= reflect.Bool && k <= reflect.Float64 || k == reflect.String
}

// Path writes a path of Go fields, as in Items[2].Qty, with their JSON names.
func Path(t reflect.Type, path string) (string, bool) {
	var b strings.Builder
	for path != "" {
		for t.Kind() == reflect.Pointer {
			t = t.Elem()
		}
		if path[0] == '[' {
			end := strings.IndexByte(path, ']')
			if k := t.Kind(); end < 0 || k != reflect.Slice && k != reflect.Array && k != reflect.Map {
				return "", false
			}
			b.WriteString(path[:end+1])
			path, t = strings.TrimPrefix(path[end+1:], "."), t.Elem()
			continue
		}
		end := strings.IndexAny(path, ".[")
		if end < 0 {
			end = len(path)
		}
		if t.Kind() != reflect.Struct {
			return "", false
		}
		sf, ok := t.FieldByName(path[:end])
		if !ok {
			return "", false
		}
		path = strings.TrimPrefix(path[end:], ".")
		name, _, _ := strings.Cut(sf.Tag.Get("json"), ",")
		t = sf.Type
		switch {
		case name == "-":
			return "", false
		case name == "" && sf.Anonymous: // its fields count as the outer struct's
			continue
		case name == "":
			name = sf.Name
		}
		if b.Len() > 0 {
			b.WriteByte('.')
		}
		b.WriteString(name)
	}
	return b.String(), b.Len() > 0
}

// The interfaces by which a type has a JSON form of its own.
var (
	Marshaler       = reflect.TypeFor[json.Marshaler]()
	Unmarshaler     = reflect.TypeFor[json.Unmarshaler]()
	TextMarshaler   = reflect.TypeFor[encoding.TextMarshaler]()
	TextUnmarshaler = reflect.TypeFor[encoding.TextUnmarshaler]()
)

// Implements reports whether t or a pointer to it implements the interface i.
func Implements(t, i reflect.Type) bool {
	return t.Implements(i) || t.Kind() != reflect.Pointer && reflect.PointerTo(t).Implements(i)
}

// IsBase64 reports whether encoding/json writes a t as a text in base64.
func IsBase64(t reflect.Type) bool {
	return t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.Uint8 &&
		!Implements(t.Elem(), Marshaler) && !Implements(t.Elem(), TextMarshaler)
}
