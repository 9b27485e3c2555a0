package pgcmd

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/pgcmd/pgcmd/internal/jsonfields"
	"github.com/pgcmd/pgcmd/internal/jsonschema"
	"github.com/pgcmd/pgcmd/internal/problem"
	"github.com/pgcmd/pgcmd/internal/redact"
	"github.com/pgcmd/pgcmd/internal/rowjson"
	"github.com/pgcmd/pgcmd/internal/strictjson"
)

// A Catalog is commands by name, for callers who have JSON and no Go types: an
// HTTP handler, a queue, a model. It never changes once made.
type Catalog struct {
	entries map[string]*catalogEntry
	names   []string // sorted
}

// A listing is what a catalog knows of one command.
type catalogEntry struct {
	*descriptor
	def                       *definition
	info                      CommandInfo
	inputSchema, outputSchema *jsonschema.Schema
	showsAny                  bool // the output may hold rows that are maps
}

// NewCatalog makes a catalog of commands. What cannot be in one panics, with all
// that is wrong in any of them: two commands of one name, and a type that has no JSON
// form, as a channel, a function or the sequence of a [Copy] has none, or one that loses
// what the type holds, since that is unexported. A Query
// without MaxRows gets one of 10,000.
func NewCatalog(defs ...Definition) *Catalog {
	c := &Catalog{entries: make(map[string]*catalogEntry, len(defs))}
	first := make(map[string]int, len(defs))
	var mistakes []string
	for i, def := range defs {
		if def == nil || def.definition() == nil {
			mistakes = append(mistakes, fmt.Sprintf("definition %d is nil: is the variable set before the catalog is made?", i))
			continue
		}
		name := def.Name()
		if at, taken := first[name]; taken {
			mistakes = append(mistakes, fmt.Sprintf("%s names two commands, definition %d (%T) and definition %d (%T): rename one", name, at, defs[at], i, def))
			continue
		}
		first[name] = i
		l, wrong := newCatalogEntry(def.definition())
		mistakes = append(mistakes, wrong...)
		c.entries[name] = l
		c.names = append(c.names, name)
	}
	if len(mistakes) > 0 {
		panic("pgcmd: NewCatalog: " + strings.Join(mistakes, "; "))
	}
	slices.Sort(c.names)
	return c
}

// Limit returns a copy of c in which the command called name returns at most so many rows
// and bytes, as [Options].MaxRows and MaxBytes have it: it lowers what those allow, and
// never raises it. Zero leaves one as it is, and a command whose rows pgcmd does not read
// itself, as one with a body, is left as it is. It panics if there is none of that name.
func (c *Catalog) Limit(name string, maxRows, maxBytes int) *Catalog {
	l := c.entries[name]
	if l == nil {
		panic("pgcmd: Catalog.Limit: " + c.unknown(name).Message)
	}
	lower := func(to, from int) int {
		if to > 0 && (from == 0 || from > to) {
			return to
		}
		return 0
	}
	var o Options
	if l.rowType != nil {
		o.MaxBytes = lower(maxBytes, l.options.MaxBytes)
	}
	if l.returnsMany() {
		o.MaxRows = lower(maxRows, l.options.MaxRows)
	}
	if o.MaxBytes == 0 && o.MaxRows == 0 {
		return c
	}
	limited, mistakes := newCatalogEntry(l.def.with(&o))
	if len(mistakes) > 0 { // there were none
		panic("pgcmd: Catalog.Limit: " + strings.Join(mistakes, "; "))
	}
	less := &Catalog{entries: maps.Clone(c.entries), names: c.names}
	less.entries[name] = limited
	return less
}

const catalogMaxRows = 10_000

// newCatalogEntry makes the listing of a command, or says why there can be none.
func newCatalogEntry(def *definition) (l *catalogEntry, mistakes []string) {
	s := def.descriptor()
	if s.input.Kind() == reflect.Func {
		return nil, []string{s.name + ": a Copy cannot be in a catalog, since its sequence has no JSON form: " +
			"catalog a Transaction or a New command that takes the rows as a slice, and runs the Copy"}
	}
	if s.options.MaxRows == 0 && s.returnsMany() {
		def = def.with(&Options{MaxRows: catalogMaxRows})
		s = def.descriptor()
	}
	l = &catalogEntry{descriptor: s, def: def}
	var wrong []string
	l.inputSchema, mistakes = jsonschema.Of("input", s.input, jsonForms)
	l.outputSchema, wrong = jsonschema.Of("output", s.output, jsonForms)
	mistakes = append(mistakes, wrong...)
	for i := range mistakes {
		mistakes[i] = s.name + ": " + mistakes[i]
	}
	l.showsAny = rowjson.MayHoldAny(s.output)
	l.info = l.describe()
	return l, mistakes
}

// Run runs the command called name with an input in JSON, and returns its output
// in JSON, in which the text of a field tagged `secret:"true"` reads [secret] and
// any other secret is zero. No input at all stands for {}.
//
// The values of rows that are maps are shown as to_json of PostgreSQL shows them, by the
// types of their columns; docs/json.md has them all.
//
// The input is read strictly: a field that is not known or comes twice, a number
// that does not fit, null for what is no pointer, and text after the value are
// refused, all of them at once, before anything is sent. It is validated even for a
// Trusted command. The Problems of the error name the fields as the JSON does, as
// in items[2].qty. Reading ends after 50 problems, which the message says, and when ctx
// is done: an input that is refused costs a small multiple of its length, and what the
// Go values read so far take. A name that is not in the catalog is CodeNotFound.
//
// A non-nil error is always an [*Error], and the output is then nil, but of a
// [Batch], whose result says how each item went.
func (c *Catalog) Run(ctx context.Context, db DB, name string, input json.RawMessage) (json.RawMessage, error) {
	e, ok := c.entries[name]
	if !ok {
		return nil, c.unknown(name)
	}
	return e.run(ctx, db, input)
}

func (l *catalogEntry) run(ctx context.Context, db DB, input []byte) (json.RawMessage, error) {
	var recorded *rowjson.Rows
	if l.showsAny {
		ctx, recorded = rowjson.Record(ctx)
	}
	out, failure := l.def.runJSON(ctx, db, input)
	if failure != nil {
		failure = l.inJSONNames(failure)
		if out == nil || !l.batch {
			return nil, failure
		}
	}
	if l.showsAny {
		rowjson.Convert(reflect.ValueOf(out).Elem(), recorded, writesFields)
	}
	var text json.RawMessage
	err := errCyclic
	if hideSecrets(reflect.ValueOf(out).Elem()) {
		text, err = encodeJSON(out)
	}
	if err != nil && failure == nil {
		e := &Error{Code: CodeInternal, Effect: effectAfterSuccess(db, l.own.ReadOnly, l.isStatement || l.inTx), Attempts: 1, Err: err,
			Message: "the output has no JSON form, as NaN, the infinities and what holds itself have none"}
		return nil, e.prefixCommand(l.name)
	}
	return text, failure
}

// unknown does not repeat the name that was asked for: it is the caller's text.
func (c *Catalog) unknown(name string) *Error {
	e := &Error{Code: CodeNotFound, Effect: NotApplied, Message: "the catalog has no command of that name"}
	if len(c.names) == 0 {
		e.Message = "the catalog is empty"
		return e
	}
	if near := strictjson.Suggest(name, c.names); near != "" {
		e.Message += ": did you mean " + near + "?"
	}
	e.Message += " (has: " + strictjson.List(c.names) + ")"
	return e
}

// runJSON decodes and runs. The output is a pointer, and nil if nothing ran.
func (d *definition) runJSON(ctx context.Context, db DB, input []byte) (any, error) {
	inv := d.newInvocation()
	err := d.decode(ctx, input, inv.in)
	if err == nil && d.opts.Trusted { // by its Go callers, and not by these
		err = d.validate(inv.in, problem.Max)
	}
	if err != nil {
		return nil, err
	}
	if _, e := d.runObserved(ctx, db, inv); e != nil {
		err = e
	}
	return inv.out, err
}

// decode reads the input, and refuses one that validation would find more wrong with
// than is worth to collect.
func (c *definition) decode(ctx context.Context, input []byte, in any) error {
	v := reflect.ValueOf(in).Elem()
	found, err := strictjson.Decode(ctx, input, v)
	if err == nil && len(found) == 0 {
		found, err = validationOf(c.name, v.Type()).TooMany(ctx, v, c.batch != nil && !c.isAtomic)
	}
	switch {
	case err != nil:
		return c.notSentError(newUnsentError(ctx, err))
	case len(found) > 0:
		return c.notSentError((&Error{Code: CodeInvalid, Message: refusedFor(len(found)), Problems: problemsOf(found)}).bounded())
	}
	return nil
}

// bounded is e with its first problem.Max problems, and a message that says so.
func (e *Error) bounded() *Error {
	if len(e.Problems) <= problem.Max {
		return e
	}
	short := *e
	short.Problems = e.Problems[:problem.Max:problem.Max]
	short.Message = fmt.Sprintf("the input was refused for more than %d reasons, of which these are the first", problem.Max)
	return &short
}

// hideSecrets hides the secrets in v, which must be settable. It reports whether the rest
// is complete. An Error shows no secret by itself.
func hideSecrets(v reflect.Value) (whole bool) { return redact.InPlace(v, reflect.TypeFor[*Error]()) }

var errCyclic = errors.New("pgcmd: the output holds itself, or is nested too deep")

// encodeJSON takes a pointer so that a MarshalJSON of the pointer's is used.
func encodeJSON(v any) (json.RawMessage, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// inJSONNames is err with the fields that validation named as Go does named as the
// JSON does.
func (l *catalogEntry) inJSONNames(err error) error {
	whole, ok := err.(*Error)
	if !ok || len(whole.Problems) == 0 || strings.Contains(whole.Command, " > ") { // of a command that this one ran
		return err
	}
	e := *whole.bounded()
	e.Problems = slices.Clone(e.Problems)
	for i := range e.Problems {
		p := &e.Problems[i]
		typ := l.input
		if l.batch && !strings.HasPrefix(p.Field, "[") {
			typ = typ.Elem() // it is the culprit's own
		}
		path, ok := jsonfields.Path(typ, p.Field)
		if !ok {
			continue
		}
		if rest, found := strings.CutPrefix(p.Message, problem.LastName(p.Field)+" "); found {
			p.Message = problem.LastName(path) + " " + rest
		}
		p.Field = path
	}
	return &e
}
