//go:build unix

package connpool

import (
	"net"
	"syscall"
)

// A socket checks the socket of an idle connection. Only the holder of the connection may
// use it.
type socket struct {
	raw  syscall.RawConn
	peek func(fd uintptr) // kept, so that a check does not allocate
	idle bool             // the result of peek
}

// newSocket returns nil if conn hides its socket, as that of a user's dialer may.
func newSocket(conn net.Conn) *socket {
	sys, ok := conn.(syscall.Conn)
	if !ok {
		return nil
	}
	raw, err := sys.SyscallConn()
	if err != nil {
		return nil
	}
	s := &socket{raw: raw}
	s.peek = func(fd uintptr) {
		var b [1]byte
		_, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		s.idle = err == syscall.EAGAIN || err == syscall.EWOULDBLOCK
	}
	return s
}

// isIdle reports whether nothing can be read: PostgreSQL sends something unasked only when
// it closes the connection. It costs a system call, and no round trip.
func (s *socket) isIdle() bool {
	// Control and not Read: after a slow write a background reader of pgx's may be blocked
	// in the socket's Read until something is received, and a second Read would wait for it.
	s.idle = false
	return s.raw.Control(s.peek) == nil && s.idle
}
