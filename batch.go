package pgcmd

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
)

// A BatchMode determines what the error of one item means for the others.
type BatchMode int

const (
	// Atomic: one transaction, all or nothing. It stops at the first error.
	Atomic BatchMode = iota
	// Isolated: one transaction, in which the good items commit together and the bad
	// ones are reported.
	Isolated
	// Independent: a transaction for each item.
	Independent
	// Sequential: one after the other, a transaction for each. It stops at the first
	// error, and keeps what came before.
	Sequential
)

// String returns "atomic", "isolated", "independent" or "sequential".
func (m BatchMode) String() string {
	if m < Atomic || m > Sequential {
		return fmt.Sprintf("BatchMode(%d)", int(m))
	}
	return [...]string{"atomic", "isolated", "independent", "sequential"}[m]
}

// ErrSkipped is wrapped by the errors of the items that were not run, or are not
// applied, because another one of their batch failed. Their Code is CodeSkipped, and
// their path has their index, as in users.create[3].
var ErrSkipped = errors.New("pgcmd: skipped, since another item of the batch failed")

// A BatchResult is the outcome of each item of a [Batch], in the order of the input. It is
// filled even when the run returns an error.
type BatchResult[Out any] struct {
	Outcomes  []Outcome[Out] `json:"outcomes"`  // Outcomes[i] is that of item i
	Succeeded int            `json:"succeeded"` // how many worked
	Failed    int            `json:"failed"`    // how many failed
	Skipped   int            `json:"skipped"`   // how many were not run, since another failed; together with the others all
}

// Err returns nil, or the errors of the items that failed, joined, each with its
// index in its path. Those that were skipped are left out.
func (r BatchResult[Out]) Err() error {
	var errs []error
	for _, o := range r.Outcomes {
		if o.Err == nil || isSkipped(o.Err) || len(errs) > 0 && errs[len(errs)-1] == o.Err {
			continue // or the error of all, which they share
		}
		errs = append(errs, o.Err)
	}
	return errors.Join(errs...)
}

// Batch makes a command that runs c for many inputs, in one of four modes.
//
// The items of a statement command (Query, QueryOne, Exec) are sent together, in one round trip
// for every 1,000 items or 8 MiB, except in Sequential. Isolated takes one more for a chunk in
// which an item fails. Atomic and Isolated take one more in all if the client has to check the
// rows before it can send COMMIT: for a QueryOne that may find none, for MaxRows and MaxBytes.
// Items with Go bodies, hooks, middleware, InTx or Once run one by one with the same meaning;
// Independent runs them concurrently, as far as the pool allows, so that they must be safe for
// concurrent use.
//
// All items are validated first: one that is refused is reported with the others
// that fail, and in Atomic nothing is sent. Atomic and Sequential return the error
// of the item that failed, as users.create[17]; Isolated and Independent return an error
// only if the batch failed as a whole, see [BatchResult.Err] for the items'. The Effect of
// Sequential's error is Unknown if items before that one are kept, so that the batch is
// not repeated as a whole; the outcomes have the Effect of each. An item is Applied only once
// its transaction has ended: what came before a COMMIT that failed is NotApplied. A batch
// without items succeeds.
//
// The command is called users.create[], and has options and hooks of its own; the
// Timeout and Retry of c are ignored. Retry repeats Atomic and Isolated whole, and
// of Independent and Sequential the items that failed. On a transaction Atomic and
// Isolated join it, the other two are refused.
func Batch[In, Out any](c *Command[In, Out], mode BatchMode) *Command[[]In, BatchResult[Out]] {
	switch {
	case c == nil:
		panic("pgcmd: Batch was given a nil command: pass one")
	case mode < Atomic || mode > Sequential:
		panic(fmt.Sprintf("pgcmd: %s: Batch was given the unknown mode %d: use Atomic, Isolated, Independent or Sequential", c.def.name, int(mode)))
	}
	d := newDefinition(c.def.name+"[]", (*[]In)(nil), (*BatchResult[Out])(nil))
	d.opts.Options = Options{Description: c.def.opts.Description, ReadOnly: c.def.opts.ReadOnly, Writes: c.def.opts.Writes, Trusted: c.def.opts.Trusted}
	d.inTx, d.isAtomic = mode == Atomic || mode == Isolated, mode == Atomic
	d.body = newBatch(c.def, mode, func(in, out any) batchValues {
		v := &typedBatchValues[In, Out]{in: *in.(*[]In)}
		v.out, _ = out.(*BatchResult[Out])
		return v
	})
	return &Command[[]In, BatchResult[Out]]{d.prepare()}
}

// batchValues are the inputs and the outcomes of a Batch or of a Pipeline, without their
// types.
type batchValues interface {
	len() int
	load(i int, in any)    // copies input i to *in
	own(i int) *invocation // the memory of item i of a Pipeline, whose input is there; nil of a Batch
	outcomes() int         // how many there are
	reset()                // makes an outcome for each input
	outcome(i int) runOutcome
	set(i int, o runOutcome)              // keeps the value
	store(i int, o runOutcome, value any) // with the value that value points to, or zero if it is nil
	count(succeeded, failed, skipped int)
}

type typedBatchValues[In, Out any] struct {
	in  []In
	out *BatchResult[Out]
}

func (v *typedBatchValues[In, Out]) len() int            { return len(v.in) }
func (v *typedBatchValues[In, Out]) load(i int, in any)  { *in.(*In) = v.in[i] }
func (v *typedBatchValues[In, Out]) own(int) *invocation { return nil }
func (v *typedBatchValues[In, Out]) outcomes() int       { return len(v.out.Outcomes) }
func (v *typedBatchValues[In, Out]) reset()              { v.out.Outcomes = make([]Outcome[Out], len(v.in)) }

func (v *typedBatchValues[In, Out]) outcome(i int) runOutcome {
	o := &v.out.Outcomes[i]
	return runOutcome{o.Err, o.Attempts, o.Elapsed, o.Replayed, o.DurabilityWarning}
}

func (v *typedBatchValues[In, Out]) set(i int, from runOutcome) {
	o := &v.out.Outcomes[i]
	o.Err, o.Attempts, o.Elapsed, o.Replayed, o.DurabilityWarning = from.err, from.attempts, from.elapsed, from.replayed, from.unreplicated
}

func (v *typedBatchValues[In, Out]) store(i int, o runOutcome, value any) {
	v.out.Outcomes[i] = Outcome[Out]{}
	if value != nil {
		v.out.Outcomes[i].Value = *value.(*Out)
	}
	v.set(i, o)
}

func (v *typedBatchValues[In, Out]) count(succeeded, failed, skipped int) {
	v.out.Succeeded, v.out.Failed, v.out.Skipped = succeeded, failed, skipped
}

// A batch is the body of a Batch, or of a Pipeline.
type batch struct {
	name      string // users.create[], or pipeline
	mode      BatchMode
	options   allOptions
	pipelined bool        // the items are sent through a pipeline, and not run one by one
	items     *definition // of a Batch: of its items' command, as it was given
	inner     *definition // the same with the options of the batch

	item       func(i int) *definition
	appendPath func(path []byte, i int) []byte // appends the path of an item, as in users.create[3]
	values     func(in, out any) batchValues
}

func newBatch(d *definition, mode BatchMode, values func(in, out any) batchValues) *batch {
	return &batch{name: d.name + "[]", mode: mode, items: d.withoutRetry(), values: values,
		appendPath: func(path []byte, i int) []byte { return appendPath(path, d.name, i) }}
}

func (b *batch) configure(d *definition) body {
	o := &d.opts
	if o.InTx && b.mode > Isolated {
		panic(fmt.Sprintf("pgcmd: %s: Options.InTx, but an %v batch has a transaction for each item: use Atomic or Isolated", d.name, b.mode))
	}
	inner := b.items.with(&Options{ReadOnly: o.ReadOnly, Writes: o.Writes, Trusted: o.Trusted, MaxRows: o.MaxRows, MaxBytes: o.MaxBytes, OnConstraint: o.OnConstraint}).atMost(o.most)
	c := *b
	c.options, c.inner, c.pipelined = *o, inner, inner.pipelines
	c.item = func(int) *definition { return inner }
	return &c
}

func (b *batch) describe() *descriptor { return b.inner.descriptor() }

// rows is the number of items that worked.
func (b *batch) rows(inv *invocation) int64 { return inv.outValue().FieldByName("Succeeded").Int() }

// validate reports the problems of all items, each with its index, or, if most is not
// zero, of items until there are more than that.
func (b *batch) validate(in any, most int) error {
	whole := &Error{Code: CodeInvalid, Effect: NotApplied, Command: b.name}
	var causes []error
	values := b.values(in, nil)
	for i := range values.len() {
		item := reflect.New(b.inner.in)
		values.load(i, item.Interface())
		e, _ := b.inner.validate(item.Interface(), 0).(*Error)
		if e == nil {
			continue
		}
		causes = append(causes, e.Err)
		for _, p := range e.Problems {
			p.Field = strings.TrimSuffix(fmt.Sprintf("[%d].%s", i, p.Field), ".")
			whole.Problems = append(whole.Problems, p)
		}
		if most > 0 && len(whole.Problems) > most {
			break
		}
	}
	if causes == nil {
		return nil
	}
	whole.Err = errors.Join(causes...)
	whole.Message = fmt.Sprintf("%d of %d items were refused", len(causes), values.len())
	return whole
}

// validateItems validates every item.
func (b *batch) validateItems(inv *invocation) (failure *Error, done bool) {
	v := b.values(inv.in, inv.out)
	if v.len() == 0 {
		v.reset()
		return nil, true
	}
	left := v.len()
	var shared *invocation
	var refused []*Error
	for i := range v.len() {
		d := b.item(i)
		if d.validation == nil {
			continue
		}
		item := v.own(i)
		if item == nil {
			if shared == nil {
				shared = d.newInvocation()
			}
			item = shared
			v.load(i, item.in)
		}
		e := d.check(item)
		if e == nil {
			continue
		}
		if refused == nil {
			refused = make([]*Error, v.len())
		}
		e.Effect = NotApplied
		refused[i] = e.prefixCommand(b.path(i))
		left--
		if failure == nil {
			failure = refused[i]
		}
	}
	switch {
	case failure == nil:
		return nil, false
	case b.mode == Atomic, b.mode == Sequential && refused[0] != nil:
		b.reset(v, refused)
		b.markSkipped(v, 0, failure)
		count(v)
		return failure, true
	case left == 0:
		b.reset(v, refused)
		count(v)
		return nil, true
	}
	inv.refused = &refused
	return nil, false
}

// reset makes the outcomes, with the errors of the items that were refused.
func (b *batch) reset(v batchValues, refused []*Error) {
	v.reset()
	for i, e := range refused {
		if e != nil {
			v.set(i, runOutcome{err: e})
		}
	}
}

// markSkipped marks what has no error of its own, from item first on, as skipped because of
// the culprit.
func (b *batch) markSkipped(v batchValues, first int, culprit *Error) {
	items := make([]int, 0, v.outcomes()-first)
	for i := first; i < v.outcomes(); i++ {
		if v.outcome(i).err == nil {
			items = append(items, i)
		}
	}
	errs := skippedItems(items, culprit, b.appendPath)
	for n, i := range items {
		v.store(i, runOutcome{err: &errs[n]}, nil)
	}
}

// skippedItems makes the errors of the items that were not run because of the culprit. There
// can be thousands, so that the errors share one allocation, and their paths another.
func skippedItems(items []int, culprit *Error, appendPath func(path []byte, item int) []byte) []Error {
	var text []byte
	ends := make([]int, len(items))
	for n, i := range items {
		text = appendPath(text, i)
		ends[n] = len(text)
	}
	paths, start := string(text), 0
	message := "skipped, since " + culprit.Command + " failed"
	errs := make([]Error, len(items))
	for n, end := range ends {
		errs[n] = Error{Code: CodeSkipped, Effect: NotApplied, Command: paths[start:end], Err: ErrSkipped, Message: message}
		start = end
	}
	return errs
}

// isSkipped reports whether err is of an item that was not run. An item whose own body ran a
// batch, and returned the error of one of its skipped items, did run.
func isSkipped(err error) bool {
	e, ok := err.(*Error)
	return ok && e != nil && e.Err == ErrSkipped
}

// count fills the numbers.
func count(v batchValues) {
	succeeded, failed, skipped := 0, 0, 0
	for i := range v.outcomes() {
		switch err := v.outcome(i).err; {
		case err == nil:
			succeeded++
		case isSkipped(err):
			skipped++
		default:
			failed++
		}
	}
	v.count(succeeded, failed, skipped)
}

// finish makes the outcomes agree with the end of the run: an item that succeeded in a
// transaction that failed is not applied, and one that may have been applied by an earlier
// attempt stays Unknown.
func (b *batch) finish(inv *invocation, attempts int, failure *Error) {
	v := b.values(inv.in, inv.out)
	if v.outcomes() == 0 && v.len() > 0 {
		v.reset()
	}
	united := b.mode == Atomic || b.mode == Isolated
	for i := range v.outcomes() {
		o := v.outcome(i)
		if united && o.attempts > 0 {
			o.attempts = attempts
		}
		if united && o.err == nil {
			o.unreplicated = inv.unreplicated
		}
		v.set(i, o)
		if failure == nil || failure.Effect == Applied {
			continue
		}
		e, _ := o.err.(*Error)
		switch {
		case e == nil && (united || attempts == 0):
			v.store(i, runOutcome{err: failure, attempts: attempts, elapsed: o.elapsed}, nil)
		case e == nil || !united || e.Effect == failure.Effect:
		case isSkipped(e):
			e.Effect = failure.Effect // made for this item of this run
		case failure.Effect == NotApplied, attempts > 1 && o.attempts > 0:
			changed := *e
			changed.Effect = failure.Effect
			o.err = &changed
			v.set(i, o)
		}
	}
	count(v)
}

func (b *batch) path(i int) string { return string(b.appendPath(nil, i)) }

func appendPath(path []byte, name string, item int) []byte {
	return append(strconv.AppendInt(append(append(path, name...), '['), int64(item), 10), ']')
}

// A Pipeline sends different commands in one round trip: [Queue] adds them, Run sends them,
// and [Result.Get] returns the output of each. The zero Pipeline is ready.
// It is for one goroutine, and for one Run.
type Pipeline struct {
	items  []*queuedItem
	misuse *Error // of Queue, returned by Run
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
		return none, &Error{Code: CodeInternal, Effect: NotApplied, Message: "the pipeline of this result was not run: call its Run before Get"}
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
	case p == nil || p.ran: // Get says so
		return false
	case d == nil:
		return refuse("item %d is a nil command: is the variable set before it is queued?", len(p.items))
	case !d.pipelines:
		return refuse("item %d, %s, cannot be part of a pipeline: it must be a Query, QueryOne or Exec without hooks, middleware, InTx and Once", len(p.items), d.name)
	}
	return true
}

func (p *Pipeline) add(d *definition, in, out any) *queuedItem {
	item := &queuedItem{def: d}
	item.in, item.out = in, out
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
// and those of all, joined, in Independent, each with its number in its path; each Result
// has its own. All inputs are validated first: in Atomic nothing is sent if one is refused.
func (p *Pipeline) Run(ctx context.Context, db DB, mode BatchMode) error {
	refused := func(message string) error {
		return &Error{Code: CodeInternal, Effect: NotApplied, Command: "pipeline", Message: message}
	}
	switch {
	case p == nil:
		return refused("the pipeline is nil: use a variable of type pgcmd.Pipeline, whose zero value is ready")
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
	reads := !slices.ContainsFunc(p.items, func(item *queuedItem) bool { return !item.def.query.reads })
	d := &definition{name: pipelineName, opts: b.options, body: b, batch: b, inTx: mode == Atomic, reads: reads, onlyReads: reads,
		metricsCache: new(atomic.Pointer[commandMetrics])}
	inv := &invocation{in: &p, out: new(struct{ Succeeded int })}
	_, failure := d.runObserved(ctx, db, inv)
	return p.end(failure)
}

const pipelineName = "pipeline"

// end makes the results known. It returns the error of all, if there is one, or the
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
		p.items[i].outValue().SetZero()
	}
	p.items[i].outcome = o
}
