// Package stmtcache caches what is known of the statements of one connection, by their SQL:
// the descriptions of those that were prepared on it, and the parameter types of others. It
// sends a prepared statement. That a schema has changed it knows only from an error, or when
// its user invalidates what may be outdated.
package stmtcache

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgcmd/pgcmd/internal/interrupt"
	"github.com/pgcmd/pgcmd/internal/params"
	"github.com/pgcmd/pgcmd/internal/sqlstate"
)

// Size is how many statements are cached for each connection, unless its configuration says
// otherwise.
const Size = 512

// A Cache holds the statements of one connection. It is for the user of the connection
// alone, as the connection is.
type Cache struct {
	// Held is set while statements are encoded that are not sent yet: none of their
	// descriptions may be deallocated.
	Held bool

	// SavepointsPrepared is how many of the statements that set, release and roll back to
	// savepoints are prepared on the connection, in the order of internal/pgpipeline.
	SavepointsPrepared int

	// Watch interrupts the statements that are sent.
	Watch *interrupt.Watch

	// Encoded holds the arguments of the statement that is sent next.
	Encoded params.Encoder

	config        *pgx.ConnConfig
	tracesPrepare bool
	statements    *LRU[string, *entry]
	lastName      int      // number of the last statement name
	lastID        int      // see NextID
	toDeallocate  []string // names of statements to deallocate
	generation    int      // number of InvalidateParams
}

type entry struct {
	description *pgconn.StatementDescription // nil: not described
	params      []uint32
	hasParams   bool
	generation  int // of params
}

// OnConn returns the Cache of a connection.
func OnConn(conn *pgx.Conn) *Cache {
	data := conn.PgConn().CustomData()
	c, ok := data["pgcmd.statements"].(*Cache)
	if !ok {
		c = &Cache{config: conn.Config()}
		c.Watch = interrupt.New(conn.PgConn(), &c.config.Config)
		_, c.tracesPrepare = c.config.Tracer.(pgx.PrepareTracer)
		size := Size
		if c.cachesStatements() && c.config.StatementCacheCapacity > 0 {
			size = c.config.StatementCacheCapacity
		}
		c.statements = NewLRU(size, func(_ string, e *entry) { c.drop(e) })
		data["pgcmd.statements"] = c
	}
	return c
}

// NextID returns a number that it has not returned before for the connection.
func (c *Cache) NextID() int {
	c.lastID++
	return c.lastID
}

// Described reports whether Describe has the description of sql.
func (c *Cache) Described(sql string) bool {
	e, _ := c.statements.Get(sql)
	return e != nil && e.description != nil
}

// Describe returns the description of sql. The first call for a statement costs a round
// trip. It prepares the statement under a name if the connection is set to use prepared
// statements; behind a pooler it must not be, and the description has no name.
func (c *Cache) Describe(ctx context.Context, conn *pgx.Conn, sql string) (*pgconn.StatementDescription, error) {
	e := c.entry(sql)
	if e.description != nil {
		return e.description, nil
	}
	name := ""
	if c.cachesStatements() {
		c.lastName++
		name = Name(conn.PgConn().PID(), c.lastName)
	}
	if !c.Held && conn.PgConn().TxStatus() != 'E' { // where the server refuses it
		for _, old := range c.toDeallocate {
			if err := conn.Deallocate(ctx, old); err != nil {
				return nil, err
			}
		}
		c.toDeallocate = nil
	}
	sd, err := conn.Prepare(ctx, name, sql)
	if err != nil {
		return nil, err
	}
	e.description = sd
	return sd, nil
}

// Name is the name of the nth statement that was prepared on a connection. The process ID
// makes it unique, so that behind a pooler that was not declared a statement is missing
// rather than another one executed.
func Name(pid uint32, n int) string { return fmt.Sprintf("pgcmd_%d_%d", pid, n) }

// Invalidate drops what is known of sql: the next Describe prepares it again.
func (c *Cache) Invalidate(sql string) {
	if e, _ := c.statements.Get(sql); e != nil {
		c.drop(e)
		e.params, e.hasParams = nil, false
	}
}

// InvalidateAfter is Invalidate if a statement that failed with err may have failed because of
// its description.
func (c *Cache) InvalidateAfter(sql string, err error) {
	if _, ofSetting := errors.AsType[*SettingError](err); ofSetting {
		return
	}
	if pgErr, ok := errors.AsType[*pgconn.PgError](err); ok && sqlstate.InvalidatesStatement(pgErr.Code) {
		c.Invalidate(sql)
	}
}

// drop drops the description of a statement.
func (c *Cache) drop(e *entry) {
	if e.description != nil && e.description.Name != "" {
		c.toDeallocate = append(c.toDeallocate, e.description.Name)
	}
	e.description = nil
}

// Known reports whether ParamTypes knows the parameter types of sql without a round trip.
func (c *Cache) Known(sql string) bool {
	if c.cachesStatements() {
		return c.Described(sql)
	}
	_, ok := c.Params(sql)
	return ok && c.config.DefaultQueryExecMode == pgx.QueryExecModeCacheDescribe
}

// ParamTypes returns the parameter types of a statement that is about to be sent, and whether
// they were known. If not, it describes the statement.
func (c *Cache) ParamTypes(ctx context.Context, conn *pgx.Conn, sql string) (oids []uint32, known bool, err error) {
	known = c.Known(sql)
	switch {
	case c.cachesStatements():
		sd, err := c.Describe(ctx, conn, sql)
		if err != nil {
			return nil, known, err
		}
		return sd.ParamOIDs, known, nil
	case known:
		oids, _ = c.Params(sql)
		return oids, true, nil
	}
	sd, err := conn.PgConn().Prepare(ctx, "", sql, nil)
	if err != nil {
		return nil, false, err
	}
	c.SetParams(sql, sd.ParamOIDs)
	return sd.ParamOIDs, false, nil
}

// Params returns the parameter types of a statement, as SetParams has set them.
func (c *Cache) Params(sql string) (oids []uint32, ok bool) {
	e, _ := c.statements.Get(sql)
	if e == nil || !e.hasParams || e.generation != c.generation {
		return nil, false
	}
	return e.params, true
}

// SetParams sets the parameter types of a statement that pgx has prepared, or is about to.
func (c *Cache) SetParams(sql string, oids []uint32) {
	e := c.entry(sql)
	e.params, e.hasParams, e.generation = oids, true, c.generation
}

// InvalidateParamsOf drops the parameter types of a statement.
func (c *Cache) InvalidateParamsOf(sql string) {
	if e, _ := c.statements.Get(sql); e != nil {
		e.params, e.hasParams = nil, false
	}
}

// InvalidateParams drops the parameter types of all statements.
func (c *Cache) InvalidateParams() { c.generation++ }

func (c *Cache) entry(sql string) *entry {
	e, _ := c.statements.Get(sql)
	if e == nil {
		e = &entry{}
		c.statements.Put(sql, e)
	}
	return e
}
