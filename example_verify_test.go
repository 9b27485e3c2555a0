package pgcmd_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/pgcmd/pgcmd"
)

// The definitions are held against the database: in a test, or at the start of a
// service.
func ExampleVerify() {
	pool, ctx := examplePool()
	defer pool.Close()

	fmt.Println(pgcmd.Verify(ctx, pool, findUser, createUser))

	// A migration renames a column, and lets another be NULL.
	_, err := pool.Exec(ctx, `alter table users rename created_at to joined_at; alter table users alter email drop not null`)
	if err != nil {
		fmt.Println(err)
	}
	listEmails := pgcmd.Query[struct{}, string]("users.emails", `select email from users`)

	var e *pgcmd.Error
	if errors.As(pgcmd.Verify(ctx, pool, findUser, listEmails), &e) {
		for _, finding := range e.Problems {
			fmt.Println(finding)
		}
	}
	// Output:
	// <nil>
	// users.find: SQL is refused by the server: column "created_at" does not exist (line 1 of the SQL, at "created_at"), SQLSTATE 42703: correct the name in the SQL, or migrate the database
	// users.emails: row (string) cannot hold NULL, and column "email" of table users may be NULL: make it *string, use coalesce, or exclude NULL by a condition
}

func ExampleVerifyOptions_Verify() {
	pool, ctx := examplePool()
	defer pool.Close()

	addUser := pgcmd.Exec[string]("users.add", `insert into users (email) values ($1)`)
	warnings, err := pgcmd.VerifyOptions{Unmapped: true}.Verify(ctx, pool, addUser)
	for _, w := range warnings {
		fmt.Println(w)
	}
	fmt.Println(err)
	// Output:
	// users.add: table users has constraints that no OnConstraint names: users_age_check, users_email_key (map those that an input can violate to errors of your own)
	// <nil>
}

// A catalog runs commands by name, for a caller who has JSON.
func ExampleCatalog() {
	pool, ctx := examplePool()
	defer pool.Close()

	type Find struct {
		Email string `json:"email" validate:"required,email"`
	}
	type Found struct {
		ID    int64  `json:"id"`
		Email string `json:"email"`
	}
	catalog := pgcmd.NewCatalog(pgcmd.QueryOne[Find, Found]("users.find",
		`select id, email from users where email = @email`).
		With(pgcmd.Options{Description: "Finds a user by e-mail address."}))

	out, err := catalog.Run(ctx, pool, "users.find", json.RawMessage(`{"email": "ada@example.com"}`))
	fmt.Println(string(out), err)

	_, err = catalog.Run(ctx, pool, "users.find", json.RawMessage(`{"emial": "ada@example.com"}`))
	fmt.Println(err)

	info := catalog.Manifest().Commands[0]
	fmt.Println(info.Description, info.ReadOnly)
	fmt.Println(strings.Replace(string(info.Input), `"$schema":"https://json-schema.org/draft/2020-12/schema",`, "", 1))
	// Output:
	// {"id":1,"email":"ada@example.com"} <nil>
	// pgcmd: users.find: the input was refused: emial is not a field: did you mean email? [invalid, not applied]
	// Finds a user by e-mail address. true
	// {"type":"object","properties":{"email":{"type":"string","minLength":1,"format":"email"}},"required":["email"],"additionalProperties":false}
}

// Kept beside the code, by a test or go generate, the page shows in review what a
// change does to the database.
func ExampleCatalog_WriteMarkdown() {
	catalog := pgcmd.NewCatalog(pgcmd.Exec[int64]("users.forget", `delete from users where id = $1`).
		With(pgcmd.Options{Description: "Deletes a user for good."}))
	if err := catalog.WriteMarkdown(os.Stdout); err != nil {
		fmt.Println(err)
	}
	// Output:
	// # Commands
	//
	// | Command | Does | Data | Runs |
	// |---|---|---|---|
	// | [users.forget](#usersforget) | Deletes a user for good. | may change | on its own |
	//
	// ## users.forget
	//
	// Deletes a user for good.
	//
	// - Data: may change
	// - Runs: on its own
	// - Codes: `invalid`, `conflict`, `aborted`, `timeout`, `canceled`, `unavailable`, `exhausted`, `permission`, `unknown_effect`, `nested_acquire`, `failed`, `internal`
	//
	// Input: integer
	//
	// Output: integer
	//
	// ```sql
	// delete from users where id = $1
	// ```
	//
	// `$1` is input
}

func ExampleExplain() {
	pool, ctx := examplePool()
	defer pool.Close()

	plan, err := pgcmd.Explain(ctx, pool, findUser, FindUser{Email: "ada@example.com"})
	fmt.Println(strings.Contains(plan, "Index Scan using users_email_key"), err)
	// Output: true <nil>
}
