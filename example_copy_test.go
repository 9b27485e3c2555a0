package pgcmd_test

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"iter"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/pgcmd/pgcmd"
)

// An ImportedUser is one line of the file.
type ImportedUser struct {
	Email string `validate:"required,email"`
	Age   int
}

var importUsers = pgcmd.Copy[ImportedUser]("users.import", pgx.Identifier{"users"}).
	With(pgcmd.Options{OnConstraint: map[string]error{"users_email_key": ErrEmailTaken}})

// readUsers reads a file line by line; whatever its size, one is in memory.
func readUsers(file io.Reader) iter.Seq2[ImportedUser, error] {
	return func(yield func(ImportedUser, error) bool) {
		for r := csv.NewReader(file); ; {
			line, err := r.Read()
			if err == io.EOF {
				return
			}
			if err != nil {
				yield(ImportedUser{}, err)
				return
			}
			age, err := strconv.Atoi(line[1])
			if err != nil {
				err = pgcmd.Errorf(pgcmd.CodeInvalid, "the age is no number")
			}
			if !yield(ImportedUser{Email: line[0], Age: age}, err) {
				return
			}
		}
	}
}

func ExampleRows() {
	pool, ctx := examplePool()
	defer pool.Close()

	users := []ImportedUser{{Email: "grace@example.com", Age: 45}, {Email: "alan@example.com", Age: 41}}
	n, err := importUsers.Run(ctx, pool, pgcmd.Rows(users))
	fmt.Println(n, err)
	// Output: 2 <nil>
}

func ExampleCopy() {
	pool, ctx := examplePool()
	defer pool.Close()

	n, err := importUsers.Run(ctx, pool, readUsers(strings.NewReader("grace@example.com,45\nalan@example.com,41\n")))
	fmt.Println(n, err)

	// All or nothing, and the bad line is named.
	_, err = importUsers.Run(ctx, pool, readUsers(strings.NewReader("kurt@example.com,32\ngrace@example.com,45\n")))
	fmt.Println(err)
	fmt.Println(errors.Is(err, ErrEmailTaken), pgcmd.EffectOf(err))

	_, err = importUsers.Run(ctx, pool, readUsers(strings.NewReader("kurt@example.com,32\nemmy,53\n")))
	fmt.Println(err)

	_, err = importUsers.Run(ctx, pool, readUsers(strings.NewReader("kurt@example.com,young\n")))
	fmt.Println(err)
	// Output:
	// 2 <nil>
	// pgcmd: users.import: row 2: email is already registered [conflict, not applied, SQLSTATE 23505]
	// true not_applied
	// pgcmd: users.import: row 2: the row was refused: Email must be a valid email address [invalid, not applied]
	// pgcmd: users.import: the sequence failed at row 1: the age is no number [invalid, not applied]
}
