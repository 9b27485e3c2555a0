package mutant_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgcmd/pgcmd"
	"github.com/pgcmd/pgcmd/internal/faults"
	"github.com/pgcmd/pgcmd/internal/mutant"
	"github.com/pgcmd/pgcmd/pgcmdtest"
)

const ddl = `
	create table t (id bigint not null);
	-- COMMIT says that it waits for whoever holds the lock 42, and is not to be cancelled.
	create function hold() returns trigger language plpgsql as $$ begin
		raise notice 'waiting';
		loop
			begin
				perform pg_advisory_xact_lock_shared(42);
				return null;
			exception when query_canceled then null;
			end;
		end loop;
	end $$;
	create constraint trigger hold after insert on t deferrable initially deferred for each row execute function hold()`

// A scene is a database, and a pool that reaches it through a proxy.
type scene struct {
	t      *testing.T
	direct *pgxpool.Pool
	proxy  *faults.Proxy
	pool   *pgcmd.Pool
}

func set(t *testing.T) *scene {
	s := &scene{t: t, direct: pgcmdtest.Pool(t, ddl, pgcmd.OnceSchema)}
	var err error
	s.proxy, err = faults.Start(s.direct.Config().ConnString())
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, s.proxy.Close()) })
	s.pool, err = pgcmd.Connect(t.Context(), pgcmd.Config{URL: s.proxy.URL(), MaxConns: 4})
	require.NoError(t, err)
	t.Cleanup(s.pool.Pool.Close)
	return s
}

// rows counts the rows once the backends of the pool have nothing more to do.
func (s *scene) rows() (n int) {
	s.t.Helper()
	require.Eventually(s.t, func() bool {
		var busy int
		err := s.direct.QueryRow(context.Background(), `select count(*) from pg_stat_activity
			where datname = current_database() and pid <> pg_backend_pid() and state <> 'idle' and backend_type = 'client backend'`).Scan(&busy)
		return err == nil && busy == 0
	}, 20*time.Second, time.Millisecond)
	require.NoError(s.t, s.direct.QueryRow(context.Background(), `select count(*) from t`).Scan(&n))
	return n
}

var add = pgcmd.Transaction("t.add", func(ctx context.Context, tx *pgcmd.Tx, id int64) (int64, error) {
	tag, err := tx.Exec(ctx, `insert into t values ($1)`, id)
	return tag.RowsAffected(), err
})

func isCommit(typ byte, body []byte) bool {
	return typ == 'Q' && strings.HasPrefix(string(body), "commit")
}

func isNotice(typ byte, _ []byte) bool { return typ == 'N' }

// A check says what is wrong, or "".
type check func(s *scene) string

var checks = map[mutant.Mutant]check{
	mutant.TrustSafeToRetry: func(s *scene) string {
		s.proxy.Set(&faults.Fault{Match: isCommit, Action: faults.CutAfter})
		_, err := add.Run(s.t.Context(), s.pool, 1)
		if n := s.rows(); pgcmd.EffectOf(err) == pgcmd.NotApplied && n > 0 {
			return "told not applied, and it is there"
		}
		return ""
	},
	mutant.RetryAfterCommit: func(s *scene) string {
		s.proxy.Set(&faults.Fault{Match: isCommit, Action: faults.CutAfter})
		_, _ = add.With(pgcmd.Options{Retry: pgcmd.Retry{Attempts: 3}}).Run(s.t.Context(), s.pool, 1)
		if n := s.rows(); n != 1 {
			return fmt.Sprintf("applied %d times", n)
		}
		return ""
	},
	mutant.CommitOnCallersCtx: func(s *scene) string {
		ctx, cancel := context.WithCancel(s.t.Context())
		defer cancel()
		s.proxy.Set(&faults.Fault{Match: func(typ byte, body []byte) bool {
			if isCommit(typ, body) {
				cancel()
				return true
			}
			return false
		}, Action: faults.Delay(200 * time.Millisecond)})
		if _, err := add.Run(ctx, s.pool, 1); err != nil {
			return "a COMMIT under way was torn: " + err.Error()
		}
		return ""
	},
	mutant.VerifyBySelect: func(s *scene) string {
		ctx := s.t.Context()
		holder, err := s.direct.Acquire(ctx)
		require.NoError(s.t, err)
		defer holder.Release()
		_, err = holder.Exec(ctx, `select pg_advisory_lock(42)`)
		require.NoError(s.t, err)
		// The first attempt loses its connection while its COMMIT waits; the second
		// looks for it, and has to wait as well.
		s.proxy.Set(&faults.Fault{Direction: faults.Backend, Match: isNotice, Action: faults.Reset})
		once := pgcmd.Once(add, func(int64) string { return "k" }).With(pgcmd.Options{Retry: pgcmd.Retry{Attempts: 3}})
		done := make(chan error, 1)
		go func() {
			short, cancel := context.WithTimeout(context.Background(), 30*time.Second)
			defer cancel()
			_, err := once.Run(short, s.pool, 1)
			done <- err
		}()
		require.Eventually(s.t, func() bool {
			var waiting int
			err := s.direct.QueryRow(ctx, `select count(*) from pg_locks where not granted`).Scan(&waiting)
			return err == nil && waiting >= 2
		}, 20*time.Second, time.Millisecond)
		_, err = holder.Exec(ctx, `select pg_advisory_unlock(42)`)
		require.NoError(s.t, err)
		if err := <-done; err != nil {
			return err.Error()
		}
		if n := s.rows(); n != 1 {
			return fmt.Sprintf("applied %d times", n)
		}
		return ""
	},
	mutant.NoRollbackOnPanic: func(s *scene) string {
		conn, err := pgx.Connect(s.t.Context(), s.direct.Config().ConnString())
		require.NoError(s.t, err)
		defer conn.Close(context.Background())
		func() {
			defer func() { _ = recover() }()
			_, _ = pgcmd.Transaction("x", func(ctx context.Context, tx *pgcmd.Tx, id int64) (int64, error) {
				_, _ = tx.Exec(ctx, `insert into t values ($1)`, id)
				panic("in the body")
			}).Run(s.t.Context(), conn, 1)
		}()
		if status := conn.PgConn().TxStatus(); status != 'I' {
			return fmt.Sprintf("the connection came back with transaction status %c", status)
		}
		return ""
	},
	mutant.SwallowAborted: func(s *scene) string {
		_, err := pgcmd.Transaction("x", func(ctx context.Context, tx *pgcmd.Tx, id int64) (int64, error) {
			_, _ = add.Run(ctx, tx, id)
			_, _ = tx.Exec(ctx, `select 1/0`)
			return id, nil
		}).Run(s.t.Context(), s.pool, 1)
		if err == nil && s.rows() == 0 {
			return "told applied, and it is not there"
		}
		return ""
	},
}

// A mutant is in the whole process: these cannot run in parallel.
func TestTheSuiteCatchesEveryMutant(t *testing.T) {
	for m := mutant.None + 1; m <= mutant.SwallowAborted; m++ {
		t.Run(fmt.Sprint(m), func(t *testing.T) {
			require.Contains(t, checks, m, "every mutant needs a check")
			assert.Empty(t, checks[m](set(t)), "without the mutant all is well")
			s := set(t)
			defer mutant.Plant(m)()
			wrong := checks[m](s)
			assert.NotEmpty(t, wrong, "the mutant has survived")
			t.Logf("caught: %s", wrong)
		})
	}
}
