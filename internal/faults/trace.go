package faults

import (
	"fmt"
	"strings"
	"sync/atomic"
)

const (
	tracesKept = 64
	marksKept  = 256 // a power of two, for next overflows
)

// A trace is the types of the latest messages of a session, after its start-up.
type trace struct {
	id    int64
	next  atomic.Uint32
	marks [marksKept]atomic.Uint32
}

// add adds a message, or the fault that hit the latest one. Both relays call it.
func (t *trace) add(d Direction, typ byte, k kind) {
	t.marks[(t.next.Add(1)-1)%marksKept].Store(uint32(k)<<16 | uint32(d)<<8 | uint32(typ))
}

// Log tells for each of the latest 64 connections which types of messages its latest 256 were, the client's behind a >
// and the server's behind a <, and what happened to the one ahead of a bracket:
//
//	#1: >Q <CZ >PDS <1tnZ >BDES <2nCZ >Q [cut after]
//
// A type that follows itself is written once, with how often.
func (p *Proxy) Log() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	log := make([]string, len(p.traces))
	for i, t := range p.traces {
		log[i] = t.String()
	}
	return log
}

func (t *trace) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "#%d:", t.id)
	end := t.next.Load()
	first := end - min(end, marksKept)
	if first > 0 {
		b.WriteString(" ...")
	}
	const group = 1 << 24 // the last one, if what comes opens a group
	last, times := uint32(group), 0
	for i := first; i != end; i++ {
		mark := t.marks[i%marksKept].Load()
		if mark == last {
			times++
			continue
		}
		repeat(&b, times)
		switch typ, direction := byte(mark), mark>>8&1; {
		case typ == 0:
			fmt.Fprintf(&b, " [%s]", kind(mark>>16))
			mark = group
		case last == group || direction != last>>8&1:
			b.WriteString([...]string{" >", " <"}[direction])
			fallthrough
		default:
			b.WriteByte(typ)
		}
		last, times = mark, 1
	}
	repeat(&b, times)
	return b.String()
}

func repeat(b *strings.Builder, times int) {
	if times > 1 {
		fmt.Fprintf(b, "*%d", times)
	}
}
