package canned

import (
	"encoding/binary"
	"fmt"

	"github.com/jackc/pgx/v5/pgproto3"
)

// A backend is the server's side of one session: messages in, replies out, no waiting. Its conn guards it.
type backend struct {
	server *Server
	conn   *conn
	id     uint32

	in   []byte   // a message not yet complete, or behind one that hangs
	out  []string // messages not yet read, from next on
	next int

	statements map[string]*reply
	bound      *reply // the unnamed portal, nil for none
	result     *result

	state string
	skips bool // after an error, until Sync
	hung  byte // the type of the message that is never answered, 0 for none
	gone  bool // the session has ended; what is in out can still be read
}

// write takes what the client sends and handles each message that is complete. A message that no client should send
// panics, in the client's call.
func (b *backend) write(p []byte) {
	if len(b.in) > 0 {
		p = append(b.in, p...)
	}
	for b.hung == 0 && !b.gone {
		tagged := 1
		if b.state == "" {
			tagged = 0 // a session's first message has no type
		}
		if len(p) < tagged+4 {
			break
		}
		size := tagged + int(binary.BigEndian.Uint32(p[tagged:]))
		if len(p) < size {
			break
		}
		body := message(p[tagged+4 : size])
		if tagged == 0 {
			b.start(body)
		} else {
			b.handle(p[0], body)
		}
		p = p[size:]
	}
	b.in = append(b.in[:0], p...)
}

// read copies out as much as fits into p, of several messages if need be.
func (b *backend) read(p []byte) (n int) {
	for n < len(p) && b.next < len(b.out) {
		m := b.out[b.next]
		k := copy(p[n:], m)
		n += k
		if k < len(m) {
			b.out[b.next] = m[k:]
			return n
		}
		b.next++
	}
	if b.next == len(b.out) {
		b.out, b.next = b.out[:0], 0
	}
	return n
}

func (b *backend) send(m string) {
	b.out = append(b.out, m)
}

func (b *backend) start(m message) {
	const protocol3, cancelRequest, sslRequest, gssRequest = 3, 80877102, 80877103, 80877104

	switch code := m.int32(); code {
	case sslRequest, gssRequest:
		b.send("N")
	case cancelRequest:
		b.gone = true
		b.server.cancel(uint32(m.int32()))
	default:
		if code>>16 != protocol3 {
			b.raise(newFailure(nil, &pgproto3.ErrorResponse{
				Severity: "FATAL", Code: "0A000", Message: fmt.Sprintf("canned: unsupported protocol %#x", code),
			}))
			return
		}
		b.id = b.server.join(b.conn)
		b.state = idle
		b.send(b.server.greeting)
		b.send(encode(&pgproto3.BackendKeyData{ProcessID: b.id, SecretKey: make([]byte, 4)}))
		b.send(b.state)
	}
}

func (b *backend) handle(kind byte, m message) {
	switch {
	case kind == 'X':
		b.gone = true
	case kind == 'S':
		b.server.roundTrips.Add(1)
		b.sync()
	case b.skips:
	case kind == 'P':
		b.parse(m)
	case kind == 'D':
		b.describe(m)
	case kind == 'B':
		b.bind(m)
	case kind == 'E':
		b.executeBound(m)
	case kind == 'C':
		b.close(m)
	case kind == 'Q':
		b.server.roundTrips.Add(1)
		b.query(m)
	case kind == 'H': // nothing is held back that a Flush could send
	default:
		b.raise(newFailure(nil, &pgproto3.ErrorResponse{
			Severity: "FATAL", Code: "08P01", Message: fmt.Sprintf("canned: unsupported message type %q", kind),
		}))
	}
}

func (b *backend) sync() {
	b.skips, b.bound = false, nil
	b.send(b.state)
}

func (b *backend) parse(m message) {
	name, sql := m.text(), m.text()
	r := b.server.reply(sql)
	if r == nil {
		b.fail("42601", "canned: no reply is registered for %q", string(sql))
		return
	}
	if b.refuses(r) {
		return
	}
	b.statements[string(name)] = r
	b.send(parseComplete)
}

func (b *backend) describe(m message) {
	if kind := m.next(1)[0]; kind == 'S' {
		name := m.text()
		if r := b.statements[string(name)]; r != nil {
			b.send(r.described)
		} else {
			b.fail("26000", "prepared statement %q does not exist", string(name))
		}
		return
	}
	switch {
	case b.bound == nil:
		b.fail("34000", "portal %q does not exist", string(m.text()))
	case b.result.columns == "":
		b.send(noData)
	default:
		b.send(b.result.columns)
	}
}

func (b *backend) bind(m message) {
	portal, name := m.text(), m.text()
	r := b.statements[string(name)]
	if r == nil {
		b.fail("26000", "prepared statement %q does not exist", string(name))
		return
	}
	if len(portal) > 0 {
		b.fail("0A000", "canned: portal %q: only the unnamed portal is supported", string(portal))
		return
	}
	m.next(2 * m.int16()) // the formats of the values
	params := m.int16()
	for range params {
		if size := m.int32(); size > 0 { // -1 is null
			m.next(size)
		}
	}
	if params != r.params {
		b.fail("08P01", "bind message supplies %d parameters, but prepared statement %q requires %d",
			params, string(name), r.params)
		return
	}
	b.result = r.in(m)
	if b.result == nil {
		b.fail("0A000", "canned: the columns are encoded in text or in the formats %v only", r.formats)
		return
	}
	if b.refuses(r) {
		return
	}
	b.bound = r
	b.send(bindComplete)
}

// in is the result in the formats that the rest of a Bind asks for, or nil if r has none in them.
func (r *reply) in(m message) *result {
	asked := m.int16()
	text, native := true, true
	var format int16
	for i, has := range r.formats {
		if i < asked { // one format stands for every column, none for text
			format = int16(m.int16())
		} else if asked > 1 {
			return nil
		}
		text = text && format == 0
		native = native && format == has
	}
	switch {
	case native:
		return &r.native
	case text:
		return &r.text
	}
	return nil
}

func (b *backend) executeBound(m message) {
	m.text()
	switch {
	case m.int32() != 0:
		b.fail("0A000", "canned: a limit of rows is not supported")
	case b.bound == nil:
		b.fail("34000", "portal \"\" does not exist")
	default:
		b.execute('E', b.bound, b.result.rows)
	}
}

func (b *backend) query(m message) {
	sql := m.text()
	r := b.server.reply(sql)
	switch {
	case r == nil:
		b.fail("42601", "canned: no reply is registered for %q", string(sql))
	case r.params > 0:
		b.fail("42P02", "there is no parameter $1")
	default:
		b.execute('Q', r, r.text.rows)
	}
	if b.hung == 0 && !b.gone {
		b.sync()
	}
}

func (b *backend) execute(kind byte, r *reply, rows string) {
	switch {
	case b.refuses(r):
	case r.failure != "":
		b.raise(r)
	case r.hangs:
		b.hung = kind
	case b.state == failed && r.state == idle:
		// COMMIT says ROLLBACK of a transaction that has failed.
		b.send(b.server.builtin.verbs["rollback"].text.rows)
		b.state = idle
	default:
		if kind == 'Q' && r.text.columns != "" {
			b.send(r.text.columns)
		}
		b.send(rows)
		if r.state != "" {
			b.state = r.state
		}
	}
}

// refuses fails what the transaction's state forbids.
func (b *backend) refuses(r *reply) bool {
	switch {
	case b.state == failed && !r.exits:
		b.fail("25P02", "current transaction is aborted, commands ignored until end of transaction block")
	case b.state == idle && r.inBlock:
		b.fail("25P01", "the command can only be used in transaction blocks")
	default:
		return false
	}
	return true
}

func (b *backend) close(m message) {
	if kind := m.next(1)[0]; kind == 'S' {
		delete(b.statements, string(m.text()))
	} else {
		b.bound = nil
	}
	b.send(closeComplete)
}

// cancel answers the statement that hangs, and what the client has sent behind it.
func (b *backend) cancel() {
	kind := b.hung
	if kind == 0 {
		return
	}
	b.hung = 0
	b.fail("57014", "canceling statement due to user request")
	if kind == 'Q' {
		b.sync()
	}
	b.write(nil)
}

func (b *backend) fail(code, format string, args ...any) {
	b.raise(newFailure(nil, &pgproto3.ErrorResponse{Code: code, Message: fmt.Sprintf(format, args...)}))
}

func (b *backend) raise(r *reply) {
	b.send(r.failure)
	b.skips, b.gone = true, r.fatal
	if b.state == inTransaction {
		b.state = failed
	}
}
