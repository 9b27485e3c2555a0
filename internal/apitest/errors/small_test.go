package errors_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/pgcmd/pgcmd"
	"github.com/pgcmd/pgcmd/internal/faults"
	"github.com/pgcmd/pgcmd/pgcmdtest"
)

type typedNil struct{ N int }

func (typedNil) Validate() error { return noError() }

func noError() error {
	var e *pgcmd.Error
	return e
}

func TestANilErrorOfPgcmdIsAnErrorAndNoPanic(t *testing.T) {
	t.Parallel()
	pool := pgcmdtest.Pool(t)
	none := noError()
	for _, err := range []error{none, fmt.Errorf("a: %w", none), errors.Join(errors.New("x"), none)} {
		assert.False(t, pgcmd.Retryable(err))
		assert.Equal(t, pgcmd.CodeFailed, pgcmd.CodeOf(err))
		assert.Equal(t, pgcmd.Unknown, pgcmd.EffectOf(err))
		assert.NotEmpty(t, pgcmd.Errorf(pgcmd.CodeFailed, "b: %w", err).Error())
		assert.Contains(t, fmt.Sprintf("%v", pgcmd.Outcome[int]{Err: err}), "failed")
		_, jsonErr := json.Marshal(pgcmd.Outcome[int]{Err: err})
		assert.NoError(t, jsonErr)
		zap.NewNop().Info("x", zap.Error(err), zap.Any("e", err))
		_ = fmt.Sprintf("%v %+v %#v %s %q", err, err, err, err, err)
		for name, run := range map[string]func() error{
			"Retry.Do": func() error {
				return pgcmd.Retry{Attempts: 3}.Do(t.Context(), func(context.Context) error { return err })
			},
			"a body": func() error {
				_, e := pgcmd.New("x", func(context.Context, pgcmd.DB, int) (int, error) { return 0, err }).Run(t.Context(), pool, 1)
				return e
			},
			"a transaction": func() error {
				_, e := pgcmd.Transaction("x", func(context.Context, *pgcmd.Tx, int) (int, error) { return 0, err }).Run(t.Context(), pool, 1)
				return e
			},
			"a Before hook": func() error {
				_, e := pgcmd.Before(command, func(context.Context, *int) error { return err }).Run(t.Context(), pool, 1)
				return e
			},
			"an After hook": func() error {
				_, e := pgcmd.After(command, func(context.Context, int, *int) error { return err }).Run(t.Context(), pool, 1)
				return e
			},
			"an OnError hook": func() error {
				_, e := pgcmd.OnError(failing, func(context.Context, int, error) error { return err }).Run(t.Context(), pool, 1)
				return e
			},
			"a middleware": func() error {
				_, e := command.With(pgcmd.Options{Middleware: []pgcmd.Middleware{func(pgcmd.Handler) pgcmd.Handler {
					return func(context.Context, *pgcmd.Call) error { return err }
				}}}).Run(t.Context(), pool, 1)
				return e
			},
			"a middleware, of an error": func() error {
				_, e := failing.With(pgcmd.Options{Middleware: []pgcmd.Middleware{func(next pgcmd.Handler) pgcmd.Handler {
					return func(ctx context.Context, call *pgcmd.Call) error { _ = next(ctx, call); return err }
				}}}).Run(t.Context(), pool, 1)
				return e
			},
			"a batch": func() error {
				r, _ := pgcmd.Batch(pgcmd.New("x", func(context.Context, pgcmd.DB, int) (int, error) { return 0, err }), pgcmd.Independent).Run(t.Context(), pool, []int{1})
				return r.Err()
			},
			"Validate": func() error {
				_, e := pgcmd.New("x", func(context.Context, pgcmd.DB, typedNil) (int, error) { return 0, nil }).Run(t.Context(), pool, typedNil{})
				return e
			},
		} {
			assert.NotPanics(t, func() { assert.Error(t, run(), name) }, name)
		}
	}
	_, err := pgcmd.New("x", func(context.Context, pgcmd.DB, int) (int, error) { return 0, none }).Run(t.Context(), pool, 1)
	assert.ErrorContains(t, err, "the body failed with a nil *pgcmd.Error, which as an error is not nil: return nil itself")
	assert.PanicsWithValue(t, `pgcmd: x: Options.OnConstraint maps "a" to <nil>: give a constraint's name and an error`, func() {
		command.With(pgcmd.Options{OnConstraint: map[string]error{"a": none}})
	})
	assert.NotPanics(t, func() {
		c := pgcmd.Exec[int]("x", `insert into t values ($1)`).With(pgcmd.Options{OnConstraint: map[string]error{"a": fmt.Errorf("a: %w", none)}})
		pgcmd.NewCatalog(c)
	})
}

var (
	command = pgcmd.New("x", func(context.Context, pgcmd.DB, int) (int, error) { return 1, nil })
	failing = pgcmd.New("x", func(context.Context, pgcmd.DB, int) (int, error) { return 0, errors.New("no") })
)

func TestErrorsThatAreJoinedAreAsSureAsTheLeastSure(t *testing.T) {
	t.Parallel()
	conflict := &pgcmd.Error{Code: pgcmd.CodeAborted, Effect: pgcmd.NotApplied, SQLState: "40001"}
	unknown := &pgcmd.Error{Code: pgcmd.CodeUnknownEffect}
	applied := &pgcmd.Error{Code: pgcmd.CodeFailed, Effect: pgcmd.Applied}
	for _, c := range []struct {
		err       error
		retryable bool
		effect    pgcmd.Effect
	}{
		{conflict, true, pgcmd.NotApplied},
		{errors.Join(conflict, conflict), true, pgcmd.NotApplied},
		{errors.Join(conflict, errors.New("the rollback failed")), true, pgcmd.NotApplied},
		{errors.Join(conflict, unknown), false, pgcmd.Unknown},
		{errors.Join(unknown, conflict), false, pgcmd.Unknown},
		{fmt.Errorf("%w, then %w", conflict, fmt.Errorf("a: %w", unknown)), false, pgcmd.Unknown},
		{errors.Join(conflict, applied), false, pgcmd.Unknown},
		{errors.Join(applied, applied), false, pgcmd.Applied},
		{&pgcmd.Error{Effect: pgcmd.NotApplied, SQLState: "40001", Err: unknown}, true, pgcmd.NotApplied},
		{&pgconn.PgError{Code: "40001", Severity: "ERROR"}, true, pgcmd.Unknown},
	} {
		assert.Equal(t, c.retryable, pgcmd.Retryable(c.err), "%v", c.err)
		assert.Equal(t, c.effect, pgcmd.EffectOf(c.err), "%v", c.err)
	}
}

func TestAnErrorKeepsItsCodeWhenTheRetryBudgetIsUsedUp(t *testing.T) {
	t.Parallel()
	direct := pgcmdtest.Pool(t, itemsDDL)
	proxy, err := faults.Start(direct.Config().ConnString())
	require.NoError(t, err)
	pool, err := pgcmd.Connect(t.Context(), pgcmd.Config{URL: proxy.URL(), MaxConns: 2, RetryBudget: 1})
	require.NoError(t, err)
	t.Cleanup(func() { _ = pool.Close(context.Background()) })
	require.NoError(t, proxy.Close())
	retry := pgcmd.Options{Retry: pgcmd.Retry{Attempts: 3, Delay: time.Microsecond}}
	for name, run := range map[string]func() error{
		"a command": func() error { _, err := addItem.With(retry).Run(t.Context(), pool, 1); return err },
		"an item": func() error {
			r, _ := pgcmd.Batch(addItem, pgcmd.Independent).With(retry).Run(t.Context(), pool, []int{1})
			return r.Outcomes[0].Err
		},
	} {
		_ = run() // uses it up
		err = run()
		var e *pgcmd.Error
		require.ErrorAs(t, err, &e, name)
		assert.Equal(t, pgcmd.CodeUnavailable, e.Code, name)
		assert.Contains(t, e.Message, "the pool's budget for retries is used up", name)
		assert.Equal(t, pgcmd.NotApplied, e.Effect, name)
	}
}

func TestCommandsThatComeAfterCloseBeganAreRefusedAtOnce(t *testing.T) {
	t.Parallel()
	direct := pgcmdtest.Pool(t, itemsDDL)
	for name, config := range map[string]pgcmd.Config{
		"a pool":             {MaxConns: 1},
		"shared connections": {MaxConns: 2, Multiplex: 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			config.URL = direct.Config().ConnString()
			pool, err := pgcmd.Connect(t.Context(), config)
			require.NoError(t, err)
			inside, proceed, ended := make(chan struct{}), make(chan struct{}), make(chan error)
			n := len(name)
			hold := pgcmd.Transaction("hold", func(ctx context.Context, tx *pgcmd.Tx, n int) (int64, error) {
				if _, err := addItem.Run(ctx, tx, n); err != nil {
					return 0, err
				}
				close(inside)
				<-proceed
				return addItem.Run(ctx, tx, n+1)
			})
			go func() { _, err := hold.Run(t.Context(), pool, n); ended <- err }()
			<-inside
			done, cancel := context.WithCancel(t.Context())
			cancel()
			require.Error(t, pool.Close(done), "a connection is held")

			var attempts atomic.Int32
			count := pgcmd.QueryOne[struct{}, int]("count", `select count(*) from items`).With(pgcmd.Options{ReadOnly: true, Retry: pgcmd.Retry{Attempts: 5, Delay: time.Hour, MaxDelay: time.Hour,
				If: func(error) bool { attempts.Add(1); return true }}})
			var p pgcmd.Pipeline
			pgcmd.Queue(&p, addItem, 7)
			for what, run := range map[string]func() error{
				"a read":        func() error { _, err := count.Run(t.Context(), pool, struct{}{}); return err },
				"a write":       func() error { _, err := addItem.Run(t.Context(), pool, 5); return err },
				"a transaction": func() error { _, err := addItem.With(pgcmd.Options{InTx: true}).Run(t.Context(), pool, 5); return err },
				"a batch": func() error {
					_, err := pgcmd.Batch(addItem, pgcmd.Atomic).Run(t.Context(), pool, []int{5})
					return err
				},
				"items": func() error {
					r, _ := pgcmd.Batch(addItem, pgcmd.Independent).With(pgcmd.Options{Retry: pgcmd.Retry{Attempts: 3, Delay: time.Hour, MaxDelay: time.Hour}}).Run(t.Context(), pool, []int{5})
					return r.Outcomes[0].Err
				},
				"a pipeline": func() error { return p.Run(t.Context(), pool, pgcmd.Atomic) },
				"a stream": func() (err error) {
					q := pgcmd.Query[struct{}, int]("all", `select n from items`)
					for _, err = range pgcmd.Stream(t.Context(), pool, q, struct{}{}) {
						break
					}
					return err
				},
				"a copy": func() error {
					type item struct{ N int }
					_, err := pgcmd.Copy[item]("copy", pgx.Identifier{"items"}).Run(t.Context(), pool, pgcmd.Rows([]item{{5}}))
					return err
				},
				"ad hoc": func() error {
					_, err := pgcmd.AdHoc.Run(t.Context(), pool, pgcmd.AdHocQuery{SQL: `select 1`})
					return err
				},
			} {
				err := run()
				var e *pgcmd.Error
				require.ErrorAs(t, err, &e, what)
				assert.Equal(t, pgcmd.CodeUnavailable, e.Code, what)
				assert.Equal(t, pgcmd.NotApplied, e.Effect, what)
				assert.Equal(t, "no connection available: the pool is closed", e.Message, what)
				assert.False(t, pgcmd.Retryable(err), what)
			}
			assert.Zero(t, attempts.Load(), "a closed pool stays closed")
			close(proceed)
			require.NoError(t, <-ended, "what was under way finishes")
			require.NoError(t, pool.Close(t.Context()))
			_, err = addItem.Run(t.Context(), pool.Pool, 5)
			assert.ErrorContains(t, err, "no connection available: the pool is closed")
		})
	}
}

func TestTheLastErrorOfAPoolIsNotOfACallersInput(t *testing.T) {
	t.Parallel()
	direct := pgcmdtest.Pool(t, itemsDDL)
	proxy, err := faults.Start(direct.Config().ConnString())
	require.NoError(t, err)
	t.Cleanup(func() { _ = proxy.Close() })
	pool, err := pgcmd.Connect(t.Context(), pgcmd.Config{URL: proxy.URL(), MaxConns: 2})
	require.NoError(t, err)
	t.Cleanup(func() { _ = pool.Close(context.Background()) })
	callers := func() {
		_, err := addItem.Run(t.Context(), pool, -1)
		require.Error(t, err)
		_, err = pgcmd.QueryOne[int, int]("items.find", `select n from items where n = $1`).Run(t.Context(), pool, 12345)
		require.Error(t, err)
		_, err = failing.Run(t.Context(), pool, 1)
		require.Error(t, err)
		_, err = pgcmd.AdHoc.Run(t.Context(), pool, pgcmd.AdHocQuery{SQL: `selekt`})
		require.Error(t, err)
		_, err = pgcmd.AdHoc.Run(t.Context(), pool, pgcmd.AdHocQuery{})
		require.Error(t, err)
	}
	callers()
	assert.Nil(t, pool.Health(t.Context()).LastError)

	_, err = pgcmd.AdHoc.Run(t.Context(), pool, pgcmd.AdHocQuery{SQL: `select pg_terminate_backend(pg_backend_pid())`})
	require.Error(t, err)
	for range 30 {
		callers()
	}
	last := pool.Health(t.Context()).LastError
	require.NotNil(t, last, "it is not lost behind what callers do")
	assert.Equal(t, "pgcmd.adhoc", last.Command)
	assert.Equal(t, pgcmd.CodeOf(err), last.Code)
}

// An operator alerts on the lines at Error: a code of the program's own says what the program decided.
func TestACodeOfTheProgramIsNoErrorInTheLog(t *testing.T) {
	t.Parallel()
	core, logs := observer.New(zap.DebugLevel)
	pool := pgcmdtest.Connect(t, pgcmd.Config{Logger: zap.New(core)})
	for _, c := range []struct {
		code  pgcmd.Code
		level zapcore.Level
	}{
		{"sold_out", zap.InfoLevel},
		{pgcmd.CodeFailed, zap.InfoLevel},
		{pgcmd.CodeTimeout, zap.WarnLevel},
		{pgcmd.CodeInternal, zap.ErrorLevel},
		{pgcmd.CodeUnknownEffect, zap.ErrorLevel},
		{pgcmd.CodePermission, zap.ErrorLevel},
	} {
		err := pgcmd.Errorf(c.code, "no seat is left")
		_, err = pgcmd.New("seats.book", func(context.Context, pgcmd.DB, int) (int, error) { return 0, err }).Run(t.Context(), pool, 1)
		require.Equal(t, c.code, pgcmd.CodeOf(err))
		lines := logs.FilterMessage("command").All()
		require.Len(t, lines, 1)
		logs.TakeAll()
		assert.Equal(t, c.level, lines[0].Level, "%s", c.code)
	}
}

func TestTheHealthOfAPoolWhoseConnectionsAreAcquiredByHand(t *testing.T) {
	t.Parallel()
	pool := pgcmdtest.Connect(t, pgcmd.Config{MaxConns: 1})
	conn, err := pool.Acquire(t.Context())
	require.NoError(t, err)
	defer conn.Release()
	h := pool.Health(t.Context())
	assert.Equal(t, pgcmd.HealthDegraded, h.Status)
	assert.Equal(t, "all connections are in use", h.Reason, "no command holds one, so none is named")
}

func TestExplainIsNoRunOfTheCommand(t *testing.T) {
	t.Parallel()
	core, lines := observer.New(zap.DebugLevel)
	seen := 0
	pool := pgcmdtest.Connect(t, pgcmd.Config{Logger: zap.New(core), Middleware: []pgcmd.Middleware{func(next pgcmd.Handler) pgcmd.Handler {
		return func(ctx context.Context, call *pgcmd.Call) error {
			seen++
			return next(ctx, call)
		}
	}}}, itemsDDL)
	find := pgcmd.QueryOne[int, int]("items.find", `select n from items where n = $1`)
	for _, name := range []string{"items", "nothing"} {
		_, err := pgcmd.Explain(t.Context(), pool, pgcmd.Query[int, int]("items.list", `select n from `+name+` where n = $1`), 1)
		assert.Equal(t, name == "nothing", err != nil, "%v", err)
	}
	assert.Zero(t, seen)
	assert.Empty(t, pool.Metrics().Commands)
	assert.Empty(t, pool.Metrics().Failures)
	assert.Zero(t, lines.FilterMessage("command").Len())

	_, err := find.Run(t.Context(), pool, 12345)
	assert.Equal(t, pgcmd.CodeNotFound, pgcmd.CodeOf(err))
	assert.Equal(t, 1, seen)
	assert.Len(t, pool.Metrics().Failures, 1)
	assert.Equal(t, 1, lines.FilterMessage("command").Len())
}
