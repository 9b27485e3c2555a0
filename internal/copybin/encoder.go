// Package copybin encodes the rows of a COPY, in binary or in text, and passes them to pgconn
// while it sends them. It does not know commands, validation, nor what an error says about
// the effect of a copy.
package copybin

import (
	"encoding/binary"
	"errors"
	"fmt"
	"reflect"

	"github.com/jackc/pgx/v5/pgtype"

	"github.com/pgcmd/pgcmd/internal/rowscan"
	"github.com/pgcmd/pgcmd/internal/structfields"
	"github.com/pgcmd/pgcmd/internal/typemap"
)

// An Encoder encodes one row after the other, by pointers to the fields of the
// only Row that it holds.
type Encoder struct {
	value    reflect.Value
	Row      any // a pointer to it
	columns  []Column
	pointers []any // pointers[i] is to the field of column i, as its encoder takes it
	grows    bool  // they are good for one row only
	inText   bool  // the copy is in text, and not in binary
}

func NewEncoder(typ reflect.Type, columns []Column, grows, inText bool) *Encoder {
	row := reflect.New(typ)
	e := &Encoder{value: row.Elem(), Row: row.Interface(), columns: columns, pointers: make([]any, len(columns)), grows: grows, inText: inText}
	e.point()
	return e
}

// Header returns what begins the copy.
func (e *Encoder) Header() string {
	if e.inText {
		return ""
	}
	return "PGCOPY\n\xff\r\n\x00" + "\x00\x00\x00\x00" + "\x00\x00\x00\x00"
}

// Trailer returns what ends the copy.
func (e *Encoder) Trailer() string {
	if e.inText {
		return ""
	}
	return "\xff\xff"
}

func (e *Encoder) point() {
	for i := range e.columns {
		c := &e.columns[i]
		p := structfields.Pointer(e.value, c.Field.Index, false)
		if p != nil && c.takes != nil {
			p = reflect.ValueOf(p).Convert(c.takes).Interface()
		}
		e.pointers[i] = p
	}
}

// Append appends the row to buf.
func (e *Encoder) Append(buf []byte) ([]byte, *Error) {
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
			return nil, &Error{Field: e.columns[i].Field.Path, Rule: "required", Message: "must be set: the embedded struct that contains it is a nil pointer"}
		}
		var err error
		start := len(buf)
		if buf, err = e.columns[i].encode(buf, p); err != nil {
			return nil, e.columns[i].refused(err)
		}
		if len(buf)-start > maxValue {
			return nil, &Error{Field: e.columns[i].Field.Path, Rule: "range", Message: "is too long: PostgreSQL's values have less than 1 GiB"}
		}
	}
	if e.inText {
		buf = append(buf, '\n')
	}
	return buf, nil
}

// maxValue is how many bytes a value may have with its length: MaxAllocSize of PostgreSQL.
const maxValue = 1<<30 - 1

// An Error is the error of a field that cannot be encoded. It does not hold the value, which
// err may do.
type Error struct {
	Field, Rule, Message string
	Column               string // set if no value of the field's type can be sent to it
	Err                  error  // the cause, or nil
}

func (e *Error) Error() string { return e.Field + " " + e.Message }

func (e *Error) Unwrap() error { return e.Err }

// A Column is a column and the field that fills it.
type Column struct {
	Field  structfields.Field
	Name   string
	OID    uint32
	typ    string       // the type's name, for a message
	takes  reflect.Type // the type to which the pointer to the field is converted; nil if as it is
	encode encodeFunc
}

// An encodeFunc appends the value that p points to, with its length before it.
type encodeFunc func(buf []byte, p any) ([]byte, error)

// refused is the error of a value that cannot be encoded.
func (c *Column) refused(err error) *Error {
	if e, ok := err.(*Error); ok {
		return e
	}
	return &Error{Field: c.Field.Path, Rule: "encode", Message: fmt.Sprintf("does not fit the type of column %q (%s)", c.Name, c.typ), Err: err}
}

// cannotEncode is the error of a value that cannot be encoded: the program's, if what the value
// gives to be sent for it never can.
func (c *Column) cannotEncode(t typemap.Types, value any, err error) error {
	sent := typemap.OwnType(value)
	if sent == nil || t.Encodes(c.OID, sent) {
		return err
	}
	return &Error{Field: c.Field.Path, Rule: "type", Message: t.CannotBeSent(fmt.Sprintf("%T, which gives %s,", value, sent), sent, c.OID, ""), Column: c.Name, Err: err}
}

// notText is the error of a value that is not text.
func (c *Column) notText(why string) error {
	return &Error{Field: c.Field.Path, Rule: "text", Message: why}
}

// outOfRange is the error of a number or a time that the column's type cannot hold.
func (c *Column) outOfRange() error {
	return &Error{Field: c.Field.Path, Rule: "range", Message: fmt.Sprintf("is out of the range of column %q (%s)", c.Name, c.typ)}
}

// Plan chooses the encoder. In a copy in text every column is.
func (c *Column) Plan(t typemap.Types, inText bool) *Error {
	c.typ = t.Name(c.OID)
	typ := c.Field.Type
	if l := t.Unsendable(c.OID, typ); l.Why != "" {
		return &Error{Field: c.Field.Path, Rule: "type", Message: t.CannotBeSent(typ.String(), typ, c.OID, ""), Column: c.Name}
	}
	known, ok := t.Known.TypeForOID(c.OID)
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
func (c *Column) text(t typemap.Types, appendText func(buf, text []byte) []byte) encodeFunc {
	_, known := t.Known.TypeForOID(c.OID)
	check := typemap.CheckOf(c.Field.Type)
	scratch := make([]byte, 0, 64)
	return func(buf []byte, p any) ([]byte, error) {
		v := reflect.ValueOf(p).Elem()
		value := v.Interface()
		if err := c.refuse(t, check, v); err != nil {
			return nil, err
		}
		if !known {
			var err error
			if value, err = t.AsText(c.OID, value); err != nil {
				return nil, err
			}
		}
		text, err := t.Known.Encode(c.OID, pgtype.TextFormatCode, value, scratch[:0])
		switch {
		case err != nil:
			return nil, c.cannotEncode(t, value, err)
		case text == nil:
			return appendText(buf, nil), nil
		}
		if why := typemap.BytesNotText(text); why != "" {
			return nil, c.notText(why)
		}
		scratch = text
		return appendText(buf, text), nil
	}
}

// refuse is the error of a value that pgx must not encode.
func (c *Column) refuse(t typemap.Types, check typemap.Check, v reflect.Value) error {
	if check&typemap.CheckValue != 0 {
		if why := typemap.Unencodable(v); why != "" {
			return &Error{Field: c.Field.Path, Rule: "encode", Message: why}
		}
	}
	if check&typemap.CheckRectangular != 0 && t.IsMisshapen(c.OID, v) {
		return &Error{Field: c.Field.Path, Rule: "array", Message: typemap.NotRectangular}
	}
	return nil
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
func (c *Column) planned(t typemap.Types) encodeFunc {
	types, typ := t.Known, c.Field.Type
	dynamic := rowscan.ValueType(typ).Kind() == reflect.Interface
	known, _ := types.TypeForOID(c.OID)
	isText := typemap.IsTextCodec(known.Codec)
	check := typemap.CheckOf(typ)
	// A plan is the type's, and serves every value of it.
	var plan pgtype.EncodePlan
	if !dynamic {
		plan = types.PlanEncode(c.OID, pgtype.BinaryFormatCode, reflect.Zero(typ).Interface())
	}
	return func(buf []byte, p any) ([]byte, error) {
		v := reflect.ValueOf(p).Elem()
		value := v.Interface()
		if err := c.refuse(t, check, v); err != nil {
			return nil, err
		}
		if check&typemap.CheckRange != 0 && t.IsOutOfRange(c.OID, v) {
			return nil, c.outOfRange()
		}
		start := len(buf)
		buf = appendNull(buf)
		var encoded []byte
		err := errNoPlan
		switch {
		case dynamic || nilable(v) && v.IsNil():
			encoded, err = types.Encode(c.OID, pgtype.BinaryFormatCode, value, buf) // knows what nil means to each type
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
			if why := typemap.BytesNotText(encoded[start+4:]); why != "" {
				return nil, c.notText(why)
			}
		}
		return setLength(encoded, start), nil
	}
}

var errNoPlan = errors.New("there is no way to encode the value as the column's type")

// byText encodes a value whose text is what the column's type reads, as pgx does:
// the string "1.5" into a numeric column.
func (c *Column) byText(types *pgtype.Map, value any, buf []byte) ([]byte, bool) {
	text, ok := value.(string)
	if !ok {
		b, err := types.Encode(c.OID, pgtype.TextFormatCode, value, nil)
		if err != nil || b == nil {
			return nil, false
		}
		text = string(b)
	}
	if t, ok := types.TypeForOID(c.OID); ok {
		if _, ok := t.Codec.(*pgtype.ArrayCodec); ok {
			var array pgtype.Array[any] // keeps the dimensions
			if types.Scan(c.OID, pgtype.TextFormatCode, []byte(text), &array) == nil {
				encoded, err := types.Encode(c.OID, pgtype.BinaryFormatCode, array, buf)
				return encoded, err == nil
			}
		}
	}
	var scanned any
	if types.Scan(c.OID, pgtype.TextFormatCode, []byte(text), &scanned) != nil {
		return nil, false
	}
	encoded, err := types.Encode(c.OID, pgtype.BinaryFormatCode, scanned, buf)
	return encoded, err == nil
}

func nilable(v reflect.Value) bool {
	switch v.Kind() {
	case reflect.Map, reflect.Pointer, reflect.Slice:
		return true
	}
	return false
}
