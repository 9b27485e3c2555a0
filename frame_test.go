package pgcmd_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgcmd/pgcmd"
	"github.com/pgcmd/pgcmd/pgcmdtest"
)

// notes adds what is scanned to what it has, as a Scanner may.
type notes []string

func (n *notes) Scan(src any) error {
	*n = append(*n, fmt.Sprint(src))
	return nil
}

// Memory for rows is used again, and a row starts from nothing all the same.
func TestARowHasNothingOfTheRowBefore(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	db := pgcmdtest.Pool(t)
	type row struct {
		Notes notes
		N     int // cannot be read if null
	}
	const sql = `select 'note ' || n as notes, nullif(n, 2) as n from generate_series(@first::int, @last::int) n order by 1`
	type span struct{ First, Last int }
	is := func(n int) row { return row{notes{fmt.Sprint("note ", n)}, n} }
	all := pgcmd.Query[span, row]("notes.all", sql)
	one := pgcmd.QueryOne[span, row]("notes.one", sql)
	run := func(t *testing.T) {
		t.Helper()
		rows, err := all.Run(ctx, db, span{3, 4})
		require.NoError(t, err)
		assert.Equal(t, []row{is(3), is(4)}, rows)
		got, err := one.Run(ctx, db, span{3, 3})
		require.NoError(t, err)
		assert.Equal(t, is(3), got)
	}
	run(t)

	broken := func(ctx context.Context, on pgcmd.DB) {
		for got, err := range pgcmd.Stream(ctx, on, all, span{3, 9}) {
			require.NoError(t, err)
			assert.Equal(t, is(3), got)
			break
		}
	}
	broken(ctx, db)
	run(t)
	_, err := transact(func(ctx context.Context, tx *pgcmd.Tx) error { broken(ctx, tx); return nil }).Run(ctx, db, empty{})
	require.NoError(t, err)
	run(t)
	_, err = collect(pgcmd.Stream(ctx, db, all, span{1, 9}))
	require.Equal(t, pgcmd.CodeInternal, pgcmd.CodeOf(err))
	run(t)

	for _, mode := range []pgcmd.BatchMode{pgcmd.Independent, pgcmd.Isolated} {
		items := []span{{2, 2}, {3, 3}, {1, 2}, {4, 4}}
		many, _ := pgcmd.Batch(all, mode).Run(ctx, db, items)
		assert.Equal(t, []row{is(3)}, many.Outcomes[1].Value, mode)
		assert.Equal(t, []row{is(4)}, many.Outcomes[3].Value, mode)
		single, _ := pgcmd.Batch(one, mode).Run(ctx, db, items)
		assert.Equal(t, is(3), single.Outcomes[1].Value, mode)
		assert.Equal(t, is(4), single.Outcomes[3].Value, mode)
		assert.Equal(t, 2, many.Failed, mode)
	}
}
