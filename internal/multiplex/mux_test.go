package multiplex

import (
	"context"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Waiters get a slot in the order of arrival, also if one of them gives up.
func TestWaitersGetASlotInOrder(t *testing.T) {
	t.Parallel()
	m := &Mux{config: Config{Size: 1}, admitted: maxQueued}
	var waiters []waiter
	for range 3 {
		w := make(waiter, 1)
		waiters = append(waiters, w)
		m.waiting = append(m.waiting, w)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.Error(t, m.wait(ctx, waiters[1], &m.waiting), "the second gives up")
	ready := func(w waiter) bool { return len(w) > 0 }
	m.releaseSlot()
	assert.True(t, ready(waiters[0]))
	assert.False(t, ready(waiters[2]))
	m.releaseSlot()
	assert.True(t, ready(waiters[2]))
	assert.Equal(t, maxQueued, m.admitted)

	// A waiter that gives up when it already has a slot passes it on.
	late, next := make(waiter, 1), make(waiter, 1)
	m.waiting = []waiter{next}
	late <- nil
	if m.wait(ctx, late, &m.waiting) == nil { // it may take the slot instead
		m.leave()
	}
	assert.True(t, ready(next))
	m.releaseSlot()
	assert.Equal(t, maxQueued-1, m.admitted)
}
