package pgcmd

import (
	"context"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Who waits for a place gets it in the order in which they came, also past one who gave up.
func TestNobodyIsOvertakenInTheQueue(t *testing.T) {
	t.Parallel()
	m := &mux{size: 1, admitted: maxQueued}
	var waiters []*waiter
	for range 3 {
		w := &waiter{"a", make(chan *Error, 1)}
		waiters = append(waiters, w)
		m.waiting = append(m.waiting, w)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.NotNil(t, m.wait(ctx, waiters[1], &m.waiting), "the second gives up")
	came := func(w *waiter) bool { return len(w.ready) > 0 }
	m.releaseSlot()
	assert.True(t, came(waiters[0]))
	assert.False(t, came(waiters[2]))
	m.releaseSlot()
	assert.True(t, came(waiters[2]))
	assert.Equal(t, maxQueued, m.admitted)

	// One who gives up when a place has come gives it to the next.
	late, next := &waiter{"a", make(chan *Error, 1)}, &waiter{"b", make(chan *Error, 1)}
	m.waiting = []*waiter{next}
	late.ready <- nil
	if m.wait(ctx, late, &m.waiting) == nil { // it has the place, and may as well take it
		m.exit()
	}
	assert.True(t, came(next))
	m.releaseSlot()
	assert.Equal(t, maxQueued-1, m.admitted)
}
