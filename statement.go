package pgcmd

import (
	"context"
	"fmt"
	"reflect"
	"sync"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pgcmd/pgcmd/internal/bind"
	"github.com/pgcmd/pgcmd/internal/connpool"
	"github.com/pgcmd/pgcmd/internal/multiplex"
	"github.com/pgcmd/pgcmd/internal/params"
	"github.com/pgcmd/pgcmd/internal/pgrows"
	"github.com/pgcmd/pgcmd/internal/rowscan"
	"github.com/pgcmd/pgcmd/internal/sqltext"
	"github.com/pgcmd/pgcmd/internal/stmtcache"
	"github.com/pgcmd/pgcmd/internal/structfields"
	"github.com/pgcmd/pgcmd/internal/typemap"
)

// A statement is the SQL of a command and what is computed for it at definition. With makes a
// copy of it if that changes how it runs.
type statement struct {
	name     string // of the command
	text     sqltext.Text
	fields   []structfields.Field // fields[i] of the input is $i+1
	params   []string             // their paths, for messages
	checks   typemap.Checks
	binding  bind.Params
	built    bool // by a function, which returns its arguments
	readOnly bool // it was declared to be, so that it may run on a replica
	reads    bool // it changes nothing: by declaration, or by its text
	writes   bool // it was declared to change what its text and its command tag do not show
	shared   bool // it may run on a shared connection
	limits   limits
	most     limits // whatever the pool's are
}

func newStatement(command string, in reflect.Type, text sqltext.Text) *statement {
	s := &statement{name: command, text: text}
	var err error
	s.binding, err = bind.Compile(in, text)
	mustDefine(command, err)
	s.fields, s.params = s.binding.Fields, s.binding.Paths
	for i, f := range s.fields {
		s.checks.Add(i, len(s.fields), typemap.CheckOf(f.Type))
	}
	return s
}

// with returns the statement with options, and panics if its SQL does not allow them.
func (s *statement) with(command string, o *allOptions) *statement {
	if o.ReadOnly && s.text.Writes {
		panic(fmt.Sprintf("pgcmd: %s: Options.ReadOnly, but the SQL is plainly a write: take one of them away", command))
	}
	return s.withChecked(o)
}

// withChecked is with for options that the SQL is known to allow.
func (s *statement) withChecked(o *allOptions) *statement {
	c := *s
	c.readOnly, c.writes, c.limits, c.most = o.ReadOnly, o.Writes, limits{rows: o.MaxRows, bytes: o.MaxBytes}, o.most
	c.reads = o.reads(&s.text)
	c.shared = c.reads
	return &c
}

// A result is the state of a statement that was sent, and its rows.
type result struct {
	rows             rowscan.Rows
	results          pgx.BatchResults    // that the rows are part of; nil if they are not
	direct           *pgx.Conn           // that the statement is sent on by query; nil if it is sent otherwise
	reply            stmtcache.Reply     // the rows of one that is sent on direct as a prepared statement, or after settings
	conn             *pgxpool.Conn       // taken from a pool for this statement alone; nil if the caller's
	sharedRequest    *multiplex.Request  // on a shared connection; nil if it was not
	heldTx           *serverTx           // the Tx that the statement is part of, to be given back; nil if none
	inTx             *serverTx           // the Tx that the statement is part of; nil if none
	sql              string              // that is sent on direct
	args             []any               // of sql
	settings         []stmtcache.Setting // that are sent before sql
	described        bool                // by describe, and not by pgx
	joined           bool                // the statement is part of a transaction that began before it
	netConn          *connpool.Conn      // of the connection; nil if it is not instrumented
	sentBefore       int64               // bytes on it, before the statement
	failedBeforeSend bool                // pgx gave up before it sent the statement, if not before it prepared it
	unreplicated     int32               // commits counted on it, before the statement
	argsFree         bool                // nobody keeps the arguments
	limits           limits              // set before it is sent
	ctx              context.Context     // of the fast path, to close it with
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

// results are used again by later statements.
var results = sync.Pool{New: func() any { return new(result) }}

func newResult(l limits) *result {
	r := results.Get().(*result)
	r.limits = l
	return r
}

// send sends the statement, without limits. Unless it returns an error, the caller must close
// the result.
func (s *statement) send(ctx context.Context, db DB, args []any) (*result, *Error) {
	t := resolve(db)
	r, failure := s.prepareSend(ctx, &t, args, limits{})
	if failure != nil || r.direct == nil {
		return r, failure
	}
	defer s.closeUnsent(ctx, r)
	return r, s.queryError(ctx, args, r, r.query(ctx))
}

// query sends a statement on r.direct.
func (r *result) query(ctx context.Context) (err error) {
	if len(r.settings) == 0 && !stmtcache.CachesStatements(r.direct) {
		return r.queryUncached(ctx)
	}
	r.reply.To(r.direct, r.sql, r.args, r.settings)
	err = r.reply.Send(ctx)
	r.rows, r.argsFree = &r.reply, !r.reply.Traced()
	return err
}

func (r *result) queryUncached(ctx context.Context) (err error) {
	r.rows, err = stmtcache.Query(ctx, r.direct, r.sql, r.args)
	return err
}

// prepareSend finds or acquires the connection, r.direct; the caller calls query, and queryError
// with its error. In a transaction, and on a shared connection, it sends the statement itself, and
// r.direct is nil.
func (s *statement) prepareSend(ctx context.Context, t *target, args []any, limits limits) (r *result, failure *Error) {
	if err := ctx.Err(); err != nil {
		return nil, newUnsentError(ctx, err)
	}
	unverified, refused := s.checks.Check(args)
	if refused != nil {
		return nil, s.argError(refused)
	}
	settings, failure := t.own.settingsFor(ctx)
	switch {
	case failure != nil:
		return nil, failure
	case t.own != nil && s.shared && t.own.mux != nil:
		r = newResult(limits)
		if failure, done := s.runShared(ctx, t.own, settings, args, unverified, r); done {
			return r, failure
		}
	case t.tx != nil:
		r = newResult(limits)
		return r, s.sendInTx(ctx, t.tx, args, unverified, r)
	case t.pool == nil && t.conn == nil:
		r = newResult(limits)
		return r, s.sendForeign(ctx, t, args, unverified, r)
	}
	l, failure := t.acquire(ctx, &s.name, s.readOnly)
	if failure != nil {
		return nil, failure
	}
	if r == nil {
		r = newResult(limits)
	}
	r.direct, r.conn, r.sql, r.args, r.settings = l.conn, l.pooled, s.text.SQL, args, settings
	r.described = len(settings) > 0
	r.joined = l.pooled == nil && l.conn.PgConn().TxStatus() != 'I'
	r.netConn = connpool.Of(l.conn)
	if len(unverified) > 0 {
		if failure := s.verifyBeforeSend(ctx, args, unverified, r); failure != nil {
			return nil, failure
		}
	}
	if r.netConn != nil {
		r.sentBefore, r.unreplicated = r.netConn.Sent(), r.netConn.Unreplicated()
	}
	r.bind(l.conn)
	return r, nil
}

// closeUnsent gives the connection back if the statement was not sent: user code panicked
// while pgx encoded or traced, or an argument was refused.
func (s *statement) closeUnsent(ctx context.Context, r *result) {
	if r.rows == nil {
		s.close(ctx, r)
	}
}

// queryError makes the error of a statement whose query returned err; nil for nil.
func (s *statement) queryError(ctx context.Context, args []any, r *result, err error) *Error {
	if err == nil {
		return nil
	}
	r.bound.Release()
	if failure := s.unsendable(ctx, r.direct, args, err); failure != nil {
		s.close(ctx, r)
		return failure
	}
	// query itself returns only errors of preparing and encoding; those of the execution are
	// the rows'. The simple protocol prepares nothing, and returns all errors.
	r.failedBeforeSend = stmtcache.ModeOf(r.direct) != pgx.QueryExecModeSimpleProtocol
	failure := s.statementError(ctx, r, err)
	s.close(ctx, r)
	return failure
}

// verifyBeforeSend verifies arguments by their types on the server. If one is refused, or
// user code panics, the connection is given back.
func (s *statement) verifyBeforeSend(ctx context.Context, args []any, unverified typemap.Unverified, r *result) (failure *Error) {
	verified := false
	defer func() {
		if !verified {
			s.close(ctx, r)
		}
	}()
	refused, err := unverified.VerifyFor(ctx, r.direct, s.text.SQL, args)
	if failure = s.argError(refused); err != nil {
		failure = s.statementError(ctx, r, err)
		failure.Effect = NotApplied // it was only described
		failure.reconcileCode()
	}
	verified = failure == nil
	return failure
}

// sendForeign sends the statement on a transaction of pgx, or on a DB of another type.
func (s *statement) sendForeign(ctx context.Context, t *target, args []any, unverified typemap.Unverified, r *result) *Error {
	r.joined = t.inTransaction()
	var conn *pgx.Conn
	if t.foreign != nil {
		conn = t.foreign.Conn()
		if len(unverified) > 0 && conn != nil && t.foreign.SendBatch(ctx, new(pgx.Batch)).Close() == nil { // it has not ended
			if refused, err := unverified.VerifyFor(ctx, conn, s.text.SQL, args); refused != nil {
				return s.argError(refused)
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
		if failure := s.unsendable(ctx, conn, args, err); failure != nil {
			return failure
		}
	}
	return s.statementError(ctx, r, err)
}

// sendInTx sends the statement on a Tx.
func (s *statement) sendInTx(ctx context.Context, tx *Tx, args []any, unverified typemap.Unverified, r *result) *Error {
	r.joined, r.inTx = true, tx.s
	if err := tx.level.Lock(ctx); err != nil {
		return newUnsentError(ctx, err)
	}
	tx.s.Inspect(&s.text)
	if len(unverified) > 0 && tx.s.Conn != nil {
		refused, err := s.verifyInTx(ctx, tx.s, args, unverified)
		if refused != nil || err != nil {
			err = tx.s.UnlockWith(err)
		}
		if err != nil {
			return s.statementError(ctx, r, err)
		}
		if refused != nil {
			return s.argError(refused)
		}
	}
	r.bind(tx.s.Conn)
	r.argsFree = tx.s.SendsPrepared()
	rows, results, err := tx.s.Send(ctx, s.text.SQL, args)
	if err != nil {
		err = tx.s.UnlockWith(err)
		if tx.s.Conn != nil {
			r.bound.Release()
			if failure := s.unsendable(ctx, tx.s.Conn, args, err); failure != nil {
				return failure
			}
		}
		return s.statementError(ctx, r, err)
	}
	r.rows, r.results, r.heldTx = rows, results, tx.s
	return nil
}

// verifyInTx verifies arguments in a transaction. It sends the deferred statements first, for
// the reason that `txn` gives in prepareToBatch.
func (s *statement) verifyInTx(ctx context.Context, tx *serverTx, args []any, unverified typemap.Unverified) (*typemap.ArgError, error) {
	if !stmtcache.OnConn(tx.Conn).Known(s.text.SQL) {
		if err := tx.SendDeferred(ctx); err != nil {
			return nil, err
		}
	}
	return unverified.VerifyFor(ctx, tx.Conn, s.text.SQL, args)
}

// encode describes the statement on conn, unless the description is cached, and encodes the
// arguments for it before anything is sent, since that may run user code. tx is the transaction
// that conn is in, or nil. refused is why the arguments cannot be sent, of an outdated
// description perhaps if it was cached; err is of the server or the connection.
func (s *statement) encode(ctx context.Context, conn *pgx.Conn, tx *serverTx, args []any, unverified typemap.Unverified, cached bool, to *params.Encoder) (sd *pgconn.StatementDescription, refused *Error, err error) {
	if !cached && tx != nil {
		// If the server refuses the statement, that must not abort the transaction before the
		// deferred savepoint is made.
		if err := tx.SendDeferred(ctx); err != nil {
			return nil, nil, err
		}
	}
	if sd, err = stmtcache.OnConn(conn).Describe(ctx, conn, s.text.SQL); err != nil {
		return nil, nil, err
	}
	unfit, err := unverified.Verify(ctx, conn, sd.ParamOIDs, args)
	if unfit != nil || err != nil {
		return nil, s.argError(unfit), err
	}
	if err := to.Build(conn.TypeMap(), sd, args); err != nil {
		if !cached { // it may query the name of a type
			refused = s.unsendable(ctx, conn, args, err)
		}
		if refused == nil {
			refused, _ = s.classifyStatement(ctx, err)
		}
		return nil, refused, nil
	}
	return sd, nil, nil
}

// connection returns the connection that the statement was sent on, or nil if it is not known.
func (r *result) connection() *pgx.Conn {
	switch {
	case r.conn != nil:
		return r.conn.Conn()
	case r.inTx != nil:
		return r.inTx.Conn
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
		r.heldTx.UnlockWith(r.rows.Err())
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
	if s.reads {
		patience = pgrows.MaxDrainTime
	}
	return pgrows.Stop(ctx, r.rows.Conn(), r.rows, patience, s.mayStopReading(r), r.conn != nil)
}

// mayStopReading reports whether the reading of a statement may be stopped before its end.
func (s *statement) mayStopReading(r *result) bool {
	return r.rows.Conn() != nil && !r.joined && s.text.Reads
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

// atMost lowers what is not limited, or more than most allows.
func (l limits) atMost(most limits) limits {
	if most.rows > 0 && (l.rows == 0 || l.rows > most.rows) {
		l.rows = most.rows
	}
	if most.bytes > 0 && (l.bytes == 0 || l.bytes > most.bytes) {
		l.bytes = most.bytes
	}
	return l
}

// limitsBelow are the limits of the statement on a DB with limits of its own.
func (s *statement) limitsBelow(others limits) limits { return s.limits.or(others).atMost(s.most) }

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
