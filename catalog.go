package pgcmd

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
)

// A Catalog is commands by name, for callers who have JSON and no Go types: an
// HTTP handler, a queue, a model. It never changes once made.
type Catalog struct {
	listings map[string]*listing
	names    []string // sorted
}

// A listing is what a catalog knows of one command.
type listing struct {
	info          CommandInfo
	input, output *schema
	sql           string   // of a statement; else empty
	params        []string // params[i] is the field that is $i+1 in sql
	parts         parts
	job           func() job // a run of it
}

// NewCatalog makes a catalog of commands. Two of one name panic, and so does a
// command whose input or output has no JSON form, as a channel or the sequence of a
// [Copy] has none. A Query without MaxRows gets one of 10,000.
func NewCatalog(defs ...Definition) *Catalog {
	c := &Catalog{listings: make(map[string]*listing, len(defs))}
	first := make(map[string]int, len(defs))
	for i, def := range defs {
		if def == nil || reflect.ValueOf(def).IsNil() {
			panic(fmt.Sprintf("pgcmd: NewCatalog was given nil as definition %d", i))
		}
		name := def.Name()
		if at, taken := first[name]; taken {
			panic(fmt.Sprintf("pgcmd: NewCatalog: %s names two commands, definition %d (%T) and definition %d (%T): rename one",
				name, at, defs[at], i, def))
		}
		first[name] = i
		c.listings[name] = listingOf(def)
		c.names = append(c.names, name)
	}
	slices.Sort(c.names)
	return c
}

// Run runs the command called name with an input in JSON, and returns its output
// in JSON, in which the text of a field tagged `secret:"true"` reads [secret] and
// any other secret is zero. No input at all stands for {}.
//
// The input is read strictly: a field that is not known or comes twice, a number
// that does not fit, null for what is no pointer, and text after the value are
// refused, all of them at once, before anything is sent. It is validated even for a
// Trusted command. The Problems of the error name the fields as the JSON does, as
// in items[2].qty. A name that is not in the catalog is CodeNotFound.
//
// A non-nil error is always an [*Error], and the output is then nil, but of a
// [Batch], whose result says how each item went.
func (c *Catalog) Run(ctx context.Context, db DB, name string, input json.RawMessage) (json.RawMessage, error) {
	e, ok := c.listings[name]
	if !ok {
		return nil, c.unknown(name)
	}
	return e.run(ctx, db, input)
}

// unknown does not repeat the name that was asked for: it is the caller's text.
func (c *Catalog) unknown(name string) *Error {
	e := &Error{Code: CodeNotFound, Effect: NotApplied, Message: "the catalog has no command of that name"}
	if len(c.names) == 0 {
		e.Message = "the catalog is empty"
		return e
	}
	if near := nearest(name, c.names); near != "" {
		e.Message += ": did you mean " + near + "?"
	}
	const most = 20
	shown := c.names[:min(len(c.names), most)]
	e.Message += " (has: " + strings.Join(shown, ", ")
	if more := len(c.names) - len(shown); more > 0 {
		e.Message += fmt.Sprintf(", and %d more", more)
	}
	e.Message += ")"
	return e
}

const catalogMaxRows = 10_000

// listingOf makes the listing of a command.
func listingOf(def Definition) *listing {
	p := def.parts()
	if p.in.Kind() == reflect.Func {
		panic(fmt.Sprintf("pgcmd: %s: a Copy cannot be in a catalog, since its sequence has no JSON form: "+
			"catalog a Transaction or a New command that takes the rows as a slice, and runs the Copy", p.core.name))
	}
	if p.item().core.opts.MaxRows == 0 && p.returnsRows() {
		def = def.capped(catalogMaxRows)
		p = def.parts()
	}
	l := &listing{
		input:  schemaOf(p.core.name, "input", p.in),
		output: schemaOf(p.core.name, "output", p.out),
		parts:  p,
		job:    def.job,
	}
	l.info = p.info(l.input, l.output)
	if s := p.statement(); s != nil {
		l.sql, l.params = s.text.SQL, s.params
	}
	return l
}

// run decodes, runs and encodes.
func (l *listing) run(ctx context.Context, db DB, input []byte) (json.RawMessage, error) {
	c, j := l.parts.core, l.job()
	if problems := decodeJSON(input, reflect.ValueOf(j.target()).Elem()); problems != nil {
		e := &Error{Code: CodeInvalid, Message: "the input was refused", Problems: problems}
		if len(problems) > 1 {
			e.Message = fmt.Sprintf("the input was refused for %d reasons", len(problems))
		}
		return nil, c.refused(e)
	}
	if c.opts.Trusted { // by its Go callers, and not by these
		if err := j.validate(); err != nil {
			return nil, l.parts.inJSONNames(err)
		}
	}
	var failure error
	if _, e := c.whole(ctx, db, j); e != nil {
		failure = l.parts.inJSONNames(e)
		if !c.batch {
			return nil, failure
		}
	}
	text, err := encodeJSON(pointerWithSecretsHidden(j.output()))
	if err != nil && failure == nil {
		e := &Error{Code: CodeInternal, Effect: c.completed(db), Attempts: 1, Err: err,
			Message: "the output has no JSON form, as NaN and the infinities have none"}
		return nil, e.within(c.name)
	}
	return text, failure
}

// encodeJSON takes a pointer so that a MarshalJSON of the pointer's is used.
func encodeJSON(pointer any) (json.RawMessage, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(pointer); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// inJSONNames is err with the fields that validation named as Go does named as the
// JSON does.
func (p parts) inJSONNames(err error) error {
	whole, ok := err.(*Error)
	if !ok || len(whole.Problems) == 0 || strings.Contains(whole.Command, " > ") { // of a command that this one ran
		return err
	}
	e := *whole
	e.Problems = slices.Clone(e.Problems)
	for i := range e.Problems {
		problem := &e.Problems[i]
		typ := p.in
		if p.core.batch && !strings.HasPrefix(problem.Field, "[") {
			typ = typ.Elem() // it is the culprit's own
		}
		path, ok := jsonPath(typ, problem.Field)
		if !ok {
			continue
		}
		if rest, found := strings.CutPrefix(problem.Message, lastName(problem.Field)+" "); found {
			problem.Message = lastName(path) + " " + rest
		}
		problem.Field = path
	}
	return &e
}

func lastName(path string) string { return path[strings.LastIndexByte(path, '.')+1:] }
