package pgcmdweb

import (
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgcmd/pgcmd"
)

// counts is a pool of which a test says what it has counted.
type counts struct{ pgcmd.Metrics }

func (c *counts) read() pgcmd.Metrics {
	m := c.Metrics
	m.Commands = append([]pgcmd.CommandMetrics(nil), m.Commands...)
	return m
}

// ran counts n runs of the first command, of a time each.
func (c *counts) ran(n int64, each time.Duration) {
	first := &c.Commands[0]
	first.Runs += n
	h := pgcmd.Histogram{Count: first.Latency.Count + n, Buckets: []pgcmd.Bucket{}}
	added := false
	for _, b := range first.Latency.Buckets {
		if b.UpTo == each {
			b.Count, added = b.Count+n, true
		}
		h.Buckets = append(h.Buckets, b)
	}
	if !added {
		h.Buckets = append(h.Buckets, pgcmd.Bucket{UpTo: each, Count: n})
	}
	first.Latency = h
}

func quiet() *counts {
	return &counts{pgcmd.Metrics{Since: time.Now(), Pool: pgcmd.PoolMetrics{Max: 10, RetryTokens: 100},
		Commands: []pgcmd.CommandMetrics{{Name: "users.find"}}}}
}

var up = pgcmd.Health{Status: pgcmd.HealthUp}

func TestNowIsTheLastMinuteAndTheHistoryTheLastTen(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := quiet()
		h := newHistory(c.read)
		for range 200 {
			c.ran(10, time.Millisecond)
			time.Sleep(sampleEvery)
			h.sample()
		}
		v := h.view(up)
		assert.InDelta(t, 60, v.Window, 0.1)
		assert.InDelta(t, 2, v.Rate, 0.01)
		assert.Equal(t, int64(2000), v.Commands[0].RunsTotal)
		assert.Len(t, v.Commands[0].Points, samples)
		assert.InDelta(t, 1, v.Commands[0].P99, 0.001)
		assert.InDelta(t, 2, v.All[0].rate, 0.01)
		assert.Empty(t, v.Wrong)
	})
}

func TestACommandThatIsNewHasAShortHistory(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := quiet()
		first := c.Commands
		c.Commands = nil
		h := newHistory(c.read)
		for range 30 {
			h.sample()
		}
		c.Commands = first
		c.ran(7, time.Millisecond)
		time.Sleep(5 * time.Second)
		assert.Empty(t, h.view(up).Commands[0].Points)
		h.sample()
		v := h.view(up)
		assert.Len(t, v.Commands[0].Points, 1)
		assert.Equal(t, int64(7), v.Commands[0].Runs)
		assert.Positive(t, v.All[len(v.All)-1].rate)
	})
}

func TestWhatIsWrong(t *testing.T) {
	t.Parallel()
	failed := func(code pgcmd.Code, n int64) func(*counts) {
		return func(c *counts) { c.Commands[0].Errors = map[pgcmd.Code]int64{code: n} }
	}
	for name, test := range map[string]struct {
		health pgcmd.Health
		change func(*counts)
		want   []wrong
	}{
		"nothing": {health: up, change: func(c *counts) {}},
		"the server is down": {health: pgcmd.Health{Status: pgcmd.HealthDown, Reason: "no answer"}, change: func(*counts) {},
			want: []wrong{{bad, "primary", "does not answer", "no answer"}}},
		"the pool is full": {health: pgcmd.Health{Status: pgcmd.HealthDegraded, Reason: "users.find holds 10"},
			change: func(c *counts) { c.Pool.Acquired = 10 },
			want:   []wrong{{bad, "pool", "all 10 connections are in use", "users.find holds 10"}}},
		"runs wait for connections": {health: up,
			change: func(c *counts) {
				c.Pool.Acquires, c.Pool.EmptyAcquires, c.Pool.Waited = 100, 50, 50*200*time.Millisecond
			},
			want: []wrong{{warn, "pool", "50 of 100 runs waited for a connection, 200 ms each", ""}}},
		"a few runs waited a little": {health: up,
			change: func(c *counts) {
				c.Pool.Acquires, c.Pool.EmptyAcquires, c.Pool.Waited = 100, 50, 50*time.Millisecond
			}},
		"the retry budget is empty": {health: up, change: func(c *counts) { c.Pool.RetryTokens = 0 },
			want: []wrong{{bad, "pool", "the retry budget is empty: such failures are not tried again", "connections and resources fail faster than retries can help"}}},
		"no limit of retries": {health: up, change: func(c *counts) { c.Pool.RetryTokens = -1 }},
		"the pool was reset": {health: up, change: func(c *counts) { c.Pool.Resets = 1 },
			want: []wrong{{warn, "pool", "all connections were made anew once", "the server went away, was restarted or demoted"}}},
		"a replica is left out": {health: up,
			change: func(c *counts) {
				c.Replicas = []pgcmd.ReplicaMetrics{{Fit: true}, {Reason: "it is too far behind", Lag: 90 * time.Second}}
			},
			want: []wrong{{warn, "replica 1", "is left out: it is too far behind", "1.5 min behind; its reads go elsewhere"}}},
		"what callers do wrong": {health: up, change: failed(pgcmd.CodeNotFound, 600)},
		"what the database does": {health: up, change: failed(pgcmd.CodeTimeout, 6),
			want: []wrong{{warn, "users.find", "6 of 660 runs failed: timeout 6", "the deadline passed"}}},
		"much of what the database does": {health: up, change: failed(pgcmd.CodeTimeout, 300),
			want: []wrong{{bad, "users.find", "300 of 660 runs failed: timeout 300", "the deadline passed"}}},
		"an effect that nobody knows": {health: up, change: failed(pgcmd.CodeUnknownEffect, 1),
			want: []wrong{{bad, "users.find", "1 of 660 runs failed: unknown effect 1", "the deadline passed"}}},
		"slower than before": {health: up, change: func(c *counts) { c.ran(200, 800*time.Millisecond) },
			want: []wrong{{warn, "users.find", "slow: p95 is 800 ms, it was 2 ms", ""}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				c := quiet()
				c.Failures = []pgcmd.Run{{Command: "users.find", Code: pgcmd.CodeTimeout, Message: "the deadline passed"}}
				h := newHistory(c.read)
				for range 60 {
					c.ran(55, 2*time.Millisecond)
					time.Sleep(sampleEvery)
					h.sample()
				}
				test.change(c)
				assert.Equal(t, append([]wrong{}, test.want...), h.view(test.health).Wrong)
			})
		})
	}
}

func TestWhatIsInFlightAndDoesNotEndIsWrong(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := quiet()
		c.Commands[0].InFlight = 3
		h := newHistory(c.read)
		for range 12 {
			time.Sleep(sampleEvery)
			h.sample()
		}
		assert.Equal(t, []wrong{{warn, "users.find", "3 in flight, and none has ended for 1 min", ""}}, h.view(up).Wrong)
	})
}

func TestAFloodOfFailuresDoesNotHideTheOneThatMatters(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := quiet()
		h := newHistory(c.read)
		c.Failures = []pgcmd.Run{{Command: "bank.transfer", At: time.Now(), Code: pgcmd.CodeUnknownEffect, Message: "no reply came"}}
		h.sample()
		time.Sleep(time.Second)
		c.Failures = nil
		for range 20 {
			c.Failures = append(c.Failures, pgcmd.Run{Command: "users.find", At: time.Now(), Code: pgcmd.CodeNotFound})
		}
		v := h.view(up)
		assert.Len(t, v.Failures, 21)
		assert.Equal(t, "no reply came", v.latest("bank.transfer"))
		page := v.Failed().Runs
		require.Len(t, page, 2, "those that are alike are one")
		assert.Equal(t, "bank.transfer", page[0].Command)
		assert.Equal(t, 19, page[1].Alike)
		time.Sleep(10 * time.Minute)
		assert.Len(t, h.view(up).Failures, 20)
	})
}

func TestTheOrderOfTheCommands(t *testing.T) {
	t.Parallel()
	v := &view{Commands: []commandView{
		{Name: "calm", Rate: 100, P99: 1},
		{Name: "slow", Rate: 1, P99: 900},
		{Name: "conflicts", Rate: 10, Errors: map[pgcmd.Code]int64{pgcmd.CodeConflict: 900}},
		{Name: "broken", Level: bad, Errors: map[pgcmd.Code]int64{pgcmd.CodeInternal: 1}},
		{Name: "aborted", Level: warn, Retries: 5, Errors: map[pgcmd.Code]int64{pgcmd.CodeAborted: 2}},
	}}
	names := func() string {
		var list []string
		for _, c := range v.Commands {
			list = append(list, c.Name)
		}
		return strings.Join(list, " ")
	}
	for key, want := range map[string]string{
		"":        "broken aborted conflicts slow calm",
		"no such": "broken aborted conflicts slow calm",
		"worst":   "broken aborted conflicts slow calm",
		"name":    "aborted broken calm conflicts slow",
		"rate":    "calm conflicts slow aborted broken",
		"errors":  "conflicts aborted broken calm slow",
		"p99":     "slow calm aborted broken conflicts",
		"retries": "aborted broken calm conflicts slow",
	} {
		v.sort(key)
		assert.Equal(t, want, names(), key)
	}
}

func TestTheReadingsEndWithTheHandler(t *testing.T) {
	t.Parallel()
	var reads atomic.Int64
	h := newHistory(func() pgcmd.Metrics { reads.Add(1); return pgcmd.Metrics{} })
	h.follow(time.Millisecond)
	require.Eventually(t, func() bool { return reads.Load() > 5 }, 10*time.Second, time.Millisecond)
	dropped := make(chan struct{})
	runtime.AddCleanup(h, func(dropped chan struct{}) { close(dropped) }, dropped)
	runtime.KeepAlive(h)
	h = nil
	// A timer that held the history would keep it for ever, and without it nothing reads.
	require.Eventually(t, func() bool {
		runtime.GC()
		select {
		case <-dropped:
			return true
		default:
			return false
		}
	}, 10*time.Second, time.Millisecond)
}

func TestTimesAndCountsAreShort(t *testing.T) {
	t.Parallel()
	for ms, want := range map[float64]string{0: "0 ms", 0.0004: "0.4 µs", 0.84: "840 µs", 0.9999: "1 ms", 1.26: "1.3 ms", 34.4: "34 ms", 999.9: "1 s",
		1260: "1.3 s", 59_999: "1 min", 90_000: "1.5 min", 7200_000: "2 h", 72 * 3600_000: "3 d"} {
		assert.Equal(t, want, shownTime(ms))
	}
	for n, want := range map[int64]string{0: "0", 7: "7", 999: "999", 12_345: "12k", 1_500_000: "1.5M"} {
		assert.Equal(t, want, shownCount(n))
	}
	assert.Equal(t, "0.02", shownRate(1.0/60))
	assert.Equal(t, "now", shownAge(time.Unix(100, 0), time.Unix(100, 1)))
	assert.Equal(t, "40 s ago", shownAge(time.Unix(140, 0), time.Unix(100, 0)))
}

func TestSparksStayWithinTheirBox(t *testing.T) {
	t.Parallel()
	points := []point{{rate: 5, p50: 1, p95: 4, p99: 900}, {}, {rate: 1, errors: 1, p50: 2, p95: 2, p99: 2}}
	latency := timeSpark(120, points)
	require.Len(t, latency.Lines, 3)
	assert.Equal(t, "M117.5 1.0h.3M119.5 20.8h.3", latency.Lines[0].Path, "a gap where nothing ran")
	assert.Equal(t, "M117.5 23.0h.3M119.5 20.8h.3", latency.Lines[2].Path)
	assert.Equal(t, "M117 24V1.0h1V24M119 24V18.6h1V24", rateSpark(120, points).Lines[0].Path)
	assert.Empty(t, timeSpark(24, nil).Lines)
	assert.Empty(t, rateSpark(24, nil).Lines[0].Path)
}

func TestOrdinaryOutcomesAreNotDrawnRed(t *testing.T) {
	t.Parallel()
	for code, want := range map[pgcmd.Code]level{
		"": fine, pgcmd.CodeInvalid: fine, pgcmd.CodeNotFound: fine, pgcmd.CodeTooManyRows: fine, pgcmd.CodeConflict: fine, pgcmd.CodeCanceled: fine,
		pgcmd.CodeFailed: fine, pgcmd.CodeSkipped: fine, "insufficient_funds": fine,
		pgcmd.CodeAborted: warn, pgcmd.CodeTimeout: warn, pgcmd.CodeUnavailable: warn, pgcmd.CodeExhausted: warn,
		pgcmd.CodeUnknownEffect: bad, pgcmd.CodePermission: bad, pgcmd.CodeNestedAcquire: bad, pgcmd.CodeInternal: bad,
	} {
		assert.Equal(t, want, severity(code), string(code))
	}
	lines := func(points ...point) map[string]string {
		m := map[string]string{}
		for _, l := range rateSpark(2, points).Lines {
			m[l.Class] = l.Path
		}
		return m
	}
	flat := lines(point{rate: 10}, point{rate: 10})
	ordinary := lines(point{rate: 10, errors: 5}, point{rate: 10, errors: 5})
	serious := lines(point{rate: 10, errors: 5, serious: 5}, point{rate: 10, errors: 5, serious: 5})
	assert.Equal(t, flat["errors"], ordinary["errors"], "nothing is red")
	assert.NotEqual(t, flat["ordinary"], ordinary["ordinary"])
	assert.NotEqual(t, flat["errors"], serious["errors"])
}

func TestRunsThatFailedOrdinarilyAreCountedApart(t *testing.T) {
	t.Parallel()
	errors := map[pgcmd.Code]int64{pgcmd.CodeNotFound: 5, pgcmd.CodeConflict: 2, pgcmd.CodeFailed: 1, "own": 1, pgcmd.CodeTimeout: 3, pgcmd.CodeInternal: 1}
	assert.Equal(t, int64(4), serious(errors))
	assert.Equal(t, int64(13), total(errors))
}
