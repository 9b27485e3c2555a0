package bind

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/pgcmd/pgcmd/internal/sqltext"
	"github.com/pgcmd/pgcmd/internal/structfields"
)

// Variants chooses the variant of a template by the fields of an input.
type Variants struct {
	fields  []optionalField
	needs   []uint64 // bit i of needs[p]: part p is in the variant only if field i is set
	Choices []ChoiceField
}

// An optionalField can be absent.
type optionalField struct {
	structfields.Field
	name     string // as the first part names it
	nilable  bool   // nil is its absence
	validity []int  // the index of the field Valid in it; nil if it has none
}

// A ChoiceField is a field that chooses one of several texts.
type ChoiceField struct {
	structfields.Field
	Options []string
}

// CompileVariants finds the fields of an input of type in on which the variants depend. The
// error says what does not fit.
func CompileVariants(in reflect.Type, t *sqltext.Template) (*Variants, error) {
	if in.Kind() != reflect.Struct || structfields.IsScalar(in) {
		return nil, fmt.Errorf("the input is one %s, and SQL with optional parts or choices names the fields of a struct", in)
	}
	fields, _ := structfields.Of(in)
	v := &Variants{}
	for _, part := range t.Parts {
		var need uint64
		for _, name := range part.Names {
			at := structfields.Find(fields, name)
			if at < 0 {
				return nil, t.ErrorAt(part, "the optional part names @%s, %s has no such field (has: %s)", name, structfields.TypeOr(in, "the input"), structfields.PlaceholderNames(fields))
			}
			f, ok := optional(in, fields[at])
			if !ok {
				continue
			}
			i := slices.IndexFunc(v.fields, func(known optionalField) bool { return known.Path == f.Path })
			if i < 0 {
				if i = len(v.fields); i == 64 {
					return nil, t.ErrorAt(part, "the optional parts depend on more than 64 fields: make two commands of it")
				}
				f.name = name
				v.fields = append(v.fields, f)
			}
			need |= 1 << i
		}
		if need == 0 {
			f := fields[structfields.Find(fields, part.Names[0])]
			return nil, t.ErrorAt(part, "the optional part names no field that can be absent, so that it would always be sent: make %s a *%s, or take the marks away", structfields.Called(in, "input", f.Path), f.Type)
		}
		v.needs = append(v.needs, need)
	}
	for _, c := range t.Choices {
		at := structfields.Find(fields, c.Name)
		if at < 0 {
			return nil, t.ErrorAtChoice(c, "the choice names @%s, %s has no such field (has: %s)", c.Name, structfields.TypeOr(in, "the input"), structfields.PlaceholderNames(fields))
		}
		if err := unambiguous(in, fields, at, c.Name); err != nil {
			return nil, err
		}
		f := fields[at]
		of := f.Type
		if of.Kind() == reflect.Pointer {
			of = of.Elem()
		}
		switch {
		case of.Kind() != reflect.String:
			return nil, t.ErrorAtChoice(c, "the choice names @%s, and %s has the type %s: make it a string", c.Name, structfields.Called(in, "input", f.Path), f.Type)
		case slices.ContainsFunc(t.Names, func(name string) bool { return structfields.Find(fields, name) == at }):
			return nil, t.ErrorAtChoice(c, "@%s chooses here, and is a placeholder elsewhere: take a field for each", c.Name)
		case slices.ContainsFunc(v.Choices, func(known ChoiceField) bool { return known.Path == f.Path }):
			return nil, t.ErrorAtChoice(c, "two choices name %s in two ways: write its name as in the first", structfields.Called(in, "input", f.Path))
		}
		v.Choices = append(v.Choices, ChoiceField{f, c.Options})
	}
	return v, nil
}

// optional reports whether a field can be absent: nil, not Valid, or in an embedded struct
// that is a nil pointer.
func optional(in reflect.Type, f structfields.Field) (optionalField, bool) {
	o := optionalField{Field: f}
	switch f.Type.Kind() {
	case reflect.Pointer, reflect.Slice, reflect.Map, reflect.Interface:
		o.nilable = true
		return o, true
	case reflect.Struct:
		if valid, ok := f.Type.FieldByName("Valid"); ok && valid.Type.Kind() == reflect.Bool && structfields.IsScalar(f.Type) &&
			!structfields.EmbedsPointer(f.Type, []structfields.Field{{Index: valid.Index}}) {
			o.validity = valid.Index
			return o, true
		}
	}
	return o, structfields.EmbedsPointer(in, []structfields.Field{f})
}

// isSet reports whether the field of in is not absent.
func (o *optionalField) isSet(in reflect.Value) bool {
	v, ok := structfields.Value(in, o.Index)
	switch {
	case !ok:
		return false
	case o.nilable:
		return !v.IsNil()
	case o.validity != nil:
		return v.FieldByIndex(o.validity).Bool()
	}
	return true
}

// Of returns the variant for an input. refused is a choice that has no option of the name
// that the input has; nil if there is none.
func (v *Variants) Of(in reflect.Value) (variant sqltext.Variant, refused *ChoiceField) {
	var set uint64
	for i := range v.fields {
		if v.fields[i].isSet(in) {
			set |= 1 << i
		}
	}
	variant.Parts = v.parts(set)
	for i := range v.Choices {
		c := &v.Choices[i]
		option, ok := c.option(in)
		if !ok {
			return variant, c
		}
		variant = variant.WithOption(i, option)
	}
	return variant, nil
}

// parts are those whose fields are in the set.
func (v *Variants) parts(set uint64) (parts uint64) {
	for i, need := range v.needs {
		if set&need == need {
			parts |= 1 << i
		}
	}
	return parts
}

// option is the option that the field of in names, 0 for the default.
func (c *ChoiceField) option(in reflect.Value) (option int, ok bool) {
	v, ok := structfields.Value(in, c.Index)
	if ok && v.Kind() == reflect.Pointer {
		v = v.Elem() // of nil: an invalid Value
	}
	if !v.IsValid() || v.Len() == 0 {
		return 0, true
	}
	option = slices.Index(c.Options, v.String()) + 1
	return option, option > 0
}

// Has reports whether the field of in names an option, or the default.
func (c *ChoiceField) Has(in reflect.Value) bool {
	_, ok := c.option(in)
	return ok
}

// Names lists the options, for a message.
func (c *ChoiceField) Names() string { return strings.Join(c.Options, ", ") }

// List lists the variants that an input can have: all, if they are not more than limit. Else
// it lists those without parts, with all, with each part alone, with all that do not need one
// of the fields, and, without parts and with all, every option.
func (v *Variants) List(limit int) []sqltext.Variant {
	list := v.all(limit)
	if list == nil {
		list = v.some()
	}
	return list
}

func (v *Variants) all(limit int) []sqltext.Variant {
	// The parts of a variant need a set of fields that is the union of some parts' needs, and
	// each such set has parts of its own.
	sets := []uint64{0}
	for _, need := range v.needs {
		for _, set := range sets {
			if !slices.Contains(sets, set|need) {
				sets = append(sets, set|need)
			}
		}
		if len(sets) > limit {
			return nil
		}
	}
	list := make([]sqltext.Variant, 0, len(sets))
	for _, set := range sets {
		list = append(list, sqltext.Variant{Parts: v.parts(set)})
	}
	for i, c := range v.Choices {
		if len(list)*(len(c.Options)+1) > limit {
			return nil
		}
		for _, variant := range list {
			for option := range c.Options {
				list = append(list, variant.WithOption(i, option+1))
			}
		}
	}
	return list
}

func (v *Variants) some() (list []sqltext.Variant) {
	var all uint64
	for _, need := range v.needs {
		all |= need
	}
	sets := append([]uint64{0, all}, v.needs...)
	for i := range v.fields {
		sets = append(sets, all&^(1<<i))
	}
	add := func(variant sqltext.Variant) {
		if !slices.Contains(list, variant) {
			list = append(list, variant)
		}
	}
	for _, set := range sets {
		add(sqltext.Variant{Parts: v.parts(set)})
	}
	for i, c := range v.Choices {
		for option := range c.Options {
			add(sqltext.Variant{}.WithOption(i, option+1))
			add(sqltext.Variant{Parts: v.parts(all)}.WithOption(i, option+1))
		}
	}
	return list
}

// Names returns the names of the fields that part i needs, as the SQL has them.
func (v *Variants) Names(i int) []string { return v.names(v.needs[i]) }

func (v *Variants) names(set uint64) (names []string) {
	for i := range v.fields {
		if set>>i&1 == 1 {
			names = append(names, v.fields[i].name)
		}
	}
	return names
}

// set are the fields that an input sets to have a variant.
func (v *Variants) set(variant sqltext.Variant) (set uint64) {
	for i, need := range v.needs {
		if variant.Parts>>i&1 == 1 {
			set |= need
		}
	}
	return set
}

// IsSet reports whether a field is set in every input that has the variant, as one of its parts needs it.
func (v *Variants) IsSet(variant sqltext.Variant, path string) bool {
	i := slices.IndexFunc(v.fields, func(f optionalField) bool { return f.Path == path })
	return i >= 0 && v.set(variant)>>i&1 == 1
}

// Describe says what an input sets and chooses to have a variant, in the names of the SQL, as
// in: with email, name; sort newest.
func (v *Variants) Describe(t *sqltext.Template, variant sqltext.Variant) string {
	set := v.set(variant)
	var said []string
	switch {
	case set != 0:
		said = append(said, "with "+strings.Join(v.names(set), ", "))
	case len(t.Parts) > 0:
		said = append(said, "without optional parts")
	}
	for i, c := range t.Choices {
		if option := variant.Option(i); option > 0 {
			said = append(said, c.Name+" "+c.Options[option-1])
		}
	}
	if len(said) == 0 {
		return "with the defaults"
	}
	return strings.Join(said, "; ")
}
