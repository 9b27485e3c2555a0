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
type keeper struct {
	logger *zap.Logger
	start  time.Time
	unseen bool   // no hook and no tracer is to see a connection change hands
	reset  func() // makes the pool's connections anew

	mu     sync.Mutex
	wires  map[*wire]struct{}
	latest time.Time    // of the resets
	epoch  atomic.Int64 // counts the resets
}

// resetEvery is how often connections are made anew at most: a server that stays
// read-only refuses the new ones as well, and would have them made for every write.
const resetEvery = time.Second

func newKeeper(logger *zap.Logger) *keeper {
	return &keeper{logger: logger, start: time.Now(), wires: map[*wire]struct{}{}}
}

// now is the time since the keeper was made: half of what it costs to ask for the date.
func (k *keeper) now() time.Duration { return time.Since(k.start) }

func (k *keeper) made(w *wire) {
	if k == nil {
		return
	}
	w.keeper, w.epoch = k, k.epoch.Load()
	k.mu.Lock()
	defer k.mu.Unlock()
	k.wires[w] = struct{}{}
}

func (k *keeper) lost(w *wire) {
	if k == nil {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.wires, w)
}

// suspect takes a failure that says that the server has gone, or has become another:
// all connections that were made before are made anew, once for each time it happens.
func (k *keeper) suspect(w *wire, e *Error) {
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
func (k *keeper) renew() {
	k.epoch.Add(1)
	k.reset()
}

// begin begins the next epoch, if a failure of this one's connections is news.
func (k *keeper) begin(epoch int64) bool {
	if epoch != k.epoch.Load() {
		return false // as most will find that meet it at once
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if now := time.Now(); epoch == k.epoch.Load() && now.Sub(k.latest) >= resetEvery {
		k.latest = now
		k.epoch.Add(1)
		return true
	}
	return false
}

// unsettles reports whether the failure is one that the other connections of the pool
// will meet as well.
func (e *Error) unsettles() bool {
	return e.SQLState == "25006" || e.SQLState == "57P01" || e.SQLState == "57P02"
}

// A holding is a command that has had a connection for so long.
type holding struct {
	command string
	since   time.Duration
	wire    *wire
}

// holds lists who holds the connections, the longest first.
func (k *keeper) holds() (all []holding) {
	if k == nil {
		return nil
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	now := k.now()
	for w := range k.wires {
		if name := w.holder.Load(); name != nil {
			all = append(all, holding{*name, now - time.Duration(w.since.Load()), w})
		}
	}
	slices.SortFunc(all, func(a, b holding) int { return cmp.Compare(b.since, a.since) })
	return all
}

// holders says in words who holds the connections.
func (k *keeper) holders() string {
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
func (k *keeper) watch(stop <-chan struct{}) {
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
func (k *keeper) warn() {
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
