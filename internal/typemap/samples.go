package typemap

import (
	"math/big"
	"net/netip"
	"reflect"
	"slices"
	"time"

	"github.com/jackc/pgx/v5/pgtype"

	"github.com/pgcmd/pgcmd/internal/rowscan"
)

// columnSamples are values of types, for the types of Go that read them by a method: which they can hold is known only by
// a try. A type is refused if it holds none.
var columnSamples = map[uint32][]any{
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

var (
	sampleTime  = time.Date(2020, 1, 2, 3, 4, 5, 0, time.UTC)
	sampleTexts = []any{"1", "t", "2020-01-02", "2020-01-02 03:04:05", "2020-01-02 03:04:05Z", "03:04:05", "00000000-0000-0000-0000-000000000001", "[1,2)", "(1,2)", `"a"=>"b"`, "{}", "101"}
)

// isOfLibrary reports whether a type's methods are those of the standard library or pgx, and no user code.
func isOfLibrary(typ reflect.Type) bool {
	return slices.Contains([]string{"database/sql", "time", "net", "net/netip", "math/big", "github.com/jackc/pgx/v5/pgtype", "github.com/jackc/pgx/v5/pgtype/zeronull"}, typ.PkgPath())
}

// scansSamples is false if a type that is read by a method of its own, which is no user code, can hold no value of a column.
func (t Types) scansSamples(oid uint32, typ reflect.Type) bool {
	samples := columnSamples[oid]
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

// fieldSamples are values of types that pgx sends as text where it has nothing better, as they print themselves.
var fieldSamples = map[reflect.Type]any{
	reflect.TypeFor[time.Time]():          sampleTime,
	reflect.TypeFor[time.Duration]():      time.Second,
	reflect.TypeFor[netip.Addr]():         netip.MustParseAddr("10.0.0.1"),
	reflect.TypeFor[netip.Prefix]():       netip.MustParsePrefix("10.0.0.0/8"),
	reflect.TypeFor[pgtype.UUID]():        pgtype.UUID{Bytes: [16]byte{1}, Valid: true},
	reflect.TypeFor[pgtype.Date]():        pgtype.Date{Time: sampleTime, Valid: true},
	reflect.TypeFor[pgtype.Timestamp]():   pgtype.Timestamp{Time: sampleTime, Valid: true},
	reflect.TypeFor[pgtype.Timestamptz](): pgtype.Timestamptz{Time: sampleTime, Valid: true},
	reflect.TypeFor[pgtype.Interval]():    pgtype.Interval{Microseconds: 1, Valid: true},
}

// refusesSample reports whether a value of a type is sent as a text that is none of the SQL type.
func (t Types) refusesSample(oid uint32, typ reflect.Type) bool {
	sample, ok := fieldSamples[typ]
	known, found := t.Known.TypeForOID(oid)
	if !ok || !found {
		return false
	}
	if _, err := t.Known.Encode(oid, t.Known.FormatCodeForOID(oid), sample, nil); err == nil {
		return false
	}
	encoded, err := t.Known.Encode(oid, pgtype.TextFormatCode, sample, nil)
	if err != nil {
		return false
	}
	if _, isArray := known.Codec.(*pgtype.ArrayCodec); isArray {
		return len(encoded) > 0 && encoded[0] != '{' && encoded[0] != '['
	}
	switch oid {
	case pgtype.BoolOID, pgtype.Int2OID, pgtype.Int4OID, pgtype.Int8OID, pgtype.Float4OID, pgtype.Float8OID, pgtype.NumericOID, pgtype.UUIDOID, pgtype.IntervalOID:
		_, err = known.Codec.DecodeValue(t.Known, oid, pgtype.TextFormatCode, encoded)
		return err != nil
	}
	return false // of others the server reads more forms than pgx does
}
