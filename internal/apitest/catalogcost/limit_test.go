package catalogcost_test

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgcmd/pgcmd"
	"github.com/pgcmd/pgcmd/pgcmdtest"
)

func TestALimitLowersWhatACommandMayReturn(t *testing.T) {
	t.Parallel()
	pool := pgcmdtest.Pool(t)
	whole := pgcmd.NewCatalog(
		pgcmd.Query[int, string]("rows", `select repeat('x', 10) from generate_series(1, $1)`).With(pgcmd.Options{ReadOnly: true, MaxRows: 5}),
		pgcmd.Exec[int]("exec", `select $1::int`), nothing[item]("body"))
	for _, c := range []struct {
		rows, bytes, asked int
		says               string
	}{
		{0, 0, 5, ""}, {0, 0, 6, "more than MaxRows (5)"}, {9, 0, 6, "more than MaxRows (5)"}, {2, 0, 3, "more than MaxRows (2)"},
		{0, 20, 2, ""}, {0, 20, 3, "more than MaxBytes (20)"}, {2, 50, 3, "more than MaxRows (2)"},
	} {
		less := whole.Limit("rows", c.rows, c.bytes)
		input, err := json.Marshal(c.asked)
		require.NoError(t, err)
		out, err := less.Run(t.Context(), pool, "rows", input)
		if c.says == "" {
			assert.NoError(t, err)
			assert.NotEmpty(t, out)
			continue
		}
		assert.ErrorContains(t, err, c.says)
		assert.Equal(t, pgcmd.CodeTooManyRows, pgcmd.CodeOf(err))
	}
	_, err := whole.Run(t.Context(), pool, "rows", json.RawMessage("5"))
	assert.NoError(t, err, "the catalog itself is as it was")
	assert.Equal(t, 2, whole.Limit("rows", 2, 0).Manifest().Commands[2].MaxRows)
	assert.Same(t, whole, whole.Limit("body", 1, 1), "its rows are the body's own business")
	assert.Same(t, whole, whole.Limit("exec", 1, 1))
	assert.PanicsWithValue(t, "pgcmd: Catalog.Limit: the catalog has no command of that name: did you mean rows? (has: body, exec, rows)",
		func() { whole.Limit("row", 1, 1) })
}
