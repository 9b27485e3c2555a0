package pgcmd

import (
	"context"
	"crypto/tls"
	"net"
	"sync/atomic"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Instrument makes the connections of a pool that you build yourself tell whether
// anything was sent on them, as those of [Connect] do. Call it last, before
// [pgxpool.NewWithConfig]. Without it a failure that could have been proven
// harmless is Unknown; nothing else is lost.
func Instrument(cfg *pgxpool.Config) { instrument(&cfg.ConnConfig.Config) }

// instrument counts in the dialer, and so below TLS: a wrapper above it would hide
// the TLS connection from pgx, which needs it for channel binding.
func instrument(cfg *pgconn.Config) {
	dial := cfg.DialFunc
	cfg.DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := dial(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		return &wire{Conn: conn}, nil
	}
}

// A wire is a connection that counts the bytes handed to the system for sending.
// It is the exact test for "nothing was sent": a count that did not move.
type wire struct {
	net.Conn
	sent atomic.Int64
}

// terminate is the protocol's Terminate message.
const terminate = "X\x00\x00\x00\x04"

func (w *wire) Write(b []byte) (int, error) {
	n, err := w.Conn.Write(b)
	if string(b) == terminate {
		return n, err // pgx's goodbye to a dead connection, which asks for nothing
	}
	w.sent.Add(int64(n)) // what the system took, of a write that failed too
	return n, err
}

// sentBytes returns how much was ever sent on conn; ok is false if it is not
// instrumented.
func sentBytes(conn *pgx.Conn) (n int64, ok bool) {
	if conn == nil {
		return 0, false
	}
	c := conn.PgConn().Conn()
	if secure, ok := c.(*tls.Conn); ok {
		c = secure.NetConn()
	}
	if w, ok := c.(*wire); ok {
		return w.sent.Load(), true
	}
	return 0, false
}
