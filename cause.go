package pgcmd

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// classify makes the *Error that says what err is. Command and Effect are for the
// caller to set. An *Error within err is copied, not changed: it may be a sentinel.
func classify(ctx context.Context, err error) *Error {
	if inner, ok := errors.AsType[*Error](err); ok && inner != nil {
		e := *inner
		e.Err, e.secondary = err, nil
		return &e
	} else if ok {
		return &Error{Code: CodeFailed, Err: err, Message: "failed with a nil *pgcmd.Error, which as an error is not nil: return nil itself"}
	}
	e := &Error{Code: CodeFailed, Err: err}
	if pgErr, ok := errors.AsType[*pgconn.PgError](err); ok {
		e.setFromPgError(ctx, pgErr)
		if _, ok := errors.AsType[*pgconn.ConnectError](err); ok {
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
	case isEncodeError(withoutBatch(err)):
		e.Code, e.Message = CodeInvalid, "an argument does not fit the type of its parameter in the SQL"
	case isConnectError(err):
		e.Code, e.Message = CodeUnavailable, "no connection could be made: is the server running, and is the address right?"
	default:
		e.Message = fmt.Sprintf("failed with %T (its text is withheld, since it may hold values: return pgcmd.Errorf for one that is shown)", err)
	}
	return e
}

func isConnectError(err error) bool {
	_, ok := errors.AsType[*pgconn.ConnectError](err)
	return ok
}

// setFromPgError fills e from what PostgreSQL said: its code and the names of its
// objects. Its message and detail hold values, and stay in Err.
func (e *Error) setFromPgError(ctx context.Context, pgErr *pgconn.PgError) {
	condition := conditionOf(pgErr.Code)
	e.Code = condition.code
	e.SQLState = pgErr.Code
	e.Constraint, e.Table, e.Column = pgErr.ConstraintName, pgErr.TableName, pgErr.ColumnName
	e.Message = condition.name
	switch {
	case e.Constraint != "" && e.Table != "":
		e.Message += ": constraint " + e.Constraint + " of table " + e.Table
	case e.Constraint != "":
		e.Message += ": constraint " + e.Constraint
	case e.Column != "" && e.Table != "":
		e.Message += ": column " + e.Column + " of table " + e.Table
	case e.Table != "":
		e.Message += ": table " + e.Table
	}
	if pgErr.Code != queryCanceled {
		return
	}
	// The server says 57014 for whoever cancelled. Its text tells which, in
	// English only: another language counts as its own timeout.
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

const queryCanceled = "57014"

func closeToDeadline(ctx context.Context) bool {
	deadline, ok := ctx.Deadline()
	return ok && time.Until(deadline) <= 2*timeoutMargin(time.Hour)
}

// setFromContext fills e if reason, for which err came, is a context's.
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
		e.secondary = reason // pgx does not always wrap it
	}
	return true
}
