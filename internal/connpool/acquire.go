package connpool

import (
	"context"
	"errors"
	"time"

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
}

// NewAcquirer makes an Acquirer. A timeout that is not positive means none.
func NewAcquirer(pool *pgxpool.Pool, t *Tracker, timeout time.Duration) *Acquirer {
	return &Acquirer{pool: pool, semaphore: semaphore{tracker: t, size: int(pool.Config().MaxConns), timeout: timeout, handsOff: !t.hasHooks}}
}

// An AcquireError says why no connection was acquired.
type AcquireError struct {
	Err      error // of the context or of pgx
	TimedOut bool  // because the Acquirer's timeout passed
}

// Acquire acquires a connection for one command, which [Release] gives back. It waits for a
// server that is starting up.
func (a *Acquirer) Acquire(ctx context.Context, command *string) (*pgxpool.Conn, *AcquireError) {
	conn, waited, err := a.semaphore.acquire(ctx)
	switch {
	case err == errTimeout:
		return nil, &AcquireError{Err: context.DeadlineExceeded, TimedOut: true}
	case err != nil:
		return nil, &AcquireError{Err: err}
	}
	if conn != nil {
		markAcquired(conn, command).semaphore = &a.semaphore
		return conn, nil
	}
	conn, failure := a.acquireSlot(ctx, waited)
	if failure != nil {
		return nil, failure
	}
	if c := markAcquired(conn, command); c != nil {
		c.semaphore, c.handOffs = &a.semaphore, 0
	} else {
		a.semaphore.releaseSlot() // the connection cannot keep the slot
	}
	return conn, nil
}

// acquireSlot acquires a connection for a caller that has a slot of the semaphore and has
// waited for it. On an error the slot is released.
func (a *Acquirer) acquireSlot(ctx context.Context, waited time.Duration) (conn *pgxpool.Conn, failure *AcquireError) {
	defer func() {
		if conn == nil { // or a method of the caller's context panicked
			a.semaphore.releaseSlot()
		}
	}()
	if timeout := a.semaphore.timeout; timeout > 0 {
		limited := withLazyTimeout(ctx, timeout-waited)
		defer limited.cancel()
		ctx = limited
	}
	conn, err := acquireRetrying(ctx, a.pool)
	if err != nil {
		return nil, &AcquireError{Err: err, TimedOut: errors.Is(ctx.Err(), context.DeadlineExceeded)}
	}
	return conn, nil
}

// AcquireWithin acquires a connection of another pool, made as that of the Acquirer, for one
// command. It waits for the timeout at most.
func (a *Acquirer) AcquireWithin(ctx context.Context, pool *pgxpool.Pool, command *string, timeout time.Duration) (*pgxpool.Conn, error) {
	limited := withLazyTimeout(ctx, timeout)
	defer limited.cancel()
	conn, err := pool.Acquire(limited)
	if err != nil {
		return nil, err
	}
	markAcquired(conn, command)
	return conn, nil
}

// Stats returns what the Acquirer has counted.
func (a *Acquirer) Stats() SemaphoreStats {
	a.semaphore.mu.Lock()
	defer a.semaphore.mu.Unlock()
	return a.semaphore.stats
}

// acquireRetrying acquires a connection; it waits for a server that is starting up.
func acquireRetrying(ctx context.Context, pool *pgxpool.Pool) (*pgxpool.Conn, error) {
	conn, err := pool.Acquire(ctx)
	for starting := err; IsStartingUp(err) && retry.Sleep(ctx, StartingUpPause); {
		if conn, err = pool.Acquire(ctx); err != nil && ctx.Err() != nil {
			err = starting // the reason
		}
	}
	return conn, err
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

// Release gives a connection back: to the next command that waits for one, or to its pgxpool.
// c is its Conn.
func Release(conn *pgxpool.Conn, c *Conn) {
	if c == nil || c.semaphore == nil {
		release(conn, c)
		return
	}
	s := c.semaphore
	c.semaphore = nil
	s.release(conn)
}

// release gives a connection back to its pgxpool. c is its Conn.
func release(conn *pgxpool.Conn, c *Conn) {
	if c != nil {
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
