package pgcmd

import (
	"context"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
)

// A piped is a statement command as a pipeline runs it: many items on one
// connection, all sent before the first reply is read.
type pipelined[In, Out any] struct {
	*statement
	commitSafe func(l limits) bool                                               // that it works, under limits, is the server's word alone, so that COMMIT may travel with it
	fits       func(types *pgtype.Map, columns []pgconn.FieldDescription) *Error // asked before anything is sent
	run        func(ctx context.Context) (bind binder[In], read reader[Out])     // for one run, by one goroutine
}

// A binder reads the arguments of one item into memory that the next one uses
// again.
type binder[In any] func(in In) ([]any, *Error)

// A reader reads one item's reply. Its failure is one of the client's; what the
// server and the connection say, rows says.
type reader[Out any] func(rows resultRows, l limits) (Out, *Error)

func pipeAll[In, Row any](q *query[In, Row]) *pipelined[In, []Row] {
	return &pipelined[In, []Row]{
		statement:  q.statement,
		commitSafe: func(l limits) bool { return q.readOnly || l.rows == 0 && l.bytes == 0 || q.callsNothing() },
		fits:       q.fits,
		run: func(ctx context.Context) (binder[In], reader[[]Row]) {
			fr := q.rowBufferFor(ctx)
			return q.binder(), func(rows resultRows, l limits) ([]Row, *Error) {
				out, failure := q.collectRows(fr, rows, l)
				var zero Row
				fr.current = zero // what could not be read is there
				clear(fr.collected)
				fr.collected = fr.collected[:0]
				return out, failure
			}
		},
	}
}

func pipeOne[In, Row any](q *query[In, Row]) *pipelined[In, Row] {
	return &pipelined[In, Row]{
		statement:  q.statement,
		commitSafe: func(l limits) bool { return q.readOnly || q.callsNothing() || q.insertsLiteralRows() && l.bytes == 0 },
		fits:       q.fits,
		run: func(ctx context.Context) (binder[In], reader[Row]) {
			fr := q.rowBufferFor(ctx)
			return q.binder(), func(rows resultRows, l limits) (row Row, failure *Error) {
				failure = q.collectOneRow(fr, rows, l)
				row, fr.current = fr.current, row
				return row, failure
			}
		},
	}
}

func pipeExec[In, Row any](q *query[In, Row]) *pipelined[In, int64] {
	return &pipelined[In, int64]{
		statement:  q.statement,
		commitSafe: func(limits) bool { return true },
		fits:       func(*pgtype.Map, []pgconn.FieldDescription) *Error { return nil },
		run: func(ctx context.Context) (binder[In], reader[int64]) {
			return q.binder(), func(rows resultRows, _ limits) (int64, *Error) {
				rows.Close()
				return rows.CommandTag().RowsAffected(), nil
			}
		},
	}
}

func (q *query[In, Row]) binder() binder[In] {
	i, args := new(argBuffer[In]), make([]any, len(q.fields))
	return func(in In) ([]any, *Error) { return i.arguments(args, q.statement, in) }
}

// fits finds out whether the row type can take the columns.
func (q *query[In, Row]) fits(types *pgtype.Map, columns []pgconn.FieldDescription) *Error {
	if q.rowType.kind == scannerRow {
		return nil
	}
	return q.rowType.reads(types, columns)
}

// callsNothing reports whether the statement changes nothing, by its text alone: it is
// a query, and calls no function.
func (s *statement) callsNothing() bool { return s.text.Reads && !strings.Contains(s.text.SQL, "(") }

// insertsLiteralRows reports whether the statement inserts the rows that it spells out, so
// that it returns as many or fails.
func (s *statement) insertsLiteralRows() bool {
	sql := strings.ToLower(s.text.SQL)
	return s.text.Verb == "insert" && strings.Contains(sql, "values") &&
		!strings.Contains(sql, "conflict") && !strings.Contains(sql, "select")
}
