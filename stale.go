package pgcmd

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// invalidates reports whether an error of the server with this SQLSTATE may mean that what
// a connection remembers of the statement, its parameter and result types, is out of date.
// Only what is raised by the execution of a plan that fits says nothing against it.
func invalidates(sqlstate string) bool {
	switch sqlstate {
	case "22P02", "22P03", "22021": // the text, the bytes, the encoding of a parameter, too
		return true
	case "25P02", serializationFailure, deadlockDetected, queryCanceled, "P0001", "P0002", "P0003", "P0004":
		return false
	}
	return !strings.HasPrefix(sqlstate, "22") && !strings.HasPrefix(sqlstate, "23")
}

// provesOutdated reports whether err proves that the server refused a statement because it was
// described, or prepared, for a schema that is no more: before it executed anything. The
// statement must have been sent with a description. What the server finds wrong in the
// text of a statement (Position), it finds when it describes the statement; found later,
// it was right then. The parameter types are the one thing that is not looked up again.
func provesOutdated(err error) bool {
	if _, describing := errors.AsType[*pgconn.PrepareError](err); describing {
		return false
	}
	pgErr, ok := errors.AsType[*pgconn.PgError](err)
	if !ok || !isDefinite(pgErr) {
		return false
	}
	switch pgErr.Code {
	case "0A000":
		return pgErr.Routine == "RevalidateCachedQuery" || pgErr.Position > 0
	case "08P01":
		return refusedAtBind(pgErr)
	case "XX000":
		return strings.HasPrefix(pgErr.Message, "cache lookup failed for type ") // never translated
	case "42704":
		return pgErr.Routine == "lookup_type_cache" || pgErr.Position > 0
	}
	return pgErr.Position > 0
}

// refusedAtBind reports whether the server refused the form of a Bind: it has another
// number of parameters or of result formats than the statement. A pooler's 08P01 names no
// routine.
func refusedAtBind(pgErr *pgconn.PgError) bool {
	return pgErr.Code == "08P01" && (pgErr.Routine == "PortalSetResultFormat" || pgErr.Routine == "exec_bind_message")
}

// outdated reports whether err proves the statement to be outdated on conn, and has the
// other connections of its pool forget the statement before they are used again.
func (s *statement) outdated(conn *pgx.Conn, err error) bool {
	switch s.text.Verb {
	case "select", "insert", "update", "delete", "merge", "with", "values", "table":
		return outdatedOn(conn, s.text.SQL, err)
	}
	return false // of a utility statement nothing is looked up before it is executed
}

func outdatedOn(conn *pgx.Conn, sql string, err error) bool {
	if conn == nil || !provesOutdated(err) {
		return false
	}
	if w := netConnOf(conn); w != nil && w.stale != nil {
		w.stale.add(sql, w)
	}
	return true
}

// remembers reports whether pgx keeps descriptions of the statements on conn.
func remembers(conn *pgx.Conn) bool {
	if conn == nil {
		return false
	}
	mode := configOf(conn).DefaultQueryExecMode
	return mode == pgx.QueryExecModeCacheStatement || mode == pgx.QueryExecModeCacheDescribe
}

// staleStatements is the statements that were found outdated on one connection of a pool,
// for the others to forget. They are numbered in the order in which they were found.
type staleStatements struct {
	count atomic.Int64 // the number of the last

	mu    sync.Mutex
	last  map[string]int64 // the last number of a statement
	floor int64            // those up to here are not in last any more
}

func newStaleStatements() *staleStatements { return &staleStatements{last: map[string]int64{}} }

// add adds a statement that was found outdated on w, if w is not just behind: then it is
// known already. w may be nil.
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
		w.seen = n // pgx has forgotten it there
	}
	s.count.Store(n)
}

// since returns the statements with numbers above seen, and the last number. ok is false
// if they are not known any more.
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

// current reports whether the connection has forgotten all statements that were found
// outdated on others.
func (w *netConn) current() bool { return w.stale == nil || w.stale.count.Load() == w.seen }

// refresh has conn, whose wire is w, forget the statements that were found outdated on
// others. It closes a connection that cannot: where a tracer would see it, or where it is
// too many statements behind.
func (w *netConn) refresh(ctx context.Context, conn *pgx.Conn) {
	if w == nil || w.current() {
		return
	}
	list, count, ok := w.stale.since(w.seen)
	if w.seen = count; !ok || configOf(conn).Tracer != nil {
		_ = conn.Close(ctx)
		return
	}
	for _, sql := range list {
		forgetOn(ctx, conn, sql)
	}
}

// forgetOn has a connection describe the statement again before it is used.
func forgetOn(ctx context.Context, conn *pgx.Conn, sql string) {
	statementCacheOf(conn).invalidate(sql)
	delete(paramsOf(conn), sql)
	// pgx forgets a statement that failed. With a mode that does not exist it fails before
	// anything is sent.
	rows, _ := conn.Query(ctx, sql, pgx.QueryExecMode(-1))
	rows.Close()
}

// forgetIfDoubtful forgets our own description of a statement that failed with err, if
// that may be because of the description.
func forgetIfDoubtful(conn *pgx.Conn, sql string, err error) {
	if pgErr, ok := errors.AsType[*pgconn.PgError](err); ok && invalidates(pgErr.Code) {
		statementCacheOf(conn).invalidate(sql)
	}
}

// queryAgain is db.Query. An argument that does not fit what the statement was described
// with, before this call, is encoded again for what it is described with now: pgx has
// forgotten the description then.
func queryAgain(ctx context.Context, db querier, sql string, args []any) (pgx.Rows, error) {
	rows, err := db.Query(ctx, sql, args...)
	if err != nil && strings.HasPrefix(err.Error(), encodeFailed) {
		return db.Query(ctx, sql, args...)
	}
	return rows, err
}

type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

// encodeFailed is what pgx's errors of arguments begin with. They have no type.
const encodeFailed = "failed to encode args["
