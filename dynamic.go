package pgcmd

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/pgcmd/pgcmd/internal/bind"
	"github.com/pgcmd/pgcmd/internal/problem"
	"github.com/pgcmd/pgcmd/internal/sqltext"
	"github.com/pgcmd/pgcmd/internal/stmtcache"
	"github.com/pgcmd/pgcmd/internal/typemap"
	"github.com/pgcmd/pgcmd/internal/validation"
)

// A source makes the query of each run of a command whose SQL depends on the input.
type source interface {
	// resolve returns the query of a run, which has no source, and its arguments, if they are not
	// the fields of the input that it names. The arguments are the run's own.
	resolve(q *query, inv *invocation) (*query, []any, *Error)
	// configure returns the source for other options.
	configure(o *allOptions) source
}

// runResolved is run for a query with a source.
func (q *query) runResolved(ctx context.Context, db DB, inv *invocation) error {
	resolved, args, failure := q.source.resolve(q, inv)
	if failure != nil {
		return failure
	}
	if len(resolved.fields) == 0 {
		inv.args = args // and not those of an earlier run
	}
	return resolved.run(ctx, db, inv)
}

// variants is the source of SQL with optional parts and choices.
type variants struct {
	template *sqltext.Template
	fields   *bind.Variants
	in       reflect.Type
	options  *allOptions
	known    *stmtcache.SharedLRU[sqltext.Variant, *query]
}

// maxListed is how many variants of a command are all examined at definition and by Verify.
// Of a command with more it is some.
const maxListed = 256

// newVariants makes the source, and a statement that stands for all variants: its facts hold
// for each, its SQL is the source text, and its fields are all that the variants name.
func newVariants(command string, in reflect.Type, template *sqltext.Template) (*statement, *variants) {
	v := &variants{template: template, in: in}
	var err error
	v.fields, err = bind.CompileVariants(in, template)
	mustDefine(command, err)
	var all sqltext.Text
	for i, variant := range v.fields.List(maxListed) {
		text, err := template.Text(variant)
		mustDefine(command, err)
		if i == 0 {
			all = text
		}
		all = all.And(text)
	}
	all.SQL, all.Names = template.SQL, template.Names
	return newStatement(command, in, all), v
}

func (v *variants) configure(o *allOptions) source {
	c := *v
	c.options, c.known = o, stmtcache.NewSharedLRU[sqltext.Variant, *query]()
	return &c
}

func (v *variants) resolve(q *query, inv *invocation) (*query, []any, *Error) {
	variant, refused := v.fields.Of(inv.inValue())
	if refused != nil {
		p := choiceProblem(refused)
		return nil, nil, newFieldError(p.Field, p.Rule, p.Message, nil)
	}
	if known, ok := v.known.Get(variant); ok {
		return known, nil, nil
	}
	s, failure := v.statement(q.name, variant)
	if failure != nil {
		return nil, nil, failure
	}
	return v.known.GetOrPut(variant, q.withStatement(s)), nil, nil
}

// statement makes the statement of a variant.
func (v *variants) statement(command string, variant sqltext.Variant) (*statement, *Error) {
	text, err := v.template.Text(variant)
	if err != nil { // of a variant that was not examined at definition
		return nil, &Error{Code: CodeInternal, Effect: NotApplied, Err: err,
			Message: "the SQL " + v.describe(variant) + " is no statement: " + err.Error()}
	}
	if v.options.ReadOnly && text.Writes {
		return nil, &Error{Code: CodeInternal, Effect: NotApplied,
			Message: "the SQL " + v.describe(variant) + " is plainly a write, and the command is ReadOnly: take one of them away"}
	}
	return newStatement(command, v.in, text).withChecked(v.options), nil
}

// describe names a variant for people, as in: with email, name; sort newest.
func (v *variants) describe(variant sqltext.Variant) string {
	return v.fields.Describe(v.template, variant)
}

// withStatement returns q with another statement, and without a source.
func (q *query) withStatement(s *statement) *query {
	return &query{statement: s, kind: q.kind, rowType: q.rowType, optional: q.optional}
}

// withChoices adds the choices to what is validated in an input.
func (v *variants) withChoices(c *validation.Checks) *validation.Checks {
	if len(v.fields.Choices) == 0 {
		return c
	}
	return c.With(v.in, func(in reflect.Value) (problems []problem.Problem) {
		for i := range v.fields.Choices {
			if choice := &v.fields.Choices[i]; !choice.Has(in) {
				problems = append(problems, choiceProblem(choice))
			}
		}
		return problems
	})
}

// choiceProblem returns the problem of a field that names no option of its choice.
func choiceProblem(c *bind.ChoiceField) problem.Problem {
	return problem.Problem{Field: c.Path, Rule: "choice",
		Message: problem.LastName(c.Path) + " must be one of " + c.Names() + ", or empty for the default"}
}

// QueryFunc makes a command like [Query], of SQL that build makes of the input, as the query
// builders of the ecosystem do: squirrel, goqu, bob, jet.
//
//	var listUsers = pgcmd.QueryFunc[ListUsers, User]("users.list", func(in ListUsers) (string, []any, error) {
//		return squirrel.Select("id", "email").From("users").PlaceholderFormat(squirrel.Dollar).ToSql()
//	})
//
// The SQL names its arguments $1, $2 and so on; set a builder to such placeholders, since ?
// is not translated. An argument is any value that pgx takes. A single [pgx.QueryRewriter],
// such as [pgx.NamedArgs] or [pgx.StructArgs], is asked for the SQL and the arguments instead,
// without a connection. build must put values into args and never into the SQL.
//
// build runs once for each attempt, after validation and Before, in the caller's goroutine;
// many may run at once. Its error ends the run, with CodeFailed or the code of an [*Error], and a
// panic in it reaches the caller: nothing was sent. SQL that is not one statement, that ends a transaction,
// that is plainly a write in a ReadOnly command, or that has another number of arguments, is
// CodeInternal, and is not sent either.
//
// Each text is a statement of its own, prepared on each connection that it runs on; the last
// 512 texts of a command are not parsed again. Everything else is as for a Query: rows, hooks,
// options, [Batch], [Pipeline], [Stream]. [Verify] does not see the SQL, which is
// checked where it runs. [Explain] calls build with an input whose secrets are hidden.
func QueryFunc[In, Row any](name string, build func(in In) (sql string, args []any, err error)) *Command[In, []Row] {
	return &Command[In, []Row]{defineBuilt(queryAll, name, (*In)(nil), (*[]Row)(nil), build == nil,
		func(in any) (string, []any, error) { return build(*in.(*In)) })}
}

// QueryOneFunc makes a command like [QueryOne], of SQL that build makes of the input: see
// [QueryFunc].
func QueryOneFunc[In, Row any](name string, build func(in In) (sql string, args []any, err error)) *Command[In, Row] {
	return &Command[In, Row]{defineBuilt(queryOne, name, (*In)(nil), (*Row)(nil), build == nil,
		func(in any) (string, []any, error) { return build(*in.(*In)) })}
}

// ExecFunc makes a command like [Exec], of SQL that build makes of the input: see [QueryFunc].
func ExecFunc[In any](name string, build func(in In) (sql string, args []any, err error)) *Command[In, int64] {
	return &Command[In, int64]{defineBuilt(queryExec, name, (*In)(nil), (*int64)(nil), build == nil,
		func(in any) (string, []any, error) { return build(*in.(*In)) })}
}

// A builder is the source of SQL that a function makes.
type builder struct {
	build   func(in any) (string, []any, error) // of an *In
	options *allOptions
	known   *stmtcache.SharedLRU[string, *query] // by the SQL
}

func defineBuilt(kind queryKind, name string, in, out any, missing bool, build func(in any) (string, []any, error)) *definition {
	checkName(name)
	if missing {
		panic(fmt.Sprintf("pgcmd: %s: the function that makes the SQL is nil", name))
	}
	d := newDefinition(name, in, out)
	return d.ofQuery(&query{statement: &statement{name: name}, kind: kind, source: &builder{build: build}})
}

func (b *builder) configure(o *allOptions) source {
	c := *b
	c.options, c.known = o, stmtcache.NewSharedLRU[string, *query]()
	return &c
}

func (b *builder) resolve(q *query, inv *invocation) (*query, []any, *Error) {
	sql, args, err := b.build(inv.in)
	if err != nil {
		e := classifyUserError(context.Background(), "the function that makes the SQL", err)
		e.Effect, e.noRetry = NotApplied, true
		return nil, nil, e
	}
	if len(args) == 1 {
		if rewriter, ok := args[0].(pgx.QueryRewriter); ok {
			if sql, args, err = rewriter.RewriteQuery(context.Background(), nil, sql, nil); err != nil {
				return nil, nil, builtSQLError(err, "cannot be given its arguments by a %T: see the cause", rewriter)
			}
		}
	}
	built, ok := b.known.Get(sql)
	if !ok {
		s, failure := b.statement(q.name, sql)
		if failure != nil {
			return nil, nil, failure
		}
		built = b.known.GetOrPut(sql, q.withStatement(s))
	}
	if failure := built.checkBuilt(args); failure != nil {
		return nil, nil, failure
	}
	return built, slices.Clone(args), nil // pgx may change them
}

// builtSQLError returns the error of a function whose SQL or arguments cannot be sent.
func builtSQLError(err error, format string, args ...any) *Error {
	return &Error{Code: CodeInternal, Effect: NotApplied, Err: err, Message: "the SQL that was made of the input " + fmt.Sprintf(format, args...)}
}

// statement makes the statement of a text.
func (b *builder) statement(command, sql string) (*statement, *Error) {
	text, err := sqltext.Parse(sql)
	switch {
	case err != nil:
		return nil, builtSQLError(err, "is no statement: %v", err)
	case len(text.Names) > 0:
		return nil, builtSQLError(nil, "names @%s: return pgx.NamedArgs as its only argument, or name the arguments $1, $2", text.Names[0])
	case text.Ends:
		return nil, builtSQLError(nil, "ends a transaction: leave that to the command (Options.InTx, Transaction)")
	case b.options.ReadOnly && text.Writes:
		return nil, builtSQLError(nil, "is plainly a write, and the command is ReadOnly: take one of them away")
	}
	params := make([]string, text.MaxParam)
	for i := range params {
		params[i] = fmt.Sprintf("$%d", i+1)
	}
	s := newRuntimeStatement(command, text, params, b.options)
	s.built = true
	return s, nil
}

// newRuntimeStatement makes a statement whose arguments can be of any types. params are their
// names, for messages.
func newRuntimeStatement(command string, text sqltext.Text, params []string, o *allOptions) *statement {
	s := &statement{name: command, text: text, params: params}
	for i := range params {
		s.checks.Add(i, len(params), typemap.CheckOf(reflect.TypeFor[any]()))
	}
	return s.withChecked(o)
}

// checkText returns the error of an argument that is a text which PostgreSQL does not have.
func checkText(field string, arg any) *Error {
	if text, ok := arg.(string); ok {
		if why := typemap.NotText(text); why != "" {
			return newFieldError(field, "text", why, nil)
		}
	}
	return nil
}

// checkBuilt returns why the arguments cannot be sent.
func (s *statement) checkBuilt(args []any) *Error {
	if n := s.text.MaxParam; n != len(args) {
		names := "names no argument"
		if n > 0 {
			names = fmt.Sprintf("names arguments up to $%d", n)
		} else if strings.Contains(s.text.SQL, "?") {
			names += " (? is no placeholder: set the builder to $1, $2)"
		}
		return builtSQLError(nil, "%s, and %d came with it", names, len(args))
	}
	if refused := bind.RejectPgxOption(args); refused != nil {
		return builtSQLError(errors.New("pgcmd: "+refused.Message), "came with an option of pgx as its first argument, or with a pgx.QueryRewriter beside others: return values alone")
	}
	for i, arg := range args {
		if failure := checkText(s.params[i], arg); failure != nil {
			return failure
		}
	}
	return nil
}
