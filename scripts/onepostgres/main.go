// Command onepostgres runs a command with one PostgreSQL for all tests below it, which [pgcmdtest.Pool] and
// [pgcmdtest.URL] use: every test program would start a server of its own otherwise. When PGCMD_TEST_DATABASE_URL
// names a server already, the tests use that one.
//
//	go run ./scripts/onepostgres go test ./...
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strconv"
	"syscall"

	"github.com/pgcmd/pgcmd/pgcmdtest"
)

const variable = "PGCMD_TEST_DATABASE_URL"

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: onepostgres command [argument ...]")
		os.Exit(2)
	}
	status, err := run(exec.Command(os.Args[1], os.Args[2:]...))
	if err != nil {
		fmt.Fprintln(os.Stderr, "onepostgres:", err)
		status = max(status, 1)
	}
	os.Exit(status)
}

// run returns the exit status of the command, and an error of what is around it.
func run(command *exec.Cmd) (status int, err error) {
	// Ctrl-C reaches the command as well, which ends by it; the server ends after the command.
	signal.Notify(make(chan os.Signal, 1), os.Interrupt, syscall.SIGTERM)
	command.Stdin, command.Stdout, command.Stderr = os.Stdin, os.Stdout, os.Stderr
	command.Env = os.Environ() // before useMemory
	if os.Getenv(variable) == "" {
		if err := useMemory(); err != nil {
			return 1, err
		}
		server, err := pgcmdtest.Start(context.Background(),
			// The go command runs as many test programs at once as there are CPUs.
			pgcmdtest.WithSetting("max_connections", strconv.Itoa(100*max(2, runtime.GOMAXPROCS(0)))),
			pgcmdtest.WithSetting("shared_buffers", "64MB"))
		if err != nil {
			return 1, err
		}
		defer func() { err = errors.Join(err, server.Close()) }()
		command.Env = append(command.Env, variable+"="+server.URL())
	}
	err = command.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return max(exit.ExitCode(), 1), nil
	}
	return 0, err
}

// useMemory lets the server's folder be in memory, where there is room for it: tests make hundreds of databases, each of
// 300 files.
func useMemory() error {
	const folder, room = "/dev/shm", 2 << 30
	var free syscall.Statfs_t
	if err := syscall.Statfs(folder, &free); err != nil || uint64(free.Bavail)*uint64(free.Bsize) < room {
		return nil
	}
	return os.Setenv("TMPDIR", folder)
}
