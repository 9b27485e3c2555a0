package multiplex_test

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/pgcmd/pgcmd/internal/connpool"
	"github.com/pgcmd/pgcmd/internal/multiplex"
	"github.com/pgcmd/pgcmd/internal/typemap"
	"github.com/pgcmd/pgcmd/pgcmdtest"
)

func config(t *testing.T, change func(*pgxpool.Config)) multiplex.Config {
	t.Helper()
	settings, err := pgxpool.ParseConfig(pgcmdtest.URL(t))
	require.NoError(t, err)
	if change != nil {
		change(settings)
	}
	pool, err := pgxpool.NewWithConfig(t.Context(), settings)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	return multiplex.Config{
		Pool: pool, Size: 1, ConnectTimeout: 10 * time.Second,
		OnOutdated: func(string) {},
		DialError:  func(err error) error { return err },
	}
}

func newMux(t *testing.T, c multiplex.Config) *multiplex.Mux {
	t.Helper()
	m := multiplex.New(c)
	t.Cleanup(m.Close)
	return m
}

// run returns the first column of the rows.
func run(ctx context.Context, m *multiplex.Mux, patience time.Duration, sql string, args ...any) (values []string, err error) {
	return runQuery(ctx, m, patience, multiplex.Query{Name: "test", SQL: sql, Args: args})
}

func runQuery(ctx context.Context, m *multiplex.Mux, patience time.Duration, q multiplex.Query) (values []string, err error) {
	r := multiplex.Run{Query: q}
	for {
		if err := r.Enter(ctx, m, patience); err != nil {
			return nil, err
		}
		req, err := r.Do(ctx)
		if err != nil {
			return nil, err
		}
		if req == nil {
			continue
		}
		rows := req.Rows()
		for rows.Next() {
			var s string
			if err := rows.TypeMap().Scan(rows.FieldDescriptions()[0].DataTypeOID, rows.FieldDescriptions()[0].Format, rows.RawValues()[0], &s); err != nil {
				return nil, err
			}
			values = append(values, s)
		}
		rows.Close()
		req.Free()
		return values, rows.Err()
	}
}

func TestManyCallersShareOneConnection(t *testing.T) {
	t.Parallel()
	m := newMux(t, config(t, nil))
	require.NoError(t, m.Connect(t.Context()))
	require.NoError(t, m.Connect(t.Context()), "there is one")
	var all errgroup.Group
	for g := range 16 {
		all.Go(func() error {
			for i := range 50 {
				want := fmt.Sprint(g, " ", i)
				got, err := run(context.Background(), m, time.Minute, `select $1::text`, want)
				if err != nil || len(got) != 1 || got[0] != want {
					return fmt.Errorf("%s got %v, %w", want, got, err)
				}
			}
			return nil
		})
	}
	require.NoError(t, all.Wait())
	assert.Equal(t, multiplex.Stats{Conns: 1, Reads: 800}, m.Stats())
}

func TestTheErrorsOfARun(t *testing.T) {
	t.Parallel()
	m := newMux(t, config(t, func(c *pgxpool.Config) { c.ConnConfig.RuntimeParams["statement_timeout"] = "0" }))
	ctx := t.Context()
	var pgErr *pgconn.PgError
	_, err := run(ctx, m, time.Minute, `select nothing`)
	require.ErrorAs(t, err, &pgErr)
	assert.Equal(t, "42703", pgErr.Code)
	_, err = run(ctx, m, time.Minute, `select (1 / $1::int4)::text`, 0)
	require.ErrorAs(t, err, &pgErr)
	assert.Equal(t, "22012", pgErr.Code)
	for range 2 { // also when the statement was prepared a moment ago
		_, err = run(ctx, m, time.Minute, `select $1::int4::text`, struct{}{})
		var encode *multiplex.EncodeError
		require.ErrorAs(t, err, &encode)
		require.NotNil(t, encode.Types)
		assert.ErrorContains(t, encode, "failed to encode args[0]")
	}
	_, err = run(ctx, m, time.Minute, `select length($1::text)::text`, strings.Repeat("x", 1<<17))
	require.Equal(t, multiplex.ErrDedicated, err)
	_, err = run(ctx, m, time.Minute, `select repeat('x', $1)`, 1<<20)
	require.Equal(t, multiplex.ErrDedicated, err, "the reply is too large")
	_, err = run(ctx, m, time.Minute, `select repeat('x', $1)`, 1)
	require.Equal(t, multiplex.ErrDedicated, err, "it was too large a moment ago")
	_, err = runQuery(ctx, m, time.Minute, multiplex.Query{SQL: `select $1::text`, Args: []any{[]byte("\x00")}, Unverified: typemap.Unverified{0}})
	require.ErrorAs(t, err, new(*typemap.ArgError))
	cancelled, cancel := context.WithCancel(ctx)
	time.AfterFunc(100*time.Millisecond, cancel)
	_, err = run(cancelled, m, time.Minute, `select pg_sleep(60)::text`)
	require.ErrorIs(t, err, context.Canceled)
	got, err := run(ctx, m, time.Minute, `select 'after'`)
	require.NoError(t, err)
	assert.Equal(t, []string{"after"}, got)
	assert.Zero(t, m.Stats().InFlight)
	m.Close()
	_, err = run(ctx, m, time.Minute, `select 'closed'`)
	require.Equal(t, multiplex.ErrClosed, err)
	assert.Zero(t, m.Stats().InFlight)
}

// slowValuer takes longer to be refused than a statement counts as new.
type slowValuer struct{ refuse func() error }

func (v slowValuer) Value() (driver.Value, error) { return nil, v.refuse() }

// Otherwise the query is prepared again and again, and its run does not end.
func TestAnArgumentThatIsRefusedSlowlyEndsItsRun(t *testing.T) {
	t.Parallel()
	m := newMux(t, config(t, nil))
	const sql = `select $1::text`
	refusals := 0
	_, err := run(t.Context(), m, time.Minute, sql, slowValuer{func() error {
		if refusals++; refusals > 20 { // pgx tries both formats
			panic("it was prepared again and again")
		}
		m.Age(sql, time.Minute)
		return errors.New("refused")
	}})
	require.ErrorAs(t, err, new(*multiplex.EncodeError))
}

func TestAQueryThatGetsNoConnectionInTime(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	release := make(chan struct{})
	m := newMux(t, config(t, func(c *pgxpool.Config) {
		c.BeforeConnect = func(ctx context.Context, _ *pgx.ConnConfig) error {
			<-release
			return nil
		}
	}))
	_, err := run(ctx, m, 20*time.Millisecond, `select '1'`)
	var full *multiplex.CapacityError
	require.ErrorAs(t, err, &full)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	assert.Zero(t, full.Accepting)
	assert.False(t, m.HasConn())
	close(release)
	_, err = run(ctx, m, time.Minute, `select '1'`)
	require.NoError(t, err)
	assert.True(t, m.HasConn())
	_, isFull := m.Full()
	assert.False(t, isFull)
}

func TestADialErrorIsTranslatedForAllItsCallers(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	c := config(t, func(c *pgxpool.Config) {
		c.BeforeConnect = func(context.Context, *pgx.ConnConfig) error {
			<-release
			return assert.AnError
		}
	})
	translated := errors.New("translated")
	calls := make(chan error, 10)
	c.DialError = func(err error) error { calls <- err; return translated }
	m := newMux(t, c)
	var all errgroup.Group
	for range 3 {
		all.Go(func() error {
			if _, err := run(context.Background(), m, time.Minute, `select '1'`); err != translated {
				return fmt.Errorf("got %w", err)
			}
			return nil
		})
	}
	require.Eventually(t, func() bool { return m.Stats().InFlight == 3 }, time.Minute, time.Millisecond)
	close(release)
	require.NoError(t, all.Wait())
	require.Equal(t, assert.AnError, <-calls)
	require.Error(t, m.Connect(t.Context()))
}

func TestConnectRefusesAnOpenTransaction(t *testing.T) {
	t.Parallel()
	m := newMux(t, config(t, func(c *pgxpool.Config) {
		c.AfterConnect = func(ctx context.Context, conn *pgx.Conn) error {
			_, err := conn.Exec(ctx, `begin`)
			return err
		}
	}))
	require.ErrorIs(t, m.Connect(t.Context()), multiplex.ErrOpenTx)
}

func TestAStatementThatProvesOutdatedIsPreparedAgain(t *testing.T) {
	t.Parallel()
	outdated := make(chan string, 10)
	c := config(t, nil)
	c.OnOutdated = func(sql string) { outdated <- sql }
	m := newMux(t, c)
	ctx := t.Context()
	_, err := c.Pool.Exec(ctx, `create table t (v text); insert into t values ('one')`)
	require.NoError(t, err)
	const sql = `select * from t`
	for _, ddl := range []string{``, `alter table t alter v type varchar`, `deallocate all`} {
		_, err := c.Pool.Exec(ctx, ddl)
		require.NoError(t, err)
		got, err := run(ctx, m, time.Minute, sql)
		require.NoError(t, err)
		assert.Equal(t, []string{"one"}, got)
	}
	assert.Equal(t, sql, <-outdated)
	assert.Empty(t, outdated)
}

func TestATerminatedConnectionInvalidatesThePool(t *testing.T) {
	t.Parallel()
	tracker := connpool.NewTracker(zap.NewNop())
	c := config(t, func(settings *pgxpool.Config) { connpool.Instrument(settings, tracker, connpool.NewStaleStatements()) })
	m := newMux(t, c)
	reset := make(chan struct{})
	tracker.Reset = func() { close(reset) }
	pid, err := run(t.Context(), m, time.Minute, `select pg_backend_pid()::text`)
	require.NoError(t, err)
	_, err = c.Pool.Exec(t.Context(), `select pg_terminate_backend($1::text::int4)`, pid[0])
	require.NoError(t, err)
	<-reset // before more is sent: a server that ends with unread messages may take its last one back
	again, err := run(t.Context(), m, time.Minute, `select pg_backend_pid()::text`)
	require.NoError(t, err)
	assert.NotEqual(t, pid, again)
	assert.EqualValues(t, 1, tracker.Resets())
}

func TestRenewReplacesTheConnections(t *testing.T) {
	t.Parallel()
	m := newMux(t, config(t, nil))
	first, err := run(t.Context(), m, time.Minute, `select pg_backend_pid()::text`)
	require.NoError(t, err)
	m.Renew()
	second, err := run(t.Context(), m, time.Minute, `select pg_backend_pid()::text`)
	require.NoError(t, err)
	assert.NotEqual(t, first, second)
	n, load := m.Running()
	assert.Zero(t, n)
	assert.Empty(t, load.Commands)
}
