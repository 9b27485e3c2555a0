package multiplex

import "time"

const (
	// slowAfter is how long a request may take while others wait behind it.
	slowAfter = 50 * time.Millisecond
	// watchEvery is how often busy connections are checked.
	watchEvery = slowAfter / 5
	// maxSlowChecks is how many checks in a row have to find a request slow: if this process
	// stood still, the reply is there at the second.
	maxSlowChecks = 3
	// silentAfter is how long after statement_timeout a reply may still come.
	silentAfter = time.Second
)

// monitor checks the connections while they are busy. It ends when the mux and all of them are
// closed.
func (m *Mux) monitor() {
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

// checkConns moves requests away from connections that are held by a slow one. It reports
// whether any connection is busy.
func (m *Mux) checkConns(now time.Time) (busy bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var slow []*conn
	free := false
	for c := range m.allConns() {
		if len(c.sent) == 0 {
			free = free || !c.draining
			busy = busy || len(c.queue) > 0
			continue
		}
		busy = true
		if now.Sub(c.headSince) > slowAfter {
			c.slowChecks++
		}
		if c.slowChecks >= maxSlowChecks {
			slow = append(slow, c)
		} else {
			free = free || !c.draining
		}
	}
	for _, c := range slow {
		m.isolateSlow(c, now, free)
	}
	m.watching = busy
	return busy
}

// isolateSlow requeues the requests behind a slow one if there is a free connection, and dials
// one otherwise.
func (m *Mux) isolateSlow(c *conn, now time.Time, free bool) {
	head, age := c.sent[0], now.Sub(c.headSince)
	switch {
	case c.timeout > 0 && age > c.timeout+silentAfter:
		c.close(errNoReply)
	case head.abandoned:
		m.recordSlow(head, now)
		c.cancelRequest()
		c.close(nil)
	case m.closed || len(c.sent)+len(c.queue) == 1 || !c.draining && len(m.draining) >= m.config.Size:
	case !free:
		m.startDial()
	default:
		m.isolations++
		m.recordSlow(head, now)
		m.remove(c)
		m.draining[c] = struct{}{}
		c.draining = true
		for _, req := range c.sent[1:] {
			c.requeue(req, nil, false)
		}
		for _, req := range c.queue {
			c.requeue(req, nil, false)
		}
		clear(c.sent[1:])
		c.sent, c.queue = c.sent[:1], nil
	}
}

// slowStats records how often a statement is slow on the shared connections.
type slowStats struct {
	last     time.Time // when it was slow the last time; zero: never
	answered int       // how often it was answered since then
}

// minSlowRuns is how many answers after a slow one prove that it was slow by chance, as on a
// busy machine.
const minSlowRuns = 1000

// recordSlow records that the request was slow, and bypasses the shared connections for its
// statement if it was slow before, a second or more ago.
func (m *Mux) recordSlow(req *Request, now time.Time) {
	stats := req.slow
	if stats == nil {
		return // a prepare request
	}
	age := now.Sub(stats.last)
	if age < time.Second {
		return
	}
	if age < bypassTime && stats.answered < minSlowRuns {
		m.bypass(req.sql)
	}
	stats.last, stats.answered = now, 0
}

// slowStatsOf returns the slowStats of a statement, one for all connections.
func (m *Mux) slowStatsOf(sql string) *slowStats {
	t, _ := m.slow.Get(sql)
	if t == nil {
		t = &slowStats{}
		m.slow.Put(sql, t)
	}
	return t
}
