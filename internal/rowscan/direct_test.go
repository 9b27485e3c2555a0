package rowscan

import (
	"encoding/binary"
	"math"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// values is one row of any values.
type values struct {
	numbers
	columns []pgconn.FieldDescription
	row     [][]byte
}

func (r *values) RawValues() [][]byte                          { return r.row }
func (r *values) FieldDescriptions() []pgconn.FieldDescription { return r.columns }

type everyType struct {
	Bool     bool
	Int2     int16
	Int4     int32
	Int4int  int
	Int8     int64
	Int8int  int
	Float8   float64
	At       time.Time
	Name     string
	Nickname string
	Title    string
	Optional *int64
	Flag     *bool
	Small    *int16
	Medium   *int32
	Count    *int
	Ratio    *float64
	Ended    *time.Time
	Comment  *string
	Key      key
	Status   *status
	Wide     int64 // of an int4, by pgx's plan, as those after it
	Local    time.Time
	Code     rune
	Deep     **int64
	Scans    scans
}

type key int64

type status string

// scans has a method to scan by.
type scans int64

func (s *scans) ScanInt64(n pgtype.Int8) error {
	*s = scans(n.Int64 / 2)
	return nil
}

var everyColumn = []pgconn.FieldDescription{
	{Name: "bool", DataTypeOID: pgtype.BoolOID, Format: 1}, {Name: "int2", DataTypeOID: pgtype.Int2OID, Format: 1},
	{Name: "int4", DataTypeOID: pgtype.Int4OID, Format: 1}, {Name: "int4int", DataTypeOID: pgtype.Int4OID, Format: 1},
	{Name: "int8", DataTypeOID: pgtype.Int8OID, Format: 1}, {Name: "int8int", DataTypeOID: pgtype.Int8OID, Format: 1},
	{Name: "float8", DataTypeOID: pgtype.Float8OID, Format: 1}, {Name: "at", DataTypeOID: pgtype.TimestamptzOID, Format: 1},
	{Name: "name", DataTypeOID: pgtype.TextOID}, {Name: "nickname", DataTypeOID: pgtype.VarcharOID, Format: 1},
	{Name: "title", DataTypeOID: pgtype.NameOID}, {Name: "optional", DataTypeOID: pgtype.Int8OID, Format: 1},
	{Name: "flag", DataTypeOID: pgtype.BoolOID, Format: 1}, {Name: "small", DataTypeOID: pgtype.Int2OID, Format: 1},
	{Name: "medium", DataTypeOID: pgtype.Int4OID, Format: 1}, {Name: "count", DataTypeOID: pgtype.Int8OID, Format: 1},
	{Name: "ratio", DataTypeOID: pgtype.Float8OID, Format: 1}, {Name: "ended", DataTypeOID: pgtype.TimestamptzOID, Format: 1},
	{Name: "comment", DataTypeOID: pgtype.TextOID, Format: 1}, {Name: "key", DataTypeOID: pgtype.Int8OID, Format: 1},
	{Name: "status", DataTypeOID: pgtype.TextOID, Format: 1},
	{Name: "wide", DataTypeOID: pgtype.Int4OID, Format: 1}, {Name: "local", DataTypeOID: pgtype.TimestampOID, Format: 1},
	{Name: "code", DataTypeOID: pgtype.Int4OID}, {Name: "deep", DataTypeOID: pgtype.Int8OID, Format: 1}, {Name: "scans", DataTypeOID: pgtype.Int8OID, Format: 1},
}

// rawOf makes a value of a column.
func rawOf(c pgconn.FieldDescription, random *rand.Rand) []byte {
	n := random.Uint64()
	switch random.IntN(4) {
	case 0:
		n = []uint64{0, 1, math.MaxInt64, 1 << 63, math.MaxUint64, farYears, math.Float64bits(math.NaN())}[random.IntN(7)]
	case 1:
		n = uint64(random.Int64N(2*farYears) - farYears)
	}
	if c.Format == pgtype.TextFormatCode && c.DataTypeOID == pgtype.Int4OID {
		return []byte("17")
	}
	switch c.DataTypeOID {
	case pgtype.BoolOID:
		return []byte{byte(n)}
	case pgtype.Int2OID:
		return binary.BigEndian.AppendUint16(nil, uint16(n))
	case pgtype.Int4OID:
		return binary.BigEndian.AppendUint32(nil, uint32(n))
	case pgtype.TextOID, pgtype.VarcharOID, pgtype.NameOID:
		return []byte(strings.Repeat("é", random.IntN(1+maxSharedText/3)))
	}
	return binary.BigEndian.AppendUint64(nil, n)
}

// TestDirectColumnsAreReadAsByPlans reads rows of many values, some of them NULL, cut off or too long, in both ways.
func TestDirectColumnsAreReadAsByPlans(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 2))
	rows := &values{numbers: numbers{types: pgtype.NewMap()}, columns: everyColumn}
	rowType := ofSlice(t, reflect.TypeFor[[]everyType]())
	straight, byPlans := NewBuffer(rowType), NewBuffer(rowType)
	failed, direct := 0, 0
	for range 20_000 {
		rows.row = nil
		for _, c := range everyColumn {
			raw := rawOf(c, random)
			switch random.IntN(300) {
			case 0:
				raw = nil
			case 1:
				raw = raw[:len(raw)/2]
			case 2:
				raw = append(raw, 0)
			}
			rows.row = append(rows.row, raw)
		}
		for _, b := range []*Buffer{straight, byPlans} {
			b.ClearRow()
			require.Nil(t, b.Prepare(rows))
		}
		require.NotNil(t, straight.directs)
		byPlans.directs = nil
		got, want := straight.ScanRow(rows), byPlans.ScanRow(rows)
		require.Equal(t, want, got)
		if got != nil {
			failed++
			continue
		}
		direct++
		a, b := *straight.RowPointer().(*everyType), *byPlans.RowPointer().(*everyType)
		if math.IsNaN(a.Float8) {
			require.True(t, math.IsNaN(b.Float8))
			a.Float8, b.Float8 = 0, 0
		}
		if a.Ratio != nil && math.IsNaN(*a.Ratio) {
			require.True(t, math.IsNaN(*b.Ratio))
			a.Ratio, b.Ratio = nil, nil
		}
		require.Equal(t, b, a)
	}
	assert.Greater(t, failed, 100)
	assert.Greater(t, direct, 100)
}

func TestWhatHasADirectWay(t *testing.T) {
	t.Parallel()
	plan := ofSlice(t, reflect.TypeFor[[]everyType]()).directPlanOf(pgtype.NewMap(), mapping(t, everyColumn))
	var directs []direct
	for i, c := range plan.columns {
		directs = append(directs, c.direct)
		field := reflect.TypeFor[everyType]().Field(i)
		assert.Equal(t, field.Type.Kind() == reflect.Pointer, c.pointer, field.Name)
		assert.Equal(t, field.Offset, c.offset, field.Name)
	}
	assert.Equal(t, []direct{boolToBool, int2ToInt16, int4ToInt32, int4ToInt, int8ToInt64, int8ToInt, float8ToFloat64, timestamptzToTime,
		textToString, textToString, textToString, int8ToInt64, boolToBool, int2ToInt16, int4ToInt32, int8ToInt, float8ToFloat64, timestamptzToTime,
		textToString, int8ToInt64, textToString, viaPlan, viaPlan, viaPlan, viaPlan, viaPlan}, directs)
	assert.Equal(t, []int{8, 9, 10, 18, 20}, plan.texts)

	elsewhere := pgtype.NewMap()
	elsewhere.RegisterType(&pgtype.Type{Name: "timestamptz", OID: pgtype.TimestamptzOID, Codec: &pgtype.TimestamptzCodec{ScanLocation: time.UTC}})
	assert.Equal(t, viaPlan, directOf(elsewhere, pgtype.TimestamptzOID, 1, reflect.TypeFor[time.Time]()), "in another location")
	assert.Equal(t, int8ToInt64, directOf(elsewhere, pgtype.Int8OID, 1, reflect.TypeFor[key]()))
	elsewhere.TryWrapScanPlanFuncs = append(elsewhere.TryWrapScanPlanFuncs, func(any) (pgtype.WrappedScanPlanNextSetter, any, bool) { return nil, nil, false })
	assert.Equal(t, viaPlan, directOf(elsewhere, pgtype.Int8OID, 1, reflect.TypeFor[key]()), "the connection may have a way of its own")
	assert.Equal(t, int8ToInt64, directOf(elsewhere, pgtype.Int8OID, 1, reflect.TypeFor[int64]()))
}

func mapping(t *testing.T, columns []pgconn.FieldDescription) *Mapping {
	t.Helper()
	m, err := ofSlice(t, reflect.TypeFor[[]everyType]()).mapColumns(columns)
	require.Nil(t, err)
	return m
}

// Short texts share allocations, also those of rows that follow each other, and long ones have one each.
func TestShortTextsShareAllocations(t *testing.T) {
	type row struct{ A, B string }
	columns := []pgconn.FieldDescription{{Name: "a", DataTypeOID: pgtype.TextOID}, {Name: "b", DataTypeOID: pgtype.TextOID}}
	for _, c := range []struct {
		rows, size int // of both texts of a row
		allocs     float64
	}{
		{1, 20, 1}, {2, 20, 2}, {5, 20, 2}, {6, 20, 3}, {17, 20, 3}, {1000, 20, 85}, // 20 bytes, then 80, then 12 rows in 256
		{1, 256, 1}, {10, 256, 10}, {10, 258, 20}, {10, 0, 0},
	} {
		rows := &values{numbers: numbers{types: pgtype.NewMap()}, columns: columns}
		for range columns {
			rows.row = append(rows.row, []byte(strings.Repeat("x", c.size/2)))
		}
		b := NewBuffer(ofSlice(t, reflect.TypeFor[[]row]()))
		b.most = 1000
		read := func() {
			require.Nil(t, b.Prepare(rows))
			for range c.rows {
				_ = b.ScanNext(rows)
			}
		}
		read()
		for i := range c.rows {
			assert.Equal(t, &row{string(rows.row[0]), string(rows.row[1])}, b.At(i))
		}
		b.Reset()
		assert.Equal(t, c.allocs, testing.AllocsPerRun(10, func() { read(); b.Reset() }), "%d rows of %d bytes", c.rows, c.size)
	}
}

// A text stays what it is when others are read after it.
func TestTextsInABlockAreNotChanged(t *testing.T) {
	t.Parallel()
	type row struct{ A, B string }
	columns := []pgconn.FieldDescription{{Name: "a", DataTypeOID: pgtype.TextOID}, {Name: "b", DataTypeOID: pgtype.TextOID}}
	random := rand.New(rand.NewPCG(1, 2))
	rows := &values{numbers: numbers{types: pgtype.NewMap()}, columns: columns, row: make([][]byte, 2)}
	b := NewBuffer(ofSlice(t, reflect.TypeFor[[]row]()))
	for range 20 {
		var want []row
		require.Nil(t, b.Prepare(rows))
		for n := range random.IntN(300) {
			for i := range rows.row {
				rows.row[i] = []byte(strings.Repeat(string(rune('a'+n%26)), random.IntN(1+random.IntN(200))))
			}
			want = append(want, row{string(rows.row[0]), string(rows.row[1])})
			require.Nil(t, b.ScanNext(rows))
		}
		var got []row
		b.MoveRows(reflect.ValueOf(&got).Elem())
		b.Recycle()
		require.ElementsMatch(t, want, got)
	}
}
