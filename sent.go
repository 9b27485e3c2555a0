package pgcmd

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"encoding/json"
	"fmt"
	"net"
	"reflect"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/pgcmd/pgcmd/internal/stmtcache"
	"github.com/pgcmd/pgcmd/internal/structfields"
)

// This file decides how a value of a Go type is sent as a value of an SQL type: for
// statements, batches, copies and Verify alike.
//
// A type that pgx knows is sent by pgx's plan. One that it does not know (an enum, a
// domain, an extension's type, money) is sent as text, which the type's own input
// function reads. pgx would send bytes to it as bytea's text, which such a type takes
// for a text that begins with \x: so bytes are sent as they are, unless the type is
// bytea below a domain.

// types knows what the types of Go and of PostgreSQL can hold of each other: pgx
// decides whether there is a way at all, and the rest is what gets lost on it.
type types struct {
	known *pgtype.Map
	live  map[uint32]liveType
}

// A liveType is what a type of the database's own is made of.
type liveType struct {
	name    string
	base    uint32   // of a domain; else itself
	elem    uint32   // the base of an array's elements; zero if it is no array
	kind    string   // of pg_type: b, c, d, e, r
	textual bool     // its binary form is text
	labels  []string // of an enum
}

// askTypes asks the catalog for types.
func askTypes(ctx context.Context, conn *pgx.Conn, oids []string) (map[uint32]liveType, error) {
	found, err := rows(ctx, conn, `
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
			array_to_string(array(select e.enumlabel from pg_catalog.pg_enum e where e.enumtypid = b.oid order by e.enumsortorder), e'\n'),
			coalesce((select e.oid from elem e where e.id = b.id and e.typtype <> 'd'), 0)
		from base b left join pg_catalog.pg_proc p on p.oid = b.typreceive where b.typtype <> 'd'`, oids)
	if err != nil {
		return nil, err
	}
	live := make(map[uint32]liveType, len(found))
	for _, row := range found {
		live[oidOf(row[0])] = liveType{name: row[1], base: oidOf(row[2]), kind: row[3], textual: row[4] == "t",
			labels: strings.Split(row[5], "\n"), elem: oidOf(row[6])}
	}
	return live, nil
}

// typesOf returns what is known of the types on a connection. It asks the server for
// those that pgx does not know, once for each connection.
func typesOf(ctx context.Context, conn *pgx.Conn, oids ...uint32) (types, error) {
	t := types{known: conn.TypeMap()}
	var unknown []string
	for _, oid := range oids {
		if _, ok := t.known.TypeForOID(oid); ok || oid == 0 {
			continue
		}
		if t.live == nil {
			data := conn.PgConn().CustomData()
			if t.live, _ = data["pgcmd.types"].(map[uint32]liveType); t.live == nil || len(t.live) >= stmtcache.Size {
				t.live = map[uint32]liveType{}
				data["pgcmd.types"] = t.live
			}
		}
		if _, ok := t.live[oid]; !ok {
			unknown = append(unknown, fmt.Sprint(oid))
		}
	}
	if len(unknown) == 0 {
		return t, nil
	}
	found, err := askTypes(ctx, conn, unknown)
	for oid, live := range found {
		t.live[oid] = live
	}
	return t, err
}

// name is the type's name as PostgreSQL writes it.
func (t types) name(oid uint32) string {
	if known, ok := t.known.TypeForOID(oid); ok {
		if elem, ok := strings.CutPrefix(known.Name, "_"); ok {
			return elem + "[]"
		}
		return known.Name
	}
	if live, ok := t.live[oid]; ok && live.name != "" {
		return live.name
	}
	return fmt.Sprintf("type %d", oid)
}

// ofDomain returns the base type of a domain, as which the server describes a column of
// it; any other type as it is.
func (t types) ofDomain(oid uint32) uint32 {
	if live, ok := t.live[oid]; ok {
		return live.base
	}
	return oid
}

// textual reports whether the binary form of a type that pgx does not know is its text.
func (t types) textual(oid uint32) bool { return t.live[oid].textual }

// holdsBytes reports whether the type is bytea, a domain over it, or an array of them.
func (t types) holdsBytes(oid uint32) bool {
	live := t.live[oid]
	for _, oid := range []uint32{oid, live.base, live.elem} {
		if oid == pgtype.ByteaOID || oid == pgtype.ByteaArrayOID {
			return true
		}
	}
	return false
}

// encodes reports whether pgx has a way to encode the type, in either format, as it
// would look for one.
func (t types) encodes(oid uint32, typ reflect.Type) bool {
	if typ.Kind() == reflect.Interface { // the value decides
		return true
	}
	return t.encodesAs(oid, pgtype.TextFormatCode, typ) || t.encodesAs(oid, pgtype.BinaryFormatCode, typ)
}

func (t types) encodesAs(oid uint32, format int16, typ reflect.Type) bool {
	if typ.Kind() == reflect.Interface {
		return true
	}
	return t.known.PlanEncode(oid, format, reflect.Zero(typ).Interface()) != nil
}

// readByServer reports whether values of the type are sent as text, which the server
// reads and not pgx, so that a copy that holds them is one in text: pgx's own reading
// of text takes less than the server's.
func (t types) readByServer(oid uint32, typ reflect.Type) bool {
	for typ.Kind() == reflect.Pointer && !isValuer(typ) {
		typ = typ.Elem()
	}
	known, ok := t.known.TypeForOID(oid)
	switch {
	case !ok:
		return !t.textual(oid)
	case !known.Codec.FormatSupported(pgtype.BinaryFormatCode):
		return true
	case typ.Kind() == reflect.Interface:
		return false
	case !t.encodesAs(oid, pgtype.BinaryFormatCode, typ):
		return t.encodesAs(oid, pgtype.TextFormatCode, typ)
	case isTextCodec(known.Codec):
		return false
	}
	if array, ok := known.Codec.(*pgtype.ArrayCodec); ok && (typ.Kind() == reflect.Slice || typ.Kind() == reflect.Array) && !isValuer(typ) {
		return t.readByServer(array.ElementType.OID, t.elementOf(typ, array.ElementType.OID))
	}
	value := reflect.Zero(typ).Interface()
	if isValuer(typ) {
		switch typ.PkgPath() {
		case "github.com/jackc/pgx/v5/pgtype", "github.com/jackc/pgx/v5/pgtype/zeronull":
			_, ok := value.(pgtype.TextValuer)
			return ok && known.Codec.PlanEncode(t.known, oid, pgtype.BinaryFormatCode, value) == nil
		case "database/sql":
			return typ == reflect.TypeFor[sql.NullString]() || strings.HasPrefix(typ.Name(), "Null[")
		}
		return known.Codec.PlanEncode(t.known, oid, pgtype.BinaryFormatCode, value) == nil
	}
	return typ.Kind() == reflect.String && known.Codec.PlanEncode(t.known, oid, pgtype.BinaryFormatCode, value) == nil
}

// elementOf returns what pgx takes for an element of a slice or an array that is sent as an
// array of the type elem: what is in it, or in the slices in it, which are then dimensions.
func (t types) elementOf(typ reflect.Type, elem uint32) reflect.Type {
	inner := typ.Elem()
	if typ.Kind() != reflect.Slice || inner.Kind() != reflect.Slice {
		return inner
	}
	deepest := inner
	for deepest.Kind() == reflect.Slice {
		deepest = deepest.Elem()
	}
	for _, format := range []int16{pgtype.BinaryFormatCode, pgtype.TextFormatCode} {
		switch {
		case t.encodesAs(elem, format, inner):
			return inner
		case t.encodesAs(elem, format, deepest):
			return deepest
		}
	}
	return inner
}

// isTextCodec reports whether a codec's binary form is text, or as good as that.
func isTextCodec(codec pgtype.Codec) bool {
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

// asText returns what is to be sent for a value as an SQL type that pgx does not know:
// bytes as a text, unless the type holds bytes; else the value itself. Of a value that
// says itself what is sent for it, that is taken.
func (t types) asText(oid uint32, value any) (any, error) {
	if t.holdsBytes(oid) {
		return value, nil
	}
	if own, isBytes, err := ownValue(value); err != nil {
		return nil, err
	} else if isBytes {
		value = own
	}
	return t.bytesAsText(value), nil
}

// bytesAsText returns the text that bytes are, or the texts of an array of them; any
// other value as it is.
func (t types) bytesAsText(value any) any {
	guessed, ok := t.known.TypeForValue(value)
	if !ok {
		if b, isBytes := bytesIn(value); isBytes {
			return bytesText(b)
		}
		return value
	}
	switch guessed.OID {
	case pgtype.ByteaOID:
		b, _ := bytesIn(value)
		return bytesText(b)
	case pgtype.ByteaArrayOID:
		return textsOf(value)
	}
	return value
}

// bytesIn returns the bytes that a value is, or points to: not those of a type that says
// itself what is sent for it.
func bytesIn(value any) (b []byte, ok bool) {
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
		if b, ok := bytesIn(elements.Index(i).Interface()); ok && b != nil {
			text := string(b)
			texts.Elements[i] = &text
		}
	}
	return texts
}

// ownValue returns what is sent for a value that says so itself, if that is a text or
// bytes, as database/sql's types and most of others' do: nil if it is anything else. It
// runs code of the user's.
func ownValue(value any) (own any, isBytes bool, err error) {
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
			b, ok := bytesIn(own)
			return b, ok, nil
		}
	}
	return nil, false, nil
}

// sentByType reports whether a type has, beside Value, a method of pgtype's, which pgx
// prefers where the SQL type allows.
func sentByType(typ reflect.Type) bool {
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
