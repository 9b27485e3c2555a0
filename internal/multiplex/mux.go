// Package multiplex runs the queries of many callers on a few connections to one server. It
// does not know commands, replicas, nor what an error means to a caller: it returns rows,
// or an error of its own, of PostgreSQL or of the context.
package multiplex

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

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

// A Mux multiplexes the queries of many callers over a few connections to one server. A
// request is sent at once, whatever else is outstanding, and answered in order. A Sync
// after each request makes it a transaction of its own, so that an error does not affect
// the next.
//
// All mutable state, that of the connections too, is guarded by mu.
type Mux struct {
	config        Config
	imposeTimeout bool  // imposedTimeout is set: the user sets no statement_timeout
	generation    int64 // number of renewals; guarded by mu

	ctx        context.Context // done when the mux closes
	cancel     context.CancelFunc
	goroutines sync.WaitGroup // all that the mux has started

	mu          sync.Mutex
	conns       []*conn
	draining    map[*conn]struct{} // finish their requests and accept no others
	admitted    int                // callers that have a slot
	waiting     []waiter           // for a slot, in order
	connWaiters []waiter           // for a connection, when there is none
	dialing     bool
	redial      time.Time                          // not before this time
	bypassed    *stmtcache.LRU[string, time.Time]  // until when a statement runs on connections of its own
	slow        *stmtcache.LRU[string, *slowStats] // by SQL
	watching    bool
	watch       chan struct{}
	closed      bool

	requests, reruns, isolations, bypasses int64 // counters
}

// A waiter is a caller that waits in a queue. It is sent one value: why it waits in vain, or
// nil.
type waiter chan error

// A Config is what a Mux is made with.
type Config struct {
	Pool           *pgxpool.Pool // made by connpool; its settings and hooks make the connections
	Size           int           // how many connections may accept queries
	ConnectTimeout time.Duration // of a connection, if pgx has none
	CustomTypes    bool          // AfterConnect may register types, beside those that package dbtypes loads

	// Settings says that queries may have settings.
	Settings bool

	// OnOutdated is called after the server has refused a statement because it was prepared
	// for another schema. It is prepared again.
	OnOutdated func(sql string)
	// DialError translates the error of a dial, once for all callers that wait for it.
	DialError func(err error) error
}

// New makes a Mux. It dials no connection yet.
func New(config Config) *Mux {
	m := &Mux{config: config, draining: map[*conn]struct{}{}, bypassed: stmtcache.NewLRU[string, time.Time](stmtcache.Size, nil),
		slow: stmtcache.NewLRU[string, *slowStats](stmtcache.Size, nil), watch: make(chan struct{}, 1)}
	m.imposeTimeout = !setsTimeout(config.Pool.Config().ConnConfig)
	m.ctx, m.cancel = context.WithCancel(context.Background())
	m.goroutines.Go(m.monitor)
	return m
}

// Connect makes the first connection.
func (m *Mux) Connect(ctx context.Context) error {
	m.mu.Lock()
	if len(m.conns) > 0 {
		m.mu.Unlock()
		return nil
	}
	w := make(waiter, 1)
	m.connWaiters = append(m.connWaiters, w)
	m.startDial()
	m.mu.Unlock()
	return m.wait(ctx, w, &m.connWaiters)
}

// enter takes a slot and reserves a place on a shared connection, for do to use. A caller
// that runs again does not queue for a slot; with in it still has one.
func (m *Mux) enter(ctx context.Context, sql string, again, in bool, patience time.Duration) (*conn, *preparedStmt, error) {
	m.mu.Lock()
	if m.bypassed.Len() > 0 && m.isBypassed(sql) {
		if in {
			m.releaseSlot()
		}
		m.mu.Unlock()
		return nil, nil, ErrDedicated
	}
	if again || m.admitted < m.config.Size*maxQueued && len(m.waiting) == 0 {
		if !in {
			m.admitted++
		}
		if c, stmt := m.pickConn(sql); c != nil {
			m.mu.Unlock()
			return c, stmt, nil
		}
		m.mu.Unlock()
	} else {
		w := make(waiter, 1)
		m.waiting = append(m.waiting, w)
		m.mu.Unlock()
		ctx, cancel := withPatience(ctx, patience)
		defer cancel()
		if err := m.wait(ctx, w, &m.waiting); err != nil {
			return nil, nil, err
		}
	}
	return m.waitForConn(ctx, sql, patience)
}

// waitForConn blocks an admitted caller until a shared connection is available.
func (m *Mux) waitForConn(ctx context.Context, sql string, patience time.Duration) (*conn, *preparedStmt, error) {
	var bounded context.Context
	for {
		m.mu.Lock()
		if c, stmt := m.pickConn(sql); c != nil {
			m.mu.Unlock()
			return c, stmt, nil
		}
		w := make(waiter, 1)
		if m.closed {
			w <- ErrClosed
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
		if err := m.wait(bounded, w, &m.connWaiters); err != nil {
			m.leave()
			return nil, nil, err
		}
	}
}

// wait waits for a waiter of the queue to become ready.
func (m *Mux) wait(ctx context.Context, w waiter, queue *[]waiter) error {
	select {
	case err := <-w:
		return err
	case <-ctx.Done():
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	i := slices.Index(*queue, w)
	if i < 0 { // it became ready meanwhile
		err := <-w
		if err == nil && queue == &m.waiting {
			m.releaseSlot()
		}
		if err != nil {
			return err
		}
	} else {
		*queue = slices.Delete(*queue, i, i+1)
	}
	return m.waitError(ctx)
}

// waitError is the error of a caller whose context ended while it waited.
func (m *Mux) waitError(ctx context.Context) error {
	e := &CapacityError{Err: ctx.Err()}
	if errors.Is(e.Err, context.DeadlineExceeded) {
		e.Load = m.load()
	}
	return e
}

// allConns yields all shared connections, draining ones too.
func (m *Mux) allConns() func(yield func(*conn) bool) {
	return func(yield func(*conn) bool) {
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
func (m *Mux) pickConn(sql string) (*conn, *preparedStmt) {
	var best *conn
	for _, c := range m.conns {
		if best == nil || c.weight() < best.weight() {
			best = c
		}
	}
	if best == nil || m.closed {
		return nil, nil
	}
	if len(m.conns) < m.config.Size && !m.dialing && best.weight() > 0 && (m.redial.IsZero() || time.Now().After(m.redial)) {
		m.startDial()
	}
	best.reserved++
	stmt, _ := best.statements.Get(sql)
	return best, stmt
}

// leave releases the slot of a caller that was not answered.
func (m *Mux) leave() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.releaseSlot()
}

// releaseSlot passes a slot on to the first waiter.
func (m *Mux) releaseSlot() {
	m.admitted--
	if len(m.waiting) > 0 && m.admitted < m.config.Size*maxQueued {
		m.admitted++
		m.waiting[0] <- nil
		m.waiting[0] = nil
		m.waiting = m.waiting[1:]
	}
}

// isBypassed reports whether the statement has to run on a connection of its own for now.
func (m *Mux) isBypassed(sql string) bool {
	until, ok := m.bypassed.Get(sql)
	if ok && time.Now().After(until) {
		m.bypassed.Delete(sql)
		return false
	}
	return ok
}

// bypassStatement makes the statement run on connections of its own for bypassTime.
func (m *Mux) bypassStatement(sql string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.bypass(sql)
}

func (m *Mux) bypass(sql string) {
	m.bypassed.Put(sql, time.Now().Add(bypassTime))
	m.bypasses++
}

// HasConn reports whether there is a shared connection that accepts requests.
func (m *Mux) HasConn() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.conns) > 0
}

// Renew replaces the shared connections. The old ones finish their requests.
func (m *Mux) Renew() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.generation++ // a connection that is being dialed is discarded
	for _, c := range slices.Clone(m.conns) {
		m.drainConn(c)
	}
}

// drainConn makes a connection accept no more requests, and close when it has answered all.
func (m *Mux) drainConn(c *conn) {
	m.remove(c)
	m.draining[c] = struct{}{}
	c.draining = true
	if c.unwanted() {
		c.close(nil)
	}
}

func (m *Mux) remove(c *conn) {
	if i := slices.Index(m.conns, c); i >= 0 {
		m.conns = slices.Delete(m.conns, i, i+1)
	}
	delete(m.draining, c)
}

// Close refuses new callers, waits for the running requests, and closes the connections.
func (m *Mux) Close() {
	m.mu.Lock()
	if !m.closed {
		m.closed = true
		m.cancel()
		for _, queue := range []*[]waiter{&m.waiting, &m.connWaiters} {
			for _, w := range *queue {
				w <- ErrClosed
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

// Running returns how many callers wait for the reply to a query, and the Load.
func (m *Mux) Running() (n int, load Load) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for c := range m.allConns() {
		n += len(c.queue)
		for _, req := range c.sent {
			if !req.abandoned {
				n++
			}
		}
	}
	return n, m.load()
}

// Full reports whether all slots are taken, and the Load if so.
func (m *Mux) Full() (load Load, full bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.admitted < m.config.Size*maxQueued {
		return Load{}, false
	}
	return m.load(), true
}

// Stats is the state of the connections.
type Stats struct {
	Conns      int   // that accept queries
	Apart      int   // that finish their queries and accept no others
	InFlight   int   // queries that were sent or are about to be
	Waiting    int   // queries that wait for a slot
	Reads      int64 // that were answered
	Reruns     int64 // that were sent again: their connection was lost, or held by a slow one
	HandedOver int64 // connections that were left to a slow query
	Aside      int64 // how often a statement was moved to connections of its own for a while
}

// Stats returns the state of the connections, of which a nil Mux has none.
func (m *Mux) Stats() Stats {
	if m == nil {
		return Stats{}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return Stats{Conns: len(m.conns), Apart: len(m.draining), InFlight: m.admitted, Waiting: len(m.waiting),
		Reads: m.requests, Reruns: m.reruns, HandedOver: m.isolations, Aside: m.bypasses}
}
