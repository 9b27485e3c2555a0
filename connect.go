package pgcmd

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"go.uber.org/zap"

	"github.com/pgcmd/pgcmd/internal/connpool"
	"github.com/pgcmd/pgcmd/internal/replica"
)

// Connect makes a pool, and returns once MinConns connections, but at least one, are
// there. A server that is starting up is waited for, as long as ctx allows; without a
// deadline for ConnectTimeout. The settings are checked first, all of them. The error
// is an [*Error], and shows no part of a URL or a password.
func Connect(ctx context.Context, cfg Config) (*Pool, error) {
	refuse := func(e *Error) (*Pool, error) {
		e.Effect, e.Command = NotApplied, "pgcmd.Connect"
		return nil, e
	}
	if ctx == nil {
		return refuse(&Error{Code: CodeInternal, Message: "the context is nil: pass the caller's, or context.Background()"})
	}
	if problems := cfg.problems(); len(problems) > 0 {
		return refuse(&Error{Code: CodeInvalid, Message: "the settings were refused", Problems: problems})
	}
	p := &Pool{config: cfg, stop: make(chan struct{}), stale: connpool.NewStaleStatements()}
	p.metrics.since = time.Now()
	p.retries.size = cfg.RetryBudget * retryCost
	p.config.URL, p.config.Password = "", "" // pgx keeps them, behind ConnString
	var err error
	if p.Pool, p.tracker, err = p.connect(ctx, cfg, cfg.source()); err != nil {
		return refuse(&Error{Code: CodeInvalid, Message: "pgx refuses the settings of the pool (the reason is withheld, since it may hold the password)"})
	}
	p.replicas = replica.NewSet(p.Pool, orDefault(cfg.MaxReplicaLag, defaultReplicaLag), p.logger())
	p.acquirer = connpool.NewAcquirer(p.Pool, p.tracker, orDefault(cfg.AcquireTimeout, defaultAcquireTimeout))
	start := time.Now()
	if cfg.Multiplex > 0 {
		if problems := multiplexProblems(p.Pool.Config()); len(problems) > 0 {
			p.end()
			return refuse(&Error{Code: CodeInvalid, Message: "the settings were refused", Problems: problems})
		}
		p.mux = p.newMux(p.Pool, p.tracker)
	}
	if e := p.warm(ctx); e != nil {
		p.end()
		return refuse(e)
	}
	p.logger().Info("the pool is connected", zap.Int32("connections", p.Stat().TotalConns()), zap.Duration("elapsed", time.Since(start)))
	for i, url := range cfg.Replicas {
		pool, tracker, err := p.connect(ctx, cfg, url)
		if err != nil {
			p.end()
			return refuse(&Error{Code: CodeInvalid, Message: fmt.Sprintf("pgx refuses the settings of replica %d (the reason is withheld, since it may hold the password)", i)})
		}
		r := &replica.Replica{Pool: pool, Tracker: tracker}
		if p.mux != nil {
			r.Mux = p.newMux(pool, tracker)
		}
		p.replicas.Add(r)
	}
	if cfg.Logger != nil {
		p.ended.Go(func() { p.tracker.WarnOfLeaks(p.stop) })
		for _, r := range p.replicas.All {
			p.ended.Go(func() { r.Tracker.WarnOfLeaks(p.stop) })
		}
	}
	if len(p.replicas.All) > 0 {
		p.replicas.Poll(ctx) // before the first command
		p.ended.Go(func() { p.replicas.PollUntil(p.stop) })
	}
	return p, nil
}

// connect makes a pgxpool for one address.
func (p *Pool) connect(ctx context.Context, cfg Config, source string) (*pgxpool.Pool, *connpool.Tracker, error) {
	settings, err := cfg.settings(source)
	if err != nil {
		return nil, nil, err
	}
	if len(hostsOf(settings)) > 1 && settings.ConnConfig.ValidateConnect == nil && source == cfg.source() {
		settings.ConnConfig.ValidateConnect = pgconn.ValidateConnectTargetSessionAttrsReadWrite // several hosts, of which one takes writes
	}
	settings.PingTimeout = time.Second // only a connection that may be dead is pinged
	if cfg.Pgx != nil {
		cfg.Pgx(settings)
	}
	t := connpool.NewTracker(p.logger())
	instrument(settings, t, p.stale)
	pool, err := pgxpool.NewWithConfig(context.WithoutCancel(ctx), settings)
	if err != nil {
		return nil, nil, err
	}
	t.Reset = pool.Reset
	return pool, t, nil
}

// warm makes the first connections concurrently.
func (p *Pool) warm(ctx context.Context) *Error {
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, orDefault(p.config.ConnectTimeout, defaultConnectTimeout))
		defer cancel()
	}
	conns := make([]*pgxpool.Conn, max(1, p.config.MinConns))
	failures := make([]*Error, len(conns))
	var shared *Error
	var all sync.WaitGroup
	if p.mux != nil {
		all.Go(func() {
			if err := p.mux.Connect(ctx); err != nil {
				shared = muxError(ctx, err)
			}
		})
	}
	for i := range conns {
		all.Go(func() {
			for {
				conn, err := p.Acquire(ctx)
				if err == nil {
					conns[i] = conn
					return
				}
				if !connpool.IsStartingUp(err) || !connpool.Sleep(ctx, connpool.StartingUpPause) {
					failures[i] = newAcquireError(ctx, p.Pool, p.tracker, err)
					return
				}
			}
		})
	}
	all.Wait()
	for _, conn := range conns {
		if conn != nil {
			conn.Release()
		}
	}
	for _, e := range append(failures, shared) {
		if e != nil {
			return e
		}
	}
	return nil
}
