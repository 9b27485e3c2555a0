package validation

import (
	"context"
	"errors"
	"reflect"
	"slices"
	"strings"
	"sync"

	"github.com/go-playground/validator/v10"

	"github.com/pgcmd/pgcmd/internal/problem"
	"github.com/pgcmd/pgcmd/internal/structfields"
)

// A limitCheck looks for more than problem.Max problems in an input that came as JSON.
// validator has no limit: it makes an error of a few hundred bytes for each rule that each
// of 100,000 elements of three bytes breaks, and cannot be stopped. So the elements after a
// dive are passed to it a few at a time, until there are enough problems. An input with
// fewer is validated as a whole afterwards, as every input is.
//
// Elements whose rules look at other fields (dive,nefield=Owner) are not checked here:
// outside their struct, validator would refuse them.
type limitCheck struct {
	ctx      context.Context
	problems []problem.Problem
	found    map[violation]bool // in problems; an element may be checked again with its container
	ctxErr   error
}

// maxRules is how many rules validator checks at a time.
const maxRules = 256

// TooMany returns the problems of v, an input, if its tags find more than problem.Max, and
// none otherwise. If items is set, v is a slice of inputs, and the limit is that of each.
// The error is the context's, if that ended first.
func (c *Checks) TooMany(ctx context.Context, v reflect.Value, items bool) ([]problem.Problem, error) {
	if c == nil || !c.dives {
		return nil, nil
	}
	m := &limitCheck{ctx: ctx}
	tag := "dive"
	if !items {
		m.weigh(v, tag, nil)
		return m.enough()
	}
	for i := range v.Len() {
		m.problems, m.found = nil, nil
		m.weigh(v.Index(i), tag, &problem.Path{Index: i})
		if problems, err := m.enough(); problems != nil || err != nil {
			return problems, err
		}
	}
	return nil, nil
}

func (m *limitCheck) enough() ([]problem.Problem, error) {
	if m.ctxErr != nil || len(m.problems) <= problem.Max {
		return nil, m.ctxErr
	}
	return m.problems, nil
}

func (m *limitCheck) stopped() bool { return m.ctxErr != nil || len(m.problems) > problem.Max }

// canDive reports whether a tag of a type applies to the elements of a slice, an array or a
// map, and no tag needs the input as a whole.
func canDive(t reflect.Type) bool {
	dives, whole := isContainer(t), false
	structfields.Contains(t, func(t reflect.Type) bool {
		return structfields.HasField(t, func(f reflect.StructField) bool {
			tag := f.Tag.Get("validate")
			dives = dives || strings.Contains(tag, "dive")
			whole = whole || strings.Contains(tag, "csfield") || strings.Contains(tag, "structonly")
			return false
		})
	})
	return dives && !whole
}

func isContainer(t reflect.Type) bool {
	return t.Kind() == reflect.Slice || t.Kind() == reflect.Array || t.Kind() == reflect.Map
}

// weigh returns how many rules validator may check in v under a tag. It has validator check
// the elements of large slices and maps.
func (m *limitCheck) weigh(v reflect.Value, tag string, p *problem.Path) (weight int) {
	for v.Kind() == reflect.Pointer || v.Kind() == reflect.Interface {
		if v.IsNil() {
			return 1
		}
		v = v.Elem()
	}
	if v.Kind() == reflect.Struct {
		r := rulesOf(v.Type())
		weight = r.count
		var here *problem.Path
		for _, f := range r.fields {
			if m.stopped() {
				break
			}
			if here == nil {
				here = &problem.Path{Outer: p}
			}
			here.Name = f.name
			weight += m.weigh(v.Field(f.index), f.tag, here)
		}
		return weight
	}
	if !isContainer(v.Type()) || v.Len() == 0 || !v.CanInterface() {
		return 1
	}
	own, elements, dives := cutDive(tag)
	if !dives || usesOtherFields(own) || usesOtherFields(elements) {
		return 1
	}
	if m.ctxErr = m.ctx.Err(); m.ctxErr != nil {
		return 1
	}
	if own != "" && m.errorsOf(v, own) != nil { // then validator does not dive
		return 1
	}
	if v.Kind() == reflect.Map {
		return m.entries(v, elements, p)
	}
	return m.elements(v, elements, p)
}

// structRules are the number of rules of a struct and its fields that may hold elements.
type structRules struct {
	count  int
	fields []elementField
}

type elementField struct {
	index     int
	name, tag string
}

var structsRules sync.Map // reflect.Type -> structRules

func rulesOf(t reflect.Type) structRules {
	if known, ok := structsRules.Load(t); ok {
		return known.(structRules)
	}
	var r structRules
	for i := range t.NumField() {
		sf := t.Field(i)
		tag := sf.Tag.Get("validate")
		if tag == "-" || !sf.IsExported() && !sf.Anonymous {
			continue
		}
		if tag != "" {
			r.count += 1 + strings.Count(tag, ",")
		}
		switch k := sf.Type.Kind(); {
		case k == reflect.Struct, k == reflect.Pointer, k == reflect.Interface, isContainer(sf.Type) && strings.Contains(tag, "dive"):
			r.fields = append(r.fields, elementField{i, sf.Name, tag})
		}
	}
	structsRules.Store(t, r)
	return r
}

// elements weighs the elements of a slice or an array.
func (m *limitCheck) elements(v reflect.Value, tag string, p *problem.Path) (total int) {
	first, weight := 0, 0
	check := func(end int) {
		if first == end || m.stopped() {
			return
		}
		part := v
		if v.Kind() == reflect.Array {
			part = reflect.MakeSlice(reflect.SliceOf(v.Type().Elem()), v.Len(), v.Len())
			reflect.Copy(part, v)
		}
		m.add(m.errorsOf(part.Slice(first, end), diveInto(tag)), p, first)
		first, weight = end, 0
		m.ctxErr = m.ctx.Err()
	}
	here := &problem.Path{Outer: p}
	for i := 0; i < v.Len() && !m.stopped(); i++ {
		here.Index = i
		w := 1 + m.weigh(v.Index(i), tag, here)
		if weight > 0 && weight+w > maxRules {
			check(i)
		}
		weight += w
		total += w
	}
	if total > maxRules {
		check(v.Len())
	}
	return total
}

// entries weighs the values of a map.
func (m *limitCheck) entries(v reflect.Value, tag string, p *problem.Path) (total int) {
	some, weight := reflect.MakeMap(v.Type()), 0
	check := func() {
		if some.Len() > 0 && !m.stopped() {
			m.add(m.errorsOf(some, diveInto(tag)), p, -1)
			m.ctxErr = m.ctx.Err()
		}
		some.Clear()
		weight = 0
	}
	_, values, _ := strings.Cut(tag, "endkeys")
	if !strings.HasPrefix(tag, "keys") {
		values = tag
	}
	here := &problem.Path{Outer: p, Name: "[key]"}
	for entries := v.MapRange(); entries.Next() && !m.stopped(); {
		w := 2 + m.weigh(entries.Value(), strings.TrimPrefix(values, ","), here)
		if weight > 0 && weight+w > maxRules {
			check()
		}
		some.SetMapIndex(entries.Key(), entries.Value())
		weight += w
		total += w
	}
	if total > maxRules {
		check()
	}
	return total
}

// errorsOf returns validator's errors for v under a tag. A tag that does not fit the type is
// reported by the validation of the whole input.
func (m *limitCheck) errorsOf(v reflect.Value, tag string) (errs validator.ValidationErrors) {
	defer func() {
		if recover() != nil {
			errs = nil
		}
	}()
	errors.As(tagValidator().Var(v.Interface(), tag), &errs)
	return errs
}

// add adds the problems of elements at p, of which the first has the index first; that is
// negative for a map.
func (m *limitCheck) add(errs validator.ValidationErrors, p *problem.Path, first int) {
	if len(errs) > 0 && m.found == nil {
		m.found = map[violation]bool{}
	}
	before := p.String()
	for _, f := range errs {
		if m.stopped() {
			return
		}
		path := f.StructNamespace()
		if first >= 0 {
			path = shiftIndex(path, first)
		}
		shown := before + path
		if first < 0 {
			shown = before + withoutFirstKey(path)
		}
		key := violation{before + path, f.Tag(), f.Param(), f.Kind()}
		if m.found[key] {
			continue
		}
		m.found[key] = true
		shown = withoutKeys(shown) // its index is that in the whole
		m.problems = append(m.problems, problem.Problem{Field: shown, Rule: key.tag, Message: messageOf(f, problem.LastName(shown))})
	}
}

// withoutFirstKey returns a path without the key of a map at its start, which is a value.
func withoutFirstKey(path string) string {
	if _, rest, ok := strings.Cut(path, "]"); ok {
		return "[key]" + rest
	}
	return path
}

// shiftIndex adds first to the index at the start of a path.
func shiftIndex(path string, first int) string {
	inside, rest, ok := strings.Cut(strings.TrimPrefix(path, "["), "]")
	if !ok {
		return path
	}
	n := 0
	for _, digit := range inside {
		n = 10*n + int(digit-'0')
	}
	return (&problem.Path{Index: first + n}).String() + rest
}

// cutDive splits a tag into the rules of a slice itself and those of its elements.
func cutDive(tag string) (own, elements string, dives bool) {
	parts := strings.Split(tag, ",")
	at := slices.Index(parts, "dive")
	if at < 0 {
		return tag, "", false
	}
	return strings.Join(parts[:at], ","), strings.Join(parts[at+1:], ","), true
}

func diveInto(elements string) string { return strings.TrimSuffix("dive,"+elements, ",") }

// usesOtherFields reports whether rules look at other fields.
func usesOtherFields(rules string) bool {
	for rule := range strings.SplitSeq(rules, ",") {
		name, _, _ := strings.Cut(rule, "=")
		if strings.Contains(name, "field") ||
			strings.HasPrefix(name, "required_") || strings.HasPrefix(name, "excluded_") || strings.HasPrefix(name, "skip_") {
			return true
		}
	}
	return false
}
