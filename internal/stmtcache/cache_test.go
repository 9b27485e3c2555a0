package stmtcache_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgcmd/pgcmd/internal/stmtcache"
	"github.com/pgcmd/pgcmd/pgcmdtest"
)

func connect(t *testing.T) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), pgcmdtest.URL(t))
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

// prepared returns the number of statements that are prepared on the server.
func prepared(t *testing.T, conn *pgx.Conn) (n int) {
	t.Helper()
	require.NoError(t, conn.QueryRow(t.Context(), `select count(*) from pg_prepared_statements where name like 'pgcmd%'`, pgx.QueryExecModeExec).Scan(&n))
	return n
}

func TestAStatementIsDescribedOnce(t *testing.T) {
	t.Parallel()
	conn := connect(t)
	c := stmtcache.OnConn(conn)
	assert.Same(t, c, stmtcache.OnConn(conn))
	const sql = `select $1::int4 as n`
	assert.False(t, c.Described(sql))
	first, err := c.Describe(t.Context(), conn, sql)
	require.NoError(t, err)
	assert.Equal(t, []uint32{23}, first.ParamOIDs)
	assert.Equal(t, stmtcache.Name(conn.PgConn().PID(), 1), first.Name)
	again, err := c.Describe(t.Context(), conn, sql)
	require.NoError(t, err)
	assert.Same(t, first, again)
	c.Invalidate(sql)
	assert.False(t, c.Described(sql))
	again, err = c.Describe(t.Context(), conn, sql)
	require.NoError(t, err)
	assert.NotEqual(t, first.Name, again.Name)
	assert.Equal(t, 1, prepared(t, conn))
	_, err = c.Describe(t.Context(), conn, `select nothing`)
	require.Error(t, err)
	assert.False(t, c.Described(`select nothing`))
}

func TestEvictedStatementsAreDeallocatedUnlessHeld(t *testing.T) {
	t.Parallel()
	conn := connect(t)
	c := stmtcache.OnConn(conn)
	describe := func(i int) {
		_, err := c.Describe(t.Context(), conn, fmt.Sprintf(`select %d`, i))
		require.NoError(t, err)
	}
	for i := range stmtcache.Size {
		describe(i)
	}
	c.Held = true
	describe(0) // used last
	describe(stmtcache.Size)
	describe(stmtcache.Size + 1)
	assert.Equal(t, stmtcache.Size+2, prepared(t, conn))
	assert.True(t, c.Described(`select 0`))
	assert.False(t, c.Described(`select 1`))
	c.Held = false
	describe(stmtcache.Size + 2)
	assert.Equal(t, stmtcache.Size, prepared(t, conn))
}

func TestParameterTypes(t *testing.T) {
	t.Parallel()
	c := stmtcache.OnConn(connect(t))
	_, ok := c.Params("a")
	assert.False(t, ok)
	c.SetParams("a", nil)
	c.SetParams("b", []uint32{20})
	oids, ok := c.Params("a")
	assert.True(t, ok)
	assert.Empty(t, oids)
	oids, _ = c.Params("b")
	assert.Equal(t, []uint32{20}, oids)
	c.InvalidateParamsOf("a")
	_, ok = c.Params("a")
	assert.False(t, ok)
	c.SetParams("a", nil)
	c.InvalidateParams()
	for _, sql := range []string{"a", "b"} {
		_, ok = c.Params(sql)
		assert.False(t, ok, sql)
	}
	c.SetParams("a", []uint32{23})
	_, ok = c.Params("a")
	assert.True(t, ok)
	assert.NotEqual(t, c.NextID(), c.NextID())
}

// A statement that the server refuses stays prepared, unless the error says that its description may be outdated.
func TestARefusedStatementStaysPrepared(t *testing.T) {
	t.Parallel()
	conn := connect(t)
	run := func(sql string, args ...any) error {
		var r stmtcache.Reply
		r.To(conn, sql, args, nil)
		if err := r.Send(t.Context()); err != nil {
			return err
		}
		r.Close()
		return r.Err()
	}
	const divide = `select 1 / $1::int4`
	for range 2 {
		require.ErrorContains(t, run(divide, 0), "22012")
		require.NoError(t, run(divide, 1))
		assert.Equal(t, 1, prepared(t, conn))
	}
	require.NoError(t, conn.DeallocateAll(t.Context()))
	require.NoError(t, run(divide, 1))

	_, err := conn.Exec(t.Context(), `create temp table changed (a int4)`)
	require.NoError(t, err)
	require.NoError(t, run(`select * from changed where a = $1`, 1))
	_, err = conn.Exec(t.Context(), `alter table changed alter a type text`)
	require.NoError(t, err)
	require.Error(t, run(`select * from changed where a = $1`, 1))
	require.NoError(t, run(`select * from changed where a = $1`, "1"))
	_, err = conn.Exec(t.Context(), `alter table changed alter a type int8 using a::int8`)
	require.NoError(t, err)
	require.Error(t, run(`select * from changed where a = $1`, "one"), "it does not fit the new description either")
}
