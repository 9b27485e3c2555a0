// Package rowjson writes values of PostgreSQL as JSON, as its to_json does: by the column's
// type, which a Go value does not tell. It does not know commands, nor which outputs are
// written as JSON.
package rowjson

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/jackc/pgx/v5/pgtype"

	"github.com/pgcmd/pgcmd/internal/rowscan"
)

// jsonOf is the JSON of a value as to_json of PostgreSQL gives it: numbers are numbers,
// arrays are arrays, and whatever is neither, nor a bool or JSON, is a string that holds
// the text of the value. It differs in that a timestamptz is in UTC, whatever the
// session's TimeZone, and in that a type that is not registered on the connection, an
// enum, a composite, an array of them, is the string that the server writes for it.
func jsonOf(types *pgtype.Map, oid uint32, format int16, raw []byte) json.RawMessage {
	if raw == nil {
		return json.RawMessage("null")
	}
	if oid < rowscan.FirstUserOID { // whatever Go type is registered for it
		types = ownTypes()
	}
	t, known := types.TypeForOID(oid)
	if !known {
		return jsonOfOther(oid, string(raw))
	}
	switch codec := t.Codec.(type) {
	case *pgtype.JSONCodec, *pgtype.JSONBCodec:
		if _, jsonb := codec.(*pgtype.JSONBCodec); jsonb && format == pgtype.BinaryFormatCode && len(raw) > 0 {
			raw = raw[1:] // the version
		}
		if json.Valid(raw) {
			return slices.Clone(raw)
		}
	case *pgtype.ArrayCodec:
		if elems, dims, ok := elementsOf(types, codec, format, raw); ok {
			return jsonArray(dims, func(i int) json.RawMessage { return jsonOf(types, codec.ElementType.OID, format, elems[i]) })
		}
	case *pgtype.CompositeCodec:
		if text, ok := jsonOfComposite(types, codec.Fields, format, raw); ok {
			return text
		}
	case pgtype.RecordCodec:
		if format == pgtype.BinaryFormatCode {
			if text, ok := jsonOfComposite(types, nil, format, raw); ok {
				return text
			}
		}
	case *pgtype.EnumCodec, *pgtype.XMLCodec, pgtype.TextCodec, *pgtype.TextFormatOnlyCodec:
		return jsonString(string(raw))
	default:
		value, err := codec.DecodeValue(types, oid, format, raw)
		if err == nil {
			return jsonOfValue(t, value)
		}
	}
	if format == pgtype.TextFormatCode {
		return jsonString(string(raw))
	}
	return jsonString(`\x` + hex.EncodeToString(raw))
}

// ownTypes returns PostgreSQL's own types as pgx knows them, which are not changed.
var ownTypes = sync.OnceValue(pgtype.NewMap)

// jsonOfOther is the JSON of a type that pgx does not know. Those of PostgreSQL's own
// that are arrays are shown as such.
func jsonOfOther(oid uint32, text string) json.RawMessage {
	name := rowscan.OtherTypes[oid]
	switch {
	case name == "int2vector":
		return json.RawMessage("[" + strings.Join(strings.Fields(text), ",") + "]")
	case name == "oidvector":
		fields := strings.Fields(text)
		return jsonArray([]pgtype.ArrayDimension{{Length: int32(len(fields))}}, func(i int) json.RawMessage { return jsonString(fields[i]) })
	case strings.HasPrefix(name, "_"):
		array := &pgtype.ArrayCodec{ElementType: &pgtype.Type{Codec: pgtype.TextCodec{}, Name: "text", OID: pgtype.TextOID}}
		if elems, dims, ok := elementsOf(ownTypes(), array, pgtype.TextFormatCode, []byte(text)); ok {
			return jsonArray(dims, func(i int) json.RawMessage {
				if elems[i] == nil {
					return json.RawMessage("null")
				}
				return jsonOfOther(vectors[name], string(elems[i]))
			})
		}
	}
	return jsonString(text)
}

// vectors are the element types of arrays of arrays.
var vectors = map[string]uint32{"_int2vector": 22, "_oidvector": 30}

// elementsOf takes an array apart; nil is an element that is NULL.
func elementsOf(types *pgtype.Map, codec *pgtype.ArrayCodec, format int16, raw []byte) (elems [][]byte, dims []pgtype.ArrayDimension, ok bool) {
	if format == pgtype.TextFormatCode {
		var texts pgtype.Array[*string]
		text, _ := ownTypes().TypeForOID(pgtype.TextOID)
		plan := (&pgtype.ArrayCodec{ElementType: text, Delimiter: codec.Delimiter}).PlanScan(types, pgtype.TextArrayOID, format, &texts)
		if plan == nil || plan.Scan(raw, &texts) != nil {
			return nil, nil, false
		}
		for _, e := range texts.Elements {
			if e == nil {
				elems = append(elems, nil)
			} else {
				elems = append(elems, []byte(*e))
			}
		}
		return elems, texts.Dims, true
	}
	r := binaryReader{rest: raw, ok: true}
	count, _, _ := r.int32(), r.int32(), r.int32()
	total := 1
	for range count {
		d := pgtype.ArrayDimension{Length: r.int32(), LowerBound: r.int32()}
		if dims = append(dims, d); !r.ok || d.Length < 0 || int(d.Length) > len(raw) {
			return nil, nil, false
		}
		if total *= int(d.Length); total > len(raw) {
			return nil, nil, false
		}
	}
	if len(dims) == 0 {
		return nil, nil, r.ok
	}
	for range total {
		elems = append(elems, r.value())
	}
	return elems, dims, r.ok
}

// A binaryReader reads what PostgreSQL sends in binary.
type binaryReader struct {
	rest []byte
	ok   bool
}

func (r *binaryReader) int32() int32 {
	if len(r.rest) < 4 {
		r.ok, r.rest = false, nil
		return 0
	}
	n := int32(uint32(r.rest[0])<<24 | uint32(r.rest[1])<<16 | uint32(r.rest[2])<<8 | uint32(r.rest[3]))
	r.rest = r.rest[4:]
	return n
}

// value reads a value with its length; nil is NULL.
func (r *binaryReader) value() []byte {
	n := int(r.int32())
	if n == -1 {
		return nil
	}
	if n < 0 || n > len(r.rest) {
		r.ok, r.rest = false, nil
		return nil
	}
	v := r.rest[:n:n]
	r.rest = r.rest[n:]
	return v
}

// jsonArray writes the elements in their dimensions.
func jsonArray(dims []pgtype.ArrayDimension, elem func(i int) json.RawMessage) json.RawMessage {
	at := 0
	var write func(b []byte, dims []pgtype.ArrayDimension) []byte
	write = func(b []byte, dims []pgtype.ArrayDimension) []byte {
		b = append(b, '[')
		for i := range dims[0].Length {
			if i > 0 {
				b = append(b, ',')
			}
			if len(dims) > 1 {
				b = write(b, dims[1:])
				continue
			}
			b = append(b, elem(at)...)
			at++
		}
		return append(b, ']')
	}
	if len(dims) == 0 {
		return json.RawMessage("[]")
	}
	return write(nil, dims)
}

// jsonOfComposite is an object of the fields, whose types a binary one tells. Without
// names they are f1, f2 and so on, as those of row(...).
func jsonOfComposite(types *pgtype.Map, fields []pgtype.CompositeCodecField, format int16, raw []byte) (json.RawMessage, bool) {
	b := []byte{'{'}
	add := func(i int, oid uint32, value []byte) {
		name := "f" + strconv.Itoa(i+1)
		if i < len(fields) {
			name = fields[i].Name
		}
		if i > 0 {
			b = append(b, ',')
		}
		b = append(append(append(b, jsonString(name)...), ':'), jsonOf(types, oid, format, value)...)
	}
	if format == pgtype.TextFormatCode {
		s := pgtype.NewCompositeTextScanner(types, raw)
		i := 0
		for ; s.Next() && i < len(fields); i++ {
			add(i, fields[i].Type.OID, s.Bytes())
		}
		return append(b, '}'), s.Err() == nil && i == len(fields)
	}
	r := binaryReader{rest: raw, ok: true}
	for i := range int(r.int32()) {
		oid := uint32(r.int32())
		value := r.value()
		if !r.ok {
			return nil, false
		}
		add(i, oid, value)
	}
	return append(b, '}'), r.ok
}

// jsonOfValue is the JSON of a value that pgx has decoded of a type.
func jsonOfValue(t *pgtype.Type, value any) json.RawMessage {
	switch v := value.(type) {
	case nil:
		return json.RawMessage("null")
	case bool:
		return strconv.AppendBool(nil, v)
	case int16:
		return strconv.AppendInt(nil, int64(v), 10)
	case int32:
		if _, char := t.Codec.(pgtype.QCharCodec); !char {
			return strconv.AppendInt(nil, int64(v), 10)
		}
	case int64:
		return strconv.AppendInt(nil, v, 10)
	case float32, float64, pgtype.Numeric:
		if text, _ := textOf(t, value); strings.Trim(text, "-0123456789.e+") == "" {
			return json.RawMessage(text)
		}
	case time.Time:
		return jsonString(timeText(t, v, "T", "+00:00"))
	}
	if text, ok := textOf(t, value); ok {
		return jsonString(text)
	}
	text, err := json.Marshal(value)
	if err != nil {
		return jsonString(fmt.Sprint(value))
	}
	return text
}

// textOf is the text of a value that pgx has decoded of a type, as PostgreSQL's output
// function writes it with the settings that it has by default. ok is false for what is of
// another type.
func textOf(t *pgtype.Type, value any) (text string, ok bool) {
	switch v := value.(type) {
	case string:
		return v, true
	case bool:
		return strconv.FormatBool(v), true
	case int16, int64, uint32, uint64:
		return fmt.Sprint(v), true
	case int32:
		if _, char := t.Codec.(pgtype.QCharCodec); char {
			return charText(v), true
		}
		return strconv.Itoa(int(v)), true
	case float32:
		return floatText(float64(v), 32), true
	case float64:
		return floatText(v, 64), true
	case pgtype.Numeric:
		text, err := v.Value()
		s, _ := text.(string)
		return s, err == nil
	case []byte:
		if _, bytes := t.Codec.(pgtype.ByteaCodec); bytes {
			return `\x` + hex.EncodeToString(v), true
		}
		return string(v), true
	case [16]byte:
		return pgtype.UUID{Bytes: v, Valid: true}.String(), true
	case time.Time:
		return timeText(t, v, " ", "+00"), true
	case pgtype.InfinityModifier:
		return v.String(), true
	case pgtype.Time:
		return clockText(v.Microseconds), true
	case pgtype.Interval:
		return intervalText(v), true
	case netip.Prefix:
		return prefixText(v, t.OID == pgtype.CIDROID), true
	case net.HardwareAddr:
		return v.String(), true
	case pgtype.Bits:
		return bitsText(v), true
	case pgtype.TID:
		return fmt.Sprintf("(%d,%d)", v.BlockNumber, v.OffsetNumber), true
	case pgtype.TSVector:
		return lexemesText(v), true
	case pgtype.Range[any]:
		return rangeText(t, v), true
	case pgtype.Multirange[pgtype.Range[any]]:
		return multirangeText(t, v), true
	}
	return shapeText(value)
}

func jsonString(s string) json.RawMessage {
	b := append(make([]byte, 0, len(s)+2), '"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b = append(b, '\\', byte(r))
		case r < ' ':
			b = fmt.Appendf(b, `\u%04x`, r)
		default:
			b = utf8.AppendRune(b, r)
		}
	}
	return append(b, '"')
}

// charText is the text of a "char", a byte.
func charText(v int32) string {
	switch {
	case v == 0:
		return ""
	case v < 0 || v > 127:
		return fmt.Sprintf(`\%03o`, byte(v))
	}
	return string(v)
}

func floatText(f float64, bits int) string {
	switch {
	case math.IsNaN(f):
		return "NaN"
	case math.IsInf(f, 1):
		return "Infinity"
	case math.IsInf(f, -1):
		return "-Infinity"
	}
	text := strconv.FormatFloat(f, 'e', -1, bits)
	exponent, _ := strconv.Atoi(text[strings.IndexByte(text, 'e')+1:])
	digits := 15
	if bits == 32 {
		digits = 6
	}
	if exponent < -4 || exponent >= digits {
		return text
	}
	return strconv.FormatFloat(f, 'f', -1, bits)
}

// timeText writes a date or a timestamp, with what goes before the time, and with the
// offset of UTC if the type has one.
func timeText(t *pgtype.Type, v time.Time, before, offset string) string {
	v = v.UTC()
	year, suffix := v.Year(), ""
	if year <= 0 {
		year, suffix = 1-year, " BC"
	}
	text := fmt.Sprintf("%04d-%02d-%02d", year, v.Month(), v.Day())
	if t.OID != pgtype.DateOID {
		text += before + clockText(int64(v.Hour())*3_600_000_000+int64(v.Minute())*60_000_000+int64(v.Second())*1_000_000+int64(v.Nanosecond()/1000))
	}
	if t.OID == pgtype.TimestamptzOID {
		text += offset
	}
	return text + suffix
}

// clockText writes microseconds as hours, minutes and seconds.
func clockText(micros int64) string {
	return fmt.Sprintf("%02d:%02d:", micros/3_600_000_000, micros/60_000_000%60) + secondsText(micros%60_000_000)
}

func secondsText(micros int64) string {
	text := fmt.Sprintf("%02d", micros/1_000_000)
	if micros %= 1_000_000; micros != 0 {
		text += "." + strings.TrimRight(fmt.Sprintf("%06d", micros), "0")
	}
	return text
}

// intervalText writes an interval in the IntervalStyle postgres.
func intervalText(v pgtype.Interval) string {
	switch {
	case v.Months == math.MaxInt32 && v.Days == math.MaxInt32 && v.Microseconds == math.MaxInt64:
		return "infinity"
	case v.Months == math.MinInt32 && v.Days == math.MinInt32 && v.Microseconds == math.MinInt64:
		return "-infinity"
	}
	var parts []string
	before := false // what came last is negative
	add := func(n int32, unit string) {
		if n == 0 {
			return
		}
		sign := ""
		if before && n > 0 {
			sign = "+"
		}
		if n != 1 {
			unit += "s"
		}
		parts = append(parts, fmt.Sprintf("%s%d %s", sign, n, unit))
		before = n < 0
	}
	add(v.Months/12, "year")
	add(v.Months%12, "mon")
	add(v.Days, "day")
	if micros := v.Microseconds; micros != 0 || len(parts) == 0 {
		sign, size := "", uint64(micros)
		switch {
		case micros < 0:
			sign, size = "-", -size
		case before:
			sign = "+"
		}
		parts = append(parts, sign+fmt.Sprintf("%02d:%02d:", size/3_600_000_000, size/60_000_000%60)+secondsText(int64(size%60_000_000)))
	}
	return strings.Join(parts, " ")
}

// prefixText writes an inet, which has a mask if it is not that of one address, or a cidr,
// which always has.
func prefixText(v netip.Prefix, cidr bool) string {
	text := v.Addr().String()
	// PostgreSQL writes the last four bytes of what is zero before them as of IPv4.
	if b := v.Addr().As16(); v.Addr().Is6() && [12]byte(b[:12]) == [12]byte{} && [2]byte(b[12:14]) != [2]byte{} {
		text = "::" + netip.AddrFrom4([4]byte(b[12:])).String()
	}
	if cidr || v.Bits() != v.Addr().BitLen() {
		text += "/" + strconv.Itoa(v.Bits())
	}
	return text
}

func bitsText(v pgtype.Bits) string {
	b := make([]byte, v.Len)
	for i := range b {
		b[i] = '0' + v.Bytes[i/8]>>(7-i%8)&1
	}
	return string(b)
}

// lexemesText writes a tsvector.
func lexemesText(v pgtype.TSVector) string {
	quote := strings.NewReplacer(`'`, `''`, `\`, `\\`)
	texts := make([]string, len(v.Lexemes))
	for i, l := range v.Lexemes {
		texts[i] = "'" + quote.Replace(l.Word) + "'"
		for j, p := range l.Positions {
			separator := ","
			if j == 0 {
				separator = ":"
			}
			texts[i] += separator + p.String()
		}
	}
	return strings.Join(texts, " ")
}

func rangeText(t *pgtype.Type, v pgtype.Range[any]) string {
	if v.LowerType == pgtype.Empty {
		return "empty"
	}
	elem := t
	if codec, ok := t.Codec.(*pgtype.RangeCodec); ok {
		elem = codec.ElementType
	}
	bound := func(v any) string {
		text, ok := textOf(elem, v)
		if !ok {
			text = fmt.Sprint(v)
		}
		if text == "" || strings.ContainsAny(text, "\"\\(),[] \t\n\r\v\f") {
			return `"` + strings.NewReplacer(`"`, `""`, `\`, `\\`).Replace(text) + `"`
		}
		return text
	}
	text := "("
	if v.LowerType == pgtype.Inclusive {
		text = "["
	}
	if v.LowerType != pgtype.Unbounded {
		text += bound(v.Lower)
	}
	text += ","
	if v.UpperType != pgtype.Unbounded {
		text += bound(v.Upper)
	}
	if v.UpperType == pgtype.Inclusive {
		return text + "]"
	}
	return text + ")"
}

func multirangeText(t *pgtype.Type, v pgtype.Multirange[pgtype.Range[any]]) string {
	if codec, ok := t.Codec.(*pgtype.MultirangeCodec); ok {
		t = codec.ElementType
	}
	texts := make([]string, len(v))
	for i, r := range v {
		texts[i] = rangeText(t, r)
	}
	return "{" + strings.Join(texts, ",") + "}"
}

// shapeText is the text of a geometric value.
func shapeText(value any) (text string, ok bool) {
	number := func(f float64) string { return floatText(f, 64) }
	point := func(p pgtype.Vec2) string { return "(" + number(p.X) + "," + number(p.Y) + ")" }
	points := func(all []pgtype.Vec2) string {
		texts := make([]string, len(all))
		for i, p := range all {
			texts[i] = point(p)
		}
		return strings.Join(texts, ",")
	}
	switch v := value.(type) {
	case pgtype.Point:
		return point(v.P), true
	case pgtype.Line:
		return "{" + number(v.A) + "," + number(v.B) + "," + number(v.C) + "}", true
	case pgtype.Lseg:
		return "[" + points(v.P[:]) + "]", true
	case pgtype.Box:
		return points(v.P[:]), true
	case pgtype.Path:
		if v.Closed {
			return "(" + points(v.P) + ")", true
		}
		return "[" + points(v.P) + "]", true
	case pgtype.Polygon:
		return "(" + points(v.P) + ")", true
	case pgtype.Circle:
		return "<" + point(v.P) + "," + number(v.R) + ">", true
	}
	return "", false
}
