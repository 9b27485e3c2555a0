package pgcmd

import (
	"context"
	"fmt"
	"slices"
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
	name string
	opts Options
	body func(ctx context.Context, db DB, in In) (Out, error)

	// Of a command that is one statement, nil for a New command:
	define func(o Options) func(ctx context.Context, db DB, in In) (Out, error) // makes the body
	rows   func(out Out) int64                                                  // counts what it returned or affected
	query  any                                                                  // the *query[In, Row] or *copier[Row] that it was made of; nil for AdHoc
	piped  func(o Options) *piped[In, Out]                                      // how a pipeline runs it; nil for AdHoc

	batch    func(o Options) *batching[In, Out] // of a Batch; nil for others
	batching *batching[In, Out]                 // made by it, of the options

	key func(In) string // of a Once; nil for others

	before  []func(ctx context.Context, in *In) error
	after   []func(ctx context.Context, in In, out *Out) error
	onError []func(ctx context.Context, in In, err error) error
	cleanup []func(ctx context.Context, in In)

	// Computed from the above, once:
	begins   bool    // the body runs in a transaction: of a Transaction, or InTx
	checks   *checks // nil if there is nothing to check, or the input is trusted
	handler  Handler // the middleware; nil without
	straight bool    // no hook, no middleware, no limit: Run is the body and little else
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
	c := &Command[In, Out]{name: name, body: body}
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
	c.checks = nil
	if !c.opts.Trusted && c.batch == nil { // a batch checks its items itself
		c.checks = checksOf[In](c.name)
	}
	switch {
	case c.define != nil:
		c.body = c.define(c.opts)
	case c.batch != nil:
		c.batching = c.batch(c.opts)
		c.body = c.batching.run
	}
	c.handler = chain(c.name, c.opts.Middleware)
	c.begins = c.begins || c.opts.InTx
	if c.opts.Tx != (pgx.TxOptions{}) && !c.begins {
		panic(fmt.Sprintf("pgcmd: %s: Options.Tx, but the command begins no transaction: add InTx, or make it a Transaction", c.name))
	}
	c.straight = c.handler == nil && c.opts.Timeout == 0 && !c.begins && c.opts.Retry.Attempts <= 1 && c.batch == nil &&
		len(c.before)+len(c.after)+len(c.onError)+len(c.cleanup) == 0
}

// Name returns the name that the command was made with.
func (c *Command[In, Out]) Name() string { return c.name }

// Format renders the command as its name, for every verb.
func (c *Command[In, Out]) Format(f fmt.State, _ rune) { fmt.Fprint(f, c.name) }

// Run runs the command on a pool, a connection or a transaction. A non-nil error
// is always an [*Error], and the Out is then zero. A panic of user code passes
// through, after the connection is given back and Cleanup has run.
func (c *Command[In, Out]) Run(ctx context.Context, db DB, in In) (Out, error) {
	if pool, ok := db.(*Pool); ok && pool != nil {
		out, _, err := c.observed(ctx, pool, in)
		return out, err
	}
	if !c.straight {
		out, _, err := c.run(ctx, db, in)
		return out, err
	}
	return c.runStraight(ctx, db, in)
}

// runStraight is Run for a command that has no hook, no middleware and no limit.
func (c *Command[In, Out]) runStraight(ctx context.Context, db DB, in In) (Out, error) {
	err := usable(ctx, db)
	if err == nil && c.checks != nil {
		err = c.check(in)
	}
	if err != nil {
		var none Out
		return none, c.refused(err)
	}
	out, failure := c.body(ctx, db, in)
	if failure != nil {
		var none Out
		return none, c.failed(ctx, failure)
	}
	return out, nil
}

// Try runs the command as Run does and tells how it went. On a DB that is a
// transaction it is isolated by a savepoint, which costs no round trip if all goes
// well: after a failure the transaction is as it was before, and usable; only a
// serialization failure or a deadlock dooms it all the same, and the next command
// on it returns that error.
func (c *Command[In, Out]) Try(ctx context.Context, db DB, in In) Outcome[Out] {
	start := time.Now()
	o := Outcome[Out]{Attempts: 1}
	pool, _ := db.(*Pool)
	switch {
	case pool != nil:
		var call Call
		o.Value, call, o.Err = c.observed(ctx, pool, in)
		o.Attempts, o.Replayed = call.Attempts, call.replayed
	case inTransaction(db):
		var call Call
		o.Value, call, o.Err = c.isolated(ctx, db, in)
		o.Attempts, o.Replayed = call.Attempts, call.replayed
	case c.straight:
		if o.Value, o.Err = c.Run(ctx, db, in); o.Err != nil {
			o.Attempts = o.Err.(*Error).Attempts
		}
	default:
		var call Call
		o.Value, call, o.Err = c.run(ctx, db, in)
		o.Attempts, o.Replayed = call.Attempts, call.replayed
	}
	o.Elapsed = time.Since(start)
	return o
}

// Validate reports every problem of in that the validate tags and the input's own
// Validate method find, as an [*Error] with CodeInvalid, or nil. Nothing is sent
// and no connection is taken. It asks even if the command is Trusted.
func (c *Command[In, Out]) Validate(in In) error {
	if c.batching != nil {
		return c.batching.validate(in)
	}
	if c.checks == nil {
		c = &Command[In, Out]{name: c.name, checks: checksOf[In](c.name)}
	}
	if c.checks == nil {
		return nil
	}
	if err := c.check(in); err != nil {
		return c.refused(err)
	}
	return nil
}

// check is a function of its own so that only an input that is checked goes to
// the heap.
func (c *Command[In, Out]) check(in In) *Error {
	problems, cause := c.checks.problems(&in)
	if cause == nil {
		return nil
	}
	if len(problems) == 1 {
		return &Error{Code: CodeInvalid, Message: "the input was refused", Problems: problems, Err: cause}
	}
	return &Error{Code: CodeInvalid, Message: fmt.Sprintf("the input was refused for %d reasons", len(problems)), Problems: problems, Err: cause}
}

// With returns a copy of c with what o sets; fields left zero keep what c had.
// OnConstraint merges by key, Middleware is added inside what c has, booleans only
// switch on. Options that are wrong, or that c cannot have, panic.
func (c *Command[In, Out]) With(o Options) *Command[In, Out] {
	return c.edit(func(c *Command[In, Out]) {
		c.opts = c.opts.merge(c.name, o)
	})
}

// Before adds a function that runs once, after validation and before anything is
// sent; it may change its copy of the input, which is not validated again. They
// run in the order added; the first error ends the run, NotApplied.
func (c *Command[In, Out]) Before(f func(ctx context.Context, in *In) error) *Command[In, Out] {
	c.demand("Before", f == nil)
	return c.edit(func(c *Command[In, Out]) { c.before = with(c.before, f) })
}

// After adds a function that runs once the body succeeded; it may change the
// output. They run in reverse order; the first error fails the run. Unless db is a
// transaction, a statement has committed by then: the error's Effect is Applied.
func (c *Command[In, Out]) After(f func(ctx context.Context, in In, out *Out) error) *Command[In, Out] {
	c.demand("After", f == nil)
	return c.edit(func(c *Command[In, Out]) { c.after = with(c.after, f) })
}

// OnError adds a function that sees the error of a run, validation's excepted,
// and may translate it: an [*Error] it returns gives Code and Message, any error
// it returns is reached by errors.Is beside the original. It cannot swallow the
// error or change its Effect: nil keeps what there was. They run in the order
// added, each with what the one before returned.
func (c *Command[In, Out]) OnError(f func(ctx context.Context, in In, err error) error) *Command[In, Out] {
	c.demand("OnError", f == nil)
	return c.edit(func(c *Command[In, Out]) { c.onError = with(c.onError, f) })
}

// Cleanup adds a function that always runs at the end of a run whose input was
// accepted: after success, failure, panic and [runtime.Goexit]. The last added
// runs first, on a context that is not cancelled with the caller's and ends after
// 5 seconds.
func (c *Command[In, Out]) Cleanup(f func(ctx context.Context, in In)) *Command[In, Out] {
	c.demand("Cleanup", f == nil)
	return c.edit(func(c *Command[In, Out]) { c.cleanup = with(c.cleanup, f) })
}

func (c *Command[In, Out]) demand(hook string, missing bool) {
	if missing {
		panic(fmt.Sprintf("pgcmd: %s: %s was given a nil function", c.name, hook))
	}
}

// edit returns a changed copy.
func (c *Command[In, Out]) edit(change func(c *Command[In, Out])) *Command[In, Out] {
	edited := *c
	change(&edited)
	edited.prepare()
	return &edited
}

// with appends without touching the original's array.
func with[F any](hooks []F, hook F) []F { return append(slices.Clip(hooks), hook) }
