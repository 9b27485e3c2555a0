package pgcmd

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
)

// A Pipeline sends different commands in one round trip: [Queue] adds them, Run
// sends them, [Result.Get] returns what each returned. The zero Pipeline is ready.
// It is for one goroutine, and for one Run.
type Pipeline struct {
	items  []queuedItem
	misuse *Error // of Queue, told by Run
	ran    bool
}

// A Result is what a command in a [Pipeline] returned, once that was run.
type Result[Out any] struct {
	value Out
	err   error
	known bool
}

// Get returns the command's output, or its error: always an [*Error], also before
// the pipeline was run.
func (r *Result[Out]) Get() (Out, error) {
	if r == nil || !r.known {
		var none Out
		return none, &Error{Code: CodeInternal, Effect: NotApplied, Message: "the pipeline of this result has not been run"}
	}
	return r.value, r.err
}

// Queue adds a command to the pipeline. It must be a statement command (Query,
// QueryOne, Exec) without hooks, middleware, InTx and Once: others make Run fail
// before anything is sent. Its Timeout and Retry are ignored.
func Queue[In, Out any](p *Pipeline, c *Command[In, Out], in In) *Result[Out] {
	result := new(Result[Out])
	refuse := func(format string, args ...any) {
		if p.misuse == nil {
			p.misuse = &Error{Code: CodeInternal, Effect: NotApplied, Message: fmt.Sprintf(format, args...)}
		}
	}
	switch {
	case p == nil:
		return result
	case p.ran:
		refuse("a command was queued after Run: a pipeline is run once")
	case c == nil:
		refuse("item %d is a nil command", len(p.items))
	default:
		inner := c.withDefinition(c.def.withoutRetry())
		if inner.newPipelined == nil || !inner.def.fastPath || inner.def.isOnce {
			refuse("item %d, %s, cannot travel in a pipeline: it must be a Query, QueryOne or Exec without hooks, middleware, InTx and Once", len(p.items), c.def.name)
			break
		}
		entry := &entry[In, Out]{piped: inner.newPipelined(&inner.def.opts), command: inner, in: in, result: result}
		p.items = append(p.items, entry)
	}
	return result
}

// Run sends the commands, in order, and reads what they return: Atomic, in one
// transaction, which it joins on a DB that is one; or Independent, each in a
// transaction of its own. It returns the error of the first that failed in Atomic,
// and those of all, joined, in Independent, each with its number in its path; the
// results tell of each. Values are validated first, all of them: in Atomic nothing
// is sent if one is refused.
func (p *Pipeline) Run(ctx context.Context, db DB, mode BatchMode) error {
	refused := func(message string) error {
		return &Error{Code: CodeInternal, Effect: NotApplied, Command: "pipeline", Message: message}
	}
	switch {
	case p == nil:
		return refused("the pipeline is nil")
	case p.ran:
		return refused("the pipeline was run before: make another one")
	case mode != Atomic && mode != Independent:
		return refused(fmt.Sprintf("the mode is %v: a pipeline is Atomic or Independent", mode))
	}
	p.ran = true
	if p.misuse != nil {
		return p.reconcile(p.misuse.prefixCommand("pipeline"))
	}
	c := definition{name: pipelineName, inTx: mode == Atomic, isBatch: true}
	c.opts.ReadOnly = !slices.ContainsFunc(p.items, func(e queuedItem) bool { return !e.sql().readOnly })
	if _, e := c.runObserved(ctx, db, &pipelineRun{Pipeline: p, mode: mode, readOnly: c.opts.ReadOnly}); e != nil {
		return p.reconcile(e)
	}
	return p.reconcile(nil)
}

// reconcile makes the results known, and agree with the failure of all, if there is
// one. It returns that, or those of the items.
func (p *Pipeline) reconcile(failure *Error) error {
	var errs []error
	for _, item := range p.items {
		if e := item.reconcile(failure); e != nil && !isSkipped(e) {
			errs = append(errs, e)
		}
	}
	switch {
	case failure != nil:
		return failure
	case len(errs) == 1:
		return errs[0]
	}
	return errors.Join(errs...)
}

// A queuedItem is an entry whatever its types.
type queuedItem interface {
	sql() *statement
	name() string
	validate() *Error
	start(ctx context.Context)
	isCommitSafe(l limits) bool
	fits(types *pgtype.Map, columns []pgconn.FieldDescription) *Error
	bind() ([]any, *Error)
	read(rows resultRows, l limits) *Error
	fail(e *Error)
	reconcile(failure *Error) *Error
}

type entry[In, Out any] struct {
	piped   *pipelined[In, Out]
	command *Command[In, Out]
	in      In
	result  *Result[Out]
	bindIn  binder[In]
	readOut reader[Out]
}

func (e *entry[In, Out]) sql() *statement { return e.piped.statement }
func (e *entry[In, Out]) name() string    { return e.command.def.name }
func (e *entry[In, Out]) isCommitSafe(l limits) bool {
	return e.piped.commitSafe(l) && !e.piped.text.Ends
}
func (e *entry[In, Out]) start(ctx context.Context) { e.bindIn, e.readOut = e.piped.run(ctx) }

func (e *entry[In, Out]) validate() *Error {
	if e.command.def.validation == nil {
		return nil
	}
	return e.command.check(e.in)
}

func (e *entry[In, Out]) fits(types *pgtype.Map, columns []pgconn.FieldDescription) *Error {
	return e.piped.fits(types, columns)
}

func (e *entry[In, Out]) bind() ([]any, *Error) { return e.bindIn(e.in) }

func (e *entry[In, Out]) read(rows resultRows, l limits) (failure *Error) {
	e.result.value, failure = e.readOut(rows, l)
	return failure
}

func (e *entry[In, Out]) fail(failure *Error) {
	var none Out
	e.result.value, e.result.err = none, e.command.def.mapConstraint(failure)
}

func (e *entry[In, Out]) reconcile(failure *Error) *Error {
	e.result.known = true
	known, _ := e.result.err.(*Error)
	switch {
	case failure == nil || failure.Effect == Applied:
	case known == nil:
		e.fail(failure)
		known = failure
	case failure.Effect == NotApplied && known.Effect == Unknown, isSkipped(known) && known.Effect != failure.Effect:
		changed := *known
		changed.Effect = failure.Effect
		e.result.err, known = &changed, &changed
	}
	return known
}

// A pipelineRun is the run of a pipeline: a job, and the cargo of its flight.
type pipelineRun struct {
	*Pipeline
	unreplicated bool // see job
	mode         BatchMode
	readOnly     bool
	standing     limits // of the pool
}

var pipelineName = "pipeline"

// validateItems validates every item. done says that nothing is left to run.
func (r *pipelineRun) validateItems() (_ []*Error, failure *Error, done bool) {
	left := len(r.items)
	for i, item := range r.items {
		if e := item.validate(); e != nil {
			e.Effect = NotApplied
			if r.fail(i, e); failure == nil {
				failure = e
			}
			left--
		}
	}
	switch {
	case failure != nil && r.mode == Atomic:
		r.markSkipped(failure)
		return nil, failure, true
	case left == 0:
		return nil, nil, true
	}
	return nil, nil, false
}

// markSkipped marks what has no error of its own as skipped because of the culprit.
func (r *pipelineRun) markSkipped(culprit *Error) {
	var items []int
	for i, item := range r.items {
		if item.reconcile(nil) == nil {
			items = append(items, i)
		}
	}
	errs := skippedItems(items, culprit, func(path []byte, i int) []byte {
		return append(append(appendPath(path, pipelineName, i), " > "...), r.items[i].name()...)
	})
	for n, i := range items {
		r.items[i].fail(&errs[n])
	}
}

func (r *pipelineRun) body(ctx context.Context, db DB) error {
	if failure := r.runItems(ctx, db); failure != nil {
		return failure
	}
	return nil
}

// The rest of a job's life a pipeline has no part in.
func (r *pipelineRun) inputValue() any      { return r.Pipeline }
func (r *pipelineRun) input() any           { return nil }
func (r *pipelineRun) output() any          { return nil }
func (r *pipelineRun) resetOutput()         {}
func (r *pipelineRun) rows(bool) int64      { return 0 }
func (r *pipelineRun) finish(int, *Error)   {}
func (r *pipelineRun) warnUnreplicated()    { r.unreplicated = true }
func (r *pipelineRun) warnOf(int)           { r.unreplicated = true }
func (r *pipelineRun) isUnreplicated() bool { return r.unreplicated }

func (r *pipelineRun) runItems(ctx context.Context, db DB) *Error {
	var items []int
	for i, item := range r.items {
		if item.reconcile(nil) == nil {
			items = append(items, i)
			item.start(ctx)
		}
	}
	ignore := func(int) {}
	r.standing = limitsOf(db)
	if r.mode == Independent {
		if inTransaction(db) {
			return &Error{Code: CodeInternal, Effect: NotApplied,
				Message: "an independent pipeline has a transaction for each item, and cannot join one: use Atomic, or run it on the pool"}
		}
		conn, _, done, failure := connectionOf(ctx, db, &pipelineName, r.readOnly)
		if failure != nil {
			return failure
		}
		defer done()
		f := newBatchExec(ctx, conn, nil, r)
		defer f.release()
		return f.independent(items, ignore)
	}
	tx := db.(*Tx)
	if tx.s.conn == nil {
		return &Error{Code: CodeInternal, Effect: NotApplied, Message: "the transaction does not tell its connection, which a pipeline needs"}
	}
	if err := tx.lock(ctx); err != nil {
		return newUnsentError(ctx, err)
	}
	defer tx.s.unlock() // what came of it has been noted
	finish := tx.s.mayPiggybackCommit
	tx.s.mayPiggybackCommit = false
	for _, item := range r.items {
		finish = finish && item.isCommitSafe(item.sql().limits.or(r.standing))
		tx.s.inspectStatement(item.sql())
	}
	f := newBatchExec(ctx, tx.s.conn, tx.s, r)
	defer f.release()
	culprit, failure := f.atomic(tx, items, finish, ignore)
	if failure == nil || culprit < 0 {
		return failure
	}
	r.fail(culprit, failure)
	if failure.Effect != Applied {
		r.markSkipped(failure)
	}
	return failure
}

func (r *pipelineRun) statement(i int) *statement { return r.items[i].sql() }
func (r *pipelineRun) fits(i int, types *pgtype.Map, columns []pgconn.FieldDescription) *Error {
	return r.items[i].fits(types, columns)
}
func (r *pipelineRun) bind(i int) ([]any, *Error) { return r.items[i].bind() }
func (r *pipelineRun) limits(i int) limits        { return r.items[i].sql().limits.or(r.standing) }
func (r *pipelineRun) read(i int, rows resultRows, l limits) *Error {
	return r.items[i].read(rows, l)
}

func (r *pipelineRun) bounded() bool {
	for i := range r.items {
		if r.limits(i).bytes > 0 {
			return true
		}
	}
	return false
}

func (r *pipelineRun) fail(i int, e *Error) {
	e.prefixCommand(r.items[i].name()).prefixCommand(fmt.Sprintf("pipeline[%d]", i))
	r.items[i].fail(e)
}
