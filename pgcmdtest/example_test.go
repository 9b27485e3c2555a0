package pgcmdtest_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/pgcmd/pgcmd"
	"github.com/pgcmd/pgcmd/pgcmdtest"
)

// A server of its own is for tests that stop it or need other settings; [pgcmdtest.Pool] is for all others.
func ExampleStart() {
	ctx := context.Background()
	server, err := pgcmdtest.Start(ctx, pgcmdtest.WithSetting("max_connections", "20"))
	if err != nil {
		log.Fatal(err)
	}
	defer server.Close()

	address, err := server.Database(ctx, `create table users (id bigint primary key); insert into users values (7)`)
	if err != nil {
		log.Fatal(err)
	}
	if err := server.Restart(ctx, pgcmdtest.Immediate); err != nil {
		log.Fatal(err)
	}

	conn, err := pgx.Connect(ctx, address)
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close(ctx)
	var id int64
	if err := conn.QueryRow(ctx, `select id from users`).Scan(&id); err != nil {
		log.Fatal(err)
	}
	fmt.Println("kept over a crash:", id)
	// Output: kept over a crash: 7
}

// A standby lags, catches up, and takes over from its primary.
func ExampleServer_Standby() {
	ctx := context.Background()
	primary, err := pgcmdtest.Start(ctx)
	if err != nil {
		log.Fatal(err)
	}
	defer primary.Close()
	standby, err := primary.Standby(ctx)
	if err != nil {
		log.Fatal(err)
	}
	defer standby.Close()

	if err := standby.CatchUp(ctx); err != nil {
		log.Fatal(err)
	}
	if err := standby.PauseReplay(ctx); err != nil { // it lags
		log.Fatal(err)
	}
	address, err := primary.Database(ctx, `create table users (id bigint primary key); insert into users values (7)`)
	if err != nil {
		log.Fatal(err)
	}
	if err := standby.ResumeReplay(ctx); err != nil {
		log.Fatal(err)
	}
	if err := standby.CatchUp(ctx); err != nil { // it does not lag any more
		log.Fatal(err)
	}
	if err := primary.Stop(ctx, pgcmdtest.Immediate); err != nil {
		log.Fatal(err)
	}
	if err := standby.Promote(ctx); err != nil {
		log.Fatal(err)
	}

	address, err = standby.URLOf(address)
	if err != nil {
		log.Fatal(err)
	}
	conn, err := pgx.Connect(ctx, address)
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close(ctx)
	var id int64
	if err := conn.QueryRow(ctx, `insert into users select id + 1 from users returning id`).Scan(&id); err != nil {
		log.Fatal(err)
	}
	fmt.Println("written on the standby that took over:", id)
	// Output: written on the standby that took over: 8
}

func ExamplePgBouncer() {
	ctx := context.Background()
	server, err := pgcmdtest.Start(ctx)
	if err != nil {
		log.Fatal(err)
	}
	defer server.Close()
	bouncer, err := pgcmdtest.PgBouncer(ctx, server.URL(), pgcmdtest.WithSetting("default_pool_size", "2"))
	if err != nil {
		log.Fatal(err)
	}
	defer bouncer.Close()

	config, err := pgx.ParseConfig(bouncer.URL())
	if err != nil {
		log.Fatal(err)
	}
	config.DefaultQueryExecMode = pgx.QueryExecModeExec // a prepared statement would stay behind in a session
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close(ctx)
	var sum int
	if err := conn.QueryRow(ctx, `select $1::int + 1`, 6).Scan(&sum); err != nil {
		log.Fatal(err)
	}
	fmt.Println("through PgBouncer:", sum)
	// Output: through PgBouncer: 7
}

// In a test it is one line, pgcmdtest.Verify(t, commands...): each finding fails the test. Here they are printed.
func ExampleVerify() {
	ctx := context.Background()
	server, err := pgcmdtest.Start(ctx)
	if err != nil {
		log.Fatal(err)
	}
	defer server.Close()
	address, err := server.Database(ctx, `create table seats (row int not null, name text)`)
	if err != nil {
		log.Fatal(err)
	}
	if err := os.Setenv("DATABASE_URL", address); err != nil {
		log.Fatal(err)
	}
	defer os.Unsetenv("DATABASE_URL")

	t := printer{}
	pgcmdtest.Verify(t,
		pgcmd.Query[struct{}, *string]("seats.list", `select name from seats`),
		pgcmd.Query[struct{}, string]("seats.names", `select name from seats`),
		pgcmd.Exec[int64]("seats.add", `insert into seats (row) values ($1)`))
	// Output:
	// seats.names: row (string) cannot hold NULL, and column "name" of table seats may be NULL: make it *string, use coalesce, or exclude NULL by a condition
	// seats.add: input (int64) holds more than $1 (int4): make it int32, or widen the column
}

// printer is a test that prints what it is told.
type printer struct{ testing.TB }

func (printer) Helper()                           {}
func (printer) Context() context.Context          { return context.Background() }
func (printer) Logf(format string, args ...any)   { fmt.Printf(format+"\n", args...) }
func (printer) Errorf(format string, args ...any) { fmt.Printf(format+"\n", args...) }
func (printer) Fatalf(format string, args ...any) { log.Fatalf(format, args...) }
func (printer) Fatal(args ...any)                 { log.Fatal(args...) }
