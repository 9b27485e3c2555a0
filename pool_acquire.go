package pgcmd

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5/pgxpool"
)

// acquire takes a connection for one command.
func acquire(ctx context.Context, pool *pgxpool.Pool) (*pgxpool.Conn, *Error) {
	// Acquired here and not by pgxpool's Query, so that an error of acquiring, when nothing
	// was sent, is told from all others.
	if e := nested(ctx, pool); e != nil {
		return nil, e
	}
	conn, err := pool.Acquire(ctx)
	if err != nil {
		return nil, newAcquireError(ctx, pool, nil, err)
	}
	return conn, nil
}

// errPoolClosed is the cause of an error of a pool that is closed.
var errPoolClosed = errors.New("pgcmd: the pool is closed")

const msgPoolClosed = "no connection available: the pool is closed"

func poolClosed() *Error {
	return &Error{Code: CodeUnavailable, Effect: NotApplied, Err: errPoolClosed, Message: msgPoolClosed}
}

// isPoolClosed reports whether err is of a pool that was closed: of puddle's, whose
// error pgxpool passes on, or of ours.
func isPoolClosed(err error) bool {
	return err != nil && (errors.Is(err, errPoolClosed) || err.Error() == "closed pool")
}

// nested refuses to wait for a connection while holding one of the same pool.
func nested(ctx context.Context, pool *pgxpool.Pool) *Error {
	if s, _ := ctx.Value(txKey{}).(*txn); s != nil && s.pool == pool && !s.closed.Load() {
		return &Error{Code: CodeNestedAcquire, Effect: NotApplied,
			Message: "it was run on the pool from within a transaction on the same pool, which under load waits for itself: run it on the transaction, or with pgcmd.OutsideTx(ctx)"}
	}
	return nil
}

// acquireFor takes a connection for one command: of a replica, if it is read-only and one
// is healthy.
func (p *Pool) acquireFor(ctx context.Context, command *string, readOnly bool) (*pgxpool.Conn, *Error) {
	if e := nested(ctx, p.Pool); e != nil {
		return nil, e
	}
	if p.closed.Load() {
		return nil, poolClosed()
	}
	if readOnly && len(p.replicas.All) > 0 && ctx.Value(primaryKey{}) == nil {
		if conn := p.replicas.Acquire(ctx, p.acquirer, command); conn != nil {
			return conn, nil
		}
	}
	conn, err := p.acquirer.Acquire(ctx, command)
	if err != nil {
		if err.TimedOut {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(ctx, 0)
			defer cancel()
		}
		return nil, newAcquireError(ctx, p.Pool, p.tracker, err.Err)
	}
	return conn, nil
}
