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
type ask struct {
	command string
	sql     string
	extra   bool // it has no place of its own: it describes the statement for another
	out     []byte
	came    chan fate // once
	lane    *lane
	tally   *tally
	types   *pgtype.Map // as the lane has them, for one goroutine at a time
	encoded pgx.ExtendedQueryBuilder
	rows    *askRows
	values  [][]byte

	// Guarded by the mux's mu:
	sent bool
	gone bool // nobody waits for it
	over bool // it is answered or moved

	// Written before came is sent to:
	in      []byte          // the reply
	refused *pgconn.PgError // if the server has refused it
	cause   error           // why it was moved
	first   bool            // the lane was lost with it, and perhaps because of it
}

// A fate is what becomes of an ask.
type fate int

const (
	answer   fate = iota
	moved         // to be asked elsewhere
	ordinary      // to go the ordinary way
	shut          // the lane took it no more
	outdated      // it cannot be encoded, perhaps since the schema has changed
	refused       // by the client, or the caller gave up
)

func newAsk(l *lane) *ask {
	a := &ask{lane: l, came: make(chan fate, 1)}
	types := l.conn.TypeMap()
	a.types = types.Copy()
	a.types.TryWrapEncodePlanFuncs = slices.Clone(types.TryWrapEncodePlanFuncs)
	a.types.TryWrapScanPlanFuncs = slices.Clone(types.TryWrapScanPlanFuncs)
	return a
}

// biggestAsk is how many bytes an ask may have. What has more goes the ordinary way.
const biggestAsk = 64 << 10

// put asks on the lane, where the caller has a place, and waits for what comes of it.
func (l *lane) put(ctx context.Context, s *statement, d *described, args []any, doubts doubts) (a *ask, with *described, came fate, failure *Error) {
	posted := false
	defer func() {
		if !posted {
			l.leave(came == refused || came == answer) // nothing came: a panic
		}
	}()
	if d == nil {
		var err error
		if d, came, err = l.describe(ctx, s); err != nil {
			return nil, nil, refused, s.failed(ctx, &reply{}, err)
		}
		if came != answer {
			return nil, nil, came, nil
		}
	}
	if d.ordinary {
		return nil, nil, ordinary, nil
	}
	for _, oid := range doubts.of(d.sd.ParamOIDs) {
		if _, known := l.conn.TypeMap().TypeForOID(oid); !known {
			return nil, nil, ordinary, nil // where the catalog can be asked
		}
	}
	a = l.free.Get().(*ask)
	a.command, a.sql, a.tally = s.name, s.text.SQL, d.tally
	a.rows = &askRows{ask: a, fields: d.fields, types: a.types, lane: l}
	if l.tracer != nil {
		a.rows.traced = l.tracer.TraceQueryStart(ctx, l.conn, pgx.TraceQueryStartData{SQL: s.text.SQL, Args: args})
	}
	if failure := s.settleDoubts(types{known: a.types}, d.sd.ParamOIDs, args, doubts, false); failure != nil {
		a.rows.end(failure)
		if d.mayBeOutdated() {
			return nil, d, outdated, nil
		}
		return nil, nil, refused, failure
	}
	if err := a.encode(d, args); err != nil {
		a.rows.end(err)
		if d.mayBeOutdated() {
			return nil, d, outdated, nil
		}
		if failure := s.unsendable(ctx, a.types, nil, args, err); failure != nil && failure.Code != CodeInternal {
			return nil, nil, refused, failure
		} else if failure != nil {
			return nil, nil, ordinary, nil // where the type's name can be asked for
		}
		return nil, nil, refused, s.failed(ctx, &reply{}, err)
	}
	if len(a.out) > biggestAsk {
		a.rows.end(nil)
		return nil, nil, ordinary, nil
	}
	posted = true
	if !l.post(a) {
		a.rows.end(nil)
		return nil, nil, shut, nil
	}
	came, err := l.wait(ctx, a)
	switch {
	case err != nil:
		a.rows.end(err)
		return nil, nil, refused, s.failed(ctx, &reply{}, err)
	case came != answer:
		a.rows.end(a.cause)
	}
	return a, d, came, nil
}

// leave gives back a place that was not used. Who does not come again leaves the mux, too.
func (l *lane) leave(mux bool) {
	l.m.mu.Lock()
	defer l.m.mu.Unlock()
	if l.reserved--; mux {
		l.m.discharge()
	}
}

// wait waits for what comes of an ask that was posted. An error is the context's: then
// the caller has left, and what comes is thrown away.
func (l *lane) wait(ctx context.Context, a *ask) (fate, error) {
	select {
	case came := <-a.came:
		return came, nil
	case <-ctx.Done():
	}
	m := l.m
	m.mu.Lock()
	if a.over { // it comes
		m.mu.Unlock()
		return <-a.came, nil
	}
	a.gone = true
	if i := slices.Index(l.queue, a); i >= 0 { // it was not sent: nobody will know
		l.queue = slices.Delete(l.queue, i, i+1)
		if !a.extra {
			m.discharge()
		}
	}
	if l.apart && l.done() {
		l.stop()
		l.drop(nil)
	}
	m.mu.Unlock()
	return answer, ctx.Err()
}

// encode makes the messages. It runs code of the user's, which may panic.
func (a *ask) encode(d *described, args []any) (err error) {
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

// refuse takes the reply's ErrorResponse.
func (a *ask) refuse(message []byte) { a.refused = refusal(message) }

// recycle gives the memory to the next ask on the lane. It was answered.
func (a *ask) recycle() {
	if cap(a.in) > biggestAsk || cap(a.out) > biggestAsk {
		return
	}
	clear(a.values)
	a.command, a.sql, a.rows = "", "", nil
	a.sent, a.gone, a.over = false, false, false
	a.refused, a.cause, a.first = nil, nil, false
	a.lane.free.Put(a)
}

// described is a statement that is prepared on a lane.
type described struct {
	sd       *pgconn.StatementDescription
	formats  []int16                   // of the results
	fields   []pgconn.FieldDescription // with the formats
	at       time.Time
	tally    *tally
	ordinary bool // it has types whose memory cannot be shared
}

// mayBeOutdated reports whether it is worth asking again before an argument that does not
// fit is refused. One that was refused a moment ago is not.
func (d *described) mayBeOutdated() bool { return time.Since(d.at) > time.Second }

// describe prepares the statement on the lane, once for all who want it.
func (l *lane) describe(ctx context.Context, s *statement) (d *described, came fate, err error) {
	m, sql := l.m, s.text.SQL
	for {
		m.mu.Lock()
		d, begun := l.known[sql], l.describing[sql]
		if d != nil {
			m.mu.Unlock()
			return d, answer, nil
		}
		if begun == nil {
			break
		}
		m.mu.Unlock()
		select {
		case <-begun: // if it has failed, it may have been for a reason of that caller's
		case <-l.gone:
			return nil, shut, nil
		case <-ctx.Done():
			return nil, answer, ctx.Err()
		}
	}
	begun := make(chan struct{})
	l.describing[sql] = begun
	l.named++
	a := &ask{command: s.name, sql: sql, extra: true, came: make(chan fate, 1)}
	name := statementName(l.conn.PgConn().PID(), l.named)
	for _, old := range l.stale {
		a.out, err = (&pgproto3.Close{ObjectType: 'S', Name: old}).Encode(a.out)
	}
	l.stale = nil
	m.mu.Unlock()
	defer func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		delete(l.describing, sql)
		if d == nil {
			l.stale = append(l.stale, name)
		} else {
			if len(l.known) >= maxKnown {
				for old, d := range l.known {
					l.forgetLocked(old, d)
					break
				}
			}
			l.known[sql], d.tally = d, m.tallyOf(sql)
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
		return nil, answer, err
	case len(a.out) > biggestAsk:
		return nil, ordinary, nil
	case !l.post(a):
		return nil, shut, nil
	}
	if came, err = l.wait(ctx, a); err != nil || came != answer {
		if came == moved {
			came = shut
		}
		return nil, came, err
	}
	if a.refused != nil {
		return nil, answer, a.refused
	}
	sd := &pgconn.StatementDescription{Name: name, SQL: sql}
	if err := a.description(sd); err != nil {
		return nil, answer, err
	}
	return l.plan(sd), answer, nil
}

// forget has the statement prepared again before its next use.
func (l *lane) forget(sql string, d *described) {
	l.m.mu.Lock()
	defer l.m.mu.Unlock()
	if l.known[sql] == d {
		l.forgetLocked(sql, d)
	}
}

// forget has a statement that l found outdated, as d, prepared again on all lanes. It
// reports whether that is news.
func (m *mux) forget(sql string, l *lane, d *described) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if l.known[sql] != d {
		return false
	}
	for l := range m.all() {
		if d := l.known[sql]; d != nil {
			l.forgetLocked(sql, d)
		}
	}
	return true
}

func (l *lane) forgetLocked(sql string, d *described) {
	l.stale = append(l.stale, d.sd.Name)
	delete(l.known, sql)
}

// description reads the reply of a description.
func (a *ask) description(sd *pgconn.StatementDescription) error {
	for b := a.in; len(b) > 0; {
		typ, body, rest := message(b)
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

// plan decides what form the results have, and whether the types can be read by many.
func (l *lane) plan(sd *pgconn.StatementDescription) *described {
	d := &described{sd: sd, at: time.Now(), formats: make([]int16, len(sd.Fields)), fields: slices.Clone(sd.Fields)}
	types := l.conn.TypeMap()
	for i, f := range sd.Fields {
		d.formats[i] = types.FormatCodeForOID(f.DataTypeOID)
		d.fields[i].Format = d.formats[i]
		d.ordinary = d.ordinary || !l.shareable(f.DataTypeOID)
	}
	for _, oid := range sd.ParamOIDs {
		d.ordinary = d.ordinary || !l.shareable(oid)
	}
	return d
}

// message splits the first message off. What the lane has read is whole.
func message(b []byte) (typ byte, body, rest []byte) {
	size := 1 + int(uint32(b[1])<<24|uint32(b[2])<<16|uint32(b[3])<<8|uint32(b[4]))
	return b[0], b[5:size], b[size:]
}
