package pgcmd

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"runtime"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
)

// maxMessage is how many bytes a reply may have. What has more goes the ordinary way.
const maxMessage = 256 << 10

// A lane is a connection that many share. One goroutine writes what is asked, another
// reads the replies and gives them, whole, to those who asked, in order: that order is
// all that says whose a reply is, so it is changed in one place only, under the mutex
// of the mux: asks are appended to sent before they are written, and taken off when
// the ReadyForQuery of their reply has come.
type sharedConn struct {
	m    *mux
	conn *pgx.Conn // hijacked: for tracers and hooks to look at
	net  net.Conn
	wire *netConn // nil if it is not instrumented
	wake chan struct{}
	gone chan struct{} // closed with it

	timeout     time.Duration // its statement_timeout; zero: none
	imposed     bool          // that is imposedTimeout, and not the user's
	custom      bool          // types may have been registered
	tracer      pgx.QueryTracer
	onNotice    pgconn.NoticeHandler
	beforeClose func(*pgx.Conn)
	expires     time.Time // zero: never
	free        sync.Pool // of *ask

	// Guarded by m.mu:
	reserved   int
	queue      []*request // to be sent
	sent       []*request // to be answered, in order
	writerIdle bool       // the writer
	headSince  time.Time
	slowChecks int  // how many looks have found it at the same ask for too long
	draining   bool // it takes no more, and closes when it has answered
	closed     bool // it is closed

	statements   map[string]*preparedStmt // by SQL
	describing   map[string]chan struct{} // closed when it is known, or not
	named        int                      // how many names were given
	toDeallocate []string                 // names to be closed
}

var (
	errMalformed = errors.New("pgcmd: the server's reply is malformed")
	errSilent    = errors.New("pgcmd: the server does not answer within its statement_timeout")
	errState     = errors.New("pgcmd: a statement began a transaction on a shared connection")
)

func (l *sharedConn) start() {
	l.m.ended.Go(l.write)
	l.m.ended.Go(l.read)
}

// weight is how much there is to do.
func (l *sharedConn) weight() int {
	n := l.reserved + len(l.queue) + len(l.sent)
	if l.slowChecks > 0 {
		n += 1 << 20
	}
	return n
}

func (l *sharedConn) requests() []*request {
	return append(append([]*request(nil), l.sent...), l.queue...)
}

// done reports whether nobody waits for it.
func (l *sharedConn) done() bool {
	for _, a := range l.sent {
		if !a.abandoned {
			return false
		}
	}
	return len(l.queue) == 0
}

// enqueue queues an ask, for which a place was reserved. It returns false if the lane takes
// none any more: then the ask was never there.
func (l *sharedConn) enqueue(a *request) bool {
	m := l.m
	m.mu.Lock()
	if !a.isPrepare {
		l.reserved--
	}
	if l.closed || l.draining {
		m.mu.Unlock()
		return false
	}
	l.queue = append(l.queue, a)
	wake := l.writerIdle
	l.writerIdle = false
	if !m.watching {
		m.watching = true
		m.watch <- struct{}{}
	}
	m.mu.Unlock()
	if wake {
		l.wake <- struct{}{}
	}
	return true
}

// write sends what is asked, all that has come together.
func (l *sharedConn) write() {
	var out []byte
	for {
		l.m.mu.Lock()
		for len(l.queue) == 0 {
			if l.closed {
				l.m.mu.Unlock()
				return
			}
			l.writerIdle = true
			l.m.mu.Unlock()
			select {
			case <-l.wake:
			case <-l.gone:
			}
			// Those that are about to ask do so first: it wakes the server once for all of
			// them. If nobody else wants to run, it costs nothing.
			runtime.Gosched()
			l.m.mu.Lock()
		}
		out = l.dispatch(out[:0])
		l.m.mu.Unlock()
		if _, err := l.net.Write(out); err != nil {
			l.fail(err, nil)
			return
		}
		if cap(out) > maxMessage {
			out = nil
		}
	}
}

// dispatch moves the queue to sent, and its bytes to out.
func (l *sharedConn) dispatch(out []byte) []byte {
	if len(l.sent) == 0 {
		l.headSince, l.slowChecks = time.Now(), 0
	}
	for i, a := range l.queue {
		out = append(out, a.out...)
		a.sent = true
		l.sent = append(l.sent, a)
		l.queue[i] = nil
	}
	l.queue = l.queue[:0]
	return out
}

// A part is where in the buffer a reply is, without its ReadyForQuery.
type replyFrame struct {
	from, to int
	refused  int  // where its ErrorResponse is; -1 if there is none
	opened   byte // the message that says that it begins: of ParseComplete and BindComplete
	ended    int  // how many messages say that it is whole
	status   byte // of the transaction
}

// answers reports whether the reply is one to a: each of its messages is one that it can
// have. A server, or what is before it, that says too much or too little is found out
// before a caller gets what is another's.
func (p replyFrame) answers(a *request) bool {
	opener := byte('2')
	if a.isPrepare {
		opener = '1'
	}
	return p.refused >= 0 && (p.opened == 0 || p.opened == opener) || p.opened == opener && p.ended == 1
}

// read reads replies until the connection goes.
func (l *sharedConn) read() {
	buf := make([]byte, 16<<10)
	var from, at, end int // of the reply that is being read; of the message; of what has come
	var parts []replyFrame
	next := replyFrame{refused: -1}
	changed := false
	for {
		if end == len(buf) {
			switch {
			case from > 0:
				copy(buf, buf[from:end])
				at, end, next.refused = at-from, end-from, max(-1, next.refused-from)
				from = 0
			case len(buf) >= maxMessage:
				l.replyTooLarge()
				return
			default:
				buf = append(buf, make([]byte, len(buf))...)
			}
		}
		n, err := l.net.Read(buf[end:])
		end += n
		parts = parts[:0]
		for end-at >= 5 {
			size := 1 + int(binary.BigEndian.Uint32(buf[at+1:]))
			if size < 5 {
				err = errMalformed
				break
			}
			if end-at < size {
				break
			}
			switch buf[at] {
			case 'D', 'N', 'A', 't', '3':
			case '1', '2':
				if next.opened != 0 {
					err = errMalformed
				}
				next.opened = buf[at]
			case 'C', 'I', 'T', 'n':
				next.ended++
			case 'E':
				next.refused = at
			case 'S':
				changed = true
			case 'Z':
				if size != 6 {
					err = errMalformed
					break
				}
				next.from, next.to, next.status = from, at, buf[at+5]
				parts = append(parts, next)
				next = replyFrame{refused: -1}
				from = at + size
			default: // such as COPY's, to which nobody here can answer
				err = errMalformed
			}
			if err != nil {
				break
			}
			at += size
		}
		switch {
		case len(parts) > 0:
			if failure := l.deliver(buf, parts, changed); failure != nil {
				err = failure
			}
		case at > from && next.refused < 0 && l.idle():
			from = at // said unasked
		}
		if err != nil {
			var last []byte
			if next.refused >= 0 {
				last = buf[next.refused:at]
			}
			l.fail(err, last)
			return
		}
		if from == end {
			from, at, end = 0, 0, 0
		}
	}
}

// errDone ends the reading of a lane that has answered all.
var errDone = errors.New("pgcmd: the connection was retired")

// deliver gives replies to those who asked. An error is why the lane has to go.
func (l *sharedConn) deliver(buf []byte, parts []replyFrame, changed bool) (failure error) {
	m := l.m
	now := time.Now()
	m.mu.Lock()
	if l.closed {
		m.mu.Unlock()
		return errDone
	}
	var answered [32]*request
	asks := answered[:0]
	if len(parts) > len(l.sent) { // a reply that nobody has asked for
		parts, failure = parts[:len(l.sent)], errMalformed
	}
	for i, p := range parts {
		a := l.sent[i]
		if !p.answers(a) {
			parts, failure = parts[:i], errMalformed
			break
		}
		if !a.isPrepare {
			m.releaseSlot()
		}
		if p.status != 'I' && failure == nil {
			parts, failure = parts[:i+1], errState
		}
		if a.abandoned {
			asks = append(asks, nil)
		} else {
			a.completed = true
			asks = append(asks, a)
			if !a.isPrepare {
				m.requests++
				a.stats.since++
			}
		}
		if failure == errState {
			break
		}
	}
	rest := copy(l.sent, l.sent[len(parts):])
	clear(l.sent[rest:])
	l.sent = l.sent[:rest]
	l.headSince, l.slowChecks = now, 0
	if !l.draining && (changed || !l.expires.IsZero() && now.After(l.expires)) {
		m.drainConn(l)
	}
	if failure == nil && l.draining && l.done() {
		failure = errDone
	}
	m.mu.Unlock()
	for i, a := range asks {
		if a != nil {
			p := parts[i]
			a.in = append(a.in[:0], buf[p.from:p.to]...)
			if p.refused >= 0 {
				a.reject(buf[p.refused:p.to])
			}
			a.done <- outcomeAnswered
		}
	}
	return failure
}

// idle reports whether nothing is to be answered.
func (l *sharedConn) idle() bool {
	l.m.mu.Lock()
	defer l.m.mu.Unlock()
	return len(l.sent) == 0
}

// fail ends the lane: the connection is lost, or is not needed any more. What was not
// answered is asked again elsewhere. last is the server's last word, if it had one.
func (l *sharedConn) fail(err error, last []byte) {
	m := l.m
	var fatal *pgconn.PgError
	if last != nil {
		fatal = refusal(last)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if l.closed {
		return
	}
	if fatal != nil {
		err = fatal
		if e := newUnsentError(m.ctx, fatal); e.invalidatesPool() && l.wire != nil {
			m.ended.Go(func() { l.wire.tracker.invalidateAll(l.wire, e) }) // which comes back for the others
		}
	}
	l.drop(err)
}

// drop closes the lane, and sends those who wait elsewhere, because of err.
func (l *sharedConn) drop(err error) {
	if l.closed {
		return
	}
	l.closed = true
	l.m.remove(l)
	for i, a := range l.sent {
		l.requeue(a, err, i == 0 && blames(err))
	}
	for _, a := range l.queue {
		l.requeue(a, err, false)
	}
	l.sent, l.queue = nil, nil
	l.end()
}

// blames reports whether a connection may have been lost because of what the server
// worked on: not if the server says that somebody has ended it, or that it goes down.
func blames(err error) bool {
	fatal, said := errors.AsType[*pgconn.PgError](err)
	return err != nil && !(said && (fatal.Code == "57P01" || fatal.Code == "57P02"))
}

// requeue sends an ask elsewhere. It was the first if the server worked on it when the
// connection was lost, perhaps because of it.
func (l *sharedConn) requeue(a *request, err error, first bool) {
	if a.abandoned {
		if !a.isPrepare {
			l.m.releaseSlot()
		}
		return
	}
	l.m.moves++
	a.completed, a.cause, a.headOfLine = true, err, first
	a.done <- outcomeRequeued
}

// end closes the connection, without waiting for anybody.
func (l *sharedConn) end() {
	close(l.gone)
	l.m.ended.Go(func() {
		if l.beforeClose != nil {
			l.beforeClose(l.conn)
		}
		_ = l.net.SetWriteDeadline(time.Now().Add(time.Second))
		_, _ = l.net.Write([]byte(terminate))
		_ = l.net.Close()
	})
}

// stop asks the server to stop what it does on the lane, which nobody else uses any more.
func (l *sharedConn) stop() {
	l.m.ended.Go(func() {
		ctx, cancel := context.WithTimeout(l.m.ctx, time.Second)
		defer cancel()
		_ = l.conn.PgConn().CancelRequest(ctx)
	})
}

// replyTooLarge is called when the reply at the head is too big to be shared.
func (l *sharedConn) replyTooLarge() {
	m := l.m
	m.mu.Lock()
	defer m.mu.Unlock()
	if l.closed {
		return
	}
	if len(l.sent) > 0 {
		a := l.sent[0]
		l.sent = l.sent[1:]
		m.bypass(a.sql)
		switch {
		case !a.abandoned:
			a.completed = true
			a.done <- outcomeUseDedicated
		case !a.isPrepare:
			m.releaseSlot()
		}
	}
	l.stop()
	l.drop(nil)
}

// refusal reads an ErrorResponse, with which b begins.
func refusal(b []byte) *pgconn.PgError {
	size := 1 + int(binary.BigEndian.Uint32(b[1:]))
	var msg pgproto3.ErrorResponse
	if size > len(b) || msg.Decode(b[5:size]) != nil {
		return &pgconn.PgError{Severity: "FATAL", Code: "08P01", Message: "malformed error"}
	}
	return pgconn.ErrorResponseToPgError(&msg)
}
