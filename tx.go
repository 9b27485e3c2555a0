package pgcmd

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgcmd/pgcmd/internal/connpool"
	"github.com/pgcmd/pgcmd/internal/pgrows"
	"github.com/pgcmd/pgcmd/internal/pgxerr"
	"github.com/pgcmd/pgcmd/internal/rowscan"
)

// A Tx is the transaction in which a body runs. It is a [pgx.Tx], so that code written for
// pgx can use it. The command begins and ends it: Commit and Rollback, on the Tx that a body
// was given, send nothing, return an error and make the run fail. [Tx.Begin] makes a nested
// one, with a savepoint, which the body ends.
//
// Like a connection it is for one goroutine at a time. Concurrent use returns an error, and
// so does use after its end.
type Tx struct {
	s               *txn
	parent          *Tx // nil for the outermost
	savepoint       string
	savepointNumber int  // in the order in which they were made
	ended           bool // of a nested one
	afterCommit     []func(ctx context.Context)
}

var _ pgx.Tx = (*Tx)(nil)

// AfterCommit adds a function that runs once, if and only if the outermost transaction
// commits: after its connection was released, on a context that is not cancelled with the
// caller's. It is dropped if its attempt fails, or if the savepoint under which it was added
// is rolled back. In a transaction that pgcmd did not begin the run fails instead, since
// pgcmd does not see it commit.
func (tx *Tx) AfterCommit(f func(ctx context.Context)) {
	if tx.s.external {
		tx.s.state.misused = &Error{Code: CodeInternal, Message: "AfterCommit was called in a transaction that pgcmd did not begin: its commit cannot be seen"}
		return
	}
	tx.afterCommit = append(tx.afterCommit, f)
}

// Commit releases the savepoint of a nested Tx. On the Tx that a body was given it returns an
// error, and the run fails.
func (tx *Tx) Commit(ctx context.Context) error {
	if tx.parent == nil {
		return tx.refuseEnd("Commit")
	}
	return tx.endSavepoint(ctx, true)
}

// Rollback rolls a nested Tx back to its savepoint. On the Tx that a body was given it returns
// an error, and the run fails. After the end of a Tx it returns [pgx.ErrTxClosed].
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
	tx.s.state.misused = e
	return e
}

// Begin makes a nested Tx, with a savepoint that is sent with its first statement.
func (tx *Tx) Begin(ctx context.Context) (pgx.Tx, error) {
	if err := tx.usable(ctx); err != nil {
		return nil, err
	}
	return tx.beginSavepoint(), nil
}

// Conn returns the connection, after it has sent BEGIN if that was not sent yet. The Tx does
// not see what is done on it directly. If the transaction is ended there, that is detected,
// also if another one is begun: the run then fails, the open transaction is rolled back, and
// the Effect is Unknown. To detect it costs a round trip here, and another one at the end if
// something was sent on the connection, as [Instrument] counts.
func (tx *Tx) Conn() *pgx.Conn {
	s := tx.s
	s.readyConn(tx, s.setMarker)
	if !s.direct.handedOut && s.conn != nil && !s.conn.IsClosed() {
		s.direct.handedOut = true
		s.direct.sent, _ = connpool.Sent(s.conn)
	}
	return s.conn
}

// Exec executes sql as [pgx.Conn.Exec] does.
func (tx *Tx) Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error) {
	if err := tx.lock(ctx); err != nil {
		return pgconn.CommandTag{}, err
	}
	tx.s.inspectSQL(sql)
	tag, err := tx.s.exec(ctx, sql, args)
	if len(args) > 0 { // without arguments it is sent without a description
		tx.s.recordOutdated(sql, err)
	}
	return tag, tx.s.unlockWith(err)
}

// Query sends sql as [pgx.Conn.Query] does. The rows must be closed, or read to their end,
// before the transaction can do anything else.
func (tx *Tx) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	if err := tx.lock(ctx); err != nil {
		return pgrows.Failed(err), err
	}
	tx.s.inspectSQL(sql)
	rows, results, err := tx.s.query(ctx, sql, args)
	if err != nil {
		tx.s.recordOutdated(sql, err)
		err = tx.s.unlockWith(err)
		return pgrows.Failed(err), err
	}
	tx.s.openRows = &txRows{Rows: rows, row: rowscan.RowOf(rows), s: tx.s, sql: sql, results: results}
	return tx.s.openRows, nil
}

// QueryRow is [pgx.Conn.QueryRow].
func (tx *Tx) QueryRow(ctx context.Context, sql string, args ...any) pgx.Row {
	rows, _ := tx.Query(ctx, sql, args...)
	return txRow{rows}
}

// txRows unlocks the transaction when it is closed. As in pgx an error of Scan or Values
// closes it; the transaction records the error of the server, if there is one.
type txRows struct {
	pgx.Rows
	row     rowscan.Row
	s       *txn
	sql     string
	results pgx.BatchResults // of the batch with the deferred statements; nil if there was none
	closed  bool
	err     error
}

func (r *txRows) Next() bool {
	if !r.closed && r.Rows.Next() {
		return true
	}
	r.Close()
	return false
}

func (r *txRows) Scan(dest ...any) error {
	err := r.row.Scan(dest...)
	if err != nil {
		r.Close()
	}
	return err
}

func (r *txRows) Values() ([]any, error) {
	values, err := r.row.Values()
	if err != nil {
		r.Close()
	}
	return values, err
}

func (r *txRows) Close() {
	r.Rows.Close()
	if r.closed {
		return
	}
	r.closed = true
	r.err = r.Rows.Err()
	if r.results != nil {
		if err := r.results.Close(); r.err == nil {
			r.err = pgxerr.WithoutBatch(err)
		}
	}
	if r.s.openRows == r {
		r.s.openRows = nil
	}
	r.s.recordOutdated(r.sql, r.err)
	r.err = r.s.unlockWith(r.err)
	switch scan := r.row.Err(); {
	case scan == nil:
	case r.err == nil:
		r.err = scan
	default:
		r.err = errors.Join(scan, r.err)
	}
	r.row.SetRows(nil)
}

func (r *txRows) Err() error {
	if r.closed {
		return r.err
	}
	return r.Rows.Err()
}

// txRow reads the first row, as the pgx.Row of pgx does.
type txRow struct{ rows pgx.Rows }

func (r txRow) Scan(dest ...any) error {
	defer r.rows.Close()
	if err := r.rows.Err(); err != nil {
		return err
	}
	if !r.rows.Next() {
		if err := r.rows.Err(); err != nil {
			return err
		}
		return pgx.ErrNoRows
	}
	if err := r.rows.Scan(dest...); err != nil {
		return err
	}
	r.rows.Close()
	return r.rows.Err()
}

// SendBatch is [pgx.Conn.SendBatch]. Its results must be closed before the transaction can do
// anything else.
func (tx *Tx) SendBatch(ctx context.Context, b *pgx.Batch) pgx.BatchResults {
	if err := tx.lock(ctx); err != nil {
		return failedBatch{err: err}
	}
	for _, q := range b.QueuedQueries {
		tx.s.inspectSQL(q.SQL)
	}
	results, err := tx.s.sendWithDeferred(ctx, b.QueuedQueries)
	if err != nil {
		return failedBatch{err: tx.s.unlockWith(err)}
	}
	return &txBatch{BatchResults: results, queries: b.QueuedQueries, s: tx.s}
}

// txBatch unlocks the transaction when it is closed.
type txBatch struct {
	pgx.BatchResults
	queries []*pgx.QueuedQuery
	s       *txn
	closed  bool
	err     error
}

func (b *txBatch) Close() error {
	if !b.closed {
		b.closed = true
		err := b.BatchResults.Close()
		for _, q := range b.queries {
			b.s.recordOutdated(q.SQL, err)
		}
		b.err = b.s.unlockWith(err)
	}
	return b.err
}

// failedBatch is the result of a batch that was not sent.
type failedBatch struct {
	pgx.BatchResults
	err error
}

func (f failedBatch) Exec() (pgconn.CommandTag, error) { return pgconn.CommandTag{}, f.err }
func (f failedBatch) Query() (pgx.Rows, error)         { return pgrows.Failed(f.err), f.err }
func (f failedBatch) QueryRow() pgx.Row                { return txRow{pgrows.Failed(f.err)} }
func (f failedBatch) Close() error                     { return f.err }

// CopyFrom is [pgx.Conn.CopyFrom].
func (tx *Tx) CopyFrom(ctx context.Context, table pgx.Identifier, columns []string, rows pgx.CopyFromSource) (int64, error) {
	if err := tx.lock(ctx); err != nil {
		return 0, err
	}
	err := tx.s.sendDeferred(ctx)
	var n int64
	if err == nil {
		n, err = tx.s.db.CopyFrom(ctx, table, columns, rows)
	}
	return n, tx.s.unlockWith(err)
}

// Prepare is [pgx.Conn.Prepare].
func (tx *Tx) Prepare(ctx context.Context, name, sql string) (*pgconn.StatementDescription, error) {
	conn := tx.s.readyConn(tx, tx.s.sendDeferred)
	if conn == nil {
		return nil, errors.New("the transaction does not tell its connection")
	}
	if err := tx.lock(ctx); err != nil {
		return nil, err
	}
	tx.s.inspectSQL(sql) // it may be executed by its name
	sd, err := conn.Prepare(ctx, name, sql)
	return sd, tx.s.unlockWith(err)
}

// LargeObjects is [pgx.Tx.LargeObjects].
func (tx *Tx) LargeObjects() pgx.LargeObjects {
	conn := tx.s.readyConn(tx, tx.s.sendDeferred)
	if conn == nil {
		return pgx.LargeObjects{}
	}
	// Only a transaction of pgx can make them. This one sends an empty statement as its BEGIN.
	ctx, cancel := context.WithTimeout(context.Background(), endTime)
	defer cancel()
	raw, err := conn.BeginTx(ctx, pgx.TxOptions{BeginQuery: ";"})
	if err != nil {
		return pgx.LargeObjects{}
	}
	return raw.LargeObjects()
}
