package pgcmd

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pgcmd/pgcmd/internal/jsonfields"
)

// A decoder reads JSON that is known to be well formed into Go values, strictly:
// encoding/json would ignore a field that it does not know, take the last of two of
// one name, match names whatever their case, leave null without effect, and stop at
// the first mistake.
//
// No message holds anything of the input: not its values, not the keys of its maps,
// not the names that are not known.
type decoder struct {
	ctx      context.Context
	data     []byte
	at       int
	counts   []uint32 // of the elements of each array, in the order of the text
	array    int      // the next of counts
	values   int      // read so far
	names    [][]byte // of the objects that skip is within
	problems []Problem
	stopped  bool  // nothing more is to be read
	ended    error // the context's, if that is why
}

const (
	maxDepth    = 100 // of arrays and objects within each other
	maxProblems = 50  // that are collected; reading ends with the next one
)

// decodeJSON reads data, of which nothing stands for {}, into v, and returns what
// is wrong with it, up to one problem more than maxProblems. The error is that of a
// context that ended before the data did.
//
// It allocates a small multiple of the data, and what the values themselves take.
func decodeJSON(ctx context.Context, data []byte, v reflect.Value) ([]Problem, error) {
	if len(data) == 0 {
		data = []byte("{}")
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if problem := checkJSON(data); problem != nil {
		return []Problem{*problem}, nil
	}
	d := &decoder{ctx: ctx, data: data, counts: countElements(data)}
	d.value(v, nil)
	return d.problems, d.ended
}

// A place is the way to a value, from the inside out.
type jsonPath struct {
	outer *jsonPath
	name  string
	index int // if name is empty
}

func (p *jsonPath) String() string { return string(p.append(nil)) }

func (p *jsonPath) append(b []byte) []byte {
	if p == nil {
		return b
	}
	b = p.outer.append(b)
	if p.name == "" {
		b = strconv.AppendInt(append(b, '['), int64(p.index), 10)
		return append(b, ']')
	}
	if len(b) > 0 && p.name[0] != '[' {
		b = append(b, '.')
	}
	return append(b, p.name...)
}

func (d *decoder) problem(p *jsonPath, rule, format string, args ...any) {
	if d.stopped {
		return
	}
	d.problems = append(d.problems, Problem{Field: p.String(), Rule: rule, Message: fmt.Sprintf(format, args...)})
	d.stopped = len(d.problems) > maxProblems
}

// goesOn reports whether another value is to be read. It looks at the context at times.
func (d *decoder) goesOn() bool {
	if d.values++; d.values%1024 == 0 && !d.stopped {
		d.ended = d.ctx.Err()
		d.stopped = d.ended != nil
	}
	return !d.stopped
}

// next is the first byte of the value to come.
func (d *decoder) next() byte {
	for d.data[d.at] <= ' ' {
		d.at++
	}
	return d.data[d.at]
}

// value reads the next value into v, which is addressable and zero.
func (d *decoder) value(v reflect.Value, p *jsonPath) {
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
	custom := jsonfields.Implements(t, jsonfields.Unmarshaler) && t != reflect.TypeFor[time.Time]()
	if starts := expected(t).starts; !custom && starts != "" && strings.IndexByte(starts, first) < 0 {
		d.skip(p)
		if first == 'n' {
			d.problem(p, "null", "must not be null: it %s", mustExpect(t))
		} else {
			d.problem(p, "type", "%s", mustExpect(t))
		}
		return
	}
	switch {
	case jsonfields.Implements(t, jsonfields.Unmarshaler) || jsonfields.Implements(t, jsonfields.TextUnmarshaler):
		d.custom(v, p, first == 'n')
	case t == reflect.TypeFor[json.Number]():
		v.SetString(string(d.skip(p)))
	case jsonfields.IsBase64(t):
		d.bytes(v, p)
	default:
		d.kind(v, p)
	}
}

// custom leaves v to its own method. Most that are given null do nothing, and so
// lose it: then it is refused.
func (d *decoder) custom(v reflect.Value, p *jsonPath, null bool) {
	into := v.Addr().Interface()
	text := d.skip(p)
	switch {
	case d.stopped: // the text may be cut
		return
	case v.Kind() != reflect.Slice && farExponent(text):
		d.problem(p, "range", "has an exponent beyond %d: write its digits", maxExponent)
		return
	case json.Unmarshal(text, into) != nil:
		d.problem(p, "type", "%s", mustExpect(v.Type()))
		return
	}
	if null {
		if text, err := json.Marshal(into); err != nil || string(text) != "null" {
			d.problem(p, "null", "must not be null: it %s", mustExpect(v.Type()))
		}
	}
}

func (d *decoder) kind(v reflect.Value, p *jsonPath) {
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
		at := &jsonPath{outer: p}
		n := d.elements(func(i, _ int) {
			if at.index = i; i < v.Len() {
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

// A want is what a type takes: how the value may start, and the beginning of what
// mustBe says.
type expectation struct{ starts, must string }

func expected(t reflect.Type) expectation {
	const digits = "-0123456789"
	switch k := t.Kind(); {
	case t == reflect.TypeFor[time.Time]():
		return expectation{`"`, `must be a date and time as in "2006-01-02T15:04:05Z"`}
	case jsonfields.Implements(t, jsonfields.Unmarshaler):
		return expectation{"", "must have the JSON form of a "}
	case jsonfields.Implements(t, jsonfields.TextUnmarshaler):
		return expectation{`"`, "must be the text of a "}
	case t == reflect.TypeFor[json.Number](), k == reflect.Float32, k == reflect.Float64:
		return expectation{digits, "must be a number"}
	case jsonfields.IsBase64(t):
		return expectation{`"`, "must be a text in base64"}
	case k == reflect.Bool:
		return expectation{"tf", "must be true or false"}
	case k == reflect.String:
		return expectation{`"`, "must be a text"}
	case k == reflect.Struct, k == reflect.Map:
		return expectation{"{", "must be an object"}
	case k == reflect.Slice, k == reflect.Array:
		return expectation{"[", "must be an array"}
	case k == reflect.Interface:
		return expectation{}
	}
	return expectation{digits, "must be an integer"}
}

// mustExpect says what a t takes.
func mustExpect(t reflect.Type) string {
	must := expected(t).must
	switch {
	case strings.HasSuffix(must, " "):
		must += t.String()
	case must == "must be an integer":
		low, high := bounds(t)
		must += " from " + low + " to " + high
	}
	return must
}

// bytes sets v to the bytes that a text in base64 stands for.
func (d *decoder) bytes(v reflect.Value, p *jsonPath) {
	text := d.text()
	b, err := base64.StdEncoding.Strict().DecodeString(text)
	if err != nil || strings.ContainsAny(text, "\r\n") {
		d.problem(p, "base64", "must be a text in base64")
		return
	}
	v.Set(reflect.ValueOf(b).Convert(v.Type()))
}

// slice reads an array into a slice.
func (d *decoder) slice(v reflect.Value, p *jsonPath) {
	v.Set(reflect.MakeSlice(v.Type(), 0, 0))
	at, size := &jsonPath{outer: p}, int(v.Type().Elem().Size())
	d.elements(func(i, count int) {
		if i == v.Cap() {
			v.Grow(room(i, count, size) - i)
		}
		v.SetLen(i + 1)
		v.Index(i).SetZero()
		at.index = i
		d.value(v.Index(i), at)
	})
}

// room is the capacity of a slice that is full with n of count elements: at first what
// fits into 64 KiB, so that large elements of small text cost little if they are refused.
func room(n, count, size int) int {
	if n > 0 {
		return count
	}
	return min(count, max(64<<10/max(size, 1), 1))
}

// fields reads an object into a struct.
func (d *decoder) fields(v reflect.Value, p *jsonPath) {
	fields := jsonfields.Of(v.Type())
	var few [32]bool
	seen := few[:]
	if len(fields) > len(few) {
		seen = make([]bool, len(fields))
	}
	here := &jsonPath{outer: p}
	d.object(func(i int, raw []byte) {
		name := nameOf(raw)
		at := slices.IndexFunc(fields, func(f jsonfields.Field) bool { return f.Name == name })
		if at < 0 {
			d.skip(p)
			d.unknown(i, name, fields, p)
			return
		}
		f := &fields[at]
		here.name = f.Name
		switch {
		case seen[at]:
			d.skip(p)
			d.problem(here, "duplicate", "comes twice")
		case f.Quoted:
			d.quoted(within(v, f.Index), here)
		default:
			d.value(within(v, f.Index), here)
		}
		seen[at] = true
	})
}

// within is the field of v at index, behind embedded pointers that are made.
func within(v reflect.Value, index []int) reflect.Value {
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

// unknown reports a name that no field has. It may be anything, so that only a
// known name that it is near is shown.
func (d *decoder) unknown(i int, name string, fields []jsonfields.Field, p *jsonPath) {
	if d.stopped {
		return
	}
	names := make([]string, len(fields))
	for i, f := range fields {
		names[i] = f.Name
	}
	at := &jsonPath{outer: p, name: "[unknown]"}
	switch near := nearest(name, names); {
	case near != "":
		at.name = name
		d.problem(at, "unknown", "is not a field: did you mean %s?", near)
	case len(names) == 0:
		d.problem(at, "unknown", "is not a field: there are none")
	default:
		d.problem(at, "unknown", "is not a field, number %d of the object (known: %s)", i+1, firstNames(names))
	}
}

// firstNames lists names, and says how many it leaves out.
func firstNames(names []string) string {
	const most = 20
	list := strings.Join(names[:min(len(names), most)], ", ")
	if more := len(names) - most; more > 0 {
		list += fmt.Sprintf(", and %d more", more)
	}
	return list
}

// quoted reads a number, a bool or a text that is within a text.
func (d *decoder) quoted(v reflect.Value, p *jsonPath) {
	if d.next() == 'n' && v.Kind() == reflect.Pointer {
		d.skip(p)
		return
	}
	if d.next() != '"' {
		d.skip(p)
		d.problem(p, "type", "must be a text that holds the value")
		return
	}
	inner := &decoder{ctx: d.ctx, data: []byte(d.text())}
	if checkJSON(inner.data) != nil || strings.IndexByte(`[{n`, inner.next()) >= 0 {
		d.problem(p, "type", "must be a text that holds the value")
		return
	}
	inner.value(v, p)
	for _, problem := range inner.problems { // one at the most
		d.problem(p, problem.Rule, "%s", problem.Message)
	}
}

// entries reads an object into a map.
func (d *decoder) entries(v reflect.Value, p *jsonPath) {
	t := v.Type()
	v.Set(reflect.MakeMap(t))
	at := &jsonPath{outer: p, name: "[key]"}
	key, elem := reflect.New(t.Key()).Elem(), reflect.New(t.Elem()).Elem() // which the map copies
	d.object(func(_ int, raw []byte) {
		key.SetZero()
		elem.SetZero()
		switch {
		case !mapKeyOf(key, nameOf(raw)):
			d.skip(at)
			d.problem(at, "type", "is not under a key of the type %s", t.Key())
			return
		case v.MapIndex(key).IsValid():
			d.skip(at)
			d.problem(at, "duplicate", "comes twice")
			return
		}
		d.value(elem, at)
		v.SetMapIndex(key, elem)
	})
}

// mapKeyOf sets key to what name stands for. A number in another spelling than
// encoding/json's is refused: it would not come back as it was.
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

// anything reads a value that no type is asked of. A number is an int64 if it can
// be, else a float64 if that is the same number, else a json.Number.
func (d *decoder) anything(p *jsonPath) any {
	switch d.next() {
	case 'n':
		d.skip(p)
		return nil
	case 't', 'f':
		return d.skip(p)[0] == 't'
	case '"':
		return d.text()
	case '[':
		list, at := []any{}, &jsonPath{outer: p}
		d.elements(func(i, count int) {
			if i == cap(list) {
				list = slices.Grow(list, room(i, count, 16)-i)
			}
			at.index = i
			list = append(list, d.anything(at))
		})
		return list
	case '{':
		object := map[string]any{}
		at := &jsonPath{outer: p, name: "[key]"}
		d.object(func(_ int, raw []byte) {
			name := nameOf(raw)
			if _, again := object[name]; again {
				d.problem(at, "duplicate", "comes twice")
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
		d.problem(p, "range", "is a number beyond those of a float64")
	}
	// 15 digits go through a float64 unchanged, whatever they are.
	if len(strings.Trim(strings.Replace(mantissa(literal), ".", "", 1), "-0")) <= 15 && (f != 0 || !strings.ContainsAny(mantissa(literal), "123456789")) {
		return f
	}
	return json.Number(literal)
}
