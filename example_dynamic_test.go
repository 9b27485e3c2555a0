package pgcmd_test

import (
	"fmt"
	"strings"

	"github.com/pgcmd/pgcmd"
)

type SearchUsers struct {
	Email  *string // nil: any
	MinAge *int
	Sort   string // newest, or empty for the order of the ids
	Limit  int    `validate:"gte=1,lte=100"`
}

var searchUsers = pgcmd.Query[SearchUsers, User]("users.search", `
	select id, email, created_at from users
	where true
	/*? and email like @email */
	/*? and age >= @min_age */
	order by /*= @sort newest: created_at desc; email: email */ id /*=*/
	limit @limit`)

func ExampleQuery_optionalParts() {
	pool, ctx := examplePool()
	defer pool.Close()

	show := func(in SearchUsers) {
		users, err := searchUsers.Run(ctx, pool, in)
		for _, u := range users {
			fmt.Print(u.Email, " ")
		}
		fmt.Println(err)
	}
	email, age := "%@example.com", 18
	show(SearchUsers{Limit: 10})
	show(SearchUsers{Limit: 2, Email: &email, MinAge: &age, Sort: "email"})
	show(SearchUsers{Limit: 2, Sort: "password"})

	// Verify checks every variant: none of the parts, one, both; by each order.
	fmt.Println(pgcmd.Verify(ctx, pool, searchUsers))
	// Output:
	// ada@example.com bob@example.com eve@example.com <nil>
	// ada@example.com bob@example.com <nil>
	// pgcmd: users.search: the input was refused: Sort must be one of newest, email, or empty for the default [invalid, not applied]
	// <nil>
}

// buildSearch stands for a query builder, which returns the same three values.
func buildSearch(in SearchUsers) (sql string, args []any, err error) {
	var conditions []string
	where := func(condition string, arg any) {
		args = append(args, arg)
		conditions = append(conditions, fmt.Sprintf(condition, len(args)))
	}
	where("id > $%d", 0)
	if in.Email != nil {
		where("email like $%d", *in.Email)
	}
	return "select id, email, created_at from users where " + strings.Join(conditions, " and ") + " order by id", args, nil
}

func ExampleQueryFunc() {
	pool, ctx := examplePool()
	defer pool.Close()

	builtUsers := pgcmd.QueryFunc[SearchUsers, User]("users.built", buildSearch)

	email := "ada%"
	users, err := builtUsers.Run(ctx, pool, SearchUsers{Limit: 10, Email: &email})
	fmt.Println(len(users), users[0].Email, err)
	_, err = builtUsers.Run(ctx, pool, SearchUsers{})
	fmt.Println(err)
	// Output:
	// 1 ada@example.com <nil>
	// pgcmd: users.built: the input was refused: Limit must be 1 or greater [invalid, not applied]
}

func ExampleExecFunc() {
	pool, ctx := examplePool()
	defer pool.Close()

	type SetAge struct {
		Email string
		Age   int
	}
	setAge := pgcmd.ExecFunc[SetAge]("users.set_age", func(in SetAge) (string, []any, error) {
		return "update users set age = $2 where email = $1", []any{in.Email, in.Age}, nil
	})
	n, err := setAge.Run(ctx, pool, SetAge{"ada@example.com", 37})
	fmt.Println(n, err)
	// Output: 1 <nil>
}
