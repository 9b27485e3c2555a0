package pgcmd

import (
	"context"
	"fmt"
	"reflect"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pgcmd/pgcmd/internal/sqltext"
)

// A statement is the SQL of a command and what is known of it at definition. A
// With that changes how it runs makes a copy.
type statement struct {
	name     string // of the command
	text     sqltext.Text
	fields   []field  // fields[i] of the input is $i+1
	params   []string // their paths, for messages
	care     []care   // what has to be looked at in their values; nil if nothing has
	growsIn  bool     // a field is behind an embedded pointer
	lifts    bool     // it may make a read-only transaction write
	readOnly bool
	shared   bool // it may travel with others on one connection
	limits   limits
}

func newStatement(command string, in reflect.Type, text sqltext.Text) *statement {
	s := &statement{name: command, text: text, fields: paramFields(command, in, text), lifts: lifts(strings.ToLower(text.SQL))}
	s.params = make([]string, len(s.fields))
	for i, f := range s.fields {
		s.params[i] = f.path
		s.takeCare(i, len(s.fields), careOf(f.typ))
	}
	s.growsIn = embedsPointer(in, s.fields)
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
type reply struct {
	rows         resultRows
	results      pgx.BatchResults // that the rows came in, if they did
	conn         *pgxpool.Conn    // taken from a pool for this statement alone; nil if the caller's
	asked        *ask             // on a shared connection; nil if it was not
	tx           *session         // the Tx that the statement is part of, to be given back; nil if none
	within       *session         // the Tx that the statement is part of; nil if none
	described    bool             // by describe, and not by pgx
	joined       bool             // the statement is part of a transaction that began before it
	wire         *wire            // what counts on the connection; nil if nothing does
	sent         int64            // on it, before the statement
	early        bool             // pgx gave up before it sent the statement, if not before it prepared it
	unreplicated int32            // counted on it, before the statement
	limits       limits           // set before it is sent
	bound        rowBound
}

// bind makes the limits act on the connection that the statement is to be sent on.
func (r *reply) bind(conn *pgx.Conn) {
	if r.limits.bytes > 0 {
		r.bound = boundRows(conn)
		r.bound.expect(r.limits.bytes)
		r.limits.filter = r.bound.filter
	}
}

// send sends the statement and fills in its reply. Unless it returns an error, the caller
// must close that.
func (s *statement) send(ctx context.Context, db DB, args []any, r *reply) (failure *Error) {
	if err := ctx.Err(); err != nil {
		return notSent(ctx, err)
	}
	doubts, failure := s.inspect(args)
	if failure != nil {
		return failure
	}
	var conn *pgx.Conn
	switch db := db.(type) {
	case *pgxpool.Pool:
		r.conn, failure = acquire(ctx, db)
	case *Pool:
		if s.shared && db.mux != nil {
			if failure, done := s.share(ctx, db, args, doubts, r); done {
				return failure
			}
		}
		r.conn, failure = db.take(ctx, &s.name, s.readOnly)
	case *pgxpool.Conn:
		conn = db.Conn()
	case *pgx.Conn:
		conn = db
	case *Tx:
		return s.sendWithin(ctx, db, args, doubts, r)
	default:
		r.joined = inTransaction(db)
		if tx, ok := db.(pgx.Tx); ok {
			conn = tx.Conn()
			if len(doubts) > 0 && conn != nil && tx.SendBatch(ctx, new(pgx.Batch)).Close() == nil { // it has not ended
				if failure, err := s.settleOn(ctx, conn, args, doubts); failure != nil {
					return failure
				} else if err != nil {
					return s.failed(ctx, r, err)
				}
			}
			r.bind(conn)
		}
		rows, err := queryAgain(ctx, db, s.text.SQL, args)
		r.rows = rows
		if err != nil {
			if conn != nil {
				r.bound.release()
				if failure := s.unsendable(ctx, conn.TypeMap(), conn, args, err); failure != nil {
					return failure
				}
			}
			return s.failed(ctx, r, err)
		}
		return nil
	}
	switch {
	case failure != nil:
		return failure
	case r.conn != nil:
		conn = r.conn.Conn()
	case conn.IsClosed():
		return &Error{Code: CodeUnavailable, Effect: NotApplied, Message: "the connection was closed before this command: take another one"}
	default:
		r.joined = conn.PgConn().TxStatus() != 'I'
	}
	defer func() {
		if r.rows == nil { // user code panicked while pgx encoded or traced
			s.close(ctx, r)
		}
	}()
	r.wire = wireOf(conn)
	if len(doubts) > 0 {
		failure, err := s.settleOn(ctx, conn, args, doubts)
		if err != nil {
			failure = s.failed(ctx, r, err)
			failure.Effect = NotApplied // it was only described
			failure.settle()
		}
		if failure != nil {
			return failure
		}
	}
	if r.wire != nil {
		r.sent, r.unreplicated = r.wire.sent.Load(), r.wire.unreplicated.Load()
	}
	r.bind(conn)
	// Query and not Exec, whose simple protocol would run several statements.
	rows, err := queryAgain(ctx, conn, s.text.SQL, args)
	r.rows = rows
	if err != nil {
		r.bound.release()
		if failure := s.unsendable(ctx, conn.TypeMap(), conn, args, err); failure != nil {
			s.close(ctx, r)
			return failure
		}
		return s.unexecuted(ctx, conn, r, err)
	}
	return nil
}

// unexecuted is the failure of a Query itself, which comes only while that prepares and
// encodes; what the execution says, the rows say. Not so in the simple protocol, which
// prepares nothing.
func (s *statement) unexecuted(ctx context.Context, conn *pgx.Conn, r *reply, err error) *Error {
	r.early = configOf(conn).DefaultQueryExecMode != pgx.QueryExecModeSimpleProtocol
	failure := s.failed(ctx, r, err)
	s.close(ctx, r)
	return failure
}

// sendWithin sends the statement on a Tx.
func (s *statement) sendWithin(ctx context.Context, tx *Tx, args []any, doubts doubts, r *reply) *Error {
	r.joined, r.within = true, tx.s
	if err := tx.enter(ctx); err != nil {
		return notSent(ctx, err)
	}
	tx.s.mark(s)
	if len(doubts) > 0 {
		failure, err := s.settleWithin(ctx, tx.s, args, doubts)
		if failure != nil || err != nil {
			err = tx.s.leave(err)
		}
		if err != nil {
			failure = s.failed(ctx, r, err)
		}
		if failure != nil {
			return failure
		}
	}
	r.bind(tx.s.conn)
	rows, results, err := tx.s.query(ctx, s.text.SQL, args)
	if err != nil {
		err = tx.s.leave(err)
		if tx.s.conn != nil {
			r.bound.release()
			if failure := s.unsendable(ctx, tx.s.conn.TypeMap(), tx.s.conn, args, err); failure != nil {
				return failure
			}
		}
		return s.failed(ctx, r, err)
	}
	r.rows, r.results, r.tx = rows, results, tx.s
	return nil
}

// connection is the one that the statement was sent on, or nil if that cannot be told.
func (r *reply) connection() *pgx.Conn {
	switch {
	case r.conn != nil:
		return r.conn.Conn()
	case r.within != nil:
		return r.within.conn
	case r.rows != nil:
		return r.rows.Conn()
	}
	return nil
}

// close ends the reading, if a panic or the user's loop has not let it come to its end,
// and gives the connection, or the transaction, back. It may be called twice.
func (s *statement) close(ctx context.Context, r *reply) {
	if r.rows != nil && r.rows.Next() {
		s.breakOff(ctx, r)
	}
	if r.results != nil {
		_ = r.results.Close()
	}
	if r.limits.bytes > 0 {
		r.bound.release()
	}
	if r.tx != nil {
		r.tx.leave(r.rows.Err())
		r.tx = nil
	}
	if r.conn != nil {
		release(r.conn, r.wire)
		r.conn = nil
	}
	if r.asked != nil {
		r.asked.recycle()
		r.asked = nil
	}
}

// A few rows beyond a limit are read to the end rather than broken off, if they are
// on their way: they cost less than a connection. Of a statement that may have written
// something, what the server says at its end is worth a longer wait.
const (
	surplus     = 256
	surplusTime = 2 * time.Millisecond
	outcomeTime = 100 * time.Millisecond
)

// finish reads the few rows that may be left, for so long, and reports whether that was
// all.
func finish(rows resultRows, patience time.Duration) bool {
	start := time.Now()
	for range surplus {
		if !rows.Next() {
			return true
		}
		if time.Since(start) > patience {
			break
		}
	}
	return false
}

// breakOff ends the reading of rows that nobody wants; what the statement came to, their
// Err says. It reports whether the server was asked to stop. A write is read to its end,
// since broken off it might not be applied, and so is what is in a transaction, which
// breaking off would end.
func (s *statement) breakOff(ctx context.Context, r *reply) (asked bool) {
	conn, mayBreak := r.rows.Conn(), s.mayBreakOff(r)
	patience := outcomeTime
	if s.readOnly {
		patience = surplusTime
	}
	if mayBreak && r.conn != nil { // the rest may take its time to come
		socket := conn.PgConn().Conn()
		_ = socket.SetReadDeadline(time.Now().Add(patience))
		defer func() { _ = socket.SetReadDeadline(time.Time{}) }()
	}
	if finish(r.rows, patience) {
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
		drop(conn, r.rows)
	}
	r.rows.Close()
	return asked
}

// mayBreakOff reports whether a statement may be broken off.
func (s *statement) mayBreakOff(r *reply) bool {
	return r.rows.Conn() != nil && !r.joined && (s.readOnly || s.text.Reads)
}

// drop ends a reading and waits for nothing: what is still to come costs the connection.
// If all has come already, that lives.
func drop(conn *pgx.Conn, rows resultRows) {
	socket := conn.PgConn().Conn()
	_ = socket.SetReadDeadline(time.Unix(1, 0))
	defer func() { _ = socket.SetReadDeadline(time.Time{}) }()
	rows.Close()
}
