package pgcmd

import (
	"context"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgcmd/pgcmd/internal/stmtcache"
)

// describe returns the description of sql, and prepares it under a name if the connection
// is set to use prepared statements; behind a pooler it is not, and the description has no
// name. The first call for a statement costs a round trip.
func describe(ctx context.Context, conn *pgx.Conn, sql string) (*pgconn.StatementDescription, error) {
	return stmtcache.OnConn(conn).Describe(ctx, conn.PgConn(), sql, cachesStatements(conn))
}

// cachesStatements reports whether the connection is set to cache prepared statements.
func cachesStatements(conn *pgx.Conn) bool {
	return configOf(conn).DefaultQueryExecMode == pgx.QueryExecModeCacheStatement
}

// configOf is conn.Config, copied once for a connection: conn.Config copies at every call. It
// must not be changed.
func configOf(conn *pgx.Conn) *pgx.ConnConfig {
	data := conn.PgConn().CustomData()
	config, ok := data["pgcmd.config"].(*pgx.ConnConfig)
	if !ok {
		config = conn.Config()
		data["pgcmd.config"] = config
	}
	return config
}
