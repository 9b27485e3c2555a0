package pgcmd

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pgcmd/pgcmd/internal/mutant"
)

// cleanupTime bounds all Cleanup hooks of a run together.
const cleanupTime = 5 * time.Second

// A job is one run of a command, as the life of a run sees it: without the types, so
// that this life is compiled once and not again for every pair of them.
type job interface {
	seen() any                                          // the input, as a middleware sees it
	input() any                                         // a pointer to the input
	output() any                                        // a pointer to the output
	clear()                                             // the output, before an attempt
	vet() (refused []*Error, failure *Error, done bool) // of a batch
	body(ctx context.Context, db DB) error
	rows(failed bool) int64 // returned, or affected
	warn()                  // that it is committed, and the synchronous standby has not got it
	warned() bool
	settle(attempts int, failure *Error) // the output is that of a run that failed, or, of a batch, that has ended
}

// try runs the command on any DB: if that is a transaction, so that it is left usable.
func (c *core) try(ctx context.Context, db DB, j job) (Call, error) {
	run := c.whole
	if inTransaction(db) {
		run = c.isolated
	}
	call, failure := run(ctx, db, j)
	if failure != nil {
		return call, failure
	}
	return call, nil
}

// isolated runs the command under a savepoint of the transaction that db is, so
// that a failure leaves the transaction usable.
func (c *core) isolated(ctx context.Context, db DB, j job) (call Call, failure *Error) {
	if e := usable(ctx, db); e != nil {
		return call, c.refused(e)
	}
	tx := join(db)
	if err := tx.usable(ctx); err != nil {
		return call, notSent(ctx, err).within(c.name)
	}
	nested := tx.nest()
	defer func() {
		_ = nested.end(ctx, false) // after a panic; else it has ended
	}()
	call, failure = c.run(ctx, nested, j)
	tx.s.observe()
	ending := nested.end(ctx, failure == nil)
	if tx.s.foreign && ending == nil {
		ending = tx.s.flush(ctx)
	}
	switch {
	case failure != nil && ending == nil && !tx.s.unproven():
		failure.Effect = NotApplied // rolled back to the savepoint
	case failure == nil && ending != nil:
		failure = notSent(ctx, ending).within(c.name)
	}
	if failure != nil && tx.s.unproven() {
		failure.Effect = Unknown
	}
	if failure != nil {
		j.settle(call.Attempts, failure)
	}
	return call, failure
}

// whole runs the command on any DB but a transaction that is to be left usable.
func (c *core) whole(ctx context.Context, db DB, j job) (Call, *Error) {
	if pool, ok := db.(*Pool); ok && pool != nil {
		return c.observed(ctx, pool, j)
	}
	return c.run(ctx, db, j)
}

// run is the whole life of a run (see the package documentation), for a command
// that has hooks, middleware or limits.
func (c *core) run(ctx context.Context, db DB, j job) (seen Call, failure *Error) {
	if e := usable(ctx, db); e != nil {
		j.settle(0, e)
		return seen, c.refused(e)
	}
	if c.handler == nil {
		failure = c.steps(ctx, db, j, &seen)
		return seen, failure
	}
	return c.through(ctx, c.handler, db, j, func(ctx context.Context, call *Call) *Error { return c.steps(ctx, db, j, call) })
}

// through runs next below a chain of middleware, and holds that to its duties.
func (c *core) through(ctx context.Context, handler Handler, db DB, j job, next func(ctx context.Context, call *Call) *Error) (Call, *Error) {
	var failure *Error
	ran, ended := false, false
	call := &Call{Command: c.name, Input: j.seen()}
	call.run = func(ctx context.Context, call *Call) error {
		if ran {
			return Errorf(CodeInternal, "a middleware called next twice: it must not, trying again is not its business")
		}
		ran = true
		failure = next(ctx, call)
		if ended = true; failure != nil {
			return failure
		}
		return nil
	}
	err := handler(ctx, call)
	switch {
	case !ran && err == nil:
		failure = c.refused(&Error{Code: CodeInternal, Message: "a middleware ended the run without calling next and without an error"})
	case !ran:
		failure = c.refused(about("a middleware", causeOf(ctx, err)))
	case !ended:
		e := &Error{Code: CodeInternal, Err: err, Attempts: call.Attempts,
			Message: "a middleware went on without the end of the run: it recovered a panic, or did not wait for next"}
		if c.opts.ReadOnly {
			e.Effect = NotApplied
		}
		failure = e.within(c.name)
	case failure != nil && (err == nil || err == error(failure)):
	case failure != nil:
		failure = failure.translated(err)
	case err != nil:
		failure = about("a middleware", causeOf(ctx, err)).within(c.name)
		failure.Attempts, failure.Effect = call.Attempts, c.completed(db)
	}
	if failure != nil {
		j.settle(call.Attempts, failure)
	}
	return *call, failure
}

// steps validates, and runs the hooks around the body.
func (c *core) steps(ctx context.Context, db DB, j job, call *Call) *Error {
	if c.checks != nil {
		if err := c.checks.refusal(j.input()); err != nil {
			return c.refused(err)
		}
	}
	if c.batch {
		refused, failure, done := j.vet()
		if done {
			return failure
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
		defer c.clean(caller, j) // sees what Before made of the input
	}
	after, failure := c.attempts(ctx, db, j, call)
	if failure != nil || c.batch {
		j.settle(call.Attempts, failure)
	}
	call.Rows = j.rows(failure != nil)
	if failure != nil {
		return c.translate(caller, j, failure)
	}
	if len(after) > 0 {
		runAll(OutsideTx(context.WithoutCancel(caller)), after)
	}
	return nil
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
// tried again. It returns the functions to be run now that it has committed.
func (c *core) attempts(ctx context.Context, db DB, j job, call *Call) (after []func(context.Context), failure *Error) {
	cl, failure := c.claimFor(j)
	if failure != nil {
		return nil, c.refused(failure)
	}
	for _, hook := range c.before {
		if err := hook(ctx, j.input()); err != nil {
			return nil, c.refused(about("a Before hook", causeOf(ctx, err)))
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
		after, failure = c.attempt(ctx, db, j, cl)
		if failure == nil {
			call.replayed, call.unreplicated = cl != nil && cl.replayed, j.warned()
			retries.refund(call.Attempts > 1)
			return after, nil
		}
		unknown = failure.Effect == Unknown || unknown && (cl == nil || !cl.made)
		failure.Attempts, failure.earlier = call.Attempts, earlier
		if unknown {
			failure.Effect = Unknown
		}
		if !outermost || !c.repeats(db, failure) || failure.once() && len(earlier) > 0 || !c.opts.Retry.wants(failure, call.Attempts) {
			return nil, failure
		}
		if !retries.spend(failure) {
			failure.outOfBudget()
			return nil, failure
		}
		if !c.opts.Retry.wait(ctx, call.Attempts, time.Since(start)) {
			return nil, failure
		}
		failure.earlier = nil // each is on the list once
		earlier = append(earlier, failure)
	}
}

// repeats reports whether a failed attempt on db may be tried again: only by the
// outermost command, and only on a connection that lives.
func (c *core) repeats(db DB, failure *Error) bool {
	// A Once can be tried again whatever became of the attempt before.
	allowed := Retryable(failure) || failure.Effect != Applied && failure.transient() &&
		(c.once || mutant.Planted(mutant.RetryAfterCommit))
	if c.batch && !c.begins { // its items are tried again one by one
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
func (c *core) attempt(ctx context.Context, db DB, j job, cl *claim) (after []func(context.Context), failure *Error) {
	j.clear()
	if c.begins {
		return c.transact(ctx, db, j, cl)
	}
	return nil, c.work(ctx, db, j)
}

// work runs the body and After.
func (c *core) work(ctx context.Context, db DB, j job) *Error {
	if err := j.body(ctx, db); err == errUnreplicated {
		j.warn()
	} else if err != nil {
		return c.failed(ctx, err)
	}
	for _, hook := range slices.Backward(c.after) {
		if err := hook(ctx, j.input(), j.output()); err != nil {
			e := about("an After hook", causeOf(ctx, err)).within(c.name)
			e.Attempts, e.Effect = 1, c.completed(db)
			return e
		}
	}
	return nil
}

// translate lets the OnError hooks translate the failure.
func (c *core) translate(ctx context.Context, j job, failure *Error) *Error {
	for _, hook := range c.onError {
		seen := *failure // the hook may keep it, and must not change what is known
		if err := hook(ctx, j.input(), &seen); err != nil && err != error(&seen) {
			failure = failure.translated(err)
		}
	}
	return failure
}

// clean runs the Cleanup hooks, the last added first, each even if another panics.
func (c *core) clean(ctx context.Context, j job) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTime)
	defer cancel()
	for _, hook := range c.cleanup {
		defer hook(ctx, j.input())
	}
}

// refused makes the error of a run that sent nothing.
func (c *core) refused(e *Error) *Error {
	e.Effect, e.Attempts = NotApplied, 0
	return e.within(c.name)
}

// failed makes the error of a run whose body failed.
func (c *core) failed(ctx context.Context, err error) *Error {
	var e *Error
	if c.batch {
		e = err.(*Error)
		e.Attempts = 1
		if e.Command != "" { // the culprit's own path says all
			return e
		}
	} else if c.statement {
		e = err.(*Error) // made by the statement for this run, with its Effect
	} else {
		e = causeOf(ctx, err)
		if inner, _ := ours(err); inner == nil && e.withheld() {
			if text := sentinelText(err); text != "" {
				e.Message = text
			}
		}
		e = about("the body", e)
		e.Effect = Unknown
		if c.opts.ReadOnly {
			e.Effect = NotApplied
		}
	}
	e.Attempts = 1
	return c.mapConstraint(e.within(c.name))
}

// mapConstraint gives e the domain error that its constraint means.
func (c *core) mapConstraint(e *Error) *Error {
	if domain := c.opts.OnConstraint[e.Constraint]; domain != nil {
		e.also, e.Message = domain, e.place+domain.Error()
		if ours, ok := errors.AsType[*Error](domain); ok && ours != nil {
			e.Code, e.Message = ours.Code, e.place+ours.Message
		}
	}
	return e
}

// completed is the Effect of a failure that came after the body's success.
func (c *core) completed(db DB) Effect {
	return completed(db, c.opts.ReadOnly, c.statement || c.begins)
}

func completed(db DB, readOnly, unit bool) Effect {
	switch {
	case readOnly:
		return NotApplied
	case !unit || inTransaction(db):
		return Unknown // not one unit, or for the transaction to decide
	}
	return Applied
}

// translated is e as an OnError hook or a middleware wants it seen: err may give
// the code and the message, never the Effect, and e stays in reach.
func (e *Error) translated(err error) *Error {
	t := *e
	t.Err, t.also = e, err
	if ours, ok := errors.AsType[*Error](err); ok && ours != nil {
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

// withheld reports whether the message has the type of an error in place of its text.
func (e *Error) withheld() bool { return strings.HasPrefix(e.Message, "failed with ") }

// about names who failed, where the message does not.
func about(who string, e *Error) *Error {
	if e.withheld() {
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
