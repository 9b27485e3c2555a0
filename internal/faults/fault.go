package faults

import (
	"math/rand/v2"
	"sync/atomic"
	"time"
)

// Direction is who sends a message. Its zero is [Frontend].
type Direction int

const (
	// Frontend is the client.
	Frontend Direction = iota
	// Backend is the server.
	Backend
)

// A Fault lets one message go wrong, once.
type Fault struct {
	// Conn is the connection, counted from 1 in the order in which they were started since the plan was set.
	// Zero is any: the first that gets there, be it an old one.
	Conn int
	// Direction is that of the messages to count, and of the one to hit.
	Direction Direction
	// Message is the one to hit, counted from 1 on its connection, after the start-up and after the plan was set.
	// Zero is the first.
	Message int
	// Match, if there is one, counts only the messages for which it is true. It is given the whole message and must
	// not keep body. It may be called by several connections at once.
	Match func(typ byte, body []byte) bool
	// Action is what happens to the message. Its zero only lets [Proxy.Fired] know that the message came by.
	Action Action
}

// An Action is what happens to a message, and to its connection. No other connection notices.
type Action struct {
	kind  kind
	delay time.Duration
	call  func()
}

type kind uint8

const (
	nothing kind = iota
	cutBefore
	cutAfter
	reset
	halfClose
	blackHole
	delay
	call
)

func (k kind) String() string {
	return [...]string{"seen", "cut before", "cut after", "reset", "half-close", "black hole", "delay", "call"}[k]
}

// state is that of a session to which k happens.
func (k kind) state() int32 {
	switch k {
	case cutBefore, cutAfter, reset, halfClose:
		return broken
	case blackHole:
		return swallowed
	}
	return open
}

// A cut ends both sides in order. The server reads an end of file behind the last message that it is to get, and acts
// on all of them. The client reads one when the server's session has ended, so that what has then become of the work can
// be asked at once on another connection; only a client that does not wait closes earlier.
var (
	// CutBefore does not pass the message on, and cuts.
	CutBefore = Action{kind: cutBefore}
	// CutAfter passes the message on, and cuts. The server gets a [Frontend] message, and the client no answer.
	CutAfter = Action{kind: cutAfter}
)

var (
	// Reset does not pass the message on, and closes both sides at once: by RST, or if the server is on a Unix socket by
	// a close on that side. To lose an answer by it, hit a [Backend] message.
	Reset = Action{kind: reset}
	// HalfClose does not pass on the message nor what follows, and the client reads an end of file. The server notices
	// nothing, and its session holds its locks, until the client closes.
	HalfClose = Action{kind: halfClose}
	// BlackHole swallows the message and all that follows in both directions, closing included. Both sides see an open
	// connection until [Proxy.Heal] or [Proxy.Close].
	BlackHole = Action{kind: blackHole}
)

// Delay passes the message on after d, and what follows in its direction behind it.
func Delay(d time.Duration) Action { return Action{kind: delay, delay: d} }

// Call calls f, and then passes the message on. It is for faults that lie elsewhere: a context to cancel, a server to
// stop.
func Call(f func()) Action { return Action{kind: call, call: f} }

func (a Action) String() string {
	if a.kind == delay {
		return "delay " + a.delay.String()
	}
	return a.kind.String()
}

// A plan is what [Proxy.Set] or [Proxy.Random] was told. Another plan is another pointer, by which the counters know
// that they are old.
type plan struct {
	fault    *Fault
	rate     float64
	seed     uint64
	actions  []Action
	sessions atomic.Int64 // started since
	fired    atomic.Int64
}

// A count is how far a relay is in a plan.
type count struct {
	plan *plan
	seen int        // messages that match the plan's fault
	dice *rand.Rand // nil if the plan leaves nothing to chance
}

func (c *count) follow(p *plan, s *session, d Direction) {
	if c.plan == p {
		return
	}
	*c = count{plan: p}
	if p.rate > 0 {
		c.dice = rand.New(rand.NewPCG(p.seed, uint64(s.trace.id)<<1|uint64(d)))
	}
}
