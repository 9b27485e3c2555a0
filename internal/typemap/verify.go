package typemap

import (
	"bytes"
	"context"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/pgcmd/pgcmd/internal/pgxerr"
	"github.com/pgcmd/pgcmd/internal/stmtcache"
)

// An ArgError says why an argument cannot be sent.
type ArgError struct {
	Param     int // from 0; -1 if it is not known
	Rule      string
	Message   string // without the value
	Err       error  // of pgx, or of the value's own method; nil if it has none
	WrongType bool   // no value of the argument's type can be sent
}

func (e *ArgError) Error() string { return fmt.Sprintf("pgcmd: $%d %s", e.Param+1, e.Message) }

// NotText says why no text of PostgreSQL can hold s; "" if one can.
func NotText(s string) string { return notText(strings.IndexByte(s, 0) >= 0, utf8.ValidString(s)) }

// BytesNotText is NotText for the bytes of a text.
func BytesNotText(b []byte) string { return notText(bytes.IndexByte(b, 0) >= 0, utf8.Valid(b)) }

func notText(hasNUL, valid bool) string {
	switch {
	case hasNUL:
		return "holds a NUL byte, which PostgreSQL's text cannot: leave it out, or use []byte and bytea"
	case !valid:
		return "is not valid UTF-8: correct it, or use []byte and bytea"
	}
	return ""
}

// Checks are what has to be checked in the arguments of a statement; nil if nothing has.
type Checks []Check

// Add adds what has to be checked in parameter i of so many.
func (c *Checks) Add(i, of int, check Check) {
	if check == 0 {
		return
	}
	if *c == nil {
		*c = make(Checks, of)
	}
	(*c)[i] = check
}

// Unverified are the numbers of arguments that can be verified only when the type of their
// parameter is known: bytes, slices of slices that are not rectangular, and times and floats
// that few types have.
type Unverified []int

// Check checks the arguments before anything is sent. It runs user code.
func (c Checks) Check(args []any) (u Unverified, e *ArgError) {
	for i, check := range c {
		if check == 0 || i >= len(args) || args[i] == nil {
			continue
		}
		if check&CheckValue != 0 {
			if why := Unencodable(reflect.ValueOf(args[i])); why != "" {
				return nil, &ArgError{Param: i, Rule: "encode", Message: why}
			}
		}
		toVerify := false
		if check&CheckOwnValue != 0 {
			own, isBytes, err := OwnValue(args[i])
			byType := check&CheckByType != 0 || err != nil && check&CheckBytes != 0 && SentByType(reflect.TypeOf(args[i]))
			if text, ok := own.(string); ok && !byType {
				if why := NotText(text); why != "" {
					return nil, &ArgError{Param: i, Rule: "text", Message: why}
				}
			}
			if err != nil && !byType {
				return nil, &ArgError{Param: i, Rule: "encode", Message: fmt.Sprintf("cannot be sent: its own method refuses it, with %T", err), Err: err}
			}
			toVerify = isBytes
		}
		toVerify = toVerify || check&CheckBytes != 0 && MayHoldBytes(args[i])
		toVerify = toVerify || check&CheckRectangular != 0 && IsRagged(reflect.ValueOf(args[i]))
		toVerify = toVerify || check&CheckRange != 0 && isExtreme(args[i])
		toVerify = toVerify || check&CheckFractions != 0 && fractions.finds(reflect.ValueOf(args[i]))
		if toVerify {
			u = append(u, i)
		}
	}
	return u, nil
}

// OIDs returns the types of the parameters of the arguments.
func (u Unverified) OIDs(oids []uint32) (toVerify []uint32) {
	for _, i := range u {
		if i < len(oids) {
			toVerify = append(toVerify, oids[i])
		}
	}
	return toVerify
}

// VerifyKnown verifies arguments by the types of their parameters, which pgx knows.
func (u Unverified) VerifyKnown(known *pgtype.Map, oids []uint32, args []any) *ArgError {
	return u.verify(Types{Known: known}, oids, args, false)
}

// Verify verifies arguments by the types of their parameters. It queries the server for those
// that are not known. An error is the server's or the connection's.
func (u Unverified) Verify(ctx context.Context, conn *pgx.Conn, oids []uint32, args []any) (*ArgError, error) {
	return u.verifyOn(ctx, conn, oids, args, false)
}

// VerifyFor is Verify for a statement that is described first.
func (u Unverified) VerifyFor(ctx context.Context, conn *pgx.Conn, sql string, args []any) (*ArgError, error) {
	mode := stmtcache.ModeOf(conn)
	known := stmtcache.OnConn(conn)
	oids, cached, err := known.ParamTypes(ctx, conn, sql)
	if err != nil {
		return nil, err
	}
	refused, err := u.verifyOn(ctx, conn, oids, args, mode == pgx.QueryExecModeExec || mode == pgx.QueryExecModeSimpleProtocol)
	if refused != nil && cached { // the schema may have changed since
		known.Invalidate(sql)
		return u.VerifyFor(ctx, conn, sql, args)
	}
	return refused, err
}

func (u Unverified) verifyOn(ctx context.Context, conn *pgx.Conn, oids []uint32, args []any, blind bool) (*ArgError, error) {
	if len(u) == 0 {
		return nil, nil
	}
	t, err := OfConn(ctx, conn, u.OIDs(oids)...)
	if err != nil {
		return nil, err
	}
	return u.verify(t, oids, args, blind), nil
}

// verify converts bytes to text where the type does not hold bytes, if it refuses no argument:
// else they may be verified again, by other types. blind means that pgx does not know the types.
func (u Unverified) verify(t Types, oids []uint32, args []any, blind bool) *ArgError {
	var converted []any // nil if none is
	for _, i := range u {
		if i >= len(oids) {
			continue
		}
		oid := oids[i]
		if t.IsMisshapen(oid, reflect.ValueOf(args[i])) {
			return &ArgError{Param: i, Rule: "array", Message: NotRectangular}
		}
		if !blind && t.IsOutOfRange(oid, reflect.ValueOf(args[i])) {
			return &ArgError{Param: i, Rule: "encode", Message: t.doesNotFit(oid, reflect.TypeOf(args[i]))}
		}
		why := ""
		if typ, known := t.Known.TypeForOID(oid); known && !blind {
			if b, ok := BytesIn(args[i]); ok && IsTextCodec(typ.Codec) {
				why = BytesNotText(b)
			}
		} else {
			value, err := t.AsText(oid, args[i])
			if err != nil {
				return &ArgError{Param: i, Rule: "encode", Message: "cannot be sent: its own method refuses it", Err: err}
			}
			if text, ok := value.(string); ok {
				why = NotText(text)
			}
			if converted == nil {
				converted = slices.Clone(args)
			}
			converted[i] = value
		}
		if why != "" {
			return &ArgError{Param: i, Rule: "text", Message: why}
		}
	}
	copy(args, converted)
	return nil
}

// doesNotFit says that the type of a parameter does not have a value.
func (t Types) doesNotFit(oid uint32, typ reflect.Type) string {
	return fmt.Sprintf("(%s) has a value that does not fit %s, the type of its parameter in the SQL", typ, t.Name(oid))
}

// EncodeError returns the error of an argument that pgx could not encode: of the value, or of
// the statement if no value of its type can be sent. It returns nil if err is another error.
// names are the placeholders'. conn is queried for the name of a type that pgx does not know;
// it may be nil.
func EncodeError(ctx context.Context, known *pgtype.Map, conn *pgx.Conn, names []string, args []any, err error) *ArgError {
	i, oid, ok := pgxerr.ParseEncode(pgxerr.WithoutBatch(err))
	if !ok {
		return nil
	}
	if i < 0 { // in the simple protocol the error does not name the argument
		i = slices.IndexFunc(args, func(arg any) bool {
			_, err := known.Encode(0, pgtype.TextFormatCode, arg, nil)
			return err != nil
		})
	}
	e := &ArgError{Param: i, Rule: "encode", Message: "has a value that does not fit the type of its parameter in the SQL", Err: err}
	if i < 0 || i >= len(args) || args[i] == nil {
		return e
	}
	t, typ := Types{Known: known}, reflect.TypeOf(args[i])
	what, sent := typ.String(), typ
	ofValue := t.Encodes(oid, typ) && t.lacksFields(oid, typ).Why == ""
	if ofValue {
		if sent = OwnType(args[i]); sent != nil && !t.Encodes(oid, sent) {
			ofValue = false
			what = fmt.Sprintf("%s, which gives %s,", typ, sent)
		}
	}
	if _, known := t.Known.TypeForOID(oid); !known && oid != 0 && conn != nil && !conn.IsClosed() && !conn.PgConn().IsBusy() && conn.PgConn().TxStatus() != 'E' {
		t, _ = OfConn(ctx, conn, oid)
	}
	if ofValue {
		if oid != 0 {
			e.Message = t.doesNotFit(oid, typ)
		}
		return e
	}
	placeholder := fmt.Sprintf("$%d", i+1)
	if i < len(names) {
		placeholder = "@" + names[i]
	}
	e.Rule, e.Message, e.WrongType = "type", t.CannotBeSent(what, sent, oid, placeholder), true
	return e
}
