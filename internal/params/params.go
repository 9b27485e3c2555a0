// Package params encodes the arguments of a statement for its Bind message. It does not know
// what is sent.
package params

import (
	"encoding/binary"
	"errors"
	"math"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
)

// An Encoder holds the encoded arguments of one statement, until the next call of Build. The zero
// value is ready to use.
//
// It encodes as [pgx.ExtendedQueryBuilder] does, which looks up a plan for each argument: if all
// are of the commonest types, they are encoded without.
type Encoder struct {
	pgx.ExtendedQueryBuilder
	bytes   []byte
	formats struct { // that ResultFormats holds
		types  *pgtype.Map
		fields *pgconn.FieldDescription // the first
		count  int
	}
}

// Build encodes the arguments, and chooses the formats of the result. An error that
// [pgxerr.IsEncode] recognizes is of an argument. After an error no large argument is kept.
func (e *Encoder) Build(types *pgtype.Map, sd *pgconn.StatementDescription, args []any) (err error) {
	size := 0
	if sd != nil && e.encode(types, sd.ParamOIDs, args) {
		e.chooseResultFormats(types, sd.Fields)
		size = len(e.bytes)
	} else {
		e.formats.fields = nil
		err = e.ExtendedQueryBuilder.Build(types, sd, args)
		for _, value := range e.ParamValues {
			size += len(value)
		}
	}
	// Beside the values it has the length of each, formats, and the name of the statement.
	if size += 6*len(e.ParamValues) + 2*len(e.ResultFormats) + 128; err == nil && size > maxMessage {
		err = ErrTooLarge
	}
	if err != nil {
		e.Free()
	}
	return err
}

// ErrTooLarge is the error of arguments that do not fit into a Bind message. It has the text of
// pgproto3's, which comes when the message is written, and the connection is then closed.
var ErrTooLarge = errors.New("message body too large")

// maxMessage is how many bytes a message may have: PG_LARGE_MESSAGE_LIMIT of PostgreSQL.
const maxMessage = 1<<30 - 2

// Free gives back the memory of large arguments.
func (e *Encoder) Free() {
	clear(e.ParamValues) // pgx's reset leaves them behind its length
	if cap(e.bytes) > maxKept {
		e.bytes = nil
	}
	e.formats.fields = nil
	_ = e.ExtendedQueryBuilder.Build(nil, nil, nil)
}

// maxKept is how many bytes of memory are kept for the next arguments.
const maxKept = 4096

// chooseResultFormats is like that of pgx, which looks up the formats at each call.
func (e *Encoder) chooseResultFormats(types *pgtype.Map, fields []pgconn.FieldDescription) {
	f := &e.formats
	if len(fields) > 0 && f.fields == &fields[0] && f.types == types && f.count == len(fields) {
		return
	}
	e.ResultFormats = e.ResultFormats[:0]
	for i := range fields {
		e.ResultFormats = append(e.ResultFormats, types.FormatCodeForOID(fields[i].DataTypeOID))
	}
	if f.fields = nil; len(fields) > 0 {
		f.types, f.fields, f.count = types, &fields[0], len(fields)
	}
}

// encode encodes arguments that are all of the commonest types. It reports false if one is not,
// or cannot be encoded.
func (e *Encoder) encode(types *pgtype.Map, oids []uint32, args []any) bool {
	if len(oids) != len(args) {
		return false
	}
	e.ParamValues, e.ParamFormats, e.bytes = e.ParamValues[:0], e.ParamFormats[:0], e.bytes[:0]
	for i, arg := range args {
		if arg == nil {
			e.ParamFormats, e.ParamValues = append(e.ParamFormats, pgtype.TextFormatCode), append(e.ParamValues, nil)
			continue
		}
		known, ok := types.TypeForOID(oids[i])
		if !ok {
			return false
		}
		from, format := len(e.bytes), int16(pgtype.BinaryFormatCode)
		switch codec := known.Codec.(type) {
		case pgtype.Int8Codec:
			var n int64
			switch arg := arg.(type) {
			case int64:
				n = arg
			case int:
				n = int64(arg)
			case int32:
				n = int64(arg)
			default:
				return false
			}
			e.bytes = binary.BigEndian.AppendUint64(e.bytes, uint64(n))
		case pgtype.Int4Codec:
			var n int64
			switch arg := arg.(type) {
			case int32:
				n = int64(arg)
			case int64:
				n = arg
			case int:
				n = int64(arg)
			default:
				return false
			}
			if n != int64(int32(n)) {
				return false
			}
			e.bytes = binary.BigEndian.AppendUint32(e.bytes, uint32(n))
		case pgtype.TextCodec:
			text, ok := arg.(string)
			if !ok {
				return false
			}
			e.bytes, format = append(e.bytes, text...), pgtype.TextFormatCode
		case pgtype.BoolCodec:
			b, ok := arg.(bool)
			if !ok {
				return false
			}
			bit := byte(0)
			if b {
				bit = 1
			}
			e.bytes = append(e.bytes, bit)
		case pgtype.Float8Codec:
			x, ok := arg.(float64)
			if !ok {
				return false
			}
			e.bytes = binary.BigEndian.AppendUint64(e.bytes, math.Float64bits(x))
		case *pgtype.TimestamptzCodec:
			t, ok := arg.(time.Time)
			if !ok || codec.ScanLocation != nil {
				return false
			}
			microseconds := t.Unix()*1_000_000 + int64(t.Nanosecond())/1000 - epoch2000
			e.bytes = binary.BigEndian.AppendUint64(e.bytes, uint64(microseconds))
		default:
			return false
		}
		e.ParamFormats = append(e.ParamFormats, format)
		e.ParamValues = append(e.ParamValues, e.bytes[from:len(e.bytes):len(e.bytes)])
	}
	return true
}

// epoch2000 is the start of 2000 in microseconds of Unix time, from which PostgreSQL counts.
const epoch2000 = 946_684_800_000_000
