package copybin

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgcmd/pgcmd/internal/rowscan"
	"github.com/pgcmd/pgcmd/internal/structfields"
	"github.com/pgcmd/pgcmd/internal/typemap"
)

// Fields returns the fields of a row type, or says why the rows cannot be copied into table.
func Fields(typ reflect.Type, table pgx.Identifier) ([]structfields.Field, error) {
	if len(table) == 0 {
		return nil, errors.New("the table has no name: give one, as in pgx.Identifier{\"public\", \"users\"}")
	}
	for _, part := range table {
		if part == "" || typemap.NotText(part) != "" {
			return nil, fmt.Errorf("the table name %q has a part that is empty or holds a NUL byte", []string(table))
		}
	}
	if typ.Kind() == reflect.Pointer && typ.Elem().Kind() == reflect.Struct {
		return nil, fmt.Errorf("the row type is %s: use %s, rows are values", typ, typ.Elem())
	}
	if typ.Kind() != reflect.Struct || structfields.IsScalar(typ) {
		return nil, fmt.Errorf("the row type %s names no columns: use a struct with a field for each", typ)
	}
	fields, err := rowscan.Fields(typ)
	if err == nil && len(fields) == 0 {
		return nil, fmt.Errorf("the row type %s has no exported fields: use a struct with a field for each column", typ)
	}
	return fields, err
}

// Columns finds the column of every field of a row type among those of the table, and plans
// how it is encoded: in binary, or in text if the server has to read a text. refused says
// what is wrong in the type. err is the server's, which is queried for types, or the
// connection's.
func Columns(ctx context.Context, conn *pgx.Conn, typ reflect.Type, table string, fields []structfields.Field, described []pgconn.FieldDescription) (columns []Column, inText bool, refused *Error, err error) {
	names := make([]string, len(described))
	for i, f := range described {
		names[i] = f.Name
	}
	columns = make([]Column, len(fields))
	oids := make([]uint32, len(fields))
	takenBy := make([]string, len(names))
	for i, f := range fields {
		at := structfields.FindColumn(names, f)
		if at < 0 {
			return nil, false, &Error{Message: fmt.Sprintf("%s has no column: table %s has %s (tag the field `db:\"-\"` to leave it out)",
				structfields.Called(typ, "row", f.Path), table, strings.Join(names, ", "))}, nil
		}
		if takenBy[at] != "" {
			return nil, false, &Error{Column: names[at], Message: fmt.Sprintf("column %q is that of two fields of %s, %s and %s: give one of them another tag",
				names[at], structfields.TypeOr(typ, "the row"), takenBy[at], f.Path)}, nil
		}
		takenBy[at], oids[i] = f.Path, described[at].DataTypeOID
		columns[i] = Column{Field: f, Name: names[at], OID: oids[i]}
	}
	t, err := typemap.OfConn(ctx, conn, oids...)
	if err != nil {
		return nil, false, nil, err
	}
	for _, c := range columns {
		inText = inText || t.ReadByServer(c.OID, c.Field.Type)
	}
	for i := range columns {
		if e := columns[i].Plan(t, inText); e != nil {
			e.Message = fmt.Sprintf("field %s %s, or leave column %q out", e.Field, e.Message, e.Column)
			return nil, false, e, nil
		}
	}
	return columns, inText, nil, nil
}

// SQL is the statement of a copy. table is quoted, and columns are not.
func SQL(table string, columns []string, inText bool) string {
	quoted := make([]string, len(columns))
	for i, name := range columns {
		quoted[i] = pgx.Identifier{name}.Sanitize()
	}
	format := "binary"
	if inText {
		format = "text"
	}
	return "copy " + table + " (" + strings.Join(quoted, ", ") + ") from stdin (format " + format + ")"
}

// Locate returns which row, of so many, and which column the server complains of, if it tells:
// in its context, in English, as "COPY items, line 18, column qty: ...". What follows may be
// a value.
func Locate(err *pgconn.PgError, relation string, columns []Column, rows int) (row int, column string) {
	switch err.Code[:min(2, len(err.Code))] {
	case "22", "23", "44", "P0":
	default:
		return 0, "" // the error is of the copy as a whole, not of the row that it names
	}
	prefix := "COPY " + relation + ", line "
	at := strings.LastIndex(err.Where, prefix)
	if at < 0 || at > 0 && err.Where[at-1] != '\n' {
		return 0, ""
	}
	rest := err.Where[at+len(prefix):]
	digits := len(rest) - len(strings.TrimLeft(rest, "0123456789"))
	row, e := strconv.Atoi(rest[:digits])
	if e != nil || row < 1 || row > rows {
		return 0, ""
	}
	if rest, ok := strings.CutPrefix(rest[digits:], ", column "); ok {
		for _, c := range columns {
			if after, ok := strings.CutPrefix(rest, c.Name); ok && (after == "" || after[0] == ':') {
				return row, c.Name
			}
		}
	}
	return row, ""
}

// Trace calls the connection's tracer for the copy, as pgx would.
func Trace(ctx context.Context, conn *pgx.Conn, table pgx.Identifier, columns []string) (context.Context, func(pgconn.CommandTag, error)) {
	tracer, ok := conn.Config().Tracer.(pgx.CopyFromTracer)
	if !ok {
		return ctx, func(pgconn.CommandTag, error) {}
	}
	ctx = tracer.TraceCopyFromStart(ctx, conn, pgx.TraceCopyFromStartData{TableName: table, ColumnNames: columns})
	return ctx, func(tag pgconn.CommandTag, err error) {
		tracer.TraceCopyFromEnd(ctx, conn, pgx.TraceCopyFromEndData{CommandTag: tag, Err: err})
	}
}
