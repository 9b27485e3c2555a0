package structfields

import "reflect"

// Pointers returns a pointer to each of the fields within v, a struct or a scalar, so that
// they can be read or set repeatedly without a lookup. A nil embedded pointer on the way is
// allocated if grow is set; else the field's pointer is nil.
func Pointers(v reflect.Value, fields []Field, grow bool) []any {
	targets := make([]any, len(fields))
	for i, f := range fields {
		targets[i] = Pointer(v, f.Index, grow)
	}
	return targets
}

// Pointer returns a pointer to the field of v at index, as Pointers does.
func Pointer(v reflect.Value, index []int, grow bool) any {
	for _, x := range index {
		if v.Kind() == reflect.Pointer {
			if v.IsNil() {
				if !grow {
					return nil
				}
				v.Set(reflect.New(v.Type().Elem()))
			}
			v = v.Elem()
		}
		v = v.Field(x)
	}
	return v.Addr().Interface()
}

// EmbedsPointer reports whether one of the fields is reached through an embedded pointer,
// so that a pointer to it is valid for one value only.
func EmbedsPointer(t reflect.Type, fields []Field) bool {
	for _, f := range fields {
		at := t
		for _, x := range f.Index {
			if at.Kind() == reflect.Pointer {
				return true
			}
			at = at.Field(x).Type
		}
	}
	return false
}

// Value returns the field of v at index. It reports false if an embedded pointer on the way is
// nil.
func Value(v reflect.Value, index []int) (reflect.Value, bool) {
	for _, x := range index {
		if v.Kind() == reflect.Pointer {
			if v.IsNil() {
				return reflect.Value{}, false
			}
			v = v.Elem()
		}
		v = v.Field(x)
	}
	return v, true
}
