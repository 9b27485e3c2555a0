package pgcmd_test

import (
	"context"
	"math/rand/v2"
	"net"
	"strings"
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

var (
	pidOf   = pgcmd.QueryOne[struct{}, int32]("queue.pid", `select pg_backend_pid()`)
	holding = pgcmd.Exec[float64]("queue.hold", `select pg_sleep($1)`)
)

func queued(t *testing.T, cfg pgcmd.Config) *pgcmd.Pool {
	t.Helper()
	if cfg.URL == "" {
		cfg.URL = pgcmdtest.URL(t)
	}
	pool, err := pgcmd.Connect(t.Context(), cfg)
	require.NoError(t, err)
	t.Cleanup(func() {
		assert.Eventually(t, func() bool { return pool.Stat().AcquiredConns() == 0 }, 10*time.Second, time.Millisecond, "every connection is back")
		assert.NoError(t, pool.Close(context.Background()))
	})
	return pool
}

func failsWith(t *testing.T, err error, code pgcmd.Code, effect pgcmd.Effect) *pgcmd.Error {
	t.Helper()
	e := failure(t, err)
	assert.Equal(t, code, e.Code, e)
	assert.Equal(t, effect, e.Effect, e)
	return e
}

// occupy runs a command that holds the pool's only connection, and returns once it does.
func occupy(t *testing.T, pool *pgcmd.Pool, seconds float64) (wait func()) {
	t.Helper()
	done := make(chan error, 1)
	go func() {
		_, err := holding.Run(context.Background(), pool, seconds)
		done <- err
	}()
	require.Eventually(t, func() bool { return pool.Stat().AcquiredConns() == 1 }, 10*time.Second, time.Millisecond)
	return func() { assert.NoError(t, <-done) }
}

// arriving is a context that tells when it is waited for.
type arriving struct {
	context.Context
	once *sync.Once
	came chan struct{}
}

func (a arriving) Done() <-chan struct{} {
	a.once.Do(func() { close(a.came) })
	return a.Context.Done()
}

func TestConnectionsAreAcquiredInOrder(t *testing.T) {
	t.Parallel()
	pool := queued(t, pgcmd.Config{URL: pgcmdtest.URL(t, `create sequence arrivals`), MaxConns: 1})
	number := pgcmd.QueryOne[struct{}, int]("queue.number", `select nextval('arrivals')`)
	wait := occupy(t, pool, 0.5)
	before := pool.Metrics().Pool
	var all sync.WaitGroup
	const callers = 40
	for i := range callers {
		ctx := arriving{context.Background(), new(sync.Once), make(chan struct{})}
		all.Go(func() {
			n, err := number.Run(ctx, pool, struct{}{})
			assert.NoError(t, err)
			assert.Equal(t, i+1, n)
		})
		<-ctx.came
	}
	wait()
	all.Wait()
	after := pool.Metrics().Pool
	assert.EqualValues(t, callers, after.Acquires-before.Acquires, "each is counted, however it came by its connection")
	assert.EqualValues(t, callers, after.EmptyAcquires-before.EmptyAcquires)
	assert.Greater(t, after.Waited-before.Waited, callers*time.Millisecond)
	assert.Less(t, pool.Stat().AcquireCount(), int64(callers), "some were handed off")
}

// A caller of the pgxpool gets a connection, however busy the commands are.
func TestCallersOfThePgxpoolGetConnections(t *testing.T) {
	t.Parallel()
	pool := queued(t, pgcmd.Config{MaxConns: 1})
	busy, stop := context.WithCancel(context.Background())
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			for busy.Err() == nil {
				_, err := pidOf.Run(context.Background(), pool, struct{}{})
				assert.NoError(t, err)
			}
		})
	}
	defer all.Wait()
	defer stop()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for range 50 {
		tx, err := pool.Begin(ctx) // pgxpool's
		require.NoError(t, err)
		require.NoError(t, tx.Rollback(ctx))
	}
}

func TestACancelledWaitEndsAtOnce(t *testing.T) {
	t.Parallel()
	pool := queued(t, pgcmd.Config{MaxConns: 1})
	wait := occupy(t, pool, 1)
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(20*time.Millisecond, cancel)
	var all sync.WaitGroup
	all.Go(func() { // behind it
		_, err := pidOf.Run(context.Background(), pool, struct{}{})
		assert.NoError(t, err)
	})
	_, err := pidOf.Run(ctx, pool, struct{}{})
	failsWith(t, err, pgcmd.CodeCanceled, pgcmd.NotApplied)
	assert.EqualValues(t, 1, pool.Stat().AcquiredConns(), "the connection is still held: it did not wait for it")

	short, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	_, err = pidOf.Run(short, pool, struct{}{})
	e := failsWith(t, err, pgcmd.CodeExhausted, pgcmd.NotApplied)
	assert.Contains(t, e.Message, "1 of 1 were in use")
	assert.Contains(t, e.Message, "queue.hold holds 1")
	wait()
	all.Wait()
}

func TestTheWaitForAConnectionTimesOut(t *testing.T) {
	t.Parallel()
	pool := queued(t, pgcmd.Config{MaxConns: 1, AcquireTimeout: 100 * time.Millisecond})
	wait := occupy(t, pool, 1)
	for range 2 { // the second time the alarm is set again
		var all sync.WaitGroup
		for range 5 {
			all.Go(func() {
				start := time.Now()
				_, err := pidOf.Run(context.Background(), pool, struct{}{})
				e := failsWith(t, err, pgcmd.CodeExhausted, pgcmd.NotApplied)
				assert.Contains(t, e.Message, "queue.hold holds 1")
				assert.GreaterOrEqual(t, time.Since(start), 100*time.Millisecond)
			})
			time.Sleep(10 * time.Millisecond) // each is late for itself
		}
		all.Wait()
	}
	wait()
	_, err := pidOf.Run(t.Context(), pool, struct{}{})
	assert.NoError(t, err, "no place was lost")
}

// A hook or a tracer of the pool sees every acquire or release.
func TestHooksSeeEveryAcquire(t *testing.T) {
	t.Parallel()
	const callers, runs = 10, 20
	for name, hook := range map[string]func(cfg *pgxpool.Config, seen *atomic.Int64){
		"PrepareConn": func(cfg *pgxpool.Config, seen *atomic.Int64) {
			cfg.PrepareConn = func(context.Context, *pgx.Conn) (bool, error) { seen.Add(1); return true, nil }
		},
		"BeforeAcquire": func(cfg *pgxpool.Config, seen *atomic.Int64) {
			//lint:ignore SA1019 it is there
			cfg.BeforeAcquire = func(context.Context, *pgx.Conn) bool { seen.Add(1); return true }
		},
		"AfterRelease": func(cfg *pgxpool.Config, seen *atomic.Int64) {
			cfg.AfterRelease = func(*pgx.Conn) bool { seen.Add(1); return true }
		},
		"ShouldPing": func(cfg *pgxpool.Config, seen *atomic.Int64) {
			cfg.ShouldPing = func(context.Context, pgxpool.ShouldPingParams) bool { seen.Add(1); return false }
		},
		"a tracer": func(cfg *pgxpool.Config, seen *atomic.Int64) { cfg.ConnConfig.Tracer = acquisitions{seen} },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var seen atomic.Int64
			pool := queued(t, pgcmd.Config{MaxConns: 2, Pgx: func(cfg *pgxpool.Config) { hook(cfg, &seen) }})
			seen.Store(0)
			var all sync.WaitGroup
			for range callers {
				all.Go(func() {
					for range runs {
						_, err := pidOf.Run(context.Background(), pool, struct{}{})
						assert.NoError(t, err)
					}
				})
			}
			all.Wait()
			assert.Eventually(t, func() bool { return seen.Load() >= callers*runs }, 10*time.Second, time.Millisecond, "it saw only %d", seen.Load())
			assert.Equal(t, pool.Stat().AcquireCount(), pool.Metrics().Pool.Acquires, "none was handed off")
		})
	}
}

type acquisitions struct{ seen *atomic.Int64 }

func (a acquisitions) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	return ctx
}
func (a acquisitions) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}
func (a acquisitions) TraceAcquireStart(ctx context.Context, _ *pgxpool.Pool, _ pgxpool.TraceAcquireStartData) context.Context {
	a.seen.Add(1)
	return ctx
}
func (a acquisitions) TraceAcquireEnd(context.Context, *pgxpool.Pool, pgxpool.TraceAcquireEndData) {}

// The next command does not get a connection that was lost, or was left in a transaction.
func TestABrokenConnectionIsNotAcquired(t *testing.T) {
	t.Parallel()
	pool := queued(t, pgcmd.Config{MaxConns: 2})
	broken := pgcmd.New("queue.broken", func(_ context.Context, db pgcmd.DB, _ struct{}) (int, error) {
		if rand.IntN(2) == 0 {
			panic("a bug of the body's")
		}
		return 0, pgcmd.Errorf(pgcmd.CodeFailed, "no")
	}).With(pgcmd.Options{InTx: true})
	killed := pgcmd.Exec[struct{}]("queue.killed", `select pg_terminate_backend(pg_backend_pid())`)
	begun := pgcmd.Exec[struct{}]("queue.begun", `start transaction isolation level serializable`)
	isolation := pgcmd.QueryOne[struct{}, string]("queue.isolation", `select current_setting('transaction_isolation')`)
	var all sync.WaitGroup
	for g := range 16 {
		all.Go(func() {
			for i := range 60 {
				ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
				switch {
				case g == 0 && i%6 == 0:
					_, err := killed.Run(ctx, pool, struct{}{})
					assert.Error(t, err)
				case g == 1 && i%3 == 0:
					_, _ = begun.Run(ctx, pool, struct{}{}) // it leaves a transaction behind
				case g == 2:
					func() {
						defer func() { _ = recover() }()
						_, _ = broken.Run(ctx, pool, struct{}{})
					}()
				case g < 6:
					soon, cancel := context.WithTimeout(ctx, time.Duration(rand.N(2*time.Millisecond)))
					_, _ = pidOf.Run(soon, pool, struct{}{})
					cancel()
				default:
					level, err := isolation.Run(ctx, pool, struct{}{})
					if assert.NoError(t, err) {
						assert.Equal(t, "read committed", level, "it is in the transaction of another")
					}
				}
				cancel()
			}
		})
	}
	all.Wait()
	for range 3 {
		_, err := pidOf.Run(t.Context(), pool, struct{}{})
		require.NoError(t, err)
	}
	require.Eventually(t, func() bool { return pool.Stat().AcquiredConns() == 0 }, 10*time.Second, time.Millisecond)
	assert.Less(t, pool.Stat().AcquireCount(), pool.Metrics().Pool.Acquires, "some were handed off")
}

// Once a server has said that it goes, no connection made before is used again.
func TestConnectionsOfBeforeAResetAreNotAcquired(t *testing.T) {
	t.Parallel()
	pool := queued(t, pgcmd.Config{MaxConns: 2})
	killed := pgcmd.Exec[struct{}]("queue.killed", `select pg_terminate_backend(pg_backend_pid()) from pg_sleep(0.2)`)
	slow := pgcmd.QueryOne[float64, int32]("queue.slow", `select pg_backend_pid() from pg_sleep($1)`)
	begin := func(seconds float64) (pid chan int32) {
		pid = make(chan int32, 1)
		go func() {
			found, err := slow.Run(context.Background(), pool, seconds)
			assert.NoError(t, err)
			pid <- found
		}()
		return pid
	}
	inUse := func(n int32) {
		require.Eventually(t, func() bool { return pool.Stat().AcquiredConns() == n }, 10*time.Second, time.Millisecond)
	}
	old := begin(1)
	inUse(1)
	failed := make(chan error, 1)
	go func() {
		_, err := killed.Run(context.Background(), pool, struct{}{})
		failed <- err
	}()
	inUse(2)
	next := begin(2) // has the place of the one that is killed
	require.Error(t, <-failed)
	last := begin(0) // has the place of the one that was there before
	before := <-old
	assert.NotEqual(t, before, <-last)
	assert.NotEqual(t, before, <-next)
}

// Under load, too, where a connection goes from one command to the next.
func TestACommandThatBeginsAfterResetGetsANewConnection(t *testing.T) {
	t.Parallel()
	pool := queued(t, pgcmd.Config{MaxConns: 2})
	now := pgcmd.QueryOne[struct{}, time.Time]("queue.now", `select clock_timestamp()`)
	madeSince := pgcmd.QueryOne[time.Time, bool]("queue.made_since", `select backend_start >= $1 from pg_stat_activity where pid = pg_backend_pid()`)
	busy, stop := context.WithCancel(t.Context())
	var all sync.WaitGroup
	defer all.Wait()
	defer stop()
	for range 3 {
		all.Go(func() {
			for busy.Err() == nil {
				_, err := pidOf.Run(context.Background(), pool, struct{}{})
				assert.NoError(t, err)
			}
		})
	}
	for range 50 {
		before, err := now.Run(t.Context(), pool, struct{}{})
		require.NoError(t, err)
		pool.Reset()
		isNew, err := madeSince.Run(t.Context(), pool, before)
		require.NoError(t, err)
		require.True(t, isNew, "the connection is of before the Reset")
	}
	assert.Less(t, pool.Stat().AcquireCount(), pool.Metrics().Pool.Acquires, "some were handed off")
}

func TestCloseDoesNotWaitForTheQueue(t *testing.T) {
	t.Parallel()
	pool, err := pgcmd.Connect(t.Context(), pgcmd.Config{URL: pgcmdtest.URL(t), MaxConns: 2})
	require.NoError(t, err)
	var all sync.WaitGroup
	var served atomic.Int64
	for range 30 {
		all.Go(func() {
			for {
				if _, err := pidOf.Run(context.Background(), pool, struct{}{}); err != nil {
					e := failsWith(t, err, pgcmd.CodeUnavailable, pgcmd.NotApplied)
					assert.True(t, strings.Contains(e.Message, "closed"), e.Message)
					return
				}
				served.Add(1)
			}
		})
	}
	require.Eventually(t, func() bool { return served.Load() > 100 }, 10*time.Second, time.Millisecond)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	require.NoError(t, pool.Close(ctx))
	all.Wait()
}

func TestCloseWhileAConnectionIsMade(t *testing.T) {
	t.Parallel()
	var hang atomic.Bool
	dialing := make(chan struct{}, 10)
	pool, err := pgcmd.Connect(t.Context(), pgcmd.Config{URL: pgcmdtest.URL(t), MaxConns: 1, Pgx: func(c *pgxpool.Config) {
		dial := c.ConnConfig.DialFunc
		c.ConnConfig.DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error) {
			if hang.Load() {
				dialing <- struct{}{}
				<-ctx.Done()
				return nil, ctx.Err()
			}
			return dial(ctx, network, addr)
		}
	}})
	require.NoError(t, err)
	hang.Store(true)
	pool.Reset()
	ended := make(chan error, 1)
	go func() {
		_, err := pidOf.Run(context.Background(), pool, struct{}{})
		ended <- err
	}()
	<-dialing
	require.NoError(t, pool.Close(t.Context()))
	e := failsWith(t, <-ended, pgcmd.CodeUnavailable, pgcmd.NotApplied)
	assert.Contains(t, e.Message, "closed")
}

// brittle is a context that panics while it is asked for its end.
type brittle struct {
	context.Context
	asked, panics chan struct{}
}

func (b brittle) Done() <-chan struct{} {
	close(b.asked)
	<-b.panics
	panic("done")
}

func TestAContextThatPanicsInTheQueueLosesNoPlace(t *testing.T) {
	t.Parallel()
	pool := queued(t, pgcmd.Config{MaxConns: 1})
	for _, granted := range []bool{false, true} {
		wait := occupy(t, pool, 0.2)
		ctx := brittle{context.Background(), make(chan struct{}), make(chan struct{})}
		ended := make(chan any, 1)
		go func() {
			defer func() { ended <- recover() }()
			_, _ = pidOf.Run(ctx, pool, struct{}{})
		}()
		<-ctx.asked
		if granted { // its place comes before the panic
			wait()
		}
		close(ctx.panics)
		assert.Equal(t, "done", <-ended)
		if !granted {
			wait()
		}
		soon, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		_, err := pidOf.Run(soon, pool, struct{}{})
		cancel()
		require.NoError(t, err)
	}
}
