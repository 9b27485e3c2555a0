package pgcmd

import "context"

// A task is one run of a command that is not straight.
type task[In, Out any] struct {
	c   *Command[In, Out]
	in  In
	out Out
}

func (t *task[In, Out]) input() any { return t.in }

func (t *task[In, Out]) output() any { return &t.out }

func (t *task[In, Out]) clear() {
	var none Out
	t.out = none
}

func (t *task[In, Out]) check() *Error { return t.c.core.checks.refusal(&t.in) }

func (t *task[In, Out]) claim() (string, any) { return t.c.key(t.in), t.in }

func (t *task[In, Out]) vet() (refused []*Error, failure *Error, done bool) {
	t.out, refused, failure, done = t.c.batching.vet(t.in)
	return refused, failure, done
}

func (t *task[In, Out]) before(ctx context.Context) error {
	for _, hook := range t.c.before {
		if err := hook(ctx, &t.in); err != nil {
			return err
		}
	}
	return nil
}

func (t *task[In, Out]) body(ctx context.Context, db DB) (err error) {
	t.out, err = t.c.body(ctx, db, t.in)
	return err
}

func (t *task[In, Out]) after(ctx context.Context) error {
	for i := len(t.c.after) - 1; i >= 0; i-- {
		if err := t.c.after[i](ctx, t.in, &t.out); err != nil {
			return err
		}
	}
	return nil
}

// onError lets the hooks translate the failure.
func (t *task[In, Out]) onError(ctx context.Context, failure *Error) *Error {
	for _, hook := range t.c.onError {
		seen := *failure // the hook may keep it, and must not change what is known
		if err := hook(ctx, t.in, &seen); err != nil && err != error(&seen) {
			failure = failure.translated(err)
		}
	}
	return failure
}

// cleanup runs the hooks, the last added first, each even if another panics.
func (t *task[In, Out]) cleanup(ctx context.Context) {
	for _, hook := range t.c.cleanup {
		defer hook(ctx, t.in)
	}
}

func (t *task[In, Out]) rows(failed bool) int64 {
	if failed || t.c.rows == nil {
		return 0
	}
	return t.c.rows(t.out)
}

// settle leaves no output to a run that failed, but of a batch what is known of its
// items.
func (t *task[In, Out]) settle(attempts int, failure *Error) {
	if t.c.batching != nil {
		t.out = t.c.batching.settle(t.in, t.out, attempts, failure)
		return
	}
	t.clear()
}
