package pgcmd

import (
	"context"
	"iter"
	"reflect"
	"sync/atomic"

	"github.com/pgcmd/pgcmd/internal/rowscan"
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
// may run other commands on the transaction between two rows, and may break and go on
// with it. An error of the statement aborts the transaction, as ever; it may do so
// some rows before the loop comes to it.
//
// A loop that breaks costs little, whatever is left. Outside of a transaction a plain
// query is broken off, at the price of its connection if that is a pool's; on the
// caller's own the server is asked to stop. A statement that writes is run to its end
// even so, but its rows are provisional until the loop has ended without an error, and
// a loop that breaks is not told of one: use Options.InTx where that matters.
//
// All that the command was given applies: the hooks and the middleware see the stream
// begin and end, Options.Timeout bounds the whole loop, and a failure is tried again
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

// A stream is one loop over the rows of a query: the body of a command that is otherwise
// the query's.
type stream struct {
	yield   func(row any) bool // of a pointer to the row
	q       *query
	yielded int64 // rows
	over    bool  // the loop has ended, or its body is running: nothing may be yielded
	alone   bool  // the transaction, if there is one, is the stream's own

	warning error // nil, or errUnreplicated
}

func refuseStream(d *definition, why string) *Error {
	if d == nil {
		d = new(definition)
	}
	return d.notSentError(&Error{Code: CodeInternal, Message: why})
}

// start runs the loop. Its error is for the loop to see, if that has not ended. in is a
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
		return refuseStream(d, "it has After hooks, which are for all the rows at once: run it, or stream it without them")
	}
	opts := d.opts
	opts.MaxRows, opts.MaxBytes = 0, 0
	s.q = d.query.with(d.name, &opts)
	s.q.shared = false // a shared reply is read whole
	t := resolve(db)
	s.alone = d.inTx && checkArgs(ctx, &t) == nil && t.join() == nil
	loop := *d
	loop.body, loop.query = s, nil
	inv := loop.newInvocation()
	inv.inValue.Set(reflect.ValueOf(in).Elem())
	_, e := loop.runObserved(ctx, db, inv)
	if e == nil {
		return nil
	}
	e.noRetry = false // for this command; one that it is part of can be tried again whole
	return e
}

// rows are those that were yielded, also by a run that fails.
func (s *stream) rows(*invocation) int64 { return s.yielded }

// run is one attempt.
func (s *stream) run(ctx context.Context, db DB, inv *invocation) error {
	args, failure := s.q.arguments(inv)
	if failure == nil {
		if tx := s.q.cursorIn(db); tx != nil {
			failure = s.byCursor(ctx, tx, args)
		} else {
			failure = s.direct(ctx, db, args)
		}
	}
	if s.yielded > 0 && s.alone {
		db.(*Tx).s.inputConsumed = true
	}
	if failure != nil {
		failure.noRetry = s.yielded > 0
		return failure
	}
	return s.warning
}

// give yields the row that row points to, and reports whether the loop wants another.
func (s *stream) give(row any) bool {
	s.yielded++
	s.over = true // while the body runs: after a panic nothing may be yielded
	s.over = !s.yield(row)
	return !s.over
}

// direct yields the rows as they come.
func (s *stream) direct(ctx context.Context, db DB, args []any) *Error {
	var r result
	failure := s.q.send(ctx, db, args, &r)
	if failure != nil {
		return failure
	}
	defer s.q.close(ctx, &r)
	b := s.q.getRowBuffer()
	more := r.rows.Next()
	if r.rows.Err() == nil {
		if err := b.Prepare(r.rows); err != nil {
			failure = fromScan(err)
		}
	}
	var gaveUp error
	for ; more && failure == nil; more = r.rows.Next() {
		if gaveUp = ctx.Err(); gaveUp != nil {
			r.rows.Close() // pgx watches the context, too: it reads no more than what has come
			break
		}
		if err := b.ScanRow(r.rows); err != nil {
			failure = fromScan(err)
			break
		}
		goOn := s.give(b.RowPointer())
		b.ClearRow()
		if !goOn {
			s.q.putRowBuffer(b)
			return nil
		}
	}
	if err := r.rows.Err(); err != nil && failure == nil {
		return s.q.statementError(ctx, &r, err)
	}
	if failure == nil && gaveUp != nil {
		failure = classify(ctx, gaveUp)
	}
	if failure != nil {
		return s.q.resultError(ctx, &r, failure)
	}
	s.q.putRowBuffer(b)
	s.warning = r.warning()
	return nil
}

// byCursor yields the rows that a cursor fetches, some at a time.
func (s *stream) byCursor(ctx context.Context, tx *Tx, args []any) *Error {
	b := s.q.getRowBuffer()
	b.SetChunk(fetchRows) // all rows of a fetch are in one chunk
	c := &cursor{statement: s.q.statement, tx: tx, args: args, size: firstFetch}
	defer c.close(ctx)
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
				s.q.putRowBuffer(b)
				return nil
			}
		}
		if failure != nil {
			return failure
		}
		if !more {
			s.q.putRowBuffer(b)
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
