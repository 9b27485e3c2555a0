package pgcmdtest

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

const serverVariable = "PGCMD_TEST_DATABASE_URL"

// shared is the server of [Pool] and [URL]. It is never closed: it ends with the process.
var shared = sync.OnceValues(func() (*Server, error) { return Start(context.Background()) })

// Pool returns a pool on a new database of the test's own, in which each ddl, which may hold several statements,
// has been run. The test must not close the pool: it is closed, and the database dropped, when the test has ended,
// which fails the test if it still holds a connection then. Without a server the test fails, it never skips.
// Parallel tests may call it at once.
func Pool(t testing.TB, ddl ...string) *pgxpool.Pool {
	t.Helper()
	pool, err := pgxpool.New(t.Context(), URL(t, ddl...))
	if err != nil {
		t.Fatalf("pgcmdtest: %v", err)
	}
	t.Cleanup(func() {
		if err := closePool(pool, 10*time.Second); err != nil {
			t.Error(err)
		}
	})
	return pool
}

// closePool is Close with a bound: that waits for ever for a connection that was not released.
func closePool(pool *pgxpool.Pool, bound time.Duration) error {
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		pool.Close()
	}()
	select {
	case <-closed:
		return nil
	case <-time.After(bound):
		return fmt.Errorf("pgcmdtest: %d connections of the pool were never released: close the rows, end the transactions",
			pool.Stat().AcquiredConns())
	}
}

// URL is [Pool] for a test that connects by itself: it returns the URL of the new database.
// Connections that are open when the test has ended are cut.
func URL(t testing.TB, ddl ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	server, err := serverURL()
	if err != nil {
		t.Fatal(err)
	}
	database, err := createDatabase(ctx, server, reconnect, ddl)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := dropDatabase(context.WithoutCancel(ctx), server, reconnect, database); err != nil {
			t.Error(err)
		}
	})
	return database
}

func serverURL() (string, error) {
	if server := os.Getenv(serverVariable); server != "" {
		return server, nil
	}
	server, err := shared()
	if err != nil {
		return "", err
	}
	return server.URL(), nil
}

// createDatabase returns the URL of a new database on server, in which each ddl has been run. On connects to the server.
func createDatabase(ctx context.Context, server string, on connector, ddl []string) (string, error) {
	// Unique among the processes that share the server.
	name := "pgcmdtest_" + strings.ToLower(rand.Text()[:16])
	database, err := onDatabase(server, name)
	if err != nil {
		return "", fmt.Errorf("pgcmdtest: create a database: %w", err)
	}
	err = on(ctx, server, func(conn *pgconn.PgConn) error {
		// Nobody can be connected to template0, so that it can be copied by many at once.
		create := "create database " + name + " template template0"
		// To copy files takes checkpoints, and they are cheap there; to log each page costs more.
		answer, err := conn.Exec(ctx, "select current_setting('server_version_num')::int >= 150000 and current_setting('fsync') = 'off'").ReadAll()
		if err != nil {
			return err
		}
		if string(answer[0].Rows[0][0]) == "t" {
			create += " strategy file_copy"
		}
		return run(ctx, conn, create)
	})
	if err != nil {
		return "", fmt.Errorf("pgcmdtest: create a database: %w", err)
	}
	if len(ddl) > 0 {
		if err := execute(ctx, database, ddl...); err != nil {
			return "", errors.Join(fmt.Errorf("pgcmdtest: %w", err), dropDatabase(context.WithoutCancel(ctx), server, on, database))
		}
	}
	return database, nil
}

// dropDatabase drops a database. The server waits until each of its backends has noticed, and one that writes to a
// client that does not read notices late: in a test of another program, on a server that they share.
func dropDatabase(ctx context.Context, server string, on connector, database string) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	config, err := pgx.ParseConfig(database)
	if err == nil {
		err = on(ctx, server, func(conn *pgconn.PgConn) error {
			return run(ctx, conn, "drop database if exists "+config.Database+" with (force)")
		})
	}
	if err != nil {
		return fmt.Errorf("pgcmdtest: drop a database: %w", err)
	}
	return nil
}

// A connector calls use with a connection to address.
type connector func(ctx context.Context, address string, use func(*pgconn.PgConn) error) error

// connect is the connector with a connection of its own.
func connect(ctx context.Context, address string, use func(*pgconn.PgConn) error) error {
	conn, err := pgconn.Connect(ctx, address)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	return use(conn)
}

// idle holds the connections of reconnect, by address.
var idle sync.Map // of chan *pgconn.PgConn

// reconnect is the connector that keeps its connections for the next call: to connect costs more than to drop a database.
// It calls use again if the server has ended a connection since it was used.
func reconnect(ctx context.Context, address string, use func(*pgconn.PgConn) error) error {
	kept, _ := idle.LoadOrStore(address, make(chan *pgconn.PgConn, 4))
	conns := kept.(chan *pgconn.PgConn)
	for {
		select {
		case conn := <-conns:
			if err := use(conn); keep(ctx, conn, conns) {
				return err
			}
		default:
			conn, err := pgconn.Connect(ctx, address)
			if err != nil {
				return err
			}
			err = use(conn)
			keep(ctx, conn, conns)
			return err
		}
	}
}

// keep reports whether conn is open. It keeps it if there is room, and closes it otherwise.
func keep(ctx context.Context, conn *pgconn.PgConn, conns chan<- *pgconn.PgConn) bool {
	if conn.IsClosed() {
		return false
	}
	select {
	case conns <- conn:
	default:
		conn.Close(context.WithoutCancel(ctx))
	}
	return true
}

// execute runs the scripts on a connection of their own.
func execute(ctx context.Context, address string, scripts ...string) error {
	return connect(ctx, address, func(conn *pgconn.PgConn) error { return run(ctx, conn, scripts...) })
}

// run runs the scripts by the simple protocol.
func run(ctx context.Context, conn *pgconn.PgConn, scripts ...string) error {
	for _, script := range scripts {
		if _, err := conn.Exec(ctx, script).ReadAll(); err != nil {
			return fmt.Errorf("%w%s", err, place(script, err))
		}
	}
	return nil
}

// place says in which line of script the server found err, if it said so.
func place(script string, err error) string {
	var refused *pgconn.PgError
	runes := []rune(script)
	if !errors.As(err, &refused) || refused.Position < 1 || int(refused.Position) > len(runes) {
		return ""
	}
	line := strings.Count(string(runes[:refused.Position-1]), "\n")
	return fmt.Sprintf(" at line %d: %s", line+1, strings.TrimSpace(strings.Split(script, "\n")[line]))
}

// onDatabase returns address with the database replaced. It takes the two forms that pgx does: URL and key=value.
func onDatabase(address, name string) (string, error) {
	if !strings.HasPrefix(address, "postgres://") && !strings.HasPrefix(address, "postgresql://") {
		return address + " dbname=" + name, nil
	}
	// First, for its error does not tell the password.
	if _, err := pgconn.ParseConfig(address); err != nil {
		return "", err
	}
	parsed, err := url.Parse(address)
	if err != nil {
		return "", err
	}
	query := parsed.Query()
	query.Del("dbname")
	query.Del("database")
	parsed.Path, parsed.RawQuery = "/"+name, query.Encode()
	return parsed.String(), nil
}

// redirect returns base with the user, the database and the run-time parameters of address.
func redirect(address, base string) (string, error) {
	from, err := pgconn.ParseConfig(address) // its error does not tell the password
	if err != nil {
		return "", fmt.Errorf("pgcmdtest: %w", err)
	}
	to, err := url.Parse(base)
	if err != nil {
		return "", fmt.Errorf("pgcmdtest: %w", err)
	}
	query := to.Query()
	query.Del("user")
	for name, value := range from.RuntimeParams {
		query.Set(name, value)
	}
	to.User, to.Path, to.RawQuery = url.User(from.User), "/"+from.Database, query.Encode()
	return to.String(), nil
}
