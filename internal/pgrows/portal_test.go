package pgrows_test

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgcmd/pgcmd/internal/pgrows"
	"github.com/pgcmd/pgcmd/pgcmdtest"
)

func connect(t *testing.T) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), pgcmdtest.URL(t))
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

func TestTheRowsOfAPortal(t *testing.T) {
	t.Parallel()
	conn := connect(t)
	pg := conn.PgConn()
	var fields []pgconn.FieldDescription
	fetch := func(open bool) (values []string, r *pgrows.Portal) {
		to, skip := pg.Frontend(), 0
		if open {
			to.SendParse(&pgproto3.Parse{Query: "begin"})
			to.SendBind(&pgproto3.Bind{})
			to.SendExecute(&pgproto3.Execute{})
			to.SendParse(&pgproto3.Parse{Query: "select n from generate_series(1, 3) n"})
			to.SendBind(&pgproto3.Bind{DestinationPortal: "p"})
			to.SendDescribe(&pgproto3.Describe{ObjectType: 'P', Name: "p"})
			skip = 1
		}
		to.SendExecute(&pgproto3.Execute{Portal: "p", MaxRows: 2})
		to.SendSync(&pgproto3.Sync{})
		r = pgrows.NewPortal(pg, conn.TypeMap(), &fields, skip)
		require.NoError(t, r.Flush())
		for r.Next() {
			values = append(values, string(r.RawValues()[0]))
		}
		return values, r
	}
	values, r := fetch(true)
	assert.Equal(t, []string{"1", "2"}, values)
	require.NoError(t, r.Finish(t.Context()))
	assert.True(t, r.More())
	require.Len(t, r.FieldDescriptions(), 1)
	assert.Equal(t, "n", r.FieldDescriptions()[0].Name)
	values, r = fetch(false)
	assert.Equal(t, []string{"3"}, values)
	assert.False(t, r.More())
	assert.Equal(t, "SELECT 1", r.CommandTag().String())
}

func TestExchangeReturnsTheServersError(t *testing.T) {
	t.Parallel()
	pg := connect(t).PgConn()
	send := func(sql string) error {
		pg.Frontend().SendParse(&pgproto3.Parse{Query: sql})
		pg.Frontend().SendBind(&pgproto3.Bind{})
		pg.Frontend().SendDescribe(&pgproto3.Describe{ObjectType: 'P'})
		pg.Frontend().SendExecute(&pgproto3.Execute{})
		pg.Frontend().SendSync(&pgproto3.Sync{})
		_, err := pgrows.Exchange(pg, 0)
		return err
	}
	require.NoError(t, send(`select generate_series(1, 1000)`))
	var pgErr *pgconn.PgError
	require.ErrorAs(t, send(`select nothing`), &pgErr)
	assert.Equal(t, "42703", pgErr.Code)
	require.NoError(t, send(`select 1`), "the connection is in step")
	require.Error(t, send(`select pg_terminate_backend(pg_backend_pid())`))
	assert.True(t, pg.IsClosed())
}

func TestFinishClosesALostConnection(t *testing.T) {
	t.Parallel()
	conn := connect(t)
	pg := conn.PgConn()
	require.NoError(t, pg.Conn().Close())
	pg.Frontend().SendSync(&pgproto3.Sync{})
	var fields []pgconn.FieldDescription
	r := pgrows.NewPortal(pg, conn.TypeMap(), &fields, 0)
	require.Error(t, r.Flush())
	assert.False(t, r.Next())
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, r.Finish(ctx), context.Canceled)
	assert.True(t, pg.IsClosed())
}
