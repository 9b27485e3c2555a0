package pgcmd

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pgcmd/pgcmd/internal/address"
	"github.com/pgcmd/pgcmd/internal/connpool"
	"github.com/pgcmd/pgcmd/internal/dbtypes"
	"github.com/pgcmd/pgcmd/internal/logging"
	"github.com/pgcmd/pgcmd/internal/multiplex"
	"github.com/pgcmd/pgcmd/internal/replica"
	"github.com/pgcmd/pgcmd/internal/retry"
	"github.com/pgcmd/pgcmd/internal/stmtcache"
	"github.com/pgcmd/pgcmd/internal/typemap"
)

// A DB is what a command runs on: a pool, a connection or a transaction, of pgcmd or
// of pgx.
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
// Commands get connections in the order in which they ask for one. A command that ends hands
// its connection to the first that waits, up to 16 times in a row, unless the pgxpool has a
// hook or a tracer that sees acquires or releases. [Pool.Metrics] counts that; Stat does not.
//
// The methods of the embedded pgxpool.Pool use the primary, have no Config.Settings, and are
// neither counted nor logged.
type Pool struct {
	*pgxpool.Pool
	retries  *retry.Bucket
	stale    *connpool.StaleStatements // of all its connections, replicas' included
	tracker  *connpool.Tracker
	acquirer *connpool.Acquirer
	config   Config
	types    *dbtypes.Loader // nil without Config.Types
	logger   logging.Logger
	metrics  metrics

	replicas *replica.Set
	mux      *multiplex.Mux // the shared connections to the primary; nil without Config.Multiplex
	hooked   bool           // Config.Pgx sets an AfterConnect, which may register types

	closed  atomic.Bool // Close has begun
	closing sync.Once
	stop    chan struct{} // closed with the pool
	ended   sync.WaitGroup
}

// Close waits until every connection is back, and closes them. Commands that come after
// it has begun are refused at once, with CodeUnavailable and NotApplied; what holds a
// connection finishes. When ctx is done first it returns an error that says which commands hold how
// many; they are closed as they come back.
//
// To close a pool at the end of a function, as one of pgxpool's:
//
//	defer pool.Close(context.Background())
//
// That waits as long as it takes, also for a connection that was lost track of. A service bounds it,
// with a context of its own, since that of the requests is done by then, and logs the error:
//
//	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
//	defer cancel()
//	if err := pool.Close(ctx); err != nil {
//		logger.Error("the pool is not closed", zap.Error(err))
//	}
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
		if leases := p.tracker.Leases(); leases != "" {
			e.Message += ": " + leases
		}
		if p.mux != nil {
			if n, load := p.mux.Running(); n > 0 {
				e.Message += fmt.Sprintf("; %d reads are under way on shared connections%s", n, load.CommandsText())
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
// changed, and has the types of [Config].Types as they are now. It may be called at any
// time, by several goroutines, also while the pool closes and afterwards, when it does
// nothing.
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

// OutsideTx returns a context for work in the body of a transaction that must not be part of
// the transaction: a command that is run with it acquires another connection from the pool.
// Without it such a command is refused with CodeNestedAcquire, since under load all
// connections could be held by transactions that wait for another one.
func OutsideTx(ctx context.Context) context.Context {
	return context.WithValue(ctx, txKey{}, (*serverTx)(nil))
}

// A txContext is the context of a transaction's body.
type txContext struct {
	context.Context
	tx *serverTx
}

func (c *txContext) Value(key any) any {
	if key == (txKey{}) {
		return c.tx
	}
	return c.Context.Value(key)
}

func (s *serverTx) inside(ctx context.Context) context.Context {
	s.ctx = txContext{ctx, s}
	return &s.ctx
}

// Instrument gives the connections of a pool that you build yourself what those of [Connect]
// have. They count the bytes that are sent, which proves NotApplied for errors that are
// Unknown otherwise. The socket of an idle connection is checked before its next use, so that
// a dead one is not used. A hook of yours that panics neither ends the process nor loses a
// connection: the panic becomes an error, and the connection is closed. An [Outcome] has a
// DurabilityWarning also for a single statement; your OnNotice is still called. Call it last,
// before [pgxpool.NewWithConfig].
func Instrument(cfg *pgxpool.Config) {
	instrument(cfg, nil, connpool.NewStaleStatements())
}

func instrument(cfg *pgxpool.Config, t *connpool.Tracker, stale *connpool.StaleStatements) {
	countUnreplicated(&cfg.ConnConfig.Config)
	connpool.Instrument(cfg, t, stale)
}

type primaryKey struct{}

// ReadYourWrites returns a context whose commands all run on the primary, also those
// that are ReadOnly: a caller that has just written reads what it wrote. It does not wait
// for a replica.
func ReadYourWrites(ctx context.Context) context.Context {
	return context.WithValue(ctx, primaryKey{}, true)
}

// Connect makes a pool, and returns once MinConns connections, but at least one, are
// there. It waits for a server that is starting up until the deadline of ctx, or for
// ConnectTimeout if there is none. The settings are checked first, all of them. The error
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
	p := &Pool{config: cfg, logger: logging.OrNone(cfg.Logger), stop: make(chan struct{}), retries: retry.NewBucket(cfg.RetryBudget), stale: connpool.NewStaleStatements()}
	p.metrics.since = time.Now()
	p.config.URL, p.config.Password = "", "" // pgx keeps them, behind ConnString
	if len(cfg.Types) > 0 {
		p.types = &dbtypes.Loader{Names: slices.Clone(cfg.Types), Timeout: cmp.Or(cfg.ConnectTimeout, defaultConnectTimeout), OnMissing: func(names []string) {
			logging.Warn(p.logger, "the database no longer has types of Config.Types: statements that need them fail", logging.String("types", strings.Join(names, ", ")))
		}}
	}
	var err error
	if p.Pool, p.tracker, err = p.connect(ctx, cfg, cfg.source()); err != nil {
		return refuse(&Error{Code: CodeInvalid, Message: "pgx refuses the settings of the pool (the reason is withheld, since it may hold the password)"})
	}
	p.replicas = replica.NewSet(p.Pool, cmp.Or(cfg.MaxReplicaLag, defaultReplicaLag), p.logger)
	p.acquirer = connpool.NewAcquirer(p.Pool, p.tracker, cmp.Or(cfg.AcquireTimeout, defaultAcquireTimeout))
	start := time.Now()
	if cfg.Settings != nil {
		if problem := settingsProblem(p.Pool.Config().ConnConfig); problem != "" {
			p.end()
			return refuse(&Error{Code: CodeInvalid, Message: "the settings were refused", Problems: []Problem{{Field: "Settings", Rule: "config", Message: problem}}})
		}
	}
	if cfg.Multiplex > 0 {
		var problems []Problem
		for _, message := range multiplex.Refusals(p.Pool.Config()) {
			problems = append(problems, Problem{Field: "Multiplex", Rule: "config", Message: message})
		}
		if problems != nil {
			p.end()
			return refuse(&Error{Code: CodeInvalid, Message: "the settings were refused", Problems: problems})
		}
		p.mux = p.newMux(p.Pool, p.tracker)
	}
	if e := p.warm(ctx); e != nil {
		p.end()
		return refuse(e)
	}
	logging.Info(p.logger, "the pool is connected", logging.Int("connections", p.Stat().TotalConns()), logging.Duration("elapsed", time.Since(start)))
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
	if !logging.IsNone(p.logger) {
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
	if len(address.Hosts(settings)) > 1 && settings.ConnConfig.ValidateConnect == nil && source == cfg.source() {
		settings.ConnConfig.ValidateConnect = pgconn.ValidateConnectTargetSessionAttrsReadWrite // several hosts, of which one takes writes
	}
	settings.PingTimeout = time.Second // only a connection that may be dead is pinged
	if cfg.Pgx != nil {
		cfg.Pgx(settings)
	}
	after := settings.AfterConnect
	p.hooked = p.hooked || after != nil
	if p.types != nil {
		load := p.types.Load
		if p.Pool != nil { // the primary's is made first
			load = p.types.LoadOnReplica
		}
		settings.AfterConnect = func(ctx context.Context, conn *pgx.Conn) error {
			if err := load(ctx, conn); err != nil || after == nil {
				return err
			}
			return after(ctx, conn)
		}
	}
	t := connpool.NewTracker(p.logger)
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
		ctx, cancel = context.WithTimeout(ctx, cmp.Or(p.config.ConnectTimeout, defaultConnectTimeout))
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
				if !connpool.IsStartingUp(err) || !retry.Sleep(ctx, connpool.StartingUpPause) {
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

// newMux makes the shared connections of a pool, whose reset then renews them too.
func (p *Pool) newMux(pool *pgxpool.Pool, t *connpool.Tracker) *multiplex.Mux {
	m := multiplex.New(multiplex.Config{
		Pool: pool, Size: p.config.Multiplex, ConnectTimeout: defaultConnectTimeout,
		CustomTypes: p.hooked, Settings: p.config.Settings != nil,
		OnOutdated: func(sql string) { p.stale.Add(sql) },
		DialError:  func(err error) error { return newAcquireError(context.Background(), pool, t, err) },
	})
	t.Reset = func() {
		pool.Reset()
		m.Renew()
	}
	return m
}

// runShared runs the statement on the shared connections. It returns false for done if the
// statement has to run on a connection of its own.
func (s *statement) runShared(ctx context.Context, p *Pool, settings []stmtcache.Setting, args []any, unverified typemap.Unverified, r *result) (failure *Error, done bool) {
	if err := ctx.Err(); err != nil {
		return newUnsentError(ctx, err), true
	}
	if failure := nested(ctx, p.Pool); failure != nil {
		return failure, true
	}
	run := multiplex.Run{Query: multiplex.Query{Name: s.name, SQL: s.text.SQL, Args: args, Unverified: unverified, Settings: settings}}
	for {
		if failure, done = p.enterMux(ctx, &run, s.readOnly); failure != nil || done {
			return failure, failure != nil
		}
		req, err := run.Do(ctx)
		switch {
		case err == multiplex.ErrDedicated:
			return nil, false
		case err != nil:
			return s.sharedError(ctx, r, args, err)
		case req != nil:
			r.rows, r.sharedRequest = req.Rows(), req
			return nil, true
		}
	}
}

// sharedError is the error of a statement that did not run on the shared connections. It
// returns false for done if the statement has to run on a connection of its own.
func (s *statement) sharedError(ctx context.Context, r *result, args []any, err error) (failure *Error, done bool) {
	switch e := err.(type) {
	case *typemap.ArgError:
		return s.argError(e), true
	case *multiplex.EncodeError:
		err = e.Err
		if failure := s.argError(typemap.EncodeError(ctx, e.Types, nil, s.text.Names, args, err)); failure != nil {
			// The name of an unknown type can only be queried on another connection.
			return failure, failure.Code != CodeInternal
		}
	}
	return s.statementError(ctx, r, err), true
}

// enterMux reserves a place on a shared connection, of a healthy replica if the statement may
// run there and there is one. dedicated means that the statement has to run on a connection of
// its own.
func (p *Pool) enterMux(ctx context.Context, run *multiplex.Run, readOnly bool) (failure *Error, dedicated bool) {
	if p.closed.Load() {
		run.Leave()
		return poolClosed(), false
	}
	if readOnly && len(p.replicas.All) > 0 && ctx.Value(primaryKey{}) == nil {
		for range p.replicas.All {
			r := p.replicas.Pick()
			if r == nil {
				break
			}
			err := run.Enter(ctx, r.Mux, replica.AcquireTimeout)
			if err == nil || err == multiplex.ErrDedicated {
				return nil, err != nil
			}
			failure := muxError(ctx, err)
			if ctx.Err() != nil {
				return failure, false
			}
			if failure.Code == CodeExhausted && r.Mux.HasConn() {
				break // busy, not down
			}
			p.replicas.MarkUnconnectable(r)
		}
	}
	err := run.Enter(ctx, p.mux, cmp.Or(p.config.AcquireTimeout, defaultAcquireTimeout))
	if err == nil || err == multiplex.ErrDedicated {
		return nil, err != nil
	}
	return muxError(ctx, err), false
}

// muxError is the error of a caller that got no place on a shared connection.
func muxError(ctx context.Context, err error) *Error {
	switch err := err.(type) {
	case *Error: // of a dial, for all its callers
		e := *err
		return &e
	case *multiplex.CapacityError:
		e := newUnsentError(ctx, err.Err)
		if e.Code != CodeTimeout {
			return e
		}
		e.Code, e.Message = CodeExhausted, "no shared connection could be made before the deadline"
		if err.Load.Accepting > 0 {
			e.Message = "the shared connections were full until the deadline: " + err.Load.String()
		}
		return e
	}
	if errors.Is(err, multiplex.ErrClosed) {
		return poolClosed()
	}
	return newUnsentError(ctx, err)
}

// SharedMetrics is the state of the connections that [Config.Multiplex] shares. They are not
// counted in the pool's metrics.
type SharedMetrics struct {
	Conns      int   // that accept reads
	Apart      int   // that finish their reads and accept no others: the server is slow with one, or the pool was reset
	InFlight   int   // reads that were sent or are about to be
	Waiting    int   // reads that wait for a slot
	Reads      int64 // that were answered
	Reruns     int64 // that were sent again: their connection was lost, or held by a slow one
	HandedOver int64 // connections that were left to a slow read
	Aside      int64 // how often a statement was bypassed: run on connections of its own for a while
}
