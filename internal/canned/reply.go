package canned

import (
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/jackc/pgx/v5/pgtype"
)

// A Column is one column of the rows that a statement returns. Its values are sent in the format that pgx asks for,
// binary for the types that have one, or in text.
type Column struct {
	Name string
	OID  uint32
}

// A reply is what one text is answered with. It is not changed once it is registered, and its messages are strings so
// that they can be queued without a copy.
type reply struct {
	params    int     // values that Bind must bring
	described string  // answers the Describe of a statement
	formats   []int16 // of native, by column
	native    result  // in the formats that pgx asks for
	text      result

	state   string // the transaction's state from here on, empty for as it was
	exits   bool   // allowed in a failed transaction, which it ends or repairs
	inBlock bool   // refused outside a transaction
	failure string // an ErrorResponse instead of a result
	fatal   bool   // the connection ends with failure
	hangs   bool   // nothing instead of a result
}

// A result is a reply in one choice of formats.
type result struct {
	columns string // RowDescription, empty if there is none
	rows    string // DataRows and CommandComplete
}

func newRows(sql string, params []uint32, columns []Column, rows [][]any) *reply {
	types := pgtype.NewMap()
	text, native := make([]int16, len(columns)), make([]int16, len(columns))
	for i, c := range columns {
		native[i] = types.FormatCodeForOID(c.OID)
	}
	done := &pgproto3.CommandComplete{CommandTag: []byte(tag(sql, len(rows)))}
	r := &reply{
		params:  len(params),
		formats: native,
		native:  newResult(types, columns, native, rows, done),
		text:    newResult(types, columns, text, rows, done),
	}
	// The format of a statement's columns is not known until Bind; PostgreSQL says text.
	r.described = encode(&pgproto3.ParameterDescription{ParameterOIDs: params}) + r.text.columns
	return r
}

func tag(sql string, rows int) string {
	verb, _, _ := strings.Cut(strings.TrimSpace(sql), " ")
	switch verb = strings.ToUpper(verb); verb {
	case "INSERT":
		return fmt.Sprintf("INSERT 0 %d", rows)
	case "UPDATE", "DELETE", "MERGE":
		return fmt.Sprintf("%s %d", verb, rows)
	}
	return fmt.Sprintf("SELECT %d", rows)
}

func newResult(
	types *pgtype.Map, columns []Column, formats []int16, rows [][]any, done *pgproto3.CommandComplete,
) result {
	var description pgproto3.RowDescription
	for i, c := range columns {
		description.Fields = append(description.Fields, pgproto3.FieldDescription{
			Name: []byte(c.Name), DataTypeOID: c.OID, DataTypeSize: -1, TypeModifier: -1, Format: formats[i],
		})
	}
	messages := make([]pgproto3.BackendMessage, 0, len(rows)+1)
	for n, row := range rows {
		if len(row) != len(columns) {
			panic(fmt.Sprintf("canned: row %d has %d values for %d columns", n, len(row), len(columns)))
		}
		data := &pgproto3.DataRow{Values: make([][]byte, len(row))}
		for i, v := range row {
			value, err := types.Encode(columns[i].OID, formats[i], v, []byte{})
			if err != nil {
				panic(fmt.Sprintf("canned: row %d, column %s: %v", n, columns[i].Name, err))
			}
			data.Values[i] = value
		}
		messages = append(messages, data)
	}
	return result{columns: encode(&description), rows: encode(append(messages, done)...)}
}

func newCommand(params []uint32, tag string) *reply {
	only := result{rows: encode(&pgproto3.CommandComplete{CommandTag: []byte(tag)})}
	r := &reply{
		params:    len(params),
		described: encode(&pgproto3.ParameterDescription{ParameterOIDs: params}) + noData,
		native:    only,
		text:      only,
	}
	switch tag {
	case "BEGIN":
		r.state = inTransaction
	case "COMMIT", "ROLLBACK":
		r.state, r.exits = idle, true
	}
	return r
}

func newFailure(params []uint32, failure *pgproto3.ErrorResponse) *reply {
	said := *failure
	if said.Severity == "" {
		said.Severity = "ERROR"
	}
	if said.SeverityUnlocalized == "" {
		said.SeverityUnlocalized = said.Severity
	}
	r := newCommand(params, "")
	r.failure, r.fatal = encode(&said), said.Severity == "FATAL"
	return r
}

func encode(messages ...pgproto3.BackendMessage) string {
	var b []byte
	for _, m := range messages {
		var err error
		if b, err = m.Encode(b); err != nil {
			panic(fmt.Sprintf("canned: %T: %v", m, err))
		}
	}
	return string(b)
}
