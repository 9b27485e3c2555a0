package pgcmd

import (
	"context"
	"fmt"
	"io"
	"reflect"
	"slices"
	"sync/atomic"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"
)

// A Command is one named operation that turns an In into an Out by way of
// PostgreSQL. [New] makes one of a Go function, [Query], [QueryOne] and [Exec] of
// a statement.
//
// It never changes once made: keep it in a package variable and run it from any
// goroutine. The methods that add to it return a copy.
type Command[In, Out any] struct {
	def  definition
	body func(ctx context.Context, db DB, in In) (Out, error)

	// Of a command that is one statement, nil for a New command:
	newBody      func(o *Options) func(ctx context.Context, db DB, in In) (Out, error) // makes the body
	rows         func(out Out) int64                                                   // counts what it returned or affected
	newPipelined func(o *Options) *pipelined[In, Out]                                  // how a pipeline runs it; nil for AdHoc

	newBatchFuncs func(o *Options) *batchFuncsOf[In, Out] // of a Batch; nil for others
	batchFuncs    *batchFuncsOf[In, Out]                  // made by it, of the options
}

// A core is what is known of a command without its types. Whatever needs no more is
// a method of it, and so compiled once, and not again for every pair of them.
type definition struct {
	name     string
	opts     Options
	query    any       // the *query[In, Row] or *copier that a statement was made of; nil for AdHoc
	inTx     bool      // the body runs in a transaction: of a Transaction, or InTx
	isOnce   bool      // it is a Once
	oncePlan *oncePlan // of a Once

	// The hooks, whose in is an *In, and out an *Out.
	before  []func(ctx context.Context, in any) error
	after   []func(ctx context.Context, in, out any) error
	onError []func(ctx context.Context, in any, err error) error
	cleanup []func(ctx context.Context, in any)

	// Computed, once:
	in, out        reflect.Type
	returnsRows    bool               // it returns rows, so that it can have MaxBytes
	returnsMany    bool               // it may return any number of them, so that it can have MaxRows
	isStatement    bool               // its errors are made by a statement, which is one unit
	isBatch        bool               // it runs items of another command
	isAtomic       bool               // all of them or none
	itemDescriptor func() *descriptor // which is that
	validation     *validationChecks  // nil if there is nothing to check, or the input is trusted
	handler        Handler            // the middleware; nil without
	fastPath       bool               // no hook, no middleware, no limit: Run is the body and little else

	metricsCache *atomic.Pointer[commandMetrics] // by the pool that it was last run on
}

// New makes a command of a Go function: several statements, or none. Its body
// runs outside a transaction unless db is one, so it is not one unit: unless the
// command is ReadOnly, the Effect of its errors is Unknown, whatever the commands
// it called say.
//
// An empty name and a nil body panic, as does everything that is wrong in a
// definition.
func New[In, Out any](name string, body func(ctx context.Context, db DB, in In) (Out, error)) *Command[In, Out] {
	if body == nil {
		panic(fmt.Sprintf("pgcmd: %s: the body is nil", name))
	}
	return newCommand(name, body)
}

func newCommand[In, Out any](name string, body func(ctx context.Context, db DB, in In) (Out, error)) *Command[In, Out] {
	checkName(name)
	c := &Command[In, Out]{def: definition{name: name}, body: body}
	return c.prepare()
}

// checkName panics on a name that would not read in a log line or an error path.
func checkName(name string) {
	if name == "" {
		panic("pgcmd: a command needs a name, such as \"users.find\"")
	}
	if !utf8.ValidString(name) {
		panic(fmt.Sprintf("pgcmd: the command name %q is not valid UTF-8", name))
	}
	for _, r := range name {
		if unicode.IsSpace(r) || unicode.IsControl(r) || r == '>' {
			panic(fmt.Sprintf("pgcmd: the command name %q holds %q: use letters, digits, dots and dashes, as in \"users.find\"", name, r))
		}
	}
}

// prepare computes what Run would otherwise ask each time.
func (c *Command[In, Out]) prepare() *Command[In, Out] {
	k := &c.def
	switch {
	case c.newBody != nil:
		c.body, k.isStatement = c.newBody(&k.opts), true
	case c.newBatchFuncs != nil:
		c.batchFuncs = c.newBatchFuncs(&k.opts)
		c.body, k.isBatch, k.itemDescriptor = c.batchFuncs.run, true, c.batchFuncs.descriptor
	}
	k.prepare(reflect.TypeFor[In](), reflect.TypeFor[Out]())
	return c
}

func (c *definition) prepare(in, out reflect.Type) {
	c.in, c.out, c.validation, c.metricsCache = in, out, nil, new(atomic.Pointer[commandMetrics])
	if !c.opts.Trusted && !c.isBatch { // a batch checks its items itself
		c.validation = validationOf(c.name, in)
	}
	c.handler = chain(c.name, c.opts.Middleware)
	c.inTx = c.inTx || c.opts.InTx
	c.checkOptions()
	c.fastPath = c.handler == nil && c.opts.Timeout == 0 && !c.inTx && c.opts.Retry.Attempts <= 1 && !c.isBatch &&
		len(c.before)+len(c.after)+len(c.onError)+len(c.cleanup) == 0
}

// checkOptions panics on options that the command cannot have. Those of a batch that are
// its items' were checked as theirs.
func (c *definition) checkOptions() {
	o, why := &c.opts, ""
	_, copies := c.query.(*copyDefinition)
	switch {
	case o.Tx != (pgx.TxOptions{}) && !c.inTx:
		why = "Options.Tx, but the command begins no transaction: add InTx, or make it a Transaction"
	case c.isOnce && (o.ReadOnly || o.Tx.AccessMode == pgx.ReadOnly):
		why = "a Once writes its key and its result, and cannot be read-only: take away ReadOnly, or the Once, since reading twice does no harm"
	case o.MaxBytes > 0 && !c.returnsRows && !c.isBatch:
		why = "Options.MaxBytes, but the command returns no rows: it is for a Query, a QueryOne and AdHoc"
	case o.MaxRows > 0 && !c.returnsMany && !c.isBatch && c.returnsRows:
		why = "Options.MaxRows, but a QueryOne returns one row and refuses a second: take MaxRows away"
	case o.MaxRows > 0 && !c.returnsMany && !c.isBatch:
		why = "Options.MaxRows, but the command returns no rows of its own: it is for a Query and AdHoc, as those that a body runs"
	case o.Progress != nil && !c.isBatch && !copies:
		why = "Options.Progress, but only a Batch and a Copy report it: set it on those that a body runs, or run it with WithProgress"
	}
	if why != "" {
		panic(fmt.Sprintf("pgcmd: %s: %s", c.name, why))
	}
}

// Name returns the name that the command was made with.
func (c *Command[In, Out]) Name() string { return c.def.name }

// Format renders the command as its name, for every verb.
func (c *Command[In, Out]) Format(f fmt.State, _ rune) { c.def.format(f) }

func (c *definition) format(f fmt.State) { _, _ = io.WriteString(f, c.name) }

// Run runs the command on a pool, a connection or a transaction. A non-nil error
// is always an [*Error], and the Out is then zero. A panic of user code passes
// through, after the connection is given back and Cleanup has run.
func (c *Command[In, Out]) Run(ctx context.Context, db DB, in In) (Out, error) {
	pool, _ := db.(*Pool)
	switch {
	case !c.def.fastPath, pool != nil && len(pool.config.Middleware) > 0:
		t := &typedInvocation[In, Out]{c: c, in: in}
		if _, e := c.def.runObserved(ctx, db, t); e != nil {
			return t.out, e
		}
		return t.out, nil
	case pool != nil:
		out, err := c.runOnPool(ctx, pool, in)
		if err == errUnreplicated {
			err = nil
		}
		return out, err
	}
	if failure := c.precheck(ctx, db, in); failure != nil {
		return c.fail(failure)
	}
	out, err := c.body(ctx, db, in)
	if err != nil && err != errUnreplicated {
		return c.fail(c.def.bodyError(ctx, err))
	}
	return out, nil
}

// runOnPool is the straight path of Run on a pool that counts.
func (c *Command[In, Out]) runOnPool(ctx context.Context, pool *Pool, in In) (out Out, err error) {
	s := pool.startObservation(&c.def)
	var failure *Error
	defer s.finish(&failure)
	if failure = c.precheck(ctx, pool, in); failure != nil {
		return out, failure
	}
	if out, err = c.body(ctx, pool, in); err == errUnreplicated {
		s.unreplicated = true
	} else if err != nil {
		failure = c.def.bodyError(ctx, err)
		s.attempts = failure.Attempts
		return c.fail(failure)
	}
	if s.attempts = 1; c.rows != nil {
		s.rows = c.rows(out)
	}
	return out, err
}

// precheck says why a run cannot begin.
func (c *Command[In, Out]) precheck(ctx context.Context, db DB, in In) *Error {
	e := checkArgs(ctx, db)
	if e == nil && c.def.validation != nil {
		e = c.check(in)
	}
	if e != nil {
		return c.def.notSentError(e)
	}
	return nil
}

// fail is what a run returns that has failed.
func (c *Command[In, Out]) fail(failure *Error) (out Out, _ error) { return out, failure }

// Try runs the command as Run does and tells how it went. On a DB that is a
// transaction it is isolated by a savepoint, which costs no round trip if all goes
// well: after a failure the transaction is as it was before, and usable; only a
// serialization failure or a deadlock dooms it all the same, and the next command
// on it returns that error.
func (c *Command[In, Out]) Try(ctx context.Context, db DB, in In) Outcome[Out] {
	start := time.Since(epoch)
	o := Outcome[Out]{Attempts: 1}
	pool, _ := db.(*Pool)
	switch {
	case !c.def.fastPath || inTransaction(db), pool != nil && len(pool.config.Middleware) > 0:
		t := &typedInvocation[In, Out]{c: c, in: in}
		var call Call
		call, o.Err = c.def.runTry(ctx, db, t)
		o.Value, o.Attempts, o.Replayed, o.DurabilityWarning = t.out, call.Attempts, call.replayed, call.unreplicated
	case pool != nil:
		o.Value, o.Err = c.runOnPool(ctx, pool, in)
	default:
		if failure := c.precheck(ctx, db, in); failure != nil {
			o.Err = failure
		} else if o.Value, o.Err = c.body(ctx, db, in); o.Err != nil && o.Err != errUnreplicated {
			o.Value, o.Err = c.fail(c.def.bodyError(ctx, o.Err))
		}
	}
	if o.Err == errUnreplicated {
		o.Err, o.DurabilityWarning = nil, true
	} else if e, ok := o.Err.(*Error); ok {
		o.Attempts = e.Attempts
	}
	o.Elapsed = time.Since(epoch) - start
	return o
}

// epoch is where the clock of Try begins: how long ago it was is cheaper to ask than
// time.Now, which reads the time of day as well.
var epoch = time.Now()

// Validate reports every problem of in that the validate tags and the input's own
// Validate method find, as an [*Error] with CodeInvalid, or nil. Nothing is sent
// and no connection is taken. It asks even if the command is Trusted.
func (c *Command[In, Out]) Validate(in In) error {
	return c.validate(&in, 0)
}

// validate collects the problems of a batch until there are more than most, if that is
// not zero.
func (c *Command[In, Out]) validate(in *In, most int) error {
	if c.batchFuncs != nil {
		return c.batchFuncs.validate(*in, most)
	}
	return c.def.validate(in)
}

func (c *definition) validate(in any) error {
	checks := c.validation
	if checks == nil {
		checks = validationOf(c.name, c.in)
	}
	if checks == nil {
		return nil
	}
	if err := checks.validate(in); err != nil {
		return c.notSentError(err)
	}
	return nil
}

// check and checkOwn are functions of their own so that only an input that is
// checked goes to the heap, once.
func (c *Command[In, Out]) check(in In) *Error {
	if c.def.validation.method {
		return c.checkOwn(in)
	}
	return c.def.validation.validate(in)
}

func (c *Command[In, Out]) checkOwn(in In) *Error { return c.def.validation.validate(&in) }

// With returns a copy of c with what o sets; fields left zero keep what c had.
// OnConstraint merges by key, Middleware is added inside what c has, booleans only
// switch on. Options that are wrong, or that c cannot have, panic.
func (c *Command[In, Out]) With(o Options) *Command[In, Out] {
	return c.withDefinition(c.def.with(&o))
}

// Before adds a function that runs once, after validation and before anything is
// sent; it may change its copy of the input, which is not validated again. They
// run in the order added; the first error ends the run, NotApplied.
func (c *Command[In, Out]) Before(f func(ctx context.Context, in *In) error) *Command[In, Out] {
	return c.withDefinition(c.def.withBefore(f == nil, func(ctx context.Context, in any) error { return f(ctx, in.(*In)) }))
}

// After adds a function that runs once the body succeeded; it may change the
// output. They run in reverse order; the first error fails the run. Unless db is a
// transaction, a statement has committed by then: the error's Effect is Applied.
func (c *Command[In, Out]) After(f func(ctx context.Context, in In, out *Out) error) *Command[In, Out] {
	return c.withDefinition(c.def.withAfter(f == nil, func(ctx context.Context, in, out any) error { return f(ctx, *in.(*In), out.(*Out)) }))
}

// OnError adds a function that sees the error of a run, validation's excepted,
// and may translate it: an [*Error] it returns gives Code and Message, any error
// it returns is reached by errors.Is beside the original. It cannot swallow the
// error or change its Effect: nil keeps what there was. They run in the order
// added, each with what the one before returned.
func (c *Command[In, Out]) OnError(f func(ctx context.Context, in In, err error) error) *Command[In, Out] {
	return c.withDefinition(c.def.withOnError(f == nil, func(ctx context.Context, in any, err error) error { return f(ctx, *in.(*In), err) }))
}

// Cleanup adds a function that always runs at the end of a run whose input was
// accepted: after success, failure, panic and [runtime.Goexit]. The last added
// runs first, on a context that is not cancelled with the caller's and ends after
// 5 seconds.
func (c *Command[In, Out]) Cleanup(f func(ctx context.Context, in In)) *Command[In, Out] {
	return c.withDefinition(c.def.withCleanup(f == nil, func(ctx context.Context, in any) { f(ctx, *in.(*In)) }))
}

// withDefinition returns a copy of c whose core is k. Inlined, it would be compiled five times for
// every command.
//
//go:noinline
func (c *Command[In, Out]) withDefinition(k *definition) *Command[In, Out] {
	e := *c
	e.def = *k
	return e.prepare()
}

func (c *definition) with(o *Options) *definition {
	k := *c
	k.opts = k.opts.merge(k.name, *o)
	return &k
}

// withoutRetry is c without what is the business of the whole that it is a part of.
func (c *definition) withoutRetry() *definition {
	k := *c
	k.opts.Timeout, k.opts.Retry = 0, Retry{}
	return &k
}

func (c *definition) withBefore(missing bool, f func(ctx context.Context, in any) error) *definition {
	k := c.cloneForHook("Before", missing)
	k.before = append(slices.Clip(k.before), f)
	return k
}

func (c *definition) withAfter(missing bool, f func(ctx context.Context, in, out any) error) *definition {
	k := c.cloneForHook("After", missing)
	k.after = append(slices.Clip(k.after), f)
	return k
}

func (c *definition) withOnError(missing bool, f func(ctx context.Context, in any, err error) error) *definition {
	k := c.cloneForHook("OnError", missing)
	k.onError = append(slices.Clip(k.onError), f)
	return k
}

func (c *definition) withCleanup(missing bool, f func(ctx context.Context, in any)) *definition {
	k := c.cloneForHook("Cleanup", missing)
	k.cleanup = append(slices.Clip(k.cleanup), f)
	return k
}

// cloneForHook returns a copy of c that is to get a hook. Whoever adds one clips the list
// first, so as not to write into the original's array.
func (c *definition) cloneForHook(hook string, missing bool) *definition {
	if missing {
		panic(fmt.Sprintf("pgcmd: %s: %s was given a nil function", c.name, hook))
	}
	k := *c
	return &k
}
