package rowscan

import (
	"errors"
	"math"
	"reflect"
	"slices"
	"time"

	"github.com/jackc/pgx/v5/pgtype"

	"github.com/pgcmd/pgcmd/internal/structfields"
)

// A rangePlan reads what pgx would read with an overflow: an interval into a time.Duration, and
// a float8 or a numeric into a float32, or arrays of them. It refuses a value that does not fit.
type rangePlan struct {
	pgtype.ScanPlan
	fits func(src []byte) (bool, error)
}

var errOutOfRange = errors.New("the value is out of range")

// withRange returns the plan for a column and a target of type t, as one that refuses what
// does not fit, if that is needed.
func withRange(plan pgtype.ScanPlan, types *pgtype.Map, oid uint32, format int16, t reflect.Type) pgtype.ScanPlan {
	known, ok := types.TypeForOID(oid)
	if !ok {
		return plan
	}
	t, codec := ValueType(t), known.Codec
	array, isArray := codec.(*pgtype.ArrayCodec)
	if isArray {
		codec = array.ElementType.Codec
		for t.Kind() == reflect.Slice || t.Kind() == reflect.Array {
			t = ValueType(t.Elem())
		}
	}
	switch codec.(type) {
	case pgtype.IntervalCodec:
		if t == reflect.TypeFor[time.Duration]() {
			return &rangePlan{plan, checked(types, oid, format, isArray, fitsDuration)}
		}
	case pgtype.Float8Codec, pgtype.NumericCodec:
		if t.Kind() == reflect.Float32 && !slices.ContainsFunc(structfields.ScalarInterfaces, reflect.PointerTo(t).Implements) {
			return &rangePlan{plan, checked(types, oid, format, isArray, fitsFloat32)}
		}
	}
	return plan
}

func (p *rangePlan) Scan(src []byte, target any) error {
	if err := p.ScanPlan.Scan(src, target); err != nil || src == nil {
		return err
	}
	fits, err := p.fits(src)
	if err == nil && !fits {
		err = errOutOfRange
	}
	return err
}

// checked returns a function that scans a value into a T, or an array into a []T, which holds
// every one, and reports whether all fit.
func checked[T any](types *pgtype.Map, oid uint32, format int16, isArray bool, fits func(T) bool) func(src []byte) (bool, error) {
	if isArray {
		plan := types.PlanScan(oid, format, new([]T))
		return func(src []byte) (bool, error) {
			var all []T
			err := plan.Scan(src, &all)
			return !slices.ContainsFunc(all, func(v T) bool { return !fits(v) }), err
		}
	}
	plan := types.PlanScan(oid, format, new(T))
	return func(src []byte) (bool, error) {
		var value T
		err := plan.Scan(src, &value)
		return fits(value), err
	}
}

func fitsDuration(i pgtype.Interval) bool {
	nanoseconds := 1000 * (float64(i.Microseconds) + 86_400e6*(float64(i.Days)+30*float64(i.Months)))
	return math.Abs(nanoseconds) < 1<<63
}

func fitsFloat32(f pgtype.Float8) bool { return FitsFloat32(f.Float64) }

// FitsFloat32 reports whether a float32 can hold the float, though perhaps with less precision:
// it is not rounded to infinity or to zero.
func FitsFloat32(x float64) bool {
	narrow := float64(float32(x))
	return math.IsInf(narrow, 0) == math.IsInf(x, 0) && (narrow == 0) == (x == 0)
}
