package pgcmd

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pgcmd/pgcmd/internal/connpool"
	"github.com/pgcmd/pgcmd/internal/sqlstate"
	"github.com/pgcmd/pgcmd/internal/stmtcache"
)

// A Tx is the transaction that a body runs in. It is a [pgx.Tx], so that code
// written for pgx runs on it; its life is the command's: Commit and Rollback, on
// the Tx that a body was given, send nothing, return an error and make the run
// fail. [Tx.Begin] makes a nested one, with a savepoint, whose end is the body's.
//
// It is for one goroutine at a time, as a connection is: what two do at once is
// refused, and so is what comes after its end.
type Tx struct {
	s         *txn
	parent    *Tx // nil for the outermost
	savepoint string
	number    int  // of the savepoint, in the order in which they were made
	ended     bool // of a nested one
	after     []func(ctx context.Context)
}

var _ pgx.Tx = (*Tx)(nil)

// A session is the transaction on the server that a Tx and those nested in it
// share.
type txn struct {
	db       DB        // what runs the statements: a connection, or a transaction that somebody else began
	conn     *pgx.Conn // nil if db does not tell
	external bool      // pgcmd did not begin it, and does not see it commit
	options  pgx.TxOptions
	pool     *pgxpool.Pool // that conn is from, if any
	limits   limits        // of the pool

	deferred   []deferredStmt // to be sent with the next statement: BEGIN, SAVEPOINT, RELEASE
	beginSent  bool           // BEGIN has been sent, by us or by others
	savepoints int
	timeouts   int
	open       *txRows       // rows that are being read
	cursors    []*openCursor // cursors that are open
	inUse      atomic.Bool
	closed     atomic.Bool

	aborted       error  // the first error that aborted the transaction on the server
	unrecoverable error  // an error after which no savepoint helps: 40001, 40P01
	connLost      error  // the error with which the connection was lost
	outdated      error  // an error that proves a statement of the body's own to be outdated
	misused       *Error // the body did what it must not
	endedBySQL    bool   // SQL text, or somebody on Conn, may have ended the transaction

	connHandedOut  bool   // by Conn
	used           bool   // by somebody else, after that, as far as is known
	sent           int64  // on the connection, when it was last used here
	marker         string // the portal that marks the transaction; empty: it has none
	savepointsUsed bool   // by SQL text, before it was marked

	inputConsumed bool // a Copy has read rows that may not come a second time

	commitTimeout time.Duration // of the pool; zero: its rule
	unreplicated  bool          // it is committed, and the synchronous standby has not got it

	mayPiggybackCommit bool // the body may send COMMIT with its last statements
	commitSent         bool // and has done so
}

// deferredStmt is a statement that waits for company.
type deferredStmt struct {
	sql    string
	args   []any
	closes bool // a cursor: unusable once the transaction is aborted
}

// AfterCommit adds a function that runs once, if and only if the outermost
// transaction commits: after its connection is back, on a context that is not
// cancelled with the caller's. It is dropped with its attempt, and with the
// savepoint that it was added under. On a transaction that pgcmd did not begin the
// run fails instead, since its commit cannot be seen.
func (tx *Tx) AfterCommit(f func(ctx context.Context)) {
	if tx.s.external {
		tx.s.misused = &Error{Code: CodeInternal, Message: "AfterCommit was called in a transaction that pgcmd did not begin: its commit cannot be seen"}
		return
	}
	tx.after = append(tx.after, f)
}

// Commit releases the savepoint of a nested Tx. On the Tx that a body was given it
// is an error, and the run fails.
func (tx *Tx) Commit(ctx context.Context) error {
	if tx.parent == nil {
		return tx.refuseEnd("Commit")
	}
	return tx.endSavepoint(ctx, true)
}

// Rollback rolls a nested Tx back to its savepoint. On the Tx that a body was given
// it is an error, and the run fails. After its end it returns [pgx.ErrTxClosed].
func (tx *Tx) Rollback(ctx context.Context) error {
	if tx.parent == nil {
		return tx.refuseEnd("Rollback")
	}
	return tx.endSavepoint(ctx, false)
}

func (tx *Tx) refuseEnd(method string) error {
	if tx.s.closed.Load() {
		return pgx.ErrTxClosed
	}
	e := &Error{Code: CodeInternal, Effect: Unknown,
		Message: method + " was called on the Tx that the body was given: return nil to commit, or an error to roll back"}
	tx.s.misused = e
	return e
}

// Begin makes a nested Tx, with a savepoint that travels with its first statement.
func (tx *Tx) Begin(ctx context.Context) (pgx.Tx, error) {
	if err := tx.usable(ctx); err != nil {
		return nil, err
	}
	return tx.beginSavepoint(), nil
}

func (tx *Tx) beginSavepoint() *Tx {
	tx.s.savepoints++
	nested := &Tx{s: tx.s, parent: tx, number: tx.s.savepoints, savepoint: fmt.Sprintf("pgcmd_%d", tx.s.savepoints)}
	tx.s.deferred = append(tx.s.deferred, deferredStmt{sql: "savepoint " + nested.savepoint})
	return nested
}

// endSavepoint releases the savepoint of a nested Tx, or rolls back to it and releases it.
func (tx *Tx) endSavepoint(ctx context.Context, commit bool) error {
	s := tx.s
	if tx.ended || s.closed.Load() {
		return pgx.ErrTxClosed
	}
	tx.ended = true
	if s.dropDeferred("savepoint " + tx.savepoint) {
		if commit { // nothing was sent since
			tx.parent.after = append(tx.parent.after, tx.after...)
		}
		return nil
	}
	if commit && s.status() != 'E' && s.unrecoverable == nil {
		s.deferred = append(s.deferred, deferredStmt{sql: "release savepoint " + tx.savepoint})
		tx.parent.after = append(tx.parent.after, tx.after...)
		return nil
	}
	s.verify()
	s.deferred = nil // a RELEASE of a savepoint within this one
	s.cursorsRolledBack(tx.number)
	if s.conn == nil || !s.conn.IsClosed() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), endTime)
		defer cancel()
		s.closeRows()
		_, err := s.db.Exec(ctx, "rollback to savepoint "+tx.savepoint+"; release savepoint "+tx.savepoint)
		s.recordResult(err)
		if err != nil {
			return err
		}
		s.aborted = nil
		if s.marker != "" && !s.endedBySQL { // it may be gone with the savepoint
			s.marker = ""
			s.recordResult(s.setMarker(ctx))
		}
		s.sent, _ = connpool.Sent(s.conn)
	}
	if commit {
		return pgx.ErrTxCommitRollback
	}
	return nil
}

func (s *txn) dropDeferred(sql string) bool {
	for i, q := range s.deferred {
		if q.sql == sql {
			s.deferred = s.deferred[:i] // and what was nested in it
			return true
		}
	}
	return false
}

// endTime bounds a ROLLBACK, which runs on a context of its own.
const endTime = 2 * time.Second

// status is the transaction's status on the server: 'T' in a transaction, 'E' in
// an aborted one, 'I' in none, 0 if it cannot be told.
func (s *txn) status() byte {
	if s.conn == nil || s.conn.IsClosed() {
		return 0
	}
	return s.conn.PgConn().TxStatus()
}

// usable returns the error with which anything on tx must be refused, if there is
// one: nothing is sent then.
func (tx *Tx) usable(ctx context.Context) error {
	s := tx.s
	for at := tx; at != nil; at = at.parent {
		if at.ended {
			return pgx.ErrTxClosed
		}
	}
	switch {
	case s.closed.Load():
		return pgx.ErrTxClosed
	case s.misused != nil:
		return s.misused
	case s.unrecoverable != nil:
		return s.unrecoverable
	case s.aborted != nil && s.status() == 'I':
		return s.aborted // outside of a transaction, where it would commit by itself
	case s.endedBySQL && (s.status() == 'I' || s.connHandedOut):
		return errEscaped
	case s.connLost != nil:
		return s.connLost
	}
	if err := s.ended(ctx); err != nil {
		return err
	}
	if s.beginSent && !s.endedBySQL {
		if s.checkStatus(); s.endedBySQL {
			return errEscaped
		}
	}
	return ctx.Err()
}

var errLost = &Error{Code: CodeUnavailable, Effect: NotApplied, Message: "the connection was lost in the transaction"}

var errEscaped = &Error{Code: CodeUnknownEffect,
	Message: "the body ended the transaction, by SQL text or on its Conn: what it did before may be applied"}

// lock claims the transaction for one statement.
func (tx *Tx) lock(ctx context.Context) error {
	if !tx.s.inUse.CompareAndSwap(false, true) {
		return Errorf(CodeInternal, "the transaction is in use: rows of an earlier query are still open, or another goroutine uses it")
	}
	if err := tx.usable(ctx); err != nil {
		tx.s.inUse.Store(false)
		return err
	}
	tx.s.checkMarker()
	return nil
}

// unlockWith gives it back, and keeps in mind what the statement's error means for it.
// It returns the error to show: the first, once the transaction is aborted.
func (s *txn) unlockWith(err error) error {
	first := s.aborted
	s.recordResult(err)
	s.unlock()
	if first != nil && isInFailedTransaction(err) {
		return first
	}
	return err
}

func isInFailedTransaction(err error) bool {
	pgErr, ok := errors.AsType[*pgconn.PgError](err)
	return ok && pgErr.Code == sqlstate.InFailedTransaction
}

func (s *txn) recordResult(err error) {
	if err == nil {
		switch status := s.status(); {
		case status == 'T':
			s.aborted = nil // ROLLBACK TO as SQL text
		case status == 'I' && s.beginSent:
			s.endedBySQL = true // COMMIT or ROLLBACK as SQL text
		}
		return
	}
	if pgErr, ok := errors.AsType[*pgconn.PgError](err); ok {
		switch {
		case sqlstate.IsConflict(pgErr.Code):
			s.unrecoverable = err
		case sqlstate.InvalidatesStatement(pgErr.Code) && s.conn != nil:
			stmtcache.OnConn(s.conn).InvalidateParams() // the schema may have changed: pgx prepares again what it knew
		}
	}
	if s.status() == 'E' {
		s.deferred = slices.DeleteFunc(s.deferred, func(q deferredStmt) bool { return q.closes })
	}
	switch status := s.status(); {
	case status == 0 && s.conn != nil:
		s.connLost = err
		if pgErr, ok := errors.AsType[*pgconn.PgError](err); ok && sqlstate.IsDefinite(pgErr) {
			s.connLost = errLost // the statement's error is not why the rest cannot go on
		}
	case status == 'E' && s.aborted == nil:
		s.aborted = err
	case status == 'I' && !s.external && s.aborted == nil && (len(s.deferred) == 0 || isPgError(err)):
		// The first statement was refused before BEGIN got through, or SQL text ended
		// the transaction. What follows must not run outside of it.
		s.aborted = err
		s.endedBySQL = s.endedBySQL || s.beginSent
	}
}

// query sends a statement, with what waits to go before it.
func (s *txn) query(ctx context.Context, sql string, args []any) (pgx.Rows, pgx.BatchResults, error) {
	if len(s.deferred) > 0 {
		var err error
		if sql, args, err = s.prepareToBatch(ctx, sql, args); err != nil {
			return nil, nil, err
		}
	}
	if len(s.deferred) == 0 {
		rows, err := queryReencoding(ctx, s.db, sql, args)
		if err == nil && len(args) == 0 && s.conn != nil {
			stmtcache.OnConn(s.conn).SetParams(sql, nil) // pgx has prepared it
		}
		return rows, nil, err
	}
	results, err := s.sendWithDeferred(ctx, []*pgx.QueuedQuery{{SQL: sql, Arguments: args}})
	if err != nil {
		return nil, nil, err
	}
	rows, err := results.Query()
	if err != nil {
		_ = results.Close()
		return nil, nil, withoutBatch(err)
	}
	return rows, results, nil
}

// prepareToBatch makes a statement ready to travel with the prefix: in a batch pgx would
// find out half-way that an argument cannot be encoded, and close the connection; and
// it prepares what it does not know before the batch. What cannot travel in a batch
// travels behind it.
func (s *txn) prepareToBatch(ctx context.Context, sql string, args []any) (string, []any, error) {
	if s.conn == nil {
		return sql, args, s.sendDeferred(ctx)
	}
	if len(args) == 0 {
		known := stmtcache.OnConn(s.conn)
		if _, ok := known.Params(sql); !ok && preparesFirst(s.conn) {
			return sql, args, s.sendDeferred(ctx)
		}
		known.SetParams(sql, nil)
		return sql, args, nil
	}
	switch first := args[0].(type) {
	case pgx.QueryRewriter:
		var err error
		if sql, args, err = first.RewriteQuery(ctx, s.conn, sql, args[1:]); err != nil {
			return sql, args, err
		}
	case pgx.QueryExecMode, pgx.QueryResultFormats, pgx.QueryResultFormatsByOID:
		return sql, args, s.sendDeferred(ctx)
	}
	known := stmtcache.OnConn(s.conn)
	types, ok := known.Params(sql)
	for {
		if !ok {
			// What the server refuses must not abort the transaction before the savepoint
			// that waits is made, nor leave one unopened that waits for BEGIN.
			if err := s.sendDeferred(ctx); err != nil {
				return sql, args, err
			}
			sd, err := s.conn.Prepare(ctx, "", sql)
			if err != nil {
				return sql, args, err
			}
			types = sd.ParamOIDs
			known.SetParams(sql, types)
		}
		err := new(pgx.ExtendedQueryBuilder).Build(s.conn.TypeMap(), &pgconn.StatementDescription{ParamOIDs: types}, args)
		if err == nil || !ok {
			return sql, args, err
		}
		ok = false // the schema may have changed since
	}
}

// preparesFirst reports whether pgx prepares the statements of a batch in a message
// that goes before it.
func preparesFirst(conn *pgx.Conn) bool {
	switch configOf(conn).DefaultQueryExecMode {
	case pgx.QueryExecModeExec, pgx.QueryExecModeSimpleProtocol:
		return false
	}
	return true
}

// sendWithDeferred sends statements behind the prefix, in one message, and reads the
// prefix's results. In the simple protocol, where a batch is one text, the prefix goes
// alone: else a syntax error would refuse BEGIN as well, and the position of an error
// would count from there.
func (s *txn) sendWithDeferred(ctx context.Context, queries []*pgx.QueuedQuery) (pgx.BatchResults, error) {
	if len(queries) > 0 && s.conn != nil && configOf(s.conn).DefaultQueryExecMode == pgx.QueryExecModeSimpleProtocol {
		if err := s.sendDeferred(ctx); err != nil {
			return nil, err
		}
	}
	b := &pgx.Batch{}
	for _, q := range s.deferred {
		b.Queue(q.sql, q.args...)
	}
	n := len(s.deferred)
	s.deferred = nil
	b.QueuedQueries = append(b.QueuedQueries, queries...)
	results := s.db.SendBatch(ctx, b)
	for range n {
		if _, err := results.Exec(); err != nil {
			_ = results.Close()
			s.beginSent = s.beginSent || s.status() != 'I'
			return nil, withoutBatch(err)
		}
	}
	s.beginSent = true
	return results, nil
}

// withoutBatch takes off the wrapper that says that an error arose in a batch,
// which is not how the caller sent it.
func withoutBatch(err error) error {
	if wrapped, ok := errors.AsType[pgx.ErrPreprocessingBatch](err); ok {
		return wrapped.Unwrap()
	}
	return err
}

// sendDeferred sends the prefix alone, where it cannot travel with what follows.
func (s *txn) sendDeferred(ctx context.Context) error {
	if len(s.deferred) == 0 {
		return nil
	}
	results, err := s.sendWithDeferred(ctx, nil)
	if err == nil {
		err = results.Close()
	}
	return err
}
