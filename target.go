package pgcmd

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pgcmd/pgcmd/internal/connpool"
	"github.com/pgcmd/pgcmd/internal/pgrows"
	"github.com/pgcmd/pgcmd/internal/pgxerr"
	"github.com/pgcmd/pgcmd/internal/retry"
)

// A target is a [DB] that a command runs on, resolved to what it is.
type target struct {
	db      DB
	own     *Pool         // a pool of Connect
	pool    *pgxpool.Pool // that connections are acquired from
	conn    *pgx.Conn     // the caller's connection
	tx      *Tx           // a transaction that pgcmd began or joined
	foreign pgx.Tx        // a transaction of pgx's; its Conn is called only where it is needed, since that can cost a round trip
	missing bool          // a nil DB, or a nil pointer in it
}

func resolve(db DB) target {
	t := target{db: db}
	switch db := db.(type) {
	case nil:
		t.missing = true
	case *Pool:
		if t.own = db; db == nil || db.Pool == nil {
			t.missing = true
		} else {
			t.pool = db.Pool
		}
	case *pgxpool.Pool:
		t.pool, t.missing = db, db == nil
	case *Tx:
		t.tx, t.missing = db, db == nil || db.s == nil
	case *pgxpool.Conn:
		if t.missing = db == nil; !t.missing {
			t.conn = db.Conn()
		}
	case *pgx.Conn:
		t.conn, t.missing = db, db == nil
	case *pgxpool.Tx:
		if t.missing = db == nil; !t.missing {
			t.foreign = db
		}
	case pgx.Tx:
		t.foreign = db
	}
	return t
}

// inTransaction reports whether what runs on the target waits for a COMMIT that is not the
// command's own.
func (t *target) inTransaction() bool {
	switch {
	case t.missing || t.pool != nil:
		return false
	case t.tx != nil || t.foreign != nil:
		return true
	}
	return t.conn != nil && t.conn.PgConn().TxStatus() != 'I'
}

// join returns the Tx for a target that is in a transaction already, or nil: then the
// caller has to begin one.
func (t *target) join() *Tx {
	switch {
	case t.tx != nil:
		return t.tx
	case t.foreign != nil:
		return joinTx(t.db, t.foreign.Conn())
	case !t.inTransaction() || t.conn.IsClosed():
		return nil
	}
	return joinTx(t.conn, t.conn)
}

// limits are the pool's, for commands that set none.
func (t *target) limits() limits {
	switch {
	case t.own != nil:
		return limits{rows: t.own.config.MaxRows, bytes: t.own.config.MaxBytes}
	case t.tx != nil:
		return t.tx.s.limits
	}
	return limits{}
}

// retryBucket is the pool's, or nil, which has no limit.
func (t *target) retryBucket() *retry.Bucket {
	if t.own != nil {
		return t.own.retries
	}
	return nil
}

// A connLease is a connection for one run, acquired from a pool or the caller's own.
type connLease struct {
	conn   *pgx.Conn
	pooled *pgxpool.Conn // nil if conn is the caller's
}

// acquire returns the connection for a run outside of a transaction.
func (t *target) acquire(ctx context.Context, command *string, readOnly bool) (l connLease, failure *Error) {
	switch {
	case t.own != nil:
		l.pooled, failure = t.own.acquireFor(ctx, command, readOnly)
	case t.pool != nil:
		l.pooled, failure = acquire(ctx, t.pool)
	case t.conn == nil:
		return l, &Error{Code: CodeInternal, Effect: NotApplied,
			Message: fmt.Sprintf("the command needs a connection, and a %T does not give one: pass a pool, a connection or a transaction of pgcmd's or pgx's", t.db)}
	case t.conn.IsClosed():
		return l, &Error{Code: CodeUnavailable, Effect: NotApplied, Message: "the connection was closed before this command: take another one"}
	default:
		l.conn = t.conn
	}
	if failure == nil && l.pooled != nil {
		l.conn = l.pooled.Conn()
	}
	return l, failure
}

func (l *connLease) release() {
	if l.pooled != nil {
		connpool.Release(l.pooled, connpool.Of(l.conn))
		l.pooled = nil
	}
}

// checkCall refuses a context or a DB that is nil, a nil pointer in it included.
func checkCall(ctx context.Context, t *target) *Error {
	switch {
	case ctx == nil:
		return &Error{Code: CodeInternal, Message: "the context is nil: pass the caller's, or context.Background()"}
	case t.missing:
		return &Error{Code: CodeInternal, Message: "the DB is nil: pass a pool, a connection or a transaction"}
	}
	return nil
}

// inTransaction reports whether what runs on db waits for a COMMIT that is not its own.
func inTransaction(db DB) bool {
	t := resolve(db)
	return t.inTransaction()
}

// acquire takes a connection for one command.
func acquire(ctx context.Context, pool *pgxpool.Pool) (*pgxpool.Conn, *Error) {
	// The connection is acquired here and not by pgxpool's Query, so that an error of
	// acquiring, which means that nothing was sent, is known as such.
	if e := nested(ctx, pool); e != nil {
		return nil, e
	}
	conn, err := pool.Acquire(ctx)
	if err != nil {
		return nil, newAcquireError(ctx, pool, nil, err)
	}
	return conn, nil
}

const msgPoolClosed = "no connection available: the pool is closed"

func poolClosed() *Error {
	return &Error{Code: CodeUnavailable, Effect: NotApplied, Err: pgxerr.ErrPoolClosed, Message: msgPoolClosed}
}

// nested refuses to wait for a connection while holding one of the same pool.
func nested(ctx context.Context, pool *pgxpool.Pool) *Error {
	if s, _ := ctx.Value(txKey{}).(*serverTx); s != nil && s.pool == pool && !s.Closed() {
		return &Error{Code: CodeNestedAcquire, Effect: NotApplied,
			Message: "the command was run on the pool within a transaction on the same pool, which under load waits for itself: run it on the transaction, or with pgcmd.OutsideTx(ctx)"}
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

// An exclusiveLease is the connection of a copy, or of a Verify, which send messages on it by
// themselves.
type exclusiveLease struct {
	connLease
	tx      *serverTx // the Tx that it is part of; nil if none
	joined  bool      // it is part of a transaction that began before it
	prepare preparer

	err     error  // the last error of the server or the connection
	failure *Error // why the client ended the copy; nil if it did not
}

type preparer interface {
	Prepare(ctx context.Context, name, sql string) (*pgconn.StatementDescription, error)
}

// leaseExclusively acquires a connection, or takes that of db.
func leaseExclusively(ctx context.Context, db DB, command *string) (l *exclusiveLease, failure *Error) {
	if err := ctx.Err(); err != nil {
		return nil, newUnsentError(ctx, err)
	}
	l = &exclusiveLease{}
	t := resolve(db)
	switch {
	case t.tx != nil:
		return l, l.join(ctx, t.tx)
	case t.foreign != nil:
		if t.conn = t.foreign.Conn(); t.conn == nil {
			return nil, noConnection(db)
		}
		if !t.conn.IsClosed() { // else it is an error below
			l.conn, l.prepare, l.joined = t.conn, t.foreign, true // the transaction knows whether it has ended
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

// describe describes the columns of a table. It waits for a transaction that has locked the
// table, as COPY does: one that creates an index and then changes the type of a column would else
// let it describe the type of before. Within a transaction the table stays locked until COPY.
func (l *exclusiveLease) describe(ctx context.Context, table string) (sd *pgconn.StatementDescription, err error) {
	columns := "select * from " + table // needs no right to SELECT, as it is not executed, and has the base types of domains
	if l.joined {
		return l.prepare.Prepare(ctx, "", columns)
	}
	p := l.conn.PgConn().StartPipeline(ctx)
	defer func() {
		if closing := p.Close(); err == nil {
			err = closing
		}
	}()
	p.SendPrepare("", "insert into "+table+" default values", nil) // locks it as COPY does
	p.SendPrepare("", columns, nil)
	if err := p.Sync(); err != nil {
		return nil, err
	}
	for range 2 {
		result, err := p.GetResults()
		if err != nil {
			return nil, err
		}
		sd, _ = result.(*pgconn.StatementDescription)
	}
	if sd == nil {
		return nil, pgrows.ErrMalformed
	}
	return sd, nil
}

func noConnection(db any) *Error {
	return &Error{Code: CodeInternal, Effect: NotApplied,
		Message: fmt.Sprintf("a Copy cannot run on a %T, which does not give its connection: pass a pool, a connection or a transaction of pgcmd's or pgx's", db)}
}

// join locks a Tx for the lease, and sends its deferred statements.
func (l *exclusiveLease) join(ctx context.Context, tx *Tx) *Error {
	if err := tx.level.Lock(ctx); err != nil {
		return newUnsentError(ctx, err)
	}
	l.tx, l.conn, l.joined = tx.s, tx.s.Conn, true
	l.prepare, _ = tx.s.DB.(preparer)
	if l.conn == nil || l.prepare == nil {
		l.leave()
		return noConnection(tx.s.DB)
	}
	if l.err = tx.s.SendDeferred(ctx); l.err != nil {
		e := unappliedError(ctx, l.err)
		l.leave()
		return e
	}
	return nil
}

// leave gives back the connection or the transaction.
func (l *exclusiveLease) leave() {
	if l.tx != nil {
		state := &l.tx.State
		before := state.Aborted
		l.tx.UnlockWith(l.err)
		if l.failure != nil && !before && state.Aborted && !state.Unrecoverable {
			state.Err = l.failure // and not the server's error about a copy that the client ended
		}
	}
	l.release()
}
