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

// errPoolClosed is the cause of an error of a pool that is closed.
var errPoolClosed = errors.New("pgcmd: the pool is closed")

const poolClosedText = "no connection available: the pool is closed"

func poolClosed() *Error {
	return &Error{Code: CodeUnavailable, Effect: NotApplied, Err: errPoolClosed, Message: poolClosedText}
}

// isPoolClosed reports whether err is of a pool that was closed: of puddle's, whose
// error pgxpool passes on, or of ours.
func isPoolClosed(err error) bool {
	return err != nil && (errors.Is(err, errPoolClosed) || err.Error() == "closed pool")
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
	if p.closed.Load() {
		return nil, poolClosed()
	}
	if readOnly && len(p.replicas) > 0 {
		if conn := p.takeReplica(ctx); conn != nil {
			hold(conn, command)
			return conn, nil
		}
	}
	conn, waited, err := p.queue.enter(ctx)
	if err != nil {
		if err == errLate {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(ctx, 0)
			defer cancel()
			err = context.DeadlineExceeded
		}
		return nil, notAcquired(ctx, p.Pool, p.keeper, err)
	}
	handed := conn != nil
	if !handed {
		var failure *Error
		if conn, failure = p.draw(ctx, waited); failure != nil {
			return nil, failure
		}
	}
	w := hold(conn, command)
	switch {
	case w == nil: // the place cannot be kept with it
		p.queue.leave(nil)
	case handed:
		w.place, w.handed = p.queue, w.handed+1
	default:
		w.place, w.handed = p.queue, 0
	}
	return conn, nil
}

// draw takes a connection of pgxpool's, for one who has a place in the queue, and has
// waited for it. Without one the place is given back.
func (p *Pool) draw(ctx context.Context, waited time.Duration) (conn *pgxpool.Conn, failure *Error) {
	defer func() {
		if conn == nil { // or a hook of the caller's context panicked
			p.queue.leave(nil)
		}
	}()
	timeout := p.queue.patience
	conn, err := p.soonEnding().acquire(ctx, p.Pool, timeout)
	if err == nil {
		return conn, nil
	}
	if timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, timeout-waited)
		defer cancel()
	}
	if conn, err = p.acquirePatiently(ctx, err); err != nil {
		return nil, notAcquired(ctx, p.Pool, p.keeper, err)
	}
	return conn, nil
}

// acquirePatiently takes a connection after one did not come soon, or was refused with
// err: a server that is starting up is worth waiting for.
func (p *Pool) acquirePatiently(ctx context.Context, err error) (conn *pgxpool.Conn, _ error) {
	var starting error
	for err == errNotSoon || comesUp(err) && pause(ctx, comesUpPause) {
		if conn, err = p.Acquire(ctx); comesUp(err) {
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

// An ending is the end of the wait of all who come within soon/2, and share a timer.
type ending struct {
	from time.Time // when the first came
	over chan struct{}
}

// soonEnding is the ending for one who comes now.
func (p *Pool) soonEnding() *ending {
	if end := p.ending.Load(); end != nil {
		return end
	}
	end := &ending{from: time.Now(), over: make(chan struct{})}
	p.ending.Store(end)
	time.AfterFunc(soon/2, func() {
		p.ending.CompareAndSwap(end, nil)
		time.AfterFunc(soon/2, func() { close(end.over) })
	})
	return end
}

// acquire takes a connection of pool, or returns errNotSoon if there was none before
// the end, or if there is less time than that.
func (e *ending) acquire(ctx context.Context, pool *pgxpool.Pool, timeout time.Duration) (*pgxpool.Conn, error) {
	if deadline, ok := ctx.Deadline(); timeout > 0 && timeout <= soon || ok && deadline.Sub(e.from) <= 2*soon {
		return nil, errNotSoon
	}
	conn, err := pool.Acquire(soonContext{ctx, e})
	if err != nil && (e.isOver() || errors.Is(err, errNotSoon)) {
		return nil, errNotSoon
	}
	return conn, err
}

func (e *ending) isOver() bool {
	select {
	case <-e.over:
		return true
	default:
		return false
	}
}

// soonContext has the values of the caller's context, and the end of one that is shared.
type soonContext struct {
	caller context.Context
	end    *ending
}

func (c soonContext) Deadline() (time.Time, bool) { return c.end.from.Add(soon), true }
func (c soonContext) Done() <-chan struct{}       { return c.end.over }
func (c soonContext) Err() error {
	if c.end.isOver() {
		return context.DeadlineExceeded
	}
	return nil
}
func (c soonContext) Value(key any) any {
	if key == (soonKey{}) {
		return true
	}
	return c.caller.Value(key)
}

// comesUpPause is how long to wait before a server is asked again that comesUp.
const comesUpPause = 20 * time.Millisecond

// comesUp reports whether a server that gave no connection is worth asking again: it is
// starting up, or the connection was ended while it was made, by somebody or with all others.
func comesUp(err error) bool {
	pgErr, ok := errors.AsType[*pgconn.PgError](err)
	return ok && (pgErr.Code == "57P03" || pgErr.Code == "57P01" || pgErr.Code == "57P02")
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

// hold notes who has taken the connection, on its wire, which it returns.
func hold(conn *pgxpool.Conn, command *string) *wire {
	w := wireOf(conn.Conn())
	if w != nil {
		w.hold(command)
	}
	return w
}

// release gives a connection, whose wire w is, back, or hands it to the next in the
// queue.
func release(conn *pgxpool.Conn, w *wire) {
	if w == nil || w.place == nil {
		giveBack(conn, w)
		return
	}
	q := w.place
	w.place = nil
	q.leave(conn)
}

// giveBack gives a connection, whose wire w is, back to its pgxpool.
func giveBack(conn *pgxpool.Conn, w *wire) {
	if w != nil {
		w.let()
	}
	if conn.Conn().IsClosed() {
		// Released, a dead connection would hold its place in the pool for as long as
		// pgx takes to say goodbye to it: 15 seconds, if nobody answers.
		conn.Hijack()
		return
	}
	conn.Release()
}
