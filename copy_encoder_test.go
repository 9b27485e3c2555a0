package pgcmd_test

import (
	"context"
	"errors"
	"iter"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgcmd/pgcmd"
	"github.com/pgcmd/pgcmd/internal/faults"
	"github.com/pgcmd/pgcmd/pgcmdtest"
)

func TestACopyThatDoesNotFitItsTable(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	pool := connect(t, pgcmdtest.Pool(t, copyDDL), 1)
	untouched := manyParts(1, func(int) { t.Error("the sequence was begun") })
	for want, run := range map[string]func() (int64, error){
		`42P01`: func() (int64, error) {
			return pgcmd.Copy[part]("parts.copy", pgx.Identifier{"Parts"}).Run(ctx, pool, untouched)
		},
		`there is no table "nowhere"."parts"`: func() (int64, error) {
			return pgcmd.Copy[part]("parts.copy", pgx.Identifier{"nowhere", "parts"}).Run(ctx, pool, untouched)
		},
		"field wrong.Title has no column: table \"parts\" has id, name, qty, owner": func() (int64, error) {
			type wrong struct{ ID, Title int }
			return pgcmd.Copy[wrong]("parts.copy", pgx.Identifier{"parts"}).Run(ctx, pool, func(func(wrong, error) bool) { t.Error("the sequence was begun") })
		},
		`column "qty" is that of two fields of wrong, Qty and Other`: func() (int64, error) {
			type wrong struct {
				Qty   int
				Other int `db:"QTY"`
			}
			return pgcmd.Copy[wrong]("parts.copy", pgx.Identifier{"parts"}).Run(ctx, pool, rowsOf[wrong]())
		},
		"the sequence of rows is nil":                func() (int64, error) { return copyParts.Run(ctx, pool, nil) },
		"a Copy cannot run on a pgcmd_test.unusedDB": func() (int64, error) { return copyParts.Run(ctx, unusedDB{}, untouched) },
	} {
		n, err := run()
		e := failure(t, err)
		assert.Zero(t, n)
		assert.Contains(t, e.Error(), want)
		assert.Equal(t, pgcmd.NotApplied, e.Effect)
		assert.Equal(t, "parts.copy", e.Command)
	}
	_, err := copyParts.Run(ctx, pool, nil)
	assert.Equal(t, pgcmd.CodeInvalid, pgcmd.CodeOf(err))
	idle(t, pool.Pool)

	_, err = pool.Exec(ctx, `do $$ begin create role copy_inserter; exception when duplicate_object then null; end $$; grant insert on parts to copy_inserter`)
	require.NoError(t, err)
	_, err = transact(func(ctx context.Context, tx *pgcmd.Tx) error {
		if _, err := tx.Exec(ctx, `set local role copy_inserter`); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, `savepoint before`)
		require.NoError(t, err)
		_, err = tx.Exec(ctx, `select 1 from parts`)
		require.Error(t, err, "the role cannot read")
		_, err = tx.Exec(ctx, `rollback to before`)
		require.NoError(t, err)
		return runErr(copyParts.Run(ctx, tx, manyParts(3, nil)))
	}).Run(ctx, pool, empty{})
	require.NoError(t, err)
	assert.Equal(t, 3, count(t, pool, countParts))
}

func TestABadRowIsNamedByItsNumber(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	pool := connect(t, pgcmdtest.Pool(t, copyDDL+`;
		create table checked (id int, email text, small int2, note varchar(3), at timestamptz, "when" timestamp, r real, odd numeric);
		create view adults as select id, qty from parts where qty > 17 with check option;
		create function refuse() returns trigger language plpgsql as $$ begin if new.id = 2 then raise exception 'no %', new.note; end if; return new; end $$;
		create table triggered (id int, note text); create trigger refuse before insert on triggered for each row execute function refuse()`), 1)
	parts := func(bad int, row part) iter.Seq2[part, error] {
		rows := slices.Repeat([]part{{Name: "good"}}, 5000)
		for i := range rows {
			rows[i].ID = int64(i + 1)
		}
		rows[bad-1] = row
		return rowsOf(rows...)
	}
	type nullable struct {
		ID   *int64
		Name *string
	}
	type owned struct{ ID, Name, Owner int }
	type signee struct {
		ID    int
		Email string `validate:"required,email"`
		Small int    `validate:"lte=100000"`
	}
	type small struct{ Small int }
	type noted struct {
		ID   int
		Note string
	}
	type timed struct {
		At   time.Time
		When *time.Time
	}
	type odd struct{ Odd string }
	type adult struct{ ID, Qty int }
	name := "x"
	copyOf := func(table string) pgx.Identifier { return pgx.Identifier{table} }
	for what, c := range map[string]struct {
		run        func() (int64, error)
		message    string
		code       pgcmd.Code
		constraint string
		column     string
		problem    string
	}{
		"unique":        {func() (int64, error) { return copyParts.Run(ctx, pool, parts(18, part{ID: 4, Name: "twice"})) }, "row 18: violates unique constraint parts_pkey of table parts", pgcmd.CodeConflict, "parts_pkey", "", ""},
		"unique, late":  {func() (int64, error) { return copyParts.Run(ctx, pool, parts(4444, part{ID: 4, Name: "twice"})) }, "row 4444: violates unique constraint parts_pkey of table parts", pgcmd.CodeConflict, "parts_pkey", "", ""},
		"check":         {func() (int64, error) { return copyParts.Run(ctx, pool, parts(18, part{ID: 18, Qty: -1})) }, "row 18: violates check constraint parts_qty_check of table parts", pgcmd.CodeInvalid, "parts_qty_check", "", ""},
		"text with NUL": {func() (int64, error) { return copyParts.Run(ctx, pool, parts(18, part{ID: 18, Name: "a\x00"})) }, "row 18: the row was refused", pgcmd.CodeInvalid, "", "", "Name holds a NUL byte"},
		"not UTF-8":     {func() (int64, error) { return copyParts.Run(ctx, pool, parts(18, part{ID: 18, Name: "a\xff"})) }, "row 18: the row was refused", pgcmd.CodeInvalid, "", "", "Name is not valid UTF-8"},
		"int4":          {func() (int64, error) { return copyParts.Run(ctx, pool, parts(18, part{ID: 18, Qty: 1 << 31})) }, "row 18: the row was refused", pgcmd.CodeInvalid, "", "", `Qty is out of the range of column "qty" (int4)`},
		"int2": {func() (int64, error) {
			return pgcmd.Copy[small]("t.copy", copyOf("checked")).Run(ctx, pool, rowsOf(small{32767}, small{-32769}))
		}, "row 2: the row was refused", pgcmd.CodeInvalid, "", "", `Small is out of the range of column "small" (int2)`},
		"time": {func() (int64, error) {
			return pgcmd.Copy[timed]("t.copy", copyOf("checked")).Run(ctx, pool, rowsOf(timed{}, timed{At: time.Date(300000, 1, 1, 0, 0, 0, 0, time.UTC)}))
		}, "row 2: the row was refused", pgcmd.CodeInvalid, "", "", `At is out of the range of column "at" (timestamptz)`},
		"not null": {func() (int64, error) {
			id := int64(1)
			return pgcmd.Copy[nullable]("t.copy", copyOf("parts")).Run(ctx, pool, rowsOf(nullable{&id, &name}, nullable{Name: &name}))
		}, "row 2: column id of table parts must not be NULL", pgcmd.CodeInvalid, "", "id", ""},
		"too long": {func() (int64, error) {
			return pgcmd.Copy[noted]("t.copy", copyOf("checked")).Run(ctx, pool, rowsOf(noted{1, "abc"}, noted{2, "abcd"}))
		}, "row 2: column note: a value is longer than its type allows", pgcmd.CodeInvalid, "", "note", ""},
		"validate": {func() (int64, error) {
			return pgcmd.Copy[signee]("t.copy", copyOf("checked")).Run(ctx, pool, rowsOf(signee{1, "a@b.de", 5}, signee{2, "ab.de", 200_000}))
		}, "row 2: the row was refused", pgcmd.CodeInvalid, "", "", "Email must be a valid email address"},
		"not a number": {func() (int64, error) {
			return pgcmd.Copy[odd]("t.copy", copyOf("checked")).Run(ctx, pool, rowsOf(odd{"1.5"}, odd{"five"}))
		}, "row 2: column odd: a text cannot be read as the type that the SQL gives it", pgcmd.CodeInvalid, "", "odd", ""},
		"foreign key": {func() (int64, error) {
			return pgcmd.Copy[struct {
				ID    int
				Name  string
				Owner int
			}]("t.copy", copyOf("parts")).Run(ctx, pool, rowsOf(struct {
				ID    int
				Name  string
				Owner int
			}{1, "x", 1}))
		}, "violates foreign key constraint parts_owner_fkey of table parts", pgcmd.CodeConflict, "parts_owner_fkey", "", ""},
		"a trigger": {func() (int64, error) {
			return pgcmd.Copy[noted]("t.copy", copyOf("triggered")).Run(ctx, pool, rowsOf(noted{1, "COPY triggered, line 1"}, noted{2, "\nCOPY triggered, line 1"}))
		}, "row 2: a function or a trigger raised an exception: its text is withheld, since it may hold values, and errors.AsType[*pgconn.PgError] has it", pgcmd.CodeFailed, "", "", ""},
		"a view is no table": {func() (int64, error) {
			return pgcmd.Copy[adult]("t.copy", copyOf("adults")).Run(ctx, pool, rowsOf(adult{1, 1}))
		}, "the server reports wrong_object_type", pgcmd.CodeInternal, "", "", ""},
		"a text for an int": {func() (int64, error) {
			return pgcmd.Copy[owned]("t.copy", copyOf("parts")).Run(ctx, pool, rowsOf(owned{1, 2, 3}))
		}, `field Name (int) cannot be sent as text: change the field's type, or leave column "name" out`, pgcmd.CodeInternal, "", "name", ""},
	} {
		n, err := c.run()
		e := failure(t, err)
		assert.Zero(t, n, what)
		assert.Equal(t, pgcmd.NotApplied, e.Effect, what)
		assert.Equal(t, c.code, e.Code, what)
		assert.Equal(t, c.message, e.Message, what)
		assert.Equal(t, c.constraint, e.Constraint, what)
		assert.Equal(t, c.column, e.Column, what)
		if c.problem != "" && assert.NotEmpty(t, e.Problems, what) {
			assert.Contains(t, e.Problems[0].String(), c.problem, what)
		}
	}
	assert.Zero(t, count(t, pool, countParts))

	taken := errors.New("it is there already")
	_, err := copyParts.With(pgcmd.Options{OnConstraint: map[string]error{"parts_pkey": taken}}).Run(ctx, pool, parts(18, part{ID: 4}))
	assert.ErrorIs(t, err, taken)
	assert.Equal(t, "row 18: it is there already", failure(t, err).Message)

	trusted := pgcmd.Copy[signee]("t.copy", pgx.Identifier{"checked"}).With(pgcmd.Options{Trusted: true})
	_, err = trusted.Run(ctx, pool, rowsOf(signee{1, "no address", 1}))
	require.NoError(t, err)
}

func TestACopyShowsNoValue(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	pool := pgcmdtest.Pool(t, `create table secrets (id int constraint secrets_key unique check (id <> 74205101), text text, n numeric, check (text <> '`+rowCanary+` 2'))`)
	type secret struct {
		ID   int
		Text string
		N    any
	}
	c := pgcmd.Copy[secret]("secrets.copy", pgx.Identifier{"secrets"})
	for _, rows := range []iter.Seq2[secret, error]{
		rowsOf(secret{74205101, rowCanary, nil}),
		rowsOf(secret{1, rowCanary, nil}, secret{1, rowCanary, nil}),
		rowsOf(secret{1, rowCanary + " 2", nil}),
		rowsOf(secret{1, rowCanary + "\x00", nil}),
		rowsOf(secret{1, "", rowCanary}),
		rowsOf(secret{7420510100, "", nil}),
		func(yield func(secret, error) bool) { yield(secret{}, errors.New(rowCanary)) },
	} {
		_, err := c.Run(ctx, pool, rows)
		require.Error(t, err)
		assertNoCanary(t, "the error of a copy", err)
	}
}

// The server's log gets what it is told when a copy is given up.
func TestTheServerIsToldNoValue(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	pool := pgcmdtest.Pool(t, copyDDL)
	proxy, err := faults.Start(pool.Config().ConnString())
	require.NoError(t, err)
	defer proxy.Close()
	conn, err := pgx.Connect(ctx, proxy.URL())
	require.NoError(t, err)
	defer conn.Close(ctx)
	told := ""
	proxy.Set(&faults.Fault{Match: func(typ byte, body []byte) bool {
		if typ == 'f' {
			told = string(body)
		}
		return typ == 'f'
	}})
	_, err = copyParts.Run(ctx, conn, func(yield func(part, error) bool) { yield(part{}, errors.New(rowCanary)) })
	require.Error(t, err)
	assert.Contains(t, told, "the client gave up")
	assert.NotContains(t, told, rowCanary)
}
