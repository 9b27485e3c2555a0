package pgcmd

import (
	"context"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// imposedTimeout is the statement_timeout of lanes, if the user sets none. A statement
// that reaches it is run again the ordinary way.
const imposedTimeout = 2 * time.Second

// laneTimeout is the statement_timeout of lanes, and whether it is ours.
func laneTimeout(cc *pgx.ConnConfig) (timeout time.Duration, imposed bool) {
	text, ok := cc.RuntimeParams["statement_timeout"]
	if !ok {
		return imposedTimeout, true
	}
	if ms, err := strconv.Atoi(text); err == nil {
		return time.Duration(ms) * time.Millisecond, false
	}
	timeout, _ = time.ParseDuration(text) // PostgreSQL's units are Go's, but for "min" and "d"
	return timeout, false
}

// startDial makes a lane, if one is not being made already.
func (m *mux) startDial() {
	if m.dialing || m.closed {
		return
	}
	m.dialing = true
	m.ended.Go(m.dial)
}

func (m *mux) dial() {
	for {
		l, err := m.connect()
		if err != nil && comesUp(err) && m.hoped() && pause(m.ctx, comesUpPause) {
			continue
		}
		var failure *Error
		if err != nil {
			failure = notAcquired(m.ctx, m.pool, m.keeper, err)
		}
		m.mu.Lock()
		defer m.mu.Unlock()
		m.dialing = false
		switch {
		case m.closed:
			failure = errMuxClosed()
			if l != nil {
				l.over = true
				l.end()
			}
		case l != nil:
			m.redial = time.Time{}
			m.lanes = append(m.lanes, l)
			l.start()
		default:
			m.redial = time.Now().Add(redialPause)
		}
		for _, w := range m.hoping {
			if failure == nil {
				w.came <- nil
				continue
			}
			e := *failure
			w.came <- &e
		}
		m.hoping = nil
		return
	}
}

// hoped reports whether somebody waits for a lane.
func (m *mux) hoped() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.hoping) > 0
}

// connect makes a lane as the pool makes its connections.
func (m *mux) connect() (l *lane, err error) {
	settings := m.pool.Config()
	cc := settings.ConnConfig
	if m.imposed {
		cc.RuntimeParams["statement_timeout"] = strconv.FormatInt(m.timeout.Milliseconds(), 10)
	}
	if settings.BeforeConnect != nil {
		if err := settings.BeforeConnect(m.ctx, cc); err != nil {
			return nil, err
		}
	}
	conn, err := pgx.ConnectConfig(m.ctx, cc)
	if err != nil {
		return nil, err
	}
	defer func() {
		if l == nil {
			_ = conn.Close(context.WithoutCancel(m.ctx))
		}
	}()
	if settings.AfterConnect != nil {
		if err := settings.AfterConnect(m.ctx, conn); err != nil {
			return nil, err
		}
	}
	if err := conn.PgConn().SyncConn(m.ctx); err != nil {
		return nil, err
	}
	w := wireOf(conn)
	raw, err := conn.PgConn().Hijack()
	if err != nil {
		return nil, err
	}
	return newLane(m, settings, conn, raw, w), nil
}

func newLane(m *mux, settings *pgxpool.Config, conn *pgx.Conn, raw *pgconn.HijackedConn, w *wire) *lane {
	l := &lane{m: m, conn: conn, net: raw.Conn, wire: w, wake: make(chan struct{}, 1), gone: make(chan struct{}), known: map[string]*described{}, describing: map[string]chan struct{}{},
		custom: settings.AfterConnect != nil, beforeClose: settings.BeforeClose, onNotice: cc(conn).OnNotice}
	if settings.MaxConnLifetime > 0 {
		jitter := time.Duration(rand.Float64() * float64(settings.MaxConnLifetimeJitter))
		l.expires = time.Now().Add(settings.MaxConnLifetime + jitter)
	}
	l.tracer = cc(conn).Tracer
	l.free.New = func() any { return newAsk(l) }
	return l
}

func cc(conn *pgx.Conn) *pgx.ConnConfig { return conn.Config() }
