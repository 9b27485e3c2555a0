package pgcmd

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pgcmd/pgcmd/internal/connpool"
	"github.com/pgcmd/pgcmd/internal/multiplex"
	"github.com/pgcmd/pgcmd/internal/replica"
	"github.com/pgcmd/pgcmd/internal/typemap"
)

// newMux makes the shared connections of a pool, whose reset then renews them too.
func (p *Pool) newMux(pool *pgxpool.Pool, t *connpool.Tracker) *multiplex.Mux {
	m := multiplex.New(multiplex.Config{
		Pool: pool, Size: p.config.Multiplex, ConnectTimeout: defaultConnectTimeout,
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
func (s *statement) runShared(ctx context.Context, p *Pool, args []any, doubts unverifiedArgs, r *result) (failure *Error, done bool) {
	if err := ctx.Err(); err != nil {
		return newUnsentError(ctx, err), true
	}
	if failure := nested(ctx, p.Pool); failure != nil {
		return failure, true
	}
	run := multiplex.Run{Query: multiplex.Query{Name: s.name, SQL: s.text.SQL, Args: args}}
	if len(doubts) > 0 {
		run.Verifier = &sharedArgs{s, args, doubts}
	}
	for {
		if failure, done = p.enterMux(ctx, &run); failure != nil || done {
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

// sharedArgs verifies arguments for the shared connections.
type sharedArgs struct {
	s          *statement
	args       []any
	unverified unverifiedArgs
}

func (a *sharedArgs) Unverified(oids []uint32) []uint32 { return a.unverified.oidOfArg(oids) }

func (a *sharedArgs) Verify(known *pgtype.Map, oids []uint32) error {
	if failure := a.s.verifyArgs(typemap.Types{Known: known}, oids, a.args, a.unverified, false); failure != nil {
		return failure
	}
	return nil
}

// sharedError is the error of a statement that did not run on the shared connections. It
// returns false for done if the statement has to run on a connection of its own.
func (s *statement) sharedError(ctx context.Context, r *result, args []any, err error) (failure *Error, done bool) {
	switch e := err.(type) {
	case *Error: // of sharedArgs
		return e, true
	case *multiplex.EncodeError:
		err = e.Err
		if failure := s.unsendable(ctx, e.Types, nil, args, err); failure != nil {
			// The name of an unknown type can only be queried on another connection.
			return failure, failure.Code != CodeInternal
		}
	}
	return s.statementError(ctx, r, err), true
}

// enterMux reserves a place on a shared connection, of a healthy replica if there is one.
// dedicated means that the statement has to run on a connection of its own.
func (p *Pool) enterMux(ctx context.Context, run *multiplex.Run) (failure *Error, dedicated bool) {
	if p.closed.Load() {
		run.Leave()
		return poolClosed(), false
	}
	if len(p.replicas.All) > 0 && ctx.Value(primaryKey{}) == nil {
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
	err := run.Enter(ctx, p.mux, orDefault(p.config.AcquireTimeout, defaultAcquireTimeout))
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
			e.Message = fmt.Sprintf("the shared connections were full until the deadline: %d reads were under way on %d shared connections, and %d others waited (raise Multiplex, or run fewer reads at a time)%s",
				err.InFlight, err.Conns, err.Waiting, commandsText(err.Load))
		}
		return e
	}
	if errors.Is(err, multiplex.ErrClosed) {
		return poolClosed()
	}
	return newUnsentError(ctx, err)
}

// commandsText describes which commands the reads on the shared connections belong to.
func commandsText(load multiplex.Load) string {
	if len(load.Commands) == 0 {
		return ""
	}
	var parts []string
	for _, c := range load.Commands[:min(len(load.Commands), 3)] {
		parts = append(parts, fmt.Sprintf("%s has %d", c.Name, c.Count))
	}
	if len(load.Commands) > 3 {
		parts = append(parts, fmt.Sprintf("and %d other commands", len(load.Commands)-3))
	}
	return ": " + strings.Join(parts, "; ")
}

// multiplexProblems lists the pgx settings that do not allow shared connections.
func multiplexProblems(settings *pgxpool.Config) (problems []Problem) {
	add := func(message string) {
		problems = append(problems, Problem{Field: "Multiplex", Rule: "config", Message: message})
	}
	//lint:ignore SA1019 a pool that sets it has to be refused
	if settings.PrepareConn != nil || settings.BeforeAcquire != nil {
		add("cannot be used with PrepareConn or BeforeAcquire: they prepare a connection for one caller, and many share it")
	}
	if settings.ConnConfig.DefaultQueryExecMode != pgx.QueryExecModeCacheStatement {
		add("needs prepared statements: leave DefaultQueryExecMode at QueryExecModeCacheStatement, or Multiplex at zero")
	}
	return problems
}

// SharedMetrics is the state of the connections that [Config.Multiplex] shares. They are not
// counted in the pool's metrics.
type SharedMetrics struct {
	Conns      int   // that accept reads
	Apart      int   // that finish their reads, a slow one or those from before a renewal, and accept no others
	InFlight   int   // reads that were sent or are about to be
	Waiting    int   // reads that wait for a slot
	Reads      int64 // that were answered
	Reruns     int64 // that were sent again: their connection was lost, or held by a slow one
	HandedOver int64 // connections that were left to a slow read
	Aside      int64 // how often a statement was moved to connections of its own for a while
}

// sharedMetrics reads the state of m, which is nil without Config.Multiplex.
func sharedMetrics(m *multiplex.Mux) SharedMetrics {
	if m == nil {
		return SharedMetrics{}
	}
	return SharedMetrics(m.Stats())
}
