package stmtcache

// An LRU is a map of limited size, which evicts the entry that was not used for the longest
// time. It is not safe for concurrent use.
type LRU[V any] struct {
	size    int
	evicted func(key string, value V)
	nodes   map[string]*node[V]
	root    node[V] // root.next was used last, root.prev is evicted next
}

type node[V any] struct {
	next, prev *node[V]
	key        string
	value      V
}

// NewLRU makes an LRU of at most size entries. evicted is called for an entry that is
// removed to make room for another; it may be nil.
func NewLRU[V any](size int, evicted func(key string, value V)) *LRU[V] {
	l := &LRU[V]{size: size, evicted: evicted, nodes: map[string]*node[V]{}}
	l.root.next, l.root.prev = &l.root, &l.root
	return l
}

// Len returns the number of entries.
func (l *LRU[V]) Len() int { return len(l.nodes) }

// Get returns the value of key, and marks it as used.
func (l *LRU[V]) Get(key string) (value V, ok bool) {
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
func (l *LRU[V]) Put(key string, value V) {
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
		n = &node[V]{key: key}
		l.nodes[key] = n
	}
	n.value = value
	l.pushFront(n)
}

// Delete removes the entry of key, if there is one. It does not call evicted.
func (l *LRU[V]) Delete(key string) {
	if n := l.nodes[key]; n != nil {
		l.remove(n)
	}
}

func (l *LRU[V]) remove(n *node[V]) {
	n.unlink()
	delete(l.nodes, n.key)
}

func (l *LRU[V]) pushFront(n *node[V]) {
	n.prev, n.next = &l.root, l.root.next
	n.next.prev, l.root.next = n, n
}

func (n *node[V]) unlink() { n.next.prev, n.prev.next = n.prev, n.next }
