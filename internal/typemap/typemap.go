// Package typemap knows what the types of Go and of PostgreSQL can hold of each other, for
// the types of pgx's map and for those of the database's own. It does not know commands,
// nor what an error means to a caller.
//
// A type that pgx knows is sent by pgx's plan. One that it does not know (an enum, a domain,
// an extension's type, money) is sent as text, which the type's own input function reads. pgx
// would send bytes to it as bytea's text, which such a type takes for a text that begins with
// \x: so bytes are sent as they are, unless the type is bytea below a domain.
package typemap

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"encoding/json"
	"fmt"
	"net"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/pgcmd/pgcmd/internal/pgrows"
	"github.com/pgcmd/pgcmd/internal/stmtcache"
	"github.com/pgcmd/pgcmd/internal/structfields"
)

// Types knows what the types of Go and of PostgreSQL can hold of each other: pgx
// decides whether there is a way at all, and the rest is what gets lost on it.
type Types struct {
	Known *pgtype.Map
	Live  map[uint32]LiveType
}

// A LiveType describes a type that pgx does not know.
type LiveType struct {
	Name    string
	Base    uint32   // of a domain; else itself
	Elem    uint32   // the base of an array's elements; zero if it is no array
	Kind    string   // of pg_type: b, c, d, e, r
	Textual bool     // its binary form is text
	Labels  []string // of an enum, or of an array's elements
}

// Query reads types from the catalog.
func Query(ctx context.Context, conn *pgx.Conn, oids []string) (map[uint32]LiveType, error) {
	found, err := pgrows.Query(ctx, conn, `
		with recursive base as (
			select t.oid as id, t.oid, t.typtype, t.typbasetype, t.typreceive, t.typelem, t.typcategory
				from pg_catalog.pg_type t where t.oid = any ($1::oid[])
			union all
			select b.id, t.oid, t.typtype, t.typbasetype, t.typreceive, t.typelem, t.typcategory
				from base b join pg_catalog.pg_type t on t.oid = b.typbasetype where b.typtype = 'd'
		), elem as (
			select b.id, t.oid, t.typtype, t.typbasetype
				from base b join pg_catalog.pg_type t on t.oid = b.typelem where b.typtype <> 'd' and b.typcategory = 'A'
			union all
			select e.id, t.oid, t.typtype, t.typbasetype from elem e join pg_catalog.pg_type t on t.oid = e.typbasetype where e.typtype = 'd'
		)
		select b.id, pg_catalog.format_type(b.id, null), b.oid, b.typtype,
			coalesce(p.prosrc in ('enum_recv', 'textrecv', 'varcharrecv', 'bpcharrecv', 'namerecv'), false),
			array_to_string(array(select e.enumlabel from pg_catalog.pg_enum e
				where e.enumtypid = b.oid or e.enumtypid in (select m.oid from elem m where m.id = b.id) order by e.enumsortorder), e'\n'),
			coalesce((select e.oid from elem e where e.id = b.id and e.typtype <> 'd'), 0)
		from base b left join pg_catalog.pg_proc p on p.oid = b.typreceive where b.typtype <> 'd'`, oids)
	if err != nil {
		return nil, err
	}
	live := make(map[uint32]LiveType, len(found))
	for _, row := range found {
		live[pgrows.ParseOID(row[0])] = LiveType{Name: row[1], Base: pgrows.ParseOID(row[2]), Kind: row[3], Textual: row[4] == "t",
			Labels: strings.Split(row[5], "\n"), Elem: pgrows.ParseOID(row[6])}
	}
	return live, nil
}

// OfConn returns what is known of the types on a connection. It queries the server for
// those that pgx does not know, once for each connection.
func OfConn(ctx context.Context, conn *pgx.Conn, oids ...uint32) (Types, error) {
	t := Types{Known: conn.TypeMap()}
	var unknown []string
	for _, oid := range oids {
		if _, ok := t.Known.TypeForOID(oid); ok || oid == 0 {
			continue
		}
		if t.Live == nil {
			data := conn.PgConn().CustomData()
			if t.Live, _ = data["pgcmd.types"].(map[uint32]LiveType); t.Live == nil || len(t.Live) >= stmtcache.Size {
				t.Live = map[uint32]LiveType{}
				data["pgcmd.types"] = t.Live
			}
		}
		if _, ok := t.Live[oid]; !ok {
			unknown = append(unknown, fmt.Sprint(oid))
		}
	}
	if len(unknown) == 0 {
		return t, nil
	}
	found, err := Query(ctx, conn, unknown)
	for oid, live := range found {
		t.Live[oid] = live
	}
	return t, err
}

// Name is the type's name as PostgreSQL writes it.
func (t Types) Name(oid uint32) string {
	if known, ok := t.Known.TypeForOID(oid); ok {
		if elem, ok := strings.CutPrefix(known.Name, "_"); ok {
			return elem + "[]"
		}
		return known.Name
	}
	if live, ok := t.Live[oid]; ok && live.Name != "" {
		return live.Name
	}
	return fmt.Sprintf("type %d", oid)
}

// BaseOf returns the base type of a domain, as which the server describes a column of
// it; any other type as it is.
func (t Types) BaseOf(oid uint32) uint32 {
	if live, ok := t.Live[oid]; ok {
		return live.Base
	}
	return oid
}

// textual reports whether the binary form of a type that pgx does not know is its text.
func (t Types) textual(oid uint32) bool { return t.Live[oid].Textual }

// holdsBytes reports whether the type is bytea, a domain over it, or an array of them.
func (t Types) holdsBytes(oid uint32) bool {
	live := t.Live[oid]
	return slices.ContainsFunc([]uint32{oid, live.Base, live.Elem}, func(oid uint32) bool {
		return oid == pgtype.ByteaOID || oid == pgtype.ByteaArrayOID
	})
}

// Encodes reports whether pgx has a way to encode the type, in either format, as it
// would look for one.
func (t Types) Encodes(oid uint32, typ reflect.Type) bool {
	if typ.Kind() == reflect.Interface { // the value decides
		return true
	}
	return t.encodesAs(oid, pgtype.TextFormatCode, typ) || t.encodesAs(oid, pgtype.BinaryFormatCode, typ)
}

func (t Types) encodesAs(oid uint32, format int16, typ reflect.Type) bool {
	if typ.Kind() == reflect.Interface {
		return true
	}
	return t.Known.PlanEncode(oid, format, reflect.Zero(typ).Interface()) != nil
}

// ReadByServer reports whether values of the type are sent as text, which the server
// reads and not pgx, so that a copy that holds them is one in text: pgx's own reading
// of text takes less than the server's.
func (t Types) ReadByServer(oid uint32, typ reflect.Type) bool {
	for typ.Kind() == reflect.Pointer && !isValuer(typ) {
		typ = typ.Elem()
	}
	known, ok := t.Known.TypeForOID(oid)
	switch {
	case !ok:
		return !t.textual(oid)
	case !known.Codec.FormatSupported(pgtype.BinaryFormatCode):
		return true
	case typ.Kind() == reflect.Interface:
		return false
	case !t.encodesAs(oid, pgtype.BinaryFormatCode, typ):
		return t.encodesAs(oid, pgtype.TextFormatCode, typ)
	case IsTextCodec(known.Codec):
		return false
	}
	if array, ok := known.Codec.(*pgtype.ArrayCodec); ok && (typ.Kind() == reflect.Slice || typ.Kind() == reflect.Array) && !isValuer(typ) {
		return t.ReadByServer(array.ElementType.OID, t.elementOf(typ, array.ElementType.OID))
	}
	value := reflect.Zero(typ).Interface()
	if isValuer(typ) {
		switch typ.PkgPath() {
		case "github.com/jackc/pgx/v5/pgtype", "github.com/jackc/pgx/v5/pgtype/zeronull":
			_, ok := value.(pgtype.TextValuer)
			return ok && known.Codec.PlanEncode(t.Known, oid, pgtype.BinaryFormatCode, value) == nil
		case "database/sql":
			return typ == reflect.TypeFor[sql.NullString]() || strings.HasPrefix(typ.Name(), "Null[")
		}
		return known.Codec.PlanEncode(t.Known, oid, pgtype.BinaryFormatCode, value) == nil
	}
	return typ.Kind() == reflect.String && known.Codec.PlanEncode(t.Known, oid, pgtype.BinaryFormatCode, value) == nil
}

// elementOf returns what pgx takes for an element of a slice or an array that is sent as an
// array of the type elem: what is in it, or in the slices in it, which are then dimensions.
func (t Types) elementOf(typ reflect.Type, elem uint32) reflect.Type {
	inner := typ.Elem()
	if typ.Kind() != reflect.Slice || inner.Kind() != reflect.Slice {
		return inner
	}
	last := innermost(inner)
	for _, format := range []int16{pgtype.BinaryFormatCode, pgtype.TextFormatCode} {
		switch {
		case t.encodesAs(elem, format, inner):
			return inner
		case t.encodesAs(elem, format, last):
			return last
		}
	}
	return inner
}

// IsTextCodec reports whether a codec's binary form is text, or as good as that.
func IsTextCodec(codec pgtype.Codec) bool {
	switch codec.(type) {
	case pgtype.TextCodec, *pgtype.TextCodec, *pgtype.EnumCodec, *pgtype.JSONCodec, *pgtype.JSONBCodec, *pgtype.XMLCodec:
		return true
	}
	return false
}

// isValuer reports whether a value of the type says itself what is sent for it.
func isValuer(typ reflect.Type) bool {
	return typ.NumMethod() > 0 && typ.Implements(valuerType)
}

var valuerType = reflect.TypeFor[driver.Valuer]()

// AsText returns what is to be sent for a value as an SQL type that pgx does not know:
// bytes as a text, unless the type holds bytes; else the value itself. Of a value that
// says itself what is sent for it, that is taken.
func (t Types) AsText(oid uint32, value any) (any, error) {
	if t.holdsBytes(oid) {
		return value, nil
	}
	if own, isBytes, err := OwnValue(value); err != nil {
		return nil, err
	} else if isBytes {
		value = own
	}
	return t.bytesAsText(value), nil
}

// bytesAsText returns the text that bytes are, or the texts of an array of them; any
// other value as it is.
func (t Types) bytesAsText(value any) any {
	guessed, ok := t.Known.TypeForValue(value)
	if !ok {
		if b, isBytes := BytesIn(value); isBytes {
			return bytesText(b)
		}
		return value
	}
	switch guessed.OID {
	case pgtype.ByteaOID:
		b, _ := BytesIn(value)
		return bytesText(b)
	case pgtype.ByteaArrayOID:
		return textsOf(value)
	}
	return value
}

// BytesIn returns the bytes that a value is, or points to: not those of a type that says
// itself what is sent for it.
func BytesIn(value any) (b []byte, ok bool) {
	v := reflect.ValueOf(value)
	for v.Kind() == reflect.Pointer {
		if v.IsNil() || isValuer(v.Type()) {
			return nil, takenForBytea(v.Type())
		}
		v = v.Elem()
	}
	if !v.IsValid() || !takenForBytea(v.Type()) {
		return nil, false
	}
	return v.Bytes(), true
}

// takenForBytea reports whether pgx takes a value of the type for bytea where it does not know
// better.
func takenForBytea(typ reflect.Type) bool {
	for typ.Kind() == reflect.Pointer && !isValuer(typ) {
		typ = typ.Elem()
	}
	switch typ {
	case reflect.TypeFor[json.RawMessage](), reflect.TypeFor[net.IP](): // pgx takes them for json and inet
		return false
	}
	return typ.Kind() == reflect.Slice && typ.Elem() == reflect.TypeFor[byte]() && !isValuer(typ) && !typ.Implements(textValuerType)
}

var textValuerType = reflect.TypeFor[pgtype.TextValuer]()

// bytesText returns nil for nil, which is NULL.
func bytesText(b []byte) any {
	if b == nil {
		return nil
	}
	return string(b)
}

// textsOf makes texts of an array of bytes, whatever its Go type.
func textsOf(value any) any {
	v := reflect.ValueOf(value)
	for v.Kind() == reflect.Pointer {
		if v.IsNil() {
			return nil
		}
		v = v.Elem()
	}
	elements := v
	texts := pgtype.Array[*string]{Valid: true}
	if v.Kind() == reflect.Struct { // a pgtype.Array
		elements = v.FieldByName("Elements")
		texts.Dims, _ = v.FieldByName("Dims").Interface().([]pgtype.ArrayDimension)
	} else if v.IsNil() {
		return nil
	} else {
		texts.Dims = []pgtype.ArrayDimension{{Length: int32(v.Len()), LowerBound: 1}}
	}
	texts.Elements = make([]*string, elements.Len())
	for i := range texts.Elements {
		if b, ok := BytesIn(elements.Index(i).Interface()); ok && b != nil {
			text := string(b)
			texts.Elements[i] = &text
		}
	}
	return texts
}

// OwnValue returns what is sent for a value that says so itself, if that is a text or
// bytes, as database/sql's types and most of others' do: nil if it is anything else. It
// runs user code.
func OwnValue(value any) (own any, isBytes bool, err error) {
	v := reflect.ValueOf(value)
	for v.Kind() == reflect.Pointer || v.Kind() == reflect.Interface {
		if v.IsNil() { // NULL; pgx asks a nil only where the method is the pointer's own
			return nil, false, nil
		}
		if v.Kind() == reflect.Pointer && !isValuer(v.Type()) && !v.Type().Implements(textValuerType) {
			v = v.Elem()
			continue
		}
		break
	}
	if !v.IsValid() || !v.CanInterface() {
		return nil, false, nil
	}
	switch value := v.Interface().(type) {
	case pgtype.TextValuer:
		text, err := value.TextValue()
		if err != nil || !text.Valid {
			return nil, false, err
		}
		return text.String, false, nil
	case driver.Valuer:
		own, err := value.Value()
		if err != nil {
			return nil, false, err
		}
		switch own := own.(type) {
		case string:
			return own, false, nil
		case []byte:
			return own, true, nil
		case nil, int64, float64, bool, time.Time:
			return nil, false, nil
		default: // pgx takes what database/sql would not
			b, ok := BytesIn(own)
			return b, ok, nil
		}
	}
	return nil, false, nil
}

// SentByType reports whether a type has, beside Value, a method of pgtype's, which pgx
// prefers where the SQL type allows.
func SentByType(typ reflect.Type) bool {
	for _, i := range structfields.ScalarInterfaces {
		if name := i.Name(); i == valuerType || i == textValuerType || !strings.HasSuffix(name, "Valuer") && !strings.HasSuffix(name, "Getter") {
			continue
		}
		if typ.Implements(i) {
			return true
		}
	}
	return false
}
