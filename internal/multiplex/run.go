package multiplex

import (
	"context"
	"strings"
	"time"

	"github.com/pgcmd/pgcmd/internal/sqlstate"
	"github.com/pgcmd/pgcmd/internal/stmtcache"
	"github.com/pgcmd/pgcmd/internal/typemap"
)

// How often a query that was not answered is sent again: after its connection was lost,
// perhaps because of it, and in all.
const (
	maxLostRuns = 3
	maxReruns   = 10
)

// A Query is one query.
type Query struct {
	Name       string // of the command
	SQL        string
	Args       []any
	Unverified typemap.Unverified
	Settings   []stmtcache.Setting // set before it, in its transaction
}

// A Run is one run of a Query, which is sent until it is answered, on one connection or on
// several, of one Mux or of several. Enter and Do are called in turn.
type Run struct {
	Query
	slot  *Mux // in which the run has a slot; nil: none
	conn  *conn
	stmt  *preparedStmt
	again bool // it was sent before, or nearly

	lostRuns, reruns, outdated int
}

// Enter takes a slot of m and reserves a place on one of its connections, for Do. It waits no
// longer than patience, if that is positive. After an error the run has no slot. The error
// is ErrClosed, ErrDedicated, a *CapacityError, or that of a dial.
func (r *Run) Enter(ctx context.Context, m *Mux, patience time.Duration) (err error) {
	if r.slot != m {
		r.Leave()
	}
	r.conn, r.stmt, err = m.enter(ctx, r.SQL, r.again, r.slot != nil, patience)
	if r.slot = m; err != nil {
		r.slot = nil
	}
	return err
}

// Leave gives back the slot of a run that will not Enter again.
func (r *Run) Leave() {
	if r.slot != nil {
		r.slot.leave()
		r.slot = nil
	}
}

// Do sends the query and waits for its reply. It returns nil and no error if the query has
// to be sent again: then Enter comes next. After an error the run has ended. The error is
// ErrDedicated, a *pgconn.PgError, an *EncodeError, a *typemap.ArgError, the context's, or
// why connections were lost.
func (r *Run) Do(ctx context.Context) (*Request, error) {
	r.again = true
	m, c := r.slot, r.conn
	req, stmt, outcome, err := c.do(ctx, &r.Query, r.stmt)
	switch outcome {
	case outcomeFailed:
		r.slot = nil
		return nil, err
	case outcomeUseDedicated:
		r.Leave()
		return nil, ErrDedicated
	case outcomeConnClosed: // before the request was queued
		return nil, nil
	case outcomeStalePlan:
		c.invalidate(r.SQL, stmt)
		return nil, nil
	case outcomeRequeued:
		if r.reruns++; req.headOfLine {
			r.lostRuns++
		}
		switch {
		case r.lostRuns == maxLostRuns:
			r.Leave()
			return nil, req.cause
		case r.reruns == maxReruns:
			r.Leave()
			return nil, ErrDedicated
		}
		return nil, nil
	}
	r.slot = nil // the answer has released it
	pgErr := req.pgErr
	if pgErr == nil {
		return req, nil
	}
	req.rows.End(pgErr)
	switch {
	case (pgErr.Code == "26000" || sqlstate.ProvesOutdated(pgErr)) && r.outdated < maxReruns:
		r.outdated++
		if m.invalidate(r.SQL, c, stmt) {
			m.config.OnOutdated(r.SQL)
		}
		return nil, nil
	case pgErr.Code == sqlstate.QueryCanceled && c.imposed && !strings.Contains(pgErr.Message, "user request"):
		m.bypassStatement(r.SQL) // by imposedTimeout, which other connections do not have
		return nil, ErrDedicated
	}
	if n := req.completions; n < len(r.Settings) {
		return nil, stmtcache.RefusedSetting(r.Settings[n].Name, pgErr)
	}
	if sqlstate.InvalidatesStatement(pgErr.Code) {
		c.invalidate(r.SQL, stmt)
	}
	return nil, pgErr
}
