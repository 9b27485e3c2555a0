package pgcmd

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pgcmd/pgcmd/internal/connpool"
	"github.com/pgcmd/pgcmd/internal/stmtcache"
)

const (
	// maxQueued is how many requests a shared connection accepts, sent and queued.
	maxQueued = 256
	// bypassTime is how long a statement that was too slow or too large runs on connections
	// of its own.
	bypassTime = 30 * time.Second
	// redialPause is the pause after a failed dial while there are other connections.
	redialPause = time.Second
)

// A mux multiplexes the queries of many callers over a few connections to one server. A
// request is sent at once, whatever else is outstanding, and answered in order. A Sync
// after each request makes it a transaction of its own, so that an error does not affect
// the next.
//
// All mutable state, that of the connections too, is guarded by mu.
type mux struct {
	pool          *pgxpool.Pool // its settings and hooks make the shared connections
	tracker       *connpool.Tracker
	size          int   // maximum of conns
	imposeTimeout bool  // imposedTimeout is set: the user sets no statement_timeout
	generation    int64 // number of renewals; guarded by mu

	ctx        context.Context // done when the mux closes
	cancel     context.CancelFunc
	goroutines sync.WaitGroup // all that the mux has started

	mu          sync.Mutex
	conns       []*sharedConn
	draining    map[*sharedConn]struct{} // finish their requests and accept no others
	admitted    int                      // callers that have a slot
	waiting     []*waiter                // for a slot, in order
	connWaiters []*waiter                // for a connection, when there is none
	dialing     bool
	redial      time.Time                  // not before this time
	bypassed    *stmtcache.LRU[time.Time]  // until when a statement runs on connections of its own
	slow        *stmtcache.LRU[*slowStats] // by SQL
	watching    bool
	watch       chan struct{}
	closed      bool

	requests, reruns, isolations, bypasses int64 // counters
}

// A waiter is a caller that waits in a queue. ready is sent one value.
type waiter struct {
	command string
	ready   chan *Error
}

func newMux(pool *pgxpool.Pool, t *connpool.Tracker, size int) *mux {
	m := &mux{pool: pool, tracker: t, size: size, draining: map[*sharedConn]struct{}{}, bypassed: stmtcache.NewLRU[time.Time](stmtcache.Size, nil), slow: stmtcache.NewLRU[*slowStats](stmtcache.Size, nil), watch: make(chan struct{}, 1)}
	m.imposeTimeout = !setsTimeout(pool.Config().ConnConfig)
	m.ctx, m.cancel = context.WithCancel(context.Background())
	m.goroutines.Go(m.monitor)
	return m
}

// newMuxOf makes the mux of a pool, whose reset then renews the shared connections too.
func (p *Pool) newMuxOf(pool *pgxpool.Pool, t *connpool.Tracker) *mux {
	m := newMux(pool, t, p.config.Multiplex)
	t.Reset = func() {
		pool.Reset()
		m.renew()
	}
	return m
}

// connectFirst makes the first shared connection.
func (m *mux) connectFirst(ctx context.Context) *Error {
	m.mu.Lock()
	if len(m.conns) > 0 {
		m.mu.Unlock()
		return nil
	}
	w := &waiter{"pgcmd.Connect", make(chan *Error, 1)}
	m.connWaiters = append(m.connWaiters, w)
	m.startDial()
	m.mu.Unlock()
	return m.wait(ctx, w, &m.connWaiters)
}

// enter takes a slot and reserves a place on a shared connection, for do to use. A caller
// that runs again does not queue for a slot; with in it still has one. It returns false for
// done if the statement has to run on a connection of its own.
func (m *mux) enter(ctx context.Context, s *statement, again, in bool, patience time.Duration) (c *sharedConn, stmt *preparedStmt, failure *Error, done bool) {
	m.mu.Lock()
	if m.bypassed.Len() > 0 && m.isBypassed(s.text.SQL) {
		if in {
			m.releaseSlot()
		}
		m.mu.Unlock()
		return nil, nil, nil, false
	}
	if again || m.admitted < m.size*maxQueued && len(m.waiting) == 0 {
		if !in {
			m.admitted++
		}
		if c, stmt := m.pickConn(s); c != nil {
			m.mu.Unlock()
			return c, stmt, nil, true
		}
		m.mu.Unlock()
	} else {
		w := &waiter{s.name, make(chan *Error, 1)}
		m.waiting = append(m.waiting, w)
		m.mu.Unlock()
		ctx, cancel := withPatience(ctx, patience)
		defer cancel()
		if failure := m.wait(ctx, w, &m.waiting); failure != nil {
			return nil, nil, failure, true
		}
	}
	c, stmt, failure = m.waitForConn(ctx, s, patience)
	return c, stmt, failure, true
}

// waitForConn blocks an admitted caller until a shared connection is available.
func (m *mux) waitForConn(ctx context.Context, s *statement, patience time.Duration) (*sharedConn, *preparedStmt, *Error) {
	var bounded context.Context
	for {
		m.mu.Lock()
		if c, stmt := m.pickConn(s); c != nil {
			m.mu.Unlock()
			return c, stmt, nil
		}
		w := &waiter{s.name, make(chan *Error, 1)}
		if m.closed {
			w.ready <- poolClosed()
		} else {
			m.connWaiters = append(m.connWaiters, w)
			m.startDial()
		}
		m.mu.Unlock()
		if bounded == nil {
			var cancel context.CancelFunc
			bounded, cancel = withPatience(ctx, patience)
			defer cancel()
		}
		if failure := m.wait(bounded, w, &m.connWaiters); failure != nil {
			m.leave()
			return nil, nil, failure
		}
	}
}

// wait waits for a waiter of the queue to become ready.
func (m *mux) wait(ctx context.Context, w *waiter, queue *[]*waiter) *Error {
	select {
	case failure := <-w.ready:
		return failure
	case <-ctx.Done():
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	i := slices.Index(*queue, w)
	if i < 0 { // it became ready meanwhile
		failure := <-w.ready
		if failure == nil && queue == &m.waiting {
			m.releaseSlot()
		}
		if failure != nil {
			return failure
		}
	} else {
		*queue = slices.Delete(*queue, i, i+1)
	}
	return m.waitError(ctx)
}

// waitError is the error of a caller whose context ended while it waited.
func (m *mux) waitError(ctx context.Context) *Error {
	e := newUnsentError(ctx, ctx.Err())
	if e.Code != CodeTimeout {
		return e
	}
	e.Code = CodeExhausted
	if len(m.conns) == 0 {
		e.Message = "no shared connection could be made before the deadline"
		return e
	}
	e.Message = fmt.Sprintf("the shared connections were full until the deadline: %d reads were under way on %d shared connections, and %d others waited (raise Multiplex, or run fewer reads at a time)%s",
		m.admitted, len(m.conns)+len(m.draining), len(m.waiting), m.waitingCommands())
	return e
}

// waitingCommands describes which commands the requests belong to.
func (m *mux) waitingCommands() string {
	counts := map[string]int{}
	for c := range m.allConns() {
		for _, req := range c.pending() {
			counts[req.command]++
		}
	}
	if len(counts) == 0 {
		return ""
	}
	names := slices.SortedFunc(maps.Keys(counts), func(a, b string) int {
		return cmp.Or(counts[b]-counts[a], strings.Compare(a, b))
	})
	var parts []string
	for _, name := range names[:min(len(names), 3)] {
		parts = append(parts, fmt.Sprintf("%s has %d", name, counts[name]))
	}
	if len(names) > 3 {
		parts = append(parts, fmt.Sprintf("and %d other commands", len(names)-3))
	}
	return ": " + strings.Join(parts, "; ")
}

// allConns yields all shared connections, draining ones too.
func (m *mux) allConns() func(yield func(*sharedConn) bool) {
	return func(yield func(*sharedConn) bool) {
		for _, c := range m.conns {
			if !yield(c) {
				return
			}
		}
		for c := range m.draining {
			if !yield(c) {
				return
			}
		}
	}
}

// pickConn reserves a place on the least loaded connection. If all are busy and one more is
// allowed, it dials one for later callers.
func (m *mux) pickConn(s *statement) (*sharedConn, *preparedStmt) {
	var best *sharedConn
	for _, c := range m.conns {
		if best == nil || c.weight() < best.weight() {
			best = c
		}
	}
	if best == nil || m.closed {
		return nil, nil
	}
	if len(m.conns) < m.size && !m.dialing && best.weight() > 0 && (m.redial.IsZero() || time.Now().After(m.redial)) {
		m.startDial()
	}
	best.reserved++
	stmt, _ := best.statements.Get(s.text.SQL)
	return best, stmt
}

// leave releases the slot of a caller that was not answered.
func (m *mux) leave() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.releaseSlot()
}

// releaseSlot passes a slot on to the first waiter.
func (m *mux) releaseSlot() {
	m.admitted--
	if len(m.waiting) > 0 && m.admitted < m.size*maxQueued {
		m.admitted++
		m.waiting[0].ready <- nil
		m.waiting[0] = nil
		m.waiting = m.waiting[1:]
	}
}

// isBypassed reports whether the statement has to run on a connection of its own for now.
func (m *mux) isBypassed(sql string) bool {
	until, ok := m.bypassed.Get(sql)
	if ok && time.Now().After(until) {
		m.bypassed.Delete(sql)
		return false
	}
	return ok
}

// bypassStatement makes the statement run on connections of its own for bypassTime.
func (m *mux) bypassStatement(sql string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.bypass(sql)
}

func (m *mux) bypass(sql string) {
	m.bypassed.Put(sql, time.Now().Add(bypassTime))
	m.bypasses++
}

// hasConn reports whether there is a shared connection that accepts requests.
func (m *mux) hasConn() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.conns) > 0
}

// renew replaces the shared connections. The old ones finish their requests.
func (m *mux) renew() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.generation++ // a connection that is being dialed is discarded
	for _, c := range slices.Clone(m.conns) {
		m.drainConn(c)
	}
}

// drainConn makes a connection accept no more requests, and close when it has answered all.
func (m *mux) drainConn(c *sharedConn) {
	m.remove(c)
	m.draining[c] = struct{}{}
	c.draining = true
	if c.unwanted() {
		c.close(nil)
	}
}

func (m *mux) remove(c *sharedConn) {
	if i := slices.Index(m.conns, c); i >= 0 {
		m.conns = slices.Delete(m.conns, i, i+1)
	}
	delete(m.draining, c)
}

// close refuses new callers, waits for the running requests, and closes the connections.
func (m *mux) close() {
	if m == nil {
		return
	}
	m.mu.Lock()
	if !m.closed {
		m.closed = true
		m.cancel()
		for _, queue := range []*[]*waiter{&m.waiting, &m.connWaiters} {
			for _, w := range *queue {
				w.ready <- poolClosed()
			}
			*queue = nil
		}
		for _, c := range slices.Clone(m.conns) {
			m.drainConn(c)
		}
		for c := range m.draining {
			if c.unwanted() {
				c.close(nil)
			}
		}
	}
	m.mu.Unlock()
	m.goroutines.Wait()
}

// underWay returns how many requests are running, and which commands they belong to.
func (m *mux) underWay() (n int, commands string) {
	if m == nil {
		return 0, ""
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for c := range m.allConns() {
		for _, req := range c.pending() {
			if !req.abandoned {
				n++
			}
		}
	}
	return n, m.waitingCommands()
}

// fullMessage describes that all slots are taken, or is empty.
func (m *mux) fullMessage() string {
	if m == nil {
		return ""
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.admitted < m.size*maxQueued {
		return ""
	}
	return fmt.Sprintf("the shared connections are full, %d reads wait%s", len(m.waiting), m.waitingCommands())
}

// SharedMetrics is the state of the connections that [Config.Multiplex] shares. They are not
// counted in the pool's metrics.
type SharedMetrics struct {
	Conns      int   // that accept reads
	Apart      int   // that finish their reads, a slow one or those from before a renewal, and accept no others
	InFlight   int   // reads that were sent or are about to be
	Waiting    int   // reads that wait for a slot
	Reads      int64 // that were answered
	Reruns     int64 // that were sent again: their connection was lost, or held by a slow one
	HandedOver int64 // connections that were left to a slow read
	Aside      int64 // how often a statement was moved to connections of its own for a while
}

func (m *mux) stats() (s SharedMetrics) {
	if m == nil {
		return s
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return SharedMetrics{Conns: len(m.conns), Apart: len(m.draining), InFlight: m.admitted, Waiting: len(m.waiting),
		Reads: m.requests, Reruns: m.reruns, HandedOver: m.isolations, Aside: m.bypasses}
}
