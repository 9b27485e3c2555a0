// Tour shows what pgcmd does, step by step, on a real PostgreSQL.
//
//	go run ./examples/tour
//
// It starts a PostgreSQL of its own, or makes a database of its own on the server
// that DATABASE_URL names, and removes it at the end. The data is that of pgbench,
// PostgreSQL's benchmark: a bank with 100,000 accounts.
//
// The code it shows is the code it runs, cut out of its source, and every outcome is
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
	// Whatever ends the tour early, a reader that closed the pipe included, lets it clean up.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGPIPE)
	defer stop()
	err := run(ctx, newTerminal(os.Stdout), os.Getenv("DATABASE_URL"))
	switch {
	case ctx.Err() != nil:
		fmt.Fprintf(os.Stderr, "tour: interrupted: %v\n", err)
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
	created := time.Now()
	if err := load(ctx, db.url); err != nil {
		return err
	}
	loaded := time.Now()
	pool, err := pgxpool.New(ctx, db.url)
	if err != nil {
		return err
	}
	defer pool.Close()
	var version string
	if err := pool.QueryRow(ctx, "select split_part(current_setting('server_version'), ' ', 1)").Scan(&version); err != nil {
		return err
	}
	t.note("PostgreSQL %s: %s in %s, pgbench's 100,000 accounts in %s",
		version, db.origin, seconds(created.Sub(began)), seconds(loaded.Sub(created)))

	if err := show(ctx, t, pool); err != nil {
		return err
	}
	t.banner("All of the above ran, and was checked, in %s.", seconds(time.Since(began)))
	t.note("Read on: go doc github.com/pgcmd/pgcmd")
	return nil
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.1f s", d.Seconds()) }
