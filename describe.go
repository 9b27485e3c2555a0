package pgcmd

import (
	"context"
	"fmt"
	"maps"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// statementCache is a connection's memory of the statements that were prepared on it
// for what goes by pgconn, below pgx's own cache: batches, cursors.
type statementCache struct {
	statements   map[string]*pgconn.StatementDescription // by SQL
	named        int                                     // how many names were given
	toDeallocate []string                                // names that are to be deallocated
	held         bool                                    // a chunk that is not sent yet may use them

	cursors int // how many cursors, and markers of transactions, were named

	savepoints bool // the statements of a healing pass are prepared
}

// maxStatements bounds what is remembered for each connection.
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

// describe returns what the server knows of sql, and prepares it under a name, if
// the connection is set to use prepared statements; behind a pooler it is not, and
// the description has no name. It costs a round trip, the first time.
func describe(ctx context.Context, conn *pgx.Conn, sql string) (*pgconn.StatementDescription, error) {
	d := statementCacheOf(conn)
	if sd := d.statements[sql]; sd != nil {
		return sd, nil
	}
	name := ""
	if prepares(conn) {
		d.named++
		name = statementName(conn.PgConn().PID(), d.named)
	}
	if len(d.statements) >= maxStatements {
		for old := range maps.Keys(d.statements) {
			d.invalidate(old)
			break
		}
	}
	if !d.held && conn.PgConn().TxStatus() != 'E' { // where nothing can be done
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

// statementName names the nth statement that was prepared on a connection. With the
// number of its process it is no other client's name, so that behind a pooler which has
// not been declared a statement is missed rather than another executed.
func statementName(pid uint32, n int) string { return fmt.Sprintf("pgcmd_%d_%d", pid, n) }

// prepares reports whether the connection is set to keep prepared statements.
func prepares(conn *pgx.Conn) bool {
	return configOf(conn).DefaultQueryExecMode == pgx.QueryExecModeCacheStatement
}

// configOf is conn.Config, which copies at every call, copied once for a connection. It
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

// invalidate makes the next describe ask again: the schema has changed, or the server
// has lost the statement.
func (d *statementCache) invalidate(sql string) {
	if sd := d.statements[sql]; sd != nil && sd.Name != "" {
		d.toDeallocate = append(d.toDeallocate, sd.Name)
	}
	delete(d.statements, sql)
}
