package stmtcache

import (
	"context"
	"errors"
	"net"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/pgcmd/pgcmd/internal/pgxerr"
)

// A Reply has the rows of a prepared statement. It is used for one statement.
//
// pgx's own Query drops the description of a statement after every error, and so the next
// run pays two round trips to deallocate and to prepare it again. A Reply keeps it unless the
// error says that it may be outdated.
type Reply struct {
	conn   *pgx.Conn
	cache  *Cache
	sql    string
	ctx    context.Context
	reader *pgconn.ResultReader // nil if the statement was not sent
	ended  bool
	tag    pgconn.CommandTag
	err    error
	tracer pgx.QueryTracer // nil: none
	traced context.Context
}

// Send sends a statement on a connection that is set to use prepared statements, as its Query
// does, and prepares it before if it is not known. It returns errors of preparing and of
// encoding; those of the execution are the rows'.
func (r *Reply) Send(ctx context.Context, conn *pgx.Conn, sql string, args []any) error {
	c := OnConn(conn)
	r.conn, r.cache, r.sql = conn, c, sql
	if c.config.Tracer != nil {
		ctx = r.startTrace(ctx, args)
	}
	sd, known, err := c.EncodeKnown(ctx, conn, sql, args)
	if !known {
		sd, err = c.DescribeAndEncode(ctx, conn, sql, args)
	}
	if err != nil {
		return r.notSent(err)
	}
	r.ctx = ctx
	if ctx.Err() == nil { // else pgconn sends nothing
		c.Watch.Start(ctx)
		ctx = context.Background() // pgconn need not follow it too
	}
	defer func() {
		if r.reader == nil { // OnNotice panicked
			r.stopWatch()
		}
	}()
	r.reader = conn.PgConn().ExecStatement(ctx, sd, c.Encoded.ParamValues, c.Encoded.ParamFormats, c.Encoded.ResultFormats)
	c.Encoded.Free()
	return nil
}

// EncodeKnown encodes the arguments of a statement into Encoded, if its description is known
// and they fit it. Otherwise ok is false: the statement must be described, perhaps once more.
func (c *Cache) EncodeKnown(ctx context.Context, conn *pgx.Conn, sql string, args []any) (sd *pgconn.StatementDescription, ok bool, err error) {
	e, _ := c.statements.Get(sql)
	if e == nil || e.description == nil {
		return nil, false, nil
	}
	if !c.tracesPrepare { // it is prepared already, unless DeallocateAll was called
		if e.description, err = conn.Prepare(ctx, e.description.Name, sql); err != nil {
			return nil, true, err
		}
	}
	if err = c.Encoded.Build(conn.TypeMap(), e.description, args); pgxerr.IsEncode(err) {
		c.Invalidate(sql)
		return nil, false, nil
	}
	return e.description, true, err
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
	if r.ended {
		return false
	}
	if r.reader.NextRow() {
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
	r.tag, r.err = r.reader.Close()
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
	if r.reader == nil {
		return nil
	}
	return r.reader.FieldDescriptions()
}

// RawValues returns the values of the row, until the next call of Next.
func (r *Reply) RawValues() [][]byte { return r.reader.Values() }

// Conn returns the connection that the statement was sent on.
func (r *Reply) Conn() *pgx.Conn { return r.conn }

// TypeMap returns the types that the values are read with.
func (r *Reply) TypeMap() *pgtype.Map { return r.conn.TypeMap() }
