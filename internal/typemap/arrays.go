package typemap

import (
	"reflect"

	"github.com/jackc/pgx/v5/pgtype"

	"github.com/pgcmd/pgcmd/internal/structfields"
)

// NotRectangular is the message for an array that is not rectangular. An array of PostgreSQL is
// rectangular, and a slice of slices need not be. pgx looks while it plans an encoding, and
// keeps the plan for all values of the Go type, so that every value is checked here. What is
// sent as JSON may be ragged.
const NotRectangular = "is not rectangular: the slices in a slice of slices must all have the same length, since it is sent as an array"

// mayBeRagged reports whether values of the type can hold an array that is not
// rectangular.
func mayBeRagged(typ reflect.Type) bool { return mayBeRaggedAt(typ, 0) }

func mayBeRaggedAt(typ reflect.Type, depth int) bool {
	if depth > structfields.MaxEmbedding {
		return true // a type that holds itself: to be looked at value by value
	}
	switch typ.Kind() {
	case reflect.Interface:
		return true
	case reflect.Pointer, reflect.Array:
		return !isValuer(typ) && mayBeRaggedAt(typ.Elem(), depth+1)
	case reflect.Slice:
		return !isValuer(typ) && (typ.Elem().Kind() == reflect.Slice || mayBeRaggedAt(typ.Elem(), depth+1))
	case reflect.Struct:
		if isDimensioned(typ) {
			return true
		}
		if structfields.IsScalar(typ) {
			return false
		}
		for i := range typ.NumField() {
			if f := typ.Field(i); f.IsExported() && mayBeRaggedAt(f.Type, depth+1) {
				return true
			}
		}
	}
	return false
}

// isDimensioned reports whether the type is a pgtype.Array, which has its dimensions
// beside its elements.
func isDimensioned(typ reflect.Type) bool {
	return typ.Kind() == reflect.Struct && typ.PkgPath() == "github.com/jackc/pgx/v5/pgtype" && typ.NumField() == 3 &&
		typ.Field(0).Name == "Elements" && typ.Field(1).Name == "Dims"
}

// fitsDimensions reports whether a pgtype.Array has as many elements as its dimensions
// say, and none if it is NULL.
func fitsDimensions(v reflect.Value) bool {
	array, _ := v.Interface().(pgtype.ArrayGetter)
	elements := int64(v.Field(0).Len())
	dimensions := array.Dimensions()
	if !v.Field(2).Bool() || dimensions == nil { // sent as NULL
		return elements == 0 && dimensions == nil
	}
	count := int64(1)
	for _, d := range dimensions {
		if d.Length < 0 || count > elements && d.Length > 0 {
			return false
		}
		count *= int64(d.Length)
	}
	return count == elements || len(dimensions) == 0 && elements == 0
}

// IsRagged reports whether a value holds an array that is not rectangular, if it is sent
// as one.
func IsRagged(v reflect.Value) bool { return isRaggedAt(v, 0) }

// deepest bounds how far a value is followed, which may lead back to itself.
const deepest = 64

// innermost is the type of what is in slices of slices. A type may be made of slices of itself alone, in JSON.
func innermost(typ reflect.Type) reflect.Type {
	for range deepest {
		if typ.Kind() != reflect.Slice {
			break
		}
		typ = typ.Elem()
	}
	return typ
}

func isRaggedAt(v reflect.Value, depth int) bool {
	v = pointedTo(v)
	if !v.IsValid() || depth > deepest {
		return false
	}
	typ := v.Type()
	switch typ.Kind() {
	case reflect.Struct:
		if isDimensioned(typ) {
			return !fitsDimensions(v)
		}
		if structfields.IsScalar(typ) {
			return false
		}
		for i := range typ.NumField() {
			if typ.Field(i).IsExported() && mayBeRagged(typ.Field(i).Type) && isRaggedAt(v.Field(i), depth+1) {
				return true
			}
		}
	case reflect.Slice, reflect.Array:
		if !mayBeRagged(typ) {
			return false
		}
		if typ.Elem().Kind() == reflect.Slice || typ.Elem().Kind() == reflect.Interface {
			if !isRectangular(v) {
				return true
			}
			if !mayBeRagged(innermost(typ.Elem())) {
				return false
			}
		}
		for i := range v.Len() {
			if isRaggedAt(v.Index(i), depth+1) {
				return true
			}
		}
	}
	return false
}

// pointedTo follows pointers and interfaces, to the zero Value if they are nil or say
// themselves what is sent for them.
func pointedTo(v reflect.Value) reflect.Value {
	for range deepest {
		if !v.IsValid() || isValuer(v.Type()) {
			return reflect.Value{}
		}
		if v.Kind() != reflect.Pointer && v.Kind() != reflect.Interface {
			return v
		}
		v = v.Elem()
	}
	return reflect.Value{}
}

// isRectangular reports whether all slices at each depth of a slice of slices have the
// same length.
func isRectangular(v reflect.Value) bool {
	var lengths []int
	for at := v; ; {
		lengths = append(lengths, at.Len())
		if at.Len() == 0 || len(lengths) > deepest {
			break
		}
		if at = inner(at.Index(0)); !at.IsValid() {
			break
		}
	}
	return hasLengths(v, lengths)
}

func hasLengths(v reflect.Value, lengths []int) bool {
	if v.Len() != lengths[0] {
		return false
	}
	for i := range v.Len() {
		within := inner(v.Index(i))
		if within.IsValid() != (len(lengths) > 1) || within.IsValid() && !hasLengths(within, lengths[1:]) {
			return false
		}
	}
	return true
}

// inner returns the slice that an element is, in an interface too, or the zero Value.
func inner(element reflect.Value) reflect.Value {
	if element.Kind() == reflect.Interface {
		element = element.Elem()
	}
	if element.Kind() != reflect.Slice {
		return reflect.Value{}
	}
	return element
}

// IsMisshapen reports whether a value that is sent as the type holds an array that is not
// rectangular, and not only something that JSON may hold.
func (t Types) IsMisshapen(oid uint32, v reflect.Value) bool {
	v = pointedTo(v)
	if !v.IsValid() || !IsRagged(v) || !t.Encodes(oid, v.Type()) { // pgx has no way to send it
		return false
	}
	typ, ok := t.Known.TypeForOID(oid)
	if !ok {
		if typ, ok = t.Known.TypeForValue(v.Interface()); !ok {
			return true
		}
	}
	switch codec := typ.Codec.(type) {
	case *pgtype.ArrayCodec:
		return t.misshapenArray(codec.ElementType.OID, v)
	case *pgtype.CompositeCodec:
		if v.Kind() != reflect.Struct {
			break
		}
		at := 0
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() && at < len(codec.Fields) {
				if t.IsMisshapen(codec.Fields[at].Type.OID, v.Field(i)) {
					return true
				}
				at++
			}
		}
		return false
	}
	format := t.Known.FormatCodeForOID(oid)
	return typ.Codec.PlanEncode(t.Known, oid, format, v.Interface()) == nil // JSON's has one
}

func (t Types) misshapenArray(elem uint32, v reflect.Value) bool {
	switch v.Kind() {
	case reflect.Struct:
		if isDimensioned(v.Type()) && !fitsDimensions(v) {
			return true
		}
		if !isDimensioned(v.Type()) {
			return false
		}
		v = v.Field(0)
	case reflect.Slice, reflect.Array:
		typ := t.elementOf(v.Type(), elem)
		if v.Type().Elem() != typ || typ.Kind() == reflect.Interface && holdsSlices(v) {
			if !isRectangular(v) {
				return true
			}
			for i := range v.Len() {
				if within := inner(v.Index(i)); within.IsValid() && t.misshapenArray(elem, within) {
					return true
				}
			}
			return false
		}
	default:
		return false
	}
	for i := range v.Len() {
		if t.IsMisshapen(elem, v.Index(i)) {
			return true
		}
	}
	return false
}

// holdsSlices reports whether some element, in an interface, is a slice that pgx would
// take for a dimension.
func holdsSlices(v reflect.Value) bool {
	for i := range v.Len() {
		if within := inner(v.Index(i)); within.IsValid() && within.Type() != reflect.TypeFor[[]byte]() {
			return true
		}
	}
	return false
}
