package pgcmd

import (
	"context"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// An observation counts and logs one run on a pool.
type observation struct {
	pool     *Pool
	m        *commandMetrics
	start    time.Duration // since the pool was made
	attempts int           // as far as known at the end
	rows     int64

	unreplicated bool // what it did is committed, and the synchronous standby has not got it
}

// startObservation begins to observe a run; finish, which is deferred, ends it.
func (p *Pool) startObservation(c *definition) observation {
	m := c.countedBy(&p.metrics)
	m.inFlight.Add(1)
	return observation{pool: p, m: m, start: time.Since(p.metrics.since)}
}

// finish counts the run and logs it: one line, and never a value. A run that panicked is
// counted without an error.
func (s *observation) finish(failure **Error) {
	e, elapsed := *failure, time.Since(s.pool.metrics.since)-s.start
	s.m.inFlight.Add(-1)
	s.m.record(elapsed, s.attempts, s.rows, e)
	if e != nil || s.pool.metrics.isSlow(elapsed) {
		s.pool.metrics.remember(s.m.name, elapsed, s.attempts, e)
	}
	if s.pool.config.Logger != nil {
		s.log(elapsed, e)
	}
}

// runWithMetrics runs the command on a pool: below the pool's middleware, counted and logged.
func (c *definition) runWithMetrics(ctx context.Context, p *Pool, inv *invocation) (call Call, failure *Error) {
	s := p.startObservation(c)
	defer s.finish(&failure)
	if handler := s.m.handler(c.name, p.config.Middleware); handler != nil && ctx != nil {
		call, failure = c.runMiddleware(ctx, handler, p, inv, func(ctx context.Context, call *Call) *Error {
			inner, failure := c.runWithMiddleware(ctx, p, inv)
			call.Attempts, call.Rows, call.replayed, call.unreplicated = inner.Attempts, inner.Rows, inner.replayed, inner.unreplicated
			return failure
		})
	} else {
		call, failure = c.runWithMiddleware(ctx, p, inv)
	}
	s.attempts, s.rows, s.unreplicated = call.Attempts, call.Rows, call.unreplicated
	return call, failure
}

func (s *observation) log(elapsed time.Duration, e *Error) {
	level := levelOf(e)
	if s.unreplicated {
		level = max(level, zapcore.WarnLevel)
	}
	line := s.pool.config.Logger.Check(level, "command")
	if line == nil {
		return
	}
	fields := []zap.Field{zap.String("name", s.m.name), zap.Int("attempts", s.attempts), zap.Int64("rows", s.rows), zap.Duration("elapsed", elapsed)}
	if e != nil {
		fields = append(fields, zap.String("code", string(e.Code)), zap.String("effect", e.Effect.String()), zap.String("message", e.Message))
		if e.SQLState != "" {
			fields = append(fields, zap.String("sqlstate", e.SQLState))
		}
		if e.Command != s.m.name {
			fields = append(fields, zap.String("path", e.Command))
		}
	}
	if s.unreplicated {
		fields = append(fields, zap.Bool("durability_warning", true))
	}
	line.Write(fields...)
}

// levelOf is the level of the log line of a run: info for errors of callers, warn for those
// of the database, error for bugs and unknown effects.
func levelOf(e *Error) zapcore.Level {
	if e == nil {
		return zapcore.DebugLevel
	}
	switch e.Code {
	case CodeInvalid, CodeNotFound, CodeTooManyRows, CodeConflict, CodeCanceled, CodeSkipped, CodeFailed:
		return zapcore.InfoLevel
	case CodeAborted, CodeTimeout, CodeUnavailable, CodeExhausted:
		return zapcore.WarnLevel
	}
	return zapcore.ErrorLevel
}
