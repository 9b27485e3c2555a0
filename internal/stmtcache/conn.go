package stmtcache

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/pgcmd/pgcmd/internal/pgxerr"
)

// ConfigOf is conn.Config, copied once for a connection: conn.Config copies at every call. It
// must not be changed.
func ConfigOf(conn *pgx.Conn) *pgx.ConnConfig { return OnConn(conn).config }

// ModeOf is the connection's QueryExecMode.
func ModeOf(conn *pgx.Conn) pgx.QueryExecMode { return ConfigOf(conn).DefaultQueryExecMode }

// CachesStatements reports whether the connection is set to cache prepared statements.
func CachesStatements(conn *pgx.Conn) bool { return OnConn(conn).cachesStatements() }

func (c *Cache) cachesStatements() bool {
	return c.config.DefaultQueryExecMode == pgx.QueryExecModeCacheStatement
}

// CachesDescriptions reports whether pgx caches statement descriptions on conn, which may be nil.
func CachesDescriptions(conn *pgx.Conn) bool {
	return conn != nil && (CachesStatements(conn) || ModeOf(conn) == pgx.QueryExecModeCacheDescribe)
}

// Query is db.Query. If an argument does not fit the cached description, pgx drops that, and
// the argument is encoded again for a new one.
func Query(ctx context.Context, db querier, sql string, args []any) (pgx.Rows, error) {
	rows, err := db.Query(ctx, sql, args...)
	if pgxerr.IsEncode(err) {
		return db.Query(ctx, sql, args...)
	}
	return rows, err
}

type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}
