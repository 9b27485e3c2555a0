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
)

const (
	// maxQueued is how many asks a lane takes, sent or waiting to be.
	maxQueued = 256
	// bypassTime is how long a statement that was too slow or too big goes the ordinary
	// way.
	bypassTime = 30 * time.Second
	// redialPause is how long a server that refuses one more connection is left alone,
	// while there are others to it.
	redialPause = time.Second
)

// A mux is the lanes to one server: connections that many callers share. What is asked
// is sent at once, whatever is under way, and answered in order; a Sync after each ask
// makes it a transaction of its own, so that one that fails does not touch the next.
//
// Everything that changes is guarded by mu, the lanes included.
type mux struct {
	pool    *pgxpool.Pool // whose settings and hooks the lanes are made with
	tracker *tracker
	size    int   // how many lanes there are at most, those apart excepted
	impose  bool  // the lanes are made with imposedTimeout: the user sets no statement_timeout
	epoch   int64 // counts the renewals; guarded by mu

	ctx    context.Context // done when it closes
	cancel context.CancelFunc
	ended  sync.WaitGroup // all goroutines

	mu          sync.Mutex
	conns       []*sharedConn
	draining    map[*sharedConn]struct{} // each has one slow ask left, and takes no other
	admitted    int                      // asks and those about to ask
	waiting     []*waiter                // for admission, in order
	connWaiters []*waiter                // for the first lane
	dialing     bool
	redial      time.Time             // not before
	bypassed    map[string]time.Time  // statements that go the ordinary way, until then
	slow        map[string]*slowStats // of statements
	watching    bool
	watch       chan struct{}
	closed      bool

	requests, moves, handovers, bypasses int64 // counted
}

// A waiter is a caller that waits. What came is sent once.
type waiter struct {
	command string
	ready   chan *Error
}

func newMux(pool *pgxpool.Pool, k *tracker, size int) *mux {
	m := &mux{pool: pool, tracker: k, size: size, draining: map[*sharedConn]struct{}{}, bypassed: map[string]time.Time{}, slow: map[string]*slowStats{}, watch: make(chan struct{}, 1)}
	m.impose = !setsTimeout(pool.Config().ConnConfig)
	m.ctx, m.cancel = context.WithCancel(context.Background())
	m.ended.Go(m.monitor)
	return m
}

// share makes the shared connections of a pool.
func (p *Pool) share(pool *pgxpool.Pool, k *tracker) *mux {
	m := newMux(pool, k, p.config.Multiplex)
	k.reset = func() {
		pool.Reset()
		m.renew()
	}
	return m
}

// first makes the first lane.
func (m *mux) first(ctx context.Context) *Error {
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

// enter takes a place on a lane, which put has to use. Who has to come again does not
// wait; who is in was let in before and has not left. It is not done if the statement has
// to go the ordinary way.
func (m *mux) enter(ctx context.Context, s *statement, again, in bool, patience time.Duration) (l *sharedConn, d *preparedStmt, failure *Error, done bool) {
	m.mu.Lock()
	if len(m.bypassed) > 0 && m.isBypassed(s.text.SQL) {
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
		if l, d := m.pickConn(s); l != nil {
			m.mu.Unlock()
			return l, d, nil, true
		}
		m.mu.Unlock()
	} else {
		w := &waiter{s.name, make(chan *Error, 1)}
		m.waiting = append(m.waiting, w)
		m.mu.Unlock()
		ctx, cancel := waitingFor(ctx, patience)
		defer cancel()
		if failure := m.wait(ctx, w, &m.waiting); failure != nil {
			return nil, nil, failure, true
		}
	}
	l, d, failure = m.waitForConn(ctx, s, patience)
	return l, d, failure, true
}

// waitForConn waits for a lane, for one who is admitted.
func (m *mux) waitForConn(ctx context.Context, s *statement, patience time.Duration) (*sharedConn, *preparedStmt, *Error) {
	var bounded context.Context
	for {
		m.mu.Lock()
		if l, d := m.pickConn(s); l != nil {
			m.mu.Unlock()
			return l, d, nil
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
			bounded, cancel = waitingFor(ctx, patience)
			defer cancel()
		}
		if failure := m.wait(bounded, w, &m.connWaiters); failure != nil {
			m.exit()
			return nil, nil, failure
		}
	}
}

// wait waits in a queue for what comes.
func (m *mux) wait(ctx context.Context, w *waiter, queue *[]*waiter) *Error {
	select {
	case failure := <-w.ready:
		return failure
	case <-ctx.Done():
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	i := slices.Index(*queue, w)
	if i < 0 { // it has come meanwhile
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
	return m.exhausted(ctx)
}

// exhausted is the error of one who has waited for nothing.
func (m *mux) exhausted(ctx context.Context) *Error {
	e := newUnsentError(ctx, ctx.Err())
	if e.Code != CodeTimeout {
		return e
	}
	e.Code = CodeExhausted
	if len(m.conns) == 0 {
		e.Message = "no shared connection could be made before the deadline"
		return e
	}
	e.Message = fmt.Sprintf("no place came free before the deadline: %d reads were under way on %d shared connections, and %d others waited (raise Multiplex, or ask less at a time)%s",
		m.admitted, len(m.conns)+len(m.draining), len(m.waiting), m.waitingCommands())
	return e
}

// waitingCommands says in words whose asks there are.
func (m *mux) waitingCommands() string {
	counts := map[string]int{}
	for l := range m.all() {
		for _, a := range l.requests() {
			counts[a.command]++
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

// all yields the lanes, those apart included.
func (m *mux) all() func(yield func(*sharedConn) bool) {
	return func(yield func(*sharedConn) bool) {
		for _, l := range m.conns {
			if !yield(l) {
				return
			}
		}
		for l := range m.draining {
			if !yield(l) {
				return
			}
		}
	}
}

// pickConn reserves a place on the lane that has the least to do. If all have something,
// and there may be one more, that is made, for those who come.
func (m *mux) pickConn(s *statement) (*sharedConn, *preparedStmt) {
	var best *sharedConn
	for _, l := range m.conns {
		if best == nil || l.weight() < best.weight() {
			best = l
		}
	}
	if best == nil || m.closed {
		return nil, nil
	}
	if len(m.conns) < m.size && !m.dialing && best.weight() > 0 && (m.redial.IsZero() || time.Now().After(m.redial)) {
		m.startDial()
	}
	best.reserved++
	return best, best.statements[s.text.SQL]
}

// exit is discharge for one who has not been answered.
func (m *mux) exit() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.releaseSlot()
}

// releaseSlot lets the next in.
func (m *mux) releaseSlot() {
	m.admitted--
	if len(m.waiting) > 0 && m.admitted < m.size*maxQueued {
		m.admitted++
		m.waiting[0].ready <- nil
		m.waiting[0] = nil
		m.waiting = m.waiting[1:]
	}
}

// isBypassed reports whether the statement goes the ordinary way for now.
func (m *mux) isBypassed(sql string) bool {
	until, ok := m.bypassed[sql]
	if ok && time.Now().After(until) {
		delete(m.bypassed, sql)
		return false
	}
	return ok
}

// leaveWaiting lets the statement go the ordinary way for a while.
func (m *mux) leaveWaiting(sql string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.bypass(sql)
}

func (m *mux) bypass(sql string) {
	limit(m.bypassed)
	m.bypassed[sql] = time.Now().Add(bypassTime)
	m.bypasses++
}

// limit makes room for one more.
func limit[V any](statements map[string]V) {
	if len(statements) >= maxStatements {
		for old := range statements {
			delete(statements, old)
			return
		}
	}
}

// open reports whether there is a lane.
func (m *mux) open() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.conns) > 0
}

// renew makes the lanes anew: what is under way on the old ones is answered there.
func (m *mux) renew() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.epoch++ // one that is being made is made again
	for _, l := range slices.Clone(m.conns) {
		m.drainConn(l)
	}
}

// drainConn takes a lane out: it takes no more asks, and closes when it has answered.
func (m *mux) drainConn(l *sharedConn) {
	m.remove(l)
	m.draining[l] = struct{}{}
	l.draining = true
	if l.done() {
		l.drop(nil)
	}
}

func (m *mux) remove(l *sharedConn) {
	if i := slices.Index(m.conns, l); i >= 0 {
		m.conns = slices.Delete(m.conns, i, i+1)
	}
	delete(m.draining, l)
}

// close refuses what comes, waits for what is under way, and closes the lanes.
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
		for _, l := range slices.Clone(m.conns) {
			m.drainConn(l)
		}
		for l := range m.draining {
			if l.done() {
				l.drop(nil)
			}
		}
	}
	m.mu.Unlock()
	m.ended.Wait()
}

// held is how many asks there are, and whose.
func (m *mux) held() (n int, who string) {
	if m == nil {
		return 0, ""
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for l := range m.all() {
		for _, a := range l.requests() {
			if !a.abandoned {
				n++
			}
		}
	}
	return n, m.waitingCommands()
}

// full says in words that there is no place, if so.
func (m *mux) full() string {
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

// SharedMetrics is the state of the connections that [Config.Multiplex] shares. Those
// of the pool do not include them.
type SharedMetrics struct {
	Conns      int   // that take reads
	Apart      int   // that have a slow read left, or were replaced, and take no others
	InFlight   int   // reads that were sent or are about to be
	Waiting    int   // reads that wait for a place
	Reads      int64 // that were answered
	Reruns     int64 // that were sent anew: their connection was lost, or held by a slow one
	HandedOver int64 // connections that were left to a slow read
	Aside      int64 // statements that were sent to go the ordinary way for a while
}

func (m *mux) read() (s SharedMetrics) {
	if m == nil {
		return s
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return SharedMetrics{Conns: len(m.conns), Apart: len(m.draining), InFlight: m.admitted, Waiting: len(m.waiting),
		Reads: m.requests, Reruns: m.moves, HandedOver: m.handovers, Aside: m.bypasses}
}
