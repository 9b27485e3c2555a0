package pgcmd

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/pgcmd/pgcmd/internal/bind"
	"github.com/pgcmd/pgcmd/internal/stmtcache"
)

// A care says what has to be looked at in the values of a parameter before they are
// sent. Most types need none.
type argCheck uint8

const (
	checkOwnType     argCheck = 1 << iota // it may say itself what is sent for it
	checkByType                           // and may be sent by a method of pgtype's instead
	checkBytes                            // it may be bytes, or an array of them
	checkRectangular                      // it may hold an array that is not rectangular
)

// argCheckOf finds out at definition what values of the type need.
func argCheckOf(typ reflect.Type) (c argCheck) {
	elem := typ
	for {
		switch {
		case elem.Kind() == reflect.Interface:
			return checkOwnType | checkBytes | checkRectangular
		case isValuer(elem) || elem.Implements(textValuerType):
			if c = checkOwnType; sentByType(elem) {
				c |= checkByType
			}
			return c
		case isDimensioned(elem):
			return checkBytes | checkRectangular
		}
		if takenForBytea(elem) {
			c |= checkBytes
		}
		if elem.Kind() != reflect.Pointer && elem.Kind() != reflect.Slice && elem.Kind() != reflect.Array {
			break
		}
		elem = elem.Elem()
	}
	if mayBeRagged(typ) {
		c |= checkRectangular
	}
	return c
}

// addArgCheck notes what one of so many parameters needs.
func (s *statement) addArgCheck(i, of int, c argCheck) {
	if c != 0 && s.checkKinds == nil {
		s.checkKinds = make([]argCheck, of)
	}
	if c != 0 {
		s.checkKinds[i] = c
	}
}

// unverifiedArgs are the numbers of arguments that can be judged only when the type of their
// parameter is known: bytes, and slices of slices that are not rectangular.
type unverifiedArgs []int

// checkArgs looks at the arguments before anything is sent. It runs code of the user's.
func (s *statement) checkArgs(args []any) (d unverifiedArgs, failure *Error) {
	for i, c := range s.checkKinds {
		if c == 0 || i >= len(args) || args[i] == nil {
			continue
		}
		doubtful := false
		if c&checkOwnType != 0 {
			own, isBytes, err := ownValue(args[i])
			byType := c&checkByType != 0 || err != nil && c&checkBytes != 0 && sentByType(reflect.TypeOf(args[i]))
			if text, ok := own.(string); ok && !byType {
				if e := fieldError(bind.CheckText(text, s.params[i])); e != nil {
					return nil, e
				}
			}
			if err != nil && !byType {
				return nil, newFieldError(s.params[i], "encode", fmt.Sprintf("cannot be sent: its own method refuses it, with %T", err), err)
			}
			doubtful = isBytes
		}
		if c&checkBytes != 0 && !doubtful {
			doubtful = isBytesOrTheirs(args[i])
		}
		if c&checkRectangular != 0 && !doubtful {
			doubtful = isRagged(reflect.ValueOf(args[i]))
		}
		if doubtful {
			d = append(d, i)
		}
	}
	return d, nil
}

// isBytesOrTheirs reports whether a value is bytes, not nil, or may be an array of them.
func isBytesOrTheirs(value any) bool {
	if b, ok := bytesIn(value); ok {
		return b != nil
	}
	typ := reflect.TypeOf(value)
	for typ.Kind() == reflect.Pointer {
		typ = typ.Elem()
	}
	switch {
	case isDimensioned(typ):
		typ = typ.Field(0).Type
	case typ.Kind() != reflect.Slice && typ.Kind() != reflect.Array:
		return false
	}
	return takenForBytea(typ.Elem())
}

// verifyArgs judges the arguments in doubt by the types of their parameters, and makes
// texts of bytes that are none to their type. blind says that pgx is not told the types.
func (s *statement) verifyArgs(t types, oids []uint32, args []any, d unverifiedArgs, blind bool) *Error {
	for _, i := range d {
		if i >= len(oids) {
			continue
		}
		oid := oids[i]
		if t.misshapen(oid, reflect.ValueOf(args[i])) {
			return newFieldError(s.params[i], "array", notRectangular, nil)
		}
		if typ, known := t.known.TypeForOID(oid); known && !blind {
			if b, ok := bytesIn(args[i]); ok && isTextCodec(typ.Codec) {
				if e := fieldError(bind.CheckTextBytes(b, s.params[i])); e != nil {
					return e
				}
			}
			continue
		}
		value, err := t.asText(oid, args[i])
		if err != nil {
			return newFieldError(s.params[i], "encode", "cannot be sent: its own method refuses it", err)
		}
		if text, ok := value.(string); ok {
			if e := fieldError(bind.CheckText(text, s.params[i])); e != nil {
				return e
			}
		}
		args[i] = value
	}
	return nil
}

// oidOfArg returns the types of the parameters in doubt.
func (d unverifiedArgs) oidOfArg(oids []uint32) (doubtful []uint32) {
	for _, i := range d {
		if i < len(oids) {
			doubtful = append(doubtful, oids[i])
		}
	}
	return doubtful
}

// verifyArgsOnConn judges the arguments in doubt on a connection, which is asked for what is not
// known. An error is the server's or the connection's.
func (s *statement) verifyArgsOnConn(ctx context.Context, conn *pgx.Conn, args []any, d unverifiedArgs) (*Error, error) {
	if len(d) == 0 {
		return nil, nil
	}
	mode := configOf(conn).DefaultQueryExecMode
	known := stmtcache.OnConn(conn)
	oids, ok := known.Params(s.text.SQL)
	// Who has it described each time wants no memory of it.
	if !ok || mode != pgx.QueryExecModeCacheStatement && mode != pgx.QueryExecModeCacheDescribe {
		sd, err := conn.PgConn().Prepare(ctx, "", s.text.SQL, nil)
		if err != nil {
			return nil, err
		}
		oids = sd.ParamOIDs
		known.SetParams(s.text.SQL, oids)
	}
	t, err := typesOf(ctx, conn, d.oidOfArg(oids)...)
	if err != nil {
		return nil, err
	}
	blind := mode == pgx.QueryExecModeExec || mode == pgx.QueryExecModeSimpleProtocol
	refused := s.verifyArgs(t, oids, args, d, blind)
	if refused != nil && ok { // the schema may have changed since
		known.InvalidateParamsOf(s.text.SQL)
		return s.verifyArgsOnConn(ctx, conn, args, d)
	}
	return refused, nil
}

// verifyArgsInTx judges the arguments in doubt in a transaction. What waits to go before the
// statement goes first, for the reason that companion gives.
func (s *statement) verifyArgsInTx(ctx context.Context, tx *txn, args []any, d unverifiedArgs) (*Error, error) {
	if tx.conn == nil || len(d) == 0 {
		return nil, nil
	}
	if _, ok := stmtcache.OnConn(tx.conn).Params(s.text.SQL); !ok {
		if err := tx.sendDeferred(ctx); err != nil {
			return nil, err
		}
	}
	return s.verifyArgsOnConn(ctx, tx.conn, args, d)
}

// unsendable is the error of an argument that pgx could not encode, or nil if err is none
// of these: the value's, or the statement's if no value of its type can be sent so. conn
// is asked for the name of a type that pgx does not know; it may be nil.
func (s *statement) unsendable(ctx context.Context, known *pgtype.Map, conn *pgx.Conn, args []any, err error) *Error {
	i, oid, ok := encodeError(err)
	if !ok {
		return nil
	}
	if i < 0 { // in the simple protocol pgx does not say which
		i = slices.IndexFunc(args, func(arg any) bool {
			_, err := known.Encode(0, pgtype.TextFormatCode, arg, nil)
			return err != nil
		})
	}
	if i < 0 || i >= len(s.params) {
		return newFieldError("the parameter", "encode", "does not fit the type of its parameter in the SQL", err)
	}
	param := s.params[i]
	var typ reflect.Type
	if i < len(args) {
		typ = reflect.TypeOf(args[i])
	}
	if typ == nil {
		return newFieldError(param, "encode", "does not fit the type of its parameter in the SQL", err)
	}
	t := types{known: known}
	what, sent := typ.String(), typ
	if t.encodes(oid, typ) {
		if sent = ownType(args[i]); sent == nil || t.encodes(oid, sent) {
			return newFieldError(param, "encode", "does not fit the type of its parameter in the SQL", err)
		}
		what = fmt.Sprintf("%s, which gives %s,", typ, sent)
	}
	if _, known := t.known.TypeForOID(oid); !known && oid != 0 && conn != nil && !conn.IsClosed() && !conn.PgConn().IsBusy() && conn.PgConn().TxStatus() != 'E' {
		t, _ = typesOf(ctx, conn, oid)
	}
	placeholder := fmt.Sprintf("$%d", i+1)
	if i < len(s.text.Names) {
		placeholder = "@" + s.text.Names[i]
	}
	e := newFieldError(param, "type", t.cannotBeSent(what, sent, oid, placeholder), err)
	if i < len(s.fields) && s.fields[i].Type.Kind() != reflect.Interface {
		e.Code, e.Message = CodeInternal, "the input cannot be sent, whatever it holds"
	}
	return e
}

// cannotBeSent says that no value of the Go type typ, called what, can be sent as the SQL
// type, and what to do about it.
func (t types) cannotBeSent(what string, typ reflect.Type, oid uint32, placeholder string) string {
	if oid == 0 {
		return fmt.Sprintf("(%s) cannot be sent where pgx is not told the type of its parameter: use another QueryExecMode than Exec and SimpleProtocol, or a type of pgtype's", what)
	}
	mend := "change the field's type"
	switch _, known := t.known.TypeForOID(oid); {
	case known:
	case t.live[oid].kind == "e" && t.encodes(oid, typ):
		mend = "use a string"
	default:
		mend = "load the type on the connection (pgx.Conn.LoadType)"
	}
	if own := t.ownName(typ); own != "" && placeholder != "" {
		mend += ", or cast the parameter, as in " + placeholder + "::" + own
	}
	return fmt.Sprintf("(%s) cannot be sent as %s: %s", what, t.name(oid), mend)
}

// ownName is the SQL type that is a Go type's own, or "".
func (t types) ownName(typ reflect.Type) string {
	dimensions := ""
	for typ.Kind() == reflect.Pointer || typ.Kind() == reflect.Slice && typ.Elem().Kind() != reflect.Uint8 || typ.Kind() == reflect.Array && typ.Elem().Kind() != reflect.Uint8 {
		if typ.Kind() != reflect.Pointer {
			dimensions = "[]"
		}
		typ = typ.Elem()
	}
	guessed, ok := t.known.TypeForValue(reflect.Zero(typ).Interface())
	switch {
	case ok:
		return guessed.Name + dimensions
	case typ.Kind() == reflect.Array:
		if typ.Len() == 16 {
			return "uuid" + dimensions
		}
		return ""
	case basics[typ.Kind()] != "":
		return basics[typ.Kind()] + dimensions
	}
	return ""
}

// basics are the SQL types of the kinds of Go.
var basics = map[reflect.Kind]string{
	reflect.String: "text", reflect.Bool: "bool", reflect.Float32: "float4", reflect.Float64: "float8",
	reflect.Int: "int8", reflect.Int8: "int2", reflect.Int16: "int2", reflect.Int32: "int4", reflect.Int64: "int8",
	reflect.Uint8: "int2", reflect.Uint16: "int4", reflect.Uint32: "int8", reflect.Uint64: "numeric", reflect.Uint: "numeric",
}

// ownType is the type of what a value gives to be sent for it, or nil.
func ownType(value any) reflect.Type {
	valuer, ok := value.(driver.Valuer)
	if !ok {
		return nil
	}
	own, err := valuer.Value()
	if err != nil {
		return nil
	}
	return reflect.TypeOf(own)
}

// encodeError takes apart the error of an argument that pgx could not encode: its number,
// from 0, -1 if it does not tell, and the type that it was to be encoded as. Such errors
// have no type; a test holds their text, which holds the value.
func encodeError(err error) (i int, oid uint32, ok bool) {
	err = withoutBatch(err)
	text := err.Error()
	i = -1
	if rest, found := strings.CutPrefix(text, "failed to encode args["); found {
		number, _, _ := strings.Cut(rest, "]")
		if n, e := strconv.Atoi(number); e == nil {
			i = n
		}
		ok = true
		if err = errors.Unwrap(err); err == nil {
			return i, 0, true
		}
		text = err.Error()
	}
	if !strings.HasPrefix(text, "unable to encode ") {
		return i, 0, ok
	}
	if _, answered := errors.AsType[*pgconn.PgError](err); answered && !ok {
		return i, 0, false
	}
	if cause := errors.Unwrap(err); cause != nil {
		text = strings.TrimSuffix(text, ": "+cause.Error())
	}
	at := strings.LastIndex(text, " (OID ")
	if at < 0 {
		return i, 0, ok
	}
	n, parsed := strconv.ParseUint(strings.TrimSuffix(text[at+len(" (OID "):], ")"), 10, 32)
	return i, uint32(n), ok || parsed == nil
}
