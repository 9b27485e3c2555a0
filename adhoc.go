package pgcmd

import (
	"context"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"time"

	"github.com/pgcmd/pgcmd/internal/bind"
	"github.com/pgcmd/pgcmd/internal/rowjson"
	"github.com/pgcmd/pgcmd/internal/rowscan"
	"github.com/pgcmd/pgcmd/internal/sqltext"
	"github.com/pgcmd/pgcmd/internal/typemap"
	"github.com/pgcmd/pgcmd/internal/validation"
)

// An AdHocQuery is SQL that is known only at run time: an admin tool, a report.
// It runs with all the rights of the connection; that a value goes into Args and
// never into SQL is the caller's part.
type AdHocQuery struct {
	SQL     string         `validate:"required,max=10000"` // one statement; names Args as @name
	Args    map[string]any // a value for every name in SQL; more are fine
	MaxRows int            `validate:"gte=0,lte=100000"` // more rows are CodeTooManyRows; zero: Options.MaxRows of the command, else 10,000
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

// AdHoc runs an [AdHocQuery]. A text that is not one statement, a name without a
// value and two columns of one name are refused.
var AdHoc *Command[AdHocQuery, AdHocResult] = newAdHoc()

const adHocMaxRows = 10_000

func newAdHoc() *Command[AdHocQuery, AdHocResult] {
	d := newDefinition("pgcmd.adhoc", (*AdHocQuery)(nil), (*AdHocResult)(nil))
	d.body, d.isStatement, d.returnsRows, d.returnsMany = adHoc{}, true, true, true
	validation.CompileLater(d.in) // most programs never use it
	return &Command[AdHocQuery, AdHocResult]{d.prepare()}
}

// adHoc is the body of AdHoc.
type adHoc struct{ options Options }

func (adHoc) configure(d *definition) body { return adHoc{d.opts} }

func (adHoc) rows(inv *invocation) int64 { return int64(inv.out.(*AdHocResult).RowCount) }

func (a adHoc) run(ctx context.Context, db DB, inv *invocation) error {
	result, err := inv.in.(*AdHocQuery).run(ctx, db, &a.options)
	if err == nil || err == errUnreplicated {
		*inv.out.(*AdHocResult) = result
	}
	return err
}

// run makes a statement of the query and runs it as a Query of maps.
func (in AdHocQuery) run(ctx context.Context, db DB, o *Options) (result AdHocResult, err error) {
	text, err := sqltext.Parse(in.SQL)
	if err != nil {
		return result, newFieldError("SQL", "sql", err.Error(), err)
	}
	s := &statement{name: "pgcmd.adhoc", text: text, params: make([]string, len(text.Names)), readOnly: o.ReadOnly,
		limits:          limits{rows: in.MaxRows}.or(limits{rows: o.MaxRows, bytes: o.MaxBytes}).or(limits{rows: adHocMaxRows}),
		mayEnableWrites: mayEnableWrites(strings.ToLower(text.SQL))}
	args := make([]any, len(text.Names))
	switch {
	case text.MaxParam > 0:
		return result, newFieldError("SQL", "sql", fmt.Sprintf("names $%d: name the values of Args, as in @name", text.MaxParam), nil)
	case o.ReadOnly && text.Writes:
		return result, newFieldError("SQL", "readonly", "is plainly a write, and the command is ReadOnly", nil)
	}
	for i, name := range text.Names {
		value, ok := in.Args[name]
		if !ok {
			return result, newFieldError("Args."+name, "required", "is named by the SQL and has no value", nil)
		}
		s.params[i] = "Args." + name
		args[i] = value
		s.addArgCheck(i, len(text.Names), typemap.CheckOf(reflect.TypeFor[any]()))
		if text, ok := value.(string); ok {
			if e := fieldError(bind.CheckText(text, s.params[i])); e != nil {
				return result, e
			}
		}
	}
	if e := fieldError(bind.RejectPgxOption(args, s.params)); e != nil {
		return result, e
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
	q := &query{statement: s, kind: queryAll, rowBuffers: new(sync.Pool), rowType: rowscan.OfSlice("pgcmd.adhoc", reflect.TypeFor[[]map[string]any]())}
	reading := &invocation{outValue: reflect.ValueOf(&result.Rows).Elem(), args: args}
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
