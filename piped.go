package pgcmd

import (
	"context"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
)

// A piped is a statement command as a pipeline runs it: many items on one
// connection, all sent before the first reply is read.
type piped[In, Out any] struct {
	*statement
	firm func(l limits) bool                                               // that it works, under limits, is the server's word alone, so that COMMIT may travel with it
	fits func(types *pgtype.Map, columns []pgconn.FieldDescription) *Error // asked before anything is sent
	run  func(ctx context.Context) (bind binder[In], read reader[Out])     // for one run, by one goroutine
}

// A binder reads the arguments of one item into memory that the next one uses
// again.
type binder[In any] func(in In) ([]any, *Error)

// A reader reads one item's reply. Its failure is one of the client's; what the
// server and the connection say, rows says.
type reader[Out any] func(rows resultRows, l limits) (Out, *Error)

func pipeAll[In, Row any](q *query[In, Row]) *piped[In, []Row] {
	return &piped[In, []Row]{
		statement: q.statement,
		firm:      func(l limits) bool { return q.readOnly || l.rows == 0 && l.bytes == 0 || q.harmless() },
		fits:      q.fits,
		run: func(ctx context.Context) (binder[In], reader[[]Row]) {
			fr := q.frameFor(ctx)
			return q.binder(), func(rows resultRows, l limits) ([]Row, *Error) {
				out, failure := q.everyRow(fr, rows, l)
				var zero Row
				fr.row = zero // what could not be read is there
				clear(fr.rows)
				fr.rows = fr.rows[:0]
				return out, failure
			}
		},
	}
}

func pipeOne[In, Row any](q *query[In, Row]) *piped[In, Row] {
	return &piped[In, Row]{
		statement: q.statement,
		firm:      func(l limits) bool { return q.readOnly || q.harmless() || q.insertsOne() && l.bytes == 0 },
		fits:      q.fits,
		run: func(ctx context.Context) (binder[In], reader[Row]) {
			fr := q.frameFor(ctx)
			return q.binder(), func(rows resultRows, l limits) (row Row, failure *Error) {
				failure = q.onlyRow(fr, rows, l)
				row, fr.row = fr.row, row
				return row, failure
			}
		},
	}
}

func pipeExec[In, Row any](q *query[In, Row]) *piped[In, int64] {
	return &piped[In, int64]{
		statement: q.statement,
		firm:      func(limits) bool { return true },
		fits:      func(*pgtype.Map, []pgconn.FieldDescription) *Error { return nil },
		run: func(ctx context.Context) (binder[In], reader[int64]) {
			return q.binder(), func(rows resultRows, _ limits) (int64, *Error) {
				rows.Close()
				return rows.CommandTag().RowsAffected(), nil
			}
		},
	}
}

func (q *query[In, Row]) binder() binder[In] {
	i, args := new(input[In]), make([]any, len(q.fields))
	return func(in In) ([]any, *Error) { return i.arguments(args, q.statement, in) }
}

// fits finds out whether the row type can take the columns.
func (q *query[In, Row]) fits(types *pgtype.Map, columns []pgconn.FieldDescription) *Error {
	if q.shape.kind == scannerRow {
		return nil
	}
	return q.shape.reads(types, columns)
}

// harmless reports whether the statement changes nothing, by its text alone: it is
// a query, and calls no function.
func (s *statement) harmless() bool { return s.text.Reads && !strings.Contains(s.text.SQL, "(") }

// insertsOne reports whether the statement inserts the rows that it spells out, so
// that it returns as many or fails.
func (s *statement) insertsOne() bool {
	sql := strings.ToLower(s.text.SQL)
	return s.text.Verb == "insert" && strings.Contains(sql, "values") &&
		!strings.Contains(sql, "conflict") && !strings.Contains(sql, "select")
}
