package pgcmd

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pgcmd/pgcmd/internal/sqltext"
)

// A statement is the SQL of a command and what is known of it at definition. A
// With that changes how it runs makes a copy.
type statement struct {
	text     sqltext.Text
	fields   []field  // fields[i] of the input is $i+1
	params   []string // their paths, for messages
	growsIn  bool     // a field is behind an embedded pointer
	readOnly bool
	maxRows  int
}

func newStatement[In any](command string, text sqltext.Text) *statement {
	s := &statement{text: text, fields: paramFields[In](command, text)}
	s.params = make([]string, len(s.fields))
	for i, f := range s.fields {
		s.params[i] = f.path
	}
	s.growsIn = embedsPointer(reflect.TypeFor[In](), s.fields)
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
func (s *statement) with(command string, o Options) *statement {
	if o.ReadOnly && s.text.Writes {
		panic(fmt.Sprintf("pgcmd: %s: Options.ReadOnly, but the SQL is plainly a write: take one of them away", command))
	}
	c := *s
	c.readOnly, c.maxRows = o.ReadOnly, o.MaxRows
	return &c
}

// A reply is what came back for a statement that was sent.
type reply struct {
	rows    pgx.Rows
	results pgx.BatchResults // that the rows came in, if they did
	conn    *pgxpool.Conn    // taken from a pool for this statement alone; nil if the caller's
	tx      *session         // the Tx that the statement is part of, to be given back; nil if none
	joined  bool             // the statement is part of a transaction that began before it
	sent    int64            // on the connection, before the statement
	counted bool             // sent is known
}

// send sends the statement and returns its reply, which the caller must close.
func (s *statement) send(ctx context.Context, db DB, args []any) (r reply, failure *Error) {
	if err := ctx.Err(); err != nil {
		return r, notSent(ctx, err)
	}
	var conn *pgx.Conn
	switch db := db.(type) {
	case *pgxpool.Pool:
		r.conn, failure = acquire(ctx, db)
	case *Pool:
		r.conn, failure = acquire(ctx, db.Pool)
	case *pgxpool.Conn:
		conn = db.Conn()
	case *pgx.Conn:
		conn = db
	case *Tx:
		return s.sendWithin(ctx, db, args)
	default:
		r.joined = inTransaction(db)
		rows, err := db.Query(ctx, s.text.SQL, args...)
		r.rows = rows
		if err != nil {
			return r, s.failed(ctx, r, err)
		}
		return r, nil
	}
	switch {
	case failure != nil:
		return r, failure
	case r.conn != nil:
		conn = r.conn.Conn()
	case conn.IsClosed():
		return r, &Error{Code: CodeUnavailable, Effect: NotApplied, Message: "the connection was closed before this command: take another one"}
	default:
		r.joined = conn.PgConn().TxStatus() != 'I'
	}
	r.sent, r.counted = sentBytes(conn)
	// Query and not Exec, whose simple protocol would run several statements.
	rows, err := conn.Query(ctx, s.text.SQL, args...)
	r.rows = rows
	if err != nil {
		failure = s.failed(ctx, r, err)
		r.close()
		return r, failure
	}
	return r, nil
}

// sendWithin sends the statement on a Tx.
func (s *statement) sendWithin(ctx context.Context, tx *Tx, args []any) (r reply, failure *Error) {
	r.joined = true
	if err := tx.enter(ctx); err != nil {
		return r, notSent(ctx, err)
	}
	rows, results, err := tx.s.query(ctx, s.text.SQL, args)
	if err != nil {
		tx.s.suspectVerb(s.text.Verb)
		return r, s.failed(ctx, r, tx.s.leave(err))
	}
	r.rows, r.results, r.tx = rows, results, tx.s
	return r, nil
}

// close ends the reading and gives the connection, or the transaction, back. It
// may be called twice.
func (r *reply) close() {
	if r.rows != nil {
		r.rows.Close()
	}
	if r.results != nil {
		_ = r.results.Close()
	}
	if r.tx != nil {
		r.tx.leave(r.rows.Err())
		r.tx = nil
	}
	if r.conn != nil {
		release(r.conn)
		r.conn = nil
	}
}

// surplus is how many rows beyond a limit are read to the end rather than broken
// off: that many cost less than a connection.
const surplus = 256

// breakOff stops reading rows that nobody wants, and reports whether the
// statement ran to its end all the same. A write is read to its end, since broken
// off it might not be applied, and so is what is in a transaction, which breaking
// off would end.
func (s *statement) breakOff(ctx context.Context, r *reply) (ended bool) {
	for range surplus {
		if !r.rows.Next() {
			return r.rows.Err() == nil
		}
	}
	conn := r.rows.Conn()
	if conn == nil || r.joined || !(s.readOnly || s.text.Reads) {
		r.rows.Close()
		return r.rows.Err() == nil
	}
	if r.conn == nil {
		// Not ours to lose: the server is asked to stop, and the connection lives.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTime)
		defer cancel()
		_ = conn.PgConn().CancelRequest(ctx)
	} else {
		_ = conn.PgConn().Conn().SetReadDeadline(time.Unix(1, 0))
	}
	r.rows.Close()
	return r.rows.Err() == nil
}

// unsent reports whether nothing has left for the server since the statement was
// handed to pgx.
func (r *reply) unsent() bool {
	if !r.counted || r.rows == nil || r.rows.Conn() == nil {
		return false
	}
	now, _ := sentBytes(r.rows.Conn())
	return now == r.sent
}

// notSent is the error of a statement that never left.
func notSent(ctx context.Context, err error) *Error {
	e := causeOf(ctx, err)
	e.Effect = NotApplied
	return e
}

// notAcquired is the error of a pool that had no connection to give.
func notAcquired(ctx context.Context, pool *pgxpool.Pool, err error) *Error {
	e := notSent(ctx, err)
	switch {
	case e.SQLState != "" || isConnectError(err):
	case e.Code == CodeTimeout:
		stat := pool.Stat()
		e.Code = CodeExhausted
		e.Message = fmt.Sprintf("no connection came free before the deadline: %d of %d were in use (raise MaxConns, or hold connections for less time)",
			stat.AcquiredConns(), stat.MaxConns())
	case e.Code == CodeFailed:
		e.Code, e.Message = CodeUnavailable, "the pool has no connection to give: is it closed?"
	}
	return e
}

// failed is the error of a statement that failed after it was handed to pgx: what
// it is, and what is known of its effect.
func (s *statement) failed(ctx context.Context, r reply, err error) *Error {
	if r.tx != nil && r.tx.aborted != nil && isInFailedTransaction(err) {
		err = r.tx.aborted // the reason, and not its consequence
	}
	if e := s.refusedByPgx(err); e != nil {
		return e
	}
	e := causeOf(ctx, err)
	if e.SQLState == "" && e.Code == CodeFailed {
		e.Code, e.Message = CodeUnavailable, "the connection failed"
	}
	pgErr, answered := errors.AsType[*pgconn.PgError](err)
	if answered {
		e.Message += s.near(pgErr)
	}
	switch {
	case s.readOnly:
		e.Effect = NotApplied
	case r.unsent():
		e.Effect = NotApplied
	case r.joined && !endsTransaction(s.text.Verb):
		// It did not happen, or its transaction cannot be committed any more.
		e.Effect = NotApplied
	case answered && s.atomic() && definite(pgErr):
		e.Effect = NotApplied
	default:
		e.Effect = Unknown
		if e.Code == CodeUnavailable {
			e.Code = CodeUnknownEffect
			e.Message += " after the statement was sent: it may or may not be applied"
		}
	}
	return e
}

// spoiled is the error of a statement that worked and whose answer cannot be
// used. It ends the reading.
func (s *statement) spoiled(ctx context.Context, r *reply, e *Error) *Error {
	ended := s.breakOff(ctx, r)
	switch {
	case s.readOnly:
		e.Effect = NotApplied
	case ended && !r.joined:
		e.Effect = Applied
	default:
		e.Effect = Unknown // broken off, or for the transaction to decide
	}
	return e
}

func tooManyRows(limit int) *Error {
	return &Error{Code: CodeTooManyRows, Err: pgx.ErrTooManyRows,
		Message: fmt.Sprintf("more than MaxRows (%d) rows were found: narrow the condition, raise MaxRows, or stream them", limit)}
}

// definite reports whether the server's word means that the statement was rolled
// back. A FATAL may have raced with the statement's end, class 08 is a pooler's
// guess, and 40003 says by name that nobody knows.
func definite(pgErr *pgconn.PgError) bool {
	severity := pgErr.SeverityUnlocalized
	if severity == "" {
		severity = pgErr.Severity
	}
	return severity == "ERROR" && !strings.HasPrefix(pgErr.Code, "08") && pgErr.Code != "40003"
}

// atomic reports whether the statement is one unit on the server. Those that can
// commit on their own way may have done part of their work when they fail.
func (s *statement) atomic() bool {
	switch s.text.Verb {
	case "call", "do", "vacuum", "cluster", "reindex", "explain":
		return s.text.Reads
	case "create", "drop", "alter", "refresh":
		sql := strings.ToLower(s.text.SQL)
		for _, word := range [...]string{"concurrently", "database", "tablespace", "subscription", "system"} {
			if strings.Contains(sql, word) {
				return false
			}
		}
	}
	return true
}

// endsTransaction reports whether a statement of this verb may commit the
// transaction that it is sent in.
func endsTransaction(verb string) bool {
	switch verb {
	case "commit", "end", "rollback", "abort", "prepare", "call", "do":
		return true
	}
	return false
}

// refusedByPgx recognises the errors with which pgx refuses a statement before
// it writes a byte of it. They have no type; a test holds their text.
func (s *statement) refusedByPgx(err error) *Error {
	text := err.Error()
	if rest, ok := strings.CutPrefix(text, "failed to encode args["); ok {
		number, _, _ := strings.Cut(rest, "]")
		field := "the parameter"
		if i, err := strconv.Atoi(number); err == nil && i < len(s.params) {
			field = s.params[i]
		}
		return refusedValue(field, "encode", "does not fit the type of its parameter in the SQL", err)
	}
	for _, prefix := range [...]string{"expected ", "mismatched param and argument count", "extended protocol limited to "} {
		if strings.HasPrefix(text, prefix) {
			return &Error{Code: CodeInternal, Effect: NotApplied, Err: err,
				Message: "the statement has another number of parameters than the SQL that was defined"}
		}
	}
	if text == "conn busy" {
		return &Error{Code: CodeInternal, Effect: NotApplied, Err: err,
			Message: "the connection is busy: rows of an earlier query are still open on it"}
	}
	return nil
}

// refusedValue is the error of one field whose value cannot be sent.
func refusedValue(field, rule, message string, cause error) *Error {
	return &Error{
		Code: CodeInvalid, Effect: NotApplied, Err: cause,
		Message:  "the input was refused",
		Problems: []Problem{{Field: field, Rule: rule, Message: message}},
	}
}

// near says where in the SQL the server stopped, if it did: a word of the SQL,
// never a literal.
func (s *statement) near(pgErr *pgconn.PgError) string {
	at := int(pgErr.Position) - 1
	sql := []rune(s.text.SQL)
	if at < 0 || at >= len(sql) {
		return ""
	}
	end := at
	for end < len(sql) && (sql[end] == '_' || sql[end] >= 'a' && sql[end] <= 'z' || sql[end] >= 'A' && sql[end] <= 'Z' ||
		end > at && sql[end] >= '0' && sql[end] <= '9') {
		end++
	}
	line := 1 + strings.Count(string(sql[:at]), "\n")
	if end == at {
		return fmt.Sprintf(" in line %d of the SQL", line)
	}
	return fmt.Sprintf(" in line %d of the SQL at %q", line, string(sql[at:end]))
}
