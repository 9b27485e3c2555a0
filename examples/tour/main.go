// Tour shows what pgcmd does, step by step, on a real PostgreSQL.
//
//	go run ./examples/tour
//
// It starts a PostgreSQL of its own, or makes a database of its own on the server
// that DATABASE_URL names, and removes it at the end. The data is that of pgbench,
// PostgreSQL's benchmark: a bank with 100,000 accounts.
//
// The code it shows is the code it runs, cut out of steps.go, and every outcome is
// checked: the tour fails if one differs.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second Ctrl-C ends the process at once

	err := run(ctx, newTerminal(os.Stdout), os.Getenv("DATABASE_URL"))
	switch {
	case ctx.Err() != nil:
		fmt.Fprintln(os.Stderr, "tour: interrupted")
		os.Exit(130)
	case err != nil:
		fmt.Fprintln(os.Stderr, "tour:", err)
		os.Exit(1)
	}
}

// run makes the database, shows the tour on it, and removes it.
func run(ctx context.Context, t *terminal, server string) (err error) {
	began := time.Now()
	t.banner("pgcmd: a PostgreSQL operation is a typed Go value, and tells the truth")

	db, err := createDatabase(ctx, server)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.remove()) }()
	t.note("%s in %s", db.origin, seconds(began))

	loading := time.Now()
	if err := load(ctx, db.url); err != nil {
		return err
	}
	t.note("100,000 accounts loaded by pgbench in %s", seconds(loading))

	pool, err := pgxpool.New(ctx, db.url)
	if err != nil {
		return err
	}
	defer pool.Close()
	if err := show(ctx, t, pool); err != nil {
		return err
	}
	t.banner("Every line above ran and was checked, in %s. Next: go doc github.com/pgcmd/pgcmd", seconds(began))
	return nil
}

func seconds(since time.Time) string {
	return fmt.Sprintf("%.1f s", time.Since(since).Seconds())
}
