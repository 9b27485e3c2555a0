package reliability_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgcmd/pgcmd"
)

// A play is one command that is to go wrong, and how.
type play struct {
	cmd    *pgcmd.Command[int64, int64]
	arm    func(pool *pgxpool.Pool, id int64) // lets the next attempt go wrong; nil if the command's SQL does
	repair func()                             // between the attempts; nil if nothing is to be repaired
	ctx    func(context.Context) (context.Context, context.CancelFunc)
	also   func() // after the run
}

// A condition is a row of the table, provoked in one way.
type condition struct {
	row     int
	how     string
	columns []column // in which it is provoked like this
	state   string   // the SQLSTATE; empty if the server says nothing
	code    pgcmd.Code
	cause   func(error) bool // beside the server's word
	entries string           // where they are not the row's: "R W T C"
	truth   map[column]int   // of what is Unknown; without an entry either
	lasting bool             // the next attempt goes wrong too
	down    bool             // the truth cannot be asked before it is repaired
	unsaid  bool             // on a slow machine the client may be first
	once    bool             // one run on the pool is enough: it is slow
	healed  bool             // the pool may see it before the command does, which then succeeds
	set     setting
	play    func(s *stage, c column) play
}

// column runs a condition in its nth column: on the pool, as it is and with retries, and on a plain one. The short form
// leaves out the retries nowhere, and has the other two in one column of three each.
func (k condition) column(s *stage, c column, entries string, nth int) {
	entry := c.entry(entries)
	require.NotEqual(s, "-", entry, "the table has no entry")
	turn := (k.row + nth) % 3
	if !k.once && (!testing.Short() || turn == 0) {
		k.run(s, c, entry, s.pool, s.pool.Pool, 1)
	}
	if !k.once && (!testing.Short() || turn == 1) {
		k.run(s, c, entry, s.plain, s.plain, 3)
	}
	k.run(s, c, entry, s.pool, s.pool.Pool, 3)
	if c == read && !k.once {
		s.untold = true
		k.run(s, c, entry, s.pool, s.pool.Pool, 3)
		s.untold = false
	}
}

func (k condition) run(s *stage, c column, entry string, db pgcmd.DB, pool *pgxpool.Pool, attempts int) {
	s.Helper()
	what := fmt.Sprintf("row %d, %s, %s, %d attempts on a %T", k.row, k.how, c, attempts, db)
	counted := db == pgcmd.DB(s.pool)
	s.led = s.app
	if !counted {
		s.led += plainly
	}
	id := int64(0x5eed_0000_0000) + effectsOps.Add(1)
	p := k.play(s, c)
	if s.untold {
		what += ", by its text"
		if !pgcmd.NewCatalog(p.cmd).Manifest().Commands[0].ReadOnly { // it calls what only the test knows
			return
		}
		effectsUntold.Add(1)
	}

	var first error // of the attempts
	cmd := p.cmd
	if attempts > 1 {
		cmd = cmd.With(pgcmd.Options{Retry: pgcmd.Retry{Attempts: attempts, Delay: time.Microsecond, If: func(err error) bool {
			if first == nil {
				first = err
			}
			if c != read && !k.down {
				assert.Zero(s, s.count(id), "%s: false NotApplied, before it is tried again", what)
			}
			if p.repair != nil {
				p.repair()
			}
			return true
		}}})
	}
	s.exec(`select setval($1, 1, false)`, s.shots)
	if p.arm != nil {
		p.arm(pool, id)
	}
	ctx, cancel := s.patient(), context.CancelFunc(func() {})
	if attempts == 1 {
		ctx = s.Context() // without a deadline, which would travel with BEGIN
	}
	if p.ctx != nil {
		ctx, cancel = p.ctx(ctx)
	}
	defer cancel()
	out := pgcmd.Try(ctx, db, cmd, id)
	s.proxy.Set(nil)
	if p.also != nil {
		p.also()
	}
	if first == nil {
		first = out.Err
	}
	s.sought = append(s.sought, verdict{id, what, pgcmd.EffectOf(out.Err)})
	if c == read {
		s.sought[len(s.sought)-1].effect = pgcmd.NotApplied // it has no row
	}
	s.judge(s.sought[len(s.sought)-1], "at once")
	assert.True(s, allReleased(pool), what)

	if k.healed && counted && first == nil {
		assert.Equal(s, 1, out.Attempts, what)
		return
	}

	again := entry == "Y" || entry == "1"
	wantAttempts := 1
	switch {
	case again && !k.lasting:
		wantAttempts = min(2, attempts)
	case entry == "Y":
		wantAttempts = attempts
	case entry == "1":
		wantAttempts = min(2, attempts)
	}
	if !assert.Error(s, first, what) {
		return
	}
	e, ok := errors.AsType[*pgcmd.Error](first)
	require.True(s, ok, what)
	if !counted {
		// More cautious it may be, and wrong never.
		assert.LessOrEqual(s, out.Attempts, wantAttempts, what)
		assert.Contains(s, []pgcmd.Effect{pgcmd.Unknown, k.effect(entry)}, e.Effect, what)
		k.checkCause(s, e, what)
		return
	}
	assert.Equal(s, wantAttempts, out.Attempts, "%s: attempts; %v", what, out.Err)
	if attempts > 1 && again && !k.lasting {
		assert.NoError(s, out.Err, what)
	} else {
		assert.Error(s, out.Err, what)
	}
	assert.Equal(s, k.effect(entry).String(), e.Effect.String(), "%s: %v", what, e)
	assert.Equal(s, again, pgcmd.Retryable(first), "%s: Retryable(%v)", what, e)
	want := k.code
	switch {
	case entry != "U" && want == pgcmd.CodeUnknownEffect:
		want = pgcmd.CodeUnavailable
	case entry == "U" && want == pgcmd.CodeUnavailable:
		want = pgcmd.CodeUnknownEffect
	}
	assert.Equal(s, want, e.Code, "%s: %v", what, e)
	if !k.unsaid || e.SQLState != "" {
		assert.Equal(s, k.state, e.SQLState, "%s: %v", what, e)
	}
	k.checkCause(s, e, what)
	if n, ok := k.truth[c]; ok && entry == "U" {
		require.Eventually(s, func() bool { return s.count(id) == n }, patience, 2*time.Millisecond, "%s: what is Unknown is there %d times", what, n)
	}
}

func (k condition) effect(entry string) pgcmd.Effect {
	switch entry {
	case "U":
		return pgcmd.Unknown
	case "A":
		return pgcmd.Applied
	}
	return pgcmd.NotApplied
}

func (k condition) checkCause(s *stage, e *pgcmd.Error, what string) {
	if k.state != "" && !(k.unsaid && e.SQLState == "") {
		pgErr, ok := errors.AsType[*pgconn.PgError](error(e))
		if assert.True(s, ok, "%s: the server's error is out of reach of %v", what, e) {
			assert.Equal(s, k.state, pgErr.Code, what)
		}
	}
	if k.cause != nil {
		assert.True(s, k.cause(e), "%s: the cause is out of reach of %v: %#v", what, e, e.Err)
	}
	if k.state == "" && k.cause == nil {
		assert.NotNil(s, e.Err, what)
	}
}

func isContext(want error) func(error) bool {
	return func(err error) bool { return errors.Is(err, want) }
}

func isConnect(err error) bool {
	_, ok := errors.AsType[*pgconn.ConnectError](err)
	return ok
}

func anything(error) bool { return true }
