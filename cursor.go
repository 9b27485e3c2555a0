package pgcmd

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgconn/ctxwatch"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/pgcmd/pgcmd/internal/pgrows"
	"github.com/pgcmd/pgcmd/internal/rowscan"
	"github.com/pgcmd/pgcmd/internal/stmtcache"
	"github.com/pgcmd/pgcmd/internal/typemap"
)

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
		invalidateAfter(s.conn, c.text.SQL, err)
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
	doubts, refused := c.checkArgs(c.args)
	if refused != nil {
		return refused
	}
	for cached := known.Described(c.text.SQL); ; cached = false {
		if !cached {
			// If the server refuses the statement, that must not abort the transaction
			// before the deferred savepoint is made.
			if err := s.sendDeferred(ctx); err != nil {
				return err
			}
		}
		sd, err := describe(ctx, s.conn, c.text.SQL)
		if err != nil {
			return err
		}
		c.sd = sd
		if len(doubts) > 0 {
			t, err := typemap.OfConn(ctx, s.conn, doubts.oidOfArg(sd.ParamOIDs)...)
			if err != nil {
				return err
			}
			if refused := c.verifyArgs(t, sd.ParamOIDs, c.args, doubts, false); refused != nil && !cached {
				return refused
			} else if refused != nil {
				known.Invalidate(c.text.SQL) // the schema may have changed since
				continue
			}
		}
		err = c.encoded.Build(s.conn.TypeMap(), sd, c.args)
		if err == nil {
			return nil
		}
		if !cached {
			if refused := c.unsendable(ctx, s.conn.TypeMap(), s.conn, c.args, err); refused != nil {
				return refused
			}
			return err
		}
		known.Invalidate(c.text.SQL) // the schema may have changed since
	}
}

// An openCursor is what a transaction knows of an open cursor.
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
