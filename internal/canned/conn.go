package canned

import (
	"io"
	"net"
	"os"
	"sync"
	"time"
)

// A conn is the client's end of a session. Write hands the client's messages to the backend and returns when they are
// answered, so that the Read which follows need not wait.
type conn struct {
	mu      sync.Mutex
	wake    sync.Cond // there may be something to read, or a reason not to wait for it
	backend backend
	closed  bool

	readBy, writeBy deadline
}

func newConn(s *Server) *conn {
	c := &conn{backend: backend{server: s, statements: map[string]*reply{}}}
	c.backend.conn = c
	c.wake.L = &c.mu
	return c
}

// Read waits while there is nothing to read: after a statement that hangs, or ahead of one that a goroutine of the
// client's is still to send.
func (c *conn) Read(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		switch {
		case c.closed:
			return 0, net.ErrClosed
		case c.readBy.passed:
			return 0, os.ErrDeadlineExceeded
		}
		if n := c.backend.read(p); n > 0 || len(p) == 0 {
			return n, nil
		}
		if c.backend.gone {
			return 0, io.EOF
		}
		c.wake.Wait()
	}
}

func (c *conn) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.closed:
		return 0, net.ErrClosed
	case c.writeBy.passed:
		return 0, os.ErrDeadlineExceeded
	case c.backend.gone:
		return 0, io.ErrClosedPipe
	}
	c.backend.write(p)
	c.wake.Broadcast()
	return len(p), nil
}

func (c *conn) cancel() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.backend.cancel()
	c.wake.Broadcast()
}

func (c *conn) Close() error {
	c.mu.Lock()
	c.closed = true
	c.readBy.stop()
	c.writeBy.stop()
	c.wake.Broadcast()
	id := c.backend.id
	c.mu.Unlock()

	c.backend.server.leave(id)
	return nil
}

func (c *conn) LocalAddr() net.Addr  { return addr{} }
func (c *conn) RemoteAddr() net.Addr { return addr{} }

type addr struct{}

func (addr) Network() string { return "canned" }
func (addr) String() string  { return "canned" }

func (c *conn) SetDeadline(t time.Time) error {
	c.set(&c.readBy, t)
	c.set(&c.writeBy, t)
	return nil
}

func (c *conn) SetReadDeadline(t time.Time) error {
	c.set(&c.readBy, t)
	return nil
}

func (c *conn) SetWriteDeadline(t time.Time) error {
	c.set(&c.writeBy, t)
	return nil
}

// A deadline is told when it passes, which spares Read and Write the clock. Like that of a socket it is set without an
// allocation, but for the first time.
type deadline struct {
	passed bool
	at     time.Time // zero: never
	timer  *time.Timer
}

func (c *conn) set(d *deadline, t time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	d.stop()
	d.passed = false
	wait := time.Until(t)
	switch {
	case t.IsZero() || c.closed:
	case wait <= 0:
		d.passed = true
		c.wake.Broadcast()
	case d.timer == nil:
		d.at = t
		d.timer = time.AfterFunc(wait, func() { c.pass(d) })
	default:
		d.at = t
		d.timer.Reset(wait)
	}
}

// pass is called when a deadline has passed, or one that was replaced meanwhile.
func (c *conn) pass(d *deadline) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !d.at.IsZero() && !time.Now().Before(d.at) {
		d.passed = true
		c.wake.Broadcast()
	}
}

func (d *deadline) stop() {
	if d.timer != nil {
		d.timer.Stop()
	}
	d.at = time.Time{}
}
