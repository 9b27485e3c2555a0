package commit_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgconn/ctxwatch"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgcmd/pgcmd"
	"github.com/pgcmd/pgcmd/internal/faults"
	"github.com/pgcmd/pgcmd/pgcmdtest"
)

// held is a table whose COMMIT says so and waits for the holder of the lock 42; a
// cancellation ends it.
const held = `
	create table t (n int);
	create function hold() returns trigger language plpgsql as $$ begin
		raise notice 'committing';
		perform pg_advisory_xact_lock_shared(42);
		return null;
	end $$;
	create constraint trigger hold after insert on t deferrable initially deferred for each row execute function hold();
	create table slow (n int)`

var (
	insert = pgcmd.Exec[int]("t.insert", `insert into t values ($1)`)
	both   = pgcmd.Transaction("t.both", func(ctx context.Context, tx *pgcmd.Tx, n int) (int64, error) { return insert.Run(ctx, tx, n) })
)

// A way to insert a row in a transaction.
type way struct {
	name string
	run  func(ctx context.Context, db pgcmd.DB) error
}

// committed are the ways to send a COMMIT.
var committed = []way{
	{"a transaction", func(ctx context.Context, db pgcmd.DB) error { _, err := both.Run(ctx, db, 1); return err }},
	{"a statement InTx", func(ctx context.Context, db pgcmd.DB) error {
		_, err := insert.With(pgcmd.Options{InTx: true}).Run(ctx, db, 1)
		return err
	}},
	{"a transaction whose Conn was used", func(ctx context.Context, db pgcmd.DB) error {
		_, err := pgcmd.Transaction("conn", func(ctx context.Context, tx *pgcmd.Tx, _ int) (any, error) {
			return tx.Conn().Exec(ctx, "insert into t values (1)")
		}).Run(ctx, db, 1)
		return err
	}},
	{"an atomic batch", func(ctx context.Context, db pgcmd.DB) error {
		_, err := pgcmd.Batch(insert, pgcmd.Atomic).Run(ctx, db, []int{1})
		return err
	}},
	{"an isolated batch", func(ctx context.Context, db pgcmd.DB) error {
		_, err := pgcmd.Batch(insert, pgcmd.Isolated).Run(ctx, db, []int{1})
		return err
	}},
	{"an isolated batch with an item that is refused", func(ctx context.Context, db pgcmd.DB) error {
		c := pgcmd.Exec[int]("t.divide", `insert into t select 1 where 1 / $1 = 1`)
		r, err := pgcmd.Batch(c, pgcmd.Isolated).Run(ctx, db, []int{0, 1, 0})
		if err == nil && (r.Succeeded != 1 || r.Failed != 2) {
			return errors.New("the batch is not as it should be")
		}
		return err
	}},
	{"an atomic batch of rows", func(ctx context.Context, db pgcmd.DB) error {
		c := pgcmd.Query[int, int]("t.returning", `insert into t values ($1) returning n`)
		_, err := pgcmd.Batch(c, pgcmd.Atomic).Run(ctx, db, []int{1})
		return err
	}},
	{"a pipeline", func(ctx context.Context, db pgcmd.DB) error {
		var p pgcmd.Pipeline
		pgcmd.Queue(&p, pgcmd.QueryOne[struct{}, int]("one", `select 1`).With(pgcmd.Options{ReadOnly: true}), struct{}{})
		pgcmd.Queue(&p, insert, 1)
		return p.Run(ctx, db, pgcmd.Atomic)
	}},
}

// watchers are what a service may let a context do to its connections.
var watchers = map[string]func(*pgconn.PgConn) ctxwatch.Handler{
	"pgx's own": nil,
	"one that cancels": func(c *pgconn.PgConn) ctxwatch.Handler {
		return &pgconn.CancelRequestContextWatcherHandler{Conn: c, DeadlineDelay: time.Second}
	},
}

const inCommit = `select count(*) > 0 from pg_locks where locktype = 'advisory' and not granted and database = (select oid from pg_database where datname = current_database())`

// A scene is a database, and a proxy before it.
type scene struct {
	t      *testing.T
	direct *pgxpool.Pool
	proxy  *faults.Proxy
	holder *pgx.Conn
}

func set(t *testing.T) *scene {
	s := &scene{t: t, direct: pgcmdtest.Pool(t, held, pgcmd.OnceSchema)}
	var err error
	s.proxy, err = faults.Start(s.direct.Config().ConnString())
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, s.proxy.Close()) })
	s.holder, err = pgx.ConnectConfig(t.Context(), s.direct.Config().ConnConfig)
	require.NoError(t, err)
	t.Cleanup(func() { _ = s.holder.Close(context.Background()) })
	return s
}

func (s *scene) hold()    { s.lock(`select pg_advisory_lock(42)`) }
func (s *scene) release() { s.lock(`select pg_advisory_unlock(42)`) }

func (s *scene) lock(sql string) {
	_, err := s.holder.Exec(context.Background(), sql)
	require.NoError(s.t, err)
}

// committing waits until a backend waits in its COMMIT.
func (s *scene) committing() {
	s.await(inCommit)
}

// commits waits until a backend waits in its COMMIT, and reports false if the run has ended before.
func (s *scene) commits(result chan error) bool {
	for is := false; !is; {
		select {
		case <-result:
			return false
		case <-time.After(time.Millisecond):
		}
		require.NoError(s.t, s.direct.QueryRow(s.t.Context(), inCommit).Scan(&is))
	}
	return true
}

func (s *scene) await(sql string) {
	s.t.Helper()
	require.Eventually(s.t, func() (is bool) {
		return s.direct.QueryRow(s.t.Context(), sql).Scan(&is) == nil && is
	}, 20*time.Second, time.Millisecond, sql)
}

// dbs are the kinds of DB that a transaction can be begun on.
func (s *scene) dbs(watch func(*pgconn.PgConn) ctxwatch.Handler, timeout time.Duration) map[string]func() (pgcmd.DB, func()) {
	settings := func(cfg *pgxpool.Config) {
		if watch != nil {
			cfg.ConnConfig.BuildContextWatcherHandler = watch
		}
	}
	ours := func() (pgcmd.DB, func()) {
		p, err := pgcmd.Connect(s.t.Context(), pgcmd.Config{URL: s.proxy.URL(), MaxConns: 2, Pgx: settings, CommitTimeout: timeout})
		require.NoError(s.t, err)
		return p, p.Pool.Close
	}
	if timeout > 0 {
		return map[string]func() (pgcmd.DB, func()){"a Pool": ours}
	}
	cfg, err := pgxpool.ParseConfig(s.proxy.URL())
	require.NoError(s.t, err)
	settings(cfg)
	return map[string]func() (pgcmd.DB, func()){
		"a Pool": ours,
		"a pgxpool.Pool": func() (pgcmd.DB, func()) {
			p, err := pgxpool.NewWithConfig(s.t.Context(), cfg)
			require.NoError(s.t, err)
			return p, p.Close
		},
		"a pgx.Conn": func() (pgcmd.DB, func()) {
			c, err := pgx.ConnectConfig(s.t.Context(), cfg.ConnConfig)
			require.NoError(s.t, err)
			return c, func() { _ = c.Close(context.Background()) }
		},
	}
}

func TestTheEndOfACallersContextReachesNoCommit(t *testing.T) {
	t.Parallel()
	ends := map[string]func(ctx context.Context, patience time.Duration) (context.Context, context.CancelFunc){
		"a cancellation": func(ctx context.Context, _ time.Duration) (context.Context, context.CancelFunc) {
			return context.WithCancel(ctx)
		},
		"a deadline": func(ctx context.Context, patience time.Duration) (context.Context, context.CancelFunc) {
			ctx, cancel := context.WithTimeout(ctx, patience)
			return ctx, func() { <-ctx.Done(); cancel() }
		},
	}
	s := set(t)
	early := false // an attempt ended before its COMMIT, and may have been cancelled
	for watcher, watch := range watchers {
		for kind, open := range s.dbs(watch, 0) {
			db, done := open()
			for _, w := range committed {
				require.NoError(t, w.run(t.Context(), db), "it is prepared") // so that the deadline is spent on COMMIT
				for end, ctxOf := range ends {
					t.Run(watcher+"/"+kind+"/"+w.name+"/"+end, func(t *testing.T) {
						var cancel context.CancelFunc
						result := make(chan error, 1)
						for patience, began := 150*time.Millisecond, false; !began; patience *= 4 {
							require.Less(t, patience, time.Minute, "COMMIT never begins")
							s.hold()
							var ctx context.Context
							ctx, cancel = ctxOf(t.Context(), patience)
							go func() { result <- w.run(ctx, db) }()
							if began = s.commits(result); !began { // the machine is slow: the deadline passed before COMMIT
								early = true
								s.release()
								cancel()
							}
						}
						cancel()
						select {
						case err := <-result:
							s.release()
							t.Fatalf("COMMIT was torn: %v", err)
						case <-time.After(30 * time.Millisecond):
						}
						s.release()
						require.NoError(t, <-result)
						require.True(t, early || s.proxy.Counts().Cancels == 0)
					})
				}
			}
			done()
		}
	}
}

func TestACommitThatTakesTooLongIsUnknownAndGoesOn(t *testing.T) {
	t.Parallel()
	s := set(t)
	for watcher, watch := range watchers {
		for kind, open := range s.dbs(watch, 50*time.Millisecond) {
			for _, w := range committed {
				t.Run(watcher+"/"+kind+"/"+w.name, func(t *testing.T) {
					db, done := open()
					defer done()
					_, err := s.direct.Exec(t.Context(), `truncate t`)
					require.NoError(t, err)
					s.hold()
					ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
					defer cancel()
					err = w.run(ctx, db)
					s.release()
					require.Equal(t, pgcmd.Unknown, pgcmd.EffectOf(err), err)
					require.Equal(t, pgcmd.CodeUnknownEffect, pgcmd.CodeOf(err))
					s.await(`select count(*) = 1 from t`)
					require.Zero(t, s.proxy.Counts().Cancels)
				})
			}
		}
	}
}

func TestAConnectionThatFailsWhileItCommitsCancelsNothing(t *testing.T) {
	t.Parallel()
	s := set(t)
	for kind, open := range s.dbs(nil, 0) {
		for _, w := range committed {
			for _, action := range []faults.Action{faults.Reset, faults.HalfClose} {
				t.Run(kind+"/"+w.name+"/"+action.String(), func(t *testing.T) {
					db, done := open()
					defer done()
					_, err := s.direct.Exec(t.Context(), `truncate t`)
					require.NoError(t, err)
					s.hold()
					s.proxy.Set(&faults.Fault{Direction: faults.Backend, Match: func(typ byte, _ []byte) bool { return typ == 'N' }, Action: action})
					err = w.run(t.Context(), db)
					s.proxy.Heal()
					s.release()
					require.Equal(t, pgcmd.Unknown, pgcmd.EffectOf(err), err)
					s.await(`select count(*) = 1 from t`)
					require.Zero(t, s.proxy.Counts().Cancels)
				})
			}
		}
	}
}

func TestACommitHasTheCallersTime(t *testing.T) {
	t.Parallel()
	pool := pgcmdtest.Pool(t, `create table t (n int)`, pgcmd.OnceSchema, `
		create function slowly() returns trigger language plpgsql as $$ begin perform pg_sleep(5.3); return null; end $$;
		create constraint trigger slowly after insert on t deferrable initially deferred for each row execute function slowly()`)
	db, err := pgcmd.Connect(t.Context(), pgcmd.Config{URL: pool.Config().ConnString(), MaxConns: 10})
	require.NoError(t, err)
	t.Cleanup(db.Pool.Close)
	again := pgcmd.Options{Retry: pgcmd.Retry{Attempts: 4}}
	once := way{"a Once", func(ctx context.Context, db pgcmd.DB) error {
		_, err := pgcmd.Once(both, func(int) string { return "k" }).With(again).Run(ctx, db, 1)
		return err
	}}
	var ways []way
	for _, w := range append(committed[:4:4], once) {
		ways = append(ways, way{w.name, w.run}, way{w.name + " on a pgxpool.Pool", func(ctx context.Context, _ pgcmd.DB) error { return w.run(ctx, pool) }})
	}
	for _, w := range ways {
		t.Run(w.name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			require.NoError(t, w.run(ctx, db))
		})
	}
}

func TestACommitTimeoutThatIsNegativeIsRefused(t *testing.T) {
	t.Parallel()
	_, err := pgcmd.Connect(t.Context(), pgcmd.Config{URL: pgcmdtest.URL(t), CommitTimeout: -1})
	var e *pgcmd.Error
	require.ErrorAs(t, err, &e)
	require.Len(t, e.Problems, 1)
	require.Equal(t, "CommitTimeout", e.Problems[0].Field)
}

func TestADeadlineEndsTheStatementsThatAreSentWithCommit(t *testing.T) {
	t.Parallel()
	s := set(t)
	sleep := pgcmd.Exec[int]("slow.insert", `insert into slow select $1 from pg_sleep(60)`)
	for name, run := range map[string]func(ctx context.Context, db pgcmd.DB) error{
		"an atomic batch": func(ctx context.Context, db pgcmd.DB) error {
			_, err := pgcmd.Batch(sleep, pgcmd.Atomic).Run(ctx, db, []int{1, 2})
			return err
		},
		"an isolated batch": func(ctx context.Context, db pgcmd.DB) error {
			r, err := pgcmd.Batch(sleep, pgcmd.Isolated).Run(ctx, db, []int{1})
			return errors.Join(err, r.Err())
		},
		"a pipeline": func(ctx context.Context, db pgcmd.DB) error {
			var p pgcmd.Pipeline
			pgcmd.Queue(&p, sleep, 1)
			return p.Run(ctx, db, pgcmd.Atomic)
		},
	} {
		for kind, open := range s.dbs(nil, 0) {
			t.Run(name+"/"+kind, func(t *testing.T) {
				t.Parallel()
				// The server ends the statement 50 ms before the deadline. A machine that is slower than that
				// loses the connection instead, and with it the answer, so the server gets more than one chance.
				var e *pgcmd.Error
				for range 5 {
					db, done := open()
					defer done()
					_, err := db.Exec(t.Context(), "select 1") // so that the deadline is not spent on connecting
					require.NoError(t, err)
					ctx, cancel := context.WithTimeout(t.Context(), time.Second)
					defer cancel()
					require.ErrorAs(t, run(ctx, db), &e)
					require.Contains(t, []pgcmd.Code{pgcmd.CodeTimeout, pgcmd.CodeUnknownEffect}, e.Code)
					if e.Effect == pgcmd.NotApplied {
						break
					}
				}
				require.Equal(t, pgcmd.CodeTimeout, e.Code)
				require.Equal(t, pgcmd.NotApplied, e.Effect, "the server has ended it")
			})
		}
	}
}

func TestACancellationBoundsTheWaitForTheStatementsThatAreSentWithCommit(t *testing.T) {
	t.Parallel()
	s := set(t)
	sleep := pgcmd.Exec[int]("slow.insert", `insert into slow select $1 from pg_advisory_xact_lock_shared(42)`)
	for kind, open := range s.dbs(nil, 50*time.Millisecond) {
		db, done := open()
		defer done()
		s.hold()
		ctx, cancel := context.WithCancel(t.Context())
		result := make(chan error, 1)
		go func() {
			_, err := pgcmd.Batch(sleep, pgcmd.Atomic).Run(ctx, db, []int{1})
			result <- err
		}()
		s.committing()
		cancel()
		err := <-result
		require.ErrorIs(t, err, context.Canceled, kind)
		require.Equal(t, pgcmd.Unknown, pgcmd.EffectOf(err), "COMMIT is with the server")
		s.release()
		s.await(`select count(*) = 1 from slow`)
		require.Zero(t, s.proxy.Counts().Cancels)
	}
}
