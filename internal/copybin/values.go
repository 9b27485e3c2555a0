package copybin

import (
	"encoding/binary"
	"math"
	"reflect"
	"time"

	"github.com/jackc/pgx/v5/pgtype"

	"github.com/pgcmd/pgcmd/internal/typemap"
)

// direct returns the direct encoding of the column's type, if the field's kind has
// one: without an interface, a plan or an allocation between the field and the
// buffer. It is for pgtype's own codecs: another one that the user has registered is used as it is.
func (c *Column) direct(codec pgtype.Codec) directEncoder {
	t := c.Field.Type
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch codec.(type) {
	case pgtype.Int2Codec:
		return integer(t.Kind(), c, 2)
	case pgtype.Int4Codec:
		return integer(t.Kind(), c, 4)
	case pgtype.Int8Codec:
		return integer(t.Kind(), c, 8)
	case pgtype.TextCodec, *pgtype.EnumCodec:
		if t.Kind() == reflect.String {
			return valueEncoder[string](c.appendText)
		}
	case pgtype.BoolCodec:
		if t.Kind() == reflect.Bool {
			return valueEncoder[bool](appendBool)
		}
	case pgtype.Float4Codec:
		if t.Kind() == reflect.Float32 {
			return valueEncoder[float32](appendFloat32)
		}
	case pgtype.Float8Codec:
		if t.Kind() == reflect.Float64 {
			return valueEncoder[float64](appendFloat64)
		}
	case pgtype.ByteaCodec:
		if t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.Uint8 {
			return valueEncoder[[]byte](appendBytes)
		}
	case *pgtype.TimestamptzCodec:
		if t == reflect.TypeFor[time.Time]() {
			return valueEncoder[time.Time](c.appendTimestamptz)
		}
	case *pgtype.TimestampCodec:
		if t == reflect.TypeFor[time.Time]() {
			return valueEncoder[time.Time](c.appendTimestamp)
		}
	case pgtype.UUIDCodec:
		if t.Kind() == reflect.Array {
			return valueEncoder[[16]byte](appendUUID)
		}
	}
	return nil
}

// A valueEncoder appends a value of one Go type. It takes a pointer, so that a large
// one is not copied.
type valueEncoder[T any] func(buf []byte, v *T) ([]byte, error)

// A directEncoder is a valueEncoder of any type.
type directEncoder interface {
	typ() reflect.Type
	plain() encodeFunc    // of a T
	nullable() encodeFunc // of a *T, where nil is NULL
}

func (e valueEncoder[T]) typ() reflect.Type { return reflect.TypeFor[T]() }

func (e valueEncoder[T]) plain() encodeFunc {
	return func(buf []byte, p any) ([]byte, error) { return e(buf, p.(*T)) }
}

func (e valueEncoder[T]) nullable() encodeFunc {
	return func(buf []byte, p any) ([]byte, error) {
		v := *p.(**T)
		if v == nil {
			return appendNull(buf), nil
		}
		return e(buf, v)
	}
}

func integer(kind reflect.Kind, c *Column, size int) directEncoder {
	switch kind {
	case reflect.Int:
		return intEncoder[int](c, size)
	case reflect.Int8:
		return intEncoder[int8](c, size)
	case reflect.Int16:
		return intEncoder[int16](c, size)
	case reflect.Int32:
		return intEncoder[int32](c, size)
	case reflect.Int64:
		return intEncoder[int64](c, size)
	case reflect.Uint8:
		return intEncoder[uint8](c, size)
	case reflect.Uint16:
		return intEncoder[uint16](c, size)
	case reflect.Uint32:
		return intEncoder[uint32](c, size)
	}
	return nil
}

func intEncoder[T int | int8 | int16 | int32 | int64 | uint8 | uint16 | uint32](c *Column, size int) directEncoder {
	switch size {
	case 2:
		return valueEncoder[T](func(buf []byte, v *T) ([]byte, error) {
			n := int64(*v)
			if int64(int16(n)) != n {
				return nil, c.outOfRange()
			}
			return append(buf, 0, 0, 0, 2, byte(n>>8), byte(n)), nil
		})
	case 4:
		return valueEncoder[T](func(buf []byte, v *T) ([]byte, error) {
			n := int64(*v)
			if int64(int32(n)) != n {
				return nil, c.outOfRange()
			}
			return append(buf, 0, 0, 0, 4, byte(n>>24), byte(n>>16), byte(n>>8), byte(n)), nil
		})
	}
	return valueEncoder[T](func(buf []byte, v *T) ([]byte, error) {
		return append64(buf, uint64(*v)), nil
	})
}

func append64(buf []byte, n uint64) []byte {
	return append(buf, 0, 0, 0, 8,
		byte(n>>56), byte(n>>48), byte(n>>40), byte(n>>32), byte(n>>24), byte(n>>16), byte(n>>8), byte(n))
}

func (c *Column) appendText(buf []byte, v *string) ([]byte, error) {
	if why := typemap.NotText(*v); why != "" {
		return nil, c.notText(why)
	}
	buf = binary.BigEndian.AppendUint32(buf, uint32(len(*v)))
	return append(buf, *v...), nil
}

func appendBool(buf []byte, v *bool) ([]byte, error) {
	if *v {
		return append(buf, 0, 0, 0, 1, 1), nil
	}
	return append(buf, 0, 0, 0, 1, 0), nil
}

func appendFloat32(buf []byte, v *float32) ([]byte, error) {
	return binary.BigEndian.AppendUint32(append(buf, 0, 0, 0, 4), math.Float32bits(*v)), nil
}

func appendFloat64(buf []byte, v *float64) ([]byte, error) {
	return append64(buf, math.Float64bits(*v)), nil
}

func appendBytes(buf []byte, v *[]byte) ([]byte, error) {
	if *v == nil {
		return appendNull(buf), nil
	}
	start := len(buf)
	return setLength(append(appendNull(buf), *v...), start), nil
}

func appendUUID(buf []byte, v *[16]byte) ([]byte, error) {
	return append(append(buf, 0, 0, 0, 16), v[:]...), nil
}

// epoch2000 is the start of 2000 in Unix seconds, from which PostgreSQL counts.
const epoch2000 = 946_684_800

func (c *Column) appendTimestamptz(buf []byte, v *time.Time) ([]byte, error) {
	return c.appendSeconds(buf, v.Unix(), v.Nanosecond())
}

// appendTimestamp takes the time as the clock shows it, in whatever zone.
func (c *Column) appendTimestamp(buf []byte, v *time.Time) ([]byte, error) {
	_, offset := v.Zone()
	return c.appendSeconds(buf, v.Unix()+int64(offset), v.Nanosecond())
}

func (c *Column) appendSeconds(buf []byte, seconds int64, nanoseconds int) ([]byte, error) {
	if seconds < typemap.MinTimestamp || seconds >= typemap.EndTimestamp {
		return nil, c.outOfRange()
	}
	return append64(buf, uint64((seconds-epoch2000)*1_000_000+int64(nanoseconds/1000))), nil
}

func appendNull(buf []byte) []byte { return append(buf, 0xff, 0xff, 0xff, 0xff) }

// setLength writes the length of what follows it at start.
func setLength(buf []byte, start int) []byte {
	binary.BigEndian.PutUint32(buf[start:], uint32(len(buf)-start-4))
	return buf
}
