package pgcmd

import (
	"fmt"
	"reflect"
	"slices"
	"time"

	"github.com/pgcmd/pgcmd/internal/jsonfields"
	"github.com/pgcmd/pgcmd/internal/redact"
)

// notJSON says why a value of type t would not be the same after a round trip through
// JSON, as far as the type tells, or "".
func notJSON(t reflect.Type, path string, seen []reflect.Type) string {
	if slices.Contains(seen, t) {
		return ""
	}
	seen = append(seen[:len(seen):len(seen)], t)
	if t == reflect.TypeFor[time.Time]() {
		return ""
	}
	if t.Kind() != reflect.Interface && t.Kind() != reflect.Pointer {
		for _, form := range [...]struct {
			writes, reads reflect.Type
			name          string
		}{{jsonfields.Marshaler, jsonfields.Unmarshaler, "JSON"}, {jsonfields.TextMarshaler, jsonfields.TextUnmarshaler, "Text"}} {
			writes, reads := jsonfields.Implements(t, form.writes), jsonfields.Implements(t, form.reads)
			if writes && !reads {
				return fmt.Sprintf("%s has a Marshal%s and no Unmarshal%s, so that it is not read as it is written: add one", path, form.name, form.name)
			}
			if reads {
				return ""
			}
		}
	}
	switch t.Kind() {
	case reflect.Interface:
		return path + " is an interface: give it a type"
	case reflect.Chan, reflect.Func, reflect.UnsafePointer, reflect.Complex64, reflect.Complex128:
		return path + " has no JSON form"
	case reflect.Pointer, reflect.Slice, reflect.Array:
		return notJSON(t.Elem(), path, seen)
	case reflect.Map:
		switch k := t.Key(); {
		case k.Kind() == reflect.String, k.Kind() >= reflect.Int && k.Kind() <= reflect.Uintptr:
		case !jsonfields.Implements(k, jsonfields.TextMarshaler) || !jsonfields.Implements(k, jsonfields.TextUnmarshaler):
			return path + " has keys without a JSON form: use strings or integers"
		}
		return notJSON(t.Elem(), path+"[]", seen)
	case reflect.Struct:
		return fieldsNotJSON(t, nil, t, path, seen)
	}
	return ""
}

// fieldsNotJSON does it for the fields of t, which is embedded in outer at index.
func fieldsNotJSON(outer reflect.Type, index []int, t reflect.Type, path string, seen []reflect.Type) string {
	for i := range t.NumField() {
		sf := t.Field(i)
		name := path + "." + sf.Name
		at := append(index[:len(index):len(index)], i)
		inner := sf.Type
		if inner.Kind() == reflect.Pointer && inner.Name() == "" {
			inner = inner.Elem()
		}
		embedded := sf.Anonymous && inner.Kind() == reflect.Struct
		field := slices.IndexFunc(jsonfields.Of(outer), func(f jsonfields.Field) bool { return slices.Equal(f.Index, at) })
		switch {
		case sf.Name == "_" || sf.Type.Size() == 0:
			continue
		case !sf.IsExported() && !embedded:
			return name + " is unexported: export it"
		case sf.Tag.Get("json") == "-":
			return name + " is left out of it: take away its tag"
		case redact.IsSecret(sf):
			return name + " is a secret: leave it out of the output"
		case !sf.IsExported() && sf.Type.Kind() == reflect.Pointer:
			return name + " is an embedded pointer to an unexported struct, which JSON cannot make: export the struct, or embed it by value"
		case field < 0 && embedded: // its fields are the outer one's
			if slices.Contains(seen, inner) {
				return name + " is embedded in itself, where JSON loses it: give the field a name"
			}
			if why := fieldsNotJSON(outer, at, inner, name, append(seen[:len(seen):len(seen)], inner)); why != "" {
				return why
			}
		case field < 0:
			return name + " has the JSON name of another field, so that one is lost: give each a name of its own"
		default:
			if why := notJSON(sf.Type, name, seen); why != "" {
				return why
			}
		}
	}
	return ""
}
