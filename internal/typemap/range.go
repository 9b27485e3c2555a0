package typemap

import (
	"database/sql"
	"math"
	"reflect"
	"time"

	"github.com/jackc/pgx/v5/pgtype"
)

// PostgreSQL has timestamps from 4714-11-24 BC to the end of 294276 (MIN_TIMESTAMP and END_TIMESTAMP in
// datatype/timestamp.h), and dates to the end of 5874897. In Unix seconds:
const (
	MinTimestamp = -210_866_803_200
	EndTimestamp = 9_224_318_016_000
	endDate      = 185_331_707_078_400
)

// mayWrap reports whether pgx may send a value of the type as another one: it counts the
// microseconds of a time that is out of range with an overflow, and converts floats as Go does.
func mayWrap(typ reflect.Type) bool {
	if isRange(typ) {
		typ = typ.Field(0).Type
	}
	return typ.Kind() == reflect.Float64 || typ.Kind() == reflect.Float32 || timeOrFloat(reflect.Zero(typ)) != nil
}

// isRange reports whether the type is a pgtype.Range, which begins with its two bounds.
func isRange(typ reflect.Type) bool {
	return typ.Kind() == reflect.Struct && typ.PkgPath() == "github.com/jackc/pgx/v5/pgtype" && typ.NumField() > 2 &&
		typ.Field(0).Name == "Lower" && typ.Field(1).Name == "Upper"
}

// timeOrFloat returns the time.Time or the float64 that a value is; nil if it is neither.
func timeOrFloat(v reflect.Value) any {
	switch v.Kind() {
	case reflect.Float32, reflect.Float64:
		return v.Float()
	case reflect.Struct:
		if !v.CanInterface() {
			return nil
		}
		switch value := v.Interface().(type) {
		case time.Time:
			return value
		case pgtype.Timestamptz:
			return value.Time
		case pgtype.Timestamp:
			return value.Time
		case pgtype.Date:
			return value.Time
		case sql.NullTime:
			return value.Time
		case sql.Null[time.Time]:
			return value.V
		case pgtype.Float8:
			return value.Float64
		case sql.NullFloat64:
			return value.Float64
		case sql.Null[float64]:
			return value.V
		}
	}
	return nil
}

// holds reports whether f is true for one of the times and floats in a value: for itself, for
// what it points to, for an element or for a bound.
func holds(v reflect.Value, f func(timeOrFloat any) bool) bool {
	for range deepest {
		switch v.Kind() {
		case reflect.Pointer, reflect.Interface:
			v = v.Elem() // of nil: the zero Value
			continue
		case reflect.Slice, reflect.Array:
			elem := v.Type().Elem()
			for range deepest {
				if k := elem.Kind(); k != reflect.Pointer && k != reflect.Slice && k != reflect.Array {
					break
				}
				elem = elem.Elem()
			}
			if !mayWrap(elem) {
				return false
			}
			for i := range v.Len() {
				if holds(v.Index(i), f) {
					return true
				}
			}
			return false
		case reflect.Struct:
			if isRange(v.Type()) {
				return holds(v.Field(0), f) || holds(v.Field(1), f)
			}
		}
		found := timeOrFloat(v)
		return found != nil && f(found)
	}
	return false
}

// isExtreme reports whether a value holds a time or a float that not all types have which pgx
// sends it as.
func isExtreme(value any) bool {
	switch value := value.(type) { // the commonest, without an allocation
	case float64:
		return extreme(value)
	case *float64:
		return value != nil && extreme(*value)
	case float32:
		return extreme(float64(value))
	case time.Time:
		return extremeTime(value)
	case *time.Time:
		return value != nil && extremeTime(*value)
	}
	return holds(reflect.ValueOf(value), func(found any) bool {
		if at, ok := found.(time.Time); ok {
			return extremeTime(at)
		}
		return extreme(found.(float64))
	})
}

func extremeTime(t time.Time) bool { return t.Unix() < MinTimestamp || t.Unix() >= EndTimestamp }

func extreme(x float64) bool { return !fitsInteger(x) || !fitsFloat4(x) }

func fitsInteger(x float64) bool { return math.Abs(x) < 1<<63 }

func fitsFloat4(x float64) bool {
	narrow := float64(float32(x))
	return math.IsInf(narrow, 0) == math.IsInf(x, 0) && (narrow == 0) == (x == 0)
}

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
	if bounds, ok := codec.(*pgtype.RangeCodec); ok {
		codec = bounds.ElementType.Codec
	}
	return holds(v, func(found any) bool {
		at, isTime := found.(time.Time)
		x, isFloat := found.(float64)
		switch codec.(type) {
		case *pgtype.TimestamptzCodec:
			return isTime && extremeTime(at)
		case *pgtype.TimestampCodec: // as the clock shows it
			_, offset := at.Zone()
			return isTime && extremeTime(at.Add(time.Duration(offset)*time.Second))
		case pgtype.DateCodec:
			return isTime && (at.Unix() < MinTimestamp || at.Unix() >= endDate)
		case pgtype.Float4Codec:
			return isFloat && !fitsFloat4(x)
		case pgtype.Int2Codec, pgtype.Int4Codec, pgtype.Int8Codec:
			return isFloat && !fitsInteger(x)
		}
		return false
	})
}
