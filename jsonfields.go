package pgcmd

import (
	stdencoding "encoding"
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"sync"
	"unicode"
)

// A jsonField is one field of a struct as encoding/json names it.
type jsonField struct {
	name   string
	index  []int
	typ    reflect.Type
	field  reflect.StructField
	tagged bool
	quoted bool // `json:",string"`
	behind bool // an embedded pointer, so that it may not be there
	omits  bool // it is left out at times: omitempty, omitzero, or behind a pointer
}

var jsonStructs sync.Map // reflect.Type -> []jsonField

// jsonFields lists the fields that encoding/json reads and writes of a struct, in
// the order in which it writes them.
func jsonFields(t reflect.Type) []jsonField {
	if cached, ok := jsonStructs.Load(t); ok {
		return cached.([]jsonField)
	}
	byName := map[string][]jsonField{}
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
				if !validJSONName(name) {
					name = ""
				}
				index := append(slices.Clone(at.index), i)
				if name == "" && sf.Anonymous && inner.Kind() == reflect.Struct {
					next = append(next, embedded{inner, index, at.pointer || sf.Type.Kind() == reflect.Pointer})
					continue
				}
				has := func(option string) bool { return slices.Contains(strings.Split(options, ","), option) }
				f := jsonField{name: name, index: index, typ: sf.Type, field: sf, tagged: name != "",
					quoted: has("string") && quotable(inner.Kind()),
					behind: at.pointer,
					omits:  at.pointer || has("omitempty") || has("omitzero")}
				if name == "" {
					f.name = sf.Name
				}
				if byName[f.name] == nil {
					names = append(names, f.name)
				}
				byName[f.name] = append(byName[f.name], f)
				if times[at.typ] > 1 { // its twin hides it
					byName[f.name] = append(byName[f.name], f)
				}
			}
		}
		level = next
	}
	fields := make([]jsonField, 0, len(names))
	for _, name := range names {
		if f, ok := dominant(byName[name]); ok {
			fields = append(fields, f)
		}
	}
	slices.SortFunc(fields, func(a, b jsonField) int { return slices.Compare(a.index, b.index) })
	jsonStructs.Store(t, fields)
	return fields
}

// dominant is the one of the fields of one name that is not hidden by another: the
// shallowest, a tagged one before others; two alike hide each other.
func dominant(fields []jsonField) (jsonField, bool) {
	slices.SortStableFunc(fields, func(a, b jsonField) int {
		switch {
		case len(a.index) != len(b.index):
			return len(a.index) - len(b.index)
		case a.tagged == b.tagged:
			return 0
		case a.tagged:
			return -1
		}
		return 1
	})
	if len(fields) > 1 && len(fields[0].index) == len(fields[1].index) && fields[0].tagged == fields[1].tagged {
		return jsonField{}, false
	}
	return fields[0], true
}

func validJSONName(name string) bool {
	for _, r := range name {
		if !strings.ContainsRune("!#$%&()*+-./:;<=>?@[]^_{|}~ ", r) && !unicode.IsLetter(r) && !unicode.IsDigit(r) {
			return false
		}
	}
	return true
}

func quotable(k reflect.Kind) bool {
	return k >= reflect.Bool && k <= reflect.Float64 || k == reflect.String
}

// goPathToJSON writes a path of Go fields, as in Items[2].Qty, in the names that the
// JSON has for them.
func goPathToJSON(t reflect.Type, path string) (string, bool) {
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
		case name == "" && sf.Anonymous: // its fields are the outer one's
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

var (
	jsonMarshaler   = reflect.TypeFor[json.Marshaler]()
	jsonUnmarshaler = reflect.TypeFor[json.Unmarshaler]()
	textMarshaler   = reflect.TypeFor[stdencoding.TextMarshaler]()
	textUnmarshaler = reflect.TypeFor[stdencoding.TextUnmarshaler]()
)

func implements(t, i reflect.Type) bool {
	return t.Implements(i) || t.Kind() != reflect.Pointer && reflect.PointerTo(t).Implements(i)
}

// isBytes reports whether encoding/json writes a t as a text in base64.
func isBytes(t reflect.Type) bool {
	return t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.Uint8 &&
		!implements(t.Elem(), jsonMarshaler) && !implements(t.Elem(), textMarshaler)
}
