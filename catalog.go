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
	run           func(ctx context.Context, db DB, input []byte) (json.RawMessage, error)
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
		c.listings[name] = def.(interface{ listing() *listing }).listing()
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

// listing makes the listing of a command.
func (c *Command[In, Out]) listing() *listing {
	in, out := reflect.TypeFor[In](), reflect.TypeFor[Out]()
	if in.Kind() == reflect.Func {
		panic(fmt.Sprintf("pgcmd: %s: a Copy cannot be in a catalog, since its sequence has no JSON form: "+
			"catalog a Transaction or a New command that takes the rows as a slice, and runs the Copy", c.name))
	}
	if c.itemOptions().MaxRows == 0 && c.returnsRows() {
		c = c.With(Options{MaxRows: catalogMaxRows})
	}
	e := &listing{
		input:  schemaOf(c.name, "input", in),
		output: schemaOf(c.name, "output", out),
		run:    c.runJSON,
	}
	e.info = c.info(e.input, e.output)
	if c.piped != nil {
		statement := c.piped(c.opts).statement
		e.sql, e.params = statement.text.SQL, statement.params
	}
	return e
}

// itemOptions are the options of the command, or, of a batch, those of its items.
func (c *Command[In, Out]) itemOptions() Options {
	if c.batching != nil {
		return c.batching.subject().options
	}
	return c.opts
}

// returnsRows reports whether MaxRows bounds the command: it is a Query, or a batch
// of them.
func (c *Command[In, Out]) returnsRows() bool {
	out := reflect.TypeFor[Out]()
	if c.batch != nil {
		outcomes, _ := out.FieldByName("Outcomes")
		out = reflect.Zero(outcomes.Type.Elem()).Interface().(outcome).valueType()
	}
	return (c.define != nil || c.batch != nil) && out.Kind() == reflect.Slice
}

// runJSON decodes, runs and encodes.
func (c *Command[In, Out]) runJSON(ctx context.Context, db DB, input []byte) (json.RawMessage, error) {
	var in In
	if problems := decodeJSON(input, reflect.ValueOf(&in).Elem()); problems != nil {
		e := &Error{Code: CodeInvalid, Message: "the input was refused", Problems: problems}
		if len(problems) > 1 {
			e.Message = fmt.Sprintf("the input was refused for %d reasons", len(problems))
		}
		return nil, c.refused(e)
	}
	if c.opts.Trusted { // by its Go callers, and not by these
		if err := c.Validate(in); err != nil {
			return nil, c.inJSONNames(err)
		}
	}
	out, failure := c.Run(ctx, db, in)
	if failure != nil {
		failure = c.inJSONNames(failure)
		if c.batching == nil {
			return nil, failure
		}
	}
	out = withSecretsHidden(out)
	text, err := encodeJSON(&out)
	if err != nil && failure == nil {
		e := &Error{Code: CodeInternal, Effect: c.completed(db), Attempts: 1, Err: err,
			Message: "the output has no JSON form, as NaN and the infinities have none"}
		return nil, e.within(c.name)
	}
	return text, failure
}

// encodeJSON takes a pointer so that a MarshalJSON of the pointer's is used.
func encodeJSON[T any](v *T) (json.RawMessage, error) {
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
func (c *Command[In, Out]) inJSONNames(err error) error {
	whole, ok := err.(*Error)
	if !ok || len(whole.Problems) == 0 || strings.Contains(whole.Command, " > ") { // of a command that this one ran
		return err
	}
	e := *whole
	e.Problems = slices.Clone(e.Problems)
	for i := range e.Problems {
		p := &e.Problems[i]
		typ := reflect.TypeFor[In]()
		if c.batching != nil && !strings.HasPrefix(p.Field, "[") {
			typ = typ.Elem() // it is the culprit's own
		}
		path, ok := jsonPath(typ, p.Field)
		if !ok {
			continue
		}
		if rest, found := strings.CutPrefix(p.Message, lastName(p.Field)+" "); found {
			p.Message = lastName(path) + " " + rest
		}
		p.Field = path
	}
	return &e
}

func lastName(path string) string { return path[strings.LastIndexByte(path, '.')+1:] }
