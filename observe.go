package pgcmd

import (
	"context"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// observed runs the command on a pool: below the pool's middleware, counted and logged.
func (c *Command[In, Out]) observed(ctx context.Context, p *Pool, in In) (out Out, call Call, err error) {
	m := p.metrics.command(c.name)
	start := time.Now()
	m.inFlight.Add(1)
	defer func() {
		m.inFlight.Add(-1)
		p.note(m, start, &call, err) // of a panic, too, which is no error
	}()
	switch handler := m.handler(c.name, p.config.Middleware); {
	case handler != nil && ctx != nil:
		return c.through(ctx, handler, p, in, func(ctx context.Context, db DB, in In, call *Call) (Out, *Error) {
			out, inner, err := c.run(ctx, db, in)
			call.Attempts, call.Rows, call.replayed = inner.Attempts, inner.Rows, inner.replayed
			failure, _ := err.(*Error)
			return out, failure
		})
	case !c.straight:
		return c.run(ctx, p, in)
	}
	if out, err = c.runStraight(ctx, p, in); err != nil {
		call.Attempts = err.(*Error).Attempts
		return out, call, err
	}
	if call.Attempts = 1; c.rows != nil {
		call.Rows = c.rows(out)
	}
	return out, call, nil
}

// note counts a run and logs it: one line, and never a value.
func (p *Pool) note(m *commandMetrics, start time.Time, call *Call, err error) {
	elapsed := time.Since(start)
	e, _ := err.(*Error)
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
