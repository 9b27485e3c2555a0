package replica

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

func TestLagBehind(t *testing.T) {
	t.Parallel()
	start := time.Unix(1_700_000_000, 0)
	at := func(second int) time.Time { return start.Add(time.Duration(second) * time.Second) }
	var h walHistory
	assert.Zero(t, h.lagBehind(0, at(9)), "nothing is known of the primary")
	h.add(10, at(1))
	h.add(10, at(2)) // nothing was written
	h.add(20, at(3))
	assert.Equal(t, 8*time.Second, h.lagBehind(9, at(9)))
	assert.Equal(t, 6*time.Second, h.lagBehind(10, at(9)))
	assert.Zero(t, h.lagBehind(20, at(9)))
	h.add(5, at(4)) // another primary
	assert.Equal(t, 5*time.Second, h.lagBehind(0, at(9)))
	assert.Zero(t, h.lagBehind(5, at(9)))
	for n := range 2 * maxPositions {
		h.add(int64(100+n), at(10+n))
	}
	assert.LessOrEqual(t, len(h.seen), maxPositions)
	assert.Equal(t, time.Second, h.lagBehind(int64(100+2*maxPositions-2), at(10+2*maxPositions)))
}
