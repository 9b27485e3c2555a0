package pgcmd

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/pgcmd/pgcmd/internal/liveschema"
	"github.com/pgcmd/pgcmd/internal/rowscan"
	"github.com/pgcmd/pgcmd/internal/structfields"
)

// tableName is the table of a Copy.
func (s *subject) tableName() liveschema.TableName {
	if len(s.table) == 0 {
		return liveschema.TableName{}
	}
	t := liveschema.TableName{Name: s.table[len(s.table)-1]}
	if len(s.table) > 1 {
		t.Schema = s.table[len(s.table)-2]
	}
	return t
}

// copied compares the table of a Copy with the fields of its rows.
func (v *checker) copied(s *subject) {
	r := v.live.Tables[s.tableName()]
	what := "table " + s.table.Sanitize()
	switch {
	case r == nil:
		if schema, table, dotted := strings.Cut(s.tableName().Name, "."); dotted {
			s.report(what, "table", "does not exist: name the schema and the table apart, as in pgx.Identifier{%q, %q}", schema, table)
			return
		}
		s.report(what, "table", "does not exist: is it dropped or renamed, or in a schema that is not in the search_path?")
		return
	case !r.SchemaUsage:
		s.report(what, "permission", "is in a schema that the role %s may not use: grant usage on schema %s", v.live.Role, r.Schema)
		return
	case r.Kind == "m" || r.Kind == "v" && !r.InsteadOfInsert:
		s.report(what, "table", "is a view, and a copy needs a table: name the table, or give the view an INSTEAD OF trigger")
		return
	}
	if r.RowSecurity {
		s.report(what, "table", "has row-level security that holds for the role %s, and COPY cannot fill it: use a Batch", v.live.Role)
	}
	names := make([]string, len(r.Columns))
	for i, c := range r.Columns {
		names[i] = c.Name
	}
	takers := make([]string, len(names))
	granted := true
	for _, f := range s.fields {
		field := s.rowField(s.row, f)
		i := structfields.FindColumn(names, f)
		switch {
		case i < 0:
			s.report(field, "column", "has no column, table %s has %s: rename the field or the column, or tag the field `db:\"-\"`", r, rowscan.Listed(names))
			continue
		case takers[i] != "":
			s.report(field, "column", "takes column %q, and so does %s: give one of them another tag", names[i], takers[i])
			continue
		}
		takers[i] = f.Path
		c := r.Columns[i]
		l := v.types.Write(v.types.BaseOf(c.Type), f.Type)
		if !l.WarningOnly && strings.Contains(l.Hint, "in the SQL") {
			l.Hint = "change the field's type, or the column's" // there is no SQL to cast in
		}
		s.reportMismatch(field, f, l, fmt.Sprintf("column %q (%s)", c.Name, v.types.Name(c.Type)))
		v.copiedNull(s, f, c)
		v.labels(s, s.row, f, v.types.BaseOf(c.Type))
		if c.Generated {
			s.report(field, "column", "is for column %q, which is generated and cannot be copied into: tag the field `db:\"-\"`", c.Name)
		}
		granted = granted && c.Privileges["insert"]
	}
	for i, c := range r.Columns {
		if takers[i] == "" && c.NotNull && !c.HasDefault && !c.HasTrigger && !c.Generated && r.Kind != "v" {
			s.report("column "+c.Name, "null", "is NOT NULL without a default, and no field fills it: add one to %s", structfields.TypeOr(s.row, "the row"))
		}
	}
	if !granted {
		s.report("table "+r.String(), "permission", "does not allow the role %s to insert: grant insert on %s", v.live.Role, r)
	}
}

// copiedNull reports a field that may be nil where the column of a Copy is NOT NULL. COPY writes the NULL: it takes no
// default for it.
func (v *checker) copiedNull(s *subject, f structfields.Field, c *liveschema.Column) {
	if c.TakesNull || c.Generated || f.NotNull || c.HasTrigger || s.isRequired(s.row, f) {
		return
	}
	const format = "(%s) may be nil, which is NULL, and column %q is NOT NULL: %s"
	switch kind := f.Type.Kind(); {
	case kind == reflect.Pointer:
		s.report(s.rowField(s.row, f), "null", format, f.Type, c.Name, "make it "+f.Type.Elem().String())
	case kind == reflect.Slice && f.Type.Elem().Kind() != reflect.Uint8, kind == reflect.Map:
		s.reportWarning(s.rowField(s.row, f), "null", format, f.Type, c.Name, "tag it validate:\"required\", or db:\""+c.Name+",notnull\" if it never is")
	}
}

// ledger is the table of Once.
var ledger = liveschema.TableName{Schema: "pgcmd", Name: "once"}

// ledgerColumns are what the statements of Once need of each column.
var ledgerColumns = []struct {
	name   string
	types  []string
	rights []string
}{
	{"scope", []string{"text", "character varying"}, []string{"select", "insert"}},
	{"key", []string{"text", "character varying"}, []string{"select", "insert"}},
	{"fingerprint", []string{"bytea"}, []string{"select", "insert"}},
	{"run", []string{"uuid"}, []string{"select", "insert"}},
	{"result", []string{"jsonb", "json"}, []string{"select", "update"}},
}

// onceLedger compares the ledger with what Once needs.
func (v *checker) onceLedger(s *subject) {
	const what, fix = "Once", "run pgcmd.OnceSchema"
	r := v.live.Tables[ledger]
	switch {
	case r == nil:
		s.report(what, "ledger", "needs the table pgcmd.once, which does not exist: %s", fix)
		return
	case !r.SchemaUsage:
		s.report(what, "permission", "needs the table pgcmd.once, in a schema that the role %s may not use: grant usage on schema pgcmd", v.live.Role)
		return
	}
	var missing []string
	for _, want := range ledgerColumns {
		i := slices.IndexFunc(r.Columns, func(c *liveschema.Column) bool { return c.Name == want.name })
		if i < 0 {
			s.report(what, "ledger", "needs column %q of pgcmd.once, which does not exist: is the table another one? %s", want.name, fix)
			continue
		}
		c := r.Columns[i]
		if !slices.Contains(want.types, c.TypeName) {
			s.report(what, "ledger", "needs column %q of pgcmd.once to be %s, and it is %s: change its type", want.name, want.types[0], c.TypeName)
		}
		for _, right := range want.rights {
			if !c.Privileges[right] && !slices.Contains(missing, right) {
				missing = append(missing, right)
			}
		}
	}
	for _, c := range r.Columns {
		inserted := c.Name == "scope" || c.Name == "key" || c.Name == "fingerprint" || c.Name == "run"
		if !inserted && !c.TakesNull && !c.HasDefault {
			s.report(what, "ledger", "leaves column %q of pgcmd.once to its default, and it is NOT NULL without one: give it one", c.Name)
		}
	}
	if !r.HasOnceKey {
		s.report(what, "ledger", "needs a unique constraint on (scope, key) of pgcmd.once, without which a key can be taken twice: add the primary key")
	}
	for _, right := range missing {
		s.report(what, "permission", "needs to %s pgcmd.once, which the role %s may not: grant %s on pgcmd.once", right, v.live.Role, right)
	}
}
