package pgcmd

import (
	"context"
	"fmt"
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
	core core
	body func(ctx context.Context, db DB, in In) (Out, error)

	// Of a command that is one statement, nil for a New command:
	define func(o Options) func(ctx context.Context, db DB, in In) (Out, error) // makes the body
	rows   func(out Out) int64                                                  // counts what it returned or affected
	query  any                                                                  // the *query[In, Row] or *copier that it was made of; nil for AdHoc
	piped  func(o Options) *piped[In, Out]                                      // how a pipeline runs it; nil for AdHoc

	batch    func(o Options) *batching[In, Out] // of a Batch; nil for others
	batching *batching[In, Out]                 // made by it, of the options

	key func(In) string // of a Once; nil for others

	before  []func(ctx context.Context, in *In) error
	after   []func(ctx context.Context, in In, out *Out) error
	onError []func(ctx context.Context, in In, err error) error
	cleanup []func(ctx context.Context, in In)
}

// A core is what is known of a command without its types. Whatever needs no more is
// a method of it, and so compiled once.
type core struct {
	name   string
	opts   Options
	begins bool // the body runs in a transaction: of a Transaction, or InTx
	once   bool

	// Computed, once:
	statement bool    // its errors are made by a statement, which is one unit
	batch     bool    // it runs items of another command
	vetoes    bool    // it has After hooks
	cleans    bool    // it has Cleanup hooks
	checks    *checks // nil if there is nothing to check, or the input is trusted
	handler   Handler // the middleware; nil without
	straight  bool    // no hook, no middleware, no limit: Run is the body and little else

	counted *atomic.Pointer[commandMetrics] // by the pool that it was last run on
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
	c := &Command[In, Out]{core: core{name: name}, body: body}
	c.prepare()
	return c
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
func (c *Command[In, Out]) prepare() {
	switch {
	case c.define != nil:
		c.body = c.define(c.core.opts)
	case c.batch != nil:
		c.batching = c.batch(c.core.opts)
		c.body = c.batching.run
	}
	c.core.statement, c.core.batch = c.define != nil, c.batch != nil
	c.core.vetoes, c.core.cleans = len(c.after) > 0, len(c.cleanup) > 0
	c.core.prepare(reflect.TypeFor[In](), len(c.before)+len(c.onError) > 0)
}

func (c *core) prepare(in reflect.Type, hooked bool) {
	c.checks, c.counted = nil, new(atomic.Pointer[commandMetrics])
	if !c.opts.Trusted && !c.batch { // a batch checks its items itself
		c.checks = checksOf(c.name, in)
	}
	c.handler = chain(c.name, c.opts.Middleware)
	c.begins = c.begins || c.opts.InTx
	if c.opts.Tx != (pgx.TxOptions{}) && !c.begins {
		panic(fmt.Sprintf("pgcmd: %s: Options.Tx, but the command begins no transaction: add InTx, or make it a Transaction", c.name))
	}
	c.straight = c.handler == nil && c.opts.Timeout == 0 && !c.begins && c.opts.Retry.Attempts <= 1 && !c.batch &&
		!hooked && !c.vetoes && !c.cleans
}

// Name returns the name that the command was made with.
func (c *Command[In, Out]) Name() string { return c.core.name }

// Format renders the command as its name, for every verb.
func (c *Command[In, Out]) Format(f fmt.State, _ rune) { fmt.Fprint(f, c.core.name) }

// Run runs the command on a pool, a connection or a transaction. A non-nil error
// is always an [*Error], and the Out is then zero. A panic of user code passes
// through, after the connection is given back and Cleanup has run.
func (c *Command[In, Out]) Run(ctx context.Context, db DB, in In) (Out, error) {
	pool, _ := db.(*Pool)
	switch {
	case !c.core.straight, pool != nil && len(pool.config.Middleware) > 0:
		t := &task[In, Out]{c: c, in: in}
		if _, e := c.core.whole(ctx, db, t); e != nil {
			return t.out, e
		}
		return t.out, nil
	case pool != nil:
		return c.runSighted(ctx, pool, in)
	}
	if failure := c.refusal(ctx, db, in); failure != nil {
		return c.none(failure)
	}
	out, err := c.body(ctx, db, in)
	if err != nil {
		return c.none(c.core.failed(ctx, err))
	}
	return out, nil
}

// runSighted is the straight path of Run on a pool that counts.
func (c *Command[In, Out]) runSighted(ctx context.Context, pool *Pool, in In) (out Out, err error) {
	s := pool.sight(&c.core)
	var failure *Error
	defer s.end(&failure)
	if failure = c.refusal(ctx, pool, in); failure != nil {
		return out, failure
	}
	if out, err = c.body(ctx, pool, in); err != nil {
		failure = c.core.failed(ctx, err)
		s.attempts = failure.Attempts
		return c.none(failure)
	}
	if s.attempts = 1; c.rows != nil {
		s.rows = c.rows(out)
	}
	return out, nil
}

// refusal says why a run cannot begin.
func (c *Command[In, Out]) refusal(ctx context.Context, db DB, in In) *Error {
	e := usable(ctx, db)
	if e == nil && c.core.checks != nil {
		e = c.check(in)
	}
	if e != nil {
		return c.core.refused(e)
	}
	return nil
}

// none is what a run returns that has failed.
func (c *Command[In, Out]) none(failure *Error) (out Out, _ error) { return out, failure }

// Try runs the command as Run does and tells how it went. On a DB that is a
// transaction it is isolated by a savepoint, which costs no round trip if all goes
// well: after a failure the transaction is as it was before, and usable; only a
// serialization failure or a deadlock dooms it all the same, and the next command
// on it returns that error.
func (c *Command[In, Out]) Try(ctx context.Context, db DB, in In) Outcome[Out] {
	start := time.Since(epoch)
	o := Outcome[Out]{Attempts: 1}
	within := inTransaction(db)
	if c.core.straight && !within {
		if o.Value, o.Err = c.Run(ctx, db, in); o.Err != nil {
			o.Attempts = o.Err.(*Error).Attempts
		}
	} else {
		t := &task[In, Out]{c: c, in: in}
		run := c.core.whole
		if within {
			run = c.core.isolated
		}
		call, failure := run(ctx, db, t)
		o.Value, o.Attempts, o.Replayed = t.out, call.Attempts, call.replayed
		if failure != nil {
			o.Err = failure
		}
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
	if c.batching != nil {
		return c.batching.validate(in)
	}
	checks := c.core.checks
	if checks == nil {
		checks = checksOf(c.core.name, reflect.TypeFor[In]())
	}
	if checks == nil {
		return nil
	}
	if err := checks.refusal(&in); err != nil {
		return c.core.refused(err)
	}
	return nil
}

// check and checkOwn are functions of their own so that only an input that is
// checked goes to the heap, once.
func (c *Command[In, Out]) check(in In) *Error {
	if c.core.checks.method {
		return c.checkOwn(in)
	}
	return c.core.checks.refusal(in)
}

func (c *Command[In, Out]) checkOwn(in In) *Error { return c.core.checks.refusal(&in) }

// With returns a copy of c with what o sets; fields left zero keep what c had.
// OnConstraint merges by key, Middleware is added inside what c has, booleans only
// switch on. Options that are wrong, or that c cannot have, panic.
func (c *Command[In, Out]) With(o Options) *Command[In, Out] {
	e := c.copy()
	e.core.merge(&o)
	e.prepare()
	return e
}

// Before adds a function that runs once, after validation and before anything is
// sent; it may change its copy of the input, which is not validated again. They
// run in the order added; the first error ends the run, NotApplied.
func (c *Command[In, Out]) Before(f func(ctx context.Context, in *In) error) *Command[In, Out] {
	c.core.demand("Before", f == nil)
	e := c.copy()
	e.before = with(e.before, f)
	e.prepare()
	return e
}

// After adds a function that runs once the body succeeded; it may change the
// output. They run in reverse order; the first error fails the run. Unless db is a
// transaction, a statement has committed by then: the error's Effect is Applied.
func (c *Command[In, Out]) After(f func(ctx context.Context, in In, out *Out) error) *Command[In, Out] {
	c.core.demand("After", f == nil)
	e := c.copy()
	e.after = with(e.after, f)
	e.prepare()
	return e
}

// OnError adds a function that sees the error of a run, validation's excepted,
// and may translate it: an [*Error] it returns gives Code and Message, any error
// it returns is reached by errors.Is beside the original. It cannot swallow the
// error or change its Effect: nil keeps what there was. They run in the order
// added, each with what the one before returned.
func (c *Command[In, Out]) OnError(f func(ctx context.Context, in In, err error) error) *Command[In, Out] {
	c.core.demand("OnError", f == nil)
	e := c.copy()
	e.onError = with(e.onError, f)
	e.prepare()
	return e
}

// Cleanup adds a function that always runs at the end of a run whose input was
// accepted: after success, failure, panic and [runtime.Goexit]. The last added
// runs first, on a context that is not cancelled with the caller's and ends after
// 5 seconds.
func (c *Command[In, Out]) Cleanup(f func(ctx context.Context, in In)) *Command[In, Out] {
	c.core.demand("Cleanup", f == nil)
	e := c.copy()
	e.cleanup = with(e.cleanup, f)
	e.prepare()
	return e
}

func (c *core) demand(hook string, missing bool) {
	if missing {
		panic(fmt.Sprintf("pgcmd: %s: %s was given a nil function", c.name, hook))
	}
}

// copy returns a copy that is to be changed, and prepared.
func (c *Command[In, Out]) copy() *Command[In, Out] {
	e := *c
	return &e
}

func (c *core) merge(o *Options) { c.opts = c.opts.merge(c.name, *o) }

// bare takes away what is the business of the whole that a command is a part of.
func (c *core) bare() { c.opts.Timeout, c.opts.Retry = 0, Retry{} }

// with appends without touching the original's array.
func with[F any](hooks []F, hook F) []F { return append(slices.Clip(hooks), hook) }
