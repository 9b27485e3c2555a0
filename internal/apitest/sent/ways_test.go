// Package sent_test holds what becomes of values that are sent: the same by every way.
package sent_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgcmd/pgcmd"
	"github.com/pgcmd/pgcmd/pgcmdtest"
)

type none = struct{}

// holding is an input, and a row of a Copy, with one value.
type holding[T any] struct {
	V T `json:"v"`
}

// A way sends the values into the table h (v), one after the other where it cannot send
// them together. Of the values only the last may be refused.
type way[T any] func(ctx context.Context, values ...T) error

// server is a database, and its pools of one connection each, for what a connection
// remembers to be there for the next value.
type server struct {
	t     *testing.T
	url   string
	pools map[pgx.QueryExecMode]*pgxpool.Pool
	pool  *pgxpool.Pool // in pgx's usual mode
	table string        // with the one column v
	types []string      // loaded on every connection
}

func database(t *testing.T, ddl string, types ...string) *server {
	t.Helper()
	s := &server{t: t, url: pgcmdtest.URL(t, ddl), types: types, pools: map[pgx.QueryExecMode]*pgxpool.Pool{}}
	for mode := pgx.QueryExecModeCacheStatement; mode <= pgx.QueryExecModeSimpleProtocol; mode++ {
		s.connect(mode)
	}
	s.pool = s.pools[pgx.QueryExecModeCacheStatement]
	return s
}

// column makes a new table for values of a type.
func (s *server) column(t *testing.T, typ string) *server {
	t.Helper()
	made := *s
	made.t, made.table = t, fmt.Sprintf("h%d", tables.Add(1))
	_, err := s.pool.Exec(t.Context(), `create table `+made.table+` (v `+typ+`)`)
	require.NoError(t, err)
	return &made
}

var tables atomic.Int64

func (s *server) connect(mode pgx.QueryExecMode) *pgxpool.Pool {
	s.t.Helper()
	if s.pools[mode] != nil {
		return s.pools[mode]
	}
	cfg, err := pgxpool.ParseConfig(s.url)
	require.NoError(s.t, err)
	cfg.MaxConns = 1
	cfg.ConnConfig.DefaultQueryExecMode = mode
	cfg.ConnConfig.RuntimeParams["timezone"] = "UTC"
	cfg.AfterConnect = func(ctx context.Context, conn *pgx.Conn) error {
		if len(s.types) == 0 {
			return nil
		}
		types, err := conn.LoadTypes(ctx, s.types)
		conn.TypeMap().RegisterTypes(types)
		return err
	}
	pool, err := pgxpool.NewWithConfig(context.Background(), cfg)
	require.NoError(s.t, err)
	s.t.Cleanup(pool.Close)
	s.pools[mode] = pool
	return pool
}

// stored returns the texts in the table, and empties it.
func (s *server) stored() []string {
	s.t.Helper()
	rows, err := s.pool.Query(context.Background(), `delete from `+s.table+` returning coalesce(v::text, 'NULL')`)
	require.NoError(s.t, err)
	texts, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(s.t, err)
	return texts
}

// ways are all that send parameters and rows. Those of pgx's modes that are not told the
// type of a parameter are apart: blind.
func ways[T any](s *server) (told, blind map[string]way[T]) {
	sql := `insert into ` + s.table + ` values (@v)`
	exec := pgcmd.Exec[holding[T]]("h.exec", sql)
	each := func(run func(ctx context.Context, v T) error) way[T] {
		return func(ctx context.Context, values ...T) error {
			for i, v := range values {
				if err := run(ctx, v); err != nil {
					if i < len(values)-1 {
						return fmt.Errorf("value %d was refused: %w", i, err)
					}
					return err
				}
			}
			return nil
		}
	}
	on := func(db func() pgcmd.DB) way[T] {
		return each(func(ctx context.Context, v T) error {
			_, err := exec.Run(ctx, db(), holding[T]{v})
			return err
		})
	}
	pool := func(p *pgxpool.Pool) way[T] { return on(func() pgcmd.DB { return p }) }
	inputs := func(values []T) (in []holding[T]) {
		for _, v := range values {
			in = append(in, holding[T]{v})
		}
		return in
	}
	batch := func(mode pgcmd.BatchMode) way[T] {
		b := pgcmd.Batch(exec, mode)
		return func(ctx context.Context, values ...T) error {
			result, err := b.Run(ctx, s.pool, inputs(values))
			for _, o := range result.Outcomes { // the item's own
				if o.Err != nil && !errors.Is(o.Err, pgcmd.ErrSkipped) {
					return o.Err
				}
			}
			return err
		}
	}
	copied := pgcmd.Copy[holding[T]]("h.copy", pgx.Identifier{s.table})
	all := pgcmd.Query[holding[T], string]("h.all", sql+` returning coalesce(v::text, '')`)
	inTx := func(ctx context.Context, run func(ctx context.Context, tx *pgcmd.Tx) error) error {
		_, err := pgcmd.Transaction("h.tx", func(ctx context.Context, tx *pgcmd.Tx, _ none) (none, error) {
			return none{}, run(ctx, tx)
		}).Run(ctx, s.pool, none{})
		return err
	}
	told = map[string]way[T]{
		"Exec on a pool":     pool(s.pool),
		"CacheDescribe":      pool(s.connect(pgx.QueryExecModeCacheDescribe)),
		"DescribeExec":       pool(s.connect(pgx.QueryExecModeDescribeExec)),
		"Batch, Atomic":      batch(pgcmd.Atomic),
		"Batch, Isolated":    batch(pgcmd.Isolated),
		"Batch, Independent": batch(pgcmd.Independent),
		"Batch, Sequential":  batch(pgcmd.Sequential),
		"a Transaction": each(func(ctx context.Context, v T) error {
			return inTx(ctx, func(ctx context.Context, tx *pgcmd.Tx) error { _, err := exec.Run(ctx, tx, holding[T]{v}); return err })
		}),
		"Query, InTx": each(func(ctx context.Context, v T) error {
			_, err := all.With(pgcmd.Options{InTx: true}).Run(ctx, s.pool, holding[T]{v})
			return err
		}),
		"Stream": each(func(ctx context.Context, v T) error { return last(pgcmd.Stream(ctx, s.pool, all, holding[T]{v})) }),
		"Copy": func(ctx context.Context, values ...T) error {
			_, err := copied.Run(ctx, s.pool, pgcmd.Rows(inputs(values)))
			return err
		},
		"Copy behind a mode": func(ctx context.Context, values ...T) error {
			_, err := copied.Run(ctx, s.connect(pgx.QueryExecModeSimpleProtocol), pgcmd.Rows(inputs(values)))
			return err
		},
		"AdHoc": each(func(ctx context.Context, v T) error {
			_, err := pgcmd.AdHoc.Run(ctx, s.pool, pgcmd.AdHocQuery{SQL: sql, Args: map[string]any{"v": v}})
			return err
		}),
		"a pgx.Tx": each(func(ctx context.Context, v T) error {
			return pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error { _, err := exec.Run(ctx, tx, holding[T]{v}); return err })
		}),
		"Stream in a Transaction": each(func(ctx context.Context, v T) error {
			return inTx(ctx, func(ctx context.Context, tx *pgcmd.Tx) error { return last(pgcmd.Stream(ctx, tx, all, holding[T]{v})) })
		}),
	}
	for _, mode := range []pgcmd.BatchMode{pgcmd.Atomic, pgcmd.Independent} {
		told["Pipeline, "+mode.String()] = func(ctx context.Context, values ...T) error {
			var p pgcmd.Pipeline
			for _, v := range values {
				pgcmd.Queue(&p, exec, holding[T]{v})
			}
			return p.Run(ctx, s.pool, mode)
		}
	}
	blind = map[string]way[T]{
		"Exec mode":       pool(s.connect(pgx.QueryExecModeExec)),
		"simple protocol": pool(s.connect(pgx.QueryExecModeSimpleProtocol)),
	}
	return told, blind
}

func last[Row any](rows iter.Seq2[Row, error]) (err error) {
	for _, err = range rows {
	}
	return err
}

// stores asserts that every way stores the values as these texts.
func stores[T any](t *testing.T, s *server, values []T, want ...string) {
	t.Helper()
	told, _ := ways[T](s)
	for _, name := range slices.Sorted(maps.Keys(told)) {
		assert.NoError(t, told[name](t.Context(), values...), name)
		assert.Equal(t, want, s.stored(), name)
	}
}

// refuses asserts that every way refuses the last value before anything of it is sent, and
// that nothing of it is there.
func refuses[T any](t *testing.T, s *server, values []T, code pgcmd.Code, says ...string) {
	t.Helper()
	told, _ := ways[T](s)
	for _, name := range slices.Sorted(maps.Keys(told)) {
		refused(t, name, told[name](t.Context(), values...), code, says...)
		assert.LessOrEqual(t, len(s.stored()), len(values)-1, name)
	}
}

func refused(t *testing.T, name string, err error, code pgcmd.Code, says ...string) {
	t.Helper()
	e, ok := err.(*pgcmd.Error)
	if !assert.Truef(t, ok, "%s: %T %v", name, err, err) {
		return
	}
	assert.Equal(t, code, e.Code, "%s: %v", name, e)
	assert.Equal(t, pgcmd.NotApplied, e.Effect, "%s: %v", name, e)
	assert.Empty(t, e.SQLState, "%s: %v: the server was asked", name, e)
	for _, text := range says {
		assert.Contains(t, strings.ReplaceAll(e.Error(), "Args.v ", "V "), text, name)
	}
}

// catalog runs the JSON through a Catalog.
func catalog[T any](t *testing.T, s *server, input string) error {
	t.Helper()
	c := pgcmd.NewCatalog(pgcmd.Exec[holding[T]]("h.exec", `insert into `+s.table+` values (@v)`))
	_, err := c.Run(t.Context(), s.pool, "h.exec", json.RawMessage(input))
	return err
}
