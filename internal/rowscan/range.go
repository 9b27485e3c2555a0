package rowscan

import (
	"errors"
	"math"
	"reflect"
	"time"

	"github.com/jackc/pgx/v5/pgtype"
)

// A rangePlan reads what pgx would read with an overflow: an interval into a time.Duration, and
// a float8 or a numeric into a float32, or arrays of them. It refuses a value that does not fit.
type rangePlan struct {
	pgtype.ScanPlan
	types  *pgtype.Map
	oid    uint32
	format int16
	fits   func(p *rangePlan, src []byte, value reflect.Value) (bool, error)
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
	if array, isArray := codec.(*pgtype.ArrayCodec); isArray && t.Kind() == reflect.Slice {
		t, codec = ValueType(t.Elem()), array.ElementType.Codec
	}
	p := &rangePlan{ScanPlan: plan, types: types, oid: oid, format: format}
	switch codec.(type) {
	case pgtype.IntervalCodec:
		if t == reflect.TypeFor[time.Duration]() {
			p.fits = (*rangePlan).fitsDuration
		}
	case pgtype.Float8Codec, pgtype.NumericCodec:
		if t.Kind() == reflect.Float32 {
			p.fits = (*rangePlan).fitsFloat32
		}
	}
	if p.fits == nil {
		return plan
	}
	return p
}

func (p *rangePlan) Scan(src []byte, target any) error {
	if err := p.ScanPlan.Scan(src, target); err != nil || src == nil {
		return err
	}
	value := reflect.ValueOf(target).Elem()
	for value.Kind() == reflect.Pointer {
		value = value.Elem()
	}
	if fits, err := p.fits(p, src, value); err != nil || !fits {
		return errors.Join(err, errOutOfRange)
	}
	return nil
}

func (p *rangePlan) fitsDuration(src []byte, value reflect.Value) (bool, error) {
	all, err := scanAll[pgtype.Interval](p, src, value)
	for _, i := range all {
		nanoseconds := 1000 * (float64(i.Microseconds) + 86_400e6*(float64(i.Days)+30*float64(i.Months)))
		if math.Abs(nanoseconds) >= 1<<63 {
			return false, nil
		}
	}
	return true, err
}

func (p *rangePlan) fitsFloat32(src []byte, value reflect.Value) (bool, error) {
	all, err := scanAll[pgtype.Float8](p, src, value)
	for _, f := range all {
		narrow := float64(float32(f.Float64))
		if math.IsInf(narrow, 0) != math.IsInf(f.Float64, 0) || (narrow == 0) != (f.Float64 == 0) {
			return false, nil
		}
	}
	return true, err
}

// scanAll scans the value, or the elements of the array, into a type that holds every one.
func scanAll[T any](p *rangePlan, src []byte, value reflect.Value) (all []T, err error) {
	if value.Kind() == reflect.Slice {
		err = p.types.Scan(p.oid, p.format, src, &all)
	} else {
		all = make([]T, 1)
		err = p.types.Scan(p.oid, p.format, src, &all[0])
	}
	return all, err
}
