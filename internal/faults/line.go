package faults

import (
	"bytes"
	"time"
)

// A burst is what a relay writes at once, on its way through the line that makes it late.
type burst struct {
	due     time.Time
	data    []byte
	answers int32
	arrived chan struct{} // closed when it, and so all ahead of it, has been written; may be nil
}

// delay sends data down the line. Once there is a line everything takes it, late or not, to stay in order.
func (r *relay) delay(data []byte, answers int32, late time.Duration) {
	if r.line == nil {
		r.line = make(chan burst, 1024)
		r.session.relays.Go(r.deliver)
	}
	r.send(burst{due: time.Now().Add(late), data: bytes.Clone(data), answers: answers})
}

func (r *relay) send(b burst) {
	select {
	case r.line <- b:
	case <-r.session.done:
	}
}

func (r *relay) deliver() {
	for {
		select {
		case b := <-r.line:
			if late := time.Until(b.due); late > 0 {
				r.wait(late)
			}
			if b.data != nil {
				r.write(b.data, b.answers)
			}
			if b.arrived != nil {
				close(b.arrived)
			}
		case <-r.session.done:
			return
		}
	}
}

// waitWritten returns when all that was passed has been written.
func (r *relay) waitWritten() {
	r.flush()
	if r.line == nil {
		return
	}
	arrived := make(chan struct{})
	r.send(burst{arrived: arrived})
	select {
	case <-arrived:
	case <-r.session.done:
	}
}
