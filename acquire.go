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
// is fit.
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
	case w == nil: // the place cannot be kept with it
		p.sem.release(nil)
	case handed:
		w.place, w.handed = p.sem, w.handed+1
	default:
		w.place, w.handed = p.sem, 0
	}
	return conn, nil
}

// acquireSlot takes a connection of pgxpool's, for one who has a place in the queue, and has
// waited for it. Without one the place is given back.
func (p *Pool) acquireSlot(ctx context.Context, waited time.Duration) (conn *pgxpool.Conn, failure *Error) {
	defer func() {
		if conn == nil { // or a hook of the caller's context panicked
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

// acquireRetrying takes a connection after one did not come soon, or was refused with
// err: a server that is starting up is worth waiting for.
func (p *Pool) acquireRetrying(ctx context.Context, err error) (conn *pgxpool.Conn, _ error) {
	var starting error
	for err == errNoIdleConn || isStartingUp(err) && sleep(ctx, startingUpPause) {
		if conn, err = p.Acquire(ctx); isStartingUp(err) {
			starting = err
		}
	}
	if err != nil && starting != nil && ctx.Err() != nil {
		err = starting // that is why none came
	}
	return conn, err
}

// fastAcquireTimeout is how long a command waits for a connection before it has a timer of its own
// made: most get one at once, and a context with a deadline costs more than all else
// that a Pool does for a run. Until then it does not see its caller give up, and no
// connection is made for it.
const fastAcquireTimeout = 20 * time.Millisecond

// errNoIdleConn says that a connection has to be waited for.
var errNoIdleConn = errors.New("pgcmd: no connection came soon")

// fastAcquireKey marks the context of who wants a connection that is there.
type fastAcquireKey struct{}

// idleConnsOnly keeps a pool from making a connection for who does not wait for it.
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

// An ending is the end of the wait of all who come within soon/2, and share a timer.
type sharedDeadline struct {
	from    time.Time // when the first came
	expired chan struct{}
}

// currentDeadline is the ending for one who comes now.
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

// acquire takes a connection of pool, or returns errNotSoon if there was none before
// the end, or if there is less time than that.
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

// fastAcquireContext has the values of the caller's context, and the end of one that is shared.
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

// startingUpPause is how long to wait before a server is asked again that comesUp.
const startingUpPause = 20 * time.Millisecond

// isStartingUp reports whether a server that gave no connection is worth asking again: it is
// starting up, or the connection was ended while it was made, by somebody or with all others.
func isStartingUp(err error) bool {
	pgErr, ok := errors.AsType[*pgconn.PgError](err)
	return ok && (pgErr.Code == "57P03" || pgErr.Code == "57P01" || pgErr.Code == "57P02")
}

// sleep waits, and reports whether the context is still alive.
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

// markAcquired notes who has taken the connection, on its wire, which it returns.
func markAcquired(conn *pgxpool.Conn, command *string) *netConn {
	w := netConnOf(conn.Conn())
	if w != nil {
		w.markAcquired(command)
	}
	return w
}

// release gives a connection, whose wire w is, back, or hands it to the next in the
// queue.
func release(conn *pgxpool.Conn, w *netConn) {
	if w == nil || w.place == nil {
		returnConn(conn, w)
		return
	}
	q := w.place
	w.place = nil
	q.release(conn)
}

// returnConn gives a connection, whose wire w is, back to its pgxpool.
func returnConn(conn *pgxpool.Conn, w *netConn) {
	if w != nil {
		w.markReleased()
	}
	if conn.Conn().IsClosed() {
		// Released, a dead connection would hold its place in the pool for as long as
		// pgx takes to say goodbye to it: 15 seconds, if nobody answers.
		conn.Hijack()
		return
	}
	conn.Release()
}
