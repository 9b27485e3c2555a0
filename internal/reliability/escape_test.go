package reliability_test

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgcmd/pgcmd"
	"github.com/pgcmd/pgcmd/internal/faults"
)

// A body can end its transaction by SQL text, and begin another in the same breath, so that the status of the connection
// does not show it. What it did before is there then, whatever becomes of the rest.
func TestABodyThatEndsItsTransactionBySQLText(t *testing.T) {
	t.Parallel()
	l := newLab(t, worksDDL)
	pool, err := pgcmd.Connect(t.Context(), pgcmd.Config{URL: l.url})
	require.NoError(t, err)
	t.Cleanup(pool.Pool.Close)

	execs := func(fails error, sqls ...string) func(context.Context, *pgcmd.Tx, op) (int64, error) {
		return func(ctx context.Context, tx *pgcmd.Tx, in op) (int64, error) {
			if _, err := addFirst.Run(ctx, tx, in); err != nil {
				return 0, err
			}
			for _, sql := range sqls {
				if _, err := tx.Exec(ctx, sql); err != nil {
					return 0, err
				}
			}
			return 0, fails
		}
	}
	for _, c := range []struct {
		name  string
		body  func(context.Context, *pgcmd.Tx, op) (int64, error)
		there int // parts
	}{
		{"commit", execs(errBody, `commit`), 1},
		{"commit and an error", execs(nil, `commit; select 1/0`), 1},
		{"commit and chain", execs(errBody, `COMMIT AND CHAIN`), 1},
		{"end and chain, after a comment", execs(errBody, `/* the */ end work and chain`), 1},
		{"commit and begin", execs(errBody, `commit; begin`), 1},
		{"commit, begin and an error", execs(nil, `commit; begin; select 1/0`), 1},
		{"commit and chain by Query", func(ctx context.Context, tx *pgcmd.Tx, in op) (int64, error) {
			if _, err := addFirst.Run(ctx, tx, in); err != nil {
				return 0, err
			}
			rows, err := tx.Query(ctx, `commit and chain`)
			rows.Close()
			if err != nil {
				return 0, err
			}
			return 0, errBody
		}, 1},
		{"commit in a batch", func(ctx context.Context, tx *pgcmd.Tx, in op) (int64, error) {
			b := &pgx.Batch{}
			b.Queue(`insert into ops values ($1, 1)`, in.ID)
			b.Queue(`commit`)
			b.Queue(`begin`)
			if err := tx.SendBatch(ctx, b).Close(); err != nil {
				return 0, err
			}
			return 0, errBody
		}, 1},
		{"commit as a command", func(ctx context.Context, tx *pgcmd.Tx, in op) (int64, error) {
			if _, err := addFirst.Run(ctx, tx, in); err != nil {
				return 0, err
			}
			if _, err := pgcmd.Exec[struct{}]("works.commit", `commit and chain`).Run(ctx, tx, struct{}{}); err != nil {
				return 0, err
			}
			return 0, errBody
		}, 1},
		{"commit in the first statement, before an error", func(ctx context.Context, tx *pgcmd.Tx, in op) (int64, error) {
			_, err := tx.Exec(ctx, `insert into ops values (`+key(in)+`, 1); commit; select 1/0`)
			return 0, err
		}, 1},
		{"rollback and chain", execs(nil, `rollback and chain`), 0},
		{"rollback and begin", execs(nil, `abort; begin`), 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			in := op{ID: l.ids.Add(1)}
			_, err := transaction("escape", c.body).Run(t.Context(), pool, in)
			var parts []int64
			require.NoError(t, l.direct.QueryRow(t.Context(), `select parts('nobody', $1)`, in.ID).Scan(&parts))
			if len(parts) > 0 {
				assert.NotEqual(t, pgcmd.NotApplied, pgcmd.EffectOf(err), "it is there: %v", err)
			}
			assert.Len(t, parts, c.there, "if it is refused, this says so")
			assert.Error(t, err, "nobody knows what the body has done")
		})
	}
}

// What only looks like the end of a transaction does not cost the certainty that nothing was applied.
func TestSQLTextThatDoesNotEndTheTransaction(t *testing.T) {
	t.Parallel()
	l := newLab(t, worksDDL)
	for _, sql := range []string{
		`insert into ops values (1, 1) on conflict do nothing`,
		`select 'commit', 1 as "end", $$ do $$ -- call`,
		`savepoint prepared; rollback to savepoint prepared; release prepared`,
		`update ops set part = case part when 1 then 1 end`,
	} {
		proxy, err := faults.Start(l.url)
		require.NoError(t, err)
		pool, err := pgcmd.Connect(t.Context(), pgcmd.Config{URL: proxy.URL()})
		require.NoError(t, err)
		proxy.Set(&faults.Fault{Direction: faults.Backend, Action: faults.CutBefore})
		_, err = transaction("lost", func(ctx context.Context, tx *pgcmd.Tx, in op) (int64, error) {
			_, err := tx.Exec(ctx, sql)
			return 0, err
		}).Run(t.Context(), pool, op{})
		assert.Equal(t, 1, proxy.Fired())
		assert.Equal(t, pgcmd.NotApplied, pgcmd.EffectOf(err), "%s: %v", sql, err)
		assert.Equal(t, pgcmd.CodeUnavailable, pgcmd.CodeOf(err), sql)
		pool.Pool.Close()
		require.NoError(t, proxy.Close())
	}
}
