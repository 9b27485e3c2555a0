package rowscan

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/pgcmd/pgcmd/internal/structfields"
)

// A Kind is how a Row takes its columns.
type Kind int

const (
	Struct      Kind = iota // a field each, by name
	Scalar                  // the only column
	Map                     // map[string]any
	SelfScanner             // the type's own ScanRow
)

// A RowType is a type whose values are rows, and the columns that it was last matched with:
// they are the same at every run, until the schema changes.
type RowType struct {
	Type           reflect.Type
	Kind           Kind
	Fields         []structfields.Field
	slice          reflect.Type  // of rows; nil of a QueryOne
	pointer        bool          // the only row is moved to a pointer of its own
	none           reflect.Value // an empty slice, which is not nil
	throughPointer bool          // a field is behind an embedded pointer, to be made for every row
	Last           atomic.Pointer[Mapping]
	read           atomic.Pointer[readable] // what Check found right last
	buffers        sync.Pool                // of *Buffer
}

// A Mapping matches the columns of a result with the fields of a row.
type Mapping struct {
	Columns      []pgconn.FieldDescription
	fields       []structfields.Field // fields[i] takes column i
	offsets      []uintptr            // of these fields in a row, unless one is reached through a pointer
	builtinTypes bool                 // every type is one of PostgreSQL's own
	plans        atomic.Pointer[[]scanPlans]
}

// scanPlans are the plans to scan a row of a mapping on one connection, which the types
// stand for. Planning is a good part of reading one row, and on the same connection
// gives the same plans, unless a type was registered in between.
type scanPlans struct {
	types   *pgtype.Map
	plans   []pgtype.ScanPlan
	directs *directPlan
}

// maxScanPlans is for how many connections a mapping keeps plans; some may be gone.
const maxScanPlans = 64

// cachedPlans returns the plans for a connection, for use by the caller that has it.
func (l *Mapping) cachedPlans(types *pgtype.Map, s *RowType, targets []any) ([]pgtype.ScanPlan, *directPlan, *Error) {
	var all []scanPlans
	if known := l.plans.Load(); known != nil {
		for i := range *known {
			if p := &(*known)[i]; p.types == types {
				return p.plans, p.directs, nil
			}
		}
		if len(*known) < maxScanPlans {
			all = slices.Clip(*known)
		}
	}
	made, err := s.newScanPlans(types, l, targets)
	if err != nil {
		return nil, nil, err
	}
	all = append(all, made)
	l.plans.Store(&all) // of two at the same time one may be forgotten
	return made.plans, made.directs, nil
}

func (s *RowType) newScanPlans(types *pgtype.Map, l *Mapping, targets []any) (scanPlans, *Error) {
	plans := make([]pgtype.ScanPlan, len(targets))
	if err := s.planColumns(types, l, targets, plans); err != nil {
		return scanPlans{}, err
	}
	return scanPlans{types, plans, s.directPlanOf(types, l)}, nil
}

// A PlanCache keeps the plans of one type map, for rows that have no connection of their own.
// It is for one goroutine at a time.
type PlanCache struct{ plans map[*Mapping]scanPlans }

// A planCacher is Rows with a PlanCache.
type planCacher interface{ PlanCache() *PlanCache }

// plansFor returns the plans of a mapping whose types are PostgreSQL's own.
func (c *PlanCache) plansFor(types *pgtype.Map, s *RowType, l *Mapping, targets []any) ([]pgtype.ScanPlan, *directPlan, *Error) {
	p, known := c.plans[l]
	if !known || p.types != types {
		var err *Error
		if p, err = s.newScanPlans(types, l, targets); err != nil {
			return nil, nil, err
		}
		if c.plans == nil || len(c.plans) == maxScanPlans {
			c.plans = make(map[*Mapping]scanPlans)
		}
		c.plans[l] = p
	}
	return p.plans, p.directs, nil
}

// FirstUserOID is the first object id of types that are not built into PostgreSQL
// (FirstNormalObjectId in access/transam.h).
const FirstUserOID = 16384

func (l *Mapping) Names() []string {
	names := make([]string, len(l.Columns))
	for i, c := range l.Columns {
		names[i] = c.Name
	}
	return names
}

// Of makes the RowType of a type, or says why it cannot be a row.
func Of(row reflect.Type) (*RowType, error) {
	s := &RowType{Type: row}
	switch {
	case s.Type == reflect.TypeFor[map[string]any]():
		s.Kind = Map
		return s, nil
	case reflect.PointerTo(s.Type).Implements(reflect.TypeFor[pgx.RowScanner]()):
		s.Kind = SelfScanner
		return s, nil
	case s.Type.Kind() == reflect.Pointer && !structfields.IsScalar(s.Type.Elem()):
		return nil, fmt.Errorf("the row type is %s: use %s, rows are values", s.Type, s.Type.Elem())
	case structfields.IsScalar(s.Type):
		if why := structfields.Unreadable(s.Type); why != "" {
			return nil, fmt.Errorf("the row type %s cannot hold a column: %s", s.Type, why)
		}
		s.Kind = Scalar
		s.Fields = []structfields.Field{{Path: s.Type.String(), Type: s.Type}}
		return s, nil
	}
	var err error
	if s.Fields, err = Fields(s.Type); err != nil {
		return nil, err
	}
	if len(s.Fields) == 0 {
		return nil, fmt.Errorf("the row type %s has no exported fields: use a struct with a field for each column, or Exec", s.Type)
	}
	s.throughPointer = structfields.EmbedsPointer(s.Type, s.Fields)
	return s, nil
}

// OfOne is Of for the type that one row, or none, is moved to: a row type, or a pointer to one. A pointer to a scalar is a
// scalar itself, and nil for NULL too.
func OfOne(out reflect.Type) (*RowType, error) {
	if out.Kind() != reflect.Pointer {
		return Of(out)
	}
	row := out.Elem()
	switch {
	case row == reflect.TypeFor[map[string]any](), out.Implements(reflect.TypeFor[pgx.RowScanner]()):
	case row.Kind() == reflect.Pointer && !structfields.IsScalar(row.Elem()): // which Of refuses
	case structfields.IsScalar(row):
		return Of(out)
	}
	t, err := Of(row)
	if err != nil {
		return nil, err
	}
	t.pointer = true
	return t, nil
}

// OfSlice is Of for the elements of a slice type.
func OfSlice(rows reflect.Type) (*RowType, error) {
	t, err := Of(rows.Elem())
	if err != nil {
		return nil, err
	}
	t.slice, t.none = rows, reflect.MakeSlice(rows, 0, 0)
	return t, nil
}

// Fields lists the fields of the struct typ, or says why one cannot be a column.
func Fields(typ reflect.Type) ([]structfields.Field, error) {
	fields, _ := structfields.Of(typ)
	for i, f := range fields {
		if why := structfields.Unreadable(f.Type); why != "" {
			return nil, fmt.Errorf("%s cannot hold a column: %s (tag it `db:\"-\"` to leave it out)", structfields.Called(typ, "row", f.Path), why)
		}
		if at := structfields.Twin(fields[:i+1], i); at >= 0 {
			return nil, fmt.Errorf("fields %s and %s of %s take the same column: give one of them another tag", fields[at].Path, f.Path, typ)
		}
	}
	return fields, nil
}

// cachedMapping finds the mapping for the columns of a result.
func (s *RowType) cachedMapping(columns []pgconn.FieldDescription) (*Mapping, *Error) {
	if l := s.Last.Load(); l != nil && l.fits(columns) {
		return l, nil
	}
	l, err := s.mapColumns(columns)
	if err == nil {
		s.Last.Store(l)
	}
	return l, err
}

// mapColumns makes the mapping for the columns of a result.
func (s *RowType) mapColumns(columns []pgconn.FieldDescription) (*Mapping, *Error) {
	l := &Mapping{Columns: slices.Clone(columns), fields: make([]structfields.Field, len(columns)), offsets: make([]uintptr, len(columns)), builtinTypes: true}
	for _, c := range columns {
		l.builtinTypes = l.builtinTypes && c.DataTypeOID < FirstUserOID
	}
	var err *Error
	switch s.Kind {
	case Struct:
		err = s.matchFields(l)
	case Scalar:
		if len(columns) != 1 {
			err = newError("", "the SQL returns %s, and a row is one %s: %s", Listed(l.Names()), s.Type, OneColumn(s.Type, len(columns)))
			break
		}
		l.fields[0] = s.Fields[0]
	case Map:
		names := l.Names()
		for i, name := range names {
			if slices.Contains(names[:i], name) {
				err = newError(name, "two columns are called %q, and a map holds one of them: rename one with AS", name)
			}
		}
	}
	if err != nil {
		return nil, err
	}
	if !s.throughPointer {
		for i, f := range l.fields {
			l.offsets[i] = offsetOf(s.Type, f.Index)
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

func (s *RowType) matchFields(l *Mapping) *Error {
	names := l.Names()
	taken := make([]bool, len(names))
	for _, f := range s.Fields {
		i := structfields.FindColumn(names, f)
		if i < 0 {
			return newError("", "%s has no column: the SQL returns %s (tag the field `db:\"-\"` to leave it out)",
				structfields.Called(s.Type, "row", f.Path), Listed(l.Names()))
		}
		if taken[i] {
			return newError(names[i], "column %q is that of two fields of %s, %s and %s: give one of them another tag", names[i], structfields.TypeOr(s.Type, "the row"), l.fields[i].Path, f.Path)
		}
		taken[i], l.fields[i] = true, f
	}
	for i, name := range names {
		if !taken[i] {
			return newError(name, "column %q has no field in %s: add one, or leave the column out of the SQL", name, structfields.TypeOr(s.Type, "the row"))
		}
	}
	return nil
}

func (l *Mapping) fits(columns []pgconn.FieldDescription) bool {
	if len(l.Columns) != len(columns) {
		return false
	}
	for i := range columns {
		if a, b := &l.Columns[i], &columns[i]; a.Name != b.Name || a.DataTypeOID != b.DataTypeOID || a.Format != b.Format {
			return false
		}
	}
	return true
}

// An Error says why rows cannot be read into their row type.
type Error struct {
	Column  string // empty if it is of no single column
	Message string // without a value
	Err     error  // of pgx or of user code; nil if there is none
}

func newError(column, format string, args ...any) *Error {
	return &Error{Column: column, Message: fmt.Sprintf(format, args...)}
}

// Listed lists the columns of a result for a message.
func Listed(names []string) string {
	if len(names) == 0 {
		return "no columns"
	}
	return strings.Join(names, ", ")
}

// OneColumn says how SQL that returns so many columns, and not one, gets rows of a scalar type.
func OneColumn(row reflect.Type, columns int) string {
	switch {
	case columns == 0:
		return "use Exec, or add RETURNING"
	case row.Kind() == reflect.Slice && row.Elem().Kind() == reflect.Struct:
		return "name " + row.Elem().String() + " as the row of a Query, which returns a slice of its rows"
	}
	return "select one column, or use a struct"
}
