package main

import (
	"context"
	"crypto/rand"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgcmd/pgcmd/internal/migrations"
	"github.com/pgcmd/pgcmd/pgcmdtest"
)

// runningServer names a server on which databases may be created, as for pgcmdtest.
const runningServer = "PGCMD_TEST_DATABASE_URL"

// A source of a database is what the flags say of it.
type databaseFlags struct {
	url    string
	schema list
}

func (f *databaseFlags) register(flags *flag.FlagSet) {
	flags.StringVar(&f.url, "d", "", "")
	flags.Var(&f.schema, "schema", "")
}

const databaseUsage = `  -d URL           the database; else DATABASE_URL
  -schema PATH     make a new database from a folder of migrations or a file of SQL, and drop it at
                   the end; may be given several times. goose, golang-migrate, dbmate, atlas, tern,
                   sql-migrate and plain SQL files in order are recognised, and only the way up is
                   run. It is made on the server of -d or PGCMD_TEST_DATABASE_URL if one is given,
                   else on a PostgreSQL that is started for it
`

// A database is one to ask, until it is closed.
type database struct {
	conn  *pgx.Conn
	url   string // of the server
	name  string // of the database, if it is another one than that of url
	close func()
}

// explain adds to an error that the connection was lost, if it was, or what to do about a time limit.
func (d *database) explain(err error) error {
	if err != nil && d.conn.IsClosed() {
		return fmt.Errorf("the connection to the server was lost: %w", err)
	}
	return explainTimeLimit(err)
}

func explainTimeLimit(err error) error {
	if refused, ok := errors.AsType[*pgconn.PgError](err); ok && refused.Code == "57014" && strings.Contains(refused.Message, "statement timeout") {
		return fmt.Errorf("%w: the role or the server has a statement_timeout: add statement_timeout=0 to the URL, as in postgres://host/database?statement_timeout=0", err)
	}
	return err
}

// open connects to the database that the flags name, or makes it.
func (f *databaseFlags) open(ctx context.Context, a *app) (*database, error) {
	url := f.url
	if len(f.schema) == 0 {
		if url == "" {
			url = a.getenv("DATABASE_URL")
		}
		if url == "" {
			return nil, misuse{fmt.Errorf("no database: give -d URL or DATABASE_URL, or -schema with the folder of the migrations")}
		}
		conn, err := connect(ctx, url, "")
		if err != nil {
			return nil, err
		}
		return &database{conn: conn, url: url, close: func() { closeConn(conn) }}, nil
	}
	paths, err := expand(f.schema, "")
	if err != nil {
		return nil, err
	}
	files, err := migrations.Read(paths...)
	if err != nil {
		return nil, fmt.Errorf("-schema: %w", err)
	}
	stop := func() {}
	if url == "" {
		url = a.getenv(runningServer)
	}
	own := url == ""
	if own {
		a.progress("starting PostgreSQL")
		server, err := pgcmdtest.Start(ctx)
		if err != nil {
			a.progressDone()
			return nil, err
		}
		url, stop = server.URL(), func() { _ = server.Close() }
	}
	d, err := create(ctx, a, url)
	if err != nil {
		a.progressDone()
		stop()
		return nil, err
	}
	if own { // all that is in it is thrown away with it
		d.close = func() {
			closeConn(d.conn)
			stop()
		}
	}
	done := 0
	err = migrations.Run(ctx, d.conn, files, func(file migrations.File) {
		done++
		a.progress("schema: %d of %d files, %s", done, len(files), filepath.Base(file.Path))
	})
	a.progressDone()
	if err != nil {
		err = d.explain(err)
		d.close()
		for _, path := range paths {
			if programs := migrations.InGo(path); len(programs) > 0 {
				return nil, fmt.Errorf("-schema: %w\n%s has migrations in Go, such as %s, which cannot be run here: migrate a database by the tool, and give it by -d", err, path, programs[0])
			}
		}
		err = fmt.Errorf("-schema: %w", err)
		if refused, ok := errors.AsType[*pgconn.PgError](err); ok && missingExtension.MatchString(refused.Message) {
			return nil, fmt.Errorf("%w: install it for this PostgreSQL, or give -d a server that has it", err)
		}
		return nil, err
	}
	return d, nil
}

// missingExtension is what the server says of one that is not installed; the second until version 14.
var missingExtension = regexp.MustCompile(`^extension ".*" is not available|^could not open extension control file`)

// create makes a database on a server, which close drops. One that cannot be dropped is named on the standard error.
func create(ctx context.Context, a *app, url string) (*database, error) {
	on, err := connect(ctx, url, "")
	if err != nil {
		return nil, err
	}
	defer closeConn(on)
	name := "pgcmd_" + strings.ToLower(rand.Text()[:16])
	// An interrupt does not stop it, since the server could finish it all the same.
	creating, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	if _, err := on.Exec(creating, "create database "+name+" template template0"); err != nil {
		err = fmt.Errorf("create a database: %w", err)
		if refused, ok := errors.AsType[*pgconn.PgError](err); ok && refused.Code == "42501" {
			return nil, fmt.Errorf("%w: give -d a role with CREATEDB, or leave it out, and a PostgreSQL is started", err)
		}
		return nil, explainTimeLimit(err)
	}
	drop := func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
		defer cancel()
		on, err := connect(ctx, url, "")
		if err == nil {
			_, err = on.Exec(ctx, "drop database if exists "+name+" with (force)")
			closeConn(on)
		}
		if err != nil {
			message := strings.Join(strings.Fields(err.Error()), " ")
			fmt.Fprintf(a.stderr, "pgcmd: the database %s is left on the server: %s: drop it\n", name, message)
		}
	}
	conn, err := connect(ctx, url, name)
	if err != nil {
		drop()
		return nil, err
	}
	return &database{conn: conn, url: url, name: name, close: func() {
		closeConn(conn)
		drop()
	}}, nil
}

// connect connects to the database that a URL names, or to another one on its server. No error holds the password.
func connect(ctx context.Context, url, database string) (*pgx.Conn, error) {
	config, err := pgx.ParseConfig(url)
	if err != nil {
		return nil, misuse{errors.New("the database's URL cannot be parsed (the reason is withheld, since it may hold the password): write postgres://host:port/database, with user:password@ before the host")}
	}
	if database != "" {
		config.Database = database
	}
	if config.ConnectTimeout == 0 {
		config.ConnectTimeout = 15 * time.Second // for each host
	}
	return pgx.ConnectConfig(ctx, config)
}

func closeConn(conn *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = conn.Close(ctx)
}

// expand returns the paths that patterns match, as a shell would, which go generate does not have. A folder stands for
// its files that end so, unless the end is empty. Hidden files are left out, and what is named twice is there once.
func expand(patterns []string, end string) (paths []string, err error) {
	hidden := func(path string) bool { return strings.HasPrefix(filepath.Base(path), ".") }
	for _, pattern := range patterns {
		found := []string{pattern}
		if _, err := os.Lstat(pattern); err != nil { // a name may have brackets in it
			if found, err = filepath.Glob(pattern); err != nil {
				return nil, misuse{fmt.Errorf("%s: %w", pattern, err)}
			}
			if !hidden(pattern) {
				found = slices.DeleteFunc(found, hidden)
			}
		}
		if len(found) == 0 {
			return nil, misuse{fmt.Errorf("%s: no such file", pattern)}
		}
		for _, path := range found {
			inside := []string{path}
			if end != "" && isFolder(path) {
				if inside, err = filesIn(path, end); err != nil {
					return nil, err
				}
				if len(inside) == 0 {
					return nil, misuse{fmt.Errorf("%s: holds no file %s", path, end)}
				}
			}
			for _, path := range inside {
				same := func(other string) bool { return filepath.Clean(other) == filepath.Clean(path) }
				if !slices.ContainsFunc(paths, same) {
					paths = append(paths, path)
				}
			}
		}
	}
	return paths, nil
}

// filesIn returns the paths of the files in a folder that end so, in the order of their names, but for hidden ones.
func filesIn(folder, end string) (paths []string, err error) {
	entries, err := os.ReadDir(folder)
	for _, e := range entries {
		if name := e.Name(); strings.HasSuffix(name, end) && !strings.HasPrefix(name, ".") {
			paths = append(paths, filepath.Join(folder, name))
		}
	}
	return paths, err
}
