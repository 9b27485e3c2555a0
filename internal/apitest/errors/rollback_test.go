package errors_test

import (
	"context"
	"errors"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgcmd/pgcmd"
	"github.com/pgcmd/pgcmd/pgcmdtest"
)

// These hold what docs/reliability.md says of PostgreSQL, under "What a rollback does not undo".
func TestWhatARollbackDoesNotUndo(t *testing.T) {
	t.Parallel()
	pool := pgcmdtest.Pool(t, `create sequence numbers`)
	value := func(sql string) (n int64) {
		t.Helper()
		require.NoError(t, pool.QueryRow(t.Context(), sql).Scan(&n))
		return n
	}

	_, err := pgcmd.Transaction("draw", func(ctx context.Context, tx *pgcmd.Tx, _ struct{}) (int, error) {
		_, err := tx.Exec(ctx, `select nextval('numbers')`)
		return 0, errors.Join(err, errFunds)
	}).Run(t.Context(), pool, struct{}{})
	assert.Equal(t, pgcmd.NotApplied, pgcmd.EffectOf(err))
	assert.EqualValues(t, 2, value(`select nextval('numbers')`), "a number that was drawn stays drawn")

	_, err = pgcmd.Transaction("create", func(ctx context.Context, tx *pgcmd.Tx, _ struct{}) (int, error) {
		_, err := tx.Exec(ctx, `select lo_create(0)`)
		return 0, err
	}).With(pgcmd.Options{ReadOnly: true}).Run(t.Context(), pool, struct{}{})
	objects := value(`select count(*) from pg_largeobject_metadata`)
	if value(`select current_setting('server_version_num')::int8`) < 160000 {
		assert.NoError(t, err)
		assert.EqualValues(t, 1, objects, "a READ ONLY transaction has created it")
	} else {
		assert.Error(t, err)
		assert.Zero(t, objects)
	}
}
