// Connect shows how a service connects: the settings and how they are refused, what
// can be logged of them, the health handler, and what errors look like, on a
// PostgreSQL that it starts for itself.
//
//	go run ./examples/connect
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/signal"
	"strings"
	"time"

	"github.com/pgcmd/pgcmd"
	"github.com/pgcmd/pgcmd/pgcmdtest"
	"github.com/pgcmd/pgcmd/pgcmdweb"
)

const schema = `create table users (id bigint generated always as identity primary key,
	email text not null constraint users_email_key unique)`

var ErrEmailTaken = errors.New("email is already registered")

type CreateUser struct {
	Email string `validate:"required,email"`
}

var (
	createUser = pgcmd.QueryOne[CreateUser, int64]("users.create", `insert into users (email) values (@email) returning id`).
			With(pgcmd.Options{OnConstraint: map[string]error{"users_email_key": ErrEmailTaken}})
	slow = pgcmd.Exec[struct{}]("reports.slow", `select pg_sleep(60)`)
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "connect:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, out io.Writer) error {
	server, err := pgcmdtest.Start(ctx)
	if err != nil {
		return err
	}
	defer server.Close()
	url, err := server.Database(ctx, schema)
	if err != nil {
		return err
	}
	cfg := pgcmd.Config{
		URL:             url, // of a service: os.Getenv("DATABASE_URL")
		Password:        "a secret",
		ApplicationName: "shop",

		MaxConns: 8,
		MinConns: 2, // there before the first request comes

		AcquireTimeout:   time.Second,
		StatementTimeout: 250 * time.Millisecond,
		LockTimeout:      200 * time.Millisecond,
		IdleInTxTimeout:  10 * time.Second,
	}
	fmt.Fprintf(out, "the settings, as a log shows them: %+v\n", cfg)
	if err := refusals(ctx, out, cfg); err != nil {
		return err
	}

	pool, err := pgcmd.Connect(ctx, cfg)
	if err != nil {
		return err
	}
	defer pool.Close(ctx)
	if err := failures(ctx, out, pool); err != nil {
		return err
	}

	// For a readiness probe: mux.Handle("/ready", pgcmdweb.HealthHandler(pool))
	ready := httptest.NewRecorder()
	pgcmdweb.HealthHandler(pool).ServeHTTP(ready, httptest.NewRequest(http.MethodGet, "/ready", nil))
	fmt.Fprintf(out, "GET /ready: %d %s\n", ready.Code, strings.TrimSpace(ready.Body.String()))
	if err := server.Stop(ctx, pgcmdtest.Fast); err != nil {
		return err
	}
	h := pool.Health(ctx)
	fmt.Fprintf(out, "the server is stopped: %s, %s\n", h.Status, h.Reason)
	return nil
}

// refusals shows settings that are wrong: all at once, and what to do about them.
func refusals(ctx context.Context, out io.Writer, cfg pgcmd.Config) error {
	wrong := cfg
	wrong.URL, wrong.MinConns, wrong.LockTimeout = "postgres://shop:hunter2@db.example.com/shop?sslmode=disable", 9, -1
	_, err := pgcmd.Connect(ctx, wrong)
	e, ok := errors.AsType[*pgcmd.Error](err)
	if !ok {
		return fmt.Errorf("wrong settings were taken: %w", err)
	}
	fmt.Fprintf(out, "wrong settings: %s\n", e.Code)
	for _, p := range e.Problems {
		fmt.Fprintf(out, "  %s %s\n", p.Field, p.Message)
	}
	_, err = pgcmd.Connect(ctx, pgcmd.Config{URL: "postgres://127.0.0.1:1/shop", ConnectTimeout: time.Second})
	fmt.Fprintf(out, "nobody there:\n  %v\n", err)
	return nil
}

// failures shows what a caller gets.
func failures(ctx context.Context, out io.Writer, pool *pgcmd.Pool) error {
	for range 2 {
		id, err := createUser.Run(ctx, pool, CreateUser{"ada@example.com"})
		switch {
		case errors.Is(err, ErrEmailTaken):
			fmt.Fprintf(out, "a domain error: %v\n", err)
		case err != nil:
			return err
		default:
			fmt.Fprintf(out, "user %d was created\n", id)
		}
	}
	_, err := createUser.Run(ctx, pool, CreateUser{"not an address"})
	fmt.Fprintf(out, "a refused input: %v\n", err)
	_, err = slow.Run(ctx, pool, struct{}{})
	fmt.Fprintf(out, "the server's StatementTimeout: %v\n", err)
	short, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancel()
	_, err = slow.Run(short, pool, struct{}{})
	fmt.Fprintf(out, "the caller's deadline: code %s, effect %s, errors.Is(err, context.DeadlineExceeded) = %v\n",
		pgcmd.CodeOf(err), pgcmd.EffectOf(err), errors.Is(err, context.DeadlineExceeded))
	return nil
}
