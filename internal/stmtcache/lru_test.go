package stmtcache_test

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/pgcmd/pgcmd/internal/stmtcache"
)

func TestTheLeastRecentlyUsedIsEvicted(t *testing.T) {
	t.Parallel()
	var evicted []string
	l := stmtcache.NewLRU(3, func(key string, value int) { evicted = append(evicted, key) })
	for i, key := range []string{"a", "b", "c"} {
		l.Put(key, i)
	}
	v, ok := l.Get("a")
	assert.Equal(t, 0, v)
	assert.True(t, ok)
	l.Put("b", 10)
	l.Put("d", 3)
	assert.Equal(t, []string{"c"}, evicted)
	_, ok = l.Get("c")
	assert.False(t, ok)
	v, _ = l.Get("b")
	assert.Equal(t, 10, v)
	l.Delete("d")
	l.Delete("nothing")
	assert.Equal(t, 2, l.Len())
	l.Put("e", 4)
	assert.Equal(t, []string{"c"}, evicted, "there was room")
	l.Put("f", 5)
	assert.Equal(t, []string{"c", "a"}, evicted)
}

func TestAHitAllocatesNothing(t *testing.T) {
	l := stmtcache.NewLRU[string, int](3, nil)
	for _, key := range []string{"b", "e", "f"} {
		l.Put(key, 1)
	}
	assert.Zero(t, testing.AllocsPerRun(100, func() { l.Get("b"); l.Get("e"); l.Put("f", 6) }))
}
