package pgcommit_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgcmd/pgcmd/internal/pgcommit"
	"github.com/pgcmd/pgcmd/pgcmdtest"
)

const schema = `create table items (id int primary key deferrable initially deferred)`

// connect opens a connection. config may change its configuration.
func connect(t *testing.T, url string, config ...func(*pgx.ConnConfig)) *pgx.Conn {
	t.Helper()
	c, err := pgx.ParseConfig(url)
	require.NoError(t, err)
	for _, f := range config {
		f(c)
	}
	conn, err := pgx.ConnectConfig(t.Context(), c)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

func exec(t *testing.T, conn *pgx.Conn, statements ...string) {
	t.Helper()
	for _, sql := range statements {
		_, err := conn.Exec(t.Context(), sql)
		require.NoError(t, err)
	}
}

// items returns the number of rows in the table, on a connection of its own.
func items(t *testing.T, url string) (n int) {
	t.Helper()
	require.NoError(t, connect(t, url).QueryRow(context.Background(), `select count(*) from items`).Scan(&n))
	return n
}

func canceled() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}

func TestSend(t *testing.T) {
	t.Parallel()
	t.Run("commits, also after the end of the context", func(t *testing.T) {
		t.Parallel()
		url := pgcmdtest.URL(t, schema)
		conn := connect(t, url)
		exec(t, conn, `begin`, `insert into items values (1)`)
		tag, unreplicated, err := pgcommit.Send(canceled(), conn, conn.Config(), 0)
		require.NoError(t, err)
		assert.Equal(t, "COMMIT", tag.String())
		assert.False(t, unreplicated)
		assert.Equal(t, byte('I'), conn.PgConn().TxStatus())
		assert.Equal(t, 1, items(t, url))
		exec(t, conn, `select 1`)
	})
	t.Run("returns ROLLBACK for an aborted transaction", func(t *testing.T) {
		t.Parallel()
		conn := connect(t, pgcmdtest.URL(t, schema))
		exec(t, conn, `begin`)
		_, err := conn.Exec(t.Context(), `select 1/0`)
		require.Error(t, err)
		tag, _, err := pgcommit.Send(t.Context(), conn, conn.Config(), 0)
		require.NoError(t, err)
		assert.Equal(t, "ROLLBACK", tag.String())
		exec(t, conn, `select 1`)
	})
	t.Run("returns an error of the server, and the connection stays usable", func(t *testing.T) {
		t.Parallel()
		conn := connect(t, pgcmdtest.URL(t, schema))
		exec(t, conn, `begin`, `insert into items values (1)`, `insert into items values (1)`)
		_, _, err := pgcommit.Send(t.Context(), conn, conn.Config(), 0)
		assert.Equal(t, "23505", sqlState(err))
		exec(t, conn, `select 1`)
	})
	t.Run("sends nothing on a connection that is busy", func(t *testing.T) {
		t.Parallel()
		conn := connect(t, pgcmdtest.URL(t, schema))
		rows, err := conn.Query(t.Context(), `select 1`)
		require.NoError(t, err)
		_, _, err = pgcommit.Send(t.Context(), conn, conn.Config(), 0)
		require.ErrorContains(t, err, "busy")
		rows.Close()
		require.NoError(t, rows.Err())
	})
	t.Run("does not cancel a COMMIT that takes too long", func(t *testing.T) {
		t.Parallel()
		url := slowCommit(t)
		conn := connect(t, url)
		exec(t, conn, `begin`, `insert into items values (1)`)
		_, _, err := pgcommit.Send(t.Context(), conn, conn.Config(), 50*time.Millisecond)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		assert.True(t, conn.IsClosed())
		require.Eventually(t, func() bool { return items(t, url) == 1 }, time.Minute, 10*time.Millisecond)
	})
	t.Run("closes the connection if OnNotice panics", func(t *testing.T) {
		t.Parallel()
		conn := connect(t, noisyCommit(t), panicking)
		exec(t, conn, `begin`, `insert into items values (1)`)
		assert.PanicsWithValue(t, "notice", func() { _, _, _ = pgcommit.Send(t.Context(), conn, conn.Config(), 0) })
		assert.True(t, conn.IsClosed())
	})
}

func TestPipeline(t *testing.T) {
	t.Parallel()
	t.Run("commits after its statements", func(t *testing.T) {
		t.Parallel()
		url := pgcmdtest.URL(t, schema)
		conn := connect(t, url)
		sd, err := conn.Prepare(t.Context(), "numbers", `select generate_series(1, 3)::text`)
		require.NoError(t, err)
		p := pgcommit.NewPipeline(t.Context(), conn, conn.Config(), 0)
		p.SendQueryParams(`begin`, nil, nil, nil, nil)
		p.SendQueryParams(`insert into items values ($1::int)`, [][]byte{[]byte("7")}, nil, nil, nil)
		p.SendQueryStatement(sd, nil, nil, []int16{0})
		p.SendCommit()
		require.NoError(t, p.Flush())
		assert.Equal(t, "BEGIN", tag(t, p))
		assert.Equal(t, "INSERT 0 1", tag(t, p))
		rows := next(t, p)
		var values []string
		for rows.Next() {
			values = append(values, string(rows.RawValues()[0]))
		}
		require.NoError(t, rows.Err())
		assert.Equal(t, []string{"1", "2", "3"}, values)
		assert.Len(t, rows.FieldDescriptions(), 1)
		assert.Equal(t, "COMMIT", tag(t, p))
		reply, err := p.GetResults()
		require.NoError(t, err)
		assert.IsType(t, &pgconn.PipelineSync{}, reply)
		require.NoError(t, p.Close())
		assert.False(t, p.Unreplicated())
		assert.Equal(t, 1, items(t, url))
		exec(t, conn, `select 1`)
	})
	t.Run("skips COMMIT after an error", func(t *testing.T) {
		t.Parallel()
		url := pgcmdtest.URL(t, schema)
		conn := connect(t, url)
		p := pgcommit.NewPipeline(t.Context(), conn, conn.Config(), 0)
		for _, sql := range []string{`begin`, `insert into items values (1)`, `select 1/0`, `select 2`} {
			p.SendQueryParams(sql, nil, nil, nil, nil)
		}
		p.SendCommit()
		require.NoError(t, p.Flush())
		tag(t, p)
		tag(t, p)
		_, err := p.GetResults()
		assert.Equal(t, "22012", sqlState(err))
		reply, err := p.GetResults()
		require.NoError(t, err)
		assert.IsType(t, &pgconn.PipelineSync{}, reply)
		require.NoError(t, p.Close())
		assert.Equal(t, byte('E'), conn.PgConn().TxStatus())
		exec(t, conn, `rollback`)
		assert.Zero(t, items(t, url))
	})
	t.Run("goes on when the context ends", func(t *testing.T) {
		t.Parallel()
		url := slowCommit(t)
		conn := connect(t, url)
		ctx, cancel := context.WithCancel(t.Context())
		p := pgcommit.NewPipeline(ctx, conn, conn.Config(), 0)
		p.SendQueryParams(`begin`, nil, nil, nil, nil)
		p.SendQueryParams(`insert into items values (1)`, nil, nil, nil, nil)
		p.SendCommit()
		require.NoError(t, p.Flush())
		cancel()
		tag(t, p)
		tag(t, p)
		assert.Equal(t, "COMMIT", tag(t, p))
		require.NoError(t, p.Close())
		assert.Equal(t, 1, items(t, url))
	})
	t.Run("does not cancel a COMMIT that takes too long", func(t *testing.T) {
		t.Parallel()
		url := slowCommit(t)
		conn := connect(t, url)
		p := pgcommit.NewPipeline(t.Context(), conn, conn.Config(), 50*time.Millisecond)
		p.SendQueryParams(`begin`, nil, nil, nil, nil)
		p.SendQueryParams(`insert into items values (1)`, nil, nil, nil, nil)
		p.SendCommit()
		require.NoError(t, p.Flush())
		tag(t, p)
		tag(t, p)
		_, err := p.GetResults()
		require.ErrorIs(t, err, context.DeadlineExceeded)
		assert.ErrorIs(t, p.Close(), context.DeadlineExceeded)
		assert.True(t, conn.IsClosed())
		require.Eventually(t, func() bool { return items(t, url) == 1 }, time.Minute, 10*time.Millisecond)
	})
	t.Run("sends nothing after the end of the context", func(t *testing.T) {
		t.Parallel()
		url := pgcmdtest.URL(t, schema)
		conn := connect(t, url)
		p := pgcommit.NewPipeline(canceled(), conn, conn.Config(), 0)
		p.SendQueryParams(`insert into items values (1)`, nil, nil, nil, nil)
		p.SendCommit()
		require.ErrorIs(t, p.Flush(), context.Canceled)
		_ = p.Close()
		assert.Zero(t, items(t, url))
	})
	t.Run("closes the connection if it is closed before Flush", func(t *testing.T) {
		t.Parallel()
		url := pgcmdtest.URL(t, schema)
		conn := connect(t, url)
		p := pgcommit.NewPipeline(t.Context(), conn, conn.Config(), 0)
		p.SendQueryParams(`insert into items values (1)`, nil, nil, nil, nil)
		require.Error(t, p.Close())
		assert.True(t, conn.IsClosed())
		assert.Zero(t, items(t, url))
	})
	t.Run("leaves the connection unusable after a panic of OnNotice", func(t *testing.T) {
		t.Parallel()
		conn := connect(t, noisyCommit(t), panicking)
		p := pgcommit.NewPipeline(t.Context(), conn, conn.Config(), 0)
		p.SendQueryParams(`insert into items values (1)`, nil, nil, nil, nil)
		p.SendCommit()
		require.NoError(t, p.Flush())
		tag(t, p)
		assert.PanicsWithValue(t, "notice", func() {
			defer func() { _ = p.Close() }()
			_, _ = p.GetResults()
		})
		assert.True(t, conn.IsClosed() || conn.PgConn().IsBusy(), "a pool destroys it")
	})
}

// next returns the rows of the next reply.
func next(t *testing.T, p *pgcommit.Pipeline) *pgcommit.Rows {
	t.Helper()
	reply, err := p.GetResults()
	require.NoError(t, err)
	require.IsType(t, &pgcommit.Rows{}, reply)
	return reply.(*pgcommit.Rows)
}

// tag returns the command tag of the next reply.
func tag(t *testing.T, p *pgcommit.Pipeline) string {
	t.Helper()
	rows := next(t, p)
	rows.Close()
	require.NoError(t, rows.Err())
	return rows.CommandTag().String()
}

func sqlState(err error) string {
	if pgErr, ok := errors.AsType[*pgconn.PgError](err); ok {
		return pgErr.Code
	}
	return ""
}

// slowCommit makes a database in which COMMIT of an insert takes half a second.
func slowCommit(t *testing.T) (url string) {
	return onCommit(t, `perform pg_sleep(0.5)`)
}

// noisyCommit makes a database in which COMMIT of an insert raises a notice.
func noisyCommit(t *testing.T) (url string) {
	return onCommit(t, `raise notice 'committing'`)
}

func onCommit(t *testing.T, statement string) (url string) {
	return pgcmdtest.URL(t, schema, `create function committing() returns trigger language plpgsql as $$ begin `+statement+`; return null; end $$`,
		`create constraint trigger committing after insert on items deferrable initially deferred for each row execute function committing()`)
}

func panicking(c *pgx.ConnConfig) {
	c.OnNotice = func(*pgconn.PgConn, *pgconn.Notice) { panic("notice") }
}
