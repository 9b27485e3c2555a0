package typemap

import (
	"reflect"

	"github.com/jackc/pgx/v5/pgtype"

	"github.com/pgcmd/pgcmd/internal/structfields"
)

// maxNesting bounds how deep a value may be nested. encoding/json reads no more.
const maxNesting = 10_000

var bitsType = reflect.TypeFor[pgtype.Bits]()

// mayBeUnencodable reports whether Unencodable may find something in values of the type.
func mayBeUnencodable(typ reflect.Type, depth int) bool {
	if depth > structfields.MaxEmbedding {
		return true // a type that holds itself
	}
	switch typ.Kind() {
	case reflect.Interface:
		return true
	case reflect.Pointer, reflect.Slice, reflect.Array, reflect.Map:
		return mayBeUnencodable(typ.Elem(), depth+1)
	}
	if !isComposite(typ) {
		return typ == bitsType
	}
	for i := range typ.NumField() {
		if f := typ.Field(i); f.IsExported() && mayBeUnencodable(f.Type, depth+1) {
			return true
		}
	}
	return false
}

// Unencodable says why a value cannot be encoded as any type, or "". pgx prints a value that it
// cannot encode, and one that holds itself would overflow the stack. Its Bits panic if they are
// more than their Bytes.
func Unencodable(v reflect.Value) string { return unencodableAt(v, 0) }

func unencodableAt(v reflect.Value, depth int) (why string) {
	if depth > maxNesting {
		return "holds itself, or is nested more than 10000 deep"
	}
	switch v.Kind() {
	case reflect.Pointer, reflect.Interface:
		return unencodableAt(v.Elem(), depth+1) // of nil: the zero Value
	case reflect.Slice, reflect.Array:
		if mayBeUnencodable(v.Type().Elem(), 0) {
			for i := 0; why == "" && i < v.Len(); i++ {
				why = unencodableAt(v.Index(i), depth+1)
			}
		}
	case reflect.Map:
		if mayBeUnencodable(v.Type().Elem(), 0) {
			for entry := v.MapRange(); why == "" && entry.Next(); {
				why = unencodableAt(entry.Value(), depth+1)
			}
		}
	case reflect.Struct:
		typ := v.Type()
		if typ == bitsType {
			if length := v.Field(1).Int(); v.Field(2).Bool() && (length < 0 || (length+7)/8 != int64(v.Field(0).Len())) {
				return "has a Len that is not the number of its bits: Bytes must hold Len bits, in Len/8 bytes, rounded up"
			}
			return ""
		}
		if isComposite(typ) {
			for i := 0; why == "" && i < typ.NumField(); i++ {
				if typ.Field(i).IsExported() {
					why = unencodableAt(v.Field(i), depth+1)
				}
			}
		}
	}
	return why
}
