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
	first, err := c.Describe(t.Context(), conn.PgConn(), sql, true)
	require.NoError(t, err)
	assert.Equal(t, []uint32{23}, first.ParamOIDs)
	assert.Equal(t, stmtcache.Name(conn.PgConn().PID(), 1), first.Name)
	again, err := c.Describe(t.Context(), conn.PgConn(), sql, true)
	require.NoError(t, err)
	assert.Same(t, first, again)
	c.Invalidate(sql)
	assert.False(t, c.Described(sql))
	again, err = c.Describe(t.Context(), conn.PgConn(), sql, true)
	require.NoError(t, err)
	assert.NotEqual(t, first.Name, again.Name)
	assert.Equal(t, 1, prepared(t, conn))
	unnamed, err := c.Describe(t.Context(), conn.PgConn(), `select 2`, false)
	require.NoError(t, err)
	assert.Empty(t, unnamed.Name)
	_, err = c.Describe(t.Context(), conn.PgConn(), `select nothing`, true)
	require.Error(t, err)
	assert.False(t, c.Described(`select nothing`))
}

func TestEvictedStatementsAreDeallocatedUnlessHeld(t *testing.T) {
	t.Parallel()
	conn := connect(t)
	c := stmtcache.OnConn(conn)
	describe := func(i int) {
		_, err := c.Describe(t.Context(), conn.PgConn(), fmt.Sprintf(`select %d`, i), true)
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
