package main

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/pgcmd/pgcmd"
	"github.com/pgcmd/pgcmd/bench/internal/sqlcgen"
	"github.com/pgcmd/pgcmd/internal/workload"
)

// maxConns is the size of everybody's pool.
const maxConns = 10

// A peer is a library that a service could be written with, as its documentation advises.
type peer struct {
	name   string
	module string // for its version
	how    string // it is used
	open   func(ctx context.Context, cfg *pgx.ConnConfig) (workload.Store, func(), error)
	// spellings are its own SQL for a work, which the in-process server has to know.
	spellings []string
}

const (
	ours   = "pgcmd"
	pooled = "pgcmd on its Pool"
	sharer = "pgcmd, Multiplex"
	byHand = "pgx by hand"
)

// mains are pgcmd on a pgxpool, pgcmd on the Pool of Connect, which counts and reconnects, and pgx by hand.
func mains() []peer {
	return []peer{
		{name: ours, module: "github.com/pgcmd/pgcmd", how: "commands on a `*pgxpool.Pool`", open: onPgxpool(func(pool *pgxpool.Pool) workload.Store { return workload.Commands{DB: pool} })},
		{name: pooled, module: "github.com/pgcmd/pgcmd", how: "commands on the `*pgcmd.Pool` of `Connect`, which counts, times and reconnects", open: openPool(0)},
		{name: byHand, module: "github.com/jackc/pgx/v5", how: "`Query`, `Scan` and `pgx.Batch` on a `*pgxpool.Pool`; its statement cache prepares", open: onPgxpool(func(pool *pgxpool.Pool) workload.Store { return workload.Hand{DB: pool} })},
	}
}

// sharedConns is how many connections Multiplex shares: docs/multiplex.md recommends two to four.
const sharedConns = 4

// sharing is a Pool that shares connections.
func sharing() peer {
	return peer{name: sharer, module: "github.com/pgcmd/pgcmd", how: fmt.Sprintf("commands on a `*pgcmd.Pool` with `Config.Multiplex` %d", sharedConns), open: openPool(sharedConns)}
}

// onPgxpools are those that have no Pool.
func onPgxpools() []peer {
	m := mains()
	return []peer{m[0], m[2]}
}

func peers() []peer {
	return []peer{
		{name: "pgx's helpers", module: "github.com/jackc/pgx/v5", how: "`CollectRows` with `RowToStructByName`, `NamedArgs`", open: onPgxpool(func(pool *pgxpool.Pool) workload.Store {
			return workload.Helpers{Hand: workload.Hand{DB: pool}}
		})},
		{name: "sqlc", how: "v1.31.1 for pgx v5: `:one`, `:many`, `:exec`, `:batchexec`; its output is in bench/internal/sqlcgen", open: onPgxpool(openSqlc), spellings: sqlcgen.Reads},
		{name: "scany", module: "github.com/georgysavva/scany/v2", how: "`pgxscan.Get` and `Select` on a `*pgxpool.Pool`", open: onPgxpool(func(pool *pgxpool.Pool) workload.Store { return scanyStore{workload.Hand{DB: pool}} })},
		{name: "scan", module: "github.com/stephenafamo/scan", how: "`pgxscan.One` and `All` with a `StructMapper` that is made once", open: onPgxpool(openScan)},
		{name: "database/sql", how: "pgx's stdlib driver, which prepares and caches; a prepared statement in a loop for many rows", open: onSQL(func(db *sql.DB) (workload.Store, error) { return sqlStore{db}, nil })},
		{name: "sqlx", module: "github.com/jmoiron/sqlx", how: "`GetContext`, `SelectContext`, a prepared named statement; `NamedExec` of a slice", open: onSQL(openSQLX)},
		{name: "bun", module: "github.com/uptrace/bun", how: "its query builder, which writes values into the SQL, on pgx's simple protocol", open: openBun, spellings: bunSpellings()},
		{name: "bun, prepared", module: "github.com/uptrace/bun", how: "`PrepareContext` and `ScanRows`; the builder for the rest", open: openBunPrepared},
		{name: "gorm", module: "gorm.io/gorm", how: "`PrepareStmt`, `SkipDefaultTransaction`", open: onSQL(openGorm), spellings: gormSpellings},
	}
}

func onPgxpool(store func(pool *pgxpool.Pool) workload.Store) func(context.Context, *pgx.ConnConfig) (workload.Store, func(), error) {
	return func(ctx context.Context, cfg *pgx.ConnConfig) (workload.Store, func(), error) {
		pool, err := pgxpool.NewWithConfig(ctx, poolConfig(cfg))
		if err != nil {
			return nil, nil, err
		}
		return store(pool), pool.Close, nil
	}
}

// poolConfig is a pool's configuration that leads where cfg does.
func poolConfig(cfg *pgx.ConnConfig) *pgxpool.Config {
	pool, err := pgxpool.ParseConfig("host=replaced")
	if err != nil {
		panic(err)
	}
	pool.ConnConfig = cfg.Copy()
	pool.MaxConns = maxConns
	return pool
}

// openPool opens a Pool, of which so many connections are shared.
func openPool(multiplex int) func(context.Context, *pgx.ConnConfig) (workload.Store, func(), error) {
	return func(ctx context.Context, cfg *pgx.ConnConfig) (workload.Store, func(), error) {
		pool, err := pgcmd.Connect(ctx, pgcmd.Config{URL: "postgres://replaced/?sslmode=disable", AllowInsecure: true, MaxConns: maxConns,
			Multiplex: multiplex, Pgx: func(c *pgxpool.Config) { c.ConnConfig = cfg.Copy() }})
		if err != nil {
			return nil, nil, err
		}
		return workload.Commands{DB: pool}, func() { _ = pool.Close(context.WithoutCancel(ctx)) }, nil
	}
}

func onSQL(store func(db *sql.DB) (workload.Store, error)) func(context.Context, *pgx.ConnConfig) (workload.Store, func(), error) {
	return func(_ context.Context, cfg *pgx.ConnConfig) (workload.Store, func(), error) {
		db := openSQL(cfg)
		s, err := store(db)
		return s, func() { db.Close() }, err
	}
}

func openSQL(cfg *pgx.ConnConfig) *sql.DB {
	db := stdlib.OpenDB(*cfg.Copy())
	db.SetMaxOpenConns(maxConns)
	db.SetMaxIdleConns(maxConns) // else it would keep two, and connect all the time
	return db
}
