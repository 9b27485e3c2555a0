package txn

import (
	"errors"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgcmd/pgcmd/internal/pgrows"
	"github.com/pgcmd/pgcmd/internal/pgxerr"
	"github.com/pgcmd/pgcmd/internal/rowscan"
)

// rows unlock the transaction when they are closed. As in pgx an error of Scan or Values
// closes them; the transaction records the error of the server, if there is one.
type rows struct {
	pgx.Rows
	row     rowscan.Row
	t       *Txn
	sql     string
	results pgx.BatchResults // of the batch with the deferred statements; nil if there was none
	closed  bool
	err     error
}

func (r *rows) Next() bool {
	if !r.closed && r.Rows.Next() {
		return true
	}
	r.Close()
	return false
}

func (r *rows) Scan(dest ...any) error {
	err := r.row.Scan(dest...)
	if err != nil {
		r.Close()
	}
	return err
}

func (r *rows) Values() ([]any, error) {
	values, err := r.row.Values()
	if err != nil {
		r.Close()
	}
	return values, err
}

func (r *rows) Close() {
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
	if r.t.openRows == r {
		r.t.openRows = nil
	}
	r.t.recordOutdated(r.sql, r.err)
	r.err = r.t.UnlockWith(r.err)
	switch scan := r.row.Err(); {
	case scan == nil:
	case r.err == nil:
		r.err = scan
	default:
		r.err = errors.Join(scan, r.err)
	}
	r.row.SetRows(nil)
}

func (r *rows) Err() error {
	if r.closed {
		return r.err
	}
	return r.Rows.Err()
}

// A row reads the first row, as the pgx.Row of pgx does.
type row struct{ rows pgx.Rows }

func (r row) Scan(dest ...any) error {
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

// A batch unlocks the transaction when it is closed.
type batch struct {
	pgx.BatchResults
	queries []*pgx.QueuedQuery
	t       *Txn
	closed  bool
	err     error
}

func (b *batch) Close() error {
	if !b.closed {
		b.closed = true
		err := b.BatchResults.Close()
		for _, q := range b.queries {
			b.t.recordOutdated(q.SQL, err)
		}
		b.err = b.t.UnlockWith(err)
	}
	return b.err
}

// A failedBatch is the result of a batch that was not sent.
type failedBatch struct {
	pgx.BatchResults
	err error
}

func (f failedBatch) Exec() (pgconn.CommandTag, error) { return pgconn.CommandTag{}, f.err }
func (f failedBatch) Query() (pgx.Rows, error)         { return pgrows.Failed(f.err), f.err }
func (f failedBatch) QueryRow() pgx.Row                { return row{pgrows.Failed(f.err)} }
func (f failedBatch) Close() error                     { return f.err }
