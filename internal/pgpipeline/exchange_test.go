package pgpipeline_test

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgcmd/pgcmd/internal/pgpipeline"
	"github.com/pgcmd/pgcmd/pgcmdtest"
)

// An error before the statements for savepoints were prepared, as by statement_timeout, leaves
// them to the next exchange.
func TestStatementsForSavepointsThatWereSkippedArePreparedLater(t *testing.T) {
	t.Parallel()
	conn, err := pgx.Connect(t.Context(), pgcmdtest.URL(t))
	require.NoError(t, err)
	defer conn.Close(context.Background())

	// exchange sends a statement, and then a savepoint around nothing. It returns the errors of the replies.
	exchange := func(sql string) (errs []error) {
		x := pgpipeline.New(t.Context(), conn, 0, false)
		defer x.Close()
		x.SendInternal("", sql)
		x.PrepareSavepoints()
		x.Savepoint(pgpipeline.SetSavepoint)
		x.Savepoint(pgpipeline.RollbackSavepoint)
		x.Savepoint(pgpipeline.ReleaseSavepoint)
		x.Sync()
		x.Flush()
		for {
			_, _, err, ok := x.Next()
			if !ok {
				require.NoError(t, x.Lost)
				return errs
			}
			if err != nil {
				errs = append(errs, err)
			}
		}
	}
	assert.Len(t, exchange(`select 1/0`), 1)
	for range 2 {
		assert.Empty(t, exchange(`begin`))
		_, err = conn.Exec(t.Context(), `rollback`)
		require.NoError(t, err)
	}
}
