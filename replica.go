package pgcmd

import (
	"context"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"go.uber.org/zap"

	"github.com/pgcmd/pgcmd/internal/connpool"
	"github.com/pgcmd/pgcmd/internal/multiplex"
)

// A replica is a standby that read-only commands may run on.
type replica struct {
	number  int
	pool    *pgxpool.Pool
	tracker *connpool.Tracker
	mux     *multiplex.Mux // nil without Config.Multiplex
	state   atomic.Pointer[replicaState]
}

// replicaState is the result of the last poll.
type replicaState struct {
	healthy bool
	reason  string        // why it is not healthy
	lag     time.Duration // behind the primary, at the last poll
	at      int64         // bytes of WAL that it has replayed
}

type primaryKey struct{}

// ReadYourWrites returns a context whose commands all run on the primary, also those
// that are ReadOnly: a caller that has just written reads what it wrote. It waits for
// nothing, as it would if a replica had to replay up to the caller's position.
func ReadYourWrites(ctx context.Context) context.Context {
	return context.WithValue(ctx, primaryKey{}, true)
}

// acquireReplica acquires a connection of a healthy replica, or returns nil: then the
// primary is used.
func (p *Pool) acquireReplica(ctx context.Context, command *string) *pgxpool.Conn {
	if ctx.Value(primaryKey{}) != nil {
		return nil
	}
	for range p.replicas {
		r := p.pickReplica()
		if r == nil {
			return nil
		}
		conn, err := p.acquirer.AcquireWithin(ctx, r.pool, command, replicaTime)
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
	// replicaTime is the timeout for a connection of a replica, before the primary is used.
	replicaTime = 500 * time.Millisecond
	// pollEvery is the interval between polls of the replicas.
	pollEvery = 500 * time.Millisecond
)

// pickReplica returns a healthy replica, chosen at random, or nil.
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

// markUnhealthy excludes a replica until a poll finds it healthy again.
func (p *Pool) markUnhealthy(r *replica, why string) {
	p.setState(r, replicaState{reason: why})
}

// setState sets the state of a replica, and logs a change of its health.
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

// pollLoop polls the replicas until the pool is closed.
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

// pollReplicas computes the lag of each replica: it compares the WAL position that the
// replica has replayed with the recorded positions of the primary.
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
