package pgcmd

import (
	"context"
	"fmt"
	"maps"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// statementCache holds the statements that were prepared on a connection for batches and
// cursors, which use pgconn, below pgx's own cache.
type statementCache struct {
	statements   map[string]*pgconn.StatementDescription // by SQL
	lastName     int                                     // number of the last statement name
	toDeallocate []string                                // names of statements to deallocate
	held         bool                                    // a chunk that is not sent yet may use toDeallocate

	cursors int // number of the last name of a cursor or transaction marker

	savepoints bool // savepointStmt and its like are prepared
}

// maxStatements is how many statements are cached for each connection.
const maxStatements = 512

func statementCacheOf(conn *pgx.Conn) *statementCache {
	data := conn.PgConn().CustomData()
	d, ok := data["pgcmd.descriptions"].(*statementCache)
	if !ok {
		d = &statementCache{statements: map[string]*pgconn.StatementDescription{}}
		data["pgcmd.descriptions"] = d
	}
	return d
}

// describe returns the description of sql, and prepares it under a name if the connection
// is set to use prepared statements; behind a pooler it is not, and the description has no
// name. The first call for a statement costs a round trip.
func describe(ctx context.Context, conn *pgx.Conn, sql string) (*pgconn.StatementDescription, error) {
	d := statementCacheOf(conn)
	if sd := d.statements[sql]; sd != nil {
		return sd, nil
	}
	name := ""
	if cachesStatements(conn) {
		d.lastName++
		name = statementName(conn.PgConn().PID(), d.lastName)
	}
	if len(d.statements) >= maxStatements {
		for old := range maps.Keys(d.statements) {
			d.invalidate(old)
			break
		}
	}
	if !d.held && conn.PgConn().TxStatus() != 'E' { // where the server refuses it
		for _, old := range d.toDeallocate {
			if err := conn.PgConn().Deallocate(ctx, old); err != nil {
				return nil, err
			}
		}
		d.toDeallocate = nil
	}
	sd, err := conn.PgConn().Prepare(ctx, name, sql, nil)
	if err != nil {
		return nil, err
	}
	d.statements[sql] = sd
	return sd, nil
}

// statementName is the name of the nth statement that was prepared on a connection. The
// process ID makes it unique, so that behind a pooler that was not declared a statement is
// missing rather than another one executed.
func statementName(pid uint32, n int) string { return fmt.Sprintf("pgcmd_%d_%d", pid, n) }

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

// invalidate makes the next describe prepare sql again: the schema has changed, or the
// server has lost the statement.
func (d *statementCache) invalidate(sql string) {
	if sd := d.statements[sql]; sd != nil && sd.Name != "" {
		d.toDeallocate = append(d.toDeallocate, sd.Name)
	}
	delete(d.statements, sql)
}
