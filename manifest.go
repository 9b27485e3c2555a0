package pgcmd

import (
	"encoding/json"
	"errors"
	"io"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/pgcmd/pgcmd/internal/catalogmd"
	"github.com/pgcmd/pgcmd/internal/jsonfields"
	"github.com/pgcmd/pgcmd/internal/jsonschema"
	"github.com/pgcmd/pgcmd/internal/rowjson"
)

// A Manifest is what the commands of a [Catalog] are, for people, for other programs
// and for models: render it as JSON.
type Manifest struct {
	Commands []CommandInfo `json:"commands"` // sorted by name
}

// A CommandInfo is what a [Manifest] says of one command.
type CommandInfo struct {
	Name        string
	Description string          // Options.Description
	Input       json.RawMessage // JSON Schema, draft 2020-12
	Output      json.RawMessage // likewise

	// ReadOnly is the word of Options.ReadOnly. A command without it counts as one
	// that changes data, whatever its SQL.
	ReadOnly    bool
	Transaction bool          // it runs in a transaction
	Once        bool          // a second run with the same key returns the first one's result
	Attempts    int           // the most that one run makes; at least 1
	Timeout     time.Duration // of a whole run; zero: the caller's context alone
	MaxRows     int           // of a Query; zero: no limit, or no Query

	// Codes are those that its errors can have. A command with Go code in it, be it a
	// body, a hook or a middleware, can have any, and more of its own; and so can a
	// statement whose trigger or function raises an SQLSTATE of its choice.
	Codes       []Code
	Constraints []ConstraintInfo // of Options.OnConstraint, sorted by name
}

// A ConstraintInfo is a constraint whose violation means something to the caller.
type ConstraintInfo struct {
	Name    string `json:"name"`
	Code    Code   `json:"code,omitempty"` // of the domain error; empty: that of the violation
	Message string `json:"message"`        // the text of the domain error
}

// Manifest describes the commands.
func (c *Catalog) Manifest() Manifest {
	m := Manifest{Commands: make([]CommandInfo, len(c.names))}
	for i, name := range c.names {
		info := c.entries[name].info
		info.Input, info.Output = slices.Clone(info.Input), slices.Clone(info.Output)
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

// describe makes what the manifest says of the command.
func (l *catalogEntry) describe() CommandInfo {
	i := CommandInfo{
		Name:        l.name,
		Description: l.own.Description,
		Input:       mustJSON(l.inputSchema),
		Output:      mustJSON(l.outputSchema),
		ReadOnly:    l.own.ReadOnly,
		Transaction: l.inTx,
		Once:        l.once,
		Attempts:    max(l.own.Retry.Attempts, 1),
		Timeout:     l.own.Timeout,
		MaxRows:     l.options.MaxRows,
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

func mustJSON(v any) json.RawMessage {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err) // a mistake of this package's
	}
	return text
}

var allCodes = []Code{CodeInvalid, CodeNotFound, CodeTooManyRows, CodeConflict, CodeAborted, CodeTimeout, CodeCanceled,
	CodeUnavailable, CodeExhausted, CodePermission, CodeUnknownEffect, CodeSkipped, CodeNestedAcquire, CodeFailed, CodeInternal}

// codes are those that the errors of the command can have, in the order of their
// declaration.
func (l *catalogEntry) codes() []Code {
	codes := slices.Clone(allCodes)
	if l.isStatement && !l.hasUserCode {
		codes = slices.DeleteFunc(codes, func(code Code) bool {
			switch code {
			case CodeNotFound:
				return !l.returnsOne
			case CodeTooManyRows:
				return l.statement != nil && l.rowType == nil // an Exec
			case CodeConflict, CodeUnknownEffect:
				return l.own.ReadOnly
			case CodeSkipped:
				return true
			}
			return false
		})
	}
	for _, domain := range l.options.OnConstraint {
		if ours, ok := errors.AsType[*Error](domain); ok && ours != nil && !slices.Contains(codes, ours.Code) {
			codes = append(codes, ours.Code)
		}
	}
	slices.SortFunc(codes, func(a, b Code) int {
		if at, other := slices.Index(allCodes, a), slices.Index(allCodes, b); at >= 0 && other >= 0 {
			return at - other
		} else if at >= 0 || other >= 0 {
			return other - at // a user's own, -1, comes last
		}
		return strings.Compare(string(a), string(b))
	})
	return codes
}

// WriteMarkdown writes the manifest as Markdown, with the SQL of the commands that
// are statements, so that a team can read what its service does to its database.
// The same catalog gives the same text: keep it beside the code, and a change of it
// shows in review.
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
		Name: info.Name, Description: info.Description, Input: l.inputSchema, Output: l.outputSchema,
		ReadOnly: info.ReadOnly, Transaction: info.Transaction, Once: info.Once,
		Attempts: info.Attempts, Timeout: info.Timeout, MaxRows: info.MaxRows,
	}
	for _, code := range info.Codes {
		e.Codes = append(e.Codes, string(code))
	}
	for _, c := range info.Constraints {
		e.Constraints = append(e.Constraints, catalogmd.Constraint{Name: c.Name, Message: c.Message, Code: string(c.Code)})
	}
	if l.statement != nil {
		e.SQL = l.statement.text.SQL
		for _, p := range l.statement.params {
			if path, ok := jsonfields.Path(l.in, p); ok {
				p = path
			}
			e.Params = append(e.Params, p)
		}
	}
	return e
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
	succeeded := jsonschema.Closed(property("ok", ok(true)), property("value", b.Of(value, "output.Value")),
		property("attempts", jsonschema.New("integer")), property("elapsed_ms", jsonschema.New("number")))
	succeeded.Set("properties", append(succeeded.Get("properties").(jsonschema.Properties),
		property("replayed", jsonschema.New("boolean")), property("durability_warning", jsonschema.New("boolean"))))
	return jsonschema.New("object").Set("oneOf", []*jsonschema.Schema{
		succeeded,
		jsonschema.Closed(property("ok", ok(false)), property("error", b.Of(reflect.TypeFor[Error](), "output.Err"))),
	})
}

// errorSchema describes what MarshalJSON of an Error writes.
func errorSchema(b *jsonschema.Builder) *jsonschema.Schema {
	text := jsonschema.New("string")
	s := jsonschema.Closed(property("code", text), property("effect", jsonschema.New("").Set("enum", []string{"unknown", "not_applied", "applied"})),
		property("message", text), property("attempts", jsonschema.New("integer")))
	problem := jsonschema.Closed(property("field", text), property("rule", text), property("message", text)).Set("required", []string{"rule", "message"})
	fields := s.Get("properties").(jsonschema.Properties)
	for _, name := range []string{"command", "sqlstate", "constraint", "table", "column"} {
		fields = append(fields, property(name, text))
	}
	return s.Set("properties", append(fields,
		property("problems", jsonschema.New("array").Set("items", problem)),
		property("earlier", jsonschema.New("array").Set("items", b.Refer(reflect.TypeFor[Error]())))))
}

func property(name string, s *jsonschema.Schema) jsonschema.Property {
	return jsonschema.Property{Name: name, Schema: s}
}
