package matrix_test

import (
	"database/sql"
	"database/sql/driver"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"reflect"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgtype"
)

// A row has a field for every Go type of the matrix. One command on it can send and read any of them, by the SQL that
// it is defined with: so that a few pairs of types are compiled, and not one for every cell.
type row struct {
	Bool        bool
	BoolPtr     *bool
	NullBool    sql.NullBool
	PgBool      pgtype.Bool
	Int16       int16
	Int16Ptr    *int16
	PgInt2      pgtype.Int2
	Int32       int32
	Int32Ptr    *int32
	NullInt32   sql.NullInt32
	PgInt4      pgtype.Int4
	Int64       int64
	Int64Ptr    *int64
	NullInt64   sql.NullInt64
	PgInt8      pgtype.Int8
	Int         int
	IntPtr      *int
	Uint32      uint32
	Uint32Ptr   *uint32
	PgUint32    pgtype.Uint32
	Uint64      uint64
	Uint64Ptr   *uint64
	PgUint64    pgtype.Uint64
	Float32     float32
	Float32Ptr  *float32
	PgFloat4    pgtype.Float4
	Float64     float64
	Float64Ptr  *float64
	NullFloat64 sql.NullFloat64
	PgFloat8    pgtype.Float8
	String      string
	StringPtr   *string
	NullString  sql.NullString
	PgText      pgtype.Text
	Named       named
	Byte        byte
	Bytes       []byte
	BytesPtr    *[]byte
	Blob        blob
	Time        time.Time
	TimePtr     *time.Time
	NullTime    sql.NullTime
	PgDate      pgtype.Date
	PgTimestamp pgtype.Timestamp
	PgTstz      pgtype.Timestamptz
	PgTime      pgtype.Time
	Duration    time.Duration
	DurationPtr *time.Duration
	PgInterval  pgtype.Interval
	Array16     [16]byte
	PgUUID      pgtype.UUID
	PgUUIDPtr   *pgtype.UUID
	ID          id
	IDPtr       *id
	PgNumeric   pgtype.Numeric
	Decimal     decimal
	DecimalPtr  *decimal
	Addr        netip.Addr
	AddrPtr     *netip.Addr
	Prefix      netip.Prefix
	PrefixPtr   *netip.Prefix
	MAC         net.HardwareAddr
	Raw         json.RawMessage
	Doc         doc
	DocPtr      *doc
	Strings     []string
	StringPtrs  []*string
	FlatText    pgtype.FlatArray[string]
	Bools       []bool
	BoolPtrs    []*bool
	FlatBool    pgtype.FlatArray[bool]
	Int16s      []int16
	Int32s      []int32
	Int32Ptrs   []*int32
	FlatInt4    pgtype.FlatArray[int32]
	ArrayInt4   pgtype.Array[int32]
	Grid        [][]int32
	Int64s      []int64
	Ints        []int
	FlatInt8    pgtype.FlatArray[int64]
	Uint32s     []uint32
	Float32s    []float32
	Float64s    []float64
	FlatFloat8  pgtype.FlatArray[float64]
	ByteSlices  [][]byte
	Blobs       []blob
	Times       []time.Time
	TimePtrs    []*time.Time
	FlatTime    pgtype.FlatArray[time.Time]
	PgDates     []pgtype.Date
	PgTimes     []pgtype.Time
	Durations   []time.Duration
	PgIntervals []pgtype.Interval
	PgUUIDs     []pgtype.UUID
	IDs         []id
	FlatUUID    pgtype.FlatArray[pgtype.UUID]
	PgNumerics  []pgtype.Numeric
	Decimals    []decimal
	Addrs       []netip.Addr
	Prefixes    []netip.Prefix
	MACs        []net.HardwareAddr
	Raws        []json.RawMessage
	Docs        []doc
	NullStrings []sql.NullString
	PgTexts     []pgtype.Text
	PgPoint     pgtype.Point
	PgLine      pgtype.Line
	PgLseg      pgtype.Lseg
	PgBox       pgtype.Box
	PgPath      pgtype.Path
	PgPolygon   pgtype.Polygon
	PgCircle    pgtype.Circle
	PgBits      pgtype.Bits
	PgTID       pgtype.TID
	PgTSVector  pgtype.TSVector
	Int4Range   pgtype.Range[pgtype.Int4]
	Int8Range   pgtype.Range[int64]
	NumRange    pgtype.Range[pgtype.Numeric]
	DateRange   pgtype.Range[pgtype.Date]
	TimeRange   pgtype.Range[time.Time]
	Int4Multi   pgtype.Multirange[pgtype.Range[pgtype.Int4]]
	Int8Multi   pgtype.Multirange[pgtype.Range[int64]]
	NumMulti    pgtype.Multirange[pgtype.Range[pgtype.Numeric]]
	DateMulti   pgtype.Multirange[pgtype.Range[pgtype.Date]]
	TimeMulti   pgtype.Multirange[pgtype.Range[time.Time]]
	PgPoints    []pgtype.Point
	PgBoxes     []pgtype.Box
	PgBitses    []pgtype.Bits
	Int4Ranges  []pgtype.Range[pgtype.Int4]
}

// The types that a user defines.
type (
	named string
	blob  []byte
	doc   struct {
		A int      `json:"a"`
		B []string `json:"b"`
	}
)

// An id is what the UUID types of the ecosystem are: an array that has all the interfaces.
type id [16]byte

func (u id) String() string {
	h := hex.EncodeToString(u[:])
	return strings.Join([]string{h[:8], h[8:12], h[12:16], h[16:20], h[20:]}, "-")
}
func (u id) Value() (driver.Value, error) { return u.String(), nil }
func (u id) MarshalText() ([]byte, error) { return []byte(u.String()), nil }
func (u *id) UnmarshalText(text []byte) error {
	_, err := hex.Decode(u[:], []byte(strings.ReplaceAll(string(text), "-", "")))
	return err
}

func (u *id) Scan(src any) error {
	switch src := src.(type) {
	case string:
		return u.UnmarshalText([]byte(src))
	case []byte:
		if len(src) == 16 {
			copy(u[:], src)
			return nil
		}
		return u.UnmarshalText(src)
	}
	return fmt.Errorf("an id cannot be read from a %T", src)
}

// A decimal is what the decimal types of the ecosystem are: a text by all interfaces.
type decimal struct{ text string }

func (d decimal) Value() (driver.Value, error) { return d.text, nil }
func (d decimal) MarshalText() ([]byte, error) { return []byte(d.text), nil }
func (d *decimal) UnmarshalText(text []byte) error {
	d.text = string(text)
	return nil
}

func (d *decimal) Scan(src any) error {
	switch src := src.(type) {
	case string:
		d.text = src
	case []byte:
		d.text = string(src)
	case float64, int64:
		d.text = fmt.Sprint(src)
	default:
		return errors.New("a decimal cannot be read from this")
	}
	return nil
}

// fieldOf finds the field for a Go type.
func fieldOf(t reflect.Type) (reflect.StructField, bool) {
	for _, f := range reflect.VisibleFields(reflect.TypeFor[row]()) {
		if f.Type == t {
			return f, true
		}
	}
	return reflect.StructField{}, false
}

// with returns a row whose field of value's type is value.
func with(value any) (r row) {
	v := reflect.ValueOf(value)
	f, _ := fieldOf(v.Type())
	reflect.ValueOf(&r).Elem().FieldByIndex(f.Index).Set(v)
	return r
}

// value returns the field of r.
func value(r row, f reflect.StructField) any {
	return reflect.ValueOf(r).FieldByIndex(f.Index).Interface()
}

// homes are SQL expressions of a type that a field reads in any case, for the columns of a row that a cell is not about.
var homes = map[string]string{
	"Bool": "false::bool", "Int16": "0::int2", "Int32": "0::int4", "Int64": "0::int8", "Int": "0::int8", "Uint32": "0::oid", "Uint64": "0::int8",
	"Float32": "0::float4", "Float64": "0::float8", "String": "''::text", "Named": "''::text", "Byte": "0::int2", "Time": "now()::timestamptz",
	"Duration": "'0'::interval", "Array16": "'00000000-0000-0000-0000-000000000000'::uuid", "ID": "'00000000-0000-0000-0000-000000000000'::uuid",
	"Decimal": "'0'::text", "Addr": "'0.0.0.0'::inet", "Prefix": "'0.0.0.0/0'::cidr", "Doc": "'{}'::jsonb",
	"BoolPtr": "null::bool", "NullBool": "null::bool", "PgBool": "null::bool",
	"Int16Ptr": "null::int2", "PgInt2": "null::int2", "Int32Ptr": "null::int4", "NullInt32": "null::int4", "PgInt4": "null::int4",
	"Int64Ptr": "null::int8", "NullInt64": "null::int8", "PgInt8": "null::int8", "IntPtr": "null::int8",
	"Uint32Ptr": "null::oid", "PgUint32": "null::oid", "Uint64Ptr": "null::int8", "PgUint64": "null::xid8",
	"Float32Ptr": "null::float4", "PgFloat4": "null::float4", "Float64Ptr": "null::float8", "NullFloat64": "null::float8", "PgFloat8": "null::float8",
	"Bytes": "null::bytea", "BytesPtr": "null::bytea", "Blob": "null::bytea",
	"TimePtr": "null::timestamptz", "NullTime": "null::timestamptz", "PgDate": "null::date", "PgTimestamp": "null::timestamp",
	"PgTstz": "null::timestamptz", "PgTime": "null::time", "DurationPtr": "null::interval", "PgInterval": "null::interval",
	"PgUUID": "null::uuid", "PgUUIDPtr": "null::uuid", "IDPtr": "null::uuid", "PgNumeric": "null::numeric",
	"AddrPtr": "null::inet", "PrefixPtr": "null::cidr", "MAC": "null::macaddr", "Raw": "null::jsonb", "DocPtr": "null::jsonb",
	"Bools": "null::bool[]", "BoolPtrs": "null::bool[]", "FlatBool": "null::bool[]", "Int16s": "null::int2[]",
	"Int32s": "null::int4[]", "Int32Ptrs": "null::int4[]", "FlatInt4": "null::int4[]", "ArrayInt4": "null::int4[]", "Grid": "null::int4[]",
	"Int64s": "null::int8[]", "Ints": "null::int8[]", "FlatInt8": "null::int8[]", "Uint32s": "null::oid[]",
	"Float32s": "null::float4[]", "Float64s": "null::float8[]", "FlatFloat8": "null::float8[]", "ByteSlices": "null::bytea[]", "Blobs": "null::bytea[]",
	"Times": "null::timestamptz[]", "TimePtrs": "null::timestamptz[]", "FlatTime": "null::timestamptz[]", "PgDates": "null::date[]", "PgTimes": "null::time[]",
	"Durations": "null::interval[]", "PgIntervals": "null::interval[]", "PgUUIDs": "null::uuid[]", "IDs": "null::uuid[]", "FlatUUID": "null::uuid[]",
	"PgNumerics": "null::numeric[]", "Decimals": "null::text[]", "Addrs": "null::inet[]", "Prefixes": "null::cidr[]", "MACs": "null::macaddr[]",
	"Raws": "null::jsonb[]", "Docs": "null::jsonb[]", "Strings": "null::text[]", "StringPtrs": "null::text[]", "FlatText": "null::text[]",
	"NullStrings": "null::text[]", "PgTexts": "null::text[]",
	"PgPoint": "null::point", "PgLine": "null::line", "PgLseg": "null::lseg", "PgBox": "null::box", "PgPath": "null::path", "PgPolygon": "null::polygon",
	"PgCircle": "null::circle", "PgBits": "null::varbit", "PgTID": "null::tid", "PgTSVector": "null::tsvector",
	"Int4Range": "null::int4range", "Int8Range": "null::int8range", "NumRange": "null::numrange", "DateRange": "null::daterange", "TimeRange": "null::tstzrange",
	"Int4Multi": "null::int4multirange", "Int8Multi": "null::int8multirange", "NumMulti": "null::nummultirange", "DateMulti": "null::datemultirange",
	"TimeMulti": "null::tstzmultirange",
	"PgPoints":  "null::point[]", "PgBoxes": "null::box[]", "PgBitses": "null::varbit[]", "Int4Ranges": "null::int4range[]",
	"StringPtr": "null::text", "NullString": "null::text", "PgText": "null::text", "DecimalPtr": "null::text",
}

// columns are the columns of a select into a row, in which the field is read from the column v, of the table aliased c.
func columns(field string) string {
	var list []string
	for _, f := range reflect.VisibleFields(reflect.TypeFor[row]()) {
		expression := homes[f.Name]
		if f.Name == field {
			expression = "c.v"
		}
		list = append(list, expression+" as "+f.Name)
	}
	return strings.Join(list, ", ")
}
