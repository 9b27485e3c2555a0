package main

import (
	"encoding/json"
	"errors"
	"io"
	"log"
	"net/http"

	"github.com/pgcmd/pgcmd"
)

// handle is a handler that runs a command with what read makes of the request.
func handle[In, Out any](db pgcmd.DB, c *pgcmd.Command[In, Out], success int, read func(*http.Request) (In, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Body = http.MaxBytesReader(w, r.Body, 64<<10)
		in, err := read(r)
		if err != nil {
			fail(w, err)
			return
		}
		out, err := c.Run(r.Context(), db, in)
		if err != nil {
			fail(w, err)
			return
		}
		write(w, success, out)
	})
}

// body decodes the body of a request, strictly. What encoding/json says may hold what
// it read, so that it is not repeated.
func body[In any](r *http.Request) (in In, err error) {
	dec := json.NewDecoder(r.Body)
	dec.DisallowUnknownFields()
	err = dec.Decode(&in)
	if err == nil {
		if _, err = dec.Token(); err == io.EOF {
			return in, nil
		}
	}
	if _, tooLarge := errors.AsType[*http.MaxBytesError](err); tooLarge {
		return in, &pgcmd.Error{Code: codeTooLarge, Effect: pgcmd.NotApplied, Message: "the body is larger than 64 KiB"}
	}
	return in, &pgcmd.Error{Code: pgcmd.CodeInvalid, Effect: pgcmd.NotApplied, Message: "the body is not the JSON object that is wanted, with its fields and no others"}
}

// statuses are what the codes mean to a browser. A code that is not among them is a
// mistake of the service's: 500.
var statuses = map[pgcmd.Code]int{
	pgcmd.CodeInvalid:     http.StatusBadRequest,
	codeTooLarge:          http.StatusRequestEntityTooLarge,
	pgcmd.CodeNotFound:    http.StatusNotFound,
	pgcmd.CodeConflict:    http.StatusConflict,
	pgcmd.CodeTooManyRows: http.StatusUnprocessableEntity,
	pgcmd.CodeAborted:     http.StatusServiceUnavailable,
	pgcmd.CodeExhausted:   http.StatusServiceUnavailable,
	pgcmd.CodeUnavailable: http.StatusServiceUnavailable,
	pgcmd.CodeSkipped:     http.StatusFailedDependency,
	pgcmd.CodeTimeout:     http.StatusGatewayTimeout,
	pgcmd.CodeCanceled:    499, // nobody is there to read it; it is for the access log
}

// codeTooLarge is this service's own.
const codeTooLarge pgcmd.Code = "too_large"

// A refusal is what a client is told of an error: what it can do something about.
type refusal struct {
	Code     pgcmd.Code      `json:"code"`
	Effect   pgcmd.Effect    `json:"effect"`
	Message  string          `json:"message,omitempty"`
	Problems []pgcmd.Problem `json:"problems,omitempty"`
}

func fail(w http.ResponseWriter, err error) {
	answer := refusal{Code: pgcmd.CodeOf(err), Effect: pgcmd.EffectOf(err)}
	status, known := statuses[answer.Code]
	if !known {
		status = http.StatusInternalServerError
	}
	if e, ok := errors.AsType[*pgcmd.Error](err); ok && status < 500 {
		answer.Message, answer.Problems = e.Message, e.Problems
	}
	if status >= 500 {
		log.Print(err) // it holds no value of a request or a row
	}
	if status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", "1")
	}
	write(w, status, answer)
}

func write(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // the client has gone, if it fails
}
