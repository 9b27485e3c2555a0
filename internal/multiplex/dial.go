package multiplex

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pgcmd/pgcmd/internal/connpool"
	"github.com/pgcmd/pgcmd/internal/pgrows"
	"github.com/pgcmd/pgcmd/internal/retry"
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
func (m *Mux) startDial() {
	if m.dialing || m.closed {
		return
	}
	m.dialing = true
	m.goroutines.Go(m.dial)
}

func (m *Mux) dial() {
	for lost := 0; ; {
		m.mu.Lock()
		generation := m.generation
		m.mu.Unlock()
		c, err := m.connect()
		again := connpool.IsStartingUp(err)
		if errors.Is(err, errLostInSetup) {
			lost++
			again = again || lost < maxLostRuns
		}
		if again && m.hasConnWaiters() && retry.Sleep(m.ctx, connpool.StartingUpPause) {
			continue
		}
		if err != nil {
			err = m.config.DialError(err)
		}
		m.mu.Lock()
		if c != nil && generation != m.generation && !m.closed { // renewed meanwhile
			m.mu.Unlock()
			c.closeNet()
			continue
		}
		defer m.mu.Unlock()
		m.dialing = false
		switch {
		case m.closed:
			err = ErrClosed
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
			w <- err
		}
		m.connWaiters = nil
		return
	}
}

// hasConnWaiters reports whether a caller waits for a connection.
func (m *Mux) hasConnWaiters() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.connWaiters) > 0
}

// connect makes a shared connection as the pool makes its own.
func (m *Mux) connect() (c *conn, err error) {
	settings := m.config.Pool.Config()
	cc := settings.ConnConfig
	if m.imposeTimeout {
		cc.RuntimeParams["statement_timeout"] = strconv.FormatInt(imposedTimeout.Milliseconds(), 10)
	}
	if settings.BeforeConnect != nil {
		if err := settings.BeforeConnect(m.ctx, cc); err != nil {
			return nil, err
		}
	}
	pc, err := pgx.ConnectConfig(m.ctx, cc)
	if err != nil {
		return nil, err
	}
	defer func() {
		if c != nil {
			return
		}
		if pc.IsClosed() {
			err = fmt.Errorf("%w: %w", errLostInSetup, err)
		}
		_ = pc.Close(context.WithoutCancel(m.ctx))
	}()
	if settings.AfterConnect != nil {
		if err := settings.AfterConnect(m.ctx, pc); err != nil {
			return nil, err
		}
	}
	if pc.PgConn().TxStatus() != 'I' {
		return nil, ErrOpenTx
	}
	ctx, cancel := withPatience(m.ctx, cmp.Or(cc.ConnectTimeout, m.config.ConnectTimeout))
	defer cancel()
	timeout, err := timeoutOf(ctx, pc)
	if err != nil {
		return nil, err
	}
	setting := stmtcache.Name(pc.PgConn().PID(), 0)
	if m.config.Settings {
		if _, err := pc.PgConn().Prepare(ctx, setting, stmtcache.SetSQL, nil); err != nil {
			return nil, err
		}
	}
	if err := pc.PgConn().SyncConn(ctx); err != nil {
		return nil, err
	}
	tracked := connpool.Of(pc)
	raw, err := pc.PgConn().Hijack()
	if err != nil {
		return nil, err
	}
	c = newConn(m, settings, pc, raw.Conn, tracked)
	c.setting = setting
	c.timeout, c.imposed = timeout, m.imposeTimeout && timeout == imposedTimeout
	return c, nil
}

// withPatience bounds ctx by patience, if that is positive.
func withPatience(ctx context.Context, patience time.Duration) (context.Context, context.CancelFunc) {
	if deadline, ok := ctx.Deadline(); patience > 0 && (!ok || time.Until(deadline) > patience) {
		return context.WithTimeout(ctx, patience)
	}
	return ctx, func() {}
}

// timeoutOf returns the session's statement_timeout, however it was set: by the startup
// message, which a pooler may not pass on, or by AfterConnect. Zero: none.
func timeoutOf(ctx context.Context, pc *pgx.Conn) (time.Duration, error) {
	result := pc.PgConn().ExecParams(ctx, `select setting from pg_catalog.pg_settings where name = 'statement_timeout'`, nil, nil, nil, nil).Read()
	if result.Err != nil {
		return 0, result.Err
	}
	if len(result.Rows) != 1 || len(result.Rows[0]) != 1 {
		return 0, pgrows.ErrMalformed
	}
	ms, err := strconv.ParseInt(string(result.Rows[0][0]), 10, 64)
	return time.Duration(ms) * time.Millisecond, err
}

func newConn(m *Mux, settings *pgxpool.Config, pc *pgx.Conn, netConn net.Conn, tracked *connpool.Conn) *conn {
	cc := pc.Config()
	c := &conn{mux: m, conn: pc, net: netConn, tracked: tracked, wake: make(chan struct{}, 1), closing: make(chan struct{}), preparing: map[string]chan struct{}{},
		customTypes: m.config.CustomTypes, tracer: cc.Tracer, beforeClose: settings.BeforeClose, onNotice: cc.OnNotice}
	c.statements = stmtcache.NewLRU(stmtcache.Size, func(_ string, stmt *preparedStmt) { c.toDeallocate = append(c.toDeallocate, stmt.sd.Name) })
	if settings.MaxConnLifetime > 0 {
		jitter := time.Duration(rand.Float64() * float64(settings.MaxConnLifetimeJitter))
		c.expires = time.Now().Add(settings.MaxConnLifetime + jitter)
	}
	c.free.New = func() any { return newRequest(c) }
	return c
}
