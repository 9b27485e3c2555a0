package pgcmd

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

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
	if w := netConnOf(conn); w != nil && w.stale != nil {
		w.stale.add(sql, w)
	}
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

// maxStatements is how many statements are remembered, of a connection and of a pool.
const maxStatements = stmtcache.Size

// staleStatements lists the statements that were found outdated on one connection of a pool,
// for the others to invalidate. They are numbered in the order in which they were found.
type staleStatements struct {
	count atomic.Int64 // the number of the last

	mu    sync.Mutex
	last  map[string]int64 // the last number of a statement
	floor int64            // last has no numbers up to this one any more
}

func newStaleStatements() *staleStatements { return &staleStatements{last: map[string]int64{}} }

// add adds a statement that was found outdated on w, unless w has only missed an earlier add
// of it. w may be nil.
func (s *staleStatements) add(sql string, w *netConn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if w != nil && s.last[sql] > w.seen {
		return
	}
	if _, ok := s.last[sql]; !ok && len(s.last) >= maxStatements {
		clear(s.last)
		s.floor = s.count.Load()
	}
	n := s.count.Load() + 1
	s.last[sql] = n
	if w != nil && w.seen == n-1 {
		w.seen = n // pgx has invalidated it there
	}
	s.count.Store(n)
}

// since returns the statements with numbers above seen, and the last number. ok is false
// if some of them were dropped.
func (s *staleStatements) since(seen int64) (list []string, count int64, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for sql, n := range s.last {
		if n > seen {
			list = append(list, sql)
		}
	}
	return list, s.count.Load(), seen >= s.floor
}

// upToDate reports whether the connection has invalidated all statements that were found
// outdated on others.
func (w *netConn) upToDate() bool { return w.stale == nil || w.stale.count.Load() == w.seen }

// invalidateStale invalidates on conn, whose netConn is w, the statements that were found
// outdated on others. It closes a connection where a tracer would see that, or that is too
// many statements behind.
func (w *netConn) invalidateStale(ctx context.Context, conn *pgx.Conn) {
	if w == nil || w.upToDate() {
		return
	}
	list, count, ok := w.stale.since(w.seen)
	if w.seen = count; !ok || configOf(conn).Tracer != nil {
		_ = conn.Close(ctx)
		return
	}
	for _, sql := range list {
		invalidateOn(ctx, conn, sql)
	}
}

// invalidateOn makes a connection describe the statement again before its next use.
func invalidateOn(ctx context.Context, conn *pgx.Conn, sql string) {
	known := stmtcache.OnConn(conn)
	known.Invalidate(sql)
	known.InvalidateParamsOf(sql)
	// pgx invalidates a statement that failed. With a mode that does not exist it fails
	// before anything is sent.
	rows, _ := conn.Query(ctx, sql, pgx.QueryExecMode(-1))
	rows.Close()
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
