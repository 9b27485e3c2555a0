package reliability_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgcmd/pgcmd"
	"github.com/pgcmd/pgcmd/pgcmdtest"
)

// An outage must not be answered by a multiple of the load.
func TestTheRetryBudgetUnderATotalOutage(t *testing.T) {
	t.Parallel()
	var out atomic.Bool
	var dials atomic.Int64
	port := closedPort(t)
	s := newStage(t, pgcmdtest.URL(t, effectsDDL), setting{tune: func(c *pgxpool.Config) {
		c.BeforeConnect = func(_ context.Context, config *pgx.ConnConfig) error {
			dials.Add(1)
			if out.Load() {
				config.Port = port
			}
			return nil
		}
	}})
	again := pgcmd.Options{Retry: pgcmd.Retry{Attempts: 5, Delay: time.Microsecond, MaxDelay: time.Microsecond}}
	commands := []*pgcmd.Command[int64, int64]{s.healthy(read).With(again), s.healthy(write).With(again), s.healthy(commit).With(again)}
	storm := func(runs int) (attempts int64) {
		var mu sync.Mutex
		var workers sync.WaitGroup
		for w := range 4 {
			workers.Go(func() {
				for n := range runs / 4 {
					outcome := pgcmd.Try(s.patient(), s.pool, commands[(w+n)%len(commands)], newID())
					mu.Lock()
					attempts += int64(outcome.Attempts)
					mu.Unlock()
					e := s.failed(outcome.Err)
					assert.Equal(s, pgcmd.NotApplied, e.Effect)
				}
			})
		}
		workers.Wait()
		return attempts
	}

	out.Store(true)
	s.pool.Reset()
	dials.Store(0)
	const runs = 200
	first := storm(runs)
	assert.Equal(t, first, dials.Load(), "an attempt is a connection")
	assert.Greater(t, first, int64(runs*1.2), "there is a budget to begin with")
	assert.LessOrEqual(t, first, int64(runs+100), "and it has an end")

	dials.Store(0)
	attempts := storm(runs)
	assert.Equal(t, attempts, dials.Load())
	assert.LessOrEqual(t, float64(attempts), 1.2*runs, "offered load, once the budget is used up")
	outcome := pgcmd.Try(s.patient(), s.pool, commands[0], newID())
	e := s.failed(outcome.Err)
	assert.Equal(t, pgcmd.CodeUnavailable, e.Code, "what it was for")
	assert.Contains(t, e.Message, "budget")
	assert.True(t, isConnect(e), "and the reason is in reach")
	assert.Equal(t, 1, outcome.Attempts)

	out.Store(false)
	conflict := raises("40001")(s, inTx).cmd.With(again)
	s.exec(`select setval($1, 1, false)`, s.shots)
	outcome = pgcmd.Try(s.patient(), s.pool, conflict, newID())
	require.NoError(t, outcome.Err, "a conflict is none of the budget's business")
	assert.Equal(t, 2, outcome.Attempts)

	for range 20 { // each success gives something back
		_, err := commands[0].Run(s.patient(), s.pool, newID())
		require.NoError(t, err)
	}
	out.Store(true)
	s.pool.Reset()
	outcome = pgcmd.Try(s.patient(), s.pool, commands[0], newID())
	assert.Equal(t, 5, outcome.Attempts)
	out.Store(false)
}

func TestIfCanOnlyNarrow(t *testing.T) {
	t.Parallel()
	s := newStage(t, pgcmdtest.URL(t, effectsDDL), setting{})
	asked := 0
	retry := func(answer bool) pgcmd.Options {
		asked = 0
		return pgcmd.Options{Retry: pgcmd.Retry{Attempts: 3, Delay: time.Microsecond, If: func(err error) bool {
			asked++
			assert.True(s, pgcmd.Retryable(err), "it is asked of nothing else")
			return answer
		}}}
	}
	for _, c := range []column{read, write, inTx, commit} {
		for state, most := range map[string]int{"40001": 2, "23505": 1, "57014": 1, "P0001": 1} {
			for _, answer := range []bool{false, true} {
				s.exec(`select setval($1, 1, false)`, s.shots)
				id := newID()
				out := pgcmd.Try(s.patient(), s.pool, raises(state)(s, c).cmd.With(retry(answer)), id)
				if !answer {
					assert.Equal(t, 1, out.Attempts, "%s in %s, If says %v", state, c, answer)
					assert.Equal(t, most-1, min(asked, most-1), "%s in %s", state, c)
				}
				assert.LessOrEqual(t, out.Attempts, most, "%s in %s, If says %v", state, c, answer)
				if c != read {
					assert.LessOrEqual(t, s.count(id), 1)
				}
			}
		}
	}
}

func TestRetriesStopWhereTheDeadlineLeavesNoRoom(t *testing.T) {
	t.Parallel()
	s := newStage(t, pgcmdtest.URL(t, effectsDDL), setting{})
	patient := pgcmd.Options{Retry: pgcmd.Retry{Attempts: 3, Delay: 10_000 * time.Hour, MaxDelay: 10_000 * time.Hour}}
	for _, c := range everywhere {
		s.exec(`select setval($1, 1, false)`, s.shots)
		start := time.Now()
		out := pgcmd.Try(s.patient(), s.pool, raises("40001")(s, c).cmd.With(patient), newID())
		e := s.failed(out.Err)
		assert.Equal(t, 1, out.Attempts, c)
		assert.Equal(t, "40001", e.SQLState, c)
		assert.Equal(t, pgcmd.CodeAborted, e.Code, "%s: the reason, and not the deadline", c)
		assert.Less(t, time.Since(start), 10*time.Second, "%s: it does not wait for the deadline", c)
	}

	// Without a deadline, the caller's cancellation ends the wait.
	s.exec(`select setval($1, 1, false)`, s.shots)
	ctx, cancel := context.WithCancel(t.Context())
	options := patient
	options.Retry.If = func(error) bool { cancel(); return true }
	id := newID()
	out := pgcmd.Try(ctx, s.pool, raises("40001")(s, inTx).cmd.With(options), id)
	e := s.failed(out.Err)
	assert.Equal(t, 1, out.Attempts)
	assert.Equal(t, pgcmd.NotApplied, e.Effect)
	assert.Zero(t, s.count(id))
}

func TestANestedCommandNeverRetriesByItself(t *testing.T) {
	t.Parallel()
	s := newStage(t, pgcmdtest.URL(t, effectsDDL), setting{})
	again := pgcmd.Options{Retry: pgcmd.Retry{Attempts: 3, Delay: time.Microsecond}}
	reset := func() { s.exec(`select setval($1, 1, false)`, s.shots) }
	inner := raises("40001")(s, read).cmd.With(again)
	for name, nested := range map[string]func(ctx context.Context, tx *pgcmd.Tx) (int, error){
		"Run": func(ctx context.Context, tx *pgcmd.Tx) (int, error) {
			_, err := inner.Run(ctx, tx, 1)
			return s.failed(err).Attempts, err
		},
		"Try": func(ctx context.Context, tx *pgcmd.Tx) (int, error) {
			out := pgcmd.Try(ctx, tx, inner, 1)
			return out.Attempts, out.Err
		},
		"a transaction": func(ctx context.Context, tx *pgcmd.Tx) (int, error) {
			_, err := raises("40001")(s, inTx).cmd.With(again).Run(ctx, tx, newID())
			return s.failed(err).Attempts, err
		},
	} {
		reset()
		runs, attempts := 0, 0
		outer := s.body(func(ctx context.Context, tx *pgcmd.Tx, id int64) error {
			if runs++; runs > 1 {
				_, err := tx.Exec(ctx, insertOp, id)
				return err
			}
			var err error
			attempts, err = nested(ctx, tx)
			return err
		})
		id := newID()
		_, err := outer.Run(s.patient(), s.pool, id)
		e := s.failed(err)
		assert.Equal(t, 1, attempts, name)
		assert.Equal(t, 1, runs, "%s: the outer one has no Retry", name)
		assert.Equal(t, "40001", e.SQLState, name)
		assert.True(t, pgcmd.Retryable(err), name)
		assert.Zero(t, s.count(id), name)

		reset()
		runs = 0
		out := pgcmd.Try(s.patient(), s.pool, outer.With(again), id)
		require.NoError(t, out.Err, name)
		assert.Equal(t, 2, out.Attempts, "%s: the outermost is tried again, whole", name)
		assert.Equal(t, 1, attempts, name)
		assert.Equal(t, 1, s.count(id), name)
	}

	conn, err := s.pool.Acquire(s.patient())
	require.NoError(t, err)
	defer conn.Release()
	for name, db := range map[string]func() pgcmd.DB{
		"a pgx.Tx": func() pgcmd.DB {
			tx, err := s.plain.Begin(s.patient())
			require.NoError(t, err)
			t.Cleanup(func() { _ = tx.Rollback(context.Background()) })
			return tx
		},
		"a connection in a transaction": func() pgcmd.DB {
			_, err := conn.Exec(s.patient(), `begin`)
			require.NoError(t, err)
			return conn
		},
	} {
		reset()
		out := pgcmd.Try(s.patient(), db(), inner, 1)
		assert.Equal(t, "40001", s.failed(out.Err).SQLState)
		assert.Equal(t, 1, out.Attempts, name)
	}
	_, err = conn.Exec(s.patient(), `rollback`)
	require.NoError(t, err)
	s.plain.Reset()
}

// Layers that each try again multiply: only the outermost does.
func TestLayersDoNotMultiplyAttempts(t *testing.T) {
	t.Parallel()
	s := newStage(t, pgcmdtest.URL(t, effectsDDL), setting{})
	again := pgcmd.Options{ReadOnly: true, Retry: pgcmd.Retry{Attempts: 3, Delay: time.Microsecond}}
	runs := 0
	inner := pgcmd.New("ops.inner", func(ctx context.Context, db pgcmd.DB, id int64) (int64, error) {
		runs++
		s.exec(`select setval($1, 1, false)`, s.shots)
		return raises("40001")(s, read).cmd.Run(ctx, db, id)
	}).With(again)
	outer := pgcmd.New("ops.outer", func(ctx context.Context, db pgcmd.DB, id int64) (int64, error) {
		return inner.Run(ctx, db, id)
	}).With(again)
	out := pgcmd.Try(s.patient(), s.pool, outer, 1)
	assert.Equal(t, "40001", s.failed(out.Err).SQLState)
	assert.LessOrEqual(t, runs, 3, "attempts of the innermost, of 3 that each layer asks for")
}

// What cannot be connected to is said by Connect, without a part of the URL.
func TestConnectSaysWhy(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		url   string
		code  pgcmd.Code
		again bool
	}{
		"a URL that does not parse": {"postgres://u:hunter2@h:port/db", pgcmd.CodeInvalid, false},
		"no such database":          {withDatabase(t, pgcmdtest.URL(t), "nowhere"), pgcmd.CodeInternal, false},
		"nobody listens":            {"postgres://u:hunter2@127.0.0.1:1/db?sslmode=disable", pgcmd.CodeUnavailable, true},
	} {
		_, err := pgcmd.Connect(t.Context(), pgcmd.Config{URL: c.url})
		e, ok := errors.AsType[*pgcmd.Error](err)
		require.True(t, ok, name)
		assert.Equal(t, c.code, e.Code, "%s: %v", name, e)
		assert.Equal(t, pgcmd.NotApplied, e.Effect, name)
		assert.Equal(t, c.again, pgcmd.Retryable(err), name)
		assert.NotContains(t, e.Error(), "hunter2", name)
	}
}

// withDatabase is an address with another database.
func withDatabase(t testing.TB, address, name string) string {
	config, err := pgx.ParseConfig(address)
	require.NoError(t, err)
	return fmt.Sprintf("host=%s port=%d user=%s password='%s' dbname=%s", config.Host, config.Port, config.User, config.Password, name)
}
