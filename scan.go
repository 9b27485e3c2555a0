package pgcmd

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/pgcmd/pgcmd/internal/structfields"
)

// A rowKind is how a Row takes its columns.
type rowKind int

const (
	structRow  rowKind = iota // a field each, by name
	scalarRow                 // the only column
	mapRow                    // map[string]any
	scannerRow                // the type's own ScanRow
)

// A shape is what is known of a Row type at definition, and the columns that it
// was last matched with: they are the same at every run, until the schema changes.
type rowType struct {
	typ            reflect.Type
	kind           rowKind
	fields         []structfields.Field
	slice          reflect.Type  // of rows; nil of a QueryOne
	none           reflect.Value // an empty slice, which is not nil
	throughPointer bool          // a field is behind an embedded pointer, to be made for every row
	last           atomic.Pointer[columnMapping]
	read           atomic.Pointer[readable] // what reads found right last
}

// A layout matches the columns of a result with the fields of a row.
type columnMapping struct {
	columns      []pgconn.FieldDescription
	fields       []structfields.Field // fields[i] takes column i
	offsets      []uintptr            // of these fields in a row, unless one is reached through a pointer
	builtinTypes bool                 // every type is one of PostgreSQL's own
	plans        atomic.Pointer[[]scanPlans]
}

// scanPlans are the plans to scan a row of a layout on one connection, which the types
// stand for. Planning is a good part of reading one row, and on the same connection
// gives the same plans, unless a type was registered in between.
type scanPlans struct {
	types *pgtype.Map
	plans []pgtype.ScanPlan
}

// maxScanPlans is for how many connections a layout keeps plans; some may be gone.
const maxScanPlans = 64

// cachedPlans returns the plans for a connection, for use by the caller that has it.
func (l *columnMapping) cachedPlans(types *pgtype.Map, s *rowType, targets []any) ([]pgtype.ScanPlan, *Error) {
	var all []scanPlans
	if known := l.plans.Load(); known != nil {
		for i := range *known {
			if p := &(*known)[i]; p.types == types {
				return p.plans, nil
			}
		}
		if len(*known) < maxScanPlans {
			all = slices.Clip(*known)
		}
	}
	plans := make([]pgtype.ScanPlan, len(targets))
	if err := s.planColumns(types, l, targets, plans); err != nil {
		return nil, err
	}
	all = append(all, scanPlans{types, plans})
	l.plans.Store(&all) // of two at the same time one may be forgotten
	return plans, nil
}

// firstUserOID is the first object id that PostgreSQL gives to a type that it was
// not born with (FirstNormalObjectId in access/transam.h).
const firstUserOID = 16384

func (l *columnMapping) names() []string {
	names := make([]string, len(l.columns))
	for i, c := range l.columns {
		names[i] = c.Name
	}
	return names
}

// rowTypeOf looks at a row type, and panics if it cannot be a row.
func rowTypeOf(command string, row reflect.Type) *rowType {
	s := &rowType{typ: row}
	switch {
	case s.typ == reflect.TypeFor[map[string]any]():
		s.kind = mapRow
		return s
	case reflect.PointerTo(s.typ).Implements(reflect.TypeFor[pgx.RowScanner]()):
		s.kind = scannerRow
		return s
	case s.typ.Kind() == reflect.Pointer && !structfields.IsScalar(s.typ.Elem()):
		panic(fmt.Sprintf("pgcmd: %s: the row type is %s: use %s, rows are values", command, s.typ, s.typ.Elem()))
	case structfields.IsScalar(s.typ):
		if why := structfields.Unreadable(s.typ); why != "" {
			panic(fmt.Sprintf("pgcmd: %s: the row type %s cannot hold a column: %s", command, s.typ, why))
		}
		s.kind = scalarRow
		s.fields = []structfields.Field{{Path: s.typ.String(), Type: s.typ}}
		return s
	}
	s.fields = rowFields(command, s.typ)
	if len(s.fields) == 0 {
		panic(fmt.Sprintf("pgcmd: %s: the row type %s has no exported fields: use a struct with a field for each column, or Exec", command, s.typ))
	}
	s.throughPointer = structfields.EmbedsPointer(s.typ, s.fields)
	return s
}

// rowTypeOfSlice looks at the row type of a slice.
func rowTypeOfSlice(command string, rows reflect.Type) *rowType {
	t := rowTypeOf(command, rows.Elem())
	t.slice, t.none = rows, reflect.MakeSlice(rows, 0, 0)
	return t
}

// rowFields lists the fields of the struct typ, and panics if one cannot be a column.
func rowFields(command string, typ reflect.Type) []structfields.Field {
	fields, _ := structfields.Of(typ)
	for i, f := range fields {
		if why := structfields.Unreadable(f.Type); why != "" {
			panic(fmt.Sprintf("pgcmd: %s: field %s.%s cannot hold a column: %s (tag it `db:\"-\"` to leave it out)", command, typ, f.Path, why))
		}
		for _, g := range fields[:i] {
			if f.Tagged == g.Tagged && (f.Name == g.Name || !f.Tagged && f.Matches(g.Name)) {
				panic(fmt.Sprintf("pgcmd: %s: fields %s and %s of %s take the same column: tag one of them", command, g.Path, f.Path, typ))
			}
		}
	}
	return fields
}

// cachedMapping finds the layout for the columns of a result.
func (s *rowType) cachedMapping(columns []pgconn.FieldDescription) (*columnMapping, *Error) {
	if l := s.last.Load(); l != nil && l.fits(columns) {
		return l, nil
	}
	l, err := s.mapColumns(columns)
	if err == nil {
		s.last.Store(l)
	}
	return l, err
}

// mapColumns makes the layout for the columns of a result.
func (s *rowType) mapColumns(columns []pgconn.FieldDescription) (*columnMapping, *Error) {
	l := &columnMapping{columns: slices.Clone(columns), fields: make([]structfields.Field, len(columns)), offsets: make([]uintptr, len(columns)), builtinTypes: true}
	for _, c := range columns {
		l.builtinTypes = l.builtinTypes && c.DataTypeOID < firstUserOID
	}
	var err *Error
	switch s.kind {
	case structRow:
		err = s.matchFields(l)
	case scalarRow:
		if len(columns) != 1 {
			err = newScanError("", "the SQL returns %d columns (%s), and a row is one %s: select one column, or use a struct",
				len(columns), strings.Join(l.names(), ", "), s.typ)
			break
		}
		l.fields[0] = s.fields[0]
	case mapRow:
		names := l.names()
		for i, name := range names {
			if slices.Contains(names[:i], name) {
				err = newScanError(name, "two columns are called %q, and a map holds one of them: rename one with AS", name)
			}
		}
	}
	if err != nil {
		return nil, err
	}
	if !s.throughPointer {
		for i, f := range l.fields {
			l.offsets[i] = offsetOf(s.typ, f.Index)
		}
	}
	return l, nil
}

// offsetOf returns the offset of a field in a struct. Of a scalar the index is empty.
func offsetOf(t reflect.Type, index []int) (offset uintptr) {
	for _, x := range index {
		f := t.Field(x)
		offset, t = offset+f.Offset, f.Type
	}
	return offset
}

func (s *rowType) matchFields(l *columnMapping) *Error {
	names := l.names()
	taken := make([]bool, len(names))
	for _, f := range s.fields {
		i := structfields.FindColumn(names, f)
		if i < 0 {
			return newScanError("", "field %s.%s has no column: the SQL returns %s (tag the field `db:\"-\"` to leave it out)",
				s.typ.Name(), f.Path, strings.Join(l.names(), ", "))
		}
		if taken[i] {
			return newScanError(names[i], "column %q is meant for two fields of %s, %s and %s: tag one of them otherwise", names[i], s.typ.Name(), l.fields[i].Path, f.Path)
		}
		taken[i], l.fields[i] = true, f
	}
	for i, name := range names {
		if !taken[i] {
			return newScanError(name, "column %q has no field in %s: add one, or leave the column out of the SQL", name, s.typ.Name())
		}
	}
	return nil
}

func (l *columnMapping) fits(columns []pgconn.FieldDescription) bool {
	if len(l.columns) != len(columns) {
		return false
	}
	for i := range columns {
		if a, b := &l.columns[i], &columns[i]; a.Name != b.Name || a.DataTypeOID != b.DataTypeOID || a.Format != b.Format {
			return false
		}
	}
	return true
}

// newScanError is the error of a result that its row type cannot take.
func newScanError(column, format string, args ...any) *Error {
	return &Error{Code: CodeInternal, Column: column, Message: fmt.Sprintf(format, args...)}
}
