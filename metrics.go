package pgcmd

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"go.uber.org/zap/zapcore"

	"github.com/pgcmd/pgcmd/internal/connpool"
	"github.com/pgcmd/pgcmd/internal/latency"
	"github.com/pgcmd/pgcmd/internal/logging"
	"github.com/pgcmd/pgcmd/internal/multiplex"
)

// Metrics is what a pool has counted since it was made. It holds names, codes and
// numbers, and no value.
type Metrics struct {
	Since    time.Time        // when the pool was made
	Pool     PoolMetrics      // of the primary
	Replicas []ReplicaMetrics // in the order of Config.Replicas
	Commands []CommandMetrics // by name; all beyond the first 2,000 names together as (others)
	Failures []Run            // the latest that failed, the latest first
	Slowest  []Run            // the slowest of the last minutes, the slowest first
}

// PoolMetrics is the state of a pool's connections.
type PoolMetrics struct {
	Max, Acquired, Idle, Constructing int32
	Acquires, EmptyAcquires           int64         // how often one was acquired, hand-offs included, and how often that had to wait
	Waited                            time.Duration // in all
	Resets                            int64         // how often all were replaced
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

// CommandMetrics counts the runs on the pool of the commands of one name: also those in the
// body of another command that was given the pool, but not those on a transaction.
type CommandMetrics struct {
	Name     string
	InFlight int64
	Runs     int64          // that have ended
	Rows     int64          // as Call counts them
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
	own := p.acquirer.Stats()
	m.Pool.Acquires += own.HandedOff
	m.Pool.EmptyAcquires += own.Waits
	m.Pool.Waited += own.Waited
	m.Pool.RetryTokens = p.retries.Available()
	for _, r := range p.replicas.All {
		state := r.State()
		m.Replicas = append(m.Replicas, ReplicaMetrics{Pool: poolMetrics(r.Pool, r.Tracker, r.Mux), Fit: state.Healthy, Reason: state.Reason, Lag: state.Lag})
	}
	p.metrics.commands.Range(func(_, c any) bool {
		m.Commands = append(m.Commands, c.(*commandMetrics).read())
		return true
	})
	slices.SortFunc(m.Commands, func(a, b CommandMetrics) int { return strings.Compare(a.Name, b.Name) })
	m.Failures, m.Slowest = p.metrics.runs.Read()
	return m
}

func poolMetrics(pool *pgxpool.Pool, t *connpool.Tracker, shared *multiplex.Mux) PoolMetrics {
	s := pool.Stat()
	return PoolMetrics{Max: s.MaxConns(), Acquired: s.AcquiredConns(), Idle: s.IdleConns(), Constructing: s.ConstructingConns(),
		Acquires: s.AcquireCount(), EmptyAcquires: s.EmptyAcquireCount(), Waited: s.EmptyAcquireWaitTime(), Resets: t.Resets(), Shared: SharedMetrics(shared.Stats())}
}

// metrics is what a pool counts.
type metrics struct {
	since    time.Time
	commands sync.Map // name -> *commandMetrics
	names    atomic.Int64

	runs        latency.Runs[Run]
	unavailable atomic.Pointer[Run] // the latest error of the server or the pool; nil if there was none
}

// maxNames bounds the number of commands that are counted, which may be made at run time.
const maxNames = 2000

func (m *metrics) command(name string) *commandMetrics {
	if c, ok := m.commands.Load(name); ok {
		return c.(*commandMetrics)
	}
	if m.names.Add(1) > maxNames {
		name = "(others)"
	}
	c, _ := m.commands.LoadOrStore(name, &commandMetrics{metrics: m, name: name})
	return c.(*commandMetrics)
}

// countedBy returns the counters of the command, from the cache if it was last run on m.
func (c *definition) countedBy(m *metrics) *commandMetrics {
	if c.metricsCache == nil { // of a definition that is made for one run
		return m.command(c.name)
	}
	counts := c.metricsCache.Load()
	if counts == nil || counts.metrics != m {
		counts = m.command(c.name)
		c.metricsCache.Store(counts)
	}
	return counts
}

// remember keeps a run that has just ended, if it failed or is among the slowest.
func (m *metrics) remember(name string, elapsed time.Duration, attempts int, e *Error) {
	run := Run{Command: name, At: time.Now().Add(-elapsed), Elapsed: elapsed, Attempts: attempts}
	if e != nil {
		run.Code, run.Effect, run.SQLState, run.Message = e.Code, e.Effect, e.SQLState, e.Message
	}
	m.runs.Add(run, run.At, elapsed, e != nil)
	if e != nil && e.ofServer() {
		m.unavailable.Store(&run)
	}
}

// ofServer reports whether e is of the server or the pool, and not of an input, a body or
// SQL: those say nothing about the health of the pool.
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

// commandMetrics counts the runs of one name.
type commandMetrics struct {
	metrics                 *metrics
	name                    string
	inFlight, rows, retries atomic.Int64
	latency                 latency.Histogram

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
	c.latency.Add(elapsed)
	if rows != 0 {
		c.rows.Add(rows)
	}
	if attempts > 1 {
		c.retries.Add(int64(attempts - 1))
	}
	if e != nil {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.errors == nil {
			c.errors = map[Code]int64{}
		}
		c.errors[e.Code]++
	}
}

func (c *commandMetrics) read() CommandMetrics {
	m := CommandMetrics{Name: c.name, InFlight: c.inFlight.Load(), Rows: c.rows.Load(), Retries: c.retries.Load()}
	m.Latency.Sum = c.latency.Read(func(upTo time.Duration, n int64) {
		m.Latency.Buckets = append(m.Latency.Buckets, Bucket{upTo, n})
		m.Latency.Count += n
	})
	m.Runs = m.Latency.Count
	c.mu.Lock()
	defer c.mu.Unlock()
	m.Errors = maps.Clone(c.errors)
	return m
}

// A Histogram is a distribution of durations, in buckets whose bounds are a quarter of an
// octave apart: the error of a quantile is at most a fifth of its value.
type Histogram struct {
	Count   int64
	Sum     time.Duration
	Buckets []Bucket // those that are not empty, the shortest first
}

// A Bucket counts the times up to its bound, and beyond that of the one before.
type Bucket struct {
	UpTo  time.Duration
	Count int64
}

// Quantile returns a time that the share q of all does not exceed: 0.99 for p99. It is
// the bound of a bucket, and zero if there is none.
func (h Histogram) Quantile(q float64) time.Duration {
	rank := int64(q*float64(h.Count) + 0.5)
	for _, b := range h.Buckets {
		if rank -= b.Count; rank <= 0 {
			return b.UpTo
		}
	}
	return 0
}

// Sub returns what was added since earlier, a reading of the same histogram.
func (h Histogram) Sub(earlier Histogram) Histogram {
	before := map[time.Duration]int64{}
	for _, b := range earlier.Buckets {
		before[b.UpTo] = b.Count
	}
	d := Histogram{Count: h.Count - earlier.Count, Sum: h.Sum - earlier.Sum}
	for _, b := range h.Buckets {
		if b.Count -= before[b.UpTo]; b.Count > 0 {
			d.Buckets = append(d.Buckets, b)
		}
	}
	return d
}

// An observation counts and logs one run on a pool.
type observation struct {
	pool     *Pool
	m        *commandMetrics
	start    time.Duration // since the pool was made
	attempts int           // as far as known at the end
	rows     int64
	failure  *Error

	unreplicated bool // committed, and the synchronous standby did not confirm it
}

// begin begins to observe a run of c; finish, which is deferred, ends it.
func (s *observation) begin(p *Pool, c *definition) {
	s.pool, s.m, s.start = p, c.countedBy(&p.metrics), time.Since(p.metrics.since)
	s.m.inFlight.Add(1)
}

// finish counts the run and logs it: one line, and never a value. A run that panicked is
// counted without an error.
func (s *observation) finish() {
	e, elapsed := s.failure, time.Since(s.pool.metrics.since)-s.start
	s.m.inFlight.Add(-1)
	s.m.record(elapsed, s.attempts, s.rows, e)
	if e != nil || s.pool.metrics.runs.IsSlow(elapsed) {
		s.pool.metrics.remember(s.m.name, elapsed, s.attempts, e)
	}
	if !logging.IsNone(s.pool.logger) {
		s.log(elapsed, e)
	}
}

// failed notes why the run fails.
func (s *observation) failed(failure *Error) error {
	s.failure, s.attempts = failure, failure.Attempts
	return failure
}

// ended notes how a run on the fast path ended.
func (s *observation) ended(d *definition, inv *invocation, err error) error {
	if e, ok := err.(*Error); ok {
		return s.failed(e)
	}
	s.attempts, s.rows, s.unreplicated = 1, d.body.rows(inv), inv.unreplicated
	return nil
}

// runWithMetrics runs the command on a pool: below the pool's middleware, counted and logged.
func (c *definition) runWithMetrics(ctx context.Context, p *Pool, inv *invocation) (call Call, failure *Error) {
	var s observation
	s.begin(p, c)
	defer s.finish()
	if handler := s.m.handler(c.name, p.config.Middleware); handler != nil && ctx != nil {
		call, failure = c.runMiddleware(ctx, handler, p, inv, func(ctx context.Context, call *Call) *Error {
			inner, failure := c.runWithMiddleware(ctx, p, inv)
			call.Attempts, call.Rows, call.replayed, call.unreplicated = inner.Attempts, inner.Rows, inner.replayed, inner.unreplicated
			return failure
		})
	} else {
		call, failure = c.runWithMiddleware(ctx, p, inv)
	}
	s.attempts, s.rows, s.unreplicated, s.failure = call.Attempts, call.Rows, call.unreplicated, failure
	return call, failure
}

func (s *observation) log(elapsed time.Duration, e *Error) {
	level := levelOf(e)
	if s.unreplicated {
		level = max(level, zapcore.WarnLevel)
	}
	line := s.pool.logger.Check(level, "command")
	if line == nil {
		return
	}
	fields := []zapcore.Field{logging.String("name", s.m.name), logging.Int("attempts", s.attempts), logging.Int("rows", s.rows), logging.Duration("elapsed", elapsed)}
	if e != nil {
		fields = append(fields, logging.String("code", string(e.Code)), logging.String("effect", e.Effect.String()), logging.String("message", e.Message))
		if e.SQLState != "" {
			fields = append(fields, logging.String("sqlstate", e.SQLState))
		}
		if e.Command != s.m.name {
			fields = append(fields, logging.String("path", e.Command))
		}
	}
	if s.unreplicated {
		fields = append(fields, logging.True("durability_warning"))
	}
	line.Write(fields...)
}

// levelOf is the level of the log line of a run: info for errors of callers and codes of the
// program's own, warn for those of the database, error for bugs and unknown effects.
func levelOf(e *Error) zapcore.Level {
	if e == nil {
		return zapcore.DebugLevel
	}
	switch e.Code {
	case CodeAborted, CodeTimeout, CodeUnavailable, CodeExhausted:
		return zapcore.WarnLevel
	case CodeUnknownEffect, CodePermission, CodeNestedAcquire, CodeInternal:
		return zapcore.ErrorLevel
	}
	return zapcore.InfoLevel
}

// A HealthStatus says whether a pool can be used.
type HealthStatus string

const (
	HealthUp       HealthStatus = "up"       // it answers
	HealthDegraded HealthStatus = "degraded" // it answers, but is saturated, or a replica is left out
	HealthDown     HealthStatus = "down"     // it does not answer
)

// Health is the health of a pool. It holds no value and no secret.
type Health struct {
	Status     HealthStatus
	Reason     string           // why it is not up, for people
	Latency    time.Duration    // of a round trip to the primary; zero if it is down
	Saturation float64          // the share of the primary's connections that are in use, 0 to 1
	LastError  *Run             // the latest error of the server or the pool, not of an input, a body or SQL; nil if there was none
	Replicas   []ReplicaMetrics // in the order of Config.Replicas
}

// MarshalJSON renders durations in milliseconds.
func (h Health) MarshalJSON() ([]byte, error) {
	type replica struct {
		Fit    bool    `json:"fit"`
		Reason string  `json:"reason,omitempty"`
		LagMS  float64 `json:"lag_ms"`
	}
	type lastError struct {
		Command string    `json:"command"`
		At      time.Time `json:"at"`
		Code    Code      `json:"code"`
	}
	out := struct {
		Status     HealthStatus `json:"status"`
		Reason     string       `json:"reason,omitempty"`
		LatencyMS  float64      `json:"latency_ms"`
		Saturation float64      `json:"saturation"`
		LastError  *lastError   `json:"last_error,omitempty"`
		Replicas   []replica    `json:"replicas,omitempty"`
	}{Status: h.Status, Reason: h.Reason, LatencyMS: milliseconds(h.Latency), Saturation: h.Saturation}
	if h.LastError != nil {
		out.LastError = &lastError{h.LastError.Command, h.LastError.At, h.LastError.Code}
	}
	for _, r := range h.Replicas {
		out.Replicas = append(out.Replicas, replica{r.Fit, r.Reason, milliseconds(r.Lag)})
	}
	return json.Marshal(out)
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// probeTime bounds a probe whose context has no deadline.
const probeTime = 2 * time.Second

// Health makes a round trip to the primary, and returns the health of the pool. If all
// connections are in use, it makes one more for that, so that a full pool is not taken for
// a dead one.
func (p *Pool) Health(ctx context.Context) Health {
	ctx, cancel := context.WithTimeout(ctx, probeTime)
	defer cancel()
	m := p.Metrics()
	h := Health{Status: HealthUp, Replicas: m.Replicas, Saturation: float64(m.Pool.Acquired) / float64(m.Pool.Max)}
	if latest := p.metrics.unavailable.Load(); latest != nil {
		run := *latest
		h.LastError = &run
	}
	saturated := m.Pool.Acquired >= m.Pool.Max
	latency, e := p.probe(ctx, saturated)
	switch {
	case e != nil:
		h.Status, h.Reason = HealthDown, e.Message
		return h
	case saturated:
		h.Status, h.Reason = HealthDegraded, "all connections are in use"
		if leases := p.tracker.Leases(); leases != "" {
			h.Reason += ": " + leases
		}
	}
	if p.mux != nil && h.Status == HealthUp {
		if load, full := p.mux.Full(); full {
			h.Status, h.Reason = HealthDegraded, fmt.Sprintf("the shared connections are full, %d reads wait%s", load.Waiting, load.CommandsText())
		}
	}
	h.Latency = latency
	for _, r := range h.Replicas {
		if !r.Fit && h.Status == HealthUp {
			h.Status, h.Reason = HealthDegraded, "a replica is left out: "+r.Reason
		}
	}
	return h
}

// probe makes one round trip to the primary, on a spare connection if the pool has
// none to give.
func (p *Pool) probe(ctx context.Context, spare bool) (time.Duration, *Error) {
	var conn *pgx.Conn
	if spare {
		config := p.Pool.Config()
		var err error
		if config.BeforeConnect != nil { // it may set the password
			err = config.BeforeConnect(ctx, config.ConnConfig)
		}
		if err == nil {
			conn, err = pgx.ConnectConfig(ctx, config.ConnConfig)
		}
		if err != nil {
			return 0, newAcquireError(ctx, p.Pool, p.tracker, err)
		}
		defer conn.Close(context.WithoutCancel(ctx))
	} else {
		pooled, err := p.Acquire(ctx)
		if err != nil {
			return 0, newAcquireError(ctx, p.Pool, p.tracker, err)
		}
		defer connpool.Release(pooled, connpool.Of(pooled.Conn()))
		conn = pooled.Conn()
	}
	start := time.Now()
	if err := conn.Ping(ctx); err != nil {
		e := newUnsentError(ctx, err)
		if e.Code == CodeFailed {
			e.Message = "the server does not answer"
		}
		return 0, e
	}
	return time.Since(start), nil
}
