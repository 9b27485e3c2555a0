package stmtcache

import (
	"context"
	"errors"
	"net"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/pgcmd/pgcmd/internal/pgrows"
	"github.com/pgcmd/pgcmd/internal/pgxerr"
)

// A Reply has the rows of a prepared statement. It is used for one statement.
//
// pgx's own Query drops the description of a statement after every error, and so the next
// run pays two round trips to deallocate and to prepare it again. A Reply keeps it unless the
// error says that it may be outdated.
type Reply struct {
	conn     *pgx.Conn
	sql      string
	args     []any
	settings []Setting

	cache  *Cache
	ctx    context.Context
	reader *pgconn.ResultReader // nil if the statement was not sent
	after  *afterSettings       // instead of reader, if it was sent after settings; else nil
	ended  bool
	tag    pgconn.CommandTag
	err    error
	tracer pgx.QueryTracer // nil: none
	traced context.Context
}

// To says what Send sends, and where.
//
// Settings are set before the statement, in the same message and the same transaction. It is then
// sent by the same messages on a connection that is not set to use prepared statements, too.
func (r *Reply) To(conn *pgx.Conn, sql string, args []any, settings []Setting) {
	r.conn, r.sql, r.args, r.settings = conn, sql, args, settings
}

// Send sends a statement on a connection that is set to use prepared statements, as its Query
// does, and prepares it before if it is not known. It returns errors of preparing and of
// encoding; those of the execution are the rows'.
func (r *Reply) Send(ctx context.Context) error {
	r.cache, r.ctx = OnConn(r.conn), ctx
	sd, err := r.encode()
	if err != nil {
		return r.notSent(err)
	}
	if len(r.settings) > 0 {
		return r.sendAfter(r.settings, sd)
	}
	if ctx = r.ctx; ctx.Err() == nil { // else pgconn sends nothing
		r.cache.Watch.Start(ctx)
		ctx = context.Background() // pgconn need not follow it too
	}
	defer func() {
		if r.reader == nil { // OnNotice panicked
			r.stopWatch()
		}
	}()
	e := &r.cache.Encoded
	r.reader = r.conn.PgConn().ExecStatement(ctx, sd, e.ParamValues, e.ParamFormats, e.ResultFormats)
	e.Free()
	return nil
}

// encode encodes the arguments of the statement.
func (r *Reply) encode() (*pgconn.StatementDescription, error) {
	c := r.cache
	if c.config.Tracer != nil {
		r.ctx = r.startTrace(r.ctx, r.args)
	}
	sd, known, err := c.EncodeKnown(r.ctx, r.conn, r.sql, r.args)
	if !known {
		sd, err = c.DescribeAndEncode(r.ctx, r.conn, r.sql, r.args)
	}
	return sd, err
}

// EncodeKnown encodes the arguments of a statement into Encoded, if its description is known
// and they fit it. Otherwise ok is false: the statement must be described, perhaps once more.
func (c *Cache) EncodeKnown(ctx context.Context, conn *pgx.Conn, sql string, args []any) (sd *pgconn.StatementDescription, ok bool, err error) {
	if sd, ok, err = c.known(ctx, conn, sql); !ok || err != nil {
		return nil, ok, err
	}
	if err = c.Encoded.Build(conn.TypeMap(), sd, args); pgxerr.IsEncode(err) {
		c.Invalidate(sql)
		return nil, false, nil
	}
	return sd, true, err
}

// known returns the description of a statement; ok is false if it must be described.
func (c *Cache) known(ctx context.Context, conn *pgx.Conn, sql string) (sd *pgconn.StatementDescription, ok bool, err error) {
	e, _ := c.statements.Get(sql)
	if e == nil || e.description == nil {
		return nil, false, nil
	}
	if !c.tracesPrepare && e.description.Name != "" { // it is prepared already, unless DeallocateAll was called
		sd, err := conn.Prepare(ctx, e.description.Name, sql)
		if err != nil {
			return nil, true, err
		}
		e.description = sd
	}
	return e.description, true, nil
}

// afterSettings is the reply to a statement that was sent after settings.
type afterSettings struct {
	pgrows.Portal
	columns  []pgconn.FieldDescription
	settings []Setting
}

// sendAfter sends a statement whose arguments are encoded, after settings.
func (r *Reply) sendAfter(settings []Setting, sd *pgconn.StatementDescription) error {
	c, pg := r.cache, r.conn.PgConn()
	setting, err := c.DescribeSettings(r.ctx, r.conn, settings)
	if err == nil {
		err = r.ctx.Err()
	}
	if err != nil {
		return r.notSent(err)
	}
	r.after = &afterSettings{settings: settings, columns: pgrows.Columns(nil, sd, c.Encoded.ResultFormats)}
	r.after.Portal = *pgrows.NewPortal(pg, r.conn.TypeMap(), &r.after.columns, len(settings))
	to := pg.Frontend()
	QueueSettings(to, setting, settings)
	if sd.Name == "" {
		to.SendParse(&pgproto3.Parse{Query: r.sql, ParameterOIDs: sd.ParamOIDs})
	}
	to.SendBind(&pgproto3.Bind{PreparedStatement: sd.Name, Parameters: c.Encoded.ParamValues,
		ParameterFormatCodes: c.Encoded.ParamFormats, ResultFormatCodes: c.Encoded.ResultFormats})
	if sd.Name == "" || len(sd.Fields) == 0 { // they may not have been known when it was described
		to.SendDescribe(&pgproto3.Describe{ObjectType: 'P'})
	}
	to.SendExecute(&pgproto3.Execute{})
	to.SendSync(&pgproto3.Sync{})
	c.Encoded.Free()
	c.Watch.Start(r.ctx)
	_ = r.after.Flush()
	return nil
}

// finish returns the end of the reply.
func (a *afterSettings) finish(ctx context.Context, c *Cache) (pgconn.CommandTag, error) {
	a.Close()
	err := a.Finish(ctx)
	if a.Skipping() > 0 {
		err = RefusedSetting(a.settings[len(a.settings)-a.Skipping()].Name, err)
		c.InvalidateAfter(SetSQL, err)
	}
	return a.CommandTag(), err
}

// DescribeAndEncode describes a statement and encodes its arguments into Encoded.
func (c *Cache) DescribeAndEncode(ctx context.Context, conn *pgx.Conn, sql string, args []any) (*pgconn.StatementDescription, error) {
	sd, err := c.Describe(ctx, conn, sql)
	if err == nil {
		err = c.Encoded.Build(conn.TypeMap(), sd, args)
	}
	return sd, err
}

// Traced reports whether a tracer got the arguments, which it may keep.
func (r *Reply) Traced() bool { return r.tracer != nil }

func (r *Reply) startTrace(ctx context.Context, args []any) context.Context {
	r.tracer = r.cache.config.Tracer
	r.traced = r.tracer.TraceQueryStart(ctx, r.conn, pgx.TraceQueryStartData{SQL: r.sql, Args: args})
	return r.traced
}

func (r *Reply) notSent(err error) error {
	r.err = err
	r.end()
	return err
}

func (r *Reply) end() {
	if r.ended = true; r.tracer != nil {
		r.tracer.TraceQueryEnd(r.traced, r.conn, pgx.TraceQueryEndData{CommandTag: r.tag, Err: r.err})
	}
}

// Next reads the next row.
func (r *Reply) Next() bool {
	switch {
	case r.ended:
		return false
	case r.after != nil && r.after.Next(), r.after == nil && r.reader.NextRow():
		return true
	}
	r.Close()
	return false
}

// Close reads the rest of the reply.
func (r *Reply) Close() {
	if r.ended {
		return
	}
	if r.after != nil {
		r.tag, r.err = r.after.finish(r.ctx, r.cache)
	} else {
		r.tag, r.err = r.reader.Close()
	}
	r.stopWatch()
	if r.err != nil {
		r.err = ofContext(r.ctx, r.err)
		r.cache.InvalidateAfter(r.sql, r.err)
	}
	r.end()
}

func (r *Reply) stopWatch() {
	r.cache.Watch.End(r.conn.IsClosed())
	r.cache.Watch.Close()
}

// ofContext joins the error of a context to that of a connection that was interrupted because of
// it.
func ofContext(ctx context.Context, err error) error {
	if timeout, ok := errors.AsType[net.Error](err); ok && timeout.Timeout() && ctx.Err() != nil && !errors.Is(err, ctx.Err()) {
		return errors.Join(ctx.Err(), err)
	}
	return err
}

// Err returns the error of the statement, when the rows are closed.
func (r *Reply) Err() error { return r.err }

// CommandTag returns the command tag, when the rows are closed.
func (r *Reply) CommandTag() pgconn.CommandTag { return r.tag }

// FieldDescriptions returns the columns.
func (r *Reply) FieldDescriptions() []pgconn.FieldDescription {
	switch {
	case r.after != nil:
		return r.after.columns
	case r.reader == nil:
		return nil
	}
	return r.reader.FieldDescriptions()
}

// RawValues returns the values of the row, until the next call of Next.
func (r *Reply) RawValues() [][]byte {
	if r.after != nil {
		return r.after.RawValues()
	}
	return r.reader.Values()
}

// Conn returns the connection that the statement was sent on.
func (r *Reply) Conn() *pgx.Conn { return r.conn }

// TypeMap returns the types that the values are read with.
func (r *Reply) TypeMap() *pgtype.Map { return r.conn.TypeMap() }
