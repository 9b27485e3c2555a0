// Package pgcommit sends COMMIT, alone or with the last statements of a transaction, and
// reads the replies without pgconn, which asks the server to cancel whenever it loses a
// connection. It does not know whether a transaction may be committed, nor what an error
// says about its effect.
package pgcommit

import (
	"context"
	"errors"
	"net"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/pgcmd/pgcmd/internal/pgrows"
	"github.com/pgcmd/pgcmd/internal/pgxerr"
)

// DefaultTimeout bounds a COMMIT if neither a timeout nor a later deadline does.
const DefaultTimeout = 5 * time.Second

// deadline returns the time until which the reply to a COMMIT that is sent now is awaited.
func deadline(ctx context.Context, timeout time.Duration) time.Time {
	if timeout > 0 {
		return time.Now().Add(timeout)
	}
	earliest := time.Now().Add(DefaultTimeout)
	if deadline, ok := ctx.Deadline(); ok && deadline.After(earliest) {
		return deadline
	}
	return earliest
}

// Send sends COMMIT and returns the tag of the server's reply: COMMIT, or ROLLBACK if the
// transaction was aborted. The end of ctx does not stop it: it is bounded by timeout; if
// that is zero, by ctx's deadline or by DefaultTimeout, whichever is later. unreplicated
// reports whether the synchronous standby did not confirm the commit. config is that of
// conn. After an error of the connection conn is closed, and the server is not asked to
// cancel.
func Send(ctx context.Context, conn *pgx.Conn, config *pgx.ConnConfig, timeout time.Duration) (tag pgconn.CommandTag, unreplicated bool, err error) {
	pg := conn.PgConn()
	if pg.IsBusy() || pg.IsClosed() {
		tag, err = conn.Exec(ctx, "commit") // an error, and nothing is sent
		return tag, false, err
	}
	if tracer := config.Tracer; tracer != nil {
		traced := tracer.TraceQueryStart(ctx, conn, pgx.TraceQueryStartData{SQL: "commit"})
		defer func() { tracer.TraceQueryEnd(traced, conn, pgx.TraceQueryEndData{CommandTag: tag, Err: err}) }()
	}
	alive := false
	defer func() {
		if !alive { // also if OnNotice panicked
			Close(conn)
		}
	}()
	_ = pg.Conn().SetDeadline(deadline(ctx, timeout))
	pg.Frontend().SendQuery(&pgproto3.Query{String: "commit"})
	if err := pg.Frontend().Flush(); err != nil {
		return tag, false, asContextError(err)
	}
	in := NewReader(conn, config)
	message, err := in.Receive()
	switch message := message.(type) {
	case nil:
		if !pgxerr.IsServer(err) || conn.IsClosed() {
			return tag, in.unreplicated, asContextError(err)
		}
	case *pgproto3.CommandComplete:
		tag = pgconn.NewCommandTag(string(message.CommandTag))
	default:
		return tag, in.unreplicated, pgrows.ErrMalformed
	}
	// COMMIT is done. pgconn reads ReadyForQuery, since it tracks the transaction's status.
	for ready := false; !ready; {
		message, lost := pg.ReceiveMessage(context.Background())
		if lost != nil {
			if err == nil {
				err = asContextError(lost)
			}
			return tag, in.unreplicated, err
		}
		_, ready = message.(*pgproto3.ReadyForQuery)
	}
	_ = pg.Conn().SetDeadline(time.Time{})
	alive = true
	return tag, in.unreplicated, err
}

// asContextError joins context.DeadlineExceeded to the error of a deadline of the connection.
func asContextError(err error) error {
	if timeout, ok := errors.AsType[net.Error](err); ok && timeout.Timeout() {
		return errors.Join(context.DeadlineExceeded, err)
	}
	return err
}

// Close closes a connection without asking the server to cancel the statement, as pgconn does
// when it loses a connection: a COMMIT would be rolled back or, while it waits for a
// standby, become visible without it.
func Close(conn *pgx.Conn) {
	if conn.IsClosed() {
		return
	}
	_ = conn.PgConn().Conn().SetDeadline(time.Unix(1, 0)) // so that sending Terminate cannot block
	_ = conn.Close(context.Background())
}

// LacksStandby reports whether a notice says that a COMMIT was not confirmed by the
// synchronous standby, because its wait was cancelled. The text is in the server's language,
// the name of the routine is not.
func LacksStandby(n *pgconn.Notice) bool { return n.Routine == "SyncRepWaitForLSN" }

// A Reader reads the messages of a server that may be committing. It handles the messages
// that may come at any time as pgconn does, except for a changed setting:
// PgConn.ParameterStatus does not show one that comes before the reply to COMMIT, as
// PostgreSQL 13 sends it.
type Reader struct {
	BeforeClose func() // is called before Receive closes the connection; may be nil

	conn         *pgx.Conn
	config       *pgx.ConnConfig
	unreplicated bool // a notice said so
}

// NewReader makes a Reader of a connection with its configuration.
func NewReader(conn *pgx.Conn, config *pgx.ConnConfig) *Reader {
	return &Reader{conn: conn, config: config}
}

// Receive returns the next message, or an error: of the server, which is a [pgconn.PgError],
// or of the connection.
func (r *Reader) Receive() (pgproto3.BackendMessage, error) {
	pg := r.conn.PgConn()
	for {
		message, err := pg.Frontend().Receive()
		if err != nil {
			return nil, err
		}
		switch m := message.(type) {
		case *pgproto3.ErrorResponse:
			pgErr := pgconn.ErrorResponseToPgError(m)
			if keep := r.config.OnPgError; keep != nil && !keep(pg, pgErr) {
				if r.BeforeClose != nil {
					r.BeforeClose()
				}
				Close(r.conn)
			}
			return nil, pgErr
		case *pgproto3.NoticeResponse:
			notice := (*pgconn.Notice)(pgconn.ErrorResponseToPgError((*pgproto3.ErrorResponse)(m)))
			r.unreplicated = r.unreplicated || LacksStandby(notice)
			if hook := r.config.OnNotice; hook != nil {
				hook(pg, notice)
			}
		case *pgproto3.NotificationResponse:
			if hook := r.config.OnNotification; hook != nil {
				hook(pg, &pgconn.Notification{PID: m.PID, Channel: m.Channel, Payload: m.Payload})
			}
		case *pgproto3.ParameterStatus:
		default:
			return message, nil
		}
	}
}
