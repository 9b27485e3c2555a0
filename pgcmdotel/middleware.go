package pgcmdotel

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/metric"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/pgcmd/pgcmd"
)

// Middleware returns the middleware that gives each run a span, and records its
// duration. It is for Config.Middleware, where it sees every command on the pool, and
// for Options.Middleware: see the package documentation. Put it first, so that it sees
// what the others cost and return.
func Middleware(opts ...Option) pgcmd.Middleware {
	c := configOf(opts)
	i := &instrument{tracer: c.tracer(), duration: c.duration()}
	i.common = append(i.common, semconv.DBSystemNamePostgreSQL)
	i.common = append(i.common, c.server.known()...)
	i.common = append(i.common, c.attributes...)
	return func(next pgcmd.Handler) pgcmd.Handler {
		return (&handler{instrument: i, next: next}).run
	}
}

type instrument struct {
	tracer   trace.Tracer
	duration metric.Float64Histogram
	common   []attribute.KeyValue // of spans and metrics
}

// A handler is the middleware of one command, or of the few that share a pool's chain.
type handler struct {
	*instrument
	next pgcmd.Handler
	last atomic.Pointer[command]
}

// A command is what can be known of its runs beforehand.
type command struct {
	name      string
	start     []trace.SpanStartOption
	measured  []attribute.KeyValue  // of every run
	succeeded []metric.RecordOption // of those that worked
}

func (h *handler) command(name string) *command {
	if c := h.last.Load(); c != nil && c.name == name {
		return c
	}
	c := &command{name: name, measured: append(slices.Clip(h.common), semconv.DBOperationName(name))}
	c.start = []trace.SpanStartOption{trace.WithSpanKind(trace.SpanKindClient),
		trace.WithAttributes(append(slices.Clip(c.measured), semconv.DBQuerySummary(name))...)}
	c.succeeded = []metric.RecordOption{metric.WithAttributeSet(attribute.NewSet(c.measured...))}
	h.last.Store(c)
	return c
}

func (h *handler) run(ctx context.Context, call *pgcmd.Call) error {
	if r, _ := ctx.Value(runningKey{}).(*running); r != nil && r.command == call.Command && !r.entered.Swap(true) {
		return h.next(ctx, call) // the command's own, below the pool's
	}
	c := h.command(call.Command)
	ctx, span := h.tracer.Start(ctx, c.name, c.start...)
	if !span.IsRecording() && !h.duration.Enabled(ctx) {
		err := h.next(ctx, call)
		span.End()
		return err
	}
	start := time.Now()
	var err error
	ended := false
	defer func() {
		f := failure{code: panicked, effect: pgcmd.Unknown, message: "a panic, or runtime.Goexit", system: true}
		if ended {
			f = failureOf(err)
		}
		// End must not be deferred itself: it would then write what was panicked with
		// into the span.
		h.end(ctx, c, span, call, f, time.Since(start))
	}()
	err = h.next(&running{Context: ctx, command: c.name}, call)
	ended = true
	return err
}

// end writes down how a run went.
func (h *handler) end(ctx context.Context, c *command, span trace.Span, call *pgcmd.Call, f failure, elapsed time.Duration) {
	if h.duration.Enabled(ctx) { // with the span's context, which makes exemplars
		options := c.succeeded
		if f.code != "" {
			options = []metric.RecordOption{metric.WithAttributes(f.measured(slices.Clip(c.measured))...)}
		}
		h.duration.Record(ctx, elapsed.Seconds(), options...)
	}
	if span.IsRecording() {
		attributes := make([]attribute.KeyValue, 0, 7)
		attributes = append(attributes, attemptsKey.Int(call.Attempts), rowsKey.Int64(call.Rows))
		if f.code != "" {
			attributes = append(f.measured(attributes), effectKey.String(f.effect.String()))
			if f.path != "" && f.path != c.name {
				attributes = append(attributes, pathKey.String(f.path))
			}
		}
		span.SetAttributes(attributes...)
		if f.system {
			span.SetStatus(codes.Error, f.message)
		}
	}
	span.End()
}

const (
	attemptsKey = attribute.Key("pgcmd.attempts")
	rowsKey     = attribute.Key("pgcmd.rows")
	codeKey     = attribute.Key("pgcmd.code")
	effectKey   = attribute.Key("pgcmd.effect")
	pathKey     = attribute.Key("pgcmd.path")
)

// panicked stands in the place of a Code: a panic is no error, and has none.
const panicked pgcmd.Code = "panic"

// A failure is what may be shown of a run that failed; it has no code if the run worked.
type failure struct {
	code     pgcmd.Code
	effect   pgcmd.Effect
	sqlState string
	path     string
	message  string
	system   bool // an error of the system, not an answer to the caller
}

// failureOf takes from an error what may be shown: the text of one that is not pgcmd's
// may not.
func failureOf(err error) (f failure) {
	if err == nil {
		return f
	}
	if e, ok := errors.AsType[*pgcmd.Error](err); ok && e != nil {
		f = failure{code: e.Code, effect: e.Effect, sqlState: e.SQLState, path: e.Command, message: e.Message}
	} else { // of another middleware
		f = failure{code: pgcmd.CodeFailed, effect: pgcmd.Unknown, message: "a middleware failed"}
		switch {
		case errors.Is(err, context.DeadlineExceeded):
			f.code = pgcmd.CodeTimeout
		case errors.Is(err, context.Canceled):
			f.code = pgcmd.CodeCanceled
		}
	}
	switch f.code {
	case pgcmd.CodeInvalid, pgcmd.CodeNotFound, pgcmd.CodeConflict, pgcmd.CodeCanceled, pgcmd.CodeSkipped:
	default:
		f.system = true
	}
	return f
}

// measured adds the attributes of the failure that spans and metrics share.
func (f failure) measured(attributes []attribute.KeyValue) []attribute.KeyValue {
	kind := string(f.code)
	if f.code != panicked {
		attributes = append(attributes, codeKey.String(kind))
	}
	if f.sqlState != "" {
		kind = f.sqlState
		attributes = append(attributes, semconv.DBResponseStatusCode(f.sqlState))
	}
	if f.system {
		attributes = append(attributes, semconv.ErrorTypeKey.String(kind))
	}
	return attributes
}

// running is the context below the middleware. A command may pass it twice, on the
// pool's behalf and on its own: the second time, right below the first, is no run of
// its own.
type running struct {
	context.Context
	command string
	entered atomic.Bool
}

type runningKey struct{}

func (r *running) Value(key any) any {
	if key == (runningKey{}) {
		return r
	}
	return r.Context.Value(key)
}
