package txn

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
		do   func(w *watch, ctx context.Context, cancel func())
		want handlerCalls
	}{
		{"in a round trip", func(w *watch, ctx context.Context, cancel func()) {
			w.start(ctx, nil)
			cancel()
		}, handlerCalls{1, 1}},
		{"in the second of a context", func(w *watch, ctx context.Context, cancel func()) {
			w.start(ctx, nil)
			w.end()
			w.start(context.WithValue(ctx, key{}, 1), nil)
			cancel()
		}, handlerCalls{1, 1}},
		{"between two", func(w *watch, ctx context.Context, cancel func()) {
			w.start(ctx, nil)
			w.end()
			cancel()
		}, handlerCalls{}},
		{"between two, and the next starts all the same", func(w *watch, ctx context.Context, cancel func()) {
			w.start(ctx, nil)
			w.end()
			cancel()
			synctest.Wait()
			w.start(ctx, nil)
		}, handlerCalls{1, 1}},
		{"before the first", func(w *watch, ctx context.Context, cancel func()) {
			w.start(canceled(ctx), nil)
		}, handlerCalls{1, 1}},
		{"of one that is not followed any more", func(w *watch, ctx context.Context, cancel func()) {
			w.start(ctx, nil)
			w.end()
			w.start(context.Background(), nil)
			cancel()
		}, handlerCalls{}},
		{"of one that has ended before another is followed", func(w *watch, ctx context.Context, cancel func()) {
			w.start(ctx, nil)
			w.end()
			cancel()
			other, stop := context.WithTimeout(context.Background(), time.Hour)
			defer stop()
			w.start(other, nil)
			synctest.Wait()
			w.end()
		}, handlerCalls{}},
		{"after the transaction", func(w *watch, ctx context.Context, cancel func()) {
			w.start(ctx, nil)
			w.end()
			w.close()
			cancel()
		}, handlerCalls{}},
		{"never", func(w *watch, ctx context.Context, cancel func()) {
			w.start(ctx, nil)
		}, handlerCalls{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				var calls handlerCalls
				w := &watch{handler: &calls}
				c.do(w, ctx, cancel)
				synctest.Wait()
				w.end()
				w.close()
				assert.Equal(t, c.want, calls)
			})
		})
	}
}

// A second round trip of a context allocates nothing for it.
func TestAWatchFollowsAContextOnce(t *testing.T) {
	w := &watch{handler: &handlerCalls{}}
	ctx := t.Context()
	w.start(ctx, nil)
	w.end()
	assert.Zero(t, testing.AllocsPerRun(100, func() {
		w.start(ctx, nil)
		w.end()
	}))
	w.close()
}
