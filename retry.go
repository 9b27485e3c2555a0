package pgcmd

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgcmd/pgcmd/internal/pgxerr"
	"github.com/pgcmd/pgcmd/internal/retry"
	"github.com/pgcmd/pgcmd/internal/sqlstate"
)

// A Retry says which failed attempts are retried, and when. It is a value without state, so
// that all commands can share one variable. The zero Retry makes one attempt.
//
// Only the outermost command is retried, as a whole, only after an error that [Retryable]
// allows, and only if the context's deadline comes after the wait. The wait is a random time
// below a limit that doubles ("full jitter", Brooker, Exponential Backoff And Jitter, AWS
// 2015): of the policies measured on four contended rows it needed the fewest attempts.
type Retry struct {
	Attempts int              // the number of attempts, with the first; 0 means 1
	Delay    time.Duration    // the first limit of the wait; if zero, 5ms or eight times the duration of the attempt, whichever is longer
	MaxDelay time.Duration    // the largest limit of the wait; 500ms if zero
	If       func(error) bool // narrows what Retryable allows, and cannot extend it; nil allows all of it
}

func (r Retry) zero() bool {
	return r.Attempts == 0 && r.Delay == 0 && r.MaxDelay == 0 && r.If == nil
}

// check panics on negative numbers.
func (r Retry) check(command string) {
	if r.Attempts < 0 || r.Delay < 0 || r.MaxDelay < 0 {
		panic(fmt.Sprintf("pgcmd: %s: Retry has a negative number (Attempts %d, Delay %v, MaxDelay %v): zero is the default of each", command, r.Attempts, r.Delay, r.MaxDelay))
	}
}

// Retryable reports whether err proves that nothing was applied, and may not come again: a
// serialization failure, a deadlock, a connection that could not be made or was lost before
// COMMIT, a statement that was prepared before the schema changed. It is false for an error
// whose Effect is Unknown, a timeout, a cancellation, and an error that the server would
// return again. Of joined errors each must prove it.
func Retryable(err error) bool {
	if err == nil {
		return false
	}
	if first, effect := findError(err); first != nil {
		return effect == NotApplied && first.isTransient()
	}
	if pgErr, ok := errors.AsType[*pgconn.PgError](err); ok && !pgxerr.IsConnect(err) {
		return sqlstate.IsConflict(pgErr.Code)
	}
	return pgxerr.IsConnect(err) && classify(context.Background(), err).isTransient()
}

// isTransient reports whether the error may not come again.
func (e *Error) isTransient() bool {
	switch {
	case e.outdated:
		return true
	case e.SQLState == "":
		return (e.Code == CodeUnavailable || e.Code == CodeUnknownEffect) && !pgxerr.IsPermanent(e.Err)
	case e.SQLState == sqlstate.ReadOnlyTransaction:
		return e.Code != CodeInternal // by the transaction's options
	case e.SQLState == sqlstate.FeatureNotSupported:
		pgErr, ok := errors.AsType[*pgconn.PgError](e.Err)
		return ok && sqlstate.IsPlanChange(pgErr)
	}
	return sqlstate.IsTransient(e.SQLState)
}

// retryAtMostOnce reports whether one more attempt is all that can help.
func (e *Error) retryAtMostOnce() bool {
	return !e.outdated && sqlstate.RetryOnce(e.SQLState)
}

// Do runs f until it succeeds, returns an error that is not retried, or has used up the
// attempts. It returns f's last error. It is for code that is not a command: f must be safe
// to run again after an error that Retryable allows.
func (r Retry) Do(ctx context.Context, f func(ctx context.Context) error) error {
	r.check("Retry.Do")
	for attempt := 1; ; attempt++ {
		start := time.Now()
		err := f(ctx)
		if err == nil || !Retryable(err) || !r.allows(err, attempt) || !r.wait(ctx, attempt, time.Since(start)) {
			return err
		}
	}
}

// allows reports whether the policy allows another attempt after err.
func (r Retry) allows(err error, attempt int) bool {
	return attempt < r.Attempts && (r.If == nil || r.If(err))
}

// wait waits before the next attempt, and reports whether there is time for one. elapsed is
// the duration of the last attempt.
func (r Retry) wait(ctx context.Context, attempt int, elapsed time.Duration) bool {
	return retry.Wait(ctx, r.Delay, r.MaxDelay, attempt, elapsed)
}

// takeToken takes the tokens for one retry after e, and reports whether there were enough.
// Retries after conflicts between transactions and after schema changes take no tokens,
// since they do not mean that the server is in trouble.
func (e *Error) takeToken(b *retry.Bucket) bool {
	return e.Code == CodeAborted || e.outdated || b.Take()
}

// addBucketEmpty adds to the message of e that there were no tokens for a retry. The code
// stays that of the last attempt.
func (e *Error) addBucketEmpty() {
	e.Message += "; it was not tried again, since the pool's budget for retries is used up"
}
