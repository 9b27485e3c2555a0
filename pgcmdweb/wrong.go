package pgcmdweb

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/pgcmd/pgcmd"
)

// A level says how bad something is.
type level string

const (
	fine level = ""
	warn level = "warn" // worth a look
	bad  level = "bad"  // worth waking up for
)

func (l level) rank() int {
	switch l {
	case bad:
		return 2
	case warn:
		return 1
	}
	return 0
}

// severity is how bad an error of a code is, by the measure of the pool's log: what
// callers do wrong and what a command is there to say are ordinary outcomes, and so is a
// code of the program's own; what the database does is worth a look, what is a bug or
// unknown is worth waking up for.
func severity(code pgcmd.Code) level {
	switch code {
	case pgcmd.CodeAborted, pgcmd.CodeTimeout, pgcmd.CodeUnavailable, pgcmd.CodeExhausted:
		return warn
	case pgcmd.CodeUnknownEffect, pgcmd.CodePermission, pgcmd.CodeNestedAcquire, pgcmd.CodeInternal:
		return bad
	}
	return fine
}

// serious counts the errors that are not ordinary outcomes.
func serious(errors map[pgcmd.Code]int64) (n int64) {
	for code, m := range errors {
		if severity(code) != fine {
			n += m
		}
	}
	return n
}

// A wrong is something that is wrong now.
type wrong struct {
	Level   level  `json:"level"`
	Subject string `json:"subject"` // a command's name, "primary", "pool" or "replica 0"
	Text    string `json:"text"`
	Detail  string `json:"detail,omitempty"`
}

const (
	manyErrors  = 0.1                    // the share of runs whose failure is bad, whatever the code
	longWait    = 20 * time.Millisecond  // for a connection, on average
	slowFactor  = 4                      // times as slow as before
	slowAtLeast = 25                     // milliseconds: what is faster troubles nobody
	enoughRuns  = 20                     // to speak of a p95
	stuckAfter  = 30 * time.Second       // without an end, of what is in flight
	startingUp  = 500 * time.Millisecond // a replica that was not looked at yet is not wrong
)

// judge says what is wrong, the worst first.
func (v *view) judge(health pgcmd.Health, now, before reading) {
	add := func(l level, subject, detail, format string, args ...any) {
		v.Wrong = append(v.Wrong, wrong{l, subject, fmt.Sprintf(format, args...), detail})
	}
	if health.Status == pgcmd.HealthDown {
		add(bad, "primary", health.Reason, "does not answer")
	}
	if v.Pool.InUse >= v.Pool.Max && v.Pool.Max > 0 {
		holders := ""
		if health.Status == pgcmd.HealthDegraded {
			holders = health.Reason
		}
		add(bad, "pool", holders, "all %d connections are in use", v.Pool.Max)
	}
	acquires := now.Pool.Acquires - before.Pool.Acquires
	if waited := now.Pool.Waited - before.Pool.Waited; v.Pool.Waits > 0 && waited/time.Duration(v.Pool.Waits) > longWait && v.Pool.Waits*20 >= acquires {
		add(warn, "pool", "", "%d of %d runs waited for a connection, %s each", v.Pool.Waits, max(acquires, v.Pool.Waits), shownTime(v.Pool.WaitedMS/float64(v.Pool.Waits)))
	}
	if now.Pool.RetryTokens == 0 {
		add(bad, "pool", "connections and resources fail faster than retries can help", "the retry budget is empty: such failures are not tried again")
	}
	if n := now.Pool.Resets - before.Pool.Resets; n > 0 {
		add(warn, "pool", "the server went away, was restarted or demoted", "all connections were made anew %s", times(n))
	}
	for i, r := range v.Replicas {
		if !r.Fit && time.Since(now.Since) > startingUp {
			behind := "its reads go elsewhere"
			if r.LagMS > 0 { // it is known
				behind = shownTime(r.LagMS) + " behind; " + behind
			}
			add(warn, fmt.Sprintf("replica %d", i), behind, "is left out: %s", r.Reason)
		}
	}
	inFlightBefore := before.byName()
	for i := range v.Commands {
		c := &v.Commands[i]
		had := len(v.Wrong)
		if l, text := c.failing(); l != fine {
			add(l, c.Name, v.latest(c.Name), "%s", text)
		}
		if c.InFlight > 0 && c.Runs == 0 && inFlightBefore[c.Name].InFlight > 0 && now.at.Sub(before.at) >= stuckAfter {
			add(warn, c.Name, "", "%d in flight, and none has ended for %s", c.InFlight, shownTime(v.Window*1000))
		}
		if usual := c.usualP95(v.Window); usual > 0 && c.Runs >= enoughRuns && c.P95 > slowAtLeast && c.P95 > slowFactor*usual {
			add(warn, c.Name, "", "slow: p95 is %s, it was %s", shownTime(float64(c.P95)), shownTime(float64(usual)))
		}
		for _, w := range v.Wrong[had:] {
			if w.Level.rank() > c.Level.rank() {
				c.Level = w.Level
			}
		}
	}
	slices.SortStableFunc(v.Wrong, func(a, b wrong) int { return cmp.Compare(b.Level.rank(), a.Level.rank()) })
}

// failing says which of the command's errors are not its callers' own.
func (c *commandView) failing() (worst level, text string) {
	var parts []string
	var n int64
	for _, e := range c.ErrorCodes() {
		l := severity(e.Code)
		if l == fine {
			continue
		}
		if n += e.N; l.rank() > worst.rank() {
			worst = l
		}
		parts = append(parts, fmt.Sprintf("%s %d", words(string(e.Code)), e.N))
	}
	if n >= 3 && float64(n) >= manyErrors*float64(c.Runs) {
		worst = bad
	}
	return worst, fmt.Sprintf("%d of %d runs failed: %s", n, c.Runs, strings.Join(parts, ", "))
}

// latest is the message of the command's latest failure that counts.
func (v *view) latest(command string) string {
	for _, f := range v.Failures {
		if f.Command == command && severity(f.Code) != fine {
			return f.Message
		}
	}
	return ""
}

// usualP95 is the median of what it was before now; zero if that is not known.
func (c *commandView) usualP95(now float64) float32 {
	var list []float32
	for _, p := range c.Points[:max(0, len(c.Points)-int(now/sampleEvery.Seconds()))] {
		if p.rate > 0 {
			list = append(list, p.p95)
		}
	}
	if len(list) < 12 {
		return 0
	}
	slices.Sort(list)
	return list[len(list)/2]
}

func times(n int64) string {
	if n == 1 {
		return "once"
	}
	return fmt.Sprintf("%d times", n)
}
