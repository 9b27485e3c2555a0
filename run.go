package pgcmd

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// cleanupTime bounds all Cleanup hooks of a run together.
const cleanupTime = 5 * time.Second

// run is the whole life of a run (see the package documentation), for a command
// that has hooks, middleware or limits.
func (c *Command[In, Out]) run(ctx context.Context, db DB, in In) (out Out, attempts int, err error) {
	if e := usable(ctx, db); e != nil {
		return out, 0, c.refused(e)
	}
	if c.handler == nil {
		call := Call{}
		out, failure := c.steps(ctx, db, in, &call)
		if failure != nil {
			return out, call.Attempts, failure
		}
		return out, call.Attempts, nil
	}

	var failure *Error
	ran := false
	call := &Call{Command: c.name, Input: in}
	call.run = func(ctx context.Context, call *Call) error {
		if ran {
			return Errorf(CodeInternal, "a middleware called next twice: it must not, trying again is not its business")
		}
		ran = true
		if out, failure = c.steps(ctx, db, in, call); failure != nil {
			return failure
		}
		return nil
	}
	err = c.handler(ctx, call)
	switch {
	case !ran && err == nil:
		err = c.refused(&Error{Code: CodeInternal, Message: "a middleware ended the run without calling next and without an error"})
	case !ran:
		err = c.refused(about("a middleware", causeOf(ctx, err)))
	case failure != nil && (err == nil || err == error(failure)):
		err = failure
	case failure != nil:
		err = failure.translated(err)
	case err != nil:
		e := about("a middleware", causeOf(ctx, err)).within(c.name)
		e.Attempts, e.Effect = call.Attempts, c.completed(db)
		err = e
	}
	if err != nil {
		var none Out
		out = none
	}
	return out, call.Attempts, err
}

// steps validates, and runs the hooks around the body.
func (c *Command[In, Out]) steps(ctx context.Context, db DB, in In, call *Call) (out Out, failure *Error) {
	if c.checks != nil {
		if err := c.check(in); err != nil {
			return out, c.refused(err)
		}
	}
	caller := ctx
	if c.opts.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, c.opts.Timeout)
		defer cancel()
	}
	if len(c.cleanup) > 0 {
		defer c.clean(caller, &in) // sees what Before made of the input
	}
	if out, failure = c.attempt(ctx, db, &in, call); failure != nil {
		var none Out
		for _, hook := range c.onError {
			if err := hook(caller, in, failure); err != nil && err != error(failure) {
				failure = failure.translated(err)
			}
		}
		return none, failure
	}
	if c.rows != nil {
		call.Rows = c.rows(out)
	}
	return out, nil
}

// attempt runs Before, the body and After.
func (c *Command[In, Out]) attempt(ctx context.Context, db DB, in *In, call *Call) (out Out, failure *Error) {
	for _, hook := range c.before {
		if err := hook(ctx, in); err != nil {
			return out, c.refused(about("a Before hook", causeOf(ctx, err)))
		}
	}
	call.Attempts = 1
	out, err := c.body(ctx, db, *in)
	if err != nil {
		return out, c.failed(ctx, err)
	}
	for i := len(c.after) - 1; i >= 0; i-- {
		if err := c.after[i](ctx, *in, &out); err != nil {
			e := about("an After hook", causeOf(ctx, err)).within(c.name)
			e.Attempts, e.Effect = 1, c.completed(db)
			return out, e
		}
	}
	return out, nil
}

// clean runs the Cleanup hooks, the last added first, each even if another panics.
func (c *Command[In, Out]) clean(ctx context.Context, in *In) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTime)
	defer cancel()
	for _, hook := range c.cleanup {
		defer hook(ctx, *in)
	}
}

// refused makes the error of a run that sent nothing.
func (c *Command[In, Out]) refused(e *Error) *Error {
	e.Effect, e.Attempts = NotApplied, 0
	return e.within(c.name)
}

// failed makes the error of a run whose body failed.
func (c *Command[In, Out]) failed(ctx context.Context, err error) *Error {
	var e *Error
	if c.define != nil {
		e = err.(*Error) // made by the statement for this run, with its Effect
	} else {
		e = about("the body", causeOf(ctx, err))
		e.Effect = Unknown
		if c.opts.ReadOnly {
			e.Effect = NotApplied
		}
	}
	e.Attempts = 1
	e.within(c.name)
	if domain := c.opts.OnConstraint[e.Constraint]; domain != nil {
		e.also, e.Message = domain, domain.Error()
		if ours, ok := errors.AsType[*Error](domain); ok {
			e.Code, e.Message = ours.Code, ours.Message
		}
	}
	return e
}

// completed is the Effect of a failure that came after the body's success.
func (c *Command[In, Out]) completed(db DB) Effect {
	switch {
	case c.opts.ReadOnly:
		return NotApplied
	case c.define == nil || inTransaction(db):
		return Unknown // not one unit, or for the transaction to decide
	}
	return Applied
}

// translated is e as an OnError hook or a middleware wants it seen: err may give
// the code and the message, never the Effect, and e stays in reach.
func (e *Error) translated(err error) *Error {
	t := *e
	t.Err, t.also = e, err
	if ours, ok := errors.AsType[*Error](err); ok {
		t.Code, t.Message = ours.Code, ours.Message
		if len(ours.Problems) > 0 {
			t.Problems = ours.Problems
		}
	}
	return &t
}

// within puts the name of an outer command before the path.
func (e *Error) within(command string) *Error {
	if e.Command == "" {
		e.Command = command
	} else {
		e.Command = command + " > " + e.Command
	}
	return e
}

// about names who failed, where the message does not.
func about(who string, e *Error) *Error {
	if strings.HasPrefix(e.Message, "failed with ") {
		e.Message = who + " " + e.Message
	}
	return e
}

// usable refuses a context or a DB that is nil, a nil pointer in it included.
func usable(ctx context.Context, db DB) *Error {
	missing := ctx == nil
	if missing {
		return &Error{Code: CodeInternal, Message: "the context is nil: pass the caller's, or context.Background()"}
	}
	switch db := db.(type) {
	case *pgxpool.Pool:
		missing = db == nil
	case *pgxpool.Conn:
		missing = db == nil
	case *pgx.Conn:
		missing = db == nil
	default:
		missing = db == nil
	}
	if missing {
		return &Error{Code: CodeInternal, Message: "the DB is nil: pass a pool, a connection or a transaction"}
	}
	return nil
}

// inTransaction reports whether what runs on db waits for somebody's COMMIT.
func inTransaction(db DB) bool {
	switch db := db.(type) {
	case *pgxpool.Pool:
		return false
	case *pgxpool.Conn:
		return db.Conn().PgConn().TxStatus() != 'I'
	case *pgx.Conn:
		return db.PgConn().TxStatus() != 'I'
	}
	_, ok := db.(pgx.Tx)
	return ok
}
