//go:build !unix

package pgcmd

import "net"

// quiet cannot look at a socket here: the connection is asked by a round trip.
func quiet(net.Conn) bool { return false }
