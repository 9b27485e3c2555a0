package connpool

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
)

func TestALazyTimeoutHasATimerOnceItIsWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := withLazyTimeout(t.Context(), time.Second)
		defer c.cancel()
		select {
		case <-c.Done():
			t.Fatal("it has ended")
		default:
		}
		assert.Nil(t, c.timed, "a timer was started to ask whether it has ended")
		start := time.Now()
		<-c.Done()
		assert.Equal(t, time.Second, time.Since(start))
		assert.ErrorIs(t, c.Err(), context.DeadlineExceeded)
	})
}

// What derives a context from it before it was asked waits for its timer all the same.
func TestAContextBelowALazyTimeoutEndsWithIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := withLazyTimeout(t.Context(), time.Second)
		defer c.cancel()
		below, cancel := context.WithCancel(c)
		defer cancel()
		<-below.Done()
		assert.ErrorIs(t, below.Err(), context.DeadlineExceeded)
	})
}

func TestALazyTimeoutEndsWithTheCallersContext(t *testing.T) {
	t.Parallel()
	for _, before := range []bool{true, false} {
		caller, cancel := context.WithCancel(t.Context())
		c := withLazyTimeout(caller, time.Minute)
		if before {
			cancel()
		} else {
			c.Done()
			done := c.Done()
			cancel()
			<-done
		}
		<-c.Done()
		assert.ErrorIs(t, c.Err(), context.Canceled)
		c.cancel()
	}
	soon, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	c := withLazyTimeout(soon, time.Minute)
	defer c.cancel()
	want, _ := soon.Deadline()
	got, ok := c.Deadline()
	assert.True(t, ok)
	assert.Equal(t, want, got)
}
