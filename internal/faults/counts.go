package faults

import "sync/atomic"

// Counts is what has passed the proxy. A message is counted before it is passed on, so that a client that has an answer
// finds it counted.
type Counts struct {
	Connections int64 // start-ups
	Cancels     int64 // cancel requests
	Frontend    int64 // messages of clients after the start-up, Terminate included
	Backend     int64 // messages of the server after the start-up

	// RoundTrips is how often a client turned to the server and had to wait: its messages that ask for an answer (Query,
	// Sync, FunctionCall, Flush) while none that its connection had asked for was outstanding. A ReadyForQuery answers
	// each of the first three, any message a Flush. So a pipeline is one round trip, however many Syncs it has, if it is
	// not sent slower than it is answered: a [Proxy.Latency] sees to that. COPY from the client is one too: pgx
	// does not wait for the server's leave.
	RoundTrips int64
}

type counters struct {
	connections, cancels, roundTrips atomic.Int64
	messages                         [2]atomic.Int64 // by direction
}

// Counts returns what has passed since the start or [Proxy.ResetCounts]. What a fault kept back counts, what follows on
// its connection does not.
func (p *Proxy) Counts() Counts {
	return Counts{
		Connections: p.counts.connections.Load(),
		Cancels:     p.counts.cancels.Load(),
		Frontend:    p.counts.messages[Frontend].Load(),
		Backend:     p.counts.messages[Backend].Load(),
		RoundTrips:  p.counts.roundTrips.Load(),
	}
}

// ResetCounts starts [Proxy.Counts] anew. The counters of a plan go on.
func (p *Proxy) ResetCounts() {
	c := &p.counts
	for _, n := range []*atomic.Int64{
		&c.connections, &c.cancels, &c.roundTrips, &c.messages[Frontend], &c.messages[Backend],
	} {
		n.Store(0)
	}
}

// owed are the answers that a session's client has asked for and not got.
type owed struct {
	open    atomic.Int32
	flushed atomic.Bool // one of them by Flush
}

// ask returns 1 if the client's message begins a round trip, else 0.
func (o *owed) ask(typ byte) int64 {
	switch typ {
	case 'Q', 'S', 'F':
	case 'H':
		if o.flushed.Swap(true) {
			return 0
		}
	default:
		return 0
	}
	if o.open.Add(1) == 1 {
		return 1
	}
	return 0
}

// answers is how much of what is owed the server's message pays. It is paid when the client gets it.
func (o *owed) answers(typ byte) (n int32) {
	if typ == 'Z' {
		n++
	}
	if o.flushed.Load() && o.flushed.Swap(false) {
		n++
	}
	return n
}
