package pgcmd

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// A copyLink is the connection that a copy goes over.
type copyLease struct {
	connLease
	tx      *txn // the Tx that the copy is part of; nil if none
	joined  bool // the copy is part of a transaction that began before it
	prepare preparer

	err     error  // what the server or the connection said at last
	failure *Error // why it was asked to stop, if we asked
}

type preparer interface {
	Prepare(ctx context.Context, name, sql string) (*pgconn.StatementDescription, error)
}

// copyLeaseOf finds or takes the connection for a copy.
func copyLeaseOf(ctx context.Context, db DB, command *string) (l *copyLease, failure *Error) {
	if err := ctx.Err(); err != nil {
		return nil, newUnsentError(ctx, err)
	}
	l = &copyLease{}
	t := resolve(db)
	switch {
	case t.tx != nil:
		return l, l.join(ctx, t.tx)
	case t.foreign != nil:
		if t.conn = t.foreign.Conn(); t.conn == nil {
			return nil, noConnection(db)
		}
		if !t.conn.IsClosed() { // else it is an error below
			l.conn, l.prepare, l.joined = t.conn, t.foreign, true // it knows whether it has ended
			return l, nil
		}
	case t.pool == nil && t.conn == nil:
		return nil, noConnection(db)
	}
	if l.connLease, failure = t.acquire(ctx, command, false); failure != nil {
		return nil, failure
	}
	l.joined, l.prepare = l.conn.PgConn().TxStatus() != 'I', l.conn
	return l, nil
}

func noConnection(db DB) *Error {
	return &Error{Code: CodeInternal, Effect: NotApplied,
		Message: fmt.Sprintf("a copy cannot be made on a %T, which does not tell its connection: pass a pool, a connection or a transaction of pgcmd's or pgx's", db)}
}

// join claims a Tx for the copy, and sends a BEGIN that waited for company.
func (l *copyLease) join(ctx context.Context, tx *Tx) *Error {
	if err := tx.lock(ctx); err != nil {
		return newUnsentError(ctx, err)
	}
	l.tx, l.conn, l.joined = tx.s, tx.s.conn, true
	l.prepare, _ = tx.s.db.(preparer)
	if l.conn == nil || l.prepare == nil {
		l.leave()
		return noConnection(tx.s.db)
	}
	if l.err = tx.s.sendDeferred(ctx); l.err != nil {
		e, _ := new(statement).classifyStatement(ctx, l.err)
		e.Effect = NotApplied
		e.reconcileCode()
		l.leave()
		return e
	}
	return nil
}

// leave gives back what boardCopy took.
func (l *copyLease) leave() {
	if l.tx != nil {
		state := &l.tx.state
		before := state.aborted
		l.tx.unlockWith(l.err)
		if l.failure != nil && !before && state.aborted && !state.unrecoverable {
			state.err = l.failure // and not the server's error about a copy that the client ended
		}
	}
	l.release()
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
