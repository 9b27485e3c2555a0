package pgcmd

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pgcmd/pgcmd/internal/connpool"
)

// A target is what a command runs on: what is to be known of a [DB], whatever its type.
type target struct {
	db      DB
	own     *Pool         // a pool of Connect
	pool    *pgxpool.Pool // that connections are acquired from
	conn    *pgx.Conn     // the caller's connection
	tx      *Tx           // a transaction that pgcmd began or joined
	foreign pgx.Tx        // a transaction of pgx's; its Conn is asked only where it is needed, since that can cost a round trip
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
		return &Tx{s: &txn{db: t.db, conn: t.foreign.Conn(), external: true, beginSent: true}}
	case !t.inTransaction() || t.conn.IsClosed():
		return nil
	}
	return &Tx{s: &txn{db: t.conn, conn: t.conn, external: true, beginSent: true}}
}

// limits are what the pool says about commands that say nothing.
func (t *target) limits() limits {
	switch {
	case t.own != nil:
		return limits{rows: t.own.config.MaxRows, bytes: t.own.config.MaxBytes}
	case t.tx != nil:
		return t.tx.s.limits
	}
	return limits{}
}

// commitTimeout is the pool's; zero means the rule of [Config].CommitTimeout.
func (t *target) commitTimeout() time.Duration {
	if t.own != nil {
		return t.own.config.CommitTimeout
	}
	return 0
}

// retryBucket is the pool's, or nil, which has no limit.
func (t *target) retryBucket() *retryBucket {
	if t.own != nil {
		return &t.own.retries
	}
	return nil
}

// maxConns is how many connections a command may use at once.
func (t *target) maxConns() int {
	if t.pool != nil {
		return int(t.pool.Stat().MaxConns())
	}
	return 1
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
			Message: fmt.Sprintf("it needs a connection to itself, and a %T gives none: pass a pool, a connection or a transaction of pgcmd's or pgx's", t.db)}
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

// checkArgs refuses a context or a DB that is nil, a nil pointer in it included.
func checkArgs(ctx context.Context, t *target) *Error {
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
