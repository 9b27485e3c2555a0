package pgcmd

import "time"

const (
	// slowAfter is how long a lane may work on one ask while others wait behind it.
	slowAfter = 50 * time.Millisecond
	// watchEvery is how often the lanes are looked at, while they have something to do.
	watchEvery = slowAfter / 5
	// maxSlowChecks is how many looks in a row have to find it so: when it is this process
	// that stood still, the reply is there at the second.
	maxSlowChecks = 3
	// silentAfter is how long after its statement_timeout a server may be silent.
	silentAfter = time.Second
)

// monitor looks after lanes that are slow, until the mux is closed and they are.
func (m *mux) monitor() {
	ticker := time.NewTicker(watchEvery)
	defer ticker.Stop()
	for {
		ticker.Stop()
		select {
		case <-m.ctx.Done():
			m.mu.Lock()
			left := len(m.conns) + len(m.draining)
			m.mu.Unlock()
			if left == 0 {
				return
			}
		case <-m.watch:
		}
		ticker.Reset(watchEvery)
		for busy := true; busy; {
			<-ticker.C
			busy = m.checkConns(time.Now())
		}
	}
}

// checkConns does what is to be done for those who wait behind a slow one, and reports whether
// there is anything to watch.
func (m *mux) checkConns(now time.Time) (busy bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var slow []*sharedConn
	free := false
	for l := range m.all() {
		if len(l.sent) == 0 {
			free = free || !l.draining
			busy = busy || len(l.queue) > 0
			continue
		}
		busy = true
		if now.Sub(l.headSince) > slowAfter {
			l.slowChecks++
		}
		if l.slowChecks >= maxSlowChecks {
			slow = append(slow, l)
		} else {
			free = free || !l.draining
		}
	}
	for _, l := range slow {
		m.isolateSlow(l, now, free)
	}
	m.watching = busy
	return busy
}

// isolateSlow takes those who wait behind a slow ask elsewhere, if there is a lane that is
// free, or makes one.
func (m *mux) isolateSlow(l *sharedConn, now time.Time, free bool) {
	head, age := l.sent[0], now.Sub(l.headSince)
	switch {
	case l.timeout > 0 && age > l.timeout+silentAfter:
		l.drop(errSilent)
	case head.abandoned: // nobody wants it
		m.recordSlow(head, now)
		l.stop()
		l.drop(nil)
	case m.closed || len(l.sent)+len(l.queue) == 1 || !l.draining && len(m.draining) >= m.size:
	case !free:
		m.startDial()
	default:
		m.handovers++
		m.recordSlow(head, now)
		m.remove(l)
		m.draining[l] = struct{}{}
		l.draining = true
		for _, a := range l.sent[1:] {
			l.requeue(a, nil, false)
		}
		for _, a := range l.queue {
			l.requeue(a, nil, false)
		}
		clear(l.sent[1:])
		l.sent, l.queue = l.sent[:1], nil
	}
}

// A tally is how a statement does on the lanes.
type slowStats struct {
	slow  time.Time // when it was slow, the last time; zero: never
	since int       // how often it was answered since
}

// minSlowRuns is how many answers make up for one that was slow: then it was by chance, as of a
// machine that is busy with something else.
const minSlowRuns = 1000

// recordSlow notes that the ask was slow, and has the statement go the ordinary way if it was
// so before, a second or more ago.
func (m *mux) recordSlow(a *request, now time.Time) {
	t := a.stats
	if t == nil {
		return // it was being described
	}
	age := now.Sub(t.slow)
	if age < time.Second {
		return
	}
	if age < bypassTime && t.since < minSlowRuns {
		m.bypass(a.sql)
	}
	t.slow, t.since = now, 0
}

// slowStatsOf is the tally of a statement, on all lanes.
func (m *mux) slowStatsOf(sql string) *slowStats {
	t := m.slow[sql]
	if t == nil {
		limit(m.slow)
		t = &slowStats{}
		m.slow[sql] = t
	}
	return t
}
