package pgcmd

import (
	"context"
	"errors"
	"strings"

	"github.com/jackc/pgx/v5"
)

// Explain returns PostgreSQL's plan for a statement command with an input, as text.
// Nothing is executed, and no hook runs: it is EXPLAIN without ANALYZE, in a
// read-only transaction that is rolled back, or, if db is a transaction, under a
// savepoint of it.
//
// The plan is for this input and shows its values, except for those of fields
// tagged `secret:"true"`: PostgreSQL is asked with [secret] or zero in their place.
func Explain[In, Out any](ctx context.Context, db DB, c *Command[In, Out], in In) (string, error) {
	if c == nil {
		return "", &Error{Code: CodeInternal, Effect: NotApplied, Message: "the command to explain is nil"}
	}
	if c.newPipelined == nil {
		return "", c.def.notSentError(&Error{Code: CodeInternal,
			Message: "only a Query, a QueryOne or an Exec has one plan: explain the statements that this command runs"})
	}
	if c.def.validation != nil {
		if err := c.check(in); err != nil {
			return "", c.def.notSentError(err)
		}
	}
	statement := c.newPipelined(&c.def.opts)
	var plan string
	bind, _ := statement.run(ctx)
	args, failure := bind(withSecretsHidden(in))
	if failure != nil {
		return "", c.def.notSentError(failure)
	}
	explain := Transaction(c.def.name, func(ctx context.Context, tx *Tx, none struct{}) (struct{}, error) {
		tx.Conn() // sends BEGIN or the savepoint, before what the server may refuse
		// The parentheses keep the statement from bringing options of its own.
		rows, err := tx.Query(ctx, "explain (analyze false) "+statement.text.SQL, args...)
		if err == nil {
			var lines []string
			if lines, err = pgx.CollectRows(rows, pgx.RowTo[string]); err == nil {
				plan = strings.Join(lines, "\n")
				return none, errPlanned
			}
		}
		e := classify(ctx, err)
		if e.SQLState == "42601" {
			e.Message = "PostgreSQL has no plan for it: EXPLAIN takes queries, insert, update, delete and merge"
		}
		return none, e
	}).With(Options{Timeout: c.def.opts.Timeout, ReadOnly: true, Trusted: true})
	switch err := explain.Try(ctx, db, struct{}{}).Err; {
	case errors.Is(err, errPlanned):
		return plan, nil
	default:
		return "", err
	}
}

// errPlanned rolls the transaction back.
var errPlanned = errors.New("pgcmd: planned")
