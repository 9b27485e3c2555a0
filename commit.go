package pgcmd

import (
	"context"
	"errors"
	"net"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/pgcmd/pgcmd/internal/connpool"
	"github.com/pgcmd/pgcmd/internal/pgrows"
	"github.com/pgcmd/pgcmd/internal/sqlstate"
)

// commitTime bounds a COMMIT where nothing else does.
const commitTime = 5 * time.Second

// commitDeadline is until when a COMMIT that begins now is waited for.
func (s *txn) commitDeadline(ctx context.Context) time.Time {
	if s.commitTimeout > 0 {
		return time.Now().Add(s.commitTimeout)
	}
	soonest := time.Now().Add(commitTime)
	if deadline, ok := ctx.Deadline(); ok && deadline.After(soonest) {
		return deadline
	}
	return soonest
}

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

// sendCommit sends COMMIT, and returns the server's answer.
func (s *txn) sendCommit(ctx context.Context) (tag pgconn.CommandTag, err error) {
	pg := s.conn.PgConn()
	if pg.IsBusy() || pg.IsClosed() {
		return s.conn.Exec(ctx, "commit") // an error, and nothing is sent
	}
	if tracer := configOf(s.conn).Tracer; tracer != nil {
		traced := tracer.TraceQueryStart(ctx, s.conn, pgx.TraceQueryStartData{SQL: "commit"})
		defer func() { tracer.TraceQueryEnd(traced, s.conn, pgx.TraceQueryEndData{CommandTag: tag, Err: err}) }()
	}
	alive := false
	defer func() {
		if !alive { // also after a panic of the user's OnNotice
			closeQuietly(s.conn)
		}
	}()
	_ = pg.Conn().SetDeadline(s.commitDeadline(ctx))
	pg.Frontend().SendQuery(&pgproto3.Query{String: "commit"})
	if err := pg.Frontend().Flush(); err != nil {
		return tag, uncommitted(err)
	}
	raw := rawConn{conn: s.conn}
	message, err := raw.receive()
	s.unreplicated = raw.unreplicated
	switch message := message.(type) {
	case nil:
		if !isPgError(err) || s.conn.IsClosed() {
			return tag, uncommitted(err)
		}
	case *pgproto3.CommandComplete:
		tag = pgconn.NewCommandTag(string(message.CommandTag))
	default:
		return tag, pgrows.ErrMalformed
	}
	// The COMMIT is over, and its transaction's status is for pgconn to know.
	for ready := false; !ready; {
		message, lost := pg.ReceiveMessage(context.Background())
		if lost != nil {
			if err == nil {
				err = uncommitted(lost)
			}
			return tag, err
		}
		_, ready = message.(*pgproto3.ReadyForQuery)
	}
	_ = pg.Conn().SetDeadline(time.Time{})
	alive = true
	return tag, err
}

// uncommitted is the error of a COMMIT for which no reply came.
func uncommitted(err error) error {
	if timeout, ok := errors.AsType[net.Error](err); ok && timeout.Timeout() {
		return errors.Join(context.DeadlineExceeded, err)
	}
	return err
}

// closeQuietly closes a connection without asking the server to cancel what it does, as
// pgconn does when it loses one: a COMMIT would be rolled back, or, while it waits for a
// standby, become visible without it.
func closeQuietly(conn *pgx.Conn) {
	if conn.IsClosed() {
		return
	}
	_ = conn.PgConn().Conn().SetDeadline(time.Unix(1, 0)) // no goodbye that would wait
	_ = conn.Close(context.Background())
}

// A rawConn reads the replies of a server that may be committing, past pgconn, which asks
// it to cancel whenever the connection fails. What pgconn would do with messages that come
// on their own it does, but for a changed setting: PgConn.ParameterStatus does not show one
// that comes before the reply to COMMIT, as PostgreSQL 13 sends it.
type rawConn struct {
	conn         *pgx.Conn
	unreplicated bool // the server has said so
}

// receive returns the next message, or an error: of the server, which is a
// [pgconn.PgError], or of the connection.
func (r *rawConn) receive() (pgproto3.BackendMessage, error) {
	pg := r.conn.PgConn()
	for {
		message, err := pg.Frontend().Receive()
		if err != nil {
			return nil, err
		}
		switch m := message.(type) {
		case *pgproto3.ErrorResponse:
			pgErr := pgconn.ErrorResponseToPgError(m)
			if goOn := configOf(r.conn).OnPgError; goOn != nil && !goOn(pg, pgErr) {
				closeQuietly(r.conn)
			}
			return nil, pgErr
		case *pgproto3.NoticeResponse:
			notice := (*pgconn.Notice)(pgconn.ErrorResponseToPgError((*pgproto3.ErrorResponse)(m)))
			r.unreplicated = r.unreplicated || lacksStandby(notice)
			if hook := configOf(r.conn).OnNotice; hook != nil {
				hook(pg, notice)
			}
		case *pgproto3.NotificationResponse:
			if hook := configOf(r.conn).OnNotification; hook != nil {
				hook(pg, &pgconn.Notification{PID: m.PID, Channel: m.Channel, Payload: m.Payload})
			}
		case *pgproto3.ParameterStatus:
		default:
			return message, nil
		}
	}
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
		closeQuietly(s.conn)
	}
	return e
}

const noReplyToCommit = "COMMIT was sent, and no reply came: it may or may not be applied"
