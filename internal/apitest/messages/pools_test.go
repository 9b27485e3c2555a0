package messages_test

import (
	"context"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/pgcmd/pgcmd"
	"github.com/pgcmd/pgcmd/pgcmdtest"
)

// pools are errors of settings, connections and pools.
func pools(p *page) {
	ctx := p.t.Context()
	address := pgcmdtest.URL(p.t, usersDDL)
	connecting := func(c pgcmd.Config) error {
		ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
		defer cancel()
		pool, err := pgcmd.Connect(ctx, c)
		if err == nil {
			_ = pool.Close(ctx)
		}
		return err
	}
	at := func(change func(u *url.URL)) pgcmd.Config {
		u, err := url.Parse(address)
		require.NoError(p.t, err)
		change(u)
		return pgcmd.Config{URL: u.String(), AllowInsecure: true, MinConns: 1, MaxConns: 1}
	}
	query := func(key, value string) func(u *url.URL) {
		return func(u *url.URL) {
			q := u.Query()
			q.Set(key, value)
			u.RawQuery = q.Encode()
		}
	}
	p.heading("Settings")
	var noContext context.Context
	p.fails(
		errOf(pgcmd.Connect(noContext, pgcmd.Config{})),
		connecting(pgcmd.Config{}),
		connecting(pgcmd.Config{URL: address, Host: "db.example.com"}),
		connecting(pgcmd.Config{Host: "a host"}),
		connecting(pgcmd.Config{URL: "postgres://%"}),
		connecting(pgcmd.Config{URL: "postgres://db.example.com/shop?sslmode=disable"}),
		connecting(pgcmd.Config{URL: address, MaxConns: -1}),
		connecting(pgcmd.Config{URL: address, MaxConns: 1, MinConns: 2}),
		connecting(pgcmd.Config{URL: address, LockTimeout: time.Microsecond}),
		connecting(pgcmd.Config{URL: address, PgBouncer: true, LockTimeout: time.Second, Multiplex: 1, Replicas: []string{address}}),
		connecting(pgcmd.Config{URL: address, Types: []string{""}}),
		connecting(pgcmd.Config{URL: address, Types: []string{"mood"}}),
		connecting(pgcmd.Config{URL: address, Middleware: []pgcmd.Middleware{nil}}),
		connecting(pgcmd.Config{URL: address, Multiplex: 1, Pgx: func(c *pgxpool.Config) {
			c.PrepareConn = func(context.Context, *pgx.Conn) (bool, error) { return true, nil }
			c.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeExec
		}}),
		connecting(pgcmd.Config{URL: address, Pgx: func(c *pgxpool.Config) { c.MaxConns = -1 }}),
	)
	p.heading("Connections")
	p.fails(
		connecting(at(func(u *url.URL) { u.Path = "/nowhere" })),
		connecting(at(query("user", "stranger"))),
		connecting(at(func(u *url.URL) { *u = url.URL{Scheme: "postgres", Host: "nowhere.invalid", Path: "/shop"} })),
		connecting(at(func(u *url.URL) { *u = url.URL{Scheme: "postgres", Host: "127.0.0.1:1", Path: "/shop"} })),
		connecting(at(query("nothing", "1"))),
		connecting(pgcmd.Config{URL: address, MinConns: 1, Pgx: func(c *pgxpool.Config) {
			c.AfterConnect = func(context.Context, *pgx.Conn) error { panic("a value") }
		}}),
	)

	p.heading("Pools")
	open := func(c pgcmd.Config) *pgcmd.Pool {
		c.URL = address
		pool, err := pgcmd.Connect(ctx, c)
		require.NoError(p.t, err)
		p.t.Cleanup(func() {
			ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
			defer cancel()
			require.NoError(p.t, pool.Close(ctx))
		})
		return pool
	}
	small := open(pgcmd.Config{MaxConns: 1, AcquireTimeout: 50 * time.Millisecond})
	hold := pgcmd.New("users.hold", func(ctx context.Context, db pgcmd.DB, _ none) (none, error) {
		_, err := db.Exec(ctx, `select 1`)
		p.fails(errOf(list.Run(pgcmd.OutsideTx(ctx), small, none{})))
		p.line(small.Health(ctx).Reason)
		late, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
		defer cancel()
		_ = late
		return none{}, err
	}).With(pgcmd.Options{InTx: true})
	require.NoError(p.t, errOf(hold.Run(ctx, small, none{})))

	closing, err := pgcmd.Connect(ctx, pgcmd.Config{URL: address, MaxConns: 1, Multiplex: 1})
	require.NoError(p.t, err)
	keep := pgcmd.New("users.hold", func(ctx context.Context, db pgcmd.DB, _ none) (none, error) {
		_, err := db.Exec(ctx, `select 1`)
		late, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
		defer cancel()
		p.fails(closing.Close(late))
		return none{}, err
	}).With(pgcmd.Options{InTx: true})
	require.NoError(p.t, errOf(keep.Run(ctx, closing, none{})))
	require.NoError(p.t, closing.Close(ctx))
	p.fails(errOf(list.Run(ctx, closing, none{})))

	p.fails(connecting(pgcmd.Config{URL: address, Multiplex: 1, Pgx: func(c *pgxpool.Config) {
		c.AfterConnect = func(ctx context.Context, conn *pgx.Conn) error { _, err := conn.Exec(ctx, `begin`); return err }
	}}))

	p.fails(errOf(list.Run(ctx, open(pgcmd.Config{Pgx: func(c *pgxpool.Config) {
		c.ConnConfig.DefaultQueryExecMode, c.ConnConfig.DescriptionCacheCapacity = pgx.QueryExecModeCacheDescribe, 0
	}}), none{})))

	p.heading("Settings of the caller")
	set := func(settings ...pgcmd.Setting) error {
		pool := open(pgcmd.Config{Settings: func(context.Context) ([]pgcmd.Setting, error) { return settings, nil }})
		return errOf(list.Run(ctx, pool, none{}))
	}
	var nested *pgcmd.Pool
	nested = open(pgcmd.Config{Settings: func(ctx context.Context) ([]pgcmd.Setting, error) {
		_, err := list.Run(ctx, nested, none{})
		return nil, err
	}})
	p.fails(
		set(pgcmd.Setting{Name: "a tenant"}),
		set(pgcmd.Setting{Name: "app.tenant", Value: "\x00"}),
		set(pgcmd.Setting{Name: "tenant", Value: "7"}),
		set(pgcmd.Setting{Name: "work_mem", Value: "much"}),
		set(pgcmd.Setting{Name: "port", Value: "1"}),
		errOf(list.Run(ctx, nested, none{})),
		connecting(pgcmd.Config{URL: address, Settings: func(context.Context) ([]pgcmd.Setting, error) { return nil, nil },
			Pgx: func(c *pgxpool.Config) { c.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeSimpleProtocol }}),
	)

	raw, err := pgxpool.New(ctx, address)
	require.NoError(p.t, err)
	raw.Close()
	p.fails(errOf(list.Run(ctx, raw, none{})))
}

// nobody is a pool of a role that may connect, and nothing else. Its name is reader in the messages.
func nobody(p *page, pool *pgxpool.Pool) *pgxpool.Pool {
	ctx := p.t.Context()
	config := pool.Config()
	role := "reader_" + strings.TrimPrefix(config.ConnConfig.Database, "pgcmdtest_")
	_, err := pool.Exec(ctx, fmt.Sprintf(`create role %s login`, role))
	require.NoError(p.t, err)
	p.t.Cleanup(func() { _, _ = pool.Exec(context.Background(), `drop owned by `+role+`; drop role `+role) })
	config.ConnConfig.User = role
	theirs, err := pgxpool.NewWithConfig(ctx, config)
	require.NoError(p.t, err)
	p.t.Cleanup(theirs.Close)
	p.roles = append(p.roles, role)
	return theirs
}
