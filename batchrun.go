package pgcmd

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"
)

// A batchRun is one attempt at a batch. It is the cargo of its flight.
type batchRun[In, Out any] struct {
	*batchOf[In, Out]
	in      []In
	out     BatchResult[Out]
	start   time.Time
	tried   int    // the attempt at the items that are left
	limit   limits // of each item
	bindIn  binder[In]
	readOut reader[Out]
	report  func(done, total int) // nil if nobody wants to know
}

// run is the body of a batch.
func (b *batchOf[In, Out]) run(ctx context.Context, db DB, in []In) (BatchResult[Out], error) {
	refused, _ := ctx.Value(refusedItemsKey{}).([]*Error)
	if refused != nil {
		ctx = context.WithValue(ctx, refusedItemsKey{}, []*Error(nil)) // not for what a body runs
		if len(refused) != len(in) {                                   // a Before hook changed the items
			refused = nil
		}
	}
	r := &batchRun[In, Out]{batchOf: b, in: in, out: b.newResult(in, refused), start: time.Now(), tried: 1,
		report: reporter(ctx, b.options.Progress)}
	failure := r.runItems(ctx, db)
	r.out = r.count(r.out)
	if failure != nil {
		return r.out, failure
	}
	for i := range r.out.Outcomes {
		if r.out.Outcomes[i].DurabilityWarning {
			return r.out, errUnreplicated
		}
	}
	return r.out, nil
}

// items are the numbers of those that are to be run.
func (r *batchRun[In, Out]) items() []int {
	items := make([]int, 0, len(r.in))
	for i := range r.in {
		if r.out.Outcomes[i].Err == nil {
			items = append(items, i)
		}
	}
	return items
}

// runItems runs the items, in a pipeline if that can be.
func (r *batchRun[In, Out]) runItems(ctx context.Context, db DB) *Error {
	switch r.mode {
	case Atomic, Isolated:
		tx := db.(*Tx)
		if r.piped != nil && tx.s.conn != nil {
			return r.runPipelined(ctx, tx)
		}
		return r.runInTx(ctx, tx)
	}
	if inTransaction(db) {
		return r.failAll(r.items(), &Error{Code: CodeInternal, Effect: NotApplied,
			Message: "an " + r.mode.String() + " batch has a transaction for each item, and cannot join one: use Atomic or Isolated, or run it on the pool"})
	}
	if r.mode == Sequential {
		return r.sequential(ctx, db)
	}
	return r.independent(ctx, db)
}

// failAll is a failure that is every item's.
func (r *batchRun[In, Out]) failAll(items []int, e *Error) *Error {
	e.prefixCommand(r.name + "[]")
	for _, i := range items {
		r.out.Outcomes[i] = Outcome[Out]{Err: e, Attempts: r.tried, Elapsed: time.Since(r.start)}
	}
	return e
}

// stopAt is the failure of an Atomic or Sequential batch: its culprit's.
func (r *batchRun[In, Out]) stopAt(culprit *Error, kept int) *Error {
	r.markSkipped(&r.out, kept, culprit)
	return culprit
}

// runPipelined sends the items of an Atomic or Isolated batch through a pipeline.
func (r *batchRun[In, Out]) runPipelined(ctx context.Context, tx *Tx) *Error {
	if err := tx.lock(ctx); err != nil {
		return newUnsentError(ctx, err)
	}
	defer tx.s.unlock() // what came of it has been noted
	tx.s.inspectStatement(r.piped.statement)
	f := r.newExec(ctx, tx, tx.s.conn, tx.s)
	finish := tx.s.mayPiggybackCommit && r.piped.commitSafe(r.limit) && !r.piped.text.Ends
	tx.s.mayPiggybackCommit = false
	defer f.release()
	items := r.items()
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
	culpritError := r.out.Outcomes[culprit].Err.(*Error)
	if effect == Applied {
		return culpritError // it is there, with all the others
	}
	return r.stopAt(culpritError, 0)
}

func (r *batchRun[In, Out]) newExec(ctx context.Context, db DB, conn *pgx.Conn, s *txn) *batchExec {
	r.limit = r.piped.limits.or(limitsOf(db))
	r.bindIn, r.readOut = r.piped.run(ctx)
	return newBatchExec(ctx, conn, s, r)
}

// progress tells how many items are done, when so many are left.
func (r *batchRun[In, Out]) progress(left int) {
	if r.report != nil {
		r.report(len(r.in)-left, len(r.in))
	}
}

// runInTx runs items with Go bodies in the transaction.
func (r *batchRun[In, Out]) runInTx(ctx context.Context, tx *Tx) *Error {
	tx.s.mayPiggybackCommit = false
	items := r.items()
	for n, i := range items {
		if r.mode == Isolated {
			r.out.Outcomes[i] = r.inner.Try(ctx, tx, r.in[i])
			if !r.out.Outcomes[i].OK() {
				r.addIndex(i)
			}
			if err := tx.usable(ctx); err != nil { // doomed, or lost
				return newUnsentError(ctx, err)
			}
		} else {
			r.attempt(ctx, tx, i)
			if e, _ := r.out.Outcomes[i].Err.(*Error); e != nil {
				return r.stopAt(e, 0)
			}
		}
		r.progress(len(items) - n - 1)
	}
	return nil
}

// attempt runs item i by itself.
func (r *batchRun[In, Out]) attempt(ctx context.Context, db DB, i int) {
	start := time.Now()
	o := &r.out.Outcomes[i]
	t := &typedInvocation[In, Out]{c: r.inner, in: r.in[i]}
	call, failure := r.inner.def.run(ctx, db, t)
	*o = Outcome[Out]{Value: t.out, Attempts: r.tried - 1 + call.Attempts, Elapsed: time.Since(start), Replayed: call.replayed, DurabilityWarning: call.unreplicated}
	if failure != nil {
		o.Err = failure
		r.addIndex(i)
	}
}

// addIndex gives the error of item i its index.
func (r *batchRun[In, Out]) addIndex(i int) {
	e := *r.out.Outcomes[i].Err.(*Error)
	e.Command = r.path(i) + strings.TrimPrefix(e.Command, r.name)
	r.out.Outcomes[i].Err = &e
}

// sequential runs the items in order.
func (r *batchRun[In, Out]) sequential(ctx context.Context, db DB) *Error {
	for i := range r.in {
		if r.out.Outcomes[i].Err == nil {
			r.retryFailed(ctx, db, []int{i}, func([]int) *Error {
				r.attempt(ctx, db, i)
				return nil
			})
		}
		if e, _ := r.out.Outcomes[i].Err.(*Error); e != nil {
			return r.keptEffect(r.stopAt(e, i), i)
		}
		r.progress(len(r.in) - i - 1)
	}
	return nil
}

// keptEffect is the error of a batch of which so many items, before the culprit, are kept: as
// a whole it is neither applied nor not, and must not be repeated.
func (r *batchRun[In, Out]) keptEffect(culprit *Error, kept int) *Error {
	if kept == 0 || r.inner.def.opts.ReadOnly {
		return culprit
	}
	e := *culprit
	e.Err, e.Effect = culprit, Unknown
	e.Message += fmt.Sprintf("; what came before it is kept (%d of %d items), see their outcomes", kept, len(r.in))
	return &e
}

// independent runs the items, each in a transaction of its own.
func (r *batchRun[In, Out]) independent(ctx context.Context, db DB) *Error {
	return r.retryFailed(ctx, db, r.items(), func(items []int) *Error {
		if conn, done, failure := r.connection(ctx, db); failure != nil {
			return r.failAll(items, failure)
		} else if conn != nil {
			defer done()
			f := r.newExec(ctx, db, conn, nil)
			defer f.release()
			return f.independent(items, r.progress)
		}
		return r.concurrently(ctx, db, items)
	})
}

// retryFailed runs items, and those that failed and may be tried again, until the policy
// has had enough. It returns the last failure of all.
func (r *batchRun[In, Out]) retryFailed(ctx context.Context, db DB, items []int, pass func(items []int) *Error) (failure *Error) {
	retries := retryBucketOf(db)
	earlier := map[int][]*Error{}
	for r.tried = 1; ; r.tried++ {
		start := time.Now()
		failure = pass(items)
		var left []int
		var first *Error
		for _, i := range items {
			e, _ := r.out.Outcomes[i].Err.(*Error)
			if e == nil {
				continue
			}
			e.previousAttempts, e.Attempts = earlier[i], r.out.Outcomes[i].Attempts
			if Retryable(e) && !(e.retryAtMostOnce() && r.tried > 1) && r.options.Retry.allows(e, r.tried) {
				left, first = append(left, i), e
			}
		}
		if len(left) == 0 {
			retries.put(r.tried > 1)
			return failure
		}
		if !retries.take(first) {
			for _, i := range left {
				r.out.Outcomes[i].Err.(*Error).addBucketEmpty()
			}
			return failure
		}
		if !r.options.Retry.wait(ctx, r.tried, time.Since(start)) {
			return failure
		}
		for _, i := range left {
			e := *r.out.Outcomes[i].Err.(*Error)
			e.previousAttempts = nil // each is on the list once
			earlier[i] = append(earlier[i], &e)
			r.out.Outcomes[i] = Outcome[Out]{}
		}
		items = left
	}
}

// connection takes the connection for a pipeline; it is nil if there is none.
func (r *batchRun[In, Out]) connection(ctx context.Context, db DB) (conn *pgx.Conn, done func(), failure *Error) {
	if r.piped == nil {
		return nil, nil, nil
	}
	if err := ctx.Err(); err != nil {
		return nil, nil, newUnsentError(ctx, err)
	}
	conn, pool, release, failure := connectionOf(ctx, db, &r.batchOf.name, r.options.ReadOnly)
	if failure != nil || pool == nil {
		return conn, release, failure
	}
	return conn, func() {
		for _, o := range r.out.Outcomes {
			if e, _ := o.Err.(*Error); e != nil && e.invalidatesConn() {
				_ = conn.Close(ctx)
				break
			}
		}
		release()
	}, nil
}

// concurrently runs items with Go bodies, as many at a time as there may be
// connections. A panic or a Goexit in one goes on in the caller's goroutine, when
// the others have ended.
func (r *batchRun[In, Out]) concurrently(ctx context.Context, db DB, items []int) *Error {
	workers := 1
	switch db := db.(type) {
	case *Pool:
		workers = int(db.Stat().MaxConns())
	case *pgxpool.Pool:
		workers = int(db.Stat().MaxConns())
	}
	var (
		mu       sync.Mutex
		next     int
		finished int
		panicked any
		died     bool
		all      sync.WaitGroup
	)
	take := func() (int, bool) {
		mu.Lock()
		defer mu.Unlock()
		if next == len(items) || died {
			return 0, false
		}
		next++
		return items[next-1], true
	}
	for range min(workers, len(items)) {
		all.Go(func() {
			lived := false
			defer func() {
				if reason := recover(); !lived {
					mu.Lock()
					defer mu.Unlock()
					if !died {
						panicked, died = reason, true
					}
				}
			}()
			for i, ok := take(); ok; i, ok = take() {
				r.attempt(ctx, db, i)
				mu.Lock()
				finished++
				r.progress(len(items) - finished)
				mu.Unlock()
			}
			lived = true
		})
	}
	all.Wait()
	switch {
	case panicked != nil:
		panic(panicked)
	case died:
		runtime.Goexit()
	}
	return nil
}

func (r *batchRun[In, Out]) statement(int) *statement { return r.piped.statement }

func (r *batchRun[In, Out]) fits(_ int, types *pgtype.Map, columns []pgconn.FieldDescription) *Error {
	return r.piped.fits(types, columns)
}

func (r *batchRun[In, Out]) bind(i int) ([]any, *Error) { return r.bindIn(r.in[i]) }

func (r *batchRun[In, Out]) limits(int) limits { return r.limit }
func (r *batchRun[In, Out]) bounded() bool     { return r.limit.bytes > 0 }

func (r *batchRun[In, Out]) read(i int, rows resultRows, l limits) *Error {
	value, e := r.readOut(rows, l)
	r.out.Outcomes[i] = Outcome[Out]{Value: value, Attempts: r.tried, Elapsed: time.Since(r.start)}
	return e
}

func (r *batchRun[In, Out]) fail(i int, e *Error) {
	attempts := r.tried
	if len(e.Problems) > 0 {
		attempts-- // it was not sent
	}
	e = r.inner.def.mapConstraint(e.prefixCommand(r.path(i)))
	e.Attempts = attempts
	r.out.Outcomes[i] = Outcome[Out]{Err: e, Attempts: attempts, Elapsed: time.Since(r.start)}
}

func (r *batchRun[In, Out]) warnOf(i int) { r.out.Outcomes[i].DurabilityWarning = true }
