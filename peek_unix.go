//go:build unix

package pgcmd

import (
	"net"
	"syscall"
)

// quiet reports whether nothing waits to be read on an idle connection, as it should
// be: PostgreSQL says something of its own accord only when it goes. It costs a system
// call, and no round trip.
func quiet(conn net.Conn) bool {
	raw, ok := conn.(syscall.Conn)
	if !ok {
		return false
	}
	c, err := raw.SyscallConn()
	if err != nil {
		return false
	}
	still := false
	var b [1]byte
	// Control and not Read: pgx leaves a reader behind when a write was slow, which may
	// be in the socket's Read for as long as nothing comes, and a second one would wait
	// for it.
	err = c.Control(func(fd uintptr) {
		_, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		still = err == syscall.EAGAIN || err == syscall.EWOULDBLOCK
	})
	return err == nil && still
}
