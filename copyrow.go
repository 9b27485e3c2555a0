package pgcmd

import (
	"context"
	"database/sql/driver"
	"encoding/binary"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
)

// A rowEncoder encodes one row after the other, by pointers to the fields of the
// only Row that it holds.
type rowEncoder[Row any] struct {
	row      Row
	columns  []copyColumn
	pointers []any // pointers[i] is to the field of column i, as its encoder takes it
	grows    bool  // they are good for one row only
}

func newRowEncoder[Row any](columns []copyColumn, grows bool) *rowEncoder[Row] {
	e := &rowEncoder[Row]{columns: columns, pointers: make([]any, len(columns)), grows: grows}
	e.point()
	return e
}

func (e *rowEncoder[Row]) point() {
	row := reflect.ValueOf(&e.row).Elem()
	for i := range e.columns {
		c := &e.columns[i]
		p := pointer(row, c.field.index, false)
		if p != nil && c.takes != nil {
			p = reflect.ValueOf(p).Convert(c.takes).Interface()
		}
		e.pointers[i] = p
	}
}

// append appends the row to buf.
func (e *rowEncoder[Row]) append(buf []byte) ([]byte, *Error) {
	if e.grows {
		e.point()
	}
	buf = binary.BigEndian.AppendUint16(buf, uint16(len(e.columns)))
	for i := range e.columns {
		p := e.pointers[i]
		if p == nil {
			return nil, rowRefused(refusedValue(e.columns[i].field.path, "required", "is in an embedded struct whose pointer is nil", nil))
		}
		var err error
		if buf, err = e.columns[i].encode(buf, p); err != nil {
			return nil, e.columns[i].refused(err)
		}
	}
	return buf, nil
}

func rowRefused(e *Error) *Error {
	e.Message = "the row was refused"
	return e
}

// A copyColumn is a column and the field that fills it.
type copyColumn struct {
	field  field
	name   string
	oid    uint32
	typ    string       // the type's name, for a message
	takes  reflect.Type // the type to which the pointer to the field is converted; nil if as it is
	encode encoder
}

// An encoder appends the value that p points to, with its length before it.
type encoder func(buf []byte, p any) ([]byte, error)

// refused is the error of a value that cannot be encoded.
func (c *copyColumn) refused(err error) *Error {
	if e, ok := err.(*Error); ok && e.Effect == NotApplied && len(e.Problems) == 1 { // made here
		return rowRefused(e)
	}
	return rowRefused(refusedValue(c.field.path, "encode", fmt.Sprintf("does not fit the type of column %q (%s)", c.name, c.typ), err))
}

// outOfRange is the error of a number or a time that the column's type cannot hold.
func (c *copyColumn) outOfRange() error {
	return refusedValue(c.field.path, "range", fmt.Sprintf("is out of the range of column %q (%s)", c.name, c.typ), nil)
}

// plan chooses the encoder. textual says that the type, if pgx does not know it, is
// text in binary too.
func (c *copyColumn) plan(types *pgtype.Map, textual bool) *Error {
	var codec pgtype.Codec
	if t, ok := types.TypeForOID(c.oid); ok {
		codec, c.typ = t.Codec, t.Name
	} else {
		c.typ = fmt.Sprintf("type %d", c.oid)
		if textual {
			codec = pgtype.TextCodec{}
		}
		if !textual && !c.knowsBinary() || textual && isNumberOrTime(c.field.typ) {
			return &Error{Code: CodeInternal, Effect: NotApplied, Column: c.name,
				Message: fmt.Sprintf("column %q is of a type that pgx does not know (%d), and field %s (%s) cannot be put into it: register the type with the connection (pgx.Conn.LoadType), or leave the column out",
					c.name, c.oid, c.field.path, c.field.typ)}
		}
	}
	if d := c.direct(codec); d != nil {
		typ := c.field.typ
		switch {
		case typ == d.typ():
			c.encode = d.plain()
			return nil
		case typ == reflect.PointerTo(d.typ()):
			c.encode = d.nullable()
			return nil
		case typ.NumMethod() == 0 && reflect.PointerTo(typ).NumMethod() == 0 && reflect.PointerTo(typ).ConvertibleTo(reflect.PointerTo(d.typ())):
			c.encode, c.takes = d.plain(), reflect.PointerTo(d.typ()) // type UserID int64, say
			return nil
		}
	}
	c.encode = c.planned(types)
	return nil
}

// knowsBinary reports whether the field's values may be the binary form of a type
// that is not known here.
func (c *copyColumn) knowsBinary() bool {
	t := c.field.typ
	return t == reflect.TypeFor[[]byte]() || t == reflect.TypeFor[*[]byte]() ||
		reflect.PointerTo(t).Implements(reflect.TypeFor[driver.Valuer]())
}

// isNumberOrTime reports whether pgx, not knowing a column's type, would encode t
// as a type of its own choice that is not text.
func isNumberOrTime(t reflect.Type) bool {
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t.NumMethod() > 0 && t != reflect.TypeFor[time.Time]() {
		return false
	}
	return t.Kind() >= reflect.Bool && t.Kind() <= reflect.Float64 || t == reflect.TypeFor[time.Time]()
}

// textualTypes finds those types of columns that pgx does not know whose binary
// form is their text: enums, citext. It asks the server, but not often.
func textualTypes(ctx context.Context, conn *pgx.Conn, columns []copyColumn) (map[uint32]bool, error) {
	var unknown []string
	var known map[uint32]bool
	for _, c := range columns {
		if _, ok := conn.TypeMap().TypeForOID(c.oid); ok {
			continue
		}
		if known == nil {
			data := conn.PgConn().CustomData()
			if known, _ = data["pgcmd.textual"].(map[uint32]bool); known == nil || len(known) >= maxKnown {
				known = map[uint32]bool{}
				data["pgcmd.textual"] = known
			}
		}
		if _, ok := known[c.oid]; !ok {
			known[c.oid] = false
			unknown = append(unknown, fmt.Sprint(c.oid))
		}
	}
	if len(unknown) == 0 {
		return known, nil
	}
	const sql = `select t.oid::int8 from pg_catalog.pg_type t join pg_catalog.pg_proc p on p.oid = t.typreceive
		where t.oid = any ($1::oid[]) and p.prosrc in ('enum_recv', 'textrecv', 'varcharrecv', 'bpcharrecv', 'namerecv')`
	result := conn.PgConn().ExecParams(ctx, sql, [][]byte{[]byte("{" + strings.Join(unknown, ",") + "}")}, nil, nil, []int16{pgx.BinaryFormatCode}).Read()
	if result.Err != nil {
		delete(conn.PgConn().CustomData(), "pgcmd.textual")
		return nil, result.Err
	}
	for _, row := range result.Rows {
		known[uint32(binary.BigEndian.Uint64(row[0]))] = true
	}
	return known, nil
}

// planned encodes by pgtype's plans, as pgx does.
func (c *copyColumn) planned(types *pgtype.Map) encoder {
	typ := c.field.typ
	elem := typ
	if elem.Kind() == reflect.Pointer {
		elem = elem.Elem()
	}
	isText, dynamic := elem.Kind() == reflect.String, elem.Kind() == reflect.Interface
	// A plan is the type's, and serves every value of it.
	var plan pgtype.EncodePlan
	if !dynamic {
		plan = types.PlanEncode(c.oid, pgtype.BinaryFormatCode, reflect.Zero(typ).Interface())
	}
	return func(buf []byte, p any) ([]byte, error) {
		v := reflect.ValueOf(p).Elem()
		value := v.Interface()
		if isText || dynamic {
			text := v
			for text.Kind() == reflect.Pointer || text.Kind() == reflect.Interface {
				text = text.Elem() // of nil: an invalid Value, of Kind Invalid
			}
			if text.Kind() == reflect.String {
				if e := checkText(text.String(), c.field.path); e != nil {
					return nil, e
				}
			}
		}
		start := len(buf)
		buf = appendNull(buf)
		var encoded []byte
		err := errNoPlan
		switch {
		case dynamic || nilable(v) && v.IsNil():
			encoded, err = types.Encode(c.oid, pgtype.BinaryFormatCode, value, buf) // knows what nil means to each type
		case plan != nil:
			encoded, err = plan.Encode(value, buf)
		}
		if err != nil {
			var ok bool
			if encoded, ok = c.byText(types, value, buf); !ok {
				return nil, err
			}
		}
		if encoded == nil {
			return buf, nil // NULL
		}
		return setLength(encoded, start)
	}
}

var errNoPlan = errors.New("there is no way to encode the value as the column's type")

// byText encodes a value whose text is what the column's type reads, as pgx does:
// the string "1.5" into a numeric column.
func (c *copyColumn) byText(types *pgtype.Map, value any, buf []byte) ([]byte, bool) {
	text, ok := value.(string)
	if !ok {
		b, err := types.Encode(c.oid, pgtype.TextFormatCode, value, nil)
		if err != nil || b == nil {
			return nil, false
		}
		text = string(b)
	}
	if t, ok := types.TypeForOID(c.oid); ok {
		if _, ok := t.Codec.(*pgtype.ArrayCodec); ok {
			var array pgtype.Array[any] // keeps the dimensions
			if types.Scan(c.oid, pgtype.TextFormatCode, []byte(text), &array) == nil {
				encoded, err := types.Encode(c.oid, pgtype.BinaryFormatCode, array, buf)
				return encoded, err == nil
			}
		}
	}
	var scanned any
	if types.Scan(c.oid, pgtype.TextFormatCode, []byte(text), &scanned) != nil {
		return nil, false
	}
	encoded, err := types.Encode(c.oid, pgtype.BinaryFormatCode, scanned, buf)
	return encoded, err == nil
}

func nilable(v reflect.Value) bool {
	switch v.Kind() {
	case reflect.Map, reflect.Pointer, reflect.Slice:
		return true
	}
	return false
}
