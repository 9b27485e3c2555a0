package pgcmd_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pgcmd/pgcmd"
)

type FindUser struct {
	Email string `validate:"required,email"`
}

type User struct {
	ID        int64
	Email     string
	CreatedAt time.Time
}

var findUser = pgcmd.QueryOne[FindUser, User]("users.find",
	`select id, email, created_at from users where email = @email`)

type CreateUser struct {
	Email string `validate:"required,email"`
	Age   int    `validate:"gte=18"`
}

var ErrEmailTaken = errors.New("email is already registered")

var createUser = pgcmd.QueryOne[CreateUser, User]("users.create",
	`insert into users (email, age) values (@email, @age) returning id, email, created_at`).
	With(pgcmd.Options{OnConstraint: map[string]error{"users_email_key": ErrEmailTaken}})

func Example() {
	pool, ctx := examplePool()
	defer pool.Close()

	user, err := findUser.Run(ctx, pool, FindUser{Email: "ada@example.com"})
	fmt.Println(user.ID, user.Email, err)

	_, err = createUser.Run(ctx, pool, CreateUser{Email: "ada@example.com", Age: 36})
	fmt.Println(errors.Is(err, ErrEmailTaken))
	fmt.Println(pgcmd.CodeOf(err), pgcmd.EffectOf(err))

	_, err = createUser.Run(ctx, pool, CreateUser{Email: "ada", Age: 7})
	fmt.Println(err)
	// Output:
	// 1 ada@example.com <nil>
	// true
	// conflict not_applied
	// pgcmd: users.create: the input was refused for 2 reasons: Email must be a valid email address; Age must be 18 or greater [invalid, not applied]
}

func ExampleQuery() {
	pool, ctx := examplePool()
	defer pool.Close()

	listEmails := pgcmd.Query[struct{}, string]("users.emails", `select email from users order by email`)
	emails, err := listEmails.Run(ctx, pool, struct{}{})
	fmt.Println(emails, err)
	// Output: [ada@example.com bob@example.com eve@example.com] <nil>
}

func ExampleQueryOne() {
	pool, ctx := examplePool()
	defer pool.Close()

	_, err := findUser.Run(ctx, pool, FindUser{Email: "nobody@example.com"})
	fmt.Println(pgcmd.CodeOf(err) == pgcmd.CodeNotFound)
	// Output: true
}

// With a pointer as its row, a QueryOne returns nil if there is no row, and no error.
func ExampleQueryOne_optional() {
	pool, ctx := examplePool()
	defer pool.Close()

	lookUpUser := pgcmd.QueryOne[FindUser, *User]("users.look_up",
		`select id, email, created_at from users where email = @email`)
	for _, email := range []string{"ada@example.com", "nobody@example.com"} {
		user, err := lookUpUser.Run(ctx, pool, FindUser{Email: email})
		fmt.Println(user != nil, err)
	}
	// Output:
	// true <nil>
	// false <nil>
}

func ExampleExec() {
	pool, ctx := examplePool()
	defer pool.Close()

	type Rename struct{ From, To string }
	rename := pgcmd.Exec[Rename]("users.rename", `update users set email = @to where email = @from`)
	n, err := rename.Run(ctx, pool, Rename{From: "eve@example.com", To: "eva@example.com"})
	fmt.Println(n, err)
	// Output: 1 <nil>
}

func ExampleNew() {
	pool, ctx := examplePool()
	defer pool.Close()

	findOrCreate := pgcmd.New("users.ensure", func(ctx context.Context, db pgcmd.DB, in CreateUser) (User, error) {
		user, err := findUser.Run(ctx, db, FindUser{Email: in.Email})
		if pgcmd.CodeOf(err) == pgcmd.CodeNotFound {
			return createUser.Run(ctx, db, in)
		}
		return user, err
	})
	user, err := findOrCreate.Run(ctx, pool, CreateUser{Email: "new@example.com", Age: 30})
	fmt.Println(user.Email, err)
	_, err = findOrCreate.Run(ctx, pool, CreateUser{Email: "x@y", Age: 30})
	fmt.Println(err)
	// Output:
	// new@example.com <nil>
	// pgcmd: users.ensure: the input was refused: Email must be a valid email address [invalid, not applied]
}

func ExampleTry() {
	pool, ctx := examplePool()
	defer pool.Close()

	outcome := pgcmd.Try(ctx, pool, findUser, FindUser{Email: "nobody@example.com"})
	text, err := outcome.MarshalJSON()
	fmt.Println(string(text), err)
	// Output: {"ok":false,"error":{"code":"not_found","effect":"not_applied","command":"users.find","message":"no row was found","attempts":1}} <nil>
}

func ExampleBefore() {
	pool, ctx := examplePool()
	defer pool.Close()

	find := pgcmd.Before(findUser, func(_ context.Context, in *FindUser) error {
		in.Email = strings.ToLower(in.Email)
		return nil
	})
	user, err := find.Run(ctx, pool, FindUser{Email: "ADA@example.com"})
	fmt.Println(user.Email, err)
	// Output: ada@example.com <nil>
}

func ExampleMiddleware() {
	pool, ctx := examplePool()
	defer pool.Close()

	logged := func(next pgcmd.Handler) pgcmd.Handler {
		return func(ctx context.Context, call *pgcmd.Call) error {
			err := next(ctx, call)
			fmt.Printf("%s: %d rows, code %q\n", call.Command, call.Rows, pgcmd.CodeOf(err))
			return err
		}
	}
	find := findUser.With(pgcmd.Options{Middleware: []pgcmd.Middleware{logged}})
	_, _ = find.Run(ctx, pool, FindUser{Email: "ada@example.com"})
	_, _ = find.Run(ctx, pool, FindUser{Email: "nobody@example.com"})
	// Output:
	// users.find: 1 rows, code ""
	// users.find: 0 rows, code "not_found"
}

func ExampleErrorf() {
	ErrFunds := pgcmd.Errorf(pgcmd.CodeConflict, "insufficient funds")
	pay := pgcmd.New("bank.pay", func(context.Context, pgcmd.DB, int) (int, error) { return 0, ErrFunds })
	pool, ctx := examplePool()
	defer pool.Close()

	_, err := pay.Run(ctx, pool, 10)
	fmt.Println(errors.Is(err, ErrFunds), err)
	// Output: true pgcmd: bank.pay: insufficient funds [conflict, effect unknown]
}

func Example_adHoc() {
	pool, ctx := examplePool()
	defer pool.Close()

	result, err := pgcmd.AdHoc.Run(ctx, pool, pgcmd.AdHocQuery{
		SQL:  `select email, age from users where age >= @min order by age`,
		Args: map[string]any{"min": 30},
	})
	fmt.Println(result.Columns, result.Rows, err)
	// Output: [email age] [map[age:36 email:ada@example.com] map[age:50 email:eve@example.com]] <nil>
}

// examplePool is a pool on a database of its own, on the tests' PostgreSQL.
func examplePool() (*pgxpool.Pool, context.Context) {
	ctx := context.Background()
	server, err := exampleServer()
	if err != nil {
		panic(err)
	}
	url, err := server.Database(ctx, usersDDL)
	if err != nil {
		panic(err)
	}
	pool, err := pgxpool.New(ctx, url)
	if err != nil {
		panic(err)
	}
	return pool, ctx
}
