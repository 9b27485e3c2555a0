package canned_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgconn/ctxwatch"
	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/pgcmd/pgcmd/internal/canned"
)

const (
	findUser   = "select id, email, name, active, created_at from users where id = $1"
	listUsers  = "select id, email, name, active, created_at from users limit $1"
	insertUser = "insert into users (email) values ($1)"
	failUser   = "insert into users (email) values ('taken') -- $1"
	hangUser   = "select pg_sleep($1)"
)

type user struct {
	ID          int64
	Email, Name string
	Active      bool
	CreatedAt   time.Time
}

func newServer(rows int) *canned.Server {
	columns := []canned.Column{
		{Name: "id", OID: pgtype.Int8OID},
		{Name: "email", OID: pgtype.TextOID},
		{Name: "name", OID: pgtype.TextOID},
		{Name: "active", OID: pgtype.BoolOID},
		{Name: "created_at", OID: pgtype.TimestamptzOID},
	}
	users := make([][]any, rows)
	for i := range users {
		u := newUser(i + 1)
		users[i] = []any{u.ID, u.Email, u.Name, u.Active, u.CreatedAt}
	}
	s := canned.New()
	s.Rows(findUser, []uint32{pgtype.Int8OID}, columns, users[:1])
	s.Rows(listUsers, []uint32{pgtype.Int8OID}, columns, users)
	s.Command(insertUser, []uint32{pgtype.TextOID}, "INSERT 0 1")
	s.Error(failUser, []uint32{pgtype.TextOID}, &pgproto3.ErrorResponse{
		Code: "23505", Message: "duplicate key", ConstraintName: "users_email_key",
	})
	s.Hang(hangUser, []uint32{pgtype.Int8OID})
	return s
}

func newUser(id int) user {
	return user{
		ID:        int64(id),
		Email:     fmt.Sprintf("user%04d@example.com", id),
		Name:      fmt.Sprintf("User Number %04d", id),
		Active:    true,
		CreatedAt: time.Date(2026, 1, 2, 3, 4, 5, 6000, time.UTC),
	}
}

func connect(tb testing.TB, config *pgx.ConnConfig) *pgx.Conn {
	tb.Helper()
	conn, err := pgx.ConnectConfig(context.Background(), config)
	require.NoError(tb, err)
	tb.Cleanup(func() { conn.Close(context.Background()) })
	return conn
}

type queryer interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

func find(ctx context.Context, db queryer, id int64) (u user, err error) {
	err = db.QueryRow(ctx, findUser, id).Scan(&u.ID, &u.Email, &u.Name, &u.Active, &u.CreatedAt)
	return u, err
}

func list(ctx context.Context, db queryer, limit int64) ([]user, error) {
	rows, err := db.Query(ctx, listUsers, limit)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var users []user
	for rows.Next() {
		var u user
		if err := rows.Scan(&u.ID, &u.Email, &u.Name, &u.Active, &u.CreatedAt); err != nil {
			return nil, err
		}
		users = append(users, u)
	}
	return users, rows.Err()
}

func code(err error) string {
	var pgErr *pgconn.PgError
	if errors.As(err, &pgErr) {
		return pgErr.Code
	}
	return ""
}

func TestEveryModeOfExecutionReadsTheSameRows(t *testing.T) {
	t.Parallel()
	modes := []pgx.QueryExecMode{
		pgx.QueryExecModeCacheStatement, pgx.QueryExecModeCacheDescribe, pgx.QueryExecModeDescribeExec, pgx.QueryExecModeExec,
	}
	for _, mode := range modes {
		t.Run(mode.String(), func(t *testing.T) {
			t.Parallel()
			ctx := t.Context()
			config := newServer(1000).ConnConfig()
			config.DefaultQueryExecMode = mode
			conn := connect(t, config)
			for range 2 {
				u, err := find(ctx, conn, 1)
				require.NoError(t, err)
				u.CreatedAt = u.CreatedAt.UTC()
				require.Equal(t, newUser(1), u)

				users, err := list(ctx, conn, 1000)
				require.NoError(t, err)
				require.Len(t, users, 1000)
				require.Equal(t, newUser(1000).Email, users[999].Email)

				tag, err := conn.Exec(ctx, insertUser, "a@example.com")
				require.NoError(t, err)
				require.Equal(t, "INSERT 0 1", tag.String())
			}
		})
	}
}

func TestTheSimpleProtocolReadsText(t *testing.T) {
	t.Parallel()
	s := canned.New()
	columns := []canned.Column{{"n", pgtype.Int4OID}, {"s", pgtype.TextOID}}
	s.Rows("table numbers", nil, columns, [][]any{{7, ""}, {nil, nil}})
	rows, err := connect(t, s.ConnConfig()).Query(t.Context(), "table numbers", pgx.QueryExecModeSimpleProtocol)
	require.NoError(t, err)
	type row struct {
		N *int
		S *string
	}
	got, err := pgx.CollectRows(rows, pgx.RowToStructByPos[row])
	require.NoError(t, err)
	require.Equal(t, []row{{new(7), new("")}, {}}, got)
	require.Equal(t, "SELECT 2", rows.CommandTag().String())
}

func TestTheTagFollowsFromTheFirstWord(t *testing.T) {
	t.Parallel()
	tags := map[string]string{
		"insert into users default values returning id": "INSERT 0 1",
		"\n update users set id = 1 returning id":       "UPDATE 1",
		"delete from users returning id":                "DELETE 1",
		"with u as (select 1) select id from u":         "SELECT 1",
	}
	s := canned.New()
	conn := connect(t, s.ConnConfig())
	for sql, want := range tags {
		s.Rows(sql, nil, []canned.Column{{"id", pgtype.Int8OID}}, [][]any{{1}})
		tag, err := conn.Exec(t.Context(), sql)
		require.NoError(t, err)
		require.Equal(t, want, tag.String())
	}
}

func TestABatchTakesOneRoundTripOncePrepared(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	s := newServer(10)
	conn := connect(t, s.ConnConfig())
	send := func() {
		batch := &pgx.Batch{}
		for i := range 3 {
			batch.Queue(insertUser, "a@example.com")
			batch.Queue(findUser, i)
		}
		results := conn.SendBatch(ctx, batch)
		for range 3 {
			tag, err := results.Exec()
			require.NoError(t, err)
			require.EqualValues(t, 1, tag.RowsAffected())
			var u user
			require.NoError(t, results.QueryRow().Scan(&u.ID, &u.Email, &u.Name, &u.Active, &u.CreatedAt))
			require.Equal(t, int64(1), u.ID)
		}
		require.NoError(t, results.Close())
	}
	send()
	before := s.RoundTrips()
	send()
	require.Equal(t, int64(1), s.RoundTrips()-before)

	_, err := find(ctx, conn, 1)
	require.NoError(t, err)
	_, err = conn.Exec(ctx, "-- ping")
	require.NoError(t, err)
	require.Equal(t, int64(3), s.RoundTrips()-before)
}

func TestTheStateOfATransactionIsTracked(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	conn := connect(t, newServer(1).ConnConfig())
	requireState := func(want byte) {
		t.Helper()
		require.Equal(t, string(want), string(conn.PgConn().TxStatus()))
	}
	requireState('I')

	tx, err := conn.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.Serializable, AccessMode: pgx.ReadOnly})
	require.NoError(t, err)
	requireState('T')
	nested, err := tx.Begin(ctx)
	require.NoError(t, err)
	_, err = nested.Exec(ctx, failUser, "a@example.com")
	require.Equal(t, "23505", code(err))
	requireState('E')
	_, err = find(ctx, nested, 1)
	require.Equal(t, "25P02", code(err))
	require.NoError(t, nested.Rollback(ctx))
	requireState('T')
	_, err = find(ctx, tx, 1)
	require.NoError(t, err)
	require.NoError(t, tx.Commit(ctx))
	requireState('I')

	tx, err = conn.Begin(ctx)
	require.NoError(t, err)
	_, err = tx.Exec(ctx, failUser, "a@example.com")
	require.Error(t, err)
	require.ErrorIs(t, tx.Commit(ctx), pgx.ErrTxCommitRollback)
	requireState('I')

	_, err = conn.Exec(ctx, "SAVEPOINT sp_1;")
	require.Equal(t, "25P01", code(err))
}

func TestTheConnectionSurvivesAnError(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, sql string
		args      []any
		code      string
		message   string
	}{
		{"registered", failUser, []any{"a@example.com"}, "23505", "duplicate key"},
		{"unknown text", "selct $1", []any{1}, "42601", `"selct $1"`},
		{"unknown text in the simple protocol", "begin; drop table users", nil, "42601", `"begin; drop table users"`},
		{"parameters in the simple protocol", findUser, nil, "42P02", "no parameter"},
		{"too few values", findUser, []any{pgx.QueryExecModeExec, 1, 2}, "08P01", "supplies 2 parameters"},
		{"other formats", findUser, []any{pgx.QueryResultFormats{1, 0, 0, 0, 0}, 1}, "0A000", "formats [1 0 0 1 1]"},
	}
	s := newServer(1)
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			conn := connect(t, s.ConnConfig())
			for range 2 {
				rows, err := conn.Query(t.Context(), test.sql, test.args...)
				if len(test.args) == 0 {
					_, err = conn.Exec(t.Context(), test.sql)
				} else if err == nil {
					rows.Close()
					err = rows.Err()
				}
				require.Equal(t, test.code, code(err), "%v", err)
				require.ErrorContains(t, err, test.message)
				u, err := find(t.Context(), conn, 1)
				require.NoError(t, err)
				require.Equal(t, int64(1), u.ID)
			}
		})
	}
}

func TestAStatementIsForgottenOnceDeallocated(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	conn := connect(t, newServer(1).ConnConfig())
	_, err := conn.Prepare(ctx, "find", findUser)
	require.NoError(t, err)
	require.NoError(t, conn.Deallocate(ctx, "find"))
	require.Equal(t, "26000", code(conn.PgConn().ExecPrepared(ctx, "find", nil, nil, nil).Read().Err))
	require.NoError(t, conn.DeallocateAll(ctx))
	_, err = find(ctx, conn, 1)
	require.NoError(t, err)
}

func TestARegistrationReplacesTheOneBefore(t *testing.T) {
	t.Parallel()
	s := newServer(1)
	s.Command(insertUser, []uint32{pgtype.TextOID}, "INSERT 0 2")
	s.Command("select 1", nil, "SELECT 0")
	conn := connect(t, s.ConnConfig())
	tag, err := conn.Exec(t.Context(), insertUser, "a@example.com")
	require.NoError(t, err)
	require.Equal(t, "INSERT 0 2", tag.String())
	tag, err = conn.Exec(t.Context(), "select 1")
	require.NoError(t, err)
	require.Equal(t, "SELECT 0", tag.String())
}

func TestAFatalErrorEndsTheConnection(t *testing.T) {
	t.Parallel()
	s := canned.New()
	s.Error("select 1", nil, &pgproto3.ErrorResponse{Severity: "FATAL", Code: "57P01", Message: "shutdown"})
	conn := connect(t, s.ConnConfig())
	_, err := conn.Exec(t.Context(), "select 1")
	require.Equal(t, "57P01", code(err))
	require.True(t, conn.IsClosed())
}

func TestAPoolServesManyGoroutines(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	pool, err := pgxpool.NewWithConfig(ctx, newServer(10).PoolConfig(4))
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	require.NoError(t, pool.Ping(ctx))

	var wg sync.WaitGroup
	errs := make(chan error, 100)
	for range cap(errs) {
		wg.Go(func() {
			errs <- pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
				_, err := find(ctx, tx, 1)
				users, err2 := list(ctx, tx, 10)
				if len(users) != 10 {
					err2 = errors.Join(err2, fmt.Errorf("%d users", len(users)))
				}
				return errors.Join(err, err2)
			})
		})
	}
	wg.Wait()
	for range cap(errs) {
		require.NoError(t, <-errs)
	}
	require.LessOrEqual(t, pool.Stat().NewConnsCount(), int64(4))
}

func TestAHangingStatementEndsWithItsContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		conn := connect(t, newServer(1).ConnConfig())
		start := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		_, err := conn.Exec(ctx, hangUser, 1)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Equal(t, time.Hour, time.Since(start))
		<-conn.PgConn().CleanupDone()
		require.Equal(t, time.Hour, time.Since(start), "the server should end the session at once")
	})
}

func TestACancelRequestEndsAHangingStatementOnly(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		config := newServer(1).ConnConfig()
		config.BuildContextWatcherHandler = func(conn *pgconn.PgConn) ctxwatch.Handler {
			return &pgconn.CancelRequestContextWatcherHandler{Conn: conn, DeadlineDelay: time.Hour}
		}
		conn := connect(t, config)
		for range 2 {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			_, err := conn.Exec(ctx, hangUser, 1)
			require.Equal(t, "57014", code(err), "%v", err)
			_, err = find(t.Context(), conn, 1)
			require.NoError(t, err)
		}
		require.NoError(t, conn.PgConn().CancelRequest(t.Context()))
		_, err := find(t.Context(), conn, 1)
		require.NoError(t, err)
	})
}

func TestARead(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		end  func(net.Conn)
		want error
	}{
		{"is ended by Close", func(c net.Conn) { c.Close() }, net.ErrClosed},
		{"is ended by Terminate", func(c net.Conn) { c.Write([]byte("X\x00\x00\x00\x04")) }, io.EOF},
		{"is ended by a deadline", func(c net.Conn) { c.SetReadDeadline(time.Now().Add(time.Hour)) }, os.ErrDeadlineExceeded},
		{"is ended by a deadline that has passed", func(c net.Conn) { c.SetDeadline(time.Now()) }, os.ErrDeadlineExceeded},
		{"is ended by what is written", func(c net.Conn) { c.Write([]byte("Q\x00\x00\x00\x05\x00")) }, nil},
		{"is ended by the last deadline", func(c net.Conn) {
			c.SetDeadline(time.Now().Add(time.Minute))
			c.SetDeadline(time.Time{})
			time.AfterFunc(time.Hour, func() { c.Close() })
		}, net.ErrClosed},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				c := dial(t, canned.New())
				ended := make(chan error)
				go func() {
					_, err := c.Read(make([]byte, 1))
					ended <- err
				}()
				synctest.Wait()
				test.end(c)
				err := <-ended
				require.ErrorIs(t, err, test.want)
				var netErr net.Error
				if test.want == os.ErrDeadlineExceeded {
					require.ErrorAs(t, err, &netErr)
					require.True(t, netErr.Timeout())
				}
				c.Close()
				_, err = c.Write([]byte{0})
				require.ErrorIs(t, err, net.ErrClosed)
			})
		})
	}
}

func TestMessagesMayArriveByteByByte(t *testing.T) {
	t.Parallel()
	c := dial(t, canned.New())
	defer c.Close()
	query, err := (&pgproto3.Query{String: "select 1"}).Encode(nil)
	require.NoError(t, err)
	for i := range query {
		_, err := c.Write(query[i : i+1])
		require.NoError(t, err)
	}
	frontend := pgproto3.NewFrontend(c, c)
	for _, want := range []pgproto3.BackendMessage{
		&pgproto3.RowDescription{}, &pgproto3.DataRow{}, &pgproto3.CommandComplete{}, &pgproto3.ReadyForQuery{},
	} {
		got, err := frontend.Receive()
		require.NoError(t, err)
		require.IsType(t, want, got)
	}
}

func TestATLSRequestIsRefused(t *testing.T) {
	t.Parallel()
	c, err := canned.New().Dial(t.Context(), "", "")
	require.NoError(t, err)
	defer c.Close()
	_, err = c.Write([]byte{0, 0, 0, 8, 4, 210, 22, 47})
	require.NoError(t, err)
	b := make([]byte, 2)
	n, err := c.Read(b)
	require.NoError(t, err)
	require.Equal(t, "N", string(b[:n]))
}

func TestRowsThatCannotBeEncodedPanic(t *testing.T) {
	t.Parallel()
	columns := []canned.Column{{"n", pgtype.Int4OID}}
	require.PanicsWithValue(t, "canned: row 1 has 2 values for 1 columns", func() {
		canned.New().Rows("select n", nil, columns, [][]any{{1}, {1, 2}})
	})
	require.Panics(t, func() { canned.New().Rows("select n", nil, columns, [][]any{{struct{}{}}}) })
}

// dial returns a connection past start-up, with nothing left to read.
func dial(tb testing.TB, s *canned.Server) net.Conn {
	tb.Helper()
	c, err := s.Dial(context.Background(), "", "")
	require.NoError(tb, err)
	startup, err := (&pgproto3.StartupMessage{ProtocolVersion: pgproto3.ProtocolVersion30}).Encode(nil)
	require.NoError(tb, err)
	_, err = c.Write(startup)
	require.NoError(tb, err)
	_, err = c.Read(make([]byte, 8192))
	require.NoError(tb, err)
	return c
}
