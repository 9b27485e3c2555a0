package pgcmd

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/pgcmd/pgcmd/internal/connpool"
	"github.com/pgcmd/pgcmd/internal/pgcommit"
	"github.com/pgcmd/pgcmd/internal/sqlstate"
	"github.com/pgcmd/pgcmd/internal/stmtcache"
)

const noReplyToCommit = "COMMIT was sent, and no reply came: it may or may not be applied"

// commit ends the transaction, and returns nil if and only if it is committed.
func (s *txn) commit(ctx context.Context) *Error {
	if e := s.mayCommit(ctx); e != nil {
		s.rollback(ctx)
		e.Effect = NotApplied
		if s.outcomeUnproven() {
			e.Effect, e.noRetry = Unknown, true
		}
		return e
	}
	s.closed.Store(true)
	if !s.beginSent {
		return nil // nothing was sent
	}
	before, counted := connpool.Sent(s.conn)
	tag, err := s.sendCommit(ctx)
	if err == nil && tag.String() == "COMMIT" {
		return nil
	}
	if err == nil {
		return answeredRollback()
	}
	after, _ := connpool.Sent(s.conn)
	return s.commitFailed(ctx, err, counted && after == before)
}

// sendCommit sends COMMIT, and returns the tag of the server's reply.
func (s *txn) sendCommit(ctx context.Context) (tag pgconn.CommandTag, err error) {
	tag, s.unreplicated, err = pgcommit.Send(ctx, s.conn, stmtcache.ConfigOf(s.conn), s.commitTimeout)
	return tag, err
}

// mayCommit returns nil, or the error of a transaction that cannot be committed although its
// body returned no error.
func (s *txn) mayCommit(ctx context.Context) *Error {
	swallowed := func(err error, message string) *Error {
		e := classify(ctx, err)
		e.Message = message + ": " + e.Message
		return e
	}
	s.verifyMarker()
	switch {
	case s.closeRows():
		return &Error{Code: CodeInternal, Message: "the body left rows open: what they would have said is lost; close them, and look at their Err"}
	case s.inUse.Load():
		return &Error{Code: CodeInternal, Message: "the body left a batch open: what it would have said is lost; close it, and look at the error"}
	case s.state.misused != nil:
		e := *s.state.misused
		return &e
	case s.state.unrecoverable:
		return swallowed(s.state.err, "the body went on after an error that ends the transaction")
	case s.state.endedBySQL || s.beginSent && s.status() == 'I':
		s.state.endedBySQL = true
		e := *errEndedBySQL
		if s.state.connLost != nil {
			e.Message, e.Err = "the connection was lost after the body had used the transaction's Conn, and with it what is known of the transaction", s.state.connLost
		}
		return &e
	case s.state.aborted && s.status() != 'T':
		return swallowed(s.state.err, "the body swallowed the error that aborted the transaction")
	case s.beginSent && s.status() == 'E':
		return &Error{Code: CodeInternal, Message: "the transaction was aborted, and the body swallowed the error"}
	case s.state.connLost != nil:
		e := swallowed(s.state.connLost, "the body swallowed the error with which the connection was lost")
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

// answeredRollback makes the error of a COMMIT that the server answered with ROLLBACK.
func answeredRollback() *Error {
	return &Error{Code: CodeInternal, Effect: NotApplied, Err: pgx.ErrTxCommitRollback,
		Message: "COMMIT was answered with ROLLBACK: an earlier statement failed and its error was ignored"}
}

// commitFailed makes the error of a COMMIT that failed. unsent is true if it was not sent.
func (s *txn) commitFailed(ctx context.Context, err error, unsent bool) *Error {
	e := classify(context.WithoutCancel(ctx), err)
	pgErr, answered := errors.AsType[*pgconn.PgError](err)
	switch {
	case s.options.AccessMode == pgx.ReadOnly:
		e.Effect = NotApplied // it changed nothing
	case answered && sqlstate.IsDefinite(pgErr) && !strings.HasPrefix(pgErr.Code, "XX"), unsent:
		e.Effect = NotApplied
	default:
		e.Effect = Unknown
	}
	if !answered {
		if e.Effect == NotApplied && s.options.AccessMode == pgx.ReadOnly {
			e.Code, e.Message = CodeUnavailable, "COMMIT had no reply, of a transaction that only read"
		} else if e.Effect == NotApplied {
			e.Code, e.Message = CodeUnavailable, "the connection failed before COMMIT was sent"
		} else {
			e.Code, e.Message = CodeUnknownEffect, noReplyToCommit
		}
	}
	e.reconcileCode()
	if s.status() != 'I' {
		pgcommit.Close(s.conn)
	}
	return e
}

// rollback rolls the transaction back, on a context that does not end with ctx. If that fails,
// it closes the connection.
func (s *txn) rollback(ctx context.Context) {
	s.closed.Store(true)
	s.closeRows()
	s.verifyMarker()
	if !s.beginSent || s.conn.IsClosed() || s.status() == 'I' {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), endTime)
	defer cancel()
	if _, err := s.conn.Exec(ctx, "rollback"); err != nil {
		_ = s.conn.Close(ctx)
	}
}

// rollbackError completes the error of a body, after its transaction was rolled back.
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
	case s.state.connLost != nil && e.SQLState == "" && errors.Is(e.Err, s.state.connLost):
		if e.Code == CodeFailed || e.Code == CodeUnknownEffect {
			e.Code, e.Message = CodeUnavailable, "the connection failed in the transaction"
		}
	}
}

// mustRollBack reports whether the transaction can only be rolled back.
func (s *txn) mustRollBack() bool {
	if s.verifyMarker(); s.outcomeUnproven() {
		return false
	}
	return s.state.unrecoverable || s.state.connLost != nil || s.conn != nil && s.status() != 'T' && s.beginSent && !s.state.endedBySQL
}

// directUse is what is known of the use of a connection that Conn returned.
type directUse struct {
	handedOut      bool   // by Conn
	used           bool   // statements may have been sent on it since
	sent           int64  // bytes, at the last use by the transaction
	marker         string // the portal that exists as long as the transaction; empty if there is none
	savepointsUsed bool   // SQL of the body made savepoints before there was a marker
}

// readyConn calls ready, unless the transaction is not usable, and returns the connection.
func (s *txn) readyConn(tx *Tx, ready func(ctx context.Context) error) *pgx.Conn {
	if tx.lock(context.Background()) == nil {
		ctx, cancel := context.WithTimeout(context.Background(), endTime)
		defer cancel()
		_ = s.unlockWith(ready(ctx))
	}
	return s.conn
}

// checkDirectUse sets direct.used if something was sent on Conn since the last use by the
// transaction, or if the connection does not count what is sent.
func (s *txn) checkDirectUse() {
	if s.direct.handedOut && !s.direct.used {
		now, counted := connpool.Sent(s.conn)
		s.direct.used = !counted || now != s.direct.sent
	}
}

// setMarker sends the deferred statements, and makes a portal that marks the transaction, if
// there is none: PostgreSQL closes it with the transaction, and not before, unless SQL of the
// body rolls back to a savepoint that is older. It is never executed.
func (s *txn) setMarker(ctx context.Context) error {
	if s.conn == nil || s.direct.marker != "" || s.direct.savepointsUsed || s.status() == 'E' {
		return s.sendDeferred(ctx)
	}
	name := fmt.Sprintf("pgcmd_marker_%d", stmtcache.OnConn(s.conn).NextID())
	deferred := s.deferred
	s.deferred = nil
	err := s.exchange(func(to *pgproto3.Frontend) {
		for _, q := range deferred {
			sendInternal(to, q)
		}
		to.SendParse(&pgproto3.Parse{Query: "set local pgcmd.marker to 'never executed'"})
		to.SendBind(&pgproto3.Bind{DestinationPortal: name})
	})
	s.beginSent = s.beginSent || err == nil || s.status() != 'I'
	if err == nil {
		s.direct.marker = name
	}
	return err
}

// checkStatus sets endedBySQL if the transaction was ended on Conn, as far as the client knows
// without a round trip.
func (s *txn) checkStatus() {
	switch status := s.status(); {
	case s.state.endedBySQL || !s.beginSent || s.conn != nil && s.conn.PgConn().IsBusy(): // the status is that before the statement in progress
	case status == 'I':
		s.state.endedBySQL = !s.state.aborted || s.direct.handedOut
	case status == 0 && s.direct.handedOut && s.state.connLost == nil: // perhaps during a COMMIT on Conn
		s.checkDirectUse()
		s.state.endedBySQL = s.direct.used
	}
}

// verifyMarker sets endedBySQL if the transaction on the server is not the one that was begun;
// the check aborts such a transaction. It costs a round trip if Conn was used directly.
func (s *txn) verifyMarker() {
	if s.checkDirectUse(); !s.direct.used {
		s.checkStatus()
		return
	}
	if s.checkStatus(); s.state.endedBySQL || !s.beginSent || s.direct.marker == "" || s.status() == 0 || s.conn.PgConn().IsBusy() {
		return
	}
	err := s.exchange(func(to *pgproto3.Frontend) {
		to.SendDescribe(&pgproto3.Describe{ObjectType: 'P', Name: s.direct.marker})
	})
	if s.state.endedBySQL = err != nil; s.conn.IsClosed() && s.state.connLost == nil {
		s.state.connLost = err
	}
}

// outcomeUnproven reports whether the transaction may have been committed on Conn or by SQL of
// the body.
func (s *txn) outcomeUnproven() bool {
	return s.state.endedBySQL || s.direct.used && s.direct.marker == ""
}

// invalidateMarker forgets the marker if a statement, in lower case, may close it without
// ending the transaction.
func (s *txn) invalidateMarker(sql string) {
	s.direct.savepointsUsed = s.direct.savepointsUsed || s.direct.marker == "" && strings.Contains(sql, "savepoint")
	if s.direct.marker != "" && (strings.Contains(sql, "rollback") || strings.Contains(sql, "close")) {
		s.direct.marker = ""
	}
}

// errUnreplicated is returned by a body together with its output, as a warning: the body's
// work is committed, and the synchronous standby did not confirm it.
var errUnreplicated = errors.New("pgcmd: committed, but the synchronous standby has not got it")

// countUnreplicated makes the connections of cfg count their commits that the standby did
// not confirm.
func countUnreplicated(cfg *pgconn.Config) {
	hook := cfg.OnNotice
	cfg.OnNotice = func(pg *pgconn.PgConn, n *pgconn.Notice) {
		if pgcommit.LacksStandby(n) {
			connpool.OfPgConn(pg).AddUnreplicated()
		}
		if hook != nil {
			hook(pg, n)
		}
	}
}

// warning returns errUnreplicated if the standby did not confirm the statement. It is called
// after the statement has ended.
func (r *result) warning() error {
	if r.netConn != nil && r.netConn.Unreplicated() != r.unreplicated {
		return errUnreplicated
	}
	return nil
}
