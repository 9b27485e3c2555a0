package pgcmd

import (
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pgcmd/pgcmd/internal/connpool"
	"github.com/pgcmd/pgcmd/internal/multiplex"
)

// Metrics is what a pool has counted since it was made. It holds names, codes and
// numbers, and no value.
type Metrics struct {
	Since    time.Time        // when the pool was made
	Pool     PoolMetrics      // of the primary
	Replicas []ReplicaMetrics // in the order of Config.Replicas
	Commands []CommandMetrics // by name
	Failures []Run            // the latest that failed, the latest first
	Slowest  []Run            // the slowest of the last minutes, the slowest first
}

// PoolMetrics is the state of a pool's connections.
type PoolMetrics struct {
	Max, Acquired, Idle, Constructing int32
	Acquires, EmptyAcquires           int64         // how often one was taken, and how often that had to wait
	Waited                            time.Duration // by all together
	Resets                            int64         // how often all were made anew
	RetryTokens                       int           // left in the retry budget; -1: no limit
	Shared                            SharedMetrics // of Config.Multiplex; zero without
}

// ReplicaMetrics is the state of a replica.
type ReplicaMetrics struct {
	Pool   PoolMetrics
	Fit    bool          // commands go there
	Reason string        // why not; empty if it is fit
	Lag    time.Duration // behind the primary
}

// CommandMetrics counts the runs of the commands of one name, those within another
// command excepted.
type CommandMetrics struct {
	Name     string
	InFlight int64
	Runs     int64          // that have ended
	Rows     int64          // returned or affected
	Retries  int64          // attempts beyond the first
	Errors   map[Code]int64 // by code; nil if there was none
	Latency  Histogram
}

// A Run is one run, without its input.
type Run struct {
	Command  string
	At       time.Time // when it began
	Elapsed  time.Duration
	Attempts int
	Code     Code // empty: it worked
	Effect   Effect
	SQLState string
	Message  string // of the [Error]: safe to show
}

// Metrics returns what was counted so far. It is safe to call at any time, and costs
// about a microsecond for each command name.
func (p *Pool) Metrics() Metrics {
	m := Metrics{Since: p.metrics.since, Pool: poolMetrics(p.Pool, p.tracker, p.mux)}
	handed, waits, waited := p.acquirer.Stats()
	m.Pool.Acquires, m.Pool.EmptyAcquires, m.Pool.Waited = m.Pool.Acquires+handed, m.Pool.EmptyAcquires+waits, m.Pool.Waited+waited
	m.Pool.RetryTokens = p.retries.available()
	for _, r := range p.replicas.All {
		state := r.State()
		m.Replicas = append(m.Replicas, ReplicaMetrics{Pool: poolMetrics(r.Pool, r.Tracker, r.Mux), Fit: state.Healthy, Reason: state.Reason, Lag: state.Lag})
	}
	p.metrics.commands.Range(func(_, c any) bool {
		m.Commands = append(m.Commands, c.(*commandMetrics).read())
		return true
	})
	slices.SortFunc(m.Commands, func(a, b CommandMetrics) int { return strings.Compare(a.Name, b.Name) })
	m.Failures, m.Slowest = p.metrics.remembered()
	return m
}

func poolMetrics(pool *pgxpool.Pool, t *connpool.Tracker, shared *multiplex.Mux) PoolMetrics {
	s := pool.Stat()
	m := PoolMetrics{Max: s.MaxConns(), Acquired: s.AcquiredConns(), Idle: s.IdleConns(), Constructing: s.ConstructingConns(),
		Acquires: s.AcquireCount(), EmptyAcquires: s.EmptyAcquireCount(), Waited: s.EmptyAcquireWaitTime(), Resets: t.Resets(), Shared: sharedMetrics(shared)}
	return m
}

// metrics is what a pool counts.
type metrics struct {
	since    time.Time
	commands sync.Map // name -> *commandMetrics
	names    atomic.Int64

	slowestFloor atomic.Int64 // what a run has to exceed to be among the slowest

	mu          sync.Mutex
	failures    []Run // the latest last
	unavailable *Run  // the latest that says something of the server or the pool
	slowest     []Run // the slowest first
}

// maxNames bounds the memory of commands that are made at run time.
const maxNames = 2000

func (m *metrics) command(name string) *commandMetrics {
	if c, ok := m.commands.Load(name); ok {
		return c.(*commandMetrics)
	}
	if m.names.Add(1) > maxNames {
		name = "(others)"
	}
	c, _ := m.commands.LoadOrStore(name, &commandMetrics{def: m, name: name})
	return c.(*commandMetrics)
}

// countedBy finds what counts the runs of the command, mostly where the last run left it.
func (c *definition) countedBy(m *metrics) *commandMetrics {
	if c.metricsCache == nil { // of a core that is made for one run
		return m.command(c.name)
	}
	counts := c.metricsCache.Load()
	if counts == nil || counts.def != m {
		counts = m.command(c.name)
		c.metricsCache.Store(counts)
	}
	return counts
}

const (
	maxRemembered = 20
	slowFor       = 5 * time.Minute // how long a slow run is of interest
)

// isSlow reports whether the run may be among the slowest.
func (m *metrics) isSlow(elapsed time.Duration) bool { return int64(elapsed) > m.slowestFloor.Load() }

// remember keeps a run that has just ended, if it failed or is among the slowest.
func (m *metrics) remember(name string, elapsed time.Duration, attempts int, e *Error) {
	run := Run{Command: name, At: time.Now().Add(-elapsed), Elapsed: elapsed, Attempts: attempts}
	if e != nil {
		run.Code, run.Effect, run.SQLState, run.Message = e.Code, e.Effect, e.SQLState, e.Message
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if e != nil {
		if len(m.failures) == maxRemembered {
			m.failures = slices.Delete(m.failures, 0, 1)
		}
		m.failures = append(m.failures, run)
		if e.ofServer() {
			m.unavailable = &run
		}
	}
	if m.isSlow(elapsed) {
		m.forgetOld()
		at, _ := slices.BinarySearchFunc(m.slowest, run, func(a, b Run) int { return int(b.Elapsed - a.Elapsed) })
		m.slowest = slices.Insert(m.slowest, at, run)
		m.slowest = m.slowest[:min(len(m.slowest), maxRemembered)]
		if len(m.slowest) == maxRemembered {
			m.slowestFloor.Store(int64(m.slowest[maxRemembered-1].Elapsed))
		}
	}
}

// lastUnavailable is the latest error that says something of the server or the pool.
func (m *metrics) lastUnavailable() *Run {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.unavailable == nil {
		return nil
	}
	run := *m.unavailable
	return &run
}

// ofServer reports whether e says something of the server or the pool, and not of an
// input, a body or SQL: one caller can have those as often as it likes.
func (e *Error) ofServer() bool {
	switch e.Code {
	case CodeUnavailable, CodeExhausted, CodeUnknownEffect, CodeTimeout:
		return true
	}
	switch e.SQLState[:min(2, len(e.SQLState))] {
	case "28", "53", "58", "F0", "XX": // the login, resources, the system, its configuration, its own errors
		return true
	}
	return false
}

func (m *metrics) forgetOld() {
	m.slowest = slices.DeleteFunc(m.slowest, func(r Run) bool { return time.Since(r.At) > slowFor })
	if len(m.slowest) < maxRemembered {
		m.slowestFloor.Store(0)
	}
}

func (m *metrics) remembered() (failures, slowest []Run) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.forgetOld()
	failures = slices.Clone(m.failures)
	slices.Reverse(failures)
	return failures, slices.Clone(m.slowest)
}

// commandMetrics counts the runs of one name.
type commandMetrics struct {
	def                     *metrics
	name                    string
	inFlight, rows, retries atomic.Int64
	latency                 histogram

	mu     sync.Mutex
	errors map[Code]int64

	chained sync.Once
	chain   Handler // the pool's middleware; nil without
}

// handler composes the pool's middleware for the name, once.
func (c *commandMetrics) handler(command string, middleware []Middleware) Handler {
	if len(middleware) == 0 {
		return nil
	}
	c.chained.Do(func() { c.chain = chain(command, middleware) })
	return c.chain
}

func (c *commandMetrics) record(elapsed time.Duration, attempts int, rows int64, e *Error) {
	c.latency.add(elapsed)
	if rows != 0 {
		c.rows.Add(rows)
	}
	if attempts > 1 {
		c.retries.Add(int64(attempts - 1))
	}
	if e != nil {
		c.failed(e.Code)
	}
}

func (c *commandMetrics) failed(code Code) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.errors == nil {
		c.errors = map[Code]int64{}
	}
	c.errors[code]++
}

func (c *commandMetrics) read() CommandMetrics {
	m := CommandMetrics{Name: c.name, InFlight: c.inFlight.Load(), Rows: c.rows.Load(), Retries: c.retries.Load(), Latency: c.latency.read()}
	m.Runs = m.Latency.Count
	c.mu.Lock()
	defer c.mu.Unlock()
	for code, n := range c.errors {
		if m.Errors == nil {
			m.Errors = map[Code]int64{}
		}
		m.Errors[code] = n
	}
	return m
}
