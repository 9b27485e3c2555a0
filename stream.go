package pgcmd

import (
	"context"
	"iter"
	"reflect"
	"sync/atomic"

	"github.com/pgcmd/pgcmd/internal/params"
	"github.com/pgcmd/pgcmd/internal/rowscan"
	"github.com/pgcmd/pgcmd/internal/stmtcache"
	"github.com/pgcmd/pgcmd/internal/txn"
)

// Stream runs a Query row by row, in constant memory. The error, if there is one,
// comes last, with a zero Row; it is always an [*Error].
//
//	for user, err := range pgcmd.Stream(ctx, pool, listUsers, ListUsers{}) {
//		if err != nil {
//			return err
//		}
//		...
//	}
//
// The statement is sent when the loop begins, and one connection is held until it
// ends, also by break, return or panic. The sequence is for one loop: a second one
// gets an error.
//
// In a transaction (a [Tx], a pgx.Tx, a connection on which one was begun, or the
// command's own of Options.InTx) the rows are fetched some at a time, so that the loop
// may run other commands on the transaction between two rows, and may break and continue
// with it. An error of the statement aborts the transaction; it may do so some rows before
// the loop receives it.
//
// A loop that breaks costs little, however many rows are left. Outside of a transaction a
// plain query is stopped: if its connection is of a pool, it is closed; on the caller's
// connection the server is requested to cancel. A statement that writes is run to its end,
// but its rows are provisional until the loop has ended without an error, and a loop that
// breaks does not get an error that comes later: use Options.InTx where that matters.
//
// The command's hooks, middleware and options apply: hooks and middleware see the stream
// begin and end, Options.Timeout bounds the whole loop, and a failed attempt is retried
// only while no row has been yielded. MaxRows and MaxBytes do not bound a stream. A command that
// is not a [Query], that is a [Once], or that has After hooks, yields an error.
func Stream[In, Row any](ctx context.Context, db DB, q *Command[In, []Row], in In) iter.Seq2[Row, error] {
	var used atomic.Bool
	return func(yield func(Row, error) bool) {
		s := &stream{yield: func(row any) bool { return yield(*row.(*Row), nil) }}
		var err error
		if used.Swap(true) {
			err = refuseStream(q.definition(), "a stream was used twice: it is for one loop, so make another by pgcmd.Stream")
		} else {
			err = s.start(ctx, db, q.definition(), &in)
		}
		if err != nil && !s.over {
			var none Row
			yield(none, err)
		}
	}
}

// A stream is one loop over the rows of a query. It is the body of a command that is otherwise
// that of the query.
type stream struct {
	yield   func(row any) bool // of a pointer to the row
	def     *definition
	q       *query // of the attempt
	yielded int64  // rows
	over    bool   // the loop has ended, or its body is running: nothing may be yielded
	alone   bool   // the transaction, if there is one, is the stream's own

	warning error // nil, or errUnreplicated
}

func refuseStream(d *definition, why string) *Error {
	if d == nil {
		d = new(definition)
	}
	return d.notSentError(&Error{Code: CodeInternal, Message: why})
}

// start runs the loop, and returns the error to yield, if the loop has not ended. in is a
// pointer to the input.
func (s *stream) start(ctx context.Context, db DB, d *definition, in any) error {
	if d == nil {
		return refuseStream(d, "the command is nil: pass a Query")
	}
	switch {
	case d.query == nil || d.query.kind != queryAll:
		return refuseStream(d, "only a Query can be streamed, and this is not one")
	case d.isOnce:
		return refuseStream(d, "a Once command stores its output, and a stream has none: run it")
	case len(d.after) > 0:
		return refuseStream(d, "the command has After hooks, which are for all the rows at once: run it, or stream it without them")
	}
	s.def = d
	t := resolve(db)
	s.alone = d.inTx && checkCall(ctx, &t) == nil && t.join() == nil
	loop := *d
	loop.body, loop.query = s, nil
	inv := loop.newInvocation()
	inv.inValue().Set(reflect.ValueOf(in).Elem())
	_, e := loop.runObserved(ctx, db, inv)
	if e == nil {
		return nil
	}
	e.noRetry = false // the rows of this stream cannot come again, an outer command can be retried
	return e
}

// rows are those that were yielded, also by a run that fails.
func (s *stream) rows(*invocation) int64 { return s.yielded }

// run is one attempt.
func (s *stream) run(ctx context.Context, db DB, inv *invocation) error {
	args, failure := s.prepare(inv)
	if failure == nil {
		if tx := s.q.cursorIn(db); tx != nil {
			failure = s.byCursor(ctx, tx, args)
		} else {
			failure = s.byReply(ctx, db, args)
		}
	}
	if s.yielded > 0 && s.alone {
		db.(*Tx).s.inputConsumed = true
	}
	if failure != nil {
		failure.noRetry = failure.noRetry || s.yielded > 0
		return failure
	}
	return s.warning
}

// prepare makes the query of an attempt, and its arguments.
func (s *stream) prepare(inv *invocation) (args []any, failure *Error) {
	q := s.def.query
	if q.source != nil {
		if q, args, failure = q.source.resolve(q, inv); failure != nil {
			return nil, failure
		}
	}
	opts := s.def.opts
	opts.MaxRows, opts.MaxBytes, opts.most = 0, 0, limits{}
	s.q = q.withStatement(q.statement.withChecked(&opts))
	s.q.shared = false // a shared reply is read whole
	if args != nil {
		return args, nil
	}
	return s.q.arguments(inv)
}

// give yields the row that row points to, and reports whether the loop goes on.
func (s *stream) give(row any) bool {
	s.yielded++
	s.over = true // while the body runs: after a panic nothing may be yielded
	s.over = !s.yield(row)
	return !s.over
}

// byReply yields the rows of one reply, as they are received.
func (s *stream) byReply(ctx context.Context, db DB, args []any) *Error {
	r, failure := s.q.send(ctx, db, args)
	if failure != nil {
		return failure
	}
	defer s.q.close(ctx, r)
	b := s.q.rowType.Buffer()
	more := r.rows.Next()
	if r.rows.Err() == nil {
		if err := b.Prepare(r.rows); err != nil {
			failure = fromScan(err)
		}
	}
	var gaveUp error
	for ; more && failure == nil; more = r.rows.Next() {
		if gaveUp = ctx.Err(); gaveUp != nil {
			r.rows.Close() // pgx watches the context too, so this does not wait
			break
		}
		if err := b.ScanRow(r.rows); err != nil {
			failure = fromScan(err)
			break
		}
		goOn := s.give(b.RowPointer())
		b.ClearRow()
		if !goOn {
			b.Free()
			return nil
		}
	}
	if err := r.rows.Err(); err != nil && failure == nil {
		return s.q.statementError(ctx, r, err)
	}
	if failure == nil && gaveUp != nil {
		failure = classify(ctx, gaveUp)
	}
	if failure != nil {
		return s.q.resultError(ctx, r, failure)
	}
	b.Free()
	s.warning = r.warning()
	return nil
}

// byCursor yields the rows that a cursor fetches, some at a time.
func (s *stream) byCursor(ctx context.Context, tx *Tx, args []any) *Error {
	b := s.q.rowType.Buffer()
	b.SetChunk(txn.MaxFetch) // all rows of a fetch are in one chunk
	c := &cursor{statement: s.q.statement, tx: tx, args: args}
	defer func() {
		if c.open != nil {
			c.open.Close(ctx)
		}
	}()
	for {
		b.Reset()
		more, failure := c.fetch(ctx, func(rows rowscan.Rows) (int, int, *Error) {
			size, failure := s.fill(b, rows)
			return b.Len(), size, failure
		})
		for i := range b.Len() {
			if err := ctx.Err(); err != nil {
				if failure == nil {
					failure = c.abandoned(classify(ctx, err))
				}
				return failure
			}
			if !s.give(b.At(i)) {
				b.Free()
				return nil
			}
		}
		if failure != nil {
			return failure
		}
		if !more {
			b.Free()
			return nil
		}
	}
}

// fill reads the rows of one fetch into b, and returns how many bytes they had.
func (s *stream) fill(b *rowscan.Buffer, rows rowscan.Rows) (size int, failure *Error) {
	more := rows.Next()
	if rows.Err() != nil {
		return 0, nil
	}
	if err := b.Prepare(rows); err != nil {
		return 0, fromScan(err)
	}
	for ; more; more = rows.Next() {
		for _, raw := range rows.RawValues() {
			size += len(raw)
		}
		if err := b.ScanNext(rows); err != nil {
			return size, fromScan(err) // the rows before it are yielded
		}
	}
	return size, nil
}

// A cursor reads the rows of a statement in a transaction, some at a time, so that other
// statements can run in between.
type cursor struct {
	*statement
	tx      *Tx
	args    []any
	encoded params.Encoder
	open    *txn.Cursor // nil before the first fetch
}

// cursorIn returns the Tx in which a cursor can read the statement, or nil.
func (s *statement) cursorIn(db DB) *Tx {
	t := resolve(db)
	if tx := t.join(); tx != nil && tx.s.Conn != nil && !s.text.Ends {
		return tx
	}
	return nil
}

// fetch calls read with the next rows, and reports whether there may be more. read returns
// their number, their size in bytes, and an error if the client cannot read them.
func (c *cursor) fetch(ctx context.Context, read func(rows rowscan.Rows) (got, size int, failure *Error)) (more bool, failure *Error) {
	if failure := c.lockTx(ctx); failure != nil {
		return false, failure
	}
	s := c.tx.s
	unlocked := false
	defer func() {
		if !unlocked { // user code panicked while it encoded or scanned
			_ = s.UnlockWith(nil)
		}
	}()
	var unreadable *Error
	err := s.Idle()
	if err == nil && c.open == nil {
		s.Inspect(&c.text)
		err = c.create(ctx)
	}
	if err == nil {
		more, err = c.open.Fetch(ctx, func(rows rowscan.Rows) (got, size int) {
			got, size, unreadable = read(rows)
			return got, size
		})
	}
	unlocked = true
	if err = s.UnlockWith(err); err != nil {
		return false, c.statementError(ctx, &result{heldTx: s, inTx: s, described: true, joined: true}, err).after(unreadable)
	}
	if unreadable != nil {
		return false, c.abandoned(unreadable)
	}
	return more, nil
}

// lockTx locks the transaction for a fetch.
func (c *cursor) lockTx(ctx context.Context) *Error {
	err := c.tx.level.Lock(ctx)
	switch {
	case err == nil:
		return nil
	case c.open == nil:
		return newUnsentError(ctx, err)
	}
	return c.abandoned(classify(ctx, err))
}

// abandoned sets the Effect of an error that ends the reading in a transaction that goes on.
func (c *cursor) abandoned(e *Error) *Error {
	e.Effect = Unknown // the end of the transaction decides it
	if c.reads {
		e.Effect = NotApplied
	}
	return e
}

// create makes the cursor, with encoded arguments. It sends nothing but what it takes to describe
// the statement.
func (c *cursor) create(ctx context.Context) error {
	s := c.tx.s
	known := stmtcache.OnConn(s.Conn)
	unverified, refused := c.checks.Check(c.args)
	if refused != nil {
		return c.argError(refused)
	}
	for cached := known.Described(c.text.SQL); ; cached = false {
		sd, refused, err := c.encode(ctx, s.Conn, s, c.args, unverified, cached, &c.encoded)
		switch {
		case err != nil:
			return err
		case refused == nil:
			c.open = s.NewCursor(c.text.SQL, sd, &c.encoded)
			return nil
		case !cached:
			return refused
		}
		known.Invalidate(c.text.SQL) // the schema may have changed since
	}
}
