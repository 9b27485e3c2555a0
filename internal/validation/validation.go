// Package validation checks an input by the validate tags of its fields and by its own
// Validate method, and parses such tags. It reports problems. It knows no commands and no
// errors of pgcmd.
package validation

import (
	"errors"
	"fmt"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/go-playground/locales/en"
	ut "github.com/go-playground/universal-translator"
	"github.com/go-playground/validator/v10"
	entranslations "github.com/go-playground/validator/v10/translations/en"

	"github.com/pgcmd/pgcmd/internal/problem"
	"github.com/pgcmd/pgcmd/internal/redact"
	"github.com/pgcmd/pgcmd/internal/structfields"
)

// cache holds the validation of each input type. It is compiled once, however many commands
// take the type.
var cache sync.Map // reflect.Type -> *Checks, nil for a type with nothing to check

// Checks is the validation of one input type.
type Checks struct {
	typ       reflect.Type
	tags      bool // some field has a validate tag
	HasMethod bool // the type, or a pointer to it, has Validate() error
	secrets   bool // some field has the tag secret
	dives     bool // some tag applies to the elements of a slice, an array or a map

	more func(in reflect.Value) []problem.Problem // see With

	prefix   string // of the paths that validator reports
	messages atomic.Pointer[map[violation]problem.Problem]
	ofMethod func(error) []problem.Problem
}

// A violation is a rule that a field breaks. It holds no value of an input, so that its
// message can be made once and kept.
type violation struct {
	path, tag, param string
	kind             reflect.Kind // of the value in an interface
}

// An inputError is why an input cannot be validated.
type inputError string

func (e inputError) Error() string { return string(e) }

type selfValidator interface{ Validate() error }

var (
	tagValidator = sync.OnceValue(func() *validator.Validate {
		return validator.New(validator.WithRequiredStructEnabled())
	})
	english = sync.OnceValue(func() ut.Translator {
		lang := en.New()
		translator, _ := ut.New(lang, lang).GetTranslator("en")
		if err := entranslations.RegisterDefaultTranslations(tagValidator(), translator); err != nil {
			panic(err) // the versions of the libraries do not match; any test finds it
		}
		return translator
	})
)

// Compile returns the validation of an input type, nil if there is nothing to check, which
// is cached. The error is a tag that validator does not know. ofMethod returns the problems
// in an error of a Validate method.
func Compile(typ reflect.Type, ofMethod func(error) []problem.Problem) (*Checks, error) {
	if cached, ok := cache.Load(typ); ok {
		return cached.(*Checks), nil
	}
	pointer := reflect.PointerTo(typ)
	c := &Checks{
		typ:       typ,
		prefix:    prefixOf(typ),
		tags:      hasTag(typ),
		HasMethod: pointer.Implements(reflect.TypeFor[selfValidator]()) || typ.Implements(reflect.TypeFor[selfValidator]()),

		ofMethod: ofMethod,
	}
	c.secrets = redact.MayHoldSecrets(typ)
	c.dives = c.tags && canDive(typ)
	if c.tags {
		if err := parseTags(typ); err != nil {
			return nil, err
		}
	}
	if !c.tags && !c.HasMethod {
		c = nil
	}
	cache.Store(typ, c)
	return c, nil
}

// HasTags reports whether validator has something to check.
func (c *Checks) HasTags() bool { return c.tags }

// With returns checks of a type that are those of c, which may be nil, and more, which returns
// the problems that it finds.
func (c *Checks) With(typ reflect.Type, more func(in reflect.Value) []problem.Problem) *Checks {
	if c == nil {
		c = &Checks{}
	}
	return &Checks{typ: typ, tags: c.tags, HasMethod: c.HasMethod, secrets: c.secrets, dives: c.dives,
		more: more, prefix: prefixOf(typ), ofMethod: c.ofMethod}
}

// CompileLater makes Compile return the validation of a type that is known to have tags,
// which are correct, and no Validate method. validator parses them with the first input.
func CompileLater(typ reflect.Type) {
	cache.Store(typ, &Checks{typ: typ, prefix: prefixOf(typ), tags: true})
}

// hasTag reports whether t contains a struct with a field that has a validate tag.
func hasTag(t reflect.Type) bool {
	return structfields.Contains(t, func(t reflect.Type) bool {
		return structfields.HasField(t, func(f reflect.StructField) bool {
			v, ok := f.Tag.Lookup("validate")
			return ok && v != "-" && v != "false"
		})
	})
}

// parseTags makes validator parse the tags of every struct in t now: a tag that it does not
// know is an error of the definition, not of a later input.
func parseTags(t reflect.Type) (err error) {
	structfields.Contains(t, func(t reflect.Type) bool {
		if t.Kind() != reflect.Struct || !hasTag(t) {
			return false
		}
		reason := panicOf(func() { _ = tagValidator().Struct(reflect.New(t).Interface()) })
		if reason == nil {
			return false
		}
		field, found := wrongField(t)
		if found || err == nil { // else it is of a struct within t
			err = fmt.Errorf("a validate tag of %s is wrong: %v", field, reason)
		}
		return found
	})
	return err
}

// wrongField names the field of t with a tag that validator panics on, since its reason does not
// always name one; t if there is none.
func wrongField(t reflect.Type) (name string, found bool) {
	for f := range t.Fields() {
		if panicOf(func() { _ = tagValidator().Var(reflect.Zero(f.Type).Interface(), f.Tag.Get("validate")) }) != nil {
			return t.String() + "." + f.Name, true
		}
	}
	return t.String(), false
}

// panicOf returns what f panics with, nil if it does not.
func panicOf(f func()) (reason any) {
	defer func() { reason = recover() }()
	f()
	return nil
}

// Problems returns the problems of the input that in points to, those of its tags first,
// then those of its Validate method and of With, and the error that they come from; nil if
// there are none. An input without a method may be passed by value: validator then need not copy the
// fields that it reports.
func (c *Checks) Problems(in any) ([]problem.Problem, error) {
	var problems []problem.Problem
	var cause error
	if c.tags {
		err := c.byTags(in)
		problems, cause = c.tagProblems(err), err
	}
	if c.HasMethod {
		if err := c.ownValidate(in); err != nil {
			own := c.ofMethod(err)
			if c.secrets {
				own = withoutSecrets(in, own)
			}
			problems = append(problems, own...)
			cause = join(cause, err)
		}
	}
	if c.more != nil {
		v := reflect.ValueOf(in)
		if v.Type() != c.typ {
			v = v.Elem()
		}
		if found := c.more(v); len(found) > 0 {
			problems = append(problems, found...)
			cause = join(cause, inputError("a field names none of what can be chosen"))
		}
	}
	return problems, cause
}

// join is the cause of what two checks found, of which the first may be nil.
func join(cause, err error) error {
	if cause == nil {
		return err
	}
	return errors.Join(cause, err)
}

// ownValidate calls the Validate method of in, or, of an input that is a pointer, that of
// the value that in points to.
func (c *Checks) ownValidate(in any) error {
	if own, ok := in.(selfValidator); ok {
		return own.Validate()
	}
	v := reflect.ValueOf(in).Elem()
	if v.Kind() == reflect.Pointer && v.IsNil() {
		return inputError(fmt.Sprintf("the input is a nil %s: pass a value", c.typ))
	}
	return v.Interface().(selfValidator).Validate()
}

// byTags runs validator on in, or on the value that in points to. validator panics on a tag
// that does not fit the type of its field, which the zero value at definition may not show.
func (c *Checks) byTags(in any) (err error) {
	defer func() {
		if reason := recover(); reason != nil {
			err = inputError(fmt.Sprintf("a validate tag of %s does not fit the type of its field: change the tag", c.typ))
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
			return inputError(fmt.Sprintf("the input is a nil %s: pass a value", c.typ))
		}
		return tagValidator().Struct(v.Interface())
	default: // a slice, array or map of structs with tags
		return tagValidator().Var(v.Interface(), "dive")
	}
}

// prefixOf returns the beginning of validator's paths, the name of the input's type, which
// is not reported.
func prefixOf(typ reflect.Type) string {
	for depth := 0; depth < 8 && typ.Kind() == reflect.Pointer; depth++ { // a type may point to itself
		typ = typ.Elem()
	}
	return typ.Name() + "."
}

func (c *Checks) tagProblems(err error) []problem.Problem {
	if err == nil {
		return nil
	}
	if e, ok := err.(inputError); ok {
		return []problem.Problem{{Rule: "validate", Message: string(e)}}
	}
	fields, ok := errors.AsType[validator.ValidationErrors](err)
	if !ok { // its text may hold a value
		return []problem.Problem{{Rule: "validate", Message: fmt.Sprintf("%T", err)}}
	}
	problems := make([]problem.Problem, len(fields))
	for i, f := range fields {
		problems[i] = c.tagProblem(f)
	}
	return problems
}

func (c *Checks) tagProblem(f validator.FieldError) problem.Problem {
	key := violation{strings.TrimPrefix(f.StructNamespace(), c.prefix), f.Tag(), f.Param(), f.Kind()}
	known := c.messages.Load()
	if known != nil {
		if p, ok := (*known)[key]; ok {
			return p
		}
	}
	p := problem.Problem{Field: withoutKeys(key.path), Rule: key.tag, Message: messageOf(f, withoutKeys(f.Field()))}
	if strings.IndexByte(key.path, '[') < 0 { // there may be any number of indexes, and a key is a value
		more := map[violation]problem.Problem{key: p}
		if known != nil {
			maps.Copy(more, *known)
		}
		c.messages.CompareAndSwap(known, &more) // if another goroutine was faster, it is made again
	}
	return p
}

// mapKey matches the key of a map in a path, which is a value of the input. It does not
// match the index of an element.
var mapKey = regexp.MustCompile(`\[[^\]]*[^\]0-9][^\]]*\]`)

func withoutKeys(path string) string {
	if strings.IndexByte(path, '[') < 0 {
		return path
	}
	return mapKey.ReplaceAllString(path, "[key]")
}

// messageOf is the English message about a field, which it calls name.
func messageOf(f validator.FieldError, name string) string {
	message := englishMessage(f)
	if rest, ok := strings.CutPrefix(message, f.Field()+" "); ok { // which may have brackets, as that of oneof
		return name + " " + rest
	}
	return withoutKeys(message)
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

// withoutSecrets returns a copy of problems in whose messages the values of in's secret
// fields are replaced. It reads each value and each message once.
func withoutSecrets(in any, problems []problem.Problem) []problem.Problem {
	var pairs []string
	for _, secret := range redact.Texts(reflect.ValueOf(in)) {
		pairs = append(pairs, secret, redact.Placeholder)
	}
	hide := strings.NewReplacer(pairs...)
	problems = slices.Clone(problems)
	for i := range problems {
		problems[i].Message = hide.Replace(problems[i].Message)
	}
	return problems
}
