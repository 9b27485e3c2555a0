package pgcmd

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// acquire takes a connection for one command.
func acquire(ctx context.Context, pool *pgxpool.Pool) (*pgxpool.Conn, *Error) {
	// Taking it ourselves tells a failure to get one, when nothing was sent, from
	// all others.
	if e := nested(ctx, pool); e != nil {
		return nil, e
	}
	conn, err := pool.Acquire(ctx)
	if err != nil {
		return nil, notAcquired(ctx, pool, nil, err)
	}
	return conn, nil
}

// nested refuses to wait for a connection while holding one of the same pool.
func nested(ctx context.Context, pool *pgxpool.Pool) *Error {
	if s, _ := ctx.Value(txKey{}).(*session); s != nil && s.pool == pool && !s.over.Load() {
		return &Error{Code: CodeNestedAcquire, Effect: NotApplied,
			Message: "it was run on the pool from within a transaction on the same pool, which under load waits for itself: run it on the transaction, or with pgcmd.OutsideTx(ctx)"}
	}
	return nil
}

// take takes a connection for one command: of a replica, if it is read-only and one
// is fit.
func (p *Pool) take(ctx context.Context, command *string, readOnly bool) (*pgxpool.Conn, *Error) {
	if e := nested(ctx, p.Pool); e != nil {
		return nil, e
	}
	now := time.Now()
	if readOnly && len(p.replicas) > 0 {
		if conn := p.takeReplica(ctx, now); conn != nil {
			hold(conn, command, now)
			return conn, nil
		}
	}
	timeout := orDefault(p.config.AcquireTimeout, defaultAcquireTimeout)
	conn, err := p.acquireSoon(ctx, p.Pool, timeout, now)
	if err != nil {
		waiting := ctx
		if timeout > 0 {
			var cancel context.CancelFunc
			waiting, cancel = context.WithDeadline(ctx, now.Add(timeout))
			defer cancel()
		}
		if conn, err = p.acquirePatiently(waiting, err); err != nil {
			return nil, notAcquired(waiting, p.Pool, p.keeper, err)
		}
		now = time.Now()
	}
	hold(conn, command, now)
	return conn, nil
}

// acquirePatiently takes a connection after one did not come soon, or was refused with
// err: a server that is starting up is worth waiting for.
func (p *Pool) acquirePatiently(ctx context.Context, err error) (conn *pgxpool.Conn, _ error) {
	var starting error
	for err == errNotSoon || startingUp(err) && pause(ctx, startingUpPause) {
		if conn, err = p.Acquire(ctx); startingUp(err) {
			starting = err
		}
	}
	if err != nil && starting != nil && ctx.Err() != nil {
		err = starting // that is why none came
	}
	return conn, err
}

// soon is how long a command waits for a connection before it has a timer of its own
// made: most get one at once, and a context with a deadline costs more than all else
// that a Pool does for a run. Until then it does not see its caller give up, and no
// connection is made for it.
const soon = 20 * time.Millisecond

// errNotSoon says that a connection has to be waited for.
var errNotSoon = errors.New("pgcmd: no connection came soon")

// soonKey marks the context of who wants a connection that is there.
type soonKey struct{}

// onlyWhatIsThere keeps a pool from making a connection for who does not wait for it.
func onlyWhatIsThere(cfg *pgxpool.Config) {
	hook := cfg.BeforeConnect
	cfg.BeforeConnect = func(ctx context.Context, cc *pgx.ConnConfig) error {
		switch {
		case ctx.Value(soonKey{}) != nil:
			return errNotSoon
		case hook != nil:
			return hook(ctx, cc)
		}
		return nil
	}
}

// acquireSoon takes a connection of pool, or returns errNotSoon if there was none
// within the time that all who come within a few milliseconds share a timer for.
func (p *Pool) acquireSoon(ctx context.Context, pool *pgxpool.Pool, timeout time.Duration, now time.Time) (*pgxpool.Conn, error) {
	if deadline, ok := ctx.Deadline(); timeout > 0 && timeout <= soon || ok && deadline.Sub(now) <= soon {
		return nil, errNotSoon
	}
	end := p.ending.Load()
	if end == nil || now.Sub(end.from) > soon/2 {
		shared, cancel := context.WithTimeout(context.Background(), soon)
		context.AfterFunc(shared, cancel)
		end = &ending{shared, now}
		p.ending.Store(end)
	}
	conn, err := pool.Acquire(soonContext{ctx, end.shared})
	if err != nil && (end.shared.Err() != nil || errors.Is(err, errNotSoon)) {
		return nil, errNotSoon
	}
	return conn, err
}

// An ending is a context that many share, and from when.
type ending struct {
	shared context.Context
	from   time.Time
}

// soonContext has the values of the caller's context, and the end of one that is shared.
type soonContext struct{ caller, shared context.Context }

func (c soonContext) Deadline() (time.Time, bool) { return c.shared.Deadline() }
func (c soonContext) Done() <-chan struct{}       { return c.shared.Done() }
func (c soonContext) Err() error                  { return c.shared.Err() }
func (c soonContext) Value(key any) any {
	if key == (soonKey{}) {
		return true
	}
	return c.caller.Value(key)
}

// A server that is starting up says so, and is worth waiting for.
const startingUpPause = 20 * time.Millisecond

func startingUp(err error) bool {
	pgErr, ok := errors.AsType[*pgconn.PgError](err)
	return ok && pgErr.Code == "57P03"
}

// pause waits, and reports whether the context is still alive.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

func hold(conn *pgxpool.Conn, command *string, now time.Time) {
	if w := wireOf(conn.Conn()); w != nil {
		w.hold(command, now)
	}
}

// release gives a connection back.
func release(conn *pgxpool.Conn) {
	c := conn.Conn()
	if w := wireOf(c); w != nil {
		w.let()
	}
	if c.IsClosed() {
		// Released, a dead connection would hold its place in the pool for as long as
		// pgx takes to say goodbye to it: 15 seconds, if nobody answers.
		conn.Hijack()
		return
	}
	conn.Release()
}
