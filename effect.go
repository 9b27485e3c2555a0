package pgcmd

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pgcmd/pgcmd/internal/stmtcache"
)

// unsent reports whether nothing has left for the server since the statement was
// handed to pgx.
func (r *result) unsent() bool {
	return r.netConn != nil && r.rows != nil && r.netConn.sent.Load() == r.sent
}

// newUnsentError is the error of a statement that never left.
func newUnsentError(ctx context.Context, err error) *Error {
	e := classify(ctx, err)
	e.Effect = NotApplied
	return e
}

// newAcquireError is the error of a pool that had no connection to give.
func newAcquireError(ctx context.Context, pool *pgxpool.Pool, k *tracker, err error) *Error {
	if ce, ok := errors.AsType[*pgconn.ConnectError](err); ok && ce.Config != nil {
		settings := *ce.Config
		settings.Password = "" // whoever prints the cause
		ce.Config = &settings
	}
	e := newUnsentError(ctx, err)
	switch {
	case isPoolClosed(err):
		e.Code, e.Message = CodeUnavailable, msgPoolClosed
	case errors.Is(err, errOpenTx):
		e.Code, e.Message = CodeInternal, "AfterConnect left a transaction open on a connection that is to be shared: end it there"
	case isConnectError(err) && errors.Is(err, context.Canceled) && ctx.Err() == nil: // not the caller has
		e.Code, e.Message = CodeUnavailable, msgNoConnection
	case isConnectError(err) && e.SQLState == "" && ctx.Err() == nil:
		e.Code, e.Message = CodeUnavailable, connectErrorMessage(e)
	case isConnectError(err):
		e.Message = connectErrorMessage(e)
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
		if who := k.leases(); who != "" {
			e.Message += ": " + who
		}
	case e.Code == CodeFailed:
		e.Code, e.Message = CodeUnavailable, msgNoConnection
	}
	return e
}

const msgNoConnection = "the pool has no connection to give: is it closed?"

// statementError is the error of a statement that failed after it was handed to pgx: what
// it is, and what is known of its effect.
func (s *statement) statementError(ctx context.Context, r *result, err error) *Error {
	if r.heldTx != nil && r.heldTx.aborted != nil && isInFailedTransaction(err) {
		err = r.heldTx.aborted // the reason, and not its consequence
	}
	e, refused := s.classifyStatement(ctx, err)
	if refused {
		return e
	}
	if r.limits.bytes > 0 && refusedLength(err) {
		e = tooManyBytes(r.limits.bytes)
		e.Err = err
	}
	pgErr, answered := errors.AsType[*pgconn.PgError](err)
	if answered && s.checkKinds != nil && r.rows != nil && r.rows.Conn() != nil { // the schema may have changed
		stmtcache.OnConn(r.rows.Conn()).InvalidateParamsOf(s.text.SQL)
	}
	e.outdated = answered && (r.described || cachesDescriptions(r.connection())) && s.isOutdated(r.connection(), err)
	if r.conn != nil {
		discardConn(r.conn.Conn(), e)
	}
	switch {
	case s.readOnly || isConnectError(err):
		e.Effect = NotApplied
	case r.failedBeforeSend || r.unsent():
		e.Effect = NotApplied
	case r.joined && !s.text.Ends:
		// It did not happen, or its transaction cannot be committed any more.
		e.Effect = NotApplied
	case answered && s.atomic() && isDefinite(pgErr):
		e.Effect = NotApplied
	default:
		e.Effect = Unknown
		if e.Code == CodeUnavailable {
			e.Message += " after the statement was sent: it may or may not be applied"
		}
	}
	e.reconcileCode()
	return e
}

// classifyStatement says what err is, and whether it is pgx's own refusal, before anything
// was sent.
func (s *statement) classifyStatement(ctx context.Context, err error) (e *Error, refused bool) {
	if e := s.preSendError(err); e != nil {
		return e, true
	}
	e = classify(ctx, err)
	if ours, _ := errors.AsType[*Error](err); ours != nil {
		return e, false // the reason why a transaction is aborted
	}
	if e.SQLState == "" && e.Code == CodeFailed && !e.setFromContext(err, ctx.Err()) { // pgx does not always wrap it
		e.Code, e.Message = CodeUnavailable, "the connection failed"
	}
	if pgErr, ok := errors.AsType[*pgconn.PgError](err); ok {
		e.Message += s.positionHint(pgErr)
	}
	return e, false
}

// resultError is the error of a statement whose reply the client cannot use, because of e.
// It ends the reading: how the statement ended is the server's word alone, and if that
// says that it failed, this is the error, which reaches e as well.
func (s *statement) resultError(ctx context.Context, r *result, e *Error) *Error {
	asked := s.stopReading(ctx, r)
	err := r.rows.Err()
	pgErr, answered := errors.AsType[*pgconn.PgError](err)
	switch {
	case answered && !(asked && pgErr.Code == queryCanceled),
		err != nil && !s.mayStopReading(r): // the connection was lost, and not by us
		return s.statementError(ctx, r, err).after(e)
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

// invalidatesConn reports whether the failure is the connection's, so that another attempt
// needs another one: its server has become a standby, or its prepared statements
// are gone.
func (e *Error) invalidatesConn() bool {
	return e.SQLState == "25006" || e.SQLState == "26000" || e.SQLState == "42P05"
}

// discardConn closes a pooled connection whose failure is its own, and has the others looked
// at if it is theirs as well.
func discardConn(conn *pgx.Conn, e *Error) {
	if e.invalidatesPool() {
		if w := netConnOf(conn); w != nil {
			w.tracker.invalidateAll(w, e)
		}
	}
	if e.invalidatesConn() {
		_ = conn.Close(context.Background())
	}
}

// reconcileCode makes the code agree with the effect.
func (e *Error) reconcileCode() {
	switch {
	case e.Effect == Unknown && e.Code == CodeUnavailable:
		e.Code = CodeUnknownEffect
	case e.Effect == NotApplied && e.Code == CodeUnknownEffect:
		e.Code = CodeUnavailable
	}
}

// isDefinite reports whether the server's word means that the statement was rolled
// back. A FATAL may have raced with the statement's end, class 08 is a pooler's
// guess, unless it is the server's refusal of a Bind, and 40003 says by name that nobody
// knows.
func isDefinite(pgErr *pgconn.PgError) bool {
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

// preSendError recognises the errors with which pgx refuses a statement before
// it writes a byte of it. They have no type; a test holds their text.
func (s *statement) preSendError(err error) *Error {
	text := err.Error()
	if i, _, ok := encodeError(err); ok {
		field := "the parameter"
		if i >= 0 && i < len(s.params) {
			field = s.params[i]
		}
		return newFieldError(field, "encode", "does not fit the type of its parameter in the SQL", err)
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

// newFieldError is the error of one field whose value cannot be sent.
func newFieldError(field, rule, message string, cause error) *Error {
	return &Error{
		Code: CodeInvalid, Effect: NotApplied, Err: cause,
		Message:  "the input was refused",
		Problems: []Problem{{Field: field, Rule: rule, Message: message}},
	}
}

// positionHint says where in the SQL the server stopped, if it did: a word of the SQL,
// never a literal.
func (s *statement) positionHint(pgErr *pgconn.PgError) string {
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
