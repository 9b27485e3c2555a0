package pgcmd

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/pgcmd/pgcmd/internal/pgrows"
)

// A pipeline is what a wave is sent through.
type pipeline interface {
	SendPrepare(name, sql string, paramOIDs []uint32)
	SendQueryParams(sql string, paramValues [][]byte, paramOIDs []uint32, paramFormats, resultFormats []int16)
	SendQueryPrepared(stmtName string, paramValues [][]byte, paramFormats, resultFormats []int16)
	SendQueryStatement(sd *pgconn.StatementDescription, paramValues [][]byte, paramFormats, resultFormats []int16)
	SendPipelineSync()
	Flush() error
	GetResults() (any, error)
	Close() error
}

var (
	_ pipeline = (*pgconn.Pipeline)(nil)
	_ pipeline = (*commitPipeline)(nil)
)

// A commitPipeline is a [pgconn.Pipeline] for statements of which the last is COMMIT: the
// server may be committing as soon as they are sent. So the end of the caller's context
// neither closes the connection nor cancels anything: it bounds the wait for what the
// statements before COMMIT reply. They are ended by statement_timeout, which was set by the
// context's deadline. The server is asked to send their replies before it commits (Flush in
// the protocol), and then the time for COMMIT begins.
type commitPipeline struct {
	rawConn
	s     *txn
	ctx   context.Context
	p     *pgconn.Pipeline // has the connection, sends, and reads the last ReadyForQuery
	queue []pipelineRequest
	at    int
	rows  pipelineRows
	err   error // the connection is lost

	skipping bool // up to the next Sync, after an error
	flushed  bool
	closed   bool

	stop  func() bool // the watch of the context; nil if it does not end
	bound struct {
		sync.Mutex
		committing bool // the time for COMMIT runs
	}
}

type pipelineRequest struct {
	kind    requestKind
	sd      *pgconn.StatementDescription
	formats []int16
}

type requestKind int

const (
	prepareRequest requestKind = iota
	statementRequest
	commitRequest
	syncRequest
)

func newCommitPipeline(ctx context.Context, conn *pgx.Conn, s *txn) *commitPipeline {
	usable := !conn.IsClosed() && !conn.PgConn().IsBusy()
	c := &commitPipeline{rawConn: rawConn{conn: conn}, s: s, ctx: ctx, p: conn.PgConn().StartPipeline(context.Background())}
	c.rows.c = c
	switch {
	case !usable:
		c.err = c.p.Flush()
	case ctx.Err() != nil:
		c.err = ctx.Err()
	case ctx.Done() != nil:
		c.stop = context.AfterFunc(ctx, c.ended)
	}
	return c
}

// ended bounds the wait, when the caller's context ends.
func (c *commitPipeline) ended() {
	c.bound.Lock()
	defer c.bound.Unlock()
	if !c.bound.committing {
		_ = c.conn.PgConn().Conn().SetDeadline(time.Now().Add(orDefault(c.s.commitTimeout, commitTime)))
	}
}

// committing begins the time for COMMIT.
func (c *commitPipeline) committing() {
	c.bound.Lock()
	defer c.bound.Unlock()
	c.bound.committing = true
	_ = c.conn.PgConn().Conn().SetDeadline(c.s.commitDeadline(c.ctx))
}

// unbound ends the watch of the context, and takes the bounds away.
func (c *commitPipeline) unbound() {
	c.bound.Lock()
	defer c.bound.Unlock()
	if c.stop != nil {
		c.stop()
	}
	c.bound.committing = true // so that ended does nothing
	_ = c.conn.PgConn().Conn().SetDeadline(time.Time{})
}

func (c *commitPipeline) queued(r pipelineRequest) (*pgproto3.Frontend, bool) {
	c.queue = append(c.queue, r)
	return c.conn.PgConn().Frontend(), c.err == nil
}

func (c *commitPipeline) SendPrepare(name, sql string, paramOIDs []uint32) {
	if to, ok := c.queued(pipelineRequest{kind: prepareRequest}); ok {
		to.SendParse(&pgproto3.Parse{Name: name, Query: sql, ParameterOIDs: paramOIDs})
		to.SendDescribe(&pgproto3.Describe{ObjectType: 'S', Name: name})
	}
}

func (c *commitPipeline) SendQueryParams(sql string, paramValues [][]byte, paramOIDs []uint32, paramFormats, resultFormats []int16) {
	if to, ok := c.queued(pipelineRequest{kind: statementRequest}); ok {
		to.SendParse(&pgproto3.Parse{Query: sql, ParameterOIDs: paramOIDs})
		c.execute("", paramValues, paramFormats, resultFormats, true)
	}
}

func (c *commitPipeline) SendQueryPrepared(stmtName string, paramValues [][]byte, paramFormats, resultFormats []int16) {
	if _, ok := c.queued(pipelineRequest{kind: statementRequest}); ok {
		c.execute(stmtName, paramValues, paramFormats, resultFormats, true)
	}
}

func (c *commitPipeline) SendQueryStatement(sd *pgconn.StatementDescription, paramValues [][]byte, paramFormats, resultFormats []int16) {
	if _, ok := c.queued(pipelineRequest{kind: statementRequest, sd: sd, formats: resultFormats}); ok {
		c.execute(sd.Name, paramValues, paramFormats, resultFormats, len(sd.Fields) == 0)
	}
}

func (c *commitPipeline) execute(statement string, paramValues [][]byte, paramFormats, resultFormats []int16, describe bool) {
	to := c.conn.PgConn().Frontend()
	to.SendBind(&pgproto3.Bind{PreparedStatement: statement, ParameterFormatCodes: paramFormats, Parameters: paramValues, ResultFormatCodes: resultFormats})
	if describe {
		to.SendDescribe(&pgproto3.Describe{ObjectType: 'P'})
	}
	to.SendExecute(&pgproto3.Execute{})
}

// SendPipelineSync sends COMMIT with the last of them: see sendCommit.
func (c *commitPipeline) SendPipelineSync() {
	if to, ok := c.queued(pipelineRequest{kind: syncRequest}); ok {
		to.SendSync(&pgproto3.Sync{})
	}
}

// sendCommit sends COMMIT, and the last Sync.
func (c *commitPipeline) sendCommit() {
	if to, ok := c.queued(pipelineRequest{kind: commitRequest}); ok {
		to.Send(&pgproto3.Flush{})
		to.SendParse(&pgproto3.Parse{Query: "commit"})
		to.SendBind(&pgproto3.Bind{})
		to.SendExecute(&pgproto3.Execute{})
	}
	if _, ok := c.queued(pipelineRequest{kind: syncRequest}); ok {
		c.p.SendPipelineSync()
	}
}

// Flush sends what was queued. One that fails has not sent COMMIT, which is its end.
func (c *commitPipeline) Flush() error {
	if c.err != nil {
		return c.err
	}
	c.flushed = true
	if err := c.p.Flush(); err != nil {
		return c.lose(err)
	}
	return nil
}

// GetResults returns the next reply: a *pipelineRows of a statement, a
// *pgconn.PipelineSync of a Sync, a *pgconn.StatementDescription, which is empty, of a
// Prepare.
func (c *commitPipeline) GetResults() (any, error) {
	if c.rows.Close(); c.err != nil {
		return nil, c.err
	}
	for c.skipping && c.at < len(c.queue) && c.queue[c.at].kind != syncRequest {
		c.at++
	}
	if c.at == len(c.queue) {
		return nil, nil
	}
	r := &c.queue[c.at]
	c.at++
	switch {
	case r.kind == syncRequest && c.at == len(c.queue):
		// Nothing is left to commit, and the transaction's status is for pgconn to know.
		if err := c.p.Close(); err != nil {
			return nil, c.lose(err)
		}
		c.skipping = false
		return &pgconn.PipelineSync{}, nil
	case r.kind == commitRequest:
		c.committing()
	}
	c.rows.begin(r)
	for {
		message, err := c.next()
		if err != nil {
			return nil, err
		}
		switch message := message.(type) {
		case *pgproto3.ParseComplete, *pgproto3.BindComplete, *pgproto3.ParameterDescription:
			continue
		case *pgproto3.NoData:
			if r.kind != prepareRequest {
				continue
			}
		case *pgproto3.RowDescription:
			if c.rows.columns = pgrows.Fields(message); r.kind != prepareRequest {
				continue
			}
		case *pgproto3.ReadyForQuery:
			if r.kind == syncRequest {
				c.skipping = false
				return &pgconn.PipelineSync{}, nil
			}
		case *pgproto3.DataRow, *pgproto3.CommandComplete, *pgproto3.EmptyQueryResponse:
			if r.kind == statementRequest || r.kind == commitRequest {
				c.rows.take(message)
				return &c.rows, nil
			}
		}
		if r.kind == prepareRequest {
			return &pgconn.StatementDescription{}, nil
		}
		return nil, c.lose(pgrows.ErrMalformed)
	}
}

// next returns the next message, or the error of the server or the connection.
func (c *commitPipeline) next() (pgproto3.BackendMessage, error) {
	message, err := c.receive()
	c.s.unreplicated = c.unreplicated
	switch {
	case err == nil:
		return message, nil
	case isPgError(err) && !c.conn.IsClosed():
		c.skipping = true
		return nil, err
	}
	return nil, c.lose(err)
}

// lose gives up the connection.
func (c *commitPipeline) lose(err error) error {
	if c.err != nil {
		return c.err
	}
	if c.err = uncommitted(err); c.ctx.Err() != nil && !isPgError(err) {
		c.err = errors.Join(c.ctx.Err(), err)
	}
	closeQuietly(c.conn)
	return c.err
}

// Close reads what was not read. It may be called twice.
func (c *commitPipeline) Close() error {
	if c.closed {
		return c.err
	}
	c.closed = true
	defer func() {
		if c.err == nil && c.at < len(c.queue) { // a panic of the user's OnNotice
			_ = c.lose(pgrows.ErrMalformed)
		}
		_ = c.p.Close()
		c.unbound()
	}()
	if len(c.queue) > 0 && !c.flushed {
		_ = c.lose(pgrows.ErrMalformed) // what was queued is in pgconn's buffer
	}
	for c.err == nil && c.at < len(c.queue) {
		_, _ = c.GetResults()
	}
	return c.err
}

// pipelineRows are the rows of one statement. Their memory is used again for the next.
type pipelineRows struct {
	c       *commitPipeline
	columns []pgconn.FieldDescription
	values  [][]byte
	first   bool // the first row has come
	open    bool // more may come
	tag     pgconn.CommandTag
	err     error
}

func (r *pipelineRows) begin(q *pipelineRequest) {
	*r = pipelineRows{c: r.c, columns: r.columns[:0]}
	if q.sd == nil {
		return
	}
	r.columns = append(r.columns, q.sd.Fields...)
	for i := range r.columns {
		switch {
		case len(q.formats) == 1:
			r.columns[i].Format = q.formats[0]
		case i < len(q.formats):
			r.columns[i].Format = q.formats[i]
		default:
			r.columns[i].Format = pgx.TextFormatCode
		}
	}
}

// take takes a message of the statement's.
func (r *pipelineRows) take(message pgproto3.BackendMessage) {
	switch m := message.(type) {
	case *pgproto3.DataRow:
		r.first, r.open = !r.open, true
		r.values = m.Values
	case *pgproto3.CommandComplete:
		r.open, r.tag = false, pgconn.NewCommandTag(string(m.CommandTag))
	case *pgproto3.EmptyQueryResponse:
		r.open = false
	default:
		r.open, r.err = false, r.c.lose(pgrows.ErrMalformed)
	}
}

func (r *pipelineRows) Next() bool {
	if r.first {
		r.first = false
		return true
	}
	if r.open {
		message, err := r.c.next()
		if err != nil {
			r.open, r.err = false, err
			return false
		}
		r.take(message)
	}
	return r.open
}

func (r *pipelineRows) Close() {
	for r.Next() {
	}
}

func (r *pipelineRows) Err() error                                   { return r.err }
func (r *pipelineRows) CommandTag() pgconn.CommandTag                { return r.tag }
func (r *pipelineRows) FieldDescriptions() []pgconn.FieldDescription { return r.columns }
func (r *pipelineRows) RawValues() [][]byte                          { return r.values }
func (r *pipelineRows) TypeMap() *pgtype.Map                         { return r.c.conn.TypeMap() }
func (r *pipelineRows) Conn() *pgx.Conn                              { return nil }
