package pgcmd

import (
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"time"

	"github.com/pgcmd/pgcmd/internal/redact"
	"github.com/pgcmd/pgcmd/internal/rowjson"
)

// An Outcome is the result of a run: its value or its error, the attempts and the time.
//
// Its renderings (%v, %+v, %#v, JSON) hide the fields of Value that are tagged
// `secret:"true"`, and of Err all that an [Error] hides.
type Outcome[Out any] struct {
	Value    Out           // the zero Out if Err is set
	Err      error         // nil, or an *Error
	Attempts int           // how often it was tried; 0 if the input was refused
	Elapsed  time.Duration // of the whole run
	Replayed bool          // a Once command answered with the result of an earlier run

	// DurabilityWarning says that what the run did is committed on the server, and not on
	// its synchronous standby, since the wait for that was cancelled: it is lost if
	// the server is lost now. That a transaction of the run's own was committed so is always
	// known; of a single statement, or an item with a transaction of its own, only on a pool
	// of [Connect], or one with [Instrument].
	DurabilityWarning bool
}

// OK reports whether the run succeeded.
func (o Outcome[Out]) OK() bool { return o.Err == nil }

// Get returns the value and the error, as Run does.
func (o Outcome[Out]) Get() (Out, error) { return o.Value, o.Err }

// MarshalJSON renders
//
//	{"ok":true,"value":...,"attempts":1,"elapsed_ms":1.2,"replayed":true,"durability_warning":true}
//	{"ok":false,"error":{"code":...,"effect":...,"message":...,...}}
//
// with replayed and durability_warning only if they are true. In a row that is a map, a value for
// which pgx has no JSON form is rendered as PostgreSQL's text for it.
func (o Outcome[Out]) MarshalJSON() ([]byte, error) {
	if o.Err != nil {
		return json.Marshal(struct {
			OK    bool  `json:"ok"`
			Error error `json:"error"`
		}{false, asError(o.Err)})
	}
	value := reflect.ValueOf(&o.Value).Elem()
	rowjson.Convert(value, nil, writesFields)
	hideSecrets(value)
	return marshalOutcome(o.Value, o.Attempts, o.Elapsed, o.Replayed, o.DurabilityWarning)
}

func marshalOutcome(value any, attempts int, elapsed time.Duration, replayed, unreplicated bool) ([]byte, error) {
	return json.Marshal(struct {
		OK        bool    `json:"ok"`
		Value     any     `json:"value"`
		Attempts  int     `json:"attempts"`
		ElapsedMS float64 `json:"elapsed_ms"`
		Replayed  bool    `json:"replayed,omitempty"`
		Warning   bool    `json:"durability_warning,omitempty"`
	}{true, value, attempts, float64(elapsed.Microseconds()) / 1000, replayed, unreplicated})
}

// Format renders the same for every verb.
func (o Outcome[Out]) Format(f fmt.State, _ rune) {
	formatOutcome(f, &o.Value, o.Err, o.Attempts, o.Elapsed, o.Replayed, o.DurabilityWarning)
}

// formatOutcome takes a pointer to the value.
func formatOutcome(f fmt.State, value any, err error, attempts int, elapsed time.Duration, replayed, unreplicated bool) {
	if err != nil {
		fmt.Fprintf(f, "failed, attempts=%d elapsed=%v: %v", attempts, elapsed, asError(err))
		return
	}
	fmt.Fprintf(f, "ok, attempts=%d elapsed=%v", attempts, elapsed)
	if replayed {
		fmt.Fprint(f, " replayed")
	}
	if unreplicated {
		fmt.Fprint(f, " durability warning")
	}
	fmt.Fprint(f, ": ")
	v := reflect.ValueOf(value).Elem()
	if !redact.MayHoldSecrets(v.Type()) {
		fmt.Fprintf(f, "%+v", v.Interface())
		return
	}
	// fmt would print unexported fields too, where nothing can be hidden. The value is a
	// copy, the caller's own.
	hideSecrets(v)
	text, err := json.Marshal(v.Interface())
	if err != nil {
		text = fmt.Appendf(nil, "a %T", v.Interface())
	}
	f.Write(text)
}

// asError keeps an error that is not ours from being rendered: an Outcome can be
// made by anybody.
func asError(err error) *Error {
	if e, ok := err.(*Error); ok && e != nil {
		return e
	}
	return classify(context.Background(), err)
}
