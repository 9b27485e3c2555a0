package migrations

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// Run runs the statements of files, each in a transaction of its own unless the files begin one, so that those run too
// that cannot be in a transaction. A role that the server does not have is created, since a schema may grant to it; one
// that it has is not created again. An error names the file and the line.
func Run(ctx context.Context, conn *pgx.Conn, files []File, progress func(f File)) error {
	for _, f := range files {
		if progress != nil {
			progress(f)
		}
		for _, s := range f.Statements {
			if err := run(ctx, conn, s.SQL); err != nil {
				return fmt.Errorf("%s:%d: %w", f.Path, s.lineOf(err), err)
			}
		}
		// A dump empties the search_path.
		if err := run(ctx, conn, "reset all"); err != nil {
			return err
		}
	}
	return nil
}

func run(ctx context.Context, conn *pgx.Conn, sql string) error {
	sql = setLocal.ReplaceAllString(sql, "set ")
	for range 16 {
		_, err := conn.PgConn().Exec(ctx, sql).ReadAll()
		refused, ok := errors.AsType[*pgconn.PgError](err)
		if ok && refused.Code == "25P01" { // a lock or a savepoint, which are for a transaction
			return nil
		}
		if ok && refused.Code == "42710" && roleExists.MatchString(refused.Message) && conn.PgConn().TxStatus() == 'I' {
			return nil // from an earlier run: roles are those of the server
		}
		if !ok || refused.Code != "42704" || conn.PgConn().TxStatus() != 'I' {
			return err
		}
		role := missingRole.FindStringSubmatch(refused.Message)
		if role == nil {
			return err
		}
		if _, failed := conn.Exec(ctx, "create role "+pgx.Identifier{role[1]}.Sanitize()); failed != nil {
			return err
		}
	}
	return errors.New("too many roles that do not exist")
}

// roleExists is what the server says of one that is created again.
var roleExists = regexp.MustCompile(`^role ".*" already exists$`)

// missingRole is what the server says of one.
var missingRole = regexp.MustCompile(`^role "(.*)" does not exist$`)

// setLocal begins a setting that lasts for the transaction of a file. Run resets settings after each file.
var setLocal = regexp.MustCompile(`(?i)^set\s+local\s`)

// lineOf is the line of the file at which the server found an error.
func (s Statement) lineOf(err error) int {
	refused, ok := errors.AsType[*pgconn.PgError](err)
	runes := []rune(s.SQL)
	if !ok || refused.Position < 1 || int(refused.Position) > len(runes) {
		return s.Line
	}
	return s.Line + strings.Count(string(runes[:refused.Position-1]), "\n")
}
