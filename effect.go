package pgcmd

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// unsent reports whether nothing has left for the server since the statement was
// handed to pgx.
func (r *reply) unsent() bool {
	return r.wire != nil && r.rows != nil && r.wire.sent.Load() == r.sent
}

// notSent is the error of a statement that never left.
func notSent(ctx context.Context, err error) *Error {
	e := causeOf(ctx, err)
	e.Effect = NotApplied
	return e
}

// notAcquired is the error of a pool that had no connection to give.
func notAcquired(ctx context.Context, pool *pgxpool.Pool, k *keeper, err error) *Error {
	if ce, ok := errors.AsType[*pgconn.ConnectError](err); ok && ce.Config != nil {
		settings := *ce.Config
		settings.Password = "" // whoever prints the cause
		ce.Config = &settings
	}
	e := notSent(ctx, err)
	switch {
	case isPoolClosed(err):
		e.Code, e.Message = CodeUnavailable, poolClosedText
	case errors.Is(err, errOpenTx):
		e.Code, e.Message = CodeInternal, "AfterConnect left a transaction open on a connection that is to be shared: end it there"
	case isConnectError(err) && errors.Is(err, context.Canceled) && ctx.Err() == nil: // not the caller has
		e.Code, e.Message = CodeUnavailable, noneToGive
	case isConnectError(err) && e.SQLState == "" && ctx.Err() == nil:
		e.Code, e.Message = CodeUnavailable, unreachable(e)
	case isConnectError(err):
		e.Message = unreachable(e)
	case e.SQLState != "":
	case errors.Is(err, errHookPanicked):
		e.Code, e.Message = CodeInternal, "a hook of the pool (BeforeConnect, AfterConnect or PrepareConn) panicked"
	case e.Code == CodeTimeout:
		stat := pool.Stat()
		e.Code = CodeExhausted
		e.Message = fmt.Sprintf("no connection came before the deadline: %d of %d were in use", stat.AcquiredConns(), stat.MaxConns())
		if stat.AcquiredConns() == stat.MaxConns() {
			e.Message += " (raise MaxConns, or hold connections for less time)"
		}
		if who := k.holders(); who != "" {
			e.Message += ": " + who
		}
	case e.Code == CodeFailed:
		e.Code, e.Message = CodeUnavailable, noneToGive
	}
	return e
}

const noneToGive = "the pool has no connection to give: is it closed?"

// failed is the error of a statement that failed after it was handed to pgx: what
// it is, and what is known of its effect.
func (s *statement) failed(ctx context.Context, r *reply, err error) *Error {
	if r.tx != nil && r.tx.aborted != nil && isInFailedTransaction(err) {
		err = r.tx.aborted // the reason, and not its consequence
	}
	e, refused := s.explain(ctx, err)
	if refused {
		return e
	}
	if r.limits.bytes > 0 && refusedLength(err) {
		e = tooManyBytes(r.limits.bytes)
		e.Err = err
	}
	pgErr, answered := errors.AsType[*pgconn.PgError](err)
	if answered && s.care != nil && r.rows != nil && r.rows.Conn() != nil { // the schema may have changed
		delete(paramsOf(r.rows.Conn()), s.text.SQL)
	}
	e.outdated = answered && (r.described || remembers(r.connection())) && s.outdated(r.connection(), err)
	if r.conn != nil {
		disown(r.conn.Conn(), e)
	}
	switch {
	case s.readOnly || isConnectError(err):
		e.Effect = NotApplied
	case r.early || r.unsent():
		e.Effect = NotApplied
	case r.joined && !s.text.Ends:
		// It did not happen, or its transaction cannot be committed any more.
		e.Effect = NotApplied
	case answered && s.atomic() && definite(pgErr):
		e.Effect = NotApplied
	default:
		e.Effect = Unknown
		if e.Code == CodeUnavailable {
			e.Message += " after the statement was sent: it may or may not be applied"
		}
	}
	e.settle()
	return e
}

// explain says what err is, and whether it is pgx's own refusal, before anything
// was sent.
func (s *statement) explain(ctx context.Context, err error) (e *Error, refused bool) {
	if e := s.refusedByPgx(err); e != nil {
		return e, true
	}
	e = causeOf(ctx, err)
	if ours, _ := errors.AsType[*Error](err); ours != nil {
		return e, false // the reason why a transaction is aborted
	}
	if e.SQLState == "" && e.Code == CodeFailed && !e.fromContext(err, ctx.Err()) { // pgx does not always wrap it
		e.Code, e.Message = CodeUnavailable, "the connection failed"
	}
	if pgErr, ok := errors.AsType[*pgconn.PgError](err); ok {
		e.Message += s.near(pgErr)
	}
	return e, false
}

// unreadable is the error of a statement whose reply the client cannot use, because of e.
// It ends the reading: how the statement ended is the server's word alone, and if that
// says that it failed, this is the error, which reaches e as well.
func (s *statement) unreadable(ctx context.Context, r *reply, e *Error) *Error {
	asked := s.breakOff(ctx, r)
	err := r.rows.Err()
	pgErr, answered := errors.AsType[*pgconn.PgError](err)
	switch {
	case answered && !(asked && pgErr.Code == queryCanceled),
		err != nil && !s.mayBreakOff(r): // the connection was lost, and not by us
		return s.failed(ctx, r, err).after(e)
	}
	switch {
	case s.readOnly:
		e.Effect = NotApplied
	case err == nil && !r.joined:
		e.Effect = Applied
	default:
		e.Effect = Unknown // broken off or lost, or for the transaction to decide
	}
	return e
}

// after makes errors.Is and errors.As reach also what the client had found wrong with the
// statement before, if it had.
func (e *Error) after(earlier *Error) *Error {
	if earlier != nil {
		e.Err = errors.Join(e.Err, earlier)
	}
	return e
}

// spoils reports whether the failure is the connection's, so that another attempt
// needs another one: its server has become a standby, or its prepared statements
// are gone.
func (e *Error) spoils() bool {
	return e.SQLState == "25006" || e.SQLState == "26000" || e.SQLState == "42P05"
}

// disown closes a pooled connection whose failure is its own, and has the others looked
// at if it is theirs as well.
func disown(conn *pgx.Conn, e *Error) {
	if e.unsettles() {
		if w := wireOf(conn); w != nil {
			w.keeper.suspect(w, e)
		}
	}
	if e.spoils() {
		_ = conn.Close(context.Background())
	}
}

// settle makes the code agree with the effect.
func (e *Error) settle() {
	switch {
	case e.Effect == Unknown && e.Code == CodeUnavailable:
		e.Code = CodeUnknownEffect
	case e.Effect == NotApplied && e.Code == CodeUnknownEffect:
		e.Code = CodeUnavailable
	}
}

// definite reports whether the server's word means that the statement was rolled
// back. A FATAL may have raced with the statement's end, class 08 is a pooler's
// guess, unless it is the server's refusal of a Bind, and 40003 says by name that nobody
// knows.
func definite(pgErr *pgconn.PgError) bool {
	severity := pgErr.SeverityUnlocalized
	if severity == "" {
		severity = pgErr.Severity
	}
	return severity == "ERROR" && (!strings.HasPrefix(pgErr.Code, "08") || refusedAtBind(pgErr)) && pgErr.Code != "40003"
}

// atomic reports whether the statement is one unit on the server. Those that can
// commit on their own way may have done part of their work when they fail.
func (s *statement) atomic() bool {
	switch s.text.Verb {
	case "call", "do", "vacuum", "analyze", "analyse", "cluster", "reindex", "explain":
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

// refusedByPgx recognises the errors with which pgx refuses a statement before
// it writes a byte of it. They have no type; a test holds their text.
func (s *statement) refusedByPgx(err error) *Error {
	text := err.Error()
	if i, _, ok := encodeError(err); ok {
		field := "the parameter"
		if i >= 0 && i < len(s.params) {
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
	if strings.Contains(text, "message body too large") {
		return &Error{Code: CodeInvalid, Effect: NotApplied, Err: err,
			Message: "the values are too large for one message, which holds 1 GiB"}
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
