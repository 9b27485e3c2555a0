package txn

import (
	"context"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/pgcmd/pgcmd/internal/pgrows"
	"github.com/pgcmd/pgcmd/internal/stmtcache"
)

// A reply has the rows of a prepared statement that was sent with the deferred ones.
type reply struct {
	pgrows.Portal
	t       *Txn
	ctx     context.Context
	sql     string
	columns []pgconn.FieldDescription
	before  []statement // that were sent with it
	ended   bool
	err     error
}

// SendsPrepared reports whether Send sends prepared statements by itself, and keeps no arguments:
// not where pgx has to trace them, and not on a transaction of others, which may have ended.
func (t *Txn) SendsPrepared() bool {
	return t.Conn != nil && !t.External && stmtcache.CachesStatements(t.Conn) && stmtcache.ConfigOf(t.Conn).Tracer == nil
}

// sendPrepared sends a statement in one message with the deferred ones. If it has to be
// described first, the deferred ones are sent before: see prepareToBatch.
func (t *Txn) sendPrepared(ctx context.Context, sql string, args []any) (*reply, error) {
	c := stmtcache.OnConn(t.Conn)
	sd, known, err := c.EncodeKnown(ctx, t.Conn, sql, args)
	if !known {
		if err := t.SendDeferred(ctx); err != nil {
			return nil, err
		}
		sd, err = c.DescribeAndEncode(ctx, t.Conn, sql, args)
	}
	if err == nil {
		err = t.Idle()
	}
	if err != nil {
		return nil, err
	}
	r := &t.reply
	*r = reply{t: t, ctx: ctx, sql: sql, columns: pgrows.Columns(r.columns[:0], sd, c.Encoded.ResultFormats)}
	r.Portal = *pgrows.NewPortal(t.Conn.PgConn(), t.Conn.TypeMap(), &r.columns, len(t.deferred))
	to := t.Conn.PgConn().Frontend()
	r.before = t.queueDeferred(to)
	to.SendBind(&pgproto3.Bind{PreparedStatement: sd.Name, Parameters: c.Encoded.ParamValues,
		ParameterFormatCodes: c.Encoded.ParamFormats, ResultFormatCodes: c.Encoded.ResultFormats})
	to.SendExecute(&pgproto3.Execute{})
	to.SendSync(&pgproto3.Sync{})
	c.Encoded.Free()
	t.startWatch(ctx)
	_ = r.Flush()
	return r, nil
}

func (r *reply) Next() bool {
	if r.ended {
		return false
	}
	if r.Portal.Next() {
		return true
	}
	r.end()
	return false
}

func (r *reply) Close() {
	if !r.ended {
		r.Portal.Close()
		r.end()
	}
}

func (r *reply) end() {
	r.ended = true
	r.t.watch.End(false)
	r.err = deferredError(r.before, r.Skipping(), r.Finish(r.ctx))
	r.before = nil
	if r.err != nil {
		stmtcache.OnConn(r.t.Conn).InvalidateAfter(r.sql, r.err)
	}
	r.t.noteBegin(r.err)
	r.ctx = nil
}

func (r *reply) Err() error { return r.err }

// Conn returns the connection of the transaction.
func (r *reply) Conn() *pgx.Conn { return r.t.Conn }
