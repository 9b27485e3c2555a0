package pgcmd

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgcmd/pgcmd/internal/sqltext"
	"github.com/pgcmd/pgcmd/internal/txn"
)

// Options determine how a command runs. The zero Options change nothing; see [Command.With]
// for how they are merged.
type Options struct {
	// Description is one sentence for people and for models.
	Description string

	// Timeout bounds a whole run, including waits. Zero leaves the caller's
	// context as the only bound; negative takes away a Timeout set before.
	Timeout time.Duration

	// Retry determines which failed attempts are retried, and when. Zero: none.
	Retry Retry

	// Tx says how a transaction begins. Unknown values panic, and so does Tx on a
	// command that begins none.
	Tx pgx.TxOptions

	// InTx runs even a single statement, or a New body, in a transaction of its own,
	// so that an After hook can veto it. The DB of a New body is then a *Tx.
	InTx bool

	// ReadOnly declares that the command changes nothing, so that the Effect of every
	// error is NotApplied, it may go to a replica, and its transaction begins READ ONLY.
	// A plain SELECT needs it only for the last two: see [Query]. SQL that is plainly a
	// write panics at definition; that a volatile function changes nothing is up to the
	// author. It panics on a Copy and a Once.
	ReadOnly bool

	// Writes takes back what is inferred of a plain SELECT, see [Query]: a view, a rule, a
	// policy, an operator or a function of it writes. It also takes back that a [QueryOne]
	// without a row changed nothing if no row was changed: a trigger of the table writes.
	// It changes nothing for other commands, and panics together with ReadOnly.
	Writes bool

	// MaxRows is the most rows that a Query may return: one more is
	// CodeTooManyRows, never a truncation, and stops the reading at once; a
	// statement that plainly writes is read to its end first, and so is one within
	// a transaction. Zero means [Config].MaxRows, else no limit; AdHoc and the Queries of a
	// [Catalog] then return 10,000 at most. It panics on all but a Query, AdHoc and a
	// [Batch] of them.
	MaxRows int

	// MaxBytes is the most bytes that the values which a Query, a QueryOne or an AdHoc
	// returns may have together, in the form in which they are sent: one more is
	// CodeTooManyRows, never a truncation, and reading stops as with MaxRows. A value
	// that is too long is refused before there is memory for it. Of a [Batch] it bounds
	// each item. Zero means [Config].MaxBytes, else no limit; a [Stream] has none. It
	// panics on a command that returns no rows.
	MaxBytes int

	// Trusted skips validation: the input comes from our own code.
	Trusted bool

	// OnConstraint maps a constraint's name to the domain error that its
	// violation means: {"users_email_key": ErrEmailTaken}. The text of that error
	// becomes the message, so put no values into it.
	OnConstraint map[string]error

	// Middleware wraps every run, the first one outermost.
	Middleware []Middleware

	// Progress is called now and then while a [Batch] or a [Copy] runs, and at its
	// end, with the items or rows that are done; total is -1 for a Copy, whose
	// number of rows is not known. It is called by the goroutine that runs the command, or by one
	// at a time, and must not block. [WithProgress] is for one run. It panics on a command
	// that is neither.
	Progress func(done, total int)
}

// allOptions are the Options of a command, and what a catalog adds to them.
type allOptions struct {
	Options
	most limits // whatever MaxRows, MaxBytes and the pool's limits are
}

// merge returns o with what is set in more. Retry and Tx are replaced whole,
// booleans only switch on, OnConstraint merges by key, Middleware is added inside.
func (o Options) merge(command string, more Options) Options {
	switch {
	case more.Timeout > 0:
		o.Timeout = more.Timeout
	case more.Timeout < 0:
		o.Timeout = 0
	}
	if !more.Retry.zero() {
		more.Retry.check(command)
		o.Retry = more.Retry
	}
	if more.Tx != (pgx.TxOptions{}) {
		if err := txn.CheckOptions(more.Tx); err != nil {
			mustDefine(command, fmt.Errorf("Options.Tx %w", err))
		}
		o.Tx = more.Tx
	}
	o.InTx = o.InTx || more.InTx
	if more.MaxRows < 0 {
		panic(fmt.Sprintf("pgcmd: %s: Options.MaxRows is %d: it must not be negative (zero keeps what was set)", command, more.MaxRows))
	}
	if more.MaxBytes < 0 {
		panic(fmt.Sprintf("pgcmd: %s: Options.MaxBytes is %d: it must not be negative (zero keeps what was set)", command, more.MaxBytes))
	}
	o.MaxRows, o.MaxBytes = cmp.Or(more.MaxRows, o.MaxRows), cmp.Or(more.MaxBytes, o.MaxBytes)
	o.Description = cmp.Or(more.Description, o.Description)
	o.ReadOnly = o.ReadOnly || more.ReadOnly
	o.Writes = o.Writes || more.Writes
	o.Trusted = o.Trusted || more.Trusted
	if len(more.OnConstraint) > 0 {
		merged := maps.Clone(o.OnConstraint)
		if merged == nil {
			merged = make(map[string]error, len(more.OnConstraint))
		}
		for constraint, err := range more.OnConstraint {
			if e, ours := err.(*Error); constraint == "" || err == nil || ours && e == nil {
				panic(fmt.Sprintf("pgcmd: %s: Options.OnConstraint maps %q to %v: give a constraint's name and an error", command, constraint, err))
			}
			merged[constraint] = err
		}
		o.OnConstraint = merged
	}
	if more.Progress != nil {
		o.Progress = more.Progress
	}
	for i, m := range more.Middleware {
		if m == nil {
			panic(fmt.Sprintf("pgcmd: %s: Options.Middleware[%d] is nil: take it out", command, i))
		}
	}
	o.Middleware = append(o.Middleware[:len(o.Middleware):len(o.Middleware)], more.Middleware...)
	return o
}

// reads reports whether a statement with these options changes nothing.
func (o *allOptions) reads(text *sqltext.Text) bool {
	return o.ReadOnly || text.ChangesNothing && !o.Writes
}

// A Call describes a run to a Middleware. It is read-only; Attempts and Rows
// are set by the time next returns. Input is the caller's own, before any hook,
// and may hold secrets: no rendering of a Call shows it.
type Call struct {
	Command  string
	Input    any
	Attempts int   // 0 if the input was refused
	Rows     int64 // returned, affected or copied; of a Batch the items that succeeded; 0 for a Go body and a Pipeline

	run      func(ctx context.Context, call *Call) error
	replayed bool

	unreplicated bool // what it did is committed, and the synchronous standby has not got it
}

// A Handler runs a call.
type Handler func(ctx context.Context, call *Call) error

// A Middleware wraps the runs of a command: logging, tracing, metrics, admission.
// It returns what next returned, or an error of its own. It must call next with
// the Call that it was given, at most once (trying again is not its business),
// wait for it, and cannot turn an error into a success: a nil in place of an error is ignored.
type Middleware func(next Handler) Handler

// chain composes the middleware once, at definition.
func chain(command string, middleware []Middleware) Handler {
	if len(middleware) == 0 {
		return nil
	}
	handler := Handler(func(ctx context.Context, call *Call) error {
		if call == nil || call.run == nil {
			return Errorf(CodeInternal, "a middleware called next with a Call of its own: pass the one that it was given")
		}
		return call.run(ctx, call)
	})
	for i := len(middleware) - 1; i >= 0; i-- {
		if handler = middleware[i](handler); handler == nil {
			panic(fmt.Sprintf("pgcmd: %s: Options.Middleware[%d] returned a nil Handler: return one that calls next", command, i))
		}
	}
	return handler
}

// Format renders the call without its input, for every verb.
func (c Call) Format(f fmt.State, _ rune) {
	fmt.Fprintf(f, "%s attempts=%d rows=%d", c.Command, c.Attempts, c.Rows)
}

// MarshalJSON renders the call without its input.
func (c Call) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Command  string `json:"command"`
		Attempts int    `json:"attempts"`
		Rows     int64  `json:"rows"`
	}{c.Command, c.Attempts, c.Rows})
}

type progressKey struct{}

// WithProgress returns a context whose batches and copies report their progress to f,
// under the rules of [Options.Progress] and besides it: for one run, as
// of a server that reports to its client. If a body runs several of them with its
// context, all call f. A nil f reports to nobody, also not to the f of an outer context; if there
// is none, it returns ctx.
func WithProgress(ctx context.Context, f func(done, total int)) context.Context {
	if f == nil && ctx.Value(progressKey{}) == nil {
		return ctx
	}
	return context.WithValue(ctx, progressKey{}, f)
}

// reporter returns the function that a run reports its progress to: own, that of its context,
// or both; nil if there is none.
func reporter(ctx context.Context, own func(done, total int)) func(done, total int) {
	caller, _ := ctx.Value(progressKey{}).(func(done, total int))
	switch {
	case caller == nil:
		return own
	case own == nil:
		return caller
	}
	return func(done, total int) {
		own(done, total)
		caller(done, total)
	}
}
