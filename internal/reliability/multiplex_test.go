package reliability_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/pgcmd/pgcmd"
	"github.com/pgcmd/pgcmd/internal/faults"
	"github.com/pgcmd/pgcmd/pgcmdtest"
)

// double returns what no other call returns, and that it is one of the server's.
var double = pgcmd.QueryOne[int64, int64]("shared.double", `select 2 * $1::int8`).With(pgcmd.Options{ReadOnly: true})

// doubleOfCaller is double of the number that the caller's context has.
var doubleOfCaller = pgcmd.QueryOne[struct{}, int64]("shared.double_of_caller", `select 2 * current_setting('shared.n')::int8`).With(pgcmd.Options{ReadOnly: true})

type numberKey struct{}

// numberSettings is the Config.Settings of pools whose callers have a number.
func numberSettings(ctx context.Context) ([]pgcmd.Setting, error) {
	n, ok := ctx.Value(numberKey{}).(int64)
	if !ok {
		return nil, nil
	}
	return []pgcmd.Setting{{Name: "shared.n", Value: strconv.FormatInt(n, 10)}}, nil
}

// sharing opens a pool with so many shared connections through a proxy.
func sharing(t *testing.T, database string, conns int) (*faults.Proxy, *pgcmd.Pool) {
	t.Helper()
	proxy, err := faults.Start(database)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, proxy.Close()) })
	pool, err := pgcmd.Connect(t.Context(), pgcmd.Config{URL: proxy.URL(), MaxConns: 2, Multiplex: conns, AcquireTimeout: patience, Settings: numberSettings})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, pool.Close(context.Background())) })
	return proxy, pool
}

// ask lets readers ask so often, by turns with an argument and by a setting, and returns what was answered wrongly.
func ask(pool *pgcmd.Pool, readers, times int, failed func(error) error) error {
	var all errgroup.Group
	for g := range readers {
		all.Go(func() error {
			for i := range times {
				n := int64(g*times + i)
				got, err := int64(0), error(nil)
				if i%2 == 0 {
					got, err = double.Run(context.Background(), pool, n)
				} else {
					got, err = doubleOfCaller.Run(context.WithValue(context.Background(), numberKey{}, n), pool, struct{}{})
				}
				if err != nil {
					if err := failed(err); err != nil {
						return err
					}
				} else if got != 2*n {
					return fmt.Errorf("%d was answered %d", n, got)
				}
			}
			return nil
		})
	}
	return all.Wait()
}

// TestEnumerateFaultsOfSharedReads cuts the connection that reads share at every message: all are answered, each with
// its own answer.
func TestEnumerateFaultsOfSharedReads(t *testing.T) {
	t.Parallel()
	database := pgcmdtest.URL(t)
	step := 1
	if testing.Short() {
		step = 4
	}
	for _, direction := range []faults.Direction{faults.Frontend, faults.Backend} {
		for _, kind := range []int{cutBefore, cutAfter, reset, halfClose} {
			t.Run(fmt.Sprint(actions[kind], direction), func(t *testing.T) {
				t.Parallel()
				proxy, pool := sharing(t, database, 1)
				// On a slow machine the statement runs on connections of its own for a while, and is not run again there.
				failed := func(err error) error {
					if pgcmd.Retryable(err) && pool.Metrics().Pool.Shared.Aside > 0 {
						return nil
					}
					return err
				}
				points, fired := 0, true
				for n := 1; fired; n += step {
					proxy.Set(&faults.Fault{Direction: direction, Message: n, Action: actions[kind]})
					require.NoError(t, ask(pool, 4, 2, failed), "at message %d", n)
					if fired = proxy.Fired() > 0; fired {
						points++
					}
				}
				assert.Greater(t, points, 10/step)
				m := pool.Metrics().Pool.Shared
				assert.Positive(t, m.Reruns)
				assert.Zero(t, m.InFlight+m.Waiting)
			})
		}
	}
}

// TestSharedReadsUnderRandomFaults lets many read while connections are cut all the time. None gets another's answer,
// and what fails says that it was lost.
func TestSharedReadsUnderRandomFaults(t *testing.T) {
	t.Parallel()
	proxy, pool := sharing(t, pgcmdtest.URL(t), 3)
	proxy.Random(0.002, 1, faults.CutBefore, faults.CutAfter, faults.Reset, faults.HalfClose)
	times := 200
	if testing.Short() {
		times = 50
	}
	var lost atomic.Int64
	require.NoError(t, ask(pool, 32, times, func(err error) error {
		lost.Add(1)
		e, ok := errors.AsType[*pgcmd.Error](err)
		if !ok || e.Code != pgcmd.CodeUnavailable || e.Effect != pgcmd.NotApplied {
			return err
		}
		return nil
	}))
	m := pool.Metrics().Pool.Shared
	t.Logf("%d connections were cut, %d reads asked anew, %d of %d lost", proxy.Fired(), m.Reruns, lost.Load(), 32*times)
	assert.Positive(t, m.Reruns)
	assert.Less(t, lost.Load(), int64(32*times/10))
	assert.Zero(t, m.InFlight+m.Waiting)
	proxy.Heal()
	require.NoError(t, ask(pool, 8, 20, func(err error) error { return err }), "when it is over")
}

// TestNoSharedReadFailsWhenBackendsAreKilled kills every shared connection again and again under load, each time that
// all readers have been answered since the last: however slow the machine is to connect, no read meets more than one or
// two kills. The others are left alone: on a busy machine a read can be taken for a slow one and go the ordinary way.
func TestNoSharedReadFailsWhenBackendsAreKilled(t *testing.T) {
	t.Parallel()
	config := pgcmd.Config{URL: pgcmdtest.URL(t), MaxConns: 2, Multiplex: 2, AcquireTimeout: time.Minute, ConnectTimeout: time.Minute, Settings: numberSettings}
	config.Pgx = func(c *pgxpool.Config) {
		c.BeforeConnect = func(_ context.Context, cc *pgx.ConnConfig) error {
			if cc.RuntimeParams["statement_timeout"] != "" { // only those that are shared have one
				cc.RuntimeParams["application_name"] = "shared"
			}
			return nil
		}
	}
	pool, err := pgcmd.Connect(t.Context(), config)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, pool.Close(context.Background())) })
	killer := pgcmdtest.Pool(t)
	var over atomic.Bool
	var answered [16]atomic.Int64
	done := make(chan error, 1)
	go func() {
		var all errgroup.Group
		for g := range answered {
			all.Go(func() error {
				defer over.Store(true)
				for !over.Load() {
					if err := ask(pool, 1, 2, func(err error) error { return err }); err != nil {
						return err
					}
					if answered[g].Add(1)%10 == 0 {
						time.Sleep(time.Millisecond) // for the server to make connections in
					}
				}
				return nil
			})
		}
		done <- all.Wait()
	}()
	enough := int64(30)
	if testing.Short() {
		enough = 6
	}
	var kills int64
	var seen [len(answered)]int64
	for {
		select {
		case err := <-done:
			require.NoError(t, err)
			t.Logf("%d backends killed", kills)
			return
		case <-time.After(10 * time.Millisecond):
		}
		waits := false
		for g := range answered {
			waits = waits || answered[g].Load() == seen[g]
		}
		if waits {
			continue
		}
		var n int64
		require.NoError(t, killer.QueryRow(t.Context(), `select count(pg_terminate_backend(pid)) from pg_stat_activity where datname = $1
			and application_name = 'shared'`, pool.Config().ConnConfig.Database).Scan(&n))
		for g := range answered {
			seen[g] = answered[g].Load()
		}
		kills += n
		if kills >= enough {
			over.Store(true)
		}
	}
}
