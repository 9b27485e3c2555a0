package pgcmd

import (
	"context"
	"errors"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgcmd/pgcmd/internal/pgrows"
	"github.com/pgcmd/pgcmd/internal/rowscan"
	"github.com/pgcmd/pgcmd/internal/sqltext"
)

// Exec executes sql as [pgx.Conn.Exec] does.
func (tx *Tx) Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error) {
	if err := tx.lock(ctx); err != nil {
		return pgconn.CommandTag{}, err
	}
	tx.s.inspectSQL(sql)
	tag, err := tx.s.exec(ctx, sql, args)
	if len(args) > 0 { // else it was sent without a description
		tx.s.suspectConn(sql, err)
	}
	return tag, tx.s.unlockWith(err)
}

func (s *txn) exec(ctx context.Context, sql string, args []any) (tag pgconn.CommandTag, err error) {
	if len(s.deferred) > 0 && len(args) == 0 {
		// pgx sends it by the simple protocol, where several statements are one
		// message: the prefix joins them, unless it has arguments.
		if prefix, ok := s.sendDeferredSimple(); ok {
			s.deferred = nil
			sql = prefix + sql
			defer func() {
				s.beginSent = s.beginSent || err == nil || s.status() != 'I'
				countWithout(prefix, err)
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
	return tag, withoutBatch(err)
}

// countWithout makes the position in an error of the server count in the caller's own
// SQL, before which prefix was sent.
func countWithout(prefix string, err error) {
	if pgErr, ok := errors.AsType[*pgconn.PgError](err); ok && int(pgErr.Position) > len(prefix) {
		pgErr.Position -= int32(len(prefix))
	}
}

// suspectConn keeps in mind that err proves a statement of the body's own to be outdated.
func (s *txn) suspectConn(sql string, err error) {
	if err != nil && cachesDescriptions(s.conn) && noteOutdated(s.conn, sql, err) {
		s.outdated = err
	}
}

func (s *txn) sendDeferredSimple() (string, bool) {
	var b strings.Builder
	for _, q := range s.deferred {
		if len(q.args) > 0 {
			return "", false
		}
		b.WriteString(q.sql + "; ")
	}
	return b.String(), true
}

// mayEnableWrites reports whether a text in lower case may make a read-only transaction write.
func mayEnableWrites(sql string) bool {
	return strings.Contains(sql, "write") || strings.Contains(sql, "read_only")
}

// inspectStatement keeps in mind what a statement of a command does to the transaction.
func (s *txn) inspectStatement(st *statement) {
	s.endedBySQL = s.endedBySQL || st.text.Ends
	s.invalidateCursors(st.text.Verb)
	s.distrustMarker(st.text.Verb)
	if st.mayEnableWrites {
		s.options.AccessMode = ""
	}
}

// inspectSQL keeps in mind that sql ends the transaction, and may have begun another in
// the same breath, so that the status does not show it.
func (s *txn) inspectSQL(sql string) {
	lower := strings.ToLower(sql)
	s.invalidateCursors(lower)
	s.distrustMarker(lower)
	if mayEnableWrites(lower) {
		s.options.AccessMode = "" // nothing vouches for it any more
	}
	for _, word := range [...]string{"commit", "end", "abort", "rollback", "prepare"} {
		if strings.Contains(lower, word) {
			s.endedBySQL = s.endedBySQL || sqltext.EndsTransaction(sql)
			return
		}
	}
}

// Query sends sql as [pgx.Conn.Query] does. The rows must be closed, or read to
// their end, before the transaction can do anything else.
func (tx *Tx) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	if err := tx.lock(ctx); err != nil {
		return pgrows.Failed(err), err
	}
	tx.s.inspectSQL(sql)
	rows, results, err := tx.s.query(ctx, sql, args)
	if err != nil {
		tx.s.suspectConn(sql, err)
		err = tx.s.unlockWith(err)
		return pgrows.Failed(err), err
	}
	tx.s.open = &txRows{Rows: rows, row: rowscan.RowOf(rows), s: tx.s, sql: sql, results: results}
	return tx.s.open, nil
}

// QueryRow is [pgx.Conn.QueryRow].
func (tx *Tx) QueryRow(ctx context.Context, sql string, args ...any) pgx.Row {
	rows, _ := tx.Query(ctx, sql, args...)
	return txRow{rows}
}

// txRows gives the transaction back when they are closed. An error of Scan or Values
// closes them, as it closes pgx's, but the transaction is told what the server says.
type txRows struct {
	pgx.Rows
	row     rowscan.Row
	s       *txn
	sql     string
	results pgx.BatchResults // the batch that they came in, if one
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
			r.err = withoutBatch(err)
		}
	}
	if r.s.open == r {
		r.s.open = nil
	}
	r.s.suspectConn(r.sql, r.err)
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

// txRow reads the only row that is wanted, as pgx's does.
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

// SendBatch is [pgx.Conn.SendBatch]. Its results must be closed before the
// transaction can do anything else.
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

// txBatch gives the transaction back when it is closed.
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
			b.s.suspectConn(q.SQL, err)
		}
		b.err = b.s.unlockWith(err)
	}
	return b.err
}

// failedBatch is a batch that was not sent.
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
	conn := tx.s.connFor(tx, tx.s.sendDeferred)
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
	conn := tx.s.connFor(tx, tx.s.sendDeferred)
	if conn == nil {
		return pgx.LargeObjects{}
	}
	// Only a transaction of pgx's own can make them: this one begins with nothing.
	ctx, cancel := context.WithTimeout(context.Background(), endTime)
	defer cancel()
	raw, err := conn.BeginTx(ctx, pgx.TxOptions{BeginQuery: ";"})
	if err != nil {
		return pgx.LargeObjects{}
	}
	return raw.LargeObjects()
}
