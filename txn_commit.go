package pgcmd

import (
	"context"
	"errors"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgcmd/pgcmd/internal/connpool"
	"github.com/pgcmd/pgcmd/internal/pgcommit"
	"github.com/pgcmd/pgcmd/internal/sqlstate"
	"github.com/pgcmd/pgcmd/internal/stmtcache"
)

const noReplyToCommit = "COMMIT was sent, and no reply came: it may or may not be applied"

// commit ends the transaction, and returns nil if and only if it is committed.
func (s *sharedTx) commit(ctx context.Context) *Error {
	if e := s.mayCommit(ctx); e != nil {
		s.Rollback(ctx)
		e.Effect = NotApplied
		if s.OutcomeUnproven() {
			e.Effect, e.noRetry = Unknown, true
		}
		return e
	}
	s.Close()
	if !s.BeginSent {
		return nil // nothing was sent
	}
	before, counted := connpool.Sent(s.Conn)
	tag, err := s.sendCommit(ctx)
	if err == nil && tag.String() == "COMMIT" {
		return nil
	}
	if err == nil {
		return answeredRollback()
	}
	after, _ := connpool.Sent(s.Conn)
	return s.commitFailed(ctx, err, counted && after == before)
}

// sendCommit sends COMMIT, and returns the tag of the server's reply.
func (s *sharedTx) sendCommit(ctx context.Context) (tag pgconn.CommandTag, err error) {
	tag, s.unreplicated, err = pgcommit.Send(ctx, s.Conn, stmtcache.ConfigOf(s.Conn), s.commitTimeout)
	return tag, err
}

// mayCommit returns nil, or the error of a transaction that cannot be committed although its
// body returned no error.
func (s *sharedTx) mayCommit(ctx context.Context) *Error {
	swallowed := func(err error, message string) *Error {
		e := classify(ctx, err)
		e.Message = message + ": " + e.Message
		return e
	}
	s.VerifyMarker()
	switch {
	case s.CloseRows():
		return &Error{Code: CodeInternal, Message: "the body left rows open, whose error is lost: close them, and return their Err"}
	case s.InUse():
		return &Error{Code: CodeInternal, Message: "the body left a batch open, whose error is lost: close it, and return the error of Close"}
	case s.State.Misused != nil:
		e := *s.State.Misused.(*Error)
		return &e
	case s.State.Unrecoverable:
		return swallowed(s.State.Err, "the body went on after an error that ends the transaction")
	case s.State.EndedBySQL || s.BeginSent && s.Status() == 'I':
		s.State.EndedBySQL = true
		e := *s.Errors.EndedBySQL.(*Error)
		if s.State.ConnLost != nil {
			e.Message, e.Err = "the connection was lost after the body had used the transaction's Conn: what it did may be applied", s.State.ConnLost
		}
		return &e
	case s.State.Aborted && s.Status() != 'T':
		return swallowed(s.State.Err, "the body swallowed the error that aborted the transaction")
	case s.BeginSent && s.Status() == 'E':
		return &Error{Code: CodeInternal, Message: "the transaction was aborted, and the body swallowed the error: return it"}
	case s.State.ConnLost != nil:
		e := swallowed(s.State.ConnLost, "the body swallowed the error with which the connection was lost")
		if e.SQLState == "" && e.Code == CodeFailed {
			e.Code, e.Message = CodeUnavailable, "the body went on after the connection was lost"
		}
		return e
	case s.Conn.IsClosed():
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
		Message: "the server answered COMMIT with ROLLBACK: an earlier statement failed, and its error was ignored"}
}

// commitFailed makes the error of a COMMIT that failed. unsent is true if it was not sent.
func (s *sharedTx) commitFailed(ctx context.Context, err error, unsent bool) *Error {
	e := classify(context.WithoutCancel(ctx), err)
	pgErr, answered := errors.AsType[*pgconn.PgError](err)
	switch {
	case s.changesNothing():
		e.Effect = NotApplied
	case answered && sqlstate.IsDefinite(pgErr) && !strings.HasPrefix(pgErr.Code, "XX"), unsent:
		e.Effect = NotApplied
	default:
		e.Effect = Unknown
	}
	if !answered {
		if s.changesNothing() {
			e.Code, e.Message = CodeUnavailable, "there was no reply to the COMMIT of a transaction that only read"
		} else if e.Effect == NotApplied {
			e.Code, e.Message = CodeUnavailable, "the connection failed before COMMIT was sent"
		} else {
			e.Code, e.Message = CodeUnknownEffect, noReplyToCommit
		}
	}
	e.reconcileCode()
	if s.Status() != 'I' {
		pgcommit.Close(s.Conn)
	}
	return e
}

// changesNothing reports whether the transaction only reads.
func (s *sharedTx) changesNothing() bool { return s.reads || s.Options.AccessMode == pgx.ReadOnly }

// effectAfterCommit is the Effect of an error that came after COMMIT.
func (s *sharedTx) effectAfterCommit() Effect {
	if s.changesNothing() {
		return NotApplied
	}
	return Applied
}

// rollbackError completes the error of a body, after its transaction was rolled back.
func (s *sharedTx) rollbackError(e *Error) {
	e.Effect = NotApplied
	e.noRetry = e.noRetry || s.inputConsumed
	e.outdated = e.outdated || s.Outdated != nil && errors.Is(e.Err, s.Outdated)
	defer e.reconcileCode()
	if s.pool != nil && s.Options.AccessMode != pgx.ReadOnly {
		discardConn(s.Conn, e)
	}
	switch {
	case s.OutcomeUnproven():
		e.Effect, e.noRetry = Unknown, true
	case s.State.ConnLost != nil && e.SQLState == "" && errors.Is(e.Err, s.State.ConnLost):
		if e.Code == CodeFailed || e.Code == CodeUnknownEffect {
			e.Code, e.Message = CodeUnavailable, "the connection failed in the transaction"
		}
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
