package multiplex

import (
	"context"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/pgcmd/pgcmd/internal/params"
	"github.com/pgcmd/pgcmd/internal/pgrows"
	"github.com/pgcmd/pgcmd/internal/rowscan"
	"github.com/pgcmd/pgcmd/internal/stmtcache"
)

// A Request is one query on a shared connection, with its reply. It is reused only after it
// was answered, since the connection may still refer to an unanswered one.
type Request struct {
	command   string
	sql       string
	isPrepare bool // it prepares a statement, and has no slot of its own
	settings  int  // how many are set before the statement
	message   []byte
	done      chan requestOutcome // is sent one value
	conn      *conn
	slow      *slowStats
	types     *pgtype.Map       // a copy of the connection's: a map is for one goroutine at a time
	plans     rowscan.PlanCache // of types
	encoded   params.Encoder
	rows      *rows

	// Guarded by mux.mu:
	sent      bool
	abandoned bool // its caller has gone
	completed bool // it is answered or requeued

	// Written before done is sent to:
	reply       pgrows.Reply
	pgErr       *pgconn.PgError // the server's error, if it reported one
	completions int             // how many settings were set before it
	cause       error           // why it was requeued
	headOfLine  bool            // the server worked on it when the connection was lost, perhaps because of it
}

// Rows returns the rows of an answered request.
func (r *Request) Rows() rowscan.Rows { return r.rows }

// rows are those of a reply, with the plans that its request keeps for them.
type rows struct {
	pgrows.Buffered
	plans *rowscan.PlanCache
}

func (r *rows) PlanCache() *rowscan.PlanCache { return r.plans }

// A requestOutcome is how a request ended.
type requestOutcome int

const (
	outcomeAnswered     requestOutcome = iota
	outcomeRequeued                    // it has to be sent on another connection
	outcomeUseDedicated                // it has to run on a connection of its own
	outcomeConnClosed                  // the connection accepts no requests any more
	outcomeStalePlan                   // it cannot be encoded, perhaps because the schema has changed
	outcomeFailed                      // by the client, or the caller's context is done
)

func newRequest(c *conn) *Request {
	req := &Request{conn: c, done: make(chan requestOutcome, 1)}
	types := c.conn.TypeMap()
	req.types = types.Copy()
	req.types.TryWrapEncodePlanFuncs = slices.Clone(types.TryWrapEncodePlanFuncs)
	req.types.TryWrapScanPlanFuncs = slices.Clone(types.TryWrapScanPlanFuncs)
	return req
}

// maxRequestSize is how many bytes a request may have. A larger one runs on a connection of its own.
const maxRequestSize = 64 << 10

// do sends a request, for which a place is reserved, and waits for its outcome.
func (c *conn) do(ctx context.Context, q *Query, stmt *preparedStmt) (req *Request, with *preparedStmt, outcome requestOutcome, err error) {
	queued := false
	defer func() {
		if !queued {
			c.unreserve(outcome == outcomeFailed || outcome == outcomeAnswered) // the zero outcome: a panic
		}
	}()
	if stmt == nil {
		if stmt, outcome, err = c.prepare(ctx, q); err != nil {
			return nil, nil, outcomeFailed, err
		}
		if outcome != outcomeAnswered {
			return nil, nil, outcome, nil
		}
	}
	if stmt.useDedicated {
		return nil, nil, outcomeUseDedicated, nil
	}
	for _, oid := range q.Unverified.OIDs(stmt.sd.ParamOIDs) {
		if _, known := c.conn.TypeMap().TypeForOID(oid); !known {
			return nil, nil, outcomeUseDedicated, nil // which can query the catalog
		}
	}
	req = c.free.Get().(*Request)
	req.command, req.sql, req.slow, req.settings = q.Name, q.SQL, stmt.slow, len(q.Settings)
	req.rows = &rows{pgrows.Buffered{Reply: &req.reply, Fields: stmt.fields, Types: req.types, PgConn: c.conn.PgConn(), OnNotice: c.onNotice}, &req.plans}
	if c.tracer != nil {
		traced := c.tracer.TraceQueryStart(ctx, c.conn, pgx.TraceQueryStartData{SQL: q.SQL, Args: q.Args})
		req.rows.OnEnd = func(tag pgconn.CommandTag, err error) {
			c.tracer.TraceQueryEnd(traced, c.conn, pgx.TraceQueryEndData{CommandTag: tag, Err: err})
		}
	}
	mayBeOutdated := stmt.mayBeOutdated() // before the arguments are encoded, which may take long each time
	if refused := q.Unverified.VerifyKnown(req.types, stmt.sd.ParamOIDs, q.Args); refused != nil {
		err = refused
	} else if err = req.encode(stmt, q); err != nil {
		err = &EncodeError{req.types, err}
	}
	if err != nil {
		req.rows.End(err)
		if mayBeOutdated {
			return nil, stmt, outcomeStalePlan, nil
		}
		return nil, nil, outcomeFailed, err
	}
	if len(req.message) > maxRequestSize {
		req.rows.End(nil)
		return nil, nil, outcomeUseDedicated, nil
	}
	queued = true
	if !c.enqueue(req) {
		req.rows.End(nil)
		return nil, nil, outcomeConnClosed, nil
	}
	outcome, err = c.wait(ctx, req)
	switch {
	case err != nil:
		req.rows.End(err)
		return nil, nil, outcomeFailed, err
	case outcome != outcomeAnswered:
		req.rows.End(req.cause)
	}
	return req, stmt, outcome, nil
}

// unreserve gives back a reserved place that was not used, and the caller's slot too if
// leave is set.
func (c *conn) unreserve(leave bool) {
	c.mux.mu.Lock()
	defer c.mux.mu.Unlock()
	if c.reserved--; leave {
		c.mux.releaseSlot()
	}
}

// wait waits for the outcome of a queued request. An error is the context's: then the
// request is abandoned and its reply discarded.
func (c *conn) wait(ctx context.Context, req *Request) (requestOutcome, error) {
	select {
	case outcome := <-req.done:
		return outcome, nil
	case <-ctx.Done():
	}
	m := c.mux
	m.mu.Lock()
	if req.completed { // the outcome is on its way
		m.mu.Unlock()
		return <-req.done, nil
	}
	req.abandoned = true
	if i := slices.Index(c.queue, req); i >= 0 { // it was not sent, so that nothing refers to it
		c.queue = slices.Delete(c.queue, i, i+1)
		if !req.isPrepare {
			m.releaseSlot()
		}
	}
	if c.draining && c.unwanted() {
		c.cancelRequest()
		c.close(nil)
	}
	m.mu.Unlock()
	return outcomeAnswered, ctx.Err()
}

// encode encodes the messages. It runs user code, which may panic.
func (r *Request) encode(stmt *preparedStmt, q *Query) (err error) {
	if err := r.encoded.Build(r.types, stmt.sd, q.Args); err != nil {
		return err
	}
	if r.message, err = stmtcache.AppendSettings(r.message[:0], r.conn.setting, q.Settings); err != nil {
		return err
	}
	r.message, err = (&pgproto3.Bind{PreparedStatement: stmt.sd.Name, ParameterFormatCodes: r.encoded.ParamFormats,
		Parameters: r.encoded.ParamValues, ResultFormatCodes: stmt.formats}).Encode(r.message)
	if err == nil {
		r.message = append(r.message, "E\x00\x00\x00\x09\x00\x00\x00\x00\x00S\x00\x00\x00\x04"...) // Execute and Sync
	}
	return err
}

// setError records the reply's ErrorResponse.
func (r *Request) setError(message []byte) { r.pgErr = pgrows.ParseError(message) }

// Free makes an answered request, whose rows are closed, available to the next caller on its
// connection.
func (r *Request) Free() {
	if cap(r.reply.Messages) > maxRequestSize || cap(r.message) > maxRequestSize {
		return
	}
	r.reply.Reset()
	r.command, r.sql, r.rows = "", "", nil
	r.sent, r.abandoned, r.completed = false, false, false
	r.pgErr, r.completions, r.cause, r.headOfLine = nil, 0, nil, false
	r.conn.free.Put(r)
}

// preparedStmt is a statement that is prepared on a shared connection.
type preparedStmt struct {
	sd           *pgconn.StatementDescription
	formats      []int16                   // of the results
	fields       []pgconn.FieldDescription // with their formats
	preparedAt   time.Time
	slow         *slowStats
	useDedicated bool // it has types whose codecs cannot be shared
}

// mayBeOutdated reports whether the statement is prepared again before an argument that does
// not fit is refused. One that was prepared less than a second ago is not.
func (d *preparedStmt) mayBeOutdated() bool { return time.Since(d.preparedAt) > time.Second }

// prepare prepares the statement on the connection, once for all callers that need it.
func (c *conn) prepare(ctx context.Context, q *Query) (stmt *preparedStmt, outcome requestOutcome, err error) {
	m, sql := c.mux, q.SQL
	for {
		m.mu.Lock()
		stmt, _ = c.statements.Get(sql)
		begun := c.preparing[sql]
		if stmt != nil {
			m.mu.Unlock()
			return stmt, outcomeAnswered, nil
		}
		if begun == nil {
			break
		}
		m.mu.Unlock()
		select {
		case <-begun: // if that failed, it may have been because of that caller's context
		case <-c.closing:
			return nil, outcomeConnClosed, nil
		case <-ctx.Done():
			return nil, outcomeAnswered, ctx.Err()
		}
	}
	begun := make(chan struct{})
	c.preparing[sql] = begun
	c.lastName++
	req := &Request{command: q.Name, sql: sql, isPrepare: true, done: make(chan requestOutcome, 1)}
	name := stmtcache.Name(c.conn.PgConn().PID(), c.lastName)
	for _, old := range c.toDeallocate {
		req.message, err = (&pgproto3.Close{ObjectType: 'S', Name: old}).Encode(req.message)
	}
	c.toDeallocate = nil
	m.mu.Unlock()
	defer func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		delete(c.preparing, sql)
		if stmt == nil {
			c.toDeallocate = append(c.toDeallocate, name)
		} else {
			stmt.slow = m.slowStatsOf(sql)
			c.statements.Put(sql, stmt)
		}
		close(begun)
	}()
	if err == nil {
		req.message, err = (&pgproto3.Parse{Name: name, Query: sql}).Encode(req.message)
	}
	if err == nil {
		req.message, err = (&pgproto3.Describe{ObjectType: 'S', Name: name}).Encode(req.message)
	}
	if err == nil {
		req.message, err = (&pgproto3.Sync{}).Encode(req.message)
	}
	switch {
	case err != nil:
		return nil, outcomeAnswered, err
	case len(req.message) > maxRequestSize:
		return nil, outcomeUseDedicated, nil
	case !c.enqueue(req):
		return nil, outcomeConnClosed, nil
	}
	if outcome, err = c.wait(ctx, req); err != nil || outcome != outcomeAnswered {
		if outcome == outcomeRequeued {
			outcome = outcomeConnClosed
		}
		return nil, outcome, err
	}
	if req.pgErr != nil {
		return nil, outcomeAnswered, req.pgErr
	}
	sd := &pgconn.StatementDescription{Name: name, SQL: sql}
	if err := req.description(sd); err != nil {
		return nil, outcomeAnswered, err
	}
	return c.resultFormats(sd), outcomeAnswered, nil
}

// invalidate makes the next use prepare the statement again.
func (c *conn) invalidate(sql string, stmt *preparedStmt) {
	c.mux.mu.Lock()
	defer c.mux.mu.Unlock()
	if known, _ := c.statements.Get(sql); known == stmt {
		c.invalidateLocked(sql, stmt)
	}
}

// invalidate makes all connections prepare a statement again that c found outdated as stmt.
// It returns false if that was known already.
func (m *Mux) invalidate(sql string, c *conn, stmt *preparedStmt) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if known, _ := c.statements.Get(sql); known != stmt {
		return false
	}
	for c := range m.allConns() {
		if stmt, _ := c.statements.Get(sql); stmt != nil {
			c.invalidateLocked(sql, stmt)
		}
	}
	return true
}

func (c *conn) invalidateLocked(sql string, stmt *preparedStmt) {
	c.toDeallocate = append(c.toDeallocate, stmt.sd.Name)
	c.statements.Delete(sql)
}

// description reads the reply to a prepare request.
func (r *Request) description(sd *pgconn.StatementDescription) error {
	for b := r.reply.Messages; len(b) > 0; {
		typ, body, rest := pgrows.NextMessage(b)
		switch typ {
		case 't':
			var msg pgproto3.ParameterDescription
			if err := msg.Decode(body); err != nil {
				return err
			}
			sd.ParamOIDs = slices.Clone(msg.ParameterOIDs)
		case 'T':
			var msg pgproto3.RowDescription
			if err := msg.Decode(body); err != nil {
				return err
			}
			sd.Fields = pgrows.Fields(&msg)
		case '1', 'n', '3', 'N', 'S', 'A':
		default:
			return pgrows.ErrMalformed
		}
		b = rest
	}
	return nil
}

// resultFormats chooses the format of each result column, and whether the types can be shared.
func (c *conn) resultFormats(sd *pgconn.StatementDescription) *preparedStmt {
	stmt := &preparedStmt{sd: sd, preparedAt: time.Now(), formats: make([]int16, len(sd.Fields)), fields: slices.Clone(sd.Fields)}
	types := c.conn.TypeMap()
	for i, f := range sd.Fields {
		stmt.formats[i] = types.FormatCodeForOID(f.DataTypeOID)
		stmt.fields[i].Format = stmt.formats[i]
		stmt.useDedicated = stmt.useDedicated || !c.safeToShare(f.DataTypeOID)
	}
	for _, oid := range sd.ParamOIDs {
		stmt.useDedicated = stmt.useDedicated || !c.safeToShare(oid)
	}
	return stmt
}
