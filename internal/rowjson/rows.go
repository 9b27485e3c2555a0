package rowjson

import (
	"context"
	"encoding"
	"encoding/json"
	"math"
	"reflect"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/pgcmd/pgcmd/internal/structfields"
)

// Rows are the rows that a run has read into maps, with the JSON of each value by its
// column's type: the Go value alone tells neither a date from a timestamp nor xml from bytea.
// Rows are recorded in a run whose output is written as JSON.
type Rows struct {
	mu   sync.Mutex
	rows map[uintptr]*recordedRow // by the address of the map
}

type recordedRow struct {
	row    map[string]any // keeps its address from being used again
	names  []string
	values []any // a copy of the values in row
	texts  []json.RawMessage
}

// maxRecorded is how many rows are recorded, since a run may read many and return few.
const maxRecorded = 100_000

type recordKey struct{}

// Record returns a context in which rows that are maps are recorded.
func Record(ctx context.Context) (context.Context, *Rows) {
	s := &Rows{rows: map[uintptr]*recordedRow{}}
	return context.WithValue(ctx, recordKey{}, s), s
}

// Recorded returns the rows of a context of Record, nil of any other.
func Recorded(ctx context.Context) *Rows {
	s, _ := ctx.Value(recordKey{}).(*Rows)
	return s
}

// Add records a row that was just read.
func (s *Rows) Add(row map[string]any, columns []pgconn.FieldDescription, values []any, raw [][]byte, types *pgtype.Map) {
	recorded := &recordedRow{row: row, names: make([]string, len(columns)), values: values, texts: make([]json.RawMessage, len(values))}
	for i, b := range raw {
		recorded.names[i] = columns[i].Name
		recorded.texts[i] = jsonOf(types, columns[i].DataTypeOID, columns[i].Format, b)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.rows) < maxRecorded {
		s.rows[reflect.ValueOf(row).Pointer()] = recorded
	}
}

// HasFields reports whether encoding/json writes the fields of v, although its type has a
// MarshalJSON method. rows are the rows that v itself has recorded.
type HasFields func(v reflect.Value) (rows *Rows, ok bool)

// Convert replaces values in v, which must be settable, of which encoding/json would
// write the fields of a pgx type: by their recorded JSON, or by the text of the value. It
// copies what v refers to before it changes it. rows may be nil.
func Convert(v reflect.Value, rows *Rows, fields HasFields) {
	c := &rowConverter{rows, fields, map[reference]bool{}}
	c.convert(v, 0)
}

type rowConverter struct {
	rows      *Rows // nil if none were recorded
	hasFields HasFields
	ancestors map[reference]bool // the pointers, slices and maps that contain the value
}

// A reference identifies a pointer, a slice or a map.
type reference struct {
	to  uintptr
	typ reflect.Type
	len int
}

// convert converts v, which is at a depth in the value.
func (s *rowConverter) convert(v reflect.Value, depth int) {
	t := v.Type()
	if depth > 256 || !MayHoldAny(t) {
		return
	}
	if rows, ok := s.hasFields(v); !ok {
		switch reflect.Zero(t).Interface().(type) {
		case json.Marshaler, encoding.TextMarshaler:
			return
		}
	} else if s.rows == nil {
		s = &rowConverter{rows, s.hasFields, s.ancestors}
	}
	if k := t.Kind(); (k == reflect.Pointer || k == reflect.Slice || k == reflect.Map) && !v.IsNil() {
		r := reference{to: v.Pointer(), typ: t}
		if k == reflect.Slice {
			r.len = v.Len()
		}
		if s.ancestors[r] { // it contains itself
			return
		}
		s.ancestors[r] = true
		defer delete(s.ancestors, r)
	}
	switch t.Kind() {
	case reflect.Interface:
		if !v.IsNil() && t.NumMethod() == 0 {
			if replacement := s.value(v.Elem().Interface(), depth); replacement != nil {
				v.Set(reflect.ValueOf(replacement))
			}
		}
	case reflect.Pointer:
		if !v.IsNil() {
			copied := reflect.New(t.Elem())
			copied.Elem().Set(v.Elem())
			s.convert(copied.Elem(), depth+1)
			v.Set(copied)
		}
	case reflect.Slice:
		if v.IsNil() {
			return
		}
		copied := reflect.MakeSlice(t, v.Len(), v.Len())
		reflect.Copy(copied, v)
		for i := range copied.Len() {
			s.convert(copied.Index(i), depth+1)
		}
		v.Set(copied)
	case reflect.Array:
		for i := range v.Len() {
			s.convert(v.Index(i), depth+1)
		}
	case reflect.Map:
		if v.IsNil() {
			return
		}
		copied := reflect.MakeMapWithSize(t, v.Len())
		row := s.rowOf(v)
		for iter := v.MapRange(); iter.Next(); {
			elem := reflect.New(t.Elem()).Elem()
			elem.Set(iter.Value())
			if text := row.text(iter.Key(), elem); text != nil {
				elem.Set(reflect.ValueOf(text))
			} else {
				s.convert(elem, depth+1)
			}
			copied.SetMapIndex(iter.Key(), elem)
		}
		v.Set(copied)
	case reflect.Struct:
		for i := range v.NumField() {
			if f := v.Field(i); f.CanSet() {
				s.convert(f, depth+1)
			}
		}
	}
}

// rowOf returns the record of a map, nil if there is none.
func (s *rowConverter) rowOf(v reflect.Value) *recordedRow {
	if s.rows == nil || v.Type() != reflect.TypeFor[map[string]any]() {
		return nil
	}
	s.rows.mu.Lock()
	defer s.rows.mu.Unlock()
	return s.rows.rows[v.Pointer()]
}

// text returns the JSON of a value of the row, nil if it has been changed since.
func (r *recordedRow) text(name, value reflect.Value) json.RawMessage {
	if r == nil {
		return nil
	}
	for i := range r.names {
		if r.names[i] == name.String() && same(r.values[i], value.Interface()) {
			return r.texts[i]
		}
	}
	return nil
}

// same reports whether two values are equal. NaN is equal to NaN.
func same(a, b any) bool {
	switch x := a.(type) {
	case float64:
		y, ok := b.(float64)
		return ok && (x == y || math.IsNaN(x) && math.IsNaN(y))
	case float32:
		y, ok := b.(float32)
		return ok && (x == y || x != x && y != y)
	}
	return reflect.DeepEqual(a, b)
}

// value returns the replacement of a value of which only pgx's Go type is known, nil if it
// stays as it is.
func (s *rowConverter) value(value any, depth int) any {
	switch v := value.(type) {
	case string, bool, int, int64, time.Time, []byte, json.RawMessage, json.Number, pgtype.Numeric:
		return nil
	case float32, float64, [16]byte, pgtype.InfinityModifier, pgtype.Time, pgtype.Interval, pgtype.Bits, pgtype.TID, pgtype.TSVector,
		pgtype.Range[any], pgtype.Multirange[pgtype.Range[any]], pgtype.Point, pgtype.Line, pgtype.Lseg, pgtype.Box, pgtype.Path,
		pgtype.Polygon, pgtype.Circle:
		return jsonOfValue(&pgtype.Type{}, v)
	}
	elem := reflect.ValueOf(value)
	if !MayHoldAny(elem.Type()) {
		if text, ok := textOf(&pgtype.Type{}, value); ok && elem.Kind() == reflect.Slice {
			return jsonString(text) // a net.HardwareAddr
		}
		return nil
	}
	copied := reflect.New(elem.Type()).Elem()
	copied.Set(elem)
	s.convert(copied, depth+1)
	return copied.Interface()
}

// MayHoldAny reports whether a value of type t can hold an interface, and so a value of any
// type.
func MayHoldAny(t reflect.Type) bool {
	return structfields.Contains(t, func(t reflect.Type) bool { return t.Kind() == reflect.Interface })
}
