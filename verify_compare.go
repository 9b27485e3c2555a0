package pgcmd

import (
	"fmt"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgcmd/pgcmd/internal/analysis"
	"github.com/pgcmd/pgcmd/internal/liveschema"
	"github.com/pgcmd/pgcmd/internal/rowscan"
	"github.com/pgcmd/pgcmd/internal/structfields"
	"github.com/pgcmd/pgcmd/internal/typemap"
	"github.com/pgcmd/pgcmd/internal/validation"
)

// compare finds what is wrong with one command.
func (v *checker) compare(s *subject) {
	if s.statement != nil {
		if s.described.refused != nil {
			s.refused(s.described.refused)
		} else if s.described.sd != nil {
			v.params(s)
			v.columns(s)
			v.rights(s)
			v.reads(s)
		}
	}
	if s.table != nil {
		v.copied(s)
	}
	if s.once {
		v.onceLedger(s)
	}
	v.constraints(s)
}

// hints are what to do about a statement that the server refuses, by the SQLSTATE.
var hints = map[string]string{
	"42703": "correct the name in the SQL, or migrate the database",
	"42P01": "is it dropped or renamed, or in a schema that is not in the search_path?",
	"3F000": "is it dropped or renamed?",
	"42883": "is it dropped, or are its arguments other types now? Casts in the SQL can tell it which is meant",
	"42704": "is it dropped or renamed?",
	"42804": "cast one of the two in the SQL, or migrate the database",
	"42501": "grant it to the role",
	"22P02": "correct the literal in the SQL, or migrate the database",
	"42P18": "cast the parameter in the SQL",
	"42P08": "cast the parameter in the SQL",
	"428C9": "leave the column out of the SQL",
}

// refused is the finding of a statement that the server cannot prepare. Its text is
// safe to show here: no value is bound, and it quotes nothing but the SQL.
func (s *subject) refused(e *pgconn.PgError) {
	fix := hints[e.Code]
	if fix == "" {
		fix = "correct the SQL, or migrate the database"
	}
	hint := ""
	if e.Hint != "" {
		hint = " (" + strings.TrimSuffix(e.Hint, ".") + ")"
	}
	s.report("SQL", "sql", "is refused by the server: %s%s, SQLSTATE %s%s: %s", s.withNames(e.Message), s.statement.text.Near(e.Position), e.Code, hint, fix)
}

var numbered = regexp.MustCompile(`\$[0-9]+`)

// withNames returns a message of the server with the parameters as the SQL of the command names
// them.
func (s *subject) withNames(message string) string {
	return numbered.ReplaceAllStringFunc(message, func(param string) string {
		if n, err := strconv.Atoi(param[1:]); err == nil && n >= 1 && n <= len(s.statement.text.Names) {
			return "@" + s.statement.text.Names[n-1]
		}
		return param
	})
}

// params compares the parameters with the fields of the input.
func (v *checker) params(s *subject) {
	st, oids, casts := s.statement, s.described.sd.ParamOIDs, s.statement.text.Casts()
	for i, f := range st.fields {
		if i >= len(oids) {
			break
		}
		placeholder := fmt.Sprintf("$%d", i+1)
		if len(st.text.Names) > 0 {
			placeholder = "@" + st.text.Names[i]
		}
		l := v.types.Write(oids[i], f.Type)
		if l.Rule == "range" && casts[i+1] { // the SQL asks for it
			switch kind := rowscan.ValueType(f.Type).Kind(); {
			case l.WarningOnly:
				l = typemap.Mismatch{}
			case kind >= reflect.Int && kind <= reflect.Uint64:
				l.WarningOnly = true
			}
		}
		s.reportMismatch(s.inputField(f), f, l, placeholder+" ("+v.types.Name(oids[i])+")")
		v.labels(s, s.in, f, oids[i])
		v.assigned(s, f, i, placeholder)
	}
	v.omitted(s)
	v.nullSets(s)
}

// labels compares the values that a oneof allows with those of an enum; after dive, with those of an array's elements.
func (v *checker) labels(s *subject, in reflect.Type, f structfields.Field, oid uint32) {
	t := v.types.Live[oid]
	if f.Index == nil || t.Kind != "e" && t.Elem == 0 || len(t.Labels) == 0 || t.Labels[0] == "" {
		return
	}
	rules := validation.ParseTag(in.FieldByIndex(f.Index).Tag.Get("validate"))
	if t.Elem != 0 {
		if rules = rules.Elements; rules == nil {
			return
		}
	}
	for _, rule := range rules.List {
		if rule.Name != "oneof" {
			continue
		}
		for _, word := range validation.Words(rule.Param) {
			if !slices.Contains(t.Labels, word) {
				s.report(structfields.TypeOr(in, "input")+"."+f.Path, "enum", "may be %q by its validate tag, and %s has no such value (has: %s): change the tag, or add the value to the type",
					word, strings.TrimSuffix(t.Name, "[]"), strings.Join(t.Labels, ", "))
			}
		}
	}
}

// reportMismatch reports that a field and what it is sent as or scanned from do not fit.
func (s *subject) reportMismatch(what string, f structfields.Field, l typemap.Mismatch, other string) {
	if l.Why == "" {
		return
	}
	report := s.report
	if l.WarningOnly {
		report = s.reportWarning
	}
	report(what, l.Rule, "(%s) %s %s: %s", f.Type, l.Why, other, l.Hint)
}

func (s *subject) inputField(f structfields.Field) string {
	if f.Index == nil {
		return "input"
	}
	return structfields.TypeOr(s.in, "input") + "." + f.Path
}

func (s *subject) rowField(typ reflect.Type, f structfields.Field) string {
	if f.Index == nil {
		return "row"
	}
	return structfields.TypeOr(typ, "row") + "." + f.Path
}

// columns compares the columns of the result with the fields of the row.
func (v *checker) columns(s *subject) {
	if s.rowType == nil {
		return
	}
	columns := s.described.sd.Fields
	names := make([]string, len(columns))
	for i, c := range columns {
		names[i] = c.Name
	}
	switch s.rowType.Kind {
	case rowscan.SelfScanner:
		return
	case rowscan.Map:
		for i, name := range names {
			if slices.Contains(names[:i], name) {
				s.report("column "+name, "column", "comes twice, and a map holds one of them: rename one with AS")
			}
		}
		return
	case rowscan.Scalar:
		if len(columns) != 1 {
			s.report("row", "column", "is one %s, and the SQL returns %s: %s", s.rowType.Type, rowscan.Listed(names), rowscan.OneColumn(s.rowType.Type, len(names)))
			return
		}
		v.column(s, s.rowType.Fields[0], columns[0], 0)
		return
	}
	takers := make([]string, len(names))
	for _, f := range s.rowType.Fields {
		switch i := structfields.FindColumn(names, f); {
		case i < 0:
			s.report(s.rowField(s.rowType.Type, f), "column", "has no column, the SQL returns %s: rename the field or the column, or tag the field `db:\"-\"`", rowscan.Listed(names))
		case takers[i] != "":
			s.report(s.rowField(s.rowType.Type, f), "column", "takes column %q, and so does %s: give one of them another tag", names[i], takers[i])
		default:
			takers[i] = f.Path
			v.column(s, f, columns[i], i)
		}
	}
	for i, name := range names {
		if takers[i] == "" {
			s.report("column "+name, "column", "has no field in %s: add one, or leave the column out of the SQL", structfields.TypeOr(s.rowType.Type, "the row"))
		}
	}
}

// column compares column i with its field.
func (v *checker) column(s *subject, f structfields.Field, c pgconn.FieldDescription, i int) {
	l := v.types.Read(c.DataTypeOID, c.TypeModifier, f.Type)
	s.reportMismatch(s.rowField(s.rowType.Type, f), f, l, fmt.Sprintf("column %q (%s)", c.Name, v.types.Name(c.DataTypeOID)))
	if l.Rule == "type" && !l.WarningOnly {
		return
	}
	v.null(s, f, c, i)
	if from := v.live.Origins[liveschema.Origin{Table: c.TableOID, Column: c.TableAttributeNumber}]; from != nil && !from.Privileges["select"] {
		s.report("column "+c.Name, "permission", "may not be read by the role %s: grant select on %s", v.live.Role, from.Table)
	}
}

// columnTables lists the tables whose columns matter, one by one.
func (s *subject) columnTables() []liveschema.TableName {
	var tables []liveschema.TableName
	if s.table != nil {
		tables = append(tables, s.tableName())
	}
	if s.once {
		tables = append(tables, ledger)
	}
	return tables
}

// written lists the tables that the command inserts into or updates.
func (v *checker) written(s *subject) (written []*liveschema.Table) {
	if s.analysis != nil {
		for _, t := range s.analysis.Tables {
			if r := v.live.TablesByOID[t.OID]; r != nil && (t.Inserted || t.Updated) {
				written = append(written, r)
			}
		}
	}
	if r := v.live.Tables[s.tableName()]; r != nil && s.table != nil {
		written = append(written, r)
	}
	return written
}

// rights compares what the statement does to the tables that it names with what
// the role may.
func (v *checker) rights(s *subject) {
	if s.analysis == nil {
		return
	}
	for _, t := range s.analysis.Tables {
		r := v.live.TablesByOID[t.OID]
		if r == nil || t.Through != "" { // the owner of a view has the rights to what is in it
			continue
		}
		for _, need := range []struct {
			right string
			is    bool
		}{{"select", t.Selected}, {"insert", t.Inserted}, {"update", t.Updated || t.Locked}, {"delete", t.Deleted}} {
			if !need.is || r.Privileges[need.right] {
				continue
			}
			s.findings = slices.DeleteFunc(s.findings, func(p Problem) bool { // said for the table as a whole
				return need.right == "select" && p.Rule == "permission" && strings.HasSuffix(p.Message, "grant select on "+r.String())
			})
			s.report("table "+r.String(), "permission", "does not allow the role %s to %s: grant %s on %s", v.live.Role, need.right, need.right, r)
		}
	}
}

// reads looks for what a command that counts as a read does besides.
func (v *checker) reads(s *subject) {
	if !s.statement.reads || s.analysis == nil {
		return
	}
	first := func(f func(w analysis.Write) bool) analysis.Write {
		if i := slices.IndexFunc(s.analysis.Writes, f); i >= 0 {
			return s.analysis.Writes[i]
		}
		return analysis.Write{}
	}
	change := first(func(w analysis.Write) bool { return w.Certain && !w.Lock }).What
	lock := first(func(w analysis.Write) bool { return w.Lock }).What
	other := first(func(w analysis.Write) bool { return true })
	fix := "declare the function stable if it only reads, else "
	if other.Builtin {
		fix = ""
	}
	switch {
	case change != "" && !s.options.ReadOnly:
		s.report("SQL", "writes", "counts as a read, and writes by way of %s: set Options.Writes, or a retry applies that twice", change)
	case change != "":
		s.report("ReadOnly", "read_only", "is set for SQL that writes, by way of %s: take it away, or a retry applies that twice", change)
	case lock != "" && s.options.ReadOnly:
		s.report("ReadOnly", "read_only", "is set for SQL that %s, which a replica and a read-only transaction refuse: take it away, or the lock", lock)
	case lock != "":
		s.reportWarning("SQL", "writes", "counts as a read, and takes locks by way of %s, which a replica and a read-only transaction refuse: set Options.Writes", lock)
	case other.What != "" && !s.options.ReadOnly:
		s.reportWarning("SQL", "writes", "counts as a read, and calls %s: %sset Options.Writes", other.What, fix)
	case other.What != "":
		s.reportWarning("ReadOnly", "read_only", "is set for SQL that calls %s: %stake ReadOnly away, or a retry does that twice", other.What, fix)
	}
}

// constraints looks for the names in OnConstraint.
func (v *checker) constraints(s *subject) {
	for _, name := range slices.Sorted(maps.Keys(s.options.OnConstraint)) {
		if v.live.Constraints[name] {
			continue
		}
		has := ""
		for _, r := range v.written(s) {
			if len(r.Constraints) > 0 {
				has = fmt.Sprintf(" (%s has %s)", r, strings.Join(r.Constraints, ", "))
				break
			}
		}
		s.report("OnConstraint", "constraint", "names %s, which the database does not have: correct the name, or restore the constraint%s", name, has)
	}
}

// unmapped warns of the constraints of tables which some command writes, and which
// no command maps. The first that writes is told.
func (v *checker) unmapped() {
	mapped := map[string]bool{}
	for _, s := range v.subjects {
		for name := range s.options.OnConstraint {
			mapped[name] = true
		}
	}
	warned := map[string]string{} // the command that was told of a table
	for _, s := range v.subjects {
		for _, r := range v.written(s) {
			if warned[r.OID] != "" && warned[r.OID] != s.name {
				continue
			}
			warned[r.OID] = s.name
			open := slices.DeleteFunc(slices.Clone(r.Constraints), func(name string) bool { return mapped[name] })
			if len(open) > 0 {
				s.reportWarning("table "+r.String(), "unmapped", "has constraints that no OnConstraint names: %s (map those that an input can violate to errors of your own)", strings.Join(open, ", "))
			}
		}
	}
}
