package matrix_test

import (
	"database/sql"
	"encoding/json"
	"math/big"
	"net"
	"net/netip"
	"time"

	"github.com/jackc/pgx/v5/pgtype"
)

// A kind is a type of PostgreSQL, a value of it, and the same value in the Go types that a user would choose. The texts
// of the value, and of an array of it, are among them always.
type kind struct {
	typ    string
	text   string // as PostgreSQL prints it
	values []any
	arrays []any // of an array that holds the value twice
}

var (
	day     = time.Date(2024, 2, 29, 0, 0, 0, 0, time.UTC)
	moment  = time.Date(2024, 2, 29, 13, 37, 42, 123456000, time.UTC)
	aUUID   = [16]byte{0xa0, 0xee, 0xbc, 0x99, 0x9c, 0x0b, 0x4e, 0xf8, 0xbb, 0x6d, 0x6b, 0xb9, 0xbd, 0x38, 0x0a, 0x11}
	aMAC    = net.HardwareAddr{8, 0, 0x2b, 1, 2, 3}
	anAddr  = netip.MustParseAddr("1.2.3.4")
	aNet    = netip.MustParsePrefix("10.1.0.0/16")
	clock   = pgtype.Time{Microseconds: (13*3600 + 37*60) * 1e6, Valid: true}
	span    = pgtype.Interval{Microseconds: 90 * 60 * 1e6, Valid: true}
	numeric = pgtype.Numeric{Int: big.NewInt(1250), Exp: -2, Valid: true}
	aDoc    = doc{A: 1, B: []string{"x", "y"}}
	aRaw    = json.RawMessage(`{"a": 1, "b": ["x", "y"]}`)
	aPoint  = pgtype.Point{P: pgtype.Vec2{X: 1, Y: 2}, Valid: true}
	aBox    = pgtype.Box{P: [2]pgtype.Vec2{{X: 3, Y: 4}, {X: 1, Y: 2}}, Valid: true}
	aBits   = pgtype.Bits{Bytes: []byte{0xa0}, Len: 3, Valid: true}
	aRange  = between(pgtype.Int4{Int32: 1, Valid: true}, pgtype.Int4{Int32: 5, Valid: true})
)

func of[T any](v T) *T { return &v }

func two[T any](v T) []T { return []T{v, v} }

func between[T any](lower, upper T) pgtype.Range[T] {
	return pgtype.Range[T]{Lower: lower, Upper: upper, LowerType: pgtype.Inclusive, UpperType: pgtype.Exclusive, Valid: true}
}

func ids() (all []any) {
	return []any{aUUID, pgtype.UUID{Bytes: aUUID, Valid: true}, &pgtype.UUID{Bytes: aUUID, Valid: true}, id(aUUID), of(id(aUUID)), (*id)(nil), pgtype.UUID{}}
}

// times are the Go types for a date or a timestamp.
func times(t time.Time, own any) []any {
	return []any{t, &t, sql.NullTime{Time: t, Valid: true}, own, (*time.Time)(nil), sql.NullTime{}}
}

func integers(n int64) []any {
	return []any{int16(n), of(int16(n)), pgtype.Int2{Int16: int16(n), Valid: true},
		int32(n), of(int32(n)), sql.NullInt32{Int32: int32(n), Valid: true}, pgtype.Int4{Int32: int32(n), Valid: true},
		n, &n, sql.NullInt64{Int64: n, Valid: true}, pgtype.Int8{Int64: n, Valid: true}, int(n), of(int(n)), uint32(n), uint64(n),
		(*int16)(nil), (*int32)(nil), (*int64)(nil), sql.NullInt64{}, pgtype.Int4{}, (*int)(nil)}
}

func floats(f float64) []any {
	return []any{float32(f), of(float32(f)), pgtype.Float4{Float32: float32(f), Valid: true},
		f, &f, sql.NullFloat64{Float64: f, Valid: true}, pgtype.Float8{Float64: f, Valid: true}, (*float64)(nil), sql.NullFloat64{}}
}

func netips(prefix netip.Prefix) []any {
	return []any{prefix, &prefix, (*netip.Prefix)(nil)}
}

// kinds holds every scalar type that PostgreSQL has of its own and that takes a value.
var kinds = []kind{
	{"bool", "true", []any{true, of(true), sql.NullBool{Bool: true, Valid: true}, pgtype.Bool{Bool: true, Valid: true}, (*bool)(nil), sql.NullBool{}},
		[]any{two(true), two(of(true)), pgtype.FlatArray[bool](two(true))}},
	{`"char"`, "q", []any{byte('q')}, nil},
	{"name", "ada", nil, nil},
	{"int2", "42", integers(42), []any{two(int16(42)), two(int32(42)), two(int64(42))}},
	{"int4", "42", integers(42), []any{two(int32(42)), two(of(int32(42))), two(int64(42)), two(42), pgtype.FlatArray[int32](two(int32(42))),
		pgtype.Array[int32]{Elements: two(int32(42)), Dims: []pgtype.ArrayDimension{{Length: 2, LowerBound: 1}}, Valid: true}}},
	{"int8", "9007199254740993", []any{int64(9007199254740993), of(int64(9007199254740993)), sql.NullInt64{Int64: 9007199254740993, Valid: true},
		pgtype.Int8{Int64: 9007199254740993, Valid: true}, 9007199254740993, uint64(9007199254740993), of(uint64(9007199254740993))},
		[]any{two(int64(9007199254740993)), two(9007199254740993), pgtype.FlatArray[int64](two(int64(9007199254740993)))}},
	{"float4", "1.5", floats(1.5), []any{two(float32(1.5)), two(1.5)}},
	{"float8", "1.5", floats(1.5), []any{two(1.5), two(float32(1.5)), pgtype.FlatArray[float64](two(1.5))}},
	{"numeric", "12.50", []any{numeric, decimal{"12.50"}, of(decimal{"12.50"}), (*decimal)(nil), pgtype.Numeric{}},
		[]any{two(numeric), two(decimal{"12.50"})}},
	{"money", "$12,345.67", []any{decimal{"$12,345.67"}}, []any{two(decimal{"$12,345.67"})}},
	{"text", "größer", []any{[]byte("größer"), blob("größer"), decimal{"größer"}, of(decimal{"größer"})}, []any{two(decimal{"größer"})}},
	{"varchar(20)", "größer", []any{[]byte("größer")}, nil},
	{"char(6)", "größer", []any{[]byte("größer")}, nil},
	{"bytea", `\xdeadbeef`, []any{[]byte("\xde\xad\xbe\xef"), of([]byte("\xde\xad\xbe\xef")), blob("\xde\xad\xbe\xef"), []byte(nil)},
		[]any{two([]byte("\xde\xad\xbe\xef")), two(blob("\xde\xad\xbe\xef"))}},
	{"date", "2024-02-29", times(day, pgtype.Date{Time: day, Valid: true}), []any{two(day), two(&day), two(pgtype.Date{Time: day, Valid: true})}},
	{"date", "infinity", []any{pgtype.Date{InfinityModifier: pgtype.Infinity, Valid: true}}, nil},
	{"time", "13:37:00", []any{clock}, []any{two(clock)}},
	{"timetz", "13:37:00+02", []any{decimal{"13:37:00+02"}}, nil},
	{"timestamp", "2024-02-29 13:37:42.123456", times(moment, pgtype.Timestamp{Time: moment, Valid: true}),
		[]any{two(moment), two(&moment), pgtype.FlatArray[time.Time](two(moment))}},
	{"timestamptz", "2024-02-29 13:37:42.123456+00", times(moment, pgtype.Timestamptz{Time: moment, Valid: true}),
		[]any{two(moment), two(&moment), pgtype.FlatArray[time.Time](two(moment))}},
	{"timestamptz", "infinity", []any{pgtype.Timestamptz{InfinityModifier: pgtype.Infinity, Valid: true}}, nil},
	{"interval", "01:30:00", []any{span, 90 * time.Minute, of(90 * time.Minute), (*time.Duration)(nil)}, []any{two(span), two(90 * time.Minute)}},
	{"interval", "1 mon 2 days 01:30:00", []any{pgtype.Interval{Months: 1, Days: 2, Microseconds: span.Microseconds, Valid: true}}, nil},
	{"uuid", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", ids(), []any{two(pgtype.UUID{Bytes: aUUID, Valid: true}), two(id(aUUID)),
		pgtype.FlatArray[pgtype.UUID](two(pgtype.UUID{Bytes: aUUID, Valid: true}))}},
	{"json", `{"a":1,"b":["x","y"]}`, []any{json.RawMessage(`{"a":1,"b":["x","y"]}`), aDoc, &aDoc, []byte(`{"a":1,"b":["x","y"]}`), (*doc)(nil)},
		[]any{two(json.RawMessage(`{"a":1,"b":["x","y"]}`)), two(aDoc)}},
	{"jsonb", `{"a": 1, "b": ["x", "y"]}`, []any{aRaw, aDoc, &aDoc, []byte(`{"a": 1, "b": ["x", "y"]}`), (*doc)(nil)}, []any{two(aRaw), two(aDoc)}},
	{"jsonpath", `$."a"`, nil, nil},
	{"xml", `<a>1</a>`, []any{[]byte("<a>1</a>")}, nil},
	{"inet", "1.2.3.4", []any{anAddr, &anAddr, netip.PrefixFrom(anAddr, 32), (*netip.Addr)(nil)}, []any{two(anAddr)}},
	{"inet", "10.1.0.0/16", netips(aNet), []any{two(aNet)}},
	{"cidr", "10.1.0.0/16", netips(aNet), []any{two(aNet)}},
	{"macaddr", "08:00:2b:01:02:03", []any{aMAC}, []any{two(aMAC)}},
	{"macaddr8", "08:00:2b:ff:fe:01:02:03", []any{net.HardwareAddr{8, 0, 0x2b, 0xff, 0xfe, 1, 2, 3}}, nil},
	{"bit(3)", "101", []any{aBits}, []any{two(aBits)}},
	{"varbit", "101", []any{aBits}, []any{two(aBits)}},
	{"oid", "42", []any{uint32(42), of(uint32(42)), pgtype.Uint32{Uint32: 42, Valid: true}}, []any{two(uint32(42))}},
	{"xid", "42", []any{uint32(42), pgtype.Uint32{Uint32: 42, Valid: true}}, nil},
	{"cid", "42", []any{uint32(42), pgtype.Uint32{Uint32: 42, Valid: true}}, nil},
	{"xid8", "42", []any{uint64(42), pgtype.Uint64{Uint64: 42, Valid: true}}, nil},
	{"tid", "(1,2)", []any{pgtype.TID{BlockNumber: 1, OffsetNumber: 2, Valid: true}}, nil},
	{"pg_lsn", "1/234567", []any{decimal{"1/234567"}}, nil},
	{"pg_snapshot", "10:20:10,14", nil, nil},
	{"txid_snapshot", "10:20:10,14", nil, nil},
	{"regclass", "pg_class", []any{decimal{"pg_class"}}, nil},
	{"regtype", "bigint", []any{decimal{"bigint"}}, nil},
	{"regproc", "pg_sleep", nil, nil},
	{"regprocedure", "pg_sleep(double precision)", nil, nil},
	{"regoper", "||/", nil, nil},
	{"regoperator", "+(integer,integer)", nil, nil},
	{"regnamespace", "pg_catalog", nil, nil},
	{"regconfig", "english", nil, nil},
	{"regdictionary", "simple", nil, nil},
	{"regcollation", `"C"`, nil, nil},
	{"regrole", "pg_monitor", nil, nil},
	{"refcursor", "cursor 1", nil, nil},
	{"aclitem", "=r/pg_monitor", nil, nil},
	{"tsvector", "'a':1 'b':2", []any{pgtype.TSVector{Lexemes: []pgtype.TSVectorLexeme{
		{Word: "a", Positions: []pgtype.TSVectorPosition{{Position: 1, Weight: pgtype.TSVectorWeightD}}},
		{Word: "b", Positions: []pgtype.TSVectorPosition{{Position: 2, Weight: pgtype.TSVectorWeightD}}}}, Valid: true}}, nil},
	{"tsquery", "'a' & 'b'", nil, nil},
	{"point", "(1,2)", []any{aPoint, pgtype.Point{}}, []any{two(aPoint)}},
	{"line", "{1,2,3}", []any{pgtype.Line{A: 1, B: 2, C: 3, Valid: true}}, nil},
	{"lseg", "[(1,2),(3,4)]", []any{pgtype.Lseg{P: [2]pgtype.Vec2{{X: 1, Y: 2}, {X: 3, Y: 4}}, Valid: true}}, nil},
	{"box", "(3,4),(1,2)", []any{aBox}, []any{two(aBox)}},
	{"path", "((1,2),(3,4))", []any{pgtype.Path{P: []pgtype.Vec2{{X: 1, Y: 2}, {X: 3, Y: 4}}, Closed: true, Valid: true}}, nil},
	{"polygon", "((1,2),(3,4),(5,6))", []any{pgtype.Polygon{P: []pgtype.Vec2{{X: 1, Y: 2}, {X: 3, Y: 4}, {X: 5, Y: 6}}, Valid: true}}, nil},
	{"circle", "<(1,2),3>", []any{pgtype.Circle{P: pgtype.Vec2{X: 1, Y: 2}, R: 3, Valid: true}}, nil},
	{"int4range", "[1,5)", []any{aRange, pgtype.Range[pgtype.Int4]{}}, []any{two(aRange)}},
	{"int8range", "[1,5)", []any{between[int64](1, 5)}, nil},
	{"numrange", "[12.50,12.50]", []any{pgtype.Range[pgtype.Numeric]{Lower: numeric, Upper: numeric, LowerType: pgtype.Inclusive, UpperType: pgtype.Inclusive, Valid: true}}, nil},
	{"daterange", "[2024-02-29,2024-03-01)", []any{between(pgtype.Date{Time: day, Valid: true}, pgtype.Date{Time: day.AddDate(0, 0, 1), Valid: true})}, nil},
	{"tsrange", `["2024-02-29 00:00:00","2024-03-01 00:00:00")`, []any{between(day, day.AddDate(0, 0, 1))}, nil},
	{"tstzrange", `["2024-02-29 00:00:00+00","2024-03-01 00:00:00+00")`, []any{between(day, day.AddDate(0, 0, 1))}, nil},
	{"int4multirange", "{[1,5)}", []any{pgtype.Multirange[pgtype.Range[pgtype.Int4]]{aRange}}, nil},
	{"int8multirange", "{[1,5)}", []any{pgtype.Multirange[pgtype.Range[int64]]{between[int64](1, 5)}}, nil},
	{"nummultirange", "{[12.50,12.50]}", []any{pgtype.Multirange[pgtype.Range[pgtype.Numeric]]{
		{Lower: numeric, Upper: numeric, LowerType: pgtype.Inclusive, UpperType: pgtype.Inclusive, Valid: true}}}, nil},
	{"datemultirange", "{[2024-02-29,2024-03-01)}", []any{pgtype.Multirange[pgtype.Range[pgtype.Date]]{
		between(pgtype.Date{Time: day, Valid: true}, pgtype.Date{Time: day.AddDate(0, 0, 1), Valid: true})}}, nil},
	{"tsmultirange", `{["2024-02-29 00:00:00","2024-03-01 00:00:00")}`, []any{pgtype.Multirange[pgtype.Range[time.Time]]{between(day, day.AddDate(0, 0, 1))}}, nil},
	{"tstzmultirange", `{["2024-02-29 00:00:00+00","2024-03-01 00:00:00+00")}`, []any{pgtype.Multirange[pgtype.Range[time.Time]]{between(day, day.AddDate(0, 0, 1))}}, nil},
}

// without are the types of PostgreSQL that no value can be sent as, or that only its own catalogs use.
var without = map[string]string{
	"gtsvector":             "has no input",
	"int2vector":            "of PostgreSQL's catalogs",
	"oidvector":             "of PostgreSQL's catalogs",
	"pg_node_tree":          "has no input",
	"pg_ndistinct":          "has no input",
	"pg_dependencies":       "has no input",
	"pg_mcv_list":           "has no input",
	"pg_brin_bloom_summary": "has no input", "pg_brin_minmax_multi_summary": "has no input",
}

// texts are a text in the Go types for one.
func texts(s string) []any {
	return []any{s, &s, sql.NullString{String: s, Valid: true}, pgtype.Text{String: s, Valid: true}, named(s), (*string)(nil), sql.NullString{}}
}

func textArrays(s string) []any {
	return []any{two(s), two(&s), pgtype.FlatArray[string](two(s)), two(sql.NullString{String: s, Valid: true}), two(pgtype.Text{String: s, Valid: true}),
		[]string(nil), []string{}, []*string{&s, nil}}
}
