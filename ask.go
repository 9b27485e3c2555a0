package pgcmd

import (
	"context"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/jackc/pgx/v5/pgtype"
)

// An ask is what one caller wants of a lane, and the reply. Its memory is used again
// only after it was answered: the lane may still hold one that was not.
type request struct {
	command   string
	sql       string
	isPrepare bool // it has no place of its own: it describes the statement for another
	out       []byte
	done      chan requestOutcome // once
	conn      *sharedConn
	stats     *slowStats
	types     *pgtype.Map // as the lane has them, for one goroutine at a time
	encoded   pgx.ExtendedQueryBuilder
	rows      *bufferedRows
	values    [][]byte

	// Guarded by the mux's mu:
	sent      bool
	abandoned bool // nobody waits for it
	completed bool // it is answered or moved

	// Written before came is sent to:
	in         []byte          // the reply
	refused    *pgconn.PgError // if the server has refused it
	cause      error           // why it was moved
	headOfLine bool            // the lane was lost with it, and perhaps because of it
}

// A fate is what becomes of an ask.
type requestOutcome int

const (
	outcomeAnswered     requestOutcome = iota
	outcomeRequeued                    // to be asked elsewhere
	outcomeUseDedicated                // to go the ordinary way
	outcomeConnClosed                  // the lane took it no more
	outcomeStalePlan                   // it cannot be encoded, perhaps since the schema has changed
	outcomeFailed                      // by the client, or the caller gave up
)

func newRequest(l *sharedConn) *request {
	a := &request{conn: l, done: make(chan requestOutcome, 1)}
	types := l.conn.TypeMap()
	a.types = types.Copy()
	a.types.TryWrapEncodePlanFuncs = slices.Clone(types.TryWrapEncodePlanFuncs)
	a.types.TryWrapScanPlanFuncs = slices.Clone(types.TryWrapScanPlanFuncs)
	return a
}

// maxRequestSize is how many bytes an ask may have. What has more goes the ordinary way.
const maxRequestSize = 64 << 10

// do asks on the lane, where the caller has a place, and waits for what comes of it.
func (l *sharedConn) do(ctx context.Context, s *statement, d *preparedStmt, args []any, doubts unverifiedArgs) (a *request, with *preparedStmt, came requestOutcome, failure *Error) {
	posted := false
	defer func() {
		if !posted {
			l.abandon(came == outcomeFailed || came == outcomeAnswered) // nothing came: a panic
		}
	}()
	if d == nil {
		var err error
		if d, came, err = l.prepare(ctx, s); err != nil {
			return nil, nil, outcomeFailed, s.statementError(ctx, &result{}, err)
		}
		if came != outcomeAnswered {
			return nil, nil, came, nil
		}
	}
	if d.useDedicated {
		return nil, nil, outcomeUseDedicated, nil
	}
	for _, oid := range doubts.oidOfArg(d.sd.ParamOIDs) {
		if _, known := l.conn.TypeMap().TypeForOID(oid); !known {
			return nil, nil, outcomeUseDedicated, nil // where the catalog can be asked
		}
	}
	a = l.free.Get().(*request)
	a.command, a.sql, a.stats = s.name, s.text.SQL, d.stats
	a.rows = &bufferedRows{req: a, fields: d.fields, types: a.types, conn: l}
	if l.tracer != nil {
		a.rows.traced = l.tracer.TraceQueryStart(ctx, l.conn, pgx.TraceQueryStartData{SQL: s.text.SQL, Args: args})
	}
	if failure := s.verifyArgs(types{known: a.types}, d.sd.ParamOIDs, args, doubts, false); failure != nil {
		a.rows.end(failure)
		if d.mayBeOutdated() {
			return nil, d, outcomeStalePlan, nil
		}
		return nil, nil, outcomeFailed, failure
	}
	if err := a.encode(d, args); err != nil {
		a.rows.end(err)
		if d.mayBeOutdated() {
			return nil, d, outcomeStalePlan, nil
		}
		if failure := s.unsendable(ctx, a.types, nil, args, err); failure != nil && failure.Code != CodeInternal {
			return nil, nil, outcomeFailed, failure
		} else if failure != nil {
			return nil, nil, outcomeUseDedicated, nil // where the type's name can be asked for
		}
		return nil, nil, outcomeFailed, s.statementError(ctx, &result{}, err)
	}
	if len(a.out) > maxRequestSize {
		a.rows.end(nil)
		return nil, nil, outcomeUseDedicated, nil
	}
	posted = true
	if !l.enqueue(a) {
		a.rows.end(nil)
		return nil, nil, outcomeConnClosed, nil
	}
	came, err := l.wait(ctx, a)
	switch {
	case err != nil:
		a.rows.end(err)
		return nil, nil, outcomeFailed, s.statementError(ctx, &result{}, err)
	case came != outcomeAnswered:
		a.rows.end(a.cause)
	}
	return a, d, came, nil
}

// abandon gives back a place that was not used. Who does not come again leaves the mux, too.
func (l *sharedConn) abandon(mux bool) {
	l.m.mu.Lock()
	defer l.m.mu.Unlock()
	if l.reserved--; mux {
		l.m.releaseSlot()
	}
}

// wait waits for what comes of an ask that was posted. An error is the context's: then
// the caller has left, and what comes is thrown away.
func (l *sharedConn) wait(ctx context.Context, a *request) (requestOutcome, error) {
	select {
	case came := <-a.done:
		return came, nil
	case <-ctx.Done():
	}
	m := l.m
	m.mu.Lock()
	if a.completed { // it comes
		m.mu.Unlock()
		return <-a.done, nil
	}
	a.abandoned = true
	if i := slices.Index(l.queue, a); i >= 0 { // it was not sent: nobody will know
		l.queue = slices.Delete(l.queue, i, i+1)
		if !a.isPrepare {
			m.releaseSlot()
		}
	}
	if l.draining && l.done() {
		l.stop()
		l.drop(nil)
	}
	m.mu.Unlock()
	return outcomeAnswered, ctx.Err()
}

// encode makes the messages. It runs code of the user's, which may panic.
func (a *request) encode(d *preparedStmt, args []any) (err error) {
	if err := a.encoded.Build(a.types, d.sd, args); err != nil {
		return err
	}
	a.out, err = (&pgproto3.Bind{PreparedStatement: d.sd.Name, ParameterFormatCodes: a.encoded.ParamFormats,
		Parameters: a.encoded.ParamValues, ResultFormatCodes: d.formats}).Encode(a.out[:0])
	if err == nil {
		a.out = append(a.out, "E\x00\x00\x00\x09\x00\x00\x00\x00\x00S\x00\x00\x00\x04"...) // Execute and Sync
	}
	return err
}

// reject takes the reply's ErrorResponse.
func (a *request) reject(message []byte) { a.refused = refusal(message) }

// free gives the memory to the next ask on the lane. It was answered.
func (a *request) free() {
	if cap(a.in) > maxRequestSize || cap(a.out) > maxRequestSize {
		return
	}
	clear(a.values)
	a.command, a.sql, a.rows = "", "", nil
	a.sent, a.abandoned, a.completed = false, false, false
	a.refused, a.cause, a.headOfLine = nil, nil, false
	a.conn.free.Put(a)
}

// preparedStmt is a statement that is prepared on a lane.
type preparedStmt struct {
	sd           *pgconn.StatementDescription
	formats      []int16                   // of the results
	fields       []pgconn.FieldDescription // with the formats
	at           time.Time
	stats        *slowStats
	useDedicated bool // it has types whose memory cannot be shared
}

// mayBeOutdated reports whether it is worth asking again before an argument that does not
// fit is refused. One that was refused a moment ago is not.
func (d *preparedStmt) mayBeOutdated() bool { return time.Since(d.at) > time.Second }

// prepare prepares the statement on the lane, once for all who want it.
func (l *sharedConn) prepare(ctx context.Context, s *statement) (d *preparedStmt, came requestOutcome, err error) {
	m, sql := l.m, s.text.SQL
	for {
		m.mu.Lock()
		d, begun := l.statements[sql], l.describing[sql]
		if d != nil {
			m.mu.Unlock()
			return d, outcomeAnswered, nil
		}
		if begun == nil {
			break
		}
		m.mu.Unlock()
		select {
		case <-begun: // if it has failed, it may have been for a reason of that caller's
		case <-l.gone:
			return nil, outcomeConnClosed, nil
		case <-ctx.Done():
			return nil, outcomeAnswered, ctx.Err()
		}
	}
	begun := make(chan struct{})
	l.describing[sql] = begun
	l.named++
	a := &request{command: s.name, sql: sql, isPrepare: true, done: make(chan requestOutcome, 1)}
	name := statementName(l.conn.PgConn().PID(), l.named)
	for _, old := range l.toDeallocate {
		a.out, err = (&pgproto3.Close{ObjectType: 'S', Name: old}).Encode(a.out)
	}
	l.toDeallocate = nil
	m.mu.Unlock()
	defer func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		delete(l.describing, sql)
		if d == nil {
			l.toDeallocate = append(l.toDeallocate, name)
		} else {
			if len(l.statements) >= maxStatements {
				for old, d := range l.statements {
					l.invalidateLocked(old, d)
					break
				}
			}
			l.statements[sql], d.stats = d, m.slowStatsOf(sql)
		}
		close(begun)
	}()
	if err == nil {
		a.out, err = (&pgproto3.Parse{Name: name, Query: sql}).Encode(a.out)
	}
	if err == nil {
		a.out, err = (&pgproto3.Describe{ObjectType: 'S', Name: name}).Encode(a.out)
	}
	if err == nil {
		a.out, err = (&pgproto3.Sync{}).Encode(a.out)
	}
	switch {
	case err != nil:
		return nil, outcomeAnswered, err
	case len(a.out) > maxRequestSize:
		return nil, outcomeUseDedicated, nil
	case !l.enqueue(a):
		return nil, outcomeConnClosed, nil
	}
	if came, err = l.wait(ctx, a); err != nil || came != outcomeAnswered {
		if came == outcomeRequeued {
			came = outcomeConnClosed
		}
		return nil, came, err
	}
	if a.refused != nil {
		return nil, outcomeAnswered, a.refused
	}
	sd := &pgconn.StatementDescription{Name: name, SQL: sql}
	if err := a.description(sd); err != nil {
		return nil, outcomeAnswered, err
	}
	return l.resultFormats(sd), outcomeAnswered, nil
}

// invalidate has the statement prepared again before its next use.
func (l *sharedConn) invalidate(sql string, d *preparedStmt) {
	l.m.mu.Lock()
	defer l.m.mu.Unlock()
	if l.statements[sql] == d {
		l.invalidateLocked(sql, d)
	}
}

// invalidate has a statement that l found outdated, as d, prepared again on all lanes. It
// reports whether that is news.
func (m *mux) invalidate(sql string, l *sharedConn, d *preparedStmt) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if l.statements[sql] != d {
		return false
	}
	for l := range m.all() {
		if d := l.statements[sql]; d != nil {
			l.invalidateLocked(sql, d)
		}
	}
	return true
}

func (l *sharedConn) invalidateLocked(sql string, d *preparedStmt) {
	l.toDeallocate = append(l.toDeallocate, d.sd.Name)
	delete(l.statements, sql)
}

// description reads the reply of a description.
func (a *request) description(sd *pgconn.StatementDescription) error {
	for b := a.in; len(b) > 0; {
		typ, body, rest := nextMessage(b)
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
			sd.Fields = make([]pgconn.FieldDescription, len(msg.Fields))
			for i, f := range msg.Fields {
				sd.Fields[i] = pgconn.FieldDescription{Name: string(f.Name), TableOID: f.TableOID, TableAttributeNumber: f.TableAttributeNumber,
					DataTypeOID: f.DataTypeOID, DataTypeSize: f.DataTypeSize, TypeModifier: f.TypeModifier}
			}
		case '1', 'n', '3', 'N', 'S', 'A':
		default:
			return errMalformed
		}
		b = rest
	}
	return nil
}

// resultFormats decides what form the results have, and whether the types can be read by many.
func (l *sharedConn) resultFormats(sd *pgconn.StatementDescription) *preparedStmt {
	d := &preparedStmt{sd: sd, at: time.Now(), formats: make([]int16, len(sd.Fields)), fields: slices.Clone(sd.Fields)}
	types := l.conn.TypeMap()
	for i, f := range sd.Fields {
		d.formats[i] = types.FormatCodeForOID(f.DataTypeOID)
		d.fields[i].Format = d.formats[i]
		d.useDedicated = d.useDedicated || !l.safeToShare(f.DataTypeOID)
	}
	for _, oid := range sd.ParamOIDs {
		d.useDedicated = d.useDedicated || !l.safeToShare(oid)
	}
	return d
}

// nextMessage splits the first message off. What the lane has read is whole.
func nextMessage(b []byte) (typ byte, body, rest []byte) {
	size := 1 + int(uint32(b[1])<<24|uint32(b[2])<<16|uint32(b[3])<<8|uint32(b[4]))
	return b[0], b[5:size], b[size:]
}
