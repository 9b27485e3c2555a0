package pgcmd

import (
	"context"
	"reflect"
	"sync"
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
// A field reads a column if their two types fit, whatever the rows hold and in whatever
// format the server sends them; else the error is CodeInternal and names the column and
// both types. A text (string, a string of any name, [sql.NullString], [pgtype.Text]) reads
// what has a text in pgx: texts, numbers, uuid, and JSON and XML as they are written.
// Ranges, arrays and composites, which pgx would give to it and to a [sql.Scanner] in
// their binary form, do not fit: cast them to text in the SQL.
//
// What is wrong in the SQL or the types panics: see [New].
func Query[In, Row any](name, sql string) *Command[In, []Row] {
	q := newQuery[In, Row](name, sql)
	c := defineStatement(name, q, func(o *Options) func(context.Context, DB, In) ([]Row, error) {
		return q.with(name, o).queryBody()
	}, func(out []Row) int64 { return int64(len(out)) })
	c.def.returnsRows, c.def.returnsMany = true, true
	c.newPipelined = func(o *Options) *pipelined[In, []Row] { return pipeAll(q.with(name, o)) }
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
	c := defineStatement(name, q, func(o *Options) func(context.Context, DB, In) (Row, error) {
		return q.with(name, o).queryOneBody()
	}, func(Row) int64 { return 1 })
	c.def.returnsRows = true
	c.newPipelined = func(o *Options) *pipelined[In, Row] { return pipeOne(q.with(name, o)) }
	return c
}

// Exec makes a command of a statement whose rows, if it returns any, do not
// matter; its output is the number of rows affected. In and the SQL are as for
// [Query].
func Exec[In any](name, sql string) *Command[In, int64] {
	text := parse(name, sql)
	q := &query[In, struct{}]{statement: newStatement(name, reflect.TypeFor[In](), text), inputs: new(sync.Pool)}
	c := defineStatement(name, q, func(o *Options) func(context.Context, DB, In) (int64, error) {
		return q.with(name, o).execBody()
	}, func(affected int64) int64 { return affected })
	c.newPipelined = func(o *Options) *pipelined[In, int64] { return pipeExec(q.with(name, o)) }
	return c
}

// defineStatement makes a command whose body depends on its options.
func defineStatement[In, Out any](name string, query any, body func(o *Options) func(context.Context, DB, In) (Out, error), rows func(Out) int64) *Command[In, Out] {
	c := &Command[In, Out]{def: definition{name: name, query: query}, newBody: body, rows: rows}
	return c.prepare()
}

// A query is a statement whose rows are read. Copies made for other options share
// the shape, and the memory that is used again.
type query[In, Row any] struct {
	*statement
	rowType    *rowType
	inputs     *sync.Pool // of *input[In]
	rowBuffers *sync.Pool // of *frame[Row]
}

func newQuery[In, Row any](name, sql string) *query[In, Row] {
	text := parse(name, sql)
	return &query[In, Row]{
		statement:  newStatement(name, reflect.TypeFor[In](), text),
		rowType:    rowTypeOf(name, reflect.TypeFor[Row]()),
		inputs:     new(sync.Pool),
		rowBuffers: new(sync.Pool),
	}
}

func (q *query[In, Row]) with(name string, o *Options) *query[In, Row] {
	c := *q
	c.statement = q.statement.with(name, o)
	return &c
}

// bind reads the arguments of a run.
func (q *query[In, Row]) bind(in In) ([]any, *Error) {
	if len(q.fields) == 0 {
		return nil, nil
	}
	i, _ := q.inputs.Get().(*argBuffer[In])
	if i == nil {
		i = new(argBuffer[In])
	}
	args, failure := i.arguments(make([]any, len(q.fields)), q.statement, in)
	var none In
	i.in = none
	q.inputs.Put(i)
	return args, failure
}

// queryBody is the body of a Query.
func (q *query[In, Row]) queryBody() func(context.Context, DB, In) ([]Row, error) {
	return func(ctx context.Context, db DB, in In) ([]Row, error) {
		args, failure := q.bind(in)
		if failure != nil {
			return nil, failure
		}
		out, _, failure, warning := q.collect(ctx, db, args)
		if failure != nil {
			return nil, failure
		}
		return out, warning
	}
}

// collect sends the statement and reads every row.
func (q *query[In, Row]) collect(ctx context.Context, db DB, args []any) (out []Row, affected int64, failure *Error, warning error) {
	r := result{limits: q.limits.or(limitsOf(db))}
	if failure = q.send(ctx, db, args, &r); failure != nil {
		return nil, 0, failure, nil
	}
	defer q.close(ctx, &r)
	fr := q.rowBufferFor(ctx)
	if out, failure = q.collectRows(fr, r.rows, r.limits); failure != nil {
		return nil, 0, q.resultError(ctx, &r, failure), nil
	}
	if err := r.rows.Err(); err != nil {
		return nil, 0, q.statementError(ctx, &r, err), nil
	}
	q.putRowBuffer(fr)
	return out, r.rows.CommandTag().RowsAffected(), nil, r.warning()
}

// queryOneBody is the body of a QueryOne.
func (q *query[In, Row]) queryOneBody() func(context.Context, DB, In) (Row, error) {
	return func(ctx context.Context, db DB, in In) (row Row, err error) {
		args, failure := q.bind(in)
		if failure != nil {
			return row, failure
		}
		r := result{limits: q.limits.or(limitsOf(db))}
		if failure = q.send(ctx, db, args, &r); failure != nil {
			return row, failure
		}
		defer q.close(ctx, &r)
		fr := q.rowBufferFor(ctx)
		if failure := q.collectOneRow(fr, r.rows, r.limits); failure != nil {
			return row, q.resultError(ctx, &r, failure)
		}
		if err := r.rows.Err(); err != nil {
			return row, q.statementError(ctx, &r, err)
		}
		var zero Row
		row, fr.current = fr.current, zero
		q.putRowBuffer(fr)
		return row, r.warning()
	}
}

// execBody is the body of an Exec.
func (q *query[In, Row]) execBody() func(context.Context, DB, In) (int64, error) {
	return func(ctx context.Context, db DB, in In) (int64, error) {
		args, failure := q.bind(in)
		if failure != nil {
			return 0, failure
		}
		var r result
		if failure = q.send(ctx, db, args, &r); failure != nil {
			return 0, failure
		}
		defer q.close(ctx, &r)
		r.rows.Close()
		if err := r.rows.Err(); err != nil {
			return 0, q.statementError(ctx, &r, err)
		}
		return r.rows.CommandTag().RowsAffected(), r.warning()
	}
}
