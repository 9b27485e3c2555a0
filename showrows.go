package pgcmd

import (
	"context"
	stdencoding "encoding"
	"encoding/json"
	"math"
	"reflect"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
)

// shownRows are the rows that are maps which a run has read, with the JSON of each value
// as its column's type has it: a map tells neither a date from a timestamp nor xml from
// bytea. They are kept during a run whose output goes out as JSON.
type shownRows struct {
	mu   sync.Mutex
	rows map[uintptr]*shownRow // by the address of the map
}

type shownRow struct {
	row    map[string]any // so that its address is not given to another
	names  []string
	values []any // what row had, in values of their own
	texts  []json.RawMessage
}

// mostShown is how many rows are kept, in a run that reads many and shows few.
const mostShown = 100_000

type shownRowsKey struct{}

// withShownRows returns a context in which rows that are maps are kept.
func withShownRows(ctx context.Context) (context.Context, *shownRows) {
	s := &shownRows{rows: map[uintptr]*shownRow{}}
	return context.WithValue(ctx, shownRowsKey{}, s), s
}

func shownRowsOf(ctx context.Context) *shownRows {
	s, _ := ctx.Value(shownRowsKey{}).(*shownRows)
	return s
}

// Add keeps a row that was just read.
func (s *shownRows) Add(row map[string]any, columns []pgconn.FieldDescription, values []any, raw [][]byte, types *pgtype.Map) {
	shown := &shownRow{row: row, names: make([]string, len(columns)), values: values, texts: make([]json.RawMessage, len(values))}
	for i, b := range raw {
		shown.names[i] = columns[i].Name
		shown.texts[i] = jsonOf(types, columns[i].DataTypeOID, columns[i].Format, b)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.rows) < mostShown {
		s.rows[reflect.ValueOf(row).Pointer()] = shown
	}
}

// A shower replaces what encoding/json would show by pgx's insides. It copies what it
// changes.
type rowShower struct {
	rows  *shownRows // nil if none were kept
	above map[visited]bool
}

// A visited is a pointer, a slice or a map that contains the value.
type visited struct {
	to  uintptr
	typ reflect.Type
	len int
}

func newShower(rows *shownRows) *rowShower { return &rowShower{rows, map[visited]bool{}} }

// show changes v, which must be settable.
func (s *rowShower) show(v reflect.Value, depth int) {
	t := v.Type()
	if depth > 256 || !mayHoldAny(t, nil) {
		return
	}
	switch reflect.Zero(t).Interface().(type) {
	case outcome:
	case AdHocResult:
		if s.rows == nil {
			s = &rowShower{v.Interface().(AdHocResult).shown, s.above}
		}
	case json.Marshaler, stdencoding.TextMarshaler:
		return
	}
	if k := t.Kind(); (k == reflect.Pointer || k == reflect.Slice || k == reflect.Map) && !v.IsNil() {
		r := visited{to: v.Pointer(), typ: t}
		if k == reflect.Slice {
			r.len = v.Len()
		}
		if s.above[r] { // it holds itself
			return
		}
		s.above[r] = true
		defer delete(s.above, r)
	}
	switch t.Kind() {
	case reflect.Interface:
		if !v.IsNil() && t.NumMethod() == 0 {
			if shown := s.value(v.Elem().Interface(), depth); shown != nil {
				v.Set(reflect.ValueOf(shown))
			}
		}
	case reflect.Pointer:
		if !v.IsNil() {
			copied := reflect.New(t.Elem())
			copied.Elem().Set(v.Elem())
			s.show(copied.Elem(), depth+1)
			v.Set(copied)
		}
	case reflect.Slice:
		if v.IsNil() {
			return
		}
		copied := reflect.MakeSlice(t, v.Len(), v.Len())
		reflect.Copy(copied, v)
		for i := range copied.Len() {
			s.show(copied.Index(i), depth+1)
		}
		v.Set(copied)
	case reflect.Array:
		for i := range v.Len() {
			s.show(v.Index(i), depth+1)
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
				s.show(elem, depth+1)
			}
			copied.SetMapIndex(iter.Key(), elem)
		}
		v.Set(copied)
	case reflect.Struct:
		for i := range v.NumField() {
			if f := v.Field(i); f.CanSet() {
				s.show(f, depth+1)
			}
		}
	}
}

// rowOf returns what is known of a map that is a row; nil if it is none.
func (s *rowShower) rowOf(v reflect.Value) *shownRow {
	if s.rows == nil || v.Type() != reflect.TypeFor[map[string]any]() {
		return nil
	}
	s.rows.mu.Lock()
	defer s.rows.mu.Unlock()
	return s.rows.rows[v.Pointer()]
}

// text is the JSON of a value of the row, unless that has been changed since.
func (r *shownRow) text(name, value reflect.Value) json.RawMessage {
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

// same reports whether two values are equal, NaN to itself included.
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

// value returns what is to be shown of a value of which only pgx's Go type is known, or
// nil, if that is the value itself.
func (s *rowShower) value(value any, depth int) any {
	switch v := value.(type) {
	case string, bool, int, int64, time.Time, []byte, json.RawMessage, json.Number, pgtype.Numeric:
		return nil
	case float32, float64, [16]byte, pgtype.InfinityModifier, pgtype.Time, pgtype.Interval, pgtype.Bits, pgtype.TID, pgtype.TSVector,
		pgtype.Range[any], pgtype.Multirange[pgtype.Range[any]], pgtype.Point, pgtype.Line, pgtype.Lseg, pgtype.Box, pgtype.Path,
		pgtype.Polygon, pgtype.Circle:
		return jsonOfValue(&pgtype.Type{}, v)
	}
	elem := reflect.ValueOf(value)
	if !mayHoldAny(elem.Type(), nil) {
		if text, ok := textOf(&pgtype.Type{}, value); ok && elem.Kind() == reflect.Slice {
			return jsonString(text) // a net.HardwareAddr
		}
		return nil
	}
	copied := reflect.New(elem.Type()).Elem()
	copied.Set(elem)
	s.show(copied, depth+1)
	return copied.Interface()
}

// mayHoldAny reports whether a value of type t can hold an interface, and so a value of
// any type.
func mayHoldAny(t reflect.Type, seen map[reflect.Type]bool) bool {
	if seen[t] {
		return false
	}
	if seen == nil {
		seen = map[reflect.Type]bool{}
	}
	seen[t] = true
	switch t.Kind() {
	case reflect.Interface:
		return true
	case reflect.Map, reflect.Pointer, reflect.Slice, reflect.Array:
		return mayHoldAny(t.Elem(), seen)
	case reflect.Struct:
		for i := range t.NumField() {
			if mayHoldAny(t.Field(i).Type, seen) {
				return true
			}
		}
	}
	return false
}
