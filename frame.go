package pgcmd

import (
	"reflect"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
)

// A frame is memory for reading rows, which the next run can use again: one row and
// pointers to its fields, and the rows so far. It is taken when the reply has begun: a
// caller that waits for a connection holds none, so that under load a few are used, and
// are warm.
type frame[Row any] struct {
	row     Row
	layout  *layout // that targets was made for
	targets []any
	plans   []pgtype.ScanPlan
	own     []pgtype.ScanPlan // for plans that are of no use to others
	types   *pgtype.Map       // that plans was made by, if they can be used again
	rows    []Row
}

func (q *query[In, Row]) frame() *frame[Row] {
	fr, _ := q.frames.Get().(*frame[Row])
	if fr == nil {
		fr = new(frame[Row])
	}
	return fr
}

// keep is how many rows a frame may hold on to between runs.
const keep = 4096

// recycle gives the frame to a later run, without what it held. After a failure or a
// panic it is not called, and the frame is garbage.
func (q *query[In, Row]) recycle(fr *frame[Row]) {
	if cap(fr.rows) > keep {
		fr.rows = nil
	} else {
		clear(fr.rows)
		fr.rows = fr.rows[:0]
	}
	q.frames.Put(fr)
}

// prepare makes the frame ready for the columns of rows.
func (q *query[In, Row]) prepare(fr *frame[Row], rows pgx.Rows) *Error {
	if q.shape.kind == scannerRow {
		return nil
	}
	columns := rows.FieldDescriptions()
	l, err := q.shape.match(columns)
	if err != nil || q.shape.kind == mapRow {
		fr.layout = l
		return err
	}
	if fr.layout != l {
		fr.layout = l
		fr.targets = pointers(reflect.ValueOf(&fr.row).Elem(), l.fields, true)
		fr.own, fr.types = make([]pgtype.ScanPlan, len(columns)), nil
	}
	types := rows.TypeMap()
	if fr.types == types {
		return nil
	}
	fr.types, fr.plans = nil, fr.own
	if l.builtin {
		fr.types = types
		if rows.Conn() != nil {
			fr.plans = l.planned(types, fr.targets)
			return nil
		}
	}
	for i, c := range columns {
		fr.plans[i] = types.PlanScan(c.DataTypeOID, c.Format, fr.targets[i])
	}
	return nil
}

// scan reads the current row into fr.row, which must be zero: a slice or a map of
// the row before must not be written into.
func (q *query[In, Row]) scan(fr *frame[Row], rows pgx.Rows) *Error {
	switch q.shape.kind {
	case mapRow:
		return q.scanMap(fr, rows)
	case scannerRow:
		if err := any(&fr.row).(pgx.RowScanner).ScanRow(rows); err != nil {
			e := misfit("", "the ScanRow method of %s failed", q.shape.typ)
			e.Err = err
			return e
		}
		return nil
	}
	if q.shape.grows {
		copy(fr.targets, pointers(reflect.ValueOf(&fr.row).Elem(), fr.layout.fields, true))
	}
	for i, raw := range rows.RawValues() {
		if err := fr.plans[i].Scan(raw, fr.targets[i]); err != nil {
			return q.shape.cannotHold(rows, fr.layout, i, err)
		}
	}
	return nil
}

func (q *query[In, Row]) scanMap(fr *frame[Row], rows pgx.Rows) *Error {
	values, err := rows.Values()
	if err != nil {
		e := misfit("", "a column has a type that pgx cannot read without a field: select it with a cast, or use a struct")
		e.Err = err
		return e
	}
	m := make(map[string]any, len(values))
	for i, v := range values {
		m[fr.layout.columns[i].Name] = v
	}
	*any(&fr.row).(*map[string]any) = m
	return nil
}

// everyRow reads every row, up to the limit if there is one. Its failure is one of the client's; what the server and
// the connection say, rows says.
func (q *query[In, Row]) everyRow(fr *frame[Row], rows pgx.Rows, limit int) ([]Row, *Error) {
	more := rows.Next()
	if rows.Err() != nil {
		return nil, nil
	}
	if failure := q.prepare(fr, rows); failure != nil {
		return nil, failure
	}
	var zero Row
	for ; more; more = rows.Next() {
		if limit > 0 && len(fr.rows) == limit {
			return nil, tooManyRows(limit)
		}
		if failure := q.scan(fr, rows); failure != nil {
			return nil, failure
		}
		fr.rows = append(fr.rows, fr.row)
		fr.row = zero
	}
	if rows.Err() != nil {
		return nil, nil
	}
	// Collected in memory that is used again and copied once to its exact size: a
	// slice that grew would have been copied, and thrown away, many times.
	out := make([]Row, len(fr.rows))
	copy(out, fr.rows)
	return out, nil
}

// onlyRow reads the only row into fr.row. Its failure is one of the client's; what
// the server and the connection say, rows says.
func (q *query[In, Row]) onlyRow(fr *frame[Row], rows pgx.Rows) *Error {
	found := rows.Next()
	if rows.Err() != nil {
		return nil
	}
	if failure := q.prepare(fr, rows); failure != nil {
		return failure
	}
	if !found {
		return &Error{Code: CodeNotFound, Message: "no row was found", Err: pgx.ErrNoRows}
	}
	if failure := q.scan(fr, rows); failure != nil {
		return failure
	}
	if rows.Next() {
		return &Error{Code: CodeTooManyRows, Err: pgx.ErrTooManyRows,
			Message: "more than one row was found: narrow the condition, or add LIMIT 1 if any will do"}
	}
	return nil
}
