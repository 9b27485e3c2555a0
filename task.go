package pgcmd

import "context"

// A task is one run of a command that is not straight.
type task[In, Out any] struct {
	c   *Command[In, Out]
	in  In
	out Out

	unreplicated bool // what it did is committed, and the synchronous standby has not got it
}

func (t *task[In, Out]) seen() any   { return t.in }
func (t *task[In, Out]) input() any  { return &t.in }
func (t *task[In, Out]) output() any { return &t.out }

func (t *task[In, Out]) clear() {
	var none Out
	t.out = none
}

func (t *task[In, Out]) vet() (refused []*Error, failure *Error, done bool) {
	t.out, refused, failure, done = t.c.batching.vet(t.in)
	return refused, failure, done
}

func (t *task[In, Out]) body(ctx context.Context, db DB) (err error) {
	t.out, err = t.c.body(ctx, db, t.in)
	return err
}

func (t *task[In, Out]) rows(failed bool) int64 {
	if failed || t.c.rows == nil {
		return 0
	}
	return t.c.rows(t.out)
}

func (t *task[In, Out]) warn()        { t.unreplicated = true }
func (t *task[In, Out]) warned() bool { return t.unreplicated }

// settle leaves no output to a run that failed, but of a batch what is known of its
// items.
func (t *task[In, Out]) settle(attempts int, failure *Error) {
	if t.c.batching != nil {
		t.out = t.c.batching.settle(t.in, t.out, attempts, t.unreplicated, failure)
		return
	}
	t.clear()
}
