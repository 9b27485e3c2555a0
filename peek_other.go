//go:build !unix

package pgcmd

import "net"

// A peeker cannot look at a socket here.
type peeker struct{}

func newPeeker(net.Conn) *peeker { return nil }

func (*peeker) quiet() bool { return false }
