package pgcmd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"go.uber.org/zap/zapcore"
)

// An Error is what every failed run returns: what failed, where, and what is
// known of the database. Its own fields but Err never hold a bound value, a row
// or a secret, and nothing that it renders (Error, %+v, %#v, JSON, zap) looks
// into Err, so that it is safe to log and to show.
//
// Of an error that is not pgcmd's, as a body returns it, Message has the text only if it
// is a package-level error without formatting, or wraps one:
//
//	var ErrFunds = errors.New("insufficient funds")
//
// Such a text is a constant of the program, and can hold no value. The text of all others
// is withheld, and Message has the type: of errors made in a function, of fmt.Errorf, of
// types of your own, of texts put together when the program starts, and of whatever a
// hook, a middleware or the sequence of a [Copy] returns. (A build without optimizations,
// -gcflags=-N, withholds all of them.) [Errorf] and Options.OnConstraint show what they
// are given.
//
// [errors.Is] and [errors.As] reach through it: to [*pgconn.PgError], to context
// errors, to the domain error of OnConstraint and to your own sentinels. Treat
// an Error as read-only: it may be shared.
type Error struct {
	Code       Code      // what a program can act on
	Effect     Effect    // what is known of the database
	Command    string    // where: "bank.transfer > accounts.debit"; empty until a command has returned it
	Message    string    // what happened, and the mend where there is one
	Problems   []Problem // every field that is wrong, not only the first; nil if the input was accepted
	SQLState   string    // PostgreSQL's five characters; empty if the failure is not the server's
	Constraint string    // the violated constraint, if one was
	Table      string    // the table that the server names, if it does
	Column     string    // the column that the server names, if it does
	Attempts   int       // how often it was tried; 0 if the input was refused
	Err        error     // the cause; it may hold values: show it to nobody

	previousAttempts []*Error // of the attempts before this one
	secondary        error    // what errors.Is reaches beside Err: a domain error, a context's error
	outdated         bool     // the server refused a description, of before the schema changed, which is forgotten now
	noRetry          bool     // part of it has reached the caller, or his rows have been read, so that it cannot be tried again
	rowPrefix        string   // "row 18: ", before a message that takes the place of this one
}

// A Problem is one field of an input that was refused.
type Problem struct {
	Field   string `json:"field,omitempty"` // the path, as in Items[2].Qty; empty if it is the input as a whole
	Rule    string `json:"rule"`            // the validate tag that it broke, as in "email"; "validate" for the input's own Validate method
	Message string `json:"message"`         // one English sentence
}

// An Effect is what is known, after a failure, about the change in the database.
type Effect int

const (
	// Unknown: nobody can tell. It is the zero value, so that a forgotten case
	// is the cautious one.
	Unknown Effect = iota
	// NotApplied: proven, nothing of it is in the database.
	NotApplied
	// Applied: committed; what failed came later.
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

// MarshalText returns what String does.
func (e Effect) MarshalText() ([]byte, error) { return []byte(e.String()), nil }

// CodeOf returns the Code of err: "" for nil, CodeFailed for an error that is
// not pgcmd's.
func CodeOf(err error) Code {
	if err == nil {
		return ""
	}
	if first, _ := findError(err); first != nil {
		return first.Code
	}
	return CodeFailed
}

// EffectOf returns the Effect of err: Applied for nil, Unknown for an error that
// is not pgcmd's, and for errors that are joined and do not agree.
func EffectOf(err error) Effect {
	if err == nil {
		return Applied
	}
	_, effect := findError(err)
	return effect
}

// findError finds the first of pgcmd's errors in err, and what all of them together say of the
// database: Unknown, unless they agree. What one of them wraps is its cause, and has no
// say. A nil *Error that is returned as an error is none.
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
			e, its := findError(inner)
			switch {
			case e == nil:
			case first == nil:
				first, effect = e, its
			case its != effect:
				effect = Unknown
			}
		}
		return first, effect
	}
	if e, ok := errors.AsType[*Error](err); ok && e != nil { // by an As method
		return e, e.Effect
	}
	return nil, Unknown
}

// Errorf makes an *Error for bodies and hooks to return, and for sentinels:
//
//	var ErrFunds = pgcmd.Errorf(pgcmd.CodeConflict, "insufficient funds")
//
// The text is shown to whoever sees the error, so put no values of a caller's in
// it. %w wraps, as in [fmt.Errorf]; a wrapped error that is not pgcmd's own shows
// only its type, since its text may hold values, or the text of the package-level error
// that it is or wraps (see [Error]). The Effect is Unknown until the
// command that returns it sets it.
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
	if inner, ok := errors.AsType[*Error](wrapped); ok && inner != nil { // where it was, and what the server said
		e.Command, e.SQLState, e.Problems = inner.Command, inner.SQLState, inner.Problems
		e.Constraint, e.Table, e.Column = inner.Constraint, inner.Table, inner.Column
	}
	return e
}

// redactedError wraps an error in an Errorf: errors.Is reaches it, its text is the
// part that may be shown.
type redactedError struct{ err error }

func (s redactedError) Error() string { return safeText(s.err) }
func (s redactedError) Unwrap() error { return s.err }

// safeText is what may be shown of any error. The text of an error that is not
// ours is withheld: pgx's and PostgreSQL's hold values, and so may anybody's.
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
	if text := sentinelText(err); text != "" {
		return text
	}
	return fmt.Sprintf("%T", err)
}

// Error returns one line: the command, the message, each problem, and in brackets
// the code, the effect and the SQLSTATE.
func (e *Error) Error() string {
	if e == nil { // a nil *Error returned as an error
		return "pgcmd: <nil>"
	}
	var b strings.Builder
	b.WriteString("pgcmd: ")
	if e.Command != "" {
		b.WriteString(e.Command)
		b.WriteString(": ")
	}
	b.WriteString(e.Message)
	for i, p := range e.Problems {
		b.WriteString([]string{": ", "; "}[min(i, 1)])
		b.WriteString(p.String())
	}
	b.WriteString(" [")
	b.WriteString(string(e.Code))
	b.WriteString(", ")
	switch e.Effect {
	case NotApplied:
		b.WriteString("not applied")
	case Applied:
		b.WriteString("applied")
	default:
		b.WriteString("effect unknown")
	}
	if e.SQLState != "" {
		b.WriteString(", SQLSTATE ")
		b.WriteString(e.SQLState)
	}
	if e.Attempts > 1 {
		b.WriteString(", ")
		b.WriteString(strconv.Itoa(e.Attempts))
		b.WriteString(" attempts")
	}
	b.WriteString("]")
	return b.String()
}

// String returns the field and the message.
func (p Problem) String() string {
	// validator's sentences begin with the field's last name; the path says more.
	last := p.Field[strings.LastIndexByte(p.Field, '.')+1:]
	text := strings.TrimPrefix(p.Message, last+" ")
	if p.Field == "" {
		return text
	}
	return p.Field + " " + text
}

// Unwrap lets errors.Is and errors.As reach the cause, the domain error of
// OnConstraint, the context's error where a deadline or a cancellation was the
// reason, and the errors of earlier attempts.
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

// Format renders every verb, %#v included, as Error does: reflection would print
// the cause, and a cause may hold values.
func (e Error) Format(f fmt.State, verb rune) {
	if verb == 'q' {
		fmt.Fprintf(f, "%q", e.Error())
		return
	}
	fmt.Fprint(f, e.Error())
}

type errorJSON struct {
	Code       Code      `json:"code"`
	Effect     Effect    `json:"effect"`
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

// MarshalJSON renders all but the cause, which may hold values.
func (e Error) MarshalJSON() ([]byte, error) {
	return json.Marshal(errorJSON{e.Code, e.Effect, e.Command, e.Message, e.Problems,
		e.SQLState, e.Constraint, e.Table, e.Column, e.Attempts, e.previousAttempts})
}

// MarshalLogObject lets zap log an Error as fields: zap.Any("error", err), or
// zap.Inline. It leaves out the cause, as MarshalJSON does.
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
