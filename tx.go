package pgcmd

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pgcmd/pgcmd/internal/stmtcache"
	"github.com/pgcmd/pgcmd/internal/txn"
)

// A Tx is the transaction in which a body runs. It is a [pgx.Tx], so that code written for
// pgx can use it. The command begins and ends it: Commit and Rollback, on the Tx that a body
// was given, send nothing, return an error and make the run fail. [Tx.Begin] makes a nested
// one, with a savepoint, which the body ends.
//
// Like a connection it is for one goroutine at a time. Concurrent use returns an error, and
// so does use after its end.
type Tx struct {
	s           *serverTx
	level       txn.Level
	parent      *Tx  // nil for the outermost
	ofTry       bool // it is ended by Try
	afterCommit []func(ctx context.Context)
}

// A serverTx is the transaction on the server, which a Tx and those nested in it share.
type serverTx struct {
	txn.Txn
	outermost     Tx
	ctx           txContext     // of the body
	pool          *pgxpool.Pool // of the connection; nil if it has none
	limits        limits        // of the pool
	commitTimeout time.Duration // of the pool; zero: the default
	reads         bool          // it runs statements alone that change nothing
	inputConsumed bool          // a Copy has read rows that the input may not yield again
	unreplicated  bool          // it is committed, and the synchronous standby did not confirm it

	mayPiggybackCommit bool // the body may send COMMIT with its last statements
	commitSent         bool // and has done so
}

var txErrors = &txn.Errors{
	InUse:    &Error{Code: CodeInternal, Message: "the transaction is in use: rows of an earlier query are still open, or another goroutine uses it"},
	ConnLost: &Error{Code: CodeUnavailable, Effect: NotApplied, Message: "the connection was lost in the transaction"},
	EndedBySQL: &Error{Code: CodeUnknownEffect,
		Message: "the body ended the transaction, by SQL text or on its Conn: what it did before may be applied"},
}

func newServerTx(db DB, conn *pgx.Conn) *serverTx {
	s := new(serverTx)
	s.DB, s.Conn, s.Errors = db, conn, txErrors
	s.outermost = Tx{s: s, level: txn.Level{Txn: &s.Txn}}
	return s
}

// beginTx makes a transaction on a connection that has none. Nothing is sent: BEGIN, the settings and
// the statement_timeout for the context's deadline are sent with the first statement.
func beginTx(ctx context.Context, conn *pgx.Conn, pool *pgxpool.Pool, o pgx.TxOptions, settings []stmtcache.Setting) *Tx {
	s := newServerTx(conn, conn)
	s.pool = pool
	s.DeferBegin(o)
	s.DeferSettings(settings)
	if deadline, ok := ctx.Deadline(); ok {
		s.LimitUntil(deadline)
	}
	return &s.outermost
}

// joinTx makes a Tx of a transaction that others began. conn is nil if db does not tell it.
func joinTx(db DB, conn *pgx.Conn) *Tx {
	s := newServerTx(db, conn)
	s.External, s.BeginSent = true, true
	return &s.outermost
}

// beginSavepoint makes a nested Tx.
func (tx *Tx) beginSavepoint() *Tx { return &Tx{s: tx.s, level: tx.level.Nested(), parent: tx} }

// endSavepoint releases the savepoint of a nested Tx, or rolls back to it and releases it.
func (tx *Tx) endSavepoint(ctx context.Context, commit bool) error {
	err := tx.level.End(ctx, commit)
	if err == nil && commit {
		tx.parent.afterCommit = append(tx.parent.afterCommit, tx.afterCommit...)
	}
	return err
}

// checkCompatible returns an error if a command needs a stronger transaction to join.
func (s *serverTx) checkCompatible(c *definition) *Error {
	o := &c.opts
	switch {
	case s.External:
		return nil // its options are not known
	case s.IsolatesLess(o.Tx.IsoLevel):
		return &Error{Code: CodeInternal, Message: "the command asks for " + string(o.Tx.IsoLevel) + ", and the transaction that it joins has a weaker isolation: begin that one with these Options.Tx"}
	case s.Options.AccessMode == pgx.ReadOnly && !c.reads && o.Tx.AccessMode != pgx.ReadOnly:
		return &Error{Code: CodeInternal, Message: "the transaction that the command joins is read-only: run it in another one, or set Options.ReadOnly if it changes nothing"}
	}
	return nil
}

var _ pgx.Tx = (*Tx)(nil)

// AfterCommit adds a function that runs once, if and only if the outermost transaction
// commits: after its connection was released, on a context that is not cancelled with the
// caller's. It is dropped if its attempt fails, if the savepoint under which it was added is
// rolled back, or if the Tx had ended. In a transaction that pgcmd did not begin the run fails
// instead, since pgcmd does not see it commit.
func (tx *Tx) AfterCommit(f func(ctx context.Context)) {
	if tx.s.External {
		tx.s.State.Misused = &Error{Code: CodeInternal, Message: "AfterCommit was called in a transaction that pgcmd did not begin, whose commit it cannot see: begin it by a Transaction"}
		return
	}
	tx.afterCommit = append(tx.afterCommit, f)
}

// Commit releases the savepoint of a nested Tx. On the Tx that a body was given it returns an
// error, and the run fails.
func (tx *Tx) Commit(ctx context.Context) error {
	if tx.parent == nil || tx.ofTry {
		return tx.refuseEnd("Commit")
	}
	return tx.endSavepoint(ctx, true)
}

// Rollback rolls a nested Tx back to its savepoint. On the Tx that a body was given it returns
// an error, and the run fails. After the end of a Tx it returns [pgx.ErrTxClosed].
func (tx *Tx) Rollback(ctx context.Context) error {
	if tx.parent == nil || tx.ofTry {
		return tx.refuseEnd("Rollback")
	}
	return tx.endSavepoint(ctx, false)
}

func (tx *Tx) refuseEnd(method string) error {
	if tx.level.Ended() {
		return pgx.ErrTxClosed
	}
	e := &Error{Code: CodeInternal, Effect: Unknown,
		Message: method + " was called on the Tx that the body was given: return nil to commit, or an error to roll back"}
	tx.s.State.Misused = e
	return e
}

// Begin makes a nested Tx, with a savepoint that is sent with its first statement.
func (tx *Tx) Begin(ctx context.Context) (pgx.Tx, error) {
	if err := tx.level.Usable(ctx); err != nil {
		return nil, err
	}
	return tx.beginSavepoint(), nil
}

// Conn returns the connection, after it has sent BEGIN if that was not sent yet. The Tx does
// not see what is done on it directly. If the transaction is ended there, that is detected,
// also if another one is begun: the run then fails, the open transaction is rolled back, and
// the Effect is Unknown. To detect it costs a round trip here, and another one at the end if
// something was sent on the connection, as [Instrument] counts.
func (tx *Tx) Conn() *pgx.Conn { return tx.level.HandOut() }

// Exec executes sql as [pgx.Conn.Exec] does.
func (tx *Tx) Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error) {
	return tx.level.Exec(ctx, sql, args...)
}

// Query sends sql as [pgx.Conn.Query] does. The rows must be closed, or read to their end,
// before the transaction can do anything else.
func (tx *Tx) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	return tx.level.Query(ctx, sql, args...)
}

// QueryRow is [pgx.Conn.QueryRow].
func (tx *Tx) QueryRow(ctx context.Context, sql string, args ...any) pgx.Row {
	return tx.level.QueryRow(ctx, sql, args...)
}

// SendBatch is [pgx.Conn.SendBatch]. Its results must be closed before the transaction can do
// anything else.
func (tx *Tx) SendBatch(ctx context.Context, b *pgx.Batch) pgx.BatchResults {
	return tx.level.SendBatch(ctx, b)
}

// CopyFrom is [pgx.Conn.CopyFrom].
func (tx *Tx) CopyFrom(ctx context.Context, table pgx.Identifier, columns []string, rows pgx.CopyFromSource) (int64, error) {
	return tx.level.CopyFrom(ctx, table, columns, rows)
}

// Prepare is [pgx.Conn.Prepare].
func (tx *Tx) Prepare(ctx context.Context, name, sql string) (*pgconn.StatementDescription, error) {
	return tx.level.Prepare(ctx, name, sql)
}

// LargeObjects is [pgx.Tx.LargeObjects].
func (tx *Tx) LargeObjects() pgx.LargeObjects { return tx.level.LargeObjects() }
