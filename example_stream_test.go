package pgcmd_test

import (
	"context"
	"fmt"

	"github.com/pgcmd/pgcmd"
)

type ListUsers struct{ MinAge int }

var listUsers = pgcmd.Query[ListUsers, User]("users.list",
	`select id, email, created_at from users where age >= @min_age order by id`)

func ExampleStream() {
	pool, ctx := examplePool()
	defer pool.Close()

	for user, err := range pgcmd.Stream(ctx, pool, listUsers, ListUsers{MinAge: 30}) {
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(user.ID, user.Email)
	}
	// Output:
	// 1 ada@example.com
	// 3 eve@example.com
}

// In a transaction the loop may run other commands between the rows.
func ExampleStream_transaction() {
	pool, ctx := examplePool()
	defer pool.Close()

	type Rename struct {
		ID    int64
		Email string
	}
	rename := pgcmd.Exec[Rename]("users.rename", `update users set email = @email where id = @id`)
	anonymize := pgcmd.Transaction("users.anonymize", func(ctx context.Context, tx *pgcmd.Tx, in ListUsers) (n int, err error) {
		for user, err := range pgcmd.Stream(ctx, tx, listUsers, in) {
			if err != nil {
				return n, err
			}
			if _, err := rename.Run(ctx, tx, Rename{user.ID, fmt.Sprintf("%d@example.com", user.ID)}); err != nil {
				return n, err
			}
			n++
		}
		return n, nil
	})
	n, err := anonymize.Run(ctx, pool, ListUsers{MinAge: 18})
	fmt.Println(n, err)
	// Output: 3 <nil>
}
