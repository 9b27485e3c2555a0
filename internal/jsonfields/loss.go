package jsonfields

import (
	"fmt"
	"reflect"
	"slices"
	"time"
)

// Loss returns why a value of type t may differ after json.Marshal and json.Unmarshal, as far
// as the type tells, or "". A field for which isSecret returns true counts as lost.
func Loss(t reflect.Type, isSecret func(reflect.StructField) bool) (reason string) {
	return lossChecker{isSecret}.value(t, t.String(), nil)
}

type lossChecker struct {
	isSecret func(reflect.StructField) bool
}

// value returns why a value of type t is not the same, or "".
func (c lossChecker) value(t reflect.Type, path string, seen []reflect.Type) string {
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
		}{{Marshaler, Unmarshaler, "JSON"}, {TextMarshaler, TextUnmarshaler, "Text"}} {
			writes, reads := Implements(t, form.writes), Implements(t, form.reads)
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
		return c.value(t.Elem(), path, seen)
	case reflect.Map:
		switch k := t.Key(); {
		case k.Kind() == reflect.String, k.Kind() >= reflect.Int && k.Kind() <= reflect.Uintptr:
		case !Implements(k, TextMarshaler) || !Implements(k, TextUnmarshaler):
			return path + " has keys without a JSON form: use strings or integers"
		}
		return c.value(t.Elem(), path+"[]", seen)
	case reflect.Struct:
		return c.fields(t, nil, t, path, seen)
	}
	return ""
}

// fields is value for the fields of t, which is embedded in outer at index.
func (c lossChecker) fields(outer reflect.Type, index []int, t reflect.Type, path string, seen []reflect.Type) string {
	for i := range t.NumField() {
		sf := t.Field(i)
		name := path + "." + sf.Name
		at := append(index[:len(index):len(index)], i)
		inner := sf.Type
		if inner.Kind() == reflect.Pointer && inner.Name() == "" {
			inner = inner.Elem()
		}
		embedded := sf.Anonymous && inner.Kind() == reflect.Struct
		field := slices.IndexFunc(Of(outer), func(f Field) bool { return slices.Equal(f.Index, at) })
		switch {
		case sf.Name == "_" || sf.Type.Size() == 0:
			continue
		case !sf.IsExported() && !embedded:
			return name + " is unexported: export it"
		case sf.Tag.Get("json") == "-":
			return name + " is left out of it: take away its tag"
		case c.isSecret(sf):
			return name + " is a secret: leave it out of the output"
		case !sf.IsExported() && sf.Type.Kind() == reflect.Pointer:
			return name + " is an embedded pointer to an unexported struct, which JSON cannot make: export the struct, or embed it by value"
		case field < 0 && embedded: // its fields are promoted
			if slices.Contains(seen, inner) {
				return name + " is embedded in itself, where JSON loses it: give the field a name"
			}
			if reason := c.fields(outer, at, inner, name, append(seen[:len(seen):len(seen)], inner)); reason != "" {
				return reason
			}
		case field < 0:
			return name + " has the JSON name of another field, so that one is lost: give each a name of its own"
		default:
			if reason := c.value(sf.Type, name, seen); reason != "" {
				return reason
			}
		}
	}
	return ""
}
