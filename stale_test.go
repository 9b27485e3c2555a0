package pgcmd

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestAConnectionInvalidatesWhatOthersFoundOutdated(t *testing.T) {
	t.Parallel()
	s := newStaleStatements()
	one, two := &netConn{stale: s}, &netConn{stale: s}
	s.add("a", one)
	assert.True(t, one.upToDate(), "its own is invalidated already")
	assert.False(t, two.upToDate())
	s.add("a", two)
	assert.EqualValues(t, 1, s.count.Load(), "two had missed it: nothing new")
	list, count, ok := s.since(two.seen)
	assert.Equal(t, []string{"a"}, list)
	assert.EqualValues(t, 1, count)
	assert.True(t, ok)
	for i := range maxStatements {
		s.add(strings.Repeat("b", i+1), nil)
	}
	_, _, ok = s.since(two.seen)
	assert.False(t, ok, "too many: some were dropped")
	list, count, ok = s.since(s.count.Load())
	assert.Empty(t, list)
	assert.EqualValues(t, 1+maxStatements, count)
	assert.True(t, ok)
}
