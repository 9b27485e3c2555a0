package pgcmd

import (
	"context"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"go.uber.org/zap"
)

// A replica is a standby that read-only commands may go to.
type replica struct {
	number  int
	pool    *pgxpool.Pool
	tracker *tracker
	mux     *mux // nil without Config.Multiplex
	state   atomic.Pointer[replicaState]
}

// replicaState is what the last look found.
type replicaState struct {
	healthy bool
	reason  string        // it is not
	lag     time.Duration // behind the primary, as of the last look
	at      int64         // bytes of WAL that it has replayed
}

type primaryKey struct{}

// ReadYourWrites returns a context whose commands all go to the primary, also those
// that are ReadOnly: a caller that has just written sees it. Nothing is waited for, as
// it would be if the caller's position in the log were asked of a replica.
func ReadYourWrites(ctx context.Context) context.Context {
	return context.WithValue(ctx, primaryKey{}, true)
}

// takeReplica takes a connection of a replica that is fit, or returns nil: then the
// primary has to do.
func (p *Pool) takeReplica(ctx context.Context) *pgxpool.Conn {
	if ctx.Value(primaryKey{}) != nil {
		return nil
	}
	for range p.replicas {
		r := p.pickReplica()
		if r == nil {
			return nil
		}
		conn, err := p.currentDeadline().acquire(ctx, r.pool, replicaTime)
		if err == errNoIdleConn {
			waiting, cancel := context.WithTimeout(ctx, replicaTime)
			conn, err = r.pool.Acquire(waiting)
			cancel()
		}
		if err == nil {
			return conn
		}
		if ctx.Err() != nil {
			return nil
		}
		if r.pool.Stat().AcquiredConns() == r.pool.Stat().MaxConns() {
			return nil // it is busy, not down
		}
		p.markUnhealthy(r, "no connection could be made")
	}
	return nil
}

const (
	// replicaTime is how long a replica is waited for before the primary is taken.
	replicaTime = 500 * time.Millisecond
	// pollEvery is how often the replicas are looked at.
	pollEvery = 500 * time.Millisecond
)

// pickReplica returns a replica that is fit, taken at random, or nil.
func (p *Pool) pickReplica() *replica {
	start := rand.N(len(p.replicas))
	for i := range p.replicas {
		r := p.replicas[(start+i)%len(p.replicas)]
		if state := r.state.Load(); state != nil && state.healthy {
			return r
		}
	}
	return nil
}

// markUnhealthy leaves a replica out until a look finds it fit again.
func (p *Pool) markUnhealthy(r *replica, why string) {
	p.setState(r, replicaState{reason: why})
}

// setState takes what is known of a replica, and logs a change.
func (p *Pool) setState(r *replica, now replicaState) {
	before := r.state.Swap(&now)
	switch {
	case before != nil && before.healthy == now.healthy:
	case now.healthy:
		p.logger().Info("a replica is in use", zap.Int("replica", r.number), zap.Duration("lag", now.lag))
	default:
		p.logger().Warn("a replica is left out", zap.Int("replica", r.number), zap.String("reason", now.reason), zap.Duration("lag", now.lag))
	}
}

// pollLoop looks at the replicas again and again, until the pool is closed.
func (p *Pool) pollLoop() {
	ticker := time.NewTicker(pollEvery)
	defer ticker.Stop()
	for {
		select {
		case <-p.stop:
			return
		case <-ticker.C:
			p.pollReplicas(context.Background())
		}
	}
}

// pollReplicas finds out how far each replica is behind: it compares the position that it has
// replayed with the positions at which the primary was seen, and when.
func (p *Pool) pollReplicas(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 2*pollEvery)
	defer cancel()
	var at int64
	if err := p.Pool.QueryRow(ctx, `select (pg_current_wal_lsn() - '0/0'::pg_lsn)::int8`).Scan(&at); err == nil {
		p.walHistory.add(at, time.Now())
	}
	done := make(chan struct{})
	for _, r := range p.replicas {
		go func() {
			p.setState(r, p.pollReplica(ctx, r))
			done <- struct{}{}
		}()
	}
	for range p.replicas {
		<-done
	}
}

const replicaSQL = `select pg_is_in_recovery(), coalesce(pg_last_wal_replay_lsn() - '0/0'::pg_lsn, 0)::int8`

func (p *Pool) pollReplica(ctx context.Context, r *replica) replicaState {
	var recovering bool
	var at int64
	if err := r.pool.QueryRow(ctx, replicaSQL).Scan(&recovering, &at); err != nil {
		return replicaState{reason: "it does not answer"}
	}
	if !recovering {
		return replicaState{reason: "it is no standby any more", at: at}
	}
	state := replicaState{at: at, lag: p.walHistory.lagBehind(at, time.Now())}
	if most := orDefault(p.config.MaxReplicaLag, defaultReplicaLag); state.lag > most {
		state.reason = "it is too far behind"
		return state
	}
	state.healthy = true
	return state
}
