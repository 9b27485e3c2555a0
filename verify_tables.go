package pgcmd

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/pgcmd/pgcmd/internal/rowscan"
	"github.com/pgcmd/pgcmd/internal/structfields"
)

// target is the table of a Copy.
func (s *descriptor) target() tableName {
	if len(s.table) == 0 {
		return tableName{}
	}
	t := tableName{name: s.table[len(s.table)-1]}
	if len(s.table) > 1 {
		t.schema = s.table[len(s.table)-2]
	}
	return t
}

// copied compares the table of a Copy with the fields of its rows.
func (v *checker) copied(s *descriptor) {
	r := v.live.relations[s.target()]
	what := "table " + s.table.Sanitize()
	switch {
	case r == nil:
		s.report(what, "table", "does not exist: is it dropped or renamed, or in a schema that is not in the search_path?")
		return
	case !r.usage:
		s.report(what, "permission", "is in a schema that the role %s may not use: grant usage on schema %s", v.live.role, r.schema)
		return
	case r.kind == "m" || r.kind == "v" && !r.instead:
		s.report(what, "table", "is a view, and a copy needs a table: name the table, or give the view an INSTEAD OF trigger")
		return
	}
	names := make([]string, len(r.columns))
	for i, c := range r.columns {
		names[i] = c.name
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
		c := r.columns[i]
		l := v.types.Write(v.types.BaseOf(c.oid), f.Type)
		if !l.WarningOnly && strings.Contains(l.Hint, "in the SQL") {
			l.Hint = "change the field's type, or the column's" // there is no SQL to cast in
		}
		s.lost(field, f, l, fmt.Sprintf("column %q (%s)", c.name, v.types.Name(c.oid)))
		v.copiedNull(s, f, c)
		v.labels(s, s.row, f, v.types.BaseOf(c.oid))
		if c.generated {
			s.report(field, "column", "is for column %q, which is generated and cannot be copied into: tag the field `db:\"-\"`", c.name)
		}
		granted = granted && c.may["insert"]
	}
	for i, c := range r.columns {
		if takers[i] == "" && c.notNull && !c.fills && !c.filled && !c.generated && r.kind != "v" {
			s.report("column "+c.name, "null", "is NOT NULL without a default, and no field fills it: add one to %s", structfields.TypeOr(s.row, "the row"))
		}
	}
	if !granted {
		s.report("table "+r.String(), "permission", "does not allow the role %s to insert: grant insert on %s", v.live.role, r)
	}
}

// copiedNull reports a field that may be nil where the column of a Copy is NOT NULL. COPY writes the NULL: it takes no
// default for it.
func (v *checker) copiedNull(s *descriptor, f structfields.Field, c *column) {
	if !c.notNull || c.generated || f.NotNull || c.filled || s.isRequired(s.row, f) {
		return
	}
	const format = "(%s) may be nil, which is NULL, and column %q is NOT NULL: %s"
	switch kind := f.Type.Kind(); {
	case kind == reflect.Pointer:
		s.report(s.rowField(s.row, f), "null", format, f.Type, c.name, "make it "+f.Type.Elem().String())
	case kind == reflect.Slice && f.Type.Elem().Kind() != reflect.Uint8, kind == reflect.Map:
		s.reportWarning(s.rowField(s.row, f), "null", format, f.Type, c.name, "tag it validate:\"required\", or db:\""+c.name+",notnull\" if it never is")
	}
}

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
func (v *checker) onceLedger(s *descriptor) {
	const what, fix = "Once", "run pgcmd.OnceSchema"
	r := v.live.relations[ledger]
	switch {
	case r == nil:
		s.report(what, "ledger", "needs the table pgcmd.once, which does not exist: %s", fix)
		return
	case !r.usage:
		s.report(what, "permission", "needs the table pgcmd.once, in a schema that the role %s may not use: grant usage on schema pgcmd", v.live.role)
		return
	}
	var missing []string
	for _, want := range ledgerColumns {
		i := slices.IndexFunc(r.columns, func(c *column) bool { return c.name == want.name })
		if i < 0 {
			s.report(what, "ledger", "needs column %q of pgcmd.once, which does not exist: is the table another one? %s", want.name, fix)
			continue
		}
		c := r.columns[i]
		if !slices.Contains(want.types, c.typ) {
			s.report(what, "ledger", "needs column %q of pgcmd.once to be %s, and it is %s: change its type", want.name, want.types[0], c.typ)
		}
		for _, right := range want.rights {
			if !c.may[right] && !slices.Contains(missing, right) {
				missing = append(missing, right)
			}
		}
	}
	for _, c := range r.columns {
		inserted := c.name == "scope" || c.name == "key" || c.name == "fingerprint" || c.name == "run"
		if !inserted && c.notNull && !c.fills {
			s.report(what, "ledger", "leaves column %q of pgcmd.once to its default, and it is NOT NULL without one: give it one", c.name)
		}
	}
	if !r.claims {
		s.report(what, "ledger", "needs a unique constraint on (scope, key) of pgcmd.once, without which a key can be taken twice: add the primary key")
	}
	for _, right := range missing {
		s.report(what, "permission", "needs to %s pgcmd.once, which the role %s may not: grant %s on pgcmd.once", right, v.live.role, right)
	}
}
