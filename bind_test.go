package pgcmd_test

import (
	"context"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgcmd/pgcmd"
	"github.com/pgcmd/pgcmd/pgcmdtest"
)

type value struct {
	Email string
	Qty   int64
	Label *mood
	Raw   []byte
	*Owner
}

func TestInputsThatCannotBeSent(t *testing.T) {
	t.Parallel()
	pool := pgcmdtest.Pool(t)
	bad, nul := mood("\xff"), mood("a\x00b")
	for name, c := range map[string]struct {
		sql     string
		in      value
		problem pgcmd.Problem
	}{
		"a NUL byte":                       {`select @email::text`, value{Email: "a\x00b"}, pgcmd.Problem{Field: "Email", Rule: "text", Message: "holds a NUL byte, which PostgreSQL's text cannot: leave it out, or use []byte and bytea"}},
		"a NUL byte behind a pointer":      {`select @label::text`, value{Label: &nul}, pgcmd.Problem{Field: "Label", Rule: "text", Message: "holds a NUL byte, which PostgreSQL's text cannot: leave it out, or use []byte and bytea"}},
		"invalid UTF-8":                    {`select @label::text`, value{Label: &bad}, pgcmd.Problem{Field: "Label", Rule: "text", Message: "is not valid UTF-8: correct it, or use []byte and bytea"}},
		"an int that overflows the column": {`select @qty::int4`, value{Qty: math.MaxInt64}, pgcmd.Problem{Field: "Qty", Rule: "encode", Message: "(int64) has a value that does not fit int4, the type of its parameter in the SQL"}},
		"a nil embedded struct":            {`select @owner_id::int8`, value{}, pgcmd.Problem{Field: "Owner.OwnerID", Rule: "required", Message: "must be set: the embedded struct that contains it is a nil pointer"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := pgcmd.Exec[value]("values.send", c.sql).Run(t.Context(), pool, c.in)
			e := failure(t, err)
			assert.Equal(t, pgcmd.CodeInvalid, e.Code)
			assert.Equal(t, pgcmd.NotApplied, e.Effect)
			assert.Equal(t, "values.send", e.Command)
			assert.Equal(t, []pgcmd.Problem{c.problem}, e.Problems)
			idle(t, pool)
		})
	}

	t.Run("65,536 parameters", func(t *testing.T) {
		t.Parallel()
		_, err := pgcmd.AdHoc.With(pgcmd.Options{Trusted: true}).Run(t.Context(), pool, pgcmd.AdHocQuery{SQL: many(65_536)})
		e := failure(t, err)
		assert.Equal(t, pgcmd.CodeInvalid, e.Code)
		assert.Equal(t, pgcmd.NotApplied, e.Effect)
		assert.Contains(t, e.Error(), "65535 parameters")
	})
	t.Run("a nil DB and a nil context", func(t *testing.T) {
		t.Parallel()
		var nilConn *pgx.Conn
		var nilContext context.Context
		cmd := pgcmd.Exec[empty]("x", `select 1`)
		slow := cmd.With(pgcmd.Options{Timeout: time.Hour})
		for _, cmd := range []*pgcmd.Command[empty, int64]{cmd, slow} {
			for want, run := range map[string]func() (int64, error){
				"the DB is nil":      func() (int64, error) { return cmd.Run(t.Context(), nil, empty{}) },
				"the DB is nil: ":    func() (int64, error) { return cmd.Run(t.Context(), nilConn, empty{}) },
				"the context is nil": func() (int64, error) { return cmd.Run(nilContext, pool, empty{}) },
			} {
				_, err := run()
				e := failure(t, err)
				assert.Contains(t, e.Message, want)
				assert.Equal(t, "x", e.Command)
				assert.Equal(t, pgcmd.NotApplied, e.Effect)
				assert.Zero(t, e.Attempts)
			}
		}
	})
	t.Run("a connection that is closed", func(t *testing.T) {
		t.Parallel()
		conn, err := pgx.ConnectConfig(t.Context(), pool.Config().ConnConfig)
		require.NoError(t, err)
		require.NoError(t, conn.Close(t.Context()))
		_, err = pgcmd.Exec[empty]("x", `select 1`).Run(t.Context(), conn, empty{})
		e := failure(t, err)
		assert.Equal(t, pgcmd.CodeUnavailable, e.Code)
		assert.Equal(t, pgcmd.NotApplied, e.Effect)
	})
	t.Run("a connection that is busy", func(t *testing.T) {
		t.Parallel()
		conn, err := pool.Acquire(t.Context())
		require.NoError(t, err)
		defer conn.Release()
		rows, err := conn.Query(t.Context(), `select generate_series(1, 10)`)
		require.NoError(t, err)
		defer rows.Close()
		_, err = pgcmd.Exec[empty]("x", `select 1`).Run(t.Context(), conn, empty{})
		e := failure(t, err)
		assert.Contains(t, e.Message, "busy")
		assert.Equal(t, pgcmd.NotApplied, e.Effect)
	})
	t.Run("a transaction that has ended", func(t *testing.T) {
		t.Parallel()
		tx, err := pool.Begin(t.Context())
		require.NoError(t, err)
		require.NoError(t, tx.Rollback(t.Context()))
		_, err = pgcmd.Exec[empty]("x", `select 1`).Run(t.Context(), tx, empty{})
		assert.ErrorIs(t, err, pgx.ErrTxClosed)
		assert.Equal(t, pgcmd.NotApplied, failure(t, err).Effect)
	})
}

// The texts by which refusedByPgx knows that nothing was sent are pgx's.
func TestPgxStillRefusesParametersInTheWordsThatAreLookedFor(t *testing.T) {
	t.Parallel()
	conn, err := pgcmdtest.Pool(t).Acquire(t.Context())
	require.NoError(t, err)
	defer conn.Release()
	_, err = conn.Query(t.Context(), `select $1::int4, $2::int4`, 1, int64(math.MaxInt64))
	assert.ErrorContains(t, err, "failed to encode args[1]: ")
	assert.True(t, strings.HasPrefix(err.Error(), "failed to encode args["))
	_, err = conn.Query(t.Context(), `select $1::int4`)
	assert.True(t, strings.HasPrefix(err.Error(), "expected 1 arguments"), err)
}
