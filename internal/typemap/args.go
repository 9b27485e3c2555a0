package typemap

import (
	"database/sql/driver"
	"fmt"
	"reflect"
	"strings"
)

// A Check says what has to be checked in the values of a parameter before they are sent.
// Most types need none.
type Check uint8

const (
	CheckOwnValue    Check = 1 << iota // it may say itself what is sent for it
	CheckByType                        // and may be sent by a method of pgtype's instead
	CheckBytes                         // it may be bytes, or an array of them
	CheckRectangular                   // it may hold an array that is not rectangular
	CheckRange                         // it may hold a time or a float that pgx would send as another one
	CheckFractions                     // it may hold a float that is sent as an integer, which Verify cannot find
	CheckValue                         // it may hold what has no encoding of any type
)

// CheckOf returns what has to be checked in values of the type.
func CheckOf(typ reflect.Type) (c Check) {
	if mayBeUnencodable(typ, 0) {
		c = CheckValue
	}
	elem := typ
	for {
		switch {
		case elem.Kind() == reflect.Interface:
			return c | CheckOwnValue | CheckBytes | CheckRectangular | CheckRange | CheckFractions
		case isValuer(elem) || elem.Implements(textValuerType):
			if c |= CheckOwnValue; SentByType(elem) {
				c |= CheckByType
			}
			if mayOverflow(elem) {
				c |= CheckRange
			}
			return c
		case isDimensioned(elem):
			c |= CheckBytes | CheckRectangular
			if mayOverflow(elem.Field(0).Type.Elem()) {
				c |= CheckRange
			}
			return c
		}
		if takenForBytea(elem) {
			c |= CheckBytes
		}
		if elem.Kind() != reflect.Pointer && elem.Kind() != reflect.Slice && elem.Kind() != reflect.Array {
			break
		}
		elem = elem.Elem()
	}
	if mayBeRagged(typ) {
		c |= CheckRectangular
	}
	if mayOverflow(elem) {
		c |= CheckRange
	}
	return c
}

// MayHoldBytes reports whether a value is bytes, not nil, or may be an array of them.
func MayHoldBytes(value any) bool {
	if b, ok := BytesIn(value); ok {
		return b != nil
	}
	typ := reflect.TypeOf(value)
	for typ.Kind() == reflect.Pointer {
		typ = typ.Elem()
	}
	switch {
	case isDimensioned(typ):
		typ = typ.Field(0).Type
	case typ.Kind() != reflect.Slice && typ.Kind() != reflect.Array:
		return false
	}
	return takenForBytea(typ.Elem())
}

// CannotBeSent says that no value of the Go type typ, called what, can be sent as the SQL
// type, and what to do about it.
func (t Types) CannotBeSent(what string, typ reflect.Type, oid uint32, placeholder string) string {
	if oid == 0 {
		return fmt.Sprintf("(%s) cannot be sent where pgx is not told the type of its parameter: use another QueryExecMode than Exec and SimpleProtocol, or a type of pgtype's", what)
	}
	if m := t.lacksFields(oid, typ); m.Why != "" {
		return fmt.Sprintf("(%s) %s %s: %s", what, m.Why, t.Name(oid), m.Hint)
	}
	fix := "change the field's type"
	switch _, known := t.Known.TypeForOID(oid); {
	case known:
	case t.Live[oid].Kind == "e" && t.Encodes(oid, typ):
		fix = "use a string"
	default:
		fix = t.fixUnknown(oid)
	}
	if own := t.ownName(typ); own != "" && placeholder != "" {
		fix += ", or cast the parameter, as in " + placeholder + "::" + own
	}
	return fmt.Sprintf("(%s) cannot be sent as %s: %s", what, t.Name(oid), fix)
}

// fixUnknown says what to do about a type that pgx does not know, and that a Go type does not fit.
func (t Types) fixUnknown(oid uint32) string {
	live, described := t.Live[oid]
	switch {
	case !described:
		return "load the type (Config.Types)"
	case live.Elem == 0 && live.Kind != "c" && live.Kind != "r" && live.Kind != "m" && !strings.HasSuffix(live.Name, "hstore"):
		return "use a string, or a type that has a method for it (Value, Scan)"
	}
	return fmt.Sprintf("add %s to Config.Types, or call Pool.Reset if it is there", strings.TrimSuffix(t.Name(oid), "[]"))
}

// ownName is the SQL type that is a Go type's own, or "".
func (t Types) ownName(typ reflect.Type) string {
	dimensions := ""
	for typ.Kind() == reflect.Pointer || typ.Kind() == reflect.Slice && typ.Elem().Kind() != reflect.Uint8 || typ.Kind() == reflect.Array && typ.Elem().Kind() != reflect.Uint8 {
		if typ.Kind() != reflect.Pointer {
			dimensions = "[]"
		}
		typ = typ.Elem()
	}
	guessed, ok := t.Known.TypeForValue(reflect.Zero(typ).Interface())
	switch {
	case ok:
		return guessed.Name + dimensions
	case typ.Kind() == reflect.Array:
		if typ.Len() == 16 {
			return "uuid" + dimensions
		}
		return ""
	case basics[typ.Kind()] != "":
		return basics[typ.Kind()] + dimensions
	}
	return ""
}

// basics are the SQL types of the kinds of Go.
var basics = map[reflect.Kind]string{
	reflect.String: "text", reflect.Bool: "bool", reflect.Float32: "float4", reflect.Float64: "float8",
	reflect.Int: "int8", reflect.Int8: "int2", reflect.Int16: "int2", reflect.Int32: "int4", reflect.Int64: "int8",
	reflect.Uint8: "int2", reflect.Uint16: "int4", reflect.Uint32: "int8", reflect.Uint64: "numeric", reflect.Uint: "numeric",
}

// OwnType is the type of what a value gives to be sent for it, or nil.
func OwnType(value any) reflect.Type {
	valuer, ok := value.(driver.Valuer)
	if !ok {
		return nil
	}
	own, err := valuer.Value()
	if err != nil {
		return nil
	}
	return reflect.TypeOf(own)
}
