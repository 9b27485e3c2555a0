package params

import (
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var oids = []uint32{pgtype.Int8OID, pgtype.Int4OID, pgtype.Int2OID, pgtype.TextOID, pgtype.VarcharOID, pgtype.BPCharOID, pgtype.NameOID,
	pgtype.BoolOID, pgtype.Float8OID, pgtype.TimestamptzOID, pgtype.TimestampOID, pgtype.UUIDOID, pgtype.JSONOID, 0, 99_999}

func randomArg(random *rand.Rand) any {
	n := int64(random.Uint64())
	if random.IntN(2) == 0 {
		n = []int64{0, 1, -1, math.MaxInt32, math.MaxInt32 + 1, math.MinInt32, math.MinInt32 - 1, math.MaxInt64, math.MinInt64}[random.IntN(9)]
	}
	type named int64
	all := []any{n, int(n), int32(n), int16(n), uint64(n), named(n), n%2 == 0, math.Float64frombits(uint64(n)), float32(n), nil, "é" + strings.Repeat("x", random.IntN(300)), "",
		"2026-01-02", time.UnixMicro(n / 1000), time.Unix(n/1_000_000, n%1_000_000_000), time.Time{}, &n, (*string)(nil), []byte("{}"), []int64{n}, pgtype.Int8{Int64: n}, [16]byte{1}}
	return all[random.IntN(len(all))]
}

// Whatever the arguments are, they are encoded as pgx does it.
func TestArgumentsAreEncodedAsByPgx(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 2))
	ours, theirs := new(Encoder), new(pgx.ExtendedQueryBuilder)
	types := pgtype.NewMap()
	columns := [][]pgconn.FieldDescription{nil, {{DataTypeOID: pgtype.Int8OID}, {DataTypeOID: pgtype.JSONOID}, {DataTypeOID: 99_999}}, {{DataTypeOID: pgtype.TextOID}}}
	encoded, refused, direct := 0, 0, 0
	for range 50_000 {
		sd := &pgconn.StatementDescription{Fields: columns[random.IntN(len(columns))]}
		var args []any
		for range random.IntN(4) {
			sd.ParamOIDs = append(sd.ParamOIDs, oids[random.IntN(len(oids))])
			args = append(args, randomArg(random))
		}
		if random.IntN(50) == 0 {
			args = append(args, 1)
		}
		got, want := ours.Build(types, sd, args), theirs.Build(types, sd, args)
		if want != nil {
			require.EqualError(t, got, want.Error())
			refused++
			continue
		}
		require.NoError(t, got)
		require.Len(t, ours.ParamValues, len(theirs.ParamValues))
		for i, value := range theirs.ParamValues {
			require.Equal(t, value == nil, ours.ParamValues[i] == nil, "%v", args)
			require.Equal(t, string(value), string(ours.ParamValues[i]), "%v", args)
			if value != nil {
				require.Equal(t, theirs.ParamFormats[i], ours.ParamFormats[i], "%v", args)
			}
		}
		require.Equal(t, append([]int16{}, theirs.ResultFormats...), append([]int16{}, ours.ResultFormats...))
		encoded++
		if ours.encode(types, sd.ParamOIDs, args) {
			direct++
		}
		if random.IntN(10) == 0 {
			ours.Free()
		}
	}
	assert.Greater(t, encoded, 1000)
	assert.Greater(t, refused, 1000)
	assert.Greater(t, direct, 1000)
}

func TestWithoutADescriptionArgumentsAreTexts(t *testing.T) {
	t.Parallel()
	e := new(Encoder)
	require.NoError(t, e.Build(pgtype.NewMap(), nil, []any{int64(7), "x"}))
	assert.Equal(t, [][]byte{[]byte("7"), []byte("x")}, e.ParamValues)
	assert.Equal(t, []int16{0, 0}, e.ParamFormats)
	assert.Empty(t, e.ResultFormats)
}

// Of an Encoder that has its memory nothing is allocated, and it does not keep much.
func TestTheMemoryOfAnEncoderIsUsedAgain(t *testing.T) {
	e, types := new(Encoder), pgtype.NewMap()
	sd := &pgconn.StatementDescription{ParamOIDs: []uint32{pgtype.Int8OID, pgtype.TextOID}, Fields: []pgconn.FieldDescription{{DataTypeOID: pgtype.Int8OID}}}
	args := []any{int64(1000), "Ada"}
	require.NoError(t, e.Build(types, sd, args))
	assert.Zero(t, testing.AllocsPerRun(100, func() { _ = e.Build(types, sd, args); e.Free() }))
	require.NoError(t, e.Build(types, sd, []any{int64(1), strings.Repeat("x", 1<<20)}))
	e.Free()
	assert.LessOrEqual(t, cap(e.bytes), maxKept)
	sd.ParamOIDs[1] = pgtype.ByteaOID // which pgx encodes
	require.NoError(t, e.Build(types, sd, []any{int64(1), make([]byte, 1<<20)}))
	e.Free()
	for _, value := range e.ParamValues[:cap(e.ParamValues)] {
		assert.Nil(t, value, "pgx leaves them behind the length of the slice")
	}
}
