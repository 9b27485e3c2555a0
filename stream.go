package pgcmd

import (
	"context"
	"iter"
	"sync/atomic"
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
		s := &stream[In, Row]{yield: yield}
		var err error
		if used.Swap(true) {
			err = refusedStream(q, "a stream was used twice: it is for one loop, so make another by pgcmd.Stream")
		} else {
			err = s.run(ctx, db, q, in)
		}
		if err != nil && !s.over {
			var none Row
			yield(none, err)
		}
	}
}

// A stream is one loop over the rows of a query.
type stream[In, Row any] struct {
	yield func(Row, error) bool
	q     *query[In, Row]
	rows  int64 // that were yielded
	over  bool  // the loop has ended, or its body is running: nothing may be yielded
	alone bool  // the transaction, if there is one, is the stream's own

	warning error // nil, or errUnreplicated
}

func refusedStream[In, Out any](c *Command[In, Out], why string) *Error {
	if c == nil {
		c = new(Command[In, Out])
	}
	return c.def.notSentError(&Error{Code: CodeInternal, Message: why})
}

// run runs the loop. Its error is for the loop to see, if that has not ended.
func (s *stream[In, Row]) run(ctx context.Context, db DB, c *Command[In, []Row], in In) error {
	if c == nil {
		return refusedStream(c, "the command is nil: pass a Query")
	}
	q, ok := c.def.query.(*query[In, Row])
	switch {
	case !ok:
		return refusedStream(c, "only a Query can be streamed, and this is not one")
	case c.def.isOnce:
		return refusedStream(c, "a Once command stores its output, and a stream has none: run it")
	case len(c.def.after) > 0:
		return refusedStream(c, "it has After hooks, which are for all the rows at once: run it, or stream it without them")
	}
	opts := c.def.opts
	opts.MaxRows, opts.MaxBytes = 0, 0
	s.q = q.with(c.def.name, &opts)
	s.q.shared = false // a shared reply is read whole
	s.alone = c.def.inTx && checkArgs(ctx, db) == nil && join(db) == nil
	looping := c.def
	looping.isStatement = true // its errors are
	_, e := looping.runObserved(ctx, db, &loop[In, Row]{typedInvocation[In, []Row]{c: c, in: in}, s})
	if e == nil {
		return nil
	}
	e.noRetry = false // for this command; one that it is part of can be tried again whole
	return e
}

// A loop is a run of the query with the loop as its body, so that a stream lives as
// every command does.
type loop[In, Row any] struct {
	typedInvocation[In, []Row]
	s *stream[In, Row]
}

func (l *loop[In, Row]) body(ctx context.Context, db DB) error { return l.s.body(ctx, db, l.in) }

// rows are those that were yielded, also of a failure.
func (l *loop[In, Row]) rows(bool) int64 { return l.s.rows }

// body is one attempt.
func (s *stream[In, Row]) body(ctx context.Context, db DB, in In) error {
	args, failure := s.q.bind(in)
	if failure == nil {
		if tx := s.q.cursorIn(db); tx != nil {
			failure = s.byCursor(ctx, tx, args)
		} else {
			failure = s.direct(ctx, db, args)
		}
	}
	if s.rows > 0 && s.alone {
		db.(*Tx).s.inputConsumed = true
	}
	if failure != nil {
		failure.noRetry = s.rows > 0
		return failure
	}
	return s.warning
}

// give yields a row, and reports whether the loop wants another.
func (s *stream[In, Row]) give(row Row) bool {
	s.rows++
	s.over = true // while the body runs: after a panic nothing may be yielded
	s.over = !s.yield(row, nil)
	return !s.over
}

// direct yields the rows as they come.
func (s *stream[In, Row]) direct(ctx context.Context, db DB, args []any) *Error {
	var r result
	failure := s.q.send(ctx, db, args, &r)
	if failure != nil {
		return failure
	}
	defer s.q.close(ctx, &r)
	fr := s.q.getRowBuffer()
	more := r.rows.Next()
	if r.rows.Err() == nil {
		failure = fr.prepare(r.rows)
	}
	var gaveUp error
	var zero Row
	for ; more && failure == nil; more = r.rows.Next() {
		if gaveUp = ctx.Err(); gaveUp != nil {
			r.rows.Close() // pgx watches the context, too: it reads no more than what has come
			break
		}
		if failure = fr.scan(r.rows); failure != nil {
			break
		}
		row := fr.current
		fr.current = zero // also if the loop breaks, or panics
		if !s.give(row) {
			s.q.putRowBuffer(fr)
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
	s.q.putRowBuffer(fr)
	s.warning = r.warning()
	return nil
}

// byCursor yields the rows that a cursor fetches, some at a time.
func (s *stream[In, Row]) byCursor(ctx context.Context, tx *Tx, args []any) *Error {
	fr := s.q.getRowBuffer()
	c := &cursor{statement: s.q.statement, tx: tx, args: args, size: firstFetch}
	defer c.close(ctx)
	for {
		clear(fr.collected)
		fr.collected = fr.collected[:0]
		more, failure := c.fetch(ctx, func(rows resultRows) (int, int, *Error) {
			size, failure := s.fill(fr, rows)
			return len(fr.collected), size, failure
		})
		for i := range fr.collected {
			if err := ctx.Err(); err != nil {
				if failure == nil {
					failure = c.abandoned(classify(ctx, err))
				}
				return failure
			}
			if !s.give(fr.collected[i]) {
				s.q.putRowBuffer(fr)
				return nil
			}
		}
		if failure != nil {
			return failure
		}
		if !more {
			s.q.putRowBuffer(fr)
			return nil
		}
	}
}

// fill reads the rows of one fetch into the frame, and tells how many bytes they had.
func (s *stream[In, Row]) fill(fr *rowBuffer[Row], rows resultRows) (size int, failure *Error) {
	more := rows.Next()
	if rows.Err() != nil {
		return 0, nil
	}
	if failure := fr.prepare(rows); failure != nil {
		return 0, failure
	}
	var zero Row
	for ; more; more = rows.Next() {
		for _, raw := range rows.RawValues() {
			size += len(raw)
		}
		if failure := fr.scan(rows); failure != nil {
			return size, failure
		}
		fr.collected = append(fr.collected, fr.current)
		fr.current = zero
	}
	return size, nil
}
