package connpool

import (
	"encoding/binary"
	"errors"
	"io"
	"math"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
)

// bigRow is the length from which on a DataRow is checked before it is read; there is memory
// for smaller ones anyway.
const bigRow = 16 << 10

// rowOverhead is how much longer than its values a DataRow may be: a row has at most 1664
// columns (MaxTupleAttributeNumber), each with four bytes of length.
const rowOverhead = 2 + 4*1664

// A RowFilter is what a connection's pgproto3.Frontend reads from. While it is enabled it
// leaves out DataRows that are longer than the reply may be: it gives an empty one in
// their place, and discards their bytes as they are received. pgx itself would allocate the
// memory for a message before it has read it, and a Frontend that is told to refuse one
// loses the connection.
type RowFilter struct {
	from    io.Reader
	enabled bool
	left    int  // bytes that the rows may still have
	refused bool // a row was left out

	buf       []byte // what was received
	unchecked []byte // the part of it that was not checked
	ready     []byte // what can be returned
	rest      int    // bytes to come of a message whose beginning was returned
	skip      int    // bytes to come of one that is left out
}

// SetLeft says how many bytes the rows may still have.
func (f *RowFilter) SetLeft(bytes int) { f.left = bytes }

// Refused reports whether a row of the reply was left out.
func (f *RowFilter) Refused() bool { return f.refused }

// emptyRow is a DataRow without columns.
var emptyRow = []byte{'D', 0, 0, 0, 6, 0, 0}

// Read returns whole messages, and those that are longer than the buffer in parts. A big row
// is returned alone, so that it is checked after all rows before it were counted.
func (f *RowFilter) Read(p []byte) (int, error) {
	for {
		switch {
		case len(f.ready) > 0:
			n := copy(p, f.ready)
			f.ready = f.ready[n:]
			return n, nil
		case f.rest > 0 && len(f.unchecked) == 0: // nothing to check: without the buffer
			n, err := f.from.Read(p[:min(len(p), f.rest)])
			f.rest -= n
			return n, err
		case !f.enabled && f.skip == 0 && len(f.unchecked) == 0:
			return f.from.Read(p)
		}
		if !f.check() {
			if err := f.fill(); err != nil {
				return 0, err
			}
		}
	}
}

// fill reads into the buffer, behind what was not checked.
func (f *RowFilter) fill() error {
	if f.buf == nil {
		f.buf = make([]byte, 8<<10)
	}
	kept := copy(f.buf, f.unchecked)
	n, err := f.from.Read(f.buf[kept:])
	f.unchecked = f.buf[:kept+n]
	if n > 0 {
		return nil
	}
	return err
}

// check checks what was received, and reports whether that made progress.
func (f *RowFilter) check() bool {
	if n := min(f.skip, len(f.unchecked)); n > 0 {
		f.skip -= n
		f.unchecked = f.unchecked[n:]
		return true
	}
	at := min(f.rest, len(f.unchecked))
	f.rest -= at
	for f.rest == 0 && len(f.unchecked)-at >= 5 {
		typ, size := f.unchecked[at], int(binary.BigEndian.Uint32(f.unchecked[at+1:]))
		if typ == 'D' && size > bigRow && f.enabled {
			if at > 0 {
				break
			}
			if size > f.left+rowOverhead {
				f.refused, f.ready, f.skip = true, emptyRow, size-4
				f.unchecked = f.unchecked[5:]
				return true
			}
		}
		whole := max(5, 1+size) // pgx refuses a malformed one
		f.rest = max(0, whole-(len(f.unchecked)-at))
		at += whole - f.rest
	}
	f.ready, f.unchecked = f.unchecked[:at], f.unchecked[at:]
	return at > 0
}

// isEmpty reports whether the filter holds nothing.
func (f *RowFilter) isEmpty() bool {
	return f.rest == 0 && f.skip == 0 && len(f.unchecked)+len(f.ready) == 0
}

// filterRows puts a RowFilter before the connections that are made from cfg.
func filterRows(cfg *pgconn.Config) {
	build := cfg.BuildFrontend
	cfg.BuildFrontend = func(r io.Reader, w io.Writer) *pgproto3.Frontend {
		f := &RowFilter{from: r}
		if c := unwrap(w); c != nil {
			c.filter = f
		}
		return build(f, w)
	}
}

// A RowLimit limits the rows of the replies on a connection. Its zero value does not. Where
// there is no RowFilter, or something was read without it, pgx is told to refuse what is
// longer, which costs the connection.
type RowLimit struct {
	Filter *RowFilter // nil: none

	frontend *pgproto3.Frontend // without a filter
	before   int                // its limit before
}

// LimitRows makes the limit of what is received next on a connection; it must be released.
func LimitRows(conn *pgx.Conn) (l RowLimit) {
	if conn == nil || conn.IsClosed() {
		return l
	}
	frontend := conn.PgConn().Frontend()
	if c := Of(conn); c != nil && c.filter != nil && frontend.ReadBufferLen() == 0 && c.filter.isEmpty() {
		l.Filter = c.filter
		l.Filter.enabled = true
	} else {
		l.frontend, l.before = frontend, conn.Config().MaxProtocolMessageBodyLen
	}
	return l
}

// SetNext lets the rows of the next reply have so many bytes; zero means no limit.
func (l *RowLimit) SetNext(bytes int) {
	switch {
	case l.Filter != nil && bytes == 0:
		l.Filter.left, l.Filter.refused = math.MaxInt-rowOverhead, false
	case l.Filter != nil:
		l.Filter.left, l.Filter.refused = bytes, false
	case l.frontend == nil:
	case bytes > 0 && bytes < math.MaxInt32 && (l.before == 0 || bytes+rowOverhead+bigRow < l.before):
		l.frontend.SetMaxBodyLen(bytes + rowOverhead + bigRow)
	default:
		l.frontend.SetMaxBodyLen(l.before)
	}
}

// Release ends the limit. It may be called twice.
func (l *RowLimit) Release() {
	if l.Filter != nil {
		l.Filter.enabled = false
	} else if l.frontend != nil {
		l.frontend.SetMaxBodyLen(l.before)
	}
	*l = RowLimit{}
}

// ExceedsRowLimit reports whether err is of pgx, which has refused a message for its length.
func ExceedsRowLimit(err error) bool {
	_, ok := errors.AsType[*pgproto3.ExceededMaxBodyLenErr](err)
	return ok
}
