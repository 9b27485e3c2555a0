// Package read_test reads every type of PostgreSQL by every way to run a command.
package read_test

import (
	"context"
	"errors"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/pgcmd/pgcmd"
	"github.com/pgcmd/pgcmd/pgcmdtest"
)

type none = struct{}

// A server is one database, and the connections to it by which a test reads.
type server struct {
	pool  *pgxpool.Pool
	wide  *pgcmd.Pool                         // with shared connections
	modes map[pgx.QueryExecMode]*pgxpool.Pool // of pgx
}

func serverWith(t *testing.T, ddl ...string) *server {
	t.Helper()
	s := &server{pool: pgcmdtest.Pool(t, ddl...), modes: map[pgx.QueryExecMode]*pgxpool.Pool{}}
	wide, err := pgcmd.Connect(t.Context(), pgcmd.Config{URL: s.pool.Config().ConnString(), MaxConns: 2, Multiplex: 1})
	require.NoError(t, err)
	t.Cleanup(func() { _ = wide.Close(context.Background()) })
	s.wide = wide
	for _, mode := range []pgx.QueryExecMode{pgx.QueryExecModeCacheDescribe, pgx.QueryExecModeDescribeExec, pgx.QueryExecModeExec, pgx.QueryExecModeSimpleProtocol} {
		config := s.pool.Config()
		config.ConnConfig.DefaultQueryExecMode = mode
		config.MaxConns = 2
		pool, err := pgxpool.NewWithConfig(t.Context(), config)
		require.NoError(t, err)
		t.Cleanup(pool.Close)
		s.modes[mode] = pool
	}
	return s
}

// A reading is what one way gave.
type reading[Row any] struct {
	row Row
	err error
}

// read runs a statement of one row in every way that there is to read rows.
func read[Row any](t *testing.T, s *server, sql string) map[string]reading[Row] {
	t.Helper()
	ctx := t.Context()
	one := pgcmd.QueryOne[none, Row]("read.one", sql)
	all := pgcmd.Query[none, Row]("read.all", sql)
	first := func(rows []Row, err error) reading[Row] {
		if err != nil {
			return reading[Row]{err: err}
		}
		require.Len(t, rows, 1)
		return reading[Row]{rows[0], nil}
	}
	single := func(row Row, err error) reading[Row] { return reading[Row]{row, err} }
	stream := func(db pgcmd.DB) reading[Row] {
		var rows []Row
		for row, err := range pgcmd.Stream(ctx, db, all, none{}) {
			if err != nil {
				return reading[Row]{err: err}
			}
			rows = append(rows, row)
		}
		return first(rows, nil)
	}
	ways := map[string]reading[Row]{
		"Query":          first(all.Run(ctx, s.pool, none{})),
		"QueryOne":       single(one.Run(ctx, s.pool, none{})),
		"Stream":         stream(s.pool),
		"a pool of ours": single(one.Run(ctx, s.wide, none{})),
		"Multiplex":      single(one.With(pgcmd.Options{ReadOnly: true}).Run(ctx, s.wide, none{})),
	}
	for _, mode := range []pgcmd.BatchMode{pgcmd.Atomic, pgcmd.Isolated, pgcmd.Independent, pgcmd.Sequential} {
		result, err := pgcmd.Batch(one, mode).Run(ctx, s.pool, []none{{}})
		require.Len(t, result.Outcomes, 1)
		ways["Batch "+mode.String()] = single(result.Outcomes[0].Get())
		require.Equal(t, err != nil, result.Outcomes[0].Err != nil && mode != pgcmd.Isolated && mode != pgcmd.Independent)
	}
	for _, mode := range []pgcmd.BatchMode{pgcmd.Atomic, pgcmd.Independent} {
		var p pgcmd.Pipeline
		r := pgcmd.Queue(&p, all, none{})
		_ = p.Run(ctx, s.pool, mode)
		ways["Pipeline "+mode.String()] = first(r.Get())
	}
	for mode, pool := range s.modes {
		ways[mode.String()] = single(one.Run(ctx, pool, none{}))
	}
	for name, read := range map[string]func(db pgcmd.DB) reading[Row]{
		"in a transaction": func(db pgcmd.DB) reading[Row] { return single(one.Run(ctx, db, none{})) },
		"a cursor":         stream,
		"not first in a transaction": func(db pgcmd.DB) reading[Row] {
			_, err := db.Exec(ctx, "select 1")
			require.NoError(t, err)
			return first(all.Run(ctx, db, none{}))
		},
	} {
		_, _ = pgcmd.Transaction("read.tx", func(ctx context.Context, tx *pgcmd.Tx, _ none) (none, error) {
			ways[name] = read(tx)
			return none{}, ways[name].err
		}).Run(ctx, s.pool, none{})
	}
	tx, err := s.pool.Begin(ctx)
	require.NoError(t, err)
	ways["a transaction of pgx's"] = first(all.Run(ctx, tx, none{}))
	require.NoError(t, tx.Rollback(ctx))
	return ways
}

// failure is the *Error that err must be.
func failure(t testing.TB, err error) *pgcmd.Error {
	t.Helper()
	var e *pgcmd.Error
	require.True(t, errors.As(err, &e), "a %T: %v", err, err)
	return e
}
