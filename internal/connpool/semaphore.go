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

	mu          sync.Mutex
	inUse       int // slots that are held
	first, last *waiter
	timer       *time.Timer // of the first waiter's timeout; nil: never set
	timerSet    bool
	waits       int64
	waited      time.Duration
}

// A waiter waits for a slot.
type waiter struct {
	prev, next *waiter
	since      time.Duration // on the tracker's clock
	ready      chan struct{} // once
	queued     bool
	timedOut   bool // it has no slot
}

var waiters = sync.Pool{New: func() any { return &waiter{ready: make(chan struct{}, 1)} }}

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
	ended := false
	defer func() {
		if !ended {
			s.abandon(w)
		}
	}()
	if done := ctx.Done(); done == nil {
		<-w.ready
	} else {
		select {
		case <-w.ready:
		case <-done:
			err = ctx.Err()
			if s.cancelWait(w) {
				ended = true
				waiters.Put(w)
				return 0, err
			}
			<-w.ready
		}
	}
	ended = true
	waited = s.tracker.now() - w.since
	timedOut := w.timedOut
	w.timedOut = false
	waiters.Put(w)
	switch {
	case timedOut:
		return waited, errTimeout
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
	next := s.first
	if next == nil {
		s.inUse--
		return
	}
	s.remove(next)
	s.waits++
	s.waited += s.tracker.now() - next.since
	next.ready <- struct{}{}
}

// abandon ends the wait of a caller whose context panicked.
func (s *semaphore) abandon(w *waiter) {
	if s.cancelWait(w) {
		return
	}
	if <-w.ready; !w.timedOut {
		s.release()
	}
}

// cancelWait removes a waiter from the queue, and reports whether it was there.
func (s *semaphore) cancelWait(w *waiter) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !w.queued {
		return false
	}
	s.remove(w)
	return true
}

// expireWaiters ends the waits that have timed out.
func (s *semaphore) expireWaiters() {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.tracker.now()
	for s.first != nil && now-s.first.since >= s.timeout {
		w := s.first
		s.remove(w)
		w.timedOut = true
		w.ready <- struct{}{}
	}
	if s.timerSet = s.first != nil; s.timerSet {
		s.timer.Reset(s.first.since + s.timeout - now)
	}
}

func (s *semaphore) push(w *waiter) {
	w.queued, w.prev, w.next = true, s.last, nil
	if s.last == nil {
		s.first = w
	} else {
		s.last.next = w
	}
	s.last = w
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

func (s *semaphore) remove(w *waiter) {
	if w.prev == nil {
		s.first = w.next
	} else {
		w.prev.next = w.next
	}
	if w.next == nil {
		s.last = w.prev
	} else {
		w.next.prev = w.prev
	}
	w.queued, w.prev, w.next = false, nil, nil
}

// stats is [Acquirer.Stats].
func (s *semaphore) stats() (waits int64, waited time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.waits, s.waited
}
