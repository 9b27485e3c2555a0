package stmtcache

import "sync"

// An LRU is a map of limited size, which evicts the entry that was not used for the longest
// time. It is not safe for concurrent use.
type LRU[K comparable, V any] struct {
	size    int
	evicted func(key K, value V)
	nodes   map[K]*node[K, V]
	root    node[K, V] // root.next was used last, root.prev is evicted next
}

type node[K comparable, V any] struct {
	next, prev *node[K, V]
	key        K
	value      V
}

// NewLRU makes an LRU of at most size entries. evicted is called for an entry that is
// removed to make room for another; it may be nil.
func NewLRU[K comparable, V any](size int, evicted func(key K, value V)) *LRU[K, V] {
	l := &LRU[K, V]{size: size, evicted: evicted, nodes: map[K]*node[K, V]{}}
	l.root.next, l.root.prev = &l.root, &l.root
	return l
}

// Len returns the number of entries.
func (l *LRU[K, V]) Len() int { return len(l.nodes) }

// Get returns the value of key, and marks it as used.
func (l *LRU[K, V]) Get(key K) (value V, ok bool) {
	n := l.nodes[key]
	if n == nil {
		return value, false
	}
	if l.root.next != n {
		n.unlink()
		l.pushFront(n)
	}
	return n.value, true
}

// Put sets the value of key, and marks it as used.
func (l *LRU[K, V]) Put(key K, value V) {
	n := l.nodes[key]
	if n != nil {
		n.unlink()
	} else {
		if len(l.nodes) >= l.size {
			last := l.root.prev
			l.remove(last)
			if l.evicted != nil {
				l.evicted(last.key, last.value)
			}
		}
		n = &node[K, V]{key: key}
		l.nodes[key] = n
	}
	n.value = value
	l.pushFront(n)
}

// Delete removes the entry of key, if there is one. It does not call evicted.
func (l *LRU[K, V]) Delete(key K) {
	if n := l.nodes[key]; n != nil {
		l.remove(n)
	}
}

func (l *LRU[K, V]) remove(n *node[K, V]) {
	n.unlink()
	delete(l.nodes, n.key)
}

func (l *LRU[K, V]) pushFront(n *node[K, V]) {
	n.prev, n.next = &l.root, l.root.next
	n.next.prev, l.root.next = n, n
}

func (n *node[K, V]) unlink() { n.next.prev, n.prev.next = n.prev, n.next }

// A SharedLRU is an [LRU] that is safe for concurrent use.
type SharedLRU[K comparable, V any] struct {
	mu  sync.Mutex
	lru *LRU[K, V]
}

// NewSharedLRU makes a SharedLRU of at most [Size] entries.
func NewSharedLRU[K comparable, V any]() *SharedLRU[K, V] {
	return &SharedLRU[K, V]{lru: NewLRU[K, V](Size, nil)}
}

// Get returns the value of key, and marks it as used.
func (l *SharedLRU[K, V]) Get(key K) (value V, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lru.Get(key)
}

// GetOrPut returns the value of key, which is value if there was none.
func (l *SharedLRU[K, V]) GetOrPut(key K, value V) V {
	l.mu.Lock()
	defer l.mu.Unlock()
	if known, ok := l.lru.Get(key); ok {
		return known
	}
	l.lru.Put(key, value)
	return value
}
