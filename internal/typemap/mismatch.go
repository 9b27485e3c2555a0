package typemap

import (
	"database/sql"
	"math"
	"reflect"
	"slices"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5/pgtype"

	"github.com/pgcmd/pgcmd/internal/rowscan"
	"github.com/pgcmd/pgcmd/internal/structfields"
)

// A Mismatch is what is wrong with a pair of types: nothing, if Why is empty.
type Mismatch struct {
	Rule        string
	Why         string
	Hint        string
	WarningOnly bool // it may be meant
}

// base looks through domains, and takes what is text in binary for text.
func (t Types) base(oid uint32) uint32 {
	live, ok := t.Live[oid]
	if !ok {
		return oid
	}
	if _, known := t.Known.TypeForOID(live.Base); !known && live.Textual && live.Kind != "e" {
		return pgtype.TextOID
	}
	return live.Base
}

// Read is the mismatch of scanning a column into a field.
func (t Types) Read(oid uint32, modifier int32, typ reflect.Type) Mismatch {
	column := oid
	oid = t.base(oid)
	typ = rowscan.ValueType(typ)
	if typ.Kind() == reflect.Interface || typ == reflect.TypeFor[pgtype.UndecodedBytes]() {
		return Mismatch{}
	}
	read := func(oid uint32, typ reflect.Type) Mismatch { return t.Read(oid, -1, typ) }
	if m := t.attributes(oid, typ, true, read); m.Why != "" {
		return m
	}
	if typ.Kind() == reflect.String && t.Live[oid].Kind == "c" && !HasCodecMethods(typ) {
		return Mismatch{Rule: "type", Why: "gets the text of a row of", Hint: "select its fields, or load the type (Config.Types) and use a struct, if that is not meant", WarningOnly: true}
	}
	if rowscan.PlanScan(t.Known, oid, t.Known.FormatCodeForOID(oid), reflect.New(typ).Interface()) == nil {
		hint := "change the field's type, or cast the column in the SQL"
		if _, known := t.Known.TypeForOID(oid); !known {
			hint = t.fixUnknown(column)
		}
		return Mismatch{Rule: "type", Why: "cannot hold", Hint: hint}
	}
	if !t.fitsEnum(oid, typ) {
		return Mismatch{Rule: "type", Why: "cannot hold", Hint: "use a string"}
	}
	if !t.fitsText(oid, typ) {
		return Mismatch{Rule: "type", Why: "cannot hold", Hint: t.fixUnknown(column)}
	}
	if HasCodecMethods(typ) {
		if !t.scansSamples(oid, typ) {
			return Mismatch{Rule: "type", Why: "cannot hold", Hint: "change the field's type, or cast the column in the SQL"}
		}
		return Mismatch{}
	}
	if elem, elemOID, ok := t.elements(typ, oid); ok {
		return t.Read(elemOID, modifier, elem)
	}
	switch from, into := intBits(oid), goBits(typ.Kind()); {
	case from > 0 && into > 0 && into < from:
		return Mismatch{Rule: "range", Why: "cannot hold every value of", Hint: "make it int" + strconv.Itoa(from)}
	case into > 0 && isFloat(oid):
		return Mismatch{Rule: "range", Why: "cannot hold the fractions of", Hint: "make it float64, or cast the column in the SQL"}
	case into > 0 && oid == pgtype.NumericOID && into < numericBits(modifier):
		return Mismatch{Rule: "range", Why: "cannot hold every value of", Hint: "cast the column to int8 in the SQL, or use pgtype.Numeric"}
	case typ.Kind() == reflect.Float32 && oid == pgtype.Float8OID:
		return Mismatch{Rule: "range", Why: "cannot hold every value of", Hint: "make it float64"}
	case isFloatKind(typ.Kind()) && oid == pgtype.NumericOID:
		return Mismatch{Rule: "range", Why: "cannot hold every digit of", Hint: "cast the column to float8 in the SQL if that is meant, or use pgtype.Numeric or a decimal type", WarningOnly: true}
	case typ.Kind() == reflect.String && isJSON(oid):
		return Mismatch{Rule: "type", Why: "gets the JSON text of", Hint: "use json.RawMessage or a type that it is decoded into, if that is meant", WarningOnly: true}
	}
	return Mismatch{}
}

// Unsendable is the mismatch of sending a field where no value of it can be sent.
func (t Types) Unsendable(oid uint32, typ reflect.Type) Mismatch {
	switch value := rowscan.ValueType(typ); {
	case value.Kind() == reflect.Interface:
	case !t.Encodes(oid, typ):
		hint := "change the field's type, or cast the parameter in the SQL"
		if _, known := t.Known.TypeForOID(oid); !known {
			hint = t.fixUnknown(oid)
		}
		return Mismatch{Rule: "type", Why: "cannot be sent as", Hint: hint}
	case !t.fitsEnum(oid, value):
		return Mismatch{Rule: "type", Why: "cannot be sent as", Hint: "use a string"}
	}
	return t.lacksFields(oid, typ)
}

// Write is the mismatch of sending a field as a parameter, or into a column of a copy.
func (t Types) Write(oid uint32, typ reflect.Type) Mismatch {
	if l := t.Unsendable(oid, typ); l.Why != "" {
		return l
	}
	_, known := t.Known.TypeForOID(oid)
	if !known && !t.fitsInput(oid, typ) {
		return Mismatch{Rule: "type", Why: "cannot be sent as", Hint: t.fixUnknown(oid)}
	}
	sent := oid
	oid = t.base(oid)
	typ = rowscan.ValueType(typ)
	if t.refusesSample(sent, typ) {
		return Mismatch{Rule: "type", Why: "cannot be sent as", Hint: "change the field's type, or cast the parameter in the SQL"}
	}
	if HasCodecMethods(typ) {
		return Mismatch{}
	}
	if m := t.attributes(oid, typ, true, t.Write); m.Why != "" {
		return m
	}
	if !known && isText(oid) && !t.Encodes(oid, typ) {
		return Mismatch{Rule: "type", Why: "is turned into text when it is sent as", Hint: "change the field's type, if that is not meant", WarningOnly: true}
	}
	if elem, elemOID, ok := t.elements(typ, oid); ok {
		return t.Write(elemOID, elem)
	}
	kind := typ.Kind()
	// An int is Go's way to say a number, and says nothing of its size.
	if from, into := goBits(kind), intBits(oid); from > into && into > 0 && kind != reflect.Int && kind != reflect.Uint {
		return Mismatch{Rule: "range", Why: "holds more than", Hint: "make it int" + strconv.Itoa(into) + ", or widen the column"}
	}
	switch {
	case isFloatKind(kind) && intBits(oid) > 0:
		return Mismatch{Rule: "range", Why: "holds fractions, which cannot be sent as", Hint: "make it an integer, or cast the parameter in the SQL"}
	case kind == reflect.String && (intBits(oid) > 0 || isFloat(oid) || oid == pgtype.BoolOID || oid == pgtype.ByteaOID):
		return Mismatch{Rule: "type", Why: "is text, which only sometimes reads as", Hint: "change the field's type, or cast the parameter to text in the SQL"}
	case kind == reflect.String && isJSON(oid):
		return Mismatch{Rule: "type", Why: "must hold JSON text to be sent as", Hint: "use json.RawMessage or a type that is encoded, if that is meant", WarningOnly: true}
	case typ == reflect.TypeFor[time.Time]() && isText(oid) && known:
		return Mismatch{Rule: "type", Why: "is written as Go prints it when it is sent as", Hint: "change the field's type, or cast the parameter to timestamptz in the SQL"}
	case typ == reflect.TypeFor[time.Time]() && oid == pgtype.DateOID:
		return Mismatch{Rule: "range", Why: "loses its time of day when it is sent as", Hint: "use pgtype.Date, if that is meant", WarningOnly: true}
	}
	return Mismatch{}
}

// TakesNull reports whether a field can take NULL from a column: also one whose type has a
// method for it, which is user code.
func (t Types) TakesNull(oid uint32, typ reflect.Type) bool {
	switch typ.Kind() {
	case reflect.Pointer, reflect.Slice, reflect.Map, reflect.Interface:
		return true
	}
	if HasCodecMethods(typ) {
		return true
	}
	oid = t.base(oid)
	target := reflect.New(typ).Interface()
	plan := t.Known.PlanScan(oid, t.Known.FormatCodeForOID(oid), target)
	return reflect.TypeOf(plan) == rowscan.NoScan() || plan.Scan(nil, target) == nil
}

// TakesNullElements reports whether a field can take an array with NULL in it; also if it is no slice of Go's own.
func (t Types) TakesNullElements(oid uint32, typ reflect.Type) bool {
	if HasCodecMethods(typ) {
		return true
	}
	for typ.Kind() == reflect.Pointer {
		typ = typ.Elem()
	}
	elem, elemOID, ok := t.elements(typ, oid)
	return !ok || t.TakesNull(elemOID, elem)
}

// fitsEnum is false for an enum, if the field is not text: pgx does not know the
// type, and would guess one from the field.
func (t Types) fitsEnum(oid uint32, typ reflect.Type) bool {
	live, ok := t.Live[oid]
	if !ok || live.Kind != "e" || HasCodecMethods(typ) {
		return true
	}
	return isTextKind(typ)
}

// fitsText is false if pgx does not know the type of a column, so that it reads it as text, and the field is neither a string
// nor bytes: pgx would guess a type from the field.
func (t Types) fitsText(oid uint32, typ reflect.Type) bool {
	live, described := t.Live[oid]
	if _, known := t.Known.TypeForOID(oid); known || !described || HasCodecMethods(typ) || isTextKind(typ) {
		return true
	}
	if live.Elem == 0 || typ.Kind() != reflect.Slice && typ.Kind() != reflect.Array {
		return false
	}
	for typ = typ.Elem(); typ.Kind() == reflect.Pointer || typ.Kind() == reflect.Slice && !isTextKind(typ); {
		typ = typ.Elem()
	}
	_, known := t.Known.TypeForOID(live.Elem)
	return known || HasCodecMethods(typ) || isTextKind(typ)
}

// fitsInput is false if pgx does not know the type of a parameter, so that it sends a text, and the server can read the text
// of no value of the field as the type: a number as an array or a row, or what the base type of a domain does not take.
func (t Types) fitsInput(oid uint32, typ reflect.Type) bool {
	live := t.Live[oid]
	value := rowscan.ValueType(typ)
	if HasCodecMethods(value) {
		return true
	}
	if _, known := t.Known.TypeForOID(live.Base); known && live.Base != oid {
		return isText(live.Base) || t.Encodes(live.Base, typ)
	}
	isNumber := value.Kind() >= reflect.Bool && value.Kind() <= reflect.Float64
	return !isNumber || live.Elem == 0 && live.Kind != "c" && live.Kind != "r" && live.Kind != "m"
}

// isTextKind reports whether a type is a string or bytes.
func isTextKind(typ reflect.Type) bool {
	return typ.Kind() == reflect.String || typ.Kind() == reflect.Slice && typ.Elem().Kind() == reflect.Uint8
}

// elements returns the element types of a Go slice and a PostgreSQL array.
func (t Types) elements(typ reflect.Type, oid uint32) (elem reflect.Type, elemOID uint32, ok bool) {
	known, ok := t.Known.TypeForOID(oid)
	if !ok || typ.Kind() != reflect.Slice && typ.Kind() != reflect.Array {
		return nil, 0, false
	}
	array, ok := known.Codec.(*pgtype.ArrayCodec)
	if !ok {
		return nil, 0, false
	}
	for elem = typ.Elem(); elem.Kind() == reflect.Slice && elem.Elem().Kind() != reflect.Uint8; { // of several dimensions
		elem = elem.Elem()
	}
	return elem, array.ElementType.OID, true
}

// HasCodecMethods reports whether the type has methods that decide how it is scanned or encoded.
func HasCodecMethods(typ reflect.Type) bool {
	if typ.Kind() == reflect.Interface {
		return true
	}
	pointer := reflect.PointerTo(typ)
	return pointer.Implements(reflect.TypeFor[sql.Scanner]()) || slices.ContainsFunc(structfields.ScalarInterfaces, pointer.Implements)
}

// intBits is the size of an integer type of PostgreSQL; 0 for others.
func intBits(oid uint32) int {
	switch oid {
	case pgtype.Int2OID:
		return 16
	case pgtype.Int4OID:
		return 32
	case pgtype.Int8OID:
		return 64
	}
	return 0
}

// goBits is the size of an integer type of Go; 0 for others. Whether it has a sign
// is not looked at: an unsigned field says that there is nothing below zero.
func goBits(kind reflect.Kind) int {
	switch kind {
	case reflect.Int, reflect.Uint:
		return strconv.IntSize
	case reflect.Int8, reflect.Uint8:
		return 8
	case reflect.Int16, reflect.Uint16:
		return 16
	case reflect.Int32, reflect.Uint32:
		return 32
	case reflect.Int64, reflect.Uint64:
		return 64
	}
	return 0
}

// numericBits is how many bits an integer needs for a numeric(p, s), whose modifier
// is the precision, then the scale, then 4; none that there is, if it has fractions.
func numericBits(modifier int32) int {
	precision, scale := (modifier-4)>>16, (modifier-4)&0x7ff
	switch {
	case modifier < 4 || scale != 0 || precision > 18:
		return math.MaxInt
	case precision > 9:
		return 64
	case precision > 4:
		return 32
	case precision > 2:
		return 16
	}
	return 8
}

func isFloat(oid uint32) bool { return oid == pgtype.Float4OID || oid == pgtype.Float8OID }

func isFloatKind(kind reflect.Kind) bool { return kind == reflect.Float32 || kind == reflect.Float64 }

func isText(oid uint32) bool {
	return oid == pgtype.TextOID || oid == pgtype.VarcharOID || oid == pgtype.BPCharOID
}

func isJSON(oid uint32) bool { return oid == pgtype.JSONOID || oid == pgtype.JSONBOID }
