package pgcommit

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/pgcmd/pgcmd/internal/pgrows"
	"github.com/pgcmd/pgcmd/internal/pgxerr"
)

// A Pipeline is like a [pgconn.Pipeline], for statements of which the last is COMMIT: the
// server may be committing as soon as they are sent. So the end of the context neither
// closes the connection nor cancels anything: it bounds the wait for the replies to the
// statements before COMMIT, which statement_timeout ends, set by the context's deadline. The
// server sends their replies before it commits (the protocol's Flush), and then the time for
// COMMIT begins.
type Pipeline struct {
	Reader
	ctx      context.Context
	timeout  time.Duration
	pg       *pgconn.Pipeline // locks the connection, sends, and reads the last ReadyForQuery
	requests []request
	at       int
	rows     Rows
	err      error // the connection is lost

	skipping bool // up to the next Sync, after an error
	flushed  bool
	closed   bool

	unwatch func() bool // the context; nil if it does not end
	bound   struct {
		sync.Mutex
		committing bool // the time for COMMIT has begun
	}
}

// A request is a statement that was sent, or a Sync.
type request struct {
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

// NewPipeline starts a pipeline on conn, whose configuration is config. timeout bounds COMMIT,
// as in [Send].
func NewPipeline(ctx context.Context, conn *pgx.Conn, config *pgx.ConnConfig, timeout time.Duration) *Pipeline {
	usable := !conn.IsClosed() && !conn.PgConn().IsBusy()
	p := &Pipeline{Reader: Reader{conn: conn, config: config}, ctx: ctx, timeout: timeout, pg: conn.PgConn().StartPipeline(context.Background())}
	p.rows.p = p
	switch {
	case !usable:
		p.err = p.pg.Flush()
	case ctx.Err() != nil:
		p.err = ctx.Err()
	case ctx.Done() != nil:
		p.unwatch = context.AfterFunc(ctx, p.contextEnded)
	}
	return p
}

// Unreplicated reports whether the synchronous standby did not confirm the COMMIT.
func (p *Pipeline) Unreplicated() bool { return p.unreplicated }

// contextEnded bounds the wait for the statements before COMMIT.
func (p *Pipeline) contextEnded() {
	p.bound.Lock()
	defer p.bound.Unlock()
	if p.bound.committing {
		return
	}
	timeout := p.timeout
	if timeout == 0 {
		timeout = DefaultTimeout
	}
	_ = p.conn.PgConn().Conn().SetDeadline(time.Now().Add(timeout))
}

// startCommit starts the time for COMMIT.
func (p *Pipeline) startCommit() {
	p.bound.Lock()
	defer p.bound.Unlock()
	p.bound.committing = true
	_ = p.conn.PgConn().Conn().SetDeadline(deadline(p.ctx, p.timeout))
}

// clearDeadline stops watching the context, and takes the deadline from the connection.
func (p *Pipeline) clearDeadline() {
	p.bound.Lock()
	defer p.bound.Unlock()
	if p.unwatch != nil {
		p.unwatch()
	}
	p.bound.committing = true // so that contextEnded does nothing
	_ = p.conn.PgConn().Conn().SetDeadline(time.Time{})
}

// Grow makes memory for so many requests.
func (p *Pipeline) Grow(n int) { p.requests = slices.Grow(p.requests, n) }

// add adds a request. ok is false if nothing can be sent any more.
func (p *Pipeline) add(r request) (to *pgproto3.Frontend, ok bool) {
	p.requests = append(p.requests, r)
	return p.conn.PgConn().Frontend(), p.err == nil
}

// SendPrepare is [pgconn.Pipeline.SendPrepare].
func (p *Pipeline) SendPrepare(name, sql string, paramOIDs []uint32) {
	if to, ok := p.add(request{kind: prepareRequest}); ok {
		to.SendParse(&pgproto3.Parse{Name: name, Query: sql, ParameterOIDs: paramOIDs})
		to.SendDescribe(&pgproto3.Describe{ObjectType: 'S', Name: name})
	}
}

// SendQueryParams is [pgconn.Pipeline.SendQueryParams].
func (p *Pipeline) SendQueryParams(sql string, paramValues [][]byte, paramOIDs []uint32, paramFormats, resultFormats []int16) {
	if to, ok := p.add(request{kind: statementRequest}); ok {
		to.SendParse(&pgproto3.Parse{Query: sql, ParameterOIDs: paramOIDs})
		p.execute("", paramValues, paramFormats, resultFormats, true)
	}
}

// SendQueryPrepared is [pgconn.Pipeline.SendQueryPrepared].
func (p *Pipeline) SendQueryPrepared(stmtName string, paramValues [][]byte, paramFormats, resultFormats []int16) {
	if _, ok := p.add(request{kind: statementRequest}); ok {
		p.execute(stmtName, paramValues, paramFormats, resultFormats, true)
	}
}

// SendQueryStatement is [pgconn.Pipeline.SendQueryStatement].
func (p *Pipeline) SendQueryStatement(sd *pgconn.StatementDescription, paramValues [][]byte, paramFormats, resultFormats []int16) {
	if _, ok := p.add(request{kind: statementRequest, sd: sd, formats: resultFormats}); ok {
		p.execute(sd.Name, paramValues, paramFormats, resultFormats, len(sd.Fields) == 0)
	}
}

func (p *Pipeline) execute(statement string, paramValues [][]byte, paramFormats, resultFormats []int16, describe bool) {
	to := p.conn.PgConn().Frontend()
	to.SendBind(&pgproto3.Bind{PreparedStatement: statement, ParameterFormatCodes: paramFormats, Parameters: paramValues, ResultFormatCodes: resultFormats})
	if describe {
		to.SendDescribe(&pgproto3.Describe{ObjectType: 'P'})
	}
	to.SendExecute(&pgproto3.Execute{})
}

// SendPipelineSync sends a Sync before the last one, which SendCommit sends.
func (p *Pipeline) SendPipelineSync() {
	if to, ok := p.add(request{kind: syncRequest}); ok {
		to.SendSync(&pgproto3.Sync{})
	}
}

// SendCommit sends COMMIT, and the last Sync.
func (p *Pipeline) SendCommit() {
	if to, ok := p.add(request{kind: commitRequest}); ok {
		to.Send(&pgproto3.Flush{})
		to.SendParse(&pgproto3.Parse{Query: "commit"})
		to.SendBind(&pgproto3.Bind{})
		to.SendExecute(&pgproto3.Execute{})
	}
	if _, ok := p.add(request{kind: syncRequest}); ok {
		p.pg.SendPipelineSync()
	}
}

// Flush sends what was queued. If it fails, COMMIT, which is the end of it, was not sent.
func (p *Pipeline) Flush() error {
	if p.err != nil {
		return p.err
	}
	p.flushed = true
	if err := p.pg.Flush(); err != nil {
		return p.fail(err)
	}
	return nil
}

// GetResults returns the next reply: *Rows of a statement, a *pgconn.PipelineSync of a Sync, a
// *pgconn.StatementDescription, which is empty, of a Prepare.
func (p *Pipeline) GetResults() (any, error) {
	if p.rows.Close(); p.err != nil {
		return nil, p.err
	}
	for p.skipping && p.at < len(p.requests) && p.requests[p.at].kind != syncRequest {
		p.at++
	}
	if p.at == len(p.requests) {
		return nil, nil
	}
	r := &p.requests[p.at]
	p.at++
	switch {
	case r.kind == syncRequest && p.at == len(p.requests):
		// COMMIT is done. pgconn reads the rest, since it tracks the transaction's status.
		if err := p.pg.Close(); err != nil {
			return nil, p.fail(err)
		}
		p.skipping = false
		return &pgconn.PipelineSync{}, nil
	case r.kind == commitRequest:
		p.startCommit()
	}
	p.rows.reset(r)
	for {
		message, err := p.next()
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
			if p.rows.fields = pgrows.Fields(message); r.kind != prepareRequest {
				continue
			}
		case *pgproto3.ReadyForQuery:
			if r.kind == syncRequest {
				p.skipping = false
				return &pgconn.PipelineSync{}, nil
			}
		case *pgproto3.DataRow, *pgproto3.CommandComplete, *pgproto3.EmptyQueryResponse:
			if r.kind == statementRequest || r.kind == commitRequest {
				p.rows.take(message)
				return &p.rows, nil
			}
		}
		if r.kind == prepareRequest {
			return &pgconn.StatementDescription{}, nil
		}
		return nil, p.fail(pgrows.ErrMalformed)
	}
}

// next returns the next message, or the error of the server or the connection.
func (p *Pipeline) next() (pgproto3.BackendMessage, error) {
	message, err := p.Receive()
	switch {
	case err == nil:
		return message, nil
	case pgxerr.IsServer(err) && !p.conn.IsClosed():
		p.skipping = true
		return nil, err
	}
	return nil, p.fail(err)
}

// fail closes the connection, and returns the first error with which it was lost.
func (p *Pipeline) fail(err error) error {
	if p.err != nil {
		return p.err
	}
	if p.err = asContextError(err); p.ctx.Err() != nil && !pgxerr.IsServer(err) {
		p.err = errors.Join(p.ctx.Err(), err)
	}
	Close(p.conn)
	return p.err
}

// Close reads the replies that were not read. It may be called twice.
func (p *Pipeline) Close() error {
	if p.closed {
		return p.err
	}
	p.closed = true
	defer func() {
		if p.err == nil && p.at < len(p.requests) { // OnNotice panicked
			_ = p.fail(pgrows.ErrMalformed)
		}
		_ = p.pg.Close()
		p.clearDeadline()
	}()
	if len(p.requests) > 0 && !p.flushed {
		_ = p.fail(pgrows.ErrMalformed) // what was queued is still in pgconn's buffer
	}
	for p.err == nil && p.at < len(p.requests) {
		_, _ = p.GetResults()
	}
	return p.err
}
