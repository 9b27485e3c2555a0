// Mcp is a bank for models: commands on the tables of pgbench, served by the Model
// Context Protocol, on a PostgreSQL that it starts for itself.
//
// From the repository, for a client that starts its server:
//
//	go -C examples/mcp run .
//
// and for clients elsewhere, by HTTP with a token that it prints:
//
//	go -C examples/mcp run . -http 127.0.0.1:0
package main

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/modelcontextprotocol/go-sdk/auth"
	"github.com/pgcmd/pgcmd"
	"github.com/pgcmd/pgcmd/pgcmdmcp"
	"github.com/pgcmd/pgcmd/pgcmdtest"
)

func main() {
	address := flag.String("http", "", "serve by HTTP on this address, as 127.0.0.1:0, and not by standard input and output")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *address, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "mcp:", err)
		os.Exit(1)
	}
}

// run serves until ctx is done, or the client of standard input goes. Standard output is
// the protocol's, so what is said goes to out.
func run(ctx context.Context, address string, out io.Writer) error {
	database, err := pgcmdtest.Start(ctx)
	if err != nil {
		return err
	}
	defer database.Close()
	pool, err := openBank(ctx, database)
	if err != nil {
		return err
	}
	defer func() {
		grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
		defer cancel()
		if err := pool.Close(grace); err != nil {
			fmt.Fprintln(out, err)
		}
	}()
	server, err := pgcmdmcp.New(bank, pool, served)
	if err != nil {
		return err
	}
	if address == "" {
		if err := server.ServeStdio(ctx); ctx.Err() == nil {
			return err
		}
		return nil
	}
	return serveHTTP(ctx, server, address, out)
}

// openBank makes the tables, and connects as a role that may do what the commands do and
// no more: what pgcmdmcp lets through, the database checks again.
func openBank(ctx context.Context, database *pgcmdtest.Server) (*pgcmd.Pool, error) {
	owner, err := database.Database(ctx, tables, pgcmd.OnceSchema, rights)
	if err != nil {
		return nil, err
	}
	address, err := url.Parse(owner)
	if err != nil {
		return nil, err
	}
	query := address.Query()
	query.Set("user", "bank_mcp")
	address.User, address.RawQuery = nil, query.Encode()
	return pgcmd.Connect(ctx, pgcmd.Config{URL: address.String(), MaxConns: 8})
}

// serveHTTP serves those who know the token.
func serveHTTP(ctx context.Context, commands *pgcmdmcp.Server, address string, out io.Writer) error {
	token := rand.Text()
	guarded := auth.RequireBearerToken(func(_ context.Context, given string, _ *http.Request) (*auth.TokenInfo, error) {
		if subtle.ConstantTimeCompare([]byte(given), []byte(token)) != 1 {
			return nil, auth.ErrInvalidToken
		}
		return &auth.TokenInfo{UserID: "the one who started it"}, nil
	}, &auth.RequireBearerTokenOptions{AllowMissingExpiration: true})(commands.Handler()) // it ends with the process

	listener, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.Handle("/mcp", guarded)
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	server.RegisterOnShutdown(commands.Close) // which Shutdown would wait for
	fmt.Fprintf(out, "serving http://%s/mcp\nAuthorization: Bearer %s\n", listener.Addr(), token)
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
