package pgcmd

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pgcmd/pgcmd/internal/mutant"
)

// begin makes a transaction on a connection that has none. Nothing is sent: BEGIN,
// and the timeout that the context's deadline means, wait for the first statement.
func begin(ctx context.Context, conn *pgx.Conn, pool *pgxpool.Pool, o pgx.TxOptions) *Tx {
	s := &session{db: conn, conn: conn, pool: pool, options: o}
	s.prefix = append(s.prefix, queued{sql: beginSQL(o)})
	if deadline, ok := ctx.Deadline(); ok {
		s.prefix = append(s.prefix, timeoutUntil(deadline))
	}
	return &Tx{s: s}
}

// setTimeoutSQL sets statement_timeout for the transaction, to $1 milliseconds, or
// keeps what there is if that is shorter.
const setTimeoutSQL = `select set_config('statement_timeout', least($1::int8,
	nullif((extract(epoch from current_setting('statement_timeout')::interval) * 1000)::int8, 0))::text, true)`

// timeoutUntil sets statement_timeout to the time that is left before a deadline.
func timeoutUntil(deadline time.Time) queued {
	return queued{sql: setTimeoutSQL, args: []any{timeoutSetting(serverTimeout(time.Until(deadline)))}}
}

// timeoutSetting is a duration in the unit of PostgreSQL's timeouts, which hold 32 bits:
// 24.8 days at most.
func timeoutSetting(d time.Duration) int64 {
	return min(d.Milliseconds(), math.MaxInt32)
}

// tighten sets statement_timeout for a command that has joined with a deadline of
// its own, until restore is called. Neither costs a round trip.
func (s *session) tighten(ctx context.Context) (restore func()) {
	deadline, ok := ctx.Deadline()
	if !ok || s.foreign {
		return func() {}
	}
	s.timeouts++
	saved := fmt.Sprintf("pgcmd.timeout_%d", s.timeouts)
	save := queued{sql: "select set_config('" + saved + "', current_setting('statement_timeout'), true)"}
	s.prefix = append(s.prefix, save, timeoutUntil(deadline))
	return func() {
		if !s.dropPrefix(save.sql) && s.status() == 'T' {
			s.prefix = append(s.prefix, queued{sql: "select set_config('statement_timeout', current_setting('" + saved + "'), true)"})
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

// join returns the Tx for a DB that is in a transaction already, or nil: then the
// caller has to begin one.
func join(db DB) *Tx {
	switch db := db.(type) {
	case *Tx:
		return db
	case *pgxpool.Pool, *Pool:
		return nil
	case *pgxpool.Conn:
		return joinConn(db.Conn())
	case *pgx.Conn:
		return joinConn(db)
	case pgx.Tx:
		return &Tx{s: &session{db: db, conn: db.Conn(), foreign: true, begun: true}}
	}
	return nil
}

func joinConn(conn *pgx.Conn) *Tx {
	if conn.PgConn().TxStatus() == 'I' || conn.IsClosed() {
		return nil
	}
	return &Tx{s: &session{db: conn, conn: conn, foreign: true, begun: true}}
}

// accepts refuses a command that asks for more than the transaction gives.
func (s *session) accepts(o Options) *Error {
	switch {
	case s.foreign:
		return nil // what it was begun with cannot be seen
	case isolation(s.options.IsoLevel) < isolation(o.Tx.IsoLevel):
		return &Error{Code: CodeInternal, Message: "it asks for " + string(o.Tx.IsoLevel) + ", and the transaction that it joins was begun with a weaker isolation"}
	case s.options.AccessMode == pgx.ReadOnly && !o.ReadOnly && o.Tx.AccessMode != pgx.ReadOnly:
		return &Error{Code: CodeInternal, Message: "the transaction that it joins is read-only: run it in another, or say that it is ReadOnly"}
	}
	return nil
}

// closeRows ends a reading that the body left open, and reports whether it did.
func (s *session) closeRows() bool {
	if s.open == nil {
		return false
	}
	finish(s.open.Rows, surplusTime)
	if s.conn != nil && s.conn.PgConn().IsBusy() {
		drop(s.conn, s.open) // too many to read: with the connection goes the transaction
		if s.conn.IsClosed() && s.lost == nil {
			s.lost = errLost
		}
	} else {
		s.open.Close()
	}
	return true
}

// rollback ends the transaction on a context of its own. A connection on which
// that fails is closed.
func (s *session) rollback(ctx context.Context) {
	s.over.Store(true)
	s.closeRows()
	s.verify()
	if !s.begun || s.conn.IsClosed() || s.status() == 'I' {
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
func (s *session) mayCommit(ctx context.Context) *Error {
	swallowed := func(err error, message string) *Error {
		e := causeOf(ctx, err)
		e.Message = message + ": " + e.Message
		return e
	}
	s.verify()
	switch {
	case mutant.Planted(mutant.SwallowAborted):
		return nil
	case s.closeRows():
		return &Error{Code: CodeInternal, Message: "the body left rows open: what they would have said is lost; close them, and look at their Err"}
	case s.inUse.Load():
		return &Error{Code: CodeInternal, Message: "the body left a batch open: what it would have said is lost; close it, and look at the error"}
	case s.misuse != nil:
		e := *s.misuse
		return &e
	case s.doomed != nil:
		return swallowed(s.doomed, "the body went on after an error that ends the transaction")
	case s.escaped || s.begun && s.status() == 'I':
		s.escaped = true
		e := *errEscaped
		if s.lost != nil {
			e.Message, e.Err = "the connection was lost after the body had used the transaction's Conn, and with it what is known of the transaction", s.lost
		}
		return &e
	case s.aborted != nil && s.status() != 'T':
		return swallowed(s.aborted, "the body swallowed the error that aborted the transaction")
	case s.begun && s.status() == 'E':
		return &Error{Code: CodeInternal, Message: "the transaction was aborted, and the body swallowed the error"}
	case s.lost != nil:
		e := swallowed(s.lost, "the body swallowed the error with which the connection was lost")
		if e.SQLState == "" && e.Code == CodeFailed {
			e.Code, e.Message = CodeUnavailable, "the body went on after the connection was lost"
		}
		return e
	case s.conn.IsClosed():
		return &Error{Code: CodeUnavailable, Message: "the connection was closed before COMMIT"}
	case ctx.Err() != nil:
		e := causeOf(ctx, ctx.Err())
		e.Message += " before COMMIT"
		return e
	}
	return nil
}

// rolledBack makes the error of a transaction whose body failed, once it was
// rolled back: COMMIT was never sent.
func (s *session) rolledBack(e *Error) {
	e.Effect = NotApplied
	e.final = e.final || s.consumed
	e.outdated = e.outdated || s.outdated != nil && errors.Is(e.Err, s.outdated)
	defer e.settle()
	if s.pool != nil && s.options.AccessMode != pgx.ReadOnly {
		disown(s.conn, e)
	}
	switch {
	case s.unproven():
		e.Effect, e.final = Unknown, true
	case s.lost != nil && e.SQLState == "" && errors.Is(e.Err, s.lost):
		if e.Code == CodeFailed || e.Code == CodeUnknownEffect {
			e.Code, e.Message = CodeUnavailable, "the connection failed in the transaction"
		}
	}
}

// dead reports whether the transaction can only be rolled back.
func (s *session) dead() bool {
	if s.verify(); s.unproven() {
		return false
	}
	return s.doomed != nil || s.lost != nil || s.conn != nil && s.status() != 'T' && s.begun && !s.escaped
}

func budgetOf(db DB) *budget {
	if pool, ok := db.(*Pool); ok {
		return &pool.retries
	}
	return nil
}
