package pgcmd_test

import (
	"context"
	"iter"
	"runtime"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgcmd/pgcmd"
	"github.com/pgcmd/pgcmd/pgcmdtest"
)

func TestStreamTellsTheErrorLast(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	places(t, pgcmdtest.Pool(t, streamDDL), func(t *testing.T, db pgcmd.DB) {
		_, hides := db.(hidden)
		isolate(t, db, func(db pgcmd.DB) {
			rows, err := collect(pgcmd.Stream(ctx, db, fifth, 10))
			e := failure(t, err)
			assert.Equal(t, []int{0, 0, 0, 1}, rows)
			assert.Equal(t, "22012", e.SQLState)
			assert.Equal(t, pgcmd.NotApplied, e.Effect)
			assert.Equal(t, "rows.fifth", e.Command)
			assert.Equal(t, 1, e.Attempts)
		})
		isolate(t, db, func(db pgcmd.DB) {
			_, err := collect(pgcmd.Stream(ctx, db, pgcmd.Query[int, int]("x", `select nope from rows where n = $1`), 1))
			e := failure(t, err)
			assert.Equal(t, "42703", e.SQLState)
			assert.Contains(t, e.Message, `(line 1 of the SQL, at "nope")`)
		})
		isolate(t, db, func(db pgcmd.DB) {
			_, err := collect(pgcmd.Stream(ctx, db, pgcmd.Query[[]string, int]("x", `select n from rows where n = $1`), []string{"secret"}))
			e := failure(t, err)
			want := pgcmd.CodeInternal // no text is an int4
			if hides {
				want = pgcmd.CodeInvalid // the types that its connection knows cannot be asked for
			}
			assert.Equal(t, want, e.Code)
			assert.Equal(t, pgcmd.NotApplied, e.Effect)
			assert.NotContains(t, e.Error(), "secret")
			_, err = db.Exec(ctx, `select 1`)
			assert.NoError(t, err, "nothing was sent")
		})
	})
}

// The rows that a server has made tell whether it was stopped: see
// TestMaxRowsStopsReadingAtOnce.
func TestStreamThatIsBrokenOff(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	pool := pgcmdtest.Pool(t, streamDDL)
	places(t, pool, func(t *testing.T, db pgcmd.DB) {
		if _, ok := db.(hidden); ok {
			return // without a cursor all rows are read
		}
		var was, is int64
		require.NoError(t, pool.QueryRow(ctx, `select last_value from seen`).Scan(&was))
		assert.Len(t, take(t, pgcmd.Stream(ctx, db, seeing, 30_000_000), 10), 10)
		require.NoError(t, pool.QueryRow(ctx, `select last_value from seen`).Scan(&is))
		assert.Less(t, is-was, int64(5_000_000))

		times := 20 // more than the pool has connections
		if testing.Short() {
			times = int(pool.Config().MaxConns) + 1
		}
		for range times {
			assert.Equal(t, []int{1, 2}, take(t, pgcmd.Stream(ctx, db, numbers, 3_000_000), 2))
		}
		_, err := db.Exec(ctx, `create temp table after_it on commit drop as select 1`)
		assert.NoError(t, err, "it is usable")
	})
	assert.Eventually(t, func() bool {
		return count(t, pool, `select count(*) from pg_stat_activity where query like '%nextval%' and state = 'active' and pid <> pg_backend_pid() and datname = current_database()`) == 0
	}, 10*time.Second, 10*time.Millisecond, "the server has stopped")
}

// What is left of a stream that is broken off may be here already: then its connection
// lives, and its next user can read.
func TestAStreamThatIsBrokenOffLeavesItsConnectionReadable(t *testing.T) {
	t.Parallel()
	pool := connect(t, pgcmdtest.Pool(t, streamDDL), 1)
	add := pgcmd.Copy[struct{ N int }]("kept.copy", pgx.Identifier{"kept"})
	for i := range 20 {
		take(t, pgcmd.Stream(t.Context(), pool, numbers, 200+20*i), 1)
		_, err := add.Run(t.Context(), pool, rowsOf(struct{ N int }{2*i + 1}))
		require.NoError(t, err)
		take(t, pgcmd.Stream(t.Context(), pool, numbers, 200+20*i), 1)
		_, err = keep.Run(t.Context(), pool, 2*i+2)
		require.NoError(t, err)
	}
}

func TestStreamOfAWriteRunsToItsEnd(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	places(t, pgcmdtest.Pool(t, streamDDL), func(t *testing.T, db pgcmd.DB) {
		_, err := db.Exec(ctx, `delete from kept`)
		require.NoError(t, err)
		assert.Equal(t, []int{1, 2}, take(t, pgcmd.Stream(ctx, db, keeping, 5000), 2))
		assert.Equal(t, 5000, count(t, db, countKept))
		isolate(t, db, func(db pgcmd.DB) {
			_, err = collect(pgcmd.Stream(ctx, db, keeping.With(pgcmd.Options{OnConstraint: map[string]error{"kept_n_key": errHook}}), 1))
			assert.ErrorIs(t, err, errHook)
			assert.Equal(t, pgcmd.NotApplied, failure(t, err).Effect)
		})
	})
}

func TestStreamGivesEverythingBackAfterAPanic(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	pool := pgcmdtest.Pool(t, streamDDL)
	cleaned := 0
	for name, q := range map[string]*pgcmd.Command[int, []int]{
		"plain": numbers, "hooks": pgcmd.Cleanup(numbers, func(context.Context, int) { cleaned++ }),
		"in a transaction": pgcmd.Cleanup(keeping.With(pgcmd.Options{InTx: true}), func(context.Context, int) { cleaned++ }),
	} {
		assert.Equal(t, "boom", panics(t, func() {
			for range pgcmd.Stream(ctx, pool, q, 1_000_000) {
				panic("boom")
			}
		}), name)
		done := make(chan struct{})
		go func() {
			defer close(done)
			for range pgcmd.Stream(ctx, pool, q, 1_000_000) {
				runtime.Goexit()
			}
		}()
		<-done
		idle(t, pool)
	}
	assert.Equal(t, 4, cleaned)
	assert.Zero(t, count(t, pool, countKept), "rolled back")

	_, err := transact(func(ctx context.Context, tx *pgcmd.Tx) error {
		assert.Equal(t, "boom", panics(t, func() {
			for range pgcmd.Stream(ctx, tx, numbers, 1000) {
				panic("boom")
			}
		}))
		_, err := keep.Run(ctx, tx, 1)
		return err
	}).Run(ctx, pool, empty{})
	require.NoError(t, err, "a Tx goes on after a panic that somebody recovered")

	// Of user code that scans.
	for _, db := range []pgcmd.DB{pool, nil} {
		_, err := transact(func(ctx context.Context, tx *pgcmd.Tx) error {
			if db == nil {
				db = tx
			}
			assert.Equal(t, "scanned", panics(t, func() {
				for range pgcmd.Stream(pgcmd.OutsideTx(ctx), db, pgcmd.Query[empty, scanPanics]("x", `select generate_series(1, 1000)`), empty{}) {
				}
			}))
			_, err := keep.Run(ctx, tx, 2)
			if err != nil {
				return err
			}
			_, err = tx.Exec(ctx, `delete from kept where n = 2`)
			return err
		}).Run(ctx, pool, empty{})
		require.NoError(t, err)
	}
	next, stop := iter.Pull2(pgcmd.Stream(ctx, pool, numbers, 1_000_000))
	n, err, ok := next()
	assert.Equal(t, 1, n)
	assert.NoError(t, err)
	assert.True(t, ok)
	stop()
	idle(t, pool)
}

type scanPanics struct{}

func (p *scanPanics) ScanRow(pgx.Rows) error { panic("scanned") }

func TestStreamEndsWithItsContext(t *testing.T) {
	t.Parallel()
	pool := pgcmdtest.Pool(t, streamDDL)
	places(t, pool, func(t *testing.T, db pgcmd.DB) {
		if conn, ok := db.(*pgx.Conn); ok { // a cancelled statement costs the connection
			var err error
			status := conn.PgConn().TxStatus()
			conn, err = pgx.ConnectConfig(t.Context(), pool.Config().ConnConfig)
			require.NoError(t, err)
			defer conn.Close(t.Context())
			if status != 'I' {
				_, err = conn.Exec(t.Context(), "begin")
				require.NoError(t, err)
			}
			db = conn
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		n := 0
		for row, err := range pgcmd.Stream(ctx, db, numbers, 1_000_000) {
			if n++; n == 5 {
				cancel()
			}
			if n > 5 {
				assert.Zero(t, row)
				assert.ErrorIs(t, err, context.Canceled)
				assert.Equal(t, pgcmd.CodeCanceled, failure(t, err).Code)
			}
		}
		assert.Equal(t, 6, n)
	})
	idle(t, pool)

	slow := pgcmd.Query[int, int]("rows.slow", `select n from generate_series(1, 100) n, pg_sleep(case when n = $1 then 30 else 0 end) s`)
	for _, inTx := range []bool{false, true} {
		_, err := collect(pgcmd.Stream(t.Context(), pool, slow.With(pgcmd.Options{Timeout: time.Second, InTx: inTx, ReadOnly: true}), 50))
		e := failure(t, err)
		assert.Equal(t, pgcmd.CodeTimeout, e.Code)
		assert.Equal(t, pgcmd.NotApplied, e.Effect)
		assert.ErrorIs(t, err, context.DeadlineExceeded)
	}
	idle(t, pool)
}

func TestStreamAfterAConnectionLoss(t *testing.T) {
	t.Parallel()
	pool := pgcmdtest.Pool(t, streamDDL)
	for _, inTx := range []bool{false, true} {
		n := 0
		_, err := collect(func(yield func(int, error) bool) {
			q := numbers.With(pgcmd.Options{InTx: inTx, ReadOnly: true, Retry: pgcmd.Retry{Attempts: 3}})
			for row, err := range pgcmd.Stream(t.Context(), pool, q, 3_000_000) {
				if n++; n == 5 {
					_, err := pool.Exec(t.Context(), `select pg_terminate_backend(pid) from pg_stat_activity where pid <> pg_backend_pid() and datname = current_database() and query like '%series(1, $1)%' or query like 'fetch%'`)
					require.NoError(t, err)
				}
				if !yield(row, err) {
					return
				}
			}
		})
		e := failure(t, err)
		assert.Equal(t, pgcmd.CodeUnavailable, e.Code)
		assert.Equal(t, pgcmd.NotApplied, e.Effect)
		assert.Equal(t, 1, e.Attempts, "rows were yielded")
		idle(t, pool)
	}
}
