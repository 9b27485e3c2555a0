package connpool

import (
	"context"
	"sync"
	"time"
)

// A lazyTimeout is a context with a timeout that has a timer only once somebody waits for it.
// pgxpool asks whether the context has ended, and waits only if no connection is idle; timers
// that end all the while wake threads up: one in ten milliseconds cost a single caller up to a
// quarter of its time where the server has the same CPUs.
//
// Other than that of a common context, its Done has to be called again for waiting: what the
// first call returns tells only whether the caller's context has ended.
type lazyTimeout struct {
	context.Context // the caller's
	timeout         time.Duration

	mu    sync.Mutex
	asked bool            // Done was called
	timed context.Context // with the timer; nil before
	stop  context.CancelFunc
}

func withLazyTimeout(ctx context.Context, timeout time.Duration) *lazyTimeout {
	return &lazyTimeout{Context: ctx, timeout: timeout}
}

// notEnded is never closed.
var notEnded = make(chan struct{})

func (c *lazyTimeout) Done() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.asked {
		c.asked = true
		if c.Context.Err() != nil {
			return c.Context.Done()
		}
		return notEnded
	}
	return c.started().Done()
}

func (c *lazyTimeout) Deadline() (time.Time, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.started().Deadline()
}

func (c *lazyTimeout) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.timed != nil {
		return c.timed.Err()
	}
	return c.Context.Err()
}

// started starts the timer, unless it was started before.
func (c *lazyTimeout) started() context.Context {
	if c.timed == nil {
		c.timed, c.stop = context.WithTimeout(c.Context, c.timeout)
	}
	return c.timed
}

// cancel stops the timer.
func (c *lazyTimeout) cancel() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stop != nil {
		c.stop()
	}
}
