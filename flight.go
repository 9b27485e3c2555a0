package pgcmd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"sync"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/pgcmd/pgcmd/internal/pgrows"
	"github.com/pgcmd/pgcmd/internal/stmtcache"
)

// A chunk is what is sent before its replies are read: so many items, or so many
// bytes, whichever comes first. It bounds the memory of both sides.
const (
	chunkItems = 1000
	chunkBytes = 8 << 20
)

// A cargo is the items that a flight carries: those of a Batch, or the queue of a
// Pipeline. Its items are numbered; each is told once how it went.
type batchItems interface {
	statement(i int) *statement
	checkColumns(i int, types *pgtype.Map, columns []pgconn.FieldDescription) *Error
	arguments(i int) ([]any, *Error)
	limits(i int) limits
	bounded() bool                                // some have MaxBytes
	read(i int, rows resultRows, l limits) *Error // keeps the value, or returns why it cannot
	fail(i int, e *Error)                         // instead of the value, or after it was kept
	warnUnreplicated(i int)                       // that it is committed, and the synchronous standby has not got it
}

// A flight carries items over one connection in as few round trips as there are
// chunks: it sends a chunk whole, and then reads the replies.
type batchExec struct {
	ctx     context.Context
	conn    *pgx.Conn
	s       *txn // the transaction that it is part of; nil if each item has its own
	items   batchItems
	encoded *[]encodedItem
}

// A letter is an item that is ready to be sent: encoded before anything is, since
// that runs code of the user's, which may panic.
type encodedItem struct {
	item    int
	sd      *pgconn.StatementDescription
	encoded pgx.ExtendedQueryBuilder
}

var encodedItems = sync.Pool{New: func() any { return new([]encodedItem) }}

func newBatchExec(ctx context.Context, conn *pgx.Conn, s *txn, cargo batchItems) *batchExec {
	return &batchExec{ctx: ctx, conn: conn, s: s, items: cargo, encoded: encodedItems.Get().(*[]encodedItem)}
}

// release gives the flight's memory to the next one.
func (f *batchExec) release() {
	encodedItems.Put(f.encoded)
	f.encoded = nil
}

// encodeChunk encodes items until the chunk is full, and returns the letters and the items
// that are left. Those that cannot be encoded are told so and refused is called; it
// says whether to go on. An error is the whole flight's.
func (f *batchExec) encodeChunk(items []int, refused func(i int, e *Error) (goOn bool)) (chunk []encodedItem, rest []int, failure error) {
	size := 0
	known := stmtcache.OnConn(f.conn)
	defer func() { known.Held = false }()
	for n, i := range items {
		if len(chunk) == chunkItems || size >= chunkBytes {
			return chunk, items[n:], nil
		}
		if len(chunk) == len(*f.encoded) {
			*f.encoded = append(*f.encoded, encodedItem{})
		}
		l := &(*f.encoded)[len(chunk)]
		known.Held = len(chunk) > 0
		e, err := f.encode(l, i)
		if err != nil {
			return nil, items[n:], err
		}
		if e != nil {
			if !refused(i, e) {
				return nil, items[n+1:], nil
			}
			continue
		}
		for _, v := range l.encoded.ParamValues {
			size += len(v)
		}
		chunk = (*f.encoded)[:len(chunk)+1]
	}
	return chunk, nil, nil
}

// encode makes the letter of item i. e is why the item cannot be sent; err is the
// server's or the connection's.
func (f *batchExec) encode(l *encodedItem, i int) (e *Error, err error) {
	s := f.items.statement(i)
	args, e := f.items.arguments(i)
	if e != nil {
		return e, nil
	}
	doubts, e := s.checkArgs(args)
	if e != nil {
		return e, nil
	}
	known := stmtcache.OnConn(f.conn)
	cached := known.Described(s.text.SQL)
	for {
		if !cached && f.s != nil {
			// As for every statement that the server may refuse: see companion.
			if err := f.s.sendDeferred(f.ctx); err != nil {
				return nil, &describeError{i, err}
			}
		}
		sd, err := describe(f.ctx, f.conn, s.text.SQL)
		if err != nil {
			return nil, &describeError{i, err}
		}
		if len(doubts) > 0 {
			t, lost := typesOf(f.ctx, f.conn, doubts.oidOfArg(sd.ParamOIDs)...)
			if lost != nil {
				return nil, &describeError{i, lost}
			}
			if e := s.verifyArgs(t, sd.ParamOIDs, args, doubts, false); e != nil {
				err = e
			}
		}
		if err == nil {
			err = l.encoded.Build(f.conn.TypeMap(), sd, args)
		}
		if err == nil && len(sd.Fields) > 0 {
			if e := f.items.checkColumns(i, f.conn.TypeMap(), sd.Fields); e != nil {
				err = e
			}
		}
		switch {
		case err == nil:
			l.item, l.sd = i, sd
			return nil, nil
		case cached: // the schema may have changed since
			cached = false
			known.Invalidate(s.text.SQL)
			if args, e = f.items.arguments(i); e != nil {
				return e, nil
			}
			continue
		}
		if e, ok := err.(*Error); ok {
			e.Effect = NotApplied
			return e, nil
		}
		if e := s.unsendable(f.ctx, f.conn.TypeMap(), f.conn, args, err); e != nil {
			return e, nil
		}
		e, _ := s.classifyStatement(f.ctx, err)
		e.Effect = NotApplied
		return e, nil
	}
}

// describeError is an error of the server's that came while it described the
// statement of an item, before anything of the chunk was sent.
type describeError struct {
	item int
	err  error
}

func (d *describeError) Error() string { return d.err.Error() }
func (d *describeError) Unwrap() error { return d.err }

// A wave is one chunk on its way: statements that are sent together, and what is to
// be read back for them.
type exchange struct {
	f        *batchExec
	p        pipeline
	before   int64 // bytes that were sent on the connection before it
	counted  bool
	expected []expectedReply
	at       int
	skipping bool  // up to the next Sync, after an error
	lost     error // the error with which the connection went
	bound    rowBound
	bytes    int // MaxBytes of the item that is being read
}

// expectedReply is a reply that is to come.
type expectedReply struct {
	kind replyKind
	item *encodedItem // of an item
}

type replyKind int

const (
	internalReply replyKind = iota // a statement of our own, which must work
	itemReply
	commitReply
	syncReply
)

// newExchange begins a wave, which may end with COMMIT.
func (f *batchExec) newExchange(commit bool) *exchange {
	w := &exchange{f: f}
	w.before, w.counted = sentBytes(f.conn)
	if f.items.bounded() {
		w.bound = boundRows(f.conn)
	}
	if commit {
		w.p = newCommitPipeline(f.ctx, f.conn, f.s)
	} else {
		w.p = f.conn.PgConn().StartPipeline(f.ctx)
	}
	return w
}

// send queues an item.
func (w *exchange) send(l *encodedItem) {
	q := &l.encoded
	if l.sd.Name != "" {
		w.p.SendQueryStatement(l.sd, q.ParamValues, q.ParamFormats, q.ResultFormats)
	} else {
		w.p.SendQueryParams(w.f.items.statement(l.item).text.SQL, q.ParamValues, l.sd.ParamOIDs, q.ParamFormats, q.ResultFormats)
	}
	w.expected = append(w.expected, expectedReply{itemReply, l})
}

// sendInternal queues a statement of our own. Its arguments are integers.
func (w *exchange) sendInternal(what replyKind, sql string, args ...any) {
	var values [][]byte
	for _, arg := range args {
		values = append(values, strconv.AppendInt(nil, arg.(int64), 10))
	}
	w.p.SendQueryParams(sql, values, nil, nil, nil)
	w.expected = append(w.expected, expectedReply{what, nil})
}

// commit queues COMMIT, and the last Sync. It is for a wave that may end with it.
func (w *exchange) commit() {
	w.p.(*commitPipeline).sendCommit()
	w.expected = append(w.expected, expectedReply{commitReply, nil}, expectedReply{syncReply, nil})
}

func (w *exchange) sync() {
	w.p.SendPipelineSync()
	w.expected = append(w.expected, expectedReply{syncReply, nil})
}

// flush sends what was queued, and reads what comes meanwhile, so that neither side
// waits for the other.
func (w *exchange) flush() {
	if err := w.p.Flush(); err != nil {
		w.lost = err
	}
}

// next returns the next reply that the server gave, with its error if that is what
// it gave. What the server skipped, it skips. ok is false at the end, and when the
// connection is lost.
func (w *exchange) next() (x expectedReply, rows resultRows, err error, ok bool) {
	for w.lost == nil && w.at < len(w.expected) {
		x = w.expected[w.at]
		w.at++
		if w.skipping && x.kind != syncReply {
			continue
		}
		if w.bytes = 0; x.kind == itemReply {
			w.bytes = w.f.items.limits(x.item.item).bytes
		}
		w.bound.expect(w.bytes)
		result, err := w.p.GetResults()
		if err == nil && result == nil {
			err = io.ErrUnexpectedEOF
		}
		if err != nil && !w.alive(err) {
			w.lost = err
			if x.kind == commitReply {
				return x, nil, err, true
			}
			break
		}
		if x.kind == syncReply {
			if err != nil { // at the end of an implicit transaction
				if _, lost := w.p.GetResults(); lost != nil {
					w.lost = lost
					break
				}
			}
			w.skipping = false
			return x, nil, err, true
		}
		w.skipping = err != nil
		if err == nil && (x.kind == itemReply || x.kind == commitReply) {
			rows = w.rowsOf(result)
		}
		if rows == nil && err == nil && (x.kind == itemReply || x.kind == commitReply) { // out of step
			w.lost = pgrows.ErrMalformed
			_ = w.f.conn.PgConn().Conn().Close()
			break
		}
		return x, rows, err, true
	}
	return x, nil, nil, false
}

// rowsOf are the rows of a reply, or nil if it has none.
func (w *exchange) rowsOf(reply any) resultRows {
	switch reply := reply.(type) {
	case *pgconn.ResultReader:
		return pgx.RowsFromResultReader(w.f.conn.TypeMap(), reply)
	case *pipelineRows:
		return reply
	}
	return nil
}

// failed notes an error that came after the beginning of a reply.
func (w *exchange) failed(err error) {
	if w.alive(err) {
		w.skipping = true
	} else {
		w.lost = err
	}
}

func (w *exchange) alive(err error) bool {
	_, answered := errors.AsType[*pgconn.PgError](err)
	return answered && !w.f.conn.IsClosed()
}

// read reads the reply of an item, to its end. spoilt is why the client cannot use
// it, err what the server or the connection said.
func (w *exchange) read(i int, rows resultRows) (spoilt *Error, err error) {
	defer rows.Close()
	l := w.f.items.limits(i)
	l.filter = w.bound.filter
	spoilt = w.f.items.read(i, rows, l)
	rows.Close()
	if err = rows.Err(); err != nil {
		w.failed(err)
	}
	return spoilt, err
}

// unsent reports whether the wave certainly never left.
func (w *exchange) unsent() bool {
	now, _ := sentBytes(w.f.conn)
	return w.counted && now == w.before
}

// close ends the wave, reading what nobody has read; it may be called twice.
func (w *exchange) close() {
	if err := w.p.Close(); err != nil && w.lost == nil && w.f.conn.IsClosed() {
		w.lost = err
	}
	w.bound.release()
}

// The statements around each item of a healing pass. PostgreSQL lets a savepoint hide
// an outer one of the same name.
var (
	savepointStmt  = ownStatement{"pgcmd_mark", "savepoint pgcmd_item"}
	releaseStmt    = ownStatement{"pgcmd_unmark", "release savepoint pgcmd_item"}
	rollbackToStmt = ownStatement{"pgcmd_back", "rollback to savepoint pgcmd_item"}
)

type ownStatement struct{ name, sql string }

// prepareSavepoints prepares them, in the same wave, if the connection can and has
// not done so before.
func (w *exchange) prepareSavepoints() {
	d := stmtcache.OnConn(w.f.conn)
	if d.SavepointsPrepared || !cachesStatements(w.f.conn) {
		return
	}
	for _, s := range [...]ownStatement{savepointStmt, releaseStmt, rollbackToStmt} {
		w.p.SendPrepare(s.name, s.sql, nil)
		w.expected = append(w.expected, expectedReply{internalReply, nil})
	}
	d.SavepointsPrepared = true
}

func (w *exchange) savepoint(s ownStatement) {
	if !stmtcache.OnConn(w.f.conn).SavepointsPrepared {
		w.sendInternal(internalReply, s.sql)
		return
	}
	w.p.SendQueryPrepared(s.name, nil, nil, nil)
	w.expected = append(w.expected, expectedReply{internalReply, nil})
}

// savepointName makes the name of the next savepoint of a session.
func (s *txn) savepointName() string {
	s.savepoints++
	return fmt.Sprintf("pgcmd_%d", s.savepoints)
}
