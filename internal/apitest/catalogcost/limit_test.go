package catalogcost_test

import (
	"encoding/json"
	"fmt"
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

// What a pool allows at most is also what a catalog and AdHoc return, whatever their own limits are, unless the command
// says otherwise.
func TestALimitOfACatalogDoesNotRaiseThePools(t *testing.T) {
	t.Parallel()
	pool := pgcmdtest.Connect(t, pgcmd.Config{MaxRows: 5, MaxBytes: 60})
	const sql = `select repeat('x', 10) from generate_series(1, $1)`
	whole := pgcmd.NewCatalog(pgcmd.Query[int, string]("rows", sql),
		pgcmd.Query[int, string]("own", sql).With(pgcmd.Options{MaxRows: 8, MaxBytes: 1000}),
		pgcmd.Batch(pgcmd.Query[int, string]("items", sql), pgcmd.Independent), pgcmd.AdHoc)
	for _, c := range []struct {
		catalog *pgcmd.Catalog
		name    string
		input   string
		says    string // contained in the error or the output
	}{
		{whole, "rows", "5", "xxx"},
		{whole, "rows", "6", "more than MaxRows (5)"},
		{whole.Limit("rows", 50, 0), "rows", "6", "more than MaxRows (5)"},
		{whole.Limit("rows", 4, 0), "rows", "5", "more than MaxRows (4)"},
		{whole.Limit("rows", 0, 1000).Limit("rows", 0, 2000), "rows", "5", "xxx"},
		{whole.Limit("rows", 0, 40), "rows", "5", "more than MaxBytes (40)"},
		{whole, "own", "8", "xxx"},
		{whole.Limit("own", 50, 0), "own", "9", "more than MaxRows (8)"},
		{whole.Limit("own", 7, 0), "own", "8", "more than MaxRows (7)"},
		{whole.Limit("items[]", 50, 0), "items[]", "[6]", "more than MaxRows (5)"},
		{whole, "pgcmd.adhoc", `{"SQL":"select 1 as n from generate_series(1, 6)"}`, "more than MaxRows (5)"},
		{whole, "pgcmd.adhoc", `{"SQL":"select 1 as n from generate_series(1, 6)","MaxRows":6}`, `"RowCount":6`},
	} {
		out, err := c.catalog.Run(t.Context(), pool, c.name, json.RawMessage(c.input))
		said := string(out)
		if err != nil {
			said = err.Error()
		}
		assert.Contains(t, said, c.says, "%s of %s", c.name, c.input)
	}
	var names []string
	for _, info := range whole.Manifest().Commands {
		names = append(names, fmt.Sprint(info.Name, " ", info.MaxRows))
	}
	assert.Equal(t, []string{"items[] 10000", "own 8", "pgcmd.adhoc 0", "rows 10000"}, names)
}
