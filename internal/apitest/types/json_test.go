package types_test

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgcmd/pgcmd"
	"github.com/pgcmd/pgcmd/pgcmdtest"
)

// Rows that are maps are written as to_json writes them, whatever is loaded.
func TestMapsOfLoadedTypesAreWrittenAsToJSON(t *testing.T) {
	t.Parallel()
	pool := pgcmdtest.Connect(t, pgcmd.Config{Types: append([]string{"doc", "note"}, every...), Multiplex: 1}, schema,
		`create domain doc as jsonb; create type note as (body doc, docs doc[], tags hstore)`)
	_, err := add.Run(t.Context(), pool, full())
	require.NoError(t, err)
	for name, sql := range map[string]string{
		"orders": `select * from orders`,
		"notes":  `select ('{"a": [1]}', array['{"b": null}']::doc[], 'k => 1')::note as note, array[('1', null, null)::note] as notes, array['"x"']::doc[] as docs, '{"c": 1}'::doc as doc`,
	} {
		var want string
		require.NoError(t, pool.QueryRow(t.Context(), `select to_json(r)::text from (`+sql+`) r`).Scan(&want))
		all := pgcmd.Query[struct{}, map[string]any]("all", sql)
		for _, c := range []*pgcmd.Command[struct{}, []map[string]any]{all, all.With(pgcmd.Options{ReadOnly: true})} {
			got, err := pgcmd.NewCatalog(c).Run(t.Context(), pool, "all", json.RawMessage(`{}`))
			require.NoError(t, err)
			assert.JSONEq(t, "["+want+"]", string(got), name)
		}
	}
}
