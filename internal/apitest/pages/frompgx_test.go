package pages_test

import (
	"bytes"
	"context"
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgcmd/pgcmd"
	"github.com/pgcmd/pgcmd/pgcmdtest"
)

const schema = `
create table users (id bigint generated always as identity primary key, email text not null constraint users_email_key unique, age int not null default 0);
create table accounts (id bigint primary key, cents bigint not null constraint enough check (cents >= 0));
insert into users (email, age) values ('ada@example.com', 36);
insert into accounts values (1, 100), (2, 0)`

var errEmailTaken = errors.New("email is already registered")

type User struct {
	ID    int64
	Email string
	Age   int
}

// There: pgx by hand.

func findByHand(ctx context.Context, pool *pgxpool.Pool, email string) (u User, err error) {
	err = pool.QueryRow(ctx, `select id, email, age from users where email = $1`, email).Scan(&u.ID, &u.Email, &u.Age)
	return u, err
}

func listByHand(ctx context.Context, pool *pgxpool.Pool, age int) ([]User, error) {
	rows, err := pool.Query(ctx, `select id, email, age from users where age >= @age`, pgx.NamedArgs{"age": age})
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowToStructByName[User])
}

func createByHand(ctx context.Context, pool *pgxpool.Pool, email string) (id int64, err error) {
	err = pool.QueryRow(ctx, `insert into users (email) values ($1) returning id`, email).Scan(&id)
	if e, ok := errors.AsType[*pgconn.PgError](err); ok && e.Code == "23505" && e.ConstraintName == "users_email_key" {
		return 0, errEmailTaken
	}
	return id, err
}

func transferByHand(ctx context.Context, pool *pgxpool.Pool, from, to, cents int64) error {
	return pgx.BeginTxFunc(ctx, pool, pgx.TxOptions{IsoLevel: pgx.Serializable}, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `update accounts set cents = cents - $1 where id = $2`, cents, from); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, `update accounts set cents = cents + $1 where id = $2`, cents, to)
		return err
	})
}

func copyByHand(ctx context.Context, pool *pgxpool.Pool, users []User) (int64, error) {
	return pool.CopyFrom(ctx, pgx.Identifier{"users"}, []string{"email", "age"},
		pgx.CopyFromSlice(len(users), func(i int) ([]any, error) { return []any{users[i].Email, users[i].Age}, nil }))
}

// Here: commands.

type ByEmail struct {
	Email string `validate:"required,email"`
}

var findUser = pgcmd.QueryOne[ByEmail, User]("users.find",
	`select id, email, age from users where email = @email`)

type ByAge struct{ Age int }

var listUsers = pgcmd.Query[ByAge, User]("users.list",
	`select id, email, age from users where age >= @age`)

var createUser = pgcmd.QueryOne[ByEmail, int64]("users.create",
	`insert into users (email) values (@email) returning id`).
	With(pgcmd.Options{OnConstraint: map[string]error{"users_email_key": errEmailTaken}})

type Change struct{ Account, Cents int64 }

var change = pgcmd.Exec[Change]("accounts.change",
	`update accounts set cents = cents + @cents where id = @account`)

type Transfer struct{ From, To, Cents int64 }

var transfer = pgcmd.Transaction("bank.transfer", func(ctx context.Context, tx *pgcmd.Tx, in Transfer) (struct{}, error) {
	if _, err := change.Run(ctx, tx, Change{in.From, -in.Cents}); err != nil {
		return struct{}{}, err
	}
	_, err := change.Run(ctx, tx, Change{in.To, in.Cents})
	return struct{}{}, err
}).With(pgcmd.Options{
	Tx:      pgx.TxOptions{IsoLevel: pgx.Serializable},
	Retry:   pgcmd.Retry{Attempts: 5},
	Timeout: 2 * time.Second,
})

type NewUser struct {
	Email string
	Age   int
}

var importUsers = pgcmd.Copy[NewUser]("users.import", pgx.Identifier{"users"})

// A command runs in the transaction of code that was not moved yet.
func createBoth(ctx context.Context, pool *pgxpool.Pool, first, second string) error {
	return pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		if _, err := createUser.Run(ctx, tx, ByEmail{first}); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, `insert into users (email) values ($1)`, second)
		return err
	})
}

func exportUsers(ctx context.Context, pool *pgxpool.Pool, to *bytes.Buffer) error {
	conn, err := pool.Acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release()
	_, err = conn.Conn().PgConn().CopyTo(ctx, to, `copy (select email, age from users order by id) to stdout (format csv)`)
	return err
}

// listen hands each notification to f until ctx ends.
func listen(ctx context.Context, pool *pgxpool.Pool, ready func(), f func(payload string)) error {
	conn, err := pool.Acquire(ctx)
	if err != nil {
		return err
	}
	raw := conn.Hijack() // a session that listens must not go back to the pool
	defer raw.Close(context.WithoutCancel(ctx))
	if _, err := raw.Exec(ctx, `listen users`); err != nil {
		return err
	}
	ready()
	for {
		n, err := raw.WaitForNotification(ctx)
		if err != nil {
			return err
		}
		f(n.Payload)
	}
}

func TestBothSidesOfThePageAboutPgxDoTheSame(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	pool := pgcmdtest.Pool(t, schema)
	pgcmdtest.VerifyOn(t, pool, findUser, listUsers, createUser, change, transfer, importUsers)

	there, err := findByHand(ctx, pool, "ada@example.com")
	require.NoError(t, err)
	here, err := findUser.Run(ctx, pool, ByEmail{"ada@example.com"})
	require.NoError(t, err)
	assert.Equal(t, there, here)
	_, err = findByHand(ctx, pool, "bob@example.com")
	assert.ErrorIs(t, err, pgx.ErrNoRows)
	_, err = findUser.Run(ctx, pool, ByEmail{"bob@example.com"})
	assert.ErrorIs(t, err, pgx.ErrNoRows)

	thereAll, err := listByHand(ctx, pool, 18)
	require.NoError(t, err)
	hereAll, err := listUsers.Run(ctx, pool, ByAge{18})
	require.NoError(t, err)
	assert.Equal(t, thereAll, hereAll)

	_, err = createByHand(ctx, pool, "ada@example.com")
	assert.ErrorIs(t, err, errEmailTaken)
	_, err = createUser.Run(ctx, pool, ByEmail{"ada@example.com"})
	assert.ErrorIs(t, err, errEmailTaken)
	id, err := createByHand(ctx, pool, "bob@example.com")
	require.NoError(t, err)
	assert.NotZero(t, id)

	require.NoError(t, transferByHand(ctx, pool, 1, 2, 10))
	_, err = transfer.Run(ctx, pool, Transfer{1, 2, 10})
	require.NoError(t, err)
	assert.Error(t, transferByHand(ctx, pool, 1, 2, 1000))
	_, err = transfer.Run(ctx, pool, Transfer{1, 2, 1000})
	assert.Equal(t, pgcmd.NotApplied, pgcmd.EffectOf(err))
	var cents int64
	require.NoError(t, pool.QueryRow(ctx, `select cents from accounts where id = 2`).Scan(&cents))
	assert.EqualValues(t, 20, cents)

	n, err := copyByHand(ctx, pool, []User{{Email: "grace@example.com", Age: 45}})
	require.NoError(t, err)
	assert.EqualValues(t, 1, n)
	n, err = importUsers.Run(ctx, pool, pgcmd.Rows([]NewUser{{"alan@example.com", 41}}))
	require.NoError(t, err)
	assert.EqualValues(t, 1, n)
	require.NoError(t, createBoth(ctx, pool, "kurt@example.com", "emmy@example.com"))

	var csv bytes.Buffer
	require.NoError(t, exportUsers(ctx, pool, &csv))
	assert.Equal(t, "ada@example.com,36\nbob@example.com,0\ngrace@example.com,45\nalan@example.com,41\nkurt@example.com,0\nemmy@example.com,0\n", csv.String())

	listening, stop := context.WithCancel(ctx)
	defer stop()
	var got string
	err = listen(listening, pool, func() { _, _ = pool.Exec(ctx, `notify users, 'ada'`) }, func(payload string) { got = payload; stop() })
	assert.ErrorIs(t, err, context.Canceled)
	assert.Equal(t, "ada", got)
}
