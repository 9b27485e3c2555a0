//go:build !unix

package pgcmd

import "net"

// A socketPeeker cannot check a socket here.
type socketPeeker struct{}

func newSocketPeeker(net.Conn) *socketPeeker { return nil }

func (*socketPeeker) isIdle() bool { return false }
