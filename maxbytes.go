package pgcmd

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/pgcmd/pgcmd/internal/rowscan"
)

// limits bound one reply: MaxRows and MaxBytes. Zero means no limit.
type limits struct {
	rows   int
	bytes  int
	filter *rowFilter // of the connection that it comes on; nil if there is none
}

// or is l, with limits that are zero taken from others.
func (l limits) or(others limits) limits {
	if l.rows == 0 {
		l.rows = others.rows
	}
	if l.bytes == 0 {
		l.bytes = others.bytes
	}
	return l
}

// A counter counts the bytes that a reply may still have.
type counter struct {
	limits
	left int
}

func (l limits) counter() counter { return counter{l, l.bytes} }

// over counts the current row, and reports whether the limit is exceeded. It is called only
// if there is a limit.
func (c *counter) over(rows rowscan.Rows) bool {
	for _, value := range rows.RawValues() {
		c.left -= len(value)
	}
	if c.filter != nil {
		c.filter.left = c.left
		return c.left < 0 || c.filter.refused
	}
	return c.left < 0
}

func tooManyRows(limit int) *Error {
	return &Error{Code: CodeTooManyRows, Err: pgx.ErrTooManyRows,
		Message: fmt.Sprintf("more than MaxRows (%d) rows were found: narrow the condition, raise MaxRows, or stream them", limit)}
}

func tooManyBytes(limit int) *Error {
	return &Error{Code: CodeTooManyRows,
		Message: fmt.Sprintf("more than MaxBytes (%d) bytes of values were found: narrow the condition, select fewer or shorter columns, raise MaxBytes, or stream the rows", limit)}
}

// bigRow is the length from which on a DataRow is checked before it is read; there is memory
// for smaller ones anyway.
const bigRow = 16 << 10

// rowOverhead is how much longer than its values a DataRow may be: a row has at most 1664
// columns (MaxTupleAttributeNumber), each with four bytes of length.
const rowOverhead = 2 + 4*1664

// A rowFilter is what a connection's pgproto3.Frontend reads from. While it is armed it
// leaves out DataRows that are longer than the reply may be: it gives an empty one in
// their place, and throws their bytes away as they come. pgx itself would take the memory
// for a message before it has read it, and a Frontend that is told to refuse one loses the
// connection.
type rowFilter struct {
	from    io.Reader
	armed   bool
	left    int  // bytes that the rows may still have
	refused bool // a row was left out

	buf   []byte // what was received
	ahead []byte // of it, what was not checked
	ready []byte // what can be returned
	rest  int    // bytes to come of a message whose beginning was returned
	skip  int    // bytes to come of one that is left out
}

// emptyRow is a DataRow without columns.
var emptyRow = []byte{'D', 0, 0, 0, 6, 0, 0}

// Read returns whole messages, and those that are longer than the buffer in parts. A big row
// is returned alone, so that it is checked after all rows before it were counted.
func (f *rowFilter) Read(p []byte) (int, error) {
	for {
		switch {
		case len(f.ready) > 0:
			n := copy(p, f.ready)
			f.ready = f.ready[n:]
			return n, nil
		case f.rest > 0 && len(f.ahead) == 0: // nothing to check: past the buffer
			n, err := f.from.Read(p[:min(len(p), f.rest)])
			f.rest -= n
			return n, err
		case !f.armed && f.skip == 0 && len(f.ahead) == 0:
			return f.from.Read(p)
		}
		if !f.look() {
			if err := f.more(); err != nil {
				return 0, err
			}
		}
	}
}

// more reads into the buffer, behind what was not checked.
func (f *rowFilter) more() error {
	if f.buf == nil {
		f.buf = make([]byte, 8<<10)
	}
	kept := copy(f.buf, f.ahead)
	n, err := f.from.Read(f.buf[kept:])
	f.ahead = f.buf[:kept+n]
	if n > 0 {
		return nil
	}
	return err
}

// look checks what was received, and reports whether that made progress.
func (f *rowFilter) look() bool {
	if n := min(f.skip, len(f.ahead)); n > 0 {
		f.skip -= n
		f.ahead = f.ahead[n:]
		return true
	}
	at := min(f.rest, len(f.ahead))
	f.rest -= at
	for f.rest == 0 && len(f.ahead)-at >= 5 {
		typ, size := f.ahead[at], int(binary.BigEndian.Uint32(f.ahead[at+1:]))
		if typ == 'D' && size > bigRow && f.armed {
			if at > 0 {
				break
			}
			if size > f.left+rowOverhead {
				f.refused, f.ready, f.skip = true, emptyRow, size-4
				f.ahead = f.ahead[5:]
				return true
			}
		}
		whole := max(5, 1+size) // pgx refuses a malformed one
		f.rest = max(0, whole-(len(f.ahead)-at))
		at += whole - f.rest
	}
	f.ready, f.ahead = f.ahead[:at], f.ahead[at:]
	return at > 0
}

// filterRows puts a rowFilter before the connections that are made from cfg.
func filterRows(cfg *pgconn.Config) {
	build := cfg.BuildFrontend
	cfg.BuildFrontend = func(r io.Reader, w io.Writer) *pgproto3.Frontend {
		f := &rowFilter{from: r}
		if below := unwrapNetConn(w); below != nil {
			below.filter = f
		}
		return build(f, w)
	}
}

// A rowBound is what MaxBytes sets on a connection while a reply is read. Its zero value is
// none. Where there is no rowFilter, or something has been read past it, pgx is told to
// refuse what is longer, which costs the connection.
type rowBound struct {
	filter   *rowFilter
	frontend *pgproto3.Frontend // without a filter
	standing int                // what it refused before
}

// boundRows makes the bound of what comes next on a connection; it must be released.
func boundRows(conn *pgx.Conn) (b rowBound) {
	if conn == nil || conn.IsClosed() {
		return b
	}
	frontend := conn.PgConn().Frontend()
	if w := netConnOf(conn); w != nil && w.filter != nil && frontend.ReadBufferLen() == 0 && w.filter.idle() {
		b.filter = w.filter
		b.filter.armed = true
	} else {
		b.frontend, b.standing = frontend, conn.Config().MaxProtocolMessageBodyLen
	}
	return b
}

// expect lets the rows of the next reply have so many bytes; zero means no limit.
func (b *rowBound) expect(bytes int) {
	switch {
	case b.filter != nil && bytes == 0:
		b.filter.left, b.filter.refused = math.MaxInt-rowOverhead, false
	case b.filter != nil:
		b.filter.left, b.filter.refused = bytes, false
	case b.frontend == nil:
	case bytes > 0 && bytes < math.MaxInt32 && (b.standing == 0 || bytes+rowOverhead+bigRow < b.standing):
		b.frontend.SetMaxBodyLen(bytes + rowOverhead + bigRow)
	default:
		b.frontend.SetMaxBodyLen(b.standing)
	}
}

// release takes the bound away. It may be called twice.
func (b *rowBound) release() {
	if b.filter != nil {
		b.filter.armed = false
	} else if b.frontend != nil {
		b.frontend.SetMaxBodyLen(b.standing)
	}
	*b = rowBound{}
}

// idle reports whether the filter holds nothing.
func (f *rowFilter) idle() bool {
	return f.rest == 0 && f.skip == 0 && len(f.ahead)+len(f.ready) == 0
}

// refusedLength reports whether pgx has refused a message for its length.
func refusedLength(err error) bool {
	_, ok := errors.AsType[*pgproto3.ExceededMaxBodyLenErr](err)
	return ok
}
