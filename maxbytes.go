package pgcmd

import (
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/pgcmd/pgcmd/internal/connpool"
	"github.com/pgcmd/pgcmd/internal/rowscan"
)

// limits bound one reply: MaxRows and MaxBytes. Zero means no limit.
type limits struct {
	rows   int
	bytes  int
	filter *connpool.RowFilter // of the connection that it comes on; nil if there is none
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
		c.filter.SetLeft(c.left)
		return c.left < 0 || c.filter.Refused()
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
