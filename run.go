package pgcmd

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pgcmd/pgcmd/internal/mutant"
)

// cleanupTime bounds all Cleanup hooks of a run together.
const cleanupTime = 5 * time.Second

// isolated runs the command under a savepoint of the transaction that db is, so
// that a failure leaves the transaction usable.
func (c *Command[In, Out]) isolated(ctx context.Context, db DB, in In) (out Out, call Call, err error) {
	if e := usable(ctx, db); e != nil {
		return out, call, c.refused(e)
	}
	tx := join(db)
	if err := tx.usable(ctx); err != nil {
		return out, call, notSent(ctx, err).within(c.name)
	}
	nested := tx.nest()
	defer func() {
		_ = nested.end(ctx, false) // after a panic; else it has ended
	}()
	out, call, err = c.run(ctx, nested, in)
	ending := nested.end(ctx, err == nil)
	if tx.s.foreign && ending == nil {
		ending = tx.s.flush(ctx)
	}
	switch {
	case err != nil && ending == nil:
		if e := err.(*Error); !tx.s.escaped {
			e.Effect = NotApplied // rolled back to the savepoint
		}
	case err == nil && ending != nil:
		e := notSent(ctx, ending).within(c.name)
		return c.rest(in, out, call.Attempts, e), call, e
	}
	if err != nil {
		out = c.rest(in, out, call.Attempts, err.(*Error))
	}
	return out, call, err
}

// run is the whole life of a run (see the package documentation), for a command
// that has hooks, middleware or limits.
func (c *Command[In, Out]) run(ctx context.Context, db DB, in In) (out Out, seen Call, err error) {
	if e := usable(ctx, db); e != nil {
		return c.rest(in, out, 0, e), seen, c.refused(e)
	}
	if c.handler == nil {
		out, failure := c.steps(ctx, db, in, &seen)
		if failure != nil {
			return out, seen, failure
		}
		return out, seen, nil
	}
	return c.through(ctx, c.handler, db, in, c.steps)
}

// through runs next below a chain of middleware, and holds that to its duties.
func (c *Command[In, Out]) through(ctx context.Context, handler Handler, db DB, in In,
	next func(ctx context.Context, db DB, in In, call *Call) (Out, *Error)) (out Out, seen Call, err error) {
	var failure *Error
	ran, ended := false, false
	call := &Call{Command: c.name, Input: in}
	call.run = func(ctx context.Context, call *Call) error {
		if ran {
			return Errorf(CodeInternal, "a middleware called next twice: it must not, trying again is not its business")
		}
		ran = true
		out, failure = next(ctx, db, in, call)
		if ended = true; failure != nil {
			return failure
		}
		return nil
	}
	err = handler(ctx, call)
	switch {
	case !ran && err == nil:
		err = c.refused(&Error{Code: CodeInternal, Message: "a middleware ended the run without calling next and without an error"})
	case !ran:
		err = c.refused(about("a middleware", causeOf(ctx, err)))
	case !ended:
		e := &Error{Code: CodeInternal, Err: err, Attempts: call.Attempts,
			Message: "a middleware went on without the end of the run: it recovered a panic, or did not wait for next"}
		if c.opts.ReadOnly {
			e.Effect = NotApplied
		}
		err = e.within(c.name)
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
		out = c.rest(in, out, call.Attempts, err.(*Error))
	}
	return out, *call, err
}

// rest is the output of a run that failed: nothing, but of a batch what is known of
// its items.
func (c *Command[In, Out]) rest(in In, out Out, attempts int, failure *Error) Out {
	if c.batching != nil {
		return c.batching.settle(in, out, attempts, failure)
	}
	var none Out
	return none
}

// steps validates, and runs the hooks around the body.
func (c *Command[In, Out]) steps(ctx context.Context, db DB, in In, call *Call) (out Out, failure *Error) {
	if c.checks != nil {
		if err := c.check(in); err != nil {
			return out, c.refused(err)
		}
	}
	if c.batching != nil {
		var done bool
		var refused []*Error
		if out, refused, failure, done = c.batching.vet(in); done {
			return out, failure
		}
		if refused != nil {
			ctx = context.WithValue(ctx, refusedKey{}, refused)
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
	var after []func(context.Context)
	out, after, failure = c.attempts(ctx, db, &in, call)
	if failure != nil || c.batching != nil {
		out = c.rest(in, out, call.Attempts, failure)
	}
	if failure != nil {
		for _, hook := range c.onError {
			seen := *failure // the hook may keep it, and must not change what is known
			if err := hook(caller, in, &seen); err != nil && err != error(&seen) {
				failure = failure.translated(err)
			}
		}
		return out, failure
	}
	if c.rows != nil {
		call.Rows = c.rows(out)
	}
	if len(after) > 0 {
		runAll(OutsideTx(context.WithoutCancel(caller)), after)
	}
	return out, nil
}

// runAll runs the AfterCommit functions in order, each even if one before panics.
func runAll(ctx context.Context, functions []func(context.Context)) {
	if len(functions) > 0 {
		defer runAll(ctx, functions[1:])
		functions[0](ctx)
	}
}

// retryKey marks the context of a run that is tried again as a whole: what runs within
// it is not, or the attempts would multiply.
type retryKey struct{}

// attempts runs Before, and then the body and After, again if it failed and may be
// tried again.
func (c *Command[In, Out]) attempts(ctx context.Context, db DB, in *In, call *Call) (out Out, after []func(context.Context), failure *Error) {
	cl, failure := c.claimFor(*in)
	if failure != nil {
		return out, nil, c.refused(failure)
	}
	for _, hook := range c.before {
		if err := hook(ctx, in); err != nil {
			return out, nil, c.refused(about("a Before hook", causeOf(ctx, err)))
		}
	}
	retries := budgetOf(db)
	outermost := true
	if c.opts.Retry.Attempts > 1 && (c.begins || c.opts.ReadOnly) {
		outermost = ctx.Value(retryKey{}) == nil
		ctx = context.WithValue(ctx, retryKey{}, true)
	}
	var earlier []*Error
	unknown := false // an earlier attempt may be applied
	for {
		call.Attempts++
		if cl != nil {
			cl.made = false
		}
		var start time.Time
		if c.opts.Retry.Attempts > 1 {
			start = time.Now()
		}
		out, after, failure = c.attempt(ctx, db, in, cl)
		if failure == nil {
			call.replayed = cl != nil && cl.replayed
			retries.refund(call.Attempts > 1)
			return out, after, nil
		}
		unknown = failure.Effect == Unknown || unknown && (cl == nil || !cl.made)
		failure.Attempts, failure.earlier = call.Attempts, earlier
		if unknown {
			failure.Effect = Unknown
		}
		if !outermost || !c.repeats(db, failure) || failure.once() && len(earlier) > 0 || !c.opts.Retry.wants(failure, call.Attempts) {
			return out, nil, failure
		}
		if !retries.spend(failure) {
			failure.Code, failure.Message = CodeExhausted, failure.Message+"; it was not tried again, since the pool's budget for retries is used up"
			return out, nil, failure
		}
		if !c.opts.Retry.wait(ctx, call.Attempts, time.Since(start)) {
			return out, nil, failure
		}
		failure.earlier = nil // each is on the list once
		earlier = append(earlier, failure)
	}
}

// repeats reports whether a failed attempt on db may be tried again: only by the
// outermost command, and only on a connection that lives.
func (c *Command[In, Out]) repeats(db DB, failure *Error) bool {
	// A Once can be tried again whatever became of the attempt before.
	allowed := Retryable(failure) || failure.Effect != Applied && failure.transient() &&
		(c.key != nil || mutant.Planted(mutant.RetryAfterCommit))
	if c.batching != nil && !c.begins { // its items are tried again one by one
		return false
	}
	if c.opts.Retry.Attempts <= 1 || !allowed || failure.final || inTransaction(db) {
		return false
	}
	switch db := db.(type) {
	case *pgxpool.Conn:
		return !db.Conn().IsClosed()
	case *pgx.Conn:
		return !db.IsClosed()
	}
	return true
}

// attempt runs the body and After once, in a transaction if the command begins one.
func (c *Command[In, Out]) attempt(ctx context.Context, db DB, in *In, cl *claim) (out Out, after []func(context.Context), failure *Error) {
	if c.begins {
		return c.transact(ctx, db, in, cl)
	}
	out, failure = c.work(ctx, db, in)
	return out, nil, failure
}

// work runs the body and After.
func (c *Command[In, Out]) work(ctx context.Context, db DB, in *In) (out Out, failure *Error) {
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
	if c.batching != nil {
		e = err.(*Error)
		e.Attempts = 1
		if e.Command != "" { // the culprit's own path says all
			return e
		}
	} else if c.define != nil {
		e = err.(*Error) // made by the statement for this run, with its Effect
	} else {
		e = about("the body", causeOf(ctx, err))
		e.Effect = Unknown
		if c.opts.ReadOnly {
			e.Effect = NotApplied
		}
	}
	e.Attempts = 1
	return c.mapConstraint(e.within(c.name))
}

// mapConstraint gives e the domain error that its constraint means.
func (c *Command[In, Out]) mapConstraint(e *Error) *Error {
	if domain := c.opts.OnConstraint[e.Constraint]; domain != nil {
		e.also, e.Message = domain, e.place+domain.Error()
		if ours, ok := errors.AsType[*Error](domain); ok {
			e.Code, e.Message = ours.Code, e.place+ours.Message
		}
	}
	return e
}

// completed is the Effect of a failure that came after the body's success.
func (c *Command[In, Out]) completed(db DB) Effect {
	switch {
	case c.opts.ReadOnly:
		return NotApplied
	case c.define == nil && !c.begins || inTransaction(db):
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
	case *Pool:
		missing = db == nil || db.Pool == nil
	case *Tx:
		missing = db == nil || db.s == nil
	case *pgxpool.Conn:
		missing = db == nil
	case *pgxpool.Tx:
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
	case *pgxpool.Pool, *Pool:
		return false
	case *Tx:
		return true
	case *pgxpool.Conn:
		return db != nil && db.Conn().PgConn().TxStatus() != 'I'
	case *pgx.Conn:
		return db != nil && db.PgConn().TxStatus() != 'I'
	}
	_, ok := db.(pgx.Tx)
	return ok
}
