package pgcmd

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
	pool    *pgxpool.Pool
	tracker *tracker
	size    int
	handOff bool          // connections may be handed over
	timeout time.Duration // of a wait; not positive: none

	mu            sync.Mutex
	inUse         int // slots that are held
	first, last   *semWaiter
	alarm         *time.Timer // of the first waiter's timeout; nil: never set
	alarmed       bool
	handed, waits int64
	waited        time.Duration
}

// handsInARow is how often in a row a connection is handed over.
const handsInARow = 16

// A semWaiter waits for a slot.
type semWaiter struct {
	before, next *semWaiter
	queued       bool
	since        time.Duration // on the tracker's clock
	ready        chan struct{} // once
	conn         *pgxpool.Conn // handed over with the slot; nil: it has to be acquired
	late         bool          // it timed out, and has no slot
}

var semWaiters = sync.Pool{New: func() any { return &semWaiter{ready: make(chan struct{}, 1)} }}

var errLate = errors.New("pgcmd: timeout waiting for a connection")

func newSemaphore(pool *pgxpool.Pool, k *tracker, timeout time.Duration) *semaphore {
	return &semaphore{pool: pool, tracker: k, size: int(pool.Config().MaxConns), handOff: !k.hasHooks, timeout: timeout}
}

// acquire waits for a slot, which release gives back, and returns how long it waited and a
// connection if one was handed over. The error is the context's, or errLate.
func (q *semaphore) acquire(ctx context.Context) (conn *pgxpool.Conn, waited time.Duration, err error) {
	q.mu.Lock()
	if q.inUse < q.size {
		q.inUse++
		q.mu.Unlock()
		return nil, 0, nil
	}
	w := semWaiters.Get().(*semWaiter)
	w.since = q.tracker.now()
	q.push(w)
	q.mu.Unlock()
	ended := false
	defer func() {
		if !ended {
			q.abandon(w)
		}
	}()
	if done := ctx.Done(); done == nil {
		<-w.ready
	} else {
		select {
		case <-w.ready:
		case <-done:
			err = ctx.Err()
			if q.cancelWait(w) {
				ended = true
				semWaiters.Put(w)
				return nil, 0, err
			}
			<-w.ready
		}
	}
	ended = true
	conn, waited = w.conn, q.tracker.now()-w.since
	late := w.late
	w.conn, w.late = nil, false
	semWaiters.Put(w)
	switch {
	case late:
		return nil, waited, errLate
	case err != nil:
		q.release(conn)
		return nil, waited, err
	}
	return conn, waited, nil
}

// release gives the slot, and the connection if it is not nil, to the next waiter.
func (q *semaphore) release(conn *pgxpool.Conn) {
	var w *netConn
	if conn != nil {
		if w = netConnOf(conn.Conn()); !q.canHandOver(conn, w) {
			returnConn(conn, w)
			conn = nil
		}
	}
	q.mu.Lock()
	next := q.first
	if next == nil {
		q.inUse--
		q.mu.Unlock()
		if conn != nil {
			returnConn(conn, w)
		}
		return
	}
	q.remove(next)
	q.waits++
	q.waited += q.tracker.now() - next.since
	if next.conn = conn; conn != nil {
		q.handed++
	}
	next.ready <- struct{}{}
	q.mu.Unlock()
}

// canHandOver reports whether the connection can be handed over: it is as good as new, and
// no hook or tracer has to see it released and acquired.
func (q *semaphore) canHandOver(conn *pgxpool.Conn, w *netConn) bool {
	c := conn.Conn().PgConn()
	return q.handOff && w != nil && w.handed < handsInARow && w.epoch == q.tracker.generation.Load() && w.upToDate() &&
		!c.IsClosed() && !c.IsBusy() && c.TxStatus() == 'I'
}

// abandon ends the wait of a caller whose context panicked.
func (q *semaphore) abandon(w *semWaiter) {
	if q.cancelWait(w) {
		return
	}
	if <-w.ready; !w.late {
		q.release(w.conn)
	}
}

// cancelWait removes a waiter from the queue, and reports whether it was there.
func (q *semaphore) cancelWait(w *semWaiter) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !w.queued {
		return false
	}
	q.remove(w)
	return true
}

// expireWaiters ends the waits that have timed out.
func (q *semaphore) expireWaiters() {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := q.tracker.now()
	for q.first != nil && now-q.first.since >= q.timeout {
		w := q.first
		q.remove(w)
		w.late = true
		w.ready <- struct{}{}
	}
	if q.alarmed = q.first != nil; q.alarmed {
		q.alarm.Reset(q.first.since + q.timeout - now)
	}
}

func (q *semaphore) push(w *semWaiter) {
	w.queued, w.before, w.next = true, q.last, nil
	if q.last == nil {
		q.first = w
	} else {
		q.last.next = w
	}
	q.last = w
	switch {
	case q.alarmed || q.timeout <= 0:
		return
	case q.alarm == nil:
		q.alarm = time.AfterFunc(q.timeout, q.expireWaiters)
	default:
		q.alarm.Reset(q.timeout)
	}
	q.alarmed = true
}

func (q *semaphore) remove(w *semWaiter) {
	if w.before == nil {
		q.first = w.next
	} else {
		w.before.next = w.next
	}
	if w.next == nil {
		q.last = w.before
	} else {
		w.next.before = w.before
	}
	w.queued, w.before, w.next = false, nil, nil
}

// stats adds the acquires that pgxpool does not count.
func (q *semaphore) stats(m *PoolMetrics) {
	q.mu.Lock()
	defer q.mu.Unlock()
	m.Acquires += q.handed
	m.EmptyAcquires += q.waits
	m.Waited += q.waited
}
