package sent_test

import (
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgcmd/pgcmd"
	"github.com/pgcmd/pgcmd/pgcmdtest"
)

// Matrix is a named slice of slices; Row a named inner one.
type (
	Row    []int32
	Matrix []Row
)

// tree is made of itself alone.
type tree []tree

func dims(lengths ...int32) (d []pgtype.ArrayDimension) {
	for _, n := range lengths {
		d = append(d, pgtype.ArrayDimension{Length: n, LowerBound: 1})
	}
	return d
}

// pgx keeps the plan that it made for a rectangular value.
func TestASliceOfSlicesThatIsNotRectangularIsNeverStored(t *testing.T) {
	t.Parallel()
	const says = "V is not rectangular"
	all := database(t, ``)
	s := all.column(t, "int4[]")
	for _, ragged := range [][][]int32{{{1}, {2, 3}}, {{1, 2}, {3}}, {{}, {1}}, {{1}, {}}, {nil, {1}}, {{1}, nil}} {
		refuses(t, s, [][][]int32{{{1}}, ragged}, pgcmd.CodeInvalid, says)
	}
	deep := [][][]int32{{{1}, {2}}, {{3, 4}, {5, 6}}} // each inner one is rectangular
	refuses(t, s, [][][][]int32{{{{1}}}, deep, {{{1}}, {}}}[:2], pgcmd.CodeInvalid, says)
	refuses(t, s, []Matrix{{{1}}, {{1}, {2, 3}}}, pgcmd.CodeInvalid, says)
	refuses(t, s, []*[][]int32{{{1}}, {{1}, {2, 3}}}, pgcmd.CodeInvalid, says)
	refuses(t, s, []pgtype.FlatArray[[]int32]{{{1}}, {{1}, {2, 3}}}, pgcmd.CodeInvalid, says)
	refuses(t, s, [][][]*int32{{{new(int32)}}, {{nil}, {nil, nil}}}, pgcmd.CodeInvalid, says)
	good := pgtype.Array[int32]{Elements: []int32{1}, Dims: dims(1), Valid: true}
	for _, bad := range []pgtype.Array[int32]{
		{Elements: []int32{1, 2, 3}, Dims: dims(2, 2), Valid: true}, {Elements: []int32{1, 2, 3}, Dims: dims(2), Valid: true},
		{Elements: []int32{1, 2}, Valid: true}, {Elements: []int32{1}, Dims: dims(-1), Valid: true}, {Elements: []int32{1}, Dims: dims(1)},
		{Dims: dims(1<<30, 1<<30, 1<<30), Valid: true},
	} {
		refuses(t, s, []pgtype.Array[int32]{good, bad}, pgcmd.CodeInvalid, "V is not rectangular")
	}
	texts := all.column(t, "text[]")
	refuses(t, texts, [][][]string{{{"a"}}, {{"a"}, {"b", "c"}}}, pgcmd.CodeInvalid, says)
	small := all.column(t, "int2[]")
	refuses(t, small, [][][]uint8{{{1}}, {{1}, {2, 3}}}, pgcmd.CodeInvalid, says)
}

func TestSlicesOfSlicesThatAreNoArraysOfSeveralDimensionsMayBeRagged(t *testing.T) {
	t.Parallel()
	all := database(t, ``)
	ragged := [][]int32{{1}, {2, 3}, {}}
	stores(t, all.column(t, "jsonb"), [][][]int32{ragged, {{1}}, ragged}, "[[1], [2, 3], []]", "[[1]]", "[[1], [2, 3], []]")
	stores(t, all.column(t, "json"), []any{ragged, []any{[]any{1}, []any{2, "x"}, 3}, map[string]any{"a": ragged}}, "[[1],[2,3],[]]", `[[1],[2,"x"],3]`, `{"a":[[1],[2,3],[]]}`)
	stores(t, all.column(t, "jsonb[]"), [][][]int32{ragged}, `{[1],"[2, 3]",[]}`)
	stores(t, all.column(t, "bytea[]"), [][][]byte{{{1}, {2, 3}, {}, nil}}, `{"\\x01","\\x0203","\\x",NULL}`)
	stores(t, all.column(t, "jsonb"), []struct{ Tree tree }{{tree{{}, {{}, nil}}}, {}}, `{"Tree": [[], [[], null]]}`, `{"Tree": null}`)
	s := all.column(t, "int4[]")
	stores(t, s, [][][]int32{{{1, 2}, {3, 4}}, {}, nil, {{}, {}}}, "{{1,2},{3,4}}", "{}", "NULL", "{}")
	stores(t, s, [][][][]int32{{{{1}, {2}}, {{3}, {4}}}}, "{{{1},{2}},{{3},{4}}}")
	stores(t, s, []pgtype.Array[int32]{{Elements: []int32{1, 2}, Dims: dims(1, 2), Valid: true}, {}}, "{{1,2}}", "NULL")
}

// What a connection knows of composites is followed into their fields.
func TestARaggedSliceInACompositeIsNeverStored(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	pool := pgcmdtest.Pool(t, `create type cell as (name text, v int4[], doc jsonb); create table h (v cell, vs cell[])`)
	conn, err := pool.Acquire(ctx)
	require.NoError(t, err)
	defer conn.Release()
	types, err := conn.Conn().LoadTypes(ctx, []string{"cell", "_cell"})
	require.NoError(t, err)
	conn.Conn().TypeMap().RegisterTypes(types)
	type cell struct {
		Name string
		V    [][]int32
		Doc  [][]int
	}
	type grid struct {
		V  cell
		Vs []cell
	}
	good := cell{"a", [][]int32{{1}}, [][]int{{1}, {2, 3}}}
	bad := cell{"b", [][]int32{{1}, {2, 3}}, nil}
	exec := pgcmd.Exec[grid]("h.exec", `insert into h values (@v, @vs)`)
	copied := pgcmd.Copy[grid]("h.copy", pgx.Identifier{"h"})
	for i, in := range []grid{{good, []cell{good, good}}, {good, []cell{good, bad}}, {bad, nil}} {
		_, runErr := exec.Run(ctx, conn, in)
		_, batchErr := pgcmd.Batch(exec, pgcmd.Atomic).Run(ctx, conn, []grid{in})
		_, copyErr := copied.Run(ctx, conn, pgcmd.Rows([]grid{in}))
		for way, err := range map[string]error{"Exec": runErr, "Batch": batchErr, "Copy": copyErr} {
			if i == 0 {
				assert.NoError(t, err, way)
			} else {
				refused(t, fmt.Sprint(way, i), err, pgcmd.CodeInvalid, "is not rectangular")
			}
		}
	}
}

func TestACallersJSONCannotPanic(t *testing.T) {
	t.Parallel()
	s := database(t, ``).column(t, "int4[]")
	require.NoError(t, catalog[[][]int32](t, s, `{"v":[[1]]}`))
	for _, v := range []string{`[[1],[2,3]]`, `[[1,2],[3]]`, `[[],[1]]`} {
		refused(t, v, catalog[[][]int32](t, s, `{"v":`+v+`}`), pgcmd.CodeInvalid, "v is not rectangular")
	}
	for _, v := range []string{`{"Elements":[1,2,3],"Dims":[{"Length":2,"LowerBound":1},{"Length":2,"LowerBound":1}],"Valid":true}`,
		`{"Elements":[1],"Dims":[{"Length":2000000000,"LowerBound":1}],"Valid":true}`} {
		refused(t, v, catalog[pgtype.Array[int32]](t, s, `{"v":`+v+`}`), pgcmd.CodeInvalid, "v is not rectangular")
	}
	adhoc := pgcmd.NewCatalog(pgcmd.AdHoc)
	for _, v := range []string{`[[1],[2,3]]`, `[[1,2],[3]]`, `[[],[1]]`, `[1,[2]]`} {
		_, err := adhoc.Run(t.Context(), s.pool, "pgcmd.adhoc", []byte(`{"SQL":"insert into `+s.table+` values (@v)","Args":{"v":`+v+`}}`))
		refused(t, v, err, pgcmd.CodeInvalid, "V is not rectangular")
	}
	assert.Len(t, s.stored(), 1)
}
