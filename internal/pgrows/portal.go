package pgrows

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/jackc/pgx/v5/pgtype"
)

// Portal are the rows of one Execute of a portal, with the replies that come before them.
type Portal struct {
	pg      *pgconn.PgConn
	types   *pgtype.Map
	fields  *[]pgconn.FieldDescription
	skip    int // results that come first
	values  [][]byte
	tag     pgconn.CommandTag
	more    bool // PostgreSQL has suspended the portal: it has more rows
	ready   bool // ReadyForQuery was read
	discard bool // the remaining rows are discarded
	err     error
	connErr error // why the connection is lost
}

// NewPortal makes the rows of a reply on pg, before which the results of skip other
// statements come. fields are the columns; a RowDescription in the reply replaces them.
func NewPortal(pg *pgconn.PgConn, types *pgtype.Map, fields *[]pgconn.FieldDescription, skip int) *Portal {
	return &Portal{pg: pg, types: types, fields: fields, skip: skip}
}

// Skipping returns how many of the other statements were not completed.
func (r *Portal) Skipping() int { return r.skip }

// Columns appends the columns of a statement, in the formats in which they are requested.
func Columns(columns []pgconn.FieldDescription, sd *pgconn.StatementDescription, formats []int16) []pgconn.FieldDescription {
	columns = append(columns, sd.Fields...)
	for i := range columns {
		columns[i].Format = formats[i]
	}
	return columns
}

// Flush sends the messages that are queued on the connection's Frontend.
func (r *Portal) Flush() error {
	r.connErr = r.pg.Frontend().Flush()
	return r.connErr
}

// Next reads the next row.
func (r *Portal) Next() bool {
	for !r.ready && r.connErr == nil {
		switch m := r.receive().(type) {
		case *pgproto3.DataRow:
			if r.skip == 0 && !r.discard {
				r.values = m.Values
				return true
			}
		case *pgproto3.RowDescription:
			*r.fields = Fields(m)
		case *pgproto3.CommandComplete:
			if r.skip > 0 {
				r.skip--
			} else {
				r.tag = pgconn.NewCommandTag(string(m.CommandTag))
			}
		case *pgproto3.PortalSuspended:
			r.more = true
		case *pgproto3.ErrorResponse:
			if r.err == nil {
				r.err = pgconn.ErrorResponseToPgError(m)
			}
		case *pgproto3.ReadyForQuery:
			r.ready = true
		}
	}
	r.discard = true
	return false
}

// receive returns the next message, or nil if the connection is lost. If OnNotice panics, it
// closes the connection, which is in the middle of a reply.
func (r *Portal) receive() (message pgproto3.BackendMessage) {
	r.connErr = errNoticePanicked
	defer func() {
		if r.connErr == errNoticePanicked {
			Abort(r.pg)
		}
	}()
	message, r.connErr = r.pg.ReceiveMessage(context.Background())
	return message
}

var errNoticePanicked = errors.New("pgcmd: OnNotice panicked")

// Close reads the rest of the reply.
func (r *Portal) Close() {
	r.discard = true
	r.Next()
}

// Finish returns the error of the reply, which must be closed. If the connection is lost, it
// closes it, and the error is the server's, if there is one, or else that of the context
// and the connection.
func (r *Portal) Finish(ctx context.Context) error {
	if r.connErr == nil {
		return r.err
	}
	Abort(r.pg)
	switch {
	case r.err != nil:
	case ctx.Err() != nil:
		r.err = errors.Join(ctx.Err(), r.connErr)
	default:
		r.err = r.connErr
	}
	return r.err
}

// Abort closes a connection in the middle of a reply and cancels its statement, as pgconn
// does: pgconn has no other way to request that.
func Abort(pg *pgconn.PgConn) {
	_ = pg.Conn().SetDeadline(time.Unix(1, 0))
	p := pg.StartPipeline(context.Background())
	_ = p.Sync()
	_ = p.Close()
}

// Exchange sends the messages that are queued on the connection's Frontend, the last of
// which is a Sync, and discards the rows of the replies. It returns how many of the first
// statements were not completed. If the connection is lost, it closes it.
func Exchange(pg *pgconn.PgConn, statements int) (left int, err error) {
	var fields []pgconn.FieldDescription
	r := Portal{pg: pg, fields: &fields, skip: statements}
	_ = r.Flush()
	if r.Close(); r.connErr != nil {
		Abort(pg)
		return r.skip, r.connErr
	}
	return r.skip, r.err
}

// More reports whether the portal has more rows.
func (r *Portal) More() bool { return r.more }

// Err returns the server's error, or why the connection is lost.
func (r *Portal) Err() error {
	if r.err == nil {
		return r.connErr
	}
	return r.err
}

// CommandTag returns the command tag, when the rows are closed.
func (r *Portal) CommandTag() pgconn.CommandTag { return r.tag }

// FieldDescriptions returns the columns.
func (r *Portal) FieldDescriptions() []pgconn.FieldDescription { return *r.fields }

// RawValues returns the values of the row, until the next call of Next.
func (r *Portal) RawValues() [][]byte { return r.values }

// TypeMap returns the types that the values are read with.
func (r *Portal) TypeMap() *pgtype.Map { return r.types }

// Conn returns nil: the connection is in the middle of the reply.
func (r *Portal) Conn() *pgx.Conn { return nil }
