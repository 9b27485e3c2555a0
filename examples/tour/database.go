package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

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
		return &database{url: own.URL(), origin: "started", remove: own.Close}, nil
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
	query := address.Query()
	query.Del("dbname") // either would win over the path
	query.Del("database")
	address.RawQuery = query.Encode()
	return &database{url: address.String(), origin: "database made", remove: func() error {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
		defer cancel()
		if err := execute(ctx, server, "drop database "+name+" with (force)"); err != nil {
			return fmt.Errorf("database %s is left on DATABASE_URL: %w", name, err)
		}
		return nil
	}}, nil
}

func execute(ctx context.Context, address, sql string) error {
	config, err := pgxpool.ParseConfig(address) // it may hold settings of a pool
	if err != nil {
		return err
	}
	conn, err := pgx.ConnectConfig(ctx, config.ConnConfig)
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
	query, env := parsed.Query(), os.Environ()
	// Arguments can be seen by every user of the machine.
	password, ok := parsed.User.Password()
	if ok {
		parsed.User = url.User(parsed.User.Username())
	} else {
		password, ok = query.Get("password"), query.Has("password")
		query.Del("password")
	}
	if ok {
		env = append(env, "PGPASSWORD="+password)
	}
	maps.DeleteFunc(query, func(key string, _ []string) bool { // pgx's own: libpq refuses them
		return strings.HasPrefix(key, "pool_") || strings.HasSuffix(key, "_cache_capacity") || key == "default_query_exec_mode"
	})
	parsed.RawQuery = query.Encode()
	// Without the step d, which drops tables, it can only add.
	cmd := exec.CommandContext(ctx, program, "-i", "-I", "tgvp", "-q", "-s", "1", parsed.String())
	cmd.Env = env
	output, err := cmd.CombinedOutput()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
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
