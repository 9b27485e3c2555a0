// Package faults is a proxy between a client and a PostgreSQL server that lets one message go wrong.
//
//	proxy, err := faults.Start(pgcmdtest.URL(t))
//	defer proxy.Close()
//	conn, err := pgx.Connect(ctx, proxy.URL())
//	proxy.Set(&faults.Fault{Direction: faults.Frontend, Message: 9, Action: faults.CutAfter})
//
// It knows where a message ends, so that a fault hits before or after one and never by chance in the middle. It does
// not decode them, and does not speak TLS: a client that asks for it is told that there is none.
//
// # What is counted
//
// Messages are counted by connection and direction, for one connection's faults must not depend on another's traffic.
// Start-up, up to and with the first ReadyForQuery, is passed on uncounted and unharmed. What the server says unasked
// (notices, notifications, changed parameters) counts. The connections that carry a cancel request are no connections
// here: they are passed on, whatever the plan.
package faults

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// A Proxy passes on what clients and server say to each other, but for what is planned. It is safe for concurrent use,
// also while connections are open.
type Proxy struct {
	config           *pgconn.Config
	network, address string // of the server
	listener         net.Listener
	ctx              context.Context // done when the proxy closes
	cancel           context.CancelFunc
	running          sync.WaitGroup

	plan    atomic.Pointer[plan] // never nil
	latency atomic.Int64
	counts  counters

	mu       sync.Mutex // held to change the plan, and to carry it out
	closed   bool
	sessions map[*session]struct{}
	started  int64
	traces   []*trace // of the latest sessions
}

// Start starts a proxy to the server that serverURL names, in one of the forms that pgx takes. It listens on 127.0.0.1,
// so that a client can be reset also where the server is on a Unix socket. The server is not contacted before a client
// is: one that cannot be reached is a connection closed in the start-up.
func Start(serverURL string) (*Proxy, error) {
	config, err := pgconn.ParseConfig(serverURL)
	if err != nil {
		return nil, fmt.Errorf("faults: %w", err)
	}
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("faults: %w", err)
	}
	p := &Proxy{config: config, listener: listener, sessions: map[*session]struct{}{}}
	p.network, p.address = pgconn.NetworkAddress(config.Host, config.Port)
	p.ctx, p.cancel = context.WithCancel(context.Background())
	p.plan.Store(&plan{})
	p.running.Go(p.accept)
	return p, nil
}

// URL returns the address that leads through the proxy to the server's database, or to the one named, as the same user
// and with the same runtime parameters.
func (p *Proxy) URL(database ...string) string {
	name := p.config.Database
	if len(database) > 0 {
		name = database[0]
	}
	query := url.Values{"sslmode": {"disable"}}
	for key, value := range p.config.RuntimeParams {
		query.Set(key, value)
	}
	address := url.URL{
		Scheme: "postgres", User: url.User(p.config.User), Host: p.listener.Addr().String(),
		Path: "/" + name, RawQuery: query.Encode(),
	}
	if p.config.Password != "" {
		address.User = url.UserPassword(p.config.User, p.config.Password)
	}
	return address.String()
}

// Set replaces the plan by f, which is copied, and starts its counters anew: messages that were passed on and
// connections that were open before do not count. Nil plans nothing. Black holes stay.
func (p *Proxy) Set(f *Fault) {
	next := &plan{}
	if f != nil {
		fault := *f
		fault.Message = max(1, fault.Message)
		next.fault = &fault
	}
	p.follow(next)
}

// Random replaces the plan by one that hits each message of either direction with probability rate, each time with one
// of actions; none stands for [CutBefore], [CutAfter] and [Reset]. What happens to the nth message of the
// proxy's nth connection is up to seed alone. With a rate of 1 and [BlackHole], every connection is lost.
func (p *Proxy) Random(rate float64, seed uint64, actions ...Action) {
	if len(actions) == 0 {
		actions = []Action{CutBefore, CutAfter, Reset}
	}
	p.follow(&plan{rate: rate, seed: seed, actions: actions})
}

func (p *Proxy) follow(next *plan) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.plan.Store(next)
}

// Fired is how often the plan has struck since it was set: 0 or 1 for a [Fault]. [Proxy.Heal] leaves it.
func (p *Proxy) Fired() int { return int(p.plan.Load().fired.Load()) }

// Heal ends the plan, and closes the connections that are in a black hole. The rest go on.
func (p *Proxy) Heal() {
	p.mu.Lock()
	defer p.mu.Unlock()
	healed := &plan{}
	healed.fired.Store(p.plan.Load().fired.Load())
	p.plan.Store(healed)
	for s := range p.sessions {
		if s.state.Load() == swallowed {
			s.end()
		}
	}
}

// Latency makes a round trip take d longer, half of it in each direction, from the next message on. It delays what is
// under way side by side, so that a pipeline is late once. Zero ends it.
func (p *Proxy) Latency(d time.Duration) { p.latency.Store(int64(d)) }

// Close closes all connections, and returns when no goroutine of the proxy is left. An [Action] by [Call] must not
// call it.
func (p *Proxy) Close() error {
	p.mu.Lock()
	p.closed = true
	for s := range p.sessions {
		s.end()
	}
	p.mu.Unlock()

	p.cancel()
	err := p.listener.Close()
	p.running.Wait()
	if err != nil && !errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("faults: %w", err)
	}
	return nil
}

func (p *Proxy) accept() {
	for {
		client, err := p.listener.Accept()
		switch {
		case err == nil:
			p.join(client.(*net.TCPConn))
		case p.ctx.Err() != nil:
			return
		default: // such as too many open files, which may end
			time.Sleep(time.Millisecond)
		}
	}
}

func (p *Proxy) join(client *net.TCPConn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		client.Close()
		return
	}
	s := newSession(p, client)
	p.sessions[s] = struct{}{}
	p.running.Go(func() {
		s.run()
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.sessions, s)
	})
}
