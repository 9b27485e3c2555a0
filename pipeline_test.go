package pgcmd_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgcmd/pgcmd"
	"github.com/pgcmd/pgcmd/pgcmdtest"
)

var (
	allItems  = pgcmd.Query[struct{}, int64]("items.all", `select id from items order by id`)
	findItems = pgcmd.Query[int64, string]("items.list", `select name from items where id = $1`)
)

func TestAPipelineSendsDifferentCommandsInOneRoundTrip(t *testing.T) {
	t.Parallel()
	pool, proxy := proxied(t, 1, itemsDDL)
	proxy.Latency(5 * time.Millisecond)
	for _, mode := range []pgcmd.BatchMode{pgcmd.Atomic, pgcmd.Independent} {
		for range 2 { // once to prepare
			must(t, pool.Exec, `truncate items`, pool)
			var p pgcmd.Pipeline
			added := pgcmd.Queue(&p, addItem, goods{ID: 1, Name: "one", Qty: 1})
			inserted := pgcmd.Queue(&p, insertItem, goods{ID: 2, Name: "two", Qty: 1})
			found := pgcmd.Queue(&p, findItems, 2)
			all := pgcmd.Queue(&p, allItems, struct{}{})
			_, err := all.Get()
			assert.Equal(t, "pgcmd: the pipeline of this result was not run: call its Run before Get [internal, not applied]", err.Error())

			proxy.ResetCounts()
			require.NoError(t, p.Run(t.Context(), pool, mode))
			n, err := added.Get()
			require.NoError(t, err)
			assert.EqualValues(t, 1, n)
			id, err := inserted.Get()
			require.NoError(t, err)
			assert.EqualValues(t, 2, id)
			names, err := found.Get()
			require.NoError(t, err)
			assert.Equal(t, []string{"two"}, names)
			ids, err := all.Get()
			require.NoError(t, err)
			assert.Equal(t, []int64{1, 2}, ids)
		}
		assert.EqualValues(t, 1, proxy.Counts().RoundTrips, mode)
	}
	idle(t, pool.Pool)
}

func TestAPipelineWithABadItem(t *testing.T) {
	t.Parallel()
	pool := connect(t, pgcmdtest.Pool(t, itemsDDL), 1)
	queue := func(p *pgcmd.Pipeline) (good, bad, last *pgcmd.Result[int64]) {
		return pgcmd.Queue(p, insertItem, goods{ID: 1, Qty: 1}), pgcmd.Queue(p, addItem, goods{ID: 2}), pgcmd.Queue(p, insertItem, goods{ID: 3, Qty: 1})
	}
	var p pgcmd.Pipeline
	good, bad, last := queue(&p)
	e := failure(t, p.Run(t.Context(), pool, pgcmd.Atomic))
	assert.Equal(t, "pgcmd: pipeline[1] > items.add: violates check constraint items_qty_check of table items [invalid, not applied, SQLSTATE 23514]", e.Error())
	_, err := bad.Get()
	assert.Equal(t, error(e), err)
	for _, r := range []*pgcmd.Result[int64]{good, last} {
		_, err = r.Get()
		assert.ErrorIs(t, err, pgcmd.ErrSkipped)
		assert.Equal(t, pgcmd.NotApplied, pgcmd.EffectOf(err))
	}
	assert.Zero(t, count(t, pool, countItems))

	p = pgcmd.Pipeline{}
	good, bad, last = queue(&p)
	e = failure(t, p.Run(t.Context(), pool, pgcmd.Independent))
	assert.Equal(t, "pipeline[1] > items.add", e.Command)
	_, err = bad.Get()
	assert.ErrorIs(t, err, e)
	for i, r := range []*pgcmd.Result[int64]{good, last} {
		id, err := r.Get()
		require.NoError(t, err)
		assert.EqualValues(t, 2*i+1, id)
	}
	assert.Equal(t, 2, count(t, pool, countItems))

	// Refused by validation.
	for mode, kept := range map[pgcmd.BatchMode]int{pgcmd.Atomic: 0, pgcmd.Independent: 1} {
		must(t, pool.Exec, `truncate items`, pool)
		p = pgcmd.Pipeline{}
		pgcmd.Queue(&p, insertItem, goods{ID: 1, Qty: 1})
		refused := pgcmd.Queue(&p, insertItem, goods{ID: 1, Qty: 1, Name: strings.Repeat("x", 30)})
		e = failure(t, p.Run(t.Context(), pool, mode))
		assert.Equal(t, pgcmd.CodeInvalid, e.Code)
		assert.Equal(t, pgcmd.NotApplied, e.Effect)
		_, err = refused.Get()
		assert.ErrorIs(t, err, e)
		assert.Equal(t, kept, count(t, pool, countItems))
	}

	// What the client finds fault with is rolled back.
	take := pgcmd.QueryOne[int64, string]("items.take", `update items set qty = 2 where id = $1 returning name`)
	for _, find := range []*pgcmd.Command[int64, string]{take, findItem, findItem.With(pgcmd.Options{ReadOnly: true})} {
		must(t, pool.Exec, `truncate items`, pool)
		p = pgcmd.Pipeline{}
		pgcmd.Queue(&p, insertItem, goods{ID: 1, Qty: 1})
		missing := pgcmd.Queue(&p, find, 99)
		err = p.Run(t.Context(), pool, pgcmd.Atomic)
		require.ErrorIs(t, err, pgx.ErrNoRows)
		assert.Equal(t, pgcmd.NotApplied, pgcmd.EffectOf(err))
		_, err = missing.Get()
		assert.Equal(t, pgcmd.CodeNotFound, pgcmd.CodeOf(err))
		assert.Zero(t, count(t, pool, countItems))
	}

	// SQL that is wrong blames its own item.
	for mode, kept := range map[pgcmd.BatchMode]int{pgcmd.Atomic: 0, pgcmd.Independent: 2} {
		must(t, pool.Exec, `truncate items`, pool)
		p = pgcmd.Pipeline{}
		pgcmd.Queue(&p, insertItem, goods{ID: 1, Qty: 1})
		pgcmd.Queue(&p, pgcmd.Exec[struct{}]("items.wrong", `delete from nowhere`), struct{}{})
		pgcmd.Queue(&p, insertItem, goods{ID: 2, Qty: 1})
		e = failure(t, p.Run(t.Context(), pool, mode))
		assert.Equal(t, "pipeline[1] > items.wrong", e.Command)
		assert.Equal(t, "42P01", e.SQLState)
		assert.Equal(t, kept, count(t, pool, countItems))
	}
	idle(t, pool.Pool)
}

func TestAPipelineInATransaction(t *testing.T) {
	t.Parallel()
	pool := connect(t, pgcmdtest.Pool(t, itemsDDL), 1)
	require.NoError(t, runErr(transact(func(ctx context.Context, tx *pgcmd.Tx) error {
		var p pgcmd.Pipeline
		pgcmd.Queue(&p, insertItem, goods{ID: 1, Qty: 1})
		all := pgcmd.Queue(&p, allItems, struct{}{})
		require.NoError(t, p.Run(ctx, tx, pgcmd.Atomic))
		ids, err := all.Get()
		assert.Equal(t, []int64{1}, ids)
		var q pgcmd.Pipeline
		pgcmd.Queue(&q, insertItem, goods{ID: 2, Qty: 1})
		e := failure(t, q.Run(ctx, tx, pgcmd.Independent))
		assert.Contains(t, e.Message, "cannot join one")
		assert.Equal(t, pgcmd.NotApplied, e.Effect)
		return err
	}).Run(t.Context(), pool, empty{})))
	assert.Equal(t, 1, count(t, pool, countItems))
}

func TestAPipelineThatIsUsedWrongly(t *testing.T) {
	t.Parallel()
	pool := connect(t, pgcmdtest.Pool(t, itemsDDL), 1)
	good := func(p *pgcmd.Pipeline) { pgcmd.Queue(p, insertItem, goods{ID: 1, Qty: 1}) }
	for want, use := range map[string]func(p *pgcmd.Pipeline) error{
		"the pipeline was run before": func(p *pgcmd.Pipeline) error {
			require.NoError(t, p.Run(t.Context(), pool, pgcmd.Atomic))
			return p.Run(t.Context(), pool, pgcmd.Atomic)
		},
		"the mode is isolated: a pipeline is Atomic or Independent": func(p *pgcmd.Pipeline) error { return p.Run(t.Context(), pool, pgcmd.Isolated) },
		"item 1 is a nil command": func(p *pgcmd.Pipeline) error {
			good(p)
			pgcmd.Queue[goods, int64](p, nil, goods{})
			return p.Run(t.Context(), pool, pgcmd.Atomic)
		},
		"item 1, items.go, cannot be part of a pipeline": func(p *pgcmd.Pipeline) error {
			good(p)
			result := pgcmd.Queue(p, goItem, goods{})
			_, err := result.Get()
			assert.Error(t, err)
			return p.Run(t.Context(), pool, pgcmd.Atomic)
		},
		"the context is nil": func(p *pgcmd.Pipeline) error {
			good(p)
			return p.Run(noContext, pool, pgcmd.Atomic)
		},
		"the DB is nil": func(p *pgcmd.Pipeline) error {
			good(p)
			return p.Run(t.Context(), nil, pgcmd.Independent)
		},
	} {
		var p pgcmd.Pipeline
		e := failure(t, use(&p))
		assert.Contains(t, e.Message, want)
		assert.Equal(t, pgcmd.NotApplied, e.Effect)
		assert.Equal(t, "pipeline", e.Command)
	}
	var p pgcmd.Pipeline
	assert.NoError(t, p.Run(t.Context(), pool, pgcmd.Independent), "nothing to do")
	assert.Error(t, (*pgcmd.Pipeline)(nil).Run(t.Context(), pool, pgcmd.Atomic))
	assert.Zero(t, count(t, pool, countItems))
	idle(t, pool.Pool)
}
