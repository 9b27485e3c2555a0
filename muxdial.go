package pgcmd

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// imposedTimeout is the statement_timeout of lanes, if the user sets none. A statement
// that reaches it is run again the ordinary way.
const imposedTimeout = 2 * time.Second

// setsTimeout reports whether the settings of a connection have a statement_timeout.
func setsTimeout(cc *pgx.ConnConfig) bool {
	_, ok := cc.RuntimeParams["statement_timeout"]
	return ok || strings.Contains(cc.RuntimeParams["options"], "statement_timeout")
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
	for lost := 0; ; {
		m.mu.Lock()
		epoch := m.epoch
		m.mu.Unlock()
		l, err := m.connect()
		again := isStartingUp(err)
		if errors.Is(err, errLostInSetup) {
			lost++
			again = again || lost < maxLosses
		}
		if again && m.dialed() && sleep(m.ctx, startingUpPause) {
			continue
		}
		var failure *Error
		if err != nil {
			failure = newAcquireError(m.ctx, m.pool, m.tracker, err)
		}
		m.mu.Lock()
		if l != nil && epoch != m.epoch && !m.closed { // renewed while it was made
			m.mu.Unlock()
			l.end()
			continue
		}
		defer m.mu.Unlock()
		m.dialing = false
		switch {
		case m.closed:
			failure = poolClosed()
			if l != nil {
				l.closed = true
				l.end()
			}
		case l != nil:
			m.redial = time.Time{}
			m.conns = append(m.conns, l)
			l.start()
		default:
			m.redial = time.Now().Add(redialPause)
		}
		for _, w := range m.connWaiters {
			if failure == nil {
				w.ready <- nil
				continue
			}
			e := *failure
			w.ready <- &e
		}
		m.connWaiters = nil
		return
	}
}

// dialed reports whether somebody waits for a lane.
func (m *mux) dialed() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.connWaiters) > 0
}

// connect makes a lane as the pool makes its connections.
func (m *mux) connect() (l *sharedConn, err error) {
	settings := m.pool.Config()
	cc := settings.ConnConfig
	if m.impose {
		cc.RuntimeParams["statement_timeout"] = strconv.FormatInt(imposedTimeout.Milliseconds(), 10)
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
		if l != nil {
			return
		}
		if conn.IsClosed() {
			err = fmt.Errorf("%w: %w", errLostInSetup, err)
		}
		_ = conn.Close(context.WithoutCancel(m.ctx))
	}()
	if settings.AfterConnect != nil {
		if err := settings.AfterConnect(m.ctx, conn); err != nil {
			return nil, err
		}
	}
	if conn.PgConn().TxStatus() != 'I' {
		return nil, errOpenTx
	}
	ctx, cancel := waitingFor(m.ctx, orDefault(cc.ConnectTimeout, defaultConnectTimeout))
	defer cancel()
	timeout, err := timeoutOf(ctx, conn)
	if err != nil {
		return nil, err
	}
	if err := conn.PgConn().SyncConn(ctx); err != nil {
		return nil, err
	}
	w := netConnOf(conn)
	raw, err := conn.PgConn().Hijack()
	if err != nil {
		return nil, err
	}
	l = newSharedConn(m, settings, conn, raw, w)
	l.timeout, l.imposed = timeout, m.impose && timeout == imposedTimeout
	return l, nil
}

// errLostInSetup is the error of a connection that was made, and lost before it was ready:
// somebody has ended its backend, and the next one may live.
var errLostInSetup = errors.New("pgcmd: the connection was lost while it was set up")

// errOpenTx is the error of a connection that cannot be shared.
var errOpenTx = errors.New("pgcmd: AfterConnect left a transaction open")

// timeoutOf asks for the session's statement_timeout, whoever has set it: the startup
// message, which a pooler may not pass on, or AfterConnect. Zero: none.
func timeoutOf(ctx context.Context, conn *pgx.Conn) (time.Duration, error) {
	result := conn.PgConn().ExecParams(ctx, `select setting from pg_catalog.pg_settings where name = 'statement_timeout'`, nil, nil, nil, nil).Read()
	if result.Err != nil {
		return 0, result.Err
	}
	if len(result.Rows) != 1 || len(result.Rows[0]) != 1 {
		return 0, errMalformed
	}
	ms, err := strconv.ParseInt(string(result.Rows[0][0]), 10, 64)
	return time.Duration(ms) * time.Millisecond, err
}

func newSharedConn(m *mux, settings *pgxpool.Config, conn *pgx.Conn, raw *pgconn.HijackedConn, w *netConn) *sharedConn {
	l := &sharedConn{m: m, conn: conn, net: raw.Conn, wire: w, wake: make(chan struct{}, 1), gone: make(chan struct{}), statements: map[string]*preparedStmt{}, describing: map[string]chan struct{}{},
		custom: settings.AfterConnect != nil, beforeClose: settings.BeforeClose, onNotice: cc(conn).OnNotice}
	if settings.MaxConnLifetime > 0 {
		jitter := time.Duration(rand.Float64() * float64(settings.MaxConnLifetimeJitter))
		l.expires = time.Now().Add(settings.MaxConnLifetime + jitter)
	}
	l.tracer = cc(conn).Tracer
	l.free.New = func() any { return newRequest(l) }
	return l
}

func cc(conn *pgx.Conn) *pgx.ConnConfig { return conn.Config() }
