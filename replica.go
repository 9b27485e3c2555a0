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
	number int
	pool   *pgxpool.Pool
	keeper *keeper
	mux    *mux // nil without Config.Multiplex
	state  atomic.Pointer[replicaState]
}

// replicaState is what the last look found.
type replicaState struct {
	fit bool
	why string        // it is not
	lag time.Duration // behind the primary, as of the last look
	at  int64         // bytes of WAL that it has replayed
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
		r := p.pick()
		if r == nil {
			return nil
		}
		conn, err := p.soonEnding().acquire(ctx, r.pool, replicaTime)
		if err == errNotSoon {
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
		p.leaveOut(r, "no connection could be made")
	}
	return nil
}

const (
	// replicaTime is how long a replica is waited for before the primary is taken.
	replicaTime = 500 * time.Millisecond
	// lookEvery is how often the replicas are looked at.
	lookEvery = 500 * time.Millisecond
)

// pick returns a replica that is fit, taken at random, or nil.
func (p *Pool) pick() *replica {
	start := rand.N(len(p.replicas))
	for i := range p.replicas {
		r := p.replicas[(start+i)%len(p.replicas)]
		if state := r.state.Load(); state != nil && state.fit {
			return r
		}
	}
	return nil
}

// leaveOut leaves a replica out until a look finds it fit again.
func (p *Pool) leaveOut(r *replica, why string) {
	p.judge(r, replicaState{why: why})
}

// judge takes what is known of a replica, and logs a change.
func (p *Pool) judge(r *replica, now replicaState) {
	before := r.state.Swap(&now)
	switch {
	case before != nil && before.fit == now.fit:
	case now.fit:
		p.logger().Info("a replica is in use", zap.Int("replica", r.number), zap.Duration("lag", now.lag))
	default:
		p.logger().Warn("a replica is left out", zap.Int("replica", r.number), zap.String("reason", now.why), zap.Duration("lag", now.lag))
	}
}

// follow looks at the replicas again and again, until the pool is closed.
func (p *Pool) follow() {
	ticker := time.NewTicker(lookEvery)
	defer ticker.Stop()
	for {
		select {
		case <-p.stop:
			return
		case <-ticker.C:
			p.look(context.Background())
		}
	}
}

// look finds out how far each replica is behind: it compares the position that it has
// replayed with the positions at which the primary was seen, and when.
func (p *Pool) look(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 2*lookEvery)
	defer cancel()
	var at int64
	if err := p.Pool.QueryRow(ctx, `select (pg_current_wal_lsn() - '0/0'::pg_lsn)::int8`).Scan(&at); err == nil {
		p.positions.add(at, time.Now())
	}
	done := make(chan struct{})
	for _, r := range p.replicas {
		go func() {
			p.judge(r, p.lookAt(ctx, r))
			done <- struct{}{}
		}()
	}
	for range p.replicas {
		<-done
	}
}

const replicaSQL = `select pg_is_in_recovery(), coalesce(pg_last_wal_replay_lsn() - '0/0'::pg_lsn, 0)::int8`

func (p *Pool) lookAt(ctx context.Context, r *replica) replicaState {
	var recovering bool
	var at int64
	if err := r.pool.QueryRow(ctx, replicaSQL).Scan(&recovering, &at); err != nil {
		return replicaState{why: "it does not answer"}
	}
	if !recovering {
		return replicaState{why: "it is no standby any more", at: at}
	}
	state := replicaState{at: at, lag: p.positions.age(at, time.Now())}
	if most := orDefault(p.config.MaxReplicaLag, defaultReplicaLag); state.lag > most {
		state.why = "it is too far behind"
		return state
	}
	state.fit = true
	return state
}
