package multiplex

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

	"github.com/pgcmd/pgcmd/internal/connpool"
	"github.com/pgcmd/pgcmd/internal/pgrows"
	"github.com/pgcmd/pgcmd/internal/sqlstate"
	"github.com/pgcmd/pgcmd/internal/stmtcache"
)

// maxReplySize is how many bytes a reply may have. A statement with a larger one runs on a
// connection of its own.
const maxReplySize = 256 << 10

// A conn is one shared connection. One goroutine writes the requests, another reads
// the replies and delivers them, complete, in order. The order alone tells which request a
// reply belongs to, so it changes in one place only, under the mutex of the mux: requests
// are appended to sent before they are written, and removed when the ReadyForQuery of
// their reply was read.
type conn struct {
	mux     *Mux
	conn    *pgx.Conn // hijacked; passed to tracers and hooks
	net     net.Conn
	tracked *connpool.Conn // nil if it is not instrumented
	wake    chan struct{}
	closing chan struct{} // closed with the connection

	timeout     time.Duration // its statement_timeout; zero: none
	imposed     bool          // the timeout is imposedTimeout, not the user's
	customTypes bool          // AfterConnect may have registered types
	setting     string        // the prepared stmtcache.SetSQL, if the mux has settings
	tracer      pgx.QueryTracer
	onNotice    pgconn.NoticeHandler
	beforeClose func(*pgx.Conn)
	expires     time.Time // zero: never
	free        sync.Pool // of *Request

	// Guarded by mux.mu:
	reserved   int        // places for requests that are not queued yet
	queue      []*Request // to be sent
	sent       []*Request // not answered yet, in order
	writerIdle bool       // the writer waits for wake
	headSince  time.Time  // since when sent[0] is the oldest
	slowChecks int        // how many checks in a row found sent[0] too old
	draining   bool       // it accepts no requests, and closes when all are answered
	closed     bool

	statements   *stmtcache.LRU[string, *preparedStmt]
	preparing    map[string]chan struct{} // closed when preparing has ended
	lastName     int                      // number of the last statement name
	toDeallocate []string                 // names of statements to close
}

func (c *conn) start() {
	c.mux.goroutines.Go(c.write)
	c.mux.goroutines.Go(c.read)
}

// weight is the load of the connection; a slow one has more than any other.
func (c *conn) weight() int {
	n := c.reserved + len(c.queue) + len(c.sent)
	if c.slowChecks > 0 {
		n += 1 << 20
	}
	return n
}

// unwanted reports whether no caller waits for a reply on the connection.
func (c *conn) unwanted() bool {
	for _, req := range c.sent {
		if !req.abandoned {
			return false
		}
	}
	return len(c.queue) == 0
}

// enqueue queues a request, for which a place is reserved. It returns false if the
// connection accepts none any more: then nothing refers to the request.
func (c *conn) enqueue(req *Request) bool {
	m := c.mux
	m.mu.Lock()
	if !req.isPrepare {
		c.reserved--
	}
	if c.closed || c.draining {
		m.mu.Unlock()
		return false
	}
	c.queue = append(c.queue, req)
	wake := c.writerIdle
	c.writerIdle = false
	if !m.watching {
		m.watching = true
		m.watch <- struct{}{}
	}
	m.mu.Unlock()
	if wake {
		c.wake <- struct{}{}
	}
	return true
}

// write sends the queued requests, all that are there in one write.
func (c *conn) write() {
	var out []byte
	for {
		c.mux.mu.Lock()
		for len(c.queue) == 0 {
			if c.closed {
				c.mux.mu.Unlock()
				return
			}
			c.writerIdle = true
			c.mux.mu.Unlock()
			select {
			case <-c.wake:
			case <-c.closing:
			}
			// Goroutines that are about to enqueue run first, so that the server wakes once
			// for all of them. If none is runnable, this costs nothing.
			runtime.Gosched()
			c.mux.mu.Lock()
		}
		out = c.dispatch(out[:0])
		c.mux.mu.Unlock()
		if _, err := c.net.Write(out); err != nil {
			c.fail(err, nil)
			return
		}
		if cap(out) > maxReplySize {
			out = nil
		}
	}
}

// dispatch moves the queue to sent, and its bytes to out.
func (c *conn) dispatch(out []byte) []byte {
	if len(c.sent) == 0 {
		c.headSince, c.slowChecks = time.Now(), 0
	}
	for i, req := range c.queue {
		out = append(out, req.message...)
		req.sent = true
		c.sent = append(c.sent, req)
		c.queue[i] = nil
	}
	c.queue = c.queue[:0]
	return out
}

// A replyFrame locates a reply in the buffer, without its ReadyForQuery.
type replyFrame struct {
	from, to    int
	errorAt     int  // offset of its ErrorResponse; -1 if there is none
	opener      byte // its ParseComplete or BindComplete
	openers     int  // number of them
	completions int  // number of messages that complete it, or a setting before it
	status      byte // the transaction status
}

// answers reports whether the reply can be one to req. A server or a proxy that sends a
// message too many or too few is detected before a caller gets another caller's reply.
func (p replyFrame) answers(req *Request) bool {
	opener, statements := byte('2'), 1+req.settings
	if req.isPrepare {
		opener = '1'
	}
	if p.errorAt >= 0 {
		return (p.opener == 0 || p.opener == opener) && p.completions <= p.openers && p.openers <= statements
	}
	return p.opener == opener && p.openers == statements && p.completions == statements
}

// read reads replies until the connection closes.
func (c *conn) read() {
	buf := make([]byte, 16<<10)
	var from, at, end int // offsets of the current reply, of the current message, and of the end of the data
	var frames []replyFrame
	next := replyFrame{errorAt: -1}
	changed := false
	for {
		if end == len(buf) {
			switch {
			case from > 0:
				copy(buf, buf[from:end])
				at, end, next.errorAt = at-from, end-from, max(-1, next.errorAt-from)
				from = 0
			case len(buf) >= maxReplySize:
				c.replyTooLarge()
				return
			default:
				buf = append(buf, make([]byte, len(buf))...)
			}
		}
		n, err := c.net.Read(buf[end:])
		end += n
		frames = frames[:0]
		for end-at >= 5 {
			size := 1 + int(binary.BigEndian.Uint32(buf[at+1:]))
			if size < 5 {
				err = pgrows.ErrMalformed
				break
			}
			if end-at < size {
				break
			}
			switch buf[at] {
			case 'D', 'N', 'A', 't', '3':
			case '1', '2':
				if next.opener != 0 && next.opener != buf[at] {
					err = pgrows.ErrMalformed
				}
				next.opener = buf[at]
				next.openers++
			case 'C', 'I', 'T', 'n':
				next.completions++
			case 'E':
				next.errorAt = at
			case 'S':
				changed = true
			case 'Z':
				if size != 6 {
					err = pgrows.ErrMalformed
					break
				}
				next.from, next.to, next.status = from, at, buf[at+5]
				frames = append(frames, next)
				next = replyFrame{errorAt: -1}
				from = at + size
			default: // such as COPY's, which needs an answer
				err = pgrows.ErrMalformed
			}
			if err != nil {
				break
			}
			at += size
		}
		switch {
		case len(frames) > 0:
			if failure := c.deliver(buf, frames, changed); failure != nil {
				err = failure
			}
		case at > from && next.errorAt < 0 && c.idle():
			from = at // notices and parameters outside of a reply
		}
		if err != nil {
			var last []byte
			if next.errorAt >= 0 {
				last = buf[next.errorAt:at]
			}
			c.fail(err, last)
			return
		}
		if from == end {
			from, at, end = 0, 0, 0
		}
	}
}

// deliver hands replies to their callers. An error means that the connection has to be closed.
func (c *conn) deliver(buf []byte, frames []replyFrame, changed bool) (failure error) {
	m := c.mux
	now := time.Now()
	m.mu.Lock()
	if c.closed {
		m.mu.Unlock()
		return errDrained
	}
	var answered [32]*Request
	requests := answered[:0]
	if len(frames) > len(c.sent) { // more replies than requests
		frames, failure = frames[:len(c.sent)], pgrows.ErrMalformed
	}
	for i, frame := range frames {
		req := c.sent[i]
		if !frame.answers(req) {
			frames, failure = frames[:i], pgrows.ErrMalformed
			break
		}
		if !req.isPrepare {
			m.releaseSlot()
		}
		if frame.status != 'I' && failure == nil {
			frames, failure = frames[:i+1], errInTransaction
		}
		if req.abandoned {
			requests = append(requests, nil)
		} else {
			req.completed = true
			requests = append(requests, req)
			if !req.isPrepare {
				m.requests++
				req.slow.answered++
			}
		}
		if failure == errInTransaction {
			break
		}
	}
	rest := copy(c.sent, c.sent[len(frames):])
	clear(c.sent[rest:])
	c.sent = c.sent[:rest]
	c.headSince, c.slowChecks = now, 0
	if !c.draining && (changed || !c.expires.IsZero() && now.After(c.expires)) {
		m.drainConn(c)
	}
	if failure == nil && c.draining && c.unwanted() {
		failure = errDrained
	}
	m.mu.Unlock()
	for i, req := range requests {
		if req != nil {
			frame := frames[i]
			req.reply.Messages = append(req.reply.Messages[:0], buf[frame.from:frame.to]...)
			if frame.errorAt >= 0 {
				req.setError(buf[frame.errorAt:frame.to])
				req.completions = frame.completions
			}
			req.done <- outcomeAnswered
		}
	}
	return failure
}

// idle reports whether no reply is outstanding.
func (c *conn) idle() bool {
	c.mux.mu.Lock()
	defer c.mux.mu.Unlock()
	return len(c.sent) == 0
}

// fail closes the connection because of err. Unanswered requests are sent again on another
// one. last begins with an ErrorResponse that belongs to no complete reply; nil: none.
func (c *conn) fail(err error, last []byte) {
	m := c.mux
	var fatal *pgconn.PgError
	if last != nil {
		fatal = pgrows.ParseError(last)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if c.closed {
		return
	}
	if fatal != nil {
		err = fatal
		if sqlstate.InvalidatesPool(fatal.Code) {
			m.goroutines.Go(func() { c.tracked.InvalidatePool(fatal.Code) }) // it resets the pool, and so may call Renew
		}
	}
	c.close(err)
}

// close closes the connection because of err, and requeues its requests.
func (c *conn) close(err error) {
	if c.closed {
		return
	}
	c.closed = true
	c.mux.remove(c)
	for i, req := range c.sent {
		c.requeue(req, err, i == 0 && mayHaveLostConn(err))
	}
	for _, req := range c.queue {
		c.requeue(req, err, false)
	}
	c.sent, c.queue = nil, nil
	c.closeNet()
}

// mayHaveLostConn reports whether a connection may have been lost because of the statement
// that the server worked on: not if an administrator has ended it or the server shuts down.
func mayHaveLostConn(err error) bool {
	fatal, said := errors.AsType[*pgconn.PgError](err)
	return err != nil && !(said && (fatal.Code == "57P01" || fatal.Code == "57P02"))
}

// requeue makes the caller send its request on another connection. head: the server worked
// on it when the connection was lost, perhaps because of it.
func (c *conn) requeue(req *Request, err error, head bool) {
	if req.abandoned {
		if !req.isPrepare {
			c.mux.releaseSlot()
		}
		return
	}
	c.mux.reruns++
	req.completed, req.cause, req.headOfLine = true, err, head
	req.done <- outcomeRequeued
}

// closeNet closes the network connection in the background.
func (c *conn) closeNet() {
	close(c.closing)
	c.mux.goroutines.Go(func() {
		if c.beforeClose != nil {
			c.beforeClose(c.conn)
		}
		_ = c.net.SetWriteDeadline(time.Now().Add(time.Second))
		_, _ = c.net.Write([]byte("X\x00\x00\x00\x04")) // Terminate
		_ = c.net.Close()
	})
}

// cancelRequest cancels the running statement of a connection that is about to be closed.
func (c *conn) cancelRequest() {
	c.mux.goroutines.Go(func() {
		ctx, cancel := context.WithTimeout(c.mux.ctx, time.Second)
		defer cancel()
		_ = c.conn.PgConn().CancelRequest(ctx)
	})
}

// replyTooLarge closes the connection because the reply that is being read exceeds maxReplySize.
func (c *conn) replyTooLarge() {
	m := c.mux
	m.mu.Lock()
	defer m.mu.Unlock()
	if c.closed {
		return
	}
	if len(c.sent) > 0 {
		req := c.sent[0]
		c.sent = c.sent[1:]
		m.bypass(req.sql)
		switch {
		case !req.abandoned:
			req.completed = true
			req.done <- outcomeUseDedicated
		case !req.isPrepare:
			m.releaseSlot()
		}
	}
	c.cancelRequest()
	c.close(nil)
}
