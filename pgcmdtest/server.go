// Package pgcmdtest gives tests a PostgreSQL to throw away.
//
//	func TestUsers(t *testing.T) {
//		t.Parallel()
//		pool := pgcmdtest.Pool(t, `create table users (id bigint primary key)`)
//		// ...
//	}
//
// [Connect] makes a *[pgcmd.Pool] on such a database, by a [pgcmd.Config].
//
// # Where PostgreSQL comes from
//
// PGCMD_TEST_DATABASE_URL, if set, names a server that runs, on which the user may create databases:
// [Pool], [Connect] and [URL] use it. Otherwise they share one server per test process, which they start with
// initdb and postgres from the folder that PGCMD_TEST_POSTGRES_BIN names, from the PATH, or from the
// usual install folders, the newest first. [Start] always starts a server. Under root, PostgreSQL
// runs as the user postgres, else nobody.
//
// # What stands around it
//
// [Server.Standby] adds a hot standby to a server: it can be made to lag by [Server.PauseReplay], and take over by
// [Server.Promote]. [PgBouncer] puts a connection pooler before a server.
//
// # What stays behind
//
// Nothing: a server or a PgBouncer that was started ends with the process that started it, and its folder goes too,
// be it after a panic, [os.Exit], Ctrl-C or SIGKILL. Only on the server of PGCMD_TEST_DATABASE_URL does a
// killed process leave its databases, named pgcmdtest_*.
//
// The servers trust everyone who can connect. The socket is in a folder closed to other users; a server with
// [WithTCP] is open to every user of the machine, and so is a PgBouncer.
package pgcmdtest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
)

// patience is how long a server may take to start: a hundred times the usual, for a machine under load.
const patience = time.Minute

// errClosed is what a closed server answers.
var errClosed = errors.New("pgcmdtest: the server is closed")

// Server is a PostgreSQL of this process's own. Its methods may be called by several goroutines at once.
type Server struct {
	mu      sync.Mutex
	watcher *watcher // nil once closed
	config  config
	bin     string
	primary *Server // that it was made a standby of, nil otherwise
	port    int
	socket  string // the URL that leads to no other server, as that of a lost port may
	url     string
	running bool // a postmaster was started, and was not seen to exit
	pid     int
}

// Start starts a server on an empty folder and returns once it answers, which takes about a second; it gives up
// after a minute, or when ctx is done. ctx does not bound the server's life: it ends by [Server.Close],
// or with the process. The error names what PostgreSQL logged.
func Start(ctx context.Context, opts ...Option) (*Server, error) {
	s := &Server{config: config{freePort: freePort}}
	for _, setting := range [][2]string{
		// Nothing here has to survive a crash of the machine; synchronous_commit stays on, for an immediate stop.
		{"fsync", "off"}, {"full_page_writes", "off"},
		{"max_connections", "100"}, {"shared_buffers", "16MB"},
		// In the folder, not in /dev/shm, where a killed server would leave it.
		{"dynamic_shared_memory_type", "mmap"},
		{"timezone", "UTC"}, {"log_timezone", "UTC"}, {"lc_messages", "C"},
	} {
		s.config.set(setting[0], setting[1])
	}
	bin, err := findBinaries(os.Getenv, installs())
	if err != nil {
		return nil, fmt.Errorf("pgcmdtest: %w", err)
	}
	s.bin = bin
	return s.launch(ctx, opts, s.initdb)
}

// launch makes a folder, in which fill makes the data, and starts the server on it.
func (s *Server) launch(ctx context.Context, opts []Option, fill func(context.Context) error) (*Server, error) {
	for _, opt := range opts {
		opt(&s.config)
	}
	listen := ""
	if s.config.tcp {
		listen = "127.0.0.1"
	}
	s.config.set("listen_addresses", listen)

	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if err := s.create(ctx, fill); err != nil {
		return nil, fmt.Errorf("pgcmdtest: %w", errors.Join(err, s.Close()))
	}
	return s, nil
}

func (s *Server) create(ctx context.Context, fill func(context.Context) error) error {
	var err error
	if s.watcher, err = watchTemporary(ctx); err != nil {
		return err
	}
	if err := fill(ctx); err != nil {
		return err
	}
	if err := s.watcher.write(ctx, "data/postgresql.conf", s.config.postgresql()); err != nil {
		return err
	}
	if !s.config.tcp {
		s.listenOn(5432) // a part of the socket's name: it is unique by its folder
		s.url = s.socket
		return s.start(ctx)
	}
	// Another process may take the port before PostgreSQL does.
	var port int
	for range 5 {
		if port, err = s.config.freePort(); err != nil {
			return err
		}
		s.listenOn(port)
		s.url = fmt.Sprintf("postgres://postgres@127.0.0.1:%d/postgres?sslmode=disable", port)
		if err = s.start(ctx); err == nil || !strings.Contains(err.Error(), "could not bind") {
			break
		}
	}
	return err
}

// initdb makes the data of a new server.
func (s *Server) initdb(ctx context.Context) error {
	switch report, err := s.watcher.ask(ctx, "init "+s.bin); {
	case err != nil:
		return fmt.Errorf("initdb: %w", err)
	case report == "init 126": // the shell's status for a file that it may not execute
		return fmt.Errorf("%s may not execute %s: open it and the folders above it to others, or set %s to a folder that is",
			s.watcher.account, filepath.Join(s.bin, "initdb"), binariesVariable)
	case report != "init 0":
		return fmt.Errorf("%s failed: %s", filepath.Join(s.bin, "initdb"), s.watcher.log(0))
	}
	return nil
}

func (s *Server) listenOn(port int) {
	s.port = port
	s.socket = fmt.Sprintf("postgres:///postgres?host=%s&port=%d&user=postgres", url.QueryEscape(s.watcher.folder), port)
}

func freePort() (int, error) {
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	return listener.Addr().(*net.TCPAddr).Port, listener.Close()
}

// start starts a postmaster and waits until it answers.
func (s *Server) start(ctx context.Context) error {
	logged := s.watcher.logged()
	if err := s.watcher.send("start " + strconv.Itoa(s.port) + " " + s.bin); err != nil {
		return err
	}
	s.running = true
	if exited, err := s.watcher.await(ctx, "PostgreSQL", s.socket, logged); err != nil {
		s.running = !exited
		return err
	}
	file, err := os.ReadFile(filepath.Join(s.watcher.folder, "data", "postmaster.pid"))
	if err != nil {
		return err
	}
	line, _, _ := strings.Cut(string(file), "\n")
	s.pid, err = strconv.Atoi(line)
	return err
}

// URL returns the address of the database postgres, for its superuser. It stays the same over [Server.Restart].
func (s *Server) URL() string { return s.url }

// PID returns the process id of the postmaster, 0 while the server is stopped by [Server.Stop] or [Server.Close].
func (s *Server) PID() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.pid
}

// Database creates a database, runs each ddl in it, which may hold several statements, and returns its URL.
// It lives as long as the server.
func (s *Server) Database(ctx context.Context, ddl ...string) (string, error) {
	return createDatabase(ctx, s.url, connect, ddl)
}

// Mode is how [Server.Stop] treats the sessions and the data. Its zero is [Fast].
type Mode int

const (
	// Fast ends the sessions, rolls back what they have open, and writes everything to disk.
	Fast Mode = iota
	// Immediate drops the sessions and writes nothing: the next start recovers from the log, as after a crash.
	Immediate
)

func (m Mode) signal() string {
	if m == Immediate {
		return "QUIT"
	}
	return "INT"
}

// Stop stops the server and waits until its postmaster has gone; the data stays for [Server.Restart].
// A server that is stopped, or whose postmaster was killed, is left as it is. When ctx is done first, the server may still be stopping.
func (s *Server) Stop(ctx context.Context, mode Mode) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stop(ctx, mode)
}

func (s *Server) stop(ctx context.Context, mode Mode) error {
	if s.watcher == nil {
		return errClosed
	}
	if !s.running {
		return nil
	}
	if err := s.watcher.send("signal " + mode.signal()); err != nil {
		return fmt.Errorf("pgcmdtest: stop: %w", err)
	}
	if _, err := s.watcher.report(ctx); err != nil {
		return fmt.Errorf("pgcmdtest: stop: %w", err)
	}
	s.running, s.pid = false, 0
	return nil
}

// Restart stops the server as [Server.Stop] does, if it runs, and starts it on the same data and address.
// It waits until the server answers, a minute at most.
func (s *Server) Restart(ctx context.Context, mode Mode) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.stop(ctx, mode); err != nil {
		return err
	}
	err := s.start(ctx)
	for err != nil && strings.Contains(err.Error(), "is still in use") && ctx.Err() == nil {
		err = s.start(ctx) // sessions outlive a postmaster that was killed, if not for long
	}
	if err != nil {
		return fmt.Errorf("pgcmdtest: restart: %w", err)
	}
	return nil
}

// Close stops the server, removes its folder, and waits for both. It returns nil when called again.
func (s *Server) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.watcher == nil {
		return nil
	}
	w := s.watcher
	s.watcher, s.running, s.pid = nil, false, 0
	if err := w.close(); err != nil {
		return fmt.Errorf("pgcmdtest: close: %w", err)
	}
	return nil
}
