package pgcmd

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// A Retry says which failed attempts are tried again, and when. It is a value
// without state: one variable serves every command. The zero Retry tries once.
//
// Only whole outermost attempts are repeated, only those that [Retryable] allows,
// and only while the context leaves room for the wait. The waits are drawn at
// random below a limit that doubles ("full jitter", Brooker, Exponential Backoff
// And Jitter, AWS 2015): of the policies measured on four hot rows it needed the
// fewest attempts.
type Retry struct {
	Attempts int              // total tries, the first included; 0 means 1
	Delay    time.Duration    // the first limit of the wait; if zero, 5ms or eight times what the attempt took, whichever is longer
	MaxDelay time.Duration    // where the doubling stops; 500ms if zero
	If       func(error) bool // narrows what Retryable allows; it can never widen it; nil allows all of it
}

func (r Retry) zero() bool {
	return r.Attempts == 0 && r.Delay == 0 && r.MaxDelay == 0 && r.If == nil
}

// check panics on numbers that mean nothing.
func (r Retry) check(command string) {
	if r.Attempts < 0 || r.Delay < 0 || r.MaxDelay < 0 {
		panic(fmt.Sprintf("pgcmd: %s: Retry has a negative number (Attempts %d, Delay %v, MaxDelay %v): zero is the default of each", command, r.Attempts, r.Delay, r.MaxDelay))
	}
}

// Retryable reports whether err proves that nothing was applied, and is of a kind
// that may not happen again: a serialization failure, a deadlock, a connection
// that could not be made or that was lost before anything of the unit could
// commit, a statement that was prepared before the schema changed. It never allows what
// is Unknown, a timeout, a cancellation, or what the server would refuse again. Of errors
// that are joined all must be proven.
func Retryable(err error) bool {
	if err == nil {
		return false
	}
	if first, effect := findError(err); first != nil {
		return effect == NotApplied && first.isTransient()
	}
	if pgErr, ok := errors.AsType[*pgconn.PgError](err); ok && !isConnectError(err) {
		return pgErr.Code == serializationFailure || pgErr.Code == deadlockDetected
	}
	return isConnectError(err) && classify(context.Background(), err).isTransient()
}

// isTransient reports whether the failure is of a kind that passes.
func (e *Error) isTransient() bool {
	if e.outdated {
		return true
	}
	switch e.SQLState {
	case "":
		return (e.Code == CodeUnavailable || e.Code == CodeUnknownEffect) && !isPermanentDialError(e.Err)
	case serializationFailure, deadlockDetected:
		return true
	case "53300", "25006", "57P01", "57P02", "57P03", "57P04", "57P05", "40003":
		return true
	case "26000", "42P05": // a prepared statement is gone, or there already: a pooler
		return true
	case "0A000": // the only one that passes: pgx has forgotten the plan
		pgErr, ok := errors.AsType[*pgconn.PgError](e.Err)
		return ok && pgErr.Routine == "RevalidateCachedQuery"
	}
	return strings.HasPrefix(e.SQLState, "08")
}

// isPermanentDialError reports whether a connection fails for a reason that time does not change.
func isPermanentDialError(err error) bool {
	if isPoolClosed(err) {
		return true
	}
	if dns, ok := errors.AsType[*net.DNSError](err); ok {
		return dns.IsNotFound
	}
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return true
	}
	if _, ok := errors.AsType[tls.AlertError](err); ok {
		return true
	}
	return err != nil && strings.Contains(err.Error(), "server refused TLS connection") // it has no type
}

// retryAtMostOnce reports whether one more attempt is all that can help.
func (e *Error) retryAtMostOnce() bool {
	return !e.outdated && (e.SQLState == "26000" || e.SQLState == "42P05" || e.SQLState == "0A000")
}

// Do runs f until it succeeds, fails with an error that is not to be retried, or
// has used up its attempts; it returns f's last error. It is the helper on its
// own, for what is no command: f must be safe to run again after an error that
// Retryable allows.
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

// allows reports whether the policy asks for another attempt.
func (r Retry) allows(err error, attempt int) bool {
	return attempt < r.Attempts && (r.If == nil || r.If(err))
}

// wait waits before the next attempt, and reports whether there is time for one. The
// last attempt took so long.
func (r Retry) wait(ctx context.Context, attempt int, took time.Duration) bool {
	wait := rand.N(r.backoffCap(attempt, took) + 1)
	if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) <= wait {
		return false
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}

// backoffCap is the longest wait after so many attempts, of which the last took so long.
func (r Retry) backoffCap(attempts int, took time.Duration) time.Duration {
	limit, most := r.Delay, r.MaxDelay
	if limit == 0 {
		// Those who got into each other's way do so again, unless they come back at
		// times that are further apart than their work is long.
		limit = max(5*time.Millisecond, 8*took)
	}
	if most == 0 {
		most = 500 * time.Millisecond
	}
	for range attempts - 1 {
		if limit >= most {
			break
		}
		limit *= 2
	}
	return min(limit, most)
}

// A budget bounds the retries of all commands of a pool together, so that an
// outage is not answered by a multiple of the load: a token bucket with the
// numbers of the AWS SDKs' standard retry mode. Conflicts between transactions, and
// changes of the schema, do not draw on it: they say nothing of the server's health.
type retryBucket struct {
	mu     sync.Mutex
	tokens int // those spent, so that the zero budget is full
	size   int // zero: budgetSize; negative: no limit
}

const (
	retryBucketSize = 500
	retryCost       = 5
	successRefund   = 1
)

// take takes the tokens of one retry, if there are any.
func (b *retryBucket) take(e *Error) bool {
	if b == nil || b.size < 0 || e.Code == CodeAborted || e.outdated {
		return true
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	size := b.size
	if size == 0 {
		size = retryBucketSize
	}
	if b.tokens+retryCost > size {
		return false
	}
	b.tokens += retryCost
	return true
}

// addBucketEmpty says in the message of e that there were no tokens for another attempt.
// Its code stays what it is: that is the reason of the error.
func (e *Error) addBucketEmpty() {
	e.Message += "; it was not tried again, since the pool's budget for retries is used up"
}

// available is how many tokens there are; -1 if there is no limit.
func (b *retryBucket) available() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.size < 0:
		return -1
	case b.size == 0:
		return retryBucketSize - b.tokens
	}
	return b.size - b.tokens
}

// put gives back what a success is worth: the price of the retry that led to it,
// if one did.
func (b *retryBucket) put(retried bool) {
	if b == nil {
		return
	}
	worth := successRefund
	if retried {
		worth = retryCost
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.tokens = max(0, b.tokens-worth)
}
