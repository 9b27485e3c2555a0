package connpool

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap/zapcore"

	"github.com/pgcmd/pgcmd/internal/logging"
)

// leakTime is how long a command may hold a connection before a warning is logged.
const leakTime = time.Minute

// A Tracker records the open connections of a pgxpool, which command holds each of them, and
// the generation they belong to. A nil Tracker records none.
type Tracker struct {
	// Reset replaces the pool's connections. It is set before the first one is made.
	Reset func()

	logger   logging.Logger
	start    time.Time
	hasHooks bool // of the pool: a hook or a tracer sees that a connection is acquired or released

	mu         sync.Mutex
	conns      map[*Conn]struct{}
	latest     time.Time    // of the resets
	generation atomic.Int64 // counts the resets
}

// resetEvery is the shortest time between two resets: a server that stays read-only refuses
// the new connections as well, and they would be replaced at every write.
const resetEvery = time.Second

// NewTracker returns a Tracker that logs to logger.
func NewTracker(logger logging.Logger) *Tracker {
	return &Tracker{logger: logger, start: time.Now(), conns: map[*Conn]struct{}{}}
}

// now is the time since the Tracker was made, which costs half of time.Now.
func (t *Tracker) now() time.Duration { return time.Since(t.start) }

func (t *Tracker) add(c *Conn) {
	if t == nil {
		return
	}
	c.tracker, c.generation = t, t.generation.Load()
	t.mu.Lock()
	defer t.mu.Unlock()
	t.conns[c] = struct{}{}
}

func (t *Tracker) remove(c *Conn) {
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.conns, c)
}

// invalidate is [Conn.InvalidatePool].
func (t *Tracker) invalidate(c *Conn, sqlstate string) {
	if t == nil || t.Reset == nil || !t.begin(c.generation) {
		return
	}
	fields := []zapcore.Field{logging.String("sqlstate", sqlstate)}
	if name := c.command.Load(); name != nil {
		fields = append(fields, logging.String("command", *name))
	}
	logging.Warn(t.logger, "resetting the pool: the server is shutting down or has become read-only", fields...)
	t.Reset()
}

// Renew replaces all connections that were made before.
func (t *Tracker) Renew() {
	t.generation.Add(1)
	t.Reset()
}

// Resets returns how often the connections were replaced.
func (t *Tracker) Resets() int64 { return t.generation.Load() }

// begin begins the next generation, unless the one of the connection that failed has ended.
func (t *Tracker) begin(generation int64) bool {
	if generation != t.generation.Load() {
		return false // as for most commands that fail at the same time
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if now := time.Now(); generation == t.generation.Load() && now.Sub(t.latest) >= resetEvery {
		t.latest = now
		t.generation.Add(1)
		return true
	}
	return false
}

// A lease is a command that holds a connection.
type lease struct {
	command string
	held    time.Duration
	conn    *Conn
}

// leases lists the leases, the longest first.
func (t *Tracker) leases() (all []lease) {
	if t == nil {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.now()
	for c := range t.conns {
		if command := c.command.Load(); command != nil {
			all = append(all, lease{*command, now - time.Duration(c.since.Load()), c})
		}
	}
	slices.SortFunc(all, func(a, b lease) int { return cmp.Compare(b.held, a.held) })
	return all
}

// Leases describes which commands hold the pool's connections; it is empty if none do.
func (t *Tracker) Leases() string {
	type group struct {
		command string
		n       int
		longest time.Duration
	}
	var groups []*group
	for _, l := range t.leases() {
		i := slices.IndexFunc(groups, func(g *group) bool { return g.command == l.command })
		if i < 0 {
			groups = append(groups, &group{l.command, 1, l.held})
		} else {
			groups[i].n++
		}
	}
	var parts []string
	for _, g := range groups[:min(len(groups), 3)] {
		parts = append(parts, fmt.Sprintf("%s holds %d, the longest for %v", g.command, g.n, g.longest.Round(time.Millisecond)))
	}
	if len(groups) > 3 {
		parts = append(parts, fmt.Sprintf("and %d other commands", len(groups)-3))
	}
	return strings.Join(parts, "; ")
}

// WarnOfLeaks logs connections that are held for too long, until stop is closed.
func (t *Tracker) WarnOfLeaks(stop <-chan struct{}) {
	ticker := time.NewTicker(leakTime / 6)
	defer ticker.Stop()
	for {
		select {
		case <-stop:
			return
		case <-ticker.C:
			t.warn()
		}
	}
}

// warn logs every lease that is longer than leakTime, once.
func (t *Tracker) warn() {
	for _, l := range t.leases() {
		if l.held < leakTime {
			return
		}
		if !l.conn.warned.Swap(true) {
			logging.Warn(t.logger, "connection held for more than a minute: possible leak",
				logging.String("command", l.command), logging.Duration("held", l.held))
		}
	}
}
