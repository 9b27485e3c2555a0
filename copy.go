package pgcmd

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgcmd/pgcmd/internal/connpool"
	"github.com/pgcmd/pgcmd/internal/copybin"
	"github.com/pgcmd/pgcmd/internal/pgxerr"
	"github.com/pgcmd/pgcmd/internal/sqlstate"
	"github.com/pgcmd/pgcmd/internal/stmtcache"
	"github.com/pgcmd/pgcmd/internal/structfields"
	"github.com/pgcmd/pgcmd/internal/txn"
	"github.com/pgcmd/pgcmd/internal/validation"
)

// Copy makes a command that puts the rows of a sequence into a table by COPY, the
// fastest way there is, in constant memory, all of them or none; its output is
// their number. The struct Row names the columns, by the rules of [Query]; columns
// that have no field get their defaults.
//
// A column of a type that pgx does not know is filled with the text of the field, which
// the type's own input function reads; a field that cannot be sent as its column's type is
// CodeInternal, before the sequence begins.
//
// [Rows] makes the sequence of a slice.
//
// The sequence runs on the caller's goroutine, and may block for as long as it
// likes: a panic in it reaches the caller. An error from it aborts the copy and is
// wrapped. Every row is validated as the input of other commands is, by its
// validate tags and its Validate method, unless the command is Trusted. The
// Message of an error names the bad row by its number, counted from 1, if that is
// known: a foreign key is checked when all rows are there, and then it is not.
//
// Since a sequence may give its rows only once, what failed after it was begun is
// not tried again: neither the copy nor the transaction that it is part of. In a
// transaction a bad row aborts the transaction, as a refused statement does, since
// the copy is under way by then; use [Try] to let it fail alone.
//
// What is wrong in Row or table panics: see [New].
func Copy[Row any](name string, table pgx.Identifier) *Command[iter.Seq2[Row, error], int64] {
	checkName(name)
	d := newDefinition(name, (*iter.Seq2[Row, error])(nil), (*int64)(nil))
	d.isStatement = true
	d.body = newCopyDefinition(name, reflect.TypeFor[Row](), table, func(in any) func(row any, each func(error) bool) {
		rows := *in.(*iter.Seq2[Row, error])
		if rows == nil {
			return nil
		}
		return func(row any, each func(error) bool) {
			place := row.(*Row)
			for r, err := range rows {
				*place = r
				if !each(err) {
					return
				}
			}
		}
	})
	return &Command[iter.Seq2[Row, error], int64]{d.prepare()}
}

// Rows returns the rows of a slice as the input of a [Copy], in their order and without an
// error. It copies neither the slice nor its rows, so leave both unchanged until the copy has
// ended; a nil or empty slice copies nothing. The sequence may be used any number of times.
func Rows[Row any](rows []Row) iter.Seq2[Row, error] {
	return func(yield func(Row, error) bool) {
		for i := range rows {
			if !yield(rows[i], nil) {
				return
			}
		}
	}
}

// A copyDefinition is what is computed for a Copy at definition.
type copyDefinition struct {
	command  string
	typ      reflect.Type
	name     pgx.Identifier
	table    string // name, quoted
	relation string // its last part, as the server's messages name it
	fields   []structfields.Field
	grows    bool               // a field is behind an embedded pointer
	checks   *validation.Checks // of a row; nil if there is nothing to check, or the rows are trusted
	progress func(done, total int)

	// rowsOf returns the sequence that in points to, or nil if there is none. It copies each row
	// to *row before it calls each with the sequence's error.
	rowsOf func(in any) func(row any, each func(error) bool)
}

func newCopyDefinition(name string, typ reflect.Type, table pgx.Identifier, rowsOf func(in any) func(row any, each func(error) bool)) *copyDefinition {
	fields, err := copybin.Fields(typ, table)
	mustDefine(name, err)
	validationOf(name, typ)
	return &copyDefinition{
		command:  name,
		typ:      typ,
		name:     slices.Clone(table),
		table:    table.Sanitize(),
		relation: table[len(table)-1],
		fields:   fields,
		grows:    structfields.EmbedsPointer(typ, fields),
		rowsOf:   rowsOf,
	}
}

// configure returns the copy under options, which panic if a copy cannot have them.
func (c *copyDefinition) configure(d *definition) body {
	if d.opts.ReadOnly {
		panic(fmt.Sprintf("pgcmd: %s: Options.ReadOnly, but a Copy is a write: take ReadOnly away", d.name))
	}
	k := *c
	k.progress, k.checks = d.opts.Progress, nil
	if !d.opts.Trusted {
		k.checks = validationOf(d.name, c.typ)
	}
	return &k
}

func (c *copyDefinition) rows(inv *invocation) int64 { return inv.outValue().Int() }

// run is the body of a Copy.
func (c *copyDefinition) run(ctx context.Context, db DB, inv *invocation) error {
	rows := c.rowsOf(inv.in)
	if rows == nil {
		return &Error{Code: CodeInvalid, Effect: NotApplied,
			Message: "the sequence of rows is nil: pass one that yields nothing to copy nothing"}
	}
	settings, failure := resolve(db).own.settingsFor(ctx) // a transaction has its own
	if failure != nil {
		return failure
	}
	l, failure := leaseExclusively(ctx, db, &c.command)
	if failure != nil {
		return failure
	}
	defer l.leave()
	columns, inText, failure := c.describe(ctx, l)
	if failure != nil {
		return failure
	}
	if l.tx != nil {
		l.tx.inputConsumed = true
	}
	below := connpool.Of(l.conn)
	before := below.Unreplicated()
	n, failure := c.send(ctx, l, settings, columns, inText, rows)
	if failure != nil {
		failure.noRetry = true
		return failure
	}
	inv.outValue().SetInt(n)
	if below.Unreplicated() != before {
		return errUnreplicated
	}
	return nil
}

// send sends the rows, and returns how many the server has taken.
func (c *copyDefinition) send(ctx context.Context, l *exclusiveLease, settings []stmtcache.Setting, columns []copybin.Column, inText bool, rows func(row any, each func(error) bool)) (int64, *Error) {
	names := make([]string, len(columns))
	for i := range columns {
		names[i] = columns[i].Name
	}
	ctx, traced := copybin.Trace(ctx, l.conn, c.name, names)
	var tag pgconn.CommandTag
	var err error
	defer func() { traced(tag, err) }()

	f := copybin.NewReader(ctx, l.conn, copybin.SQL(c.table, names, inText), settings, txn.EndTime)
	defer func() { // also after a panic, or Goexit, in the sequence
		f.Abandon()
		l.err = f.Err
		if !pgxerr.IsServer(l.err) && l.err != nil && ctx.Err() != nil {
			l.err = ctx.Err()
		}
		if err == nil {
			err = f.Err
		}
	}()
	report := reporter(ctx, c.progress)
	read, failure := c.copyRows(ctx, f, report, copybin.NewEncoder(c.typ, columns, c.grows, inText), rows)
	if failure != nil {
		f.Abandon()
		failure.Effect = NotApplied
		l.failure, err = failure, failure
		return 0, failure
	}
	if tag, err = f.Close(); err != nil {
		return 0, c.failed(ctx, l, f, columns, read)
	}
	if report != nil {
		report(int(tag.RowsAffected()), -1)
	}
	return tag.RowsAffected(), nil
}

// progressRows is how often Progress is called.
const progressRows = 10_000

// copyRows encodes the rows until the sequence ends or the copy does, and returns how
// many there were. Its error is the sequence's, or that of a bad row.
func (c *copyDefinition) copyRows(ctx context.Context, f *copybin.Reader, report func(done, total int), enc *copybin.Encoder, rows func(row any, each func(error) bool)) (n int, failure *Error) {
	buf := append(f.Buffer(), enc.Header()...)
	stopped := false
	rows(enc.Row, func(err error) bool {
		n++
		stopped = true // unless the end of this function is reached
		if err != nil {
			failure = fromSequence(ctx, n, err)
			return false
		}
		if f.Over() {
			return false
		}
		if report != nil && n > 1 && n%progressRows == 1 {
			report(n-1, -1)
		}
		if c.checks != nil {
			if failure = c.check(n, enc.Row); failure != nil {
				return false
			}
		}
		var refused *copybin.Error
		if buf, refused = enc.Append(buf); refused != nil {
			failure = rowError(refused).inRow(n)
			return false
		}
		if f.WantsFlush(len(buf)) {
			buf = f.Send(buf)
		}
		stopped = false
		return true
	})
	if !stopped {
		f.SendLast(append(buf, enc.Trailer()...))
	}
	return n, failure
}

// rowError is the error of a row that cannot be encoded: the program's, if no value of the
// field's type can be sent.
func rowError(err *copybin.Error) *Error {
	e := newFieldError(err.Field, err.Rule, err.Message, err.Err)
	if e.Message = "the row was refused"; err.Column != "" {
		e.Code, e.Column = CodeInternal, err.Column
	}
	return e
}

// check validates one row.
func (c *copyDefinition) check(n int, row any) *Error {
	e := validateInput(c.checks, row)
	if e == nil {
		return nil
	}
	e.Message = "the row was refused"
	return e.inRow(n)
}

// inRow adds the number of the row to the message.
func (e *Error) inRow(n int) *Error {
	e.rowPrefix = "row " + strconv.Itoa(n) + ": "
	e.Message = e.rowPrefix + e.Message
	return e
}

// fromSequence makes the error of a copy whose sequence returned err.
func fromSequence(ctx context.Context, n int, err error) *Error {
	e := classify(ctx, err)
	if rest, ok := strings.CutPrefix(e.Message, "failed with "); ok {
		e.Message = fmt.Sprintf("the sequence failed at row %d with %s", n, rest)
	} else {
		e.Message = fmt.Sprintf("the sequence failed at row %d: %s", n, e.Message)
	}
	return e
}

// failed is the error of a copy that the server refused, or the connection lost.
func (c *copyDefinition) failed(ctx context.Context, l *exclusiveLease, f *copybin.Reader, columns []copybin.Column, read int) *Error {
	err := f.Err
	pgErr, answered := errors.AsType[*pgconn.PgError](err)
	if !answered && ctx.Err() != nil {
		err = ctx.Err() // the cause of the error of pgx
	}
	e, refused := new(statement).classifyStatement(ctx, err)
	if refused {
		return e
	}
	if answered {
		row, column := copybin.Locate(pgErr, c.relation, columns, read)
		if column != "" && e.Column == "" {
			e.Column = column
			e.Message = "column " + column + ": " + e.Message
		}
		if row > 0 {
			e.inRow(row)
		}
	}
	l.tx.explainReadOnly(e)
	if e.SQLState == sqlstate.InvalidColumnReference {
		e.Message = "a generated column cannot be copied into: tag its field `db:\"-\"`"
	}
	switch {
	case l.joined, !f.Ended(), answered && sqlstate.IsDefinite(pgErr), f.EndUnsent():
		// Without its end on the server a copy is as good as not begun, and what is
		// part of a transaction cannot be committed any more.
		e.Effect = NotApplied
	default:
		e.Effect = Unknown
		if e.Code == CodeUnavailable {
			e.Message += " after all rows were sent: they may or may not be applied"
		}
	}
	l.discard(e)
	e.reconcileCode()
	return e
}

// describe queries the columns and their types, and plans how each field is encoded: in
// binary, or in text if the server has to read a text. It does so for every copy, since bytes
// that were made for an earlier type of a column could be valid bytes of another value.
func (c *copyDefinition) describe(ctx context.Context, l *exclusiveLease) (columns []copybin.Column, inText bool, failure *Error) {
	sd, err := l.describe(ctx, c.table)
	var wrong *copybin.Error
	if err == nil {
		columns, inText, wrong, err = copybin.Columns(ctx, l.conn, c.typ, c.table, c.fields, sd.Fields)
	}
	switch {
	case err != nil:
		return nil, false, c.columnsError(ctx, l, err)
	case wrong != nil:
		return nil, false, &Error{Code: CodeInternal, Effect: NotApplied, Column: wrong.Column, Message: wrong.Message}
	}
	return columns, inText, nil
}

// columnsError is the error of a table whose columns cannot be described.
func (c *copyDefinition) columnsError(ctx context.Context, l *exclusiveLease, err error) *Error {
	l.err = err
	if l.tx != nil {
		err = l.tx.State.Cause(err)
	}
	e := unappliedError(ctx, err)
	if e.SQLState == sqlstate.UndefinedTable || e.SQLState == sqlstate.UndefinedSchema {
		e.Message = "there is no table " + c.table + ": is it in another schema, or its name not spelt as it was created, in lower case?"
		if schema, table, dotted := strings.Cut(c.name[len(c.name)-1], "."); dotted {
			e.Message = fmt.Sprintf("there is no table %s: name the schema and the table apart, as in pgx.Identifier{%q, %q}", c.table, schema, table)
		}
	}
	l.discard(e)
	return e
}
