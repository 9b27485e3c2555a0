// Package replica keeps which standbys of a primary may be read from, and how far they are
// behind it. It does not know commands, nor when one may run on a standby.
package replica

import (
	"context"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pgcmd/pgcmd/internal/connpool"
	"github.com/pgcmd/pgcmd/internal/logging"
	"github.com/pgcmd/pgcmd/internal/multiplex"
)

// A Replica is a standby.
type Replica struct {
	Pool    *pgxpool.Pool // made by connpool
	Tracker *connpool.Tracker
	Mux     *multiplex.Mux // nil: none

	number int
	state  atomic.Pointer[State]
}

// A State is the result of the last poll.
type State struct {
	Healthy bool
	Reason  string        // why it is not healthy
	Lag     time.Duration // behind the primary, at the last poll
}

// State returns the state of the replica.
func (r *Replica) State() State {
	if state := r.state.Load(); state != nil {
		return *state
	}
	return State{Reason: "it was not checked yet"}
}

const (
	// AcquireTimeout is the timeout for a connection of a replica.
	AcquireTimeout = 500 * time.Millisecond
	// pollEvery is the interval between polls of the replicas.
	pollEvery = 500 * time.Millisecond
)

// A Set is the replicas of a primary. An empty one is not polled.
type Set struct {
	All []*Replica

	primary *pgxpool.Pool
	maxLag  time.Duration
	logger  logging.Logger
	history walHistory // of the primary
}

// NewSet makes a Set of no replicas. One that is more than maxLag behind is not healthy.
func NewSet(primary *pgxpool.Pool, maxLag time.Duration, logger logging.Logger) *Set {
	return &Set{primary: primary, maxLag: maxLag, logger: logger}
}

// Add adds a replica, which is not healthy before it is polled.
func (s *Set) Add(r *Replica) {
	r.number = len(s.All)
	s.All = append(s.All, r)
}

// Pick returns a healthy replica, chosen at random, or nil.
func (s *Set) Pick() *Replica {
	if len(s.All) == 0 {
		return nil
	}
	start := rand.N(len(s.All))
	for i := range s.All {
		r := s.All[(start+i)%len(s.All)]
		if state := r.state.Load(); state != nil && state.Healthy {
			return r
		}
	}
	return nil
}

// Acquire acquires a connection of a healthy replica for one command, or returns nil if none
// has one.
func (s *Set) Acquire(ctx context.Context, a *connpool.Acquirer, command *string) *pgxpool.Conn {
	for range s.All {
		r := s.Pick()
		if r == nil {
			return nil
		}
		conn, err := a.AcquireWithin(ctx, r.Pool, command, AcquireTimeout)
		if err == nil {
			return conn
		}
		if ctx.Err() != nil {
			return nil
		}
		if stat := r.Pool.Stat(); stat.AcquiredConns() == stat.MaxConns() {
			return nil // it is busy, not down
		}
		s.MarkUnconnectable(r)
	}
	return nil
}

// MarkUnconnectable excludes a replica, to which no connection could be made, until a poll
// finds it healthy again.
func (s *Set) MarkUnconnectable(r *Replica) {
	s.setState(r, State{Reason: "no connection could be made"})
}

// setState sets the state of a replica, and logs a change of its health.
func (s *Set) setState(r *Replica, now State) {
	before := r.state.Swap(&now)
	switch {
	case before != nil && before.Healthy == now.Healthy:
	case now.Healthy:
		logging.Info(s.logger, "a replica is in use", logging.Int("replica", r.number), logging.Duration("lag", now.Lag))
	default:
		logging.Warn(s.logger, "a replica is left out", logging.Int("replica", r.number), logging.String("reason", now.Reason), logging.Duration("lag", now.Lag))
	}
}

// PollUntil polls the replicas until stop is closed.
func (s *Set) PollUntil(stop <-chan struct{}) {
	ticker := time.NewTicker(pollEvery)
	defer ticker.Stop()
	for {
		select {
		case <-stop:
			return
		case <-ticker.C:
			s.Poll(context.Background())
		}
	}
}

// Poll computes the lag of each replica: it compares the WAL position that the replica has
// replayed with the recorded positions of the primary.
func (s *Set) Poll(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 2*pollEvery)
	defer cancel()
	var at int64
	if err := s.primary.QueryRow(ctx, `select (pg_current_wal_lsn() - '0/0'::pg_lsn)::int8`).Scan(&at); err == nil {
		s.history.add(at, time.Now())
	}
	done := make(chan struct{})
	for _, r := range s.All {
		go func() {
			s.setState(r, s.poll(ctx, r))
			done <- struct{}{}
		}()
	}
	for range s.All {
		<-done
	}
}

func (s *Set) poll(ctx context.Context, r *Replica) State {
	var recovering bool
	var at int64
	err := r.Pool.QueryRow(ctx, `select pg_is_in_recovery(), coalesce(pg_last_wal_replay_lsn() - '0/0'::pg_lsn, 0)::int8`).Scan(&recovering, &at)
	if err != nil {
		return State{Reason: "it does not answer"}
	}
	if !recovering {
		return State{Reason: "it is no standby any more"}
	}
	lag := s.history.lagBehind(at, time.Now())
	if lag > s.maxLag {
		return State{Reason: "it is too far behind", Lag: lag}
	}
	return State{Healthy: true, Lag: lag}
}
