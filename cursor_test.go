package pgcmd_test

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgcmd/pgcmd"
	"github.com/pgcmd/pgcmd/pgcmdtest"
)

func TestATxCanBeUsedWhileItStreams(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	pool := pgcmdtest.Pool(t, streamDDL)
	places(t, pool, func(t *testing.T, db pgcmd.DB) {
		if _, ok := db.(pgx.Tx); !ok {
			return
		}
		if _, ok := db.(hidden); ok {
			return
		}
		var pairs int
		for n, err := range pgcmd.Stream(ctx, db, numbers, 300) {
			require.NoError(t, err)
			_, err := keep.Run(ctx, db, n)
			require.NoError(t, err)
			for m, err := range pgcmd.Stream(ctx, db, numbers, 1000) {
				require.NoError(t, err)
				if pairs++; m == n {
					break
				}
			}
		}
		assert.Equal(t, 300*301/2, pairs)
		assert.Equal(t, 300, count(t, db, countKept))
		assert.Zero(t, count(t, db, `select count(*) from pg_cursors where name like 'pgcmd_cursor%'`), "all are closed")
	})

	_, err := transact(func(ctx context.Context, tx *pgcmd.Tx) error {
		for n, err := range pgcmd.Stream(ctx, tx, numbers, 1000) {
			if err != nil {
				return err
			}
			if _, err := keep.Run(ctx, tx, n); err != nil || n == 10 {
				break
			}
		}
		return nil
	}).Run(ctx, pool, empty{})
	require.NoError(t, err, "a broken loop can be committed")
	assert.Equal(t, 10, count(t, pool, countKept))
}

func TestStreamOfAWriteInATx(t *testing.T) {
	t.Parallel()
	pool := pgcmdtest.Pool(t, streamDDL)
	_, err := transact(func(ctx context.Context, tx *pgcmd.Tx) error {
		for n, err := range pgcmd.Stream(ctx, tx, keeping, 300) {
			require.NoError(t, err)
			assert.Equal(t, 299+n, count(t, tx, countKept), "all of it is written before the first row comes")
			_, err = keep.Run(ctx, tx, 300+n)
			require.NoError(t, err)
		}
		return nil
	}).Run(t.Context(), pool, empty{})
	require.NoError(t, err)
	assert.Equal(t, 600, count(t, pool, countKept))
}

func TestStreamOnATransactionInUse(t *testing.T) {
	t.Parallel()
	pool := pgcmdtest.Pool(t, streamDDL)
	_, err := transact(func(ctx context.Context, tx *pgcmd.Tx) error {
		rows, err := tx.Query(ctx, `select 1`)
		require.NoError(t, err)
		_, err = collect(pgcmd.Stream(ctx, tx, numbers, 10))
		assert.Contains(t, failure(t, err).Message, "the transaction is in use")
		rows.Close()

		n := 0
		for _, err := range pgcmd.Stream(ctx, tx, numbers, 1000) {
			if n++; n == 5 {
				rows, _ = tx.Query(ctx, `select 1`)
			}
			if n > 128 {
				assert.Contains(t, failure(t, err).Message, "the transaction is in use")
			}
		}
		assert.Equal(t, 129, n)
		rows.Close()

		raw, err := tx.Conn().Query(ctx, `select 1`)
		require.NoError(t, err)
		for _, db := range []pgcmd.DB{tx, tx.Conn(), hidden{tx}} {
			_, err = collect(pgcmd.Stream(ctx, db, numbers, 10))
			assert.Contains(t, failure(t, err).Message, "the connection is busy")
		}
		raw.Close()
		_, err = keep.Run(ctx, tx, 100)
		return err
	}).Run(t.Context(), pool, empty{})
	require.NoError(t, err)
	assert.Equal(t, 1, count(t, pool, countKept))
}

func TestStreamAndSavepoints(t *testing.T) {
	t.Parallel()
	pool := pgcmdtest.Pool(t, streamDDL)
	failing := pgcmd.Transaction("kept.failing", func(ctx context.Context, tx *pgcmd.Tx, breakAt int) (int, error) {
		for n, err := range pgcmd.Stream(ctx, tx, numbers, 1000) {
			if err != nil {
				return 0, err
			}
			if n == breakAt {
				break
			}
		}
		return 0, errHook
	})
	bad := pgcmd.Exec[int]("kept.bad", `insert into kept values (-$1::int)`)
	for name, body := range map[string]func(ctx context.Context, tx *pgcmd.Tx){
		"the cursor is closed with the savepoint": func(ctx context.Context, tx *pgcmd.Tx) {
			for _, at := range []int{5, 0} {
				assert.ErrorIs(t, pgcmd.Try(ctx, tx, failing, at).Err, errHook)
			}
		},
		"the loop goes on when what it tries fails": func(ctx context.Context, tx *pgcmd.Tx) {
			n := 0
			for _, err := range pgcmd.Stream(ctx, tx, numbers, 1000) {
				require.NoError(t, err)
				if n++; n%100 == 0 {
					assert.Equal(t, "23514", failure(t, pgcmd.Try(ctx, tx, bad, n).Err).SQLState)
					assert.ErrorIs(t, pgcmd.Try(ctx, tx, failing, 5).Err, errHook)
				}
			}
			assert.Equal(t, 1000, n)
		},
		"a nested Tx that ends in the loop": func(ctx context.Context, tx *pgcmd.Tx) {
			nested, err := tx.Begin(ctx)
			require.NoError(t, err)
			rows, err := collect(pgcmd.Stream(ctx, nested, numbers, 100))
			require.NoError(t, err)
			require.Len(t, rows, 100)
			n := 0
			for _, err := range pgcmd.Stream(ctx, nested, numbers, 1000) {
				if n++; n == 10 {
					require.NoError(t, nested.Rollback(ctx))
				}
				if n > 128 {
					assert.ErrorIs(t, err, pgx.ErrTxClosed)
				}
			}
			assert.Equal(t, 129, n)
		},
		"a cursor made after a savepoint that is not its own": func(ctx context.Context, tx *pgcmd.Tx) {
			nested, err := tx.Begin(ctx)
			require.NoError(t, err)
			for range pgcmd.Stream(ctx, tx, numbers, 1000) {
				require.NoError(t, nested.Rollback(ctx))
				break
			}
		},
		"savepoints as SQL text": func(ctx context.Context, tx *pgcmd.Tx) {
			_, err := tx.Exec(ctx, `savepoint mine`)
			require.NoError(t, err)
			for range pgcmd.Stream(ctx, tx, numbers, 1000) {
				_, err := tx.Exec(ctx, `rollback to savepoint mine`)
				require.NoError(t, err)
				break
			}
			for range pgcmd.Stream(ctx, tx, numbers, 1000) {
				_, err := tx.Exec(ctx, `select 'rollback'`)
				require.NoError(t, err)
				break
			}
			for range pgcmd.Stream(ctx, tx, numbers, 1000) {
				break // CLOSE is deferred
			}
			_, err = tx.Query(ctx, `select nope from rows where n = $1`, 1)
			require.Error(t, err)
			_, err = tx.Exec(ctx, `rollback to savepoint mine`)
			require.NoError(t, err)
		},
		"a savepoint to which Conn rolls back": func(ctx context.Context, tx *pgcmd.Tx) {
			_, err := tx.Exec(ctx, `savepoint theirs`)
			require.NoError(t, err)
			for range pgcmd.Stream(ctx, tx.Conn(), numbers, 1000) {
				_, err := tx.Conn().Exec(ctx, `rollback to savepoint theirs`)
				require.NoError(t, err)
				break
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := transact(func(ctx context.Context, tx *pgcmd.Tx) error {
				_, err := tx.Exec(ctx, `truncate kept`)
				require.NoError(t, err)
				body(ctx, tx)
				_, err = keep.Run(ctx, tx, 1)
				require.NoError(t, err)
				assert.Zero(t, count(t, tx, `select count(*) from pg_cursors where name like 'pgcmd_cursor%'`))
				return err
			}).Run(t.Context(), pool, empty{})
			require.NoError(t, err)
		})
	}
}

func TestStreamOnATransactionThatHasEnded(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	pool := pgcmdtest.Pool(t, streamDDL)
	tx, err := pool.Begin(ctx)
	require.NoError(t, err)
	n := 0
	for _, err := range pgcmd.Stream(ctx, tx, numbers, 1000) {
		if n++; n == 5 {
			require.NoError(t, tx.Commit(ctx))
		}
		if n > 128 {
			assert.ErrorIs(t, err, pgx.ErrTxClosed)
		}
	}
	assert.Equal(t, 129, n)
	_, err = collect(pgcmd.Stream(ctx, tx, numbers, 10))
	assert.ErrorIs(t, err, pgx.ErrTxClosed)

	var leaked *pgcmd.Tx
	_, err = transact(func(_ context.Context, tx *pgcmd.Tx) error { leaked = tx; return nil }).Run(ctx, pool, empty{})
	require.NoError(t, err)
	_, err = collect(pgcmd.Stream(ctx, leaked, numbers, 10))
	assert.ErrorIs(t, err, pgx.ErrTxClosed)
	idle(t, pool)
}

func TestStreamInItsOwnTransaction(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	pool := pgcmdtest.Pool(t, streamDDL)
	inTx := keeping.With(pgcmd.Options{InTx: true})
	for range pgcmd.Stream(ctx, pool, inTx, 100) {
		assert.Zero(t, count(t, pool, countKept), "not yet committed")
	}
	assert.Equal(t, 100, count(t, pool, countKept))

	_, err := collect(pgcmd.Stream(ctx, pool, inTx, 100))
	assert.Equal(t, "kept_n_key", failure(t, err).Constraint)
	assert.Equal(t, pgcmd.NotApplied, failure(t, err).Effect)

	take(t, pgcmd.Stream(ctx, pool, pgcmd.Query[int, int]("x", `delete from kept where n > $1 returning n`).With(pgcmd.Options{InTx: true}), 90), 1)
	assert.Equal(t, 90, count(t, pool, countKept), "a loop that breaks commits")

	isolation := pgcmd.Query[empty, string]("x", `select current_setting('transaction_isolation') || ' ' || current_setting('transaction_read_only') || ' ' || n from generate_series(1, 1) n`).
		With(pgcmd.Options{InTx: true, ReadOnly: true, Tx: pgx.TxOptions{IsoLevel: pgx.Serializable}})
	rows, err := collect(pgcmd.Stream(ctx, pool, isolation, empty{}))
	require.NoError(t, err)
	assert.Equal(t, []string{"serializable on 1"}, rows)
}
