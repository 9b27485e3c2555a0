package optional_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgcmd/pgcmd"
)

// buildList makes the SQL of listUsers as a builder would.
func buildList(in ListUsers) (sql string, args []any, err error) {
	sql = "select id from users where true"
	add := func(condition string, value any) {
		args = append(args, value)
		sql += fmt.Sprintf(" and "+condition, len(args))
	}
	if in.Email != nil {
		add("email like $%d", *in.Email)
	}
	if in.Name.Valid {
		add("name = $%d", in.Name)
	}
	if in.MinAge.Valid {
		add("age >= $%d", in.MinAge)
	}
	if in.IDs != nil {
		add("id = any ($%d)", in.IDs)
	}
	sql += " order by " + map[string]string{"": "id", "oldest": "age desc, id", "email": "email"}[in.Sort]
	return sql, args, nil
}

var builtUsers = pgcmd.QueryFunc[ListUsers, int]("users.built", buildList)

func TestBuiltSQLReturnsItsRowsHoweverItIsRun(t *testing.T) {
	t.Parallel()
	returnsItsRows(t, builtUsers)
}

func TestABuiltTextIsPreparedOnce(t *testing.T) {
	t.Parallel()
	pool, sent := connect(t, pgcmd.Config{MaxConns: 1})
	for range 3 {
		for _, in := range []ListUsers{{}, {Email: ptr("a")}} {
			_, err := builtUsers.Run(t.Context(), pool, in)
			require.NoError(t, err)
		}
	}
	assert.Equal(t, []string{"select id from users where true order by id", "select id from users where true and email like $1 order by id"}, sent.take())
}

// A built returns what it is told to.
type built struct {
	SQL  string
	Args []any
	Err  error `json:"-"`
}

func (b built) make() (string, []any, error) { return b.SQL, b.Args, b.Err }

var (
	runBuilt  = pgcmd.QueryFunc[built, map[string]any]("built", built.make)
	oneBuilt  = pgcmd.QueryOneFunc[built, string]("built.one", built.make)
	execBuilt = pgcmd.ExecFunc[built]("built.exec", built.make)
)

func TestBuiltSQLOfEveryKind(t *testing.T) {
	t.Parallel()
	pool, _ := connect(t, pgcmd.Config{})
	rows, err := runBuilt.Run(t.Context(), pool, built{SQL: "select 1 as a union select 2"})
	require.NoError(t, err)
	assert.Equal(t, []map[string]any{{"a": int32(1)}, {"a": int32(2)}}, rows)
	one, err := oneBuilt.Run(t.Context(), pool, built{SQL: "select email from users where id = $1", Args: []any{1}})
	require.NoError(t, err)
	assert.Equal(t, "ada@example.com", one)
	_, err = oneBuilt.Run(t.Context(), pool, built{SQL: "select email from users where id = $1", Args: []any{-1}})
	refused(t, err, pgcmd.CodeNotFound, pgcmd.NotApplied)
	n, err := execBuilt.Run(t.Context(), pool, built{SQL: "update users set age = age + 1"})
	require.NoError(t, err)
	assert.EqualValues(t, 3, n)
	for name, args := range map[string][]any{
		"named":  {pgx.NamedArgs{"id": 1, "age": 37}},
		"strict": {pgx.StrictNamedArgs{"id": 1, "age": 37}},
		"struct": {pgx.StructArgs(struct {
			ID, Age int
		}{1, 37})},
	} {
		n, err = execBuilt.Run(t.Context(), pool, built{SQL: "update users set age = @Age where id = @ID", Args: args})
		if name != "struct" {
			n, err = execBuilt.Run(t.Context(), pool, built{SQL: "update users set age = @age where id = @id", Args: args})
		}
		require.NoError(t, err, name)
		assert.EqualValues(t, 1, n, name)
	}
}

func TestSQLThatCannotBeSentIsTheProgramsError(t *testing.T) {
	t.Parallel()
	pool, sent := connect(t, pgcmd.Config{})
	for _, c := range []struct {
		in   built
		says string
	}{
		{built{SQL: ""}, "the SQL that was made of the input is no statement: the SQL is empty: write one statement"},
		{built{SQL: "select 1; delete from users"}, "is no statement: 1:11: a second statement begins here"},
		{built{SQL: "select 'users"}, "is no statement: 1:8: the string that begins here is never closed"},
		{built{SQL: "commit"}, "ends a transaction"},
		{built{SQL: "rollback and chain"}, "ends a transaction"},
		{built{SQL: "select * from users where id = ?", Args: []any{1}}, "names no argument (? is no placeholder: set the builder to $1, $2), and 1 came with it"},
		{built{SQL: "select * from users where id = $1"}, "names arguments up to $1, and 0 came with it"},
		{built{SQL: "select * from users where id = $1", Args: []any{1, 2}}, "names arguments up to $1, and 2 came with it"},
		{built{SQL: "select * from users where id = @id", Args: []any{1}}, "names @id: return pgx.NamedArgs"},
		{built{SQL: "select * from users where id = @id", Args: []any{pgx.StrictNamedArgs{}}}, "cannot be given its arguments by a pgx.StrictNamedArgs"},
		{built{SQL: "select * from users where id = $1", Args: []any{pgx.QueryExecModeExec}}, "came with an option of pgx"},
		{built{SQL: "select * from users where id = $1 and $2 = 1", Args: []any{pgx.NamedArgs{}, 1}}, "came with an option of pgx as its first argument, or with a pgx.QueryRewriter"},
	} {
		check := func(err error) {
			t.Helper()
			refused(t, err, pgcmd.CodeInternal, pgcmd.NotApplied, c.says)
		}
		_, err := runBuilt.Run(t.Context(), pool, c.in)
		check(err)
		_, err = execBuilt.With(pgcmd.Options{InTx: true}).Run(t.Context(), pool, c.in)
		check(err)
		_, err = pgcmd.Explain(t.Context(), pool, runBuilt, c.in)
		check(err)
		for _, err := range pgcmd.Stream(t.Context(), pool, runBuilt, c.in) {
			check(err)
		}
		_, err = pgcmd.Batch(runBuilt, pgcmd.Atomic).Run(t.Context(), pool, []built{{SQL: "select 1"}, c.in})
		check(err)
	}
	readOnly := pgcmd.Options{ReadOnly: true}
	_, err := execBuilt.With(readOnly).Run(t.Context(), pool, built{SQL: "delete from users"})
	refused(t, err, pgcmd.CodeInternal, pgcmd.NotApplied, "is plainly a write, and the command is ReadOnly")
	assert.Empty(t, sent.take())
	_, err = execBuilt.With(readOnly).Run(t.Context(), pool, built{SQL: "select count(*) from users"})
	require.NoError(t, err)
}

func TestArgumentsThatCannotBeSent(t *testing.T) {
	t.Parallel()
	pool, _ := connect(t, pgcmd.Config{})
	_, err := runBuilt.Run(t.Context(), pool, built{SQL: "select * from users where email = $1", Args: []any{"secret\x00"}})
	e := refused(t, err, pgcmd.CodeInvalid, pgcmd.NotApplied, "$1 holds a NUL byte")
	assert.NotContains(t, e.Error(), "secret")
	_, err = runBuilt.Run(t.Context(), pool, built{SQL: "select * from users where email = $1 and age = $2", Args: []any{"a", struct{ X int }{4242}}})
	e = refused(t, err, pgcmd.CodeInternal, pgcmd.NotApplied, "$2", "cannot be sent as int4")
	assert.NotContains(t, e.Error(), "4242")
}

var (
	errOfBuild = errors.New("no such report")
	userError  = pgcmd.Errorf(pgcmd.CodePermission, "this report is for managers")
)

func TestAnErrorOfBuildIsTheUsers(t *testing.T) {
	t.Parallel()
	pool, sent := connect(t, pgcmd.Config{})
	for _, c := range []struct {
		err  error
		code pgcmd.Code
		says string
	}{
		{errOfBuild, pgcmd.CodeFailed, "no such report"},
		{userError, pgcmd.CodePermission, "this report is for managers"},
		{fmt.Errorf("of %s: hunter2", t.Name()), pgcmd.CodeFailed, "the function that makes the SQL failed with *fmt.wrapError"},
	} {
		if strings.Contains(c.says, "wrapError") {
			c.err = fmt.Errorf("hunter2 %w", errors.New(t.Name()))
		}
		_, err := runBuilt.Run(t.Context(), pool, built{Err: c.err})
		refused(t, err, c.code, pgcmd.NotApplied, c.says, "pgcmd: built: ")
		assert.ErrorIs(t, err, c.err)
		assert.NotContains(t, err.Error(), "hunter2")
		for _, mode := range []pgcmd.BatchMode{pgcmd.Atomic, pgcmd.Isolated, pgcmd.Independent, pgcmd.Sequential} {
			result, _ := pgcmd.Batch(runBuilt, mode).Run(t.Context(), pool, []built{{SQL: "select 1"}, {Err: c.err}, {SQL: "select 2"}})
			refused(t, result.Outcomes[1].Err, c.code, pgcmd.NotApplied, c.says, "built[1]")
			assert.Equal(t, mode == pgcmd.Atomic, result.Outcomes[0].Err != nil, mode)
			result, _ = pgcmd.Batch(runBuilt, mode).Run(t.Context(), pool, []built{{Err: c.err}})
			assert.Equal(t, 1, result.Failed)
		}
		var p pgcmd.Pipeline
		first := pgcmd.Queue(&p, execBuilt, built{SQL: "update users set age = 1"})
		second := pgcmd.Queue(&p, runBuilt, built{Err: c.err})
		refused(t, p.Run(t.Context(), pool, pgcmd.Atomic), c.code, pgcmd.NotApplied, c.says)
		_, err = first.Get()
		refused(t, err, pgcmd.CodeSkipped, pgcmd.NotApplied)
		_, err = second.Get()
		refused(t, err, c.code, pgcmd.NotApplied, c.says)
	}
	assert.Empty(t, sent.take())
}

func TestAPanicOfBuildGoesOn(t *testing.T) {
	t.Parallel()
	pool, _ := connect(t, pgcmd.Config{MaxConns: 1})
	q := pgcmd.QueryFunc[int, int]("panics", func(in int) (string, []any, error) {
		if in == 0 {
			panic("boom")
		}
		return "select $1::int", []any{in}, nil
	})
	runs := map[string]func(in int) error{
		"run":     func(in int) error { _, err := q.Run(t.Context(), pool, in); return err },
		"in tx":   func(in int) error { _, err := q.With(pgcmd.Options{InTx: true}).Run(t.Context(), pool, in); return err },
		"explain": func(in int) error { _, err := pgcmd.Explain(t.Context(), pool, q, in); return err },
		"pgxpool": func(in int) error { _, err := q.Run(t.Context(), pool.Pool, in); return err },
		"pipeline": func(in int) error {
			var p pgcmd.Pipeline
			pgcmd.Queue(&p, q, in)
			return p.Run(t.Context(), pool, pgcmd.Atomic)
		},
		"stream": func(in int) (err error) {
			for _, err = range pgcmd.Stream(t.Context(), pool, q, in) {
				continue
			}
			return err
		},
	}
	for _, mode := range []pgcmd.BatchMode{pgcmd.Atomic, pgcmd.Isolated, pgcmd.Independent, pgcmd.Sequential} {
		runs[mode.String()] = func(in int) error {
			_, err := pgcmd.Batch(q, mode).Run(t.Context(), pool, []int{1, in})
			return err
		}
	}
	for name, run := range runs {
		for range 3 {
			assert.PanicsWithValue(t, "boom", func() { _ = run(0) }, name)
			assert.NoError(t, run(1), name)
		}
	}
}

func TestHooksValidationAndRetriesOfBuiltSQL(t *testing.T) {
	t.Parallel()
	pool, _ := connect(t, pgcmd.Config{})
	type In struct {
		ID int `validate:"gte=1"`
	}
	_, err := pool.Exec(t.Context(), `create function conflict() returns text language plpgsql as $$ begin raise exception using errcode = '40001'; end $$`)
	require.NoError(t, err)
	builds := 0
	q := pgcmd.QueryOneFunc[In, string]("users.email", func(in In) (string, []any, error) {
		if builds++; builds == 1 {
			return "select conflict(), $1::int", []any{in.ID}, nil
		}
		return "select email from users where id = $1", []any{in.ID}, nil
	})
	q = pgcmd.Before(q, func(_ context.Context, in *In) error { in.ID++; return nil })
	q = pgcmd.After(q, func(_ context.Context, in In, out *string) error { *out += "!"; return nil })
	_, err = q.Run(t.Context(), pool, In{})
	refused(t, err, pgcmd.CodeInvalid, pgcmd.NotApplied, "ID must be 1 or greater")
	assert.Zero(t, builds)
	email, err := q.With(pgcmd.Options{Retry: pgcmd.Retry{Attempts: 2}}).Run(t.Context(), pool, In{ID: 1})
	require.NoError(t, err)
	assert.Equal(t, "bob@example.com!", email)
	assert.Equal(t, 2, builds)
}

func TestTheArgumentsOfBuildStayItsOwn(t *testing.T) {
	t.Parallel()
	pool, _ := connect(t, pgcmd.Config{})
	var none *int
	shared := []any{none, 1}
	q := pgcmd.QueryFunc[struct{}, int]("shared", func(struct{}) (string, []any, error) {
		return "select id from users where $1::int is null and id = $2", shared, nil
	})
	for name, db := range map[string]pgcmd.DB{"pool": pool, "pgxpool": pool.Pool} {
		for range 2 {
			ids, err := q.Run(t.Context(), db, struct{}{})
			require.NoError(t, err, name)
			assert.Equal(t, []int{1}, ids, name)
			assert.Equal(t, []any{none, 1}, shared, name)
		}
	}
}

func TestManyTextsAreNotKept(t *testing.T) {
	t.Parallel()
	pool, _ := connect(t, pgcmd.Config{MaxConns: 1, Pgx: func(c *pgxpool.Config) { c.ConnConfig.StatementCacheCapacity = 16 }})
	for i := range 1200 {
		got, err := oneBuilt.Run(t.Context(), pool, built{SQL: fmt.Sprintf("select '%d' || left($1, 0)", i), Args: []any{"x"}})
		require.NoError(t, err)
		require.Equal(t, fmt.Sprint(i), got)
	}
}

func TestANilBuildPanics(t *testing.T) {
	t.Parallel()
	assert.Equal(t, "pgcmd: x: the function that makes the SQL is nil", panics(t, func() { pgcmd.QueryFunc[int, int]("x", nil) }))
	assert.Equal(t, "pgcmd: x: the function that makes the SQL is nil", panics(t, func() { pgcmd.QueryOneFunc[int, int]("x", nil) }))
	assert.Equal(t, "pgcmd: x: the function that makes the SQL is nil", panics(t, func() { pgcmd.ExecFunc[int]("x", nil) }))
}

func TestVerifyLeavesBuiltSQLAlone(t *testing.T) {
	t.Parallel()
	pool, sent := connect(t, pgcmd.Config{})
	require.NoError(t, pgcmd.Verify(t.Context(), pool, builtUsers, execBuilt))
	assert.Empty(t, sent.take())
	err := pgcmd.Verify(t.Context(), pool, execBuilt.With(pgcmd.Options{OnConstraint: map[string]error{"gone": errOfBuild}}))
	refused(t, err, pgcmd.CodeInternal, pgcmd.NotApplied, "OnConstraint names gone")
}

func TestExplainOfBuiltSQLHidesSecrets(t *testing.T) {
	t.Parallel()
	pool, _ := connect(t, pgcmd.Config{})
	type In struct {
		Email string `secret:"true"`
	}
	q := pgcmd.QueryFunc[In, int]("x", func(in In) (string, []any, error) {
		return "select id from users where email = $1", []any{in.Email}, nil
	})
	plan, err := pgcmd.Explain(t.Context(), pool, q, In{"hunter2"})
	require.NoError(t, err)
	assert.Contains(t, plan, "Filter")
	assert.NotContains(t, plan, "hunter2")
}
