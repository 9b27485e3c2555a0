package sent_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"math"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgcmd/pgcmd"
)

type (
	Status  string
	Celsius struct{ Degrees int64 }
)

func (c Celsius) Value() (driver.Value, error) { return c.Degrees, nil }

type point struct{ X, Y int }

// A type that no value of can be sent is the program's error, and not the caller's.
func TestATypeThatCannotBeSentIsTheProgramsError(t *testing.T) {
	t.Parallel()
	all := database(t, `create type order_status as enum ('new'); create type pair as (a int, b int)`)
	mismatch(t, all.column(t, "text"), 5, "int", "text", "cast the parameter, as in @v::int8")
	mismatch(t, all.column(t, "text[]"), []int{5}, "[]int", "text[]", "@v::int8[]")
	mismatch(t, all.column(t, "int4"), point{}, "sent_test.point", "int4")
	mismatch(t, all.column(t, "int4[]"), 5, "int", "int4[]")
	mismatch(t, all.column(t, "int4"), []int32{5}, "[]int32", "int4")
	mismatch(t, all.column(t, "timestamptz"), true, "bool", "timestamptz")
	mismatch(t, all.column(t, "text"), Celsius{5}, "sent_test.Celsius, which gives int64,", "text")
	mismatch(t, all.column(t, "uuid"), [8]byte{}, "[8]uint8", "uuid")
	mismatch(t, all.column(t, "pair"), point{}, "sent_test.point", "pair", "add pair to Config.Types")
	s := all.column(t, "order_status[]")
	told, blind := ways[[]Status](s)
	for name, send := range told {
		if name == "AdHoc" {
			refused(t, name, send(t.Context(), []Status{"new"}), pgcmd.CodeInvalid, "[]sent_test.Status", "order_status[]")
			continue
		}
		err := send(t.Context(), []Status{"new"})
		refused(t, name, err, pgcmd.CodeInternal, "V", "[]sent_test.Status", "cannot be sent as order_status[]: add order_status to Config.Types")
	}
	for name, send := range blind {
		refused(t, name, send(t.Context(), []Status{"new"}), pgcmd.CodeInternal, "V", "[]sent_test.Status", "pgx is not told the type")
	}
	assert.Empty(t, s.stored())
	require.NoError(t, s.pool.Ping(t.Context()))
}

func mismatch[T any](t *testing.T, s *server, v T, says ...string) {
	t.Helper()
	told, _ := ways[T](s)
	for name, send := range told {
		code := pgcmd.CodeInternal
		if name == "AdHoc" { // whose values are the caller's, types and all
			code = pgcmd.CodeInvalid
		}
		if name == "Copy" || name == "Copy behind a mode" { // which has no SQL to cast in
			refused(t, name, send(t.Context(), v), code, append(says[:2:2], "V", "cannot be sent as")...)
		} else {
			refused(t, name, send(t.Context(), v), code, append(says, "V", "cannot be sent as")...)
		}
	}
	assert.Empty(t, s.stored())
	for _, d := range []pgcmd.Definition{pgcmd.Exec[holding[T]]("h.exec", `insert into `+s.table+` values (@v)`), pgcmd.Copy[holding[T]]("h.copy", pgx.Identifier{s.table})} {
		if any(v) != any(Celsius{5}) { // whose Value could give anything
			assert.ErrorContains(t, pgcmd.Verify(t.Context(), s.pool, d), "cannot be sent as")
		}
	}
}

func TestAValueOutOfRangeIsTheCallersError(t *testing.T) {
	t.Parallel()
	all := database(t, ``)
	outOfRange(t, all.column(t, "int2"), int64(40000), "40000")
	outOfRange(t, all.column(t, "int4"), uint64(math.MaxUint64), "1844674")
	outOfRange(t, all.column(t, "oid"), int64(-4242), "4242")
	outOfRange(t, all.column(t, "int2[]"), []int{1, 40000}, "40000")
	outOfRange(t, all.column(t, "int4"), pgtype.Numeric{Int: big.NewInt(15), Exp: -1, Valid: true}, "15")
}

// pgx counts the microseconds of a time with an overflow, and converts floats as Go does: the row would hold another
// value. The year 586600 is sent as 2045.
func TestATimeOrAFloatOutOfRangeIsNeverStoredAsAnotherOne(t *testing.T) {
	t.Parallel()
	all := database(t, ``)
	far := time.Date(586_600, 1, 1, 0, 0, 0, 0, time.UTC)
	farther := time.Date(11_761_300, 1, 1, 0, 0, 0, 0, time.UTC)
	outOfRange(t, all.column(t, "timestamptz"), far, "586600")
	outOfRange(t, all.column(t, "timestamptz"), &far, "586600")
	outOfRange(t, all.column(t, "timestamptz"), time.Date(-500_000, 1, 1, 0, 0, 0, 0, time.UTC), "500000")
	outOfRange(t, all.column(t, "timestamptz"), pgtype.Timestamptz{Time: far, Valid: true}, "586600")
	outOfRange(t, all.column(t, "timestamptz"), sql.NullTime{Time: far, Valid: true}, "586600")
	outOfRange(t, all.column(t, "timestamptz[]"), []time.Time{{}, far}, "586600")
	outOfRange(t, all.column(t, "timestamp"), far, "586600")
	outOfRange(t, all.column(t, "date"), farther, "11761300")
	outOfRange(t, all.column(t, "tstzrange"), pgtype.Range[time.Time]{Upper: far, LowerType: pgtype.Unbounded, UpperType: pgtype.Exclusive, Valid: true}, "586600")
	outOfRange(t, all.column(t, "float4"), 1e300, "1e")
	outOfRange(t, all.column(t, "float4[]"), []float64{1, 1e-300}, "1e")
	outOfRange(t, all.column(t, "int8"), math.NaN(), "NaN")
	outOfRange(t, all.column(t, "int8"), float64(1<<63), "922")

	rangeToFar := pgtype.Range[time.Time]{Upper: far, LowerType: pgtype.Unbounded, UpperType: pgtype.Exclusive, Valid: true}
	outOfRange(t, all.column(t, "tstzmultirange"), pgtype.Multirange[pgtype.Range[time.Time]]{rangeToFar}, "586600")
	outOfRange(t, all.column(t, "timestamptz[]"), pgtype.Array[time.Time]{Elements: []time.Time{far}, Dims: []pgtype.ArrayDimension{{Length: 1, LowerBound: 1}}, Valid: true}, "586600")
	outOfRange(t, all.column(t, "timestamptz[]"), []any{far}, "586600")

	stores(t, all.column(t, "int8"), []float64{math.MinInt64}, "-9223372036854775808")
	firstDay := time.Date(-4713, 11, 24, 0, 0, 0, 0, time.FixedZone("east", 14*60*60))
	stores(t, all.column(t, "date"), []time.Time{far, firstDay}, "586600-01-01", "4714-11-24 BC")
	stores(t, all.column(t, "timestamptz"), []pgtype.Timestamptz{{Time: far}}, "NULL")
	stores(t, all.column(t, "int8"), []unsure{unsure(math.NaN())}, "0")
	stores(t, all.column(t, "float8"), []float64{1e300, math.NaN(), math.Inf(1)}, "1e+300", "NaN", "Infinity")
	stores(t, all.column(t, "float4"), []float64{1.5, math.NaN(), math.Inf(-1), 0}, "1.5", "NaN", "-Infinity", "0")
	stores(t, all.column(t, "timestamptz"), []pgtype.Timestamptz{{InfinityModifier: pgtype.Infinity, Valid: true}, {}}, "infinity", "NULL")
}

func TestAnAttributeOutOfRangeIsNeverStoredAsAnotherValue(t *testing.T) {
	t.Parallel()
	all := database(t, `create type visit as (at timestamptz, share float4); create type stay as (visit visit, day date)`, "visit", "_visit", "stay")
	far := time.Date(586_600, 1, 1, 0, 0, 0, 0, time.UTC)
	outOfRange(t, all.column(t, "visit"), visit{At: far}, "586600")
	outOfRange(t, all.column(t, "visit"), &visit{Share: 1e300}, "1e")
	outOfRange(t, all.column(t, "visit[]"), []visit{{}, {At: far}}, "586600")
	outOfRange(t, all.column(t, "stay"), stay{Visit: &visit{At: far}}, "586600")
	stores(t, all.column(t, "stay"), []stay{{&visit{Share: 1.5}, far}}, `("(""0001-01-01 00:00:00+00"",1.5)",586600-01-01)`)
	stores(t, all.column(t, "jsonb"), []visit{{Share: 1e300}}, `{"At": "0001-01-01T00:00:00Z", "Share": 1`+strings.Repeat("0", 300)+`}`)
}

type (
	visit struct {
		At    time.Time
		Share float64
	}
	stay struct {
		Visit *visit
		Day   time.Time
	}
)

// pgx sends 1.5 as the int4 1.
func TestAFractionInAnAnyIsNotCutOff(t *testing.T) {
	t.Parallel()
	all := database(t, ``)
	outOfRange[any](t, all.column(t, "int4"), 1.5, "1.5")
	outOfRange[any](t, all.column(t, "int8[]"), []any{2.0, 1.5}, "1.5")
	stores[any](t, all.column(t, "int4"), []any{2.0}, "2")
	stores[any](t, all.column(t, "numeric"), []any{1.5}, "1.5")
}

// pgx prints a value that it cannot encode: one that holds itself overflowed the stack.
func TestAValueThatHoldsItselfIsRefused(t *testing.T) {
	t.Parallel()
	all := database(t, ``)
	cyclic, list := map[string]any{}, []any{0}
	cyclic["a"], list[0] = []any{cyclic}, list
	outOfRange(t, all.column(t, "jsonb"), cyclic, "0x")
	for _, typ := range []string{"jsonb", "text", "text[]", "int4"} {
		outOfRange[any](t, all.column(t, typ), cyclic, "0x")
		outOfRange[any](t, all.column(t, typ), list, "0x")
	}
	one := map[string]any{}
	stores(t, all.column(t, "jsonb"), []map[string]any{{"a": one, "b": one}}, `{"a": {}, "b": {}}`)
}

// pgx panics where Bytes is shorter than Len says.
func TestBitsThatLackBytesAreRefused(t *testing.T) {
	t.Parallel()
	all := database(t, ``)
	outOfRange(t, all.column(t, "varbit"), pgtype.Bits{Bytes: []byte{7}, Len: 9, Valid: true}, "7")
	outOfRange(t, all.column(t, "varbit"), &pgtype.Bits{Bytes: []byte{7}, Len: -8, Valid: true}, "7")
	outOfRange(t, all.column(t, "varbit[]"), []pgtype.Bits{{Bytes: []byte{7, 7}, Len: 8, Valid: true}}, "7")
	stores(t, all.column(t, "varbit"), []pgtype.Bits{{Bytes: []byte{0x80, 0x80}, Len: 9, Valid: true}, {Len: 5}, {Valid: true}}, "100000001", "NULL", "")
}

// An unsure is a float that is sent as an integer, whatever it is.
type unsure float64

func (u unsure) Value() (driver.Value, error) {
	if math.IsNaN(float64(u)) {
		return int64(0), nil
	}
	return int64(u), nil
}

func outOfRange[T any](t *testing.T, s *server, v T, hidden string) {
	t.Helper()
	told, _ := ways[T](s)
	for name, send := range told {
		err := send(t.Context(), v)
		assert.Equal(t, pgcmd.CodeInvalid, pgcmd.CodeOf(err), "%s: %v", name, err)
		assert.Equal(t, pgcmd.NotApplied, pgcmd.EffectOf(err), "%s: %v", name, err)
		if assert.Error(t, err, name) {
			assert.NotContains(t, err.Error(), hidden, name)
		}
	}
	assert.Empty(t, s.stored())
}

// Ptr says by its pointer what is sent.
type Ptr struct{ text string }

func (p *Ptr) Value() (driver.Value, error) { return p.text, nil }

func TestVerifyAgreesWithWhatRuns(t *testing.T) {
	t.Parallel()
	all := database(t, textDDL)
	agrees(t, all.column(t, "text"), &Ptr{"x"})
	agrees(t, all.column(t, "numeric"), big.NewInt(5))
	agrees(t, all.column(t, "citext"), 5)
	agrees(t, all.column(t, "color[]"), []string{"red"})
	agrees(t, all.column(t, "citext[]"), []string{"red"})
	agrees(t, all.column(t, "email"), []byte("red"))
	agrees(t, all.column(t, "money"), 5)
	for typ, text := range map[string]string{"ltree": "a.b", "money": "5", "timetz": "12:00:00+02", "timestamptz": "2024-01-01", "int4range": "[1,2)"} {
		agrees(t, all.column(t, typ), text)
	}
}

func agrees[T any](t *testing.T, s *server, v T) {
	t.Helper()
	exec := pgcmd.Exec[holding[T]]("h.exec", `insert into `+s.table+` values (@v)`)
	copied := pgcmd.Copy[holding[T]]("h.copy", pgx.Identifier{s.table})
	_, err := exec.Run(t.Context(), s.pool, holding[T]{v})
	require.NoError(t, err)
	_, err = copied.Run(t.Context(), s.pool, pgcmd.Rows([]holding[T]{{v}}))
	require.NoError(t, err)
	assert.NoError(t, pgcmd.Verify(t.Context(), s.pool, exec, copied))
	stored := s.stored()
	assert.Equal(t, stored[0], stored[1])
}

// A shared connection sends by the same rule, though it asks no catalog.
func TestASharedConnectionSendsByTheSameRule(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	s := database(t, textDDL)
	pool, err := pgcmd.Connect(ctx, pgcmd.Config{URL: s.url, Multiplex: 1, MaxConns: 2})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, pool.Close(context.Background())) })
	read := func(sql string) error {
		type in = holding[[][]int32]
		_, err := pgcmd.QueryOne[in, string]("h.read", sql).With(pgcmd.Options{ReadOnly: true}).Run(ctx, pool, in{[][]int32{{1}, {2, 3}}})
		return err
	}
	refused(t, "int4[]", read(`select @v::int4[]::text as v`), pgcmd.CodeInvalid, "V is not rectangular")
	assert.NoError(t, read(`select @v::jsonb::text as v`))
	refused(t, "text", read(`select @v::text as v`), pgcmd.CodeInternal, "V", "[][]int32", "cannot be sent as text")
	for typ, want := range map[string]string{"email": "red", "citext": "red", "text": "red", "bytea": `\x726564`, "blob": `\x726564`} {
		got, err := pgcmd.QueryOne[holding[[]byte], string]("h.bytes", `select @v::`+typ+`::text as v`).With(pgcmd.Options{ReadOnly: true}).Run(ctx, pool, holding[[]byte]{[]byte("red")})
		require.NoError(t, err, typ)
		assert.Equal(t, want, got, typ)
	}
	_, err = pgcmd.QueryOne[holding[[]Status], string]("h.statuses", `select @v::color[]::text as v`).With(pgcmd.Options{ReadOnly: true}).Run(ctx, pool, holding[[]Status]{[]Status{"red"}})
	refused(t, "color[]", err, pgcmd.CodeInternal, "cannot be sent as color[]")
}
