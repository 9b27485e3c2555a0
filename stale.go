package pgcmd

import (
	"context"
	"errors"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgcmd/pgcmd/internal/connpool"
	"github.com/pgcmd/pgcmd/internal/sqlstate"
	"github.com/pgcmd/pgcmd/internal/stmtcache"
)

// isOutdated reports whether err proves that the statement's description on conn is
// outdated. If so, the other connections of the pool drop theirs before their next use.
func (s *statement) isOutdated(conn *pgx.Conn, err error) bool {
	switch s.text.Verb {
	case "select", "insert", "update", "delete", "merge", "with", "values", "table":
		return noteOutdated(conn, s.text.SQL, err)
	}
	return false // a utility statement is not analyzed before it is executed
}

func noteOutdated(conn *pgx.Conn, sql string, err error) bool {
	if conn == nil || !sqlstate.ProvesOutdated(err) {
		return false
	}
	connpool.Of(conn).NoteStale(sql)
	return true
}

// cachesDescriptions reports whether pgx caches statement descriptions on conn.
func cachesDescriptions(conn *pgx.Conn) bool {
	if conn == nil {
		return false
	}
	mode := configOf(conn).DefaultQueryExecMode
	return mode == pgx.QueryExecModeCacheStatement || mode == pgx.QueryExecModeCacheDescribe
}

// invalidateAfter drops the cached description of a statement that failed with err, if that
// may be because of the description.
func invalidateAfter(conn *pgx.Conn, sql string, err error) {
	if pgErr, ok := errors.AsType[*pgconn.PgError](err); ok && sqlstate.InvalidatesStatement(pgErr.Code) {
		stmtcache.OnConn(conn).Invalidate(sql)
	}
}

// queryReencoding is db.Query. If an argument does not fit the cached description, pgx drops
// that, and the argument is encoded again for a new one.
func queryReencoding(ctx context.Context, db querier, sql string, args []any) (pgx.Rows, error) {
	rows, err := db.Query(ctx, sql, args...)
	if isEncodeError(err) {
		return db.Query(ctx, sql, args...)
	}
	return rows, err
}

type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

// isEncodeError reports whether err is pgx's for an argument that it cannot encode. Those
// errors have no type.
func isEncodeError(err error) bool {
	return err != nil && strings.HasPrefix(err.Error(), "failed to encode args[")
}
