package pgcmd

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"reflect"

	"github.com/jackc/pgx/v5/pgtype"

	"github.com/pgcmd/pgcmd/internal/bind"
	"github.com/pgcmd/pgcmd/internal/rowscan"
	"github.com/pgcmd/pgcmd/internal/structfields"
	"github.com/pgcmd/pgcmd/internal/typemap"
)

// A rowEncoder encodes one row after the other, by pointers to the fields of the
// only Row that it holds.
type rowEncoder struct {
	row      reflect.Value
	rowPtr   any // a pointer to it
	columns  []copyColumn
	pointers []any // pointers[i] is to the field of column i, as its encoder takes it
	grows    bool  // they are good for one row only
	inText   bool  // the copy is in text, and not in binary
}

func newRowEncoder(typ reflect.Type, columns []copyColumn, grows, inText bool) *rowEncoder {
	row := reflect.New(typ)
	e := &rowEncoder{row: row.Elem(), rowPtr: row.Interface(), columns: columns, pointers: make([]any, len(columns)), grows: grows, inText: inText}
	e.point()
	return e
}

func (e *rowEncoder) point() {
	for i := range e.columns {
		c := &e.columns[i]
		p := structfields.Pointer(e.row, c.field.Index, false)
		if p != nil && c.takes != nil {
			p = reflect.ValueOf(p).Convert(c.takes).Interface()
		}
		e.pointers[i] = p
	}
}

// append appends the row to buf.
func (e *rowEncoder) append(buf []byte) ([]byte, *Error) {
	if e.grows {
		e.point()
	}
	if !e.inText {
		buf = binary.BigEndian.AppendUint16(buf, uint16(len(e.columns)))
	}
	for i := range e.columns {
		if e.inText && i > 0 {
			buf = append(buf, '\t')
		}
		p := e.pointers[i]
		if p == nil {
			return nil, rowRefused(newFieldError(e.columns[i].field.Path, "required", "must be set: the embedded struct that contains it is a nil pointer", nil))
		}
		var err error
		if buf, err = e.columns[i].encode(buf, p); err != nil {
			return nil, e.columns[i].refused(err)
		}
	}
	if e.inText {
		buf = append(buf, '\n')
	}
	return buf, nil
}

func rowRefused(e *Error) *Error {
	e.Message = "the row was refused"
	return e
}

// A copyColumn is a column and the field that fills it.
type copyColumn struct {
	field  structfields.Field
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
	return rowRefused(newFieldError(c.field.Path, "encode", fmt.Sprintf("does not fit the type of column %q (%s)", c.name, c.typ), err))
}

// cannotEncode is the error of a value that cannot be encoded: the program's, if what the value
// gives to be sent for it never can.
func (c *copyColumn) cannotEncode(t typemap.Types, value any, err error) error {
	sent := typemap.OwnType(value)
	if sent == nil || t.Encodes(c.oid, sent) {
		return err
	}
	e := newFieldError(c.field.Path, "type", t.CannotBeSent(fmt.Sprintf("%T, which gives %s,", value, sent), sent, c.oid, ""), err)
	e.Code, e.Column = CodeInternal, c.name
	return e
}

// outOfRange is the error of a number or a time that the column's type cannot hold.
func (c *copyColumn) outOfRange() error {
	return newFieldError(c.field.Path, "range", fmt.Sprintf("is out of the range of column %q (%s)", c.name, c.typ), nil)
}

// plan chooses the encoder. In a copy in text every column is.
func (c *copyColumn) plan(t typemap.Types, inText bool) *Error {
	c.typ = t.Name(c.oid)
	typ := c.field.Type
	if l := t.Unsendable(c.oid, typ); l.Why != "" {
		return &Error{Code: CodeInternal, Effect: NotApplied, Column: c.name,
			Message: fmt.Sprintf("field %s %s, or leave column %q out", c.field.Path, t.CannotBeSent(typ.String(), typ, c.oid, ""), c.name)}
	}
	known, ok := t.Known.TypeForOID(c.oid)
	if inText {
		c.encode = c.text(t, appendField)
		return nil
	}
	var codec pgtype.Codec = pgtype.TextCodec{} // of a type whose binary form is text
	if ok {
		codec = known.Codec
	}
	if d := c.direct(codec); d != nil {
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
	if ok {
		c.encode = c.planned(t)
	} else {
		c.encode = c.text(t, appendSized)
	}
	return nil
}

// text encodes a value as its text, which the server reads. In a copy in text that is
// how all are sent; in one in binary it is how those are whose binary form is text.
func (c *copyColumn) text(t typemap.Types, appendText func(buf, text []byte) []byte) encoder {
	_, known := t.Known.TypeForOID(c.oid)
	mayBeRagged := typemap.CheckOf(c.field.Type)&typemap.CheckRectangular != 0
	scratch := make([]byte, 0, 64)
	return func(buf []byte, p any) ([]byte, error) {
		v := reflect.ValueOf(p).Elem()
		value := v.Interface()
		if mayBeRagged && t.IsMisshapen(c.oid, v) {
			return nil, newFieldError(c.field.Path, "array", typemap.NotRectangular, nil)
		}
		if !known {
			var err error
			if value, err = t.AsText(c.oid, value); err != nil {
				return nil, err
			}
		}
		text, err := t.Known.Encode(c.oid, pgtype.TextFormatCode, value, scratch[:0])
		switch {
		case err != nil:
			return nil, c.cannotEncode(t, value, err)
		case text == nil:
			return appendText(buf, nil), nil
		case len(text) > math.MaxInt32:
			return nil, c.outOfRange()
		}
		if e := fieldError(bind.CheckTextBytes(text, c.field.Path)); e != nil {
			return nil, e
		}
		scratch = text
		return appendText(buf, text), nil
	}
}

// appendSized appends a value with its length before it, as a copy in binary has it.
func appendSized(buf, value []byte) []byte {
	if value == nil {
		return appendNull(buf)
	}
	return append(binary.BigEndian.AppendUint32(buf, uint32(len(value))), value...)
}

// appendField appends a value as a copy in text has it, where some bytes have a meaning.
func appendField(buf, value []byte) []byte {
	if value == nil {
		return append(buf, `\N`...)
	}
	for _, b := range value {
		switch b {
		case '\\':
			buf = append(buf, '\\', '\\')
		case '\n':
			buf = append(buf, '\\', 'n')
		case '\r':
			buf = append(buf, '\\', 'r')
		case '\t':
			buf = append(buf, '\\', 't')
		default:
			buf = append(buf, b)
		}
	}
	return buf
}

// planned encodes by pgtype's plans, as pgx does.
func (c *copyColumn) planned(t typemap.Types) encoder {
	types, typ := t.Known, c.field.Type
	dynamic := rowscan.ValueType(typ).Kind() == reflect.Interface
	known, _ := types.TypeForOID(c.oid)
	isText := typemap.IsTextCodec(known.Codec)
	mayBeRagged := typemap.CheckOf(typ)&typemap.CheckRectangular != 0
	// A plan is the type's, and serves every value of it.
	var plan pgtype.EncodePlan
	if !dynamic {
		plan = types.PlanEncode(c.oid, pgtype.BinaryFormatCode, reflect.Zero(typ).Interface())
	}
	return func(buf []byte, p any) ([]byte, error) {
		v := reflect.ValueOf(p).Elem()
		value := v.Interface()
		if mayBeRagged && t.IsMisshapen(c.oid, v) {
			return nil, newFieldError(c.field.Path, "array", typemap.NotRectangular, nil)
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
				return nil, c.cannotEncode(t, value, err)
			}
		}
		if encoded == nil {
			return buf, nil // NULL
		}
		if isText {
			if e := fieldError(bind.CheckTextBytes(encoded[start+4:], c.field.Path)); e != nil {
				return nil, e
			}
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
