package pgcmd

import (
	"context"
	"fmt"
	"slices"
)

// Before returns a copy of c with a function that runs once, after validation and before
// anything is sent; it may change its copy of the input, which is not validated again.
// They run in the order added; the first error ends the run, NotApplied.
func Before[In, Out any](c *Command[In, Out], f func(ctx context.Context, in *In) error) *Command[In, Out] {
	d := c.def.cloneForHook("Before", f == nil)
	d.before = append(d.before, func(ctx context.Context, in any) error { return f(ctx, in.(*In)) })
	return &Command[In, Out]{d.prepare()}
}

// After returns a copy of c with a function that runs once the body succeeded; it may
// change the output. They run in reverse order; the first error fails the run. Unless db
// is a transaction, a statement has committed by then: the error's Effect is Applied.
func After[In, Out any](c *Command[In, Out], f func(ctx context.Context, in In, out *Out) error) *Command[In, Out] {
	d := c.def.cloneForHook("After", f == nil)
	d.after = append(d.after, func(ctx context.Context, in, out any) error { return f(ctx, *in.(*In), out.(*Out)) })
	return &Command[In, Out]{d.prepare()}
}

// OnError returns a copy of c with a function that sees the error of a run, validation's
// excepted, and may translate it: an [*Error] it returns gives Code and Message, any error
// it returns is reached by errors.Is beside the original. It cannot swallow the
// error or change its Effect: nil keeps what there was. They run in the order
// added, each with what the one before returned.
func OnError[In, Out any](c *Command[In, Out], f func(ctx context.Context, in In, err error) error) *Command[In, Out] {
	d := c.def.cloneForHook("OnError", f == nil)
	d.onError = append(d.onError, func(ctx context.Context, in any, err error) error { return f(ctx, *in.(*In), err) })
	return &Command[In, Out]{d.prepare()}
}

// Cleanup returns a copy of c with a function that always runs at the end of a run whose
// input was accepted: after success, failure, panic and [runtime.Goexit]. The last added
// runs first, on a context that is not cancelled with the caller's and ends after
// 5 seconds.
func Cleanup[In, Out any](c *Command[In, Out], f func(ctx context.Context, in In)) *Command[In, Out] {
	d := c.def.cloneForHook("Cleanup", f == nil)
	d.cleanup = append(d.cleanup, func(ctx context.Context, in any) { f(ctx, *in.(*In)) })
	return &Command[In, Out]{d.prepare()}
}

// cloneForHook returns a copy of d that gets a hook. Its lists are clipped, so that
// appending to them does not write into the original's arrays.
func (d *definition) cloneForHook(hook string, missing bool) *definition {
	if missing {
		panic(fmt.Sprintf("pgcmd: %s: %s was given a nil function", d.name, hook))
	}
	k := *d
	k.before, k.after = slices.Clip(k.before), slices.Clip(k.after)
	k.onError, k.cleanup = slices.Clip(k.onError), slices.Clip(k.cleanup)
	return &k
}
