// Package retry says how long to wait before another attempt, and limits how many there are.
// It does not know which errors are retried.
package retry

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"
)

// Wait waits for a random time before the next attempt, and reports whether there is time for
// it. The other parameters are those of backoffCap.
func Wait(ctx context.Context, delay, maxDelay time.Duration, attempts int, elapsed time.Duration) bool {
	wait := rand.N(backoffCap(delay, maxDelay, attempts, elapsed) + 1)
	if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) <= wait {
		return false
	}
	return Sleep(ctx, wait)
}

// Sleep waits for d, and reports whether the context is not done.
func Sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}

// backoffCap returns the longest wait after the given number of attempts, of which the last
// took elapsed. It is delay after the first, and doubles up to maxDelay; zero is the default
// of both.
func backoffCap(delay, maxDelay time.Duration, attempts int, elapsed time.Duration) time.Duration {
	if delay == 0 {
		// Transactions that conflicted do so again, unless their retries are further
		// apart than they take.
		delay = max(5*time.Millisecond, 8*elapsed)
	}
	if maxDelay == 0 {
		maxDelay = 500 * time.Millisecond
	}
	for range attempts - 1 {
		if delay >= maxDelay {
			break
		}
		delay *= 2
	}
	return min(delay, maxDelay)
}

// A Bucket limits the retries of all commands of a pool, so that they do not multiply the
// load in an outage. It is a token bucket with the numbers of the AWS SDKs' standard retry
// mode. Nil sets no limit.
type Bucket struct {
	mu    sync.Mutex
	taken int // tokens
	size  int
}

const (
	defaultRetries = 100
	retryCost      = 5
	successRefund  = 1
)

// NewBucket makes a bucket with the tokens for so many retries: zero is the default, and
// negative no limit.
func NewBucket(retries int) *Bucket {
	if retries < 0 {
		return nil
	}
	if retries == 0 {
		retries = defaultRetries
	}
	return &Bucket{size: retries * retryCost}
}

// Take takes the tokens for one retry, and reports whether there were enough.
func (b *Bucket) Take() bool {
	if b == nil {
		return true
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.taken+retryCost > b.size {
		return false
	}
	b.taken += retryCost
	return true
}

// Available returns the number of tokens, or -1 if there is no limit.
func (b *Bucket) Available() int {
	if b == nil {
		return -1
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.size - b.taken
}

// Put returns tokens after a success: those of the retry, if it was one.
func (b *Bucket) Put(retried bool) {
	if b == nil {
		return
	}
	n := successRefund
	if retried {
		n = retryCost
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.taken = max(0, b.taken-n)
}
