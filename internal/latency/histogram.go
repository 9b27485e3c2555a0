// Package latency counts the durations of runs, and remembers the slowest. It does not know
// what a run is.
package latency

import (
	"math/bits"
	"sync/atomic"
	"time"
)

const (
	firstBucket = 10 // 2^10 ns, about a microsecond: the first octave holds all that is shorter
	octaves     = 27 // up to two minutes; the last holds all that is longer
	perOctave   = 4
)

// A Histogram counts durations in buckets, from any goroutine.
type Histogram struct {
	sum     atomic.Int64
	buckets [octaves * perOctave]atomic.Int64
}

// Add counts a duration.
func (h *Histogram) Add(d time.Duration) {
	h.sum.Add(int64(d))
	h.buckets[bucketOf(d)].Add(1)
}

func bucketOf(d time.Duration) int {
	n := uint64(max(0, d))
	octave := bits.Len64(n) - 1 - firstBucket
	if octave < 0 {
		return 0
	}
	if octave >= octaves {
		return octaves*perOctave - 1
	}
	quarter := int(n>>(octave+firstBucket-2)) & (perOctave - 1)
	return octave*perOctave + quarter
}

// boundOf is the longest time of a bucket.
func boundOf(i int) time.Duration {
	octave, quarter := i/perOctave, i%perOctave
	return time.Duration(uint64(perOctave+quarter+1) << (octave + firstBucket - 2))
}

// Read calls bucket for those that are not empty, the shortest first, with the longest time
// of each. It returns the sum of all durations.
func (h *Histogram) Read(bucket func(upTo time.Duration, n int64)) (sum time.Duration) {
	for i := range h.buckets {
		if n := h.buckets[i].Load(); n > 0 {
			bucket(boundOf(i), n)
		}
	}
	return time.Duration(h.sum.Load())
}
