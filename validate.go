package pgcmd

import (
	"errors"
	"fmt"
	"reflect"
	"strconv"

	"github.com/pgcmd/pgcmd/internal/problem"
	"github.com/pgcmd/pgcmd/internal/validation"
)

// validationOf returns the validation of an input type, nil if there is nothing to check. A
// tag that validator does not know panics.
func validationOf(command string, typ reflect.Type) *validation.Checks {
	c, err := validation.Compile(typ, problemsInError)
	if err != nil {
		panic(fmt.Sprintf("pgcmd: %s: %v", command, err))
	}
	return c
}

// validateInput returns the error of the input that in points to, nil if nothing is wrong. An
// input without a Validate method may be passed by value: validator then need not copy the
// fields that it reports.
func validateInput(c *validation.Checks, in any) *Error {
	found, cause := c.Problems(in)
	if cause == nil {
		return nil
	}
	return &Error{Code: CodeInvalid, Message: refusedFor(len(found)), Problems: problemsOf(found), Err: cause}
}

func refusedFor(problems int) string {
	if problems > 1 {
		return "the input was refused for " + strconv.Itoa(problems) + " reasons"
	}
	return "the input was refused"
}

// problemsInError returns the problems in the error of a Validate method: one of each joined
// error, and those of an *Error.
func problemsInError(err error) []problem.Problem {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		if _, ours := err.(*Error); !ours {
			var problems []problem.Problem
			for _, e := range joined.Unwrap() {
				problems = append(problems, problemsInError(e)...)
			}
			return problems
		}
	}
	if e, ok := errors.AsType[*Error](err); ok && e != nil {
		if len(e.Problems) > 0 {
			problems := make([]problem.Problem, len(e.Problems))
			for i, p := range e.Problems {
				problems[i] = problem.Problem(p)
			}
			return problems
		}
		return []problem.Problem{{Rule: "validate", Message: e.Message}}
	}
	// A Validate method is written for the caller: the message is its text.
	return []problem.Problem{{Rule: "validate", Message: err.Error()}}
}

// problemsOf converts the problems that a check found.
func problemsOf(found []problem.Problem) []Problem {
	problems := make([]Problem, len(found))
	for i, p := range found {
		problems[i] = Problem(p)
	}
	return problems
}
