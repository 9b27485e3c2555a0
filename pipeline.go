package pgcmd

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
)

// A Pipeline sends different commands in one round trip: [Queue] adds them, Run
// sends them, [Result.Get] returns what each returned. The zero Pipeline is ready.
// It is for one goroutine, and for one Run.
type Pipeline struct {
	items  []*queuedItem
	misuse *Error // of Queue, told by Run
	ran    bool
}

// A Result is what a command in a [Pipeline] returned, once that was run.
type Result[Out any] struct {
	value Out
	item  *queuedItem // nil of a nil Pipeline, and of a command that was refused
}

// Get returns the command's output, or its error: always an [*Error], also before
// the pipeline was run.
func (r *Result[Out]) Get() (Out, error) {
	if r == nil || r.item == nil || !r.item.known {
		var none Out
		return none, &Error{Code: CodeInternal, Effect: NotApplied, Message: "the pipeline of this result has not been run"}
	}
	return r.value, r.item.err
}

// Queue adds a command to the pipeline. It must be a statement command (Query,
// QueryOne, Exec) without hooks, middleware, InTx and Once: others make Run fail
// before anything is sent. Its Timeout and Retry are ignored.
func Queue[In, Out any](p *Pipeline, c *Command[In, Out], in In) *Result[Out] {
	result := new(Result[Out])
	if d := c.definition(); p.accepts(d) {
		input := new(In)
		*input = in
		result.item = p.add(d, input, &result.value)
	}
	return result
}

// accepts reports whether d can be added, and otherwise keeps why not.
func (p *Pipeline) accepts(d *definition) bool {
	refuse := func(format string, args ...any) bool {
		if p.misuse == nil {
			p.misuse = &Error{Code: CodeInternal, Effect: NotApplied, Message: fmt.Sprintf(format, args...)}
		}
		return false
	}
	switch {
	case p == nil:
		return false
	case p.ran:
		return refuse("a command was queued after Run: a pipeline is run once")
	case d == nil:
		return refuse("item %d is a nil command", len(p.items))
	case !d.pipelines:
		return refuse("item %d, %s, cannot travel in a pipeline: it must be a Query, QueryOne or Exec without hooks, middleware, InTx and Once", len(p.items), d.name)
	}
	return true
}

func (p *Pipeline) add(d *definition, in, out any) *queuedItem {
	item := &queuedItem{def: d, in: in, out: out}
	p.items = append(p.items, item)
	return item
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
	readOnly := !slices.ContainsFunc(p.items, func(item *queuedItem) bool { return !item.def.query.readOnly })
	run := &pipelineRun{Pipeline: p, mode: mode, readOnly: readOnly}
	d := &definition{name: pipelineName, body: run, batch: run, inTx: mode == Atomic}
	d.opts.ReadOnly = readOnly
	inv := &invocation{in: &p, out: new(struct{})}
	inv.inValue, inv.outValue = reflect.ValueOf(inv.in).Elem(), reflect.ValueOf(inv.out).Elem()
	_, failure := d.runObserved(ctx, db, inv)
	return p.reconcile(failure)
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

// A queuedItem is a command of a pipeline, with its input and its result.
type queuedItem struct {
	def     *definition
	in, out any // an *In and an *Out
	err     error
	known   bool

	buffer *rowBuffer
}

func (item *queuedItem) validate() *Error {
	if item.def.validation == nil {
		return nil
	}
	return item.def.check(&invocation{inValue: reflect.ValueOf(item.in).Elem()})
}

func (item *queuedItem) fail(failure *Error) {
	reflect.ValueOf(item.out).Elem().SetZero()
	item.err = item.def.mapConstraint(failure)
}

// reconcile makes the result known, and agree with the failure of all, if there is one.
func (item *queuedItem) reconcile(failure *Error) *Error {
	item.known = true
	known, _ := item.err.(*Error)
	switch {
	case failure == nil || failure.Effect == Applied:
	case known == nil:
		item.fail(failure)
		known = failure
	case failure.Effect == NotApplied && known.Effect == Unknown, isSkipped(known) && known.Effect != failure.Effect:
		changed := *known
		changed.Effect = failure.Effect
		item.err, known = &changed, &changed
	}
	return known
}

// A pipelineRun is the run of a pipeline.
type pipelineRun struct {
	*Pipeline
	mode         BatchMode
	readOnly     bool
	standing     limits // of the pool
	unreplicated bool
}

var pipelineName = "pipeline"

// validateItems validates every item. done says that nothing is left to run.
func (r *pipelineRun) validateItems(*invocation) (failure *Error, done bool) {
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
		return failure, true
	case left == 0:
		return nil, true
	}
	return nil, false
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
		return append(append(appendPath(path, pipelineName, i), " > "...), r.items[i].def.name...)
	})
	for n, i := range items {
		r.items[i].fail(&errs[n])
	}
}

func (r *pipelineRun) run(ctx context.Context, db DB, inv *invocation) error {
	failure := r.runItems(ctx, db)
	inv.unreplicated = inv.unreplicated || r.unreplicated
	if failure != nil {
		return failure
	}
	return nil
}

// The rest of a run has no part in a pipeline.
func (r *pipelineRun) rows(*invocation) int64          { return 0 }
func (r *pipelineRun) finish(*invocation, int, *Error) {}
func (r *pipelineRun) validate(any, int) error         { return nil }
func (r *pipelineRun) describe() *descriptor           { return nil }
func (r *pipelineRun) warnUnreplicated(int)            { r.unreplicated = true }

func (r *pipelineRun) runItems(ctx context.Context, db DB) *Error {
	var items []int
	for i, item := range r.items {
		if item.reconcile(nil) == nil {
			items = append(items, i)
			item.buffer = item.def.query.rowBufferFor(ctx)
		}
	}
	ignore := func(int) {}
	target := resolve(db)
	r.standing = target.limits()
	if r.mode == Independent {
		if target.inTransaction() {
			return &Error{Code: CodeInternal, Effect: NotApplied,
				Message: "an independent pipeline has a transaction for each item, and cannot join one: use Atomic, or run it on the pool"}
		}
		l, failure := target.acquire(ctx, &pipelineName, r.readOnly)
		if failure != nil {
			return failure
		}
		defer l.release()
		f := newBatchExec(ctx, l.conn, nil, r)
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
		q := item.def.query
		finish = finish && q.isCommitSafe(q.limits.or(r.standing)) && !q.text.Ends
		tx.s.inspectStatement(q.statement)
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

func (r *pipelineRun) statement(i int) *statement { return r.items[i].def.query.statement }

func (r *pipelineRun) checkColumns(i int, types *pgtype.Map, columns []pgconn.FieldDescription) *Error {
	return r.items[i].def.query.checkColumns(types, columns)
}

func (r *pipelineRun) arguments(i int) ([]any, *Error) {
	item := r.items[i]
	return item.def.query.arguments(&invocation{inValue: reflect.ValueOf(item.in).Elem()})
}

func (r *pipelineRun) limits(i int) limits { return r.items[i].def.query.limits.or(r.standing) }

func (r *pipelineRun) read(i int, rows resultRows, l limits) *Error {
	item := r.items[i]
	return item.def.query.readItem(item.buffer, rows, l, reflect.ValueOf(item.out).Elem())
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
	e.prefixCommand(r.items[i].def.name).prefixCommand(fmt.Sprintf("pipeline[%d]", i))
	r.items[i].fail(e)
}
