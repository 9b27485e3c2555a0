package pgcmd

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"go.uber.org/zap"
)

// A DB is what a command runs on: a pool, a connection or a transaction, of
// pgcmd's or of pgx's.
type DB interface {
	Begin(ctx context.Context) (pgx.Tx, error)
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
	SendBatch(ctx context.Context, b *pgx.Batch) pgx.BatchResults
	CopyFrom(ctx context.Context, table pgx.Identifier, columns []string, rows pgx.CopyFromSource) (int64, error)
}

var (
	_ DB = (*Pool)(nil)
	_ DB = (*Tx)(nil)
	_ DB = (*pgxpool.Pool)(nil)
	_ DB = (*pgxpool.Conn)(nil)
	_ DB = (*pgx.Conn)(nil)
	_ DB = (pgx.Tx)(nil)
)

// A Pool is a [pgxpool.Pool] that heals: what died while idle is not handed out, what
// broke does not hold its place, and a server that went away or was demoted makes all
// of it anew. Its commands share a budget for retries, go to replicas if they are
// ReadOnly, and are counted and logged. Make one with [Connect]. It is safe for
// concurrent use.
//
// What is called on it as on a pgxpool.Pool is pgx's, goes to the primary, and is
// neither counted nor logged.
type Pool struct {
	*pgxpool.Pool
	retries budget
	keeper  *keeper
	config  Config
	metrics metrics

	replicas  []*replica
	positions positions // of the primary

	closing sync.Once
	stop    chan struct{} // closed with the pool
	ended   sync.WaitGroup
}

// Close waits until every connection is back, and closes them. When ctx is done
// first it returns an error that says who holds how many; they are closed as they
// come back.
func (p *Pool) Close(ctx context.Context) error {
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		p.end()
	}()
	select {
	case <-closed:
		return nil
	case <-ctx.Done():
		e := causeOf(ctx, ctx.Err())
		e.Command, e.Effect = "pgcmd.Pool.Close", NotApplied
		e.Message = fmt.Sprintf("%d connections are still held", p.held())
		if who := p.keeper.holders(); who != "" {
			e.Message += ": " + who
		}
		return e
	}
}

// end closes the pool and what belongs to it.
func (p *Pool) end() {
	p.closing.Do(func() {
		if p.stop != nil {
			close(p.stop)
		}
	})
	p.Pool.Close()
	for _, r := range p.replicas {
		r.pool.Close()
	}
	p.ended.Wait()
}

func (p *Pool) held() (n int32) {
	n = p.Stat().AcquiredConns()
	for _, r := range p.replicas {
		n += r.pool.Stat().AcquiredConns()
	}
	return n
}

type txKey struct{}

// OutsideTx returns a context for work in a transaction's body that is meant not
// to share the transaction: a command run with it takes a connection of its own
// from the pool. Without it that is refused with CodeNestedAcquire, since under
// load every connection can come to wait for another.
func OutsideTx(ctx context.Context) context.Context {
	return context.WithValue(ctx, txKey{}, (*session)(nil))
}

func insideTx(ctx context.Context, s *session) context.Context {
	return context.WithValue(ctx, txKey{}, s)
}

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
	if readOnly && len(p.replicas) > 0 {
		if conn := p.takeReplica(ctx); conn != nil {
			hold(conn, command)
			return conn, nil
		}
	}
	waiting := ctx
	timeout := orDefault(p.config.AcquireTimeout, defaultAcquireTimeout)
	if deadline, ok := ctx.Deadline(); timeout > 0 && (!ok || time.Until(deadline) > timeout) {
		var cancel context.CancelFunc
		waiting, cancel = context.WithTimeout(ctx, timeout)
		defer cancel()
	}
	for {
		conn, err := p.Acquire(waiting)
		if err == nil {
			hold(conn, command)
			return conn, nil
		}
		if !startingUp(err) || !pause(waiting, startingUpPause) {
			return nil, notAcquired(waiting, p.Pool, p.keeper, err)
		}
	}
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

func hold(conn *pgxpool.Conn, command *string) {
	if w := wireOf(conn.Conn()); w != nil {
		w.hold(command)
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

// logger is the pool's, which may be nil.
func (p *Pool) logger() *zap.Logger {
	if p.config.Logger == nil {
		return zap.NewNop()
	}
	return p.config.Logger
}
