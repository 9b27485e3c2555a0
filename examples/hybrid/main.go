// Hybrid answers whether a hot read should go around pgcmd: it reads the same row by a
// command and by hand, on one pool, and prints what each costs.
//
//	go run ./examples/hybrid
//
// The pool of pgcmd is a *pgxpool.Pool as well, so that code that needs pgx has it: COPY TO,
// LISTEN, or a loop that somebody has tuned.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pgcmd/pgcmd"
	"github.com/pgcmd/pgcmd/pgcmdtest"
)

const schema = `
	create table users (id bigint generated always as identity primary key, email text not null unique, name text not null, age int not null, created_at timestamptz not null default now());
	insert into users (email, name, age) select 'user' || n || '@example.com', 'User ' || n, 18 + n % 60 from generate_series(1, 1000) n;
	analyze users`

type User struct {
	ID        int64
	Email     string
	Name      string
	Age       int32
	CreatedAt time.Time
}

const findSQL = `select id, email, name, age, created_at from users where id = $1`

var findUser = pgcmd.QueryOne[int64, User]("users.find", findSQL)

// findByHand is findUser without pgcmd.
func findByHand(ctx context.Context, pool *pgxpool.Pool, id int64) (u User, err error) {
	err = pool.QueryRow(ctx, findSQL, id).Scan(&u.ID, &u.Email, &u.Name, &u.Age, &u.CreatedAt)
	return u, err
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Stdout, 41, 500); err != nil {
		fmt.Fprintln(os.Stderr, "hybrid:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, out io.Writer, rounds, reads int) error {
	server, err := pgcmdtest.Start(ctx)
	if err != nil {
		return err
	}
	defer server.Close()
	url, err := server.Database(ctx, schema)
	if err != nil {
		return err
	}
	pool, err := pgcmd.Connect(ctx, pgcmd.Config{URL: url})
	if err != nil {
		return err
	}
	defer pool.Close(ctx)
	return measure(ctx, out, pool, rounds, reads)
}

// measure reads in turns by the command and by hand, so that what else the machine does meets
// both, and prints the medians of the rounds.
func measure(ctx context.Context, out io.Writer, pool *pgcmd.Pool, rounds, reads int) error {
	ways := []func(id int64) (User, error){
		func(id int64) (User, error) { return findUser.Run(ctx, pool, id) },
		func(id int64) (User, error) { return findByHand(ctx, pool.Pool, id) },
	}
	took := make([][]time.Duration, len(ways))
	for round := range rounds {
		var users [2]User
		for turn := range ways {
			way := (round + turn) % len(ways) // neither is always the first
			start := time.Now()
			for i := range reads {
				var err error
				if users[way], err = ways[way](int64(i%1000 + 1)); err != nil {
					return err
				}
			}
			took[way] = append(took[way], time.Since(start)/time.Duration(reads))
		}
		if users[0] != users[1] {
			return fmt.Errorf("the command returned %v, and by hand it is %v", users[0], users[1])
		}
	}
	command, hand := median(took[0]), median(took[1])
	fmt.Fprintf(out, "by the command %v a read, by hand %v: %.2f times as long (medians of %d rounds of %d reads)\n",
		command.Round(100*time.Nanosecond), hand.Round(100*time.Nanosecond), float64(command)/float64(hand), rounds, reads)
	return nil
}

func median(d []time.Duration) time.Duration {
	slices.Sort(d)
	return d[len(d)/2]
}
