package pgcmd

import (
	"context"
	"fmt"
	"reflect"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pgcmd/pgcmd/internal/bind"
	"github.com/pgcmd/pgcmd/internal/connpool"
	"github.com/pgcmd/pgcmd/internal/multiplex"
	"github.com/pgcmd/pgcmd/internal/rowscan"
	"github.com/pgcmd/pgcmd/internal/sqltext"
	"github.com/pgcmd/pgcmd/internal/structfields"
	"github.com/pgcmd/pgcmd/internal/typemap"
)

// A statement is the SQL of a command and what is known of it at definition. A
// With that changes how it runs makes a copy.
type statement struct {
	name            string // of the command
	text            sqltext.Text
	fields          []structfields.Field // fields[i] of the input is $i+1
	params          []string             // their paths, for messages
	checkKinds      []typemap.Check      // what has to be looked at in their values; nil if nothing has
	binding         bind.Params
	mayEnableWrites bool // it may make a read-only transaction write
	readOnly        bool
	shared          bool // it may travel with others on one connection
	limits          limits
}

func newStatement(command string, in reflect.Type, text sqltext.Text) *statement {
	s := &statement{name: command, text: text, mayEnableWrites: mayEnableWrites(strings.ToLower(text.SQL))}
	var err error
	if s.binding, err = bind.Compile(in, text); err != nil {
		panic(fmt.Sprintf("pgcmd: %s: %v", command, err))
	}
	s.fields, s.params = s.binding.Fields, s.binding.Paths
	for i, f := range s.fields {
		s.addArgCheck(i, len(s.fields), typemap.CheckOf(f.Type))
	}
	return s
}

// parse lexes SQL at definition, and panics.
func parse(command, sql string) sqltext.Text {
	checkName(command)
	text, err := sqltext.Parse(sql)
	if err != nil {
		panic(fmt.Sprintf("pgcmd: %s: %v", command, err))
	}
	return text
}

// with is the statement under options, which panic if the SQL does not allow them.
func (s *statement) with(command string, o *Options) *statement {
	if o.ReadOnly && s.text.Writes {
		panic(fmt.Sprintf("pgcmd: %s: Options.ReadOnly, but the SQL is plainly a write: take one of them away", command))
	}
	c := *s
	c.readOnly, c.limits = o.ReadOnly, limits{rows: o.MaxRows, bytes: o.MaxBytes}
	c.shared = o.ReadOnly && s.text.Reads
	return &c
}

// A reply is what came back for a statement that was sent.
type result struct {
	rows             rowscan.Rows
	results          pgx.BatchResults   // that the rows came in, if they did
	direct           *pgx.Conn          // that the statement is sent on by Query; nil if it is sent otherwise
	conn             *pgxpool.Conn      // taken from a pool for this statement alone; nil if the caller's
	sharedRequest    *multiplex.Request // on a shared connection; nil if it was not
	heldTx           *txn               // the Tx that the statement is part of, to be given back; nil if none
	inTx             *txn               // the Tx that the statement is part of; nil if none
	described        bool               // by describe, and not by pgx
	joined           bool               // the statement is part of a transaction that began before it
	netConn          *connpool.Conn     // what counts on the connection; nil if nothing does
	sent             int64              // on it, before the statement
	failedBeforeSend bool               // pgx gave up before it sent the statement, if not before it prepared it
	unreplicated     int32              // counted on it, before the statement
	limits           limits             // set before it is sent
	bound            connpool.RowLimit
}

// bind makes the limits act on the connection that the statement is to be sent on.
func (r *result) bind(conn *pgx.Conn) {
	if r.limits.bytes > 0 {
		r.bound = connpool.LimitRows(conn)
		r.bound.SetNext(r.limits.bytes)
		r.limits.filter = r.bound.Filter
	}
}

// send sends the statement and fills in its result. Unless it returns an error, the caller
// must close that.
func (s *statement) send(ctx context.Context, db DB, args []any, r *result) *Error {
	if failure := s.prepareSend(ctx, db, args, r); failure != nil || r.direct == nil {
		return failure
	}
	defer s.closeUnsent(ctx, r)
	rows, err := queryReencoding(ctx, r.direct, s.text.SQL, args)
	return s.sent(ctx, args, r, rows, err)
}

// prepareSend does what comes before pgx's Query: it finds or acquires the connection,
// which is r.direct, and the caller has to call Query on that, and then sent. On
// others than connections it sends the statement itself, and r.direct is nil.
func (s *statement) prepareSend(ctx context.Context, db DB, args []any, r *result) (failure *Error) {
	if err := ctx.Err(); err != nil {
		return newUnsentError(ctx, err)
	}
	unverified, failure := s.checkArgs(args)
	if failure != nil {
		return failure
	}
	t := resolve(db)
	switch {
	case t.own != nil && s.shared && t.own.mux != nil:
		if failure, done := s.runShared(ctx, t.own, args, unverified, r); done {
			return failure
		}
	case t.tx != nil:
		return s.sendInTx(ctx, t.tx, args, unverified, r)
	case t.pool == nil && t.conn == nil:
		return s.sendForeign(ctx, &t, args, unverified, r)
	}
	l, failure := t.acquire(ctx, &s.name, s.readOnly)
	if failure != nil {
		return failure
	}
	r.direct, r.conn = l.conn, l.pooled
	r.joined = l.pooled == nil && l.conn.PgConn().TxStatus() != 'I'
	r.netConn = connpool.Of(l.conn)
	if len(unverified) > 0 {
		if failure := s.verifyBeforeSend(ctx, args, unverified, r); failure != nil {
			return failure
		}
	}
	if r.netConn != nil {
		r.sent, r.unreplicated = r.netConn.Sent(), r.netConn.Unreplicated()
	}
	r.bind(l.conn)
	return nil
}

// closeUnsent gives the connection back if the statement was not sent: user code panicked
// while pgx encoded or traced, or an argument was refused.
func (s *statement) closeUnsent(ctx context.Context, r *result) {
	if r.rows == nil {
		s.close(ctx, r)
	}
}

// sent takes what Query returned.
func (s *statement) sent(ctx context.Context, args []any, r *result, rows pgx.Rows, err error) *Error {
	r.rows = rows
	if err == nil {
		return nil
	}
	r.bound.Release()
	if failure := s.unsendable(ctx, r.direct.TypeMap(), r.direct, args, err); failure != nil {
		s.close(ctx, r)
		return failure
	}
	// An error of Query itself comes only while that prepares and encodes; what the execution
	// says, the rows say. Not so in the simple protocol, which prepares nothing.
	r.failedBeforeSend = configOf(r.direct).DefaultQueryExecMode != pgx.QueryExecModeSimpleProtocol
	failure := s.statementError(ctx, r, err)
	s.close(ctx, r)
	return failure
}

// verifyBeforeSend asks the server what it needs to know of the arguments' types. If they
// are refused, or user code panics, the connection is given back.
func (s *statement) verifyBeforeSend(ctx context.Context, args []any, unverified unverifiedArgs, r *result) (failure *Error) {
	verified := false
	defer func() {
		if !verified {
			s.close(ctx, r)
		}
	}()
	failure, err := s.verifyArgsOnConn(ctx, r.direct, args, unverified)
	if err != nil {
		failure = s.statementError(ctx, r, err)
		failure.Effect = NotApplied // it was only described
		failure.reconcileCode()
	}
	verified = failure == nil
	return failure
}

// sendForeign sends the statement on a transaction of pgx's, or on a DB that the core does
// not know.
func (s *statement) sendForeign(ctx context.Context, t *target, args []any, unverified unverifiedArgs, r *result) *Error {
	r.joined = t.inTransaction()
	var conn *pgx.Conn
	if t.foreign != nil {
		conn = t.foreign.Conn()
		if len(unverified) > 0 && conn != nil && t.foreign.SendBatch(ctx, new(pgx.Batch)).Close() == nil { // it has not ended
			if failure, err := s.verifyArgsOnConn(ctx, conn, args, unverified); failure != nil {
				return failure
			} else if err != nil {
				return s.statementError(ctx, r, err)
			}
		}
		r.bind(conn)
	}
	rows, err := queryReencoding(ctx, t.db, s.text.SQL, args)
	r.rows = rows
	if err == nil {
		return nil
	}
	if conn != nil {
		r.bound.Release()
		if failure := s.unsendable(ctx, conn.TypeMap(), conn, args, err); failure != nil {
			return failure
		}
	}
	return s.statementError(ctx, r, err)
}

// sendInTx sends the statement on a Tx.
func (s *statement) sendInTx(ctx context.Context, tx *Tx, args []any, doubts unverifiedArgs, r *result) *Error {
	r.joined, r.inTx = true, tx.s
	if err := tx.lock(ctx); err != nil {
		return newUnsentError(ctx, err)
	}
	tx.s.inspectStatement(s)
	if len(doubts) > 0 {
		failure, err := s.verifyArgsInTx(ctx, tx.s, args, doubts)
		if failure != nil || err != nil {
			err = tx.s.unlockWith(err)
		}
		if err != nil {
			failure = s.statementError(ctx, r, err)
		}
		if failure != nil {
			return failure
		}
	}
	r.bind(tx.s.conn)
	rows, results, err := tx.s.query(ctx, s.text.SQL, args)
	if err != nil {
		err = tx.s.unlockWith(err)
		if tx.s.conn != nil {
			r.bound.Release()
			if failure := s.unsendable(ctx, tx.s.conn.TypeMap(), tx.s.conn, args, err); failure != nil {
				return failure
			}
		}
		return s.statementError(ctx, r, err)
	}
	r.rows, r.results, r.heldTx = rows, results, tx.s
	return nil
}

// connection is the one that the statement was sent on, or nil if that cannot be told.
func (r *result) connection() *pgx.Conn {
	switch {
	case r.conn != nil:
		return r.conn.Conn()
	case r.inTx != nil:
		return r.inTx.conn
	case r.rows != nil:
		return r.rows.Conn()
	}
	return nil
}

// close ends the reading, if a panic or the user's loop has not let it come to its end,
// and gives the connection, or the transaction, back. It may be called twice.
func (s *statement) close(ctx context.Context, r *result) {
	if r.rows != nil && r.rows.Next() {
		s.stopReading(ctx, r)
	}
	if r.results != nil {
		_ = r.results.Close()
	}
	if r.limits.bytes > 0 {
		r.bound.Release()
	}
	if r.heldTx != nil {
		r.heldTx.unlockWith(r.rows.Err())
		r.heldTx = nil
	}
	if r.conn != nil {
		connpool.Release(r.conn, r.netConn)
		r.conn = nil
	}
	if r.sharedRequest != nil {
		r.sharedRequest.Free()
		r.sharedRequest = nil
	}
}

// A few rows beyond a limit are read to the end rather than broken off, if they are
// on their way: they cost less than a connection. Of a statement that may have written
// something, what the server says at its end is worth a longer wait.
const (
	maxDrainRows   = 256
	maxDrainTime   = 2 * time.Millisecond
	maxOutcomeTime = 100 * time.Millisecond
)

// drainFew reads the few rows that may be left, for so long, and reports whether that was
// all.
func drainFew(rows rowscan.Rows, patience time.Duration) bool {
	start := time.Now()
	for range maxDrainRows {
		if !rows.Next() {
			return true
		}
		if time.Since(start) > patience {
			break
		}
	}
	return false
}

// stopReading ends the reading of rows that nobody wants; what the statement came to, their
// Err says. It reports whether the server was asked to stop. A write is read to its end,
// since broken off it might not be applied, and so is what is in a transaction, which
// breaking off would end.
func (s *statement) stopReading(ctx context.Context, r *result) (asked bool) {
	conn, mayBreak := r.rows.Conn(), s.mayStopReading(r)
	patience := maxOutcomeTime
	if s.readOnly {
		patience = maxDrainTime
	}
	if mayBreak && r.conn != nil { // the rest may take its time to come
		socket := conn.PgConn().Conn()
		_ = socket.SetReadDeadline(time.Now().Add(patience))
		defer func() { _ = socket.SetReadDeadline(time.Time{}) }()
	}
	if drainFew(r.rows, patience) {
		return false
	}
	switch {
	case !mayBreak:
	case r.conn == nil:
		// Not ours to lose: the server is asked to stop, and the connection lives.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTime)
		defer cancel()
		_ = conn.PgConn().CancelRequest(ctx)
		asked = true
	default:
		closeWithoutDraining(conn, r.rows)
	}
	r.rows.Close()
	return asked
}

// mayStopReading reports whether a statement may be broken off.
func (s *statement) mayStopReading(r *result) bool {
	return r.rows.Conn() != nil && !r.joined && (s.readOnly || s.text.Reads)
}

// closeWithoutDraining ends a reading and waits for nothing: what is still to come costs the connection.
// If all has come already, that lives.
func closeWithoutDraining(conn *pgx.Conn, rows rowscan.Rows) {
	socket := conn.PgConn().Conn()
	_ = socket.SetReadDeadline(time.Unix(1, 0))
	defer func() { _ = socket.SetReadDeadline(time.Time{}) }()
	rows.Close()
}
