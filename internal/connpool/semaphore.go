package connpool

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
)

// A semaphore admits as many commands as a pool may have connections, in the order in which
// they come. A command that releases its connection hands it to the next waiter, which
// saves both the way through pgxpool: under load a tenth of the client's cost of a short
// command.
//
// A caller of the pgxpool itself waits in pgxpool's queue and not here: so a connection goes
// back to pgxpool every handsInARow times, and if it is not as good as new.
type semaphore struct {
	tracker *Tracker
	size    int
	handOff bool          // connections may be handed over
	timeout time.Duration // of a wait; not positive: none

	mu            sync.Mutex
	inUse         int // slots that are held
	first, last   *waiter
	timer         *time.Timer // of the first waiter's timeout; nil: never set
	timerSet      bool
	handed, waits int64
	waited        time.Duration
}

// handsInARow is how often in a row a connection is handed over.
const handsInARow = 16

// A waiter waits for a slot.
type waiter struct {
	prev, next *waiter
	queued     bool
	since      time.Duration // on the tracker's clock
	ready      chan struct{} // once
	conn       *pgxpool.Conn // handed over with the slot; nil: it has to be acquired
	timedOut   bool          // it has no slot
}

var waiters = sync.Pool{New: func() any { return &waiter{ready: make(chan struct{}, 1)} }}

var errTimeout = errors.New("pgcmd: timeout waiting for a connection")

// acquire waits for a slot, which release gives back, and returns how long it waited and a
// connection if one was handed over. The error is the context's, or errTimeout.
func (s *semaphore) acquire(ctx context.Context) (conn *pgxpool.Conn, waited time.Duration, err error) {
	s.mu.Lock()
	if s.inUse < s.size {
		s.inUse++
		s.mu.Unlock()
		return nil, 0, nil
	}
	w := waiters.Get().(*waiter)
	w.since = s.tracker.now()
	s.push(w)
	s.mu.Unlock()
	ended := false
	defer func() {
		if !ended {
			s.abandon(w)
		}
	}()
	if done := ctx.Done(); done == nil {
		<-w.ready
	} else {
		select {
		case <-w.ready:
		case <-done:
			err = ctx.Err()
			if s.cancelWait(w) {
				ended = true
				waiters.Put(w)
				return nil, 0, err
			}
			<-w.ready
		}
	}
	ended = true
	conn, waited = w.conn, s.tracker.now()-w.since
	timedOut := w.timedOut
	w.conn, w.timedOut = nil, false
	waiters.Put(w)
	switch {
	case timedOut:
		return nil, waited, errTimeout
	case err != nil:
		s.release(conn)
		return nil, waited, err
	}
	return conn, waited, nil
}

// release gives the slot, and the connection if it is not nil, to the next waiter.
func (s *semaphore) release(conn *pgxpool.Conn) {
	var c *Conn
	if conn != nil {
		if c = Of(conn.Conn()); !s.canHandOver(conn, c) {
			release(conn, c)
			conn = nil
		}
	}
	s.mu.Lock()
	next := s.first
	if next == nil {
		s.inUse--
		s.mu.Unlock()
		if conn != nil {
			release(conn, c)
		}
		return
	}
	s.remove(next)
	s.waits++
	s.waited += s.tracker.now() - next.since
	if next.conn = conn; conn != nil {
		s.handed++
	}
	next.ready <- struct{}{}
	s.mu.Unlock()
}

// canHandOver reports whether the connection can be handed over: it is as good as new, and
// no hook or tracer has to see it released and acquired.
func (s *semaphore) canHandOver(conn *pgxpool.Conn, c *Conn) bool {
	pg := conn.Conn().PgConn()
	return s.handOff && c != nil && c.handed < handsInARow && c.generation == s.tracker.generation.Load() && c.upToDate() &&
		!pg.IsClosed() && !pg.IsBusy() && pg.TxStatus() == 'I'
}

// abandon ends the wait of a caller whose context panicked.
func (s *semaphore) abandon(w *waiter) {
	if s.cancelWait(w) {
		return
	}
	if <-w.ready; !w.timedOut {
		s.release(w.conn)
	}
}

// cancelWait removes a waiter from the queue, and reports whether it was there.
func (s *semaphore) cancelWait(w *waiter) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !w.queued {
		return false
	}
	s.remove(w)
	return true
}

// expireWaiters ends the waits that have timed out.
func (s *semaphore) expireWaiters() {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.tracker.now()
	for s.first != nil && now-s.first.since >= s.timeout {
		w := s.first
		s.remove(w)
		w.timedOut = true
		w.ready <- struct{}{}
	}
	if s.timerSet = s.first != nil; s.timerSet {
		s.timer.Reset(s.first.since + s.timeout - now)
	}
}

func (s *semaphore) push(w *waiter) {
	w.queued, w.prev, w.next = true, s.last, nil
	if s.last == nil {
		s.first = w
	} else {
		s.last.next = w
	}
	s.last = w
	switch {
	case s.timerSet || s.timeout <= 0:
		return
	case s.timer == nil:
		s.timer = time.AfterFunc(s.timeout, s.expireWaiters)
	default:
		s.timer.Reset(s.timeout)
	}
	s.timerSet = true
}

func (s *semaphore) remove(w *waiter) {
	if w.prev == nil {
		s.first = w.next
	} else {
		w.prev.next = w.next
	}
	if w.next == nil {
		s.last = w.prev
	} else {
		w.next.prev = w.prev
	}
	w.queued, w.prev, w.next = false, nil, nil
}

// stats is [Acquirer.Stats].
func (s *semaphore) stats() (handed, waits int64, waited time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.handed, s.waits, s.waited
}
