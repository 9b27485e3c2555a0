package pgcmd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"go.uber.org/zap/zapcore"

	"github.com/pgcmd/pgcmd/internal/problem"
	"github.com/pgcmd/pgcmd/internal/sentinel"
)

// An Error is the error of every failed run: what failed, where, and whether anything was
// applied to the database. Its fields other than Err never hold an argument, a row or a
// secret, and none of its renderings (Error, %+v, %#v, JSON, zap) includes Err, so that it
// is safe to log and to show.
//
// If a body returns an error of another type, Message has its text only if it is, or wraps,
// a package-level error without formatting:
//
//	var ErrFunds = errors.New("insufficient funds")
//
// Such a text is a constant of the program, and can hold no value. All other texts are
// withheld, and Message has the type of the error instead: of errors made in a function,
// by fmt.Errorf, of types of your own, with texts composed when the program starts, and of
// every error that a hook, a middleware or the sequence of a [Copy] returns. (A build
// without optimizations, -gcflags=-N, withholds all of them.) [Errorf] and
// Options.OnConstraint show the text that they are given.
//
// [errors.Is] and [errors.As] find [*pgconn.PgError], context errors, the domain error of
// OnConstraint and your own sentinels in it. Treat an Error as read-only: it may be shared.
type Error struct {
	Code       Code      // what a program can act on
	Effect     Effect    // whether anything was applied to the database
	Command    string    // where: "bank.transfer > accounts.debit"; empty until a command has returned it
	Message    string    // what happened and, where possible, how to fix it
	Problems   []Problem // every invalid field, not only the first; nil if the input was accepted
	SQLState   string    // PostgreSQL's five characters; empty if the error is not the server's
	Constraint string    // the violated constraint, if there is one
	Table      string    // the table that the server names, if it does
	Column     string    // the column that the server names, if it does
	Attempts   int       // the number of attempts; 0 if the input was refused
	Err        error     // the cause; it may hold values: do not show it

	previousAttempts []*Error // the errors of the attempts before this one
	secondary        error    // found by errors.Is beside Err: a domain error, a context's error
	outdated         bool     // the server refused a statement description because the schema has changed; it is no longer cached
	noRetry          bool     // rows have reached the caller, the input's rows were read, or the SQL was not made, so that it is not retried
	unchanged        bool     // of a QueryOne without a row: it changed nothing, whatever becomes of what else was run
	rowPrefix        string   // "row 18: ", for a message that replaces this one
}

// A Code is the kind of an error: the part of it that a program can act on. JSON has it as
// its string. A program may add codes of its own, by [Errorf].
type Code string

const (
	CodeInvalid       Code = "invalid"        // validation refused the input, or PostgreSQL refused a value (22xxx, 23502, 23514)
	CodeNotFound      Code = "not_found"      // a QueryOne found no row
	CodeTooManyRows   Code = "too_many_rows"  // a QueryOne found a second row, or a Query more than MaxRows or MaxBytes
	CodeConflict      Code = "conflict"       // a unique, foreign key or exclusion constraint (23505, 23503, 23P01)
	CodeAborted       Code = "aborted"        // serialization failure, deadlock, lock not available: a retry may help
	CodeTimeout       Code = "timeout"        // a deadline passed, ours or the server's
	CodeCanceled      Code = "canceled"       // the caller cancelled the context
	CodeUnavailable   Code = "unavailable"    // no server, or one that is shutting down, read-only or out of connections
	CodeExhausted     Code = "exhausted"      // no connection in time, or the server is out of disk or memory
	CodePermission    Code = "permission"     // 42501 and 28xxx
	CodeUnknownEffect Code = "unknown_effect" // sent, and no reply came: it may or may not be applied
	CodeSkipped       Code = "skipped"        // an item of a batch or a pipeline that was not run because another failed
	CodeNestedAcquire Code = "nested_acquire" // run on the pool from within a transaction on the same pool
	CodeFailed        Code = "failed"         // the body's own error, without a code
	CodeInternal      Code = "internal"       // a bug: bad SQL, a scan that does not fit, a Go type that cannot be sent as its parameter's type, a nil DB
)

// A Problem is the reason why one field of an input was refused.
type Problem struct {
	Field   string `json:"field,omitempty"` // the path, such as Items[2].Qty; empty for the input as a whole
	Rule    string `json:"rule"`            // the validate tag, such as "email"; "validate" for the input's Validate method
	Message string `json:"message"`         // one English sentence
}

// An Effect says whether a run that failed has changed the database.
type Effect int

const (
	// Unknown means that it cannot be determined. It is the zero value, so that a case
	// that was overlooked is treated with caution.
	Unknown Effect = iota
	// NotApplied means that the run has provably changed nothing.
	NotApplied
	// Applied means that the run was committed, and failed later.
	Applied
)

// String returns "unknown", "not_applied" or "applied".
func (e Effect) String() string {
	switch e {
	case NotApplied:
		return "not_applied"
	case Applied:
		return "applied"
	}
	return "unknown"
}

// MarshalText returns the text of String.
func (e Effect) MarshalText() ([]byte, error) { return []byte(e.String()), nil }

// CodeOf returns the Code of err: "" for nil, CodeFailed for an error without an *Error in
// it.
func CodeOf(err error) Code {
	if err == nil {
		return ""
	}
	if first, _ := findError(err); first != nil {
		return first.Code
	}
	return CodeFailed
}

// EffectOf returns the Effect of err: Applied for nil, Unknown for an error without an
// *Error in it, and for joined errors with different Effects.
func EffectOf(err error) Effect {
	if err == nil {
		return Applied
	}
	_, effect := findError(err)
	return effect
}

// findError finds the first *Error in err, and the Effect of all that are joined in it:
// Unknown, unless they agree. The causes that they wrap do not count, nor does a nil *Error.
func findError(err error) (first *Error, effect Effect) {
	switch err := err.(type) {
	case nil:
		return nil, Unknown
	case *Error:
		if err == nil {
			return nil, Unknown
		}
		return err, err.Effect
	case interface{ Unwrap() error }:
		return findError(err.Unwrap())
	case interface{ Unwrap() []error }:
		for _, inner := range err.Unwrap() {
			e, innerEffect := findError(inner)
			switch {
			case e == nil:
			case first == nil:
				first, effect = e, innerEffect
			case innerEffect != effect:
				effect = Unknown
			}
		}
		return first, effect
	}
	if e, ok := errors.AsType[*Error](err); ok && e != nil { // of an As method
		return e, e.Effect
	}
	return nil, Unknown
}

// Errorf makes an *Error for bodies and hooks to return, and for sentinels:
//
//	var ErrFunds = pgcmd.Errorf(pgcmd.CodeConflict, "insufficient funds")
//
// The text is shown in logs and to callers, so put no values of an input in it. %w wraps,
// as in [fmt.Errorf]. Of a wrapped error that is not an *Error only the type is shown,
// since its text may hold values, or the text of the package-level error that it is or
// wraps (see [Error]). The Effect is Unknown until the command that returns it sets it.
func Errorf(code Code, format string, args ...any) error {
	shown := make([]any, len(args))
	for i, arg := range args {
		if err, ok := arg.(error); ok {
			arg = redactedError{err}
		}
		shown[i] = arg
	}
	wrapped := fmt.Errorf(format, shown...)
	e := &Error{Code: code, Message: wrapped.Error()}
	switch wrapped.(type) {
	case interface{ Unwrap() error }, interface{ Unwrap() []error }:
		e.Err = wrapped
	}
	if inner, ok := errors.AsType[*Error](wrapped); ok && inner != nil {
		e.Command, e.SQLState, e.Problems = inner.Command, inner.SQLState, inner.Problems
		e.Constraint, e.Table, e.Column = inner.Constraint, inner.Table, inner.Column
	}
	return e
}

// redactedError wraps an argument of Errorf: errors.Is finds it, and its text is the one that
// may be shown.
type redactedError struct{ err error }

func (s redactedError) Error() string { return safeText(s.err) }
func (s redactedError) Unwrap() error { return s.err }

// safeText returns the text of err that may be shown. That of an error of another package is
// withheld: those of pgx and PostgreSQL hold values, and others may.
func safeText(err error) string {
	if e, ok := errors.AsType[*Error](err); ok && e != nil {
		return e.Message
	}
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return context.DeadlineExceeded.Error()
	case errors.Is(err, context.Canceled):
		return context.Canceled.Error()
	}
	if text := sentinel.Text(err); text != "" {
		return text
	}
	return fmt.Sprintf("%T", err)
}

// Error returns one line: the command, the message, the problems, and in brackets the code,
// the effect and the SQLSTATE.
func (e *Error) Error() string {
	if e == nil { // a nil *Error returned as an error
		return "pgcmd: <nil>"
	}
	parts := make([]string, 0, 16)
	parts = append(parts, "pgcmd: ")
	if e.Command != "" {
		parts = append(parts, e.Command, ": ")
	}
	parts = append(parts, e.Message)
	for i, p := range e.Problems {
		parts = append(parts, []string{": ", "; "}[min(i, 1)], p.String())
	}
	effect := "effect unknown"
	if e.Effect == NotApplied || e.Effect == Applied {
		effect = strings.ReplaceAll(e.Effect.String(), "_", " ")
	}
	parts = append(parts, " [", string(e.Code), ", ", effect)
	if e.SQLState != "" {
		parts = append(parts, ", SQLSTATE ", e.SQLState)
	}
	if e.Attempts > 1 {
		parts = append(parts, ", ", strconv.Itoa(e.Attempts), " attempts")
	}
	return strings.Join(append(parts, "]"), "")
}

// String returns the field and the message.
func (p Problem) String() string {
	// validator's sentences begin with the last name of the path, which is printed whole.
	text := strings.TrimPrefix(p.Message, problem.LastName(p.Field)+" ")
	if p.Field == "" {
		return text
	}
	return p.Field + " " + text
}

// Unwrap returns the cause, the domain error of OnConstraint, the context's error if a
// deadline or a cancellation was the reason, and the errors of earlier attempts.
func (e *Error) Unwrap() []error {
	if e == nil {
		return nil
	}
	errs := make([]error, 0, 2+len(e.previousAttempts))
	for _, err := range [...]error{e.secondary, e.Err} {
		if err != nil {
			errs = append(errs, err)
		}
	}
	for _, err := range e.previousAttempts {
		errs = append(errs, err)
	}
	return errs
}

// Format prints the text of Error for every verb, %#v included: reflection would print the
// cause, which may hold values.
func (e Error) Format(f fmt.State, verb rune) {
	if verb == 'q' {
		fmt.Fprintf(f, "%q", e.Error())
		return
	}
	fmt.Fprint(f, e.Error())
}

type errorJSON struct {
	Code       Code      `json:"code"`
	Effect     string    `json:"effect"`
	Command    string    `json:"command,omitempty"`
	Message    string    `json:"message"`
	Problems   []Problem `json:"problems,omitempty"`
	SQLState   string    `json:"sqlstate,omitempty"`
	Constraint string    `json:"constraint,omitempty"`
	Table      string    `json:"table,omitempty"`
	Column     string    `json:"column,omitempty"`
	Attempts   int       `json:"attempts"`
	Earlier    []*Error  `json:"earlier,omitempty"` // the attempts before the last
}

// MarshalJSON renders the error without its cause, which may hold values.
func (e Error) MarshalJSON() ([]byte, error) {
	return json.Marshal(errorJSON{e.Code, e.Effect.String(), e.Command, e.Message, e.Problems,
		e.SQLState, e.Constraint, e.Table, e.Column, e.Attempts, e.previousAttempts})
}

// MarshalLogObject lets zap log an Error as fields, with zap.Any("error", err) or
// zap.Inline. It omits the cause, as MarshalJSON does.
func (e Error) MarshalLogObject(enc zapcore.ObjectEncoder) error {
	enc.AddString("code", string(e.Code))
	enc.AddString("effect", e.Effect.String())
	enc.AddString("message", e.Message)
	enc.AddInt("attempts", e.Attempts)
	for _, f := range [...]struct{ key, value string }{
		{"command", e.Command}, {"sqlstate", e.SQLState},
		{"constraint", e.Constraint}, {"table", e.Table}, {"column", e.Column},
	} {
		if f.value != "" {
			enc.AddString(f.key, f.value)
		}
	}
	if len(e.Problems) == 0 {
		return nil
	}
	return enc.AddArray("problems", zapcore.ArrayMarshalerFunc(func(a zapcore.ArrayEncoder) error {
		for _, p := range e.Problems {
			a.AppendString(p.String())
		}
		return nil
	}))
}
