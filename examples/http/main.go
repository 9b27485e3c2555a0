// Http is a small service as services are: net/http in front, commands behind. A
// request is decoded into a command's input, the command is run, and what came of it
// becomes a status. It runs on a PostgreSQL that it starts for itself, until Ctrl-C.
//
//	go run ./examples/http
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/pgcmd/pgcmd"
	"github.com/pgcmd/pgcmd/pgcmdtest"
	"github.com/pgcmd/pgcmd/pgcmdweb"
)

func main() {
	address := flag.String("address", "127.0.0.1:0", "where to listen; port 0 is one that is free")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *address, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "http:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, address string, out io.Writer) error {
	database, err := pgcmdtest.Start(ctx) // of a service: there is one
	if err != nil {
		return err
	}
	defer database.Close()
	url, err := database.Database(ctx, schema, pgcmd.OnceSchema)
	if err != nil {
		return err
	}
	pool, err := pgcmd.Connect(ctx, pgcmd.Config{URL: url, MaxConns: 8, AcquireTimeout: 2 * time.Second})
	if err != nil {
		return err
	}
	defer func() { // after the requests that were under way, so that nobody holds a connection
		grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
		defer cancel()
		if err := pool.Close(grace); err != nil {
			fmt.Fprintln(out, err)
		}
	}()
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, `listening on http://%[1]s
  curl -i http://%[1]s/users -d '{"email":"ada@example.com","age":36}'
  curl -i http://%[1]s/users -d '{"email":"ada","age":3}'
  curl -i http://%[1]s/users/ada@example.com
  curl -i http://%[1]s/orders -H 'Idempotency-Key: order-7' -d '{"email":"ada@example.com","cents":500}'
  curl -i http://%[1]s/health
`, listener.Addr())
	return serve(ctx, listener, routes(pool))
}

func routes(pool *pgcmd.Pool) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("POST /users", handle(pool, createUser, http.StatusCreated, body[CreateUser]))
	mux.Handle("GET /users/{email}", handle(pool, findUser, http.StatusOK, func(r *http.Request) (in FindUser, err error) {
		in.Email = r.PathValue("email")
		return in, nil
	}))
	mux.Handle("POST /orders", handle(pool, placeOrder, http.StatusCreated, func(r *http.Request) (PlaceOrder, error) {
		in, err := body[PlaceOrder](r)
		in.Key = r.Header.Get("Idempotency-Key")
		return in, err
	}))
	mux.Handle("GET /health", pgcmdweb.HealthHandler(pool))
	return mux
}

// serve serves until ctx is done, and then lets the requests that are under way end.
func serve(ctx context.Context, listener net.Listener, handler http.Handler) error {
	server := &http.Server{Handler: handler, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, IdleTimeout: time.Minute}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(listener) }()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	if err := server.Shutdown(grace); err != nil {
		return err
	}
	if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
