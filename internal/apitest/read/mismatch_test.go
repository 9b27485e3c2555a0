package read_test

import (
	"database/sql"
	"encoding/json"
	"fmt"
	"math"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgtype"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgcmd/pgcmd"
)

type value[T any] struct{ V T }

// refusedEverywhere reads the SQL some times in every way, and wants the same error of all.
func refusedEverywhere[T any](t *testing.T, s *server, sql, sqlType, goType string, advice ...string) {
	t.Helper()
	for range 5 { // pgx looks for a type in random order
		for way, got := range read[value[T]](t, s, sql) {
			if !assert.Error(t, got.err, "%s: %s into %s", way, sql, goType) {
				continue
			}
			e := failure(t, got.err)
			assert.Equal(t, pgcmd.CodeInternal, e.Code, "%s: %v", way, e)
			assert.Equal(t, "v", e.Column, "%s: %v", way, e)
			for _, part := range append(advice, `column "v" (`+sqlType+`)`, "V ("+goType+")") {
				assert.Contains(t, e.Message, part, way)
			}
		}
	}
}

func TestAColumnThatDoesNotFitIsRefusedWhateverTheRowsHold(t *testing.T) {
	t.Parallel()
	s := serverWith(t, `create type pair as (a date, b int)`)
	for _, text := range []string{"null", "'2024-01-01'"} {
		refusedEverywhere[string](t, s, "select "+text+"::date as v", "date", "string", "cast the column to text in the SQL")
		refusedEverywhere[*string](t, s, "select "+text+"::date as v", "date", "*string", "cast the column to text in the SQL")
		refusedEverywhere[int](t, s, "select "+text+"::date as v", "date", "int", "make it time.Time")
		refusedEverywhere[*bool](t, s, "select "+text+"::timestamptz as v", "timestamptz", "*bool", "make it time.Time")
	}
	refusedEverywhere[[]int](t, s, "select null::text[] as v", "text[]", "[]int", "make it []string")
	refusedEverywhere[float64](t, s, "select null::point as v", "point", "float64", "make it pgtype.Point")
	refusedEverywhere[*int](t, s, "select null as v", "text", "*int", "make it string")
	refusedEverywhere[struct{ A, B int }](t, s, "select null::pair as v", fmt.Sprint("type ", oidOf(t, s, "pair")), "struct { A int; B int }")
}

// pgx multiplies the months of an interval with an overflow, and converts a float as Go does.
func TestAValueOutOfRangeIsNeverReadAsAnotherOne(t *testing.T) {
	t.Parallel()
	s := serverWith(t)
	for _, text := range []string{"300 years", "-300 years", "178000000 years", "106752 days"} {
		refusedEverywhere[time.Duration](t, s, "select '"+text+"'::interval as v", "interval", "time.Duration", "has a value that does not fit")
	}
	refusedEverywhere[*time.Duration](t, s, "select '300 years'::interval as v", "interval", "*time.Duration", "has a value that does not fit")
	refusedEverywhere[[]time.Duration](t, s, "select '{1 day,300 years}'::interval[] as v", "interval[]", "[]time.Duration", "has a value that does not fit")
	refusedEverywhere[float32](t, s, "select 1e300::float8 as v", "float8", "float32", "has a value that does not fit")
	refusedEverywhere[float32](t, s, "select 1e-300::float8 as v", "float8", "float32", "has a value that does not fit")
	refusedEverywhere[float32](t, s, "select 1e100::numeric as v", "numeric", "float32", "has a value that does not fit")
	refusedEverywhere[[]float32](t, s, "select '{0,1e300}'::float8[] as v", "float8[]", "[]float32", "has a value that does not fit")

	refusedEverywhere[[][]float32](t, s, "select '{{0,1e300}}'::float8[] as v", "float8[]", "[][]float32", "has a value that does not fit")

	assert.Equal(t, clamped(math.MaxFloat32), reads[clamped](t, s, "select 1e300::float8 as v"))
	assert.Equal(t, 106751*24*time.Hour, reads[time.Duration](t, s, "select '106751 days'::interval as v"))
	assert.Equal(t, []time.Duration{-time.Second, 0}, reads[[]time.Duration](t, s, "select '{-1 s,0}'::interval[] as v"))
	assert.Nil(t, reads[*time.Duration](t, s, "select null::interval as v"))
	assert.Equal(t, []float32{0, 1.5, float32(math.Inf(1))}, reads[[]float32](t, s, "select '{0,1.5,Infinity}'::float8[] as v"))
}

// A clamped is a float32 with a Scan method that takes every float8.
type clamped float32

func (c *clamped) Scan(src any) error {
	*c = clamped(min(src.(float64), math.MaxFloat32))
	return nil
}

func oidOf(t *testing.T, s *server, typ string) (oid uint32) {
	t.Helper()
	require.NoError(t, s.pool.QueryRow(t.Context(), "select $1::text::regtype::oid", typ).Scan(&oid))
	return oid
}

func TestARowIsRefusedThoughThereIsNone(t *testing.T) {
	t.Parallel()
	s := serverWith(t)
	_, err := pgcmd.Query[none, value[string]]("none", `select now() as v where false`).Run(t.Context(), s.pool, none{})
	assert.Contains(t, failure(t, err).Message, `column "v" (timestamptz) does not fit value[string].V (string)`)
}

func TestWhatABatchCannotReadIsRefusedBeforeItIsSent(t *testing.T) {
	t.Parallel()
	s := serverWith(t, `create table t (v date)`)
	insert := pgcmd.QueryOne[none, value[string]]("t.add", `insert into t values ('2024-01-01') returning v`)
	for _, mode := range []pgcmd.BatchMode{pgcmd.Atomic, pgcmd.Isolated, pgcmd.Independent} {
		result, _ := pgcmd.Batch(insert, mode).Run(t.Context(), s.pool, []none{{}, {}})
		e := failure(t, result.Outcomes[0].Err)
		assert.Equal(t, pgcmd.NotApplied, e.Effect)
		assert.Contains(t, e.Message, `column "v" (date) does not fit`)
	}
	_, err := insert.With(pgcmd.Options{InTx: true}).Run(t.Context(), s.pool, none{})
	assert.Equal(t, pgcmd.NotApplied, failure(t, err).Effect)
	var n int
	require.NoError(t, s.pool.QueryRow(t.Context(), "select count(*) from t").Scan(&n))
	assert.Zero(t, n)
}

// A composite is read into a struct field by field, and each of them must fit.
func TestAFieldOfACompositeThatDoesNotFitIsRefused(t *testing.T) {
	t.Parallel()
	s := serverWith(t, `create type pair as (a date, b int)`)
	conn, err := s.pool.Acquire(t.Context())
	require.NoError(t, err)
	defer conn.Release()
	pair, err := conn.Conn().LoadType(t.Context(), "pair")
	require.NoError(t, err)
	conn.Conn().TypeMap().RegisterType(pair)

	type good struct {
		A time.Time
		B int
	}
	type bad struct {
		A string
		B int
	}
	_, err = pgcmd.QueryOne[none, value[good]]("good", `select ('2024-01-01', 1)::pair as v`).Run(t.Context(), conn, none{})
	require.NoError(t, err)
	for range 20 {
		_, err = pgcmd.QueryOne[none, value[bad]]("bad", `select (null, 1)::pair as v`).Run(t.Context(), conn, none{})
		assert.Contains(t, failure(t, err).Message, `column "v" (pair) does not fit`)
	}
	_, err = pgcmd.QueryOne[none, value[sql.NullString]]("bad", `select (null, 1)::pair as v`).Run(t.Context(), conn, none{})
	assert.Contains(t, failure(t, err).Message, `column "v" (pair) does not fit`)
}

// reads wants a statement to be read without an error.
func reads[T any](t *testing.T, s *server, sql string) (v T) {
	t.Helper()
	for way, got := range read[value[T]](t, s, sql) {
		if assert.NoError(t, got.err, "%s: %s into %T", way, sql, got.row.V) {
			v = got.row.V
		}
	}
	return v
}

func TestTheAdviceForNullWorks(t *testing.T) {
	t.Parallel()
	s := serverWith(t)
	for _, sql := range []string{`null::int4`, `null::text`, `null::date`} {
		t.Run(sql, func(t *testing.T) {
			switch sql {
			case `null::int4`:
				refusedEverywhere[int](t, s, "select "+sql+" as v", "int4", "int", "is NULL", "make it *int", "or use coalesce")
				assert.Nil(t, reads[*int](t, s, "select "+sql+" as v"))
				assert.Equal(t, 7, reads[int](t, s, "select coalesce("+sql+", 7) as v"))
			case `null::text`:
				refusedEverywhere[string](t, s, "select "+sql+" as v", "text", "string", "is NULL", "make it *string", "or use coalesce")
				assert.Nil(t, reads[*string](t, s, "select "+sql+" as v"))
				assert.Equal(t, "x", reads[string](t, s, "select coalesce("+sql+", 'x') as v"))
			case `null::date`:
				refusedEverywhere[time.Time](t, s, "select "+sql+" as v", "date", "time.Time", "is NULL", "make it *time.Time", "or use coalesce")
				assert.Nil(t, reads[*time.Time](t, s, "select "+sql+" as v"))
				assert.Equal(t, 2024, reads[time.Time](t, s, "select coalesce("+sql+", '2024-01-01') as v").Year())
			}
		})
	}
}

// typed are the types that a message advises, by the name that it gives them.
var typed = map[string]func(t *testing.T, s *server, sql string){
	"bool": run[bool], "int16": run[int16], "int32": run[int32], "int64": run[int64], "float32": run[float32], "float64": run[float64],
	"pgtype.Numeric": run[pgtype.Numeric], "string": run[string], "[]byte": run[[]byte], "time.Time": run[time.Time],
	"pgtype.Time": run[pgtype.Time], "pgtype.Interval": run[pgtype.Interval], "pgtype.UUID": run[pgtype.UUID],
	"json.RawMessage": run[json.RawMessage], "netip.Prefix": run[netip.Prefix], "net.HardwareAddr": run[net.HardwareAddr],
	"pgtype.Bits": run[pgtype.Bits], "pgtype.Point": run[pgtype.Point], "pgtype.Line": run[pgtype.Line], "pgtype.Lseg": run[pgtype.Lseg],
	"pgtype.Box": run[pgtype.Box], "pgtype.Path": run[pgtype.Path], "pgtype.Polygon": run[pgtype.Polygon], "pgtype.Circle": run[pgtype.Circle],
	"pgtype.TSVector": run[pgtype.TSVector], "uint32": run[uint32], "uint64": run[uint64], "pgtype.TID": run[pgtype.TID],
	"pgtype.Range[int32]": run[pgtype.Range[int32]], "pgtype.Range[time.Time]": run[pgtype.Range[time.Time]],
	"pgtype.Range[pgtype.Numeric]": run[pgtype.Range[pgtype.Numeric]], "pgtype.Multirange[pgtype.Range[int32]]": run[pgtype.Multirange[pgtype.Range[int32]]],
	"[]bool": run[[]bool], "[]string": run[[]string], "[]time.Time": run[[]time.Time], "[]pgtype.Range[int32]": run[[]pgtype.Range[int32]],
}

func run[T any](t *testing.T, s *server, sql string) { reads[T](t, s, sql) }

// unfit fits no column: what is advised for one is read out of the message.
type unfit struct{ _ *int }

func (*unfit) ScanTID(pgtype.TID) error { return nil }

func TestTheAdviceForAnotherTypeWorks(t *testing.T) {
	t.Parallel()
	s := serverWith(t)
	for _, v := range [][2]string{{"bool", "t"}, {"int2", "1"}, {"int4", "1"}, {"int8", "1"}, {"float4", "1"}, {"float8", "1"}, {"numeric", "1.5"},
		{"text", "x"}, {"varchar", "x"}, {"bpchar", "x"}, {`"char"`, "x"}, {"name", "x"}, {"bytea", "x"}, {"date", "2024-01-01"}, {"time", "10:00"},
		{"timestamp", "2024-01-01"}, {"timestamptz", "2024-01-01"}, {"interval", "1 day"}, {"uuid", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"},
		{"inet", "1.2.3.4"}, {"cidr", "1.2.3.0/24"}, {"macaddr", "08:00:2b:01:02:03"}, {"bit", "1"}, {"point", "(1,2)"}, {"line", "{1,2,3}"},
		{"lseg", "((0,0),(1,1))"}, {"box", "((0,0),(1,1))"}, {"path", "((0,0),(1,1))"}, {"polygon", "((0,0),(1,1))"}, {"circle", "<(0,0),1>"},
		{"tsvector", "a"}, {"oid", "1"}, {"xid8", "1"}, {"int4range", "[1,2)"}, {"tstzrange", "[2024-01-01,2024-01-02)"}, {"numrange", "[1,2)"},
		{"int4multirange", "{[1,2)}"}, {"bool[]", "{t}"}, {"text[]", "{a}"}, {"date[]", "{2024-01-01}"}, {"int4range[]", `{"[1,2)"}`}} {
		t.Run(v[0], func(t *testing.T) {
			sql := "select '" + v[1] + "'::" + v[0]
			_, err := pgcmd.QueryOne[none, value[unfit]]("unfit", sql+" as v").Run(t.Context(), s.pool, none{})
			message := failure(t, err).Message
			var advised string
			for name := range typed {
				if strings.HasSuffix(message, "make it "+name) || strings.Contains(message, "make it "+name+",") {
					advised = name
				}
			}
			require.NotEmpty(t, advised, message)
			typed[advised](t, s, sql+" as v")
			if advised != "string" {
				require.Contains(t, message, "cast the column to text in the SQL")
			}
			reads[string](t, s, sql+"::text as v")
		})
	}
}
