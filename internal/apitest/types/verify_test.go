package types_test

import (
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgcmd/pgcmd"
	"github.com/pgcmd/pgcmd/pgcmdtest"
)

type value[T any] struct{ V T }

// found returns what Verify finds.
func found(t *testing.T, db pgcmd.DB, defs ...pgcmd.Definition) (all []string) {
	t.Helper()
	err := pgcmd.Verify(t.Context(), db, defs...)
	if err == nil {
		return nil
	}
	e, ok := err.(*pgcmd.Error)
	require.True(t, ok)
	require.NotEmpty(t, e.Problems, e)
	for _, p := range e.Problems {
		all = append(all, p.String())
	}
	return all
}

func TestAMissingTypeIsAFindingThatNamesIt(t *testing.T) {
	t.Parallel()
	sends := pgcmd.Exec[value[[]mood]]("moods.send", `select @v::mood[]`)
	reads := pgcmd.QueryOne[struct{}, value[point3]]("points.read", `select (1, 2, 3)::point3 as v`)
	copies := pgcmd.Copy[struct {
		ID   int32
		Path []point3
	}]("orders.copy", pgx.Identifier{"orders"})
	type without struct {
		db   pgcmd.DB
		name string
	}
	loose := pgcmdtest.Pool(t, schema)
	conn, err := loose.Acquire(t.Context())
	require.NoError(t, err)
	defer conn.Release()
	for _, w := range []without{{loose, "a pgxpool"}, {conn, "a connection"}, {pgcmdtest.Connect(t, pgcmd.Config{}, schema), "a pool"}} {
		all := found(t, w.db, sends, reads, copies)
		require.Len(t, all, 3, "%s: %v", w.name, all)
		assert.Contains(t, all[0], `V ([]types_test.mood) cannot be sent as @v (mood[]): add mood to Config.Types, or call Pool.Reset if it is there`)
		assert.Contains(t, all[1], `(types_test.point3) cannot hold column "v" (point3): add point3 to Config.Types`)
		assert.Contains(t, all[2], `([]types_test.point3) cannot be sent as column "path" (point3[]): add point3 to Config.Types`)
	}
}

func TestARunWithoutTheTypeSaysWhatToDo(t *testing.T) {
	t.Parallel()
	pool := pgcmdtest.Connect(t, pgcmd.Config{}, schema)
	_, err := pgcmd.Exec[value[[]mood]]("moods.send", `select @v::mood[]`).Run(t.Context(), pool, value[[]mood]{[]mood{"sad"}})
	assert.ErrorContains(t, err, "V ([]types_test.mood) cannot be sent as mood[]: add mood to Config.Types, or call Pool.Reset if it is there, or cast the parameter")
	_, err = pgcmd.QueryOne[struct{}, value[point3]]("points.read", `select (1, 2, 3)::point3 as v`).Run(t.Context(), pool, struct{}{})
	assert.ErrorContains(t, err, "V (types_test.point3): add the type to Config.Types, or call Pool.Reset if it is there")
	assert.Equal(t, pgcmd.CodeInternal, pgcmd.CodeOf(err))
	_, err = importer.Run(t.Context(), pool, rows(full()))
	assert.ErrorContains(t, err, "add mood to Config.Types")
	assert.Equal(t, pgcmd.NotApplied, pgcmd.EffectOf(err))
}

func TestAStructThatDoesNotFitACompositeIsFound(t *testing.T) {
	t.Parallel()
	pool := pgcmdtest.Connect(t, pgcmd.Config{Types: every}, schema)
	type (
		few     struct{ X, Y float64 }
		many    struct{ X, Y, Z, W float64 }
		swapped struct{ Y, X, Z float64 }
		renamed struct{ East, North, Up float64 }
		narrow  struct{ X, Y, Z float32 }
		small   struct {
			Name  string
			Price int32
			Moods []string
		}
	)
	at := func(d pgcmd.Definition, want string) {
		t.Helper()
		all := found(t, pool, d)
		if want == "" {
			assert.Empty(t, all)
			return
		}
		require.Len(t, all, 1)
		assert.Contains(t, all[0], want)
	}
	const points, items = `select (1, 2, 3)::point3 as v`, `select array[('a', 1, null)::item] as v`
	at(pgcmd.Query[struct{}, value[few]]("p", points), `(types_test.few) has 2 exported fields, and there are 3 attributes (x, y, z) in column "v" (point3): give it a field for each, in their order`)
	at(pgcmd.Query[struct{}, value[*many]]("p", points), `has 4 exported fields`)
	at(pgcmd.Query[struct{}, value[swapped]]("p", points), `has the field Y where the attribute x is, in column "v" (point3): put its fields into the order of the attributes, x, y, z`)
	at(pgcmd.Query[struct{}, value[renamed]]("p", points), ``)
	at(pgcmd.Query[struct{}, value[narrow]]("p", points), `has the field X (float32), which cannot hold every value of the attribute x (float8), in column "v" (point3): make it float64`)
	at(pgcmd.Query[struct{}, value[[]small]]("p", items), ``) // a domain's limits are not known within a composite
	at(pgcmd.Exec[value[few]]("p", `select @v::point3`), `has 2 exported fields, and there are 3 attributes (x, y, z) in @v (point3)`)
	at(pgcmd.Exec[value[[]swapped]]("p", `select @v::point3[]`), `has the field Y where the attribute x is, in @v (point3[])`)
	at(pgcmd.Copy[struct {
		ID int32
		At swapped
	}]("p", pgx.Identifier{"orders"}), `has the field Y where the attribute x is, in column "at" (point3): put its fields`)
}

// A type that is loaded is still known to Verify by what the database says of it.
func TestLoadedTypesAreVerifiedAsOthers(t *testing.T) {
	t.Parallel()
	type input struct {
		Mood  string `validate:"oneof=sad glad"`
		Price int64
	}
	for _, types := range [][]string{nil, every} {
		pool := pgcmdtest.Connect(t, pgcmd.Config{Types: types}, schema)
		assert.Equal(t, []string{`m: input.Mood may be "glad" by its validate tag, and mood has no such value (has: sad, ok, happy): change the tag, or add the value to the type`},
			found(t, pool, pgcmd.Exec[input]("m", `insert into orders (id, mood, price) values (1, @mood, @price)`)))
		assert.Len(t, found(t, pool, pgcmd.Exec[value[bool]]("m", `select @v::mood`)), 1)
		assert.Len(t, found(t, pool, pgcmd.Query[struct{}, value[bool]]("m", `select 'sad'::mood as v`)), 1)
		assert.Len(t, found(t, pool, pgcmd.Exec[value[float64]]("m", `select @v::cents`)), 1)
		assert.Len(t, found(t, pool, pgcmd.Query[struct{}, value[int32]]("m", `select 5::cents as v`)), 1)
		assert.Empty(t, found(t, pool, pgcmd.Query[value[string], value[string]]("m", `select @v::app.email as v`)))
	}
}

// pgx finds out when it comes to the attribute that has no field.
func TestAStructWithTooFewFieldsIsTheProgramsError(t *testing.T) {
	t.Parallel()
	pool := pgcmdtest.Connect(t, pgcmd.Config{Types: every}, schema)
	type few struct{ X, Y float64 }
	for name, run := range map[string]func() error{
		"Exec": func() error {
			_, err := pgcmd.Exec[value[few]]("p", `select @v::point3`).Run(t.Context(), pool, value[few]{})
			return err
		},
		"Exec with a slice": func() error {
			_, err := pgcmd.Exec[value[[]few]]("p", `select @v::point3[]`).Run(t.Context(), pool, value[[]few]{[]few{{}}})
			return err
		},
		"Copy": func() error {
			type row struct {
				ID int32
				At *few
			}
			copies := func(yield func(row, error) bool) { yield(row{At: &few{}}, nil) }
			_, err := pgcmd.Copy[row]("p", pgx.Identifier{"orders"}).Run(t.Context(), pool, copies)
			return err
		},
	} {
		err := run()
		assert.ErrorContains(t, err, "few) has 2 exported fields, and there are 3 attributes (x, y, z) in point3", name)
		assert.Equal(t, pgcmd.CodeInternal, pgcmd.CodeOf(err), name)
		assert.Equal(t, pgcmd.NotApplied, pgcmd.EffectOf(err), name)
	}
	_, err := pgcmd.QueryOne[struct{}, value[few]]("p", `select (1, 2, 3)::point3 as v`).Run(t.Context(), pool, struct{}{})
	assert.ErrorContains(t, err, `V (types_test.few): make it a struct with a field for each attribute`)
}
