package validation

import (
	"reflect"
	"slices"
	"strings"
)

// Rules are the rules of a validate tag.
type Rules struct {
	List     []Rule
	Optional bool   // one of List is omitempty, omitnil or omitzero
	Pointer  bool   // they apply to the value behind a pointer
	Elements *Rules // those after dive
	Keys     *Rules // those between keys and endkeys
}

// A Rule is one rule of a validate tag, as in min=1.
type Rule struct{ Name, Param string }

// In a parameter of a tag these two characters are written in hexadecimal.
var (
	escape   = strings.NewReplacer(",", "0x2C", "|", "0x7C")
	unescape = strings.NewReplacer("0x2C", ",", "0x7C", "|")
)

// ParseTag parses a validate tag. It leaves out alternatives, as in rgb|rgba.
func ParseTag(tag string) *Rules {
	r := &Rules{}
	if tag == "" || tag == "-" {
		return r
	}
	at, keys := r, (*Rules)(nil)
	for part := range strings.SplitSeq(tag, ",") {
		name, param, _ := strings.Cut(part, "=")
		param = unescape.Replace(param)
		switch {
		case name == "dive":
			at.Elements = &Rules{}
			at = at.Elements
		case name == "keys":
			keys, at.Keys = at, &Rules{}
			at = at.Keys
		case name == "endkeys" && keys != nil:
			at = keys
		case strings.Contains(part, "|"):
		default:
			at.List = append(at.List, Rule{name, param})
			at.Optional = at.Optional || Rule{Name: name}.omits()
		}
	}
	return r
}

func (r Rule) omits() bool {
	return r.Name == "omitempty" || r.Name == "omitnil" || r.Name == "omitzero"
}

// OfPointee returns the rules of a t for the value that it points to. They lack required,
// which only asks that a pointer is not nil.
func (r *Rules) OfPointee(t reflect.Type) *Rules {
	if t.Kind() != reflect.Pointer {
		return r
	}
	p := *r
	p.Pointer = true
	p.List = slices.DeleteFunc(slices.Clone(r.List), func(rule Rule) bool { return rule.Name == "required" })
	return &p
}

// Has reports whether there is a rule called name.
func (r *Rules) Has(name string) bool {
	return slices.ContainsFunc(r.List, func(rule Rule) bool { return rule.Name == name })
}

// RefusesZero reports whether the zero value of t is refused, so that a field with these
// rules cannot be left out.
func (r *Rules) RefusesZero(t reflect.Type) bool {
	return r.Refuses(reflect.Zero(t))
}

// Refuses reports whether validator refuses v. Rules that look at other fields are left
// out.
func (r *Rules) Refuses(v reflect.Value) (refused bool) {
	if v.Kind() == reflect.Struct && r.Optional {
		return false // validator does not look at its fields either
	}
	var tags []string
	for _, rule := range r.List {
		if strings.Contains(rule.Name, "_") && !strings.HasPrefix(rule.Name, "uuid") || strings.Contains(rule.Name, "field") {
			continue // it may look at other fields
		}
		tag := rule.Name
		if rule.Param != "" {
			tag += "=" + escape.Replace(rule.Param)
		}
		tags = append(tags, tag)
	}
	if len(tags) == 0 {
		return false
	}
	defer func() {
		if recover() != nil { // the tag does not fit the type
			refused = false
		}
	}()
	return tagValidator().Var(v.Interface(), strings.Join(tags, ",")) != nil
}

// OnlyIfOmitted reports whether v is accepted only because omitempty skips the other rules.
func (r *Rules) OnlyIfOmitted(v reflect.Value) (only bool) {
	defer func() {
		if recover() != nil { // a tag in it does not fit its type
			only = false
		}
	}()
	switch v.Kind() {
	case reflect.Array: // its elements may be refused
		return true
	case reflect.Struct:
		return tagValidator().Struct(v.Interface()) != nil
	}
	others := *r
	others.List = slices.DeleteFunc(slices.Clone(r.List), Rule.omits)
	return others.Refuses(v)
}

// Words splits the values of a oneof rule. They are separated by spaces, and a value with a
// space is in single quotes.
func Words(param string) (words []string) {
	for param = strings.TrimSpace(param); param != ""; param = strings.TrimSpace(param) {
		var word string
		if param[0] == '\'' {
			word, param, _ = strings.Cut(param[1:], "'")
		} else {
			word, param, _ = strings.Cut(param, " ")
		}
		words = append(words, word)
	}
	return words
}
