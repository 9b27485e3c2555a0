package pgcmd_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgcmd/pgcmd"
	"github.com/pgcmd/pgcmd/pgcmdtest"
)

func TestABatchInATransaction(t *testing.T) {
	t.Parallel()
	pool, proxy := proxied(t, 1, itemsDDL)
	ctx := t.Context()
	run := func(mode pgcmd.BatchMode, in []goods, more func(ctx context.Context, tx *pgcmd.Tx, r pgcmd.BatchResult[int64], err error) error) error {
		must(t, pool.Exec, `truncate items`, pool)
		proxy.ResetCounts()
		return runErr(transact(func(ctx context.Context, tx *pgcmd.Tx) error {
			r, err := pgcmd.Batch(insertItem, mode).Run(ctx, tx, in)
			return more(ctx, tx, r, err)
		}).Run(ctx, pool, empty{}))
	}

	for range 2 { // once to prepare
		require.NoError(t, run(pgcmd.Isolated, someItems(20, 3, 5), func(_ context.Context, _ *pgcmd.Tx, r pgcmd.BatchResult[int64], err error) error {
			assert.Equal(t, 18, r.Succeeded)
			return err
		}))
	}
	assert.EqualValues(t, 3, proxy.Counts().RoundTrips, "the chunk, the chunk with savepoints, and COMMIT")
	assert.Equal(t, 18, count(t, pool, countItems))

	require.NoError(t, run(pgcmd.Atomic, someItems(20), func(_ context.Context, _ *pgcmd.Tx, r pgcmd.BatchResult[int64], err error) error {
		assert.Equal(t, 20, r.Succeeded)
		return err
	}))
	assert.EqualValues(t, 2, proxy.Counts().RoundTrips, "the items, and COMMIT")

	err := run(pgcmd.Atomic, someItems(20, 3), func(context.Context, *pgcmd.Tx, pgcmd.BatchResult[int64], error) error { return nil })
	e := failure(t, err)
	assert.Equal(t, "items_qty_check", e.Constraint, "swallowed, it fails the run all the same")
	assert.Zero(t, count(t, pool, countItems))

	require.NoError(t, runErr(transact(func(ctx context.Context, tx *pgcmd.Tx) error {
		o := pgcmd.Try(ctx, tx, pgcmd.Batch(insertItem, pgcmd.Atomic), someItems(20, 3))
		assert.Equal(t, "items.insert[3]", failure(t, o.Err).Command)
		assert.Equal(t, 19, o.Value.Skipped)
		return runErr(insertItem.Run(ctx, tx, goods{ID: 100, Qty: 1}))
	}).Run(ctx, pool, empty{})))
	assert.Equal(t, 1, count(t, pool, countItems), "a batch that is tried fails alone")

	for _, mode := range []pgcmd.BatchMode{pgcmd.Independent, pgcmd.Sequential} {
		err := run(mode, someItems(2), func(_ context.Context, _ *pgcmd.Tx, r pgcmd.BatchResult[int64], err error) error {
			assert.Equal(t, 2, r.Failed)
			return err
		})
		e := failure(t, err)
		assert.Equal(t, pgcmd.NotApplied, e.Effect)
		assert.Contains(t, e.Message, "cannot join one: use Atomic or Isolated")
		assert.Equal(t, "test.tx > items.insert[]", e.Command)
	}
	idle(t, pool.Pool)
}

func TestABatchOnEveryKindOfDB(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	plain := pgcmdtest.Pool(t, itemsDDL)
	pooled, err := plain.Acquire(ctx)
	require.NoError(t, err)
	defer pooled.Release()
	conn, err := pgx.ConnectConfig(ctx, plain.Config().ConnConfig)
	require.NoError(t, err)
	defer conn.Close(ctx)
	for name, db := range map[string]pgcmd.DB{"a plain pool": plain, "a pool": connect(t, plain, 4), "a pooled connection": pooled, "a connection": conn} {
		for mode := pgcmd.Atomic; mode <= pgcmd.Sequential; mode++ {
			for _, c := range []*pgcmd.Command[goods, int64]{addItem, insertItem, goItem} {
				must(t, plain.Exec, `truncate items`, plain)
				r, err := pgcmd.Batch(c, mode).Run(ctx, db, someItems(10))
				require.NoError(t, err, name)
				assert.Equal(t, 10, r.Succeeded, name)
				assert.Equal(t, 10, count(t, db, countItems), name)
			}
		}
	}
	tx, err := plain.Begin(ctx)
	require.NoError(t, err)
	must(t, tx.Exec, `truncate items`, tx)
	r, err := pgcmd.Batch(insertItem, pgcmd.Isolated).Run(ctx, tx, someItems(10, 4))
	require.NoError(t, err)
	assert.Equal(t, 9, r.Succeeded)
	assert.Equal(t, 9, count(t, tx, countItems))
	require.NoError(t, tx.Rollback(ctx))
}

func TestABatchIsTriedAgain(t *testing.T) {
	t.Parallel()
	pool := connect(t, pgcmdtest.Pool(t, itemsDDL), 2)
	retry := pgcmd.Options{Retry: pgcmd.Retry{Attempts: 3, Delay: time.Microsecond}}
	serializationFailure := `create function fail_once() returns trigger language plpgsql as $$ begin
		if new.name = 'item 3' and nextval('tries') = 1 then raise exception 'again' using errcode = '40001'; end if; return new; end $$;
		create sequence tries; create trigger fail_once before insert on items for each row execute function fail_once()`
	must(t, pool.Exec, serializationFailure, pool)
	for mode := pgcmd.Atomic; mode <= pgcmd.Sequential; mode++ {
		for _, c := range []*pgcmd.Command[goods, int64]{addItem, goItem.With(pgcmd.Options{InTx: true})} {
			must(t, pool.Exec, `truncate items; alter sequence tries restart`, pool)
			calls := 0
			count1 := pgcmd.Options{Middleware: []pgcmd.Middleware{func(next pgcmd.Handler) pgcmd.Handler {
				return func(ctx context.Context, call *pgcmd.Call) error {
					err := next(ctx, call)
					calls = call.Attempts
					return err
				}
			}}}
			r, err := pgcmd.Batch(c, mode).With(retry).With(count1).Run(t.Context(), pool, someItems(10))
			require.NoError(t, err, "%v", mode)
			require.NoError(t, r.Err(), "%v", mode)
			assert.Equal(t, 10, count(t, pool, countItems))
			assert.Equal(t, 2, r.Outcomes[3].Attempts, "%v", mode)
			if mode == pgcmd.Atomic || mode == pgcmd.Isolated {
				assert.Equal(t, 2, r.Outcomes[0].Attempts)
				assert.Equal(t, 2, calls)
			} else {
				assert.Equal(t, 1, r.Outcomes[0].Attempts)
				assert.Equal(t, 1, calls)
			}
		}
	}
	idle(t, pool.Pool)
}

func TestABatchGivesUp(t *testing.T) {
	t.Parallel()
	pool := connect(t, pgcmdtest.Pool(t, itemsDDL), 1)
	done, cancel := context.WithCancel(t.Context())
	cancel()
	held, err := pool.Acquire(t.Context())
	require.NoError(t, err)
	brief, stop := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer stop()
	for mode := pgcmd.Atomic; mode <= pgcmd.Sequential; mode++ {
		for what, c := range map[string]*pgcmd.Command[goods, int64]{"statements": insertItem, "bodies": goItem.With(pgcmd.Options{InTx: true})} {
			for ctx, code := range map[context.Context]pgcmd.Code{done: pgcmd.CodeCanceled, brief: pgcmd.CodeExhausted} {
				r, err := pgcmd.Batch(c, mode).Run(ctx, pool, someItems(10))
				if mode != pgcmd.Independent || what == "statements" {
					assert.NotEmpty(t, pgcmd.CodeOf(err), "%v of %s", mode, what)
				}
				require.Len(t, r.Outcomes, 10, "%v of %s", mode, what)
				assert.Zero(t, r.Succeeded)
				for _, o := range r.Outcomes {
					assert.Equal(t, pgcmd.NotApplied, pgcmd.EffectOf(o.Err))
				}
				if e, _ := r.Outcomes[0].Err.(*pgcmd.Error); ctx.Err() == nil {
					assert.Equal(t, code, e.Code)
				}
			}
		}
	}
	held.Release()
	for mode := pgcmd.Atomic; mode <= pgcmd.Sequential; mode++ {
		r, err := pgcmd.Batch(insertItem, mode).Run(noContext, pool, someItems(2))
		assert.Contains(t, failure(t, err).Message, "the context is nil")
		assert.Len(t, r.Outcomes, 2)
		r, err = pgcmd.Batch(insertItem, mode).Run(t.Context(), nil, someItems(2))
		assert.Contains(t, failure(t, err).Message, "the DB is nil")
		assert.Equal(t, 2, r.Failed)
	}
	_, err = transact(func(_ context.Context, tx *pgcmd.Tx) error {
		for mode := pgcmd.Atomic; mode <= pgcmd.Sequential; mode++ {
			for what, ctx := range map[string]context.Context{"a context that is done": done, "no context": noContext} {
				o := pgcmd.Try(ctx, tx, pgcmd.Batch(insertItem, mode), someItems(2))
				assert.Equal(t, pgcmd.NotApplied, failure(t, o.Err).Effect)
				assert.Equal(t, 2, o.Value.Failed, "%v, %s", mode, what)
				assert.Len(t, o.Value.Outcomes, 2, "%v, %s", mode, what)
			}
		}
		return nil
	}).Run(t.Context(), pool, empty{})
	require.NoError(t, err)
	assert.Zero(t, count(t, pool, countItems))
}

func TestABatchHasHooksOfItsOwn(t *testing.T) {
	t.Parallel()
	pool := connect(t, pgcmdtest.Pool(t, itemsDDL), 2)
	veto := errors.New("no")
	for mode := pgcmd.Atomic; mode <= pgcmd.Isolated; mode++ {
		var steps []string
		batch := pgcmd.Cleanup(pgcmd.OnError(pgcmd.After(pgcmd.Before(pgcmd.Batch(insertItem, mode), func(_ context.Context, in *[]goods) error {
			steps = append(steps, "before")
			*in = (*in)[:3]
			return nil
		}), func(_ context.Context, in []goods, out *pgcmd.BatchResult[int64]) error {
			steps = append(steps, fmt.Sprint("after ", len(in), " ", out.Succeeded))
			return veto
		}), func(_ context.Context, _ []goods, err error) error { steps = append(steps, "error"); return nil }), func(context.Context, []goods) { steps = append(steps, "cleanup") })
		r, err := batch.Run(t.Context(), pool, someItems(10))
		assert.ErrorIs(t, err, veto)
		assert.Equal(t, pgcmd.NotApplied, failure(t, err).Effect)
		assert.Equal(t, []string{"before", "after 3 3", "error", "cleanup"}, steps)
		assert.Equal(t, 3, r.Failed, "the veto is the failure of all")
		assert.Zero(t, count(t, pool, countItems))
	}
}

// What a chunk has applied stays, whatever becomes of the next one.
func TestABatchThatEndsBetweenTwoChunksIsNotNotApplied(t *testing.T) {
	t.Parallel()
	conn, err := connect(t, pgcmdtest.Pool(t, itemsDDL), 1).Acquire(t.Context()) // it counts its bytes
	require.NoError(t, err)
	defer conn.Release()
	ctx := pgcmd.WithProgress(t.Context(), func(int, int) { _ = conn.Conn().Close(context.Background()) })
	r, err := pgcmd.Batch(addItem, pgcmd.Independent).Run(ctx, conn, someItems(1500))
	e := failure(t, err)
	assert.Equal(t, 1000, r.Succeeded)
	assert.Equal(t, pgcmd.Unknown, e.Effect, "%v", e)
	assert.False(t, pgcmd.Retryable(err))
	assert.Equal(t, pgcmd.NotApplied, pgcmd.EffectOf(r.Outcomes[1000].Err), "an item that was not sent")
}

func TestABatchTellsItsProgress(t *testing.T) {
	t.Parallel()
	pool := connect(t, pgcmdtest.Pool(t, itemsDDL), 2)
	for mode := pgcmd.Atomic; mode <= pgcmd.Sequential; mode++ {
		for _, c := range []*pgcmd.Command[goods, int64]{addItem, goItem} {
			must(t, pool.Exec, `truncate items`, pool)
			var last atomic.Int64
			batch := pgcmd.Batch(c, mode).With(pgcmd.Options{Progress: func(done, total int) {
				assert.Equal(t, 2500, total)
				assert.Greater(t, int64(done), last.Swap(int64(done)))
			}})
			if mode == pgcmd.Sequential || c == goItem {
				assert.NoError(t, runErr(batch.Run(t.Context(), pool, someItems(2500))))
			} else {
				assert.NoError(t, runErr(batch.Run(t.Context(), pool, someItems(2500))))
			}
			assert.EqualValues(t, 2500, last.Load(), "%v", mode)
			assert.Equal(t, 2500, count(t, pool, countItems))
		}
	}
}

func TestAContextHearsOfTheProgressOfItsRunsAlone(t *testing.T) {
	t.Parallel()
	pool := connect(t, pgcmdtest.Pool(t, itemsDDL), 2)
	var own, first, second []int
	hears := func(into *[]int) func(done, total int) {
		return func(done, _ int) { *into = append(*into, done) }
	}
	batch := pgcmd.Batch(addItem, pgcmd.Isolated).With(pgcmd.Options{Progress: hears(&own)})
	require.NoError(t, runErr(batch.Run(pgcmd.WithProgress(t.Context(), hears(&first)), pool, someItems(1500))))
	must(t, pool.Exec, `truncate items`, pool)
	plain := pgcmd.Batch(addItem, pgcmd.Isolated)
	require.NoError(t, runErr(plain.Run(pgcmd.WithProgress(t.Context(), hears(&second)), pool, someItems(3))))
	require.NoError(t, runErr(plain.Run(t.Context(), pool, nil)))
	assert.Equal(t, []int{1000, 1500}, first)
	assert.Equal(t, first, own, "and the one of Options besides")
	assert.Equal(t, []int{3}, second)

	assert.Equal(t, t.Context(), pgcmd.WithProgress(t.Context(), nil))
	inner := pgcmd.WithProgress(pgcmd.WithProgress(t.Context(), hears(&second)), nil)
	require.NoError(t, runErr(plain.Run(inner, pool, nil)))
	must(t, pool.Exec, `truncate items`, pool)
	require.NoError(t, runErr(plain.Run(inner, pool, someItems(3))))
	assert.Equal(t, []int{3}, second, "nil reports to nobody")
}

func TestAPanicInABatch(t *testing.T) {
	t.Parallel()
	pool := connect(t, pgcmdtest.Pool(t, itemsDDL), 4)
	boom := pgcmd.Exec[explosive]("items.boom", `insert into items (id, name, qty) values (1, $1, 1)`)
	body := pgcmd.New("items.body", func(_ context.Context, _ pgcmd.DB, in int) (int, error) {
		switch in {
		case 3:
			panic("in the body")
		case 4:
			runtime.Goexit()
		}
		return in, nil
	})
	for mode := pgcmd.Atomic; mode <= pgcmd.Sequential; mode++ {
		assert.Equal(t, "in Value", panics(t, func() { _, _ = pgcmd.Batch(boom, mode).Run(t.Context(), pool, make([]explosive, 3)) }))
		assert.Equal(t, "in the body", panics(t, func() { _, _ = pgcmd.Batch(body, mode).Run(t.Context(), pool, []int{1, 2, 3, 5}) }))
		assert.Equal(t, "in Progress", panics(t, func() {
			reports := pgcmd.Batch(body, mode).With(pgcmd.Options{Progress: func(int, int) { panic("in Progress") }})
			_, _ = reports.Run(t.Context(), pool, []int{1, 2, 5})
		}))
		ended := make(chan bool)
		go func() {
			defer close(ended)
			_, _ = pgcmd.Batch(body, mode).Run(t.Context(), pool, []int{1, 4, 2})
			t.Error("Goexit did not reach the caller")
		}()
		<-ended
		idle(t, pool.Pool)
		require.NoError(t, runErr(pgcmd.Batch(addItem, mode).Run(t.Context(), pool, nil)))
		assert.Zero(t, count(t, pool, countItems))
	}
}

// Nothing waits for the other side, however much goes to and fro, and only so much
// is held at a time.
func TestALargeBatch(t *testing.T) {
	t.Parallel()
	pool := connect(t, pgcmdtest.Pool(t, itemsDDL), 1)
	echo := pgcmd.QueryOne[string, int]("echo", `select length($1::text)`)
	back := pgcmd.QueryOne[string, string]("back", `select $1::text`)
	for _, mode := range []pgcmd.BatchMode{pgcmd.Atomic, pgcmd.Isolated, pgcmd.Independent} {
		must(t, pool.Exec, `truncate items`, pool)
		n, texts := 100_000, 64
		if mode != pgcmd.Atomic {
			n = 10_000
		}
		if testing.Short() {
			n, texts = n/5, 16
		}
		r, err := pgcmd.Batch(addItem, mode).Run(t.Context(), pool, someItems(n))
		require.NoError(t, err)
		assert.Equal(t, n, r.Succeeded)
		assert.Equal(t, n, count(t, pool, countItems))

		large := strings.Repeat("x", 1<<20)
		in := make([]string, texts)
		for i := range in {
			in[i] = large
		}
		lengths, err := pgcmd.Batch(echo, mode).Run(t.Context(), pool, in)
		require.NoError(t, err)
		assert.Equal(t, 1<<20, lengths.Outcomes[texts-1].Value)
		same, err := pgcmd.Batch(back, mode).Run(t.Context(), pool, in)
		require.NoError(t, err)
		assert.Len(t, same.Outcomes[texts-1].Value, 1<<20)
	}
}

// A connection of a pgx.Tx that has ended may be another's by now.
func TestABatchOnATransactionThatHasEnded(t *testing.T) {
	t.Parallel()
	plain := pgcmdtest.Pool(t, itemsDDL)
	tx, err := plain.Begin(t.Context())
	require.NoError(t, err)
	require.NoError(t, tx.Commit(t.Context()))
	for _, mode := range []pgcmd.BatchMode{pgcmd.Atomic, pgcmd.Isolated} {
		r, err := pgcmd.Batch(addItem, mode).Run(t.Context(), tx, someItems(3))
		assert.ErrorIs(t, err, pgx.ErrTxClosed)
		assert.Equal(t, pgcmd.NotApplied, pgcmd.EffectOf(err))
		assert.Equal(t, 3, r.Failed)
	}
	assert.Zero(t, count(t, plain, countItems))
	idle(t, plain)
}

// A statement that the server refuses to prepare fails alone, if it is tried.
func TestTryOfAStatementThatCannotBePrepared(t *testing.T) {
	t.Parallel()
	pool := connect(t, pgcmdtest.Pool(t, itemsDDL), 1)
	wrong := pgcmd.Exec[int64]("items.wrong", `insert into nowhere values ($1)`)
	for _, first := range []bool{true, false} {
		must(t, pool.Exec, `truncate items`, pool)
		require.NoError(t, runErr(transact(func(ctx context.Context, tx *pgcmd.Tx) error {
			if !first {
				if _, err := addItem.Run(ctx, tx, goods{ID: 1, Qty: 1}); err != nil {
					return err
				}
			}
			assert.Equal(t, "42P01", failure(t, pgcmd.Try(ctx, tx, wrong, 1).Err).SQLState)
			assert.Equal(t, "42P01", failure(t, pgcmd.Try(ctx, tx, pgcmd.Batch(wrong, pgcmd.Isolated), []int64{1}).Err).SQLState)
			return runErr(addItem.Run(ctx, tx, goods{ID: 2, Qty: 1}))
		}).Run(t.Context(), pool, empty{})), "first %v", first)
		assert.Positive(t, count(t, pool, countItems))
	}
}
