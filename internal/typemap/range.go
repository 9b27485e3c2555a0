package typemap

import (
	"database/sql"
	"math"
	"reflect"
	"slices"
	"time"

	"github.com/jackc/pgx/v5/pgtype"

	"github.com/pgcmd/pgcmd/internal/rowscan"
	"github.com/pgcmd/pgcmd/internal/structfields"
)

// PostgreSQL has timestamps from 4714-11-24 BC to the end of 294276 (MIN_TIMESTAMP and END_TIMESTAMP in
// datatype/timestamp.h), and dates to the end of 5874897. In Unix seconds:
const (
	MinTimestamp = -210_866_803_200
	EndTimestamp = 9_224_318_016_000
	endDate      = 185_331_707_078_400
)

var timeType = reflect.TypeFor[time.Time]()

// nullables are the structs that hold a time or a float in their first field, unless their last one, Valid, is false.
var nullables = []reflect.Type{
	reflect.TypeFor[pgtype.Timestamptz](), reflect.TypeFor[pgtype.Timestamp](), reflect.TypeFor[pgtype.Date](), reflect.TypeFor[pgtype.Float8](),
	reflect.TypeFor[sql.NullTime](), reflect.TypeFor[sql.NullFloat64](), reflect.TypeFor[sql.Null[time.Time]](), reflect.TypeFor[sql.Null[float64]](),
}

// mayOverflow reports whether pgx may send a value of the type as another one: it counts the microseconds of a time with
// an overflow, and converts floats as Go does.
func mayOverflow(typ reflect.Type) bool { return mayOverflowAt(typ, 0) }

func mayOverflowAt(typ reflect.Type, depth int) bool {
	if depth > structfields.MaxEmbedding {
		return true // a type that holds itself: to be looked at value by value
	}
	switch {
	case isRange(typ), isDimensioned(typ):
		return mayOverflowAt(typ.Field(0).Type, depth+1)
	case sentAsFloat(typ), typ == timeType, slices.Contains(nullables, typ):
		return true
	case isComposite(typ):
		for i := range typ.NumField() {
			if f := typ.Field(i); f.IsExported() && mayOverflowAt(f.Type, depth+1) {
				return true
			}
		}
		return false
	}
	switch typ.Kind() {
	case reflect.Interface:
		return true
	case reflect.Pointer, reflect.Slice, reflect.Array:
		return !isValuer(typ) && mayOverflowAt(typ.Elem(), depth+1)
	}
	return false
}

// isComposite reports whether pgx may send the fields of a type as the attributes of a composite.
func isComposite(typ reflect.Type) bool {
	return typ.Kind() == reflect.Struct && typ != timeType && !structfields.IsScalar(typ)
}

// sentAsFloat reports whether pgx sends a type as a float. A Value method gives another value.
func sentAsFloat(typ reflect.Type) bool {
	return (typ.Kind() == reflect.Float64 || typ.Kind() == reflect.Float32) && !isValuer(typ)
}

// isRange reports whether the type is a pgtype.Range, which begins with its two bounds.
func isRange(typ reflect.Type) bool {
	return typ.Kind() == reflect.Struct && typ.PkgPath() == "github.com/jackc/pgx/v5/pgtype" && typ.NumField() > 2 &&
		typ.Field(0).Name == "Lower" && typ.Field(1).Name == "Upper"
}

// A search looks for a time or a float in a value: in itself, in what it points to, in its elements, its bounds or its
// fields.
type search struct {
	time  func(time.Time) bool // nil if times do not matter
	float func(float64) bool   // nil if floats do not matter
}

func (s search) finds(v reflect.Value) bool { return s.findsAt(v, 0) }

func (s search) findsAt(v reflect.Value, depth int) bool {
	for ; depth < deepest; depth++ {
		switch v.Kind() {
		case reflect.Float32, reflect.Float64:
			return s.float != nil && sentAsFloat(v.Type()) && s.float(v.Float())
		case reflect.Pointer, reflect.Interface:
			v = v.Elem() // of nil: the zero Value
			continue
		case reflect.Slice, reflect.Array:
			return s.findsElement(v, depth+1)
		case reflect.Struct:
		default:
			return false
		}
		switch typ := v.Type(); {
		case typ == timeType:
			return s.time != nil && s.time(timeOf(v))
		case slices.Contains(nullables, typ):
			if !v.Field(v.NumField() - 1).Bool() {
				return false
			}
			v = v.Field(0)
		case isRange(typ):
			return s.findsAt(v.Field(0), depth+1) || s.findsAt(v.Field(1), depth+1)
		case isDimensioned(typ):
			v = v.Field(0)
		case isComposite(typ):
			return s.findsField(v, depth+1)
		default:
			return false
		}
	}
	return false
}

func (s search) findsElement(v reflect.Value, depth int) bool {
	if !mayOverflow(v.Type().Elem()) {
		return false
	}
	for i := range v.Len() {
		if s.findsAt(v.Index(i), depth) {
			return true
		}
	}
	return false
}

func (s search) findsField(v reflect.Value, depth int) bool {
	for i := range v.NumField() {
		if v.Type().Field(i).IsExported() && s.findsAt(v.Field(i), depth) {
			return true
		}
	}
	return false
}

// timeOf is the time.Time that a value is, without an allocation.
func timeOf(v reflect.Value) time.Time {
	if v.CanAddr() {
		return *v.Addr().Interface().(*time.Time)
	}
	return v.Interface().(time.Time)
}

var extremes = search{isExtremeTime, isExtremeFloat}

// isExtreme reports whether a value holds a time or a float that is out of range of one of the types that pgx sends it as.
func isExtreme(value any) bool {
	switch value := value.(type) { // the most common ones, without reflection
	case float64:
		return isExtremeFloat(value)
	case *float64:
		return value != nil && isExtremeFloat(*value)
	case float32:
		return isExtremeFloat(float64(value))
	case time.Time:
		return isExtremeTime(value)
	case *time.Time:
		return value != nil && isExtremeTime(*value)
	}
	return extremes.finds(reflect.ValueOf(value))
}

func isExtremeTime(t time.Time) bool { return t.Unix() < MinTimestamp || t.Unix() >= EndTimestamp }

// isExtremeTimestamp takes the time as the clock shows it, as a timestamp without time zone has it.
func isExtremeTimestamp(t time.Time) bool { return isExtremeTime(asUTC(t)) }

func isExtremeDate(t time.Time) bool {
	t = asUTC(t)
	return t.Unix() < MinTimestamp || t.Unix() >= endDate
}

func asUTC(t time.Time) time.Time {
	_, offset := t.Zone()
	return t.Add(time.Duration(offset) * time.Second)
}

// fractions looks for floats that lose their fraction when they are sent as integers.
var fractions = search{float: isNoInteger}

func isExtremeFloat(x float64) bool { return isExtremeInteger(x) || isExtremeFloat4(x) }

func isExtremeInteger(x float64) bool { return !(x >= -1<<63 && x < 1<<63) } // also of NaN

func isNoInteger(x float64) bool { return isExtremeInteger(x) || x != math.Trunc(x) }

func isExtremeFloat4(x float64) bool { return !rowscan.FitsFloat32(x) }

// IsOutOfRange reports whether a value holds a time or a float that the type does not have, and
// that pgx would send as another one.
func (t Types) IsOutOfRange(oid uint32, v reflect.Value) bool {
	known, ok := t.Known.TypeForOID(oid)
	if !ok {
		return false // it is sent as text, which the server reads
	}
	codec := known.Codec
	if array, ok := codec.(*pgtype.ArrayCodec); ok {
		codec = array.ElementType.Codec
	}
	if ranges, ok := codec.(*pgtype.MultirangeCodec); ok {
		codec = ranges.ElementType.Codec
	}
	if bounds, ok := codec.(*pgtype.RangeCodec); ok {
		codec = bounds.ElementType.Codec
	}
	switch codec := codec.(type) {
	case *pgtype.CompositeCodec:
		return t.isAttributeOutOfRange(codec, v, 0)
	case *pgtype.TimestamptzCodec:
		return search{time: isExtremeTime}.finds(v)
	case *pgtype.TimestampCodec:
		return search{time: isExtremeTimestamp}.finds(v)
	case pgtype.DateCodec:
		return search{time: isExtremeDate}.finds(v)
	case pgtype.Float4Codec:
		return search{float: isExtremeFloat4}.finds(v)
	case pgtype.Int2Codec, pgtype.Int4Codec, pgtype.Int8Codec:
		return search{float: isNoInteger}.finds(v)
	}
	return false
}

// isAttributeOutOfRange is IsOutOfRange of a value that is sent as a composite, or of the elements of an array of them.
func (t Types) isAttributeOutOfRange(codec *pgtype.CompositeCodec, v reflect.Value, depth int) bool {
	v = pointedTo(v)
	if !v.IsValid() || depth > deepest {
		return false
	}
	switch typ := v.Type(); {
	case isDimensioned(typ):
		return t.isAttributeOutOfRange(codec, v.Field(0), depth+1)
	case v.Kind() == reflect.Slice, v.Kind() == reflect.Array:
		for i := range v.Len() {
			if t.isAttributeOutOfRange(codec, v.Index(i), depth+1) {
				return true
			}
		}
	case isComposite(typ):
		at := 0
		for i := range v.NumField() {
			if !typ.Field(i).IsExported() || at == len(codec.Fields) {
				continue
			}
			if t.IsOutOfRange(codec.Fields[at].Type.OID, v.Field(i)) {
				return true
			}
			at++
		}
	}
	return false
}
