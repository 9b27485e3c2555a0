package typemap

import (
	"database/sql"
	"math/big"
	"net"
	"net/netip"
	"reflect"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgtype"

	"github.com/pgcmd/pgcmd/internal/rowscan"
)

// columnSamples are values of SQL types. Which of them a Go type with a Scan method can hold is known only when it is tried;
// it does not fit the column if it can hold none.
var columnSamples = sync.OnceValue(func() map[uint32][]any {
	return map[uint32][]any{
		pgtype.BoolOID:        {true},
		pgtype.Int2OID:        {int16(1)},
		pgtype.Int4OID:        {int32(1)},
		pgtype.Int8OID:        {int64(1)},
		pgtype.Float4OID:      {float32(1)},
		pgtype.Float8OID:      {float64(1)},
		pgtype.NumericOID:     {pgtype.Numeric{Int: big.NewInt(1), Valid: true}},
		pgtype.UUIDOID:        {[16]byte{1}},
		pgtype.DateOID:        {sampleTime},
		pgtype.TimestampOID:   {sampleTime},
		pgtype.TimestamptzOID: {sampleTime},
		pgtype.TimeOID:        {pgtype.Time{Microseconds: 1, Valid: true}},
		pgtype.IntervalOID:    {time.Second},
		pgtype.InetOID:        {netip.MustParsePrefix("10.0.0.1/32")},
		pgtype.TextOID:        sampleTexts,
		pgtype.VarcharOID:     sampleTexts,
	}
})

var (
	sampleTime  = time.Date(2020, 1, 2, 3, 4, 5, 0, time.UTC)
	sampleTexts = []any{"1", "t", "2020-01-02", "2020-01-02 03:04:05", "2020-01-02 03:04:05Z", "03:04:05", "00000000-0000-0000-0000-000000000001", "[1,2)", "(1,2)", `"a"=>"b"`, "{}", "101",
		"{1,2,3}", "[(1,2),(3,4)]", "(3,4),(1,2)", "((1,2),(3,4))", "<(1,2),3>", "'a'"}
)

// isOfLibrary reports whether a type's methods are those of the standard library or pgx, and no user code.
func isOfLibrary(typ reflect.Type) bool {
	return slices.Contains([]string{"database/sql", "time", "net", "net/netip", "math/big", "github.com/jackc/pgx/v5/pgtype", "github.com/jackc/pgx/v5/pgtype/zeronull"}, typ.PkgPath())
}

// scansSamples is false if a type that is read by a method of its own, which is no user code, can hold no value of a column.
func (t Types) scansSamples(oid uint32, typ reflect.Type) bool {
	samples := columnSamples()[oid]
	if len(samples) == 0 || !isOfLibrary(typ) {
		return true
	}
	format := t.Known.FormatCodeForOID(oid)
	for _, sample := range samples {
		encoded, err := t.Known.Encode(oid, format, sample, nil)
		if err != nil {
			return true
		}
		target := reflect.New(typ).Interface()
		if plan := rowscan.PlanScan(t.Known, oid, format, target); plan != nil && plan.Scan(encoded, target) == nil {
			return true
		}
	}
	return false
}

// fieldSamples are values of Go types that pgx sends as the text of their String or Value method if it has no other form
// for the SQL type.
var fieldSamples = samplesByType(func() []any {
	return []any{
		time.Second, netip.MustParseAddr("10.0.0.1"), netip.MustParsePrefix("10.0.0.0/8"), net.IPv4(10, 0, 0, 1), net.HardwareAddr{1, 2, 3, 4, 5, 6},
		sql.NullInt16{Int16: 1, Valid: true}, sql.NullInt32{Int32: 1, Valid: true}, sql.NullInt64{Int64: 1, Valid: true}, sql.NullFloat64{Float64: 1, Valid: true}, sql.NullBool{Bool: true, Valid: true},
		sql.Null[int16]{V: 1, Valid: true}, sql.Null[int32]{V: 1, Valid: true}, sql.Null[int64]{V: 1, Valid: true}, sql.Null[int]{V: 1, Valid: true}, sql.Null[bool]{V: true, Valid: true},
		pgtype.Int2{Int16: 1, Valid: true}, pgtype.Int4{Int32: 1, Valid: true}, pgtype.Int8{Int64: 1, Valid: true}, pgtype.Float4{Float32: 1, Valid: true}, pgtype.Float8{Float64: 1, Valid: true},
		pgtype.Numeric{Int: big.NewInt(1), Valid: true}, pgtype.Bool{Bool: true, Valid: true}, pgtype.UUID{Bytes: [16]byte{1}, Valid: true}, pgtype.Interval{Microseconds: 1, Valid: true},
	}
})

// timeSamples are fieldSamples of times.
var timeSamples = samplesByType(func() []any {
	return []any{
		sampleTime, sql.NullTime{Time: sampleTime, Valid: true}, sql.Null[time.Time]{V: sampleTime, Valid: true}, pgtype.Date{Time: sampleTime, Valid: true},
		pgtype.Timestamp{Time: sampleTime, Valid: true}, pgtype.Timestamptz{Time: sampleTime, Valid: true}, pgtype.Time{Microseconds: 1, Valid: true},
	}
})

// samplesByType makes them when they are asked for, which only Verify does.
func samplesByType(samples func() []any) func() map[reflect.Type]any {
	return sync.OnceValue(func() map[reflect.Type]any {
		byType := map[reflect.Type]any{}
		for _, sample := range samples() {
			byType[reflect.TypeOf(sample)] = sample
		}
		return byType
	})
}

// refusesSample reports whether a value of a type cannot be sent, or is sent as a text that is none of the SQL type.
func (t Types) refusesSample(oid uint32, typ reflect.Type) bool {
	sample, ok := fieldSamples()[typ]
	alsoChecked := checkedForTimes
	if ok {
		alsoChecked = checkedForNumbers
	} else if sample, ok = timeSamples()[typ]; !ok {
		return false
	}
	base := t.base(oid)
	known, found := t.Known.TypeForOID(base)
	if !found {
		return false
	}
	var encoded []byte
	_, err := t.Known.Encode(oid, t.Known.FormatCodeForOID(oid), sample, nil)
	if _, sentByType := t.Known.TypeForOID(oid); sentByType && err == nil {
		return false
	}
	if encoded, err = t.Known.Encode(oid, pgtype.TextFormatCode, sample, nil); err != nil { // in neither format
		return true
	}
	if _, isArray := known.Codec.(*pgtype.ArrayCodec); isArray {
		return len(encoded) > 0 && encoded[0] != '{' && encoded[0] != '['
	}
	if !slices.Contains(checkedTypes, base) && !slices.Contains(alsoChecked, base) {
		return false
	}
	_, err = known.Codec.DecodeValue(t.Known, base, pgtype.TextFormatCode, encoded)
	return err != nil
}

// The types whose text pgx reads as the server does, at least that of the samples: of all, of numbers and of times. Of
// others the server reads more.
var (
	checkedTypes      = []uint32{pgtype.Int2OID, pgtype.Int4OID, pgtype.Int8OID, pgtype.Float4OID, pgtype.Float8OID, pgtype.NumericOID, pgtype.UUIDOID, pgtype.OIDOID}
	checkedForNumbers = []uint32{pgtype.DateOID, pgtype.TimestampOID, pgtype.TimestamptzOID}
	checkedForTimes   = []uint32{pgtype.IntervalOID, pgtype.BoolOID}
)
