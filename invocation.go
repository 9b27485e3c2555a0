package pgcmd

import (
	"context"
	"reflect"
	"time"
)

// An invocation is one run of a command. On the fast path its memory is used again.
type invocation struct {
	def          *definition // of the fast path, which takes it back; nil for others
	in, out      any         // an *In and an *Out
	inValue      reflect.Value
	outValue     reflect.Value
	fields       []any    // of the fast path: pointers to the fields of in that are arguments
	result       result   // of the statement
	args         []any    // of a statement without fields: an AdHoc
	refused      []*Error // of a batch, by the number of the item; nil if none was
	unreplicated bool     // what it did is committed, and the synchronous standby has not got it
}

// invocationFor returns memory for a run on db: one that is used again if no user code can
// keep it, and the run is not on another goroutine.
func (d *definition) invocationFor(db DB) *invocation {
	pool, _ := db.(*Pool)
	if !d.fastPath || pool != nil && len(pool.config.Middleware) > 0 {
		return d.newInvocation()
	}
	inv, _ := d.invocations.Get().(*invocation)
	if inv == nil {
		inv = d.newInvocation()
		if d.query != nil {
			inv.fields = d.query.argumentPointers(inv.inValue)
		}
	}
	inv.def = d
	return inv
}

// tryInvocationFor is invocationFor for Try, which isolates a run in a transaction.
func (d *definition) tryInvocationFor(db DB) *invocation {
	if inTransaction(db) {
		return d.newInvocation()
	}
	return d.invocationFor(db)
}

func (d *definition) newInvocation() *invocation {
	in, out := reflect.New(d.in), reflect.New(d.out)
	return &invocation{in: in.Interface(), out: out.Interface(), inValue: in.Elem(), outValue: out.Elem()}
}

// free gives the memory to a later run, without what it held. After a panic it is not
// called, and the memory is garbage.
func (inv *invocation) free() {
	d := inv.def
	if d == nil {
		return
	}
	inv.def = nil
	inv.inValue.SetZero()
	inv.outValue.SetZero()
	inv.result = result{}
	d.invocations.Put(inv)
}

// run runs the command on any DB, and leaves its output in inv.
func (d *definition) run(ctx context.Context, db DB, inv *invocation) error {
	if inv.def == nil {
		if _, e := d.runObserved(ctx, db, inv); e != nil {
			return e
		}
		return nil
	}
	if pool, _ := db.(*Pool); pool != nil {
		return d.runOnPool(ctx, pool, inv)
	}
	if failure := d.precheck(ctx, db, inv); failure != nil {
		return failure
	}
	var err error
	if d.query != nil {
		err = d.query.run(ctx, db, inv)
	} else {
		err = d.body.run(ctx, db, inv)
	}
	switch {
	case err == nil:
		return nil
	case err == errUnreplicated:
		inv.unreplicated = true
		return nil
	}
	return d.bodyError(ctx, err)
}

// runOnPool is the fast path on a pool that counts.
func (d *definition) runOnPool(ctx context.Context, pool *Pool, inv *invocation) error {
	s := pool.startObservation(d)
	var failure *Error
	defer s.finish(&failure)
	if failure = d.precheck(ctx, pool, inv); failure != nil {
		return failure
	}
	err := d.body.run(ctx, pool, inv)
	if err == errUnreplicated {
		s.unreplicated, inv.unreplicated = true, true
	} else if err != nil {
		failure = d.bodyError(ctx, err)
		s.attempts = failure.Attempts
		return failure
	}
	s.attempts, s.rows = 1, d.body.rows(inv)
	return nil
}

// precheck returns why a run on the fast path cannot begin. What is checked is a copy,
// since user code may keep it.
func (d *definition) precheck(ctx context.Context, db DB, inv *invocation) *Error {
	t := resolve(db)
	e := checkArgs(ctx, &t)
	if e == nil && d.validation != nil {
		e = d.check(inv)
	}
	if e != nil {
		return d.notSentError(e)
	}
	return nil
}

// check validates a copy of the input.
func (d *definition) check(inv *invocation) *Error {
	if !d.validation.method {
		return d.validation.validate(inv.inValue.Interface())
	}
	in := reflect.New(d.in)
	in.Elem().Set(inv.inValue)
	return d.validation.validate(in.Interface())
}

// A runOutcome is an [Outcome] without its value.
type runOutcome struct {
	err          error // nil, or an *Error
	attempts     int
	elapsed      time.Duration
	replayed     bool
	unreplicated bool
}

// epoch is where the clock of Try begins: how long ago it was costs less to compute than
// time.Now, which reads the time of day as well.
var epoch = time.Now()

// try runs the command and tells how it went. In a transaction it runs under a savepoint.
func (d *definition) try(ctx context.Context, db DB, inv *invocation) runOutcome {
	start := time.Since(epoch)
	o := runOutcome{attempts: 1}
	if inv.def != nil {
		o.err = d.run(ctx, db, inv)
		o.unreplicated = inv.unreplicated
	} else {
		run := d.runObserved
		if inTransaction(db) {
			run = d.runInSavepoint
		}
		call, failure := run(ctx, db, inv)
		o.attempts, o.replayed, o.unreplicated = call.Attempts, call.replayed, call.unreplicated
		if failure != nil {
			o.err = failure
		}
	}
	if e, ok := o.err.(*Error); ok {
		o.attempts = e.Attempts
	}
	o.elapsed = time.Since(epoch) - start
	return o
}
