package pgcmd

import (
	"math/bits"
	"sync/atomic"
	"time"
)

// A Histogram is a distribution of times, in buckets whose bounds are a quarter of an
// octave apart: a quantile is exact to a fifth of its value.
type Histogram struct {
	Count   int64
	Sum     time.Duration
	Buckets []Bucket // those that are not empty, the shortest first
}

// A Bucket counts the times up to its bound, and beyond that of the one before.
type Bucket struct {
	UpTo  time.Duration
	Count int64
}

// Quantile returns a time that the share q of all does not exceed: 0.99 for p99. It is
// the bound of a bucket, and zero if there is none.
func (h Histogram) Quantile(q float64) time.Duration {
	rank := int64(q*float64(h.Count) + 0.5)
	for _, b := range h.Buckets {
		if rank -= b.Count; rank <= 0 {
			return b.UpTo
		}
	}
	return 0
}

// Sub returns what was added since earlier, a reading of the same histogram.
func (h Histogram) Sub(earlier Histogram) Histogram {
	before := map[time.Duration]int64{}
	for _, b := range earlier.Buckets {
		before[b.UpTo] = b.Count
	}
	d := Histogram{Count: h.Count - earlier.Count, Sum: h.Sum - earlier.Sum}
	for _, b := range h.Buckets {
		if b.Count -= before[b.UpTo]; b.Count > 0 {
			d.Buckets = append(d.Buckets, b)
		}
	}
	return d
}

const (
	firstBucket = 10 // 2^10 ns, about a microsecond: the first octave holds all that is shorter
	octaves     = 27 // up to two minutes; the last holds all that is longer
	perOctave   = 4
)

// histogram is a Histogram that is being filled, from any goroutine.
type histogram struct {
	sum     atomic.Int64
	buckets [octaves * perOctave]atomic.Int64
}

func (h *histogram) add(d time.Duration) {
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

func (h *histogram) read() (read Histogram) {
	for i := range h.buckets {
		if n := h.buckets[i].Load(); n > 0 {
			read.Count += n
			read.Buckets = append(read.Buckets, Bucket{boundOf(i), n})
		}
	}
	read.Sum = time.Duration(h.sum.Load())
	return read
}
