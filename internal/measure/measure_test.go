package measure_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgcmd/pgcmd/internal/measure"
)

func TestSidesTakeTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var order string
		side := func(name string, took time.Duration) measure.Side {
			return measure.Side{Name: name, Run: func(int) error {
				order += name
				time.Sleep(took)
				return nil
			}}
		}
		times, err := measure.Turns([]measure.Side{side("a", time.Millisecond), side("b", 3*time.Millisecond)}, 2, 0, measure.Wall)
		require.NoError(t, err)
		assert.Regexp(t, `^aabb(aabb|bbaa){5}$`, order)
		assert.Contains(t, order, "bbbb", "not always in one order")
		assert.Equal(t, measure.Spread{Low: 1e6, Median: 1e6, High: 1e6}, times[0].Spread())
		assert.Equal(t, measure.Spread{Low: 3, Median: 3, High: 3}, times[1].Over(times[0]))
	})
}

// By the CPU's clock waiting takes no time, and computing does.
func TestTheCPUClockDoesNotCountWaiting(t *testing.T) {
	const wait = 50 * time.Millisecond
	times, err := measure.Turns([]measure.Side{
		{Name: "waits", Run: func(int) error { time.Sleep(wait); return nil }},
		{Name: "computes", Run: func(int) error {
			for start := measure.CPU(); measure.CPU()-start < wait; {
			}
			return nil
		}},
	}, 1, 0, measure.CPU)
	require.NoError(t, err)
	assert.Less(t, times[0].Spread().Median, float64(wait)/2)
	assert.GreaterOrEqual(t, times[1].Spread().Median, float64(wait))
}

func TestAnErrorNamesItsSide(t *testing.T) {
	broken := errors.New("broken")
	_, err := measure.Turns([]measure.Side{{Name: "theirs", Run: func(int) error { return broken }}}, 1, 0, measure.Wall)
	require.ErrorIs(t, err, broken)
	assert.EqualError(t, err, "theirs: broken")
}

func TestLatenciesAreOfSingleRuns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, err := measure.Latencies([]measure.Side{{Name: "a", Run: func(i int) error {
			time.Sleep(time.Duration(i%10+1) * time.Millisecond)
			return nil
		}}}, 10, 0)
		require.NoError(t, err)
		assert.Len(t, l[0], 50)
		assert.Equal(t, 6*time.Millisecond, l[0].At(0.5))
		assert.Equal(t, 10*time.Millisecond, l[0].At(0.99))
		assert.Equal(t, 10*time.Millisecond, l[0].Max())
	})
}

var sink []byte

func TestAllocsAreExact(t *testing.T) {
	allocs, bytes, err := measure.Allocs(measure.Side{Run: func(int) error { sink = make([]byte, 64); return nil }}, 0, 100)
	require.NoError(t, err)
	assert.Equal(t, 1.0, allocs)
	assert.GreaterOrEqual(t, bytes, 64.0)
}

// A run that is slow makes those behind it late, and they say so.
func TestAnOpenLoopOmitsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, err := measure.OpenLoop(t.Context(), 100, 1, time.Second, func(_ context.Context, i int) error {
			if i == 0 {
				time.Sleep(500 * time.Millisecond)
			}
			return nil
		})
		require.NoError(t, err)
		require.Len(t, l, 100)
		assert.Equal(t, 500*time.Millisecond, l.Max())
		assert.Equal(t, 400*time.Millisecond, l.At(0.89), "the runs behind it have waited")
		assert.Less(t, l.At(0.4), 2*time.Millisecond)

		broken := errors.New("broken")
		_, err = measure.OpenLoop(t.Context(), 100, 2, time.Hour, func(context.Context, int) error { return broken })
		assert.ErrorIs(t, err, broken)
	})
}

func TestConcurrentlyRunsEach(t *testing.T) {
	var seen [10]int
	require.NoError(t, measure.Concurrently(3, 10, func(g, i int) error {
		seen[i]++
		assert.Equal(t, g, i%3)
		return nil
	}))
	assert.Equal(t, [10]int{1, 1, 1, 1, 1, 1, 1, 1, 1, 1}, seen)
}
