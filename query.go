package pgcmd

import (
	"context"
	"reflect"
	"sync"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
)

// Query makes a command of a statement that returns every row, in order; no row
// is an empty slice and no error.
//
// The SQL names the fields of In as @name: by their tag `db:"name"`, else by
// their name, case and underscores ignored; unused fields are fine. An In that is
// a scalar is named $1; struct{} is an In without parameters. A column that has
// no field in Row, and a field that has no column, are errors, as with
// [pgx.RowToStructByName]; tag a field `db:"-"` to leave it out. Row may also be a
// scalar, for one column, or map[string]any.
//
// What is wrong in the SQL or the types panics: see [New].
func Query[In, Row any](name, sql string) *Command[In, []Row] {
	q := newQuery[In, Row](name, sql)
	c := defineStatement(name, q, func(o Options) func(context.Context, DB, In) ([]Row, error) {
		return q.with(name, o).all
	}, func(out []Row) int64 { return int64(len(out)) })
	c.piped = func(o Options) *piped[In, []Row] { return pipeAll(q.with(name, o)) }
	return c
}

// QueryOne makes a command of a statement that returns exactly one row: none is
// CodeNotFound, and the error wraps [pgx.ErrNoRows]; more are CodeTooManyRows,
// wrapping [pgx.ErrTooManyRows]. In, Row and the SQL are as for [Query].
//
// The statement itself has worked by then, and is committed unless it runs in a
// transaction: the Effect of both is Applied, or NotApplied for a command that
// says that it is ReadOnly, as a lookup should.
func QueryOne[In, Row any](name, sql string) *Command[In, Row] {
	q := newQuery[In, Row](name, sql)
	c := defineStatement(name, q, func(o Options) func(context.Context, DB, In) (Row, error) {
		return q.with(name, o).one
	}, func(Row) int64 { return 1 })
	c.piped = func(o Options) *piped[In, Row] { return pipeOne(q.with(name, o)) }
	return c
}

// Exec makes a command of a statement whose rows, if it returns any, do not
// matter; its output is the number of rows affected. In and the SQL are as for
// [Query].
func Exec[In any](name, sql string) *Command[In, int64] {
	text := parse(name, sql)
	q := &query[In, struct{}]{statement: newStatement(name, reflect.TypeFor[In](), text), frames: new(sync.Pool)}
	c := defineStatement(name, q, func(o Options) func(context.Context, DB, In) (int64, error) {
		return q.with(name, o).exec
	}, func(affected int64) int64 { return affected })
	c.piped = func(o Options) *piped[In, int64] { return pipeExec(q.with(name, o)) }
	return c
}

// defineStatement makes a command whose body depends on its options.
func defineStatement[In, Out any](name string, query any, body func(o Options) func(context.Context, DB, In) (Out, error), rows func(Out) int64) *Command[In, Out] {
	c := &Command[In, Out]{core: core{name: name}, query: query, define: body, rows: rows}
	c.prepare()
	return c
}

// A query is a statement whose rows are read. Copies made for other options share
// the shape and the frames.
type query[In, Row any] struct {
	*statement
	shape  *shape
	frames *sync.Pool // of *frame[In, Row]
}

func newQuery[In, Row any](name, sql string) *query[In, Row] {
	text := parse(name, sql)
	return &query[In, Row]{
		statement: newStatement(name, reflect.TypeFor[In](), text),
		shape:     shapeOf(name, reflect.TypeFor[Row]()),
		frames:    new(sync.Pool),
	}
}

func (q *query[In, Row]) with(name string, o Options) *query[In, Row] {
	c := *q
	c.statement = q.statement.with(name, o)
	return &c
}

// A frame is the memory of one run, which the next can use again: the input and
// pointers to its fields, one row and pointers to its fields, the rows so far.
type frame[In, Row any] struct {
	in      In
	params  []any
	row     Row
	layout  *layout // that targets was made for
	targets []any
	plans   []pgtype.ScanPlan
	own     []pgtype.ScanPlan // for plans that are of no use to others
	types   *pgtype.Map       // that plans was made by, if they can be used again
	rows    []Row
}

func (q *query[In, Row]) frame(in In) *frame[In, Row] {
	fr, _ := q.frames.Get().(*frame[In, Row])
	if fr == nil {
		fr = new(frame[In, Row])
	}
	fr.in = in
	if fr.params == nil || q.growsIn {
		fr.params = pointers(reflect.ValueOf(&fr.in).Elem(), q.fields, false)
	}
	return fr
}

// keep is how many rows a frame may hold on to between runs.
const keep = 4096

// recycle gives the frame to a later run, without what it held. After a panic it
// is not called, and the frame is garbage.
func (q *query[In, Row]) recycle(fr *frame[In, Row]) {
	var in In
	fr.in = in
	if cap(fr.rows) > keep {
		fr.rows = nil
	} else {
		clear(fr.rows)
		fr.rows = fr.rows[:0]
	}
	q.frames.Put(fr)
}

// prepare makes the frame ready for the columns of rows.
func (q *query[In, Row]) prepare(fr *frame[In, Row], rows pgx.Rows) *Error {
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
func (q *query[In, Row]) scan(fr *frame[In, Row], rows pgx.Rows) *Error {
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

func (q *query[In, Row]) scanMap(fr *frame[In, Row], rows pgx.Rows) *Error {
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

// all is the body of a Query.
func (q *query[In, Row]) all(ctx context.Context, db DB, in In) ([]Row, error) {
	fr := q.frame(in)
	args, failure := arguments(fr.params, q.params)
	if failure != nil {
		return nil, failure
	}
	out, _, failure := q.collect(ctx, db, fr, args)
	if failure != nil {
		return nil, failure
	}
	return out, nil
}

// collect sends the statement and reads every row.
func (q *query[In, Row]) collect(ctx context.Context, db DB, fr *frame[In, Row], args []any) (out []Row, affected int64, failure *Error) {
	r, failure := q.ask(ctx, db, args)
	if failure != nil {
		return nil, 0, failure
	}
	defer r.close()
	limit := q.maxRows
	if limit == 0 {
		limit = maxRowsOf(db)
	}
	if out, failure = q.everyRow(fr, r.rows, limit); failure != nil {
		return nil, 0, q.spoiled(ctx, &r, failure)
	}
	if err := r.rows.Err(); err != nil {
		return nil, 0, q.failed(ctx, r, err)
	}
	q.recycle(fr)
	return out, r.rows.CommandTag().RowsAffected(), nil
}

// maxRowsOf is what the pool says about the rows of commands that say nothing.
func maxRowsOf(db DB) int {
	switch db := db.(type) {
	case *Pool:
		return db.config.MaxRows
	case *Tx:
		return db.s.maxRows
	}
	return 0
}

// everyRow reads every row, up to the limit if there is one. Its failure is one of the client's; what the server and
// the connection say, rows says.
func (q *query[In, Row]) everyRow(fr *frame[In, Row], rows pgx.Rows, limit int) ([]Row, *Error) {
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

// one is the body of a QueryOne.
func (q *query[In, Row]) one(ctx context.Context, db DB, in In) (row Row, err error) {
	fr := q.frame(in)
	args, failure := arguments(fr.params, q.params)
	if failure != nil {
		return row, failure
	}
	r, failure := q.ask(ctx, db, args)
	if failure != nil {
		return row, failure
	}
	defer r.close()
	if failure := q.onlyRow(fr, r.rows); failure != nil {
		return row, q.spoiled(ctx, &r, failure)
	}
	if err := r.rows.Err(); err != nil {
		return row, q.failed(ctx, r, err)
	}
	var zero Row
	row, fr.row = fr.row, zero
	q.recycle(fr)
	return row, nil
}

// onlyRow reads the only row into fr.row. Its failure is one of the client's; what
// the server and the connection say, rows says.
func (q *query[In, Row]) onlyRow(fr *frame[In, Row], rows pgx.Rows) *Error {
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

// exec is the body of an Exec.
func (q *query[In, Row]) exec(ctx context.Context, db DB, in In) (int64, error) {
	fr := q.frame(in)
	args, failure := arguments(fr.params, q.params)
	if failure != nil {
		return 0, failure
	}
	r, failure := q.ask(ctx, db, args)
	if failure != nil {
		return 0, failure
	}
	defer r.close()
	r.rows.Close()
	if err := r.rows.Err(); err != nil {
		return 0, q.failed(ctx, r, err)
	}
	q.recycle(fr)
	return r.rows.CommandTag().RowsAffected(), nil
}
