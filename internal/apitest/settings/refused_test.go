package settings_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/pgcmd/pgcmd"
)

const secret = "canary-value"

func settingsOf(settings ...pgcmd.Setting) func(*pgcmd.Config) {
	return func(c *pgcmd.Config) {
		c.Settings = func(context.Context) ([]pgcmd.Setting, error) { return settings, nil }
	}
}

func failure(t *testing.T, err error) *pgcmd.Error {
	t.Helper()
	var e *pgcmd.Error
	require.ErrorAs(t, err, &e)
	return e
}

// hidesValue checks that an error, and everything within it, shows no value.
func hidesValue(t *testing.T, what string, err error) {
	t.Helper()
	text, _ := json.Marshal(err)
	shown := []string{err.Error(), fmt.Sprintf("%+v", err), fmt.Sprintf("%#v", err), string(text)}
	if pgErr, ok := errors.AsType[*pgconn.PgError](err); ok {
		shown = append(shown, fmt.Sprintf("%+v", *pgErr))
	}
	for _, s := range shown {
		require.NotContains(t, s, secret, what)
	}
}

// A setting that the server refuses is named by the error, without its value, and nothing of the work is there.
func TestASettingThatTheServerRefuses(t *testing.T) {
	t.Parallel()
	for setting, want := range map[pgcmd.Setting]struct {
		code  pgcmd.Code
		state string
	}{
		{Name: "foo", Value: secret}:               {pgcmd.CodeInternal, "42704"},
		{Name: "statement_timeout", Value: secret}: {pgcmd.CodeInvalid, "22023"},
		{Name: "max_connections", Value: "7"}:      {pgcmd.CodeAborted, "55P02"},
	} {
		if testing.Short() && setting.Name != "statement_timeout" {
			continue
		}
		for name, w := range someWays() {
			t.Run(setting.Name+", "+name, func(t *testing.T) {
				t.Parallel()
				bad := false
				pool := connect(t, w, func(c *pgcmd.Config) {
					c.Settings = func(context.Context) ([]pgcmd.Setting, error) {
						if !bad {
							return []pgcmd.Setting{{Name: "app.tenant", Value: "red"}}, nil
						}
						return []pgcmd.Setting{{Name: "app.tenant", Value: "red"}, setting, {Name: "app.user", Value: "x"}}, nil
					}
				})
				for kind, run := range kinds() {
					if name == "no descriptions" && kind == "Once" {
						continue
					}
					for _, warm := range []bool{false, true} {
						if warm {
							_, err := run(t.Context(), pool)
							require.NoError(t, err, kind)
						}
						var before, after int
						require.NoError(t, pool.QueryRow(t.Context(), `select count(*) from notes`, pgx.QueryExecModeExec).Scan(&before))
						bad = true
						_, err := run(t.Context(), pool)
						bad = false
						require.Error(t, err, kind)
						if joined, ok := err.(interface{ Unwrap() []error }); ok {
							if _, ours := err.(*pgcmd.Error); !ours {
								err = joined.Unwrap()[0]
							}
						}
						hidesValue(t, kind, err)
						e := failure(t, err)
						switch kind {
						case "Transaction on its Conn", "New", "Batch of transactions, Independent": // their error is the body's
						default:
							assert.Equal(t, pgcmd.NotApplied, e.Effect, "%s: %v", kind, e)
						}
						if kind != "Transaction on its Conn" {
							assert.Equal(t, want.state, e.SQLState, "%s: %v", kind, e)
							assert.Contains(t, e.Message, "the setting "+setting.Name+" of Config.Settings was refused: ", kind)
						}
						require.NoError(t, pool.QueryRow(t.Context(), `select count(*) from notes`, pgx.QueryExecModeExec).Scan(&after))
						require.Equal(t, before, after, kind)
					}
				}
			})
		}
	}
}

// An error of Settings ends the run before a connection is taken, and it is not tried again.
func TestAnErrorOfSettings(t *testing.T) {
	t.Parallel()
	for name, w := range map[string]way{"pool": ways["prepared statements"], "Multiplex": ways["Multiplex"]} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var given error
			var calls atomic.Int32
			pool := connect(t, w, func(c *pgcmd.Config) {
				c.Settings = func(context.Context) ([]pgcmd.Setting, error) {
					calls.Add(1)
					return nil, given
				}
			})
			held, err := pool.Acquire(t.Context()) // the only one
			require.NoError(t, err)
			defer held.Release()
			for kind, run := range kinds() {
				given = pgcmd.Errorf(pgcmd.CodePermission, "no tenant in the token")
				_, err := run(t.Context(), pool)
				e := failure(t, err)
				assert.Equal(t, pgcmd.CodePermission, e.Code, "%s: %v", kind, e)
				assert.Contains(t, e.Message, "no tenant in the token", kind)
				if !strings.HasPrefix(kind, "New") || kind == "New InTx" { // what a body outside of a transaction did is not known
					assert.Equal(t, pgcmd.NotApplied, e.Effect, "%s: %v", kind, e)
				}
				given = errors.New(secret)
				_, err = run(t.Context(), pool)
				assert.NotContains(t, err.Error(), secret)
				assert.Contains(t, err.Error(), "Config.Settings failed with", kind)
				assert.ErrorIs(t, err, given, kind)
			}
			retry := pgcmd.Options{Retry: pgcmd.Retry{Attempts: 5}}
			given = &pgcmd.Error{Code: pgcmd.CodeUnavailable, Message: "no directory"}
			for kind, run := range map[string]func() error{
				"a read":        func() error { _, err := readWho.With(retry).Run(t.Context(), pool, none{}); return err },
				"a transaction": func() error { _, err := inTx(who).With(retry).Run(t.Context(), pool, none{}); return err },
				"a batch": func() error {
					r, err := pgcmd.Batch(add, pgcmd.Independent).With(retry).Run(t.Context(), pool, []note{next(), next()})
					return errors.Join(err, r.Err())
				},
			} {
				calls.Store(0)
				require.Error(t, run(), kind)
				assert.EqualValues(t, 1, calls.Load(), kind)
			}
		})
	}
}

func inTx(c *pgcmd.Command[none, string]) *pgcmd.Command[none, string] {
	return c.With(pgcmd.Options{InTx: true})
}

func TestSettingsThatAreWrong(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		setting pgcmd.Setting
		code    pgcmd.Code
		says    string
	}{
		"no name":            {pgcmd.Setting{Value: secret}, pgcmd.CodeInternal, "of setting 0"},
		"a swapped value":    {pgcmd.Setting{Name: secret, Value: "app.tenant"}, pgcmd.CodeInternal, "of setting 0"},
		"an injection":       {pgcmd.Setting{Name: "app.tenant = 'x'; --" + secret}, pgcmd.CodeInternal, "of setting 0"},
		"an empty part":      {pgcmd.Setting{Name: "app..tenant"}, pgcmd.CodeInternal, "of setting 0"},
		"a part that begins": {pgcmd.Setting{Name: "app.7"}, pgcmd.CodeInternal, "of setting 0"},
		"a dot at the end":   {pgcmd.Setting{Name: "app."}, pgcmd.CodeInternal, "of setting 0"},
		"a NUL":              {pgcmd.Setting{Name: "app.tenant", Value: secret + "\x00"}, pgcmd.CodeInvalid, "a value of app.tenant"},
		"no UTF-8":           {pgcmd.Setting{Name: "app.tenant", Value: secret + "\xff"}, pgcmd.CodeInvalid, "a value of app.tenant"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pool := connect(t, ways["prepared statements"], settingsOf(c.setting))
			_, err := who.Run(t.Context(), pool, none{})
			e := failure(t, err)
			assert.Equal(t, c.code, e.Code)
			assert.Equal(t, pgcmd.NotApplied, e.Effect)
			assert.Contains(t, e.Message, c.says)
			hidesValue(t, name, err)
		})
	}
	pool := connect(t, ways["prepared statements"], settingsOf(pgcmd.Setting{Name: "_App.Tenant_2.x", Value: ""}))
	_, err := who.Run(t.Context(), pool, none{})
	require.NoError(t, err)
}

func TestTheSimpleProtocolIsRefused(t *testing.T) {
	t.Parallel()
	_, err := pgcmd.Connect(t.Context(), pgcmd.Config{URL: connect(t, way{config: func(*pgcmd.Config) {}}).Config().ConnString(),
		Settings: ofContext, Pgx: func(c *pgxpool.Config) { c.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeSimpleProtocol }})
	e := failure(t, err)
	require.Len(t, e.Problems, 1)
	assert.Equal(t, "Settings", e.Problems[0].Field)
}

func TestAPanicOfSettingsGoesOn(t *testing.T) {
	t.Parallel()
	for name, w := range someWays() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			panics := false
			pool := connect(t, w, func(c *pgcmd.Config) {
				c.Settings = func(context.Context) ([]pgcmd.Setting, error) {
					if panics {
						panic("settings")
					}
					return nil, nil
				}
			})
			for kind, run := range kinds() {
				if strings.Contains(kind, "Independent") {
					continue // the panics of concurrent items come wrapped
				}
				panics = true
				require.PanicsWithValue(t, "settings", func() { _, _ = run(t.Context(), pool) }, kind)
				panics = false
				require.Zero(t, pool.Stat().AcquiredConns(), kind)
			}
			_, err := who.Run(t.Context(), pool, none{})
			require.NoError(t, err)
		})
	}
}

// A Settings that reads from the pool would be called for that again.
func TestSettingsMustNotUseThePool(t *testing.T) {
	t.Parallel()
	var pool *pgcmd.Pool
	pool = connect(t, ways["prepared statements"], func(c *pgcmd.Config) {
		c.Settings = func(ctx context.Context) ([]pgcmd.Setting, error) {
			_, err := who.Run(ctx, pool, none{})
			return nil, err
		}
	})
	_, err := who.Run(t.Context(), pool, none{})
	assert.Contains(t, failure(t, err).Message, "Config.Settings ran a command on the pool")
}

// What joins a transaction has its settings; what runs outside of it has those of its own context.
func TestATransactionKeepsItsSettings(t *testing.T) {
	t.Parallel()
	pool := connect(t, ways["prepared statements"], func(c *pgcmd.Config) { c.MaxConns = 2 })
	blue := as(t.Context(), "blue")
	seen, err := pgcmd.Transaction("tx", func(ctx context.Context, tx *pgcmd.Tx, _ none) ([]string, error) {
		joined, err := inTx(who).Run(as(ctx, "blue"), tx, none{})
		tried, err2 := pgcmd.Try(blue, tx, who, none{}).Get()
		outside, err3 := who.Run(as(pgcmd.OutsideTx(ctx), "blue"), pool, none{})
		again, err4 := who.Run(ctx, tx, none{})
		return []string{joined, tried, outside, again}, errors.Join(err, err2, err3, err4)
	}).Run(as(t.Context(), "red"), pool, none{})
	require.NoError(t, err)
	assert.Equal(t, []string{"red", "red", "blue", "red"}, seen)

	conn, err := pool.Acquire(t.Context())
	require.NoError(t, err)
	defer conn.Release()
	other, err := who.Run(blue, conn, none{})
	require.NoError(t, err)
	assert.Contains(t, nobody, other, "a connection has no Settings")
	other, err = who.Run(blue, pool.Pool, none{})
	require.NoError(t, err)
	assert.Contains(t, nobody, other, "nor has a pgxpool.Pool")
}

// Settings is called for each unit of work, and again for each attempt.
func TestHowOftenSettingsIsCalled(t *testing.T) {
	t.Parallel()
	var calls atomic.Int32
	pool := connect(t, ways["prepared statements"], func(c *pgcmd.Config) {
		c.Settings = func(ctx context.Context) ([]pgcmd.Setting, error) {
			calls.Add(1)
			return ofContext(ctx)
		}
	})
	for kind, want := range map[string]int32{"QueryOne": 1, "Transaction": 1, "Batch, Atomic": 1, "Batch, Independent": 1, "Batch, Sequential": 3,
		"Batch of transactions, Independent": 3, "Pipeline, Independent": 1, "Stream": 1, "Copy": 1, "Once": 1} {
		calls.Store(0)
		_, err := kinds()[kind](as(t.Context(), "red"), pool)
		require.NoError(t, err, kind)
		assert.Equal(t, want, calls.Load(), kind)
	}
	calls.Store(0)
	attempt := 0
	_, err := pgcmd.Transaction("again", func(ctx context.Context, tx *pgcmd.Tx, _ none) (string, error) {
		if attempt++; attempt < 3 {
			_, err := tx.Exec(ctx, `do $$ begin raise exception 'x' using errcode = '40001'; end $$`)
			return "", err
		}
		return who.Run(ctx, tx, none{})
	}).With(pgcmd.Options{Retry: pgcmd.Retry{Attempts: 3, Delay: time.Millisecond}}).Run(as(t.Context(), "red"), pool, none{})
	require.NoError(t, err)
	assert.EqualValues(t, 3, calls.Load())
}

// PostgreSQL's own settings hold for the work, too.
func TestSettingsOfPostgreSQL(t *testing.T) {
	t.Parallel()
	sleep := pgcmd.Exec[none]("sleep", `select pg_sleep(60)`)
	for name, w := range someWays() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pool := connect(t, w, settingsOf(pgcmd.Setting{Name: "statement_timeout", Value: "50"}, pgcmd.Setting{Name: "role", Value: "pg_monitor"}))
			for kind, c := range map[string]*pgcmd.Command[none, int64]{"a write": sleep, "a read": sleep.With(pgcmd.Options{ReadOnly: true}), "in a transaction": sleep.With(pgcmd.Options{InTx: true})} {
				for range 2 {
					_, err := c.Run(t.Context(), pool, none{})
					e := failure(t, err)
					assert.Equal(t, "57014", e.SQLState, kind)
					assert.Equal(t, pgcmd.NotApplied, e.Effect, kind)
				}
			}
			role, err := pgcmd.QueryOne[none, string]("role", `select current_user::text`).Run(t.Context(), pool, none{})
			require.NoError(t, err)
			assert.Equal(t, "pg_monitor", role)
		})
	}
}

// A loud tracer prints all that pgx tells it.
type loud struct{ out *strings.Builder }

func (l loud) TraceQueryStart(ctx context.Context, _ *pgx.Conn, d pgx.TraceQueryStartData) context.Context {
	fmt.Fprintf(l.out, "%v %+v %#v\n", d, d, d)
	return ctx
}
func (l loud) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}
func (l loud) TraceBatchStart(ctx context.Context, _ *pgx.Conn, d pgx.TraceBatchStartData) context.Context {
	for _, q := range d.Batch.QueuedQueries {
		fmt.Fprintf(l.out, "%v %+v %#v\n", q.Arguments, *q, *q)
	}
	return ctx
}
func (l loud) TraceBatchQuery(_ context.Context, _ *pgx.Conn, d pgx.TraceBatchQueryData) {
	text, _ := json.Marshal(d.Args)
	fmt.Fprintf(l.out, "%v %+v %#v %s\n", d, d, d, text)
}
func (l loud) TraceBatchEnd(context.Context, *pgx.Conn, pgx.TraceBatchEndData) {}

// No value is in a log line, in the metrics or in what a tracer prints.
func TestNoValueIsLogged(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"work_mem", "app.user"} { // of which the server refuses the first
		var log, trace strings.Builder
		core := zapcore.NewCore(zapcore.NewJSONEncoder(zap.NewProductionEncoderConfig()), zapcore.Lock(zapcore.AddSync(&log)), zapcore.DebugLevel)
		setting := pgcmd.Setting{Name: name, Value: secret}
		pool := connect(t, ways["prepared statements"], settingsOf(setting), func(c *pgcmd.Config) {
			c.Logger = zap.New(core)
			c.Pgx = func(c *pgxpool.Config) { c.ConnConfig.Tracer = loud{&trace} }
		})
		for kind, run := range kinds() {
			if _, err := run(t.Context(), pool); name != "work_mem" {
				require.NoError(t, err, kind)
			}
		}
		metrics, err := json.Marshal(pool.Metrics())
		require.NoError(t, err)
		shown, err := json.Marshal(setting)
		require.NoError(t, err)
		require.Contains(t, trace.String(), "set_config")
		if name == "work_mem" {
			require.Contains(t, log.String(), name)
			trace.Reset() // pgx gives it PostgreSQL's own text, which has the value
		}
		assert.NotContains(t, log.String()+trace.String()+string(metrics)+string(shown)+fmt.Sprintf("%v %+v %#v", setting, setting, setting), secret)
	}
}

// PostgreSQL has no COPY into a table whose policies hold; a batch does the same.
func TestACopyIntoATableWithPolicies(t *testing.T) {
	t.Parallel()
	for name, w := range someWays() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pool := connect(t, w, settingsOf(pgcmd.Setting{Name: "role", Value: "pg_monitor"}, pgcmd.Setting{Name: "app.tenant", Value: "red"}))
			_, err := pool.Exec(t.Context(), `alter table notes enable row level security; grant select, insert on notes to pg_monitor;
				create policy tenant on notes using (tenant = nullif(current_setting('app.tenant', true), ''))`)
			require.NoError(t, err)
			_, err = copyIn.Run(t.Context(), pool, rowsOf(next(), next()))
			e := failure(t, err)
			assert.Equal(t, "0A000", e.SQLState)
			assert.Equal(t, pgcmd.NotApplied, e.Effect)
			for mode := pgcmd.Atomic; mode <= pgcmd.Sequential; mode++ {
				r, err := pgcmd.Batch(add, mode).Run(t.Context(), pool, []note{next(), next()})
				require.NoError(t, errors.Join(err, r.Err()))
			}
			_, err = pgcmd.Exec[int64]("forge", `insert into notes (id, tenant) values ($1, 'blue')`).Run(t.Context(), pool, ids.Add(1))
			assert.Equal(t, pgcmd.CodePermission, pgcmd.CodeOf(err))
		})
	}
}
