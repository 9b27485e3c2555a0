package pgcmd

import "time"

const (
	// slowAfter is how long a lane may work on one ask while others wait behind it.
	slowAfter = 50 * time.Millisecond
	// watchEvery is how often the lanes are looked at, while they have something to do.
	watchEvery = slowAfter / 5
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
		l.stuck = now.Sub(l.headAt) > slowAfter
		if l.stuck {
			slow = append(slow, l)
		} else {
			free = free || !l.apart
		}
	}
	for _, l := range slow {
		m.relieve(l, now.Sub(l.headAt), free)
	}
	m.watching = busy
	return busy
}

// relieve takes those who wait behind a slow ask elsewhere, if there is a lane that is
// free, or makes one.
func (m *mux) relieve(l *lane, age time.Duration, free bool) {
	head := l.sent[0]
	switch {
	case m.timeout > 0 && age > m.timeout+silentAfter:
		l.drop(errSilent)
	case head.gone: // nobody wants it
		m.setAside(head.sql)
		l.stop()
		l.drop(nil)
	case m.closed || len(l.sent)+len(l.queue) == 1 || !l.apart && len(m.apart) >= m.size:
	case !free:
		m.startDial()
	default:
		m.handovers++
		m.setAside(head.sql)
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
