package pgcmd

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// begin makes a transaction on a connection that has none. Nothing is sent: BEGIN,
// and the timeout that the context's deadline means, wait for the first statement.
func begin(ctx context.Context, conn *pgx.Conn, pool *pgxpool.Pool, o pgx.TxOptions) *Tx {
	s := &txn{db: conn, conn: conn, pool: pool, options: o}
	s.deferred = append(s.deferred, deferredStmt{sql: beginSQL(o)})
	if deadline, ok := ctx.Deadline(); ok {
		s.deferred = append(s.deferred, timeoutUntil(deadline))
	}
	return &Tx{s: s}
}

// setTimeoutSQL sets statement_timeout for the transaction, to $1 milliseconds, or
// keeps what there is if that is shorter.
const setTimeoutSQL = `select set_config('statement_timeout', least($1::int8,
	nullif((extract(epoch from current_setting('statement_timeout')::interval) * 1000)::int8, 0))::text, true)`

// timeoutUntil sets statement_timeout to the time that is left before a deadline.
func timeoutUntil(deadline time.Time) deferredStmt {
	return deferredStmt{sql: setTimeoutSQL, args: []any{timeoutSetting(serverTimeout(time.Until(deadline)))}}
}

// timeoutSetting is a duration in the unit of PostgreSQL's timeouts, which hold 32 bits:
// 24.8 days at most.
func timeoutSetting(d time.Duration) int64 {
	return min(d.Milliseconds(), math.MaxInt32)
}

// limitTimeout sets statement_timeout for a command that has joined with a deadline of
// its own, until restore is called. Neither costs a round trip.
func (s *txn) limitTimeout(ctx context.Context) (restore func()) {
	deadline, ok := ctx.Deadline()
	if !ok || s.external {
		return func() {}
	}
	s.timeouts++
	saved := fmt.Sprintf("pgcmd.timeout_%d", s.timeouts)
	save := deferredStmt{sql: "select set_config('" + saved + "', current_setting('statement_timeout'), true)"}
	s.deferred = append(s.deferred, save, timeoutUntil(deadline))
	return func() {
		if !s.dropDeferred(save.sql) && s.status() == 'T' {
			s.deferred = append(s.deferred, deferredStmt{sql: "select set_config('statement_timeout', current_setting('" + saved + "'), true)"})
		}
	}
}

// serverTimeout is a bit less than the client's, so that a statement that is too
// slow ends by the server's word, which leaves the connection alive; the context is
// the backstop, which does not.
func serverTimeout(remaining time.Duration) time.Duration {
	return max(time.Millisecond, remaining-timeoutMargin(remaining))
}

func timeoutMargin(remaining time.Duration) time.Duration {
	return min(50*time.Millisecond, remaining/4)
}

// checkCompatible refuses a command that asks for more than the transaction gives.
func (s *txn) checkCompatible(o Options) *Error {
	switch {
	case s.external:
		return nil // what it was begun with cannot be seen
	case isolation(s.options.IsoLevel) < isolation(o.Tx.IsoLevel):
		return &Error{Code: CodeInternal, Message: "it asks for " + string(o.Tx.IsoLevel) + ", and the transaction that it joins was begun with a weaker isolation"}
	case s.options.AccessMode == pgx.ReadOnly && !o.ReadOnly && o.Tx.AccessMode != pgx.ReadOnly:
		return &Error{Code: CodeInternal, Message: "the transaction that it joins is read-only: run it in another, or say that it is ReadOnly"}
	}
	return nil
}

// closeRows ends a reading that the body left open, and reports whether it did.
func (s *txn) closeRows() bool {
	if s.open == nil {
		return false
	}
	drainFew(s.open.Rows, maxDrainTime)
	if s.conn != nil && s.conn.PgConn().IsBusy() {
		closeWithoutDraining(s.conn, s.open) // too many to read: with the connection goes the transaction
		if s.conn.IsClosed() && s.connLost == nil {
			s.connLost = errLost
		}
	} else {
		s.open.Close()
	}
	return true
}

// rollback ends the transaction on a context of its own. A connection on which
// that fails is closed.
func (s *txn) rollback(ctx context.Context) {
	s.closed.Store(true)
	s.closeRows()
	s.verify()
	if !s.beginSent || s.conn.IsClosed() || s.status() == 'I' {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), endTime)
	defer cancel()
	if _, err := s.conn.Exec(ctx, "rollback"); err != nil {
		_ = s.conn.Close(ctx)
	}
}

// mayCommit returns why the transaction cannot be committed, although its body
// succeeded.
func (s *txn) mayCommit(ctx context.Context) *Error {
	swallowed := func(err error, message string) *Error {
		e := classify(ctx, err)
		e.Message = message + ": " + e.Message
		return e
	}
	s.verify()
	switch {
	case s.closeRows():
		return &Error{Code: CodeInternal, Message: "the body left rows open: what they would have said is lost; close them, and look at their Err"}
	case s.inUse.Load():
		return &Error{Code: CodeInternal, Message: "the body left a batch open: what it would have said is lost; close it, and look at the error"}
	case s.misused != nil:
		e := *s.misused
		return &e
	case s.unrecoverable != nil:
		return swallowed(s.unrecoverable, "the body went on after an error that ends the transaction")
	case s.endedBySQL || s.beginSent && s.status() == 'I':
		s.endedBySQL = true
		e := *errEscaped
		if s.connLost != nil {
			e.Message, e.Err = "the connection was lost after the body had used the transaction's Conn, and with it what is known of the transaction", s.connLost
		}
		return &e
	case s.aborted != nil && s.status() != 'T':
		return swallowed(s.aborted, "the body swallowed the error that aborted the transaction")
	case s.beginSent && s.status() == 'E':
		return &Error{Code: CodeInternal, Message: "the transaction was aborted, and the body swallowed the error"}
	case s.connLost != nil:
		e := swallowed(s.connLost, "the body swallowed the error with which the connection was lost")
		if e.SQLState == "" && e.Code == CodeFailed {
			e.Code, e.Message = CodeUnavailable, "the body went on after the connection was lost"
		}
		return e
	case s.conn.IsClosed():
		return &Error{Code: CodeUnavailable, Message: "the connection was closed before COMMIT"}
	case ctx.Err() != nil:
		e := classify(ctx, ctx.Err())
		e.Message += " before COMMIT"
		return e
	}
	return nil
}

// rollbackError makes the error of a transaction whose body failed, once it was
// rolled back: COMMIT was never sent.
func (s *txn) rollbackError(e *Error) {
	e.Effect = NotApplied
	e.noRetry = e.noRetry || s.inputConsumed
	e.outdated = e.outdated || s.outdated != nil && errors.Is(e.Err, s.outdated)
	defer e.reconcileCode()
	if s.pool != nil && s.options.AccessMode != pgx.ReadOnly {
		discardConn(s.conn, e)
	}
	switch {
	case s.outcomeUnproven():
		e.Effect, e.noRetry = Unknown, true
	case s.connLost != nil && e.SQLState == "" && errors.Is(e.Err, s.connLost):
		if e.Code == CodeFailed || e.Code == CodeUnknownEffect {
			e.Code, e.Message = CodeUnavailable, "the connection failed in the transaction"
		}
	}
}

// mustRollBack reports whether the transaction can only be rolled back.
func (s *txn) mustRollBack() bool {
	if s.verify(); s.outcomeUnproven() {
		return false
	}
	return s.unrecoverable != nil || s.connLost != nil || s.conn != nil && s.status() != 'T' && s.beginSent && !s.endedBySQL
}
