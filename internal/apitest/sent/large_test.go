package sent_test

import (
	"context"
	"os"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgcmd/pgcmd"
	"github.com/pgcmd/pgcmd/pgcmdtest"
)

// pgproto3 finds only when it writes a message that it is too large, and the connection is then
// closed, with all that others have sent on it.
func TestAValueThatIsTooLargeHarmsNothingElse(t *testing.T) {
	if os.Getenv("PGCMD_BIG") == "" {
		t.Skip("it takes gigabytes of memory: PGCMD_BIG=1")
	}
	type in struct{ V []byte }
	pool := pgcmdtest.Connect(t, pgcmd.Config{MaxConns: 1, Multiplex: 1}, `create table blobs (v bytea)`)
	small, large := in{[]byte("x")}, in{make([]byte, 1<<30)}
	insert := pgcmd.Exec[in]("blobs.insert", `insert into blobs values (@v)`)
	length := pgcmd.QueryOne[in, int]("blobs.length", `select length(@v::bytea)`)
	rows := func() (n int) {
		require.NoError(t, pool.QueryRow(t.Context(), `with gone as (delete from blobs returning 1) select count(*) from gone`).Scan(&n))
		return n
	}
	var pid int
	require.NoError(t, pool.QueryRow(t.Context(), `select pg_backend_pid()`).Scan(&pid))
	refused := func(t *testing.T, err error) {
		t.Helper()
		assert.ErrorContains(t, err, "the values are too large for one message, which holds 1 GiB")
		assert.Equal(t, pgcmd.CodeInvalid, pgcmd.CodeOf(err))
		assert.Equal(t, pgcmd.NotApplied, pgcmd.EffectOf(err))
	}

	t.Run("a statement", func(t *testing.T) {
		_, err := insert.Run(t.Context(), pool, large)
		refused(t, err)
	})
	t.Run("a step of a transaction", func(t *testing.T) {
		_, err := pgcmd.Transaction("blobs.two", func(ctx context.Context, tx *pgcmd.Tx, _ struct{}) (int64, error) {
			refused(t, pgcmd.Try(ctx, tx, insert, large).Err)
			return insert.Run(ctx, tx, small)
		}).Run(t.Context(), pool, struct{}{})
		require.NoError(t, err)
		assert.Equal(t, 1, rows())
	})
	t.Run("a stream in a transaction", func(t *testing.T) {
		lengths := pgcmd.Query[in, int]("blobs.lengths", `select length(@v::bytea)`).With(pgcmd.Options{InTx: true})
		for _, err := range pgcmd.Stream(t.Context(), pool, lengths, large) {
			refused(t, err)
		}
	})
	for _, mode := range []pgcmd.BatchMode{pgcmd.Isolated, pgcmd.Independent} {
		t.Run("an item of a batch, "+mode.String(), func(t *testing.T) {
			result, err := pgcmd.Batch(insert, mode).Run(t.Context(), pool, []in{small, large, small})
			require.NoError(t, err)
			refused(t, result.Outcomes[1].Err)
			assert.ErrorContains(t, result.Err(), "blobs.insert[1]: ")
			assert.Equal(t, 2, result.Succeeded)
			assert.Equal(t, 2, rows())
		})
	}
	t.Run("a row of a copy", func(t *testing.T) {
		_, err := pgcmd.Copy[in]("blobs.copy", pgx.Identifier{"blobs"}).Run(t.Context(), pool, pgcmd.Rows([]in{small, large}))
		assert.ErrorContains(t, err, "row 2: the row was refused: V is too long: PostgreSQL's values have less than 1 GiB")
		assert.Equal(t, pgcmd.CodeInvalid, pgcmd.CodeOf(err))
		assert.Equal(t, pgcmd.NotApplied, pgcmd.EffectOf(err))
	})
	t.Run("a shared read", func(t *testing.T) {
		_, err := length.Run(t.Context(), pool, small)
		require.NoError(t, err)
		_, err = length.Run(t.Context(), pool, large)
		refused(t, err)
		assert.Zero(t, pool.Metrics().Pool.Shared.Reruns)
	})
	var now int
	require.NoError(t, pool.QueryRow(t.Context(), `select pg_backend_pid()`).Scan(&now))
	assert.Equal(t, pid, now, "the connection is open")
}
