package errors_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgcmd/pgcmd"
	"github.com/pgcmd/pgcmd/pgcmdtest"
)

var addItem = pgcmd.Exec[int]("items.add", `insert into items values ($1)`)

const itemsDDL = `create table items (n int primary key check (n >= 0))`

func TestAnItemThatWasNotRunIsSkippedAndHasItsIndex(t *testing.T) {
	t.Parallel()
	pool := pgcmdtest.Pool(t, itemsDDL)
	inBody := pgcmd.Transaction("items.add", func(ctx context.Context, tx *pgcmd.Tx, n int) (int64, error) {
		return addItem.Run(ctx, tx, n)
	})
	refused := pgcmd.Exec[struct {
		N int `validate:"gte=0"`
	}]("items.add", `insert into items values (@n)`)
	for name, run := range map[string]func() (outcomes []error, skipped int){
		"atomic": func() ([]error, int) {
			return outcomes(pgcmd.Batch(addItem, pgcmd.Atomic).Run(t.Context(), pool, []int{1, 2, -1, 3, 4}))
		},
		"sequential": func() ([]error, int) {
			return outcomes(pgcmd.Batch(addItem, pgcmd.Sequential).Run(t.Context(), pool, []int{101, 102, -1, 103, 104}))
		},
		"bodies": func() ([]error, int) {
			return outcomes(pgcmd.Batch(inBody, pgcmd.Atomic).Run(t.Context(), pool, []int{1, 2, -1, 3, 4}))
		},
		"a refused input": func() ([]error, int) {
			in := make([]struct {
				N int `validate:"gte=0"`
			}, 5)
			in[2].N = -1
			return outcomes(pgcmd.Batch(refused, pgcmd.Atomic).Run(t.Context(), pool, in))
		},
	} {
		t.Run(name, func(t *testing.T) {
			errs, skipped := run()
			require.Len(t, errs, 5)
			first := 0
			if name == "sequential" {
				first = 2
			}
			assert.Equal(t, 4-first, skipped)
			for i, err := range errs {
				if i < first || i == 2 {
					assert.NotEqual(t, pgcmd.CodeSkipped, pgcmd.CodeOf(err))
					continue
				}
				var e *pgcmd.Error
				require.ErrorAs(t, err, &e)
				assert.Equal(t, pgcmd.CodeSkipped, e.Code)
				assert.Equal(t, fmt.Sprintf("items.add[%d]", i), e.Command)
				assert.Equal(t, pgcmd.NotApplied, e.Effect)
				assert.ErrorIs(t, err, pgcmd.ErrSkipped)
				assert.Equal(t, pgcmd.ErrSkipped, e.Err)
				assert.Regexp(t, fmt.Sprintf(`^pgcmd: items\.add\[%d\]: skipped, since items\.add\[2\]( > items\.add)? failed \[skipped, not applied\]$`, i), err.Error())
				assert.False(t, pgcmd.Retryable(err))
			}
		})
	}
}

func outcomes[Out any](r pgcmd.BatchResult[Out], err error) (errs []error, skipped int) {
	for _, o := range r.Outcomes {
		errs = append(errs, o.Err)
	}
	return errs, r.Skipped
}

func TestACommandThatWasNotRunInAPipelineIsSkipped(t *testing.T) {
	t.Parallel()
	pool := pgcmdtest.Pool(t, itemsDDL)
	var p pgcmd.Pipeline
	first, _, last := pgcmd.Queue(&p, addItem, 1), pgcmd.Queue(&p, addItem, -1), pgcmd.Queue(&p, addItem, 2)
	require.Error(t, p.Run(t.Context(), pool, pgcmd.Atomic))
	for i, result := range map[int]*pgcmd.Result[int64]{0: first, 2: last} {
		_, err := result.Get()
		var e *pgcmd.Error
		require.ErrorAs(t, err, &e)
		assert.Equal(t, pgcmd.CodeSkipped, e.Code)
		assert.Equal(t, fmt.Sprintf("pipeline[%d] > items.add", i), e.Command)
		assert.Equal(t, pgcmd.NotApplied, e.Effect)
		assert.ErrorIs(t, err, pgcmd.ErrSkipped)
	}
}

func TestAnItemWhoseOwnBatchSkippedSomethingHasFailed(t *testing.T) {
	t.Parallel()
	pool := pgcmdtest.Pool(t, itemsDDL)
	inner := pgcmd.New("outer", func(ctx context.Context, db pgcmd.DB, n int) (int, error) {
		r, _ := pgcmd.Batch(addItem, pgcmd.Atomic).Run(ctx, db, []int{1, n})
		return 0, r.Outcomes[0].Err
	})
	r, err := pgcmd.Batch(inner, pgcmd.Independent).Run(t.Context(), pool, []int{-1})
	require.NoError(t, err)
	assert.Equal(t, 1, r.Failed)
	assert.Zero(t, r.Skipped)
	assert.ErrorIs(t, r.Err(), pgcmd.ErrSkipped)
}

func TestSkippedItemsShareTheirMemory(t *testing.T) {
	const n = 4000
	pool := pgcmdtest.Pool(t, itemsDDL)
	conn, err := pool.Acquire(t.Context())
	require.NoError(t, err)
	defer conn.Release()
	batch := pgcmd.Batch(pgcmd.Exec[struct {
		N int `validate:"gte=0"`
	}]("items.add", `insert into items values (@n)`), pgcmd.Atomic)
	in := make([]struct {
		N int `validate:"gte=0"`
	}, n)
	in[0].N = -1
	run := func() { _, err = batch.Run(t.Context(), conn, in) }
	run()
	require.Error(t, err)
	skipping := testing.AllocsPerRun(3, run)
	in = in[:1]
	most := 1.5 * n
	if info, _ := debug.ReadBuildInfo(); slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"}) {
		most = 2.5 * n // it makes a sync.Pool drop a part of what is put into it: validator's are used for each item
	}
	assert.Less(t, skipping-testing.AllocsPerRun(3, run), most, "one for an item that is validated, and none for one that is skipped")
}

func TestReplayedIsInTheRenderingsOfAnOutcome(t *testing.T) {
	t.Parallel()
	o := pgcmd.Outcome[int]{Value: 7, Attempts: 1, Replayed: true}
	text, err := json.Marshal(o)
	require.NoError(t, err)
	assert.JSONEq(t, `{"ok":true,"value":7,"attempts":1,"elapsed_ms":0,"replayed":true}`, string(text))
	assert.Equal(t, "ok, attempts=1 elapsed=0s replayed: 7", fmt.Sprint(o))
	o.Replayed = false
	text, err = json.Marshal(o)
	require.NoError(t, err)
	assert.JSONEq(t, `{"ok":true,"value":7,"attempts":1,"elapsed_ms":0}`, string(text))
	assert.Equal(t, "ok, attempts=1 elapsed=0s: 7", fmt.Sprint(o))
}

func TestABatchResultHasTheNamesOfAnOutcomeInJSON(t *testing.T) {
	t.Parallel()
	r := pgcmd.BatchResult[int]{Outcomes: []pgcmd.Outcome[int]{{Value: 1, Attempts: 1}, {Err: &pgcmd.Error{Code: pgcmd.CodeSkipped, Err: errors.New("x")}}}, Succeeded: 1, Skipped: 1}
	text, err := json.Marshal(r)
	require.NoError(t, err)
	assert.JSONEq(t, `{"outcomes":[{"ok":true,"value":1,"attempts":1,"elapsed_ms":0},{"ok":false,"error":{"code":"skipped","effect":"unknown","message":"","attempts":0}}],
		"succeeded":1,"failed":0,"skipped":1}`, string(text))

	pool := pgcmdtest.Pool(t, itemsDDL)
	text, err = pgcmd.NewCatalog(pgcmd.Batch(addItem, pgcmd.Isolated)).Run(t.Context(), pool, "items.add[]", json.RawMessage(`[1,-1]`))
	require.NoError(t, err)
	assert.Contains(t, string(text), `"succeeded":1,"failed":1,"skipped":0}`)
}
