// Package mutant plants the classic mistakes of database code in pgcmd, one at a
// time, so that a test can show that the fault suite catches each. Nothing plants
// one but tests.
package mutant

import "sync/atomic"

// A Mutant is one mistake.
type Mutant int32

const (
	None               Mutant = iota
	TrustSafeToRetry          // believe pgconn.SafeToRetry of a COMMIT that had no reply
	CommitOnCallersCtx        // let the caller's cancellation reach COMMIT
	VerifyBySelect            // look for the ledger's row with SELECT before the transaction is tried again
	NoRollbackOnPanic         // give a connection back with its transaction open
	RetryAfterCommit          // try again although COMMIT was sent
	SwallowAborted            // take the body's word for it that all went well
)

var planted atomic.Int32

// String names the mistake.
func (m Mutant) String() string {
	return [...]string{"none", "trust SafeToRetry", "COMMIT on the caller's context", "verify by SELECT",
		"no rollback on panic", "retry after COMMIT", "swallow an aborted transaction"}[m]
}

// Plant plants m until the returned function is called.
func Plant(m Mutant) (uproot func()) {
	planted.Store(int32(m))
	return func() { planted.Store(int32(None)) }
}

// Planted reports whether m is in.
func Planted(m Mutant) bool { return planted.Load() == int32(m) }
