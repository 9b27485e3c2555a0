package faults_test

import (
	"bytes"
	"context"
	"errors"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/pgcmd/pgcmd/internal/faults"
	"github.com/pgcmd/pgcmd/pgcmdtest"
)

func TestAClientWorksThroughTheProxyUnharmed(t *testing.T) {
	t.Parallel()
	proxy, direct := start(t, "create table items (id int primary key, body text)")
	for name, latency := range map[string]time.Duration{"at once": 0, "late": time.Millisecond} {
		t.Run(name, func(t *testing.T) {
			proxy.Latency(latency)
			ctx, conn := within(t, patience), connect(t, proxy.URL())
			_, err := conn.Exec(ctx, "truncate items")
			require.NoError(t, err)

			var batch pgx.Batch
			for id := range 1000 {
				batch.Queue("insert into items values ($1, $2)", id, "x")
			}
			require.NoError(t, conn.SendBatch(ctx, &batch).Close())

			n, err := conn.CopyFrom(ctx, pgx.Identifier{"items"}, []string{"id", "body"},
				pgx.CopyFromSlice(10_000, func(i int) ([]any, error) { return []any{1000 + i, "y"}, nil }))
			require.NoError(t, err)
			assert.EqualValues(t, 10_000, n)

			var out bytes.Buffer
			tag, err := conn.PgConn().CopyTo(ctx, &out, "copy items to stdout")
			require.NoError(t, err)
			assert.EqualValues(t, 11_000, tag.RowsAffected())
			assert.Equal(t, 11_000, strings.Count(out.String(), "\n"))

			large := strings.Repeat("z", 1<<20)
			for range 3 {
				assert.Equal(t, large+"!", value[string](t, conn, "select $1 || '!'", large))
			}
			_, err = conn.Exec(ctx, "select 1/0")
			require.ErrorContains(t, err, "22012")
			assert.EqualValues(t, 11_000, value[int64](t, conn, "select count(*) from items"))
			_, err = conn.Exec(ctx, "select pg_terminate_backend(pg_backend_pid())")
			require.ErrorContains(t, err, "57P01", "the server's last words arrive")
		})
	}
	assert.EqualValues(t, 11_000, value[int64](t, connect(t, direct), "select count(*) from items"))
}

func TestAPoolWorksThroughTheProxy(t *testing.T) {
	t.Parallel()
	proxy, _ := start(t, "create table counter as select 0 as n")
	config, err := pgxpool.ParseConfig(proxy.URL())
	require.NoError(t, err)
	config.MaxConns = 10
	ctx := within(t, patience)
	pool, err := pgxpool.NewWithConfig(ctx, config)
	require.NoError(t, err)
	defer pool.Close()

	var group errgroup.Group
	for i := range 100 {
		group.Go(func() error {
			for range 5 {
				switch i % 10 { // plans change at any time
				case 0:
					proxy.Set(&faults.Fault{Message: 1 << 30})
				case 1:
					proxy.Heal()
					_, _ = proxy.Log(), proxy.Counts()
				}
				if _, err := pool.Exec(ctx, "update counter set n = n + $1", 1); err != nil {
					return err
				}
			}
			return nil
		})
	}
	require.NoError(t, group.Wait())
	var n int
	require.NoError(t, pool.QueryRow(ctx, "select n from counter").Scan(&n))
	assert.Equal(t, 500, n)
}

func TestACancelRequestReachesTheServer(t *testing.T) {
	t.Parallel()
	proxy, direct := start(t)
	conn, watch := connect(t, proxy.URL()), connect(t, direct)
	pid := conn.PgConn().PID()
	failed := make(chan error, 1)
	go func() {
		_, err := conn.Exec(within(t, patience), "select pg_sleep(60)")
		failed <- err
	}()
	require.Eventually(t, func() bool {
		return value[int](t, watch, "select count(*) from pg_stat_activity where pid = $1 and wait_event = 'PgSleep'", pid) == 1
	}, patience, 10*time.Millisecond)
	require.NoError(t, conn.PgConn().CancelRequest(within(t, patience)))
	require.ErrorContains(t, <-failed, "57014")
	assert.Equal(t, 1, value[int](t, conn, "select 1"))
	assert.EqualValues(t, 1, proxy.Counts().Connections)
	assert.EqualValues(t, 1, proxy.Counts().Cancels)
}

func TestTheURLKeepsTheUserTheDatabaseAndTheSettings(t *testing.T) {
	t.Parallel()
	proxy, err := faults.Start("postgres://me:p%2Fw@db.example:6000/shop?search_path=a,b&sslmode=disable")
	require.NoError(t, err)
	defer proxy.Close()
	for url, database := range map[string]string{proxy.URL(): "shop", proxy.URL("a b"): "a b"} {
		config, err := pgconn.ParseConfig(url)
		require.NoError(t, err)
		assert.Equal(t, []string{"127.0.0.1", "me", "p/w", database, "a,b"},
			[]string{config.Host, config.User, config.Password, config.Database, config.RuntimeParams["search_path"]})
		assert.Nil(t, config.TLSConfig)
	}
}

func TestAClientThatAsksForTLSIsToldThatThereIsNone(t *testing.T) {
	t.Parallel()
	proxy, _ := start(t)
	url := strings.Replace(proxy.URL(), "sslmode=disable", "sslmode=", 1)
	assert.Equal(t, 1, value[int](t, connect(t, url+"prefer"), "select 1"))
	_, err := pgx.Connect(within(t, patience), url+"require")
	require.ErrorContains(t, err, "refused TLS")
}

func TestAServerThatCannotBeReachedIsAClosedConnection(t *testing.T) {
	t.Parallel()
	proxy, err := faults.Start("postgres:///x?host=/nowhere&user=x")
	require.NoError(t, err)
	_, err = pgx.Connect(within(t, patience), proxy.URL())
	require.Error(t, err)
	require.NoError(t, proxy.Close())
	_, err = pgx.Connect(within(t, patience), proxy.URL())
	require.Error(t, err)
	require.NoError(t, proxy.Close())

	_, err = faults.Start("postgres://%")
	require.ErrorContains(t, err, "faults: ")
}

func TestAServerOnTCPWorksToo(t *testing.T) {
	t.Parallel()
	server, err := pgcmdtest.Start(within(t, time.Minute), pgcmdtest.WithTCP())
	require.NoError(t, err)
	defer server.Close()
	proxy, err := faults.Start(server.URL())
	require.NoError(t, err)
	defer proxy.Close()

	conn := connect(t, proxy.URL())
	assert.Equal(t, 1, value[int](t, conn, "select 1"))
	proxy.Set(&faults.Fault{Action: faults.Reset})
	_, err = conn.Exec(within(t, patience), "select 1")
	require.Error(t, err)

	conn = connect(t, proxy.URL())
	require.NoError(t, server.Stop(within(t, patience), pgcmdtest.Fast))
	_, err = conn.Exec(within(t, patience), "select 1")
	require.ErrorContains(t, err, "57P01", "the server's last words arrive")
}

func TestCloseEndsWhatIsUnderWay(t *testing.T) {
	t.Parallel()
	proxy, _ := start(t)
	silent, err := net.Dial("tcp", strings.Split(strings.Split(proxy.URL(), "@")[1], "/")[0])
	require.NoError(t, err)
	defer silent.Close()
	lost, sleeper := connect(t, proxy.URL()), connect(t, proxy.URL())
	proxy.Set(&faults.Fault{Action: faults.BlackHole})
	_, err = lost.Exec(untilFired(t, proxy, 1), "select 1")
	require.ErrorIs(t, err, context.Canceled)

	sent := proxy.Counts().Frontend
	var running sync.WaitGroup
	running.Go(func() {
		_, err := sleeper.Exec(context.Background(), "select pg_sleep(60)")
		assert.Error(t, err)
	})
	require.Eventually(t, func() bool { return proxy.Counts().Frontend > sent }, patience, time.Millisecond)
	require.NoError(t, proxy.Close())
	running.Wait()
}

func TestASequenceIsCountedExactly(t *testing.T) {
	t.Parallel()
	proxy, _ := start(t, "create table items (id int)")
	conn := connect(t, proxy.URL())
	insert := func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, "insert into items values ($1)", 1)
		return err
	}
	for _, step := range []struct {
		name string
		do   func(ctx context.Context) error
		want faults.Counts
		log  string
	}{
		{"a transaction with an unknown statement",
			func(ctx context.Context) error {
				return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error { return insert(ctx, tx) })
			},
			faults.Counts{Frontend: 9, Backend: 12, RoundTrips: 4}, ">Q <CZ >PDS <1tnZ >BDES <2nCZ >Q <CZ"},
		{"a transaction with a prepared statement",
			func(ctx context.Context) error {
				return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error { return insert(ctx, tx) })
			},
			faults.Counts{Frontend: 6, Backend: 8, RoundTrips: 3}, ">Q <CZ >BDES <2nCZ >Q <CZ"},
		{"a batch",
			func(ctx context.Context) error {
				var batch pgx.Batch
				for range 3 {
					batch.Queue("insert into items values ($1)", 1)
				}
				return conn.SendBatch(ctx, &batch).Close()
			},
			faults.Counts{Frontend: 10, Backend: 10, RoundTrips: 1}, ">BDEBDEBDES <2nC2nC2nCZ"},
		{"rows",
			func(ctx context.Context) error {
				_, err := conn.Exec(ctx, "select generate_series(1, 50)")
				return err
			},
			faults.Counts{Frontend: 1, Backend: 53, RoundTrips: 1}, ">Q <TD*50CZ"},
		{"copy from",
			func(ctx context.Context) error {
				_, err := conn.PgConn().CopyFrom(ctx, strings.NewReader("1\n2\n"), "copy items from stdin")
				return err
			},
			faults.Counts{Frontend: 3, Backend: 3, RoundTrips: 1}, ""}, // pgx does not wait for the G
		{"a flush, and a sync behind its answer",
			func(ctx context.Context) error {
				pipeline := conn.PgConn().StartPipeline(ctx)
				pipeline.SendPrepare("p", "select 1", nil)
				pipeline.SendFlushRequest()
				err := pipeline.Flush()
				if err == nil {
					_, err = pipeline.GetResults()
				}
				return errors.Join(err, pipeline.Sync(), pipeline.Close())
			},
			faults.Counts{Frontend: 4, Backend: 4, RoundTrips: 2}, ">PDH <1tT >S <Z"},
		{"an error",
			func(ctx context.Context) error {
				if _, err := conn.Exec(ctx, "select 1/0"); err == nil {
					return errors.New("no error")
				}
				return nil
			},
			faults.Counts{Frontend: 1, Backend: 2, RoundTrips: 1}, ">Q <EZ"},
		{"a connection",
			func(ctx context.Context) error {
				other, err := pgx.Connect(ctx, proxy.URL())
				if err != nil {
					return err
				}
				return other.Close(ctx)
			},
			faults.Counts{Connections: 1, Frontend: 1}, ""}, // on a line of its own
	} {
		logged := proxy.Log()[0]
		proxy.ResetCounts()
		require.NoError(t, step.do(within(t, patience)), step.name)
		require.Eventually(t, func() bool { return proxy.Counts() == step.want }, patience, time.Millisecond,
			"%s: %+v, want %+v", step.name, proxy.Counts(), step.want)
		if step.log == "" {
			continue
		}
		assert.Equal(t, step.log, strings.TrimSpace(strings.TrimPrefix(proxy.Log()[0], logged)), step.name)
	}
}

// A pipeline under latency is one round trip only if no message waits for the one ahead.
func TestLatencyIsPaidOncePerRoundTrip(t *testing.T) {
	t.Parallel()
	const latency = 200 * time.Millisecond
	proxy, _ := start(t)
	conn := connect(t, proxy.URL())
	proxy.Latency(latency)
	proxy.ResetCounts()
	began := time.Now()
	pipeline := conn.PgConn().StartPipeline(within(t, patience))
	for range 50 {
		pipeline.SendQueryParams("select 1", nil, nil, nil, nil)
		require.NoError(t, pipeline.Sync()) // which sends
	}
	require.NoError(t, pipeline.Close())
	assert.GreaterOrEqual(t, time.Since(began), latency)
	assert.Less(t, time.Since(began), 10*latency, "late once, not 50 times")
	assert.EqualValues(t, 1, proxy.Counts().RoundTrips)
	assert.EqualValues(t, 250, proxy.Counts().Frontend)

	proxy.Latency(0)
	assert.Equal(t, 1, value[int](t, conn, "select 1"))
}

// An answer that is still on its way cannot be what the client waited for.
func TestWhatIsSentAheadOfAnAnswerIsNoRoundTrip(t *testing.T) {
	t.Parallel()
	proxy, _ := start(t)
	conn := connect(t, proxy.URL())
	proxy.Latency(time.Second)
	proxy.ResetCounts()
	pipeline := conn.PgConn().StartPipeline(within(t, patience))
	require.NoError(t, pipeline.Sync())
	require.Eventually(t, func() bool { return proxy.Counts().Backend == 1 }, patience, time.Millisecond)
	require.NoError(t, pipeline.Sync()) // half a second before the answer
	require.NoError(t, pipeline.Close())
	assert.EqualValues(t, 1, proxy.Counts().RoundTrips)
}

func TestTheLogKeepsTheLatest(t *testing.T) {
	t.Parallel()
	proxy, _ := start(t)
	conn := connect(t, proxy.URL())
	for range 100 {
		assert.Equal(t, "x", value[string](t, conn, "select 'x'"))
	}
	log := proxy.Log()
	require.Len(t, log, 1)
	assert.Regexp(t, `^#1: \.\.\. .*>BES <2DCZ$`, log[0])
	proxy.ResetCounts()
	for i := range 65 {
		connect(t, proxy.URL()).Close(within(t, patience))
		require.Eventually(t, func() bool { return proxy.Counts().Frontend == int64(i+1) }, patience, time.Millisecond)
	}
	log = proxy.Log()
	require.Len(t, log, 64)
	assert.Equal(t, "#3: >X", log[0])
	assert.Equal(t, "#66: >X", log[63])
}
