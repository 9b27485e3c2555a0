package connpool

import (
	"context"
	"errors"
	"sync"
	"time"
)

// A semaphore admits as many commands as a pool may have connections, in the order in which
// they come. With a slot a connection is free, unless a caller of the pgxpool itself has it;
// so the wait costs no context with a deadline of its own, and pgxpool's queue is short.
type semaphore struct {
	tracker *Tracker
	size    int
	timeout time.Duration // of a wait; not positive: none

	mu       sync.Mutex
	inUse    int         // slots that are held
	queue    waiter      // before the first and after the last of those that wait; zero: there never was one
	timer    *time.Timer // of the first waiter's timeout; nil: never set
	timerSet bool
	waits    int64
	waited   time.Duration
}

// A waiter waits for a slot.
type waiter struct {
	prev, next *waiter       // nil if it is not queued
	since      time.Duration // on the tracker's clock; hasTimedOut: it gets no slot
	ended      chan struct{} // once: it has a slot or has timed out
}

const hasTimedOut = -1

var waiters = sync.Pool{New: func() any { return &waiter{ended: make(chan struct{}, 1)} }}

var errTimeout = errors.New("pgcmd: timeout waiting for a connection")

// acquire waits for a slot, which release gives back, and returns how long it waited. The
// error is the context's, or errTimeout.
func (s *semaphore) acquire(ctx context.Context) (waited time.Duration, err error) {
	s.mu.Lock()
	if s.inUse < s.size {
		s.inUse++
		s.mu.Unlock()
		return 0, nil
	}
	w := waiters.Get().(*waiter)
	w.since = s.tracker.now()
	s.push(w)
	s.mu.Unlock()
	left := false
	defer func() {
		if !left {
			s.abandon(w)
		}
	}()
	if done := ctx.Done(); done == nil {
		<-w.ended
	} else {
		select {
		case <-w.ended:
		case <-done:
			err = ctx.Err()
			if s.cancelWait(w) {
				left = true
				waiters.Put(w)
				return 0, err
			}
			<-w.ended
		}
	}
	left = true
	since := w.since
	waiters.Put(w)
	waited = s.tracker.now() - since
	switch {
	case since == hasTimedOut:
		return 0, errTimeout
	case err != nil:
		s.release()
		return waited, err
	}
	return waited, nil
}

// release gives the slot to the next waiter.
func (s *semaphore) release() {
	s.mu.Lock()
	defer s.mu.Unlock()
	next := s.first()
	if next == nil {
		s.inUse--
		return
	}
	next.remove()
	s.waits++
	s.waited += s.tracker.now() - next.since
	next.ended <- struct{}{}
}

// abandon ends the wait of a caller whose context panicked.
func (s *semaphore) abandon(w *waiter) {
	if s.cancelWait(w) {
		return
	}
	if <-w.ended; w.since != hasTimedOut {
		s.release()
	}
}

// cancelWait removes a waiter from the queue, and reports whether it was there.
func (s *semaphore) cancelWait(w *waiter) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if w.next == nil {
		return false
	}
	w.remove()
	return true
}

// expireWaiters ends the waits that have timed out.
func (s *semaphore) expireWaiters() {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.tracker.now()
	first := s.first()
	for ; first != nil && now-first.since >= s.timeout; first = s.first() {
		first.remove()
		first.since = hasTimedOut
		first.ended <- struct{}{}
	}
	if s.timerSet = first != nil; s.timerSet {
		s.timer.Reset(first.since + s.timeout - now)
	}
}

// first returns the waiter that has waited longest, or nil.
func (s *semaphore) first() *waiter {
	if s.queue.next == &s.queue {
		return nil
	}
	return s.queue.next
}

func (s *semaphore) push(w *waiter) {
	q := &s.queue
	if q.next == nil {
		q.prev, q.next = q, q
	}
	w.prev, w.next = q.prev, q
	q.prev.next, q.prev = w, w
	switch {
	case s.timerSet || s.timeout <= 0:
		return
	case s.timer == nil:
		s.timer = time.AfterFunc(s.timeout, s.expireWaiters)
	default:
		s.timer.Reset(s.timeout)
	}
	s.timerSet = true
}

func (w *waiter) remove() {
	w.prev.next, w.next.prev = w.next, w.prev
	w.prev, w.next = nil, nil
}

// stats is [Acquirer.Stats].
func (s *semaphore) stats() (waits int64, waited time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.waits, s.waited
}
