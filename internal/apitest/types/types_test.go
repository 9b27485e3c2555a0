// Package types_test tests the types of a database that Config.Types loads.
package types_test

import (
	"context"
	"encoding/json"
	"iter"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgcmd/pgcmd"
	"github.com/pgcmd/pgcmd/pgcmdtest"
)

const schema = `
create extension citext; create extension hstore; create extension ltree;
create schema app;
create type mood as enum ('sad', 'ok', 'happy');
create domain cents as int8 check (value >= 0);
create domain app.email as citext;
create type point3 as (x float8, y float8, z float8);
create type item as (name text, price cents, moods mood[]);
create domain positive_item as item check ((value).price > 0);
create type bill as (number int4, lines item[], first positive_item, mail app.email);
create type mood_range as range (subtype = mood);
create type price_range as range (subtype = cents);
create table orders (
	id int4 not null, mood mood, moods mood[], price cents, prices cents[], mail app.email, mails app.email[], at point3, path point3[],
	bill bill, bills bill[], between mood_range, betweens mood_range[], band price_range, tags hstore, label ltree, labels ltree[])`

type (
	mood   string
	point3 struct{ X, Y, Z float64 }
	item   struct {
		Name  string
		Price int64
		Moods []mood
	}
	bill struct {
		Number int32
		Lines  []item
		First  *item
		Mail   *string
	}
	order struct {
		ID       int32
		Mood     *mood
		Moods    []mood
		Price    *int64
		Prices   []int64
		Mail     *string
		Mails    []string
		At       *point3
		Path     []point3
		Bill     *bill
		Bills    []bill
		Between  pgtype.Range[mood]
		Betweens []pgtype.Range[mood]
		Band     pgtype.Range[pgtype.Int8]
		Tags     pgtype.Hstore
		Label    *string
		Labels   []string
	}
)

const columns = `id, mood, moods, price, prices, mail, mails, at, path, bill, bills, "between", betweens, band, tags, label, labels`

const values = `@id, @mood, @moods, @price, @prices, @mail, @mails, @at, @path, @bill, @bills, @between, @betweens, @band, @tags, @label, @labels`

var (
	add         = pgcmd.Exec[order]("orders.add", `insert into orders (`+columns+`) values (`+values+`)`)
	echo        = pgcmd.QueryOne[order, order]("orders.echo", `insert into orders (`+columns+`) values (`+values+`) returning `+columns)
	list        = pgcmd.Query[struct{}, order]("orders.list", `select `+columns+` from orders order by id`)
	read        = list.With(pgcmd.Options{ReadOnly: true})
	clearOrders = pgcmd.Exec[struct{}]("orders.clear", `delete from orders`)
	importer    = pgcmd.Copy[order]("orders.import", pgx.Identifier{"orders"})
)

// every are the types that the schema needs, in no order.
var every = []string{"bill", "price_range", "mood_range[]", "app.email", "_mood", "hstore", "ltree", "positive_item", "orders"}

func of[T any](v T) *T { return &v }

func full() order {
	anItem := item{"book", 1250, []mood{"ok", "sad"}}
	aBill := bill{7, []item{anItem, {"pen", 0, []mood{}}}, &anItem, of("ada@example.com")}
	ranged := pgtype.Range[mood]{Lower: "sad", Upper: "happy", LowerType: pgtype.Inclusive, UpperType: pgtype.Exclusive, Valid: true}
	return order{1, of(mood("happy")), []mood{"sad", "ok"}, of(int64(99)), []int64{1, 2}, of("Ada@example.com"), []string{"a@b", "c@d"},
		&point3{1, 2, 3}, []point3{{1, 2, 3}, {4, 5, 6}}, &aBill, []bill{aBill}, ranged, []pgtype.Range[mood]{ranged},
		pgtype.Range[pgtype.Int8]{Lower: pgtype.Int8{Int64: 1, Valid: true}, Upper: pgtype.Int8{Int64: 5, Valid: true}, LowerType: pgtype.Inclusive, UpperType: pgtype.Exclusive, Valid: true},
		pgtype.Hstore{"a": of("1"), "b": nil}, of("top.science"), []string{"top", "top.arts"}}
}

func rows(all ...order) iter.Seq2[order, error] {
	return func(yield func(order, error) bool) {
		for _, o := range all {
			if !yield(o, nil) {
				return
			}
		}
	}
}

func one(t *testing.T, all []order, err error) order {
	t.Helper()
	require.NoError(t, err)
	require.Len(t, all, 1)
	return all[0]
}

func TestEveryWayTakesAndReadsLoadedTypes(t *testing.T) {
	t.Parallel()
	for name, cfg := range map[string]pgcmd.Config{
		"own connections":         {},
		"shared connections":      {Multiplex: 1},
		"described each":          {Pgx: mode(pgx.QueryExecModeDescribeExec)},
		"cache described":         {PgBouncer: true},
		"untold: exec":            {Pgx: mode(pgx.QueryExecModeExec)},
		"untold: simple protocol": {Pgx: mode(pgx.QueryExecModeSimpleProtocol)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx := t.Context()
			cfg.Types, cfg.MaxConns = every, 2
			pool := pgcmdtest.Connect(t, cfg, schema)
			want := full()
			for way, run := range map[string]func(ctx context.Context, db pgcmd.DB) error{
				"Exec": func(ctx context.Context, db pgcmd.DB) error { _, err := add.Run(ctx, db, want); return err },
				"QueryOne": func(ctx context.Context, db pgcmd.DB) error {
					got, err := echo.Run(ctx, db, want)
					if err == nil {
						assert.Equal(t, want, got)
					}
					return err
				},
				"Batch": func(ctx context.Context, db pgcmd.DB) error {
					result, err := pgcmd.Batch(add, pgcmd.Atomic).Run(ctx, db, []order{want})
					if err == nil {
						err = result.Err()
					}
					return err
				},
				"Copy": func(ctx context.Context, db pgcmd.DB) error { _, err := importer.Run(ctx, db, rows(want)); return err },
				"Catalog": func(ctx context.Context, db pgcmd.DB) error {
					in, err := json.Marshal(want)
					require.NoError(t, err)
					out, err := pgcmd.NewCatalog(echo).Run(ctx, db, "orders.echo", in)
					if err == nil {
						var got order
						require.NoError(t, json.Unmarshal(out, &got))
						assert.Equal(t, want, got)
					}
					return err
				},
			} {
				if strings.HasPrefix(name, "untold") && way != "Batch" && way != "Copy" { // which describe
					err := run(ctx, pool)
					assert.ErrorContains(t, err, "cannot be sent where pgx is not told the type of its parameter", way)
					continue
				}
				_, err := clearOrders.Run(ctx, pool, struct{}{})
				require.NoError(t, err)
				require.NoError(t, run(ctx, pool), way)
				all, err := list.Run(ctx, pool, struct{}{})
				assert.Equal(t, want, one(t, all, err), way)
				all, err = read.Run(ctx, pool, struct{}{})
				assert.Equal(t, want, one(t, all, err), way)
				all = nil
				for o, err := range pgcmd.Stream(ctx, pool, list, struct{}{}) {
					require.NoError(t, err)
					all = append(all, o)
				}
				assert.Equal(t, want, one(t, all, nil), way)
			}
			null := order{ID: 2}
			_, err := clearOrders.Run(ctx, pool, struct{}{})
			require.NoError(t, err)
			_, err = importer.Run(ctx, pool, rows(null))
			require.NoError(t, err)
			all, err := list.Run(ctx, pool, struct{}{})
			assert.Equal(t, null, one(t, all, err))
			if cfg.Multiplex > 0 {
				assert.NotZero(t, pool.Metrics().Pool.Shared.Reads, "loaded types may be shared")
			}
		})
	}
}

func mode(m pgx.QueryExecMode) func(*pgxpool.Config) {
	return func(c *pgxpool.Config) { c.ConnConfig.DefaultQueryExecMode = m }
}

func TestLoadedTypesAreVerified(t *testing.T) {
	t.Parallel()
	pool := pgcmdtest.Connect(t, pgcmd.Config{Types: every}, schema)
	require.NoError(t, pgcmd.Verify(t.Context(), pool, add, echo, list, importer))
}
