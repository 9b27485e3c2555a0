package pgcmdtest

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/pgcmd/pgcmd"
)

// Connect returns a *[pgcmd.Pool] on a new database of the test's own, as [Pool] returns one of pgxpool: with the
// replicas, shared connections, types, settings and everything else of cfg. It fills in the URL, and the server may be
// insecure; a cfg that says where to connect fails the test. Types that the ddl creates can be in
// [pgcmd.Config.Types]. When the test has ended the pool is closed; a command that holds a connection then fails the
// test, and is named. Without a server the test fails, it never skips. Parallel tests may call it at once.
func Connect(t testing.TB, cfg pgcmd.Config, ddl ...string) *pgcmd.Pool {
	t.Helper()
	if cfg.URL != "" || cfg.Host != "" {
		t.Fatal("pgcmdtest: Connect connects to a new database of the test's own: leave URL and Host empty, or use pgcmd.Connect")
	}
	cfg.URL, cfg.AllowInsecure = URL(t, ddl...), true
	pool, err := pgcmd.Connect(t.Context(), cfg)
	if err != nil {
		t.Fatalf("pgcmdtest: %v", err)
	}
	t.Cleanup(func() {
		if err := closeConnected(pool, 10*time.Second); err != nil {
			t.Error(err)
		}
	})
	return pool
}

// closeConnected is closePool for a pool of [Connect], which knows which commands hold connections.
func closeConnected(pool *pgcmd.Pool, bound time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), bound)
	defer cancel()
	if err := pool.Close(ctx); err != nil {
		return fmt.Errorf("pgcmdtest: %w: close the rows, end the transactions", err)
	}
	return nil
}
