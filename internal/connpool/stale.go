package connpool

import (
	"context"
	"sync"
	"sync/atomic"

	"github.com/jackc/pgx/v5"

	"github.com/pgcmd/pgcmd/internal/sqlstate"
	"github.com/pgcmd/pgcmd/internal/stmtcache"
)

// StaleStatements lists the statements that were found outdated on one connection of a pool,
// for the others to invalidate. They are numbered in the order in which they were found.
type StaleStatements struct {
	count atomic.Int64 // the number of the last

	mu    sync.Mutex
	last  map[string]int64 // the last number of a statement
	floor int64            // last has no numbers up to this one any more
}

// NewStaleStatements returns an empty list.
func NewStaleStatements() *StaleStatements { return &StaleStatements{last: map[string]int64{}} }

// Add adds a statement that was found outdated on a connection that is not of the pool.
func (s *StaleStatements) Add(sql string) { s.add(sql, nil) }

// add adds a statement that was found outdated on c, unless c has only missed an earlier add
// of it. c may be nil.
func (s *StaleStatements) add(sql string, c *Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c != nil && s.last[sql] > c.seen {
		return
	}
	if _, ok := s.last[sql]; !ok && len(s.last) >= stmtcache.Size {
		clear(s.last)
		s.floor = s.count.Load()
	}
	n := s.count.Load() + 1
	s.last[sql] = n
	if c != nil && c.seen == n-1 {
		c.seen = n // pgx has invalidated it there
	}
	s.count.Store(n)
}

// since returns the statements with numbers above seen, and the last number. ok is false
// if some of them were dropped.
func (s *StaleStatements) since(seen int64) (list []string, count int64, ok bool) {
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
func (c *Conn) upToDate() bool { return c.stale == nil || c.stale.count.Load() == c.seen }

// invalidateStale invalidates on conn, whose Conn is c, the statements that were found
// outdated on others. It closes a connection where a tracer would see that, or that is too
// many statements behind.
func (c *Conn) invalidateStale(ctx context.Context, conn *pgx.Conn) {
	list, count, ok := c.stale.since(c.seen)
	if c.seen = count; !ok || conn.Config().Tracer != nil {
		_ = conn.Close(ctx)
		return
	}
	for _, sql := range list {
		invalidate(ctx, conn, sql)
	}
}

// invalidate makes a connection describe the statement again before its next use.
func invalidate(ctx context.Context, conn *pgx.Conn, sql string) {
	stmtcache.OnConn(conn).Invalidate(sql)
	// pgx invalidates a statement that failed. With a mode that does not exist it fails
	// before anything is sent.
	rows, _ := conn.Query(ctx, sql, pgx.QueryExecMode(-1))
	rows.Close()
}

// NoteOutdated reports whether err proves that the description of a statement on conn is
// outdated: then the other connections of the pool drop theirs. conn may be nil.
func NoteOutdated(conn *pgx.Conn, sql string, err error) bool {
	if conn == nil || !sqlstate.ProvesOutdated(err) {
		return false
	}
	if c := Of(conn); c != nil && c.stale != nil {
		c.stale.add(sql, c)
	}
	return true
}
