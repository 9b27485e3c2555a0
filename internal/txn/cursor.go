package txn

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/pgcmd/pgcmd/internal/params"
	"github.com/pgcmd/pgcmd/internal/pgrows"
	"github.com/pgcmd/pgcmd/internal/rowscan"
	"github.com/pgcmd/pgcmd/internal/stmtcache"
)

// A Cursor reads the rows of a statement in a transaction, some at a time, so that other
// statements can run in between. It is a portal of the protocol instead of DECLARE and
// FETCH: these collect the rows on the server before they send one, are planned for a few
// rows, and cannot be used for INSERT ... RETURNING.
type Cursor struct {
	t           *Txn
	sql         string
	sd          *pgconn.StatementDescription
	args        *params.Encoder
	name        string
	opened      bool
	savepoints  int  // that were made before it
	rolledBack  bool // with its savepoint
	maybeClosed bool // SQL of the body may have closed it
	size        int  // how many rows the next fetch asks for
	columns     []pgconn.FieldDescription
}

// The rows of a fetch are in memory together: firstFetch rows at first, then four times as
// many each time, up to MaxFetch rows or fetchBytes bytes. More would hardly be faster, even
// if a round trip is long.
const (
	firstFetch = 128
	MaxFetch   = 32_768
	fetchBytes = 4 << 20
)

// NewCursor makes a cursor of a statement with encoded arguments. It has a name that no cursor
// on the connection has had.
func (t *Txn) NewCursor(sql string, sd *pgconn.StatementDescription, args *params.Encoder) *Cursor {
	return &Cursor{t: t, sql: sql, sd: sd, args: args, size: firstFetch, name: fmt.Sprintf("pgcmd_cursor_%d", stmtcache.OnConn(t.Conn).NextID())}
}

// Fetch requests the next rows, after the deferred statements and in one message with them, and
// calls read with them, which returns their number and their size in bytes. It reports whether
// there may be more.
func (c *Cursor) Fetch(ctx context.Context, read func(rows rowscan.Rows) (got, size int)) (more bool, err error) {
	t := c.t
	if err := t.Idle(); err != nil {
		return false, err
	}
	pg := t.Conn.PgConn()
	opening := !c.opened
	if opening {
		c.opened, c.savepoints, c.maybeClosed = true, t.savepoints, t.External
		t.cursors = append(t.cursors, c)
	}
	rows := pgrows.NewPortal(pg, t.Conn.TypeMap(), &c.columns, len(t.deferred))
	to := pg.Frontend()
	deferred := t.queueDeferred(to)
	if opening {
		c.open(to)
	}
	to.SendExecute(&pgproto3.Execute{Portal: c.name, MaxRows: uint32(c.size)})
	to.SendSync(&pgproto3.Sync{})
	t.startWatch(ctx)
	func() {
		defer func() { // also if user code that scans panics
			rows.Close()
			t.watch.End(false)
			if t.External {
				t.watch.Close() // it may not be closed when its transaction ends
			}
			err = deferredError(deferred, rows.Skipping(), rows.Finish(ctx))
		}()
		if rows.Flush() == nil {
			got, size := read(rows)
			c.size = min(4*c.size, MaxFetch)
			if got > 0 {
				c.size = max(1, min(c.size, fetchBytes/(size/got+1)))
			}
		}
	}()
	if opening {
		stmtcache.OnConn(t.Conn).InvalidateAfter(c.sql, err)
	}
	t.noteBegin(err)
	return rows.More(), err
}

// open queues the messages that make the portal.
func (c *Cursor) open(to *pgproto3.Frontend) {
	if c.sd.Name == "" {
		to.SendParse(&pgproto3.Parse{Query: c.sql, ParameterOIDs: c.sd.ParamOIDs})
	}
	to.SendBind(&pgproto3.Bind{
		DestinationPortal: c.name, PreparedStatement: c.sd.Name,
		Parameters: c.args.ParamValues, ParameterFormatCodes: c.args.ParamFormats,
		ResultFormatCodes: c.args.ResultFormats,
	})
	to.SendDescribe(&pgproto3.Describe{ObjectType: 'P', Name: c.name})
}

// Close defers a CLOSE of the cursor. If the cursor may be closed already, CLOSE could fail and
// abort the transaction: then it sends the protocol's Close at once, which is no error if the
// cursor does not exist.
func (c *Cursor) Close(ctx context.Context) {
	t := c.t
	if !c.opened {
		return
	}
	t.cursors = slices.DeleteFunc(t.cursors, func(other *Cursor) bool { return other == c })
	switch {
	case c.rolledBack || t.Closed() || t.externalEnded(ctx) != nil || t.Status() != 'T':
	case c.maybeClosed:
		_, _ = t.exchange(0, func(to *pgproto3.Frontend) { to.SendClose(&pgproto3.Close{ObjectType: 'P', Name: c.name}) })
	default:
		t.deferred = append(t.deferred, statement{sql: "close " + c.name, closesCursor: true})
	}
}

// cursorsRolledBack marks the cursors that a rollback to a savepoint closes.
func (t *Txn) cursorsRolledBack(savepoint int) {
	for _, c := range t.cursors {
		c.rolledBack = c.rolledBack || c.savepoints >= savepoint
	}
}

// invalidateCursors marks the cursors if SQL of the body, in lower case, may close them.
func (t *Txn) invalidateCursors(sql string) {
	if len(t.cursors) > 0 && (strings.Contains(sql, "rollback") || strings.Contains(sql, "close")) {
		for _, c := range t.cursors {
			c.maybeClosed = true
		}
	}
}
