package pgcmd_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgcmd/pgcmd"
	"github.com/pgcmd/pgcmd/internal/faults"
	"github.com/pgcmd/pgcmd/pgcmdtest"
)

// Of an item the table keeps the transaction that it came in.
const itemsDDL = `
	create table items (
		id   bigint constraint items_id_key unique,
		name text not null,
		qty  int not null constraint items_qty_check check (qty > 0),
		late bigint constraint items_late_key unique deferrable initially deferred,
		xid  xid8 not null default pg_current_xact_id()
	)`

type goods struct {
	ID   int64
	Name string `validate:"max=20"`
	Qty  int
	Late *int64
}

var (
	addItem    = pgcmd.Exec[goods]("items.add", `insert into items (id, name, qty, late) values (@id, @name, @qty, @late)`)
	insertItem = pgcmd.QueryOne[goods, int64]("items.insert", `insert into items (id, name, qty, late) values (@id, @name, @qty, @late) returning id`)
	findItem   = pgcmd.QueryOne[int64, string]("items.find", `select name from items where id = $1`)
	// A command whose body is Go, with the same meaning.
	goItem = pgcmd.New("items.go", func(ctx context.Context, db pgcmd.DB, in goods) (int64, error) { return insertItem.Run(ctx, db, in) })
)

var noContext context.Context // a caller's mistake

const (
	countItems   = `select count(*) from items`
	countCommits = `select count(distinct xid) from items`
)

func someItems(n int, bad ...int) []goods {
	items := make([]goods, n)
	for i := range items {
		items[i] = goods{ID: int64(i), Name: fmt.Sprint("item ", i), Qty: 1}
	}
	for _, i := range bad {
		items[i].Qty = 0
	}
	return items
}

// proxied is a pool of pgcmd's that goes through a proxy.
func proxied(t testing.TB, maxConns int32, ddl ...string) (*pgcmd.Pool, *faults.Proxy) {
	t.Helper()
	proxy, err := faults.Start(pgcmdtest.Pool(t, ddl...).Config().ConnString())
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, proxy.Close()) })
	pool, err := pgcmd.Connect(t.Context(), pgcmd.Config{URL: proxy.URL(), MaxConns: maxConns})
	require.NoError(t, err)
	t.Cleanup(pool.Pool.Close)
	return pool, proxy
}

func TestABatchWithOneBadRow(t *testing.T) {
	t.Parallel()
	const n, bad = 1000, 17
	for _, c := range []struct {
		mode                          pgcmd.BatchMode
		kept, commits                 int
		trips                         int64
		succeeded, failed, skipped    int
		tripsOfGood, commitsOfTheGood int
	}{
		{mode: pgcmd.Atomic, trips: 2, failed: 1, skipped: n - 1, tripsOfGood: 1, commitsOfTheGood: 1}, // and a ROLLBACK
		{mode: pgcmd.Isolated, kept: n - 1, commits: 1, trips: 2, succeeded: n - 1, failed: 1, tripsOfGood: 1, commitsOfTheGood: 1},
		{mode: pgcmd.Independent, kept: n - 1, commits: n - 1, trips: 1, succeeded: n - 1, failed: 1, tripsOfGood: 1, commitsOfTheGood: n},
		{mode: pgcmd.Sequential, kept: bad, commits: bad, trips: bad + 1, succeeded: bad, failed: 1, skipped: n - bad - 1, tripsOfGood: n, commitsOfTheGood: n},
	} {
		t.Run(c.mode.String(), func(t *testing.T) {
			t.Parallel()
			ctx := t.Context()
			pool, proxy := proxied(t, 1, itemsDDL)
			batch := pgcmd.Batch(addItem, c.mode)
			if c.mode != pgcmd.Sequential {
				proxy.Latency(20 * time.Millisecond) // so that nothing is answered before all is sent
			}

			r, err := batch.Run(ctx, pool, someItems(n))
			require.NoError(t, err)
			assert.Equal(t, n, r.Succeeded)
			assert.Equal(t, n, count(t, pool, countItems))
			assert.Equal(t, c.commitsOfTheGood, count(t, pool, countCommits))
			must(t, pool.Exec, `truncate items`, pool)

			proxy.ResetCounts()
			_, err = batch.Run(ctx, pool, someItems(n))
			require.NoError(t, err)
			assert.EqualValues(t, c.tripsOfGood, proxy.Counts().RoundTrips, "round trips, if all are good")
			must(t, pool.Exec, `truncate items`, pool)

			proxy.ResetCounts()
			r, err = batch.Run(ctx, pool, someItems(n, bad))
			assert.Equal(t, c.trips, proxy.Counts().RoundTrips, "round trips")
			culprit := failure(t, r.Outcomes[bad].Err)
			switch c.mode {
			case pgcmd.Atomic:
				assert.Equal(t, culprit, failure(t, err))
			case pgcmd.Sequential:
				assert.ErrorIs(t, err, culprit)
				assert.Equal(t, culprit.Command, failure(t, err).Command)
				assert.Equal(t, pgcmd.Unknown, failure(t, err).Effect, "items before it are kept: the batch must not be repeated")
			default:
				assert.NoError(t, err)
			}
			assert.Equal(t, "items.add[17]", culprit.Command)
			assert.Equal(t, "items_qty_check", culprit.Constraint)
			assert.Equal(t, pgcmd.NotApplied, culprit.Effect)
			assert.Equal(t, pgcmd.CodeInvalid, culprit.Code)
			assert.ErrorIs(t, r.Err(), culprit)
			assert.Equal(t, 1, strings.Count(r.Err().Error(), "items.add["), "one is blamed: %v", r.Err())

			assert.Equal(t, [3]int{c.succeeded, c.failed, c.skipped}, [3]int{r.Succeeded, r.Failed, r.Skipped})
			for i, o := range r.Outcomes {
				switch {
				case i == bad:
				case o.OK():
					assert.EqualValues(t, 1, o.Value)
				default:
					e := failure(t, o.Err)
					require.ErrorIs(t, e, pgcmd.ErrSkipped)
					require.Equal(t, pgcmd.NotApplied, e.Effect)
					require.Contains(t, e.Error(), "skipped, since items.add[17] failed")
				}
			}
			assert.Equal(t, c.kept, count(t, pool, countItems))
			assert.Equal(t, c.commits, count(t, pool, countCommits))
			assert.Zero(t, count(t, pool, fmt.Sprintf(`select count(*) from items where id = %d`, bad)))
			idle(t, pool.Pool)
		})
	}
}

func TestABatchOfGoBodiesMeansTheSame(t *testing.T) {
	t.Parallel()
	for mode, want := range map[pgcmd.BatchMode]struct{ kept, commits int }{
		pgcmd.Atomic: {0, 0}, pgcmd.Isolated: {49, 1}, pgcmd.Independent: {49, 49}, pgcmd.Sequential: {17, 17},
	} {
		t.Run(mode.String(), func(t *testing.T) {
			t.Parallel()
			pool := connect(t, pgcmdtest.Pool(t, itemsDDL), 4)
			for what, c := range map[string]*pgcmd.Command[goods, int64]{
				"a Go body":    goItem,
				"an After":     pgcmd.After(insertItem, func(context.Context, goods, *int64) error { return nil }),
				"InTx":         insertItem.With(pgcmd.Options{InTx: true}),
				"a middleware": insertItem.With(pgcmd.Options{Middleware: []pgcmd.Middleware{func(next pgcmd.Handler) pgcmd.Handler { return next }}}),
			} {
				must(t, pool.Exec, `truncate items`, pool)
				r, err := pgcmd.Batch(c, mode).Run(t.Context(), pool, someItems(50, 17))
				e := failure(t, r.Outcomes[17].Err)
				assert.Contains(t, e.Command, "[17]", what)
				assert.Equal(t, mode == pgcmd.Atomic || mode == pgcmd.Sequential, err != nil, "%s: %v", what, err)
				assert.Equal(t, want.kept, r.Succeeded, what)
				assert.Equal(t, 1, r.Failed, what)
				assert.Equal(t, want.kept, count(t, pool, countItems), what)
				assert.Equal(t, want.commits, count(t, pool, countCommits), what)
				for i, o := range r.Outcomes {
					if o.OK() {
						assert.EqualValues(t, i, o.Value, what)
					}
				}
				idle(t, pool.Pool)
			}
		})
	}
}

func TestADeferredConstraintTurnsEveryItemIntoNotApplied(t *testing.T) {
	t.Parallel()
	one := int64(1)
	items := someItems(5)
	items[1].Late, items[3].Late = &one, &one
	for mode, failed := range map[pgcmd.BatchMode]int{pgcmd.Atomic: 5, pgcmd.Isolated: 5, pgcmd.Independent: 1, pgcmd.Sequential: 1} {
		for what, c := range map[string]*pgcmd.Command[goods, int64]{"statements": insertItem, "bodies": goItem} {
			pool := connect(t, pgcmdtest.Pool(t, itemsDDL), 1)
			r, err := pgcmd.Batch(c, mode).Run(t.Context(), pool, items)
			assert.Equal(t, failed, r.Failed, "%v of %s", mode, what)
			assert.Equal(t, 5-failed-r.Skipped, count(t, pool, countItems), "%v of %s", mode, what)
			if mode != pgcmd.Independent {
				assert.Equal(t, "items_late_key", failure(t, err).Constraint)
			}
			for i, o := range r.Outcomes {
				if !o.OK() {
					e := failure(t, o.Err)
					want := pgcmd.NotApplied
					if what == "bodies" && mode > pgcmd.Isolated && i == 3 {
						want = pgcmd.Unknown // a New body outside of a transaction is not one unit
					}
					assert.Equal(t, want, e.Effect, "%v of %s: %v", mode, what, e)
				}
			}
		}
	}
}

func TestABatchValidatesEveryItemFirst(t *testing.T) {
	t.Parallel()
	for mode, kept := range map[pgcmd.BatchMode]int{pgcmd.Atomic: 0, pgcmd.Isolated: 8, pgcmd.Independent: 8, pgcmd.Sequential: 3} {
		pool, proxy := proxied(t, 1, itemsDDL)
		items := someItems(10)
		items[3].Name, items[7].Name = strings.Repeat("x", 21), strings.Repeat("y", 21)
		proxy.ResetCounts()
		batch := pgcmd.Batch(addItem, mode)
		r, err := batch.Run(t.Context(), pool, items)
		if mode == pgcmd.Atomic {
			assert.Zero(t, proxy.Counts().RoundTrips)
		}
		assert.Equal(t, kept, r.Succeeded, mode)
		assert.Equal(t, 2, r.Failed, mode)
		assert.Equal(t, kept, count(t, pool, countItems), mode)
		for _, i := range []int{3, 7} {
			e := failure(t, r.Outcomes[i].Err)
			assert.Equal(t, pgcmd.CodeInvalid, e.Code)
			assert.Equal(t, "Name", e.Problems[0].Field)
			assert.Equal(t, fmt.Sprintf("items.add[%d]", i), e.Command)
			assert.Zero(t, r.Outcomes[i].Attempts)
		}
		if mode == pgcmd.Atomic || mode == pgcmd.Sequential {
			assert.Equal(t, "items.add[3]", failure(t, err).Command)
		} else {
			assert.NoError(t, err)
		}
		e := failure(t, batch.Validate(items))
		assert.Equal(t, "pgcmd: items.add[]: 2 of 10 items were refused: [3].Name must be a maximum of 20 characters in length; [7].Name must be a maximum of 20 characters in length [invalid, not applied]", e.Error())
	}
}

func TestABatchOfNothingIsASuccess(t *testing.T) {
	t.Parallel()
	pool, proxy := proxied(t, 1, itemsDDL)
	proxy.ResetCounts()
	for mode := pgcmd.Atomic; mode <= pgcmd.Sequential; mode++ {
		for _, items := range [][]goods{nil, {}} {
			o := pgcmd.Try(t.Context(), pool, pgcmd.Batch(addItem, mode), items)
			require.NoError(t, o.Err)
			assert.NotNil(t, o.Value.Outcomes)
			assert.Empty(t, o.Value.Outcomes)
			assert.NoError(t, o.Value.Err())
		}
	}
	assert.Zero(t, proxy.Counts().RoundTrips)
}

func TestABatchThatIsDefinedWronglyPanics(t *testing.T) {
	t.Parallel()
	for want, f := range map[string]func(){
		"pgcmd: Batch was given a nil command: pass one":                                                                     func() { pgcmd.Batch[goods, int64](nil, pgcmd.Atomic) },
		"pgcmd: items.add: Batch was given the unknown mode 4: use Atomic, Isolated, Independent or Sequential":              func() { pgcmd.Batch(addItem, 4) },
		"pgcmd: items.add[]: Options.InTx, but an independent batch has a transaction for each item: use Atomic or Isolated": func() { pgcmd.Batch(addItem, pgcmd.Independent).With(pgcmd.Options{InTx: true}) },
		"pgcmd: items.add[]: Options.Tx, but the command begins no transaction: add InTx, or make it a Transaction": func() {
			pgcmd.Batch(addItem, pgcmd.Independent).With(pgcmd.Options{Tx: pgx.TxOptions{IsoLevel: pgx.Serializable}})
		},
	} {
		assert.Equal(t, want, panics(t, f))
	}
}

// What the client has to look at is looked at before COMMIT.
func TestAnItemThatTheClientRefuses(t *testing.T) {
	t.Parallel()
	pool, proxy := proxied(t, 1, itemsDDL)
	take := pgcmd.QueryOne[int64, string]("items.take", `update items set qty = qty + 1 where id = $1 returning name`)
	for range 2 {
		must(t, pool.Exec, `truncate items`, pool)
		require.NoError(t, runErr(pgcmd.Batch(insertItem, pgcmd.Atomic).Run(t.Context(), pool, someItems(10))))

		proxy.ResetCounts()
		r, err := pgcmd.Batch(take, pgcmd.Atomic).Run(t.Context(), pool, []int64{1, 2, 99, 3})
		e := failure(t, err)
		assert.Equal(t, pgcmd.CodeNotFound, e.Code)
		assert.Equal(t, pgcmd.NotApplied, e.Effect)
		assert.Equal(t, "items.take[2]", e.Command)
		assert.ErrorIs(t, err, pgx.ErrNoRows)
		assert.Equal(t, 3, r.Skipped)
		assert.Equal(t, 10, count(t, pool, `select sum(qty) from items`))

		r, err = pgcmd.Batch(take, pgcmd.Isolated).Run(t.Context(), pool, []int64{1, 2, 99, 3, 98})
		require.NoError(t, err)
		assert.Equal(t, [3]int{3, 2, 0}, [3]int{r.Succeeded, r.Failed, r.Skipped})
		assert.Equal(t, pgcmd.NotApplied, pgcmd.EffectOf(r.Outcomes[2].Err))
		assert.Equal(t, 13, count(t, pool, `select sum(qty) from items`))

		r, err = pgcmd.Batch(take, pgcmd.Independent).Run(t.Context(), pool, []int64{1, 99})
		require.NoError(t, err)
		assert.Equal(t, pgcmd.NotApplied, pgcmd.EffectOf(r.Outcomes[1].Err), "it has changed no row, as when it is run by itself")
		assert.Equal(t, 14, count(t, pool, `select sum(qty) from items`))
	}
	// A value that does not fit the row is found after COMMIT, and so it is said.
	odd := pgcmd.QueryOne[goods, struct {
		ID   int64
		Late int64
	}]("items.odd", `insert into items (id, name, qty) values (@id, @name, @qty) returning id, late`)
	must(t, pool.Exec, `truncate items`, pool)
	r, err := pgcmd.Batch(odd, pgcmd.Atomic).Run(t.Context(), pool, someItems(2))
	assert.Equal(t, pgcmd.Applied, failure(t, err).Effect)
	assert.Equal(t, 2, r.Failed, "neither row could be read")
	assert.Equal(t, pgcmd.Applied, failure(t, r.Outcomes[1].Err).Effect)
	assert.Equal(t, 2, count(t, pool, countItems))
	idle(t, pool.Pool)
}

func TestABatchOfReads(t *testing.T) {
	t.Parallel()
	pool, proxy := proxied(t, 1, itemsDDL)
	require.NoError(t, runErr(pgcmd.Batch(addItem, pgcmd.Atomic).Run(t.Context(), pool, someItems(100))))
	ids := make([]int64, 100)
	for i := range ids {
		ids[i] = int64(i)
	}
	list := pgcmd.Query[int64, goods]("items.list", `select id, name, qty, late from items where id < $1 order by id`)
	for _, mode := range []pgcmd.BatchMode{pgcmd.Atomic, pgcmd.Isolated, pgcmd.Independent} {
		for range 2 {
			proxy.ResetCounts()
			r, err := pgcmd.Batch(findItem, mode).Run(t.Context(), pool, ids)
			require.NoError(t, err)
			for i, o := range r.Outcomes {
				assert.Equal(t, fmt.Sprint("item ", i), o.Value)
			}
		}
		assert.EqualValues(t, 1, proxy.Counts().RoundTrips, mode)
		r, err := pgcmd.Batch(list, mode).Run(t.Context(), pool, ids)
		require.NoError(t, err)
		for i, o := range r.Outcomes {
			require.Len(t, o.Value, i)
			if i > 0 {
				assert.Equal(t, goods{ID: int64(i) - 1, Name: fmt.Sprint("item ", i-1), Qty: 1}, o.Value[i-1])
			}
		}
		limited := pgcmd.Batch(list, mode).With(pgcmd.Options{MaxRows: 5})
		r, err = limited.Run(t.Context(), pool, []int64{3, 10, 4})
		assert.Equal(t, pgcmd.CodeTooManyRows, pgcmd.CodeOf(r.Outcomes[1].Err))
		assert.Equal(t, mode == pgcmd.Atomic, err != nil)
	}
}

func TestABatchRendersWithoutValues(t *testing.T) {
	t.Parallel()
	pool := connect(t, pgcmdtest.Pool(t, itemsDDL), 1)
	items := someItems(3, 1)
	r, err := pgcmd.Batch(insertItem, pgcmd.Isolated).Run(t.Context(), pool, items)
	require.NoError(t, err)
	text, err := json.Marshal(r)
	require.NoError(t, err)
	assert.Contains(t, string(text), `"ok":false`)
	assert.Contains(t, string(text), `"succeeded":2`)
	assert.NotContains(t, string(text)+r.Err().Error()+fmt.Sprintf("%+v %#v", r, r), "item 1")
}
