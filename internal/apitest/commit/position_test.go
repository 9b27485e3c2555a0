package commit_test

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/pgcmd/pgcmd"
	"github.com/pgcmd/pgcmd/pgcmdtest"
)

// The column that does not exist is at 8 in each of these.
const wrong = "select nothing"

// positions are ways to send the first statement of a transaction.
var positions = map[string]func(ctx context.Context, tx *pgcmd.Tx) error{
	"Exec without arguments": func(ctx context.Context, tx *pgcmd.Tx) error {
		_, err := tx.Exec(ctx, wrong)
		return err
	},
	"Exec with an argument": func(ctx context.Context, tx *pgcmd.Tx) error {
		_, err := tx.Exec(ctx, wrong+" where $1 = 1", 1)
		return err
	},
	"Exec with a named argument": func(ctx context.Context, tx *pgcmd.Tx) error {
		_, err := tx.Exec(ctx, wrong+" where @one = 1", pgx.NamedArgs{"one": 1})
		return err
	},
	"Query": func(ctx context.Context, tx *pgcmd.Tx) error {
		rows, err := tx.Query(ctx, wrong)
		if err == nil {
			rows.Close()
			err = rows.Err()
		}
		return err
	},
	"QueryRow": func(ctx context.Context, tx *pgcmd.Tx) error { return tx.QueryRow(ctx, wrong).Scan(nil) },
	"SendBatch": func(ctx context.Context, tx *pgcmd.Tx) error {
		b := &pgx.Batch{}
		b.Queue(wrong)
		return tx.SendBatch(ctx, b).Close()
	},
	"a command": func(ctx context.Context, tx *pgcmd.Tx) error {
		_, err := pgcmd.Exec[struct{ One int }]("wrong", wrong+" where @one = 1").Run(ctx, tx, struct{ One int }{1})
		return err
	},
	"a command in a Try": func(ctx context.Context, tx *pgcmd.Tx) error {
		return pgcmd.Try(ctx, tx, pgcmd.Exec[struct{}]("wrong", wrong), struct{}{}).Err
	},
	"Exec in a nested Tx": func(ctx context.Context, tx *pgcmd.Tx) error {
		return pgx.BeginFunc(ctx, tx, func(tx pgx.Tx) error {
			_, err := tx.Exec(ctx, wrong)
			return err
		})
	},
	"a stream": func(ctx context.Context, tx *pgcmd.Tx) error {
		for _, err := range pgcmd.Stream(ctx, tx, pgcmd.Query[struct{}, int]("wrong", wrong), struct{}{}) {
			return err
		}
		return nil
	},
	"a batch": func(ctx context.Context, tx *pgcmd.Tx) error {
		_, err := pgcmd.Batch(pgcmd.Exec[struct{}]("wrong", wrong), pgcmd.Atomic).Run(ctx, tx, make([]struct{}, 2))
		return err
	},
}

func TestThePositionOfAnErrorCountsInTheCallersOwnSQL(t *testing.T) {
	t.Parallel()
	base := pgcmdtest.Pool(t)
	for _, mode := range []pgx.QueryExecMode{pgx.QueryExecModeCacheStatement, pgx.QueryExecModeCacheDescribe,
		pgx.QueryExecModeDescribeExec, pgx.QueryExecModeExec, pgx.QueryExecModeSimpleProtocol} {
		config := base.Config()
		config.ConnConfig.DefaultQueryExecMode = mode
		pool, err := pgxpool.NewWithConfig(t.Context(), config)
		require.NoError(t, err)
		t.Cleanup(pool.Close)
		for name, way := range positions {
			t.Run(mode.String()+"/"+name, func(t *testing.T) {
				first := pgcmd.Transaction("first", func(ctx context.Context, tx *pgcmd.Tx, _ struct{}) (any, error) { return nil, way(ctx, tx) })
				later := pgcmd.Transaction("later", func(ctx context.Context, tx *pgcmd.Tx, _ struct{}) (any, error) {
					if _, err := tx.Exec(ctx, "select 1"); err != nil {
						return nil, err
					}
					return nil, way(ctx, tx)
				})
				for _, c := range []*pgcmd.Command[struct{}, any]{first, later, first.With(pgcmd.Options{Timeout: time.Minute})} {
					_, err := c.Run(t.Context(), pool, struct{}{})
					var refused *pgconn.PgError
					require.ErrorAs(t, err, &refused)
					require.Equal(t, "42703", refused.Code)
					require.Equal(t, int32(8), refused.Position)
				}
			})
		}
	}
}

func TestThePositionOfAnErrorInAFirstTextIsThatOfTheTextAlone(t *testing.T) {
	t.Parallel()
	pool := pgcmdtest.Pool(t)
	for _, sql := range []string{"seläct 1", "select 1; seläct 1", "select 'ä'; select nothing"} {
		_, err := pool.Exec(t.Context(), sql)
		var alone, first *pgconn.PgError
		require.ErrorAs(t, err, &alone)
		_, err = pgcmd.Transaction("first", func(ctx context.Context, tx *pgcmd.Tx, _ struct{}) (any, error) { return tx.Exec(ctx, sql) }).Run(t.Context(), pool, struct{}{})
		require.ErrorAs(t, err, &first)
		require.Equal(t, alone.Position, first.Position, sql)
	}
}
