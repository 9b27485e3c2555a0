package pgcmd

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pgcmd/pgcmd/internal/connpool"
	"github.com/pgcmd/pgcmd/internal/pgrows"
	"github.com/pgcmd/pgcmd/internal/pgxerr"
	"github.com/pgcmd/pgcmd/internal/sqlstate"
	"github.com/pgcmd/pgcmd/internal/sqltext"
	"github.com/pgcmd/pgcmd/internal/stmtcache"
)

// A txn is the transaction on the server, which a Tx and those nested in it share.
type txn struct {
	db       DB        // runs the statements: a connection, or a transaction that pgcmd did not begin
	conn     *pgx.Conn // nil if db has no method Conn
	external bool      // pgcmd did not begin it, and does not see it commit
	options  pgx.TxOptions
	pool     *pgxpool.Pool // of conn; nil if it has none
	limits   limits        // of the pool

	deferred   []deferredStmt // sent with the next statement: BEGIN, SAVEPOINT, RELEASE
	beginSent  bool           // BEGIN was sent, by pgcmd or by others
	savepoints int            // the number of savepoints that were made
	timeouts   int            // the number of calls of limitTimeout
	openRows   *txRows        // rows that are being read
	cursors    []*openCursor
	inUse      atomic.Bool
	closed     atomic.Bool

	state         txnState
	direct        directUse
	outdated      error // an error that proves a statement of the body to be outdated
	inputConsumed bool  // a Copy has read rows that the input may not yield again

	commitTimeout time.Duration // of the pool; zero: the default
	unreplicated  bool          // it is committed, and the synchronous standby did not confirm it

	mayPiggybackCommit bool // the body may send COMMIT with its last statements
	commitSent         bool // and has done so
}

// A txnState is why a transaction cannot go on or cannot be committed, beside its status on the
// server. Several reasons may hold at once; usable and mayCommit say which error is returned.
type txnState struct {
	err           error  // that aborted it; nil if none did, or a rollback to a savepoint has recovered it
	aborted       bool   // by err, on the server
	unrecoverable bool   // err is a conflict, 40001 or 40P01: no savepoint recovers from it
	connLost      error  // the error with which the connection was lost
	misused       *Error // the body called a method that it must not call
	endedBySQL    bool   // SQL of the body, or statements on Conn, may have ended it
}

// abort records the error that aborted the transaction, if it is the first.
func (t *txnState) abort(err error) {
	if !t.aborted && !t.unrecoverable {
		t.err = err
	}
	t.aborted = true
}

// conflict records an error after which only a new transaction can succeed.
func (t *txnState) conflict(err error) {
	t.err, t.unrecoverable = err, true
}

// recovered records that the transaction is not aborted on the server any more.
func (t *txnState) recovered() {
	if t.aborted = false; !t.unrecoverable {
		t.err = nil
	}
}

// cause returns the error that aborted the transaction instead of 25P02, which is its
// consequence. It returns other errors as they are.
func (t *txnState) cause(err error) error {
	if t.aborted && isInFailedTransaction(err) {
		return t.err
	}
	return err
}

func isInFailedTransaction(err error) bool {
	pgErr, ok := errors.AsType[*pgconn.PgError](err)
	return ok && pgErr.Code == sqlstate.InFailedTransaction
}

// deferredStmt is a statement that is sent with the next one.
type deferredStmt struct {
	sql          string
	args         []any // int64
	closesCursor bool  // dropped when the transaction is aborted, which closes its cursors
}

// endTime bounds ROLLBACK and what else ends something on the server, on a context that
// does not end with the caller's.
const endTime = 2 * time.Second

var errConnLost = &Error{Code: CodeUnavailable, Effect: NotApplied, Message: "the connection was lost in the transaction"}

var errEndedBySQL = &Error{Code: CodeUnknownEffect,
	Message: "the body ended the transaction, by SQL text or on its Conn: what it did before may be applied"}

// begin makes a transaction on a connection that has none. Nothing is sent: BEGIN and the
// statement_timeout for the context's deadline are sent with the first statement.
func begin(ctx context.Context, conn *pgx.Conn, pool *pgxpool.Pool, o pgx.TxOptions) *Tx {
	s := &txn{db: conn, conn: conn, pool: pool, options: o}
	s.deferred = append(s.deferred, deferredStmt{sql: beginSQL(o)})
	if deadline, ok := ctx.Deadline(); ok {
		s.deferred = append(s.deferred, timeoutUntil(deadline))
	}
	return &Tx{s: s}
}

func (tx *Tx) beginSavepoint() *Tx {
	tx.s.savepoints++
	nested := &Tx{s: tx.s, parent: tx, savepointNumber: tx.s.savepoints, savepoint: fmt.Sprintf("pgcmd_%d", tx.s.savepoints)}
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
		if commit { // nothing was sent since Begin
			tx.parent.afterCommit = append(tx.parent.afterCommit, tx.afterCommit...)
		}
		return nil
	}
	if commit && s.status() != 'E' && !s.state.unrecoverable {
		s.deferred = append(s.deferred, deferredStmt{sql: "release savepoint " + tx.savepoint})
		tx.parent.afterCommit = append(tx.parent.afterCommit, tx.afterCommit...)
		return nil
	}
	s.verifyMarker()
	s.deferred = nil // the RELEASE of an inner savepoint
	s.cursorsRolledBack(tx.savepointNumber)
	if s.conn == nil || !s.conn.IsClosed() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), endTime)
		defer cancel()
		s.closeRows()
		_, err := s.db.Exec(ctx, "rollback to savepoint "+tx.savepoint+"; release savepoint "+tx.savepoint)
		s.recordResult(err)
		if err != nil {
			return err
		}
		s.state.recovered()
		if s.direct.marker != "" && !s.state.endedBySQL { // it may be gone with the savepoint
			s.direct.marker = ""
			s.recordResult(s.setMarker(ctx))
		}
		s.direct.sent, _ = connpool.Sent(s.conn)
	}
	if commit {
		return pgx.ErrTxCommitRollback
	}
	return nil
}

// dropDeferred drops a statement and those after it, and reports whether it was not sent yet.
func (s *txn) dropDeferred(sql string) bool {
	for i, q := range s.deferred {
		if q.sql == sql {
			s.deferred = s.deferred[:i] // and the statements within the savepoint
			return true
		}
	}
	return false
}

// status returns the transaction status of the connection: 'T' in a transaction, 'E' in an
// aborted one, 'I' in none, 0 if it is not known.
func (s *txn) status() byte {
	if s.conn == nil || s.conn.IsClosed() {
		return 0
	}
	return s.conn.PgConn().TxStatus()
}

// usable returns nil, or the error of every use of tx, for which nothing is sent.
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
	case s.state.misused != nil:
		return s.state.misused
	case s.state.unrecoverable:
		return s.state.err
	case s.state.aborted && s.status() == 'I':
		return s.state.err // outside of a transaction a statement would commit by itself
	case s.state.endedBySQL && (s.status() == 'I' || s.direct.handedOut):
		return errEndedBySQL
	case s.state.connLost != nil:
		return s.state.connLost
	}
	if err := s.externalEnded(ctx); err != nil {
		return err
	}
	if s.beginSent && !s.state.endedBySQL {
		if s.checkStatus(); s.state.endedBySQL {
			return errEndedBySQL
		}
	}
	return ctx.Err()
}

// lock locks the transaction for one statement.
func (tx *Tx) lock(ctx context.Context) error {
	if !tx.s.inUse.CompareAndSwap(false, true) {
		return Errorf(CodeInternal, "the transaction is in use: rows of an earlier query are still open, or another goroutine uses it")
	}
	if err := tx.usable(ctx); err != nil {
		tx.s.inUse.Store(false)
		return err
	}
	tx.s.checkDirectUse()
	return nil
}

// unlockWith records the result of the statement, and unlocks the transaction. It returns err
// or, if the transaction was aborted before, the error that aborted it.
func (s *txn) unlockWith(err error) error {
	s.recordResult(err)
	err = s.state.cause(err)
	s.unlock()
	return err
}

// unlock unlocks the transaction.
func (s *txn) unlock() {
	if s.direct.handedOut && !s.direct.used {
		s.direct.sent, _ = connpool.Sent(s.conn)
	}
	s.inUse.Store(false)
}

// recordResult records what the result of a statement says about the transaction.
func (s *txn) recordResult(err error) {
	if err == nil {
		switch status := s.status(); {
		case status == 'T':
			s.state.recovered() // after a ROLLBACK TO in SQL of the body
		case status == 'I' && s.beginSent:
			s.state.endedBySQL = true // after a COMMIT or ROLLBACK in SQL of the body
		}
		return
	}
	if pgErr, ok := errors.AsType[*pgconn.PgError](err); ok {
		switch {
		case sqlstate.IsConflict(pgErr.Code):
			s.state.conflict(err)
		case sqlstate.InvalidatesStatement(pgErr.Code) && s.conn != nil:
			stmtcache.OnConn(s.conn).InvalidateParams() // the schema may have changed: pgx prepares again what it knew
		}
	}
	if s.status() == 'E' {
		s.deferred = slices.DeleteFunc(s.deferred, func(q deferredStmt) bool { return q.closesCursor })
	}
	switch status := s.status(); {
	case status == 0 && s.conn != nil:
		s.state.connLost = err
		if pgErr, ok := errors.AsType[*pgconn.PgError](err); ok && sqlstate.IsDefinite(pgErr) {
			s.state.connLost = errConnLost // the statement's error is not the reason for later ones
		}
	case status == 'E':
		s.state.abort(err)
	case status == 'I' && !s.external && !s.state.aborted && (len(s.deferred) == 0 || pgxerr.IsServer(err)):
		// The first statement was refused before BEGIN was executed, or SQL of the body
		// ended the transaction. The next statement must not run outside of it.
		s.state.abort(err)
		s.state.endedBySQL = s.state.endedBySQL || s.beginSent
	}
}

// query sends a statement, after the deferred ones.
func (s *txn) query(ctx context.Context, sql string, args []any) (pgx.Rows, pgx.BatchResults, error) {
	if len(s.deferred) > 0 {
		var err error
		if sql, args, err = s.prepareToBatch(ctx, sql, args); err != nil {
			return nil, nil, err
		}
	}
	if len(s.deferred) == 0 {
		rows, err := stmtcache.Query(ctx, s.db, sql, args)
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
		return nil, nil, pgxerr.WithoutBatch(err)
	}
	return rows, results, nil
}

func (s *txn) exec(ctx context.Context, sql string, args []any) (tag pgconn.CommandTag, err error) {
	if len(s.deferred) > 0 && len(args) == 0 {
		// pgx sends it by the simple protocol, where several statements are one message:
		// the deferred ones too, unless they have arguments.
		if prefix, ok := s.deferredSQL(); ok {
			s.deferred = nil
			sql = prefix + sql
			defer func() {
				s.beginSent = s.beginSent || err == nil || s.status() != 'I'
				shiftPosition(prefix, err)
			}()
		}
	}
	if len(s.deferred) > 0 {
		if sql, args, err = s.prepareToBatch(ctx, sql, args); err != nil {
			return tag, err
		}
	}
	if len(s.deferred) == 0 {
		return s.db.Exec(ctx, sql, args...)
	}
	results, err := s.sendWithDeferred(ctx, []*pgx.QueuedQuery{{SQL: sql, Arguments: args}})
	if err != nil {
		return tag, err
	}
	tag, err = results.Exec()
	if closing := results.Close(); err == nil {
		err = closing
	}
	return tag, pgxerr.WithoutBatch(err)
}

// shiftPosition makes the position in an error of the server count in the caller's SQL,
// before which prefix was sent.
func shiftPosition(prefix string, err error) {
	if pgErr, ok := errors.AsType[*pgconn.PgError](err); ok && int(pgErr.Position) > len(prefix) {
		pgErr.Position -= int32(len(prefix))
	}
}

// deferredSQL returns the deferred statements as SQL; ok is false if they have arguments.
func (s *txn) deferredSQL() (sql string, ok bool) {
	var b strings.Builder
	for _, q := range s.deferred {
		if len(q.args) > 0 {
			return "", false
		}
		b.WriteString(q.sql + "; ")
	}
	return b.String(), true
}

// prepareToBatch prepares a statement to be sent in a batch after the deferred ones. In a
// batch pgx would notice too late that an argument cannot be encoded, and close the
// connection; and it prepares unknown statements in a round trip before the batch. For a
// statement that cannot be in a batch it sends the deferred ones alone.
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
			// If the server refuses the statement, that must not abort the transaction before
			// the deferred savepoint is made, nor leave it without its BEGIN.
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

// preparesFirst reports whether pgx prepares the statements of a batch in a round trip before
// it.
func preparesFirst(conn *pgx.Conn) bool {
	switch stmtcache.ModeOf(conn) {
	case pgx.QueryExecModeExec, pgx.QueryExecModeSimpleProtocol:
		return false
	}
	return true
}

// sendWithDeferred sends statements after the deferred ones, in one batch, and reads the
// results of the deferred ones. In the simple protocol, where a batch is one text, those are
// sent alone: else a syntax error would refuse BEGIN as well, and positions in errors would
// count from there.
func (s *txn) sendWithDeferred(ctx context.Context, queries []*pgx.QueuedQuery) (pgx.BatchResults, error) {
	if len(queries) > 0 && s.conn != nil && stmtcache.ModeOf(s.conn) == pgx.QueryExecModeSimpleProtocol {
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
			return nil, pgxerr.WithoutBatch(err)
		}
	}
	s.beginSent = true
	return results, nil
}

// sendDeferred sends the deferred statements alone.
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

// recordOutdated records err if it proves that a statement of the body is outdated.
func (s *txn) recordOutdated(sql string, err error) {
	if err != nil && stmtcache.CachesDescriptions(s.conn) && connpool.NoteOutdated(s.conn, sql, err) {
		s.outdated = err
	}
}

// mayEnableWrites reports whether SQL, in lower case, may make a read-only transaction
// writable.
func mayEnableWrites(sql string) bool {
	return strings.Contains(sql, "write") || strings.Contains(sql, "read_only")
}

// inspectStatement records what a statement of a command may do to the transaction.
func (s *txn) inspectStatement(st *statement) {
	s.state.endedBySQL = s.state.endedBySQL || st.text.Ends
	s.invalidateCursors(st.text.Verb)
	s.invalidateMarker(st.text.Verb)
	if st.mayEnableWrites {
		s.options.AccessMode = ""
	}
}

// inspectSQL records what SQL of the body may do to the transaction. SQL that ends it may
// begin another at once, so that the status does not show it.
func (s *txn) inspectSQL(sql string) {
	lower := strings.ToLower(sql)
	s.invalidateCursors(lower)
	s.invalidateMarker(lower)
	if mayEnableWrites(lower) {
		s.options.AccessMode = "" // it may no longer be read-only
	}
	for _, word := range [...]string{"commit", "end", "abort", "rollback", "prepare"} {
		if strings.Contains(lower, word) {
			s.state.endedBySQL = s.state.endedBySQL || sqltext.EndsTransaction(sql)
			return
		}
	}
}

// setTimeoutSQL sets statement_timeout for the transaction to $1 milliseconds, unless it is
// shorter already.
const setTimeoutSQL = `select set_config('statement_timeout', least($1::int8,
	nullif((extract(epoch from current_setting('statement_timeout')::interval) * 1000)::int8, 0))::text, true)`

// timeoutUntil returns the statement that sets statement_timeout to the time until a deadline.
func timeoutUntil(deadline time.Time) deferredStmt {
	return deferredStmt{sql: setTimeoutSQL, args: []any{timeoutSetting(serverTimeout(time.Until(deadline)))}}
}

// timeoutSetting returns a duration in milliseconds, the unit of PostgreSQL's timeouts, which
// have 32 bits: 24.8 days at most.
func timeoutSetting(d time.Duration) int64 {
	return min(d.Milliseconds(), math.MaxInt32)
}

// limitTimeout lowers statement_timeout to the deadline of a command that joins the
// transaction, until restore is called. Both are sent with the next statement.
func (s *txn) limitTimeout(ctx context.Context) (restore func()) {
	deadline, ok := ctx.Deadline()
	if !ok || s.external {
		return func() {}
	}
	s.timeouts++
	saved := fmt.Sprintf("pgcmd.timeout_%d", s.timeouts)
	save := deferredStmt{sql: "select set_config('" + saved + "', current_setting('statement_timeout'), true)"}
	s.deferred = append(s.deferred, save, timeoutUntil(deadline))
	return func() {
		if !s.dropDeferred(save.sql) && s.status() == 'T' {
			s.deferred = append(s.deferred, deferredStmt{sql: "select set_config('statement_timeout', current_setting('" + saved + "'), true)"})
		}
	}
}

// serverTimeout returns a bit less than the client's timeout, so that the server ends a slow
// statement and the connection stays usable. The context's end, which closes the connection,
// is the last resort.
func serverTimeout(remaining time.Duration) time.Duration {
	return max(time.Millisecond, remaining-timeoutMargin(remaining))
}

func timeoutMargin(remaining time.Duration) time.Duration {
	return min(50*time.Millisecond, remaining/4)
}

// checkCompatible returns an error if a command needs a stronger transaction to join.
func (s *txn) checkCompatible(o Options) *Error {
	switch {
	case s.external:
		return nil // its options are not known
	case isolationRank(s.options.IsoLevel) < isolationRank(o.Tx.IsoLevel):
		return &Error{Code: CodeInternal, Message: "it asks for " + string(o.Tx.IsoLevel) + ", and the transaction that it joins was begun with a weaker isolation"}
	case s.options.AccessMode == pgx.ReadOnly && !o.ReadOnly && o.Tx.AccessMode != pgx.ReadOnly:
		return &Error{Code: CodeInternal, Message: "the transaction that it joins is read-only: run it in another, or say that it is ReadOnly"}
	}
	return nil
}

// closeRows closes rows that the body left open, and reports whether there were any.
func (s *txn) closeRows() bool {
	if s.openRows == nil {
		return false
	}
	pgrows.DrainFew(s.openRows.Rows, pgrows.MaxDrainTime)
	if s.conn != nil && s.conn.PgConn().IsBusy() {
		pgrows.CloseWithoutDraining(s.conn, s.openRows) // too many to read: this closes the connection, which ends the transaction
		if s.conn.IsClosed() && s.state.connLost == nil {
			s.state.connLost = errConnLost
		}
	} else {
		s.openRows.Close()
	}
	return true
}

// exchange sends messages and a Sync, and reads the replies, ignoring rows. If that takes
// longer than endTime, the connection is closed.
func (s *txn) exchange(send func(to *pgproto3.Frontend)) error {
	pg := s.conn.PgConn()
	if pg.IsBusy() {
		return errors.New("conn busy")
	}
	s.checkDirectUse()
	defer func() { s.direct.sent, _ = connpool.Sent(s.conn) }()
	_ = pg.Conn().SetDeadline(time.Now().Add(endTime))
	send(pg.Frontend())
	pg.Frontend().SendSync(&pgproto3.Sync{})
	err := pgrows.Exchange(pg)
	if !pg.IsClosed() {
		_ = pg.Conn().SetDeadline(time.Time{})
	}
	return err
}
