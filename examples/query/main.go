// Query runs one search, whose conditions and order depend on its input, in four ways on a
// PostgreSQL that it starts for itself: as SQL with optional parts, and as SQL that squirrel,
// goqu and bob make. It prints what each returned.
//
//	cd examples/query && go run .
package main

import (
	"context"
	"database/sql"
	"fmt"
	"io"
	"os"
	"os/signal"
	"reflect"
	"time"

	"github.com/pgcmd/pgcmd"
	"github.com/pgcmd/pgcmd/pgcmdtest"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "query:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, out io.Writer) error {
	server, err := pgcmdtest.Start(ctx)
	if err != nil {
		return err
	}
	defer server.Close()
	url, err := server.Database(ctx, schema)
	if err != nil {
		return err
	}
	pool, err := pgcmd.Connect(ctx, pgcmd.Config{URL: url})
	if err != nil {
		return err
	}
	defer pool.Close(ctx)

	if err := pgcmd.Verify(ctx, pool, optional); err != nil {
		return err
	}
	fmt.Fprintln(out, "Verify has checked the 48 variants of the SQL with optional parts")
	for _, in := range inputs() {
		if err := compare(ctx, pool, in, out); err != nil {
			return err
		}
	}
	_, err = optional.Run(ctx, pool, ListUsers{Sort: "password", Limit: 1})
	fmt.Fprintln(out, err)
	return nil
}

// compare runs the search in each way, and prints the rows, which must be the same.
func compare(ctx context.Context, db pgcmd.DB, in ListUsers, out io.Writer) error {
	var want []User
	for i, c := range commands {
		users, err := c.Run(ctx, db, in)
		if err != nil {
			return err
		}
		if i == 0 {
			want = users
		} else if !reflect.DeepEqual(want, users) {
			return fmt.Errorf("%s returned %v, and %s %v", c.Name(), users, optional.Name(), want)
		}
	}
	fmt.Fprintf(out, "%d ways, %d users:", len(commands), len(want))
	for _, u := range want {
		fmt.Fprint(out, " ", u.Email)
	}
	fmt.Fprintln(out)
	return nil
}

// inputs are searches with every combination of conditions and orders.
func inputs() (all []ListUsers) {
	email, since := "%@example.org", time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)
	for conditions := range 1 << 4 {
		for _, sort := range []string{"", "newest", "email"} {
			in := ListUsers{Sort: sort, Limit: 3}
			if conditions&1 != 0 {
				in.Email = &email
			}
			if conditions&2 != 0 {
				in.City = sql.Null[string]{V: "London", Valid: true}
			}
			if conditions&4 != 0 {
				in.Since = &since
			}
			if conditions&8 != 0 {
				in.IDs = []int64{1, 2, 4}
			}
			all = append(all, in)
		}
	}
	return all
}
