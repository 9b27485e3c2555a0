package pgcmd_test

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/pgcmd/pgcmd"
)

// registerUser is createUser for addresses in any case: two that differ only in case are
// the same user.
var registerUser = pgcmd.Before(createUser, func(_ context.Context, in *CreateUser) error {
	in.Email = strings.ToLower(in.Email)
	return nil
})

// A hook adds one step to one command. Each of the four functions returns a new command
// and leaves the old one as it was.
func Example_hooks() {
	pool, ctx := examplePool()
	defer pool.Close()

	logged := pgcmd.Cleanup(registerUser, func(_ context.Context, in CreateUser) {
		fmt.Println("done with", in.Email)
	})
	user, err := logged.Run(ctx, pool, CreateUser{Email: "GRACE@example.com", Age: 45})
	fmt.Println(user.Email, err)

	outcome := pgcmd.Try(ctx, pool, registerUser, CreateUser{Email: "ADA@example.com", Age: 36})
	fmt.Println(outcome.OK(), outcome.Attempts, pgcmd.EffectOf(outcome.Err))
	fmt.Println(errors.Is(outcome.Err, ErrEmailTaken))
	// Output:
	// done with grace@example.com
	// grace@example.com <nil>
	// false 1 not_applied
	// true
}
