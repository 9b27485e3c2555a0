// Package norow_test tests a QueryOne whose row is a pointer: nil if there is none.
package norow_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgcmd/pgcmd"
	"github.com/pgcmd/pgcmd/pgcmdtest"
)

type none = struct{}

const usersDDL = `
create table users (id int8 primary key, name text not null, seen timestamptz, tags text[]);
insert into users values (1, 'ada', '2026-01-02 03:04:05Z', '{x,y}'), (2, 'bob', null, null);` + pgcmd.OnceSchema

type user struct {
	ID   int64
	Name string
	Seen *time.Time
}

var (
	find   = pgcmd.QueryOne[int64, *user]("users.find", `select id, name, seen from users where id = $1`)
	rename = pgcmd.QueryOne[int64, *user]("users.rename", `update users set name = name || '!' where id = $1 returning id, name, seen`)
	seen   = pgcmd.QueryOne[int64, *time.Time]("users.seen", `select seen from users where id = $1`)
	noon   = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
)

// itself scans its row.
type itself struct{ texts []string }

func (r *itself) ScanRow(rows pgx.Rows) error {
	values, err := rows.Values()
	for _, v := range values {
		if s, ok := v.(string); ok {
			r.texts = append(r.texts, s)
		}
	}
	return err
}

// scans is a scanner of one column.
type scans struct{ found any }

func (s *scans) Scan(value any) error { s.found = value; return nil }

// one runs a QueryOne for user 1, for user 2, whose columns are NULL, and for none.
func one[Row any](t *testing.T, db pgcmd.DB, columns string) (first, null *Row) {
	t.Helper()
	c := pgcmd.QueryOne[int64, *Row]("users.one", `select `+columns+` from users where id = $1`)
	first, err := c.Run(t.Context(), db, 1)
	require.NoError(t, err)
	require.NotNil(t, first)
	null, err = c.Run(t.Context(), db, 2)
	require.NoError(t, err)
	nobody, err := c.Run(t.Context(), db, 3)
	require.NoError(t, err)
	require.Nil(t, nobody)
	again, err := c.Run(t.Context(), db, 1)
	require.NoError(t, err)
	require.Equal(t, first, again)
	require.NotSame(t, first, again, "each run has a row of its own")
	return first, null
}

func TestEveryKindOfRow(t *testing.T) {
	t.Parallel()
	pool := pgcmdtest.Pool(t, usersDDL)
	counted, err := pgcmd.Connect(t.Context(), pgcmd.Config{URL: pool.Config().ConnString(), MaxConns: 2, Multiplex: 1})
	require.NoError(t, err)
	t.Cleanup(func() { _ = counted.Close(context.Background()) })
	for name, db := range map[string]pgcmd.DB{"a pgxpool": pool, "with Multiplex": counted} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ada, bob := one[user](t, db, `id, name, seen`)
			assert.Equal(t, "ada", ada.Name)
			assert.True(t, ada.Seen.Equal(noon))
			assert.Equal(t, &user{ID: 2, Name: "bob"}, bob)

			text, null := one[string](t, db, `case id when 1 then name end`)
			assert.Equal(t, "ada", *text)
			assert.Nil(t, null, "NULL is nil too")
			at, null2 := one[time.Time](t, db, `seen`)
			assert.True(t, at.Equal(noon))
			assert.Nil(t, null2)
			tags, null3 := one[[]string](t, db, `tags`)
			assert.Equal(t, []string{"x", "y"}, *tags)
			assert.Nil(t, null3)
			valid, null4 := one[sql.Null[string]](t, db, `case id when 1 then name end`)
			assert.Equal(t, sql.Null[string]{V: "ada", Valid: true}, *valid)
			assert.Nil(t, null4, "as pgx reads a pointer to a scanner")
			scanned, null5 := one[scans](t, db, `case id when 1 then name end`)
			assert.Equal(t, "ada", scanned.found)
			assert.Nil(t, null5)
			m, _ := one[map[string]any](t, db, `id, name`)
			assert.Equal(t, map[string]any{"id": int64(1), "name": "ada"}, *m)
			self, _ := one[itself](t, db, `name`)
			assert.Equal(t, []string{"ada"}, self.texts)
			only, empty := one[struct{ Seen *time.Time }](t, db, `seen`)
			assert.True(t, only.Seen.Equal(noon))
			assert.Equal(t, &struct{ Seen *time.Time }{}, empty, "a struct tells NULL from no row")
		})
	}
}

func TestNoRowOfAWrite(t *testing.T) {
	t.Parallel()
	pool := pgcmdtest.Pool(t, usersDDL)
	ctx := t.Context()
	ada, err := rename.Run(ctx, pool, 1)
	require.NoError(t, err)
	assert.Equal(t, "ada!", ada.Name)
	nobody, err := rename.Run(ctx, pool, 3)
	require.NoError(t, err)
	assert.Nil(t, nobody)

	two := pgcmd.QueryOne[none, *user]("users.two", `select id, name, seen from users`)
	_, err = two.Run(ctx, pool, none{})
	assert.Equal(t, pgcmd.CodeTooManyRows, pgcmd.CodeOf(err))
	assert.ErrorIs(t, err, pgx.ErrTooManyRows)
	_, err = pgcmd.QueryOne[none, *user]("users.few", `select id, name from users where false`).Run(ctx, pool, none{})
	assert.ErrorContains(t, err, "field user.Seen has no column", "also without a row")
}

func TestRowsThatCannotBeOptional(t *testing.T) {
	t.Parallel()
	assert.PanicsWithValue(t, "pgcmd: x: the row type is *norow_test.user: use norow_test.user, rows are values",
		func() { pgcmd.QueryOne[none, **user]("x", `select 1`) })
	assert.PanicsWithValue(t, "pgcmd: x: the row type is *norow_test.user: use norow_test.user, rows are values",
		func() { pgcmd.Query[none, *user]("x", `select 1`) })
}

// calls sees the rows of a run.
func calls(rows *[]int64) pgcmd.Middleware {
	return func(next pgcmd.Handler) pgcmd.Handler {
		return func(ctx context.Context, call *pgcmd.Call) error {
			err := next(ctx, call)
			*rows = append(*rows, call.Rows)
			return err
		}
	}
}

func TestHooksSeeNil(t *testing.T) {
	t.Parallel()
	pool := pgcmdtest.Pool(t, usersDDL)
	anonymous := &user{Name: "anonymous"}
	var rows []int64
	c := pgcmd.After(find, func(_ context.Context, id int64, out **user) error {
		if *out == nil {
			*out = anonymous
		}
		return nil
	})
	counted := find.With(pgcmd.Options{Middleware: []pgcmd.Middleware{calls(&rows)}})
	for id, want := range map[int64]string{1: "ada", 3: "anonymous"} {
		got, err := c.Run(t.Context(), pool, id)
		require.NoError(t, err)
		assert.Equal(t, want, got.Name)
	}
	for _, id := range []int64{1, 3} {
		_, err := counted.Run(t.Context(), pool, id)
		require.NoError(t, err)
	}
	assert.Equal(t, []int64{1, 0}, rows)
}

func TestItems(t *testing.T) {
	t.Parallel()
	pool := pgcmdtest.Pool(t, usersDDL)
	ctx := t.Context()
	for mode := pgcmd.Atomic; mode <= pgcmd.Sequential; mode++ {
		for _, c := range []*pgcmd.Command[int64, *user]{find, rename, find.With(pgcmd.Options{InTx: true})} {
			r, err := pgcmd.Batch(c, mode).Run(ctx, pool, []int64{3, 1, 4, 2})
			require.NoError(t, err)
			require.NoError(t, r.Err())
			assert.Equal(t, 4, r.Succeeded)
			assert.Nil(t, r.Outcomes[0].Value, "%v %v", mode, c)
			assert.EqualValues(t, 1, r.Outcomes[1].Value.ID)
			assert.Nil(t, r.Outcomes[2].Value, "%v %v", mode, c)
			assert.EqualValues(t, 2, r.Outcomes[3].Value.ID)
		}
	}
	for _, mode := range []pgcmd.BatchMode{pgcmd.Atomic, pgcmd.Independent} {
		var p pgcmd.Pipeline
		ada, nobody, never := pgcmd.Queue(&p, find, 1), pgcmd.Queue(&p, rename, 3), pgcmd.Queue(&p, seen, 2)
		require.NoError(t, p.Run(ctx, pool, mode))
		u, err := ada.Get()
		require.NoError(t, err)
		assert.EqualValues(t, 1, u.ID)
		u, err = nobody.Get()
		require.NoError(t, err)
		assert.Nil(t, u)
		at, err := never.Get()
		require.NoError(t, err)
		assert.Nil(t, at)
	}
}

func TestOnceStoresNil(t *testing.T) {
	t.Parallel()
	pool := pgcmdtest.Pool(t, usersDDL)
	c := pgcmd.Once(rename, func(id int64) string { return string(rune('a' + id)) })
	for _, id := range []int64{3, 1} {
		first := pgcmd.Try(t.Context(), pool, c, id)
		require.NoError(t, first.Err)
		again := pgcmd.Try(t.Context(), pool, c, id)
		require.NoError(t, again.Err)
		assert.True(t, again.Replayed)
		assert.Equal(t, first.Value == nil, id == 3)
		assert.Equal(t, first.Value == nil, again.Value == nil)
		if id == 1 {
			assert.Equal(t, "ada!", again.Value.Name)
		}
	}
}

func TestJSON(t *testing.T) {
	t.Parallel()
	pool := pgcmdtest.Pool(t, usersDDL)
	outcome := pgcmd.Try(t.Context(), pool, find, 3)
	outcome.Elapsed = 0
	text, err := json.Marshal(outcome)
	require.NoError(t, err)
	assert.JSONEq(t, `{"ok":true,"value":null,"attempts":1,"elapsed_ms":0}`, string(text))

	catalog := pgcmd.NewCatalog(find, seen)
	for name, outputs := range map[string]map[string]string{
		"users.find": {"1": `{"ID":1,"Name":"ada","Seen":"2026-01-02T03:04:05Z"}`, "3": `null`},
		"users.seen": {"1": `"2026-01-02T03:04:05Z"`, "2": `null`, "3": `null`},
	} {
		for in, want := range outputs {
			out, err := catalog.Run(t.Context(), pool, name, json.RawMessage(in))
			require.NoError(t, err)
			var at any
			require.NoError(t, json.Unmarshal(out, &at))
			if m, ok := at.(map[string]any); ok && m["Seen"] != nil {
				m["Seen"] = utc(t, m["Seen"])
			} else if s, ok := at.(string); ok {
				at = utc(t, s)
			}
			got, err := json.Marshal(at)
			require.NoError(t, err)
			assert.JSONEq(t, want, string(got), "%s of %s", name, in)
		}
	}
	for _, info := range catalog.Manifest().Commands {
		var schema struct{ Type any }
		require.NoError(t, json.Unmarshal(info.Output, &schema))
		assert.Contains(t, schema.Type, "null", string(info.Output))
		assert.NotContains(t, info.Codes, pgcmd.CodeNotFound, info.Name)
		assert.Contains(t, info.Codes, pgcmd.CodeTooManyRows, info.Name)
	}
}

func utc(t *testing.T, at any) string {
	t.Helper()
	parsed, err := time.Parse(time.RFC3339, at.(string))
	require.NoError(t, err)
	return parsed.UTC().Format(time.RFC3339)
}

func TestVerify(t *testing.T) {
	t.Parallel()
	pool := pgcmdtest.Pool(t, usersDDL)
	require.NoError(t, pgcmd.Verify(t.Context(), pool, find, rename, seen))
	wrong := pgcmd.QueryOne[int64, *struct{ Seen time.Time }]("users.wrong", `select seen from users where id = $1`)
	e := pgcmd.Verify(t.Context(), pool, wrong).(*pgcmd.Error)
	require.Len(t, e.Problems, 1)
	assert.Contains(t, e.Problems[0].Message, `(time.Time) cannot hold NULL, and column "seen" of table users may be NULL`)
}

func TestATransactionGoesOn(t *testing.T) {
	t.Parallel()
	pool := pgcmdtest.Pool(t, usersDDL)
	var tx pgx.Tx
	tx, err := pool.Begin(t.Context())
	require.NoError(t, err)
	defer tx.Rollback(t.Context())
	for name, db := range map[string]pgcmd.DB{"pgx's": tx, "the connection": tx.Conn()} {
		u, err := rename.Run(t.Context(), db, 3)
		require.NoError(t, err, name)
		assert.Nil(t, u, name)
		u, err = find.Run(t.Context(), db, 1)
		require.NoError(t, err, name)
		assert.NotNil(t, u, name)
	}
	_, err = pgcmd.Transaction("users.tx", func(ctx context.Context, tx *pgcmd.Tx, _ none) (int, error) {
		u, err := find.Run(ctx, tx, 3)
		assert.Nil(t, u)
		require.NoError(t, err)
		u, err = pgcmd.Try(ctx, tx, rename, 3).Get()
		assert.Nil(t, u)
		return 0, err
	}).Run(t.Context(), pool, none{})
	require.NoError(t, err)
}
