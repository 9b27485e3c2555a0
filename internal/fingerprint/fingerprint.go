// Package fingerprint tells whether two inputs are the same, by a hash of their
// fields.
//
// Two values of one type have the same fingerprint if and only if they are equal in
// this sense:
//
//   - A struct counts by the names and the values of its fields, whatever their order
//     and their tags. A field that is zero is left out, so that a type may get another
//     field.
//   - A pointer counts by what it points to; nil is not a pointer to zero.
//   - A nil slice is not an empty one, and a nil map is not an empty one: PostgreSQL
//     gets NULL for the one and {} for the other.
//   - A time is an instant: its zone and its monotonic reading do not count.
//   - 0 and -0 are equal, and so are all NaN.
//   - A value in an interface counts by its type's name, too.
//   - A type with a method Fingerprint() string counts by what that returns, one with a
//     driver form (driver.Valuer) by that, and one that holds what cannot be seen
//     (unexported fields) by its text or its JSON form, in this order.
//   - JSON that is held as bytes (json.RawMessage and its like) counts by its meaning:
//     neither white space nor the order of keys does.
package fingerprint

import (
	"bytes"
	"crypto/sha256"
	"database/sql/driver"
	"encoding"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"
)

// A Plan is how the values of one type are read. It is safe for concurrent use.
type Plan struct {
	typ reflect.Type
	// encode appends v to w.b in a form of which no other value has, and none has the
	// beginning. It reports whether v is what a struct leaves out.
	encode   func(w *walk, v reflect.Value) (zero bool, err error)
	byFields bool    // it is a struct that counts by its fields
	fields   []field // which are these, by name
}

type field struct {
	name string
	at   int
	plan *Plan
}

// An Error is a value that has no fingerprint.
type Error struct {
	Path string // of the field, as in .Items[2].Qty; empty if it is the value as a whole
	Err  error
}

func (e *Error) Error() string { return e.Path + " " + e.Err.Error() }
func (e *Error) Unwrap() error { return e.Err }

// below puts a step before the path of err.
func below(step string, err error) error {
	e, ok := err.(*Error)
	if !ok {
		e = &Error{Err: err}
	}
	e.Path = step + e.Path
	return e
}

// A TypeError is a type that holds what cannot be compared: it names the field, and
// says what to do.
type TypeError string

func (e TypeError) Error() string { return string(e) }

func typeError(format string, args ...any) TypeError { return TypeError(fmt.Sprintf(format, args...)) }

// Compile makes the plan of a type. An error is a [TypeError].
func Compile(t reflect.Type) (*Plan, error) {
	c := compiler{}
	return c.plan(t, t.String())
}

// Sum returns the fingerprint of the value that pointer points to. An error is an *[Error].
func (p *Plan) Sum(pointer any) (sum [sha256.Size]byte, err error) {
	b, err := p.bytes(reflect.ValueOf(pointer).Elem())
	if err != nil {
		return sum, below("", err)
	}
	return sha256.Sum256(b), nil
}

func (p *Plan) bytes(v reflect.Value) ([]byte, error) {
	w := walk{b: make([]byte, 0, 256)}
	_, err := p.encode(&w, v)
	return w.b, err
}

// Difference returns where the values that the pointers point to differ, as a path
// like .Items[2].Qty.
func (p *Plan) Difference(a, b any) (path string, differ bool, err error) {
	return p.difference(reflect.ValueOf(a).Elem(), reflect.ValueOf(b).Elem())
}

func (p *Plan) difference(a, b reflect.Value) (path string, differ bool, err error) {
	one, err := p.bytes(a)
	if err != nil {
		return "", false, below("", err)
	}
	other, err := p.bytes(b)
	if err != nil {
		return "", false, below("", err)
	}
	if bytes.Equal(one, other) {
		return "", false, nil
	}
	return p.where(a, b), true, nil
}

// where is the path to the first difference of two values that differ.
func (p *Plan) where(a, b reflect.Value) string {
	inner := func(p *Plan, step string, a, b reflect.Value) string {
		if path, differ, err := p.difference(a, b); differ && err == nil {
			return step + path
		}
		return ""
	}
	for _, f := range p.fields {
		if path := inner(f.plan, "."+f.name, a.Field(f.at), b.Field(f.at)); path != "" {
			return path
		}
	}
	switch p.typ.Kind() {
	case reflect.Pointer:
		if elem, err := dynamic(p.typ.Elem()); err == nil && !a.IsNil() && !b.IsNil() {
			return inner(elem, "", a.Elem(), b.Elem())
		}
	case reflect.Slice, reflect.Array:
		if elem, err := dynamic(p.typ.Elem()); err == nil && a.Len() == b.Len() {
			for i := range a.Len() {
				if path := inner(elem, fmt.Sprintf("[%d]", i), a.Index(i), b.Index(i)); path != "" {
					return path
				}
			}
		}
	}
	return ""
}

// A walk is the encoding of one value.
type walk struct {
	b     []byte
	depth int
}

// maxDepth bounds what holds itself.
const maxDepth = 10_000

var errDeep = errors.New("holds itself, or is nested too deep")

func (w *walk) enter() error {
	if w.depth++; w.depth > maxDepth {
		return errDeep
	}
	return nil
}

func (w *walk) leave() { w.depth-- }

func (w *walk) tag(tag byte) { w.b = append(w.b, tag) }

func (w *walk) count(n int) { w.b = binary.BigEndian.AppendUint64(w.b, uint64(n)) }

func (w *walk) text(tag byte, s string) {
	w.tag(tag)
	w.count(len(s))
	w.b = append(w.b, s...)
}

func (w *walk) number(tag byte, n uint64) {
	w.tag(tag)
	w.b = binary.BigEndian.AppendUint64(w.b, n)
}

func (w *walk) float(f float64) {
	switch {
	case f != f:
		f = math.NaN()
	case f == 0:
		f = 0 // not -0
	}
	w.number('f', math.Float64bits(f))
}

// The first byte of every value. What follows is of a fixed length, or says its own.
const (
	tagNil, tagPointer, tagZero = 'n', 'p', 'z'
	tagFalse, tagTrue           = '0', '1'
	tagInt, tagUint             = 'i', 'u'
	tagTime, tagComplex         = 't', 'c'
	tagString, tagBytes         = 's', 'b'
	tagList, tagMap             = 'l', 'm'
	tagStruct, tagField, tagEnd = 'S', 'F', 'E'
	tagInterface, tagOwn        = 'I', 'o'
)

type fingerprinter interface{ Fingerprint() string }

var (
	timeType          = reflect.TypeFor[time.Time]()
	ipType            = reflect.TypeFor[net.IP]()
	fingerprinterType = reflect.TypeFor[fingerprinter]()
	valuerType        = reflect.TypeFor[driver.Valuer]()
	textMarshalerType = reflect.TypeFor[encoding.TextMarshaler]()
	jsonMarshalerType = reflect.TypeFor[json.Marshaler]()
)

// A compiler makes the plans of a type and of all that it holds.
type compiler map[reflect.Type]*Plan

func (c compiler) plan(t reflect.Type, path string) (*Plan, error) {
	if p := c[t]; p != nil {
		return p, nil
	}
	p := &Plan{typ: t}
	c[t] = p
	switch {
	case has(t, fingerprinterType):
		p.own(fingerprintOf)
	case t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.Uint8 && has(t, jsonMarshalerType):
		p.encode = encodeJSONBytes
	case has(t, valuerType):
		p.own(driverForm)
	case t.Kind() == reflect.Struct && t.ConvertibleTo(timeType):
		p.encode = encodeTime
	case t == ipType: // four bytes and sixteen can be the same address
		p.own(textForm)
	default:
		err := c.byState(p, path)
		switch {
		case err == nil:
		case has(t, textMarshalerType):
			p.own(textForm)
		case has(t, jsonMarshalerType):
			p.own(jsonForm)
		default:
			delete(c, t)
			return nil, err
		}
	}
	return p, nil
}

// has reports whether t, or a pointer to it, has the method of the interface i, and
// not from an embedded field: such a method knows nothing of the other fields.
func has(t, i reflect.Type) bool {
	if t.Kind() == reflect.Interface || t.Kind() == reflect.Pointer {
		return false // it is for what is in it
	}
	if !implements(t, i) {
		return false
	}
	if t.Kind() == reflect.Struct {
		for n := range t.NumField() {
			if f := t.Field(n); f.Anonymous && implements(f.Type, i) {
				return false
			}
		}
	}
	return true
}

func implements(t, i reflect.Type) bool { return t.Implements(i) || reflect.PointerTo(t).Implements(i) }

// byState makes p read what a value of its type holds.
func (c compiler) byState(p *Plan, path string) error {
	t := p.typ
	switch t.Kind() {
	case reflect.Bool:
		p.encode = func(w *walk, v reflect.Value) (bool, error) {
			if v.Bool() {
				w.tag(tagTrue)
				return false, nil
			}
			w.tag(tagFalse)
			return true, nil
		}
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		p.encode = func(w *walk, v reflect.Value) (bool, error) {
			w.number(tagInt, uint64(v.Int()))
			return v.Int() == 0, nil
		}
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.Uintptr:
		p.encode = func(w *walk, v reflect.Value) (bool, error) {
			tag := byte(tagInt) // as an int has it, so that a field may become one
			if v.Uint() > math.MaxInt64 {
				tag = tagUint
			}
			w.number(tag, v.Uint())
			return v.Uint() == 0, nil
		}
	case reflect.Float32, reflect.Float64:
		p.encode = func(w *walk, v reflect.Value) (bool, error) {
			w.float(v.Float())
			return v.Float() == 0, nil
		}
	case reflect.Complex64, reflect.Complex128:
		p.encode = func(w *walk, v reflect.Value) (bool, error) {
			w.tag(tagComplex)
			w.float(real(v.Complex()))
			w.float(imag(v.Complex()))
			return v.Complex() == 0, nil
		}
	case reflect.String:
		p.encode = func(w *walk, v reflect.Value) (bool, error) {
			w.text(tagString, v.String())
			return v.Len() == 0, nil
		}
	case reflect.Interface:
		p.encode = encodeInterface
	case reflect.Pointer:
		return c.pointer(p, path)
	case reflect.Slice, reflect.Array:
		return c.list(p, path)
	case reflect.Map:
		return c.mapping(p, path)
	case reflect.Struct:
		return c.structure(p, path)
	default: // a channel, a function, an unsafe.Pointer
		return typeError("%s is a %s, which has no value to compare: leave it out of the input", path, t.Kind())
	}
	return nil
}

func (c compiler) pointer(p *Plan, path string) error {
	elem, err := c.plan(p.typ.Elem(), path)
	if err != nil {
		return err
	}
	p.encode = func(w *walk, v reflect.Value) (bool, error) {
		if v.IsNil() {
			w.tag(tagNil)
			return true, nil
		}
		if err := w.enter(); err != nil {
			return false, err
		}
		defer w.leave()
		w.tag(tagPointer)
		_, err := elem.encode(w, v.Elem())
		return false, err
	}
	return nil
}

func (c compiler) list(p *Plan, path string) error {
	elem, err := c.plan(p.typ.Elem(), path+"[]")
	if err != nil {
		return err
	}
	slice := p.typ.Kind() == reflect.Slice
	if k := p.typ.Elem().Kind(); slice && k == reflect.Uint8 && !has(p.typ.Elem(), valuerType) && !has(p.typ.Elem(), fingerprinterType) {
		p.encode = func(w *walk, v reflect.Value) (bool, error) {
			if v.IsNil() {
				w.tag(tagNil)
				return true, nil
			}
			w.tag(tagBytes)
			w.count(v.Len())
			w.b = append(w.b, v.Bytes()...)
			return false, nil
		}
		return nil
	}
	p.encode = func(w *walk, v reflect.Value) (bool, error) {
		if slice && v.IsNil() {
			w.tag(tagNil)
			return true, nil
		}
		if err := w.enter(); err != nil {
			return false, err
		}
		defer w.leave()
		w.tag(tagList)
		w.count(v.Len())
		zero := !slice
		for i := range v.Len() {
			z, err := elem.encode(w, v.Index(i))
			if err != nil {
				return false, below(fmt.Sprintf("[%d]", i), err)
			}
			zero = zero && z
		}
		return zero, nil
	}
	return nil
}

func (c compiler) mapping(p *Plan, path string) error {
	key, err := c.plan(p.typ.Key(), path+" (its key)")
	if err != nil {
		return err
	}
	elem, err := c.plan(p.typ.Elem(), path+"[]")
	if err != nil {
		return err
	}
	p.encode = func(w *walk, v reflect.Value) (bool, error) {
		if v.IsNil() {
			w.tag(tagNil)
			return true, nil
		}
		if err := w.enter(); err != nil {
			return false, err
		}
		defer w.leave()
		entries := make([][]byte, 0, v.Len())
		for iter := v.MapRange(); iter.Next(); {
			entry := walk{depth: w.depth}
			_, err := key.encode(&entry, iter.Key())
			if err == nil {
				_, err = elem.encode(&entry, iter.Value())
			}
			if err != nil {
				return false, below("[]", err)
			}
			entries = append(entries, entry.b)
		}
		w.entries(entries)
		return false, nil
	}
	return nil
}

// entries appends what has no order.
func (w *walk) entries(entries [][]byte) {
	slices.SortFunc(entries, bytes.Compare)
	w.tag(tagMap)
	w.count(len(entries))
	for _, entry := range entries {
		w.b = append(w.b, entry...)
	}
}

func (c compiler) structure(p *Plan, path string) error {
	t := p.typ
	for i := range t.NumField() {
		sf := t.Field(i)
		inner := path + "." + sf.Name
		embedded := sf.Type
		if embedded.Kind() == reflect.Pointer {
			embedded = embedded.Elem()
		}
		switch {
		case sf.Type.Size() == 0 || sf.Name == "_": // it holds nothing that can be read
			continue
		case sf.IsExported():
		case !sf.Anonymous || embedded.Kind() != reflect.Struct:
			return typeError("%s is unexported: export it, or give %s a method Fingerprint() string", inner, t)
		}
		plan, err := c.plan(sf.Type, inner)
		if err != nil {
			return err
		}
		if !sf.IsExported() && !c[embedded].byFields {
			return typeError("%s is embedded and unexported, so that its own form cannot be asked for: export it, or give %s a method Fingerprint() string", inner, t)
		}
		p.fields = append(p.fields, field{sf.Name, i, plan})
	}
	slices.SortFunc(p.fields, func(a, b field) int { return strings.Compare(a.name, b.name) })
	p.byFields = true
	fields := p.fields
	p.encode = func(w *walk, v reflect.Value) (bool, error) {
		if err := w.enter(); err != nil {
			return false, err
		}
		defer w.leave()
		w.tag(tagStruct)
		zero := true
		for _, f := range fields {
			value := v.Field(f.at)
			if value.IsZero() {
				continue
			}
			before := len(w.b)
			w.text(tagField, f.name)
			z, err := f.plan.encode(w, value)
			if err != nil {
				return false, below("."+f.name, err)
			}
			if z {
				w.b = w.b[:before]
			}
			zero = zero && z
		}
		w.tag(tagEnd)
		return zero, nil
	}
	return nil
}

// encodeTime encodes what a time.Time, or a type made of it, says of the instant.
func encodeTime(w *walk, v reflect.Value) (bool, error) {
	t := v.Convert(timeType).Interface().(time.Time)
	w.number(tagTime, uint64(t.Unix()))
	w.b = binary.BigEndian.AppendUint32(w.b, uint32(t.Nanosecond()))
	return t.IsZero(), nil
}

// encodeInterface encodes a value and the name of its type.
func encodeInterface(w *walk, v reflect.Value) (bool, error) {
	if v.IsNil() {
		w.tag(tagNil)
		return true, nil
	}
	if err := w.enter(); err != nil {
		return false, err
	}
	defer w.leave()
	plan, err := dynamic(v.Elem().Type())
	if err != nil {
		return false, err
	}
	w.text(tagInterface, nameOf(v.Elem().Type()))
	_, err = plan.encode(w, v.Elem())
	return false, err
}

var plans sync.Map // reflect.Type -> *Plan or error

// dynamic is the plan of a type that a value turned out to have.
func dynamic(t reflect.Type) (*Plan, error) {
	known, ok := plans.Load(t)
	if !ok {
		p, err := Compile(t)
		if known = p; err != nil {
			known = err
		}
		plans.Store(t, known)
	}
	if err, failed := known.(error); failed {
		return nil, err
	}
	return known.(*Plan), nil
}

// nameOf names a type with the path of its package, which String leaves out.
func nameOf(t reflect.Type) string {
	if t.Name() != "" {
		return t.PkgPath() + "." + t.Name()
	}
	switch t.Kind() {
	case reflect.Pointer:
		return "*" + nameOf(t.Elem())
	case reflect.Slice:
		return "[]" + nameOf(t.Elem())
	case reflect.Array:
		return fmt.Sprintf("[%d]", t.Len()) + nameOf(t.Elem())
	case reflect.Map:
		return "map[" + nameOf(t.Key()) + "]" + nameOf(t.Elem())
	}
	return t.String()
}
