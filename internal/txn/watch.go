package txn

import (
	"context"
	"sync"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgconn/ctxwatch"

	"github.com/pgcmd/pgcmd/internal/stmtcache"
)

// A watch interrupts the round trips of a transaction when their context ends, by the
// connection's ContextWatcherHandler. A [ctxwatch.ContextWatcher] follows the context anew for
// each round trip, for four allocations; a watch follows it as long as it stays the same, until
// close is called.
type watch struct {
	handler ctxwatch.Handler
	done    <-chan struct{} // of the context that is followed; nil if none is
	stop    func() bool

	mu          sync.Mutex
	ended       bool // the context that is followed has ended
	busy        bool // a round trip is under way
	interrupted bool // and is interrupted
}

// start begins a round trip, which ends with end.
func (w *watch) start(ctx context.Context, conn *pgx.Conn) {
	done := ctx.Done()
	if done == nil && w.done == nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if done != w.done {
		w.unfollow()
		w.follow(ctx, conn)
	}
	if w.busy = true; w.ended {
		w.interrupt(ctx)
	}
}

// end ends the round trip. If it was interrupted, the connection can be used again, if that is
// what the handler does.
func (w *watch) end() {
	if w.done == nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.busy = false; w.interrupted {
		w.interrupted = false
		w.handler.HandleUnwatchAfterCancel()
	}
}

// close has the context keep nothing of the watch.
func (w *watch) close() {
	if w.done == nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.unfollow()
}

func (w *watch) follow(ctx context.Context, conn *pgx.Conn) {
	done := ctx.Done()
	if done == nil {
		return
	}
	if w.handler == nil {
		w.handler = handlerOf(conn)
	}
	w.done = done
	w.stop = context.AfterFunc(ctx, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.done != done {
			return // another is followed by now
		}
		if w.ended = true; w.busy {
			w.interrupt(ctx)
		}
	})
}

func (w *watch) unfollow() {
	if w.done != nil {
		w.stop()
		w.done, w.ended = nil, false
	}
}

func (w *watch) interrupt(ctx context.Context) {
	w.interrupted = true
	w.handler.HandleCancel(ctx)
}

// handlerOf returns a connection's own ContextWatcherHandler, as pgx makes them.
func handlerOf(conn *pgx.Conn) ctxwatch.Handler {
	const key = "pgcmd.contextWatcherHandler"
	pg := conn.PgConn()
	handler, ok := pg.CustomData()[key].(ctxwatch.Handler)
	if !ok {
		handler = &pgconn.DeadlineContextWatcherHandler{Conn: pg.Conn()}
		if build := stmtcache.ConfigOf(conn).BuildContextWatcherHandler; build != nil {
			handler = build(pg)
		}
		pg.CustomData()[key] = handler
	}
	return handler
}
