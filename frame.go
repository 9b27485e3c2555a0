package pgcmd

import (
	"context"
	"errors"
	"reflect"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
)

// A frame is memory for reading rows, which the next run can use again: one row and
// pointers to its fields, and the rows so far. It is taken when the reply has begun: a
// caller that waits for a connection holds none, so that under load a few are used, and
// are warm.
type rowBuffer[Row any] struct {
	rowScanner
	current   Row
	collected []Row
}

func (q *query[In, Row]) getRowBuffer() *rowBuffer[Row] {
	fr, _ := q.rowBuffers.Get().(*rowBuffer[Row])
	if fr == nil {
		fr = new(rowBuffer[Row])
		fr.rowType, fr.into = q.rowType, &fr.current
	}
	return fr
}

// rowBufferFor is the frame of a run, which keeps rows that are to be shown.
func (q *query[In, Row]) rowBufferFor(ctx context.Context) *rowBuffer[Row] {
	fr := q.getRowBuffer()
	if q.rowType.kind == mapRow {
		fr.shown = shownRowsOf(ctx)
	}
	return fr
}

// maxPooledRows is how many rows a frame may hold on to between runs.
const maxPooledRows = 4096

// putRowBuffer gives the frame to a later run, without what it held. After a failure or a
// panic it is not called, and the frame is garbage.
func (q *query[In, Row]) putRowBuffer(fr *rowBuffer[Row]) {
	fr.shown = nil
	if cap(fr.collected) > maxPooledRows {
		fr.collected = nil
	} else {
		clear(fr.collected)
		fr.collected = fr.collected[:0]
	}
	q.rowBuffers.Put(fr)
}

// A rowScanner reads rows into one place. It is what a frame is without its type.
type rowScanner struct {
	rowType *rowType
	into    any            // a pointer to the place
	mapping *columnMapping // that targets was made for
	targets []any
	plans   []pgtype.ScanPlan
	own     []pgtype.ScanPlan // for plans that are of no use to others
	types   *pgtype.Map       // that plans was made by, if they can be used again
	row     currentRow        // for a row type that scans itself, and for maps
	shown   *shownRows        // keeps the rows that are maps; nil if they are not to be shown
}

// prepare makes the scanner ready for the columns of rows.
func (s *rowScanner) prepare(rows resultRows) *Error {
	if s.rowType.kind == scannerRow {
		s.row.replan()
		return nil
	}
	columns := rows.FieldDescriptions()
	l, err := s.rowType.cachedMapping(columns)
	if err != nil || s.rowType.kind == mapRow {
		s.mapping = l
		return err
	}
	if s.mapping != l {
		s.mapping = l
		s.targets = s.fieldPointers()
		s.own, s.types = make([]pgtype.ScanPlan, len(columns)), nil
	}
	types := rows.TypeMap()
	if s.types == types {
		return nil
	}
	s.types, s.plans = nil, s.own
	if l.builtinTypes && rows.Conn() != nil {
		s.plans, err = l.cachedPlans(types, s.rowType, s.targets)
	} else {
		err = s.rowType.planColumns(types, l, s.targets, s.plans)
	}
	if err == nil && l.builtinTypes {
		s.types = types
	}
	return err
}

// fieldPointers returns pointers to the fields of the place.
func (s *rowScanner) fieldPointers() []any {
	return pointers(reflect.ValueOf(s.into).Elem(), s.mapping.fields, true)
}

// scan reads the current row into the place, which must be zero: a slice or a map of
// the row before must not be written into.
func (s *rowScanner) scan(rows resultRows) *Error {
	switch s.rowType.kind {
	case mapRow:
		return s.scanMap(rows)
	case scannerRow:
		return s.scanItself(rows)
	}
	if s.rowType.throughPointer {
		copy(s.targets, s.fieldPointers())
	}
	for i, raw := range rows.RawValues() {
		if err := s.plans[i].Scan(raw, s.targets[i]); err != nil {
			return s.rowType.valueError(rows.TypeMap(), s.mapping, i, raw == nil, err)
		}
	}
	return nil
}

// scanItself leaves the row to its type. An error of Scan that it does not return is one
// all the same, as with pgx's rows.
func (s *rowScanner) scanItself(rows resultRows) *Error {
	s.row.rows, s.row.err = rows, nil
	err := s.into.(pgx.RowScanner).ScanRow(&s.row)
	if err == nil {
		err = s.row.err
	}
	s.row.rows = nil
	if err == nil {
		return nil
	}
	e := newScanError("", "the ScanRow method of %s failed", s.rowType.typ)
	if errors.Is(err, errNextInRow) {
		e.Message += ": it called Next, and is given one row at a time"
	}
	e.Err = err
	return e
}

func (s *rowScanner) scanMap(rows resultRows) *Error {
	s.row.rows, s.row.err = rows, nil
	values, err := s.row.Values()
	var again []any
	if s.shown != nil && err == nil {
		again, err = s.row.Values()
	}
	s.row.rows = nil
	if err != nil {
		e := newScanError("", "a column has a type that pgx cannot read without a field: select it with a cast, or use a struct")
		e.Err = err
		return e
	}
	m := make(map[string]any, len(values))
	for i, v := range values {
		m[s.mapping.columns[i].Name] = v
	}
	if s.shown != nil {
		s.shown.add(m, s.mapping, again, rows)
	}
	*s.into.(*map[string]any) = m
	return nil
}

// collectRows reads every row, up to the limits if there are any. Its failure is one of the
// client's; what the server and the connection say, rows says.
func (q *query[In, Row]) collectRows(fr *rowBuffer[Row], rows resultRows, limit limits) ([]Row, *Error) {
	more := rows.Next()
	if rows.Err() != nil {
		return nil, nil
	}
	if failure := fr.prepare(rows); failure != nil {
		return nil, failure
	}
	var zero Row
	count := limit.counter()
	for ; more; more = rows.Next() {
		switch {
		case limit.rows > 0 && len(fr.collected) == limit.rows:
			return nil, tooManyRows(limit.rows)
		case limit.bytes > 0 && count.over(rows):
			return nil, tooManyBytes(limit.bytes)
		}
		if failure := fr.scan(rows); failure != nil {
			return nil, failure
		}
		fr.collected = append(fr.collected, fr.current)
		fr.current = zero
	}
	if rows.Err() != nil {
		return nil, nil
	}
	// Collected in memory that is used again and copied once to its exact size: a
	// slice that grew would have been copied, and thrown away, many times.
	out := make([]Row, len(fr.collected))
	copy(out, fr.collected)
	return out, nil
}

// collectOneRow reads the only row into fr.row. Its failure is one of the client's; what
// the server and the connection say, rows says.
func (q *query[In, Row]) collectOneRow(fr *rowBuffer[Row], rows resultRows, limit limits) *Error {
	found := rows.Next()
	if rows.Err() != nil {
		return nil
	}
	if failure := fr.prepare(rows); failure != nil {
		return failure
	}
	if !found {
		return &Error{Code: CodeNotFound, Message: "no row was found", Err: pgx.ErrNoRows}
	}
	count := limit.counter()
	if limit.bytes > 0 && count.over(rows) {
		return tooManyBytes(limit.bytes)
	}
	if failure := fr.scan(rows); failure != nil {
		return failure
	}
	if rows.Next() {
		return &Error{Code: CodeTooManyRows, Err: pgx.ErrTooManyRows,
			Message: "more than one row was found: narrow the condition, or add LIMIT 1 if any will do"}
	}
	return nil
}
