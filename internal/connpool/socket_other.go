//go:build !unix

package connpool

import "net"

// A socket cannot be checked on this system.
type socket struct{}

func newSocket(net.Conn) *socket { return nil }

func (*socket) isIdle() bool { return false }
