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

	"github.com/pgcmd/pgcmd/internal/connpool"
	"github.com/pgcmd/pgcmd/internal/pgrows"
	"github.com/pgcmd/pgcmd/internal/stmtcache"
)

// imposedTimeout is the statement_timeout of shared connections if the user sets none. A
// statement that reaches it is run again on a connection of its own.
const imposedTimeout = 2 * time.Second

// setsTimeout reports whether the settings of a connection have a statement_timeout.
func setsTimeout(cc *pgx.ConnConfig) bool {
	_, ok := cc.RuntimeParams["statement_timeout"]
	return ok || strings.Contains(cc.RuntimeParams["options"], "statement_timeout")
}

// startDial dials a shared connection, if none is being dialed already.
func (m *mux) startDial() {
	if m.dialing || m.closed {
		return
	}
	m.dialing = true
	m.goroutines.Go(m.dial)
}

func (m *mux) dial() {
	for lost := 0; ; {
		m.mu.Lock()
		epoch := m.generation
		m.mu.Unlock()
		c, err := m.connect()
		again := connpool.IsStartingUp(err)
		if errors.Is(err, errLostInSetup) {
			lost++
			again = again || lost < maxLostRuns
		}
		if again && m.hasConnWaiters() && connpool.Sleep(m.ctx, connpool.StartingUpPause) {
			continue
		}
		var failure *Error
		if err != nil {
			failure = newAcquireError(m.ctx, m.pool, m.tracker, err)
		}
		m.mu.Lock()
		if c != nil && epoch != m.generation && !m.closed { // renewed meanwhile
			m.mu.Unlock()
			c.closeNet()
			continue
		}
		defer m.mu.Unlock()
		m.dialing = false
		switch {
		case m.closed:
			failure = poolClosed()
			if c != nil {
				c.closed = true
				c.closeNet()
			}
		case c != nil:
			m.redial = time.Time{}
			m.conns = append(m.conns, c)
			c.start()
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

// hasConnWaiters reports whether a caller waits for a connection.
func (m *mux) hasConnWaiters() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.connWaiters) > 0
}

// connect makes a shared connection as the pool makes its own.
func (m *mux) connect() (c *sharedConn, err error) {
	settings := m.pool.Config()
	cc := settings.ConnConfig
	if m.imposeTimeout {
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
		if c != nil {
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
	ctx, cancel := withPatience(m.ctx, orDefault(cc.ConnectTimeout, defaultConnectTimeout))
	defer cancel()
	timeout, err := timeoutOf(ctx, conn)
	if err != nil {
		return nil, err
	}
	if err := conn.PgConn().SyncConn(ctx); err != nil {
		return nil, err
	}
	w := connpool.Of(conn)
	raw, err := conn.PgConn().Hijack()
	if err != nil {
		return nil, err
	}
	c = newSharedConn(m, settings, conn, raw, w)
	c.timeout, c.imposed = timeout, m.imposeTimeout && timeout == imposedTimeout
	return c, nil
}

// errLostInSetup is the error of a connection that was lost after it was made and before it
// was ready, for example because its backend was terminated. Another may succeed.
var errLostInSetup = errors.New("pgcmd: the connection was lost while it was set up")

// errOpenTx is the error of a connection that AfterConnect left in a transaction.
var errOpenTx = errors.New("pgcmd: AfterConnect left a transaction open")

// timeoutOf returns the session's statement_timeout, however it was set: by the startup
// message, which a pooler may not pass on, or by AfterConnect. Zero: none.
func timeoutOf(ctx context.Context, conn *pgx.Conn) (time.Duration, error) {
	result := conn.PgConn().ExecParams(ctx, `select setting from pg_catalog.pg_settings where name = 'statement_timeout'`, nil, nil, nil, nil).Read()
	if result.Err != nil {
		return 0, result.Err
	}
	if len(result.Rows) != 1 || len(result.Rows[0]) != 1 {
		return 0, pgrows.ErrMalformed
	}
	ms, err := strconv.ParseInt(string(result.Rows[0][0]), 10, 64)
	return time.Duration(ms) * time.Millisecond, err
}

func newSharedConn(m *mux, settings *pgxpool.Config, conn *pgx.Conn, raw *pgconn.HijackedConn, w *connpool.Conn) *sharedConn {
	c := &sharedConn{mux: m, conn: conn, net: raw.Conn, tracked: w, wake: make(chan struct{}, 1), closing: make(chan struct{}), preparing: map[string]chan struct{}{},
		customTypes: settings.AfterConnect != nil, beforeClose: settings.BeforeClose, onNotice: connConfig(conn).OnNotice}
	c.statements = stmtcache.NewLRU(stmtcache.Size, func(_ string, stmt *preparedStmt) { c.toDeallocate = append(c.toDeallocate, stmt.sd.Name) })
	if settings.MaxConnLifetime > 0 {
		jitter := time.Duration(rand.Float64() * float64(settings.MaxConnLifetimeJitter))
		c.expires = time.Now().Add(settings.MaxConnLifetime + jitter)
	}
	c.tracer = connConfig(conn).Tracer
	c.free.New = func() any { return newRequest(c) }
	return c
}

func connConfig(conn *pgx.Conn) *pgx.ConnConfig { return conn.Config() }
