package connpool

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// ErrHookPanicked stands for the panic of a hook, whose value may be anything.
var ErrHookPanicked = errors.New("pgcmd: a hook of the pool panicked")

// wrapHooks wraps the hooks of a pool. pgxpool calls some of them on goroutines of its own,
// where a panic ends the process, and others where it loses the connection for good.
func wrapHooks(cfg *pgxpool.Config) {
	if hook := cfg.BeforeConnect; hook != nil {
		cfg.BeforeConnect = func(ctx context.Context, cc *pgx.ConnConfig) (err error) {
			defer onPanic(func() { err = ErrHookPanicked })
			return hook(ctx, cc)
		}
	}
	if hook := cfg.AfterConnect; hook != nil {
		cfg.AfterConnect = func(ctx context.Context, conn *pgx.Conn) (err error) {
			defer onPanic(func() { err = ErrHookPanicked })
			return hook(ctx, conn)
		}
	}
	//lint:ignore SA1019 a pool that sets it has to be guarded all the same
	if hook := cfg.BeforeAcquire; hook != nil && cfg.PrepareConn == nil {
		cfg.PrepareConn = func(ctx context.Context, conn *pgx.Conn) (bool, error) { return hook(ctx, conn), nil }
	}
	if hook := cfg.PrepareConn; hook != nil {
		cfg.PrepareConn = func(ctx context.Context, conn *pgx.Conn) (ok bool, err error) {
			defer onPanic(func() { ok, err = false, ErrHookPanicked })
			return hook(ctx, conn)
		}
	}
	if hook := cfg.AfterRelease; hook != nil {
		cfg.AfterRelease = func(conn *pgx.Conn) (keep bool) {
			defer onPanic(func() { keep = false })
			return hook(conn)
		}
	}
	if hook := cfg.BeforeClose; hook != nil {
		cfg.BeforeClose = func(conn *pgx.Conn) {
			defer onPanic(func() {})
			hook(conn)
		}
	}
	hook := cfg.ShouldPing
	cfg.ShouldPing = func(ctx context.Context, p pgxpool.ShouldPingParams) (ping bool) {
		c := Of(p.Conn)
		suspicious := c.needsPing(p.IdleDuration)
		if c != nil && !c.upToDate() { // seldom, and it needs more of the stack than all before it
			c.invalidateStale(ctx, p.Conn)
		}
		if p.Conn.IsClosed() || suspicious {
			return true // the ping fails, and pgxpool acquires another one
		}
		if hook == nil {
			return false
		}
		defer onPanic(func() { ping = true })
		return hook(ctx, p)
	}
}

// hasHooks reports whether a hook or a tracer of a pool sees that a connection is acquired or
// released.
func hasHooks(cfg *pgxpool.Config) bool {
	_, acquires := cfg.ConnConfig.Tracer.(pgxpool.AcquireTracer)
	_, releases := cfg.ConnConfig.Tracer.(pgxpool.ReleaseTracer)
	//lint:ignore SA1019 it is called all the same
	return cfg.PrepareConn != nil || cfg.BeforeAcquire != nil || cfg.AfterRelease != nil || cfg.ShouldPing != nil || acquires || releases
}

// onPanic recovers a panic and calls then. It is deferred.
func onPanic(then func()) {
	if recover() != nil {
		then()
	}
}
