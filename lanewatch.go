package pgcmd

import "time"

const (
	// slowAfter is how long a lane may work on one ask while others wait behind it.
	slowAfter = 50 * time.Millisecond
	// watchEvery is how often the lanes are looked at, while they have something to do.
	watchEvery = slowAfter / 5
	// slowLooks is how many looks in a row have to find it so: when it is this process
	// that stood still, the reply is there at the second.
	slowLooks = 3
	// silentAfter is how long after its statement_timeout a server may be silent.
	silentAfter = time.Second
)

// watchLanes looks after lanes that are slow, until the mux is closed and they are.
func (m *mux) watchLanes() {
	ticker := time.NewTicker(watchEvery)
	defer ticker.Stop()
	for {
		ticker.Stop()
		select {
		case <-m.ctx.Done():
			m.mu.Lock()
			left := len(m.lanes) + len(m.apart)
			m.mu.Unlock()
			if left == 0 {
				return
			}
		case <-m.watch:
		}
		ticker.Reset(watchEvery)
		for busy := true; busy; {
			<-ticker.C
			busy = m.look(time.Now())
		}
	}
}

// look does what is to be done for those who wait behind a slow one, and reports whether
// there is anything to watch.
func (m *mux) look(now time.Time) (busy bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var slow []*lane
	free := false
	for l := range m.all() {
		if len(l.sent) == 0 {
			free = free || !l.apart
			busy = busy || len(l.queue) > 0
			continue
		}
		busy = true
		if now.Sub(l.headAt) > slowAfter {
			l.late++
		}
		if l.late >= slowLooks {
			slow = append(slow, l)
		} else {
			free = free || !l.apart
		}
	}
	for _, l := range slow {
		m.relieve(l, now, free)
	}
	m.watching = busy
	return busy
}

// relieve takes those who wait behind a slow ask elsewhere, if there is a lane that is
// free, or makes one.
func (m *mux) relieve(l *lane, now time.Time, free bool) {
	head, age := l.sent[0], now.Sub(l.headAt)
	switch {
	case l.timeout > 0 && age > l.timeout+silentAfter:
		l.drop(errSilent)
	case head.gone: // nobody wants it
		m.strike(head, now)
		l.stop()
		l.drop(nil)
	case m.closed || len(l.sent)+len(l.queue) == 1 || !l.apart && len(m.apart) >= m.size:
	case !free:
		m.startDial()
	default:
		m.handovers++
		m.strike(head, now)
		m.remove(l)
		m.apart[l] = struct{}{}
		l.apart = true
		for _, a := range l.sent[1:] {
			l.move(a, nil, false)
		}
		for _, a := range l.queue {
			l.move(a, nil, false)
		}
		clear(l.sent[1:])
		l.sent, l.queue = l.sent[:1], nil
	}
}

// A tally is how a statement does on the lanes.
type tally struct {
	slow  time.Time // when it was slow, the last time; zero: never
	since int       // how often it was answered since
}

// often is how many answers make up for one that was slow: then it was by chance, as of a
// machine that is busy with something else.
const often = 1000

// strike notes that the ask was slow, and has the statement go the ordinary way if it was
// so before, a second or more ago.
func (m *mux) strike(a *ask, now time.Time) {
	t := a.tally
	if t == nil {
		return // it was being described
	}
	age := now.Sub(t.slow)
	if age < time.Second {
		return
	}
	if age < asideTime && t.since < often {
		m.setAside(a.sql)
	}
	t.slow, t.since = now, 0
}

// tallyOf is the tally of a statement, on all lanes.
func (m *mux) tallyOf(sql string) *tally {
	t := m.tallies[sql]
	if t == nil {
		limit(m.tallies)
		t = &tally{}
		m.tallies[sql] = t
	}
	return t
}
