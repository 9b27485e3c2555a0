package connpool

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pgcmd/pgcmd/internal/retry"
	"github.com/pgcmd/pgcmd/internal/sqlstate"
)

// An Acquirer acquires connections of one pgxpool for commands, in the order in which they
// come. The pool's connections are made by [Instrument], with a Tracker.
type Acquirer struct {
	pool      *pgxpool.Pool
	semaphore semaphore
	deadline  atomic.Pointer[sharedDeadline] // of the acquires that wait for an idle connection
}

// NewAcquirer makes an Acquirer. A timeout that is not positive means none.
func NewAcquirer(pool *pgxpool.Pool, t *Tracker, timeout time.Duration) *Acquirer {
	return &Acquirer{pool: pool, semaphore: semaphore{tracker: t, size: int(pool.Config().MaxConns), timeout: timeout}}
}

// An AcquireError says why no connection was acquired.
type AcquireError struct {
	Err      error // of the context or of pgx
	TimedOut bool  // because the Acquirer's timeout passed
}

// Acquire acquires a connection for one command, which [Release] gives back. It waits for a
// server that is starting up.
func (a *Acquirer) Acquire(ctx context.Context, command *string) (*pgxpool.Conn, *AcquireError) {
	waited, err := a.semaphore.acquire(ctx)
	switch {
	case err == errTimeout:
		return nil, &AcquireError{Err: context.DeadlineExceeded, TimedOut: true}
	case err != nil:
		return nil, &AcquireError{Err: err}
	}
	conn, failure := a.acquireSlot(ctx, waited)
	if failure != nil {
		return nil, failure
	}
	if c := markAcquired(conn, command); c != nil {
		c.semaphore = &a.semaphore
	} else {
		a.semaphore.release() // the connection cannot keep the slot
	}
	return conn, nil
}

// acquireSlot acquires a connection for a caller that has a slot of the semaphore and has
// waited for it. On an error the slot is released.
func (a *Acquirer) acquireSlot(ctx context.Context, waited time.Duration) (conn *pgxpool.Conn, failure *AcquireError) {
	defer func() {
		if conn == nil { // or a method of the caller's context panicked
			a.semaphore.release()
		}
	}()
	conn, err := a.currentDeadline().acquire(ctx, a.pool, a.semaphore.timeout)
	if err != nil {
		conn, failure = a.acquireAgain(ctx, waited, err)
	}
	return conn, failure
}

// acquireAgain acquires a connection after none was idle, or after err.
func (a *Acquirer) acquireAgain(ctx context.Context, waited time.Duration, err error) (*pgxpool.Conn, *AcquireError) {
	if a.semaphore.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, a.semaphore.timeout-waited)
		defer cancel()
	}
	conn, err := acquireRetrying(ctx, a.pool, err)
	if err != nil {
		return nil, &AcquireError{Err: err, TimedOut: errors.Is(ctx.Err(), context.DeadlineExceeded)}
	}
	return conn, nil
}

// AcquireWithin acquires a connection of another pool, made as that of the Acquirer, for one
// command. It waits for the timeout at most.
func (a *Acquirer) AcquireWithin(ctx context.Context, pool *pgxpool.Pool, command *string, timeout time.Duration) (*pgxpool.Conn, error) {
	conn, err := a.currentDeadline().acquire(ctx, pool, timeout)
	if err == errNoIdleConn {
		ctx, cancel := context.WithTimeout(ctx, timeout)
		conn, err = pool.Acquire(ctx)
		cancel()
	}
	if err != nil {
		return nil, err
	}
	markAcquired(conn, command)
	return conn, nil
}

// Stats returns how many acquires have waited for a slot, and for how long: pgxpool does not
// count them.
func (a *Acquirer) Stats() (waits int64, waited time.Duration) { return a.semaphore.stats() }

// acquireRetrying acquires a connection after none was idle, or after err: it waits for a
// server that is starting up.
func acquireRetrying(ctx context.Context, pool *pgxpool.Pool, err error) (conn *pgxpool.Conn, _ error) {
	var starting error
	for err == errNoIdleConn || IsStartingUp(err) && retry.Sleep(ctx, StartingUpPause) {
		if conn, err = pool.Acquire(ctx); IsStartingUp(err) {
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
// everything else that an acquire does. Until then the caller's cancellation is not seen,
// and no connection is made.
const fastAcquireTimeout = 20 * time.Millisecond

// errNoIdleConn means that no connection became idle in that time.
var errNoIdleConn = errors.New("pgcmd: no connection is idle")

// fastAcquireKey marks the context of an acquire for which no connection is made.
type fastAcquireKey struct{}

// idleConnsOnly keeps a pool from making a connection for an acquire of an Acquirer that
// waits for an idle one.
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
func (a *Acquirer) currentDeadline() *sharedDeadline {
	if d := a.deadline.Load(); d != nil {
		return d
	}
	d := &sharedDeadline{from: time.Now(), expired: make(chan struct{})}
	a.deadline.Store(d)
	time.AfterFunc(fastAcquireTimeout/2, func() {
		a.deadline.CompareAndSwap(d, nil)
		time.AfterFunc(fastAcquireTimeout/2, func() { close(d.expired) })
	})
	return d
}

// acquire acquires an idle connection of pool. It returns errNoIdleConn if there was none
// before the deadline, or if the caller's own deadline is sooner.
func (d *sharedDeadline) acquire(ctx context.Context, pool *pgxpool.Pool, timeout time.Duration) (*pgxpool.Conn, error) {
	if deadline, ok := ctx.Deadline(); timeout > 0 && timeout <= fastAcquireTimeout || ok && deadline.Sub(d.from) <= 2*fastAcquireTimeout {
		return nil, errNoIdleConn
	}
	conn, err := pool.Acquire(fastAcquireContext{ctx, d})
	if err != nil && (d.isExpired() || errors.Is(err, errNoIdleConn)) {
		return nil, errNoIdleConn
	}
	return conn, err
}

func (d *sharedDeadline) isExpired() bool {
	select {
	case <-d.expired:
		return true
	default:
		return false
	}
}

// fastAcquireContext has the values of the caller's context and the shared deadline.
type fastAcquireContext struct {
	caller   context.Context
	deadline *sharedDeadline
}

func (c fastAcquireContext) Deadline() (time.Time, bool) {
	return c.deadline.from.Add(fastAcquireTimeout), true
}
func (c fastAcquireContext) Done() <-chan struct{} { return c.deadline.expired }
func (c fastAcquireContext) Err() error {
	if c.deadline.isExpired() {
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

// StartingUpPause is the pause between attempts to connect to a server that is starting up.
const StartingUpPause = 20 * time.Millisecond

// IsStartingUp reports whether another attempt to connect may succeed: the server is starting
// up, or the connection was terminated while it was made.
func IsStartingUp(err error) bool {
	pgErr, ok := errors.AsType[*pgconn.PgError](err)
	return ok && (pgErr.Code == sqlstate.CannotConnectNow || pgErr.Code == sqlstate.AdminShutdown || pgErr.Code == sqlstate.CrashShutdown)
}

// markAcquired records the command that holds the connection in its Conn, which it returns.
func markAcquired(conn *pgxpool.Conn, command *string) *Conn {
	c := Of(conn.Conn())
	if c != nil {
		c.markAcquired(command)
	}
	return c
}

// Release gives a connection back, and then the slot that it was acquired with, if it has
// one. c is its Conn.
func Release(conn *pgxpool.Conn, c *Conn) {
	if c != nil {
		if s := c.semaphore; s != nil {
			c.semaphore = nil
			defer s.release()
		}
		c.markReleased()
	}
	if conn.Conn().IsClosed() {
		// Released, a dead connection would keep its place in the pool for as long as pgx
		// takes to terminate it: 15 seconds, if there is no answer.
		conn.Hijack()
		return
	}
	conn.Release()
}
