// Package pgrows has the rows of three kinds of reply: one that was read completely, one of a
// portal that is being read, and that of a statement that failed before it was sent. They
// yield the raw values; it does not know how these are scanned, nor what an error means.
package pgrows

import (
	"encoding/binary"
	"errors"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
)

// ErrMalformed is the error of a reply that does not follow the protocol.
var ErrMalformed = errors.New("pgcmd: the server's reply is malformed")

// NextMessage splits off the first message of b, which holds whole messages only.
func NextMessage(b []byte) (typ byte, body, rest []byte) {
	size := 1 + int(binary.BigEndian.Uint32(b[1:]))
	return b[0], b[5:size], b[size:]
}

// Fields converts a RowDescription.
func Fields(m *pgproto3.RowDescription) []pgconn.FieldDescription {
	fields := make([]pgconn.FieldDescription, len(m.Fields))
	for i, f := range m.Fields {
		fields[i] = pgconn.FieldDescription{
			Name: string(f.Name), TableOID: f.TableOID, TableAttributeNumber: f.TableAttributeNumber,
			DataTypeOID: f.DataTypeOID, DataTypeSize: f.DataTypeSize, TypeModifier: f.TypeModifier, Format: f.Format,
		}
	}
	return fields
}

// ParseError decodes the ErrorResponse at the start of b.
func ParseError(b []byte) *pgconn.PgError {
	size := 1 + int(binary.BigEndian.Uint32(b[1:]))
	var msg pgproto3.ErrorResponse
	if size > len(b) || msg.Decode(b[5:size]) != nil {
		return &pgconn.PgError{Severity: "FATAL", Code: "08P01", Message: "malformed error"}
	}
	return pgconn.ErrorResponseToPgError(&msg)
}

// splitRow splits a DataRow into its values. It returns nil if it is malformed.
func splitRow(values [][]byte, body []byte) [][]byte {
	if len(body) < 2 {
		return nil
	}
	n := int(binary.BigEndian.Uint16(body))
	body = body[2:]
	for range n {
		if len(body) < 4 {
			return nil
		}
		size := int(int32(binary.BigEndian.Uint32(body)))
		if body = body[4:]; size == -1 {
			values = append(values, nil)
			continue
		}
		if size < 0 || size > len(body) {
			return nil
		}
		values = append(values, body[:size:size])
		body = body[size:]
	}
	return values
}
