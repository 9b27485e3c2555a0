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
)

// A chunk is what is sent before its replies are read: so many items, or so many
// bytes, whichever comes first. It bounds the memory of both sides.
const (
	chunkItems = 1000
	chunkBytes = 8 << 20
)

// A cargo is the items that a flight carries: those of a Batch, or the queue of a
// Pipeline. Its items are numbered; each is told once how it went.
type cargo interface {
	statement(i int) *statement
	fits(i int, types *pgtype.Map, columns []pgconn.FieldDescription) *Error
	bind(i int) ([]any, *Error)
	limits(i int) limits
	bounded() bool                                // some have MaxBytes
	read(i int, rows resultRows, l limits) *Error // keeps the value, or returns why it cannot
	fail(i int, e *Error)                         // instead of the value, or after it was kept
	warnOf(i int)                                 // that it is committed, and the synchronous standby has not got it
}

// A flight carries items over one connection in as few round trips as there are
// chunks: it sends a chunk whole, and then reads the replies.
type flight struct {
	ctx     context.Context
	conn    *pgx.Conn
	s       *session // the transaction that it is part of; nil if each item has its own
	cargo   cargo
	letters *[]letter
}

// A letter is an item that is ready to be sent: encoded before anything is, since
// that runs code of the user's, which may panic.
type letter struct {
	item    int
	sd      *pgconn.StatementDescription
	encoded pgx.ExtendedQueryBuilder
}

var letters = sync.Pool{New: func() any { return new([]letter) }}

func newFlight(ctx context.Context, conn *pgx.Conn, s *session, cargo cargo) *flight {
	return &flight{ctx: ctx, conn: conn, s: s, cargo: cargo, letters: letters.Get().(*[]letter)}
}

// land gives the flight's memory to the next one.
func (f *flight) land() {
	letters.Put(f.letters)
	f.letters = nil
}

// load encodes items until the chunk is full, and returns the letters and the items
// that are left. Those that cannot be encoded are told so and refused is called; it
// says whether to go on. An error is the whole flight's.
func (f *flight) load(items []int, refused func(i int, e *Error) (goOn bool)) (chunk []letter, rest []int, failure error) {
	size := 0
	known := descriptionsOf(f.conn)
	defer func() { known.held = false }()
	for n, i := range items {
		if len(chunk) == chunkItems || size >= chunkBytes {
			return chunk, items[n:], nil
		}
		if len(chunk) == len(*f.letters) {
			*f.letters = append(*f.letters, letter{})
		}
		l := &(*f.letters)[len(chunk)]
		known.held = len(chunk) > 0
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
		chunk = (*f.letters)[:len(chunk)+1]
	}
	return chunk, nil, nil
}

// encode makes the letter of item i. e is why the item cannot be sent; err is the
// server's or the connection's.
func (f *flight) encode(l *letter, i int) (e *Error, err error) {
	s := f.cargo.statement(i)
	args, e := f.cargo.bind(i)
	if e != nil {
		return e, nil
	}
	doubts, e := s.inspect(args)
	if e != nil {
		return e, nil
	}
	known := descriptionsOf(f.conn)
	_, cached := known.known[s.text.SQL]
	for {
		if !cached && f.s != nil {
			// As for every statement that the server may refuse: see companion.
			if err := f.s.flush(f.ctx); err != nil {
				return nil, &describing{i, err}
			}
		}
		sd, err := describe(f.ctx, f.conn, s.text.SQL)
		if err != nil {
			return nil, &describing{i, err}
		}
		if len(doubts) > 0 {
			t, lost := typesOf(f.ctx, f.conn, doubts.of(sd.ParamOIDs)...)
			if lost != nil {
				return nil, &describing{i, lost}
			}
			if e := s.settleDoubts(t, sd.ParamOIDs, args, doubts, false); e != nil {
				err = e
			}
		}
		if err == nil {
			err = l.encoded.Build(f.conn.TypeMap(), sd, args)
		}
		if err == nil && len(sd.Fields) > 0 {
			if e := f.cargo.fits(i, f.conn.TypeMap(), sd.Fields); e != nil {
				err = e
			}
		}
		switch {
		case err == nil:
			l.item, l.sd = i, sd
			return nil, nil
		case cached: // the schema may have changed since
			cached = false
			known.forget(s.text.SQL)
			if args, e = f.cargo.bind(i); e != nil {
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
		e, _ := s.explain(f.ctx, err)
		e.Effect = NotApplied
		return e, nil
	}
}

// describing is an error of the server's that came while it described the
// statement of an item, before anything of the chunk was sent.
type describing struct {
	item int
	err  error
}

func (d *describing) Error() string { return d.err.Error() }
func (d *describing) Unwrap() error { return d.err }

// A wave is one chunk on its way: statements that are sent together, and what is to
// be read back for them.
type wave struct {
	f        *flight
	p        pipeline
	before   int64 // bytes that were sent on the connection before it
	counted  bool
	expected []expected
	at       int
	skipping bool  // up to the next Sync, after an error
	lost     error // the error with which the connection went
	bound    rowBound
	bytes    int // MaxBytes of the item that is being read
}

// expected is a reply that is to come.
type expected struct {
	what what
	item *letter // of an item
}

type what int

const (
	forNothing what = iota // a statement of our own, which must work
	forItem
	forCommit
	forSync
)

// wave begins a wave, which may end with COMMIT.
func (f *flight) wave(commit bool) *wave {
	w := &wave{f: f}
	w.before, w.counted = sentBytes(f.conn)
	if f.cargo.bounded() {
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
func (w *wave) send(l *letter) {
	q := &l.encoded
	if l.sd.Name != "" {
		w.p.SendQueryStatement(l.sd, q.ParamValues, q.ParamFormats, q.ResultFormats)
	} else {
		w.p.SendQueryParams(w.f.cargo.statement(l.item).text.SQL, q.ParamValues, l.sd.ParamOIDs, q.ParamFormats, q.ResultFormats)
	}
	w.expected = append(w.expected, expected{forItem, l})
}

// own queues a statement of our own. Its arguments are integers.
func (w *wave) own(what what, sql string, args ...any) {
	var values [][]byte
	for _, arg := range args {
		values = append(values, strconv.AppendInt(nil, arg.(int64), 10))
	}
	w.p.SendQueryParams(sql, values, nil, nil, nil)
	w.expected = append(w.expected, expected{what, nil})
}

// commit queues COMMIT, and the last Sync. It is for a wave that may end with it.
func (w *wave) commit() {
	w.p.(*commitPipeline).sendCommit()
	w.expected = append(w.expected, expected{forCommit, nil}, expected{forSync, nil})
}

func (w *wave) sync() {
	w.p.SendPipelineSync()
	w.expected = append(w.expected, expected{forSync, nil})
}

// flush sends what was queued, and reads what comes meanwhile, so that neither side
// waits for the other.
func (w *wave) flush() {
	if err := w.p.Flush(); err != nil {
		w.lost = err
	}
}

// next returns the next reply that the server gave, with its error if that is what
// it gave. What the server skipped, it skips. ok is false at the end, and when the
// connection is lost.
func (w *wave) next() (x expected, rows resultRows, err error, ok bool) {
	for w.lost == nil && w.at < len(w.expected) {
		x = w.expected[w.at]
		w.at++
		if w.skipping && x.what != forSync {
			continue
		}
		if w.bytes = 0; x.what == forItem {
			w.bytes = w.f.cargo.limits(x.item.item).bytes
		}
		w.bound.expect(w.bytes)
		result, err := w.p.GetResults()
		if err == nil && result == nil {
			err = io.ErrUnexpectedEOF
		}
		if err != nil && !w.alive(err) {
			w.lost = err
			if x.what == forCommit {
				return x, nil, err, true
			}
			break
		}
		if x.what == forSync {
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
		if err == nil && (x.what == forItem || x.what == forCommit) {
			rows = w.rowsOf(result)
		}
		if rows == nil && err == nil && (x.what == forItem || x.what == forCommit) { // out of step
			w.lost = errMalformed
			_ = w.f.conn.PgConn().Conn().Close()
			break
		}
		return x, rows, err, true
	}
	return x, nil, nil, false
}

// rowsOf are the rows of a reply, or nil if it has none.
func (w *wave) rowsOf(reply any) resultRows {
	switch reply := reply.(type) {
	case *pgconn.ResultReader:
		return pgx.RowsFromResultReader(w.f.conn.TypeMap(), reply)
	case *pipelineRows:
		return reply
	}
	return nil
}

// failed notes an error that came after the beginning of a reply.
func (w *wave) failed(err error) {
	if w.alive(err) {
		w.skipping = true
	} else {
		w.lost = err
	}
}

func (w *wave) alive(err error) bool {
	_, answered := errors.AsType[*pgconn.PgError](err)
	return answered && !w.f.conn.IsClosed()
}

// read reads the reply of an item, to its end. spoilt is why the client cannot use
// it, err what the server or the connection said.
func (w *wave) read(i int, rows resultRows) (spoilt *Error, err error) {
	defer rows.Close()
	l := w.f.cargo.limits(i)
	l.filter = w.bound.filter
	spoilt = w.f.cargo.read(i, rows, l)
	rows.Close()
	if err = rows.Err(); err != nil {
		w.failed(err)
	}
	return spoilt, err
}

// unsent reports whether the wave certainly never left.
func (w *wave) unsent() bool {
	now, _ := sentBytes(w.f.conn)
	return w.counted && now == w.before
}

// close ends the wave, reading what nobody has read; it may be called twice.
func (w *wave) close() {
	if err := w.p.Close(); err != nil && w.lost == nil && w.f.conn.IsClosed() {
		w.lost = err
	}
	w.bound.release()
}

// The statements around each item of a healing pass. PostgreSQL lets a savepoint hide
// an outer one of the same name.
var (
	mark   = ownStatement{"pgcmd_mark", "savepoint pgcmd_item"}
	unmark = ownStatement{"pgcmd_unmark", "release savepoint pgcmd_item"}
	back   = ownStatement{"pgcmd_back", "rollback to savepoint pgcmd_item"}
)

type ownStatement struct{ name, sql string }

// prepareSavepoints prepares them, in the same wave, if the connection can and has
// not done so before.
func (w *wave) prepareSavepoints() {
	d := descriptionsOf(w.f.conn)
	if d.savepoints || !prepares(w.f.conn) {
		return
	}
	for _, s := range [...]ownStatement{mark, unmark, back} {
		w.p.SendPrepare(s.name, s.sql, nil)
		w.expected = append(w.expected, expected{forNothing, nil})
	}
	d.savepoints = true
}

func (w *wave) savepoint(s ownStatement) {
	if !descriptionsOf(w.f.conn).savepoints {
		w.own(forNothing, s.sql)
		return
	}
	w.p.SendQueryPrepared(s.name, nil, nil, nil)
	w.expected = append(w.expected, expected{forNothing, nil})
}

// savepointName makes the name of the next savepoint of a session.
func (s *session) savepointName() string {
	s.savepoints++
	return fmt.Sprintf("pgcmd_%d", s.savepoints)
}
