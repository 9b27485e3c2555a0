package interrupt

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
)

// handlerCalls counts the calls of a ContextWatcherHandler.
type handlerCalls struct{ cancel, unwatch int }

func (h *handlerCalls) HandleCancel(context.Context) { h.cancel++ }
func (h *handlerCalls) HandleUnwatchAfterCancel()    { h.unwatch++ }

func TestAWatchInterruptsTheRoundTripInWhichTheContextEnds(t *testing.T) {
	t.Parallel()
	type key struct{}
	canceled := func(ctx context.Context) context.Context {
		ctx, cancel := context.WithCancel(ctx)
		cancel()
		return ctx
	}
	for _, c := range []struct {
		name string
		do   func(w *Watch, ctx context.Context, cancel func())
		want handlerCalls
	}{
		{"in a round trip", func(w *Watch, ctx context.Context, cancel func()) {
			w.Start(ctx)
			cancel()
		}, handlerCalls{1, 1}},
		{"in the second of a context", func(w *Watch, ctx context.Context, cancel func()) {
			w.Start(ctx)
			w.End(false)
			w.Start(context.WithValue(ctx, key{}, 1))
			cancel()
		}, handlerCalls{1, 1}},
		{"between two", func(w *Watch, ctx context.Context, cancel func()) {
			w.Start(ctx)
			w.End(false)
			cancel()
		}, handlerCalls{}},
		{"between two, and the next starts all the same", func(w *Watch, ctx context.Context, cancel func()) {
			w.Start(ctx)
			w.End(false)
			cancel()
			synctest.Wait()
			w.Start(ctx)
		}, handlerCalls{1, 1}},
		{"before the first", func(w *Watch, ctx context.Context, cancel func()) {
			w.Start(canceled(ctx))
		}, handlerCalls{1, 1}},
		{"of one that is not followed any more", func(w *Watch, ctx context.Context, cancel func()) {
			w.Start(ctx)
			w.End(false)
			w.Start(context.Background())
			cancel()
		}, handlerCalls{}},
		{"of one that has ended before another is followed", func(w *Watch, ctx context.Context, cancel func()) {
			w.Start(ctx)
			w.End(false)
			cancel()
			other, stop := context.WithTimeout(context.Background(), time.Hour)
			defer stop()
			w.Start(other)
			synctest.Wait()
			w.End(false)
		}, handlerCalls{}},
		{"after the transaction", func(w *Watch, ctx context.Context, cancel func()) {
			w.Start(ctx)
			w.End(false)
			w.Close()
			cancel()
		}, handlerCalls{}},
		{"in a round trip that loses the connection", func(w *Watch, ctx context.Context, cancel func()) {
			w.Start(ctx)
			cancel()
			synctest.Wait()
			w.End(true)
		}, handlerCalls{1, 0}},
		{"never", func(w *Watch, ctx context.Context, cancel func()) {
			w.Start(ctx)
		}, handlerCalls{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				var calls handlerCalls
				w := newWatch(&calls)
				c.do(w, ctx, cancel)
				synctest.Wait()
				w.End(false)
				w.Close()
				assert.Equal(t, c.want, calls)
			})
		})
	}
}

// Only to follow a context allocates, and not a second round trip of it.
func TestAWatchFollowsAContextOnce(t *testing.T) {
	w := newWatch(&handlerCalls{})
	ctx := t.Context()
	w.Start(ctx)
	w.End(false)
	assert.Zero(t, testing.AllocsPerRun(100, func() {
		w.Start(ctx)
		w.End(false)
	}))
	w.Close()

	assert.Equal(t, 2.0, testing.AllocsPerRun(100, func() {
		w.Start(ctx)
		w.End(false)
		w.Close()
	}), "those of context.AfterFunc")
}
