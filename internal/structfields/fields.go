// Package structfields lists the fields of a struct that columns and placeholders can
// name, by pgx's rules: the tag db, else the field's name without regard to case and
// underscores. It says which types are one value, and which PostgreSQL has no type for. It
// knows no commands and no connections.
package structfields

import (
	"database/sql"
	"database/sql/driver"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgtype"
)

// Field is a field of an input or a row that a column or a placeholder can name. Fields
// of embedded structs count as fields of the outer struct.
type Field struct {
	Path   string // as in Go code: Address.City
	Name   string // the db tag, else the field's name
	Tagged bool   // Name is the db tag
	// NotNull says that the author knows the column never to be NULL: db:"name,notnull".
	NotNull bool
	Index   []int // for reflect.Value.FieldByIndex
	Type    reflect.Type
}

// Of lists the fields of struct type t by pgx's rules (tag db, "-" leaves out), and the
// names of those that cannot be used because they are unexported. As in Go, a field hides
// a field of the same name in an embedded struct.
func Of(t reflect.Type) (fields []Field, unexported []string) {
	type level struct {
		typ   reflect.Type
		index []int
		path  string
	}
	// Breadth first, so that the shallower of two fields of one name comes first.
	for queue := []level{{typ: t}}; len(queue) > 0; queue = queue[1:] {
		at := queue[0]
		for i := range at.typ.NumField() {
			sf := at.typ.Field(i)
			tag, tagged := sf.Tag.Lookup("db")
			tag, options, _ := strings.Cut(tag, ",")
			index := append(at.index[:len(at.index):len(at.index)], i)
			embedded := sf.Type
			if embedded.Kind() == reflect.Pointer && sf.IsExported() {
				embedded = embedded.Elem()
			}
			switch {
			case tag == "-":
			case sf.Anonymous && embedded.Kind() == reflect.Struct && !IsScalar(embedded):
				if len(index) <= MaxEmbedding { // a type can embed a pointer to itself
					queue = append(queue, level{embedded, index, at.path + sf.Name + "."})
				}
			case !sf.IsExported():
				unexported = append(unexported, sf.Name)
			default:
				f := Field{Path: at.path + sf.Name, Name: sf.Name, Index: index, Type: sf.Type, NotNull: slices.Contains(strings.Split(options, ","), "notnull")}
				if tagged && tag != "" {
					f.Name, f.Tagged = tag, true
				}
				if !hidden(fields, f) {
					fields = append(fields, f)
				}
			}
		}
	}
	return fields, unexported
}

const MaxEmbedding = 8

// hidden reports whether one of fields has the name of f at a shallower depth.
func hidden(fields []Field, f Field) bool {
	return slices.ContainsFunc(fields, func(g Field) bool {
		return g.Name == f.Name && g.Tagged == f.Tagged && len(g.Index) < len(f.Index)
	})
}

// Matches reports whether the column or placeholder called name belongs to f, by pgx's
// rule: without a tag, case and underscores are ignored.
func (f Field) Matches(name string) bool {
	if f.Tagged {
		return strings.EqualFold(f.Name, name)
	}
	return strings.EqualFold(strings.ReplaceAll(f.Name, "_", ""), strings.ReplaceAll(name, "_", ""))
}

// Find returns the index of the field that name belongs to, or -1. A tag that is equal
// to name is preferred to one that differs in case.
func Find(fields []Field, name string) int {
	for i, f := range fields {
		if f.Tagged && f.Name == name {
			return i
		}
	}
	for i, f := range fields {
		if f.Matches(name) {
			return i
		}
	}
	return -1
}

// Twin returns the index of another field that every name of fields[at] belongs to as well, or -1.
func Twin(fields []Field, at int) int {
	f := fields[at]
	return slices.IndexFunc(fields, func(g Field) bool {
		return g.Path != f.Path && f.Tagged == g.Tagged && (f.Name == g.Name || !f.Tagged && f.Matches(g.Name))
	})
}

// FindColumn returns the index of the column that belongs to f, or -1, by the same rule
// as Find.
func FindColumn(columns []string, f Field) int {
	if f.Tagged {
		for i, name := range columns {
			if name == f.Name {
				return i
			}
		}
	}
	for i, name := range columns {
		if f.Matches(name) {
			return i
		}
	}
	return -1
}

// PlaceholderNames lists fields as SQL would name them, for a message.
func PlaceholderNames(fields []Field) string {
	names := make([]string, len(fields))
	for i, f := range fields {
		names[i] = f.Name
		if !f.Tagged {
			names[i] = snakeCase(f.Name)
		}
	}
	if len(names) == 0 {
		return "no exported fields"
	}
	return strings.Join(names, ", ")
}

// Called names a field of a struct for a message; of is what a struct without a name is.
func Called(typ reflect.Type, of, path string) string {
	if typ.Name() == "" {
		return "the " + of + "'s field " + path
	}
	return "field " + typ.Name() + "." + path
}

// TypeOr names a type for a message; unnamed is what a type without a name is.
func TypeOr(typ reflect.Type, unnamed string) string {
	if typ == nil || typ.Name() == "" {
		return unnamed
	}
	return typ.Name()
}

// snakeCase writes CreatedAt as created_at and UserID as user_id.
func snakeCase(name string) string {
	lower := func(i int) bool { return i < len(name) && name[i] >= 'a' && name[i] <= 'z' }
	upper := func(i int) bool { return name[i] >= 'A' && name[i] <= 'Z' }
	var b strings.Builder
	for i := range len(name) {
		if upper(i) && i > 0 && name[i-1] != '_' && (!upper(i-1) || lower(i+1)) {
			b.WriteByte('_')
		}
		b.WriteByte(name[i])
	}
	return strings.ToLower(b.String())
}

// ScalarInterfaces are the interfaces of database/sql and pgtype that a struct implements
// if it is one value.
var ScalarInterfaces = []reflect.Type{
	reflect.TypeFor[driver.Valuer](),
	reflect.TypeFor[sql.Scanner](),
	reflect.TypeFor[pgtype.ArrayGetter](),
	reflect.TypeFor[pgtype.ArraySetter](),
	reflect.TypeFor[pgtype.BitsScanner](),
	reflect.TypeFor[pgtype.BitsValuer](),
	reflect.TypeFor[pgtype.BoolScanner](),
	reflect.TypeFor[pgtype.BoolValuer](),
	reflect.TypeFor[pgtype.BoxScanner](),
	reflect.TypeFor[pgtype.BoxValuer](),
	reflect.TypeFor[pgtype.BytesScanner](),
	reflect.TypeFor[pgtype.BytesValuer](),
	reflect.TypeFor[pgtype.CircleScanner](),
	reflect.TypeFor[pgtype.CircleValuer](),
	reflect.TypeFor[pgtype.CompositeIndexGetter](),
	reflect.TypeFor[pgtype.CompositeIndexScanner](),
	reflect.TypeFor[pgtype.DateScanner](),
	reflect.TypeFor[pgtype.DateValuer](),
	reflect.TypeFor[pgtype.Float64Scanner](),
	reflect.TypeFor[pgtype.Float64Valuer](),
	reflect.TypeFor[pgtype.HstoreScanner](),
	reflect.TypeFor[pgtype.HstoreValuer](),
	reflect.TypeFor[pgtype.Int64Scanner](),
	reflect.TypeFor[pgtype.Int64Valuer](),
	reflect.TypeFor[pgtype.IntervalScanner](),
	reflect.TypeFor[pgtype.IntervalValuer](),
	reflect.TypeFor[pgtype.LineScanner](),
	reflect.TypeFor[pgtype.LineValuer](),
	reflect.TypeFor[pgtype.LsegScanner](),
	reflect.TypeFor[pgtype.LsegValuer](),
	reflect.TypeFor[pgtype.MultirangeGetter](),
	reflect.TypeFor[pgtype.MultirangeSetter](),
	reflect.TypeFor[pgtype.NetipPrefixScanner](),
	reflect.TypeFor[pgtype.NetipPrefixValuer](),
	reflect.TypeFor[pgtype.NumericScanner](),
	reflect.TypeFor[pgtype.NumericValuer](),
	reflect.TypeFor[pgtype.PathScanner](),
	reflect.TypeFor[pgtype.PathValuer](),
	reflect.TypeFor[pgtype.PointScanner](),
	reflect.TypeFor[pgtype.PointValuer](),
	reflect.TypeFor[pgtype.PolygonScanner](),
	reflect.TypeFor[pgtype.PolygonValuer](),
	reflect.TypeFor[pgtype.RangeScanner](),
	reflect.TypeFor[pgtype.RangeValuer](),
	reflect.TypeFor[pgtype.TIDScanner](),
	reflect.TypeFor[pgtype.TIDValuer](),
	reflect.TypeFor[pgtype.TextScanner](),
	reflect.TypeFor[pgtype.TextValuer](),
	reflect.TypeFor[pgtype.TimeScanner](),
	reflect.TypeFor[pgtype.TimeValuer](),
	reflect.TypeFor[pgtype.TimestampScanner](),
	reflect.TypeFor[pgtype.TimestampValuer](),
	reflect.TypeFor[pgtype.TimestamptzScanner](),
	reflect.TypeFor[pgtype.TimestamptzValuer](),
	reflect.TypeFor[pgtype.TSVectorScanner](),
	reflect.TypeFor[pgtype.TSVectorValuer](),
	reflect.TypeFor[pgtype.Uint32Scanner](),
	reflect.TypeFor[pgtype.Uint32Valuer](),
	reflect.TypeFor[pgtype.Uint64Scanner](),
	reflect.TypeFor[pgtype.Uint64Valuer](),
	reflect.TypeFor[pgtype.UUIDScanner](),
	reflect.TypeFor[pgtype.UUIDValuer](),
}

// IsScalar reports whether a value of type t is one parameter or one column, rather than
// a struct of them.
func IsScalar(t reflect.Type) bool {
	if t.Kind() != reflect.Struct || t == reflect.TypeFor[time.Time]() {
		return true
	}
	// The types of these packages implement none of the interfaces: pgx knows them by name.
	return slices.ContainsFunc(ScalarInterfaces, reflect.PointerTo(t).Implements) ||
		slices.Contains([]string{"net/netip", "math/big", "net", "net/url"}, t.PkgPath())
}

// Unsupported says why no value of type t can be a parameter or a column, or "".
func Unsupported(t reflect.Type) string {
	for depth := 0; depth < 32 && (t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice || t.Kind() == reflect.Array); depth++ {
		t = t.Elem()
	}
	switch t.Kind() {
	case reflect.Chan, reflect.Func, reflect.UnsafePointer, reflect.Complex64, reflect.Complex128, reflect.Uintptr:
		return t.String() + " has no PostgreSQL type"
	case reflect.Pointer, reflect.Slice, reflect.Array: // type Tree []Tree
		return t.String() + " is made of itself alone, and has no PostgreSQL type"
	}
	return ""
}

// Unreadable says why no value of type t can be read from a column, or "".
func Unreadable(t reflect.Type) string {
	if why := Unsupported(t); why != "" {
		return why
	}
	why := ""
	Contains(t, func(t reflect.Type) bool {
		if t == reflect.TypeFor[pgtype.DriverBytes]() || t == reflect.TypeFor[sql.RawBytes]() {
			why = t.String() + " is memory of the connection, which the next message overwrites: use []byte"
		}
		return why != ""
	})
	return why
}
