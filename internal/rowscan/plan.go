package rowscan

import (
	"database/sql"
	"encoding/xml"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgtype/zeronull"

	"github.com/pgcmd/pgcmd/internal/jsonfields"
	"github.com/pgcmd/pgcmd/internal/structfields"
)

// planColumns plans how the columns of a result are read into targets. Whether a field can read
// its column is decided here, by the two types and whatever the rows hold: pgx asks only
// when it scans, and for NULL tries one type after the other, in random order. The format
// in which a column comes makes no difference either.
func (s *RowType) planColumns(types *pgtype.Map, l *Mapping, targets []any, plans []pgtype.ScanPlan) *Error {
	for i := range l.Columns {
		c := &l.Columns[i]
		if plans[i] = PlanScan(types, c.DataTypeOID, c.Format, targets[i]); plans[i] == nil {
			return s.mismatch(types, l, i)
		}
	}
	return nil
}

// PlanScan plans how a column is read into the value that target points to, or returns
// nil, if that cannot hold what the column has.
func PlanScan(types *pgtype.Map, oid uint32, format int16, target any) pgtype.ScanPlan {
	typ := reflect.TypeOf(target).Elem()
	known, _ := types.TypeForOID(oid)
	if known != nil && misreads(types, known, typ, 0) {
		return nil
	}
	if known != nil && decodesText(known, typ) {
		return markupPlan{}
	}
	plan := types.PlanScan(oid, format, target)
	usual := types.FormatCodeForOID(oid)
	if format == usual {
		if reflect.TypeOf(plan) == NoScan() {
			return nil
		}
		return withRange(plan, types, oid, format, typ)
	}
	// The server sends text to a connection that describes no statements.
	there := types.PlanScan(oid, usual, target)
	if reflect.TypeOf(there) == NoScan() {
		return nil
	}
	if base := ValueType(typ); takesText(base) || reflect.PointerTo(base).Implements(sqlScanner) {
		if _, array := known.Codec.(*pgtype.ArrayCodec); !array {
			return &usualPlan{types: types, known: known, usual: usual, there: there, here: plan}
		}
	}
	if reflect.TypeOf(plan) == NoScan() {
		return nil
	}
	return withRange(plan, types, oid, format, typ)
}

// NoScan is the type of pgx's plan for what cannot be scanned, which has no name outside
// of it.
var NoScan = sync.OnceValue(func() reflect.Type {
	return reflect.TypeOf(pgtype.NewMap().PlanScan(pgtype.BoolOID, pgtype.BinaryFormatCode, new(chan int)))
})

var (
	sqlScanner  = reflect.TypeFor[sql.Scanner]()
	textScanner = reflect.TypeFor[pgtype.TextScanner]()
)

// takesText reports whether a value of type t is a text: a string of any name, and what
// says so or holds one.
func takesText(t reflect.Type) bool {
	if t.Kind() == reflect.String || reflect.PointerTo(t).Implements(textScanner) {
		return true
	}
	return t.PkgPath() == "database/sql" && t.Kind() == reflect.Struct && t.Field(0).Type.Kind() == reflect.String
}

// misreads reports whether a value of type t would be given something else than what the
// column means: its binary form, which pgx gives to a text and to a sql.Scanner for types
// that it has no better form of, or within an array what is left of JSON or XML without
// its markup. What pgx cannot plan before it meets a value, the fields of a composite, is
// looked at too.
func misreads(types *pgtype.Map, known *pgtype.Type, t reflect.Type, depth int) bool {
	t = ValueType(t)
	if depth > 8 {
		return false
	}
	text := takesText(t)
	pointer := reflect.PointerTo(t)
	switch codec := known.Codec.(type) {
	case pgtype.BoolCodec, pgtype.DateCodec, *pgtype.TimestampCodec, *pgtype.TimestamptzCodec:
		return t == reflect.TypeFor[pgtype.Text]() || t == reflect.TypeFor[zeronull.Text]()
	case pgtype.ByteaCodec:
		return text && !pointer.Implements(reflect.TypeFor[pgtype.BytesScanner]())
	case *pgtype.JSONCodec, *pgtype.JSONBCodec, *pgtype.XMLCodec:
		return depth > 0 && decodesText(known, t)
	case *pgtype.ArrayCodec:
		if own, ok := reflect.New(t).Interface().(pgtype.ArraySetter); ok {
			elem := reflect.TypeOf(own.ScanIndexType())
			return elem != nil && elem.Kind() == reflect.Pointer && misreads(types, codec.ElementType, elem, depth+1)
		}
		if pointer.Implements(sqlScanner) {
			return true
		}
		for t.Kind() == reflect.Slice || t.Kind() == reflect.Array { // of several dimensions
			if jsonfields.IsBase64(t) && t.Kind() == reflect.Slice {
				break
			}
			t = t.Elem()
		}
		return t.Kind() != reflect.Interface && misreads(types, codec.ElementType, t, depth+1)
	case *pgtype.RangeCodec:
		return (text || pointer.Implements(sqlScanner)) && !pointer.Implements(reflect.TypeFor[pgtype.RangeScanner]())
	case *pgtype.MultirangeCodec:
		return (text || pointer.Implements(sqlScanner)) && !pointer.Implements(reflect.TypeFor[pgtype.MultirangeSetter]())
	case pgtype.RecordCodec:
		return (text || pointer.Implements(sqlScanner)) && !pointer.Implements(reflect.TypeFor[pgtype.CompositeIndexScanner]())
	case *pgtype.CompositeCodec:
		if pointer.Implements(reflect.TypeFor[pgtype.CompositeIndexScanner]()) {
			return false
		}
		if text || pointer.Implements(sqlScanner) {
			return true
		}
		return t.Kind() == reflect.Struct && !fieldsRead(types, codec, t, depth)
	}
	return false
}

// fieldsRead reports whether the exported fields of a struct, in order, can read the
// fields of a composite: all of them.
func fieldsRead(types *pgtype.Map, codec *pgtype.CompositeCodec, t reflect.Type, depth int) bool {
	fields := codec.Fields
	for i := range t.NumField() {
		if !t.Field(i).IsExported() {
			continue
		}
		if len(fields) == 0 {
			break
		}
		known, typ := fields[0].Type, t.Field(i).Type
		fields = fields[1:]
		plan := types.PlanScan(known.OID, types.FormatCodeForOID(known.OID), reflect.New(typ).Interface())
		if reflect.TypeOf(plan) == NoScan() || misreads(types, known, typ, depth+1) {
			return false
		}
	}
	return len(fields) == 0
}

// decodesText reports whether pgx would decode JSON or XML into a string that has a name,
// which it does not do to one that has none.
func decodesText(known *pgtype.Type, t reflect.Type) bool {
	t = ValueType(t)
	if t.Kind() != reflect.String || t == reflect.TypeFor[string]() {
		return false
	}
	own := []reflect.Type{sqlScanner, textScanner, reflect.TypeFor[pgtype.BytesScanner](), jsonfields.TextUnmarshaler}
	switch known.Codec.(type) {
	case *pgtype.JSONCodec, *pgtype.JSONBCodec:
		own = append(own, jsonfields.Unmarshaler)
	case *pgtype.XMLCodec:
		own = append(own, reflect.TypeFor[xml.Unmarshaler]())
	default:
		return false
	}
	return !slices.ContainsFunc(own, reflect.PointerTo(t).Implements)
}

// A markupPlan reads JSON and XML as text into a string that has a name, behind any
// number of pointers.
type markupPlan struct{}

func (markupPlan) Scan(src []byte, target any) error {
	v := reflect.ValueOf(target).Elem()
	for ; v.Kind() == reflect.Pointer; v = v.Elem() {
		if src == nil {
			v.SetZero()
			return nil
		}
		v.Set(reflect.New(v.Type().Elem()))
	}
	if src == nil {
		return errNull
	}
	v.SetString(string(src))
	return nil
}

var errNull = errors.New("cannot scan NULL into a string")

// A usualPlan reads a text as if the value had come in the format in which it usually
// does, since the two are not the same text for every type.
type usualPlan struct {
	types *pgtype.Map
	known *pgtype.Type
	usual int16
	there pgtype.ScanPlan // for the usual format
	here  pgtype.ScanPlan // for the text
}

func (p *usualPlan) Scan(src []byte, target any) error {
	if src == nil {
		return p.there.Scan(nil, target)
	}
	value, err := p.known.Codec.DecodeValue(p.types, p.known.OID, pgtype.TextFormatCode, src)
	if err != nil {
		return err
	}
	raw, err := p.types.Encode(p.known.OID, p.usual, value, nil)
	if err != nil || raw == nil {
		return p.here.Scan(src, target)
	}
	return p.there.Scan(raw, target)
}

// Check reports what is wrong with the columns of a statement that was described, before
// it is sent. What it found right last is not checked again.
func (s *RowType) Check(types *pgtype.Map, columns []pgconn.FieldDescription) *Error {
	if last := s.read.Load(); last != nil && last.types == types && last.first == &columns[0] {
		return nil
	}
	l, err := s.mapColumns(columns)
	if err != nil {
		return err
	}
	if s.Kind != Map {
		for i, f := range l.fields {
			oid := columns[i].DataTypeOID
			if PlanScan(types, oid, types.FormatCodeForOID(oid), reflect.New(f.Type).Interface()) == nil {
				return s.mismatch(types, l, i)
			}
		}
	}
	s.read.Store(&readable{types, &columns[0]})
	return nil
}

// readable says which columns a row type can read on which connection.
type readable struct {
	types *pgtype.Map
	first *pgconn.FieldDescription
}

// mismatch is the error of a column whose type its field cannot read.
func (s *RowType) mismatch(types *pgtype.Map, l *Mapping, column int) *Error {
	c, f := &l.Columns[column], l.fields[column]
	advice := "cast the column to text in the SQL"
	if _, known := types.TypeForOID(c.DataTypeOID); !known && c.DataTypeOID >= FirstUserOID {
		advice = "add the type to Config.Types, or call Pool.Reset if it is there, or make it a string and cast the column to text in the SQL"
	} else if base := ValueType(f.Type); !takesText(base) {
		advice = "make it " + goType(types, c.DataTypeOID)
		if advice != "make it string" {
			advice += ", or a string and cast the column to text in the SQL"
		}
	}
	e := newError(c.Name, "column %q (%s) does not fit %s (%s): %s", c.Name, sqlTypeName(types, c.DataTypeOID), s.where(f), f.Type, advice)
	return e
}

// where names a field as the Go code does.
func (s *RowType) where(f structfields.Field) string {
	if s.Kind == Scalar {
		return "the row"
	}
	return strings.TrimPrefix(structfields.Called(s.Type, "row", f.Path), "field ")
}

// valueError is the error of one value that its field cannot take, though the types fit.
func (s *RowType) valueError(types *pgtype.Map, l *Mapping, column int, null bool, err error) *Error {
	c, f := &l.Columns[column], l.fields[column]
	typ, where := sqlTypeName(types, c.DataTypeOID), s.where(f)
	var e *Error
	if null {
		e = newError(c.Name, "column %q (%s) is NULL, and %s (%s) cannot hold that: make it *%s, or use coalesce", c.Name, typ, where, f.Type, f.Type)
	} else {
		e = newError(c.Name, "column %q (%s) has a value that does not fit %s (%s): use a type that holds every value of the column", c.Name, typ, where, f.Type)
	}
	e.Err = err
	return e
}

// sqlTypeName is what PostgreSQL calls a type.
func sqlTypeName(types *pgtype.Map, oid uint32) string {
	if t, ok := types.TypeForOID(oid); ok {
		if elem, ok := strings.CutPrefix(t.Name, "_"); ok {
			return elem + "[]"
		}
		return t.Name
	}
	if name := OtherTypes[oid]; name != "" {
		return name
	}
	return fmt.Sprintf("type %d", oid)
}

// OtherTypes are the types of PostgreSQL's own that pgx does not know, and has as text.
// Those with a line before their name are arrays.
var OtherTypes = map[uint32]string{
	22: "int2vector", 24: "regproc", 30: "oidvector", 194: "pg_node_tree", 775: "_macaddr8", 790: "money", 791: "_money", 1006: "_int2vector", 1008: "_regproc", 1013: "_oidvector",
	1263: "_cstring", 1266: "timetz", 1270: "_timetz", 1790: "refcursor", 2201: "_refcursor", 2202: "regprocedure", 2203: "regoper",
	2204: "regoperator", 2205: "regclass", 2206: "regtype", 2207: "_regprocedure", 2208: "_regoper", 2209: "_regoperator",
	2210: "_regclass", 2211: "_regtype", 2275: "cstring", 2278: "void", 2949: "_txid_snapshot", 2970: "txid_snapshot", 3220: "pg_lsn",
	3221: "_pg_lsn", 3615: "tsquery", 3642: "gtsvector", 3644: "_gtsvector", 3645: "_tsquery", 3734: "regconfig", 3735: "_regconfig",
	3769: "regdictionary", 3770: "_regdictionary", 4089: "regnamespace", 4090: "_regnamespace", 4096: "regrole", 4097: "_regrole",
	4191: "regcollation", 4192: "_regcollation", 5038: "pg_snapshot", 5039: "_pg_snapshot", 6150: "_int4multirange",
	6151: "_nummultirange", 6152: "_tsmultirange", 6153: "_tstzmultirange", 6155: "_datemultirange", 6157: "_int8multirange",
}

// goType names a Go type that a column of a type of PostgreSQL fits, for a message.
func goType(types *pgtype.Map, oid uint32) string {
	known, ok := types.TypeForOID(oid)
	if !ok {
		return "a type that has a Scan method"
	}
	switch codec := known.Codec.(type) {
	case *pgtype.ArrayCodec:
		if elem := goType(types, codec.ElementType.OID); !strings.Contains(elem, " ") {
			return "[]" + elem
		}
		return "a slice of " + goType(types, codec.ElementType.OID)
	case *pgtype.RangeCodec:
		return "pgtype.Range[" + goType(types, codec.ElementType.OID) + "]"
	case *pgtype.MultirangeCodec:
		return "pgtype.Multirange[" + goType(types, codec.ElementType.OID) + "]"
	case *pgtype.CompositeCodec, pgtype.RecordCodec:
		return "a struct with a field for each attribute"
	case *pgtype.EnumCodec, *pgtype.XMLCodec, pgtype.TextCodec, *pgtype.TextFormatOnlyCodec, pgtype.QCharCodec, pgtype.LtreeCodec:
		return "string"
	case *pgtype.JSONCodec, *pgtype.JSONBCodec:
		return "json.RawMessage"
	case pgtype.ByteaCodec:
		return "[]byte"
	}
	if t := goTypes[oid]; t != "" {
		return t
	}
	return "a type for it"
}

var goTypes = map[uint32]string{
	pgtype.BoolOID: "bool", pgtype.Int2OID: "int16", pgtype.Int4OID: "int32", pgtype.Int8OID: "int64", pgtype.Float4OID: "float32",
	pgtype.Float8OID: "float64", pgtype.NumericOID: "pgtype.Numeric", pgtype.DateOID: "time.Time", pgtype.TimestampOID: "time.Time",
	pgtype.TimestamptzOID: "time.Time", pgtype.TimeOID: "pgtype.Time", pgtype.IntervalOID: "pgtype.Interval",
	pgtype.UUIDOID: "pgtype.UUID", pgtype.InetOID: "netip.Prefix", pgtype.CIDROID: "netip.Prefix", pgtype.MacaddrOID: "net.HardwareAddr",
	pgtype.Macaddr8OID: "net.HardwareAddr", pgtype.BitOID: "pgtype.Bits", pgtype.VarbitOID: "pgtype.Bits", pgtype.PointOID: "pgtype.Point",
	pgtype.LineOID: "pgtype.Line", pgtype.LsegOID: "pgtype.Lseg", pgtype.BoxOID: "pgtype.Box", pgtype.PathOID: "pgtype.Path",
	pgtype.PolygonOID: "pgtype.Polygon", pgtype.CircleOID: "pgtype.Circle", pgtype.TSVectorOID: "pgtype.TSVector", pgtype.OIDOID: "uint32",
	pgtype.XIDOID: "uint32", pgtype.CIDOID: "uint32", pgtype.XID8OID: "uint64", pgtype.OID8OID: "uint64", pgtype.TIDOID: "pgtype.TID",
}

// ValueType is the type of the value that a pointer stands for.
func ValueType(typ reflect.Type) reflect.Type {
	for typ.Kind() == reflect.Pointer {
		typ = typ.Elem()
	}
	return typ
}
