package pgcmd

import "context"

// A task is one run of a command that is not straight.
type typedInvocation[In, Out any] struct {
	c   *Command[In, Out]
	in  In
	out Out

	unreplicated bool // what it did is committed, and the synchronous standby has not got it
}

func (t *typedInvocation[In, Out]) inputValue() any { return t.in }
func (t *typedInvocation[In, Out]) input() any      { return &t.in }
func (t *typedInvocation[In, Out]) output() any     { return &t.out }

func (t *typedInvocation[In, Out]) resetOutput() {
	var none Out
	t.out = none
}

func (t *typedInvocation[In, Out]) validateItems() (refused []*Error, failure *Error, done bool) {
	t.out, refused, failure, done = t.c.batchFuncs.validateItems(t.in)
	return refused, failure, done
}

func (t *typedInvocation[In, Out]) body(ctx context.Context, db DB) (err error) {
	t.out, err = t.c.body(ctx, db, t.in)
	return err
}

func (t *typedInvocation[In, Out]) rows(failed bool) int64 {
	if failed || t.c.rows == nil {
		return 0
	}
	return t.c.rows(t.out)
}

func (t *typedInvocation[In, Out]) warnUnreplicated()    { t.unreplicated = true }
func (t *typedInvocation[In, Out]) isUnreplicated() bool { return t.unreplicated }

// finish leaves no output to a run that failed, but of a batch what is known of its
// items.
func (t *typedInvocation[In, Out]) finish(attempts int, failure *Error) {
	if t.c.batchFuncs != nil {
		t.out = t.c.batchFuncs.reconcile(t.in, t.out, attempts, t.unreplicated, failure)
		return
	}
	t.resetOutput()
}
