package pages_test

import (
	"context"
	"errors"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgcmd/pgcmd"
	"github.com/pgcmd/pgcmd/pgcmdtest"
)

// A service needs a function, not the whole database: a test of it passes another one.
type Mailer struct {
	find func(ctx context.Context, email string) (User, error)
	send func(to, text string) error
}

func (m Mailer) Greet(ctx context.Context, email string) error {
	user, err := m.find(ctx, email)
	if err != nil {
		return err
	}
	return m.send(user.Email, "Hello")
}

func newMailer(db pgcmd.DB, send func(to, text string) error) Mailer {
	find := func(ctx context.Context, email string) (User, error) { return findUser.Run(ctx, db, ByEmail{email}) }
	return Mailer{find, send}
}

func TestGreetSendsNothingToAStranger(t *testing.T) {
	m := Mailer{
		find: func(context.Context, string) (User, error) { return User{}, pgx.ErrNoRows },
		send: func(string, string) error { return errors.New("sent") },
	}
	if err := m.Greet(t.Context(), "bob@example.com"); !errors.Is(err, pgx.ErrNoRows) {
		t.Error(err)
	}
}

type Search struct {
	Email  *string
	MinAge *int
	Sort   string
}

var searchUsers = pgcmd.Query[Search, User]("users.search", `
	select id, email, age from users where true
	/*? and email like @email */
	/*? and age >= @min_age */
	order by /*= @sort age: age, id; email: email */ id /*=*/`)

type ByIDs struct{ IDs []int64 }

var usersByID = pgcmd.Query[ByIDs, User]("users.by_id",
	`select id, email, age from users where id = any(@ids)`)

func TestTheCodeOfThePageAboutSqlcWorks(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	pool := pgcmdtest.Pool(t, schema)
	pgcmdtest.VerifyOn(t, pool, searchUsers, usersByID)
	sent := ""
	m := newMailer(pool, func(to, _ string) error { sent = to; return nil })
	require.NoError(t, m.Greet(ctx, "ada@example.com"))
	assert.Equal(t, "ada@example.com", sent)

	age, like := 90, "ada@%"
	for want, in := range map[int]Search{1: {Email: &like, Sort: "age"}, 0: {MinAge: &age}} {
		found, err := searchUsers.Run(ctx, pool, in)
		require.NoError(t, err)
		assert.Len(t, found, want)
	}
	found, err := usersByID.Run(ctx, pool, ByIDs{[]int64{1, 2}})
	require.NoError(t, err)
	assert.Len(t, found, 1)

	outcomes, err := pgcmd.Batch(createUser, pgcmd.Atomic).Run(ctx, pool, []ByEmail{{"bob@example.com"}, {"grace@example.com"}})
	require.NoError(t, err)
	assert.Equal(t, 2, outcomes.Succeeded)
	for user, err := range pgcmd.Stream(ctx, pool, listUsers, ByAge{18}) {
		require.NoError(t, err)
		assert.Equal(t, 36, user.Age)
	}
}
