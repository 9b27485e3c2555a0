package pgcmd

import (
	"context"
	"errors"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pgcmd/pgcmd/internal/problem"
	"github.com/pgcmd/pgcmd/internal/sentinel"
	"github.com/pgcmd/pgcmd/internal/validation"
)

// cleanupTime bounds all Cleanup hooks of a run together.
const cleanupTime = 5 * time.Second

// runInSavepoint runs the command under a savepoint of the transaction that db is, so
// that a failure leaves the transaction usable.
func (c *definition) runInSavepoint(ctx context.Context, db DB, inv *invocation) (call Call, failure *Error) {
	t := resolve(db)
	tx := t.join()
	if ctx == nil || tx == nil { // the connection was closed within its transaction: either is refused there
		return c.runWithMiddleware(ctx, db, inv)
	}
	if err := tx.level.Usable(ctx); err != nil {
		failure = newUnsentError(ctx, err).prefixCommand(c.name)
		c.finish(inv, 0, failure)
		return call, failure
	}
	nested := tx.beginSavepoint()
	nested.ofTry = true
	defer func() {
		_ = nested.endSavepoint(ctx, false) // after a panic; else it has ended
	}()
	call, failure = c.runWithMiddleware(ctx, nested, inv)
	if misused, _ := tx.s.State.Misused.(*Error); misused != nil {
		tx.s.State.Misused = nil // the transaction goes on without what the body did
		if failure == nil {
			e := *misused
			failure = e.prefixCommand(c.name)
		}
	}
	tx.s.CheckStatus()
	ending := nested.endSavepoint(ctx, failure == nil)
	if tx.s.External && ending == nil {
		ending = tx.s.SendDeferred(ctx)
	}
	switch {
	case failure != nil && ending == nil && !tx.s.OutcomeUnproven():
		failure.Effect = NotApplied // rolled back to the savepoint
	case failure == nil && ending != nil:
		failure = newUnsentError(ctx, ending).prefixCommand(c.name)
	}
	if failure != nil && tx.s.OutcomeUnproven() {
		failure.Effect = Unknown
	}
	if failure != nil {
		c.finish(inv, call.Attempts, failure)
	}
	return call, failure
}

// runObserved runs the command, without a savepoint, and counts and logs the run.
func (c *definition) runObserved(ctx context.Context, db DB, inv *invocation) (Call, *Error) {
	if pool, ok := db.(*Pool); ok && pool != nil && !c.unobserved {
		return c.runWithMetrics(ctx, pool, inv)
	}
	return c.runWithMiddleware(ctx, db, inv)
}

// runWithMiddleware is the whole life of a run (see the package documentation), for a command
// that has hooks, middleware or limits.
func (c *definition) runWithMiddleware(ctx context.Context, db DB, inv *invocation) (seen Call, failure *Error) {
	if t := resolve(db); t.missing || ctx == nil {
		e := checkCall(ctx, &t)
		c.finish(inv, 0, e)
		return seen, c.notSentError(e)
	}
	if c.handler == nil {
		failure = c.runValidated(ctx, db, inv, &seen)
		return seen, failure
	}
	return c.runMiddleware(ctx, c.handler, db, inv, func(ctx context.Context, call *Call) *Error { return c.runValidated(ctx, db, inv, call) })
}

// runMiddleware runs next below a chain of middleware, and checks the duties of that: see
// [Middleware].
func (c *definition) runMiddleware(ctx context.Context, handler Handler, db DB, inv *invocation, next func(ctx context.Context, call *Call) *Error) (Call, *Error) {
	var failure *Error
	ran, ended := false, false
	call := &Call{Command: c.name, Input: inv.inValue().Interface()}
	call.run = func(ctx context.Context, call *Call) error {
		if ran {
			return Errorf(CodeInternal, "a middleware called next twice: call it once, and use Options.Retry to try again")
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
		failure = c.notSentError(&Error{Code: CodeInternal, Message: "a middleware returned nil without calling next: return an error to refuse the run"})
	case !ran:
		failure = c.notSentError(nameFailer("a middleware", classify(ctx, err)))
	case !ended:
		e := &Error{Code: CodeInternal, Err: err, Attempts: call.Attempts,
			Message: "a middleware returned before the run had ended: it must wait for next, and let a panic of next go on"}
		if c.reads {
			e.Effect = NotApplied
		}
		failure = e.prefixCommand(c.name)
	case failure != nil && (err == nil || err == error(failure)):
	case failure != nil:
		failure = failure.withTranslation(err)
	case err != nil:
		failure = nameFailer("a middleware", classify(ctx, err)).prefixCommand(c.name)
		failure.Attempts, failure.Effect = call.Attempts, c.effectAfterSuccess(db)
	}
	if failure != nil {
		c.finish(inv, call.Attempts, failure)
	}
	return *call, failure
}

// runValidated validates, and runs the hooks around the body.
func (c *definition) runValidated(ctx context.Context, db DB, inv *invocation, call *Call) *Error {
	if c.validation != nil {
		if err := validateInput(c.validation, inv.in); err != nil {
			return c.notSentError(err)
		}
	}
	if c.batch != nil {
		if failure, done := c.batch.validateItems(inv); done {
			return failure
		}
	}
	caller := ctx
	if c.opts.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, c.opts.Timeout)
		defer cancel()
	}
	if len(c.cleanup) > 0 {
		defer c.runCleanup(caller, inv) // it sees the input as changed by Before
	}
	after, failure := c.runWithRetry(ctx, db, inv, call)
	if failure != nil || c.batch != nil {
		c.finish(inv, call.Attempts, failure)
	}
	if _, streams := c.body.(*stream); failure == nil || streams {
		call.Rows = c.body.rows(inv)
	}
	if failure != nil {
		return c.runOnError(caller, inv, failure)
	}
	if len(after) > 0 {
		runAll(OutsideTx(context.WithoutCancel(caller)), after)
	}
	return nil
}

// finish clears the output of a run that failed. Of a batch it finishes the outcomes instead.
func (c *definition) finish(inv *invocation, attempts int, failure *Error) {
	switch {
	case c.batch == nil:
		inv.clearOutput()
	case failure == nil && attempts == 1 && !inv.unreplicated && len(c.after) == 0: // the outcomes agree with it
	default:
		c.batch.finish(inv, attempts, failure)
	}
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

// runWithRetry runs Before, and then the body and After, again if it failed and may be
// tried again. It returns the functions to be run now that it has committed.
func (c *definition) runWithRetry(ctx context.Context, db DB, inv *invocation, call *Call) (after []func(context.Context), failure *Error) {
	key, failure := c.idempotencyKeyFor(inv)
	if failure != nil {
		return nil, c.notSentError(failure)
	}
	for _, hook := range c.before {
		if err := hook(ctx, inv.in); err != nil {
			return nil, c.notSentError(nameFailer("a Before hook", classify(ctx, err)))
		}
	}
	target := resolve(db)
	retries := target.retryBucket()
	outermost := true
	if c.opts.Retry.Attempts > 1 && (c.inTx || c.reads) {
		outermost = ctx.Value(retryKey{}) == nil
		ctx = context.WithValue(ctx, retryKey{}, true)
	}
	var earlier []*Error
	unknown := false // an earlier attempt may be applied
	for {
		call.Attempts++
		if key != nil {
			key.inserted = false
		}
		var start time.Time
		if c.opts.Retry.Attempts > 1 {
			start = time.Now()
		}
		inv.clearOutput()
		if c.inTx {
			after, failure = c.runTx(ctx, db, inv, key)
		} else {
			failure = c.runBody(ctx, db, inv)
		}
		if failure == nil {
			call.replayed, call.unreplicated = key != nil && key.replayed, inv.unreplicated
			retries.Put(call.Attempts > 1)
			return after, nil
		}
		unknown = failure.Effect == Unknown || unknown && (key == nil || !key.inserted)
		failure.Attempts, failure.previousAttempts = call.Attempts, earlier
		if unknown {
			failure.Effect = Unknown
		}
		if !outermost || !c.mayRetry(&target, failure) || failure.retryAtMostOnce() && len(earlier) > 0 || !c.opts.Retry.allows(failure, call.Attempts) {
			return nil, failure
		}
		if !failure.takeToken(retries) {
			failure.addBucketEmpty()
			return nil, failure
		}
		if !c.opts.Retry.wait(ctx, call.Attempts, time.Since(start)) {
			return nil, failure
		}
		failure.previousAttempts = nil // each is on the list once
		earlier = append(earlier, failure)
	}
}

// mayRetry reports whether a failed attempt on db may be tried again: only by the
// outermost command, and only on a connection that lives.
func (c *definition) mayRetry(t *target, failure *Error) bool {
	// A Once can be tried again whatever became of the attempt before.
	allowed := Retryable(failure) || failure.Effect != Applied && failure.isTransient() && c.isOnce
	if c.batch != nil && !c.inTx { // its items are tried again one by one
		return false
	}
	if c.opts.Retry.Attempts <= 1 || !allowed || failure.noRetry || t.inTransaction() {
		return false
	}
	return t.conn == nil || !t.conn.IsClosed()
}

// runBody runs the body and After.
func (c *definition) runBody(ctx context.Context, db DB, inv *invocation) *Error {
	if err := c.body.run(ctx, db, inv); err == errUnreplicated {
		inv.unreplicated = true
	} else if err != nil {
		return c.bodyError(ctx, err)
	}
	for _, hook := range slices.Backward(c.after) {
		if err := hook(ctx, inv.in, inv.output()); err != nil {
			e := nameFailer("an After hook", classify(ctx, err)).prefixCommand(c.name)
			e.Attempts, e.Effect = 1, c.effectAfterSuccess(db)
			return e
		}
	}
	return nil
}

// runOnError lets the OnError hooks translate the failure.
func (c *definition) runOnError(ctx context.Context, inv *invocation, failure *Error) *Error {
	for _, hook := range c.onError {
		seen := *failure // a copy, which the hook may keep and change
		if err := hook(ctx, inv.in, &seen); err != nil && err != error(&seen) {
			failure = failure.withTranslation(err)
		}
	}
	return failure
}

// runCleanup runs the Cleanup hooks, the last added first, each even if another panics.
func (c *definition) runCleanup(ctx context.Context, inv *invocation) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTime)
	defer cancel()
	for _, hook := range c.cleanup {
		defer hook(ctx, inv.in)
	}
}

// notSentError makes the error of a run that sent nothing.
func (c *definition) notSentError(e *Error) *Error {
	e.Effect, e.Attempts = NotApplied, 0
	return e.prefixCommand(c.name)
}

// bodyError makes the error of a run whose body failed.
func (c *definition) bodyError(ctx context.Context, err error) *Error {
	var e *Error
	if c.batch != nil {
		e = err.(*Error)
		e.Attempts = 1
		if e.Command != "" { // it has a path already
			return e
		}
	} else if c.isStatement {
		e = err.(*Error) // made by the statement for this run, with its Effect
	} else {
		e = classifyUserError(ctx, "the body", err)
		e.Effect = Unknown
		if c.reads {
			e.Effect = NotApplied
		}
	}
	e.Attempts = 1
	return c.mapConstraint(e.prefixCommand(c.name))
}

// mapConstraint gives e the domain error that its constraint means.
func (c *definition) mapConstraint(e *Error) *Error {
	if domain := c.opts.OnConstraint[e.Constraint]; domain != nil {
		e.secondary, e.Message = domain, e.rowPrefix+domain.Error()
		if ours, ok := errors.AsType[*Error](domain); ok && ours != nil {
			e.Code, e.Message = ours.Code, e.rowPrefix+ours.Message
		}
	}
	return e
}

// effectAfterSuccess is the Effect of a failure that came after the body's success.
func (c *definition) effectAfterSuccess(db DB) Effect {
	return effectAfterSuccess(db, c.reads, c.isStatement || c.inTx)
}

func effectAfterSuccess(db DB, reads, unit bool) Effect {
	switch {
	case reads:
		return NotApplied
	case !unit || inTransaction(db):
		return Unknown // it is not one unit, or the transaction decides it
	}
	return Applied
}

// withTranslation returns e as translated by an OnError hook or a middleware: err gives the
// code and the message, never the Effect, and wraps e.
func (e *Error) withTranslation(err error) *Error {
	t := *e
	t.Err, t.secondary = e, err
	if ours, ok := errors.AsType[*Error](err); ok && ours != nil {
		t.Code, t.Message = ours.Code, ours.Message
		if len(ours.Problems) > 0 {
			t.Problems = ours.Problems
		}
	}
	return &t
}

// prefixCommand puts the name of an outer command before the path.
func (e *Error) prefixCommand(command string) *Error {
	if e.Command == "" {
		e.Command = command
	} else {
		e.Command = command + " > " + e.Command
	}
	return e
}

// classifyUserError is classify for an error of user code, which is called what. The text of a
// package-level error is shown.
func classifyUserError(ctx context.Context, what string, err error) *Error {
	e := classify(ctx, err)
	if inner, _ := findError(err); inner == nil && e.hasWithheldText() {
		if text := sentinel.Text(err); text != "" {
			e.Message = text
		}
	}
	return nameFailer(what, e)
}

// hasWithheldText reports whether the message has the type of an error in place of its text.
func (e *Error) hasWithheldText() bool { return strings.HasPrefix(e.Message, "failed with ") }

// nameFailer puts the name of what failed before the message, if that does not name it.
func nameFailer(name string, e *Error) *Error {
	if e.hasWithheldText() {
		e.Message = name + " " + e.Message
	}
	return e
}

// An invocation is one run of a command. Where no user code can keep its memory, that is used
// again. What is not needed before there is a connection is made then, so that a run that waits
// for one is small.
type invocation struct {
	def          *definition // takes it back; nil if it is not used again
	in           any         // an *In
	out          any         // an *Out; nil before output, of one that is used again
	fields       []any       // of the fast path: pointers to the fields of in that are arguments
	args         []any       // of the statement
	result       *result     // of the statement that was sent last; nil before
	refused      *[]*Error   // of a batch, by the number of the item; nil if none was
	argsFree     bool        // nobody keeps the array of args
	unreplicated bool        // what it did is committed, and the synchronous standby has not got it
}

// invocationFor returns memory for a run on db: one that is used again if no user code can
// keep it, and the run is not on another goroutine.
func (d *definition) invocationFor(db DB) *invocation {
	pool, _ := db.(*Pool)
	if !d.reusesMemory || pool != nil && len(pool.config.Middleware) > 0 {
		return d.newInvocation()
	}
	inv, _ := d.invocations.Get().(*invocation)
	if inv == nil {
		inv = &invocation{in: reflect.New(d.in).Interface()}
		if d.direct {
			inv.fields = d.query.binding.Pointers(inv.inValue())
		}
	}
	inv.def = d
	return inv
}

// tryInvocationFor is invocationFor for Try, which isolates a run in a transaction.
func (d *definition) tryInvocationFor(db DB) *invocation {
	if inTransaction(db) {
		return d.newInvocation()
	}
	return d.invocationFor(db)
}

func (d *definition) newInvocation() *invocation {
	return &invocation{in: reflect.New(d.in).Interface(), out: reflect.New(d.out).Interface()}
}

// output returns out.
func (inv *invocation) output() any {
	if inv.out == nil {
		inv.out = reflect.New(inv.def.out).Interface()
	}
	return inv.out
}

func (inv *invocation) inValue() reflect.Value  { return reflect.ValueOf(inv.in).Elem() }
func (inv *invocation) outValue() reflect.Value { return reflect.ValueOf(inv.output()).Elem() }

// clearOutput makes the output zero.
func (inv *invocation) clearOutput() {
	if inv.out != nil {
		inv.outValue().SetZero()
	}
}

func (inv *invocation) onFastPath() bool { return inv.def != nil && inv.def.fastPath }

// free gives the memory to a later run, without what it held. After a panic it is not
// called, and the memory is garbage.
func (inv *invocation) free() {
	d := inv.def
	if d == nil {
		return
	}
	inv.def, inv.unreplicated = nil, false
	inv.inValue().SetZero()
	inv.clearOutput()
	inv.freeResult()
	if inv.argsFree {
		clear(inv.args) // the next run uses the array again
	} else {
		inv.args = nil
	}
	d.invocations.Put(inv)
}

// freeResult gives the memory of the result to a later statement.
func (inv *invocation) freeResult() {
	if r := inv.result; r != nil {
		inv.result, inv.argsFree = nil, r.argsFree
		*r = result{}
		results.Put(r)
	}
}

// run runs the command on any DB, and leaves its output in inv.
//
// The fast path of a statement has as little as possible on the stack: what pgx needs makes
// the stack of a new goroutine grow.
func (d *definition) run(ctx context.Context, db DB, inv *invocation) error {
	if !d.direct || !inv.onFastPath() {
		return d.runOther(ctx, db, inv)
	}
	if pool, _ := db.(*Pool); pool != nil {
		return d.queryOnPool(ctx, pool, inv)
	}
	return d.runQuery(ctx, db, inv)
}

// runQuery is the fast path of a statement on a DB of pgx's.
func (d *definition) runQuery(ctx context.Context, db DB, inv *invocation) error {
	if failure := d.beginQuery(ctx, db, inv); failure != nil {
		return failure
	}
	defer inv.closeResult()
	if inv.result.direct == nil {
		return d.readReply(ctx, inv)
	}
	return d.readQuery(ctx, inv, inv.result.query(ctx))
}

// runOther is run for what is not a statement on the fast path.
func (d *definition) runOther(ctx context.Context, db DB, inv *invocation) error {
	if !inv.onFastPath() {
		if _, e := d.runObserved(ctx, db, inv); e != nil {
			return e
		}
		return nil
	}
	if pool, _ := db.(*Pool); pool != nil {
		return d.runOnPool(ctx, pool, inv)
	}
	if failure := d.precheck(ctx, db, inv); failure != nil {
		return failure
	}
	return d.ended(ctx, inv, d.body.run(ctx, db, inv))
}

func (d *definition) beginQuery(ctx context.Context, db DB, inv *invocation) *Error {
	if failure := d.precheck(ctx, db, inv); failure != nil {
		return failure
	}
	if failure := d.query.begin(ctx, db, inv); failure != nil {
		return d.bodyError(ctx, failure)
	}
	inv.result.ctx = ctx
	return nil
}

func (d *definition) readReply(ctx context.Context, inv *invocation) error {
	return d.ended(ctx, inv, d.query.readReply(ctx, inv, inv.result))
}

func (d *definition) readQuery(ctx context.Context, inv *invocation, err error) error {
	return d.ended(ctx, inv, d.query.readQuery(ctx, inv, err))
}

func (inv *invocation) closeResult() { inv.def.query.close(inv.result.ctx, inv.result) }

// ended makes the error of a run on the fast path of what its body returned.
func (d *definition) ended(ctx context.Context, inv *invocation, err error) error {
	switch {
	case err == nil:
		return nil
	case err == errUnreplicated:
		inv.unreplicated = true
		return nil
	}
	return d.bodyError(ctx, err)
}

// runOnPool is the fast path on a pool, which counts.
func (d *definition) runOnPool(ctx context.Context, pool *Pool, inv *invocation) error {
	var s observation
	s.begin(pool, d)
	defer s.finish()
	if failure := d.precheck(ctx, pool, inv); failure != nil {
		return s.failed(failure)
	}
	return s.ended(d, inv, d.ended(ctx, inv, d.body.run(ctx, pool, inv)))
}

// queryOnPool is runQuery on a pool, which counts.
func (d *definition) queryOnPool(ctx context.Context, pool *Pool, inv *invocation) error {
	var s observation
	s.begin(pool, d)
	defer s.finish()
	if failure := d.beginQuery(ctx, pool, inv); failure != nil {
		return s.failed(failure)
	}
	defer inv.closeResult()
	if inv.result.direct == nil {
		return s.ended(d, inv, d.readReply(ctx, inv))
	}
	return s.ended(d, inv, d.readQuery(ctx, inv, inv.result.query(ctx)))
}

// precheck returns why a run on the fast path cannot begin. What is checked is a copy,
// since user code may keep it.
func (d *definition) precheck(ctx context.Context, db DB, inv *invocation) *Error {
	t := resolve(db)
	e := checkCall(ctx, &t)
	if e == nil && d.validation != nil {
		e = d.check(inv)
	}
	if e != nil {
		return d.notSentError(e)
	}
	return nil
}

// check validates a copy of the input.
func (d *definition) check(inv *invocation) *Error {
	if !d.validation.HasMethod {
		if !d.validation.HasTags() {
			return validateInput(d.validation, inv.in) // which no user code sees
		}
		return validateInput(d.validation, inv.inValue().Interface())
	}
	in := reflect.New(d.in)
	in.Elem().Set(inv.inValue())
	return validateInput(d.validation, in.Interface())
}

// A runOutcome is an [Outcome] without its value.
type runOutcome struct {
	err          error // nil, or an *Error
	attempts     int
	elapsed      time.Duration
	replayed     bool
	unreplicated bool
}

// epoch is where the clock of Try begins: how long ago it was costs less to compute than
// time.Now, which reads the time of day as well.
var epoch = time.Now()

// try runs the command and tells how it went. In a transaction it runs under a savepoint.
func (d *definition) try(ctx context.Context, db DB, inv *invocation) runOutcome {
	start := time.Since(epoch)
	o := runOutcome{attempts: 1}
	if inv.onFastPath() {
		o.err = d.run(ctx, db, inv)
		o.unreplicated = inv.unreplicated
	} else {
		run := d.runObserved
		if inTransaction(db) {
			run = d.runInSavepoint
		}
		call, failure := run(ctx, db, inv)
		o.attempts, o.replayed, o.unreplicated = call.Attempts, call.replayed, call.unreplicated
		if failure != nil {
			o.err = failure
		}
	}
	if e, ok := o.err.(*Error); ok {
		o.attempts = e.Attempts
	}
	o.elapsed = time.Since(epoch) - start
	return o
}

// validationOf returns the validation of an input type, nil if there is nothing to check. A
// tag that validator does not know panics.
func validationOf(command string, typ reflect.Type) *validation.Checks {
	c, err := validation.Compile(typ, problemsInError)
	mustDefine(command, err)
	return c
}

// validateInput returns the error of the input that in points to, nil if nothing is wrong. An
// input without a Validate method may be passed by value: validator then need not copy the
// fields that it reports.
func validateInput(c *validation.Checks, in any) *Error {
	found, cause := c.Problems(in)
	if cause == nil {
		return nil
	}
	return &Error{Code: CodeInvalid, Message: refusedFor(len(found)), Problems: problemsOf(found), Err: cause}
}

func refusedFor(problems int) string {
	if problems > 1 {
		return "the input was refused for " + strconv.Itoa(problems) + " reasons"
	}
	return "the input was refused"
}

// problemsInError returns the problems in the error of a Validate method: one of each joined
// error, and those of an *Error.
func problemsInError(err error) []problem.Problem {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		if _, ours := err.(*Error); !ours {
			var problems []problem.Problem
			for _, e := range joined.Unwrap() {
				problems = append(problems, problemsInError(e)...)
			}
			return problems
		}
	}
	if e, ok := errors.AsType[*Error](err); ok && e != nil {
		if len(e.Problems) > 0 {
			problems := make([]problem.Problem, len(e.Problems))
			for i, p := range e.Problems {
				problems[i] = problem.Problem(p)
			}
			return problems
		}
		return []problem.Problem{{Rule: "validate", Message: e.Message}}
	}
	// A Validate method is written for the caller: the message is its text.
	return []problem.Problem{{Rule: "validate", Message: err.Error()}}
}

// problemsOf converts the problems that a check found.
func problemsOf(found []problem.Problem) []Problem {
	problems := make([]Problem, len(found))
	for i, p := range found {
		problems[i] = Problem(p)
	}
	return problems
}
