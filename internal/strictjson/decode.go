// Package strictjson decodes JSON into Go values. It refuses what encoding/json accepts
// silently (unknown fields, duplicate fields, names in another case, null, numbers out of
// range) and reports all problems of an input, not only the first. It knows no commands and
// no validation.
package strictjson

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/big"
	"net"
	"net/netip"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/pgcmd/pgcmd/internal/jsonfields"
	"github.com/pgcmd/pgcmd/internal/problem"
)

// Decode decodes data into v and returns the problems of data, at most problem.Max+1.
// Empty data stands for {}. The error is the context's, if that ended first.
//
// It allocates a small multiple of len(data), and the memory of the values themselves.
func Decode(ctx context.Context, data []byte, v reflect.Value) ([]problem.Problem, error) {
	if len(data) == 0 {
		data = []byte("{}")
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if p := checkJSON(data); p != nil {
		return []problem.Problem{*p}, nil
	}
	d := &decoder{ctx: ctx, data: data, counts: countElements(data)}
	d.value(v, nil)
	return d.problems, d.ctxErr
}

// A decoder decodes well-formed JSON. No message holds anything of the input: no values, no
// keys of maps, no unknown names.
type decoder struct {
	ctx      context.Context
	data     []byte
	at       int      // the offset in data
	counts   []uint32 // the number of elements of each array, in the order of the text
	array    int      // the index of the next array in counts
	values   int      // read so far
	names    [][]byte // of the objects that skip is in
	problems []problem.Problem
	stopped  bool  // nothing more is read
	ctxErr   error // the context's error, if it stopped decoding
}

const maxDepth = 100 // of nested arrays and objects

func (d *decoder) problem(p *problem.Path, rule, format string, args ...any) {
	if d.stopped {
		return
	}
	d.problems = append(d.problems, problem.Problem{Field: p.String(), Rule: rule, Message: fmt.Sprintf(format, args...)})
	d.stopped = len(d.problems) > problem.Max
}

// mayContinue reports whether another value may be read. It checks the context every 1024
// values.
func (d *decoder) mayContinue() bool {
	if d.values++; d.values%1024 == 0 && !d.stopped {
		d.ctxErr = d.ctx.Err()
		d.stopped = d.ctxErr != nil
	}
	return !d.stopped
}

// next skips white space and returns the byte at which the next value starts.
func (d *decoder) next() byte {
	for d.data[d.at] <= ' ' {
		d.at++
	}
	return d.data[d.at]
}

// value decodes the next value into v, which is addressable and zero.
func (d *decoder) value(v reflect.Value, p *problem.Path) {
	t := v.Type()
	first := d.next()
	if t.Kind() == reflect.Pointer {
		if first == 'n' {
			d.skip(p)
			return
		}
		v.Set(reflect.New(t.Elem()))
		d.value(v.Elem(), p)
		return
	}
	form := formOf(t)
	if form.starts != "" && strings.IndexByte(form.starts, first) < 0 {
		d.skip(p)
		if first == 'n' {
			d.problem(p, "null", "must not be null: it %s", mustExpect(t))
		} else {
			d.problem(p, "type", "%s", mustExpect(t))
		}
		return
	}
	switch form.decoding {
	case byMethod:
		d.custom(v, p, first == 'n')
	case asNumber:
		v.SetString(string(d.skip(p)))
	case asBase64:
		d.bytes(v, p)
	default:
		d.kind(v, p)
	}
}

// custom decodes v by its own method. Most such methods ignore null. It is then refused,
// since it would be lost.
func (d *decoder) custom(v reflect.Value, p *problem.Path, null bool) {
	into := v.Addr().Interface()
	text := d.skip(p)
	switch {
	case d.stopped: // the text may be incomplete
		return
	case v.Kind() != reflect.Slice && farExponent(text):
		d.problem(p, "range", "has an exponent beyond %d: write out its digits", maxExponent)
		return
	case unmarshal(text, into) != nil:
		d.problem(p, "type", "%s", mustExpect(v.Type()))
		return
	}
	if null {
		if text, err := json.Marshal(into); err != nil || string(text) != "null" {
			d.problem(p, "null", "must not be null: it %s", mustExpect(v.Type()))
		}
	}
}

// unmarshal is json.Unmarshal of well-formed JSON.
func unmarshal(text []byte, into any) error {
	if own, ok := into.(json.Unmarshaler); ok && text[0] != 'n' {
		return own.UnmarshalJSON(text)
	}
	return json.Unmarshal(text, into)
}

// kind decodes v by the kind of its type.
func (d *decoder) kind(v reflect.Value, p *problem.Path) {
	switch k := v.Kind(); k {
	case reflect.Bool:
		v.SetBool(d.skip(p)[0] == 't')
	case reflect.String:
		v.SetString(d.text())
	case reflect.Struct:
		d.fields(v, p)
	case reflect.Map:
		d.entries(v, p)
	case reflect.Slice:
		d.slice(v, p)
	case reflect.Array:
		at := &problem.Path{Outer: p}
		n := d.elements(func(i, _ int) {
			if at.Index = i; i < v.Len() {
				d.value(v.Index(i), at)
			} else {
				d.skip(p)
			}
		})
		if n != v.Len() {
			d.problem(p, "len", "must have exactly %d elements", v.Len())
		}
	case reflect.Interface:
		if value := reflect.ValueOf(d.anything(p)); value.IsValid() {
			v.Set(value)
		}
	default:
		d.number(v, string(d.skip(p)), p)
	}
}

// A form is what the JSON of a type looks like.
type form struct {
	decoding decoding
	starts   string // the bytes with which it may start; empty: any
	must     string // the beginning of the message about it
}

type decoding int

const (
	byKind decoding = iota
	byMethod
	asNumber // a json.Number
	asBase64
)

var forms sync.Map // reflect.Type -> form

func formOf(t reflect.Type) form {
	if known, ok := forms.Load(t); ok {
		return known.(form)
	}
	f := newForm(t)
	forms.Store(t, f)
	return f
}

func newForm(t reflect.Type) form {
	const digits = "-0123456789"
	switch k := t.Kind(); {
	case t == reflect.TypeFor[time.Time]():
		return form{byMethod, `"`, `must be a date and time as in "2006-01-02T15:04:05Z"`}
	case pgForms[t].Must != "":
		return form{byMethod, pgForms[t].starts(), pgForms[t].Must}
	case jsonfields.Implements(t, jsonfields.Unmarshaler):
		return form{byMethod, "", jsonForm(t)}
	case jsonfields.Implements(t, jsonfields.TextUnmarshaler):
		return form{byMethod, `"`, textForm(t)}
	case t == reflect.TypeFor[json.Number]():
		return form{asNumber, digits, "must be a number"}
	case k == reflect.Float32, k == reflect.Float64:
		return form{byKind, digits, "must be a number"}
	case jsonfields.IsBase64(t):
		return form{asBase64, `"`, "must be a string in base64"}
	case k == reflect.Bool:
		return form{byKind, "tf", "must be true or false"}
	case k == reflect.String:
		return form{byKind, `"`, "must be a string"}
	case k == reflect.Struct, k == reflect.Map:
		return form{byKind, "{", "must be an object"}
	case k == reflect.Slice, k == reflect.Array:
		return form{byKind, "[", "must be an array"}
	case k == reflect.Interface:
		return form{}
	}
	return form{byKind, digits, "must be an integer"}
}

// mustExpect returns the message about JSON that is no t.
func mustExpect(t reflect.Type) string {
	must := formOf(t).must
	if must == "must be an integer" && t.Kind() != reflect.Struct { // a big.Int has no bounds
		low, high := IntegerBounds(t)
		must += " from " + low + " to " + high
	}
	return must
}

// jsonForm says what a type with an UnmarshalJSON method takes.
func jsonForm(t reflect.Type) string {
	if t == reflect.TypeFor[big.Int]() {
		return "must be an integer"
	}
	return "must have the JSON form of the type " + t.String()
}

// textForm says what a type with an UnmarshalText method takes.
func textForm(t reflect.Type) string {
	switch {
	case t.Name() == "UUID": // of whichever package
		return `must be a UUID, such as "6ba7b810-9dad-41d1-80b4-00c04fd430c8"`
	case t == reflect.TypeFor[netip.Addr](), t == reflect.TypeFor[net.IP]():
		return `must be an IP address, such as "192.0.2.1"`
	case t == reflect.TypeFor[netip.Prefix]():
		return `must be a network, such as "192.0.2.0/24"`
	case t == reflect.TypeFor[netip.AddrPort]():
		return `must be an IP address and a port, such as "192.0.2.1:5432"`
	}
	return "must be a string in the form of the type " + t.String()
}

// bytes decodes base64 into v.
func (d *decoder) bytes(v reflect.Value, p *problem.Path) {
	text := d.text()
	b, err := base64.StdEncoding.Strict().DecodeString(text)
	if err != nil || strings.ContainsAny(text, "\r\n") {
		d.problem(p, "base64", "must be a string in base64")
		return
	}
	v.Set(reflect.ValueOf(b).Convert(v.Type()))
}

// slice decodes an array into a slice.
func (d *decoder) slice(v reflect.Value, p *problem.Path) {
	v.Set(reflect.MakeSlice(v.Type(), 0, 0))
	at, size := &problem.Path{Outer: p}, int(v.Type().Elem().Size())
	d.elements(func(i, count int) {
		if i == v.Cap() {
			v.Grow(capacity(i, count, size) - i)
		}
		v.SetLen(i + 1)
		v.Index(i).SetZero()
		at.Index = i
		d.value(v.Index(i), at)
	})
}

// capacity returns the new capacity of a slice that is full with n of count elements. At
// first that is at most 64 KiB, so that large elements of short texts cost little if they
// are refused.
func capacity(n, count, size int) int {
	if n > 0 {
		return count
	}
	return min(count, max(64<<10/max(size, 1), 1))
}

// fields decodes an object into a struct.
func (d *decoder) fields(v reflect.Value, p *problem.Path) {
	fields := jsonfields.Of(v.Type())
	var few [32]bool
	seen := few[:]
	if len(fields) > len(few) {
		seen = make([]bool, len(fields))
	}
	here := &problem.Path{Outer: p}
	d.object(func(i int, raw []byte) {
		at := fieldNamed(fields, raw)
		if at < 0 {
			d.skip(p)
			d.unknown(i, nameOf(raw), fields, p)
			return
		}
		f := &fields[at]
		here.Name = f.Name
		switch {
		case seen[at]:
			d.skip(p)
			d.problem(here, "duplicate", "is given twice: give it once")
		case f.Quoted:
			d.quoted(fieldByIndex(v, f.Index), here)
		default:
			d.value(fieldByIndex(v, f.Index), here)
		}
		seen[at] = true
	})
}

// fieldNamed returns the index of the field that raw, a JSON string, names, or -1.
func fieldNamed(fields []jsonfields.Field, raw []byte) int {
	name := raw[1 : len(raw)-1]
	if bytes.IndexByte(name, '\\') >= 0 {
		name = []byte(nameOf(raw))
	}
	for i := range fields {
		if fields[i].Name == string(name) {
			return i
		}
	}
	return -1
}

// fieldByIndex returns the field of v at index. It allocates embedded pointers that are nil.
func fieldByIndex(v reflect.Value, index []int) reflect.Value {
	for _, i := range index {
		if v.Kind() == reflect.Pointer {
			if v.IsNil() {
				v.Set(reflect.New(v.Type().Elem()))
			}
			v = v.Elem()
		}
		v = v.Field(i)
	}
	return v
}

// unknown reports a name that no field has. The name may be anything, so it is shown only
// if it is similar to that of a field.
func (d *decoder) unknown(i int, name string, fields []jsonfields.Field, p *problem.Path) {
	if d.stopped {
		return
	}
	names := make([]string, len(fields))
	for i, f := range fields {
		names[i] = f.Name
	}
	at := &problem.Path{Outer: p, Name: "[unknown]"}
	switch near := Suggest(name, names); {
	case near != "":
		at.Name = name
		d.problem(at, "unknown", "is not a field: did you mean %s?", near)
	case len(names) == 0:
		d.problem(at, "unknown", "is not a field: the object has none")
	default:
		d.problem(at, "unknown", "is not a field: name %d of the object must be one of %s", i+1, List(names))
	}
}

// List joins names for a message, and says how many it leaves out.
func List(names []string) string {
	const most = 20
	list := strings.Join(names[:min(len(names), most)], ", ")
	if more := len(names) - most; more > 0 {
		list += fmt.Sprintf(", and %d more", more)
	}
	return list
}

// quoted decodes a number, a bool or a text that is inside a text.
func (d *decoder) quoted(v reflect.Value, p *problem.Path) {
	if d.next() == 'n' && v.Kind() == reflect.Pointer {
		d.skip(p)
		return
	}
	if d.next() != '"' {
		d.skip(p)
		d.problem(p, "type", "must be a string that holds the value")
		return
	}
	inner := &decoder{ctx: d.ctx, data: []byte(d.text())}
	if checkJSON(inner.data) != nil || strings.IndexByte(`[{n`, inner.next()) >= 0 {
		d.problem(p, "type", "must be a string that holds the value")
		return
	}
	inner.value(v, p)
	for _, found := range inner.problems { // at most one
		d.problem(p, found.Rule, "%s", found.Message)
	}
}

// entries decodes an object into a map.
func (d *decoder) entries(v reflect.Value, p *problem.Path) {
	t := v.Type()
	v.Set(reflect.MakeMap(t))
	at := &problem.Path{Outer: p, Name: "[key]"}
	key, elem := reflect.New(t.Key()).Elem(), reflect.New(t.Elem()).Elem() // the map copies them
	d.object(func(_ int, raw []byte) {
		key.SetZero()
		elem.SetZero()
		switch {
		case !mapKeyOf(key, nameOf(raw)):
			d.skip(at)
			d.problem(at, "type", "cannot be read as %s, the type of the keys", t.Key())
			return
		case v.MapIndex(key).IsValid():
			d.skip(at)
			d.problem(at, "duplicate", "is given twice: give it once")
			return
		}
		d.value(elem, at)
		v.SetMapIndex(key, elem)
	})
}

// mapKeyOf sets key to the value that name stands for. A number that encoding/json would
// write differently is refused: it would be returned in another form.
func mapKeyOf(key reflect.Value, name string) bool {
	t := key.Type()
	switch {
	case jsonfields.Implements(t, jsonfields.TextUnmarshaler):
		text, err := json.Marshal(name)
		return err == nil && json.Unmarshal(text, key.Addr().Interface()) == nil
	case t.Kind() == reflect.String:
		key.SetString(name)
		return true
	case key.CanInt():
		n, err := strconv.ParseInt(name, 10, t.Bits())
		key.SetInt(n)
		return err == nil && strconv.FormatInt(n, 10) == name
	}
	n, err := strconv.ParseUint(name, 10, t.Bits())
	key.SetUint(n)
	return err == nil && strconv.FormatUint(n, 10) == name
}

// anything decodes a value for an interface. A number is an int64 if it fits, else a
// float64 if that is the same number, else a json.Number.
func (d *decoder) anything(p *problem.Path) any {
	switch d.next() {
	case 'n':
		d.skip(p)
		return nil
	case 't', 'f':
		return d.skip(p)[0] == 't'
	case '"':
		return d.text()
	case '[':
		list, at := []any{}, &problem.Path{Outer: p}
		d.elements(func(i, count int) {
			if i == cap(list) {
				list = slices.Grow(list, capacity(i, count, 16)-i)
			}
			at.Index = i
			list = append(list, d.anything(at))
		})
		return list
	case '{':
		object := map[string]any{}
		at := &problem.Path{Outer: p, Name: "[key]"}
		d.object(func(_ int, raw []byte) {
			name := nameOf(raw)
			if _, again := object[name]; again {
				d.problem(at, "duplicate", "is given twice: give it once")
			}
			object[name] = d.anything(at)
		})
		return object
	}
	literal := string(d.skip(p))
	if n, err := strconv.ParseInt(literal, 10, 64); err == nil && literal != "-0" {
		return n
	}
	f, err := strconv.ParseFloat(literal, 64)
	if err != nil {
		d.problem(p, "range", "is out of the range of a float64")
	}
	// A float64 holds any 15 digits exactly.
	if len(strings.Trim(strings.Replace(mantissa(literal), ".", "", 1), "-0")) <= 15 && (f != 0 || !strings.ContainsAny(mantissa(literal), "123456789")) {
		return f
	}
	return json.Number(literal)
}
