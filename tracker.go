package pgcmd

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
)

// leakTime is how long a command may hold a connection before a warning is logged.
const leakTime = time.Minute

// A tracker records the open connections of a pgxpool, which command holds each of them, and
// the generation they belong to. A nil tracker records none.
type tracker struct {
	logger   *zap.Logger
	start    time.Time
	hasHooks bool   // a hook or a tracer sees that a connection is acquired or released
	reset    func() // replaces the pool's connections

	mu         sync.Mutex
	conns      map[*netConn]struct{}
	latest     time.Time    // of the resets
	generation atomic.Int64 // counts the resets
}

// resetEvery is the shortest time between two resets: a server that stays read-only refuses
// the new connections as well, and they would be replaced at every write.
const resetEvery = time.Second

func newTracker(logger *zap.Logger) *tracker {
	return &tracker{logger: logger, start: time.Now(), conns: map[*netConn]struct{}{}}
}

// now is the time since the tracker was made, which costs half of time.Now.
func (k *tracker) now() time.Duration { return time.Since(k.start) }

func (k *tracker) made(w *netConn) {
	if k == nil {
		return
	}
	w.tracker, w.epoch = k, k.generation.Load()
	k.mu.Lock()
	defer k.mu.Unlock()
	k.conns[w] = struct{}{}
}

func (k *tracker) lost(w *netConn) {
	if k == nil {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.conns, w)
}

// invalidateAll replaces all connections after an error which means that the server is
// shutting down or has become read-only, once for each time that happens.
func (k *tracker) invalidateAll(w *netConn, e *Error) {
	if k == nil || w == nil || k.reset == nil || !k.begin(w.epoch) {
		return
	}
	fields := []zap.Field{zap.String("sqlstate", e.SQLState)}
	if name := w.holder.Load(); name != nil {
		fields = append(fields, zap.String("command", *name))
	}
	k.logger.Warn("resetting the pool: the server is shutting down or has become read-only", fields...)
	k.reset()
}

// renew begins the next generation: all connections that were made before are replaced.
func (k *tracker) renew() {
	k.generation.Add(1)
	k.reset()
}

// begin begins the next generation, unless the one of the connection that failed has ended.
func (k *tracker) begin(epoch int64) bool {
	if epoch != k.generation.Load() {
		return false // as for most commands that fail at the same time
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if now := time.Now(); epoch == k.generation.Load() && now.Sub(k.latest) >= resetEvery {
		k.latest = now
		k.generation.Add(1)
		return true
	}
	return false
}

// A lease is a command that holds a connection.
type lease struct {
	command string
	since   time.Duration
	conn    *netConn
}

// holds lists the leases, the longest first.
func (k *tracker) holds() (all []lease) {
	if k == nil {
		return nil
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	now := k.now()
	for w := range k.conns {
		if name := w.holder.Load(); name != nil {
			all = append(all, lease{*name, now - time.Duration(w.since.Load()), w})
		}
	}
	slices.SortFunc(all, func(a, b lease) int { return cmp.Compare(b.since, a.since) })
	return all
}

// leases describes the leases in words.
func (k *tracker) leases() string {
	type group struct {
		command string
		n       int
		longest time.Duration
	}
	var groups []*group
	for _, h := range k.holds() {
		i := slices.IndexFunc(groups, func(g *group) bool { return g.command == h.command })
		if i < 0 {
			groups = append(groups, &group{h.command, 1, h.since})
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

// watch warns of connections that are held for too long, until stop is closed.
func (k *tracker) watch(stop <-chan struct{}) {
	ticker := time.NewTicker(leakTime / 6)
	defer ticker.Stop()
	for {
		select {
		case <-stop:
			return
		case <-ticker.C:
			k.warn()
		}
	}
}

// warn logs every lease that is longer than leakTime, once.
func (k *tracker) warn() {
	for _, h := range k.holds() {
		if h.since < leakTime {
			return
		}
		if !h.conn.warned.Swap(true) {
			k.logger.Warn("connection held for more than a minute: possible leak",
				zap.String("command", h.command), zap.Duration("held", h.since))
		}
	}
}
