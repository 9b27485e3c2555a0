// Package connpool makes the connections of a pgxpool fit for commands: it counts what is
// sent on them, checks the socket of one that was idle, limits the size of replies, records
// which command holds which connection, admits commands in the order in which they come, and
// hands connections from one to the next.
// It does not know what a command is, nor what an error means to its caller.
package connpool

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

// Instrument prepares a pool that is made from cfg: there is a [Conn] below its connections,
// recorded in t, and its hooks are wrapped. t may be nil; a pool with a Tracker can have an
// [Acquirer].
func Instrument(cfg *pgxpool.Config, t *Tracker, stale *StaleStatements) {
	filterRows(&cfg.ConnConfig.Config)
	countBytes(&cfg.ConnConfig.Config, t, stale)
	if t != nil {
		t.hasHooks = hasHooks(cfg)
	}
	wrapHooks(cfg)
}

// countBytes makes the dialer return a Conn, which is below TLS: a wrapper above TLS would
// hide the TLS connection from pgx, which needs it for channel binding.
func countBytes(cfg *pgconn.Config, t *Tracker, stale *StaleStatements) {
	dial := cfg.DialFunc
	cfg.DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error) {
		seen := stale.count.Load()
		conn, err := dial(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		c := &Conn{Conn: conn, tracker: t, socket: newSocket(conn), stale: stale, seen: seen}
		c.receivedAtRelease.Store(-1)
		t.add(c)
		return c, nil
	}
}

// A Conn counts the bytes that are handed to the system for sending. A count that did not
// change proves that nothing was sent.
type Conn struct {
	net.Conn
	sent              atomic.Int64
	received          atomic.Int64
	receivedAtRelease atomic.Int64 // received, when it was released; -1: not released since
	unreplicated      atomic.Int32

	socket *socket    // nil: the socket cannot be checked
	filter *RowFilter // above it and TLS; nil before there is a Frontend

	tracker    *Tracker // of its pool; nil if there is none
	generation int64    // of the tracker, when it was made
	command    atomic.Pointer[string]
	since      atomic.Int64 // when the command acquired it, on the tracker's clock
	warned     atomic.Bool  // that it is held for so long

	stale *StaleStatements // of its pool

	// For the holder only:
	seen      int64      // the number of the last of stale that it has invalidated
	semaphore *semaphore // that the holder has a slot of; nil if it has none
	handOffs  int        // since pgxpool has given it
}

// Of returns the Conn below conn, or nil if conn is not instrumented.
func Of(conn *pgx.Conn) *Conn {
	if conn == nil {
		return nil
	}
	return OfPgConn(conn.PgConn())
}

// OfPgConn is [Of] for a connection of pgconn.
func OfPgConn(conn *pgconn.PgConn) *Conn { return unwrap(conn.Conn()) }

// unwrap returns the Conn that conn, which may be of TLS, writes to.
func unwrap(conn any) *Conn {
	if secure, ok := conn.(*tls.Conn); ok {
		conn = secure.NetConn()
	}
	c, _ := conn.(*Conn)
	return c
}

// terminate is the protocol's Terminate message.
const terminate = "X\x00\x00\x00\x04"

func (c *Conn) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	if string(b) == terminate {
		return n, err // pgx sends it to a dead connection
	}
	c.sent.Add(int64(n)) // also of a write that failed
	return n, err
}

func (c *Conn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.received.Add(int64(n))
	return n, err
}

func (c *Conn) Close() error {
	c.tracker.remove(c)
	return c.Conn.Close()
}

// Sent returns how many bytes were sent.
func (c *Conn) Sent() int64 { return c.sent.Load() }

// Sent returns how many bytes were sent on conn; ok is false if conn is not instrumented.
func Sent(conn *pgx.Conn) (n int64, ok bool) {
	if c := Of(conn); c != nil {
		return c.sent.Load(), true
	}
	return 0, false
}

// Unreplicated returns how many commits the synchronous standby did not confirm; zero for a
// nil Conn.
func (c *Conn) Unreplicated() int32 {
	if c == nil {
		return 0
	}
	return c.unreplicated.Load()
}

// AddUnreplicated counts a commit that the synchronous standby did not confirm.
func (c *Conn) AddUnreplicated() {
	if c != nil {
		c.unreplicated.Add(1)
	}
}

// InvalidatePool replaces all connections of the pool that the Conn is in, if any, after an
// error that means that the server is shutting down or has become read-only, once for each
// time that happens.
func (c *Conn) InvalidatePool(sqlstate string) {
	if c != nil {
		c.tracker.invalidate(c, sqlstate)
	}
}

func (c *Conn) markAcquired(command *string) {
	if c.warned.Load() {
		c.warned.Store(false)
	}
	c.since.Store(int64(c.tracker.now()))
	c.command.Store(command)
}

func (c *Conn) markReleased() {
	c.receivedAtRelease.Store(c.received.Load())
	c.command.Store(nil)
}

// maxUncheckedIdle is how long a connection may be idle before the socket is checked again:
// the server is as likely to close it between the check and the statement.
const maxUncheckedIdle = 100 * time.Microsecond

// needsPing reports whether a connection that was idle for so long has to be pinged before
// it is used: something was received since it was released, also something that pgx's
// background reader has read after a slow write. A connection whose socket cannot be
// checked is pinged by pgx's own rule.
func (c *Conn) needsPing(idle time.Duration) bool {
	if c == nil {
		return idle > time.Second
	}
	if before := c.receivedAtRelease.Swap(-1); before >= 0 && before != c.received.Load() {
		return true
	}
	if c.socket == nil {
		return idle > time.Second
	}
	return idle > maxUncheckedIdle && !c.socket.isIdle()
}
