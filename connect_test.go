package pgcmd_test

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/pgcmd/pgcmd"
	"github.com/pgcmd/pgcmd/pgcmdtest"
	"github.com/pgcmd/pgcmd/pgcmdweb"
)

var one = pgcmd.QueryOne[struct{}, int]("one", `select 1`).With(pgcmd.Options{ReadOnly: true})

const hiddenPassword = "hun ter2"

func TestConnectReportsEveryProblemAtOnce(t *testing.T) {
	t.Parallel()
	_, err := pgcmd.Connect(t.Context(), pgcmd.Config{
		URL: "postgres://u@localhost/d", Host: "h", MaxConns: 2, MinConns: 3, StatementTimeout: time.Microsecond,
		LockTimeout: -1, MaxReplicaLag: -1, Replicas: []string{"::", "postgres://u:p@example.com/d?sslmode=require"}, Middleware: []pgcmd.Middleware{nil},
	})
	e := failure(t, err)
	assert.Equal(t, pgcmd.CodeInvalid, e.Code)
	var fields []string
	for _, p := range e.Problems {
		fields = append(fields, p.Field)
	}
	assert.Equal(t, []string{"URL", "LockTimeout", "MaxReplicaLag", "MinConns", "StatementTimeout", "Replicas[0]", "Replicas[1]", "Middleware[0]"}, fields)
}

func TestConnectRefusesWhatIsNotSafe(t *testing.T) {
	t.Parallel()
	for url, ok := range map[string]bool{
		"postgres://u@example.invalid/d?sslmode=require":           false,
		"postgres://u@example.invalid/d?sslmode=disable":           false,
		"postgres://u@example.invalid/d?sslmode=prefer":            false,
		"postgres://u@example.invalid/d?sslmode=verify-full":       true,
		"postgres://u@example.invalid/d":                           true, // gets verify-full
		"host=example.invalid user=u":                              true,
		"postgres://u@127.0.0.1:1/d?sslmode=disable":               true,
		"postgres://u@localhost:1,example.invalid/d?sslmode=allow": false,
	} {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		_, err := pgcmd.Connect(ctx, pgcmd.Config{URL: url})
		cancel()
		e := failure(t, err)
		assert.Equal(t, ok, e.Code != pgcmd.CodeInvalid, "%s: %v", url, e)
		if !ok {
			assert.Contains(t, e.Error(), "use sslmode=verify-full, or set AllowInsecure")
			_, err = pgcmd.Connect(t.Context(), pgcmd.Config{URL: url, AllowInsecure: true, ConnectTimeout: time.Second})
			assert.NotEqual(t, pgcmd.CodeInvalid, pgcmd.CodeOf(err), url)
		}
	}
}

func TestConnectSaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	server := pgcmdtest.Pool(t).Config().ConnConfig
	full, err := pgcmdtest.Start(t.Context(), pgcmdtest.WithSetting("max_connections", "3"), pgcmdtest.WithSetting("superuser_reserved_connections", "0"), pgcmdtest.WithSetting("max_wal_senders", "0"))
	require.NoError(t, err)
	t.Cleanup(func() { full.Close() })
	for range 3 {
		require.Eventually(t, func() bool { // the server may not have ended the one that found it ready
			conn, err := pgx.Connect(t.Context(), full.URL())
			if err == nil {
				t.Cleanup(func() { conn.Close(context.Background()) })
			}
			return err == nil
		}, time.Minute, 10*time.Millisecond)
	}
	expired := httptest.NewUnstartedServer(http.NotFoundHandler())
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	closed.Close()
	_ = expired
	for _, c := range []struct {
		what   string
		config pgcmd.Config
		code   pgcmd.Code
		fix    string
	}{
		{"no database", pgcmd.Config{URL: strings.Replace(pgcmdtest.URL(t), "/test_", "/none_", 1) + "_x"}, pgcmd.CodeInvalid, "database"},
		{"an unknown host", pgcmd.Config{URL: "postgres://u:" + "secret@no-such-host.invalid/d"}, pgcmd.CodeUnavailable, "the host's name cannot be resolved"},
		{"port 0", pgcmd.Config{URL: "postgres://u:secret@localhost:0/d"}, pgcmd.CodeInvalid, "cannot be parsed"},
		{"nobody listens", pgcmd.Config{URL: "postgres://u:secret@" + closed.Addr().String() + "/d"}, pgcmd.CodeUnavailable, "is the server running"},
		{"a full server", pgcmd.Config{URL: full.URL()}, pgcmd.CodeUnavailable, "the server has no connection left"},
		{"no address", pgcmd.Config{}, pgcmd.CodeInvalid, "is empty, and so is Host"},
	} {
		_, err := pgcmd.Connect(t.Context(), c.config)
		e := failure(t, err)
		assert.NotContains(t, fmt.Sprintf("%v %+v %#v", e, e, e), "secret", c.what)
		if c.what != "no database" {
			assert.Equal(t, c.code, e.Code, "%s: %v", c.what, e)
			assert.Contains(t, e.Error(), c.fix, c.what)
		}
		assert.Equal(t, pgcmd.NotApplied, e.Effect)
		assert.Equal(t, "pgcmd.Connect", e.Command)
	}
	_, err = pgcmd.Connect(t.Context(), pgcmd.Config{Host: server.Host, Port: server.Port, User: server.User, Database: "no_such_database"})
	e := failure(t, err)
	assert.Equal(t, "3D000", e.SQLState)
	assert.Contains(t, e.Message, "the database does not exist")
}

func TestNothingShowsThePassword(t *testing.T) {
	t.Parallel()
	cfg := pgcmd.Config{Host: "127.0.0.1", Port: 1, User: "u", Password: hiddenPassword}
	text, err := json.Marshal(cfg)
	require.NoError(t, err)
	assert.NotContains(t, fmt.Sprintf("%v %+v %#v %s", cfg, cfg, &cfg, text), "hun")
	_, err = pgcmd.Connect(t.Context(), cfg)
	var ce *pgconn.ConnectError
	require.ErrorAs(t, err, &ce)
	assert.Empty(t, ce.Config.Password)
	assert.NotContains(t, fmt.Sprintf("%v %+v %#v %+v", err, err, err, *ce.Config), "hun")
	core, logs := observer.New(zapcore.DebugLevel)
	pool, err := pgcmd.Connect(t.Context(), pgcmd.Config{URL: pgcmdtest.URL(t), Password: hiddenPassword, Logger: zap.New(core)})
	require.NoError(t, err)
	defer pool.Close(t.Context())
	assert.NotContains(t, fmt.Sprintf("%+v %#v", pool.Health(t.Context()), pool.Metrics()), "hun")
	for _, l := range logs.All() {
		assert.NotContains(t, fmt.Sprint(l), "hun")
	}
}

func TestAnExpiredCertificate(t *testing.T) {
	t.Parallel()
	// What the client makes of a server whose certificate is not valid: the handshake is enough.
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer listener.Close()
	certificate := expiredCertificate(t)
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				_, _ = conn.Read(make([]byte, 8)) // SSLRequest
				_, _ = conn.Write([]byte("S"))
				_ = tls.Server(conn, &tls.Config{Certificates: []tls.Certificate{certificate}}).Handshake()
			}()
		}
	}()
	_, err = pgcmd.Connect(t.Context(), pgcmd.Config{URL: "postgres://u:secret@" + listener.Addr().String() + "/d?sslmode=verify-full", ConnectTimeout: time.Minute})
	e := failure(t, err)
	assert.Equal(t, pgcmd.CodeUnavailable, e.Code)
	assert.Contains(t, e.Message, "the server's certificate is not valid")
	assert.False(t, pgcmd.Retryable(err))
}

func TestConnectWarmsThePool(t *testing.T) {
	t.Parallel()
	core, logs := observer.New(zapcore.DebugLevel)
	pool, err := pgcmd.Connect(t.Context(), pgcmd.Config{URL: pgcmdtest.URL(t), MinConns: 5, MaxConns: 8, ApplicationName: "warm",
		StatementTimeout: 7 * time.Second, LockTimeout: 3 * time.Second, IdleInTxTimeout: 9 * time.Second, Logger: zap.New(core)})
	require.NoError(t, err)
	defer pool.Close(t.Context())
	assert.GreaterOrEqual(t, pool.Stat().TotalConns(), int32(5))
	settings := pgcmd.QueryOne[struct{}, struct{ App, Statement, Lock, Idle string }]("settings", `select current_setting('application_name') app,
		current_setting('statement_timeout') statement, current_setting('lock_timeout') "lock", current_setting('idle_in_transaction_session_timeout') idle`)
	got, err := settings.Run(t.Context(), pool, struct{}{})
	require.NoError(t, err)
	assert.Equal(t, struct{ App, Statement, Lock, Idle string }{"warm", "7s", "3s", "9s"}, got)
	line := logs.FilterMessage("the pool is connected").All()
	require.Len(t, line, 1)
	assert.Positive(t, line[0].ContextMap()["elapsed"])
}

func TestAPoolThatIsFullSaysWhoHoldsIt(t *testing.T) {
	t.Parallel()
	pool, err := pgcmd.Connect(t.Context(), pgcmd.Config{URL: pgcmdtest.URL(t), MaxConns: 2, MinConns: 2, AcquireTimeout: 50 * time.Millisecond})
	require.NoError(t, err)
	defer pool.Close(t.Context())
	started, stop := make(chan bool), make(chan bool)
	hog := pgcmd.Transaction("orders.hog", func(ctx context.Context, tx *pgcmd.Tx, _ struct{}) (int, error) {
		if _, err := tx.Exec(ctx, "select 1"); err != nil {
			return 0, err
		}
		started <- true
		<-stop
		return 0, nil
	})
	for range 2 {
		go func() { _, _ = hog.Run(context.Background(), pool, struct{}{}) }()
		<-started
	}
	_, err = one.Run(t.Context(), pool, struct{}{})
	e := failure(t, err)
	assert.Equal(t, pgcmd.CodeExhausted, e.Code)
	assert.Equal(t, pgcmd.NotApplied, e.Effect)
	assert.Regexp(t, `no connection came before the deadline: 2 of 2 were in use .*: orders\.hog holds 2, the longest for \d+ms`, e.Message)

	h := pool.Health(t.Context())
	assert.Equal(t, pgcmd.HealthDegraded, h.Status, h.Reason)
	assert.Contains(t, h.Reason, "orders.hog holds 2")
	assert.Positive(t, h.Latency)
	assert.EqualValues(t, 1, h.Saturation)

	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	e = failure(t, pool.Close(ctx))
	assert.Contains(t, e.Message, "2 connections are still held: orders.hog holds 2")
	close(stop)
	require.NoError(t, pool.Close(t.Context()))
}

// A command waits for a connection that a caller of the pgxpool has, as for one of a command's.
func TestTheWaitForAConnectionOfThePgxpoolsCaller(t *testing.T) {
	t.Parallel()
	pool := pgcmdtest.Connect(t, pgcmd.Config{MaxConns: 1, AcquireTimeout: 200 * time.Millisecond})
	held, err := pool.Acquire(t.Context())
	require.NoError(t, err)
	start := time.Now()
	_, err = one.Run(t.Context(), pool, struct{}{})
	e := failure(t, err)
	assert.Equal(t, pgcmd.CodeExhausted, e.Code)
	assert.GreaterOrEqual(t, time.Since(start), 200*time.Millisecond)

	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(10*time.Millisecond, cancel)
	_, err = one.Run(ctx, pool, struct{}{})
	e = failure(t, err)
	assert.Equal(t, pgcmd.CodeCanceled, e.Code)
	assert.Equal(t, pgcmd.NotApplied, e.Effect)

	time.AfterFunc(10*time.Millisecond, held.Release)
	_, err = one.Run(t.Context(), pool, struct{}{})
	assert.NoError(t, err)
}

// BeforeConnect sets tokens that are used as passwords. The probe of a pool that has no
// connection to give makes one of its own.
func TestHealthOfASaturatedPoolConnectsAsThePoolDoes(t *testing.T) {
	t.Parallel()
	pool := pgcmdtest.Connect(t, pgcmd.Config{MaxConns: 1, Pgx: func(c *pgxpool.Config) {
		user := c.ConnConfig.User
		c.ConnConfig.User = "nobody"
		c.BeforeConnect = func(_ context.Context, cc *pgx.ConnConfig) error {
			cc.User = user
			return nil
		}
	}})
	conn, err := pool.Acquire(t.Context())
	require.NoError(t, err)
	defer conn.Release()
	h := pool.Health(t.Context())
	assert.Equal(t, pgcmd.HealthDegraded, h.Status, h.Reason)
	assert.Contains(t, h.Reason, "all connections are in use")
}

func TestHooksThatPanicDoNoHarm(t *testing.T) {
	t.Parallel()
	url := pgcmdtest.URL(t)
	for name, set := range map[string]func(*pgxpool.Config){
		"BeforeConnect": func(c *pgxpool.Config) {
			c.BeforeConnect = func(context.Context, *pgx.ConnConfig) error { panic("x") }
		},
		"AfterConnect": func(c *pgxpool.Config) { c.AfterConnect = func(context.Context, *pgx.Conn) error { panic("x") } },
		"PrepareConn": func(c *pgxpool.Config) {
			c.PrepareConn = func(context.Context, *pgx.Conn) (bool, error) { panic("x") }
		},
		"BeforeAcquire": func(c *pgxpool.Config) {
			//lint:ignore SA1019 a pool that sets it has to be guarded all the same
			c.BeforeAcquire = func(context.Context, *pgx.Conn) bool { panic("x") }
		},
		"AfterRelease": func(c *pgxpool.Config) { c.AfterRelease = func(*pgx.Conn) bool { panic("x") } },
		"BeforeClose":  func(c *pgxpool.Config) { c.BeforeClose = func(*pgx.Conn) { panic("x") } },
		"ShouldPing": func(c *pgxpool.Config) {
			c.ShouldPing = func(context.Context, pgxpool.ShouldPingParams) bool { panic("x") }
		},
	} {
		pool, err := pgcmd.Connect(t.Context(), pgcmd.Config{URL: url, MaxConns: 2, Pgx: set})
		if name == "BeforeConnect" || name == "AfterConnect" || name == "PrepareConn" || name == "BeforeAcquire" {
			e := failure(t, err)
			assert.Equal(t, pgcmd.NotApplied, e.Effect, name)
			continue
		}
		require.NoError(t, err, name)
		for range 5 {
			_, err = one.Run(t.Context(), pool, struct{}{})
			assert.NoError(t, err, name)
		}
		idle(t, pool.Pool)
		require.NoError(t, pool.Close(t.Context()), name)
	}
}

func TestCommandsOnAPoolAreCountedAndLogged(t *testing.T) {
	t.Parallel()
	core, logs := observer.New(zapcore.DebugLevel)
	var seen []string
	pool, err := pgcmd.Connect(t.Context(), pgcmd.Config{URL: pgcmdtest.URL(t, usersDDL), Logger: zap.New(core), MaxRows: 2,
		Middleware: []pgcmd.Middleware{func(next pgcmd.Handler) pgcmd.Handler {
			return func(ctx context.Context, call *pgcmd.Call) error {
				err := next(ctx, call)
				seen = append(seen, fmt.Sprintf("%s %d %d", call.Command, call.Attempts, call.Rows))
				return err
			}
		}}})
	require.NoError(t, err)
	defer pool.Close(t.Context())
	find := pgcmd.QueryOne[byEmail, user]("users.find", `select id, email, age from users where email = @email`)
	emails := pgcmd.Query[int, string]("users.emails", `select email from users order by id limit $1`)
	require.NoError(t, runErr(find.Run(t.Context(), pool, byEmail{"ada@example.com"})))
	require.Error(t, runErr(find.Run(t.Context(), pool, byEmail{"nobody-canary@example.com"})))
	require.NoError(t, runErr(emails.Run(t.Context(), pool, 2)))
	assert.Equal(t, pgcmd.CodeTooManyRows, pgcmd.CodeOf(runErr(emails.Run(t.Context(), pool, 3))), "Config.MaxRows")
	assert.NoError(t, runErr(emails.With(pgcmd.Options{MaxRows: 3}).Run(t.Context(), pool, 3)))

	assert.Equal(t, []string{"users.find 1 1", "users.find 1 0", "users.emails 1 2", "users.emails 1 0", "users.emails 1 3"}, seen)
	m := pool.Metrics()
	require.Len(t, m.Commands, 2)
	assert.Equal(t, "users.find", m.Commands[1].Name)
	assert.EqualValues(t, 2, m.Commands[1].Runs)
	assert.EqualValues(t, 1, m.Commands[1].Rows)
	assert.Equal(t, map[pgcmd.Code]int64{pgcmd.CodeNotFound: 1}, m.Commands[1].Errors)
	assert.EqualValues(t, 2, m.Commands[1].Latency.Count)
	assert.Positive(t, m.Commands[1].Latency.Quantile(0.5))
	require.Len(t, m.Failures, 2)
	assert.Equal(t, pgcmd.CodeTooManyRows, m.Failures[0].Code)

	lines := logs.FilterMessage("command").All()
	require.Len(t, lines, 5)
	assert.Equal(t, zapcore.DebugLevel, lines[0].Level)
	assert.Equal(t, zapcore.InfoLevel, lines[1].Level)
	assert.Equal(t, "not_found", lines[1].ContextMap()["code"])
	assert.Equal(t, "not_applied", lines[1].ContextMap()["effect"])
	assert.Equal(t, "users.find", lines[1].ContextMap()["name"])
	for _, l := range lines {
		assert.NotContains(t, fmt.Sprint(l.ContextMap()), "canary")
	}
	rec := httptest.NewRecorder()
	pgcmdweb.HealthHandler(pool).ServeHTTP(rec, httptest.NewRequest("GET", "/", nil))
	assert.Equal(t, http.StatusOK, rec.Code)
	assert.Contains(t, rec.Body.String(), `"status":"up"`)
	assert.NotContains(t, rec.Body.String(), "too_many_rows", "says nothing of the server")
}
