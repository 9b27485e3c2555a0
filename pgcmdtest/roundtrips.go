package pgcmdtest

import (
	"bytes"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pgcmd/pgcmd"
)

// CountRoundTrips runs f and returns how often it turned to the server of db and had to wait. With it a test holds a
// number of round trips as a contract:
//
//	require.Equal(t, 1, pgcmdtest.CountRoundTrips(t, pool, func() { findUser.Run(ctx, pool, in) }))
//
// The messages on the connections of db are counted, as pgx traces them: a round trip begins with one that asks for an
// answer (Query, Sync, Flush) while none that its connection has asked for is outstanding. So a pipeline is one,
// however many Syncs it has, and so is a COPY with its data. Connections are counted by themselves: of two that wait at
// the same time, both count.
//
// A statement that is new to its connection is prepared there, which is a round trip more: run f once before, on a pool
// of one connection. Connecting and cancelling are not counted.
//
// db is a pool or a connection. Of a [pgcmd.Pool] its replicas are not counted. The test fails if a connection of the
// pool is in use before, or if f makes the pool open another, which would not be counted.
func CountRoundTrips(t testing.TB, db pgcmd.DB, f func()) int {
	t.Helper()
	switch db := db.(type) {
	case *pgcmd.Pool:
		return countOnPool(t, db.Pool, f)
	case *pgxpool.Pool:
		return countOnPool(t, db, f)
	case *pgxpool.Conn:
		return countOnConn(db.Conn(), f)
	case *pgx.Conn:
		return countOnConn(db, f)
	}
	t.Fatalf("pgcmdtest: round trips cannot be counted on a %T: pass a pool or a connection", db)
	return 0
}

func countOnConn(conn *pgx.Conn, f func()) int {
	turns := trace(conn)
	defer conn.PgConn().Frontend().Untrace()
	f()
	return turns.stop()
}

func countOnPool(t testing.TB, pool *pgxpool.Pool, f func()) int {
	t.Helper()
	ctx := t.Context()
	idle := pool.AcquireAllIdle(ctx)
	if len(idle) == 0 && pool.Stat().AcquiredConns() == 0 {
		conn, err := pool.Acquire(ctx)
		if err != nil {
			t.Fatalf("pgcmdtest: %v", err)
		}
		idle = append(idle, conn)
	}
	inUse := int(pool.Stat().AcquiredConns()) - len(idle)
	traces := make([]*turns, len(idle))
	for i, conn := range idle {
		traces[i] = trace(conn.Conn())
		conn.Release()
	}
	defer func() {
		// One that is not idle goes on to tell a count that has stopped.
		for _, conn := range pool.AcquireAllIdle(ctx) {
			conn.Conn().PgConn().Frontend().Untrace()
			conn.Release()
		}
	}()
	if inUse > 0 {
		t.Fatalf("pgcmdtest: round trips cannot be counted: %d connections of the pool are in use", inUse)
	}
	opened := pool.Stat().NewConnsCount()
	f()
	n := 0
	for _, turns := range traces {
		n += turns.stop()
	}
	if more := pool.Stat().NewConnsCount() - opened; more > 0 {
		t.Fatalf("pgcmdtest: round trips were not counted on %d connections that the pool opened meanwhile: "+
			"use a pool of one connection, or open them before", more)
	}
	return n
}

// turns are the round trips of one connection. It reads what pgx traces.
type turns struct {
	mu      sync.Mutex
	n       int
	owed    int  // answers that were asked for and have not come
	flushed bool // one of them by Flush
	stopped bool
}

// trace counts the round trips of a connection that nobody else uses now.
func trace(conn *pgx.Conn) *turns {
	turns := new(turns)
	conn.PgConn().Frontend().Trace(turns, pgproto3.TracerOptions{SuppressTimestamps: true})
	return turns
}

func (c *turns) stop() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stopped = true
	return c.n
}

// Write takes the trace of one message: who sent it, its type and its size, with tabs between.
func (c *turns) Write(line []byte) (int, error) {
	sender, rest, _ := bytes.Cut(line, []byte("\t"))
	typ, _, _ := bytes.Cut(rest, []byte("\t"))
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.stopped {
		c.message(sender[0], string(typ))
	}
	return len(line), nil
}

func (c *turns) message(sender byte, typ string) {
	if sender == 'B' {
		if typ == "ReadyForQuery" {
			c.owed--
		}
		if c.flushed {
			c.flushed = false
			c.owed--
		}
		return
	}
	switch typ {
	case "Query", "Sync", "FunctionCall":
	case "Flush":
		if c.flushed {
			return
		}
		c.flushed = true
	default:
		return
	}
	if c.owed++; c.owed == 1 {
		c.n++
	}
}
