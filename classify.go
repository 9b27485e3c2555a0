package pgcmd

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pgcmd/pgcmd/internal/connpool"
	"github.com/pgcmd/pgcmd/internal/dbtypes"
	"github.com/pgcmd/pgcmd/internal/multiplex"
	"github.com/pgcmd/pgcmd/internal/pgxerr"
	"github.com/pgcmd/pgcmd/internal/rowscan"
	"github.com/pgcmd/pgcmd/internal/sqlstate"
	"github.com/pgcmd/pgcmd/internal/stmtcache"
	"github.com/pgcmd/pgcmd/internal/txn"
	"github.com/pgcmd/pgcmd/internal/typemap"
)

// This file is the only place where an error of pgx, of PostgreSQL or of an internal package
// becomes a Code, and that of a statement an Effect. The end of a larger unit of work decides its
// own: see docs/architecture.md.

// classify makes the *Error for err. The caller sets Command and Effect. An *Error within
// err is copied, not changed: it may be a package-level variable.
func classify(ctx context.Context, err error) *Error {
	if inner, ok := errors.AsType[*Error](err); ok && inner != nil {
		e := *inner
		e.Err, e.secondary, e.unchanged = err, nil, false
		return &e
	} else if ok {
		return &Error{Code: CodeFailed, Err: err, Message: "failed with a nil *pgcmd.Error, which as an error is not nil: return nil itself"}
	}
	e := &Error{Code: CodeFailed, Err: err}
	if pgErr, ok := errors.AsType[*pgconn.PgError](err); ok {
		e.setFromPgError(ctx, pgErr)
		if refused, ok := errors.AsType[*stmtcache.SettingError](err); ok {
			e.Message = "the setting " + refused.Name + " of Config.Settings was refused: " + cmp.Or(sqlstate.SettingHint(pgErr.Code), e.Message)
		}
		if pgxerr.IsConnect(err) {
			e.Message = "connecting failed: " + e.Message
		}
		return e
	}
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		e.Code, e.Message = CodeNotFound, "no row was found"
	case errors.Is(err, pgx.ErrTooManyRows):
		e.Code, e.Message = CodeTooManyRows, "more rows were found than asked for"
	case errors.Is(err, pgx.ErrTxClosed):
		e.Code, e.Message = CodeInternal, "the transaction has ended: it was committed or rolled back before this command"
	case e.setFromContext(err, err):
	case pgxerr.IsEncode(pgxerr.WithoutBatch(err)):
		e.Code, e.Message = CodeInvalid, "an argument does not fit the type of its parameter in the SQL: change its value or its type, or cast the parameter"
	case pgxerr.IsConnect(err):
		e.Code, e.Message = CodeUnavailable, "no connection could be made: is the server running, and is the address right?"
	default:
		e.Message = fmt.Sprintf("failed with %T (its text is withheld, since it may hold values: return pgcmd.Errorf for one that is shown)", err)
	}
	return e
}

// setFromPgError sets the code and the names of the objects that PostgreSQL reports. Its
// message and detail may hold values, and stay in Err.
func (e *Error) setFromPgError(ctx context.Context, pgErr *pgconn.PgError) {
	code, message := sqlstate.Describe(pgErr, "")
	e.Code, e.Message, e.SQLState = Code(code), message, pgErr.Code
	e.Constraint, e.Table, e.Column = pgErr.ConstraintName, pgErr.TableName, pgErr.ColumnName
	if pgErr.Code != sqlstate.QueryCanceled {
		return
	}
	// The server reports 57014 for every reason to cancel. Only its text tells them apart,
	// and only in English: in another language the error counts as statement_timeout.
	switch ctxErr := ctx.Err(); {
	case errors.Is(ctxErr, context.DeadlineExceeded):
		e.Message, e.secondary = "the deadline passed, and the server stopped the statement", ctxErr
	case ctxErr != nil:
		e.Code, e.Message, e.secondary = CodeCanceled, "the caller gave up, and the server stopped the statement", ctxErr
	case closeToDeadline(ctx): // our own statement_timeout, which is a bit shorter
		e.Message, e.secondary = "the deadline passed, and the server stopped the statement", context.DeadlineExceeded
	case strings.Contains(pgErr.Message, "user request"):
		e.Code, e.Message = CodeCanceled, "the statement was cancelled on the server"
	default:
		e.Message = "the server's statement_timeout passed"
	}
}

func closeToDeadline(ctx context.Context) bool {
	deadline, ok := ctx.Deadline()
	return ok && time.Until(deadline) <= 2*txn.TimeoutMargin(time.Hour)
}

// setFromContext sets the code if reason is the error of a context, and reports whether it
// is. reason is the cause of err, which does not always wrap it.
func (e *Error) setFromContext(err, reason error) bool {
	switch {
	case errors.Is(reason, context.DeadlineExceeded):
		e.Code, e.Message = CodeTimeout, "the deadline passed"
	case errors.Is(reason, context.Canceled):
		e.Code, e.Message = CodeCanceled, "the caller gave up"
	default:
		return false
	}
	if !errors.Is(err, reason) {
		e.secondary = reason
	}
	return true
}

// newUnsentError makes the error of a statement that was not sent.
func newUnsentError(ctx context.Context, err error) *Error {
	e := classify(ctx, err)
	e.Effect = NotApplied
	return e
}

// newFieldError makes the error of one field whose value cannot be sent.
func newFieldError(field, rule, message string, cause error) *Error {
	return &Error{
		Code: CodeInvalid, Effect: NotApplied, Err: cause,
		Message:  "the input was refused",
		Problems: []Problem{{Field: field, Rule: rule, Message: message}},
	}
}

const msgNoConnection = "no connection available: is the pool closed?"

// newAcquireError makes the error of a pool that could not acquire a connection.
func newAcquireError(ctx context.Context, pool *pgxpool.Pool, t *connpool.Tracker, err error) *Error {
	if ce, ok := errors.AsType[*pgconn.ConnectError](err); ok && ce.Config != nil {
		settings := *ce.Config
		settings.Password = "" // so that printing the cause does not print it
		ce.Config = &settings
	}
	loading := dbtypes.As(err)
	if loading != nil && (len(loading.Missing) > 0 || loading.Refusal() != "") {
		return newTypesError(loading)
	}
	e := newUnsentError(ctx, err)
	switch {
	case pgxerr.IsPoolClosed(err):
		e.Code, e.Message = CodeUnavailable, msgPoolClosed
	case errors.Is(err, multiplex.ErrOpenTx):
		e.Code, e.Message = CodeInternal, "AfterConnect left a transaction open on a connection that is to be shared: end it there"
	case pgxerr.IsConnect(err) && errors.Is(err, context.Canceled) && ctx.Err() == nil: // a context of pgxpool's, not the caller's
		e.Code, e.Message = CodeUnavailable, msgNoConnection
	case pgxerr.IsConnect(err) && e.SQLState != "":
		e.Message = cmp.Or(sqlstate.ConnectHint(e.SQLState), e.Message)
	case pgxerr.IsConnect(err):
		if e.Message = pgxerr.DialHint(err); ctx.Err() == nil {
			e.Code = CodeUnavailable
		}
	case e.SQLState != "":
	case errors.Is(err, connpool.ErrHookPanicked):
		e.Code, e.Message = CodeInternal, "a hook of the pool (BeforeConnect, AfterConnect or PrepareConn) panicked: correct the hook"
	case loading != nil:
		e.Code, e.Message = CodeUnavailable, "the connection was lost, or slow, while it loaded Config.Types"
	case e.Code == CodeTimeout:
		stat := pool.Stat()
		e.Code = CodeExhausted
		e.Message = fmt.Sprintf("no connection came before the deadline: %d of %d were in use", stat.AcquiredConns(), stat.MaxConns())
		if stat.AcquiredConns() == stat.MaxConns() {
			e.Message += " (raise MaxConns, or hold connections for less time)"
		}
		if leases := t.Leases(); leases != "" {
			e.Message += ": " + leases
		}
	case e.Code == CodeFailed:
		e.Code, e.Message = CodeUnavailable, msgNoConnection
	}
	return e
}

// newTypesError makes the error of Config.Types that the database does not have.
func newTypesError(failure *dbtypes.Error) *Error {
	e := &Error{Code: CodeInvalid, Effect: NotApplied, Message: "the settings were refused", Err: failure}
	add := func(format string, args ...any) {
		e.Problems = append(e.Problems, Problem{Field: "Types", Rule: "config", Message: fmt.Sprintf(format, args...)})
	}
	for _, name := range failure.Missing {
		add("names %s, which the database does not have: migrate the database first, correct the name, or name its schema, as in app.mood, if that is not in the search_path", name)
	}
	if refusal := failure.Refusal(); refusal != "" {
		add("cannot be loaded: %s", refusal)
	}
	return e
}

// statementError makes the error of a statement that was handed to pgx, with its Effect.
func (s *statement) statementError(ctx context.Context, r *result, err error) *Error {
	if r.heldTx != nil {
		err = r.heldTx.State.Cause(err)
	}
	e, refused := s.classifyStatement(ctx, err)
	if refused {
		return e
	}
	if r.limits.bytes > 0 && connpool.ExceedsRowLimit(err) {
		e = tooManyBytes(r.limits.bytes)
		e.Err = err
	}
	pgErr, answered := errors.AsType[*pgconn.PgError](err)
	if answered && s.checks != nil && r.rows != nil && r.rows.Conn() != nil { // the schema may have changed
		stmtcache.OnConn(r.rows.Conn()).InvalidateParamsOf(s.text.SQL)
	}
	e.outdated = answered && (r.described || stmtcache.CachesDescriptions(r.connection())) && s.isOutdated(r.connection(), err)
	if r.conn != nil {
		discardConn(r.conn.Conn(), e)
	}
	r.inTx.explainReadOnly(e)
	switch {
	case s.reads || pgxerr.IsConnect(err):
		e.Effect = NotApplied
	case r.failedBeforeSend || r.unsent() || isOfSetting(err):
		e.Effect = NotApplied
	case r.joined && !s.text.Ends:
		// It was not executed, or its transaction can no longer commit.
		e.Effect = NotApplied
	case answered && s.text.Atomic() && sqlstate.IsDefinite(pgErr):
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

// explainReadOnly corrects the error of a write in a transaction that was begun read-only: that
// is a mistake of the program, and not a server that has become read-only. A nil s has none.
func (s *serverTx) explainReadOnly(e *Error) {
	if s != nil && e.SQLState == sqlstate.ReadOnlyTransaction && s.Options.AccessMode == pgx.ReadOnly {
		e.Code = CodeInternal
		e.Message = "the SQL writes, and the transaction is read-only by Options.ReadOnly or Options.Tx: take that away, or run the SQL in another transaction"
	}
}

// isOfSetting reports whether err is the server's about a setting: what comes after it is not
// executed.
func isOfSetting(err error) bool {
	_, ok := errors.AsType[*stmtcache.SettingError](err)
	return ok
}

// classifyStatement makes the error of a statement, without its Effect. refused is true if
// pgx refused the statement before it sent anything.
func (s *statement) classifyStatement(ctx context.Context, err error) (e *Error, refused bool) {
	if e := s.argError(typemap.EncodeError(ctx, nil, nil, nil, nil, err)); e != nil {
		return e, true
	}
	if message, ofCode := pgxerr.Refusal(err); message != "" {
		e := &Error{Code: CodeInvalid, Effect: NotApplied, Err: err, Message: message}
		if ofCode {
			e.Code = CodeInternal
		}
		return e, true
	}
	e = classify(ctx, err)
	if ours, _ := errors.AsType[*Error](err); ours != nil {
		return e, false // the error that aborted the transaction
	}
	if e.SQLState == "" && e.Code == CodeFailed && !e.setFromContext(err, ctx.Err()) { // pgx does not always wrap it
		e.Code, e.Message = CodeUnavailable, "the connection failed"
	}
	if pgErr, ok := errors.AsType[*pgconn.PgError](err); ok {
		if near := s.text.Near(pgErr.Position); near != "" {
			_, e.Message = sqlstate.Describe(pgErr, near)
		}
	}
	return e, false
}

// unappliedError makes the error of SQL of pgcmd's own that has changed nothing.
func unappliedError(ctx context.Context, err error) *Error {
	e, _ := new(statement).classifyStatement(ctx, err)
	e.Effect = NotApplied
	e.reconcileCode()
	return e
}

// resultError makes the error of a statement whose result the client cannot use, because
// of e. It stops reading the result. If the server reports then that the statement failed,
// that is the error, and it wraps e.
func (s *statement) resultError(ctx context.Context, r *result, e *Error) *Error {
	canceled := s.stopReading(ctx, r)
	err := r.rows.Err()
	pgErr, answered := errors.AsType[*pgconn.PgError](err)
	switch {
	case answered && !(canceled && pgErr.Code == sqlstate.QueryCanceled),
		err != nil && !s.mayStopReading(r): // the connection was lost, and not by stopReading
		return s.statementError(ctx, r, err).after(e)
	}
	switch {
	case s.reads || e.unchanged:
		e.Effect = NotApplied
	case err == nil && !r.joined:
		e.Effect = Applied
	default:
		e.Effect = Unknown // canceled or lost, or the transaction goes on
	}
	return e
}

// noRowError makes the error of a QueryOne that found no row.
func (s *statement) noRowError(tag pgconn.CommandTag) *Error {
	none := !s.writes && s.text.ChangesOnlyRows && tag.String() != "" && tag.RowsAffected() == 0
	return &Error{Code: CodeNotFound, Message: "no row was found", Err: pgx.ErrNoRows, unchanged: s.reads || none}
}

// ofItem returns e as the error of one item of a batch.
func (e *Error) ofItem() *Error {
	if !e.unchanged {
		return e
	}
	item := *e
	item.Effect = NotApplied
	return &item
}

// after makes errors.Is and errors.As reach earlier too, an error that the client found
// before e; it may be nil.
func (e *Error) after(earlier *Error) *Error {
	if earlier != nil {
		e.Err = errors.Join(e.Err, earlier)
	}
	return e
}

// unsent reports whether no byte was sent since the statement was handed to pgx.
func (r *result) unsent() bool {
	return r.netConn != nil && r.rows != nil && r.netConn.Sent() == r.sentBefore
}

// invalidatesConn reports whether another attempt needs another connection.
func (e *Error) invalidatesConn() bool { return sqlstate.InvalidatesConn(e.SQLState) }

// discardConn closes a pooled connection that e makes unusable. If e is likely to meet the
// other connections of the pool too, they are checked before their next use.
func discardConn(conn *pgx.Conn, e *Error) {
	if sqlstate.InvalidatesPool(e.SQLState) {
		connpool.Of(conn).InvalidatePool(e.SQLState)
	}
	if e.invalidatesConn() {
		_ = conn.Close(context.Background())
	}
}

// discard is discardConn, unless the connection is the caller's.
func (l *connLease) discard(e *Error) {
	if l.pooled != nil {
		discardConn(l.conn, e)
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

// fromScan is the error of rows that cannot be read into their row type.
func fromScan(err *rowscan.Error) *Error {
	return &Error{Code: CodeInternal, Column: err.Column, Message: err.Message, Err: err.Err}
}

// argError makes the error of an argument that cannot be sent; nil for nil.
func (s *statement) argError(err *typemap.ArgError) *Error {
	if err == nil {
		return nil
	}
	field := "the parameter"
	if err.Param >= 0 && err.Param < len(s.params) {
		field = s.params[err.Param]
	}
	e := newFieldError(field, err.Rule, err.Message, err.Err)
	if err.WrongType && (s.built || err.Param < len(s.fields) && s.fields[err.Param].Type.Kind() != reflect.Interface) {
		e.Code, e.Message = CodeInternal, "the input has a field that cannot be sent, whatever its value"
	}
	return e
}

// unsendable makes the error of an argument that pgx could not encode on conn; nil if err is
// another error.
func (s *statement) unsendable(ctx context.Context, conn *pgx.Conn, args []any, err error) *Error {
	return s.argError(typemap.EncodeError(ctx, conn.TypeMap(), conn, s.text.Names, args, err))
}
