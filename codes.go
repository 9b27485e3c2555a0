package pgcmd

import (
	_ "embed"
	"strings"
	"sync"
)

// A Code says what kind of failure an error is: the part of it that a program
// can act on. Its string is the one that JSON carries.
type Code string

const (
	CodeInvalid       Code = "invalid"        // validation refused the input, or PostgreSQL refused a value (22xxx, 23502, 23514)
	CodeNotFound      Code = "not_found"      // a QueryOne found no row
	CodeTooManyRows   Code = "too_many_rows"  // a QueryOne found a second row, or a Query more than MaxRows or MaxBytes
	CodeConflict      Code = "conflict"       // a unique, foreign key or exclusion constraint (23505, 23503, 23P01)
	CodeAborted       Code = "aborted"        // serialization failure, deadlock, lock not available: trying again may help
	CodeTimeout       Code = "timeout"        // a deadline passed, ours or the server's
	CodeCanceled      Code = "canceled"       // the caller gave up
	CodeUnavailable   Code = "unavailable"    // no server, one that is going away or read-only, too many connections
	CodeExhausted     Code = "exhausted"      // no connection in time, or the server is out of disk or memory
	CodePermission    Code = "permission"     // 42501 and 28xxx
	CodeUnknownEffect Code = "unknown_effect" // sent, and no reply: it may or may not be applied
	CodeSkipped       Code = "skipped"        // an item of a batch or a pipeline that was not run since another failed
	CodeNestedAcquire Code = "nested_acquire" // run on the pool from within a transaction on the same pool
	CodeFailed        Code = "failed"         // the body's own error, without a code
	CodeInternal      Code = "internal"       // a bug: bad SQL, a scan that does not fit, a Go type that cannot be sent as its parameter's type, a nil DB
)

// sqlstates holds a line for every SQLSTATE in Appendix A of PostgreSQL's
// manual: the state, its Code, its condition name.
//
//go:embed sqlstate.txt
var sqlstates string

type condition struct {
	code Code
	name string
}

// conditions is parsed at the first error, not at start: most programs that
// import the package and stop never see one.
var conditions = sync.OnceValue(func() map[string]condition {
	table := make(map[string]condition, 300)
	for line := range strings.Lines(sqlstates) {
		if f := strings.Fields(line); len(f) == 3 {
			table[f[0]] = condition{code: Code(f[1]), name: f[2]}
		}
	}
	return table
})

// conditionOf finds the condition of a SQLSTATE. One that PostgreSQL does not
// list belongs to its class; one of no listed class is a RAISE's own choice,
// and so the body's own failure.
func conditionOf(state string) condition {
	if c, ok := conditions()[state]; ok {
		return c
	}
	if len(state) == 5 {
		if c, ok := conditions()[state[:2]+"000"]; ok {
			return condition{code: c.code, name: "error of class " + state[:2]}
		}
	}
	return condition{code: CodeFailed, name: "error"}
}
