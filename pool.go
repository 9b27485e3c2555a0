package pgcmd

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"go.uber.org/zap"

	"github.com/pgcmd/pgcmd/internal/connpool"
	"github.com/pgcmd/pgcmd/internal/multiplex"
	"github.com/pgcmd/pgcmd/internal/replica"
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

// A Pool is a [pgxpool.Pool] that recovers: a connection that died while idle is not handed
// out, a broken one does not keep its place, and after a shutdown or a demotion of the
// server all are replaced. Its commands share a budget for retries, go to replicas if they are
// ReadOnly, and are counted and logged. Make one with [Connect]. It is safe for
// concurrent use.
//
// Commands get connections in the order in which they come, and hand them to each
// other, up to 16 times in a row, where no hook and no tracer of the pgxpool is to see
// it: [Pool.Metrics] counts that, Stat does not.
//
// What is called on it as on a pgxpool.Pool is pgx's, goes to the primary, and is
// neither counted nor logged; Close and Reset excepted.
type Pool struct {
	*pgxpool.Pool
	retries  retryBucket
	stale    *connpool.StaleStatements // of all its connections, replicas' included
	tracker  *connpool.Tracker
	acquirer *connpool.Acquirer
	config   Config
	metrics  metrics

	replicas *replica.Set
	mux      *multiplex.Mux // the shared connections to the primary; nil without Config.Multiplex

	closed  atomic.Bool // Close has begun
	closing sync.Once
	stop    chan struct{} // closed with the pool
	ended   sync.WaitGroup
}

// Close waits until every connection is back, and closes them. Commands that come after
// it has begun are refused at once, with CodeUnavailable and NotApplied; what holds a
// connection finishes. When ctx is done first it returns an error that says who holds how
// many; they are closed as they come back.
func (p *Pool) Close(ctx context.Context) error {
	p.closed.Store(true)
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		p.end()
	}()
	select {
	case <-closed:
		return nil
	case <-ctx.Done():
		e := classify(ctx, ctx.Err())
		e.Command, e.Effect = "pgcmd.Pool.Close", NotApplied
		e.Message = fmt.Sprintf("%d connections are still held", p.held())
		if who := p.tracker.Leases(); who != "" {
			e.Message += ": " + who
		}
		if p.mux != nil {
			if n, load := p.mux.Running(); n > 0 {
				e.Message += fmt.Sprintf("; %d reads are under way on shared connections%s", n, commandsText(load))
			}
		}
		return e
	}
}

// Reset replaces every connection: the pool's, the shared ones of Multiplex, those of the
// replicas. It waits for nothing. Idle connections are closed at once; one that is in use
// is closed when its caller gives it back, and a read under way on a shared connection is
// answered there. A command that begins after Reset has returned gets a connection that
// was made after Reset was called, and so sees what ALTER ROLE ... SET and the like have
// changed. It may be called at any time, by several goroutines, also while the pool closes
// and afterwards, when it does nothing.
func (p *Pool) Reset() {
	p.tracker.Renew()
	for _, r := range p.replicas.All {
		r.Tracker.Renew()
	}
}

// end closes the pool and what belongs to it.
func (p *Pool) end() {
	p.closing.Do(func() {
		if p.stop != nil {
			close(p.stop)
		}
	})
	if p.mux != nil {
		p.mux.Close()
	}
	p.Pool.Close()
	for _, r := range p.replicas.All {
		if r.Mux != nil {
			r.Mux.Close()
		}
		r.Pool.Close()
	}
	p.ended.Wait()
}

func (p *Pool) held() (n int32) {
	n = p.Stat().AcquiredConns()
	for _, r := range p.replicas.All {
		n += r.Pool.Stat().AcquiredConns()
	}
	return n
}

type txKey struct{}

// OutsideTx returns a context for work in a transaction's body that is meant not
// to share the transaction: a command run with it takes a connection of its own
// from the pool. Without it that is refused with CodeNestedAcquire, since under
// load every connection can come to wait for another.
func OutsideTx(ctx context.Context) context.Context {
	return context.WithValue(ctx, txKey{}, (*txn)(nil))
}

func insideTx(ctx context.Context, s *txn) context.Context {
	return context.WithValue(ctx, txKey{}, s)
}

// logger is the pool's, which may be nil.
func (p *Pool) logger() *zap.Logger {
	if p.config.Logger == nil {
		return zap.NewNop()
	}
	return p.config.Logger
}

// Instrument gives the connections of a pool that you build yourself what those of
// [Connect] have: they tell whether anything was sent on them, without which a
// failure that could have been proven NotApplied is Unknown; a look at the socket of one
// that was idle, before its next use, so that one that died is not handed out; and hooks of yours
// that panic neither end the process nor lose a connection: the panic becomes an
// error, and the connection goes. They also tell an [Outcome] that a single statement was
// committed without the synchronous standby; an OnNotice of yours is still called. Call it
// last, before [pgxpool.NewWithConfig].
func Instrument(cfg *pgxpool.Config) {
	instrument(cfg, nil, connpool.NewStaleStatements())
}

func instrument(cfg *pgxpool.Config, t *connpool.Tracker, stale *connpool.StaleStatements) {
	countUnreplicated(&cfg.ConnConfig.Config)
	connpool.Instrument(cfg, t, stale)
}

type primaryKey struct{}

// ReadYourWrites returns a context whose commands all run on the primary, also those
// that are ReadOnly: a caller that has just written reads what it wrote. It waits for
// nothing, as it would if a replica had to replay up to the caller's position.
func ReadYourWrites(ctx context.Context) context.Context {
	return context.WithValue(ctx, primaryKey{}, true)
}
