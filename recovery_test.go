package pgcmd_test

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgcmd/pgcmd"
	"github.com/pgcmd/pgcmd/internal/faults"
	"github.com/pgcmd/pgcmd/pgcmdtest"
)

const writtenDDL = `
	create table written (n bigint not null);
	create function refuse(state text) returns bigint language plpgsql as $$
	begin
		perform pg_advisory_xact_lock_shared(1);
		raise exception using errcode = state;
	end $$;
	create table refused (state text);
	create function refuse_row() returns trigger language plpgsql as $$ begin perform refuse(new.state); end $$;
	create trigger refuse before insert on refused for each row execute function refuse_row()`

// side runs SQL on a connection of its own, past the pool under test.
func side(t *testing.T, url string) func(sql string, args ...any) {
	t.Helper()
	conn := pgcmdtestConn(t, url)
	return func(sql string, args ...any) {
		t.Helper()
		_, err := conn.Exec(t.Context(), sql, args...)
		require.NoError(t, err)
	}
}

// eventually waits for SQL to be true: a state of the server's, and not a time.
func eventually(t *testing.T, url, sql string, args ...any) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	require.NoError(t, err)
	defer conn.Close(t.Context())
	for ok := false; !ok; {
		require.NoError(t, conn.QueryRow(t.Context(), sql, args...).Scan(&ok), sql)
	}
}

const (
	backends = `select array_agg(pid) from pg_stat_activity where datname = current_database() and application_name = $1`
	killAll  = `select pg_terminate_backend(pid) from unnest($1::int[]) pid`
	allGone  = `select not exists (select from pg_stat_activity where pid = any($1))`
	waiting  = `select count(*) = $1 from pg_stat_activity where datname = current_database() and wait_event = 'advisory'`
)

// backendsOf are the process ids of a pool's connections, by its application name.
func backendsOf(t *testing.T, url, name string) (pids []int32) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	require.NoError(t, err)
	defer conn.Close(t.Context())
	require.NoError(t, conn.QueryRow(t.Context(), backends, name).Scan(&pids))
	return pids
}

// burst runs f from so many goroutines at once, and returns how many failed.
func burst(n int, f func() error) int {
	var failed atomic.Int64
	var all sync.WaitGroup
	start := make(chan struct{})
	for range n {
		all.Go(func() {
			<-start
			if f() != nil {
				failed.Add(1)
			}
		})
	}
	close(start)
	all.Wait()
	return int(failed.Load())
}

func TestConnectionsKilledWhileIdleAreNotHandedOut(t *testing.T) {
	t.Parallel()
	conns, rounds := 16, 20
	if testing.Short() {
		conns, rounds = 6, 2
	}
	ctx, url := t.Context(), pgcmdtest.URL(t, writtenDDL)
	pool, err := pgcmd.Connect(ctx, pgcmd.Config{URL: url, MaxConns: int32(conns), MinConns: int32(conns), AcquireTimeout: -1, ApplicationName: "ours"})
	require.NoError(t, err)
	defer func() { assert.NoError(t, pool.Close(context.Background())) }()
	settings, err := pgxpool.ParseConfig(url)
	require.NoError(t, err)
	settings.MaxConns, settings.MinConns = int32(conns), int32(conns)
	settings.ConnConfig.RuntimeParams["application_name"] = "by hand"
	byHand, err := pgxpool.NewWithConfig(ctx, settings)
	require.NoError(t, err)
	defer byHand.Close()

	sql := side(t, url)
	var ours, theirs int
	for range rounds {
		for name, write := range map[string]func() error{
			"ours":    func() error { return runErr(addOne.Run(ctx, pool, 1)) },
			"by hand": func() error { _, err := byHand.Exec(ctx, `insert into written values (1)`); return err },
		} {
			burst(conns, write) // warm, again
			pids := backendsOf(t, url, name)
			sql(killAll, pids)
			eventually(t, url, allGone, pids)
			if failed := burst(conns, write); name == "ours" {
				ours += failed
			} else {
				theirs += failed
			}
		}
	}
	assert.Zero(t, ours, "writes failed")
	t.Logf("of %d writes right after all backends were killed failed: ours %d, a pgxpool %d", conns*rounds, ours, theirs)
}

func TestABlackHoleIsForgottenOnceItHeals(t *testing.T) {
	t.Parallel()
	const conns = 4
	ctx := t.Context()
	proxy, err := faults.Start(pgcmdtest.URL(t, writtenDDL))
	require.NoError(t, err)
	defer proxy.Close()
	pool, err := pgcmd.Connect(ctx, pgcmd.Config{URL: proxy.URL(), MaxConns: conns, MinConns: conns, AcquireTimeout: -1})
	require.NoError(t, err)
	for _, cmd := range []*pgcmd.Command[int64, int64]{
		addOne,
		pgcmd.Transaction("written.tx", func(ctx context.Context, tx *pgcmd.Tx, n int64) (int64, error) { return addOne.Run(ctx, tx, n) }),
	} {
		proxy.Random(1, 1, faults.BlackHole)
		failed := burst(2*conns, func() error {
			ctx, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
			defer cancel()
			_, err := cmd.Run(ctx, pool, 1)
			return err
		})
		assert.Equal(t, 2*conns, failed, "%v: nothing gets through a black hole", cmd)
		proxy.Set(nil)                                             // new connections work, the old stay silent
		healed, cancel := context.WithTimeout(ctx, 10*time.Second) // a pgxpool keeps their places for 15 s
		assert.Zero(t, burst(2*conns, func() error { return runErr(cmd.Run(healed, pool, 2)) }), "%v", cmd)
		cancel()
	}
	idle(t, pool.Pool)
	require.NoError(t, pool.Close(ctx))
}

// All connections of a pool meet the same failure at once.
func TestAPoolIsMadeAnewOnceForEachFailureOfItsServer(t *testing.T) {
	t.Parallel()
	conns := 8
	if testing.Short() {
		conns = 4
	}
	ctx, url := t.Context(), pgcmdtest.URL(t, writtenDDL)
	sql := side(t, url)
	refuse := pgcmd.QueryOne[string, int64]("refuse", `select refuse($1)`)
	inTx := pgcmd.Transaction("refuse.tx", func(ctx context.Context, tx *pgcmd.Tx, state string) (int64, error) {
		return refuse.Run(ctx, tx, state)
	})
	each := pgcmd.Batch(refuse, pgcmd.Independent)
	batch := pgcmd.New("refuse.batch", func(ctx context.Context, db pgcmd.DB, state string) (int64, error) {
		result, err := each.Run(ctx, db, []string{state})
		return 0, errors.Join(err, result.Err())
	})
	type row struct{ State string }
	rows := pgcmd.Copy[row]("refuse.rows", pgx.Identifier{"refused"})
	copied := pgcmd.New("refuse.copy", func(ctx context.Context, db pgcmd.DB, state string) (int64, error) {
		return rows.Run(ctx, db, pgcmd.Rows([]row{{state}}))
	})
	for _, c := range []struct {
		what, state string
		cmd         *pgcmd.Command[string, int64]
		then        string
		resets      int64
	}{
		{"a server that has become read-only", "25006", refuse, "", 1},
		{"the same in transactions", "25006", inTx, "", 1},
		{"the same in batches", "25006", batch, "", 1},
		{"the same in copies", "25006", copied, "", 1},
		{"a server that goes away", "22012", refuse, killAll, 1},
		{"the same in transactions", "22012", inTx, killAll, 1},
		{"the same in batches", "22012", batch, killAll, 1},
		{"the same in copies", "22012", copied, killAll, 1},
		{"a refusal of one statement", "22012", refuse, "", 0},
	} {
		pool, err := pgcmd.Connect(ctx, pgcmd.Config{URL: url, MaxConns: int32(conns), MinConns: int32(conns), ApplicationName: "epoch"})
		require.NoError(t, err)
		sql(`select pg_advisory_lock(1)`)
		var failed int
		done := make(chan struct{})
		go func() {
			defer close(done)
			failed = burst(conns, func() error { return runErr(c.cmd.Run(ctx, pool, c.state)) })
		}()
		eventually(t, url, waiting, conns)
		if c.then != "" {
			sql(c.then, backendsOf(t, url, "epoch"))
		}
		sql(`select pg_advisory_unlock(1)`)
		<-done
		assert.Equal(t, conns, failed, c.what)
		assert.EqualValues(t, c.resets, pool.Metrics().Pool.Resets, c.what)
		assert.NoError(t, runErr(addOne.Run(ctx, pool, 1)), c.what)
		require.NoError(t, pool.Close(ctx))
	}
}

// A server that takes no writes, and the only one there is: making all connections
// anew for every write would help nobody.
func TestAServerThatStaysReadOnlyIsNotStormed(t *testing.T) {
	t.Parallel()
	ctx, url := t.Context(), pgcmdtest.URL(t, writtenDDL)
	pool, err := pgcmd.Connect(ctx, pgcmd.Config{URL: url, MaxConns: 4, MinConns: 4, Pgx: func(c *pgxpool.Config) {
		c.ConnConfig.RuntimeParams["default_transaction_read_only"] = "on"
	}})
	require.NoError(t, err)
	defer func() { assert.NoError(t, pool.Close(context.Background())) }()
	writes := 100 // each takes a connection
	if testing.Short() {
		writes = 20
	}
	start := time.Now()
	for range writes {
		e := failure(t, runErr(addOne.Run(ctx, pool, 1)))
		assert.Equal(t, "25006", e.SQLState)
		assert.Equal(t, pgcmd.NotApplied, e.Effect)
	}
	assert.LessOrEqual(t, pool.Metrics().Pool.Resets, 1+int64(time.Since(start)/time.Second))
}

var writeWhere = pgcmd.QueryOne[int64, string]("written.where", `insert into written values ($1) returning current_setting('data_directory')`)

// The primary is fenced off, as by a failover manager: it lives, and is read-only.
func TestWritesLeaveADemotedServer(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	c := startCluster(t)
	hosts, err := severalHosts(c.url, c.replicas[0])
	require.NoError(t, err)
	pool, err := pgcmd.Connect(ctx, pgcmd.Config{URL: hosts, MaxConns: 8, MinConns: 8, AcquireTimeout: -1})
	require.NoError(t, err)
	defer func() { assert.NoError(t, pool.Close(context.Background())) }()
	write := writeWhere.With(pgcmd.Options{Timeout: 30 * time.Second, Retry: pgcmd.Retry{Attempts: 5}})
	before, err := write.Run(ctx, pool, 1)
	require.NoError(t, err)

	require.NoError(t, c.a.Promote(ctx))
	sql := side(t, c.primary.URL())
	sql(`alter system set default_transaction_read_only = on`)
	sql(`select pg_reload_conf()`)
	var moved atomic.Int64
	require.Eventually(t, func() bool {
		moved.Store(0)
		assert.Zero(t, burst(8, func() error {
			where, err := write.Run(ctx, pool, 2)
			if where != before {
				moved.Add(1)
			}
			return err
		}), "writes failed")
		return moved.Load() == 8
	}, 30*time.Second, time.Millisecond)
	assert.EqualValues(t, 1, pool.Metrics().Pool.Resets)
}

func TestARestartUnderLoad(t *testing.T) {
	t.Parallel()
	for name, mode := range map[string]pgcmdtest.Mode{"fast": pgcmdtest.Fast, "immediate": pgcmdtest.Immediate} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx := t.Context()
			server, err := pgcmdtest.Start(ctx)
			require.NoError(t, err)
			t.Cleanup(func() { _ = server.Close() })
			url, err := server.Database(ctx, writtenDDL)
			require.NoError(t, err)
			pool, err := pgcmd.Connect(ctx, pgcmd.Config{URL: url, MaxConns: 8})
			require.NoError(t, err)
			defer func() { assert.NoError(t, pool.Close(context.Background())) }()
			write := addOne.With(pgcmd.Options{Timeout: 20 * time.Second, Retry: pgcmd.Retry{Attempts: 4}})

			var next, restarted atomic.Int64
			var mu sync.Mutex
			told := map[int64]error{}
			var workers sync.WaitGroup
			for range 8 {
				workers.Go(func() {
					for after := 0; after < 20; {
						again, n := restarted.Load() == 1, next.Add(1)
						_, err := write.Run(ctx, pool, n)
						mu.Lock()
						told[n] = err
						mu.Unlock()
						if again && err == nil {
							after++ // it recovers, or the test does not end
						}
					}
				})
			}
			require.Eventually(t, func() bool { return next.Load() > 500 }, 30*time.Second, time.Millisecond)
			require.NoError(t, server.Restart(ctx, mode))
			restarted.Store(1)
			workers.Wait()

			there := map[int64]int{}
			rows, err := pgcmd.Query[struct{}, int64]("written.all", `select n from written`).Run(ctx, pool, struct{}{})
			require.NoError(t, err)
			for _, n := range rows {
				there[n]++
			}
			var unknown, notApplied int
			for n, err := range told {
				switch pgcmd.EffectOf(err) {
				case pgcmd.Applied:
					assert.Equal(t, 1, there[n], "acknowledged")
				case pgcmd.NotApplied:
					notApplied++
					assert.Zero(t, there[n], "told not applied: %v", err)
				default:
					unknown++
					assert.LessOrEqual(t, there[n], 1, "unknown: %v", err)
				}
			}
			t.Logf("%d writes, %d told not applied, %d unknown", len(told), notApplied, unknown)
		})
	}
}

// Somebody can end a connection that has not been given to anybody yet.
func TestAConnectionThatIsEndedWhileItIsMadeIsMadeAnew(t *testing.T) {
	t.Parallel()
	for _, multiplex := range []int{0, 1} {
		var made atomic.Int32
		pool, err := pgcmd.Connect(t.Context(), pgcmd.Config{URL: pgcmdtest.URL(t), MaxConns: 1, Multiplex: multiplex, Pgx: func(c *pgxpool.Config) {
			c.AfterConnect = func(ctx context.Context, conn *pgx.Conn) error {
				if made.Add(1) > 2 {
					return nil
				}
				_, err := conn.Exec(ctx, `select pg_terminate_backend(pg_backend_pid())`)
				return err
			}
		}})
		require.NoError(t, err)
		assert.NoError(t, runErr(echoShared.Run(t.Context(), pool, 1)))
		assert.EqualValues(t, 3+multiplex, made.Load())
		require.NoError(t, pool.Close(context.Background()))
	}
}

// A server that starts up answers 57P03 to every connection.
func TestAServerThatStartsUpIsWaitedFor(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	url := pgcmdtest.URL(t, writtenDDL)
	door := startingServer(t, url)
	door.refuse.Store(3)
	pool, err := pgcmd.Connect(ctx, pgcmd.Config{URL: door.url, MaxConns: 4, MinConns: 2})
	require.NoError(t, err)
	defer func() { assert.NoError(t, pool.Close(context.Background())) }()
	assert.Negative(t, door.refuse.Load(), "it was asked again")

	door.refuse.Store(3)
	pool.Reset()
	assert.NoError(t, runErr(addOne.Run(ctx, pool, 1)), "without Retry: nothing was sent")
	door.refuse.Store(1 << 40)
	pool.Reset()
	short, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancel()
	e := failure(t, runErr(addOne.Run(short, pool, 1)))
	assert.Equal(t, pgcmd.NotApplied, e.Effect)
	assert.Contains(t, []pgcmd.Code{pgcmd.CodeUnavailable, pgcmd.CodeExhausted, pgcmd.CodeTimeout}, e.Code)
}

// A door is before a server, and says that it starts up to the next so many clients.
type door struct {
	url    string
	refuse atomic.Int64
}

func startingServer(t *testing.T, url string) *door {
	t.Helper()
	config, err := pgconn.ParseConfig(url)
	require.NoError(t, err)
	network, address := pgconn.NetworkAddress(config.Host, config.Port)
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	require.NoError(t, err)
	d := &door{url: "postgres://" + config.User + "@" + listener.Addr().String() + "/" + config.Database + "?sslmode=disable"}
	refusal, err := (&pgproto3.ErrorResponse{Severity: "FATAL", SeverityUnlocalized: "FATAL", Code: "57P03", Message: "the database system is starting up"}).Encode(nil)
	require.NoError(t, err)
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer client.Close()
				if d.refuse.Add(-1) >= 0 {
					_, _ = pgproto3.NewBackend(client, client).ReceiveStartupMessage()
					_, _ = client.Write(refusal)
					return
				}
				server, err := net.Dial(network, address)
				if err != nil {
					return
				}
				go func() { defer server.Close(); _, _ = io.Copy(server, client) }()
				_, _ = io.Copy(client, server)
			}()
		}
	}()
	return d
}

// Nothing that a pool of ours does is left when it is closed, faults or not.
func TestNothingIsLeakedUnderFaults(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	proxy, err := faults.Start(pgcmdtest.URL(t, writtenDDL))
	require.NoError(t, err)
	defer proxy.Close()
	pool, err := pgcmd.Connect(ctx, pgcmd.Config{URL: proxy.URL(), MaxConns: 5})
	require.NoError(t, err)
	proxy.Random(0.02, 7, faults.CutBefore, faults.CutAfter, faults.Reset, faults.HalfClose)
	runs := 500
	if testing.Short() {
		runs = 200
	}
	burst(runs, func() error { return runErr(addOne.Run(ctx, pool, 1)) })
	assert.Positive(t, proxy.Fired())
	proxy.Heal()
	idle(t, pool.Pool)
	assert.NoError(t, runErr(addOne.Run(ctx, pool, 1)))
	for _, c := range pool.Metrics().Commands {
		assert.Zero(t, c.InFlight)
	}
	require.NoError(t, pool.Close(ctx))
}
