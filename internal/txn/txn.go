// Package txn keeps the state of one transaction on a connection: the statements that are
// sent with its next one, its savepoints, cursors and open rows, and why it cannot go on. It
// does not know what a command is, nor what an error says about its effect.
package txn

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgcmd/pgcmd/internal/connpool"
	"github.com/pgcmd/pgcmd/internal/interrupt"
	"github.com/pgcmd/pgcmd/internal/pgrows"
	"github.com/pgcmd/pgcmd/internal/pgxerr"
	"github.com/pgcmd/pgcmd/internal/sqlstate"
	"github.com/pgcmd/pgcmd/internal/sqltext"
	"github.com/pgcmd/pgcmd/internal/stmtcache"
)

// A Txn is the transaction on the server, which all that use it share.
type Txn struct {
	DB       DB        // runs the statements: a connection, or a transaction that others began
	Conn     *pgx.Conn // nil if DB does not tell it
	External bool      // others began it, and its commit is not seen
	Options  pgx.TxOptions
	Errors   *Errors

	BeginSent bool // BEGIN was sent, by the Txn or by others
	State     State
	Outdated  error // an error that proves a statement of the body to be outdated

	deferred   []statement      // sent with the next statement: BEGIN, SAVEPOINT, RELEASE
	begin      [2]statement     // memory for the first of them
	savepoints int              // the number of savepoints that were made
	nested     []int            // the savepoints of the levels that have not ended, in their order
	unmade     []int            // the savepoints of levels that were sent when the transaction was aborted
	timeouts   int              // the number of calls of LimitTimeout
	openRows   *rows            // that are being read
	reply      reply            // to the statement of a command
	watch      *interrupt.Watch // nil before it is needed
	cursors    []*Cursor
	direct     directUse
	inUse      atomic.Bool
	closed     atomic.Bool
}

// A DB is a connection or a transaction of pgx.
type DB interface {
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	SendBatch(ctx context.Context, b *pgx.Batch) pgx.BatchResults
	CopyFrom(ctx context.Context, table pgx.Identifier, columns []string, rows pgx.CopyFromSource) (int64, error)
}

// Errors are those that a Txn returns if the server has reported none.
type Errors struct {
	InUse      error // another use of the transaction has not ended
	ConnLost   error // the connection was lost by an earlier statement
	EndedBySQL error // the body ended the transaction
}

// A State is why a transaction cannot go on or cannot be committed, beside its status on the
// server. Several reasons may hold at once.
type State struct {
	Err           error // that aborted it; nil if none did, or a rollback to a savepoint has recovered it
	Aborted       bool  // by Err, on the server
	Unrecoverable bool  // Err is a conflict, 40001 or 40P01: no savepoint recovers from it
	ConnLost      error // the error with which the connection was lost
	Misused       error // the body called a method that it must not call
	EndedBySQL    bool  // SQL of the body, or statements on Conn, may have ended it
}

// abort records the error that aborted the transaction, if it is the first.
func (t *State) abort(err error) {
	if !t.Aborted && !t.Unrecoverable {
		t.Err = err
	}
	t.Aborted = true
}

// conflict records an error after which only a new transaction can succeed.
func (t *State) conflict(err error) {
	t.Err, t.Unrecoverable = err, true
}

// Recovered records that the transaction is not aborted on the server any more.
func (t *State) Recovered() {
	if t.Aborted = false; !t.Unrecoverable {
		t.Err = nil
	}
}

// Cause returns the error that aborted the transaction instead of 25P02, which is its
// consequence. It returns other errors as they are.
func (t *State) Cause(err error) error {
	if t.Aborted && isInFailedTransaction(err) {
		return t.Err
	}
	return err
}

func isInFailedTransaction(err error) bool {
	pgErr, ok := errors.AsType[*pgconn.PgError](err)
	return ok && pgErr.Code == sqlstate.InFailedTransaction
}

// Status returns the transaction status of the connection: 'T' in a transaction, 'E' in an
// aborted one, 'I' in none, 0 if it is not known.
func (t *Txn) Status() byte {
	if t.Conn == nil || t.Conn.IsClosed() {
		return 0
	}
	return t.Conn.PgConn().TxStatus()
}

// usable is [Level.Usable] without the levels.
func (t *Txn) usable(ctx context.Context) error {
	switch {
	case t.State.Misused != nil:
		return t.State.Misused
	case t.State.Unrecoverable:
		return t.State.Err
	case t.State.Aborted && t.Status() == 'I':
		return t.State.Err // outside of a transaction a statement would commit by itself
	case t.State.EndedBySQL && (t.Status() == 'I' || t.direct.handedOut):
		return t.Errors.EndedBySQL
	case t.State.ConnLost != nil:
		return t.State.ConnLost
	}
	if err := t.externalEnded(ctx); err != nil {
		return err
	}
	if t.BeginSent && !t.State.EndedBySQL {
		if t.CheckStatus(); t.State.EndedBySQL {
			return t.Errors.EndedBySQL
		}
	}
	return ctx.Err()
}

// NewSavepoint makes the name of the next savepoint.
func (t *Txn) NewSavepoint() string {
	t.savepoints++
	return fmt.Sprintf("pgcmd_%d", t.savepoints)
}

// InUse reports whether the transaction is locked.
func (t *Txn) InUse() bool { return t.inUse.Load() }

// Close ends the use of the transaction. It sends nothing.
func (t *Txn) Close() {
	t.closed.Store(true)
	t.closeWatch()
}

func (t *Txn) startWatch(ctx context.Context) {
	if t.watch == nil {
		t.watch = stmtcache.OnConn(t.Conn).Watch
	}
	t.watch.Start(ctx)
}

func (t *Txn) closeWatch() {
	if t.watch != nil {
		t.watch.Close()
	}
}

// Closed reports whether the transaction has ended.
func (t *Txn) Closed() bool { return t.closed.Load() }

// UnlockWith records the result of the statement, and unlocks the transaction. It returns err
// or, if the transaction was aborted before, the error that aborted it.
func (t *Txn) UnlockWith(err error) error {
	t.Record(err)
	err = t.State.Cause(err)
	t.Unlock()
	return err
}

// Unlock unlocks the transaction.
func (t *Txn) Unlock() {
	if t.direct.handedOut && !t.direct.used {
		t.direct.sent, _ = connpool.Sent(t.Conn)
	}
	t.inUse.Store(false)
}

// Record records what the result of a statement says about the transaction.
func (t *Txn) Record(err error) {
	if err == nil {
		switch status := t.Status(); {
		case status == 'T':
			t.State.Recovered() // after a ROLLBACK TO in SQL of the body
		case status == 'I' && t.BeginSent:
			t.State.EndedBySQL = true // after a COMMIT or ROLLBACK in SQL of the body
		}
		return
	}
	if pgErr, ok := errors.AsType[*pgconn.PgError](err); ok {
		switch {
		case sqlstate.IsConflict(pgErr.Code):
			t.State.conflict(err)
		case sqlstate.InvalidatesStatement(pgErr.Code) && t.Conn != nil:
			stmtcache.OnConn(t.Conn).InvalidateParams() // the schema may have changed: pgx prepares again what it knew
		}
	}
	if t.Status() == 'E' {
		t.deferred = slices.DeleteFunc(t.deferred, func(q statement) bool { return q.closesCursor })
	}
	switch status := t.Status(); {
	case status == 0 && t.Conn != nil:
		t.State.ConnLost = err
		if pgErr, ok := errors.AsType[*pgconn.PgError](err); ok && sqlstate.IsDefinite(pgErr) {
			t.State.ConnLost = t.Errors.ConnLost // the statement's error is not the reason for later ones
		}
	case status == 'E':
		t.State.abort(err)
	case status == 'I' && !t.External && !t.State.Aborted && (len(t.deferred) == 0 || pgxerr.IsServer(err)):
		// The first statement was refused before BEGIN was executed, or SQL of the body
		// ended the transaction. The next statement must not run outside of it.
		t.State.abort(err)
		t.State.EndedBySQL = t.State.EndedBySQL || t.BeginSent
	}
}

// recordOutdated records err if it proves that a statement of the body is outdated.
func (t *Txn) recordOutdated(sql string, err error) {
	if err != nil && stmtcache.CachesDescriptions(t.Conn) && connpool.NoteOutdated(t.Conn, sql, err) {
		t.Outdated = err
	}
}

// Inspect records what a statement may do to the transaction.
func (t *Txn) Inspect(text *sqltext.Text) {
	t.State.EndedBySQL = t.State.EndedBySQL || text.Ends
	t.invalidateCursors(text.Verb)
	t.invalidateMarker(text.Verb)
	if text.MayEnableWrites {
		t.Options.AccessMode = ""
	}
}

// inspectSQL records what SQL of the body may do to the transaction. SQL that ends it may
// begin another at once, so that the status does not show it.
func (t *Txn) inspectSQL(sql string) {
	lower := strings.ToLower(sql)
	t.invalidateCursors(lower)
	t.invalidateMarker(lower)
	if sqltext.MayEnableWrites(lower) {
		t.Options.AccessMode = "" // it may no longer be read-only
	}
	for _, word := range [...]string{"commit", "end", "abort", "rollback", "prepare"} {
		if strings.Contains(lower, word) {
			t.State.EndedBySQL = t.State.EndedBySQL || sqltext.EndsTransaction(sql)
			return
		}
	}
}

// CloseRows closes rows that the body left open, and reports whether there were any.
func (t *Txn) CloseRows() bool {
	if t.openRows == nil {
		return false
	}
	pgrows.DrainFew(t.openRows.Rows, pgrows.MaxDrainTime)
	if t.Conn != nil && t.Conn.PgConn().IsBusy() {
		pgrows.CloseWithoutDraining(t.Conn, t.openRows) // too many to read: this closes the connection, which ends the transaction
		if t.Conn.IsClosed() && t.State.ConnLost == nil {
			t.State.ConnLost = t.Errors.ConnLost
		}
	} else {
		t.openRows.Close()
	}
	return true
}

// Rollback rolls the transaction back, on a context that does not end with ctx. If that fails,
// it closes the connection.
func (t *Txn) Rollback(ctx context.Context) {
	defer t.closeWatch()
	t.closed.Store(true)
	t.CloseRows()
	t.VerifyMarker()
	if !t.BeginSent || t.Conn.IsClosed() || t.Status() == 'I' {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), EndTime)
	defer cancel()
	if _, err := t.Conn.Exec(ctx, "rollback"); err != nil {
		_ = t.Conn.Close(ctx)
	}
}

// MustRollBack reports whether the transaction can only be rolled back.
func (t *Txn) MustRollBack() bool {
	if t.VerifyMarker(); t.OutcomeUnproven() {
		return false
	}
	return t.State.Unrecoverable && !t.External || t.State.ConnLost != nil || t.Conn != nil && t.Status() != 'T' && t.BeginSent && !t.State.EndedBySQL
}

// externalEnded returns the error of a pgx.Tx that has ended: its connection may be in use for
// something else. It sends nothing.
func (t *Txn) externalEnded(ctx context.Context) error {
	if tx, ok := t.DB.(pgx.Tx); ok && t.External {
		return tx.SendBatch(ctx, new(pgx.Batch)).Close()
	}
	return nil
}
