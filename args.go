package pgcmd

import (
	"context"
	"fmt"
	"reflect"
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/pgcmd/pgcmd/internal/bind"
	"github.com/pgcmd/pgcmd/internal/stmtcache"
	"github.com/pgcmd/pgcmd/internal/typemap"
)

// addArgCheck notes what one of so many parameters needs.
func (s *statement) addArgCheck(i, of int, c typemap.Check) {
	if c != 0 && s.checkKinds == nil {
		s.checkKinds = make([]typemap.Check, of)
	}
	if c != 0 {
		s.checkKinds[i] = c
	}
}

// unverifiedArgs are the numbers of arguments that can be judged only when the type of their
// parameter is known: bytes, and slices of slices that are not rectangular.
type unverifiedArgs []int

// checkArgs looks at the arguments before anything is sent. It runs user code.
func (s *statement) checkArgs(args []any) (d unverifiedArgs, failure *Error) {
	for i, c := range s.checkKinds {
		if c == 0 || i >= len(args) || args[i] == nil {
			continue
		}
		doubtful := false
		if c&typemap.CheckOwnValue != 0 {
			own, isBytes, err := typemap.OwnValue(args[i])
			byType := c&typemap.CheckByType != 0 || err != nil && c&typemap.CheckBytes != 0 && typemap.SentByType(reflect.TypeOf(args[i]))
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
		if c&typemap.CheckBytes != 0 && !doubtful {
			doubtful = typemap.MayHoldBytes(args[i])
		}
		if c&typemap.CheckRectangular != 0 && !doubtful {
			doubtful = typemap.IsRagged(reflect.ValueOf(args[i]))
		}
		if doubtful {
			d = append(d, i)
		}
	}
	return d, nil
}

// verifyArgs judges the arguments in doubt by the types of their parameters, and makes
// texts of bytes that are none to their type. blind says that pgx is not told the types.
func (s *statement) verifyArgs(t typemap.Types, oids []uint32, args []any, d unverifiedArgs, blind bool) *Error {
	for _, i := range d {
		if i >= len(oids) {
			continue
		}
		oid := oids[i]
		if t.IsMisshapen(oid, reflect.ValueOf(args[i])) {
			return newFieldError(s.params[i], "array", typemap.NotRectangular, nil)
		}
		if typ, known := t.Known.TypeForOID(oid); known && !blind {
			if b, ok := typemap.BytesIn(args[i]); ok && typemap.IsTextCodec(typ.Codec) {
				if e := fieldError(bind.CheckTextBytes(b, s.params[i])); e != nil {
					return e
				}
			}
			continue
		}
		value, err := t.AsText(oid, args[i])
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
	t, err := typemap.OfConn(ctx, conn, d.oidOfArg(oids)...)
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
	i, oid, ok := typemap.ParseEncodeError(withoutBatch(err))
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
	t := typemap.Types{Known: known}
	what, sent := typ.String(), typ
	if t.Encodes(oid, typ) {
		if sent = typemap.OwnType(args[i]); sent == nil || t.Encodes(oid, sent) {
			return newFieldError(param, "encode", "does not fit the type of its parameter in the SQL", err)
		}
		what = fmt.Sprintf("%s, which gives %s,", typ, sent)
	}
	if _, known := t.Known.TypeForOID(oid); !known && oid != 0 && conn != nil && !conn.IsClosed() && !conn.PgConn().IsBusy() && conn.PgConn().TxStatus() != 'E' {
		t, _ = typemap.OfConn(ctx, conn, oid)
	}
	placeholder := fmt.Sprintf("$%d", i+1)
	if i < len(s.text.Names) {
		placeholder = "@" + s.text.Names[i]
	}
	e := newFieldError(param, "type", t.CannotBeSent(what, sent, oid, placeholder), err)
	if i < len(s.fields) && s.fields[i].Type.Kind() != reflect.Interface {
		e.Code, e.Message = CodeInternal, "the input cannot be sent, whatever it holds"
	}
	return e
}
