package pgcmd

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/pgcmd/pgcmd/internal/parallel"
	"github.com/pgcmd/pgcmd/internal/rowscan"
)

// A batchRun is one attempt at a batch.
type batchRun struct {
	*batch
	ctx      context.Context // of the run
	values   batchValues
	start    time.Time
	tried    int    // the attempt at the items that are left
	standing limits // of the pool

	// Of items that are sent through a pipeline:
	shared  *invocation // memory for one item of a Batch
	args    []any
	buffers map[*query]*rowscan.Buffer

	report func(done, total int) // nil: no progress is reported
}

// run is the body of a batch.
func (b *batch) run(ctx context.Context, db DB, inv *invocation) error {
	r := &batchRun{batch: b, ctx: ctx, values: b.values(inv.in, inv.out), start: time.Now(), tried: 1, report: reporter(ctx, b.options.Progress)}
	refused := inv.refused
	if len(refused) != r.values.len() { // a Before hook changed the items
		refused = nil
	}
	b.reset(r.values, refused)
	failure := r.runItems(ctx, db)
	count(r.values)
	if failure != nil {
		return failure
	}
	for i := range r.values.len() {
		if r.values.outcome(i).unreplicated {
			return errUnreplicated
		}
	}
	return nil
}

// errorOf returns the error of item i, nil if it has none.
func (r *batchRun) errorOf(i int) *Error {
	e, _ := r.values.outcome(i).err.(*Error)
	return e
}

// left are the numbers of the items that are to be run.
func (r *batchRun) left() []int {
	items := make([]int, 0, r.values.len())
	for i := range r.values.len() {
		if r.values.outcome(i).err == nil {
			items = append(items, i)
		}
	}
	return items
}

// runItems runs the items, in a pipeline if that can be.
func (r *batchRun) runItems(ctx context.Context, db DB) *Error {
	switch r.mode {
	case Atomic, Isolated:
		tx := db.(*Tx)
		switch {
		case r.pipelined && tx.s.Conn != nil:
			return r.runPipelined(ctx, tx)
		case r.inner == nil:
			return &Error{Code: CodeInternal, Effect: NotApplied, Message: "the transaction does not give its connection, which a pipeline needs: pass one of pgcmd's or pgx's"}
		}
		return r.runInTx(ctx, tx)
	}
	if inTransaction(db) {
		what, modes := "batch", "Atomic or Isolated"
		if r.inner == nil {
			what, modes = "pipeline", "Atomic"
		}
		return r.failAll(r.left(), &Error{Code: CodeInternal, Effect: NotApplied,
			Message: "an " + r.mode.String() + " " + what + " has a transaction for each item, and cannot join one: use " + modes + ", or run it on the pool"})
	}
	if r.mode == Sequential {
		return r.sequential(ctx, db)
	}
	return r.independent(ctx, db)
}

// failAll is a failure that is every item's.
func (r *batchRun) failAll(items []int, e *Error) *Error {
	e.prefixCommand(r.name)
	for _, i := range items {
		r.values.store(i, runOutcome{err: e, attempts: r.tried, elapsed: time.Since(r.start)}, nil)
	}
	return e
}

// stopAt is the failure of an Atomic or Sequential batch: its culprit's.
func (r *batchRun) stopAt(culprit *Error, kept int) *Error {
	r.markSkipped(r.values, kept, culprit)
	return culprit
}

// runPipelined sends the items of an Atomic or Isolated batch through a pipeline.
func (r *batchRun) runPipelined(ctx context.Context, tx *Tx) *Error {
	if err := tx.level.Lock(ctx); err != nil {
		return newUnsentError(ctx, err)
	}
	defer tx.s.Unlock() // its result is recorded
	r.standing = tx.s.limits
	finish := tx.s.mayPiggybackCommit
	tx.s.mayPiggybackCommit = false
	items := r.left()
	var last *query
	for _, i := range items {
		if q := r.item(i).query; q != last {
			last = q
			finish = finish && q.isCommitSafe(r.limits(i)) && !q.text.Ends
			tx.s.Inspect(&q.text)
		}
	}
	f := newBatchExec(ctx, tx.s.Conn, tx.s, r)
	defer f.release()
	if r.mode == Isolated {
		return f.isolated(tx, items, finish, r.progress)
	}
	culprit, failure := f.atomic(tx, items, finish, r.progress)
	switch {
	case failure == nil:
		return nil
	case culprit < 0:
		return failure
	}
	effect := failure.Effect
	r.fail(culprit, failure)
	culpritError := r.errorOf(culprit)
	if effect == Applied {
		return culpritError // it is there, with all the others
	}
	return r.stopAt(culpritError, 0)
}

// progress tells how many items are done, when so many are left.
func (r *batchRun) progress(left int) {
	if r.report != nil {
		r.report(r.values.len()-left, r.values.len())
	}
}

// runInTx runs items with Go bodies in the transaction.
func (r *batchRun) runInTx(ctx context.Context, tx *Tx) *Error {
	tx.s.mayPiggybackCommit = false
	items := r.left()
	for n, i := range items {
		if r.mode == Isolated {
			item := r.inner.newInvocation()
			r.values.load(i, item.in)
			o := r.inner.try(ctx, tx, item)
			r.values.store(i, o, item.out)
			if o.err != nil {
				r.addIndex(i)
			}
			if err := tx.level.Usable(ctx); err != nil { // unrecoverable, or the connection is lost
				return newUnsentError(ctx, err)
			}
		} else {
			r.attempt(ctx, tx, i)
			if e := r.errorOf(i); e != nil {
				return r.stopAt(e, 0)
			}
		}
		r.progress(len(items) - n - 1)
	}
	return nil
}

// attempt runs item i by itself.
func (r *batchRun) attempt(ctx context.Context, db DB, i int) {
	start := time.Now()
	item := r.inner.newInvocation()
	r.values.load(i, item.in)
	call, failure := r.inner.runWithMiddleware(ctx, db, item)
	o := runOutcome{attempts: r.tried - 1 + call.Attempts, elapsed: time.Since(start), replayed: call.replayed, unreplicated: call.unreplicated}
	if failure != nil {
		o.err = failure
	}
	r.values.store(i, o, item.out)
	if failure != nil {
		r.addIndex(i)
	}
}

// addIndex gives the error of item i its index.
func (r *batchRun) addIndex(i int) {
	o, e := r.values.outcome(i), *r.errorOf(i)
	e.Command = r.path(i) + strings.TrimPrefix(e.Command, r.inner.name)
	o.err = &e
	r.values.set(i, o)
}

// sequential runs the items in order.
func (r *batchRun) sequential(ctx context.Context, db DB) *Error {
	for i := range r.values.len() {
		if r.errorOf(i) == nil {
			r.retryFailed(ctx, db, []int{i}, func([]int) *Error {
				r.attempt(ctx, db, i)
				return nil
			})
		}
		if e := r.errorOf(i); e != nil {
			return r.keptEffect(r.stopAt(e, i), i)
		}
		r.progress(r.values.len() - i - 1)
	}
	return nil
}

// keptEffect is the error of a batch of which so many items, before the culprit, are kept: as
// a whole it is neither applied nor not, and must not be repeated.
func (r *batchRun) keptEffect(culprit *Error, kept int) *Error {
	if kept == 0 || r.inner.opts.ReadOnly {
		return culprit
	}
	e := *culprit
	e.Err, e.Effect = culprit, Unknown
	e.Message += fmt.Sprintf("; what came before it is kept (%d of %d items), see their outcomes", kept, r.values.len())
	return &e
}

// independent runs the items, each in a transaction of its own.
func (r *batchRun) independent(ctx context.Context, db DB) *Error {
	return r.retryFailed(ctx, db, r.left(), func(items []int) *Error {
		if !r.pipelined {
			workers, t := 1, resolve(db)
			if t.pool != nil {
				workers = int(t.pool.Stat().MaxConns())
			}
			parallel.Each(workers, items, func(i int) { r.attempt(ctx, db, i) }, r.progress)
			return nil
		}
		if err := ctx.Err(); err != nil {
			return r.failAll(items, newUnsentError(ctx, err))
		}
		t := resolve(db)
		settings, failure := t.own.settingsFor(ctx)
		if failure != nil {
			return r.failAll(items, failure)
		}
		l, failure := t.acquire(ctx, &r.name, r.options.ReadOnly)
		if failure != nil {
			return r.failAll(items, failure)
		}
		defer r.releaseConn(ctx, &l)
		r.standing = t.limits()
		f := newBatchExec(ctx, l.conn, nil, r)
		f.settings = settings
		defer f.release()
		return f.independent(items, r.progress)
	})
}

// retryFailed runs items, and runs those again that failed and may be retried, until the
// policy allows no more. It returns the last failure of all.
func (r *batchRun) retryFailed(ctx context.Context, db DB, items []int, pass func(items []int) *Error) (failure *Error) {
	target := resolve(db)
	retries := target.retryBucket()
	earlier := map[int][]*Error{}
	for r.tried = 1; ; r.tried++ {
		start := time.Now()
		failure = pass(items)
		var left []int
		var first *Error
		for _, i := range items {
			e := r.errorOf(i)
			if e == nil {
				continue
			}
			e.previousAttempts, e.Attempts = earlier[i], r.values.outcome(i).attempts
			if Retryable(e) && !e.noRetry && !(e.retryAtMostOnce() && r.tried > 1) && r.options.Retry.allows(e, r.tried) {
				left, first = append(left, i), e
			}
		}
		if len(left) == 0 {
			retries.Put(r.tried > 1)
			return failure
		}
		if !first.takeToken(retries) {
			for _, i := range left {
				r.errorOf(i).addBucketEmpty()
			}
			return failure
		}
		if !r.options.Retry.wait(ctx, r.tried, time.Since(start)) {
			return failure
		}
		for _, i := range left {
			e := *r.errorOf(i)
			e.previousAttempts = nil // each is on the list once
			earlier[i] = append(earlier[i], &e)
			r.values.store(i, runOutcome{}, nil)
		}
		items = left
	}
}

// releaseConn gives the connection back, or closes it if an item failed so that it cannot
// be used any more.
func (r *batchRun) releaseConn(ctx context.Context, l *connLease) {
	if l.pooled != nil {
		for i := range r.values.len() {
			if e := r.errorOf(i); e != nil && e.invalidatesConn() {
				_ = l.conn.Close(ctx)
				break
			}
		}
	}
	l.release()
}

func (r *batchRun) statement(i int) *statement { return r.item(i).query.statement }

func (r *batchRun) checkColumns(i int, types *pgtype.Map, columns []pgconn.FieldDescription) *Error {
	return r.item(i).query.checkColumns(types, columns)
}

// invocation returns the memory of item i.
func (r *batchRun) invocation(i int) *invocation {
	if inv := r.values.own(i); inv != nil {
		return inv
	}
	if r.shared == nil {
		d := r.item(i)
		r.shared = d.newInvocation()
		r.shared.fields = d.query.binding.Pointers(r.shared.inValue)
	}
	return r.shared
}

// arguments returns the arguments of item i, in memory that the next item uses again.
func (r *batchRun) arguments(i int) ([]any, *Error) {
	inv := r.invocation(i)
	if inv == r.shared {
		r.values.load(i, inv.in)
	}
	q := r.item(i).query
	if n := len(q.fields); cap(r.args) < n {
		r.args = make([]any, n)
	} else {
		r.args = r.args[:n]
	}
	return q.readArguments(r.args, inv)
}

func (r *batchRun) limits(i int) limits { return r.item(i).query.limits.or(r.standing) }

func (r *batchRun) bounded() bool {
	for i := range r.values.len() {
		if r.limits(i).bytes > 0 {
			return true
		}
		if r.inner != nil { // all are alike
			break
		}
	}
	return false
}

func (r *batchRun) read(i int, rows rowscan.Rows, l limits) *Error {
	q, inv := r.item(i).query, r.invocation(i)
	b := r.buffers[q]
	if b == nil {
		b = q.rowBufferFor(r.ctx)
		if r.buffers == nil {
			r.buffers = map[*query]*rowscan.Buffer{}
		}
		r.buffers[q] = b
	}
	inv.outValue.SetZero()
	e := q.readItem(b, rows, l, inv.outValue)
	r.values.store(i, runOutcome{attempts: r.tried, elapsed: time.Since(r.start)}, inv.out)
	return e
}

func (r *batchRun) fail(i int, e *Error) {
	attempts := r.tried
	if len(e.Problems) > 0 {
		attempts-- // it was not sent
	}
	e = r.item(i).mapConstraint(e.prefixCommand(r.path(i)))
	e.Attempts = attempts
	r.values.store(i, runOutcome{err: e, attempts: attempts, elapsed: time.Since(r.start)}, nil)
}

func (r *batchRun) warnUnreplicated(i int) {
	o := r.values.outcome(i)
	o.unreplicated = true
	r.values.set(i, o)
}
