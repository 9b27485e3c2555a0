package pgcmd

import (
	"errors"
	"fmt"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/go-playground/locales/en"
	ut "github.com/go-playground/universal-translator"
	"github.com/go-playground/validator/v10"
	entranslations "github.com/go-playground/validator/v10/translations/en"

	"github.com/pgcmd/pgcmd/internal/redact"
)

// validates caches what is known of each input type: it is compiled once, however
// many commands take it.
var validates sync.Map // reflect.Type -> *checks, nil for a type with nothing to check

// validationChecks is the validation of one input type.
type validationChecks struct {
	typ     reflect.Type
	tags    bool // some field has a validate tag
	method  bool // the type, or a pointer to it, has Validate() error
	secrets bool // some field has the tag secret
	dives   bool // some tag leads into a slice, an array or a map

	prefix   string // of validator's paths
	messages atomic.Pointer[map[ruleViolation]Problem]
}

// A finding is a rule that a field breaks, as one program's types can spell it: never a
// value. What is said of it is made once.
type ruleViolation struct {
	path, tag, param string
	kind             reflect.Kind // of what an interface holds
}

type selfValidator interface{ Validate() error }

var (
	tagValidator = sync.OnceValue(func() *validator.Validate {
		return validator.New(validator.WithRequiredStructEnabled())
	})
	english = sync.OnceValue(func() ut.Translator {
		lang := en.New()
		translator, _ := ut.New(lang, lang).GetTranslator("en")
		if err := entranslations.RegisterDefaultTranslations(tagValidator(), translator); err != nil {
			panic(err) // a mistake of the libraries' versions, found by any test
		}
		return translator
	})
)

// validationOf compiles the validation of an input type, nil if there is none. A tag
// that validator does not know panics, as a definition mistake.
func validationOf(command string, typ reflect.Type) *validationChecks {
	if cached, ok := validates.Load(typ); ok {
		return cached.(*validationChecks)
	}
	pointer := reflect.PointerTo(typ)
	c := &validationChecks{
		typ:    typ,
		prefix: prefixOf(typ),
		tags:   hasTag(typ, "validate", nil),
		method: pointer.Implements(reflect.TypeFor[selfValidator]()) || typ.Implements(reflect.TypeFor[selfValidator]()),
	}
	c.secrets = redact.MayHoldSecrets(typ)
	c.dives = c.tags && canDive(typ)
	if c.tags {
		compileTags(command, typ, map[reflect.Type]bool{})
	}
	if !c.tags && !c.method {
		c = nil
	}
	validates.Store(typ, c)
	return c
}

// hasTag reports whether a struct that can be reached from t has a field with
// the tag.
func hasTag(t reflect.Type, tag string, seen map[reflect.Type]bool) bool {
	if seen[t] {
		return false
	}
	if seen == nil {
		seen = map[reflect.Type]bool{}
	}
	seen[t] = true
	switch t.Kind() {
	case reflect.Pointer, reflect.Slice, reflect.Array, reflect.Map:
		return hasTag(t.Elem(), tag, seen)
	case reflect.Struct:
	default:
		return false
	}
	for i := range t.NumField() {
		sf := t.Field(i)
		if v, ok := sf.Tag.Lookup(tag); ok && v != "-" && v != "false" {
			return true
		}
		if hasTag(sf.Type, tag, seen) {
			return true
		}
	}
	return false
}

// compileTags makes validator parse the tags of every struct below t now: a tag
// that it does not know is a mistake of the definition, not of some later input.
func compileTags(command string, t reflect.Type, seen map[reflect.Type]bool) {
	if seen[t] {
		return
	}
	seen[t] = true
	switch t.Kind() {
	case reflect.Pointer, reflect.Slice, reflect.Array, reflect.Map:
		compileTags(command, t.Elem(), seen)
		return
	case reflect.Struct:
	default:
		return
	}
	if !hasTag(t, "validate", nil) {
		return
	}
	func() {
		defer func() {
			if reason := recover(); reason != nil {
				panic(fmt.Sprintf("pgcmd: %s: validate tag of %s: %v", command, t, reason))
			}
		}()
		_ = tagValidator().Struct(reflect.New(t).Interface())
	}()
	for i := range t.NumField() {
		compileTags(command, t.Field(i).Type, seen)
	}
}

// validate is the error of the input that in points to, nil if nothing is wrong. An
// input without a method may be handed over itself: of what no pointer leads to,
// validator need not copy the fields that it reports.
func (c *validationChecks) validate(in any) *Error {
	problems, cause := c.problems(in)
	if cause == nil {
		return nil
	}
	return &Error{Code: CodeInvalid, Message: refusedFor(len(problems)), Problems: problems, Err: cause}
}

func refusedFor(problems int) string {
	if problems > 1 {
		return "the input was refused for " + strconv.Itoa(problems) + " reasons"
	}
	return "the input was refused"
}

// problems returns what is wrong with the input that in points to: what the tags
// find, and then what its own Validate method finds.
func (c *validationChecks) problems(in any) ([]Problem, error) {
	var problems []Problem
	var cause error
	if c.tags {
		err := c.byTags(in)
		problems, cause = c.tagProblems(err), err
	}
	if c.method {
		if err := c.ownValidate(in); err != nil {
			own := methodProblems(err)
			if c.secrets {
				own = withoutSecrets(in, own)
			}
			problems = append(problems, own...)
			if cause == nil {
				cause = err
			} else {
				cause = errors.Join(cause, err)
			}
		}
	}
	return problems, cause
}

// ownValidate calls the input's own method, which a pointer to it may have, or, of
// an input that is a pointer, it itself.
func (c *validationChecks) ownValidate(in any) error {
	if own, ok := in.(selfValidator); ok {
		return own.Validate()
	}
	v := reflect.ValueOf(in).Elem()
	if v.Kind() == reflect.Pointer && v.IsNil() {
		return Errorf(CodeInvalid, "the input is a nil %s", c.typ)
	}
	return v.Interface().(selfValidator).Validate()
}

// byTags runs validator on the input, or on what in points to. It panics on a tag that does not fit its field's type,
// where the zero value did not tell at definition: that is an answer too.
func (c *validationChecks) byTags(in any) (err error) {
	defer func() {
		if reason := recover(); reason != nil {
			err = Errorf(CodeInternal, "a validate tag of %s does not fit the type of its field", c.typ)
		}
	}()
	v := reflect.ValueOf(in)
	if v.Type() != c.typ {
		v = v.Elem()
	}
	switch v.Kind() {
	case reflect.Struct:
		return tagValidator().Struct(in)
	case reflect.Pointer:
		if v.IsNil() {
			return Errorf(CodeInvalid, "the input is a nil %s", c.typ)
		}
		return tagValidator().Struct(v.Interface())
	default: // a slice, array or map of structs with tags
		return tagValidator().Var(v.Interface(), "dive")
	}
}

// prefixOf is with what validator begins a path: the name of the input's type, which
// says nothing.
func prefixOf(typ reflect.Type) string {
	for typ.Kind() == reflect.Pointer {
		typ = typ.Elem()
	}
	return typ.Name() + "."
}

func (c *validationChecks) tagProblems(err error) []Problem {
	if err == nil {
		return nil
	}
	fields, ok := errors.AsType[validator.ValidationErrors](err)
	if !ok {
		return []Problem{{Rule: "validate", Message: safeText(err)}}
	}
	problems := make([]Problem, len(fields))
	for i, f := range fields {
		problems[i] = c.tagProblem(f)
	}
	return problems
}

func (c *validationChecks) tagProblem(f validator.FieldError) Problem {
	key := ruleViolation{strings.TrimPrefix(f.StructNamespace(), c.prefix), f.Tag(), f.Param(), f.Kind()}
	known := c.messages.Load()
	if known != nil {
		if p, ok := (*known)[key]; ok {
			return p
		}
	}
	p := Problem{Field: withoutKeys(key.path), Rule: key.tag, Message: withoutKeys(englishMessage(f))}
	if strings.IndexByte(key.path, '[') < 0 { // an index has no bound, and a key is a value
		more := map[ruleViolation]Problem{key: p}
		if known != nil {
			maps.Copy(more, *known)
		}
		c.messages.CompareAndSwap(known, &more) // who comes too late does so again
	}
	return p
}

// mapKey is the key of a map in validator's path, which is a value of the input's;
// the number of an element is none.
var mapKey = regexp.MustCompile(`\[[^\]]*[^\]0-9][^\]]*\]`)

func withoutKeys(path string) string {
	if strings.IndexByte(path, '[') < 0 {
		return path
	}
	return mapKey.ReplaceAllString(path, "[key]")
}

func englishMessage(f validator.FieldError) string {
	text := f.Translate(english())
	if text == f.Error() { // validator has no English sentence for this rule
		text = f.Field() + " must satisfy the rule " + f.Tag()
		if f.Param() != "" {
			text += "=" + f.Param()
		}
	}
	return text
}

// methodProblems takes apart what an input's own Validate returned: joined
// errors are a problem each, and a *Error brings its Problems.
func methodProblems(err error) []Problem {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		if _, ours := err.(*Error); !ours {
			var problems []Problem
			for _, e := range joined.Unwrap() {
				problems = append(problems, methodProblems(e)...)
			}
			return problems
		}
	}
	if e, ok := errors.AsType[*Error](err); ok && e != nil {
		if len(e.Problems) > 0 {
			return e.Problems
		}
		return []Problem{{Rule: "validate", Message: e.Message}}
	}
	// Validate is written to tell the caller: its text is the message.
	return []Problem{{Rule: "validate", Message: err.Error()}}
}

// withoutSecrets strikes the values of in's secret fields out of the messages of problems,
// which it copies. However many of both there are, each is read once.
func withoutSecrets(in any, problems []Problem) []Problem {
	var pairs []string
	for _, secret := range redact.Texts(reflect.ValueOf(in)) {
		if secret != "" {
			pairs = append(pairs, secret, redact.Placeholder)
		}
	}
	strike := strings.NewReplacer(pairs...)
	problems = slices.Clone(problems)
	for i := range problems {
		problems[i].Message = strike.Replace(problems[i].Message)
	}
	return problems
}
