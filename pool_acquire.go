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
	// Acquired here and not by pgxpool's Query, so that an error of acquiring, when nothing
	// was sent, is told from all others.
	if e := nested(ctx, pool); e != nil {
		return nil, e
	}
	conn, err := pool.Acquire(ctx)
	if err != nil {
		return nil, newAcquireError(ctx, pool, nil, err)
	}
	return conn, nil
}

// errPoolClosed is the cause of an error of a pool that is closed.
var errPoolClosed = errors.New("pgcmd: the pool is closed")

const msgPoolClosed = "no connection available: the pool is closed"

func poolClosed() *Error {
	return &Error{Code: CodeUnavailable, Effect: NotApplied, Err: errPoolClosed, Message: msgPoolClosed}
}

// isPoolClosed reports whether err is of a pool that was closed: of puddle's, whose
// error pgxpool passes on, or of ours.
func isPoolClosed(err error) bool {
	return err != nil && (errors.Is(err, errPoolClosed) || err.Error() == "closed pool")
}

// nested refuses to wait for a connection while holding one of the same pool.
func nested(ctx context.Context, pool *pgxpool.Pool) *Error {
	if s, _ := ctx.Value(txKey{}).(*txn); s != nil && s.pool == pool && !s.closed.Load() {
		return &Error{Code: CodeNestedAcquire, Effect: NotApplied,
			Message: "it was run on the pool from within a transaction on the same pool, which under load waits for itself: run it on the transaction, or with pgcmd.OutsideTx(ctx)"}
	}
	return nil
}

// acquireFor takes a connection for one command: of a replica, if it is read-only and one
// is healthy.
func (p *Pool) acquireFor(ctx context.Context, command *string, readOnly bool) (*pgxpool.Conn, *Error) {
	if e := nested(ctx, p.Pool); e != nil {
		return nil, e
	}
	if p.closed.Load() {
		return nil, poolClosed()
	}
	if readOnly && len(p.replicas) > 0 {
		if conn := p.takeReplica(ctx); conn != nil {
			markAcquired(conn, command)
			return conn, nil
		}
	}
	conn, waited, err := p.sem.acquire(ctx)
	if err != nil {
		if err == errLate {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(ctx, 0)
			defer cancel()
			err = context.DeadlineExceeded
		}
		return nil, newAcquireError(ctx, p.Pool, p.tracker, err)
	}
	handed := conn != nil
	if !handed {
		var failure *Error
		if conn, failure = p.acquireSlot(ctx, waited); failure != nil {
			return nil, failure
		}
	}
	w := markAcquired(conn, command)
	switch {
	case w == nil: // the connection cannot keep the slot
		p.sem.release(nil)
	case handed:
		w.place, w.handed = p.sem, w.handed+1
	default:
		w.place, w.handed = p.sem, 0
	}
	return conn, nil
}

// acquireSlot acquires a connection of pgxpool for a caller that has a slot of the
// semaphore and has waited for it. On an error the slot is released.
func (p *Pool) acquireSlot(ctx context.Context, waited time.Duration) (conn *pgxpool.Conn, failure *Error) {
	defer func() {
		if conn == nil { // or a method of the caller's context panicked
			p.sem.release(nil)
		}
	}()
	timeout := p.sem.timeout
	conn, err := p.currentDeadline().acquire(ctx, p.Pool, timeout)
	if err == nil {
		return conn, nil
	}
	if timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, timeout-waited)
		defer cancel()
	}
	if conn, err = p.acquireRetrying(ctx, err); err != nil {
		return nil, newAcquireError(ctx, p.Pool, p.tracker, err)
	}
	return conn, nil
}

// acquireRetrying acquires a connection after none was idle, or after err: it waits for a
// server that is starting up.
func (p *Pool) acquireRetrying(ctx context.Context, err error) (conn *pgxpool.Conn, _ error) {
	var starting error
	for err == errNoIdleConn || isStartingUp(err) && sleep(ctx, startingUpPause) {
		if conn, err = p.Acquire(ctx); isStartingUp(err) {
			starting = err
		}
	}
	if err != nil && starting != nil && ctx.Err() != nil {
		err = starting // the reason
	}
	return conn, err
}

// fastAcquireTimeout is how long a command waits for an idle connection before it gets a
// timer of its own: most get one at once, and a context with a deadline costs more than
// all else that a Pool does for a run. Until then the caller's cancellation is not seen,
// and no connection is made.
const fastAcquireTimeout = 20 * time.Millisecond

// errNoIdleConn means that no connection became idle in that time.
var errNoIdleConn = errors.New("pgcmd: no connection came soon")

// fastAcquireKey marks the context of an acquire for which no connection is made.
type fastAcquireKey struct{}

// idleConnsOnly keeps a pool from making a connection for such an acquire.
func idleConnsOnly(cfg *pgxpool.Config) {
	hook := cfg.BeforeConnect
	cfg.BeforeConnect = func(ctx context.Context, cc *pgx.ConnConfig) error {
		switch {
		case ctx.Value(fastAcquireKey{}) != nil:
			return errNoIdleConn
		case hook != nil:
			return hook(ctx, cc)
		}
		return nil
	}
}

// A sharedDeadline is shared by all acquires that start within fastAcquireTimeout/2, so that
// they need one timer.
type sharedDeadline struct {
	from    time.Time // when the first acquire started
	expired chan struct{}
}

// currentDeadline returns the deadline of an acquire that starts now.
func (p *Pool) currentDeadline() *sharedDeadline {
	if end := p.deadline.Load(); end != nil {
		return end
	}
	end := &sharedDeadline{from: time.Now(), expired: make(chan struct{})}
	p.deadline.Store(end)
	time.AfterFunc(fastAcquireTimeout/2, func() {
		p.deadline.CompareAndSwap(end, nil)
		time.AfterFunc(fastAcquireTimeout/2, func() { close(end.expired) })
	})
	return end
}

// acquire acquires an idle connection of pool. It returns errNoIdleConn if there was none
// before the deadline, or if the caller's own deadline is sooner.
func (e *sharedDeadline) acquire(ctx context.Context, pool *pgxpool.Pool, timeout time.Duration) (*pgxpool.Conn, error) {
	if deadline, ok := ctx.Deadline(); timeout > 0 && timeout <= fastAcquireTimeout || ok && deadline.Sub(e.from) <= 2*fastAcquireTimeout {
		return nil, errNoIdleConn
	}
	conn, err := pool.Acquire(fastAcquireContext{ctx, e})
	if err != nil && (e.isExpired() || errors.Is(err, errNoIdleConn)) {
		return nil, errNoIdleConn
	}
	return conn, err
}

func (e *sharedDeadline) isExpired() bool {
	select {
	case <-e.expired:
		return true
	default:
		return false
	}
}

// fastAcquireContext has the values of the caller's context and the shared deadline.
type fastAcquireContext struct {
	caller context.Context
	end    *sharedDeadline
}

func (c fastAcquireContext) Deadline() (time.Time, bool) {
	return c.end.from.Add(fastAcquireTimeout), true
}
func (c fastAcquireContext) Done() <-chan struct{} { return c.end.expired }
func (c fastAcquireContext) Err() error {
	if c.end.isExpired() {
		return context.DeadlineExceeded
	}
	return nil
}
func (c fastAcquireContext) Value(key any) any {
	if key == (fastAcquireKey{}) {
		return true
	}
	return c.caller.Value(key)
}

// startingUpPause is the pause between attempts to connect to a server that is starting up.
const startingUpPause = 20 * time.Millisecond

// isStartingUp reports whether another attempt to connect may succeed: the server is starting
// up, or the connection was terminated while it was made.
func isStartingUp(err error) bool {
	pgErr, ok := errors.AsType[*pgconn.PgError](err)
	return ok && (pgErr.Code == "57P03" || pgErr.Code == "57P01" || pgErr.Code == "57P02")
}

// sleep waits for d, and reports whether the context is not done.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// markAcquired records the command that holds the connection in its netConn, which it
// returns.
func markAcquired(conn *pgxpool.Conn, command *string) *netConn {
	w := netConnOf(conn.Conn())
	if w != nil {
		w.markAcquired(command)
	}
	return w
}

// release gives a connection back, or hands it to the next waiter. w is its netConn.
func release(conn *pgxpool.Conn, w *netConn) {
	if w == nil || w.place == nil {
		returnConn(conn, w)
		return
	}
	q := w.place
	w.place = nil
	q.release(conn)
}

// returnConn gives a connection back to its pgxpool. w is its netConn.
func returnConn(conn *pgxpool.Conn, w *netConn) {
	if w != nil {
		w.markReleased()
	}
	if conn.Conn().IsClosed() {
		// Released, a dead connection would keep its place in the pool for as long as pgx
		// takes to terminate it: 15 seconds, if there is no answer.
		conn.Hijack()
		return
	}
	conn.Release()
}
