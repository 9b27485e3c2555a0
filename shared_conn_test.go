package pgcmd_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgtype"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/pgcmd/pgcmd"
	"github.com/pgcmd/pgcmd/pgcmdtest"
)

// locked takes an advisory lock, held until unlock is called.
func locked(t *testing.T, url string, key int64) (unlock func()) {
	t.Helper()
	conn := pgcmdtestConn(t, url)
	_, err := conn.Exec(t.Context(), `select pg_advisory_lock($1)`, key)
	require.NoError(t, err)
	return func() {
		_, err := conn.Exec(context.Background(), `select pg_advisory_unlock($1)`, key)
		require.NoError(t, err)
	}
}

func TestACancelledSharedReadReturnsAtOnce(t *testing.T) {
	t.Parallel()
	url := pgcmdtest.URL(t)
	pool := shared(t, url, 1, sharedTimes(60))
	unlock := locked(t, url, 1)
	ctx, cancel := context.WithCancel(t.Context())
	left := make(chan error)
	go func() { left <- runErr(heldUp.Run(ctx, pool, lookup{1, 1})) }()
	eventually(t, url, waiting, 1)
	cancel()
	err := <-left // the lock is held: only the context can end it
	require.ErrorIs(t, err, context.Canceled)
	assert.Equal(t, pgcmd.CodeCanceled, pgcmd.CodeOf(err))
	assert.Equal(t, pgcmd.NotApplied, pgcmd.EffectOf(err))
	eventually(t, url, waiting, 0) // the statement is cancelled on the server
	unlock()
	for n := range int64(10) {
		got, err := echoShared.Run(t.Context(), pool, n)
		require.NoError(t, err)
		assert.Equal(t, n, got.N, "no earlier reply")
	}
	assert.Zero(t, sharedMetrics(pool).InFlight)
}

func TestASlowSharedReadDoesNotDelayOthers(t *testing.T) {
	t.Parallel()
	url := pgcmdtest.URL(t)
	pool := shared(t, url, 1, sharedTimes(60))
	unlock := locked(t, url, 1)
	slow := make(chan error)
	go func() {
		n, err := heldUp.Run(context.Background(), pool, lookup{42, 1})
		if err == nil && n != 42 {
			err = fmt.Errorf("got %d", n)
		}
		slow <- err
	}()
	eventually(t, url, waiting, 1)
	assert.Zero(t, burst(100, func() error { return runErr(echoShared.Run(t.Context(), pool, 1)) }), "behind it")
	m := sharedMetrics(pool)
	assert.EqualValues(t, 1, m.HandedOver)
	assert.Equal(t, 1, m.Apart)
	assert.LessOrEqual(t, m.Conns, 2)
	eventually(t, url, waiting, 1)

	unlock()
	require.NoError(t, <-slow)
}

// The read is not the reason, so it is sent again more often than a read that may have caused
// the loss of its connections.
func TestASharedReadOutlivesTerminatedBackends(t *testing.T) {
	t.Parallel()
	url := pgcmdtest.URL(t)
	pool := shared(t, url, 1, sharedTimes(60))
	unlock := locked(t, url, 1)
	failures := make(chan int, 1)
	go func() {
		n := 0
		for runErr(heldUp.Run(context.Background(), pool, lookup{1, 1})) != nil { // so that there is a backend to terminate
			n++
		}
		failures <- n
	}()
	do := side(t, url)
	const times = 5
	for range times {
		eventually(t, url, waiting, 1)
		do(`select pg_terminate_backend(pid, 60000) from pg_stat_activity where datname = current_database() and wait_event = 'advisory'`)
	}
	eventually(t, url, waiting, 1)
	unlock()
	assert.Zero(t, <-failures)
	assert.EqualValues(t, times, sharedMetrics(pool).Reruns)
}

func TestAServerTimeoutBoundsSharedReads(t *testing.T) {
	t.Parallel()
	url := pgcmdtest.URL(t)
	unlock := locked(t, url, 1)
	limited := shared(t, url, 1, func(c *pgcmd.Config) { c.StatementTimeout = 100 * time.Millisecond })
	err := runErr(heldUp.Run(t.Context(), limited, lookup{1, 1}))
	assert.Equal(t, pgcmd.CodeTimeout, pgcmd.CodeOf(err))
	assert.Equal(t, pgcmd.NotApplied, pgcmd.EffectOf(err))

	// The timeout that the library imposes must not fail a command.
	ours := shared(t, url, 1)
	done := make(chan error)
	go func() { done <- runErr(heldUp.Run(context.Background(), ours, lookup{1, 1})) }()
	for sharedMetrics(ours).Aside == 0 {
		eventually(t, url, waiting, 1)
	}
	eventually(t, url, waiting, 1)
	assert.EqualValues(t, 1, ours.Stat().AcquiredConns())
	unlock()
	require.NoError(t, <-done)
}

func TestReadsBeyondTheQueueWaitAndThenAreExhausted(t *testing.T) {
	t.Parallel()
	const depth = 256
	url := pgcmdtest.URL(t)
	pool := shared(t, url, 1, sharedTimes(60), func(c *pgcmd.Config) { c.AcquireTimeout = 20 * time.Millisecond })
	unlock := locked(t, url, 1)
	// Many SQL texts, since a statement that was slow is not shared.
	held := make([]*pgcmd.Command[lookup, int64], depth)
	for i := range held {
		held[i] = pgcmd.QueryOne[lookup, int64]("shared.filler", fmt.Sprintf(`select %d + @n::int8 from pg_advisory_xact_lock_shared(@lock)`, i)).With(readOnly)
	}
	var all errgroup.Group
	for i, c := range held {
		all.Go(func() error {
			n, err := c.Run(context.Background(), pool, lookup{int64(i), 1})
			if err == nil && n != int64(2*i) {
				err = fmt.Errorf("%d got %d", 2*i, n)
			}
			return err
		})
	}
	for sharedMetrics(pool).InFlight < depth {
		eventually(t, url, `select true`)
	}
	err := runErr(echoShared.Run(t.Context(), pool, 1))
	require.Error(t, err)
	var e *pgcmd.Error
	require.ErrorAs(t, err, &e)
	assert.Equal(t, pgcmd.CodeExhausted, e.Code)
	assert.Equal(t, pgcmd.NotApplied, e.Effect)
	assert.Contains(t, e.Message, "256 reads were under way on")
	assert.Contains(t, e.Message, "shared.filler has")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	assert.Equal(t, pgcmd.CodeCanceled, pgcmd.CodeOf(runErr(echoShared.Run(ctx, pool, 1))))
	assert.Equal(t, pgcmd.HealthDegraded, pool.Health(t.Context()).Status)
	unlock()
	require.NoError(t, all.Wait())
	assert.Equal(t, pgcmd.HealthUp, pool.Health(t.Context()).Status)
}

func TestALargeResultIsNotShared(t *testing.T) {
	t.Parallel()
	pool := shared(t, pgcmdtest.URL(t), 1)
	big := pgcmd.Query[int64, string]("shared.big", `select repeat('x', 1000) || n from generate_series(1, $1::int8) n`).With(readOnly)
	var all errgroup.Group
	all.Go(func() error {
		for range 3 {
			rows, err := big.Run(context.Background(), pool, 5000)
			if err != nil || len(rows) != 5000 || !strings.HasSuffix(rows[4999], "x5000") {
				return fmt.Errorf("%d rows, %w", len(rows), err)
			}
		}
		return nil
	})
	for g := range 16 {
		all.Go(func() error {
			for range 20 {
				if got, err := echoShared.Run(context.Background(), pool, int64(g)); err != nil || got.N != int64(g) {
					return fmt.Errorf("%d got %+v, %w", g, got, err)
				}
			}
			return nil
		})
	}
	require.NoError(t, all.Wait())
	assert.EqualValues(t, 1, sharedMetrics(pool).Aside)
	// Nearly as large as a shared reply may be.
	rows, err := pgcmd.Query[int64, string]("shared.fit", `select repeat('x', 1000) from generate_series(1, $1::int8) n`).With(readOnly).Run(t.Context(), pool, 200)
	require.NoError(t, err)
	assert.Len(t, rows, 200)
	assert.EqualValues(t, 1, sharedMetrics(pool).Aside)
}

type fuse struct{ N int64 }

func (b *fuse) Scan(v any) error {
	if b.N = v.(int64); b.N == 7 {
		panic("scanned seven")
	}
	return nil
}

func (b fuse) Int64Value() (pgtype.Int8, error) {
	if b.N == 8 {
		panic("encoded eight")
	}
	return pgtype.Int8{Int64: b.N, Valid: true}, nil
}

func TestAPanicInASharedReadReachesOnlyItsCaller(t *testing.T) {
	t.Parallel()
	pool := shared(t, pgcmdtest.URL(t), 1)
	type in struct{ N fuse }
	cmd := pgcmd.QueryOne[in, fuse]("shared.bomb", `select @n::int8`).With(readOnly)
	var all errgroup.Group
	for g := range 32 {
		all.Go(func() error {
			for i := range 30 {
				n := int64(i % 10)
				var got fuse
				var err error
				panicked := func() (v any) {
					defer func() { v = recover() }()
					got, err = cmd.Run(context.Background(), pool, in{fuse{n}})
					return nil
				}()
				want := map[int64]any{7: "scanned seven", 8: "encoded eight"}[n]
				if panicked != want || want == nil && (err != nil || got.N != n) {
					return fmt.Errorf("%d of %d: %v, %v, %v", n, g, got, err, panicked)
				}
			}
			return nil
		})
	}
	require.NoError(t, all.Wait())
	assert.Zero(t, sharedMetrics(pool).InFlight)
}

// Bad statements and inputs run among good ones, which succeed.
func TestAnErrorOfASharedReadReachesOnlyItsCaller(t *testing.T) {
	t.Parallel()
	pool := shared(t, pgcmdtest.URL(t), 1)
	conns := sharedMetrics(pool)
	require.NoError(t, runErr(echoShared.Run(t.Context(), pool, 1)))
	type in struct{ N any }
	bad := []*pgcmd.Command[in, int64]{
		pgcmd.QueryOne[in, int64]("bad.sql", `select nothing(@n)`).With(readOnly),
		pgcmd.QueryOne[in, int64]("bad.value", `select @n::text::int8`).With(readOnly),
		pgcmd.QueryOne[in, int64]("bad.argument", `select @n::int2::int8`).With(readOnly),
		pgcmd.QueryOne[in, int64]("bad.fit", `select 'x' || @n::text`).With(readOnly),
	}
	var all errgroup.Group
	for g := range 16 {
		all.Go(func() error {
			for i := range 20 {
				if _, err := bad[(g+i)%len(bad)].Run(context.Background(), pool, in{"secret"}); err == nil || strings.Contains(err.Error(), "secret") {
					return fmt.Errorf("not refused: %v", err)
				}
			}
			return nil
		})
		all.Go(func() error {
			for i := range int64(50) {
				if got, err := echoShared.Run(context.Background(), pool, i); err != nil || got.N != i {
					return fmt.Errorf("%d got %+v, %w", i, got, err)
				}
			}
			return nil
		})
	}
	require.NoError(t, all.Wait())
	m := sharedMetrics(pool)
	assert.Equal(t, conns.Conns, m.Conns)
	assert.Zero(t, m.Reruns, "the connection is the same")
	assert.Zero(t, m.InFlight)
}

func TestCloseWaitsForSharedReads(t *testing.T) {
	t.Parallel()
	url := pgcmdtest.URL(t)
	pool, err := pgcmd.Connect(t.Context(), pgcmd.Config{URL: url, Multiplex: 2, StatementTimeout: time.Minute})
	require.NoError(t, err)
	unlock := locked(t, url, 1)
	done := make(chan error)
	go func() { done <- runErr(heldUp.Run(context.Background(), pool, lookup{1, 1})) }()
	eventually(t, url, waiting, 1)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err = pool.Close(ctx)
	require.ErrorContains(t, err, "1 reads are under way on shared connections: shared.held has 1")
	for sharedMetrics(pool).Conns > 0 { // it is closed by a goroutine
		eventually(t, url, `select true`)
	}
	assert.Equal(t, pgcmd.CodeUnavailable, pgcmd.CodeOf(runErr(echoShared.Run(t.Context(), pool, 1))))
	unlock()
	require.NoError(t, <-done)
	require.NoError(t, pool.Close(context.Background()))
	eventually(t, url, `select count(*) = 2 from pg_stat_activity where datname = current_database()`) // this connection, and that of the lock
}
