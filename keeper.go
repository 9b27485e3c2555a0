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

// leakTime is how long a command may hold a connection before the pool's log names it.
const leakTime = time.Minute

// A keeper knows the connections of one pool of pgx's: who holds them, and whether the
// server that they were made to is still the same. A nil keeper knows none.
type tracker struct {
	logger *zap.Logger
	start  time.Time
	unseen bool   // no hook and no tracer is to see a connection change hands
	reset  func() // makes the pool's connections anew

	mu         sync.Mutex
	conns      map[*netConn]struct{}
	latest     time.Time    // of the resets
	generation atomic.Int64 // counts the resets
}

// resetEvery is how often connections are made anew at most: a server that stays
// read-only refuses the new ones as well, and would have them made for every write.
const resetEvery = time.Second

func newTracker(logger *zap.Logger) *tracker {
	return &tracker{logger: logger, start: time.Now(), conns: map[*netConn]struct{}{}}
}

// now is the time since the keeper was made: half of what it costs to ask for the date.
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

// invalidateAll takes a failure that says that the server has gone, or has become another:
// all connections that were made before are made anew, once for each time it happens.
func (k *tracker) invalidateAll(w *netConn, e *Error) {
	if k == nil || w == nil || k.reset == nil || !k.begin(w.epoch) {
		return
	}
	fields := []zap.Field{zap.String("sqlstate", e.SQLState)}
	if name := w.holder.Load(); name != nil {
		fields = append(fields, zap.String("command", *name))
	}
	k.logger.Warn("the pool's connections are made anew: the server goes away, or has become read-only", fields...)
	k.reset()
}

// renew begins the next epoch: all connections that were made before are replaced.
func (k *tracker) renew() {
	k.generation.Add(1)
	k.reset()
}

// begin begins the next epoch, if a failure of this one's connections is news.
func (k *tracker) begin(epoch int64) bool {
	if epoch != k.generation.Load() {
		return false // as most will find that meet it at once
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

// A holding is a command that has had a connection for so long.
type lease struct {
	command string
	since   time.Duration
	wire    *netConn
}

// holds lists who holds the connections, the longest first.
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

// leases says in words who holds the connections.
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

// warn names every command that has held a connection for longer than leakTime, once.
func (k *tracker) warn() {
	for _, h := range k.holds() {
		if h.since < leakTime {
			return
		}
		if !h.wire.warned.Swap(true) {
			k.logger.Warn("a command holds a connection for long: does it leak, or wait for something?",
				zap.String("command", h.command), zap.Duration("held", h.since))
		}
	}
}
