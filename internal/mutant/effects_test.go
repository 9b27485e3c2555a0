package mutant_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgcmd/pgcmd"
	"github.com/pgcmd/pgcmd/internal/faults"
	"github.com/pgcmd/pgcmd/pgcmdtest"
)

const ddl = `
	create table t (id bigint not null);
	-- COMMIT sends a notice that it waits for the lock 42, and cannot be cancelled.
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

// database is a new database, and a pool that reaches it through a proxy.
type database struct {
	t      *testing.T
	direct *pgxpool.Pool
	proxy  *faults.Proxy
	pool   *pgcmd.Pool
}

func newDatabase(t *testing.T) *database {
	t.Parallel()
	d := &database{t: t, direct: pgcmdtest.Pool(t, ddl, pgcmd.OnceSchema)}
	var err error
	d.proxy, err = faults.Start(d.direct.Config().ConnString())
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, d.proxy.Close()) })
	d.pool, err = pgcmd.Connect(t.Context(), pgcmd.Config{URL: d.proxy.URL(), MaxConns: 4})
	require.NoError(t, err)
	t.Cleanup(d.pool.Pool.Close)
	return d
}

// rows counts the rows once the backends of the pool have nothing more to do.
func (d *database) rows() (n int) {
	d.t.Helper()
	require.Eventually(d.t, func() bool {
		var busy int
		err := d.direct.QueryRow(context.Background(), `select count(*) from pg_stat_activity
			where datname = current_database() and pid <> pg_backend_pid() and state <> 'idle' and backend_type = 'client backend'`).Scan(&busy)
		return err == nil && busy == 0
	}, 20*time.Second, time.Millisecond)
	require.NoError(d.t, d.direct.QueryRow(context.Background(), `select count(*) from t`).Scan(&n))
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

func TestACommitWithoutAReplyIsNotReportedAsNotApplied(t *testing.T) {
	d := newDatabase(t)
	d.proxy.Set(&faults.Fault{Match: isCommit, Action: faults.CutAfter})
	_, err := add.Run(t.Context(), d.pool, 1)
	require.Error(t, err)
	if d.rows() > 0 {
		assert.NotEqual(t, pgcmd.NotApplied, pgcmd.EffectOf(err), "the row is there")
	}
}

func TestATransactionIsNotTriedAgainAfterCommit(t *testing.T) {
	d := newDatabase(t)
	d.proxy.Set(&faults.Fault{Match: isCommit, Action: faults.CutAfter})
	_, _ = add.With(pgcmd.Options{Retry: pgcmd.Retry{Attempts: 3}}).Run(t.Context(), d.pool, 1)
	assert.Equal(t, 1, d.rows())
}

func TestTheCallersCancellationDoesNotReachCommit(t *testing.T) {
	d := newDatabase(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	d.proxy.Set(&faults.Fault{Match: func(typ byte, body []byte) bool {
		if isCommit(typ, body) {
			cancel()
			return true
		}
		return false
	}, Action: faults.Delay(200 * time.Millisecond)})
	_, err := add.Run(ctx, d.pool, 1)
	assert.NoError(t, err)
}

func TestOnceWaitsForTheAttemptBefore(t *testing.T) {
	d := newDatabase(t)
	ctx := t.Context()
	holder, err := d.direct.Acquire(ctx)
	require.NoError(t, err)
	defer holder.Release()
	_, err = holder.Exec(ctx, `select pg_advisory_lock(42)`)
	require.NoError(t, err)
	// The first attempt loses its connection while its COMMIT waits; the second looks for it, and has to wait as well.
	d.proxy.Set(&faults.Fault{Direction: faults.Backend, Match: isNotice, Action: faults.Reset})
	once := pgcmd.Once(add, func(int64) string { return "k" }).With(pgcmd.Options{Retry: pgcmd.Retry{Attempts: 3}})
	done := make(chan error, 1)
	go func() {
		short, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		_, err := once.Run(short, d.pool, 1)
		done <- err
	}()
	require.Eventually(t, func() bool {
		var waiting int
		err := d.direct.QueryRow(ctx, `select count(*) from pg_locks join pg_stat_activity using (pid) where not granted and datname = current_database()`).Scan(&waiting)
		return err == nil && waiting >= 2
	}, 20*time.Second, time.Millisecond)
	_, err = holder.Exec(ctx, `select pg_advisory_unlock(42)`)
	require.NoError(t, err)
	require.NoError(t, <-done)
	assert.Equal(t, 1, d.rows())
}

func TestAPanicRollsBack(t *testing.T) {
	d := newDatabase(t)
	conn, err := pgx.Connect(t.Context(), d.direct.Config().ConnString())
	require.NoError(t, err)
	defer conn.Close(context.Background())
	insertAndPanic := pgcmd.Transaction("x", func(ctx context.Context, tx *pgcmd.Tx, id int64) (int64, error) {
		_, _ = tx.Exec(ctx, `insert into t values ($1)`, id)
		panic("in the body")
	})
	assert.Panics(t, func() { _, _ = insertAndPanic.Run(t.Context(), conn, 1) })
	assert.Equal(t, "I", string(conn.PgConn().TxStatus()))
}

func TestAnAbortedTransactionIsNotReportedAsApplied(t *testing.T) {
	d := newDatabase(t)
	_, err := pgcmd.Transaction("x", func(ctx context.Context, tx *pgcmd.Tx, id int64) (int64, error) {
		_, _ = add.Run(ctx, tx, id)
		_, _ = tx.Exec(ctx, `select 1/0`)
		return id, nil
	}).Run(t.Context(), d.pool, 1)
	assert.Zero(t, d.rows())
	assert.Error(t, err)
}

func TestSettingsAreOfTheirCallerAlone(t *testing.T) {
	t.Parallel()
	type tenantKey struct{}
	who := pgcmd.QueryOne[struct{}, string]("who", `select coalesce(current_setting('app.tenant', true), '')`)
	for _, shared := range []int{0, 1} {
		pool, err := pgcmd.Connect(t.Context(), pgcmd.Config{URL: pgcmdtest.URL(t), MaxConns: 1, Multiplex: shared,
			Settings: func(ctx context.Context) ([]pgcmd.Setting, error) {
				if tenant, ok := ctx.Value(tenantKey{}).(string); ok {
					return []pgcmd.Setting{{Name: "app.tenant", Value: tenant}}, nil
				}
				return nil, nil
			}})
		require.NoError(t, err)
		t.Cleanup(pool.Pool.Close)
		for _, tenant := range []string{"red", "", "blue", ""} {
			ctx := t.Context()
			if tenant != "" {
				ctx = context.WithValue(ctx, tenantKey{}, tenant)
			}
			for _, o := range []pgcmd.Options{{}, {ReadOnly: true}, {InTx: true}} {
				seen, err := who.With(o).Run(ctx, pool, struct{}{})
				require.NoError(t, err)
				assert.Equal(t, tenant, seen)
			}
		}
	}
}
