package pgcmd

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/jackc/pgx/v5/pgtype"
)

// portalRows are the rows of one fetch of a cursor.
type portalRows struct {
	c      *cursor
	pg     *pgconn.PgConn
	types  *pgtype.Map
	before int // results of statements of our own that are to come first
	values [][]byte
	tag    pgconn.CommandTag
	more   bool // the portal has more rows
	ready  bool // the server is, for the next message
	closed bool // nobody wants the rows that are left
	err    error
	lost   error // the connection is
}

// Next reads the next row.
func (r *portalRows) Next() bool {
	for !r.ready && r.lost == nil {
		var message pgproto3.BackendMessage
		if message, r.lost = r.pg.ReceiveMessage(context.Background()); r.lost != nil {
			break
		}
		switch m := message.(type) {
		case *pgproto3.DataRow:
			if r.before == 0 && !r.closed {
				r.values = m.Values
				return true
			}
		case *pgproto3.RowDescription:
			r.c.columns = columnsOf(m)
		case *pgproto3.CommandComplete:
			if r.before > 0 {
				r.before--
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
	r.closed = true
	return false
}

func columnsOf(m *pgproto3.RowDescription) []pgconn.FieldDescription {
	columns := make([]pgconn.FieldDescription, len(m.Fields))
	for i, f := range m.Fields {
		columns[i] = pgconn.FieldDescription{
			Name: string(f.Name), TableOID: f.TableOID, TableAttributeNumber: f.TableAttributeNumber,
			DataTypeOID: f.DataTypeOID, DataTypeSize: f.DataTypeSize, TypeModifier: f.TypeModifier, Format: f.Format,
		}
	}
	return columns
}

// end reads what is left, and gives up a connection on which that fails.
func (r *portalRows) end(ctx context.Context) {
	r.Close()
	r.c.watcher.Unwatch()
	if r.lost == nil {
		return
	}
	abortConn(r.pg)
	switch {
	case r.err != nil: // the server's reason
	case ctx.Err() != nil:
		r.err = errors.Join(ctx.Err(), r.lost)
	default:
		r.err = r.lost
	}
}

// abortConn closes a connection that is in the middle of something, and asks the server to
// stop what it is doing, as pgconn does: it has no other way to be asked for that.
func abortConn(pg *pgconn.PgConn) {
	_ = pg.Conn().SetDeadline(time.Unix(1, 0))
	p := pg.StartPipeline(context.Background())
	_ = p.Sync()
	_ = p.Close()
}

func (r *portalRows) Close() {
	r.closed = true
	r.Next()
}

func (r *portalRows) Err() error {
	if r.err == nil {
		return r.lost
	}
	return r.err
}

func (r *portalRows) CommandTag() pgconn.CommandTag                { return r.tag }
func (r *portalRows) FieldDescriptions() []pgconn.FieldDescription { return r.c.columns }
func (r *portalRows) RawValues() [][]byte                          { return r.values }
func (r *portalRows) TypeMap() *pgtype.Map                         { return r.types }
func (r *portalRows) Conn() *pgx.Conn                              { return nil }
