package pgcmd

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"sync/atomic"
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
	item  *queuedItem // nil of a command that could not be queued
}

// Get returns the command's output, or its error: always an [*Error], also before
// the pipeline was run.
func (r *Result[Out]) Get() (Out, error) {
	if r == nil || r.item == nil || !r.item.ended {
		var none Out
		return none, &Error{Code: CodeInternal, Effect: NotApplied, Message: "the pipeline of this result has not been run"}
	}
	return r.value, r.item.outcome.err
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
	item := &queuedItem{def: d}
	item.in, item.out = in, out
	item.inValue, item.outValue = reflect.ValueOf(in).Elem(), reflect.ValueOf(out).Elem()
	p.items = append(p.items, item)
	return item
}

// A queuedItem is a command of a pipeline, with its input and its result.
type queuedItem struct {
	def *definition
	invocation
	outcome runOutcome
	ended   bool
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
		return p.end(p.misuse.prefixCommand(pipelineName))
	}
	b := &batch{name: pipelineName, mode: mode, pipelined: true,
		item: func(i int) *definition { return p.items[i].def },
		appendPath: func(path []byte, i int) []byte {
			return append(append(appendPath(path, pipelineName, i), " > "...), p.items[i].def.name...)
		},
		values: func(any, any) batchValues { return p },
	}
	b.options.ReadOnly = !slices.ContainsFunc(p.items, func(item *queuedItem) bool { return !item.def.query.readOnly })
	d := &definition{name: pipelineName, opts: b.options, body: b, batch: b, inTx: mode == Atomic, metricsCache: new(atomic.Pointer[commandMetrics])}
	inv := &invocation{in: &p, out: new(struct{ Succeeded int })}
	inv.inValue, inv.outValue = reflect.ValueOf(inv.in).Elem(), reflect.ValueOf(inv.out).Elem()
	_, failure := d.runObserved(ctx, db, inv)
	return p.end(failure)
}

const pipelineName = "pipeline"

// end makes the results known. It returns the failure of all, if there is one, or the
// errors of the items.
func (p *Pipeline) end(failure *Error) error {
	var errs []error
	for _, item := range p.items {
		item.ended = true
		if failure != nil && item.outcome.err == nil && item.outcome.attempts == 0 {
			item.outcome.err = failure // it was not run
		}
		if err := item.outcome.err; err != nil && !isSkipped(err) {
			errs = append(errs, err)
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

// The items of a pipeline are the values of its batch.

func (p *Pipeline) len() int                 { return len(p.items) }
func (p *Pipeline) load(int, any)            {} // every item has its own memory
func (p *Pipeline) own(i int) *invocation    { return &p.items[i].invocation }
func (p *Pipeline) outcomes() int            { return len(p.items) }
func (p *Pipeline) reset()                   {}
func (p *Pipeline) outcome(i int) runOutcome { return p.items[i].outcome }
func (p *Pipeline) set(i int, o runOutcome)  { p.items[i].outcome = o }
func (p *Pipeline) count(int, int, int)      {}

// store keeps the value that was read, which is in its place already.
func (p *Pipeline) store(i int, o runOutcome, value any) {
	if value == nil {
		p.items[i].outValue.SetZero()
	}
	p.items[i].outcome = o
}
