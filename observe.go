package pgcmd

import (
	"context"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// A sighting is a run on a pool, as it is counted and logged.
type sighting struct {
	pool  *Pool
	m     *commandMetrics
	start time.Time
	call  Call // what is known of it at the end
}

// sight begins the sighting of a run; end, to be deferred, ends it.
func (p *Pool) sight(name string) sighting {
	s := sighting{pool: p, m: p.metrics.command(name), start: time.Now()}
	s.m.inFlight.Add(1)
	return s
}

// end ends the sighting, of a panic, too, which is no error.
func (s *sighting) end(failure **Error) {
	s.m.inFlight.Add(-1)
	s.pool.note(s.m, s.start, &s.call, *failure)
}

// observed runs the command on a pool: below the pool's middleware, counted and logged.
func (c *core) observed(ctx context.Context, p *Pool, j job) (call Call, failure *Error) {
	s := p.sight(c.name)
	defer s.end(&failure)
	if handler := s.m.handler(c.name, p.config.Middleware); handler != nil && ctx != nil {
		s.call, failure = c.through(ctx, handler, p, j, func(ctx context.Context, call *Call) *Error {
			inner, failure := c.run(ctx, p, j)
			call.Attempts, call.Rows, call.replayed = inner.Attempts, inner.Rows, inner.replayed
			return failure
		})
	} else {
		s.call, failure = c.run(ctx, p, j)
	}
	return s.call, failure
}

// note counts a run and logs it: one line, and never a value.
func (p *Pool) note(m *commandMetrics, start time.Time, call *Call, e *Error) {
	elapsed := time.Since(start)
	m.record(elapsed, call, e)
	p.metrics.remember(m.name, start, elapsed, call.Attempts, e)
	if p.config.Logger == nil {
		return
	}
	line := p.config.Logger.Check(levelOf(e), "command")
	if line == nil {
		return
	}
	fields := []zap.Field{zap.String("name", m.name), zap.Int("attempts", call.Attempts), zap.Int64("rows", call.Rows), zap.Duration("elapsed", elapsed)}
	if e != nil {
		fields = append(fields, zap.String("code", string(e.Code)), zap.String("effect", e.Effect.String()), zap.String("message", e.Message))
		if e.SQLState != "" {
			fields = append(fields, zap.String("sqlstate", e.SQLState))
		}
		if e.Command != m.name {
			fields = append(fields, zap.String("path", e.Command))
		}
	}
	line.Write(fields...)
}

// levelOf is the level of the line for an outcome: what callers do wrong is their
// business, what the database does is worth a look, what is a bug or unknown is worth
// waking up for.
func levelOf(e *Error) zapcore.Level {
	if e == nil {
		return zapcore.DebugLevel
	}
	switch e.Code {
	case CodeInvalid, CodeNotFound, CodeTooManyRows, CodeConflict, CodeCanceled, CodeFailed:
		return zapcore.InfoLevel
	case CodeAborted, CodeTimeout, CodeUnavailable, CodeExhausted:
		return zapcore.WarnLevel
	}
	return zapcore.ErrorLevel
}
