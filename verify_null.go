package pgcmd

import (
	"context"
	"database/sql"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgcmd/pgcmd/internal/analysis"
	"github.com/pgcmd/pgcmd/internal/structfields"
	"github.com/pgcmd/pgcmd/internal/typemap"
	"github.com/pgcmd/pgcmd/internal/validation"
)

// analyze asks for PostgreSQL's own analysis of the statements that it accepts.
func (v *checker) analyze(ctx context.Context, conn *pgx.Conn) error {
	var of []*subject
	var queries []analysis.Query
	for _, s := range v.subjects {
		if s.statement == nil || s.described.sd == nil {
			continue
		}
		q := analysis.Query{SQL: s.statement.text.SQL, Described: s.described.sd}
		for _, f := range s.statement.fields {
			q.Params = append(q.Params, s.nullOf(f))
		}
		of, queries = append(of, s), append(queries, q)
	}
	if len(queries) == 0 {
		return nil
	}
	statements, err := analysis.Analyze(ctx, conn, queries...)
	for i, st := range statements {
		of[i].analysis = st
	}
	return err
}

// notAnalyzed returns a warning for each reason for which statements could not be analyzed.
func (v *checker) notAnalyzed() (warnings []Problem) {
	of := map[string][]string{}
	var order []string
	for _, s := range v.subjects {
		if s.analysis == nil || s.analysis.NotAnalyzed == "" {
			continue
		}
		why := s.analysis.NotAnalyzed
		if of[why] == nil {
			order = append(order, why)
		}
		if !slices.Contains(of[why], s.name) {
			of[why] = append(of[why], s.name)
		}
	}
	for _, why := range order {
		names := of[why]
		which := strings.Join(names[:min(len(names), 3)], ", ")
		if len(names) > 3 {
			which += fmt.Sprintf(" and %d more", len(names)-3)
		}
		warnings = append(warnings, Problem{Field: "pgcmd.Verify", Rule: "analysis",
			Message: fmt.Sprintf("did not look at NULLs, writes and rights of %s: %s", which, why)})
	}
	return warnings
}

// nullOfSet says whether a field of type t can be sent as NULL where it is set: not nil, or Valid.
func nullOfSet(t reflect.Type) analysis.Null {
	switch kind := t.Kind(); {
	case kind == reflect.Pointer && t.Elem().Kind() == reflect.Pointer:
		return analysis.Maybe
	case kind == reflect.Pointer:
		return nullOfSet(t.Elem())
	case kind == reflect.Interface, typemap.HasCodecMethods(t):
		return analysis.Unknown
	}
	return analysis.Never
}

// nullOf says whether a field of the input can be sent as NULL.
func (s *subject) nullOf(f structfields.Field) analysis.Null {
	if s.isSet != nil && s.isSet(f.Path) {
		return nullOfSet(f.Type)
	}
	switch kind := f.Type.Kind(); kind {
	case reflect.Pointer, reflect.Slice, reflect.Map, reflect.Interface:
		if s.isRequired(s.in, f) {
			return analysis.Never
		}
		if kind == reflect.Pointer {
			return analysis.Maybe
		}
		return analysis.Unknown // it may be that it never is nil
	}
	switch {
	case f.Type.PkgPath() == "database/sql" && reflect.PointerTo(f.Type).Implements(reflect.TypeFor[sql.Scanner]()), isNullablePgtype(f.Type):
		return analysis.Maybe
	case typemap.HasCodecMethods(f.Type), len(f.Index) > 1: // its method decides, or an embedded pointer
		return analysis.Unknown
	}
	return analysis.Never
}

// isRequired reports whether nil is refused for a field of an input or a row before anything is sent.
func (s *subject) isRequired(of reflect.Type, f structfields.Field) bool {
	return f.Index != nil && !s.options.Trusted && slices.ContainsFunc(validation.ParseTag(of.FieldByIndex(f.Index).Tag.Get("validate")).List,
		func(rule validation.Rule) bool { return rule.Name == "required" })
}

// isNullablePgtype reports whether t is a type of pgtype that holds NULL, and else no more than a
// type of Go does. It is chosen for the NULL.
func isNullablePgtype(t reflect.Type) bool {
	return t.PkgPath() == "github.com/jackc/pgx/v5/pgtype" &&
		slices.Contains([]string{"Text", "Int2", "Int4", "Int8", "Bool", "Float4", "Float8", "Timestamp", "Timestamptz"}, t.Name())
}

// at says at which line of the SQL something is, unless the SQL is one line.
func (s *subject) at(line int) string {
	if line == 0 || !strings.Contains(s.statement.text.SQL, "\n") {
		return ""
	}
	return fmt.Sprintf(" (line %d of the SQL)", line)
}

// null reports that a column may be NULL, or an element of it, where its field cannot hold that.
func (v *checker) null(s *subject, f structfields.Field, c pgconn.FieldDescription, i int) {
	if s.analysis == nil || i >= len(s.analysis.Columns) || f.NotNull {
		return
	}
	what, col := s.rowField(s.rowType.Type, f), s.analysis.Columns[i]
	because := func(why string) string {
		for i, name := range s.statement.text.Names {
			why = strings.ReplaceAll(why, fmt.Sprintf("parameter $%d ", i+1), "@"+name+" ")
		}
		if strings.HasPrefix(why, "column ") {
			return why
		}
		return fmt.Sprintf("column %q may be: %s", c.Name, why)
	}
	if col.Null == analysis.Maybe && !v.types.TakesNull(c.DataTypeOID, f.Type) {
		s.report(what, "null", "(%s) cannot hold NULL, and %s%s: make it *%s, use coalesce, or exclude NULL by a condition", f.Type, because(col.Reason), s.at(col.Line), f.Type)
	} else if col.Elem == analysis.Maybe && !v.types.TakesNullElements(c.DataTypeOID, f.Type) {
		s.report(what, "null", "(%s) cannot hold NULL in the array, and there %s: make the elements pointers, or leave NULL out (array_remove, FILTER, a condition)", f.Type, because(col.ElemReason))
	}
}

// assigned compares the parameters with the columns that they are assigned to.
func (v *checker) assigned(s *subject, f structfields.Field, i int, placeholder string) {
	if s.analysis == nil || i >= len(s.analysis.Params) {
		return
	}
	p := s.analysis.Params[i]
	for _, cast := range p.Casts {
		if l := v.types.Write(cast.To, f.Type); l.Rule == "range" {
			s.reportWarning(s.inputField(f), l.Rule, "(%s) %s %s, to which the SQL casts %s", f.Type, l.Why, v.types.Name(cast.To), placeholder)
		}
		v.labels(s, s.in, f, cast.To)
	}
	for _, to := range slices.Concat(p.Sets, p.Fails) {
		if !to.NotNull {
			continue
		}
		const format = "(%s) may be %s, and %s sets column %q of table %s, which is NOT NULL: %s"
		fix := fmt.Sprintf("make it %s, or use coalesce(%s, ...) in the SQL", strings.TrimPrefix(f.Type.String(), "*"), placeholder)
		null := "nil, which is NULL"
		switch s.nullOf(f) {
		case analysis.Maybe:
			if f.Type.Kind() != reflect.Pointer {
				null = "NULL"
				fix = fmt.Sprintf("use a type without NULL, or coalesce(%s, ...) in the SQL", placeholder)
			}
			s.report(s.inputField(f), "null", format, f.Type, null, placeholder, to.Column, tableOf(to), fix)
		case analysis.Unknown:
			if kind := f.Type.Kind(); kind == reflect.Slice || kind == reflect.Map {
				s.reportWarning(s.inputField(f), "null", format, f.Type, null, placeholder, to.Column, tableOf(to),
					fmt.Sprintf("use coalesce(%s, ...) in the SQL, or tag it validate:\"required\"", placeholder))
			}
		}
		return
	}
}

// nullSets reports the columns that the SQL itself sets to NULL: to the constant, or, as a warning, to what may be NULL.
func (v *checker) nullSets(s *subject) {
	if s.analysis == nil {
		return
	}
	for _, c := range s.analysis.NullSets {
		if c.Always {
			s.report("column "+c.Column, "null", "is NOT NULL in table %s, and the SQL sets it to NULL: give it a value", tableOf(c.ColumnRef))
			continue
		}
		s.reportWarning("column "+c.Column, "null", "is NOT NULL in table %s, and the SQL sets it to what may be NULL (%s): use coalesce, or exclude NULL by a condition", tableOf(c.ColumnRef), c.Reason)
	}
}

func tableOf(c analysis.ColumnRef) string {
	if c.Visible || c.Schema == "public" {
		return c.Table
	}
	return c.Schema + "." + c.Table
}

// omitted reports the columns that an INSERT has to fill and does not.
func (v *checker) omitted(s *subject) {
	if s.analysis == nil {
		return
	}
	for _, c := range s.analysis.Omitted {
		s.report("column "+c.Column, "null", "is NOT NULL without a default, and the INSERT into %s leaves it out: add it to the SQL, or give it a default", tableOf(c))
	}
}
