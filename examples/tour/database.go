package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgcmd/pgcmd/pgcmdtest"
)

// A database is empty, and the tour's own.
type database struct {
	url    string
	origin string // how it came to be
	remove func() error
}

// createDatabase starts a server, or makes a database on the one that is named.
func createDatabase(ctx context.Context, server string) (*database, error) {
	if server == "" {
		own, err := pgcmdtest.Start(ctx)
		if err != nil {
			return nil, err
		}
		return &database{url: own.URL(), origin: "PostgreSQL started", remove: own.Close}, nil
	}
	address, err := url.Parse(server)
	if err != nil || address.Scheme != "postgres" && address.Scheme != "postgresql" {
		return nil, errors.New("DATABASE_URL must be a URL, as in postgres://user@host/database")
	}
	// A schema would be less to ask for, but a pooler may drop the search_path on
	// the way, and with it the wall around tables that exist.
	name := "pgcmd_tour_" + strings.ToLower(rand.Text()[:12])
	if err := execute(ctx, server, "create database "+name+" template template0"); err != nil {
		return nil, fmt.Errorf("the tour needs a database of its own on DATABASE_URL: %w", err)
	}
	address.Path = "/" + name
	return &database{url: address.String(), origin: "database " + name + " made", remove: func() error {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
		defer cancel()
		if err := execute(ctx, server, "drop database "+name+" with (force)"); err != nil {
			return fmt.Errorf("database %s is left on DATABASE_URL: %w", name, err)
		}
		return nil
	}}, nil
}

func execute(ctx context.Context, address, sql string) error {
	conn, err := pgx.Connect(ctx, address)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	_, err = conn.Exec(ctx, sql)
	return err
}

// load fills the database with pgbench's bank.
func load(ctx context.Context, address string) error {
	program, err := pgbench()
	if err != nil {
		return err
	}
	parsed, err := url.Parse(address)
	if err != nil {
		return err
	}
	query := parsed.Query()
	for key := range query {
		if strings.HasPrefix(key, "pool_") { // pgxpool's own: libpq refuses them
			query.Del(key)
		}
	}
	parsed.RawQuery = query.Encode()
	env := os.Environ()
	if password, ok := parsed.User.Password(); ok { // arguments can be seen by every user of the machine
		env = append(env, "PGPASSWORD="+password)
		parsed.User = url.User(parsed.User.Username())
	}
	// Without the step d, which drops tables, it can only add.
	cmd := exec.CommandContext(ctx, program, "-i", "-I", "tgvp", "-q", "-s", "1", parsed.String())
	cmd.Env = env
	if output, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", program, err, strings.TrimSpace(string(output)))
	}
	return nil
}

// pgbench finds the program where pgcmdtest finds the server.
func pgbench() (string, error) {
	if folder := os.Getenv("PGCMD_TEST_POSTGRES_BIN"); folder != "" {
		if program, err := exec.LookPath(filepath.Join(folder, "pgbench")); err == nil {
			return program, nil
		}
	}
	if program, err := exec.LookPath("pgbench"); err == nil {
		return program, nil
	}
	var found []string
	for _, pattern := range []string{
		"/usr/lib/postgresql/*/bin/pgbench",
		"/usr/pgsql-*/bin/pgbench",
		"/opt/homebrew/opt/postgresql*/bin/pgbench",
		"/usr/local/opt/postgresql*/bin/pgbench",
	} {
		programs, _ := filepath.Glob(pattern) // the patterns are well-formed
		found = append(found, programs...)
	}
	if len(found) == 0 {
		return "", errors.New("no pgbench beside the server or on the PATH: it comes with PostgreSQL, in some systems in the package postgresql-contrib")
	}
	return slices.MaxFunc(found, func(a, b string) int { return cmp.Compare(major(a), major(b)) }), nil
}

// major is the first number in a path, as in /usr/lib/postgresql/17/bin/pgbench.
func major(path string) int {
	digits := strings.FieldsFunc(path, func(r rune) bool { return r < '0' || r > '9' })
	if len(digits) == 0 {
		return 0
	}
	number, _ := strconv.Atoi(digits[0])
	return number
}
