package pgcmd

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// A copyLink is the connection that a copy goes over.
type copyLink struct {
	conn    *pgx.Conn
	pooled  *pgxpool.Conn // taken from a pool for this copy alone; nil if the caller's
	tx      *session      // the Tx that the copy is part of; nil if none
	joined  bool          // the copy is part of a transaction that began before it
	prepare preparer

	err     error  // what the server or the connection said at last
	failure *Error // why it was asked to stop, if we asked
}

type preparer interface {
	Prepare(ctx context.Context, name, sql string) (*pgconn.StatementDescription, error)
}

// boardCopy finds or takes the connection for a copy.
func boardCopy(ctx context.Context, db DB, command *string) (l *copyLink, failure *Error) {
	if err := ctx.Err(); err != nil {
		return nil, notSent(ctx, err)
	}
	l = &copyLink{}
	switch db := db.(type) {
	case *pgxpool.Pool:
		l.pooled, failure = acquire(ctx, db)
	case *Pool:
		l.pooled, failure = db.take(ctx, command, false)
	case *pgxpool.Conn:
		l.conn = db.Conn()
	case *pgx.Conn:
		l.conn = db
	case *Tx:
		return l, l.join(ctx, db)
	case pgx.Tx:
		l.conn, l.prepare, l.joined = db.Conn(), db, true // it knows whether it has ended
	}
	switch {
	case failure != nil:
		return nil, failure
	case l.pooled != nil:
		l.conn = l.pooled.Conn()
	case l.conn == nil:
		return nil, noConnection(db)
	case l.conn.IsClosed():
		return nil, &Error{Code: CodeUnavailable, Effect: NotApplied, Message: "the connection was closed before this command: take another one"}
	default:
		l.joined = l.joined || l.conn.PgConn().TxStatus() != 'I'
	}
	if l.prepare == nil {
		l.prepare = l.conn
	}
	return l, nil
}

func noConnection(db DB) *Error {
	return &Error{Code: CodeInternal, Effect: NotApplied,
		Message: fmt.Sprintf("a copy cannot be made on a %T, which does not tell its connection: pass a pool, a connection or a transaction of pgcmd's or pgx's", db)}
}

// join claims a Tx for the copy, and sends a BEGIN that waited for company.
func (l *copyLink) join(ctx context.Context, tx *Tx) *Error {
	if err := tx.enter(ctx); err != nil {
		return notSent(ctx, err)
	}
	l.tx, l.conn, l.joined = tx.s, tx.s.conn, true
	l.prepare, _ = tx.s.db.(preparer)
	if l.conn == nil || l.prepare == nil {
		l.leave()
		return noConnection(tx.s.db)
	}
	if l.err = tx.s.flush(ctx); l.err != nil {
		e, _ := new(statement).explain(ctx, l.err)
		e.Effect = NotApplied
		e.settle()
		l.leave()
		return e
	}
	return nil
}

// leave gives back what boardCopy took.
func (l *copyLink) leave() {
	if l.tx != nil {
		first := l.tx.aborted
		l.tx.leave(l.err)
		if l.failure != nil && first == nil && l.tx.aborted != nil {
			l.tx.aborted = l.failure // why, and not what the server says of our giving up
		}
	}
	if l.pooled != nil {
		release(l.pooled, wireOf(l.pooled.Conn()))
		l.pooled = nil
	}
}

// traceCopy tells the connection's tracer of the copy, as pgx would.
func traceCopy(ctx context.Context, conn *pgx.Conn, table pgx.Identifier, columns []string) (context.Context, func(pgconn.CommandTag, error)) {
	tracer, ok := conn.Config().Tracer.(pgx.CopyFromTracer)
	if !ok {
		return ctx, func(pgconn.CommandTag, error) {}
	}
	ctx = tracer.TraceCopyFromStart(ctx, conn, pgx.TraceCopyFromStartData{TableName: table, ColumnNames: columns})
	return ctx, func(tag pgconn.CommandTag, err error) {
		tracer.TraceCopyFromEnd(ctx, conn, pgx.TraceCopyFromEndData{CommandTag: tag, Err: err})
	}
}
