package replica

import (
	"sync"
	"time"
)

// walHistory records WAL positions of the primary and when they were read: the lag of a
// replica is how long ago the primary was where the replica is. The replica's clock and
// pg_last_xact_replay_timestamp do not tell, since an idle primary looks like a replica
// that hangs.
type walHistory struct {
	mu   sync.Mutex
	seen []walPosition // the oldest first
}

type walPosition struct {
	at   int64
	when time.Time
}

const maxPositions = 1024

func (p *walHistory) add(at int64, when time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if n := len(p.seen); n > 0 && p.seen[n-1].at >= at {
		if p.seen[n-1].at == at {
			return // nothing was written in between
		}
		p.seen = p.seen[:0] // another primary, which is behind
	}
	if len(p.seen) == maxPositions {
		p.seen = append(p.seen[:0], p.seen[maxPositions/2:]...)
	}
	p.seen = append(p.seen, walPosition{at, when})
}

// lagBehind returns how long ago the primary was first read to be beyond at; zero if it was not.
func (p *walHistory) lagBehind(at int64, now time.Time) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range p.seen {
		if s.at > at {
			return now.Sub(s.when)
		}
	}
	return 0
}
