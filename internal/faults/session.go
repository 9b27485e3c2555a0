package faults

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
)

// What an untyped packet at the start of a connection asks for.
const (
	cancelRequest = 80877102
	sslRequest    = 80877103
	gssEncRequest = 80877104
)

// The states of a session. Only open ones are counted, and hit.
const (
	open      int32 = iota
	broken          // ends when either side does
	swallowed       // ends only by Heal or Close
)

// A session is a connection of a client's and the one to the server that belongs to it.
type session struct {
	proxy             *Proxy
	frontend, backend relay
	relays            sync.WaitGroup
	ready             atomic.Bool  // the start-up is over
	state             atomic.Int32 // changes under the proxy's mu
	owed              owed
	trace             *trace
	plan              *plan // that was followed when it started
	nth               int64 // that was started under it

	mu             sync.Mutex
	ended          bool
	client, server socket
	done           chan struct{} // closed when it has ended
}

// A socket is a [net.TCPConn] or a [net.UnixConn].
type socket interface {
	net.Conn
	CloseWrite() error
}

func newSession(p *Proxy, client socket) *session {
	s := &session{proxy: p, client: client, done: make(chan struct{})}
	s.frontend = relay{session: s, direction: Frontend, from: client, buf: make([]byte, bufferSize)}
	return s
}

func (s *session) run() {
	defer s.end()
	code, size, err := s.greet()
	if err != nil {
		return
	}
	server, err := s.dial()
	if err != nil {
		return
	}
	if code == cancelRequest {
		s.proxy.counts.cancels.Add(1)
		if _, err := server.Write(s.frontend.rest()[:size]); err == nil {
			io.Copy(io.Discard, server) // the client waits until the server has acted on it
		}
		return
	}
	s.register()
	s.frontend.to = server
	s.backend = relay{session: s, direction: Backend, from: server, to: s.client, buf: make([]byte, bufferSize)}
	s.relays.Go(func() {
		s.backend.run()
		s.serverLeft()
	})
	if s.frontend.pass(size) == nil {
		s.frontend.run()
	}
	s.clientLeft()
	s.relays.Wait()
}

// greet reads up to the packet that is for the server, which it leaves in the buffer.
func (s *session) greet() (code uint32, size int, err error) {
	r := &s.frontend
	for {
		if err := r.need(8); err != nil {
			return 0, 0, err
		}
		size, code = int(binary.BigEndian.Uint32(r.rest())), binary.BigEndian.Uint32(r.rest()[4:])
		if code != sslRequest && code != gssEncRequest {
			break
		}
		r.drop(8)
		if _, err := s.client.Write([]byte("N")); err != nil {
			return 0, 0, err
		}
	}
	if size < 8 || size > 10_000 { // PostgreSQL's own bound
		return 0, 0, fmt.Errorf("faults: a start-up packet of %d bytes", size)
	}
	return code, size, r.need(size)
}

func (s *session) dial() (socket, error) {
	var dialer net.Dialer
	conn, err := dialer.DialContext(s.proxy.ctx, s.proxy.network, s.proxy.address)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		conn.Close()
		return nil, net.ErrClosed
	}
	s.server = conn.(socket)
	return s.server, nil
}

func (s *session) register() {
	p := s.proxy
	p.counts.connections.Add(1)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.started++
	s.trace = &trace{id: p.started}
	p.traces = append(p.traces[max(0, len(p.traces)-tracesKept+1):], s.trace)
	s.plan = p.plan.Load()
	s.nth = s.plan.sessions.Add(1)
}

// strike lets a happen under the plan, and tells whether it may: the plan may have been replaced, or the fault of which
// there is one be spent, since the caller looked.
func (s *session) strike(under *plan, a Action) bool {
	s.proxy.mu.Lock()
	defer s.proxy.mu.Unlock()
	if s.proxy.plan.Load() != under || s.state.Load() != open || under.fault != nil && under.fired.Load() > 0 {
		return false
	}
	under.fired.Add(1)
	s.state.Store(a.kind.state())
	s.trace.add(Frontend, 0, a.kind)
	return true
}

// clientLeft passes on that the client has closed.
func (s *session) clientLeft() {
	switch s.state.Load() {
	case open:
		s.frontend.waitWritten()
		s.server.CloseWrite() // there may be an answer still, at least to Terminate
	case broken:
		s.end()
	case swallowed:
		<-s.done
	}
}

// serverLeft passes on that the server has closed, behind its last words.
func (s *session) serverLeft() {
	if s.state.Load() == swallowed {
		<-s.done
	}
	s.backend.waitWritten()
	s.end()
}

func (s *session) mute() {
	s.frontend.muted.Store(true)
	s.backend.muted.Store(true)
}

// end closes both sides. It may be called by several, and again.
func (s *session) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return
	}
	s.ended = true
	close(s.done)
	s.client.Close()
	if s.server != nil {
		s.server.Close()
	}
}
