package pgcmd

import (
	"context"
	"errors"
	"reflect"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/pgcmd/pgcmd/internal/sqlstate"
)

// Explain returns PostgreSQL's plan for a statement command with an input, as text.
// Nothing is executed, and no hook runs: it is EXPLAIN without ANALYZE, in a
// read-only transaction that is rolled back, or, if db is a transaction, under a
// savepoint of it.
//
// The plan is for this input and shows its values, except for those of fields
// tagged `secret:"true"`: PostgreSQL is asked with [secret] or zero in their place.
func Explain[In, Out any](ctx context.Context, db DB, c *Command[In, Out], in In) (string, error) {
	d := c.definition()
	if d == nil {
		return "", &Error{Code: CodeInternal, Effect: NotApplied, Message: "the command to explain is nil"}
	}
	if d.query == nil {
		return "", d.notSentError(&Error{Code: CodeInternal,
			Message: "only a Query, a QueryOne or an Exec has one plan: explain the statements that this command runs"})
	}
	inv := d.newInvocation()
	*inv.in.(*In) = in
	return d.explain(ctx, db, inv)
}

func (d *definition) explain(ctx context.Context, db DB, inv *invocation) (string, error) {
	if d.validation != nil {
		if err := d.check(inv); err != nil {
			return "", d.notSentError(err)
		}
	}
	hidden := &invocation{inValue: reflect.New(d.in).Elem()}
	hidden.inValue.Set(inv.inValue)
	hideSecrets(hidden.inValue)
	args, failure := d.query.arguments(hidden)
	if failure != nil {
		return "", d.notSentError(failure)
	}
	var plan string
	explain := Transaction(d.name, func(ctx context.Context, tx *Tx, none struct{}) (struct{}, error) {
		tx.Conn() // sends BEGIN or the savepoint, before what the server may refuse
		// The parentheses keep the statement from bringing options of its own.
		rows, err := tx.Query(ctx, "explain (analyze false) "+d.query.text.SQL, args...)
		if err == nil {
			var lines []string
			if lines, err = pgx.CollectRows(rows, pgx.RowTo[string]); err == nil {
				plan = strings.Join(lines, "\n")
				return none, errPlanned
			}
		}
		e := classify(ctx, err)
		if e.SQLState == sqlstate.SyntaxError {
			e.Message = "PostgreSQL has no plan for it: EXPLAIN takes queries, insert, update, delete and merge"
		}
		return none, e
	}).With(Options{Timeout: d.opts.Timeout, ReadOnly: true, Trusted: true})
	switch err := Try(ctx, db, explain, struct{}{}).Err; {
	case errors.Is(err, errPlanned):
		return plan, nil
	default:
		return "", err
	}
}

// errPlanned rolls the transaction back.
var errPlanned = errors.New("pgcmd: planned")
