package pgcmd

import (
	"context"
	"crypto/tls"
	"net"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Instrument gives the connections of a pool that you build yourself what those of
// [Connect] have: they tell whether anything was sent on them, without which a
// failure that could have been proven harmless is Unknown; a look at the socket of one
// that was idle, before its next use, so that one that died is not handed out; and hooks of yours
// that panic neither end the process nor lose a connection: the panic becomes an
// error, and the connection goes. They also tell an [Outcome] that a single statement was
// committed without the synchronous standby; an OnNotice of yours is still called. Call it
// last, before [pgxpool.NewWithConfig].
func Instrument(cfg *pgxpool.Config) {
	instrument(&cfg.ConnConfig.Config, nil, newStaleStatements())
	wrapHooks(cfg)
}

// instrument counts in the dialer, and so below TLS: a wrapper above it would hide
// the TLS connection from pgx, which needs it for channel binding.
func instrument(cfg *pgconn.Config, of *tracker, stale *staleStatements) {
	filterRows(cfg)
	countUnreplicated(cfg)
	dial := cfg.DialFunc
	cfg.DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error) {
		seen := stale.count.Load()
		conn, err := dial(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		w := &netConn{Conn: conn, tracker: of, peeker: newSocketPeeker(conn), stale: stale, seen: seen}
		w.bytesAtRelease.Store(-1)
		of.made(w)
		return w, nil
	}
}

// A netConn counts the bytes that are handed to the system for sending. A count that did not
// change proves that nothing was sent.
type netConn struct {
	net.Conn
	sent           atomic.Int64
	got            atomic.Int64 // bytes received
	bytesAtRelease atomic.Int64 // got, when it was released; -1: not released since
	unreplicated   atomic.Int32 // how often the server has said that a COMMIT is not on the standby

	peeker *socketPeeker // nil: the socket cannot be read
	filter *rowFilter    // above it and TLS; nil before there is a Frontend

	tracker *tracker // of the pool that it is in; nil if it is not one of Connect's
	epoch   int64    // of the pool, when it was made
	holder  atomic.Pointer[string]
	since   atomic.Int64 // when the holder acquired it, on the tracker's clock
	warned  atomic.Bool  // that it is held for so long

	stale *staleStatements // of its pool

	// For the holder only:
	seen   int64      // the number of the last of stale that it has forgotten
	place  *semaphore // that the holder has a slot of; nil if it has none
	handed int        // how often in a row it was handed over
}

// terminate is the protocol's Terminate message.
const terminate = "X\x00\x00\x00\x04"

func (w *netConn) Write(b []byte) (int, error) {
	n, err := w.Conn.Write(b)
	if string(b) == terminate {
		return n, err // pgx sends it to a dead connection
	}
	w.sent.Add(int64(n)) // also of a write that failed
	return n, err
}

func (w *netConn) Read(b []byte) (int, error) {
	n, err := w.Conn.Read(b)
	w.got.Add(int64(n))
	return n, err
}

func (w *netConn) Close() error {
	w.tracker.lost(w)
	return w.Conn.Close()
}

// markAcquired records the command that holds the connection.
func (w *netConn) markAcquired(command *string) {
	if w.warned.Load() {
		w.warned.Store(false)
	}
	w.since.Store(int64(w.tracker.now()))
	w.holder.Store(command)
}

func (w *netConn) markReleased() {
	w.bytesAtRelease.Store(w.got.Load())
	w.holder.Store(nil)
}

// maxUncheckedIdle is how long a connection may be idle before the socket is checked again:
// the server is as likely to close it between the check and the statement.
const maxUncheckedIdle = 100 * time.Microsecond

// needsPing reports whether a connection that was idle for so long has to be pinged before
// it is used: something was received since it was released, also something that pgx's
// background reader has read after a slow write. A connection whose socket cannot be
// checked is pinged by pgx's own rule.
func (w *netConn) needsPing(idle time.Duration) bool {
	if w == nil {
		return idle > time.Second
	}
	if rested := w.bytesAtRelease.Swap(-1); rested >= 0 && rested != w.got.Load() {
		return true
	}
	if w.peeker == nil {
		return idle > time.Second
	}
	return idle > maxUncheckedIdle && !w.peeker.isIdle()
}

// netConnOf returns the netConn below conn, or nil if it is not instrumented.
func netConnOf(conn *pgx.Conn) *netConn {
	if conn == nil {
		return nil
	}
	return unwrapNetConn(conn.PgConn().Conn())
}

func unwrapNetConn(c any) *netConn {
	if secure, ok := c.(*tls.Conn); ok {
		c = secure.NetConn()
	}
	w, _ := c.(*netConn)
	return w
}

// sentBytes returns how many bytes were sent on conn; ok is false if it is not
// instrumented.
func sentBytes(conn *pgx.Conn) (n int64, ok bool) {
	if w := netConnOf(conn); w != nil {
		return w.sent.Load(), true
	}
	return 0, false
}
