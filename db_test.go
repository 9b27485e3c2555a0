package pgcmd_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgcmd/pgcmd"
	"github.com/pgcmd/pgcmd/pgcmdtest"
)

const usersDDL = `
	create table users (
		id         bigint generated always as identity primary key,
		email      text not null constraint users_email_key unique,
		age        int not null default 30 constraint users_age_check check (age > 0),
		note       text,
		created_at timestamptz not null default now()
	);
	insert into users (email, age) values ('ada@example.com', 36), ('bob@example.com', 20), ('eve@example.com', 50)`

// failure returns the *Error that err must be.
func failure(t testing.TB, err error) *pgcmd.Error {
	t.Helper()
	require.Error(t, err)
	e, ok := err.(*pgcmd.Error)
	require.Truef(t, ok, "a %T, not an *Error", err)
	return e
}

// panics returns the text of the panic that f must end in.
func panics(t testing.TB, f func()) (text string) {
	t.Helper()
	defer func() {
		t.Helper()
		reason := recover()
		require.NotNil(t, reason, "no panic")
		text, _ = reason.(string)
	}()
	f()
	return ""
}

// idle asserts that the pool has got all its connections back. One that died in
// pgx's own hands is counted until pgx has said goodbye to it.
func idle(t testing.TB, pool *pgxpool.Pool) {
	t.Helper()
	assert.Eventually(t, func() bool { return pool.Stat().AcquiredConns() == 0 }, 10*time.Second, time.Millisecond, "connections still held")
}

type user struct {
	ID    int64
	Email string
	Age   int
}

type byEmail struct{ Email string }

func TestTheSameCommandsRunOnEveryKindOfDB(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	pool := pgcmdtest.Pool(t, usersDDL)

	find := pgcmd.QueryOne[byEmail, user]("users.find", `select id, email, age from users where email = @email`)
	list := pgcmd.Query[struct{}, string]("users.emails", `select email from users order by email`)
	grow := pgcmd.Exec[byEmail]("users.grow", `update users set age = age + 1 where email = @email`)
	both := pgcmd.New("users.both", func(ctx context.Context, db pgcmd.DB, in byEmail) (user, error) {
		if _, err := grow.Run(ctx, db, in); err != nil {
			return user{}, err
		}
		return find.Run(ctx, db, in)
	})

	pooled, err := pool.Acquire(ctx)
	require.NoError(t, err)
	defer pooled.Release()
	conn, err := pgx.ConnectConfig(ctx, pool.Config().ConnConfig)
	require.NoError(t, err)
	defer conn.Close(ctx)
	tx, err := pool.Begin(ctx)
	require.NoError(t, err)
	defer tx.Rollback(ctx)

	for name, db := range map[string]pgcmd.DB{"pool": pool, "pooled connection": pooled, "connection": conn, "transaction": tx} {
		before, err := find.Run(ctx, db, byEmail{"ada@example.com"})
		require.NoError(t, err, name)
		if name == "transaction" {
			defer func() {
				require.NoError(t, tx.Rollback(ctx))
				after, err := find.Run(ctx, pool, byEmail{"ada@example.com"})
				require.NoError(t, err)
				assert.Equal(t, 39, after.Age, "the transaction's change went with it, the others stayed")
			}()
			// The row is locked until the end: the others have to be first.
			continue
		}
		after, err := both.Run(ctx, db, byEmail{"ada@example.com"})
		require.NoError(t, err, name)
		assert.Equal(t, before.Age+1, after.Age, name)
		emails, err := list.Run(ctx, db, struct{}{})
		require.NoError(t, err, name)
		assert.Equal(t, []string{"ada@example.com", "bob@example.com", "eve@example.com"}, emails, name)
	}
	after, err := both.Run(ctx, tx, byEmail{"ada@example.com"})
	require.NoError(t, err)
	assert.Equal(t, 40, after.Age)
}

func newPool(ctx context.Context, config *pgxpool.Config) (*pgxpool.Pool, error) {
	return pgxpool.NewWithConfig(ctx, config)
}

// errorsWrap wraps an error as a careless body does.
func errorsWrap(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("signing up: %w", err)
}

// exampleServer is for examples, which have no testing.TB.
var exampleServer = sync.OnceValues(func() (*pgcmdtest.Server, error) { return pgcmdtest.Start(context.Background()) })

// asked is a transaction that counts how often its connection is asked for.
type asked struct {
	pgx.Tx
	conns int
}

func (a *asked) Conn() *pgx.Conn {
	a.conns++
	return a.Tx.Conn()
}

// The Conn of a transaction can cost a round trip: that of a Tx, in a user's type,
// does.
func TestTheConnectionOfATransactionIsAskedForOnceARun(t *testing.T) {
	t.Parallel()
	pool := pgcmdtest.Pool(t, usersDDL)
	tx, err := pool.Begin(t.Context())
	require.NoError(t, err)
	defer func() { _ = tx.Rollback(context.Background()) }()
	db := &asked{Tx: tx}
	count := pgcmd.QueryOne[struct{}, int64]("users.count", `select count(*) from users`)
	for name, run := range map[string]func() error{
		"a statement":         func() error { _, err := count.Run(t.Context(), db, struct{}{}); return err },
		"a statement, by Try": func() error { return pgcmd.Try(t.Context(), db, count, struct{}{}).Err },
		"a body": func() error {
			_, err := pgcmd.New("nothing", func(context.Context, pgcmd.DB, int) (int, error) { return 0, nil }).Run(t.Context(), db, 1)
			return err
		},
	} {
		db.conns = 0
		require.NoError(t, run(), name)
		require.LessOrEqual(t, db.conns, 1, name)
	}
}
