package pgcmd

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/pgcmd/pgcmd/internal/catalogmd"
	"github.com/pgcmd/pgcmd/internal/jsonfields"
	"github.com/pgcmd/pgcmd/internal/jsonschema"
	"github.com/pgcmd/pgcmd/internal/problem"
	"github.com/pgcmd/pgcmd/internal/redact"
	"github.com/pgcmd/pgcmd/internal/rowjson"
	"github.com/pgcmd/pgcmd/internal/strictjson"
)

// A Catalog runs commands by name, for callers that have JSON and no Go types: an HTTP
// handler, a queue, a model. It is immutable.
type Catalog struct {
	entries map[string]*catalogEntry
	names   []string // sorted
}

// A catalogEntry is one command of a catalog.
type catalogEntry struct {
	*descriptor
	def                       *definition
	info                      CommandInfo // without its schemas
	inputSchema, outputSchema *jsonschema.Cached
	showsAny                  bool // the output may hold rows that are maps
}

// NewCatalog makes a catalog of commands. It panics, and lists everything that is wrong, if
// two commands have the same name, or if a type has no JSON form (a channel, a function, the
// sequence of a [Copy]) or one that loses unexported fields. A Query without MaxRows gets
// that of [Config], and returns 10,000 rows at most.
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
// and bytes, like [Options].MaxRows and MaxBytes: it lowers those limits and those of
// [Config], and never raises them. Zero leaves a limit as it is. A command with a Go body,
// whose rows pgcmd does not read, is left as it is. It panics if there is no command of that name.
func (c *Catalog) Limit(name string, maxRows, maxBytes int) *Catalog {
	l := c.entries[name]
	if l == nil {
		panic("pgcmd: Catalog.Limit: " + c.unknown(name).Message)
	}
	var most limits
	if l.rowType != nil {
		most.bytes = maxBytes
	}
	if l.returnsMany() {
		most.rows = maxRows
	}
	if most == (limits{}) {
		return c
	}
	limited, mistakes := newCatalogEntry(l.def.atMost(most))
	if len(mistakes) > 0 { // there were none
		panic("pgcmd: Catalog.Limit: " + strings.Join(mistakes, "; "))
	}
	less := &Catalog{entries: maps.Clone(c.entries), names: c.names}
	less.entries[name] = limited
	return less
}

// newCatalogEntry makes the entry of a command, or returns why there can be none.
func newCatalogEntry(def *definition) (l *catalogEntry, mistakes []string) {
	s := def.descriptor()
	if s.input.Kind() == reflect.Func {
		return nil, []string{s.name + ": a Copy cannot be in a catalog, since its sequence has no JSON form: " +
			"catalog a Transaction or a New command that takes the rows as a slice, and runs the Copy"}
	}
	if s.options.MaxRows == 0 && s.returnsMany() {
		def = def.atMost(limits{rows: defaultMaxRows})
		s = def.descriptor()
	}
	l = &catalogEntry{descriptor: s, def: def, inputSchema: s.schemaOfInput(), outputSchema: schemas.Of("output", s.output)}
	for _, mistake := range slices.Concat(l.inputSchema.Mistakes, l.outputSchema.Mistakes) {
		mistakes = append(mistakes, s.name+": "+mistake)
	}
	l.showsAny = rowjson.MayHoldAny(s.output)
	l.info = l.describe()
	return l, mistakes
}

// schemas are those of all catalogs.
var schemas = jsonschema.Cache{Forms: jsonForms}

// schemaOfInput is that of the input's type, and of what its fields can choose.
func (s *descriptor) schemaOfInput() *jsonschema.Cached {
	var enums []jsonschema.Enum
	if s.variants != nil {
		for _, c := range s.variants.fields.Choices {
			enums = append(enums, jsonschema.Enum{Type: s.in, Index: c.Index, Values: append([]string{""}, c.Options...)})
		}
	}
	return schemas.Of("input", s.input, enums...)
}

// Run runs the command called name with an input in JSON, and returns its output
// in JSON, in which the text of a field tagged `secret:"true"` reads [secret] and
// any other secret is zero. No input at all stands for {}.
//
// The values of rows that are maps are written as to_json of PostgreSQL does, by the types
// of their columns: see docs/json.md.
//
// The input is read strictly: a field that is unknown or appears twice, a number that does
// not fit, null for a type that is not a pointer, and text after the value are refused, all
// of them at once, before anything is sent. It is validated even for a
// Trusted command. The Problems of the error name the fields as the JSON does, as
// in items[2].qty. Reading ends after 50 problems, which the message says, and when ctx
// is done, so that a refused input costs little more than a small multiple of its length.
// A name that is not in the catalog is CodeNotFound.
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
	if l.batch {
		outcomes := reflect.ValueOf(out).Elem().FieldByName("Outcomes")
		for i := range outcomes.Len() {
			if at := outcomes.Index(i).FieldByName("Err"); !at.IsNil() {
				at.Set(reflect.ValueOf(l.inJSONNames(at.Interface().(error))))
			}
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
		e := &Error{Code: CodeInternal, Effect: effectAfterSuccess(db, l.reads, l.isStatement || l.inTx), Attempts: 1, Err: err,
			Message: "the output has no JSON form: NaN, an infinity and a value that holds itself have none"}
		return nil, e.prefixCommand(l.name)
	}
	return text, failure
}

// unknown makes the error of a name that is not in the catalog. It does not repeat the name,
// which is the caller's text.
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
	if err == nil && d.opts.Trusted { // Trusted is for Go callers
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

// decode reads the input, and refuses one in which validation finds more problems than are
// reported.
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
	text := bytes.TrimSuffix(b.Bytes(), []byte("\n"))
	if !utf8.Valid(text) { // a json column of a SQL_ASCII database
		text = bytes.ToValidUTF8(text, []byte("\ufffd"))
	}
	return text, nil
}

// inJSONNames returns err with the Go names of fields in its problems replaced by those of
// the JSON.
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

// A Manifest describes the commands of a [Catalog], for people, other programs and models:
// render it as JSON.
type Manifest struct {
	Commands []CommandInfo `json:"commands"` // sorted by name
}

// A CommandInfo describes one command in a [Manifest].
type CommandInfo struct {
	Name        string
	Description string          // Options.Description
	Input       json.RawMessage // JSON Schema, draft 2020-12
	Output      json.RawMessage // likewise

	// ReadOnly says that the command changes nothing: by Options.ReadOnly, or since it is
	// a statement that counts as a read by its text, see [Query].
	ReadOnly    bool
	Transaction bool          // it runs in a transaction
	Once        bool          // a second run with the same key returns the first one's result
	Attempts    int           // the most that one run makes; at least 1
	Timeout     time.Duration // of a whole run; zero: the caller's context alone
	MaxRows     int           // of a Query; zero: no limit, or no Query

	// Codes are the codes that its errors can have. A command with Go code (a body, a hook,
	// a middleware) can have any other, and so can a statement whose trigger or function
	// raises an SQLSTATE of its own.
	Codes       []Code
	Constraints []ConstraintInfo // of Options.OnConstraint, sorted by name
}

// A ConstraintInfo is a constraint whose violation is mapped to a domain error.
type ConstraintInfo struct {
	Name    string `json:"name"`
	Code    Code   `json:"code,omitempty"` // of the domain error; empty: that of the violation
	Message string `json:"message"`        // the text of the domain error
}

// Manifest describes the commands.
func (c *Catalog) Manifest() Manifest {
	m := Manifest{Commands: make([]CommandInfo, len(c.names))}
	for i, name := range c.names {
		l := c.entries[name]
		info := l.info
		info.Input, info.Output = slices.Clone(l.inputSchema.Text()), slices.Clone(l.outputSchema.Text())
		info.Codes, info.Constraints = slices.Clone(info.Codes), slices.Clone(info.Constraints)
		m.Commands[i] = info
	}
	return m
}

type commandInfoJSON struct {
	Name        string           `json:"name"`
	Description string           `json:"description,omitempty"`
	Input       json.RawMessage  `json:"input"`
	Output      json.RawMessage  `json:"output"`
	ReadOnly    bool             `json:"read_only"`
	Transaction bool             `json:"transaction"`
	Once        bool             `json:"once"`
	Attempts    int              `json:"attempts"`
	TimeoutMS   float64          `json:"timeout_ms,omitempty"`
	MaxRows     int              `json:"max_rows,omitempty"`
	Codes       []Code           `json:"codes"`
	Constraints []ConstraintInfo `json:"constraints,omitempty"`
}

// MarshalJSON renders the names in snake case, and Timeout as timeout_ms.
func (i CommandInfo) MarshalJSON() ([]byte, error) {
	return json.Marshal(commandInfoJSON{i.Name, i.Description, i.Input, i.Output, i.ReadOnly, i.Transaction, i.Once, i.Attempts,
		float64(i.Timeout.Microseconds()) / 1000, i.MaxRows, i.Codes, i.Constraints})
}

// UnmarshalJSON reads what MarshalJSON renders.
func (i *CommandInfo) UnmarshalJSON(data []byte) error {
	var j commandInfoJSON
	if err := json.Unmarshal(data, &j); err != nil {
		return err
	}
	*i = CommandInfo{j.Name, j.Description, j.Input, j.Output, j.ReadOnly, j.Transaction, j.Once, j.Attempts,
		time.Duration(j.TimeoutMS * float64(time.Millisecond)), j.MaxRows, j.Codes, j.Constraints}
	return nil
}

// describe makes the description of the command for the manifest, without its schemas.
func (l *catalogEntry) describe() CommandInfo {
	i := CommandInfo{
		Name:        l.name,
		Description: l.own.Description,
		ReadOnly:    l.reads,
		Transaction: l.inTx,
		Once:        l.once,
		Attempts:    max(l.own.Retry.Attempts, 1),
		Timeout:     l.own.Timeout,
		MaxRows:     limits{rows: l.options.MaxRows}.atMost(l.options.most).rows,
		Codes:       l.codes(),
	}
	for name, domain := range l.options.OnConstraint {
		info := ConstraintInfo{Name: name, Message: domain.Error()}
		if ours, ok := errors.AsType[*Error](domain); ok && ours != nil {
			info.Code, info.Message = ours.Code, ours.Message
		}
		i.Constraints = append(i.Constraints, info)
	}
	slices.SortFunc(i.Constraints, func(a, b ConstraintInfo) int { return strings.Compare(a.Name, b.Name) })
	return i
}

var allCodes = []Code{CodeInvalid, CodeNotFound, CodeTooManyRows, CodeConflict, CodeAborted, CodeTimeout, CodeCanceled,
	CodeUnavailable, CodeExhausted, CodePermission, CodeUnknownEffect, CodeSkipped, CodeNestedAcquire, CodeFailed, CodeInternal}

// codes are those that the errors of the command can have, in the order of their
// declaration.
func (l *catalogEntry) codes() []Code {
	domain := map[Code]bool{}
	for _, err := range l.options.OnConstraint {
		if ours, ok := errors.AsType[*Error](err); ok && ours != nil {
			domain[ours.Code] = true
		}
	}
	codes := slices.DeleteFunc(slices.Clone(allCodes), func(code Code) bool {
		if domain[code] {
			delete(domain, code)
			return false
		}
		if !l.isStatement || l.hasUserCode {
			return false
		}
		switch code {
		case CodeNotFound:
			return !l.returnsOne || l.optional
		case CodeTooManyRows:
			return (l.statement != nil || l.built) && l.rowType == nil // an Exec
		case CodeConflict, CodeUnknownEffect:
			return l.reads
		}
		return code == CodeSkipped
	})
	return append(codes, slices.Sorted(maps.Keys(domain))...) // a user's own come last
}

// WriteMarkdown writes the manifest as Markdown, with the SQL of statement commands, so that
// a team can read what its service does to its database. The same catalog gives the same
// text: keep it beside the code, so that a review shows how it changes.
func (c *Catalog) WriteMarkdown(w io.Writer) error {
	entries := make([]catalogmd.Entry, len(c.names))
	for i, name := range c.names {
		entries[i] = c.entries[name].markdown()
	}
	return catalogmd.Write(w, entries)
}

func (l *catalogEntry) markdown() catalogmd.Entry {
	info := &l.info
	e := catalogmd.Entry{
		Name: info.Name, Description: info.Description, Input: l.inputSchema.Schema, Output: l.outputSchema.Schema,
		ReadOnly: info.ReadOnly, Transaction: info.Transaction, Once: info.Once,
		Attempts: info.Attempts, Timeout: info.Timeout, MaxRows: info.MaxRows,
	}
	e.Built = l.built
	for _, code := range info.Codes {
		e.Codes = append(e.Codes, string(code))
	}
	for _, c := range info.Constraints {
		e.Constraints = append(e.Constraints, catalogmd.Constraint{Name: c.Name, Message: c.Message, Code: string(c.Code)})
	}
	if l.statement != nil {
		e.SQL = l.statement.text.SQL
		for i, p := range l.statement.params {
			name := fmt.Sprintf("$%d", i+1)
			if l.variants != nil {
				name = "@" + l.statement.text.Names[i] // the SQL is as it was written
			}
			e.Params = append(e.Params, catalogmd.Param{Name: name, Field: l.inJSON(p)})
		}
	}
	if l.variants != nil {
		for i, part := range l.variants.template.Parts {
			e.Parts = append(e.Parts, catalogmd.Part{SQL: part.SQL, Fields: l.variants.fields.Names(i)})
		}
		for _, c := range l.variants.fields.Choices {
			e.Choices = append(e.Choices, catalogmd.Choice{Field: l.inJSON(c.Path), Options: c.Options})
		}
	}
	return e
}

// inJSON is the JSON's name of a field of the input.
func (l *catalogEntry) inJSON(path string) string {
	if name, ok := jsonfields.Path(l.in, path); ok {
		return name
	}
	return path
}

// An outcome is an [Outcome] of any type.
type outcome interface{ valueType() reflect.Type }

func (o Outcome[Out]) valueType() reflect.Type { return reflect.TypeFor[Out]() }

// writesFields reports whether the MarshalJSON of v writes its fields: of an Outcome, and of an
// AdHocResult, which has recorded its rows.
func writesFields(v reflect.Value) (rows *rowjson.Rows, ok bool) {
	switch reflect.Zero(v.Type()).Interface().(type) {
	case outcome:
		return nil, true
	case AdHocResult:
		return v.Interface().(AdHocResult).recorded, true
	}
	return nil, false
}

// jsonForms describes the types of this package whose JSON is not that of their fields, and
// AdHocResult, whose MarshalJSON writes its fields.
func jsonForms(b *jsonschema.Builder, t reflect.Type) (s *jsonschema.Schema, ok bool) {
	if o, ok := reflect.Zero(t).Interface().(outcome); ok {
		return outcomeSchema(b, o.valueType()), true
	}
	switch t {
	case reflect.TypeFor[Error]():
		return errorSchema(b), true
	case reflect.TypeFor[AdHocResult]():
		return nil, true
	}
	return nil, false
}

// outcomeSchema describes what MarshalJSON of an Outcome writes.
func outcomeSchema(b *jsonschema.Builder, value reflect.Type) *jsonschema.Schema {
	ok := func(value bool) *jsonschema.Schema { return jsonschema.New("").Set("const", value) }
	truth := jsonschema.New("boolean")
	return jsonschema.New("object").Set("oneOf", []*jsonschema.Schema{
		jsonschema.Closed(4, "ok", ok(true), "value", b.Of(value, "output.Value"),
			"attempts", jsonschema.New("integer"), "elapsed_ms", jsonschema.New("number"), "replayed", truth, "durability_warning", truth),
		jsonschema.Closed(2, "ok", ok(false), "error", b.Of(reflect.TypeFor[Error](), "output.Err")),
	})
}

// errorSchema describes what MarshalJSON of an Error writes.
func errorSchema(b *jsonschema.Builder) *jsonschema.Schema {
	text := jsonschema.New("string")
	return jsonschema.Closed(4, "code", text, "effect", jsonschema.New("").Set("enum", []string{"unknown", "not_applied", "applied"}),
		"message", text, "attempts", jsonschema.New("integer"),
		"command", text, "sqlstate", text, "constraint", text, "table", text, "column", text,
		"problems", jsonschema.New("array").Set("items", b.Of(reflect.TypeFor[Problem](), "")),
		"earlier", jsonschema.New("array").Set("items", b.Refer(reflect.TypeFor[Error]())))
}
