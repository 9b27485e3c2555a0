package pgcmd

import (
	"context"
	"encoding/binary"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/jackc/pgx/v5/pgtype"
)

// bufferedRows are the rows of a complete reply. Each request has its own, so that rows which
// a caller keeps too long never read another caller's reply.
type bufferedRows struct {
	request *request // nil once closed
	conn    *sharedConn
	types   *pgtype.Map
	fields  []pgconn.FieldDescription
	offset  int
	values  [][]byte
	tag     string
	err     error
	traced  context.Context // from the tracer; nil without one
}

func (r *bufferedRows) Next() bool {
	for r.request != nil {
		if r.offset == len(r.request.reply) {
			r.Close()
			return false
		}
		typ, body, rest := nextMessage(r.request.reply[r.offset:])
		r.offset = len(r.request.reply) - len(rest)
		switch typ {
		case 'D':
			if r.values = splitRow(r.request.values[:0], body); len(r.values) != len(r.fields) {
				r.fatal(errMalformed)
				return false
			}
			r.request.values = r.values
			return true
		case 'N':
			r.notice(body)
		case 'C':
			r.tag = string(body[:max(0, len(body)-1)])
		case '2', 'S', 'A', 'I':
		default:
			r.fatal(errMalformed)
		}
	}
	return false
}

// splitRow splits a DataRow into its values. It returns nil if it is malformed.
func splitRow(values [][]byte, body []byte) [][]byte {
	if len(body) < 2 {
		return nil
	}
	n := int(binary.BigEndian.Uint16(body))
	body = body[2:]
	for range n {
		if len(body) < 4 {
			return nil
		}
		size := int(int32(binary.BigEndian.Uint32(body)))
		if body = body[4:]; size == -1 {
			values = append(values, nil)
			continue
		}
		if size < 0 || size > len(body) {
			return nil
		}
		values = append(values, body[:size:size])
		body = body[size:]
	}
	return values
}

// notice calls OnNotice in the caller's goroutine, as pgx does: a panic is the caller's.
func (r *bufferedRows) notice(body []byte) {
	if r.conn.onNotice == nil {
		return
	}
	var msg pgproto3.ErrorResponse
	if msg.Decode(body) == nil {
		r.conn.onNotice(r.conn.conn.PgConn(), (*pgconn.Notice)(pgconn.ErrorResponseToPgError(&msg)))
	}
}

func (r *bufferedRows) Close() {
	for r.request != nil && r.offset < len(r.request.reply) {
		typ, body, rest := nextMessage(r.request.reply[r.offset:])
		r.offset = len(r.request.reply) - len(rest)
		switch typ {
		case 'N':
			r.notice(body)
		case 'C':
			r.tag = string(body[:max(0, len(body)-1)])
		}
	}
	r.end(r.err)
}

// end releases the reply. It may be called twice.
func (r *bufferedRows) end(err error) {
	if r.request == nil {
		return
	}
	r.request, r.values = nil, nil
	if r.traced != nil {
		r.conn.tracer.TraceQueryEnd(r.traced, r.conn.conn, pgx.TraceQueryEndData{CommandTag: r.CommandTag(), Err: err})
		r.traced = nil
	}
}

func (r *bufferedRows) fatal(err error) {
	if r.err == nil {
		r.err = err
		r.end(err)
	}
}

func (r *bufferedRows) Err() error { return r.err }

func (r *bufferedRows) CommandTag() pgconn.CommandTag { return pgconn.NewCommandTag(r.tag) }

func (r *bufferedRows) FieldDescriptions() []pgconn.FieldDescription { return r.fields }

func (r *bufferedRows) RawValues() [][]byte { return r.values }

func (r *bufferedRows) Conn() *pgx.Conn { return nil }

func (r *bufferedRows) TypeMap() *pgtype.Map { return r.types }
