//go:build unix

package pgcmd

import (
	"net"
	"syscall"
)

// A socketPeeker checks the socket of an idle connection. Only the holder of the connection
// may use it.
type socketPeeker struct {
	raw   syscall.RawConn
	look  func(fd uintptr) // kept, so that a check does not allocate
	still bool             // the result
}

// newSocketPeeker returns nil if conn hides its socket, as that of a user's dialer may.
func newSocketPeeker(conn net.Conn) *socketPeeker {
	sys, ok := conn.(syscall.Conn)
	if !ok {
		return nil
	}
	raw, err := sys.SyscallConn()
	if err != nil {
		return nil
	}
	p := &socketPeeker{raw: raw}
	p.look = func(fd uintptr) {
		var b [1]byte
		_, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		p.still = err == syscall.EAGAIN || err == syscall.EWOULDBLOCK
	}
	return p
}

// isIdle reports whether nothing waits to be read, as it should be: PostgreSQL says
// something of its own accord only when it goes. It costs a system call, and no round
// trip.
func (p *socketPeeker) isIdle() bool {
	// Control and not Read: pgx leaves a reader behind when a write was slow, which may
	// be in the socket's Read for as long as nothing comes, and a second one would wait
	// for it.
	p.still = false
	return p.raw.Control(p.look) == nil && p.still
}
