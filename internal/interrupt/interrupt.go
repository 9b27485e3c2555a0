// Package interrupt interrupts the round trips on a connection when their context ends. It does
// not know what is sent, nor what becomes of the connection.
package interrupt

import (
	"context"
	"sync"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgconn/ctxwatch"
)

// A Watch follows the context of the round trips on one connection, and calls its
// ContextWatcherHandler as pgconn does. A [ctxwatch.ContextWatcher] follows the context anew for
// each round trip, with four allocations. A Watch takes two, and follows a context for as many
// round trips as it is used for, until Close.
//
// It is for the user of the connection alone, as the connection is.
type Watch struct {
	handler ctxwatch.Handler
	ctx     context.Context // that is followed; nil: none
	stop    func() bool
	onEnd   func() // contextEnded

	mu          sync.Mutex
	called      sync.Cond // onEnd was
	ended       bool      // the context that is followed
	busy        bool      // a round trip is under way
	interrupted bool      // and is interrupted
}

// New makes the Watch of a connection with a configuration. A connection needs one only.
func New(pg *pgconn.PgConn, config *pgconn.Config) *Watch {
	if build := config.BuildContextWatcherHandler; build != nil {
		return newWatch(build(pg))
	}
	return newWatch(&pgconn.DeadlineContextWatcherHandler{Conn: pg.Conn()})
}

func newWatch(handler ctxwatch.Handler) *Watch {
	w := &Watch{handler: handler}
	w.called.L, w.onEnd = &w.mu, w.contextEnded
	return w
}

// Start begins a round trip, which is interrupted when ctx ends.
func (w *Watch) Start(ctx context.Context) {
	done := ctx.Done()
	if done == nil && w.ctx == nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ctx == nil || w.ctx.Done() != done {
		w.unfollow()
		if done == nil {
			return
		}
		w.ctx = ctx
		w.stop = context.AfterFunc(ctx, w.onEnd)
	}
	if w.busy = true; w.ended {
		w.interrupt()
	}
}

// End ends the round trip. If it was interrupted and the connection is not lost, it can be used
// again, as the handler sees to.
func (w *Watch) End(lost bool) {
	if w.ctx == nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.busy = false
	if w.interrupted && !lost {
		w.handler.HandleUnwatchAfterCancel()
	}
	w.interrupted = false
}

// Close has the context keep nothing of the Watch.
func (w *Watch) Close() {
	if w.ctx == nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.unfollow()
}

// unfollow returns when onEnd will not be called for the context any more.
func (w *Watch) unfollow() {
	if w.ctx == nil {
		return
	}
	if !w.stop() {
		for !w.ended {
			w.called.Wait()
		}
	}
	w.ctx, w.stop, w.ended = nil, nil, false
}

func (w *Watch) contextEnded() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ended = true
	w.called.Signal()
	if w.busy {
		w.interrupt()
	}
}

func (w *Watch) interrupt() {
	w.interrupted = true
	w.handler.HandleCancel(w.ctx)
}
