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
)

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
		return nil // nothing was sent: there is nothing to commit
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
	tag, unreplicated, err := pgcommit.Send(ctx, s.conn, configOf(s.conn), s.commitTimeout)
	s.unreplicated = unreplicated
	return tag, err
}

func answeredRollback() *Error {
	return &Error{Code: CodeInternal, Effect: NotApplied, Err: pgx.ErrTxCommitRollback,
		Message: "PostgreSQL answered COMMIT with ROLLBACK: a statement had failed, and nobody noticed"}
}

// commitFailed is the error of a COMMIT that failed; unsent says that it never left.
func (s *txn) commitFailed(ctx context.Context, err error, unsent bool) *Error {
	e := classify(context.WithoutCancel(ctx), err)
	pgErr, answered := errors.AsType[*pgconn.PgError](err)
	switch {
	case s.options.AccessMode == pgx.ReadOnly:
		e.Effect = NotApplied // there was nothing to apply
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

const noReplyToCommit = "COMMIT was sent, and no reply came: it may or may not be applied"
