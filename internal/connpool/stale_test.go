package connpool

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/pgcmd/pgcmd/internal/stmtcache"
)

func TestStatementsFoundOutdatedOnAnotherConnection(t *testing.T) {
	t.Parallel()
	s := NewStaleStatements()
	one, two := &Conn{stale: s}, &Conn{stale: s}
	s.add("a", one)
	assert.True(t, one.upToDate(), "its own is invalidated already")
	assert.False(t, two.upToDate())
	s.add("a", two)
	assert.EqualValues(t, 1, s.count.Load(), "two had missed it: nothing new")
	list, count, ok := s.since(two.seen)
	assert.Equal(t, []string{"a"}, list)
	assert.EqualValues(t, 1, count)
	assert.True(t, ok)
	for i := range stmtcache.Size {
		s.add(strings.Repeat("b", i+1), nil)
	}
	_, _, ok = s.since(two.seen)
	assert.False(t, ok, "too many: some were dropped")
	list, count, ok = s.since(s.count.Load())
	assert.Empty(t, list)
	assert.EqualValues(t, 1+stmtcache.Size, count)
	assert.True(t, ok)
}
