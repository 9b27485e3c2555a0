package pgcmd

import (
	"context"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// How often an ask that was not answered is sent anew: as the one that a connection may
// have been lost because of, or as one that could not help it.
const (
	maxLosses = 3
	maxMoves  = 10
)

// share asks over the shared connections. It is not done if the statement has to go
// the ordinary way.
func (s *statement) share(ctx context.Context, p *Pool, args []any, doubts unverifiedArgs, r *result) (failure *Error, done bool) {
	if err := ctx.Err(); err != nil {
		return newUnsentError(ctx, err), true
	}
	if failure := nested(ctx, p.Pool); failure != nil {
		return failure, true
	}
	var losses, moves, stale int
	var in *mux // that let it in
	for again := false; ; again = true {
		l, d, failure, done := p.enter(ctx, s, again, in)
		if !done || failure != nil {
			return failure, done
		}
		in = l.m
		a, d, came, failure := l.do(ctx, s, d, args, doubts)
		switch came {
		case outcomeFailed:
			return failure, true
		case outcomeUseDedicated:
			in.exit()
			return nil, false
		case outcomeConnClosed: // before it was there
			continue
		case outcomeStalePlan:
			l.invalidate(s.text.SQL, d)
			continue
		case outcomeRequeued:
			if moves++; a.headOfLine {
				losses++
			}
			switch {
			case losses == maxLosses:
				in.exit()
				return s.statementError(ctx, r, a.cause), true
			case moves == maxMoves:
				in.exit()
				return nil, false
			}
			continue
		}
		in = nil
		if a.refused == nil {
			r.rows, r.sharedRequest = a.rows, a
			return nil, true
		}
		// The server's word.
		err := a.refused
		a.rows.end(err)
		switch {
		case (err.Code == "26000" || provesOutdated(err)) && stale < maxMoves:
			stale++
			if l.m.invalidate(s.text.SQL, l, d) {
				p.stale.add(s.text.SQL, nil)
			}
		case err.Code == queryCanceled && l.imposed && !strings.Contains(err.Message, "user request"):
			l.m.leaveWaiting(s.text.SQL) // by our own limit, which the ordinary way does not have
			return nil, false
		default:
			if invalidates(err.Code) {
				l.invalidate(s.text.SQL, d)
			}
			return s.statementError(ctx, r, err), true
		}
	}
}

// enter finds a place on a shared connection: of a replica, if one is fit, as take does.
// in is the mux that has let the caller in before, nil if none has.
func (p *Pool) enter(ctx context.Context, s *statement, again bool, in *mux) (l *sharedConn, d *preparedStmt, failure *Error, done bool) {
	if p.closed.Load() {
		if in != nil {
			in.exit()
		}
		return nil, nil, poolClosed(), true
	}
	try := func(m *mux, patience time.Duration) {
		if in != nil && in != m {
			in.exit()
			in = nil
		}
		l, d, failure, done = m.enter(ctx, s, again, in != nil, patience)
		in = nil
	}
	if len(p.replicas) > 0 && ctx.Value(primaryKey{}) == nil {
		for range p.replicas {
			r := p.pickReplica()
			if r == nil {
				break
			}
			if try(r.mux, replicaTime); failure == nil || ctx.Err() != nil {
				return l, d, failure, done
			}
			if failure.Code == CodeExhausted && r.mux.open() {
				break // it is busy, not down
			}
			p.markUnhealthy(r, "no connection could be made")
		}
	}
	try(p.mux, orDefault(p.config.AcquireTimeout, defaultAcquireTimeout))
	return l, d, failure, done
}

// multiplexes lists why the settings of pgx's do not allow shared connections.
func multiplexes(settings *pgxpool.Config) (problems []Problem) {
	add := func(message string) {
		problems = append(problems, Problem{Field: "Multiplex", Rule: "config", Message: message})
	}
	//lint:ignore SA1019 a pool that sets it has to be refused all the same
	if settings.PrepareConn != nil || settings.BeforeAcquire != nil {
		add("cannot be had with PrepareConn or BeforeAcquire, which make a connection ready for one caller, where many share it")
	}
	if settings.ConnConfig.DefaultQueryExecMode != pgx.QueryExecModeCacheStatement {
		add("needs prepared statements: leave DefaultQueryExecMode at QueryExecModeCacheStatement, or Multiplex at zero")
	}
	return problems
}

// waitingFor is the context of a wait that is bounded by patience, if that is positive.
func waitingFor(ctx context.Context, patience time.Duration) (context.Context, context.CancelFunc) {
	if deadline, ok := ctx.Deadline(); patience > 0 && (!ok || time.Until(deadline) > patience) {
		return context.WithTimeout(ctx, patience)
	}
	return ctx, func() {}
}
