package rowscan

import (
	"encoding/binary"
	"math"
	"reflect"
	"time"
	"unsafe"

	"github.com/jackc/pgx/v5/pgtype"
)

// A direct is a way to decode a column from its binary form, or a text, straight into a field,
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

// directOf returns the way to decode a column into a field of type t, or viaPlan.
func directOf(types *pgtype.Map, oid uint32, format int16, t reflect.Type) direct {
	known, ok := types.TypeForOID(oid)
	if !ok {
		return viaPlan
	}
	if _, ok := known.Codec.(pgtype.TextCodec); ok && t == reflect.TypeFor[string]() {
		return textToString // in either format
	}
	if format != pgtype.BinaryFormatCode {
		return viaPlan
	}
	switch codec := known.Codec.(type) {
	case pgtype.BoolCodec:
		return onlyFor[bool](t, boolToBool)
	case pgtype.Int2Codec:
		return onlyFor[int16](t, int2ToInt16)
	case pgtype.Int4Codec:
		return max(onlyFor[int32](t, int4ToInt32), onlyFor[int](t, int4ToInt))
	case pgtype.Int8Codec:
		return max(onlyFor[int64](t, int8ToInt64), onlyFor[int](t, int8ToInt))
	case pgtype.Float8Codec:
		return onlyFor[float64](t, float8ToFloat64)
	case *pgtype.TimestamptzCodec:
		if codec.ScanLocation == nil {
			return onlyFor[time.Time](t, timestamptzToTime)
		}
	}
	return viaPlan
}

func onlyFor[T any](t reflect.Type, d direct) direct {
	if t == reflect.TypeFor[T]() {
		return d
	}
	return viaPlan
}

// decode decodes raw, which is not NULL, into the field at p, which has the type that d is
// for. It reports false for what the plan has to look at, such as a wrong length.
func (d direct) decode(raw []byte, p unsafe.Pointer) bool {
	switch len(raw) {
	case 1:
		if d == boolToBool {
			*(*bool)(p) = raw[0] == 1
			return true
		}
	case 2:
		if d == int2ToInt16 {
			*(*int16)(p) = int16(binary.BigEndian.Uint16(raw))
			return true
		}
	case 4:
		n := int32(binary.BigEndian.Uint32(raw))
		switch d {
		case int4ToInt32:
			*(*int32)(p) = n
			return true
		case int4ToInt:
			*(*int)(p) = int(n)
			return true
		}
	case 8:
		n := int64(binary.BigEndian.Uint64(raw))
		switch d {
		case int8ToInt64:
			*(*int64)(p) = n
			return true
		case int8ToInt:
			*(*int)(p) = int(n)
			return int64(int(n)) == n
		case float8ToFloat64:
			*(*float64)(p) = math.Float64frombits(uint64(n))
			return true
		case timestamptzToTime:
			*(*time.Time)(p) = time.Unix(epoch2000+n/1e6, n%1e6*1e3)
			return -farYears < n && n < farYears
		}
	}
	return false
}

// epoch2000 is the start of 2000 in Unix time, from which PostgreSQL counts microseconds. More
// than farYears of them may be infinity, or no time for pgx.
const (
	epoch2000 = 946_684_800
	farYears  = 1000 * 365 * 24 * 3600 * 1_000_000
)

// maxSharedText is how many bytes of the texts of a row may share one string, which is kept as
// long as one of them is.
const maxSharedText = 256

// directs are the ways to decode the columns of a result.
type directs struct {
	columns []direct
	texts   []int // the columns that are textToString
}

// directsOf returns the ways to decode the columns of a mapping; nil if there is none.
func (s *RowType) directsOf(types *pgtype.Map, l *Mapping) *directs {
	if s.throughPointer {
		return nil
	}
	d := &directs{columns: make([]direct, len(l.Columns))}
	some := false
	for i, c := range l.Columns {
		d.columns[i] = directOf(types, c.DataTypeOID, c.Format, l.fields[i].Type)
		if d.columns[i] == textToString {
			d.texts = append(d.texts, i)
		}
		some = some || d.columns[i] != viaPlan
	}
	if !some {
		return nil
	}
	return d
}

// scanDirect reads a row into the one at p, by the plans where there is no direct way.
func (s *scanner) scanDirect(rows Rows, values [][]byte, p unsafe.Pointer) *Error {
	pointed := false
	for i, raw := range values {
		if d := s.directs.columns[i]; raw != nil && d != viaPlan &&
			(d == textToString || d.decode(raw, unsafe.Add(p, s.mapping.offsets[i]))) {
			continue
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

// scanTexts decodes the texts of a row. If they are short, they are parts of one string: one
// allocation instead of one for each.
func (s *scanner) scanTexts(values [][]byte, p unsafe.Pointer) {
	texts, size := s.directs.texts, 0
	for _, i := range texts {
		size += len(values[i])
	}
	if len(texts) == 1 || size > maxSharedText {
		for _, i := range texts {
			*(*string)(unsafe.Add(p, s.mapping.offsets[i])) = string(values[i])
		}
		return
	}
	var joined [maxSharedText]byte
	n := 0
	for _, i := range texts {
		n += copy(joined[n:], values[i])
	}
	shared := string(joined[:n])
	for _, i := range texts {
		n := len(values[i])
		*(*string)(unsafe.Add(p, s.mapping.offsets[i])) = shared[:n]
		shared = shared[n:]
	}
}
