package pgcmd

import (
	"context"
	"reflect"
	"sync"

	"github.com/pgcmd/pgcmd/internal/bind"
	"github.com/pgcmd/pgcmd/internal/problem"
	"github.com/pgcmd/pgcmd/internal/sqltext"
	"github.com/pgcmd/pgcmd/internal/stmtcache"
	"github.com/pgcmd/pgcmd/internal/validation"
)

// A source makes the query of each run of a command whose SQL depends on the input.
type source interface {
	// resolve returns the query of a run, which has no source, and its arguments, if they are not
	// the fields of the input that it names. The arguments are the run's own.
	resolve(q *query, inv *invocation) (*query, []any, *Error)
	// configure returns the source for other options.
	configure(o *Options) source
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

// A queryCache holds the queries that were made last, by what identifies them. It is safe for
// concurrent use.
type queryCache[K comparable] struct {
	mu    sync.Mutex
	known *stmtcache.LRU[K, *query]
}

func newQueryCache[K comparable]() *queryCache[K] {
	return &queryCache[K]{known: stmtcache.NewLRU[K, *query](stmtcache.Size, nil)}
}

func (c *queryCache[K]) get(key K) *query {
	c.mu.Lock()
	defer c.mu.Unlock()
	q, _ := c.known.Get(key)
	return q
}

// put keeps q, unless another goroutine was faster, and returns the query that is kept.
func (c *queryCache[K]) put(key K, q *query) *query {
	c.mu.Lock()
	defer c.mu.Unlock()
	if known, ok := c.known.Get(key); ok {
		return known
	}
	c.known.Put(key, q)
	return q
}

// variants is the source of SQL with optional parts and choices.
type variants struct {
	template *sqltext.Template
	fields   *bind.Variants
	in       reflect.Type
	options  *Options
	known    *queryCache[sqltext.Variant]
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

func (v *variants) configure(o *Options) source {
	c := *v
	c.options, c.known = o, newQueryCache[sqltext.Variant]()
	return &c
}

func (v *variants) resolve(q *query, inv *invocation) (*query, []any, *Error) {
	variant, refused := v.fields.Of(inv.inValue())
	if refused != nil {
		p := choiceProblem(refused)
		return nil, nil, newFieldError(p.Field, p.Rule, p.Message, nil)
	}
	if known := v.known.get(variant); known != nil {
		return known, nil, nil
	}
	s, failure := v.statement(q.name, variant)
	if failure != nil {
		return nil, nil, failure
	}
	return v.known.put(variant, q.variant(s)), nil, nil
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

// variant returns q with another statement, and without a source.
func (q *query) variant(s *statement) *query {
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
