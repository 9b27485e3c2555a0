package pgcmd_test

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgcmd/pgcmd"
	"github.com/pgcmd/pgcmd/pgcmdtest"
)

// recorder notes which steps ran, and lets one of them go wrong.
type recorder struct {
	steps []string
	at    string // the step to fail at
	how   func() error
}

func (r *recorder) step(name string) error {
	r.steps = append(r.steps, name)
	if name == r.at {
		return r.how()
	}
	return nil
}

var errHook = errors.New("hook's own error")

// recorded is a command with two hooks of each kind and two middlewares, around
// a statement that writes.
func recorded(r *recorder) *pgcmd.Command[byEmail, int64] {
	middleware := func(name string) pgcmd.Middleware {
		return func(next pgcmd.Handler) pgcmd.Handler {
			return func(ctx context.Context, call *pgcmd.Call) error {
				if err := r.step(name); err != nil {
					return err
				}
				err := next(ctx, call)
				return errors.Join(err, r.step(name+" done"))
			}
		}
	}
	before := func(name string) func(context.Context, *byEmail) error {
		return func(_ context.Context, in *byEmail) error { in.Email = strings.ToLower(in.Email); return r.step(name) }
	}
	after := func(name string) func(context.Context, byEmail, *int64) error {
		return func(_ context.Context, _ byEmail, out *int64) error { *out += 100; return r.step(name) }
	}
	onError := func(name string) func(context.Context, byEmail, error) error {
		return func(context.Context, byEmail, error) error { return r.step(name) }
	}
	cleanup := func(name string) func(context.Context, byEmail) {
		return func(ctx context.Context, _ byEmail) {
			_ = r.step(name)
			if ctx.Err() != nil {
				r.steps = append(r.steps, "cancelled!")
			}
			if deadline, ok := ctx.Deadline(); !ok || time.Until(deadline) > 5*time.Second {
				r.steps = append(r.steps, "unbounded!")
			}
		}
	}
	return pgcmd.Cleanup(pgcmd.Cleanup(pgcmd.OnError(pgcmd.OnError(pgcmd.After(pgcmd.After(pgcmd.Before(pgcmd.Before(pgcmd.Exec[byEmail]("users.grow", `update users set age = age + 1 where email = @email`).
		With(pgcmd.Options{Middleware: []pgcmd.Middleware{middleware("outer"), middleware("inner")}}), before("before1")), before("before2")), after("after1")), after("after2")), onError("onerror1")), onError("onerror2")), cleanup("cleanup1")), cleanup("cleanup2"))
}

func TestEveryHookPositionThatFails(t *testing.T) {
	t.Parallel()
	pool := pgcmdtest.Pool(t, usersDDL)
	const failed = " onerror1 onerror2 cleanup2 cleanup1 inner done outer done"
	all := "outer inner before1 before2 after2 after1 cleanup2 cleanup1 inner done outer done"
	for _, c := range []struct {
		at      string
		effect  pgcmd.Effect
		applied bool
		steps   string // after an error
		panics  string // after a panic
	}{
		{"", pgcmd.Applied, true, all, all},
		{"outer", pgcmd.NotApplied, false, "outer", "outer"},
		{"inner", pgcmd.NotApplied, false, "outer inner outer done", "outer inner"},
		{"before1", pgcmd.NotApplied, false, "outer inner before1" + failed, "outer inner before1 cleanup2 cleanup1"},
		{"before2", pgcmd.NotApplied, false, "outer inner before1 before2" + failed, "outer inner before1 before2 cleanup2 cleanup1"},
		{"after2", pgcmd.Applied, true, "outer inner before1 before2 after2" + failed, "outer inner before1 before2 after2 cleanup2 cleanup1"},
		{"after1", pgcmd.Applied, true, "outer inner before1 before2 after2 after1" + failed, "outer inner before1 before2 after2 after1 cleanup2 cleanup1"},
		{"inner done", pgcmd.Applied, true, all, "outer inner before1 before2 after2 after1 cleanup2 cleanup1 inner done"},
		{"outer done", pgcmd.Applied, true, all, all},
	} {
		t.Run("an error at "+c.at, func(t *testing.T) {
			r := &recorder{at: c.at, how: func() error { return errHook }}
			was := age(t, pool)
			n, err := recorded(r).Run(t.Context(), pool, byEmail{"ADA@example.com"})
			assert.Equal(t, c.steps, strings.Join(r.steps, " "))
			assert.Equal(t, c.applied, age(t, pool) == was+1)
			if c.at == "" {
				require.NoError(t, err)
				assert.EqualValues(t, 201, n, "one row, and what the two After hooks added")
			} else {
				e := failure(t, err)
				assert.ErrorIs(t, err, errHook)
				assert.Equal(t, c.effect, e.Effect)
				assert.Equal(t, "users.grow", e.Command)
				assert.Equal(t, pgcmd.CodeFailed, e.Code)
				assert.Zero(t, n)
				assert.NotContains(t, err.Error(), errHook.Error(), "its text may hold values")
			}
			idle(t, pool)
		})
		t.Run("a panic at "+c.at, func(t *testing.T) {
			r := &recorder{at: c.at, how: func() error { panic("hook's own panic") }}
			was := age(t, pool)
			run := func() { _, _ = recorded(r).Run(t.Context(), pool, byEmail{"ada@example.com"}) }
			if c.at == "" {
				run()
			} else {
				assert.Equal(t, "hook's own panic", panics(t, run))
			}
			assert.Equal(t, c.panics, strings.Join(r.steps, " "))
			assert.Equal(t, c.applied, age(t, pool) == was+1)
			idle(t, pool)
		})
	}

	t.Run("an error and a panic of OnError, after an error before it", func(t *testing.T) {
		for _, how := range []func() error{func() error { return pgcmd.Errorf(pgcmd.CodeConflict, "translated") }, func() error { panic("in OnError") }} {
			r := &recorder{at: "onerror1", how: how}
			cmd := pgcmd.Before(recorded(r), func(context.Context, *byEmail) error { return errHook })
			var err error
			func() {
				defer func() { _ = recover() }()
				_, err = cmd.Run(t.Context(), pool, byEmail{"ada@example.com"})
				e := failure(t, err)
				assert.Equal(t, pgcmd.CodeConflict, e.Code)
				assert.Equal(t, "translated", e.Message)
				assert.Equal(t, pgcmd.NotApplied, e.Effect)
				assert.ErrorIs(t, err, errHook, "the original stays in reach")
			}()
			assert.Contains(t, strings.Join(r.steps, " "), "cleanup2 cleanup1", "runs in both cases")
			idle(t, pool)
		}
	})
	t.Run("a panic of a Cleanup", func(t *testing.T) {
		r := &recorder{at: "cleanup2", how: func() error { panic("in Cleanup") }}
		assert.Equal(t, "in Cleanup", panics(t, func() { _, _ = recorded(r).Run(t.Context(), pool, byEmail{"x"}) }))
		assert.True(t, slices.Contains(r.steps, "cleanup1"), "the others run all the same")
		idle(t, pool)
	})
	t.Run("Goexit in a body", func(t *testing.T) {
		cleaned := false
		cmd := pgcmd.Cleanup(pgcmd.New("x", func(ctx context.Context, db pgcmd.DB, in empty) (int, error) { runtime.Goexit(); return 0, nil }), func(context.Context, empty) { cleaned = true })
		done := make(chan struct{})
		go func() { defer close(done); _, _ = cmd.Run(context.Background(), pool, empty{}) }()
		<-done
		assert.True(t, cleaned)
	})
	t.Run("a panic of a type that scans itself", func(t *testing.T) {
		cmd := pgcmd.Query[empty, panicky]("x", `select generate_series(1, 1000)`)
		assert.Equal(t, "in Scan", panics(t, func() { _, _ = cmd.Run(t.Context(), pool, empty{}) }))
		idle(t, pool)
	})
	t.Run("Cleanup outlives the caller's context", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		r := &recorder{at: "before2", how: func() error { cancel(); return ctx.Err() }}
		_, err := recorded(r).Run(ctx, pool, byEmail{"ada@example.com"})
		assert.Equal(t, pgcmd.CodeCanceled, pgcmd.CodeOf(err))
		assert.NotContains(t, r.steps, "cancelled!")
		assert.NotContains(t, r.steps, "unbounded!")
	})
	t.Run("a refused input runs no hook", func(t *testing.T) {
		ran := false
		cmd := pgcmd.Cleanup(pgcmd.OnError(pgcmd.Before(pgcmd.New("x", func(context.Context, pgcmd.DB, signup) (int, error) { ran = true; return 0, nil }), func(context.Context, *signup) error { ran = true; return nil }), func(context.Context, signup, error) error { ran = true; return nil }), func(context.Context, signup) { ran = true })
		o := pgcmd.Try(t.Context(), pool, cmd, signup{})
		assert.Equal(t, pgcmd.CodeInvalid, pgcmd.CodeOf(o.Err))
		assert.Zero(t, o.Attempts)
		assert.False(t, ran)
	})
}

type panicky struct{}

func (*panicky) Scan(any) error { panic("in Scan") }

func age(t *testing.T, db pgcmd.DB) (age int) {
	t.Helper()
	require.NoError(t, db.QueryRow(t.Context(), `select age from users where email = 'ada@example.com'`).Scan(&age))
	return age
}

func TestWhatAMiddlewareMayNotDo(t *testing.T) {
	t.Parallel()
	runs := 0
	base := pgcmd.New("x", func(context.Context, pgcmd.DB, empty) (int, error) { runs++; return 7, nil })
	for name, c := range map[string]struct {
		middleware func(ctx context.Context, next pgcmd.Handler, call *pgcmd.Call) error
		want       string
		runs       int
	}{
		"run the command twice": {func(ctx context.Context, next pgcmd.Handler, call *pgcmd.Call) error {
			_ = next(ctx, call)
			return next(ctx, call)
		}, "a middleware called next twice", 1},
		"succeed without running it": {func(context.Context, pgcmd.Handler, *pgcmd.Call) error { return nil }, "without calling next", 0},
		"pass a call of its own": {func(ctx context.Context, next pgcmd.Handler, _ *pgcmd.Call) error {
			return next(ctx, &pgcmd.Call{Command: "y"})
		}, "with a Call of its own", 0},
	} {
		runs = 0
		out, err := base.With(pgcmd.Options{Middleware: []pgcmd.Middleware{func(next pgcmd.Handler) pgcmd.Handler {
			return func(ctx context.Context, call *pgcmd.Call) error { return c.middleware(ctx, next, call) }
		}}}).Run(t.Context(), unusedDB{}, empty{})
		assert.Contains(t, failure(t, err).Message, c.want, name)
		assert.Equal(t, pgcmd.CodeInternal, pgcmd.CodeOf(err), name)
		assert.Equal(t, c.runs, runs, name)
		assert.Zero(t, out, name)
	}

	boom := pgcmd.New("x", func(context.Context, pgcmd.DB, empty) (int, error) { return 7, errHook })
	_, err := boom.With(pgcmd.Options{Middleware: []pgcmd.Middleware{func(next pgcmd.Handler) pgcmd.Handler {
		return func(ctx context.Context, call *pgcmd.Call) error { _ = next(ctx, call); return nil }
	}}}).Run(t.Context(), unusedDB{}, empty{})
	assert.ErrorIs(t, err, errHook, "a middleware cannot swallow an error")
}

func TestAMiddlewareSeesTheCall(t *testing.T) {
	t.Parallel()
	pool := pgcmdtest.Pool(t, usersDDL)
	var seen pgcmd.Call
	watch := pgcmd.Options{Middleware: []pgcmd.Middleware{func(next pgcmd.Handler) pgcmd.Handler {
		return func(ctx context.Context, call *pgcmd.Call) error {
			err := next(ctx, call)
			seen = *call
			return err
		}
	}}}
	_, err := pgcmd.Query[empty, string]("users.emails", `select email from users`).With(watch).Run(t.Context(), pool, empty{})
	require.NoError(t, err)
	assert.Equal(t, "users.emails", seen.Command)
	assert.EqualValues(t, 3, seen.Rows)
	assert.Equal(t, 1, seen.Attempts)
	_, err = pgcmd.Exec[int]("users.age", `update users set age = $1`).With(watch).Run(t.Context(), pool, 40)
	require.NoError(t, err)
	assert.EqualValues(t, 3, seen.Rows)
	assert.Equal(t, 40, seen.Input)
	_, err = pgcmd.AdHoc.With(watch).Run(t.Context(), pool, pgcmd.AdHocQuery{})
	require.Error(t, err)
	assert.Equal(t, "pgcmd.adhoc", seen.Command)
	assert.Zero(t, seen.Attempts, "it was refused")
}
