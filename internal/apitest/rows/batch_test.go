package rows_test

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgcmd/pgcmd"
	"github.com/pgcmd/pgcmd/pgcmdtest"
)

func batches[In, Out any](c *pgcmd.Command[In, Out]) map[pgcmd.BatchMode]*pgcmd.Command[[]In, pgcmd.BatchResult[Out]] {
	all := map[pgcmd.BatchMode]*pgcmd.Command[[]In, pgcmd.BatchResult[Out]]{}
	for mode := pgcmd.Atomic; mode <= pgcmd.Sequential; mode++ {
		all[mode] = pgcmd.Batch(c, mode)
	}
	return all
}

// tagged is an item whose rows can be told from those of others.
type tagged struct{ Tag, Unreadable, Fail int }

const taggedDDL = `
	create table w (tag int, i int);
	create table parent (id int primary key);
	create table child (tag int, parent int references parent deferrable initially deferred);
	create function w(tag int, i int, unreadable int, fail int) returns int language plpgsql as $$ begin
		insert into w values (tag, i);
		if i = fail then raise exception 'no' using errcode = '23514'; end if;
		return case when i = unreadable then 100000 else i end;
	end $$`

const two = `select w(@tag, i, @unreadable, @fail) as v from generate_series(1, 2) i`

// mixtures are lists of items, in which g is good, s cannot be scanned, f fails on the
// server, and b first the one and then the other.
var mixtures = []string{
	"b", "gb", "bg", "gbg", "bgg", "ggb", "gbbgbg", "bbbb",
	"s", "gs", "sg", "gsg", "ssss", "gssgsg",
	"f", "gfg", "fbs", "sbf", "bsf", "sfb", "gsbg", "gbsg", "gsfg", "gfsg", "sgb", "bgs", "gsgbgfgsg",
}

func itemsOf(mixture string) (items []tagged) {
	for i, kind := range mixture {
		in := tagged{Tag: i + 1}
		switch kind {
		case 's':
			in.Unreadable = 1
		case 'f':
			in.Fail = 2
		case 'b':
			in.Unreadable, in.Fail = 1, 2
		}
		items = append(items, in)
	}
	return items
}

// there tells how many rows each item has in the table, and empties it.
func there(t testing.TB, conn *pgx.Conn, table string) map[int]int {
	t.Helper()
	rows, err := conn.Query(t.Context(), "select tag, count(*)::int from "+table+" group by tag")
	require.NoError(t, err)
	found := map[int]int{}
	var tag, n int
	_, err = pgx.ForEachRow(rows, []any{&tag, &n}, func() error { found[tag] = n; return nil })
	require.NoError(t, err)
	_, err = conn.Exec(t.Context(), "truncate "+table)
	require.NoError(t, err)
	return found
}

// agree asserts that what an item's error, or its absence, says is so.
func agree(t testing.TB, err error, found int, what string) {
	t.Helper()
	switch pgcmd.EffectOf(err) {
	case pgcmd.Applied:
		assert.NotZero(t, found, "%s: told applied, and it is not there: %v", what, err)
	case pgcmd.NotApplied:
		assert.Zero(t, found, "%s: told not applied, and it is there: %v", what, err)
	default:
		assert.Fail(t, "nobody can tell", "%s: %v", what, err)
	}
}

func TestEveryItemOfABatchIsToldTheTruth(t *testing.T) {
	t.Parallel()
	for _, execMode := range modes {
		t.Run(execMode.String(), func(t *testing.T) {
			t.Parallel()
			url := pgcmdtest.URL(t, taggedDDL)
			pool, look := connect(t, url, inMode(execMode)), observer(t, url)
			runMixtures(t, pool, look, "Query", pgcmd.Query[tagged, small]("w.many", two))
			runMixtures(t, pool, look, "QueryOne", pgcmd.QueryOne[tagged, small]("w.one", `select max(v)::int as v from (`+two+`) x`))
			runMixtures(t, pool, look, "struct", pgcmd.Query[tagged, plain]("w.plain", two))
			runMixtures(t, pool, look, "hook", pgcmd.After(pgcmd.Query[tagged, small]("w.hook", two), func(context.Context, tagged, *[]small) error { return nil }))
			usable(t, pool)
		})
	}
}

func runMixtures[Out any](t *testing.T, pool *pgcmd.Pool, look *pgx.Conn, name string, c *pgcmd.Command[tagged, Out]) {
	for mode, batch := range batches(c) {
		for _, mixture := range mixtures {
			what := fmt.Sprintf("%s, %v, %s", name, mode, mixture)
			items := itemsOf(mixture)
			out := pgcmd.Try(t.Context(), pool, batch, items)
			found := there(t, look, "w")
			for i, o := range out.Value.Outcomes {
				agree(t, o.Err, found[i+1], fmt.Sprintf("%s, item %d", what, i))
				switch mixture[i] {
				case 'g':
					if mode == pgcmd.Independent || mode == pgcmd.Isolated {
						assert.NoError(t, o.Err, "%s, item %d", what, i)
					}
				case 'b', 'f':
					assert.Error(t, o.Err, "%s, item %d", what, i)
					assert.Zero(t, found[i+1], "%s, item %d", what, i)
				case 's':
					assert.Error(t, o.Err, "%s, item %d", what, i)
				}
			}
			switch effect := pgcmd.EffectOf(out.Err); {
			case effect == pgcmd.NotApplied:
				assert.Empty(t, found, "%s: %v", what, out.Err)
			case effect == pgcmd.Unknown:
				assert.Equal(t, pgcmd.Sequential, mode, "%s: %v", what, out.Err)
			}
		}
	}
}

func TestABatchThatJoinsATransactionIsToldTheTruth(t *testing.T) {
	t.Parallel()
	url := pgcmdtest.URL(t, taggedDDL)
	pool, look := connect(t, url, nil), observer(t, url)
	c := pgcmd.Query[tagged, small]("w.many", two)
	for _, mode := range []pgcmd.BatchMode{pgcmd.Atomic, pgcmd.Isolated} {
		batch := pgcmd.Batch(c, mode)
		for _, mixture := range mixtures {
			for _, try := range []bool{false, true} {
				what := fmt.Sprintf("%v, %s, try %v", mode, mixture, try)
				var out pgcmd.Outcome[pgcmd.BatchResult[[]small]]
				_, err := pgcmd.Transaction("joined", func(ctx context.Context, tx *pgcmd.Tx, in []tagged) (int, error) {
					if try {
						out = pgcmd.Try(ctx, tx, batch, in)
					} else {
						out.Value, out.Err = batch.Run(ctx, tx, in)
					}
					_, err := tx.Exec(ctx, `insert into w values (0, 0)`)
					if !try {
						return 0, nil // swallowed
					}
					return 0, err
				}).Run(t.Context(), pool, itemsOf(mixture))
				found := there(t, look, "w")
				assert.Equal(t, err == nil, found[0] > 0, "%s: %v", what, err)
				if try {
					assert.NoError(t, err, what)
				}
				if err != nil {
					assert.Empty(t, found, "%s: %v", what, err)
					assert.Equal(t, pgcmd.NotApplied, pgcmd.EffectOf(err), what)
					continue
				}
				for i, o := range out.Value.Outcomes {
					if pgcmd.EffectOf(o.Err) != pgcmd.Unknown { // for the transaction to decide
						agree(t, o.Err, found[i+1], fmt.Sprintf("%s, item %d", what, i))
					}
				}
			}
		}
	}
	usable(t, pool)
}

func TestEveryItemOfAPipelineIsToldTheTruth(t *testing.T) {
	t.Parallel()
	url := pgcmdtest.URL(t, taggedDDL)
	pool, look := connect(t, url, nil), observer(t, url)
	many := pgcmd.Query[tagged, small]("w.many", two)
	other := pgcmd.Query[tagged, plain]("w.plain", two)
	for _, mode := range []pgcmd.BatchMode{pgcmd.Atomic, pgcmd.Independent} {
		for _, mixture := range mixtures {
			what := fmt.Sprintf("%v, %s", mode, mixture)
			p := new(pgcmd.Pipeline)
			var errs []func() error
			for i, in := range itemsOf(mixture) {
				if i%2 == 0 {
					r := pgcmd.Queue(p, many, in)
					errs = append(errs, func() error { _, err := r.Get(); return err })
				} else {
					r := pgcmd.Queue(p, other, in)
					errs = append(errs, func() error { _, err := r.Get(); return err })
				}
			}
			_ = p.Run(t.Context(), pool, mode)
			found := there(t, look, "w")
			for i, err := range errs {
				agree(t, err(), found[i+1], fmt.Sprintf("%s, item %d", what, i))
				if mixture[i] == 'b' || mixture[i] == 'f' {
					assert.Error(t, err(), "%s, item %d", what, i)
				}
			}
		}
	}
	usable(t, pool)
}

func TestItemsOfManyChunksAreToldTheTruth(t *testing.T) {
	t.Parallel()
	url := pgcmdtest.URL(t, taggedDDL)
	pool, look := connect(t, url, nil), observer(t, url)
	c := pgcmd.Query[tagged, small]("w.many", two)
	at := []int{0, 17, 999, 1000, 1001, 1999, 2000, 2049}
	for mode, batch := range batches(c) {
		if mode == pgcmd.Sequential {
			continue // item by item, as in small batches
		}
		for _, kind := range []tagged{{Unreadable: 1, Fail: 2}, {Unreadable: 1}} {
			items := make([]tagged, 2050)
			for i := range items {
				items[i].Tag = i + 1
				if slices.Contains(at, i) {
					items[i].Unreadable, items[i].Fail = kind.Unreadable, kind.Fail
				}
			}
			out := pgcmd.Try(t.Context(), pool, batch, items)
			found := there(t, look, "w")
			require.Len(t, out.Value.Outcomes, len(items))
			for i, o := range out.Value.Outcomes {
				if effect := pgcmd.EffectOf(o.Err); (effect == pgcmd.Applied) != (found[i+1] > 0) || effect == pgcmd.Unknown {
					t.Fatalf("%v, item %d: %d there, told %v", mode, i, found[i+1], o.Err)
				}
			}
			if mode != pgcmd.Atomic {
				assert.NoError(t, out.Err, "%v", mode)
				assert.Equal(t, len(at), out.Value.Failed, "%v", mode)
			}
		}
	}
	usable(t, pool)
}

func TestAConstraintThatFailsBehindAScanErrorAtTheEndOfATransaction(t *testing.T) {
	t.Parallel()
	url := pgcmdtest.URL(t, taggedDDL)
	pool, look := connect(t, url, nil), observer(t, url)
	// Item 1 cannot be scanned, and its parent is missing, which is found out at COMMIT.
	insert := pgcmd.Query[int, small]("child.add", `insert into child values ($1, 1) returning case when $1 = 1 then 100000 else 1 end as v`)
	for mode, batch := range batches(insert) {
		out := pgcmd.Try(t.Context(), pool, batch, []int{1, 2})
		found := there(t, look, "child")
		assert.Empty(t, found, "%v", mode)
		for i, o := range out.Value.Outcomes {
			agree(t, o.Err, found[i+1], fmt.Sprintf("%v, item %d", mode, i))
		}
		if mode == pgcmd.Atomic || mode == pgcmd.Isolated {
			assert.Equal(t, pgcmd.NotApplied, pgcmd.EffectOf(out.Err), "%v: %v", mode, out.Err)
			assert.Equal(t, "23503", failure(t, out.Err).SQLState, "%v", mode)
		}
	}
	p := new(pgcmd.Pipeline)
	results := []*pgcmd.Result[[]small]{pgcmd.Queue(p, insert, 1), pgcmd.Queue(p, insert, 2)}
	require.Error(t, p.Run(t.Context(), pool, pgcmd.Atomic))
	found := there(t, look, "child")
	for i, r := range results {
		_, err := r.Get()
		agree(t, err, found[i+1], fmt.Sprintf("pipeline, item %d", i))
		assert.Equal(t, pgcmd.NotApplied, pgcmd.EffectOf(err))
	}
	usable(t, pool)
}

func TestAOnceIsToldTheTruthBehindAScanError(t *testing.T) {
	t.Parallel()
	url := pgcmdtest.URL(t, taggedDDL, pgcmd.OnceSchema)
	pool, look := connect(t, url, nil), observer(t, url)
	once := pgcmd.Once(pgcmd.Query[tagged, plain]("w.once", two), func(in tagged) string { return fmt.Sprint(in.Tag, in.Fail) })
	for i := range 2 { // also what is run again under its key
		_, err := once.Run(t.Context(), pool, tagged{Tag: 1, Unreadable: 1, Fail: 2})
		assert.Equal(t, "23514", failure(t, err).SQLState, "run %d", i)
		agree(t, err, there(t, look, "w")[1], "both")
		_, err = once.Run(t.Context(), pool, tagged{Tag: 1, Unreadable: 1})
		agree(t, err, there(t, look, "w")[1], "scan")
	}
	got, err := once.Run(t.Context(), pool, tagged{Tag: 2})
	require.NoError(t, err)
	assert.Len(t, got, 2)
	usable(t, pool)
}
