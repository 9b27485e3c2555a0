// Package pgpipeline sends statements together, in one round trip, and reads their replies in
// order. It knows which reply belongs to which statement, and what PostgreSQL skips after an
// error. It does not know what an item is, nor what an error says about the effect of it.
package pgpipeline

import (
	"context"
	"io"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgcmd/pgcmd/internal/connpool"
	"github.com/pgcmd/pgcmd/internal/params"
	"github.com/pgcmd/pgcmd/internal/pgcommit"
	"github.com/pgcmd/pgcmd/internal/pgrows"
	"github.com/pgcmd/pgcmd/internal/pgxerr"
	"github.com/pgcmd/pgcmd/internal/rowscan"
	"github.com/pgcmd/pgcmd/internal/stmtcache"
)

// A pipeline is a [pgconn.Pipeline], or one that ends with COMMIT.
type pipeline interface {
	SendPrepare(name, sql string, paramOIDs []uint32)
	SendQueryParams(sql string, paramValues [][]byte, paramOIDs []uint32, paramFormats, resultFormats []int16)
	SendQueryPrepared(stmtName string, paramValues [][]byte, paramFormats, resultFormats []int16)
	SendQueryStatement(sd *pgconn.StatementDescription, paramValues [][]byte, paramFormats, resultFormats []int16)
	SendPipelineSync()
	Flush() error
	GetResults() (any, error)
	Close() error
}

var (
	_ pipeline = (*pgconn.Pipeline)(nil)
	_ pipeline = (*pgcommit.Pipeline)(nil)
)

// An Exchange is one use of a pipeline: statements that are sent together, and the replies
// that are to come for them.
type Exchange struct {
	// Lost is the error with which the connection was lost; nil while it is not.
	Lost error

	conn      *pgx.Conn
	p         pipeline
	before    int64 // bytes that were sent on the connection before it
	counted   bool
	expected  []Reply
	at        int
	skipping  bool // up to the next Sync, after an error
	describes bool // statements are sent with a Describe
	prepared  bool // the statements for savepoints were prepared, or their Parse was queued
	limit     connpool.RowLimit
	maxBytes  int // of the rows of the reply that is being read
}

// A Reply is a reply that is to come.
type Reply struct {
	Kind     ReplyKind
	Item     int // of an ItemReply, as passed to Send
	setting  string
	maxBytes int
	prepares bool // a statement for savepoints
}

// A ReplyKind is what a Reply is to.
type ReplyKind int

const (
	InternalReply ReplyKind = iota // a statement of SendInternal or Savepoint, which must succeed
	ItemReply                      // a statement of Send
	CommitReply
	SyncReply
)

// New begins an exchange on a connection, with memory for about so many replies. With limitRows
// the rows of its replies have the limits that are passed to Send.
func New(ctx context.Context, conn *pgx.Conn, replies int, limitRows bool) *Exchange {
	x := begin(conn, replies, limitRows)
	x.p = conn.PgConn().StartPipeline(ctx)
	return x
}

// NewCommit begins an exchange that ends with [Exchange.SendCommit]. config is that of conn;
// timeout is as for [pgcommit.Send].
func NewCommit(ctx context.Context, conn *pgx.Conn, config *pgx.ConnConfig, timeout time.Duration, replies int, limitRows bool) *Exchange {
	x := begin(conn, replies, limitRows)
	p := pgcommit.NewPipeline(ctx, conn, config, timeout)
	p.Grow(replies + deferredReplies)
	x.p = p
	return x
}

// deferredReplies are those to BEGIN and what travels with it, to COMMIT and the Sync.
const deferredReplies = 6

func begin(conn *pgx.Conn, replies int, limitRows bool) *Exchange {
	x := &Exchange{conn: conn, expected: make([]Reply, 0, replies+deferredReplies)}
	x.before, x.counted = connpool.Sent(conn)
	if limitRows {
		x.limit = connpool.LimitRows(conn)
	}
	return x
}

// Send queues the statement of an item. The rows of its reply have maxBytes at most; zero
// means no limit.
func (x *Exchange) Send(item int, sql string, sd *pgconn.StatementDescription, args *params.Encoder, maxBytes int) {
	if sd.Name != "" && x.describes {
		x.p.SendQueryPrepared(sd.Name, args.ParamValues, args.ParamFormats, args.ResultFormats)
	} else if sd.Name != "" {
		x.p.SendQueryStatement(sd, args.ParamValues, args.ParamFormats, args.ResultFormats)
	} else {
		x.p.SendQueryParams(sql, args.ParamValues, sd.ParamOIDs, args.ParamFormats, args.ResultFormats)
	}
	x.expected = append(x.expected, Reply{Kind: ItemReply, Item: item, maxBytes: maxBytes})
}

// SendInternal queues a statement that must succeed, with arguments in text format. setting is the
// one that it sets, or empty.
func (x *Exchange) SendInternal(setting, sql string, args ...[]byte) {
	x.p.SendQueryParams(sql, args, nil, nil, nil)
	x.expected = append(x.expected, Reply{Kind: InternalReply, setting: setting})
}

// SendSettings queues statements that set settings until the next Sync. sd is that of
// [stmtcache.SetSQL], or nil.
//
// Where one fails, a statement is skipped of which pgconn would keep the description, for the next
// statement: from here on the server is asked for the descriptions.
func (x *Exchange) SendSettings(sd *pgconn.StatementDescription, settings []stmtcache.Setting) {
	for i := range settings {
		x.describes = true
		s := &settings[i]
		if sd == nil {
			x.SendInternal(s.Name, stmtcache.SetSQL, s.Parameters()...)
			continue
		}
		x.p.SendQueryPrepared(sd.Name, s.Parameters(), nil, nil)
		x.expected = append(x.expected, Reply{Kind: InternalReply, setting: s.Name})
	}
}

// SendCommit queues COMMIT, and the last Sync. It is for an exchange of [NewCommit].
func (x *Exchange) SendCommit() {
	x.p.(*pgcommit.Pipeline).SendCommit()
	x.expected = append(x.expected, Reply{Kind: CommitReply}, Reply{Kind: SyncReply})
}

// Unreplicated reports whether the synchronous standby did not confirm the COMMIT, of an
// exchange of [NewCommit] whose CommitReply was read.
func (x *Exchange) Unreplicated() bool { return x.p.(*pgcommit.Pipeline).Unreplicated() }

// Sync queues a Sync.
func (x *Exchange) Sync() {
	x.p.SendPipelineSync()
	x.expected = append(x.expected, Reply{Kind: SyncReply})
}

// Flush sends what was queued, and reads what is received meanwhile, so that neither side
// waits for the other.
func (x *Exchange) Flush() {
	if err := x.p.Flush(); err != nil {
		x.Lost = err
	}
}

// Next returns the next reply of the server, with its error if it is one. It skips what the
// server skipped. ok is false at the end, and when the connection is lost.
func (x *Exchange) Next() (r Reply, rows rowscan.Rows, err error, ok bool) {
	for x.Lost == nil && x.at < len(x.expected) {
		r = x.expected[x.at]
		x.at++
		if x.skipping && r.Kind != SyncReply {
			continue
		}
		x.maxBytes = r.maxBytes
		x.limit.SetNext(r.maxBytes)
		result, err := x.p.GetResults()
		if err == nil && result == nil {
			err = io.ErrUnexpectedEOF
		}
		if rows, ok := result.(*pgconn.ResultReader); ok && r.Kind == InternalReply {
			_, err = rows.Close() // an error of it would be taken for the next reply's
		}
		if err != nil && !x.alive(err) {
			x.Lost = err
			if r.Kind == CommitReply {
				return r, nil, err, true
			}
			break
		}
		if r.Kind == SyncReply {
			if err != nil { // at the end of an implicit transaction
				if _, lost := x.p.GetResults(); lost != nil {
					x.Lost = lost
					break
				}
			}
			x.skipping = false
			return r, nil, err, true
		}
		if x.skipping = err != nil; r.setting != "" {
			err = stmtcache.RefusedSetting(r.setting, err)
		}
		if err == nil && r.prepares {
			stmtcache.OnConn(x.conn).SavepointsPrepared++
		}
		hasRows := r.Kind == ItemReply || r.Kind == CommitReply
		if err == nil && hasRows {
			if rows = x.rowsOf(result); rows == nil { // out of step
				x.Lost = pgrows.ErrMalformed
				_ = x.conn.PgConn().Conn().Close()
				break
			}
		}
		return r, rows, err, true
	}
	return r, nil, nil, false
}

// rowsOf returns the rows of a reply, or nil if it has none.
func (x *Exchange) rowsOf(reply any) rowscan.Rows {
	switch reply := reply.(type) {
	case *pgconn.ResultReader:
		return pgx.RowsFromResultReader(x.conn.TypeMap(), reply)
	case *pgcommit.Rows:
		return reply
	}
	return nil
}

// CloseRows reads the rows of a reply to their end, and returns their error.
func (x *Exchange) CloseRows(rows rowscan.Rows) error {
	rows.Close()
	err := rows.Err()
	switch {
	case err == nil:
	case x.alive(err):
		x.skipping = true
	default:
		x.Lost = err
	}
	return err
}

// alive reports whether err is the server's, and the connection is open.
func (x *Exchange) alive(err error) bool {
	return pgxerr.IsServer(err) && !x.conn.IsClosed()
}

// RowFilter returns the filter of the rows of the reply that is being read; nil if there is
// none.
func (x *Exchange) RowFilter() *connpool.RowFilter { return x.limit.Filter }

// ExceededBytes returns the limit of the rows of a reply that the connection was lost for; zero
// if it was lost for another reason.
func (x *Exchange) ExceededBytes() int {
	if connpool.ExceedsRowLimit(x.Lost) {
		return x.maxBytes
	}
	return 0
}

// Unsent reports whether certainly nothing was sent.
func (x *Exchange) Unsent() bool {
	now, _ := connpool.Sent(x.conn)
	return x.counted && now == x.before
}

// Close ends the exchange and reads the replies that are left. It may be called twice.
func (x *Exchange) Close() {
	if err := x.p.Close(); err != nil && x.Lost == nil && x.conn.IsClosed() {
		x.Lost = err
	}
	x.limit.Release()
}

// A SavepointStmt is a statement for the savepoint around an item. PostgreSQL lets a savepoint
// hide an outer one of the same name.
type SavepointStmt struct{ name, sql string }

var (
	SetSavepoint      = SavepointStmt{"pgcmd_savepoint", "savepoint pgcmd_item"}
	ReleaseSavepoint  = SavepointStmt{"pgcmd_release", "release savepoint pgcmd_item"}
	RollbackSavepoint = SavepointStmt{"pgcmd_rollback", "rollback to savepoint pgcmd_item"}

	savepointStmts = [...]SavepointStmt{SetSavepoint, ReleaseSavepoint, RollbackSavepoint}
)

// PrepareSavepoints prepares the statements for savepoints, in the same exchange, unless the
// connection has done so before. After an error PostgreSQL skips the rest of them: the next
// exchange prepares it.
func (x *Exchange) PrepareSavepoints() {
	for _, s := range savepointStmts[stmtcache.OnConn(x.conn).SavepointsPrepared:] {
		x.p.SendPrepare(s.name, s.sql, nil)
		x.expected = append(x.expected, Reply{Kind: InternalReply, prepares: true})
	}
	x.prepared = true
}

// Savepoint queues a statement for savepoints.
func (x *Exchange) Savepoint(s SavepointStmt) {
	if !x.prepared {
		x.SendInternal("", s.sql)
		return
	}
	x.p.SendQueryPrepared(s.name, nil, nil, nil)
	x.expected = append(x.expected, Reply{Kind: InternalReply})
}
