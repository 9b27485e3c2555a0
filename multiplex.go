package pgcmd

import (
	"context"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pgcmd/pgcmd/internal/sqlstate"
)

// How often a request that was not answered is sent again: after its connection was lost,
// perhaps because of it, and in all.
const (
	maxLostRuns = 3
	maxReruns   = 10
)

// runShared runs the statement on the shared connections. It returns false for done if the
// statement has to run on a connection of its own.
func (s *statement) runShared(ctx context.Context, p *Pool, args []any, doubts unverifiedArgs, r *result) (failure *Error, done bool) {
	if err := ctx.Err(); err != nil {
		return newUnsentError(ctx, err), true
	}
	if failure := nested(ctx, p.Pool); failure != nil {
		return failure, true
	}
	var lostRuns, reruns, stale int
	var in *mux // that let it in
	for again := false; ; again = true {
		c, stmt, failure, done := p.enterMux(ctx, s, again, in)
		if !done || failure != nil {
			return failure, done
		}
		in = c.mux
		req, stmt, outcome, failure := c.do(ctx, s, stmt, args, doubts)
		switch outcome {
		case outcomeFailed:
			return failure, true
		case outcomeUseDedicated:
			in.leave()
			return nil, false
		case outcomeConnClosed: // before the request was queued
			continue
		case outcomeStalePlan:
			c.invalidate(s.text.SQL, stmt)
			continue
		case outcomeRequeued:
			if reruns++; req.headOfLine {
				lostRuns++
			}
			switch {
			case lostRuns == maxLostRuns:
				in.leave()
				return s.statementError(ctx, r, req.cause), true
			case reruns == maxReruns:
				in.leave()
				return nil, false
			}
			continue
		}
		in = nil
		if req.pgErr == nil {
			r.rows, r.sharedRequest = req.rows, req
			return nil, true
		}
		err := req.pgErr
		req.rows.End(err)
		switch {
		case (err.Code == "26000" || sqlstate.ProvesOutdated(err)) && stale < maxReruns:
			stale++
			if c.mux.invalidate(s.text.SQL, c, stmt) {
				p.stale.Add(s.text.SQL)
			}
		case err.Code == sqlstate.QueryCanceled && c.imposed && !strings.Contains(err.Message, "user request"):
			c.mux.bypassStatement(s.text.SQL) // by imposedTimeout, which other connections do not have
			return nil, false
		default:
			if sqlstate.InvalidatesStatement(err.Code) {
				c.invalidate(s.text.SQL, stmt)
			}
			return s.statementError(ctx, r, err), true
		}
	}
}

// enterMux reserves a place on a shared connection, of a healthy replica if there is one. in
// is the mux in which the caller has a slot already; nil: none.
func (p *Pool) enterMux(ctx context.Context, s *statement, again bool, in *mux) (c *sharedConn, stmt *preparedStmt, failure *Error, done bool) {
	if p.closed.Load() {
		if in != nil {
			in.leave()
		}
		return nil, nil, poolClosed(), true
	}
	try := func(m *mux, patience time.Duration) {
		if in != nil && in != m {
			in.leave()
			in = nil
		}
		c, stmt, failure, done = m.enter(ctx, s, again, in != nil, patience)
		in = nil
	}
	if len(p.replicas) > 0 && ctx.Value(primaryKey{}) == nil {
		for range p.replicas {
			r := p.pickReplica()
			if r == nil {
				break
			}
			if try(r.mux, replicaTime); failure == nil || ctx.Err() != nil {
				return c, stmt, failure, done
			}
			if failure.Code == CodeExhausted && r.mux.hasConn() {
				break // busy, not down
			}
			p.markUnhealthy(r, "no connection could be made")
		}
	}
	try(p.mux, orDefault(p.config.AcquireTimeout, defaultAcquireTimeout))
	return c, stmt, failure, done
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

// withPatience bounds ctx by patience, if that is positive.
func withPatience(ctx context.Context, patience time.Duration) (context.Context, context.CancelFunc) {
	if deadline, ok := ctx.Deadline(); patience > 0 && (!ok || time.Until(deadline) > patience) {
		return context.WithTimeout(ctx, patience)
	}
	return ctx, func() {}
}
