package pgcommit

import (
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/pgcmd/pgcmd/internal/pgrows"
)

// Rows are the rows of one statement of a [Pipeline]. Their memory is used again for the next
// statement.
type Rows struct {
	p      *Pipeline
	fields []pgconn.FieldDescription
	values [][]byte
	first  bool // the first row was received, and Next not called for it
	open   bool // more may come
	tag    pgconn.CommandTag
	err    error
}

// reset prepares for the reply to a request.
func (r *Rows) reset(q *request) {
	*r = Rows{p: r.p, fields: r.fields[:0]}
	if q.sd == nil {
		return
	}
	r.fields = append(r.fields, q.sd.Fields...)
	for i := range r.fields {
		switch {
		case len(q.formats) == 1:
			r.fields[i].Format = q.formats[0]
		case i < len(q.formats):
			r.fields[i].Format = q.formats[i]
		default:
			r.fields[i].Format = pgx.TextFormatCode
		}
	}
}

// take takes a message of the reply.
func (r *Rows) take(message pgproto3.BackendMessage) {
	switch m := message.(type) {
	case *pgproto3.DataRow:
		r.first, r.open = !r.open, true
		r.values = m.Values
	case *pgproto3.CommandComplete:
		r.open, r.tag = false, pgconn.NewCommandTag(string(m.CommandTag))
	case *pgproto3.EmptyQueryResponse:
		r.open = false
	default:
		r.open, r.err = false, r.p.fail(pgrows.ErrMalformed)
	}
}

// Next reads the next row, and reports whether there is one.
func (r *Rows) Next() bool {
	if r.first {
		r.first = false
		return true
	}
	if r.open {
		message, err := r.p.next()
		if err != nil {
			r.open, r.err = false, err
			return false
		}
		r.take(message)
	}
	return r.open
}

// Close reads the rows that are left.
func (r *Rows) Close() {
	for r.Next() {
	}
}

// Err returns the error of the server or the connection, once all rows were read.
func (r *Rows) Err() error { return r.err }

// CommandTag returns the tag of the statement, once all rows were read.
func (r *Rows) CommandTag() pgconn.CommandTag { return r.tag }

// FieldDescriptions returns the columns.
func (r *Rows) FieldDescriptions() []pgconn.FieldDescription { return r.fields }

// RawValues returns the values of the row, which are valid until the next one is read.
func (r *Rows) RawValues() [][]byte { return r.values }

// TypeMap returns the types of the connection.
func (r *Rows) TypeMap() *pgtype.Map { return r.p.conn.TypeMap() }

// Conn returns nil: the connection is busy.
func (r *Rows) Conn() *pgx.Conn { return nil }
