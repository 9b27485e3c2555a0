package rowscan

import (
	"reflect"
	"strconv"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/stretchr/testify/require"
)

// numbers are rows of one int8 in text, from 0 to n-1.
type numbers struct {
	n, at int
	types *pgtype.Map
}

func (r *numbers) Next() bool                    { r.at++; return r.at <= r.n }
func (r *numbers) Close()                        {}
func (r *numbers) Err() error                    { return nil }
func (r *numbers) CommandTag() pgconn.CommandTag { return pgconn.CommandTag{} }
func (r *numbers) RawValues() [][]byte           { return [][]byte{[]byte(strconv.Itoa(r.at - 1))} }
func (r *numbers) TypeMap() *pgtype.Map          { return r.types }
func (r *numbers) Conn() *pgx.Conn               { return nil }
func (r *numbers) FieldDescriptions() []pgconn.FieldDescription {
	return []pgconn.FieldDescription{{Name: "n", DataTypeOID: pgtype.Int8OID}}
}

type number struct{ N *int64 }

func read(t *testing.T, b *Buffer, n int) []number {
	t.Helper()
	rows := &numbers{n: n, types: pgtype.NewMap()}
	more := rows.Next()
	require.Nil(t, b.Prepare(rows))
	for ; more; more = rows.Next() {
		require.Nil(t, b.ScanNext(rows))
	}
	require.Equal(t, n, b.Len())
	var out []number
	b.MoveRows(reflect.ValueOf(&out).Elem())
	return out
}

func TestABufferReadsAnyNumberOfRowsAndHoldsNoneAfterwards(t *testing.T) {
	t.Parallel()
	b := NewBuffer(ofSlice(t, reflect.TypeFor[[]number]()))
	for _, n := range []int{0, 1, firstChunk, firstChunk + 1, 1000, maxPooledRows, maxPooledRows + 1, 3*maxPooledRows + 5, 2} {
		out := read(t, b, n)
		require.NotNil(t, out)
		require.Len(t, out, n)
		require.Equal(t, n, cap(out), "an append by the caller must copy")
		for i, row := range out {
			require.EqualValues(t, i, *row.N)
		}
		b.Recycle()
		require.Zero(t, b.Len())
		if !b.chunk.IsValid() {
			continue
		}
		require.LessOrEqual(t, b.chunk.Len(), maxPooledRows)
		for i := range b.chunk.Len() {
			require.True(t, b.chunk.Index(i).IsZero(), "row %d of %d", i, n)
		}
	}
	require.Less(t, firstChunk, b.chunk.Len(), "the memory of a large result is used again")
}

func TestASmallResultAfterALargeOneClearsOnlyItself(t *testing.T) {
	t.Parallel()
	b := NewBuffer(ofSlice(t, reflect.TypeFor[[]number]()))
	read(t, b, maxPooledRows)
	b.Recycle()
	read(t, b, 1)
	require.Equal(t, 1, b.used)
}

func TestARowThatCannotBeReadIsNotCountedAndLeavesNothing(t *testing.T) {
	t.Parallel()
	b := NewBuffer(ofSlice(t, reflect.TypeFor[[]struct{ N int8 }]()))
	rows := &numbers{n: 200, types: pgtype.NewMap()}
	more := rows.Next()
	require.Nil(t, b.Prepare(rows))
	var err *Error
	for ; more && err == nil; more = rows.Next() {
		err = b.ScanNext(rows)
	}
	require.NotNil(t, err)
	require.Equal(t, "n", err.Column)
	require.Equal(t, 128, b.Len())
	b.Recycle()
	for i := range b.chunk.Len() {
		require.True(t, b.chunk.Index(i).IsZero())
	}
}

func ofSlice(t *testing.T, rows reflect.Type) *RowType {
	t.Helper()
	rowType, err := OfSlice(rows)
	require.NoError(t, err)
	return rowType
}

// shared are rows without a connection of their own, whose plans are kept.
type shared struct {
	numbers
	cache *PlanCache
}

func (r *shared) PlanCache() *PlanCache { return r.cache }

// Planning is most of the work of reading a row. Rows that come by the same type map are planned once, whichever buffer
// reads them.
func TestPlansAreKeptForRowsWithoutAConnection(t *testing.T) {
	typ := ofSlice(t, reflect.TypeFor[[]number]())
	cache := new(PlanCache)
	prepare := func(types *pgtype.Map) *pgtype.ScanPlan {
		rows := &shared{numbers{n: 1, types: types}, cache}
		b := NewBuffer(typ)
		require.Nil(t, b.Prepare(rows))
		rows.Next()
		require.Nil(t, b.ScanNext(rows))
		require.Equal(t, int64(0), *b.At(0).(*number).N)
		return &b.plans[0]
	}
	types := pgtype.NewMap()
	first := prepare(types)
	require.Same(t, first, prepare(types))
	require.NotSame(t, first, prepare(pgtype.NewMap()), "plans belong to the type map that made them")
	require.Len(t, cache.plans, 1)

	for range 2 * maxScanPlans { // of schemas that change
		typ.Last.Store(nil)
		prepare(types)
	}
	require.LessOrEqual(t, len(cache.plans), maxScanPlans)
}
