package pgcmd_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgcmd/pgcmd"
	"github.com/pgcmd/pgcmd/pgcmdtest"
)

func TestAdHoc(t *testing.T) {
	t.Parallel()
	pool := pgcmdtest.Pool(t, usersDDL)
	ctx := t.Context()
	run := func(q pgcmd.AdHocQuery) (pgcmd.AdHocResult, error) { return pgcmd.AdHoc.Run(ctx, pool, q) }

	got, err := run(pgcmd.AdHocQuery{SQL: `select email, age from users where age > @min order by age`, Args: map[string]any{"min": 30, "unused": 1}})
	require.NoError(t, err)
	assert.Equal(t, []string{"email", "age"}, got.Columns)
	assert.Equal(t, []map[string]any{{"email": "ada@example.com", "age": int32(36)}, {"email": "eve@example.com", "age": int32(50)}}, got.Rows)
	assert.Equal(t, 2, got.RowCount)
	assert.Positive(t, got.Elapsed)

	got, err = run(pgcmd.AdHocQuery{SQL: `update users set age = 40`})
	require.NoError(t, err)
	assert.Equal(t, 3, got.RowCount)
	assert.Empty(t, got.Columns)

	for name, c := range map[string]struct {
		q    pgcmd.AdHocQuery
		code pgcmd.Code
		want string
	}{
		"no SQL":            {pgcmd.AdHocQuery{}, pgcmd.CodeInvalid, "SQL is a required field"},
		"two statements":    {pgcmd.AdHocQuery{SQL: `select 1; drop table users`}, pgcmd.CodeInvalid, "one command is one statement"},
		"a missing value":   {pgcmd.AdHocQuery{SQL: `select @a`}, pgcmd.CodeInvalid, "Args.a is named by the SQL and has no value"},
		"a number":          {pgcmd.AdHocQuery{SQL: `select $1`}, pgcmd.CodeInvalid, "names $1"},
		"a bad value":       {pgcmd.AdHocQuery{SQL: `select @a::text`, Args: map[string]any{"a": "\x00"}}, pgcmd.CodeInvalid, "Args.a holds a NUL byte"},
		"negative MaxRows":  {pgcmd.AdHocQuery{SQL: `select 1`, MaxRows: -1}, pgcmd.CodeInvalid, "MaxRows must be 0 or greater"},
		"too many rows":     {pgcmd.AdHocQuery{SQL: `select * from users`, MaxRows: 2}, pgcmd.CodeTooManyRows, "more than MaxRows (2)"},
		"10,000 by default": {pgcmd.AdHocQuery{SQL: `select generate_series(1, 10001)`}, pgcmd.CodeTooManyRows, "more than MaxRows (10000)"},
		"a timeout":         {pgcmd.AdHocQuery{SQL: `select pg_sleep(60)`, Timeout: 50 * time.Millisecond}, pgcmd.CodeTimeout, "the deadline passed"},
		"bad SQL": {pgcmd.AdHocQuery{SQL: `select *
			fro users`}, pgcmd.CodeInternal, `(line 2 of the SQL, at "fro")`},
	} {
		_, err := run(c.q)
		assert.Equal(t, c.code, failure(t, err).Code, name)
		assert.Contains(t, err.Error(), c.want, name)
	}
	_, err = pgcmd.AdHoc.With(pgcmd.Options{ReadOnly: true}).Run(ctx, pool, pgcmd.AdHocQuery{SQL: `with x as (delete from users returning 1) select * from x`})
	assert.Contains(t, failure(t, err).Error(), "is plainly a write, and the command is ReadOnly")
	idle(t, pool)
}
