package pgcmd

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// A BatchMode says what the failure of one item means for the others.
type BatchMode int

const (
	// Atomic: one transaction, all or nothing. It stops at the first failure.
	Atomic BatchMode = iota
	// Isolated: one transaction, in which the good items commit together and the bad
	// ones are reported.
	Isolated
	// Independent: a transaction for each item.
	Independent
	// Sequential: one after the other, a transaction for each. It stops at the first
	// failure, and keeps what came before.
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

// A BatchResult is how each item of a [Batch] went, in the order of the input. It
// is filled even when the run returns an error.
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
			continue // or the failure of all, which they share
		}
		errs = append(errs, o.Err)
	}
	return errors.Join(errs...)
}

// Batch makes a command that runs c for many inputs, in one of four modes.
//
// A statement command (Query, QueryOne, Exec) goes out in one round trip for every
// 1,000 items or 8 MiB, except in Sequential. Isolated takes another one for a
// chunk that held a bad item; and so do Atomic and Isolated in all, if the client
// has to look at the rows before it can agree to COMMIT: for a QueryOne that may
// find none, for MaxRows and MaxBytes. Items with Go bodies, hooks, middleware, InTx or Once
// run one by one with the same meaning; Independent runs them concurrently, as far
// as the pool allows, and then they share the goroutines' usual duties.
//
// All items are validated first: one that is refused is reported with the others
// that fail, and in Atomic nothing is sent. Atomic and Sequential return the error
// of the culprit, as users.create[17]; Isolated and Independent return an error
// only if the batch failed as a whole, see [BatchResult.Err] for the items'. The Effect of
// Sequential's is Unknown if items before the culprit are kept, so that it is not repeated
// as a whole; the outcomes tell what each came to. An
// item counts as applied only once its transaction has ended: what came before a
// COMMIT that failed is NotApplied. No items are a success.
//
// The command is called users.create[], and has options and hooks of its own; the
// Timeout and Retry of c are ignored. Retry repeats Atomic and Isolated whole, and
// of Independent and Sequential the items that failed. On a transaction Atomic and
// Isolated join it, the other two are refused.
func Batch[In, Out any](c *Command[In, Out], mode BatchMode) *Command[[]In, BatchResult[Out]] {
	switch {
	case c == nil:
		panic("pgcmd: Batch was given a nil command")
	case mode < Atomic || mode > Sequential:
		panic(fmt.Sprintf("pgcmd: %s: Batch was given the unknown mode %d: use Atomic, Isolated, Independent or Sequential", c.def.name, int(mode)))
	}
	inner := c.withDefinition(c.def.withoutRetry())
	batch := &Command[[]In, BatchResult[Out]]{
		def: definition{
			name:     c.def.name + "[]",
			opts:     Options{Description: c.def.opts.Description, ReadOnly: c.def.opts.ReadOnly, Trusted: c.def.opts.Trusted},
			inTx:     mode == Atomic || mode == Isolated,
			isAtomic: mode == Atomic,
		},
		rows: func(r BatchResult[Out]) int64 { return int64(r.Succeeded) },
	}
	batch.newBatchFuncs = func(o *Options) *batchFuncsOf[[]In, BatchResult[Out]] {
		if o.InTx && mode > Isolated {
			panic(fmt.Sprintf("pgcmd: %s: Options.InTx, but an %v batch has a transaction for each item: use Atomic or Isolated", batch.def.name, mode))
		}
		b := &batchOf[In, Out]{name: c.def.name, mode: mode, options: *o}
		b.inner = inner.With(Options{ReadOnly: o.ReadOnly, Trusted: o.Trusted, MaxRows: o.MaxRows, MaxBytes: o.MaxBytes, OnConstraint: o.OnConstraint})
		if b.inner.def.fastPath && b.inner.newPipelined != nil && !b.inner.def.isOnce {
			b.piped = b.inner.newPipelined(&b.inner.def.opts)
		}
		return &batchFuncsOf[[]In, BatchResult[Out]]{validate: b.validate, validateItems: b.validateItems, run: b.run, reconcile: b.reconcile, descriptor: b.inner.descriptor}
	}
	return batch.prepare()
}

// batchFuncsOf is what makes a command a batch, in the terms of the command.
type batchFuncsOf[In, Out any] struct {
	validate      func(in In, most int) error
	validateItems func(in In) (out Out, refused []*Error, failure *Error, done bool)
	run           func(ctx context.Context, db DB, in In) (Out, error)
	reconcile     func(in In, out Out, attempts int, unreplicated bool, failure *Error) Out // makes the outcomes agree with the end of the run
	descriptor    func() *descriptor                                                        // of the items' command
}

// A batchOf is a batch under its options.
type batchOf[In, Out any] struct {
	name    string // of the items' command
	mode    BatchMode
	options Options
	inner   *Command[In, Out]
	piped   *pipelined[In, Out] // nil if the items run one by one
}

// refusedItemsKey is for what validation refused, by the items' numbers, on its way from
// before the run into it.
type refusedItemsKey struct{}

// validate reports the problems of all items, each with its index, or, if most is not
// zero, of items until there are more than that.
func (b *batchOf[In, Out]) validate(in []In, most int) error {
	whole := &Error{Code: CodeInvalid, Effect: NotApplied, Command: b.name + "[]"}
	var causes []error
	for i, item := range in {
		e, _ := b.inner.Validate(item).(*Error)
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
	whole.Message = fmt.Sprintf("%d of %d items were refused", len(causes), len(in))
	return whole
}

// validateItems validates every item. done says that nothing is left to run.
func (b *batchOf[In, Out]) validateItems(in []In) (out BatchResult[Out], refused []*Error, failure *Error, done bool) {
	if len(in) == 0 {
		out.Outcomes = []Outcome[Out]{}
		return out, nil, nil, true
	}
	if b.inner.def.validation == nil {
		return out, nil, nil, false
	}
	left := len(in)
	for i, item := range in {
		e := b.inner.check(item)
		if e == nil {
			continue
		}
		if refused == nil {
			refused = make([]*Error, len(in))
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
		return out, nil, nil, false
	case b.mode == Atomic, b.mode == Sequential && refused[0] != nil:
		out = b.newResult(in, refused)
		b.markSkipped(&out, 0, failure)
		return b.count(out), nil, failure, true
	case left == 0:
		return b.count(b.newResult(in, refused)), nil, nil, true
	}
	return out, refused, nil, false
}

// newResult makes the result in which nothing is known but what was refused.
func (b *batchOf[In, Out]) newResult(in []In, refused []*Error) (out BatchResult[Out]) {
	out.Outcomes = make([]Outcome[Out], len(in))
	for i, e := range refused {
		if e != nil {
			out.Outcomes[i].Err = e
		}
	}
	return out
}

// markSkipped marks what has no error of its own, from item first on, as skipped because of
// the culprit.
func (b *batchOf[In, Out]) markSkipped(out *BatchResult[Out], first int, culprit *Error) {
	items := make([]int, 0, len(out.Outcomes)-first)
	for i := first; i < len(out.Outcomes); i++ {
		if out.Outcomes[i].Err == nil {
			items = append(items, i)
		}
	}
	errs := skippedItems(items, culprit, func(path []byte, i int) []byte { return appendPath(path, b.name, i) })
	for n, i := range items {
		out.Outcomes[i] = Outcome[Out]{Err: &errs[n]}
	}
}

// skippedItems makes the errors of the items that were not run because of the culprit.
// There can be thousands, so that they and their paths are one piece of memory each.
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

// isSkipped reports whether err is of an item that was not run. An item whose own body
// ran a batch, and returned the error of one that was not, did run.
func isSkipped(err error) bool {
	e, ok := err.(*Error)
	return ok && e != nil && e.Err == ErrSkipped
}

// count fills the numbers.
func (b *batchOf[In, Out]) count(out BatchResult[Out]) BatchResult[Out] {
	out.Succeeded, out.Failed, out.Skipped = 0, 0, 0
	for i := range out.Outcomes {
		switch o := &out.Outcomes[i]; {
		case o.Err == nil:
			out.Succeeded++
		case isSkipped(o.Err):
			out.Skipped++
		default:
			out.Failed++
		}
	}
	return out
}

// reconcile makes the outcomes agree with the end of the run: what worked in a
// transaction that failed did not work, and what may have been applied by an
// earlier attempt is not proven otherwise by the last.
func (b *batchOf[In, Out]) reconcile(in []In, out BatchResult[Out], attempts int, unreplicated bool, failure *Error) BatchResult[Out] {
	if out.Outcomes == nil {
		out = b.newResult(in, nil)
	}
	united := b.mode == Atomic || b.mode == Isolated
	for i := range out.Outcomes {
		o := &out.Outcomes[i]
		if united && o.Attempts > 0 {
			o.Attempts = attempts
		}
		if united && o.Err == nil {
			o.DurabilityWarning = unreplicated
		}
		if failure == nil || failure.Effect == Applied {
			continue
		}
		e, _ := o.Err.(*Error)
		switch {
		case e == nil && (united || attempts == 0):
			*o = Outcome[Out]{Err: failure, Attempts: attempts, Elapsed: o.Elapsed}
		case e == nil || !united || e.Effect == failure.Effect:
		case isSkipped(e):
			e.Effect = failure.Effect // made for this item of this run
		case failure.Effect == NotApplied, attempts > 1 && o.Attempts > 0:
			changed := *e
			changed.Effect = failure.Effect
			o.Err = &changed
		}
	}
	return b.count(out)
}

func (b *batchOf[In, Out]) path(i int) string { return string(appendPath(nil, b.name, i)) }

func appendPath(path []byte, name string, item int) []byte {
	return append(strconv.AppendInt(append(append(path, name...), '['), int64(item), 10), ']')
}
