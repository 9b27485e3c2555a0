package pgcmd

import (
	"context"
	"fmt"
	"io"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"
	"unicode"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"

	"github.com/pgcmd/pgcmd/internal/rowscan"
	"github.com/pgcmd/pgcmd/internal/structfields"
	"github.com/pgcmd/pgcmd/internal/validation"
)

// A Command is a named operation on PostgreSQL with an input of type In and an output of
// type Out. [New] and [Transaction] make one of a Go function; [Query], [QueryOne] and [Exec] of
// SQL; [QueryFunc], [QueryOneFunc] and [ExecFunc] of a function that returns SQL; [Copy] of a table.
//
// It is immutable: keep it in a package variable and run it from any goroutine. What adds
// to it, such as [Command.With] and [Before], returns a copy.
type Command[In, Out any] struct{ def *definition }

// A definition is a command without its types. Everything that needs no more is compiled
// once, and not again for every pair of types.
type definition struct {
	name     string
	opts     allOptions
	body     body
	query    *query // the body of a Query, a QueryOne or an Exec; nil for others
	inTx     bool   // the body runs in a transaction: of a Transaction, or InTx
	isOnce   bool
	oncePlan *oncePlan // of a Once

	// The hooks, whose in is an *In, and out an *Out.
	before  []func(ctx context.Context, in any) error
	after   []func(ctx context.Context, in, out any) error
	onError []func(ctx context.Context, in any, err error) error
	cleanup []func(ctx context.Context, in any)

	in, out     reflect.Type
	invocations *sync.Pool // of *invocation, which copies of the definition share

	// Computed by prepare:
	returnsRows bool               // so that it can have MaxBytes
	returnsMany bool               // it may return any number of rows, so that it can have MaxRows
	isStatement bool               // its errors are made by a statement, which is one unit
	reads       bool               // it changes nothing: by declaration, or by the text of its SQL
	onlyReads   bool               // it runs nothing but statements that change nothing
	batch       batchBody          // the body of a Batch or a Pipeline; nil for others
	isAtomic    bool               // a batch whose items are applied all or none
	validation  *validation.Checks // nil if there is nothing to check, or the input is trusted
	handler     Handler            // the middleware; nil without
	direct      bool               // query has the statement that is sent, whatever the input
	pipelines   bool               // it can be an item of a pipeline
	fastPath    bool               // no hook, no middleware, no limit: Run is the body and little else
	// reusesMemory is set if no user code can keep the memory of a run: bodies have the input by
	// value, hooks and Validate methods have a pointer to it.
	reusesMemory bool

	metricsCache *atomic.Pointer[commandMetrics] // of the pool that it was last run on
	unobserved   bool                            // the pool does not count and log its runs, nor show them to its middleware
}

// A body does the work of a command.
type body interface {
	// run reads the input and writes the output of inv, which stays zero if it fails.
	run(ctx context.Context, db DB, inv *invocation) error
	// rows counts what is in the output.
	rows(inv *invocation) int64
}

// A configurableBody depends on the options of the command.
type configurableBody interface {
	body
	// configure returns the body under d's options, and panics if it cannot have them.
	configure(d *definition) body
}

// A batchBody runs many items, and has an outcome for each.
type batchBody interface {
	body
	// validateItems keeps what it refuses in inv. done says that nothing is left to run.
	validateItems(inv *invocation) (failure *Error, done bool)
	// validate reports the problems of the items of in, or, if most is not zero, of items until
	// there are more than that.
	validate(in any, most int) error
	// finish makes the outcomes of the items agree with the end of the run.
	finish(inv *invocation, attempts int, failure *Error)
	// describe returns the descriptor of the items' command.
	describe() *descriptor
}

// A funcBody is the Go function of a New or a Transaction command.
type funcBody func(ctx context.Context, db DB, in, out any) error

func (f funcBody) run(ctx context.Context, db DB, inv *invocation) error {
	return f(ctx, db, inv.in, inv.output())
}

func (f funcBody) rows(*invocation) int64 { return 0 }

// New makes a command of a Go function: several statements, or none. Its body
// runs outside a transaction unless db is one, so it is not one unit: unless the
// command is ReadOnly, the Effect of its errors is Unknown, whatever the Effects of the
// commands that it ran.
//
// An empty name and a nil body panic, as does every other mistake in a definition.
func New[In, Out any](name string, body func(ctx context.Context, db DB, in In) (Out, error)) *Command[In, Out] {
	return &Command[In, Out]{define(name, false, (*In)(nil), (*Out)(nil), body == nil, func(ctx context.Context, db DB, in, out any) error {
		value, err := body(ctx, db, *in.(*In))
		if err == nil {
			*out.(*Out) = value
		}
		return err
	})}
}

// define makes the definition of a Go function. in and out are nil pointers of the types.
func define(name string, inTx bool, in, out any, missing bool, run funcBody) *definition {
	if missing {
		panic(fmt.Sprintf("pgcmd: %s: the body is nil: pass a function", name))
	}
	checkName(name)
	d := newDefinition(name, in, out)
	d.body, d.inTx = run, inTx
	return d.prepare()
}

func newDefinition(name string, in, out any) *definition {
	return &definition{name: name, in: reflect.TypeOf(in).Elem(), out: reflect.TypeOf(out).Elem(), invocations: new(sync.Pool)}
}

// mustDefine panics if there is a mistake in a definition.
func mustDefine(command string, mistake error) {
	if mistake != nil {
		panic(fmt.Sprintf("pgcmd: %s: %v", command, mistake))
	}
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

// prepare computes what Run would otherwise compute each time.
func (d *definition) prepare() *definition {
	if b, ok := d.body.(configurableBody); ok {
		d.body = b.configure(d)
	}
	d.query, _ = d.body.(*query)
	d.direct = d.query != nil && d.query.source == nil
	d.batch, _ = d.body.(batchBody)
	d.metricsCache = new(atomic.Pointer[commandMetrics])
	d.validation = nil
	if !d.opts.Trusted && d.batch == nil { // a batch checks its items itself
		d.validation = d.checks()
	}
	d.onlyReads = !d.isOnce && (d.query != nil && d.query.reads)
	if b, ok := d.body.(*batch); ok {
		d.onlyReads = !d.isOnce && b.inner.onlyReads
	}
	d.reads = d.opts.ReadOnly || d.onlyReads
	d.handler = chain(d.name, d.opts.Middleware)
	d.inTx = d.inTx || d.opts.InTx
	d.checkOptions()
	bare := d.handler == nil && len(d.before)+len(d.after)+len(d.onError)+len(d.cleanup) == 0
	plain := bare && !d.inTx
	d.pipelines = plain && d.query != nil && !d.isOnce
	d.fastPath = plain && d.batch == nil && d.opts.Timeout == 0 && d.opts.Retry.Attempts <= 1
	_, isFunc := d.body.(funcBody)
	d.reusesMemory = d.fastPath || bare && (isFunc || d.query != nil) && d.inTx && !d.isOnce && (d.validation == nil || !d.validation.HasMethod)
	return d
}

// checkOptions panics on options that the command cannot have. Those of a batch that are
// its items' were checked as theirs.
func (d *definition) checkOptions() {
	o, why := &d.opts, ""
	_, copies := d.body.(*copyDefinition)
	switch {
	case o.Tx != (pgx.TxOptions{}) && !d.inTx:
		why = "Options.Tx, but the command begins no transaction: add InTx, or make it a Transaction"
	case o.ReadOnly && o.Writes:
		why = "Options.ReadOnly and Options.Writes contradict each other: take one of them away"
	case d.isOnce && (o.ReadOnly || o.Tx.AccessMode == pgx.ReadOnly):
		why = "a Once writes its key and its result, and cannot be read-only: take away ReadOnly, or the Once, since reading twice does no harm"
	case o.MaxBytes > 0 && !d.returnsRows && d.batch == nil:
		why = "Options.MaxBytes, but the command returns no rows: it is for a Query, a QueryOne and AdHoc"
	case o.MaxRows > 0 && !d.returnsMany && d.batch == nil && d.returnsRows:
		why = "Options.MaxRows, but a QueryOne returns one row and refuses a second: take MaxRows away"
	case o.MaxRows > 0 && !d.returnsMany && d.batch == nil:
		why = "Options.MaxRows, but the command returns no rows of its own: it is for a Query and AdHoc, as those that a body runs"
	case o.Progress != nil && d.batch == nil && !copies:
		why = "Options.Progress, but only a Batch and a Copy report it: set it on those that a body runs, or run it with WithProgress"
	}
	if why != "" {
		panic(fmt.Sprintf("pgcmd: %s: %s", d.name, why))
	}
}

// Name returns the name that the command was made with.
func (c *Command[In, Out]) Name() string { return c.def.name }

// Format renders the command as its name, for every verb.
func (c *Command[In, Out]) Format(f fmt.State, _ rune) { c.def.format(f) }

func (d *definition) format(f fmt.State) { _, _ = io.WriteString(f, d.name) }

// Run runs the command on a pool, a connection or a transaction. A non-nil error
// is always an [*Error], and the Out is then zero, but of a [Batch]. A panic of user
// code passes through, after the connection is given back and Cleanup has run.
func (c *Command[In, Out]) Run(ctx context.Context, db DB, in In) (out Out, err error) { // named, which halves what it takes of the stack
	inv := c.def.invocationFor(db)
	*inv.in.(*In) = in
	err = c.def.run(ctx, db, inv)
	out = *inv.output().(*Out)
	inv.free()
	return out, err
}

// Try runs the command as [Command.Run] does and returns the [Outcome]. On a DB that is a
// transaction it is isolated by a savepoint, which costs no round trip if the run
// succeeds: after an error the transaction is as it was before, and usable; only a
// serialization failure or a deadlock ends the transaction, and the next command
// on it returns that error.
func Try[In, Out any](ctx context.Context, db DB, c *Command[In, Out], in In) Outcome[Out] {
	inv := c.def.tryInvocationFor(db)
	*inv.in.(*In) = in
	o := c.def.try(ctx, db, inv)
	outcome := Outcome[Out]{Value: *inv.output().(*Out), Err: o.err, Attempts: o.attempts, Elapsed: o.elapsed,
		Replayed: o.replayed, DurabilityWarning: o.unreplicated}
	inv.free()
	return outcome
}

// Validate reports every problem of in that the validate tags and the input's own
// Validate method find, as an [*Error] with CodeInvalid, or nil. Nothing is sent
// and no connection is taken. It validates even if the command is Trusted.
func (c *Command[In, Out]) Validate(in In) error { return c.def.validate(&in, 0) }

// validate reports the problems of what in points to. Those of a batch it collects until
// there are more than most, if that is not zero.
func (d *definition) validate(in any, most int) error {
	if d.batch != nil {
		return d.batch.validate(in, most)
	}
	checks := d.validation
	if checks == nil {
		checks = d.checks()
	}
	if checks == nil {
		return nil
	}
	if e := validateInput(checks, in); e != nil {
		return d.notSentError(e)
	}
	return nil
}

// checks returns the validation of the input, nil if there is nothing to check.
func (d *definition) checks() *validation.Checks {
	checks := validationOf(d.name, d.in)
	if d.query != nil {
		if v, ok := d.query.source.(*variants); ok {
			return v.withChoices(checks)
		}
	}
	return checks
}

// With returns a copy of c with what o sets; fields left zero keep what c had.
// OnConstraint merges by key, Middleware is added inside what c has, booleans can only be
// set. It panics on options that are wrong or that c cannot have.
func (c *Command[In, Out]) With(o Options) *Command[In, Out] {
	return &Command[In, Out]{c.def.with(&o)}
}

func (d *definition) with(o *Options) *definition {
	k := *d
	k.opts.Options = k.opts.merge(k.name, *o)
	return k.prepare()
}

// atMost returns a copy of d with lower limits.
func (d *definition) atMost(most limits) *definition {
	k := *d
	k.opts.most = k.opts.most.atMost(most)
	return k.prepare()
}

// withoutRetry returns a copy of d without what is for the batch that d's items are part of.
func (d *definition) withoutRetry() *definition {
	k := *d
	k.opts.Timeout, k.opts.Retry = 0, Retry{}
	return k.prepare()
}

// A Definition is a command of any types, for functions that take many of them: every
// [Command] is one, and nothing else.
type Definition interface {
	Name() string
	definition() *definition
}

// definition is nil for a nil command.
func (c *Command[In, Out]) definition() *definition {
	if c == nil {
		return nil
	}
	return c.def
}

// A descriptor describes a command without its type parameters, for code that examines
// commands instead of running them. What is generic is compiled for every command, so that it
// is kept small.
type descriptor struct {
	name          string
	input, output reflect.Type
	own           Options // of the command itself
	inTx, once    bool
	batch         bool
	reads         bool // it changes nothing
	isStatement   bool // it is a statement
	hasUserCode   bool // it has hooks or middleware, whose errors can be any

	// Of a batch these are what its items have:
	options    allOptions
	in         reflect.Type
	statement  *statement       // of a command that is one; else nil
	variants   *variants        // of SQL with optional parts or choices; else nil
	built      bool             // the SQL is made by a function
	rowType    *rowscan.RowType // of its rows; nil if they do not matter
	row        reflect.Type
	returnsOne bool                 // it returns one row at most
	optional   bool                 // it may return none
	table      pgx.Identifier       // of a Copy
	fields     []structfields.Field // of a Copy
}

func (d *definition) descriptor() *descriptor {
	s := &descriptor{}
	if d.batch != nil {
		s = d.batch.describe()
		s.batch, s.isStatement = true, false
	} else {
		s.in, s.options, s.isStatement = d.in, d.opts, d.isStatement
		switch b := d.body.(type) {
		case *query:
			s.rowType, s.returnsOne, s.optional = b.rowType, b.kind == queryOne, b.optional
			s.variants, _ = b.source.(*variants)
			if _, s.built = b.source.(*builder); !s.built {
				s.statement = b.statement
			}
			if b.rowType != nil {
				s.row = b.rowType.Type
			}
		case *copyDefinition:
			s.table, s.row, s.fields = b.name, b.typ, b.fields
		}
	}
	s.name, s.own, s.input, s.output = d.name, d.opts.Options, d.in, d.out
	s.reads = d.reads
	s.inTx, s.once = d.inTx, s.once || d.isOnce
	s.hasUserCode = s.hasUserCode || d.handler != nil || len(d.before)+len(d.after)+len(d.onError) > 0
	return s
}

// returnsMany reports whether MaxRows bounds the command: it is a Query, or a batch of
// them.
func (s *descriptor) returnsMany() bool { return s.rowType != nil && !s.returnsOne }

// Before returns a copy of c with a function that runs once, after validation and before
// anything is sent; it may change its copy of the input, which is not validated again.
// They run in the order added; the first error ends the run, NotApplied.
func Before[In, Out any](c *Command[In, Out], f func(ctx context.Context, in *In) error) *Command[In, Out] {
	d := c.def.cloneForHook("Before", f == nil)
	d.before = append(d.before, func(ctx context.Context, in any) error { return f(ctx, in.(*In)) })
	return &Command[In, Out]{d.prepare()}
}

// After returns a copy of c with a function that runs once the body succeeded; it may
// change the output. They run in reverse order; the first error fails the run. Unless db
// is a transaction, a statement has committed by then: the error's Effect is Applied.
func After[In, Out any](c *Command[In, Out], f func(ctx context.Context, in In, out *Out) error) *Command[In, Out] {
	d := c.def.cloneForHook("After", f == nil)
	d.after = append(d.after, func(ctx context.Context, in, out any) error { return f(ctx, *in.(*In), out.(*Out)) })
	return &Command[In, Out]{d.prepare()}
}

// OnError returns a copy of c with a function that sees the error of a run, validation's
// excepted, and may translate it: an [*Error] it returns gives Code and Message, any error
// it returns is reached by errors.Is beside the original. It cannot swallow the
// error or change its Effect: nil keeps what there was. They run in the order
// added, each with what the one before returned.
func OnError[In, Out any](c *Command[In, Out], f func(ctx context.Context, in In, err error) error) *Command[In, Out] {
	d := c.def.cloneForHook("OnError", f == nil)
	d.onError = append(d.onError, func(ctx context.Context, in any, err error) error { return f(ctx, *in.(*In), err) })
	return &Command[In, Out]{d.prepare()}
}

// Cleanup returns a copy of c with a function that always runs at the end of a run whose
// input was accepted: after success, an error, a panic and [runtime.Goexit]. The last added
// runs first, on a context that is not cancelled with the caller's and ends after
// 5 seconds.
func Cleanup[In, Out any](c *Command[In, Out], f func(ctx context.Context, in In)) *Command[In, Out] {
	d := c.def.cloneForHook("Cleanup", f == nil)
	d.cleanup = append(d.cleanup, func(ctx context.Context, in any) { f(ctx, *in.(*In)) })
	return &Command[In, Out]{d.prepare()}
}

// cloneForHook returns a copy of d that gets a hook. Its lists are clipped, so that
// appending to them does not write into the original's arrays.
func (d *definition) cloneForHook(hook string, missing bool) *definition {
	if missing {
		panic(fmt.Sprintf("pgcmd: %s: %s was given a nil function: pass one, or take the hook away", d.name, hook))
	}
	k := *d
	k.before, k.after = slices.Clip(k.before), slices.Clip(k.after)
	k.onError, k.cleanup = slices.Clip(k.onError), slices.Clip(k.cleanup)
	return &k
}
