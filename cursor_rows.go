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
	c       *cursor
	pg      *pgconn.PgConn
	types   *pgtype.Map
	skip    int // results of internal statements that come first
	values  [][]byte
	tag     pgconn.CommandTag
	more    bool // PostgreSQL has suspended the portal: it has more rows
	ready   bool // ReadyForQuery was read
	discard bool // the remaining rows are discarded
	err     error
	connErr error // why the connection is lost
}

// Next reads the next row.
func (r *portalRows) Next() bool {
	for !r.ready && r.connErr == nil {
		var message pgproto3.BackendMessage
		if message, r.connErr = r.pg.ReceiveMessage(context.Background()); r.connErr != nil {
			break
		}
		switch m := message.(type) {
		case *pgproto3.DataRow:
			if r.skip == 0 && !r.discard {
				r.values = m.Values
				return true
			}
		case *pgproto3.RowDescription:
			r.c.columns = columnsOf(m)
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

// end reads the rest of the reply, and closes a connection on which that fails.
func (r *portalRows) end(ctx context.Context) {
	r.Close()
	r.c.watcher.Unwatch()
	if r.connErr == nil {
		return
	}
	abortConn(r.pg)
	switch {
	case r.err != nil: // the server's error is the reason
	case ctx.Err() != nil:
		r.err = errors.Join(ctx.Err(), r.connErr)
	default:
		r.err = r.connErr
	}
}

// abortConn closes a connection in the middle of a reply and cancels its statement, as pgconn
// does: pgconn has no other way to request that.
func abortConn(pg *pgconn.PgConn) {
	_ = pg.Conn().SetDeadline(time.Unix(1, 0))
	p := pg.StartPipeline(context.Background())
	_ = p.Sync()
	_ = p.Close()
}

func (r *portalRows) Close() {
	r.discard = true
	r.Next()
}

func (r *portalRows) Err() error {
	if r.err == nil {
		return r.connErr
	}
	return r.err
}

func (r *portalRows) CommandTag() pgconn.CommandTag                { return r.tag }
func (r *portalRows) FieldDescriptions() []pgconn.FieldDescription { return r.c.columns }
func (r *portalRows) RawValues() [][]byte                          { return r.values }
func (r *portalRows) TypeMap() *pgtype.Map                         { return r.types }
func (r *portalRows) Conn() *pgx.Conn                              { return nil }
