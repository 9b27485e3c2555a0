package faults

import (
	"encoding/binary"
	"fmt"
	"net"
	"sync/atomic"
	"time"
)

const bufferSize = 32 << 10

// A relay passes on one direction of a session. It reads what there is, judges message by message, and writes what it
// has judged when it needs to read more: a burst stays a burst, and a message longer than the buffer is passed on in
// parts.
type relay struct {
	session   *session
	direction Direction
	from, to  socket
	count     count
	muted     atomic.Bool // what is written is dropped
	answers   int32       // that are in buf[sent:at]
	line      chan burst  // nil until there is a latency

	buf            []byte
	sent, at, read int // buf[sent:at] is to be written, buf[at:read] to be judged
}

// run returns when from ends, and does not say why: the end is all that can be passed on.
func (r *relay) run() {
	for r.next() == nil {
	}
	r.flush()
}

// next judges a message and does to it what is planned.
func (r *relay) next() error {
	if err := r.need(5); err != nil {
		return err
	}
	typ, size := r.rest()[0], 1+int(binary.BigEndian.Uint32(r.rest()[1:]))
	if size < 5 {
		return fmt.Errorf("faults: a message %q of %d bytes", typ, size)
	}
	s := r.session
	if !s.ready.Load() {
		if typ == 'Z' && r.direction == Backend {
			s.ready.Store(true)
		}
		return r.pass(size)
	}
	if s.state.Load() != open {
		return r.pass(size)
	}
	action, err := r.judge(typ, size)
	if err != nil {
		return err
	}
	switch action.kind {
	case nothing:
		return r.pass(size)
	case cutAfter:
		// First, for the other side may answer the message as soon as it has it.
		r.opposite().muted.Store(true)
		if err := r.pass(size); err != nil {
			return err
		}
	}
	r.waitWritten()
	switch action.kind {
	case cutBefore, cutAfter:
		s.mute()
		s.server.CloseWrite()
	case halfClose:
		s.mute()
		s.client.CloseWrite()
	case blackHole:
		s.mute()
	case reset:
		s.mute()
		abort(s.client)
		abort(s.server)
		s.end()
	case delay:
		r.wait(action.delay)
	case call:
		action.call()
	}
	if action.kind == cutAfter {
		return nil
	}
	return r.pass(size)
}

// judge counts a message and returns what is to happen to it.
func (r *relay) judge(typ byte, size int) (Action, error) {
	s := r.session
	s.trace.add(r.direction, typ, nothing)
	s.proxy.counts.messages[r.direction].Add(1)
	if r.direction == Frontend {
		s.proxy.counts.roundTrips.Add(s.owed.ask(typ))
	} else {
		r.answers += s.owed.answers(typ)
	}

	p := s.proxy.plan.Load()
	r.count.follow(p, s, r.direction)
	switch f := p.fault; {
	case f != nil && f.Direction == r.direction && (f.Conn == 0 || s.plan == p && int64(f.Conn) == s.nth):
		if f.Match != nil {
			if err := r.need(size); err != nil {
				return Action{}, err
			}
			if !f.Match(typ, r.rest()[5:size]) {
				return Action{}, nil
			}
		}
		if r.count.seen++; r.count.seen == f.Message && s.strike(p, f.Action) {
			return f.Action, nil
		}
	case r.count.dice != nil && r.count.dice.Float64() < p.rate:
		if a := p.actions[r.count.dice.IntN(len(p.actions))]; s.strike(p, a) {
			return a, nil
		}
	}
	return Action{}, nil
}

func (r *relay) opposite() *relay {
	if r.direction == Frontend {
		return &r.session.backend
	}
	return &r.session.frontend
}

// abort makes the close to come a reset, where there is such a thing.
func abort(s socket) {
	if tcp, ok := s.(*net.TCPConn); ok {
		tcp.SetLinger(0)
	}
}

// wait returns after d, or when the session has ended.
func (r *relay) wait(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-r.session.done:
	}
}

// rest is what was read and not judged.
func (r *relay) rest() []byte { return r.buf[r.at:r.read] }

// need reads until the rest has n bytes.
func (r *relay) need(n int) error {
	for r.read-r.at < n {
		r.flush()
		if r.at > 0 {
			r.read = copy(r.buf, r.rest())
			r.sent, r.at = 0, 0
		}
		if n > len(r.buf) {
			r.buf = append(r.buf, make([]byte, n-len(r.buf))...)
		}
		m, err := r.from.Read(r.buf[r.read:])
		r.read += m
		if m == 0 && err != nil {
			return err
		}
	}
	return nil
}

// pass passes on the next n bytes, the latest by the next flush.
func (r *relay) pass(n int) error {
	for {
		m := min(n, r.read-r.at)
		r.at += m
		if n -= m; n == 0 {
			return nil
		}
		if err := r.need(1); err != nil {
			return err
		}
	}
}

// drop forgets the next n bytes, which have been read.
func (r *relay) drop(n int) {
	r.flush()
	r.at += n
	r.sent = r.at
}

// flush writes what has been passed, or hands it to the line.
func (r *relay) flush() {
	data, answers := r.buf[r.sent:r.at], r.answers
	r.sent, r.answers = r.at, 0
	if len(data) == 0 || r.muted.Load() {
		return
	}
	late := time.Duration(r.session.proxy.latency.Load()) / 2
	if r.line == nil && late <= 0 {
		r.write(data, answers)
		return
	}
	r.delay(data, answers, late)
}

// write goes on when to has closed: from has the last word.
func (r *relay) write(data []byte, answers int32) {
	r.session.owed.open.Add(-answers) // before they can be answered
	if _, err := r.to.Write(data); err != nil {
		r.muted.Store(true)
	}
}
