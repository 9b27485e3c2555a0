package pgrows

import (
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/jackc/pgx/v5/pgtype"
)

// A Reply is the memory of a complete reply. It may be used for another one after the rows
// of the first are closed.
type Reply struct {
	Messages []byte // without ReadyForQuery
	values   [][]byte
}

// Reset makes the Reply ready for the next one.
func (r *Reply) Reset() { clear(r.values) }

// Buffered are the rows of a complete reply. Every reply needs its own, so that rows which a
// caller keeps too long never read another caller's reply.
type Buffered struct {
	Reply    *Reply // nil once closed
	Fields   []pgconn.FieldDescription
	Types    *pgtype.Map
	PgConn   *pgconn.PgConn // passed to OnNotice
	OnNotice pgconn.NoticeHandler
	OnEnd    func(tag pgconn.CommandTag, err error) // is called once; may be nil

	offset int
	values [][]byte
	tag    string
	err    error
}

// Next reads the next row.
func (r *Buffered) Next() bool {
	for r.Reply != nil {
		if r.offset == len(r.Reply.Messages) {
			r.Close()
			return false
		}
		typ, body, rest := NextMessage(r.Reply.Messages[r.offset:])
		r.offset = len(r.Reply.Messages) - len(rest)
		switch typ {
		case 'D':
			if r.values = splitRow(r.Reply.values[:0], body); len(r.values) != len(r.Fields) {
				r.fatal(ErrMalformed)
				return false
			}
			r.Reply.values = r.values
			return true
		case 'N':
			r.notice(body)
		case 'C':
			r.tag = string(body[:max(0, len(body)-1)])
		case '2', 'S', 'A', 'I':
		default:
			r.fatal(ErrMalformed)
		}
	}
	return false
}

// notice calls OnNotice in the caller's goroutine, as pgx does: a panic is the caller's.
func (r *Buffered) notice(body []byte) {
	if r.OnNotice == nil {
		return
	}
	var msg pgproto3.ErrorResponse
	if msg.Decode(body) == nil {
		r.OnNotice(r.PgConn, (*pgconn.Notice)(pgconn.ErrorResponseToPgError(&msg)))
	}
}

// Close skips the remaining rows.
func (r *Buffered) Close() {
	for r.Reply != nil && r.offset < len(r.Reply.Messages) {
		typ, body, rest := NextMessage(r.Reply.Messages[r.offset:])
		r.offset = len(r.Reply.Messages) - len(rest)
		switch typ {
		case 'N':
			r.notice(body)
		case 'C':
			r.tag = string(body[:max(0, len(body)-1)])
		}
	}
	r.End(r.err)
}

// End releases the reply, because of err if that is not nil. It may be called twice.
func (r *Buffered) End(err error) {
	if r.Reply == nil {
		return
	}
	r.Reply, r.values = nil, nil
	if r.OnEnd != nil {
		r.OnEnd(r.CommandTag(), err)
	}
}

func (r *Buffered) fatal(err error) {
	if r.err == nil {
		r.err = err
		r.End(err)
	}
}

// Err returns the error of the reply.
func (r *Buffered) Err() error { return r.err }

// CommandTag returns the command tag, when the rows are closed.
func (r *Buffered) CommandTag() pgconn.CommandTag { return pgconn.NewCommandTag(r.tag) }

// FieldDescriptions returns the columns.
func (r *Buffered) FieldDescriptions() []pgconn.FieldDescription { return r.Fields }

// RawValues returns the values of the row, until the next call of Next.
func (r *Buffered) RawValues() [][]byte { return r.values }

// Conn returns nil: the connection is not the caller's.
func (r *Buffered) Conn() *pgx.Conn { return nil }

// TypeMap returns the types that the values are read with.
func (r *Buffered) TypeMap() *pgtype.Map { return r.Types }
