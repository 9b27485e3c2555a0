package pgcmd

import (
	"context"
	"errors"
	"reflect"
	"slices"
	"strings"
	"sync"

	"github.com/go-playground/validator/v10"

	"github.com/pgcmd/pgcmd/internal/problem"
)

// A manyCheck looks for more problems than are worth to collect in an input that came as
// JSON. validator knows no bound: it makes an error of a few hundred bytes for each rule
// that each of 100,000 elements of three bytes breaks, and cannot be told to stop. So the
// elements that a dive leads to are given to it a few at a time, until enough is wrong.
// What has fewer problems is validated as a whole afterwards, as every input is.
//
// Elements whose own rules look at fields beside their slice (dive,nefield=Owner) are left
// to that: away from their struct, validator would refuse them.
type manyCheck struct {
	ctx      context.Context
	problems []Problem
	found    map[ruleViolation]bool // in those; an element may be looked at again with what holds it
	ended    error                  // the context's
}

// manyRules is how many rules are asked at a time.
const manyRules = 256

// tooManyProblems returns more than maxProblems problems of the tags of an input, or
// none; of items that each have an outcome of their own, those of one item. The error is
// that of a context that ended first.
func tooManyProblems(ctx context.Context, command string, v reflect.Value, items bool) ([]Problem, error) {
	t := v.Type()
	if checks := validationOf(command, t); checks == nil || !checks.dives {
		return nil, nil
	}
	m := &manyCheck{ctx: ctx}
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

func (m *manyCheck) enough() ([]Problem, error) {
	if m.ended != nil || len(m.problems) <= problem.Max {
		return nil, m.ended
	}
	return m.problems, nil
}

func (m *manyCheck) stopped() bool { return m.ended != nil || len(m.problems) > problem.Max }

// canDive reports whether the tags of a type lead validator into a slice, an array or a
// map, and say nothing that can be asked only of the input as a whole.
func canDive(t reflect.Type) bool {
	dives, whole := isContainer(t), false
	eachTag(t, map[reflect.Type]bool{}, func(tag string) {
		dives = dives || strings.Contains(tag, "dive")
		whole = whole || strings.Contains(tag, "csfield") || strings.Contains(tag, "structonly")
	})
	return dives && !whole
}

// eachTag calls each with every validate tag of the structs that can be reached from t.
func eachTag(t reflect.Type, seen map[reflect.Type]bool, each func(tag string)) {
	if seen[t] {
		return
	}
	seen[t] = true
	switch t.Kind() {
	case reflect.Map:
		eachTag(t.Key(), seen, each)
		eachTag(t.Elem(), seen, each)
	case reflect.Pointer, reflect.Slice, reflect.Array:
		eachTag(t.Elem(), seen, each)
	case reflect.Struct:
		for i := range t.NumField() {
			each(t.Field(i).Tag.Get("validate"))
			eachTag(t.Field(i).Type, seen, each)
		}
	}
}

func isContainer(t reflect.Type) bool {
	return t.Kind() == reflect.Slice || t.Kind() == reflect.Array || t.Kind() == reflect.Map
}

// weigh returns how many rules validator may ask of v under a tag, and has had it ask
// those of elements of which there are many.
func (m *manyCheck) weigh(v reflect.Value, tag string, p *problem.Path) (weight int) {
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
	if !dives || looksBeside(own) || looksBeside(elements) {
		return 1
	}
	if m.ended = m.ctx.Err(); m.ended != nil {
		return 1
	}
	if own != "" && m.errorsOf(v, own) != nil { // validator does not dive either
		return 1
	}
	if v.Kind() == reflect.Map {
		return m.entries(v, elements, p)
	}
	return m.elements(v, elements, p)
}

// structRules is what weigh knows of a struct.
type structRules struct {
	count  int
	fields []tagged // that may hold elements
}

type tagged struct {
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
			r.fields = append(r.fields, tagged{i, sf.Name, tag})
		}
	}
	structsRules.Store(t, r)
	return r
}

// elements weighs those of a slice or an array.
func (m *manyCheck) elements(v reflect.Value, tag string, p *problem.Path) (total int) {
	first, weight := 0, 0
	ask := func(end int) {
		if first == end || m.stopped() {
			return
		}
		part := v
		if v.Kind() == reflect.Array {
			part = reflect.MakeSlice(reflect.SliceOf(v.Type().Elem()), v.Len(), v.Len())
			reflect.Copy(part, v)
		}
		m.note(m.errorsOf(part.Slice(first, end), diveInto(tag)), p, first)
		first, weight = end, 0
		m.ended = m.ctx.Err()
	}
	here := &problem.Path{Outer: p}
	for i := 0; i < v.Len() && !m.stopped(); i++ {
		here.Index = i
		w := 1 + m.weigh(v.Index(i), tag, here)
		if weight > 0 && weight+w > manyRules {
			ask(i)
		}
		weight += w
		total += w
	}
	if total > manyRules {
		ask(v.Len())
	}
	return total
}

// entries weighs those of a map.
func (m *manyCheck) entries(v reflect.Value, tag string, p *problem.Path) (total int) {
	some, weight := reflect.MakeMap(v.Type()), 0
	ask := func() {
		if some.Len() > 0 && !m.stopped() {
			m.note(m.errorsOf(some, diveInto(tag)), p, -1)
			m.ended = m.ctx.Err()
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
		if weight > 0 && weight+w > manyRules {
			ask()
		}
		some.SetMapIndex(entries.Key(), entries.Value())
		weight += w
		total += w
	}
	if total > manyRules {
		ask()
	}
	return total
}

// errorsOf are validator's, under a tag. One that does not fit the type is for the
// validation of the whole to report.
func (m *manyCheck) errorsOf(v reflect.Value, tag string) (errs validator.ValidationErrors) {
	defer func() {
		if recover() != nil {
			errs = nil
		}
	}()
	errors.As(tagValidator().Var(v.Interface(), tag), &errs)
	return errs
}

// note adds what is wrong with elements from first on, or, if that is negative, with
// those of a map, at p.
func (m *manyCheck) note(errs validator.ValidationErrors, p *problem.Path, first int) {
	if len(errs) > 0 && m.found == nil {
		m.found = map[ruleViolation]bool{}
	}
	before := p.String()
	for _, f := range errs {
		if m.stopped() {
			return
		}
		path := f.StructNamespace()
		if first >= 0 {
			path = movedBy(first, path)
		}
		shown := before + path
		if first < 0 {
			shown = before + withoutFirstKey(path)
		}
		key := ruleViolation{before + path, f.Tag(), f.Param(), f.Kind()}
		if m.found[key] {
			continue
		}
		m.found[key] = true
		message := englishMessage(f)
		if rest, ok := strings.CutPrefix(message, f.Field()+" "); ok { // whose index is within its part
			message = problem.LastName(shown) + " " + rest
		}
		m.problems = append(m.problems, Problem{Field: withoutKeys(shown), Rule: key.tag, Message: withoutKeys(message)})
	}
}

// withoutFirstKey is a path that begins with the key of a map, which is a value.
func withoutFirstKey(path string) string {
	if _, rest, ok := strings.Cut(path, "]"); ok {
		return "[key]" + rest
	}
	return path
}

// movedBy is a path that begins with an index, of a slice that began at first.
func movedBy(first int, path string) string {
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

// cutDive takes a tag apart: the rules of a slice itself, and those of its elements.
func cutDive(tag string) (own, elements string, dives bool) {
	parts := strings.Split(tag, ",")
	at := slices.Index(parts, "dive")
	if at < 0 {
		return tag, "", false
	}
	return strings.Join(parts[:at], ","), strings.Join(parts[at+1:], ","), true
}

func diveInto(elements string) string { return strings.TrimSuffix("dive,"+elements, ",") }

// looksBeside reports whether rules look at other fields than their own.
func looksBeside(rules string) bool {
	for rule := range strings.SplitSeq(rules, ",") {
		name, _, _ := strings.Cut(rule, "=")
		if strings.Contains(name, "field") ||
			strings.HasPrefix(name, "required_") || strings.HasPrefix(name, "excluded_") || strings.HasPrefix(name, "skip_") {
			return true
		}
	}
	return false
}
