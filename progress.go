package pgcmd

import "context"

type progressKey struct{}

// WithProgress returns a context whose batches and copies report their progress to f,
// under the rules of [Options.Progress] and besides it: for one run, as
// of a server that reports to its client. If a body runs several of them with its
// context, all call f.
func WithProgress(ctx context.Context, f func(done, total int)) context.Context {
	return context.WithValue(ctx, progressKey{}, f)
}

// reporter is whom a run tells of its progress: own, the one of its context, or
// both. It is nil if nobody wants to know.
func reporter(ctx context.Context, own func(done, total int)) func(done, total int) {
	caller, _ := ctx.Value(progressKey{}).(func(done, total int))
	switch {
	case caller == nil:
		return own
	case own == nil:
		return caller
	}
	return func(done, total int) {
		own(done, total)
		caller(done, total)
	}
}
