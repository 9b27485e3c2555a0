package pgcmd

import (
	"errors"
	"io"
	"strconv"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgcmd/pgcmd/internal/connpool"
	"github.com/pgcmd/pgcmd/internal/pgcommit"
	"github.com/pgcmd/pgcmd/internal/pgrows"
	"github.com/pgcmd/pgcmd/internal/rowscan"
	"github.com/pgcmd/pgcmd/internal/stmtcache"
)

// A pipeline is a [pgconn.Pipeline], or one that ends with COMMIT.
type pipeline interface {
	SendPrepare(name, sql string, paramOIDs []uint32)
	SendQueryParams(sql string, paramValues [][]byte, paramOIDs []uint32, paramFormats, resultFormats []int16)
	SendQueryPrepared(stmtName string, paramValues [][]byte, paramFormats, resultFormats []int16)
	SendQueryStatement(sd *pgconn.StatementDescription, paramValues [][]byte, paramFormats, resultFormats []int16)
	SendPipelineSync()
	Flush() error
	GetResults() (any, error)
	Close() error
}

var (
	_ pipeline = (*pgconn.Pipeline)(nil)
	_ pipeline = (*pgcommit.Pipeline)(nil)
)

// An exchange is one use of a pipeline: statements that are sent together, and the replies
// that are to come for them.
type exchange struct {
	f        *batchExec
	p        pipeline
	before   int64 // bytes that were sent on the connection before it
	counted  bool
	expected []expectedReply
	at       int
	skipping bool  // up to the next Sync, after an error
	lost     error // the error with which the connection was lost
	bound    connpool.RowLimit
	bytes    int // MaxBytes of the item that is being read
}

// expectedReply is a reply that is to come.
type expectedReply struct {
	kind replyKind
	item *encodedItem // of an item
}

type replyKind int

const (
	internalReply replyKind = iota // of a statement of pgcmd, which must work
	itemReply
	commitReply
	syncReply
)

// newExchange begins an exchange, which may end with COMMIT.
func (f *batchExec) newExchange(commit bool) *exchange {
	w := &exchange{f: f}
	w.before, w.counted = connpool.Sent(f.conn)
	if f.items.bounded() {
		w.bound = connpool.LimitRows(f.conn)
	}
	if commit {
		w.p = pgcommit.NewPipeline(f.ctx, f.conn, configOf(f.conn), f.s.commitTimeout)
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

// sendInternal queues a statement of pgcmd. Its arguments are integers.
func (w *exchange) sendInternal(what replyKind, sql string, args ...any) {
	var values [][]byte
	for _, arg := range args {
		values = append(values, strconv.AppendInt(nil, arg.(int64), 10))
	}
	w.p.SendQueryParams(sql, values, nil, nil, nil)
	w.expected = append(w.expected, expectedReply{what, nil})
}

// commit queues COMMIT, and the last Sync. It is for an exchange that may end with it.
func (w *exchange) commit() {
	w.p.(*pgcommit.Pipeline).SendCommit()
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

// next returns the next reply of the server, with its error if it is one. It skips what the
// server skipped. ok is false at the end, and when the connection is lost.
func (w *exchange) next() (x expectedReply, rows rowscan.Rows, err error, ok bool) {
	for w.lost == nil && w.at < len(w.expected) {
		x = w.expected[w.at]
		w.at++
		if w.skipping && x.kind != syncReply {
			continue
		}
		if w.bytes = 0; x.kind == itemReply {
			w.bytes = w.f.items.limits(x.item.item).bytes
		}
		w.bound.SetNext(w.bytes)
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
func (w *exchange) rowsOf(reply any) rowscan.Rows {
	switch reply := reply.(type) {
	case *pgconn.ResultReader:
		return pgx.RowsFromResultReader(w.f.conn.TypeMap(), reply)
	case *pgcommit.Rows:
		return reply
	}
	return nil
}

// failed records an error that came after the beginning of a reply.
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

// read reads the reply of an item, to its end. unreadable is why the client cannot use it,
// err is of the server or the connection.
func (w *exchange) read(i int, rows rowscan.Rows) (unreadable *Error, err error) {
	defer rows.Close()
	l := w.f.items.limits(i)
	l.filter = w.bound.Filter
	unreadable = w.f.items.read(i, rows, l)
	rows.Close()
	if err = rows.Err(); err != nil {
		w.failed(err)
	}
	return unreadable, err
}

// unsent reports whether certainly nothing was sent.
func (w *exchange) unsent() bool {
	now, _ := connpool.Sent(w.f.conn)
	return w.counted && now == w.before
}

// close ends the exchange and reads the replies that are left. It may be called twice.
func (w *exchange) close() {
	if err := w.p.Close(); err != nil && w.lost == nil && w.f.conn.IsClosed() {
		w.lost = err
	}
	w.bound.Release()
}

// The statements around each item that is under a savepoint of its own. PostgreSQL lets a
// savepoint hide an outer one of the same name.
var (
	savepointStmt  = ownStatement{"pgcmd_mark", "savepoint pgcmd_item"}
	releaseStmt    = ownStatement{"pgcmd_unmark", "release savepoint pgcmd_item"}
	rollbackToStmt = ownStatement{"pgcmd_back", "rollback to savepoint pgcmd_item"}
)

type ownStatement struct{ name, sql string }

// prepareSavepoints prepares them, in the same exchange, unless the connection has done so
// before or cannot.
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

// connError is the error of a connection that was lost.
func (w *exchange) connError() *Error {
	e, _ := (&statement{}).classifyStatement(w.f.ctx, w.lost)
	if w.bytes > 0 && connpool.ExceedsRowLimit(w.lost) {
		e = tooManyBytes(w.bytes)
		e.Err = w.lost
	}
	return e
}
