package pgcmd

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/pgcmd/pgcmd/internal/bind"
	"github.com/pgcmd/pgcmd/internal/rowjson"
	"github.com/pgcmd/pgcmd/internal/rowscan"
	"github.com/pgcmd/pgcmd/internal/sqlstate"
	"github.com/pgcmd/pgcmd/internal/sqltext"
	"github.com/pgcmd/pgcmd/internal/validation"
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
// their binary form, do not fit: cast them to text in the SQL. Short
// texts share allocations of up to 256 bytes, also those of rows that follow each other;
// an allocation lives as long as any of its texts.
//
// Parts of the SQL may depend on the input. A part in /*? and email like @email */ is sent
// only if the fields that it names are set: a pointer, a slice or a map that is not nil, an
// [sql.Null] or a type of pgtype that is Valid. Of a choice,
//
//	order by /*= @sort newest: created_at desc, id; email: email */ id /*=*/
//
// the text that the string field names is sent, or the one before the end, if the field is
// empty or nil; another name is CodeInvalid. Each variant is a statement of its own, which
// is prepared by itself. The page docs/dynamic-sql.md has the rules.
//
// A statement counts as a read if its text is one: a SELECT, VALUES or TABLE that changes
// nothing in WITH, locks no rows, has no INTO, and calls no functions but those of
// PostgreSQL that are known to change nothing. Then the Effect of its errors is NotApplied,
// Options.Retry repeats it also after its reply was lost, and it may run on the connections
// of [Config].Multiplex. The text does not show that a view, a rule, a policy, an operator
// or a cast writes, nor a function of yours that has the name of one of PostgreSQL's:
// [Verify] finds those that it can, and Options.Writes says so. Every other statement
// counts as a write, unless it has Options.ReadOnly.
//
// A mistake in the SQL or the types panics: see [New].
func Query[In, Row any](name, sql string) *Command[In, []Row] {
	return &Command[In, []Row]{defineQuery(queryAll, name, sql, (*In)(nil), (*[]Row)(nil))}
}

// QueryOne makes a command of a statement that returns exactly one row: none is
// CodeNotFound, and the error wraps [pgx.ErrNoRows]; more are CodeTooManyRows,
// wrapping [pgx.ErrTooManyRows]. In, Row and the SQL are as for [Query].
//
// A Row that is a pointer is nil if there is no row, without an error. A pointer to a scalar
// is nil for NULL too, also one to a [sql.Scanner]: a struct with one field tells NULL from
// no row.
//
// The statement itself has succeeded by then, and is committed unless it runs in a
// transaction, so that the Effect of both errors is Applied. It is NotApplied for a read, and
// for CodeNotFound if the server reports that no row was changed: UPDATE 0, DELETE 0,
// INSERT 0 0, MERGE 0, or SELECT 0 of one that only locks rows. The statement must write
// nothing in WITH, and call no functions but those of PostgreSQL that change nothing, and
// nextval. What a trigger or a rule did is not counted: if it writes elsewhere although no
// row is changed, as a trigger does that puts a row into another table and returns NULL,
// set Options.Writes.
func QueryOne[In, Row any](name, sql string) *Command[In, Row] {
	return &Command[In, Row]{defineQuery(queryOne, name, sql, (*In)(nil), (*Row)(nil))}
}

// Exec makes a command of a statement whose rows, if it returns any, do not
// matter; its output is the number of rows affected. In and the SQL are as for
// [Query].
func Exec[In any](name, sql string) *Command[In, int64] {
	return &Command[In, int64]{defineQuery(queryExec, name, sql, (*In)(nil), (*int64)(nil))}
}

type queryKind int

const (
	queryAll  queryKind = iota // returns every row
	queryOne                   // returns the only row
	queryExec                  // returns the number of rows affected
)

// A query is the body of a Query, a QueryOne or an Exec. Copies made for other options
// share the row type, and its memory that is used again.
type query struct {
	*statement
	kind     queryKind
	rowType  *rowscan.RowType // nil of an Exec
	optional bool             // a QueryOne may find no row
	source   source           // of the query that is run, if it depends on the input; else nil
}

// defineQuery makes the definition of a statement. in and out are nil pointers of the types.
func defineQuery(kind queryKind, name, sql string, in, out any) *definition {
	checkName(name)
	d := newDefinition(name, in, out)
	template, err := sqltext.ParseTemplate(sql)
	mustDefine(name, err)
	q := &query{kind: kind}
	if template != nil {
		q.statement, q.source = newVariants(name, d.in, template)
	} else {
		text, err := sqltext.Parse(sql)
		mustDefine(name, err)
		q.statement = newStatement(name, d.in, text)
	}
	return d.ofQuery(q)
}

// ofQuery gives the definition its body.
func (d *definition) ofQuery(q *query) *definition {
	var err error
	switch q.kind {
	case queryAll:
		q.rowType, err = rowscan.OfSlice(d.out)
	case queryOne:
		q.rowType, err = rowscan.OfOne(d.out)
		q.optional = d.out.Kind() == reflect.Pointer
	}
	mustDefine(d.name, err)
	d.body, d.isStatement, d.returnsRows, d.returnsMany = q, true, q.kind != queryExec, q.kind == queryAll
	return d.prepare()
}

func (q *query) configure(d *definition) body { return q.with(d.name, &d.opts) }

func (q *query) with(name string, o *allOptions) *query {
	c := *q
	c.statement = q.statement.with(name, o)
	if q.source != nil {
		c.source = q.source.configure(o)
	}
	return &c
}

func (q *query) rows(inv *invocation) int64 {
	switch q.kind {
	case queryAll:
		return int64(inv.outValue().Len())
	case queryExec:
		return inv.outValue().Int()
	}
	if q.optional && inv.outValue().IsNil() {
		return 0
	}
	return 1
}

// run sends the statement and reads its reply.
func (q *query) run(ctx context.Context, db DB, inv *invocation) error {
	if q.source != nil {
		return q.runResolved(ctx, db, inv)
	}
	if failure := q.begin(ctx, db, inv); failure != nil {
		return failure
	}
	r := inv.result
	defer q.close(ctx, r) // also if user code panics while pgx encodes or traces
	if r.direct == nil {
		return q.readReply(ctx, inv, r)
	}
	return q.readQuery(ctx, inv, r.query(ctx))
}

// begin reads the arguments and calls prepareSend.
func (q *query) begin(ctx context.Context, db DB, inv *invocation) (failure *Error) {
	inv.freeResult()       // of the attempt before
	if len(q.fields) > 0 { // an AdHoc has its arguments already
		args := inv.args
		if !inv.argsFree || len(args) != len(q.fields) { // the last run's may be kept, or not have been read
			args = make([]any, len(q.fields))
		}
		if inv.args, failure = q.readArguments(args, inv); failure != nil {
			return failure
		}
	}
	t := resolve(db)
	var l limits
	if q.kind != queryExec {
		l = q.limitsBelow(t.limits())
	}
	inv.argsFree = false
	inv.result, failure = q.prepareSend(ctx, &t, inv.args, l)
	return failure
}

// readQuery reads the reply, if query returned no error.
func (q *query) readQuery(ctx context.Context, inv *invocation, err error) error {
	r := inv.result
	if failure := q.queryError(ctx, inv.args, r, err); failure != nil {
		return failure
	}
	return q.readReply(ctx, inv, r)
}

// arguments reads the arguments of a run into an array of its own.
func (q *query) arguments(inv *invocation) ([]any, *Error) {
	if len(q.fields) == 0 {
		return nil, nil
	}
	return q.readArguments(make([]any, len(q.fields)), inv)
}

func (q *query) readArguments(args []any, inv *invocation) ([]any, *Error) {
	args, e := q.binding.Read(args, inv.inValue(), inv.fields)
	return args, q.argError(e)
}

// readReply reads the reply into the output of inv.
func (q *query) readReply(ctx context.Context, inv *invocation, r *result) error {
	if q.kind == queryExec {
		r.rows.Close()
		if err := r.rows.Err(); err != nil {
			return q.statementError(ctx, r, err)
		}
		inv.outValue().SetInt(r.rows.CommandTag().RowsAffected())
		return r.warning()
	}
	b := q.rowBufferFor(ctx)
	if failure := q.collect(b, r.rows, r.limits); failure != nil {
		return q.resultError(ctx, r, failure)
	}
	if err := r.rows.Err(); err != nil {
		return q.statementError(ctx, r, err)
	}
	q.moveTo(inv.outValue(), b)
	b.Free()
	return r.warning()
}

// rowBufferFor returns the row buffer of a run, which records rows that are to be shown.
func (q *query) rowBufferFor(ctx context.Context) *rowscan.Buffer {
	if q.rowType == nil {
		return nil
	}
	b := q.rowType.Buffer()
	if rows := rowjson.Recorded(ctx); rows != nil && q.rowType.Kind == rowscan.Map {
		b.Record(rows)
	}
	return b
}

func (q *query) moveTo(out reflect.Value, b *rowscan.Buffer) {
	if q.kind == queryOne {
		b.MoveRow(out)
	} else {
		b.MoveRows(out)
	}
}

// collect reads the rows into b. Its error is of the client; those of the server and the
// connection are rows.Err.
func (q *query) collect(b *rowscan.Buffer, rows rowscan.Rows, limit limits) *Error {
	if q.kind == queryOne {
		return q.collectOneRow(b, rows, limit)
	}
	return collectRows(b, rows, limit)
}

// collectRows reads every row, up to the limits if there are any.
func collectRows(b *rowscan.Buffer, rows rowscan.Rows, limit limits) *Error {
	more := rows.Next()
	if rows.Err() != nil {
		return nil
	}
	if err := b.Prepare(rows); err != nil {
		return fromScan(err)
	}
	count := limit.counter()
	for n := 0; more; more = rows.Next() {
		switch {
		case limit.rows > 0 && n == limit.rows:
			return tooManyRows(limit.rows)
		case limit.bytes > 0 && count.over(rows):
			return tooManyBytes(limit.bytes)
		}
		if err := b.ScanNext(rows); err != nil {
			return fromScan(err)
		}
		n++
	}
	return nil
}

// collectOneRow reads the only row.
func (q *query) collectOneRow(b *rowscan.Buffer, rows rowscan.Rows, limit limits) *Error {
	found := rows.Next()
	if rows.Err() != nil {
		return nil
	}
	if err := b.Prepare(rows); err != nil {
		return fromScan(err)
	}
	switch {
	case !found && q.optional:
		return nil
	case !found:
		return q.noRowError(rows.CommandTag())
	}
	count := limit.counter()
	if limit.bytes > 0 && count.over(rows) {
		return tooManyBytes(limit.bytes)
	}
	if err := b.ScanRow(rows); err != nil {
		return fromScan(err)
	}
	if rows.Next() {
		return &Error{Code: CodeTooManyRows, Err: pgx.ErrTooManyRows,
			Message: "more than one row was found: narrow the condition, or add LIMIT 1 if any will do"}
	}
	return nil
}

// readItem reads the reply of an item of a pipeline into out, which must be zero. Its
// error is one of the client, as with collect.
func (q *query) readItem(b *rowscan.Buffer, rows rowscan.Rows, limit limits, out reflect.Value) *Error {
	if q.kind == queryExec {
		rows.Close()
		out.SetInt(rows.CommandTag().RowsAffected())
		return nil
	}
	failure := q.collect(b, rows, limit)
	if failure == nil && rows.Err() == nil {
		q.moveTo(out, b)
	}
	b.Reset()
	return failure
}

// isCommitSafe reports whether the server alone decides if the statement has worked, under
// limits l, so that COMMIT may be sent with it.
func (q *query) isCommitSafe(l limits) bool {
	switch {
	case q.kind == queryExec:
		return true
	case q.kind == queryAll:
		return l.rows == 0 && l.bytes == 0
	}
	return q.text.InsertsLiteralRows() && l.bytes == 0
}

// checkColumns returns an error if the row type cannot read the columns.
func (q *query) checkColumns(types *pgtype.Map, columns []pgconn.FieldDescription) *Error {
	if q.rowType == nil || q.rowType.Kind == rowscan.SelfScanner {
		return nil
	}
	if err := q.rowType.Check(types, columns); err != nil {
		return fromScan(err)
	}
	return nil
}

// An AdHocQuery is SQL that is known only at run time: an admin tool, a report.
// It runs with all the rights of the connection; the caller must put values into Args and
// never into SQL.
type AdHocQuery struct {
	SQL     string         `validate:"required,max=10000"` // one statement; names Args as @name
	Args    map[string]any // a value for every name in SQL; more are fine
	MaxRows int            `validate:"gte=0,lte=100000"` // more rows are CodeTooManyRows; zero: Options.MaxRows of the command, else Config.MaxRows, and 10,000 at most
	Timeout time.Duration  `validate:"gte=0"`            // of this query; zero: the command's, and the caller's context
}

// An AdHocResult is the rows of an [AdHocQuery].
type AdHocResult struct {
	Columns  []string         // in the order of the SQL
	Rows     []map[string]any // values of pgx's own types, nil for NULL; shown in JSON as in docs/json.md
	RowCount int              // of Rows; for a statement without rows, those affected
	Elapsed  time.Duration    // sending and reading
	recorded *rowjson.Rows
}

// MarshalJSON renders the fields under their names, and the values of the rows as to_json of
// PostgreSQL does. The Rows of a result that was not made by AdHoc are shown by their Go types.
func (r AdHocResult) MarshalJSON() ([]byte, error) {
	type fields AdHocResult
	rowjson.Convert(reflect.ValueOf(&r.Rows).Elem(), r.recorded, writesFields)
	return encodeJSON(fields(r))
}

// AdHoc runs an [AdHocQuery]. It refuses a text that is not one statement, a name without a
// value, and two columns with the same name.
var AdHoc *Command[AdHocQuery, AdHocResult] = newAdHoc()

const defaultMaxRows = 10_000

func newAdHoc() *Command[AdHocQuery, AdHocResult] {
	d := newDefinition("pgcmd.adhoc", (*AdHocQuery)(nil), (*AdHocResult)(nil))
	d.body, d.isStatement, d.returnsRows, d.returnsMany = adHoc{}, true, true, true
	validation.CompileLater(d.in) // most programs never use it
	return &Command[AdHocQuery, AdHocResult]{d.prepare()}
}

// adHoc is the body of AdHoc.
type adHoc struct{ options allOptions }

func (adHoc) configure(d *definition) body { return adHoc{d.opts} }

func (adHoc) rows(inv *invocation) int64 { return int64(inv.output().(*AdHocResult).RowCount) }

func (a adHoc) run(ctx context.Context, db DB, inv *invocation) error {
	result, err := inv.in.(*AdHocQuery).run(ctx, db, &a.options)
	if err == nil || err == errUnreplicated {
		*inv.output().(*AdHocResult) = result
	}
	return err
}

// run makes a statement of the query and runs it as a Query of maps.
func (in AdHocQuery) run(ctx context.Context, db DB, o *allOptions) (result AdHocResult, err error) {
	text, err := sqltext.Parse(in.SQL)
	if err != nil {
		return result, newFieldError("SQL", "sql", err.Error(), err)
	}
	s := newRuntimeStatement("pgcmd.adhoc", text, make([]string, len(text.Names)), o)
	s.shared, s.limits = false, limits{rows: in.MaxRows}.or(s.limits)
	if s.limits.rows == 0 {
		s.most.rows = defaultMaxRows
	}
	args := make([]any, len(text.Names))
	switch {
	case text.MaxParam > 0:
		return result, newFieldError("SQL", "sql", fmt.Sprintf("names $%d: name the values of Args, as in @name", text.MaxParam), nil)
	case o.ReadOnly && text.Writes:
		return result, newFieldError("SQL", "readonly", "is plainly a write, and the command is ReadOnly: run it by a command that is not", nil)
	}
	for i, name := range text.Names {
		value, ok := in.Args[name]
		if !ok {
			return result, newFieldError("Args."+name, "required", "is named by the SQL and has no value: add one to Args", nil)
		}
		s.params[i] = "Args." + name
		args[i] = value
		if failure := checkText(s.params[i], value); failure != nil {
			return result, failure
		}
	}
	if e := bind.RejectPgxOption(args); e != nil {
		return result, s.argError(e)
	}
	if in.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, in.Timeout)
		defer cancel()
	}
	recorded := rowjson.Recorded(ctx)
	if recorded == nil {
		ctx, recorded = rowjson.Record(ctx)
	}
	start := time.Now()
	rowType, _ := rowscan.OfSlice(reflect.TypeFor[[]map[string]any]()) // maps can be rows
	q := &query{statement: s, kind: queryAll, rowType: rowType}
	reading := &invocation{out: &result.Rows, args: args}
	err = q.run(ctx, db, reading)
	if err != nil && err != errUnreplicated {
		return result, err
	}
	result.RowCount, result.Elapsed, result.recorded = len(result.Rows), time.Since(start), recorded
	if m := q.rowType.Last.Load(); len(m.Columns) > 0 {
		result.Columns = m.Names()
	} else {
		result.RowCount = int(reading.result.rows.CommandTag().RowsAffected())
	}
	return result, err
}

// Explain returns PostgreSQL's plan for a statement command with an input, as text.
// Nothing is executed, and no hook and no middleware runs: it is EXPLAIN without ANALYZE,
// in a read-only transaction that is rolled back, or, if db is a transaction, under a
// savepoint of it. A [Pool] neither counts nor logs it.
//
// The plan is for this input and shows its values, except for those of fields
// tagged `secret:"true"`: those are sent as [secret] or zero. Of SQL that depends on the
// input it is that of this input, which follows the plan after an empty line.
func Explain[In, Out any](ctx context.Context, db DB, c *Command[In, Out], in In) (string, error) {
	d := c.definition()
	if d == nil {
		return "", &Error{Code: CodeInternal, Effect: NotApplied, Message: "the command to explain is nil: pass a Query, a QueryOne or an Exec"}
	}
	if d.query == nil {
		return "", d.notSentError(&Error{Code: CodeInternal,
			Message: "only a Query, a QueryOne or an Exec has one plan: explain the statements that this command runs"})
	}
	inv := d.newInvocation()
	*inv.in.(*In) = in
	return d.explain(ctx, db, inv)
}

func (d *definition) explain(ctx context.Context, db DB, inv *invocation) (string, error) {
	if d.validation != nil {
		if err := d.check(inv); err != nil {
			return "", d.notSentError(err)
		}
	}
	hidden := d.newInvocation()
	hidden.inValue().Set(inv.inValue())
	hideSecrets(hidden.inValue())
	q, args, failure := d.query.toExplain(inv, hidden)
	if failure != nil {
		return "", d.notSentError(failure)
	}
	var plan string
	explain := Transaction(d.name, func(ctx context.Context, tx *Tx, none struct{}) (struct{}, error) {
		tx.Conn() // sends BEGIN or the savepoint, before what the server may refuse
		// The parentheses keep the statement from adding options.
		rows, err := tx.Query(ctx, "explain (analyze false) "+q.text.SQL, args...)
		if err == nil {
			var lines []string
			if lines, err = pgx.CollectRows(rows, pgx.RowTo[string]); err == nil {
				plan = strings.Join(lines, "\n")
				return none, errPlanned
			}
		}
		e := classify(ctx, err)
		if e.SQLState == sqlstate.SyntaxError {
			e.Message = "PostgreSQL has no plan for it: EXPLAIN takes queries, insert, update, delete and merge"
		}
		return none, e
	}).With(Options{Timeout: d.opts.Timeout, ReadOnly: true, Trusted: true})
	explain.def.unobserved = true // it is no run of the command, and ends with errPlanned
	err := Try(ctx, db, explain, struct{}{}).Err
	e, _ := err.(*Error)
	switch {
	case errors.Is(err, errPlanned) && !d.direct:
		return plan + "\n\n" + strings.TrimSpace(q.text.SQL), nil
	case errors.Is(err, errPlanned):
		return plan, nil
	case e != nil && e.SQLState == sqlstate.ReadOnlyTransaction:
		e.Message = "planning calls a function that writes, and Explain changes nothing: declare the function volatile, so that it is not called to plan"
	}
	return "", err
}

// toExplain returns the query that the input of inv has, with the arguments of hidden, in
// which secrets are hidden.
func (q *query) toExplain(inv, hidden *invocation) (_ *query, args []any, failure *Error) {
	if q.source != nil {
		if _, ok := q.source.(*builder); ok {
			inv = hidden
		}
		if q, args, failure = q.source.resolve(q, inv); failure != nil || args != nil {
			return q, args, failure
		}
	}
	args, failure = q.arguments(hidden)
	return q, args, failure
}

// errPlanned rolls the transaction back.
var errPlanned = errors.New("pgcmd: planned")
