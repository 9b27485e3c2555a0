package pgcmd

import (
	"context"
	"reflect"
	"time"

	"github.com/jackc/pgx/v5"
)

// An invocation is one run of a command. On the fast path its memory is used again.
type invocation struct {
	def          *definition // of the fast path, which takes it back; nil for others
	in, out      any         // an *In and an *Out
	inValue      reflect.Value
	outValue     reflect.Value
	fields       []any           // of the fast path: pointers to the fields of in that are arguments
	ctx          context.Context // of the fast path, to close the result with
	result       result          // of the statement
	args         []any           // of a statement without fields: an AdHoc
	refused      []*Error        // of a batch, by the number of the item; nil if none was
	unreplicated bool            // what it did is committed, and the synchronous standby has not got it
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
			inv.fields = d.query.binding.Pointers(inv.inValue)
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
	inv.def, inv.ctx, inv.args, inv.unreplicated = nil, nil, nil, false
	inv.inValue.SetZero()
	inv.outValue.SetZero()
	inv.result = result{}
	d.invocations.Put(inv)
}

// run runs the command on any DB, and leaves its output in inv.
//
// The fast path of a statement calls pgx's Query from here, with as little as possible on
// the stack: what pgx needs makes the stack of a new goroutine grow.
func (d *definition) run(ctx context.Context, db DB, inv *invocation) error {
	if d.query == nil || inv.def == nil || isOwnPool(db) {
		return d.runOther(ctx, db, inv)
	}
	if failure := d.beginQuery(ctx, db, inv); failure != nil {
		return failure
	}
	defer inv.closeResult()
	if inv.result.direct == nil {
		return d.readReply(ctx, inv)
	}
	rows, err := inv.result.direct.Query(ctx, d.query.text.SQL, inv.args...)
	return d.readQuery(ctx, inv, rows, err)
}

func isOwnPool(db DB) bool {
	pool, _ := db.(*Pool)
	return pool != nil
}

// runOther is run for what is not a statement on the fast path of a DB of pgx's.
func (d *definition) runOther(ctx context.Context, db DB, inv *invocation) error {
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
	return d.ended(ctx, inv, d.body.run(ctx, db, inv))
}

func (d *definition) beginQuery(ctx context.Context, db DB, inv *invocation) *Error {
	if failure := d.precheck(ctx, db, inv); failure != nil {
		return failure
	}
	if failure := d.query.begin(ctx, db, inv); failure != nil {
		return d.bodyError(ctx, failure)
	}
	inv.ctx = ctx
	return nil
}

func (d *definition) readReply(ctx context.Context, inv *invocation) error {
	return d.ended(ctx, inv, d.query.readReply(ctx, inv, &inv.result))
}

func (d *definition) readQuery(ctx context.Context, inv *invocation, rows pgx.Rows, err error) error {
	return d.ended(ctx, inv, d.query.readQuery(ctx, inv, rows, err))
}

func (inv *invocation) closeResult() { inv.def.query.close(inv.ctx, &inv.result) }

// ended makes the error of a run on the fast path of what its body returned.
func (d *definition) ended(ctx context.Context, inv *invocation, err error) error {
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
	if !d.validation.HasMethod {
		return validateInput(d.validation, inv.inValue.Interface())
	}
	in := reflect.New(d.in)
	in.Elem().Set(inv.inValue)
	return validateInput(d.validation, in.Interface())
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
