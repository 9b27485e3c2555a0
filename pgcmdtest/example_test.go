package pgcmdtest_test

import (
	"context"
	"fmt"
	"log"

	"github.com/jackc/pgx/v5"

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
