package pgcmd_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgcmd/pgcmd"
	"github.com/pgcmd/pgcmd/pgcmdtest"
)

func TestExplainPlansAndRunsNothing(t *testing.T) {
	t.Parallel()
	ctx, pool := t.Context(), pgcmdtest.Pool(t, usersDDL, `
		create table calls (n int);
		create function note() returns int language sql as $$ insert into calls values (1) returning n $$;
		create function meddle() returns int language plpgsql immutable as $$ begin return note(); end $$`)

	find := pgcmd.QueryOne[byEmail, user]("users.find", `-- by email
		select id, email, age from users where email = @email`)
	plan, err := pgcmd.Explain(ctx, pool, find, byEmail{"ada@example.com"})
	require.NoError(t, err)
	assert.Contains(t, plan, "users_email_key")
	assert.Contains(t, plan, "\n  Index Cond: (email = 'ada@example.com'::text)")

	clear := pgcmd.Exec[int]("users.clear", `delete from users where age > $1`)
	plan, err = pgcmd.Explain(ctx, pool, clear, 0)
	require.NoError(t, err)
	assert.Contains(t, plan, "Delete on users")
	assert.Equal(t, 3, count(t, pool, `select count(*) from users`))

	_, err = pgcmd.Explain(ctx, pool, pgcmd.QueryOne[struct{}, int]("meddle", `select meddle()`), struct{}{})
	e := failure(t, err)
	assert.Equal(t, "25006", e.SQLState, "a function that planning calls cannot write")
	assert.Equal(t, pgcmd.NotApplied, e.Effect)
	assert.Zero(t, count(t, pool, `select count(*) from calls`))

	tx, err := pool.Begin(ctx)
	require.NoError(t, err)
	defer tx.Rollback(ctx)
	_, err = clear.Run(ctx, tx, 40)
	require.NoError(t, err)
	_, err = pgcmd.Explain(ctx, tx, find, byEmail{"x"})
	require.NoError(t, err)
	_, err = pgcmd.Explain(ctx, tx, pgcmd.Exec[struct{}]("wrong", `select wrong`), struct{}{})
	assert.Equal(t, "42703", failure(t, err).SQLState)
	assert.Equal(t, 2, count(t, tx, `select count(*) from users`), "the transaction is as it was, and usable")
	require.NoError(t, tx.Rollback(ctx))
	idle(t, pool)
}

func TestExplainRefusesWhatHasNoPlan(t *testing.T) {
	t.Parallel()
	ctx, pool := t.Context(), pgcmdtest.Pool(t, usersDDL)

	_, err := pgcmd.Explain(ctx, pool, pgcmd.Exec[struct{}]("users.vacuum", `analyze users`), struct{}{})
	assert.Contains(t, failure(t, err).Message, "PostgreSQL has no plan for it")
	_, err = pgcmd.Explain(ctx, pool, echo[int]("x"), 1)
	assert.Contains(t, failure(t, err).Message, "only a Query, a QueryOne or an Exec has one plan")
	_, err = pgcmd.Explain(ctx, pool, (*pgcmd.Command[int, int])(nil), 1)
	assert.Equal(t, pgcmd.CodeInternal, failure(t, err).Code)
	_, err = pgcmd.Explain(ctx, pool, pgcmd.Exec[login]("x", `select @name`), login{Name: "12345678901234567890123456789012345678901"})
	assert.Equal(t, pgcmd.CodeInvalid, failure(t, err).Code)
	_, err = pgcmd.Explain(ctx, nil, pgcmd.Exec[struct{}]("x", `select 1`), struct{}{})
	assert.Contains(t, failure(t, err).Message, "the DB is nil")
}

func TestExplainShowsNoSecret(t *testing.T) {
	t.Parallel()
	pool := pgcmdtest.Pool(t, usersDDL)
	type in struct {
		Email string
		Note  string `secret:"true"`
		Age   int    `secret:"true"`
	}
	find := pgcmd.Query[in, int64]("users.find", `select id from users where email = @email and note = @note and age = @age`)
	plan, err := pgcmd.Explain(t.Context(), pool, find, in{"ada@example.com", inputCanary, 74205101})
	require.NoError(t, err)
	assert.Contains(t, plan, "ada@example.com")
	assert.NotContains(t, plan, inputCanary)
	assert.NotContains(t, plan, "74205101")
}
