package rowscan

import (
	"encoding/binary"
	"math"
	"reflect"
	"sync"
	"time"
	"unsafe"

	"github.com/jackc/pgx/v5/pgtype"
)

// A direct is a way to decode a column from its binary form, or a text, straight into a value,
// for types that most columns have. It gives what pgx's plan gives, without its call through
// an interface.
type direct uint8

const (
	viaPlan direct = iota // there is none
	boolToBool
	int2ToInt16
	int4ToInt32
	int4ToInt
	int8ToInt64
	int8ToInt
	float8ToFloat64
	timestamptzToTime
	textToString
)

// directOf returns the way to decode a column into a value of type t, or viaPlan. A type of any
// name will do, unless it has methods, which may be there to scan by, or the connection has
// more ways to scan than pgx's.
func directOf(types *pgtype.Map, oid uint32, format int16, t reflect.Type) direct {
	known, ok := types.TypeForOID(oid)
	if !ok {
		return viaPlan
	}
	if codec, ok := known.Codec.(*pgtype.TimestamptzCodec); ok {
		if format == pgtype.BinaryFormatCode && codec.ScanLocation == nil && t == reflect.TypeFor[time.Time]() {
			return timestamptzToTime
		}
		return viaPlan
	}
	if t.PkgPath() != "" && (reflect.PointerTo(t).NumMethod() > 0 || len(types.TryWrapScanPlanFuncs) != pgxWraps()) {
		return viaPlan
	}
	kind := t.Kind()
	if _, ok := known.Codec.(pgtype.TextCodec); ok && kind == reflect.String {
		return textToString // in either format
	}
	if format != pgtype.BinaryFormatCode {
		return viaPlan
	}
	switch known.Codec.(type) {
	case pgtype.BoolCodec:
		return directByKinds[[2]reflect.Kind{reflect.Bool, kind}]
	case pgtype.Int2Codec:
		return directByKinds[[2]reflect.Kind{reflect.Int16, kind}]
	case pgtype.Int4Codec:
		return directByKinds[[2]reflect.Kind{reflect.Int32, kind}]
	case pgtype.Int8Codec:
		return directByKinds[[2]reflect.Kind{reflect.Int64, kind}]
	case pgtype.Float8Codec:
		return directByKinds[[2]reflect.Kind{reflect.Float64, kind}]
	}
	return viaPlan
}

var pgxWraps = sync.OnceValue(func() int { return len(pgtype.NewMap().TryWrapScanPlanFuncs) })

// directByKinds are the ways by the kind of value that a column has, and that of the Go value.
var directByKinds = map[[2]reflect.Kind]direct{
	{reflect.Bool, reflect.Bool}:       boolToBool,
	{reflect.Int16, reflect.Int16}:     int2ToInt16,
	{reflect.Int32, reflect.Int32}:     int4ToInt32,
	{reflect.Int32, reflect.Int}:       int4ToInt,
	{reflect.Int64, reflect.Int64}:     int8ToInt64,
	{reflect.Int64, reflect.Int}:       int8ToInt,
	{reflect.Float64, reflect.Float64}: float8ToFloat64,
}

// newValue makes a zero value of the type that d is for.
func (d direct) newValue() unsafe.Pointer {
	switch d {
	case boolToBool:
		return unsafe.Pointer(new(bool))
	case int2ToInt16:
		return unsafe.Pointer(new(int16))
	case int4ToInt32:
		return unsafe.Pointer(new(int32))
	case int4ToInt, int8ToInt:
		return unsafe.Pointer(new(int))
	case int8ToInt64:
		return unsafe.Pointer(new(int64))
	case float8ToFloat64:
		return unsafe.Pointer(new(float64))
	case timestamptzToTime:
		return unsafe.Pointer(new(time.Time))
	}
	return unsafe.Pointer(new(string))
}

// epoch2000 is the start of 2000 in Unix time, from which PostgreSQL counts microseconds. More
// than farYears of them may be infinity, or no time for pgx.
const (
	epoch2000 = 946_684_800
	farYears  = 1000 * 365 * 24 * 3600 * 1_000_000
)

// maxSharedText is how many bytes of texts share one allocation at most, which is kept as long as
// one of them is.
const maxSharedText = 256

// directPlan has the ways to decode the columns of a result.
type directPlan struct {
	columns []directColumn
	texts   []int // the columns that are textToString
}

type directColumn struct {
	direct
	pointer bool    // the field is a pointer to what direct is for
	offset  uintptr // of the field
}

// place returns where the value of the column is, in the row at p.
func (c *directColumn) place(p unsafe.Pointer) unsafe.Pointer {
	p = unsafe.Add(p, c.offset)
	if c.pointer {
		return *(*unsafe.Pointer)(p)
	}
	return p
}

// directPlanOf returns the ways to decode the columns of a mapping; nil if there is none.
func (s *RowType) directPlanOf(types *pgtype.Map, l *Mapping) *directPlan {
	if s.throughPointer {
		return nil
	}
	plan := &directPlan{columns: make([]directColumn, len(l.Columns))}
	some := false
	for i, c := range l.Columns {
		t := l.fields[i].Type
		pointer := t.Kind() == reflect.Pointer && t.Name() == ""
		if pointer {
			t = t.Elem()
		}
		d := directOf(types, c.DataTypeOID, c.Format, t)
		plan.columns[i] = directColumn{d, pointer, l.offsets[i]}
		if d == textToString {
			plan.texts = append(plan.texts, i)
		}
		some = some || d != viaPlan
	}
	if !some {
		return nil
	}
	return plan
}

// scanDirect reads a row into the one at p, which is zero, by the plans where there is no direct
// way and for what these have to look at: NULL, unless the field is a pointer, and values of a
// wrong length.
func (s *scanner) scanDirect(rows Rows, values [][]byte, p unsafe.Pointer) *Error {
	pointed := false
	columns := s.directs.columns[:len(values)]
	for i, raw := range values {
		c := &columns[i]
		if c.direct != viaPlan {
			if raw == nil && c.pointer {
				continue
			}
			if raw != nil && c.decode(raw, p) {
				continue
			}
		}
		if !pointed {
			s.pointAt(p)
			pointed = true
		}
		if err := s.plans[i].Scan(raw, s.targets[i]); err != nil {
			return s.rowType.valueError(rows.TypeMap(), s.mapping, i, raw == nil, err)
		}
	}
	if len(s.directs.texts) > 0 {
		s.scanTexts(values, p)
	}
	return nil
}

// decode decodes a value into the row at p; a text is decoded by scanTexts. It reports false for
// what the plan has to look at.
func (c *directColumn) decode(raw []byte, p unsafe.Pointer) bool {
	p = unsafe.Add(p, c.offset)
	if c.pointer {
		value := c.newValue()
		*(*unsafe.Pointer)(p) = value
		p = value
	}
	switch c.direct {
	case textToString:
		return true
	case int8ToInt64:
		if len(raw) == 8 {
			*(*int64)(p) = int64(binary.BigEndian.Uint64(raw))
			return true
		}
	case int8ToInt:
		if len(raw) == 8 {
			n := int64(binary.BigEndian.Uint64(raw))
			*(*int)(p) = int(n)
			return int64(int(n)) == n
		}
	case int4ToInt32:
		if len(raw) == 4 {
			*(*int32)(p) = int32(binary.BigEndian.Uint32(raw))
			return true
		}
	case int4ToInt:
		if len(raw) == 4 {
			*(*int)(p) = int(int32(binary.BigEndian.Uint32(raw)))
			return true
		}
	case int2ToInt16:
		if len(raw) == 2 {
			*(*int16)(p) = int16(binary.BigEndian.Uint16(raw))
			return true
		}
	case boolToBool:
		if len(raw) == 1 {
			*(*bool)(p) = raw[0] == 1
			return true
		}
	case float8ToFloat64:
		if len(raw) == 8 {
			*(*float64)(p) = math.Float64frombits(binary.BigEndian.Uint64(raw))
			return true
		}
	case timestamptzToTime:
		if len(raw) == 8 {
			n := int64(binary.BigEndian.Uint64(raw))
			*(*time.Time)(p) = time.Unix(epoch2000+n/1e6, n%1e6*1e3)
			return -farYears < n && n < farYears
		}
	}
	return false
}

// scanTexts decodes the texts of a row. If they are short, they are parts of a block, of which
// rows that follow each other fill one after the other: that is one allocation for many texts.
func (s *scanner) scanTexts(values [][]byte, p unsafe.Pointer) {
	size := 0
	for _, i := range s.directs.texts {
		size += len(values[i])
	}
	share := size <= maxSharedText
	if share {
		s.texts.reserve(size)
	}
	for _, i := range s.directs.texts {
		switch raw := values[i]; {
		case len(raw) == 0:
			if raw != nil {
				*(*string)(s.directs.columns[i].place(p)) = ""
			}
		case share:
			*(*string)(s.directs.columns[i].place(p)) = s.texts.add(raw)
		default:
			*(*string)(s.directs.columns[i].place(p)) = string(raw)
		}
	}
}

// texts are the block that texts are parts of, and how large the next one is. The first is as
// large as the texts of its row, which may be the only one.
type texts struct {
	block []byte
	next  int
}

// reserve makes room for size bytes, at most maxSharedText.
func (t *texts) reserve(size int) {
	if size > cap(t.block)-len(t.block) {
		n := min(max(size, t.next), maxSharedText)
		t.block, t.next = make([]byte, 0, n), 4*n
	}
}

// add returns raw as a string, which lies in the block. What is in the block is never changed.
func (t *texts) add(raw []byte) string {
	from := len(t.block)
	t.block = append(t.block, raw...)
	return unsafe.String(&t.block[from], len(raw))
}
