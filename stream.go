package pgcmd

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgconn/ctxwatch"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/pgcmd/pgcmd/internal/pgrows"
	"github.com/pgcmd/pgcmd/internal/rowscan"
	"github.com/pgcmd/pgcmd/internal/stmtcache"
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
	e.noRetry = false // the rows of this stream cannot come again, an outer command can be retried
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

// give yields the row that row points to, and reports whether the loop goes on.
func (s *stream) give(row any) bool {
	s.yielded++
	s.over = true // while the body runs: after a panic nothing may be yielded
	s.over = !s.yield(row)
	return !s.over
}

// direct yields the rows as they are received.
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

// A cursor reads the rows of a statement in a transaction, some at a time, so that other
// statements can run in between. It is a portal of the protocol instead of DECLARE and
// FETCH: these collect the rows on the server before they send one, are planned for a few
// rows, and cannot be used for INSERT ... RETURNING.
type cursor struct {
	*statement
	tx      *Tx
	args    []any
	sd      *pgconn.StatementDescription
	encoded pgx.ExtendedQueryBuilder
	size    int         // how many rows the next fetch asks for
	portal  *openCursor // nil before the first fetch
	watcher *ctxwatch.ContextWatcher
	columns []pgconn.FieldDescription
}

// The rows of a fetch are in memory together: firstFetch rows at first, then four times as
// many each time, up to fetchRows rows or fetchBytes bytes. More would hardly be faster, even
// if a round trip is long.
const (
	firstFetch = 128
	fetchRows  = 32_768
	fetchBytes = 4 << 20
)

// cursorIn returns the Tx in which a cursor can read the statement, or nil.
func (s *statement) cursorIn(db DB) *Tx {
	t := resolve(db)
	if tx := t.join(); tx != nil && tx.s.conn != nil && !s.text.Ends {
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
			_ = s.unlockWith(nil)
		}
	}()
	var got, size int
	var unreadable *Error
	more, err := c.fetchRoundTrip(ctx, func(rows rowscan.Rows) { got, size, unreadable = read(rows) })
	unlocked = true
	if err = s.unlockWith(err); err != nil {
		return false, c.statementError(ctx, &result{heldTx: s, inTx: s, described: true, joined: true}, err).after(unreadable)
	}
	if unreadable != nil {
		return false, c.abandoned(unreadable)
	}
	c.size = min(4*c.size, fetchRows)
	if size > 0 {
		c.size = max(1, min(c.size, fetchBytes/(size/got+1)))
	}
	return more, nil
}

// lockTx locks the transaction for a fetch.
func (c *cursor) lockTx(ctx context.Context) *Error {
	err := c.tx.lock(ctx)
	switch {
	case err == nil:
		return nil
	case c.portal == nil:
		return newUnsentError(ctx, err)
	}
	return c.abandoned(classify(ctx, err))
}

// externalEnded returns the error of a pgx.Tx that has ended: its connection may be in use for
// something else. It sends nothing.
func (s *txn) externalEnded(ctx context.Context) error {
	if tx, ok := s.db.(pgx.Tx); ok && s.external {
		return tx.SendBatch(ctx, new(pgx.Batch)).Close()
	}
	return nil
}

// abandoned sets the Effect of an error that ends the reading in a transaction that goes on.
func (c *cursor) abandoned(e *Error) *Error {
	e.Effect = Unknown // the end of the transaction decides it
	if c.readOnly {
		e.Effect = NotApplied
	}
	return e
}

// fetchRoundTrip requests the next rows, after the deferred statements and in one message with
// them, and reads the replies.
func (c *cursor) fetchRoundTrip(ctx context.Context, read func(rows rowscan.Rows)) (more bool, err error) {
	s := c.tx.s
	if s.conn.PgConn().IsBusy() {
		return false, errors.New("conn busy")
	}
	opening := c.portal == nil
	if opening {
		s.inspectStatement(c.statement)
		if err := c.encode(ctx); err != nil {
			return false, err
		}
		c.portal = s.newCursor()
	}
	pg := s.conn.PgConn()
	rows := pgrows.NewPortal(pg, s.conn.TypeMap(), &c.columns, len(s.deferred))
	to := pg.Frontend()
	for _, q := range s.deferred {
		sendInternal(to, q)
	}
	s.deferred = nil
	if opening {
		c.open(to)
	}
	to.SendExecute(&pgproto3.Execute{Portal: c.portal.name, MaxRows: uint32(c.size)})
	to.SendSync(&pgproto3.Sync{})
	c.watch(ctx)
	func() {
		defer func() { // also if user code that scans panics
			rows.Close()
			c.watcher.Unwatch()
			err = rows.Finish(ctx)
		}()
		if rows.Flush() == nil {
			read(rows)
		}
	}()
	if opening {
		stmtcache.OnConn(s.conn).InvalidateAfter(c.text.SQL, err)
	}
	s.beginSent = s.beginSent || err == nil || s.status() != 'I'
	return rows.More(), err
}

// open queues the messages that make the portal.
func (c *cursor) open(to *pgproto3.Frontend) {
	if c.sd.Name == "" {
		to.SendParse(&pgproto3.Parse{Query: c.text.SQL, ParameterOIDs: c.sd.ParamOIDs})
	}
	to.SendBind(&pgproto3.Bind{
		DestinationPortal: c.portal.name, PreparedStatement: c.sd.Name,
		Parameters: c.encoded.ParamValues, ParameterFormatCodes: c.encoded.ParamFormats,
		ResultFormatCodes: c.encoded.ResultFormats,
	})
	to.SendDescribe(&pgproto3.Describe{ObjectType: 'P', Name: c.portal.name})
}

// sendInternal queues a statement of pgcmd. Its arguments are integers.
func sendInternal(to *pgproto3.Frontend, q deferredStmt) {
	var values [][]byte
	for _, arg := range q.args {
		values = append(values, strconv.AppendInt(nil, arg.(int64), 10))
	}
	to.SendParse(&pgproto3.Parse{Query: q.sql})
	to.SendBind(&pgproto3.Bind{Parameters: values})
	to.SendExecute(&pgproto3.Execute{})
}

// watch makes the end of the context interrupt the round trip, by the connection's
// ContextWatcherHandler.
func (c *cursor) watch(ctx context.Context) {
	if c.watcher == nil {
		handler := ctxwatch.Handler(&pgconn.DeadlineContextWatcherHandler{Conn: c.tx.s.conn.PgConn().Conn()})
		if ctx.Done() != nil {
			if build := c.tx.s.conn.Config().BuildContextWatcherHandler; build != nil {
				handler = build(c.tx.s.conn.PgConn())
			}
		}
		c.watcher = ctxwatch.NewContextWatcher(handler)
	}
	c.watcher.Watch(ctx)
}

// encode encodes the arguments before anything is sent, since that may run user code.
func (c *cursor) encode(ctx context.Context) error {
	s := c.tx.s
	known := stmtcache.OnConn(s.conn)
	unverified, refused := c.checks.Check(c.args)
	if refused != nil {
		return c.argError(refused)
	}
	for cached := known.Described(c.text.SQL); ; cached = false {
		if !cached {
			// If the server refuses the statement, that must not abort the transaction
			// before the deferred savepoint is made.
			if err := s.sendDeferred(ctx); err != nil {
				return err
			}
		}
		sd, err := stmtcache.Describe(ctx, s.conn, c.text.SQL)
		if err != nil {
			return err
		}
		c.sd = sd
		refused, err := unverified.Verify(ctx, s.conn, sd.ParamOIDs, c.args)
		if err != nil {
			return err
		}
		if refused != nil && !cached {
			return c.argError(refused)
		} else if refused != nil {
			known.Invalidate(c.text.SQL) // the schema may have changed since
			continue
		}
		err = c.encoded.Build(s.conn.TypeMap(), sd, c.args)
		if err == nil {
			return nil
		}
		if !cached {
			if refused := c.unsendable(ctx, s.conn, c.args, err); refused != nil {
				return refused
			}
			return err
		}
		known.Invalidate(c.text.SQL) // the schema may have changed since
	}
}

// An openCursor is a cursor that is open in a transaction.
type openCursor struct {
	name        string
	after       int  // the number of savepoints that were made before it
	rolledBack  bool // with its savepoint
	maybeClosed bool // SQL of the body may have closed it
}

// newCursor adds a cursor, with a name that no cursor on the connection has had.
func (s *txn) newCursor() *openCursor {
	p := &openCursor{name: fmt.Sprintf("pgcmd_cursor_%d", stmtcache.OnConn(s.conn).NextID()), after: s.savepoints, maybeClosed: s.external}
	s.cursors = append(s.cursors, p)
	return p
}

// cursorsRolledBack marks the cursors that a rollback to a savepoint closes.
func (s *txn) cursorsRolledBack(savepoint int) {
	for _, p := range s.cursors {
		p.rolledBack = p.rolledBack || p.after >= savepoint
	}
}

// invalidateCursors marks the cursors if SQL of the body, in lower case, may close them.
func (s *txn) invalidateCursors(sql string) {
	if len(s.cursors) > 0 && (strings.Contains(sql, "rollback") || strings.Contains(sql, "close")) {
		for _, p := range s.cursors {
			p.maybeClosed = true
		}
	}
}

// close defers a CLOSE of the cursor. If the cursor may be closed already, CLOSE could fail and
// abort the transaction: then it sends the protocol's Close at once.
func (c *cursor) close(ctx context.Context) {
	s := c.tx.s
	if c.portal == nil {
		return
	}
	s.cursors = slices.DeleteFunc(s.cursors, func(p *openCursor) bool { return p == c.portal })
	switch {
	case c.portal.rolledBack || s.closed.Load() || s.externalEnded(ctx) != nil || s.status() != 'T':
	case c.portal.maybeClosed:
		s.closeCursor(c.portal.name)
	default:
		s.deferred = append(s.deferred, deferredStmt{sql: "close " + c.portal.name, closesCursor: true})
	}
}

// closeCursor closes a cursor by a message of the protocol, which is no error if the cursor
// does not exist.
func (s *txn) closeCursor(name string) {
	_ = s.exchange(func(to *pgproto3.Frontend) { to.SendClose(&pgproto3.Close{ObjectType: 'P', Name: name}) })
}
