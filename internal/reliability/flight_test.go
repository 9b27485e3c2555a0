package reliability_test

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgcmd/pgcmd"
	"github.com/pgcmd/pgcmd/internal/faults"
)

// flightDDL makes a COMMIT that says when it has begun, and then waits for the advisory lock 7, whoever cancels it.
const flightDDL = worksDDL + `
create function land() returns trigger language plpgsql as $$
declare
	said bool := false;
begin
	loop
		begin
			if not said then -- twice would show that nobody listens any more
				said := true;
				raise notice 'committing';
			end if;
			perform pg_advisory_xact_lock_shared(7);
			return null;
		exception when query_canceled then
			perform pg_advisory_lock_shared(8); -- tells that pgx's cancel request has come
		end;
	end loop;
end $$;
create constraint trigger land after insert on ops deferrable initially deferred for each row execute function land();`

// TestOnceWaitsForAnAttemptInFlight loses a connection whose COMMIT goes on. The next attempt must not take for absent
// what is only not there yet.
func TestOnceWaitsForAnAttemptInFlight(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	l := newLab(t, flightDDL)
	gate, err := l.direct.Acquire(ctx)
	require.NoError(t, err)
	defer gate.Release()
	_, err = gate.Exec(ctx, `select pg_advisory_lock(7)`)
	require.NoError(t, err)
	opened := false
	open := func() {
		if !opened {
			opened = true
			_, err := gate.Exec(ctx, `select pg_advisory_unlock(7)`)
			assert.NoError(t, err)
		}
	}
	defer open()

	proxy, err := faults.Start(l.url)
	require.NoError(t, err)
	defer proxy.Close()
	pool, err := pgcmd.Connect(ctx, pgcmd.Config{URL: proxy.URL(), MaxConns: 2, Pgx: func(config *pgxpool.Config) {
		config.ConnConfig.RuntimeParams["application_name"] = "flight"
	}})
	require.NoError(t, err)
	defer pool.Pool.Close()
	proxy.Set(&faults.Fault{
		Direction: faults.Backend, Match: func(typ byte, _ []byte) bool { return typ == 'N' }, Action: faults.HalfClose,
	})
	pay := pgcmd.Once(addFirst, key).With(pgcmd.Options{Retry: pgcmd.Retry{Attempts: 3}})
	landed := make(chan pgcmd.Outcome[int64], 1)
	go func() { landed <- pay.Try(ctx, pool, op{1}) }()

	// Both the attempt whose connection is lost and the one after it come to wait, the first also after it was cancelled.
	waiting := func() bool {
		return number(t, l.direct, `select (select count(*) from pg_stat_activity where application_name = 'flight' and wait_event_type = 'Lock')
			+ (select count(*) from pg_locks where locktype = 'advisory' and objid = 8)`) == 3
	}
	assert.True(t, eventually(waiting), "two attempts that wait")
	open()
	out := <-landed
	assert.NoError(t, out.Err)
	assert.Greater(t, out.Attempts, 1)
	assert.EqualValues(t, 1, out.Value)
	assert.False(t, out.Replayed, "it was this run's own attempt")

	require.NoError(t, pool.Close(ctx))
	var parts []int64
	require.NoError(t, l.direct.QueryRow(ctx, `select parts('flight', 1)`).Scan(&parts))
	assert.Equal(t, []int64{1}, parts, "done more than once")
}
