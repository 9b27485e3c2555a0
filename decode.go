package pgcmd

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"
)

// A decoder reads JSON that is known to be well formed into Go values, strictly:
// encoding/json would ignore a field that it does not know, take the last of two of
// one name, match names whatever their case, leave null without effect, and stop at
// the first mistake.
//
// No message holds anything of the input: not its values, not the keys of its maps,
// not the names that are not known.
type decoder struct {
	data     []byte
	at       int
	problems []Problem
}

const (
	maxDepth    = 100 // of arrays and objects within each other
	maxProblems = 50
)

// decodeJSON reads data, of which nothing stands for {}, into v, and returns what
// is wrong with it.
func decodeJSON(data []byte, v reflect.Value) []Problem {
	if len(data) == 0 {
		data = []byte("{}")
	}
	if problem := checkJSON(data); problem != nil {
		return []Problem{*problem}
	}
	d := &decoder{data: data}
	d.value(v, nil)
	if len(d.problems) > maxProblems {
		more := len(d.problems) - maxProblems
		d.problems = append(d.problems[:maxProblems], Problem{Rule: "json", Message: fmt.Sprintf("there are %d problems more", more)})
	}
	return d.problems
}

// A place is the way to a value, from the inside out.
type place struct {
	outer *place
	name  string
	index int // if name is empty
}

func (p *place) String() string {
	switch {
	case p == nil:
		return ""
	case p.name == "":
		return fmt.Sprintf("%s[%d]", p.outer, p.index)
	case p.outer == nil || p.name[0] == '[':
		return p.outer.String() + p.name
	}
	return p.outer.String() + "." + p.name
}

func (d *decoder) problem(p *place, rule, format string, args ...any) {
	if len(d.problems) < maxProblems {
		d.problems = append(d.problems, Problem{Field: p.String(), Rule: rule, Message: fmt.Sprintf(format, args...)})
	} else {
		d.problems = append(d.problems, Problem{})
	}
}

// next is the first byte of the value to come.
func (d *decoder) next() byte {
	for d.data[d.at] <= ' ' {
		d.at++
	}
	return d.data[d.at]
}

// value reads the next value into v, which is addressable and zero.
func (d *decoder) value(v reflect.Value, p *place) {
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
	custom := implements(t, jsonUnmarshaler) && t != reflect.TypeFor[time.Time]()
	if want := wanted(t); !custom && want.starts != "" && strings.IndexByte(want.starts, first) < 0 {
		d.skip(p)
		if first == 'n' {
			d.problem(p, "null", "must not be null: it %s", want.must)
		} else {
			d.problem(p, "type", "%s", want.must)
		}
		return
	}
	switch {
	case implements(t, jsonUnmarshaler) || implements(t, textUnmarshaler):
		d.custom(v, p, first == 'n')
	case t == reflect.TypeFor[json.Number]():
		v.SetString(string(d.skip(p)))
	case isBytes(t):
		d.bytes(v, p)
	default:
		d.kind(v, p)
	}
}

// custom leaves v to its own method. Most that are given null do nothing, and so
// lose it: then it is refused.
func (d *decoder) custom(v reflect.Value, p *place, null bool) {
	into := v.Addr().Interface()
	if json.Unmarshal(d.skip(p), into) != nil {
		d.problem(p, "type", "%s", wanted(v.Type()).must)
		return
	}
	if null {
		if text, err := json.Marshal(into); err != nil || string(text) != "null" {
			d.problem(p, "null", "must not be null: it %s", wanted(v.Type()).must)
		}
	}
}

func (d *decoder) kind(v reflect.Value, p *place) {
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
		d.elements(v, p)
	case reflect.Array:
		n := d.array(func(i int) {
			if i < v.Len() {
				d.value(v.Index(i), &place{outer: p, index: i})
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

// A want is what a type takes: how the value may start, and in words.
type want struct{ starts, must string }

func wanted(t reflect.Type) want {
	const digits = "-0123456789"
	switch k := t.Kind(); {
	case t == reflect.TypeFor[time.Time]():
		return want{`"`, `must be a date and time as in "2006-01-02T15:04:05Z"`}
	case implements(t, jsonUnmarshaler):
		return want{"", "must have the JSON form of a " + t.String()}
	case implements(t, textUnmarshaler):
		return want{`"`, "must be the text of a " + t.String()}
	case t == reflect.TypeFor[json.Number](), k == reflect.Float32, k == reflect.Float64:
		return want{digits, "must be a number"}
	case isBytes(t):
		return want{`"`, "must be a text in base64"}
	case k == reflect.Bool:
		return want{"tf", "must be true or false"}
	case k == reflect.String:
		return want{`"`, "must be a text"}
	case k == reflect.Struct, k == reflect.Map:
		return want{"{", "must be an object"}
	case k == reflect.Slice, k == reflect.Array:
		return want{"[", "must be an array"}
	case k == reflect.Interface:
		return want{}
	}
	low, high := bounds(t)
	return want{digits, fmt.Sprintf("must be an integer from %s to %s", low, high)}
}

// bytes sets v to the bytes that a text in base64 stands for.
func (d *decoder) bytes(v reflect.Value, p *place) {
	text := d.text()
	b, err := base64.StdEncoding.Strict().DecodeString(text)
	if err != nil || strings.ContainsAny(text, "\r\n") {
		d.problem(p, "base64", "must be a text in base64")
		return
	}
	v.Set(reflect.ValueOf(b).Convert(v.Type()))
}

// elements reads an array into a slice.
func (d *decoder) elements(v reflect.Value, p *place) {
	v.Set(reflect.MakeSlice(v.Type(), 0, 0))
	d.array(func(i int) {
		v.Grow(1)
		v.SetLen(i + 1)
		v.Index(i).SetZero()
		d.value(v.Index(i), &place{outer: p, index: i})
	})
}

// fields reads an object into a struct.
func (d *decoder) fields(v reflect.Value, p *place) {
	fields := jsonFields(v.Type())
	d.object(p, func(i int, name string, again bool) {
		var f *jsonField
		for j := range fields {
			if fields[j].name == name {
				f = &fields[j]
			}
		}
		switch {
		case f == nil:
			d.skip(p)
			d.unknown(i, name, fields, p)
		case again:
			d.skip(p)
			d.problem(&place{outer: p, name: name}, "duplicate", "comes twice")
		case f.quoted:
			d.quoted(within(v, f.index), &place{outer: p, name: name})
		default:
			d.value(within(v, f.index), &place{outer: p, name: name})
		}
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
func (d *decoder) unknown(i int, name string, fields []jsonField, p *place) {
	names := make([]string, len(fields))
	for i, f := range fields {
		names[i] = f.name
	}
	at := &place{outer: p, name: "[unknown]"}
	switch near := nearest(name, names); {
	case near != "":
		at.name = name
		d.problem(at, "unknown", "is not a field: did you mean %s?", near)
	case len(names) == 0:
		d.problem(at, "unknown", "is not a field: there are none")
	default:
		d.problem(at, "unknown", "is not a field, number %d of the object (known: %s)", i+1, strings.Join(names, ", "))
	}
}

// quoted reads a number, a bool or a text that is within a text.
func (d *decoder) quoted(v reflect.Value, p *place) {
	if d.next() == 'n' && v.Kind() == reflect.Pointer {
		d.skip(p)
		return
	}
	if d.next() != '"' {
		d.skip(p)
		d.problem(p, "type", "must be a text that holds the value")
		return
	}
	inner := &decoder{data: []byte(d.text())}
	if checkJSON(inner.data) != nil || strings.IndexByte(`[{n`, inner.next()) >= 0 {
		d.problem(p, "type", "must be a text that holds the value")
		return
	}
	inner.value(v, p)
	d.problems = append(d.problems, inner.problems...)
}

// entries reads an object into a map.
func (d *decoder) entries(v reflect.Value, p *place) {
	t := v.Type()
	v.Set(reflect.MakeMap(t))
	at := &place{outer: p, name: "[key]"}
	d.object(p, func(_ int, name string, again bool) {
		key := reflect.New(t.Key()).Elem()
		good := mapKeyOf(key, name)
		switch {
		case !good:
			d.skip(at)
			d.problem(at, "type", "is not under a key of the type %s", t.Key())
			return
		case again || v.MapIndex(key).IsValid():
			d.skip(at)
			d.problem(at, "duplicate", "comes twice")
			return
		}
		elem := reflect.New(t.Elem()).Elem()
		d.value(elem, at)
		v.SetMapIndex(key, elem)
	})
}

// mapKeyOf sets key to what name stands for. A number in another spelling than
// encoding/json's is refused: it would not come back as it was.
func mapKeyOf(key reflect.Value, name string) bool {
	t := key.Type()
	switch {
	case implements(t, textUnmarshaler):
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
func (d *decoder) anything(p *place) any {
	switch d.next() {
	case 'n':
		d.skip(p)
		return nil
	case 't', 'f':
		return d.skip(p)[0] == 't'
	case '"':
		return d.text()
	case '[':
		list := []any{}
		d.array(func(i int) { list = append(list, d.anything(&place{outer: p, index: i})) })
		return list
	case '{':
		object := map[string]any{}
		at := &place{outer: p, name: "[key]"}
		d.object(p, func(_ int, name string, again bool) {
			if again {
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
