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
	resolved []resolvedItem // by the number of the item; nil if the SQL of none depends on its input
	shared   *invocation    // memory for one item of a Batch
	args     []any
	buffers  map[*rowscan.RowType]*rowscan.Buffer

	report func(done, total int) // nil: no progress is reported
}

// A resolvedItem is what an item sends, where that depends on its input.
type resolvedItem struct {
	query *query
	args  []any // nil if they are the fields of the input
}

// run is the body of a batch.
func (b *batch) run(ctx context.Context, db DB, inv *invocation) error {
	r := &batchRun{batch: b, ctx: ctx, values: b.values(inv.in, inv.out), start: time.Now(), tried: 1, report: reporter(ctx, b.options.Progress)}
	var refused []*Error
	if inv.refused != nil && len(*inv.refused) == r.values.len() { // else a Before hook changed the items
		refused = *inv.refused
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
			Message: "the " + r.mode.String() + " " + what + " has a transaction for each item, and cannot join one: use " + modes + ", or run it on the pool"})
	}
	if r.mode == Sequential {
		return r.sequential(ctx, db)
	}
	return r.independent(ctx, db)
}

// failAll gives every item the same error.
func (r *batchRun) failAll(items []int, e *Error) *Error {
	e.prefixCommand(r.name)
	for _, i := range items {
		r.values.store(i, runOutcome{err: e, attempts: r.tried, elapsed: time.Since(r.start)}, nil)
	}
	return e
}

// stopAt ends an Atomic or Sequential batch: the items from number kept on are skipped, and the
// error is that of the item that failed.
func (r *batchRun) stopAt(culprit *Error, kept int) *Error {
	r.markSkipped(r.values, kept, culprit)
	return culprit
}

// resolve makes the queries of items whose SQL depends on their input, and returns the items
// that can be sent. An item that has none fails; in an Atomic batch it is the culprit, and
// ends that.
func (r *batchRun) resolve(items []int) (left []int, culprit *Error) {
	r.resolved = nil
	if !r.has(func(d *definition) bool { return !d.direct }) {
		return items, nil
	}
	r.resolved = make([]resolvedItem, r.values.len())
	left = make([]int, 0, len(items))
	for _, i := range items {
		item, q := &r.resolved[i], r.item(i).query
		if item.query = q; q.source != nil {
			var failure *Error
			if item.query, item.args, failure = q.source.resolve(q, r.load(i)); failure != nil {
				r.fail(i, failure)
				if r.mode == Atomic {
					return nil, r.errorOf(i)
				}
				continue
			}
		}
		left = append(left, i)
	}
	return left, nil
}

// runPipelined sends the items of an Atomic or Isolated batch through a pipeline.
func (r *batchRun) runPipelined(ctx context.Context, tx *Tx) *Error {
	items, refused := r.resolve(r.left())
	if refused != nil {
		return r.stopAt(refused, 0)
	}
	if err := tx.level.Lock(ctx); err != nil {
		return newUnsentError(ctx, err)
	}
	defer tx.s.Unlock() // its result is recorded
	r.standing = tx.s.limits
	finish := tx.s.mayPiggybackCommit
	tx.s.mayPiggybackCommit = false
	var last *query
	safe, ends := true, false
	for _, i := range items {
		if q := r.query(i); q != last {
			last = q
			safe, ends = safe && q.isCommitSafe(r.limits(i)), ends || q.text.Ends
			tx.s.Inspect(&q.text)
		}
	}
	// If they only read, it does not matter that an item may fail at the client when COMMIT was sent.
	finish = finish && !ends && (safe || tx.s.changesNothing())
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
	if r.onlyReads() {
		failure.Effect = NotApplied
	}
	effect := failure.Effect
	r.fail(culprit, failure.ofItem())
	culpritError := r.errorOf(culprit)
	if failure.unchanged && len(items) > 1 && effect != NotApplied { // the others may have changed something
		whole := *culpritError
		whole.Effect = effect
		culpritError = &whole
	}
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
			return r.keptEffect(r.stopAt(e, i))
		}
		r.progress(r.values.len() - i - 1)
	}
	return nil
}

// keptEffect is the error of a batch whose items have transactions of their own. If some are kept,
// as a whole it is neither applied nor not, and must not be repeated.
func (r *batchRun) keptEffect(failure *Error) *Error {
	if failure == nil {
		return nil
	}
	kept, unknown := 0, false
	for i := range r.values.len() {
		e := r.errorOf(i)
		if e == nil {
			kept++
		}
		unknown = unknown || e != nil && e.Effect == Unknown
	}
	if r.onlyReads() || kept == 0 && !(unknown && failure.Effect == NotApplied) {
		return failure
	}
	e := *failure
	if e.Err, e.Effect = failure, Unknown; kept > 0 {
		e.Message += fmt.Sprintf("; what came before it is kept (%d of %d items), see their outcomes", kept, r.values.len())
	}
	return &e
}

// independent runs the items, each in a transaction of its own.
func (r *batchRun) independent(ctx context.Context, db DB) *Error {
	return r.keptEffect(r.retryFailed(ctx, db, r.left(), func(items []int) *Error {
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
		if items, _ = r.resolve(items); len(items) == 0 {
			return nil
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
		defer r.releaseConn(&l)
		r.standing = t.limits()
		f := newBatchExec(ctx, l.conn, nil, r)
		f.settings = settings
		defer f.release()
		failure = f.independent(items, r.progress)
		if failure != nil && r.onlyReads() {
			failure.Effect = NotApplied
			failure.reconcileCode()
		}
		return failure
	}))
}

// onlyReads reports whether the items change nothing.
func (r *batchRun) onlyReads() bool { return !r.has(func(d *definition) bool { return !d.reads }) }

// has reports whether an item is of a command that f is true of. Those of a Batch are alike.
func (r *batchRun) has(f func(d *definition) bool) bool {
	if r.inner != nil {
		return f(r.inner)
	}
	for i := range r.values.len() {
		if f(r.item(i)) {
			return true
		}
	}
	return false
}

// retryFailed runs items, and runs those again that failed and may be retried, until the
// policy allows no more. It returns the last error of all.
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
func (r *batchRun) releaseConn(l *connLease) {
	for i := range r.values.len() {
		if e := r.errorOf(i); e != nil {
			l.discard(e)
		}
	}
	l.release()
}

// query is what item i sends.
func (r *batchRun) query(i int) *query {
	if r.resolved != nil {
		return r.resolved[i].query
	}
	return r.item(i).query
}

func (r *batchRun) statement(i int) *statement { return r.query(i).statement }

func (r *batchRun) checkColumns(i int, types *pgtype.Map, columns []pgconn.FieldDescription) *Error {
	return r.query(i).checkColumns(types, columns)
}

// invocation returns the memory of item i.
func (r *batchRun) invocation(i int) *invocation {
	if inv := r.values.own(i); inv != nil {
		return inv
	}
	if r.shared == nil {
		d := r.item(i)
		r.shared = d.newInvocation()
		if d.direct {
			r.shared.fields = d.query.binding.Pointers(r.shared.inValue())
		}
	}
	return r.shared
}

// load returns the memory of item i, with its input.
func (r *batchRun) load(i int) *invocation {
	inv := r.invocation(i)
	if inv == r.shared {
		r.values.load(i, inv.in)
	}
	return inv
}

// arguments returns the arguments of item i, in memory that the next item uses again.
func (r *batchRun) arguments(i int) ([]any, *Error) {
	if r.resolved != nil && r.resolved[i].args != nil {
		return r.resolved[i].args, nil
	}
	inv, q := r.load(i), r.query(i)
	if n := len(q.fields); cap(r.args) < n {
		r.args = make([]any, n)
	} else {
		r.args = r.args[:n]
	}
	return q.readArguments(r.args, inv)
}

func (r *batchRun) limits(i int) limits { return r.item(i).query.limitsBelow(r.standing) }

func (r *batchRun) bounded() bool {
	return r.has(func(d *definition) bool { return d.query.limitsBelow(r.standing).bytes > 0 })
}

func (r *batchRun) read(i int, rows rowscan.Rows, l limits) *Error {
	q, inv := r.query(i), r.invocation(i)
	b := r.buffers[q.rowType]
	if b == nil {
		b = q.rowBufferFor(r.ctx)
		if r.buffers == nil {
			r.buffers = map[*rowscan.RowType]*rowscan.Buffer{}
		}
		r.buffers[q.rowType] = b
	}
	inv.outValue().SetZero()
	e := q.readItem(b, rows, l, inv.outValue())
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
