package pgcmdweb

import (
	"slices"
	"sync"
	"time"
	"weak"

	"github.com/pgcmd/pgcmd"
)

const (
	sampleEvery = 5 * time.Second
	samples     = 120             // ten minutes
	window      = 1 * time.Minute // what counts as now
)

// history keeps what a pool did in the last minutes.
type history struct {
	read func() pgcmd.Metrics

	mu       sync.Mutex
	recent   []reading // of the last minute, the oldest first; never empty
	taken    int       // how many samples were
	pool     [samples]poolPoint
	commands map[string]*series
	serious  map[string]pgcmd.Run // by command, the latest failure that is not its callers' own
}

type reading struct {
	at time.Time
	pgcmd.Metrics
}

// series is the history of one command, a ring.
type series struct {
	born   int // the first sample in which it was
	points [samples]point
}

// A point is what a command did between two readings; times are in milliseconds, and
// zero if no run ended.
type point struct {
	rate, errors, p50, p95, p99 float32
	serious                     float32 // of the errors, those that are no ordinary outcomes
}

type poolPoint struct{ inUse, max int32 }

func newHistory(read func() pgcmd.Metrics) *history {
	return &history{read: read, recent: []reading{{time.Now(), read()}}, commands: map[string]*series{}, serious: map[string]pgcmd.Run{}}
}

// follow takes a sample now and then for as long as the history is in use. The timer
// does not count as use, so that a handler that was dropped takes it with it.
func (h *history) follow(every time.Duration) {
	follow(weak.Make(h), every)
}

func follow(w weak.Pointer[history], every time.Duration) {
	time.AfterFunc(every, func() {
		if h := w.Value(); h != nil {
			h.sample()
			follow(w, every)
		}
	})
}

func (h *history) sample() {
	now := reading{time.Now(), h.read()}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.keep(now.Failures)
	before := h.recent[len(h.recent)-1]
	at := h.taken % samples
	h.taken++
	h.pool[at] = poolPoint{now.Pool.Acquired, now.Pool.Max}
	earlier := before.byName()
	seconds := max(now.at.Sub(before.at).Seconds(), 0.001)
	for _, c := range now.Commands {
		s := h.commands[c.Name]
		if s == nil {
			s = &series{born: h.taken - 1}
			h.commands[c.Name] = s
		}
		d := since(c, earlier[c.Name])
		s.points[at] = point{
			rate: float32(float64(d.Runs) / seconds), errors: float32(float64(total(d.Errors)) / seconds),
			serious: float32(float64(serious(d.Errors)) / seconds),
			p50:     quantile(d.Latency, 0.50), p95: quantile(d.Latency, 0.95), p99: quantile(d.Latency, 0.99),
		}
	}
	h.recent = append(h.recent, now)
	// The oldest that is a minute old stays, to be compared with.
	for len(h.recent) > 1 && now.at.Sub(h.recent[1].at) >= window {
		h.recent = h.recent[1:]
	}
}

// keep keeps what matters of the latest failures, which a flood of others would push
// out of the pool's own list.
func (h *history) keep(latest []pgcmd.Run) {
	for _, run := range slices.Backward(latest) {
		if severity(run.Code) != fine {
			h.serious[run.Command] = run
		}
	}
}

// failures returns the latest, and before them what mattered of the last ten minutes.
func (h *history) failures(now reading) []pgcmd.Run {
	h.keep(now.Failures)
	list := slices.Clone(now.Failures)
	for _, run := range h.serious {
		if now.at.Sub(run.At) < samples*sampleEvery && !slices.Contains(list, run) {
			list = append(list, run)
		}
	}
	slices.SortStableFunc(list, func(a, b pgcmd.Run) int { return b.At.Compare(a.At) })
	return list
}

// points returns the history of a command, the oldest first.
func (h *history) points(name string) []point {
	s := h.commands[name]
	if s == nil {
		return nil
	}
	var list []point
	for i := max(s.born, h.taken-samples); i < h.taken; i++ {
		list = append(list, s.points[i%samples])
	}
	return list
}

func (h *history) poolPoints() (list []poolPoint) {
	for i := max(0, h.taken-samples); i < h.taken; i++ {
		list = append(list, h.pool[i%samples])
	}
	return list
}

func (r reading) byName() map[string]pgcmd.CommandMetrics {
	m := make(map[string]pgcmd.CommandMetrics, len(r.Commands))
	for _, c := range r.Commands {
		m[c.Name] = c
	}
	return m
}

// since returns what was added to a command's counts after an earlier reading.
func since(now, earlier pgcmd.CommandMetrics) pgcmd.CommandMetrics {
	d := now
	d.Runs, d.Rows, d.Retries = now.Runs-earlier.Runs, now.Rows-earlier.Rows, now.Retries-earlier.Retries
	d.Latency = now.Latency.Sub(earlier.Latency)
	d.Errors = map[pgcmd.Code]int64{}
	for code, n := range now.Errors {
		if n -= earlier.Errors[code]; n > 0 {
			d.Errors[code] = n
		}
	}
	return d
}

func total(errors map[pgcmd.Code]int64) (n int64) {
	for _, m := range errors {
		n += m
	}
	return n
}

// quantile is in milliseconds.
func quantile(h pgcmd.Histogram, q float64) float32 {
	return float32(h.Quantile(q).Seconds() * 1000)
}
