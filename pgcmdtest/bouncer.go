package pgcmdtest

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"github.com/jackc/pgx/v5/pgconn"
)

// bouncerFolders are searched after the PATH. Debian's is in one that is on the PATH of root alone.
var bouncerFolders = []string{"/usr/sbin", "/usr/local/sbin", "/usr/local/bin", "/opt/homebrew/bin"}

// Bouncer is a PgBouncer of this process's own. Its methods may be called by several goroutines at once.
type Bouncer struct {
	mu      sync.Mutex
	watcher *watcher // nil once closed
	url     string
}

// PgBouncer starts a PgBouncer before the server of a database URL, in transaction mode, on a port of 127.0.0.1 that the
// system chose, and returns once it answers; it gives up after a minute, or when ctx is done. It lets everybody in,
// and logs in to the server as server says, whatever user a client names; the server need not run yet.
// It ends by [Bouncer.Close], or with the process. [WithSetting] sets what is in pgbouncer.ini, as in
// WithSetting("default_pool_size", "2").
func PgBouncer(ctx context.Context, server string, opts ...Option) (*Bouncer, error) {
	b, err := startBouncer(ctx, server, opts)
	if err != nil {
		return nil, fmt.Errorf("pgcmdtest: PgBouncer: %w", err)
	}
	return b, nil
}

func startBouncer(ctx context.Context, server string, opts []Option) (*Bouncer, error) {
	binary, err := findBouncer(bouncerFolders)
	if err != nil {
		return nil, err
	}
	target, err := pgconn.ParseConfig(server)
	if err != nil {
		return nil, err
	}
	c := config{freePort: freePort}
	for _, opt := range opts {
		opt(&c)
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()

	// Another process may take the port before PgBouncer does.
	for range 5 {
		var port int
		if port, err = c.freePort(); err != nil {
			return nil, err
		}
		b := &Bouncer{}
		if b.url, err = redirect(server, fmt.Sprintf("postgres://127.0.0.1:%d/?sslmode=disable", port)); err != nil {
			return nil, err
		}
		if b.watcher, err = watchTemporary(ctx); err != nil {
			return nil, err
		}
		if err = b.start(ctx, binary, port, bouncerINI(target, &c, port, b.watcher.folder)); err == nil {
			return b, nil
		}
		err = errors.Join(err, b.Close())
		if !strings.Contains(err.Error(), cannotListen) {
			break
		}
	}
	return nil, err
}

// findBouncer returns the path of pgbouncer: the first on the PATH, else in folders.
func findBouncer(folders []string) (string, error) {
	if path, err := exec.LookPath("pgbouncer"); err == nil {
		return filepath.Abs(path)
	}
	for _, folder := range folders {
		if path, err := exec.LookPath(filepath.Join(folder, "pgbouncer")); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("pgbouncer is not on the PATH, nor in %s: run scripts/ensure-pgbouncer, or install the package pgbouncer "+
		"(apt-get install pgbouncer, brew install pgbouncer)", strings.Join(folders, ", "))
}

// cannotListen is what PgBouncer logs before it goes on without its port.
const cannotListen = "cannot listen on"

func bouncerINI(target *pgconn.Config, c *config, port int, folder string) string {
	quoted := func(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }
	line := fmt.Sprintf("* = host=%s port=%d user=%s", quoted(target.Host), target.Port, quoted(target.User))
	if target.Password != "" {
		line += " password=" + quoted(target.Password)
	}
	return "[databases]\n" + line + "\n[pgbouncer]\npool_mode = transaction\n" +
		// Or it would look for a server that was away only every 15 seconds.
		"server_login_retry = 0.1\n" + c.pgbouncer() +
		// any: trust without a list of users.
		"auth_type = any\nlisten_addr = 127.0.0.1\nlisten_port = " + strconv.Itoa(port) + "\nunix_socket_dir = " + folder + "\n"
}

// start starts a pgbouncer and waits until its console answers on the socket, which leads to no other.
func (b *Bouncer) start(ctx context.Context, binary string, port int, ini string) error {
	if err := b.watcher.write(ctx, "pgbouncer.ini", ini); err != nil {
		return err
	}
	if err := b.watcher.send("bouncer " + binary); err != nil {
		return err
	}
	console := fmt.Sprintf("postgres:///pgbouncer?host=%s&port=%d&user=pgbouncer", url.QueryEscape(b.watcher.folder), port)
	if _, err := b.watcher.await(ctx, "the process", console, 0); err != nil {
		return err
	}
	if log := b.watcher.log(0); strings.Contains(log, cannotListen) {
		return errors.New(log)
	}
	return nil
}

// URL returns the address, through the PgBouncer, of the database that it was started for.
func (b *Bouncer) URL() string { return b.url }

// URLOf returns address, which leads to a database of the server, with the PgBouncer in between.
func (b *Bouncer) URLOf(address string) (string, error) {
	return redirect(address, b.url)
}

// Close ends the PgBouncer and the connections through it at once, removes its folder, and waits for both.
// It returns nil when called again.
func (b *Bouncer) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.watcher == nil {
		return nil
	}
	w := b.watcher
	b.watcher = nil
	if err := w.close(); err != nil {
		return fmt.Errorf("pgcmdtest: close: %w", err)
	}
	return nil
}
