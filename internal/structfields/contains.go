package structfields

import "reflect"

// Contains reports whether t, or a type in it, matches: of its elements, its keys or its
// fields. match is called once for every type, the outer before the inner, until it returns
// true.
func Contains(t reflect.Type, match func(t reflect.Type) bool) bool {
	return contains(t, map[reflect.Type]bool{}, match)
}

func contains(t reflect.Type, seen map[reflect.Type]bool, match func(t reflect.Type) bool) bool {
	if seen[t] {
		return false
	}
	if seen[t] = true; match(t) {
		return true
	}
	switch t.Kind() {
	case reflect.Map:
		return contains(t.Key(), seen, match) || contains(t.Elem(), seen, match)
	case reflect.Pointer, reflect.Slice, reflect.Array:
		return contains(t.Elem(), seen, match)
	}
	return HasField(t, func(f reflect.StructField) bool { return contains(f.Type, seen, match) })
}

// HasField reports whether t is a struct with a field that matches.
func HasField(t reflect.Type, match func(f reflect.StructField) bool) bool {
	if t.Kind() == reflect.Struct {
		for i := range t.NumField() {
			if match(t.Field(i)) {
				return true
			}
		}
	}
	return false
}
