package commit_test

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
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/pgcmd/pgcmd"
	"github.com/pgcmd/pgcmd/internal/faults"
	"github.com/pgcmd/pgcmd/pgcmdtest"
)

// A primary is a server that waits for a synchronous standby, which is away.
type primary struct {
	t     *testing.T
	url   string
	admin *pgxpool.Pool // which waits for none
}

func withoutStandby(t *testing.T) *primary {
	server, err := pgcmdtest.Start(t.Context())
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, server.Close()) })
	url, err := server.Database(t.Context(), `create table t (n int)`, pgcmd.OnceSchema)
	require.NoError(t, err)
	cfg, err := pgxpool.ParseConfig(url)
	require.NoError(t, err)
	cfg.ConnConfig.RuntimeParams["synchronous_commit"] = "local"
	p := &primary{t: t, url: url}
	p.admin, err = pgxpool.NewWithConfig(t.Context(), cfg)
	require.NoError(t, err)
	t.Cleanup(p.admin.Close)
	p.waitFor("nobody")
	return p
}

// waitFor sets the standby that a COMMIT waits for.
func (p *primary) waitFor(standby string) {
	for _, sql := range []string{`alter system set synchronous_standby_names = '` + standby + `'`, `select pg_reload_conf()`} {
		_, err := p.admin.Exec(context.Background(), sql)
		require.NoError(p.t, err)
	}
	require.Eventually(p.t, func() bool {
		var now string
		conn, err := pgx.Connect(context.Background(), p.url) // one that has not read the old value
		if err != nil {
			return false
		}
		defer conn.Close(context.Background())
		return conn.QueryRow(context.Background(), `show synchronous_standby_names`).Scan(&now) == nil && now == standby
	}, 20*time.Second, 10*time.Millisecond)
}

func (p *primary) count(sql string) (n int) {
	require.NoError(p.t, p.admin.QueryRow(context.Background(), sql).Scan(&n))
	return n
}

const waiting = `select count(*) from pg_stat_activity where wait_event = 'SyncRep'`

func TestACommitThatWaitsForAStandbyThatIsAwayIsTheServersAlone(t *testing.T) {
	t.Parallel()
	p := withoutStandby(t)
	proxy, err := faults.Start(p.url)
	require.NoError(t, err)
	defer func() { assert.NoError(t, proxy.Close()) }()
	early := false // an attempt ended before its COMMIT, and may have been cancelled
	for watcher, watch := range watchers {
		db, err := pgcmd.Connect(t.Context(), pgcmd.Config{URL: proxy.URL(), MaxConns: 2, CommitTimeout: 50 * time.Millisecond,
			Pgx: func(cfg *pgxpool.Config) {
				if watch != nil {
					cfg.ConnConfig.BuildContextWatcherHandler = watch
				}
			}})
		require.NoError(t, err)
		for _, w := range committed {
			var err error
			for patience := 100 * time.Millisecond; patience < time.Minute; patience *= 4 {
				ctx, cancel := context.WithTimeout(t.Context(), patience)
				err = w.run(ctx, db)
				if cancel(); pgcmd.EffectOf(err) != pgcmd.NotApplied || !errors.Is(err, context.DeadlineExceeded) {
					break // else the machine is slow: the deadline passed before COMMIT
				}
				early = true
			}
			require.Equal(t, pgcmd.Unknown, pgcmd.EffectOf(err), "%s, %s: %v", watcher, w.name, err)
		}
		db.Pool.Close()
	}
	n := len(watchers) * len(committed)
	require.Eventually(t, func() bool { return p.count(waiting) == n }, 20*time.Second, time.Millisecond, "each waits on")
	require.Zero(t, p.count(`select count(*) from t`), "and none is visible")
	require.True(t, early || proxy.Counts().Cancels == 0)
	p.waitFor("")
	require.Eventually(t, func() bool { return p.count(`select count(*) from t`) == n }, 20*time.Second, time.Millisecond)
}

// giveUp cancels every wait for the standby, as an administrator may, until the test ends.
func (p *primary) giveUp() {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for ctx.Err() == nil {
			_, _ = p.admin.Exec(ctx, `select pg_cancel_backend(pid) from pg_stat_activity where wait_event = 'SyncRep'`)
			select {
			case <-ctx.Done():
			case <-time.After(time.Millisecond):
			}
		}
	}()
	p.t.Cleanup(func() { cancel(); <-ended })
}

// shown is what an Outcome shows, whatever its type.
type shown struct {
	warned bool
	json   []byte
	text   string
	err    error
}

func show[Out any](o pgcmd.Outcome[Out]) shown {
	text, err := json.Marshal(o)
	if err == nil {
		err = o.Err
	}
	return shown{o.DurabilityWarning, text, fmt.Sprint(o), err}
}

// items shows the outcome of a batch, and insists on what its items say.
func items(t *testing.T, o pgcmd.Outcome[pgcmd.BatchResult[int64]], want bool) shown {
	for _, item := range o.Value.Outcomes {
		require.NoError(t, item.Err)
		require.Equal(t, want, item.DurabilityWarning)
	}
	return show(o)
}

func TestACommitThatTheStandbyHasNotGotIsASuccessWithAWarning(t *testing.T) {
	t.Parallel()
	p := withoutStandby(t)
	p.giveUp()
	returning := `insert into t values ($1) returning n`
	rows := pgcmd.Rows([]one{{1}})
	mine := map[string]func(ctx context.Context, db pgcmd.DB) shown{ // transactions that pgcmd commits
		"a statement InTx": func(ctx context.Context, db pgcmd.DB) shown {
			return show(pgcmd.Try(ctx, db, insert.With(pgcmd.Options{InTx: true}), 1))
		},
		"a transaction": func(ctx context.Context, db pgcmd.DB) shown { return show(pgcmd.Try(ctx, db, both, 1)) },
		"a Once": func(ctx context.Context, db pgcmd.DB) shown {
			return show(pgcmd.Try(ctx, db, pgcmd.Once(both, func(int) string { return fmt.Sprint(time.Now().UnixNano()) }), 1))
		},
		"an atomic batch": func(ctx context.Context, db pgcmd.DB) shown {
			return items(t, pgcmd.Try(ctx, db, pgcmd.Batch(insert, pgcmd.Atomic), []int{1, 2}), true)
		},
		"an isolated batch": func(ctx context.Context, db pgcmd.DB) shown {
			return items(t, pgcmd.Try(ctx, db, pgcmd.Batch(insert, pgcmd.Isolated), []int{1, 2}), true)
		},
		"an atomic batch of transactions": func(ctx context.Context, db pgcmd.DB) shown {
			return items(t, pgcmd.Try(ctx, db, pgcmd.Batch(both, pgcmd.Atomic), []int{1, 2}), true)
		},
		"an independent batch of transactions": func(ctx context.Context, db pgcmd.DB) shown {
			return items(t, pgcmd.Try(ctx, db, pgcmd.Batch(both, pgcmd.Independent), []int{1, 2}), true)
		},
		"a copy InTx": func(ctx context.Context, db pgcmd.DB) shown {
			return show(pgcmd.Try(ctx, db, pgcmd.Copy[one]("t.copy", pgx.Identifier{"t"}).With(pgcmd.Options{InTx: true}), rows))
		},
	}
	alone := map[string]func(ctx context.Context, db pgcmd.DB, want bool) shown{ // that the server commits by itself
		"an Exec": func(ctx context.Context, db pgcmd.DB, _ bool) shown { return show(pgcmd.Try(ctx, db, insert, 1)) },
		"a Query": func(ctx context.Context, db pgcmd.DB, _ bool) shown {
			return show(pgcmd.Try(ctx, db, pgcmd.Query[int, int]("q", returning), 1))
		},
		"a QueryOne": func(ctx context.Context, db pgcmd.DB, _ bool) shown {
			return show(pgcmd.Try(ctx, db, pgcmd.QueryOne[int, int]("q", returning), 1))
		},
		"an Exec with a hook": func(ctx context.Context, db pgcmd.DB, _ bool) shown {
			return show(pgcmd.Try(ctx, db, pgcmd.Before(insert, func(context.Context, *int) error { return nil }), 1))
		},
		"an AdHoc": func(ctx context.Context, db pgcmd.DB, _ bool) shown {
			return show(pgcmd.Try(ctx, db, pgcmd.AdHoc, pgcmd.AdHocQuery{SQL: `insert into t values (1)`}))
		},
		"a copy": func(ctx context.Context, db pgcmd.DB, _ bool) shown {
			return show(pgcmd.Try(ctx, db, pgcmd.Copy[one]("t.copy", pgx.Identifier{"t"}), rows))
		},
		"an independent batch": func(ctx context.Context, db pgcmd.DB, want bool) shown {
			return items(t, pgcmd.Try(ctx, db, pgcmd.Batch(insert, pgcmd.Independent), []int{1, 2}), want)
		},
		"a sequential batch": func(ctx context.Context, db pgcmd.DB, want bool) shown {
			return items(t, pgcmd.Try(ctx, db, pgcmd.Batch(insert, pgcmd.Sequential), []int{1, 2}), want)
		},
	}
	core, logged := observer.New(zapcore.DebugLevel)
	ours, err := pgcmd.Connect(t.Context(), pgcmd.Config{URL: p.url, MaxConns: 2, Logger: zap.New(core)})
	require.NoError(t, err)
	t.Cleanup(ours.Pool.Close)
	cfg, err := pgxpool.ParseConfig(p.url)
	require.NoError(t, err)
	plain, err := pgxpool.NewWithConfig(t.Context(), cfg)
	require.NoError(t, err)
	t.Cleanup(plain.Close)
	var notices atomic.Int64
	cfg = cfg.Copy()
	cfg.ConnConfig.OnNotice = func(*pgconn.PgConn, *pgconn.Notice) { notices.Add(1) }
	pgcmd.Instrument(cfg)
	instrumented, err := pgxpool.NewWithConfig(t.Context(), cfg)
	require.NoError(t, err)
	t.Cleanup(instrumented.Close)
	conn, err := instrumented.Acquire(t.Context())
	require.NoError(t, err)
	t.Cleanup(conn.Release)

	for kind, db := range map[string]pgcmd.DB{"a Pool": ours, "a pgxpool.Pool": plain, "one with Instrument": instrumented, "its connection": conn, "its pgx.Conn": conn.Conn()} {
		check := func(name string, want bool, run func(ctx context.Context, db pgcmd.DB) shown) {
			t.Run(kind+"/"+name, func(t *testing.T) {
				logged.TakeAll()
				before := notices.Load()
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				s := run(ctx, db)
				require.NoError(t, s.err)
				require.Equal(t, want, s.warned)
				var shown struct {
					OK      bool  `json:"ok"`
					Warning *bool `json:"durability_warning"`
				}
				require.NoError(t, json.Unmarshal(s.json, &shown))
				require.True(t, shown.OK)
				require.Equal(t, want, shown.Warning != nil)
				if want {
					require.Contains(t, s.text, "durability warning")
				}
				if db == pgcmd.DB(ours) {
					lines := logged.FilterMessage("command").All()
					require.NotEmpty(t, lines)
					last := lines[len(lines)-1]
					require.Equal(t, zapcore.WarnLevel, last.Level)
					require.Equal(t, true, last.ContextMap()["durability_warning"])
				}
				if kind == "one with Instrument" {
					require.Positive(t, notices.Load()-before, "the pool's own OnNotice is called")
				}
				o := pgcmd.Try(ctx, db, pgcmd.QueryOne[struct{}, int]("t.count", `select count(*) from t`), struct{}{})
				require.NoError(t, o.Err)
				require.False(t, o.DurabilityWarning, "of what comes later")
			})
		}
		for name, run := range mine {
			check(name, true, run)
		}
		seen := db != pgcmd.DB(plain)
		for name, run := range alone {
			check(name, seen, func(ctx context.Context, db pgcmd.DB) shown { return run(ctx, db, seen) })
		}
	}

	for name, run := range map[string]func(ctx context.Context) error{ // which have no Outcome
		"a pipeline":              func(ctx context.Context) error { return pipe(ctx, ours, pgcmd.Atomic) },
		"an independent pipeline": func(ctx context.Context) error { return pipe(ctx, ours, pgcmd.Independent) },
		"Run":                     func(ctx context.Context) error { _, err := insert.Run(ctx, ours, 1); return err },
		"a stream": func(ctx context.Context) error {
			for _, err := range pgcmd.Stream(ctx, ours, pgcmd.Query[int, int]("q", returning), 1) {
				if err != nil {
					return err
				}
			}
			return nil
		},
	} {
		t.Run("the log of "+name, func(t *testing.T) {
			logged.TakeAll()
			require.NoError(t, run(t.Context()))
			lines := logged.FilterMessage("command").All()
			require.Len(t, lines, 1)
			require.Equal(t, zapcore.WarnLevel, lines[0].Level)
			require.Equal(t, true, lines[0].ContextMap()["durability_warning"])
		})
	}
}

func pipe(ctx context.Context, db pgcmd.DB, mode pgcmd.BatchMode) error {
	var p pgcmd.Pipeline
	pgcmd.Queue(&p, insert, 1)
	pgcmd.Queue(&p, insert, 2)
	return p.Run(ctx, db, mode)
}
