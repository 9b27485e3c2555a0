package pgcmd

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pgcmd/pgcmd/internal/bind"
	"github.com/pgcmd/pgcmd/internal/connpool"
	"github.com/pgcmd/pgcmd/internal/multiplex"
	"github.com/pgcmd/pgcmd/internal/pgrows"
	"github.com/pgcmd/pgcmd/internal/pgxerr"
	"github.com/pgcmd/pgcmd/internal/rowscan"
	"github.com/pgcmd/pgcmd/internal/sqltext"
	"github.com/pgcmd/pgcmd/internal/stmtcache"
	"github.com/pgcmd/pgcmd/internal/structfields"
	"github.com/pgcmd/pgcmd/internal/typemap"
)

// A statement is the SQL of a command and what is computed for it at definition. With makes a
// copy of it if that changes how it runs.
type statement struct {
	name            string // of the command
	text            sqltext.Text
	fields          []structfields.Field // fields[i] of the input is $i+1
	params          []string             // their paths, for messages
	checkKinds      []typemap.Check      // what has to be checked in their values; nil if nothing has
	binding         bind.Params
	mayEnableWrites bool // it may make a read-only transaction write
	readOnly        bool
	shared          bool // it may run on a shared connection
	limits          limits
}

func newStatement(command string, in reflect.Type, text sqltext.Text) *statement {
	s := &statement{name: command, text: text, mayEnableWrites: mayEnableWrites(strings.ToLower(text.SQL))}
	var err error
	s.binding, err = bind.Compile(in, text)
	mustDefine(command, err)
	s.fields, s.params = s.binding.Fields, s.binding.Paths
	for i, f := range s.fields {
		s.addArgCheck(i, len(s.fields), typemap.CheckOf(f.Type))
	}
	return s
}

// parse lexes SQL at definition, and panics.
func parse(command, sql string) sqltext.Text {
	checkName(command)
	text, err := sqltext.Parse(sql)
	mustDefine(command, err)
	return text
}

// with is the statement under options, which panic if the SQL does not allow them.
func (s *statement) with(command string, o *Options) *statement {
	if o.ReadOnly && s.text.Writes {
		panic(fmt.Sprintf("pgcmd: %s: Options.ReadOnly, but the SQL is plainly a write: take one of them away", command))
	}
	c := *s
	c.readOnly, c.limits = o.ReadOnly, limits{rows: o.MaxRows, bytes: o.MaxBytes}
	c.shared = o.ReadOnly && s.text.Reads
	return &c
}

// A result is the state of a statement that was sent, and its rows.
type result struct {
	rows             rowscan.Rows
	results          pgx.BatchResults   // that the rows are part of; nil if they are not
	direct           *pgx.Conn          // that the statement is sent on by Query; nil if it is sent otherwise
	conn             *pgxpool.Conn      // taken from a pool for this statement alone; nil if the caller's
	sharedRequest    *multiplex.Request // on a shared connection; nil if it was not
	heldTx           *txn               // the Tx that the statement is part of, to be given back; nil if none
	inTx             *txn               // the Tx that the statement is part of; nil if none
	described        bool               // by describe, and not by pgx
	joined           bool               // the statement is part of a transaction that began before it
	netConn          *connpool.Conn     // of the connection; nil if it is not instrumented
	sent             int64              // bytes on it, before the statement
	failedBeforeSend bool               // pgx gave up before it sent the statement, if not before it prepared it
	unreplicated     int32              // commits counted on it, before the statement
	limits           limits             // set before it is sent
	bound            connpool.RowLimit
}

// bind applies the limits to the connection that the statement is to be sent on.
func (r *result) bind(conn *pgx.Conn) {
	if r.limits.bytes > 0 {
		r.bound = connpool.LimitRows(conn)
		r.bound.SetNext(r.limits.bytes)
		r.limits.filter = r.bound.Filter
	}
}

// send sends the statement and fills in its result. Unless it returns an error, the caller
// must close that.
func (s *statement) send(ctx context.Context, db DB, args []any, r *result) *Error {
	if failure := s.prepareSend(ctx, db, args, r); failure != nil || r.direct == nil {
		return failure
	}
	defer s.closeUnsent(ctx, r)
	rows, err := stmtcache.Query(ctx, r.direct, s.text.SQL, args)
	return s.sent(ctx, args, r, rows, err)
}

// prepareSend does what comes before pgx's Query: it finds or acquires the connection,
// r.direct; the caller calls Query on that, and then sent. In a transaction, and on a shared
// connection, it sends the statement itself, and r.direct is nil.
func (s *statement) prepareSend(ctx context.Context, db DB, args []any, r *result) (failure *Error) {
	if err := ctx.Err(); err != nil {
		return newUnsentError(ctx, err)
	}
	unverified, failure := s.checkArgs(args)
	if failure != nil {
		return failure
	}
	t := resolve(db)
	switch {
	case t.own != nil && s.shared && t.own.mux != nil:
		if failure, done := s.runShared(ctx, t.own, args, unverified, r); done {
			return failure
		}
	case t.tx != nil:
		return s.sendInTx(ctx, t.tx, args, unverified, r)
	case t.pool == nil && t.conn == nil:
		return s.sendForeign(ctx, &t, args, unverified, r)
	}
	l, failure := t.acquire(ctx, &s.name, s.readOnly)
	if failure != nil {
		return failure
	}
	r.direct, r.conn = l.conn, l.pooled
	r.joined = l.pooled == nil && l.conn.PgConn().TxStatus() != 'I'
	r.netConn = connpool.Of(l.conn)
	if len(unverified) > 0 {
		if failure := s.verifyBeforeSend(ctx, args, unverified, r); failure != nil {
			return failure
		}
	}
	if r.netConn != nil {
		r.sent, r.unreplicated = r.netConn.Sent(), r.netConn.Unreplicated()
	}
	r.bind(l.conn)
	return nil
}

// closeUnsent gives the connection back if the statement was not sent: user code panicked
// while pgx encoded or traced, or an argument was refused.
func (s *statement) closeUnsent(ctx context.Context, r *result) {
	if r.rows == nil {
		s.close(ctx, r)
	}
}

// sent records what Query returned.
func (s *statement) sent(ctx context.Context, args []any, r *result, rows pgx.Rows, err error) *Error {
	r.rows = rows
	if err == nil {
		return nil
	}
	r.bound.Release()
	if failure := s.unsendable(ctx, r.direct.TypeMap(), r.direct, args, err); failure != nil {
		s.close(ctx, r)
		return failure
	}
	// Query itself returns only errors of preparing and encoding; those of the execution are
	// the rows'. The simple protocol prepares nothing, and Query returns all errors.
	r.failedBeforeSend = stmtcache.ModeOf(r.direct) != pgx.QueryExecModeSimpleProtocol
	failure := s.statementError(ctx, r, err)
	s.close(ctx, r)
	return failure
}

// verifyBeforeSend verifies arguments by their types on the server. If one is refused, or
// user code panics, the connection is given back.
func (s *statement) verifyBeforeSend(ctx context.Context, args []any, unverified unverifiedArgs, r *result) (failure *Error) {
	verified := false
	defer func() {
		if !verified {
			s.close(ctx, r)
		}
	}()
	failure, err := s.verifyArgsOnConn(ctx, r.direct, args, unverified)
	if err != nil {
		failure = s.statementError(ctx, r, err)
		failure.Effect = NotApplied // it was only described
		failure.reconcileCode()
	}
	verified = failure == nil
	return failure
}

// sendForeign sends the statement on a transaction of pgx, or on a DB of another type.
func (s *statement) sendForeign(ctx context.Context, t *target, args []any, unverified unverifiedArgs, r *result) *Error {
	r.joined = t.inTransaction()
	var conn *pgx.Conn
	if t.foreign != nil {
		conn = t.foreign.Conn()
		if len(unverified) > 0 && conn != nil && t.foreign.SendBatch(ctx, new(pgx.Batch)).Close() == nil { // it has not ended
			if failure, err := s.verifyArgsOnConn(ctx, conn, args, unverified); failure != nil {
				return failure
			} else if err != nil {
				return s.statementError(ctx, r, err)
			}
		}
		r.bind(conn)
	}
	rows, err := stmtcache.Query(ctx, t.db, s.text.SQL, args)
	r.rows = rows
	if err == nil {
		return nil
	}
	if conn != nil {
		r.bound.Release()
		if failure := s.unsendable(ctx, conn.TypeMap(), conn, args, err); failure != nil {
			return failure
		}
	}
	return s.statementError(ctx, r, err)
}

// sendInTx sends the statement on a Tx.
func (s *statement) sendInTx(ctx context.Context, tx *Tx, args []any, unverified unverifiedArgs, r *result) *Error {
	r.joined, r.inTx = true, tx.s
	if err := tx.lock(ctx); err != nil {
		return newUnsentError(ctx, err)
	}
	tx.s.inspectStatement(s)
	if len(unverified) > 0 {
		failure, err := s.verifyArgsInTx(ctx, tx.s, args, unverified)
		if failure != nil || err != nil {
			err = tx.s.unlockWith(err)
		}
		if err != nil {
			failure = s.statementError(ctx, r, err)
		}
		if failure != nil {
			return failure
		}
	}
	r.bind(tx.s.conn)
	rows, results, err := tx.s.query(ctx, s.text.SQL, args)
	if err != nil {
		err = tx.s.unlockWith(err)
		if tx.s.conn != nil {
			r.bound.Release()
			if failure := s.unsendable(ctx, tx.s.conn.TypeMap(), tx.s.conn, args, err); failure != nil {
				return failure
			}
		}
		return s.statementError(ctx, r, err)
	}
	r.rows, r.results, r.heldTx = rows, results, tx.s
	return nil
}

// connection returns the connection that the statement was sent on, or nil if it is not known.
func (r *result) connection() *pgx.Conn {
	switch {
	case r.conn != nil:
		return r.conn.Conn()
	case r.inTx != nil:
		return r.inTx.conn
	case r.rows != nil:
		return r.rows.Conn()
	}
	return nil
}

// close ends the reading, if a panic or the caller's loop ended it early, and gives back the
// connection or the transaction. It may be called twice.
func (s *statement) close(ctx context.Context, r *result) {
	if r.rows != nil && r.rows.Next() {
		s.stopReading(ctx, r)
	}
	if r.results != nil {
		_ = r.results.Close()
	}
	if r.limits.bytes > 0 {
		r.bound.Release()
	}
	if r.heldTx != nil {
		r.heldTx.unlockWith(r.rows.Err())
		r.heldTx = nil
	}
	if r.conn != nil {
		connpool.Release(r.conn, r.netConn)
		r.conn = nil
	}
	if r.sharedRequest != nil {
		r.sharedRequest.Free()
		r.sharedRequest = nil
	}
}

// stopReading ends the reading of rows that are not needed; their Err is then the statement's.
// It reports whether the server was requested to cancel. A write is read to its end, since a
// cancelled one might not be applied. In a transaction the rows are read to their end too,
// since a cancellation would abort it.
func (s *statement) stopReading(ctx context.Context, r *result) (canceled bool) {
	patience := pgrows.MaxOutcomeTime
	if s.readOnly {
		patience = pgrows.MaxDrainTime
	}
	return pgrows.Stop(ctx, r.rows.Conn(), r.rows, patience, s.mayStopReading(r), r.conn != nil)
}

// mayStopReading reports whether the reading of a statement may be stopped before its end.
func (s *statement) mayStopReading(r *result) bool {
	return r.rows.Conn() != nil && !r.joined && (s.readOnly || s.text.Reads)
}

// addArgCheck records what has to be checked in parameter i of so many.
func (s *statement) addArgCheck(i, of int, c typemap.Check) {
	if c != 0 && s.checkKinds == nil {
		s.checkKinds = make([]typemap.Check, of)
	}
	if c != 0 {
		s.checkKinds[i] = c
	}
}

// unverifiedArgs are the numbers of arguments that can be verified only when the type of their
// parameter is known: bytes, and slices of slices that are not rectangular.
type unverifiedArgs []int

// checkArgs checks the arguments before anything is sent. It runs user code.
func (s *statement) checkArgs(args []any) (d unverifiedArgs, failure *Error) {
	for i, c := range s.checkKinds {
		if c == 0 || i >= len(args) || args[i] == nil {
			continue
		}
		toVerify := false
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
			toVerify = isBytes
		}
		if c&typemap.CheckBytes != 0 && !toVerify {
			toVerify = typemap.MayHoldBytes(args[i])
		}
		if c&typemap.CheckRectangular != 0 && !toVerify {
			toVerify = typemap.IsRagged(reflect.ValueOf(args[i]))
		}
		if toVerify {
			d = append(d, i)
		}
	}
	return d, nil
}

// verifyArgs verifies arguments by the types of their parameters, and converts bytes to text
// where the type does not hold bytes. blind means that pgx does not know the types.
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

// oidOfArg returns the types of the parameters of the arguments.
func (d unverifiedArgs) oidOfArg(oids []uint32) (toVerify []uint32) {
	for _, i := range d {
		if i < len(oids) {
			toVerify = append(toVerify, oids[i])
		}
	}
	return toVerify
}

// verifyArgsOnConn verifies arguments on a connection, which it queries for types that are not
// known. An error is the server's or the connection's.
func (s *statement) verifyArgsOnConn(ctx context.Context, conn *pgx.Conn, args []any, d unverifiedArgs) (*Error, error) {
	if len(d) == 0 {
		return nil, nil
	}
	mode := stmtcache.ModeOf(conn)
	known := stmtcache.OnConn(conn)
	oids, ok := known.Params(s.text.SQL)
	// A mode that describes a statement each time does not want the description cached.
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

// verifyArgsInTx verifies arguments in a transaction. It sends the deferred statements first,
// for the reason that prepareToBatch gives.
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

// unsendable makes the error of an argument that pgx could not encode: of the value, or of the
// statement if no value of its type can be sent. It returns nil if err is another error. conn
// is queried for the name of a type that pgx does not know; it may be nil.
func (s *statement) unsendable(ctx context.Context, known *pgtype.Map, conn *pgx.Conn, args []any, err error) *Error {
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

// isOutdated reports whether err proves that the statement's description on conn is
// outdated. If so, the other connections of the pool drop theirs before their next use.
func (s *statement) isOutdated(conn *pgx.Conn, err error) bool {
	return s.text.Analyzed() && connpool.NoteOutdated(conn, s.text.SQL, err)
}

// limits bound one reply: MaxRows and MaxBytes. Zero means no limit.
type limits struct {
	rows   int
	bytes  int
	filter *connpool.RowFilter // of the connection that it comes on; nil if there is none
}

// or is l, with limits that are zero taken from others.
func (l limits) or(others limits) limits {
	if l.rows == 0 {
		l.rows = others.rows
	}
	if l.bytes == 0 {
		l.bytes = others.bytes
	}
	return l
}

// A counter counts the bytes that a reply may still have.
type counter struct {
	limits
	left int
}

func (l limits) counter() counter { return counter{l, l.bytes} }

// over counts the current row, and reports whether the limit is exceeded. It is called only
// if there is a limit.
func (c *counter) over(rows rowscan.Rows) bool {
	for _, value := range rows.RawValues() {
		c.left -= len(value)
	}
	if c.filter != nil {
		c.filter.SetLeft(c.left)
		return c.left < 0 || c.filter.Refused()
	}
	return c.left < 0
}

func tooManyRows(limit int) *Error {
	return &Error{Code: CodeTooManyRows, Err: pgx.ErrTooManyRows,
		Message: fmt.Sprintf("more than MaxRows (%d) rows were found: narrow the condition, raise MaxRows, or stream them", limit)}
}

func tooManyBytes(limit int) *Error {
	return &Error{Code: CodeTooManyRows,
		Message: fmt.Sprintf("more than MaxBytes (%d) bytes of values were found: narrow the condition, select fewer or shorter columns, raise MaxBytes, or stream the rows", limit)}
}
