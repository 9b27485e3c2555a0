package read_test

import (
	"context"
	"database/sql"
	"testing"

	"github.com/jackc/pgx/v5/pgtype"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgcmd/pgcmd"
)

type lent struct {
	A pgtype.DriverBytes
}

type named pgtype.Array[pgtype.DriverBytes]

func TestARowThatBorrowsMemoryIsRefusedAtDefinition(t *testing.T) {
	t.Parallel()
	define := map[string]func(){
		"value[github.com/jackc/pgx/v5/pgtype.DriverBytes].V": func() { pgcmd.Query[none, value[pgtype.DriverBytes]]("x", "select 1") },
		"the row type pgtype.DriverBytes":                     func() { pgcmd.QueryOne[none, pgtype.DriverBytes]("x", "select 1") },
		"the row type *pgtype.DriverBytes":                    func() { pgcmd.QueryOne[none, *pgtype.DriverBytes]("x", "select 1") },
		"the row type []pgtype.DriverBytes":                   func() { pgcmd.QueryOne[none, []pgtype.DriverBytes]("x", "select 1") },
		"the row type map[string]pgtype.DriverBytes":          func() { pgcmd.QueryOne[none, map[string]pgtype.DriverBytes]("x", "select 1") },
		"the row type sql.RawBytes":                           func() { pgcmd.QueryOne[none, sql.RawBytes]("x", "select 1") },
		"the row type pgtype.Array[":                          func() { pgcmd.QueryOne[none, pgtype.Array[pgtype.DriverBytes]]("x", "select 1") },
		"the row type pgtype.Range[":                          func() { pgcmd.Query[none, pgtype.Range[*pgtype.DriverBytes]]("x", "select 1") },
		"the row type sql.Null[":                              func() { pgcmd.Query[none, sql.Null[pgtype.DriverBytes]]("x", "select 1") },
		"the row's field lent.A":                              func() { pgcmd.Query[none, struct{ lent }]("x", "select 1") },
		"the row's field V cannot":                            func() { pgcmd.Query[none, struct{ V []lent }]("x", "select 1") },
		"the row's field V cannot hold":                       func() { pgcmd.Query[none, struct{ V named }]("x", "select 1") },
		"the row's field V cannot hold a column":              func() { pgcmd.Query[none, struct{ V map[string]*[2]sql.RawBytes }]("x", "select 1") },
	}
	for where, f := range define {
		t.Run(where, func(t *testing.T) {
			defer func() {
				reason, _ := recover().(string)
				assert.Contains(t, reason, "pgcmd: x: ")
				assert.Contains(t, reason, where)
				assert.Regexp(t, `(pgtype.DriverBytes|sql.RawBytes) is memory of the connection.*: use \[\]byte`, reason)
			}()
			f()
		})
	}
	assert.PanicsWithValue(t, "pgcmd: NewCatalog: x: a catalog speaks JSON, and output[].A is a pgtype.DriverBytes, memory of the connection that is overwritten before it is written as JSON: use []byte",
		func() {
			pgcmd.NewCatalog(pgcmd.New("x", func(ctx context.Context, db pgcmd.DB, in none) ([]lent, error) { return nil, nil }))
		})
}

// What has memory of its own stays what it was when other rows are read.
func TestBytesThatAreReadStay(t *testing.T) {
	t.Parallel()
	s := serverWith(t)
	type row struct {
		A []byte
		B pgtype.PreallocBytes
		C pgtype.UndecodedBytes
		D any
	}
	q := pgcmd.Query[none, row]("bytes", `select decode(repeat(to_char(i, 'fm00'), 8), 'hex') a, decode(repeat(to_char(i, 'fm00'), 8), 'hex') b,
		decode(repeat(to_char(i, 'fm00'), 8), 'hex') c, decode(repeat(to_char(i, 'fm00'), 8), 'hex') d from generate_series(0, 99) i`)
	rows, err := q.Run(t.Context(), s.pool, none{})
	require.NoError(t, err)
	_, err = s.pool.Exec(t.Context(), "select repeat('x', 100000)")
	require.NoError(t, err)
	for i, r := range rows {
		want := make([]byte, 8)
		for j := range want {
			want[j] = byte(i/10<<4 | i%10)
		}
		for _, got := range [][]byte{r.A, r.B, r.C, r.D.([]byte)} {
			require.Equal(t, want, got, i)
		}
	}
}
