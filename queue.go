package pgcmd

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
)

// A queue lets as many commands at a pool as it may have connections, first come first
// served. Who has done with a connection hands it to the next, and spares both the way
// through pgxpool, which under load is a tenth of what a short command costs the client.
//
// Who takes a connection of the pgxpool itself is not in this queue, but in pgxpool's:
// every so often a connection goes through that, and so does one that is not as new.
type semaphore struct {
	pool    *pgxpool.Pool
	tracker *tracker
	size    int
	handOff bool          // a connection may be handed over
	timeout time.Duration // how long one waits; not positive: for ever

	mu            sync.Mutex
	inside        int // who holds a place
	first, last   *semWaiter
	alarm         *time.Timer // for who has waited for too long; nil: never set
	alarmed       bool
	handed, waits int64
	waited        time.Duration
}

// handsInARow is how often a connection is handed over before it goes through pgxpool.
const handsInARow = 16

// A turn is that of one who waits for a place.
type semWaiter struct {
	before, next *semWaiter
	queued       bool
	since        time.Duration // on the keeper's clock
	came         chan struct{} // once
	conn         *pgxpool.Conn // handed over with the place; nil: it has to be taken
	late         bool          // there is no place: it has waited for too long
}

var semWaiters = sync.Pool{New: func() any { return &semWaiter{came: make(chan struct{}, 1)} }}

var errLate = errors.New("pgcmd: the place in the queue came too late")

func newSemaphore(pool *pgxpool.Pool, k *tracker, patience time.Duration) *semaphore {
	return &semaphore{pool: pool, tracker: k, size: int(pool.Config().MaxConns), handOff: k.unseen, timeout: patience}
}

// acquire waits for a place, which leave gives back, and says for how long it did. With
// it may come a connection. An error is the context's, or errLate.
func (q *semaphore) acquire(ctx context.Context) (conn *pgxpool.Conn, waited time.Duration, err error) {
	q.mu.Lock()
	if q.inside < q.size {
		q.inside++
		q.mu.Unlock()
		return nil, 0, nil
	}
	w := semWaiters.Get().(*semWaiter)
	w.since = q.tracker.now()
	q.push(w)
	q.mu.Unlock()
	settled := false
	defer func() {
		if !settled {
			q.abandon(w)
		}
	}()
	if done := ctx.Done(); done == nil {
		<-w.came
	} else {
		select {
		case <-w.came:
		case <-done:
			err = ctx.Err()
			if q.cancelWait(w) {
				settled = true
				semWaiters.Put(w)
				return nil, 0, err
			}
			<-w.came
		}
	}
	settled = true
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

// release gives the place and the connection, if there is one, to the next.
func (q *semaphore) release(conn *pgxpool.Conn) {
	var wire *netConn
	if conn != nil {
		if wire = netConnOf(conn.Conn()); !q.hands(conn, wire) {
			returnConn(conn, wire)
			conn = nil
		}
	}
	q.mu.Lock()
	w := q.first
	if w == nil {
		q.inside--
		q.mu.Unlock()
		if conn != nil {
			returnConn(conn, wire)
		}
		return
	}
	q.remove(w)
	q.waits++
	q.waited += q.tracker.now() - w.since
	if w.conn = conn; conn != nil {
		q.handed++
	}
	w.came <- struct{}{}
	q.mu.Unlock()
}

// hands reports whether the connection can be handed over: it is as if it were new, and
// nobody is to see that it changes hands.
func (q *semaphore) hands(conn *pgxpool.Conn, w *netConn) bool {
	c := conn.Conn().PgConn()
	return q.handOff && w != nil && w.handed < handsInARow && w.epoch == q.tracker.generation.Load() && w.upToDate() &&
		!c.IsClosed() && !c.IsBusy() && c.TxStatus() == 'I'
}

// abandon is for one whose context panicked while it waited: nobody comes for what is
// given to it.
func (q *semaphore) abandon(w *semWaiter) {
	if q.cancelWait(w) {
		return
	}
	if <-w.came; !w.late {
		q.release(w.conn)
	}
}

// cancelWait takes one who does not want to wait out of the queue, and reports
// whether it was still there.
func (q *semaphore) cancelWait(w *semWaiter) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !w.queued {
		return false
	}
	q.remove(w)
	return true
}

// expireWaiters sends those away who have waited for too long.
func (q *semaphore) expireWaiters() {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := q.tracker.now()
	for q.first != nil && now-q.first.since >= q.timeout {
		w := q.first
		q.remove(w)
		w.late = true
		w.came <- struct{}{}
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

// stats adds what pgxpool did not see.
func (q *semaphore) stats(m *PoolMetrics) {
	q.mu.Lock()
	defer q.mu.Unlock()
	m.Acquires += q.handed
	m.EmptyAcquires += q.waits
	m.Waited += q.waited
}
