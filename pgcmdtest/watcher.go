package pgcmdtest

import (
	"bufio"
	"context"
	"crypto/rand"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

//go:embed watcher.sh
var watcherScript string

// watchers keeps what runs from the garbage collector: it would close the pipe, and so stop a server
// of which a test has kept the URL alone.
var watchers sync.Map

// watcher is a shell between this process and a postmaster or a PgBouncer, so that they end when this process
// does, however it ends. The kernel closes the one writing end of commands, and the shell sees it.
type watcher struct {
	folder   string // owned by the shell
	account  string // that it runs as
	shell    *exec.Cmd
	commands *os.File
	reports  *os.File
	lines    *bufio.Reader
}

// watchTemporary starts a watcher with a folder below that for temporary files.
func watchTemporary(ctx context.Context) (*watcher, error) {
	temp, err := filepath.Abs(os.TempDir())
	if err != nil {
		return nil, err
	}
	// The system's own comes second: the first may be closed to the user postgres, or its path too long for a socket.
	return watch(ctx, []string{temp, "/tmp"})
}

// watch starts a watcher, which makes its folder in the first of parents where it can.
func watch(ctx context.Context, parents []string) (*watcher, error) {
	account, err := unprivileged()
	if err != nil {
		return nil, err
	}
	input, commands, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer input.Close()
	reports, output, err := os.Pipe()
	if err != nil {
		return nil, errors.Join(err, commands.Close())
	}
	defer output.Close()

	name := "pgcmdtest-" + strings.ToLower(rand.Text()[:10])
	shell := exec.Command("/bin/sh", slices.Concat([]string{"-c", watcherScript, "pgcmdtest", name}, roomy(parents, name))...)
	shell.Dir, shell.Env = "/", environment(os.Environ())
	shell.Stdin, shell.Stdout = input, output
	// A session of its own: Ctrl-C in a terminal is for the test process alone.
	shell.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Credential: account}
	if err := shell.Start(); err != nil {
		return nil, errors.Join(fmt.Errorf("start the watcher: %w", err), commands.Close(), reports.Close())
	}
	w := &watcher{account: accountName(account), shell: shell, commands: commands, reports: reports, lines: bufio.NewReader(reports)}
	watchers.Store(w, nil)

	if w.folder, err = w.report(ctx); err == nil && w.folder == "" {
		err = fmt.Errorf("%s cannot make a folder below any of %q with a path short enough for a socket: set TMPDIR to one where it can",
			w.account, parents)
	}
	if err != nil {
		return nil, errors.Join(err, w.close())
	}
	return w, nil
}

func (w *watcher) send(command string) error {
	_, err := fmt.Fprintln(w.commands, command)
	return err
}

// ask sends a command that the shell answers, and returns its answer.
func (w *watcher) ask(ctx context.Context, command string) (string, error) {
	if err := w.send(command); err != nil {
		return "", err
	}
	return w.report(ctx)
}

// write adds text, of which no line is a lone dot, to the end of a file in the folder.
func (w *watcher) write(ctx context.Context, file, text string) error {
	if text != "" && !strings.HasSuffix(text, "\n") {
		text += "\n"
	}
	switch report, err := w.ask(ctx, "write "+file+"\n"+text+"."); {
	case err != nil:
		return fmt.Errorf("write %s: %w", file, err)
	case report != "write 0":
		return fmt.Errorf("write %s: %s", file, w.log(0))
	}
	return nil
}

// await waits until what was started answers at address, or has exited.
func (w *watcher) await(ctx context.Context, what, address string, since int) (exited bool, err error) {
	for refusal := ping(ctx, address); refusal != nil; refusal = ping(ctx, address) {
		tick, cancel := context.WithTimeout(ctx, 10*time.Millisecond)
		_, err := w.report(tick)
		cancel()
		switch {
		case err == nil:
			return true, fmt.Errorf("%s stopped at its start: %s", what, w.log(since))
		case ctx.Err() != nil:
			return false, fmt.Errorf("%s does not answer: %w: %w: %s", what, err, refusal, w.log(since))
		case !errors.Is(err, context.DeadlineExceeded):
			return false, err
		}
	}
	return false, nil
}

func ping(ctx context.Context, address string) error {
	conn, err := pgconn.Connect(ctx, address)
	if err != nil {
		return err
	}
	return conn.Close(ctx)
}

// report returns the next line from the shell. It returns the error of ctx as soon as that is done, and
// loses nothing then: the next call gets the line.
func (w *watcher) report(ctx context.Context) (string, error) {
	if err := w.reports.SetReadDeadline(time.Time{}); err != nil {
		return "", err
	}
	late := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(late)
		w.reports.SetReadDeadline(time.Unix(1, 0))
	})
	line, err := w.lines.ReadString('\n') // the shell writes whole lines
	if !stop() {
		<-late // or it would hit the next call
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return "", ctx.Err()
	}
	if err != nil {
		return "", fmt.Errorf("the watcher has gone: %w", err)
	}
	return strings.TrimSuffix(line, "\n"), nil
}

// close makes the shell stop what it watches and remove the folder, and waits until it has.
func (w *watcher) close() error {
	watchers.Delete(w)
	err := w.commands.Close()
	w.shell.Wait() // always an error: it ends by killing its process group
	err = errors.Join(err, w.reports.Close())
	if _, statErr := os.Lstat(w.folder); w.folder != "" && !errors.Is(statErr, os.ErrNotExist) {
		err = errors.Join(err, fmt.Errorf("%s could not be removed", w.folder))
	}
	return err
}

// logged returns how much initdb, PostgreSQL and the shell have logged, log the end of what they have since.
func (w *watcher) logged() int {
	info, err := os.Stat(filepath.Join(w.folder, "log"))
	if err != nil {
		return 0
	}
	return int(info.Size())
}

func (w *watcher) log(since int) string {
	const enough = 4096
	text, err := os.ReadFile(filepath.Join(w.folder, "log"))
	if err != nil {
		return err.Error()
	}
	text = text[min(since, len(text)):]
	return strings.TrimSpace(string(text[max(0, len(text)-enough):]))
}

// unprivileged returns the account to run PostgreSQL as, nil for this process's own: PostgreSQL refuses root.
func unprivileged() (*syscall.Credential, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		account, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, uidErr := strconv.ParseUint(account.Uid, 10, 32)
		gid, gidErr := strconv.ParseUint(account.Gid, 10, 32)
		if uidErr == nil && gidErr == nil {
			return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
		}
	}
	return nil, errors.New("PostgreSQL does not run as root, and there is no user postgres or nobody to run it as: add one")
}

func accountName(account *syscall.Credential) string {
	if account == nil {
		return "this process"
	}
	id := strconv.FormatUint(uint64(account.Uid), 10)
	if found, err := user.LookupId(id); err == nil {
		return "user " + found.Username
	}
	return "user " + id
}

// roomy drops the parents in which the path of a socket would get too long for the kernel (104 bytes
// with the final zero on macOS, 108 on Linux).
func roomy(parents []string, name string) []string {
	return slices.DeleteFunc(slices.Clone(parents), func(parent string) bool {
		return len(filepath.Join(parent, name, ".s.PGSQL.65535")) > 103
	})
}

// environment drops what would change the server's settings. macOS needs LC_ALL to be set, or the
// postmaster does not start.
func environment(inherited []string) []string {
	kept := slices.DeleteFunc(slices.Clone(inherited), func(entry string) bool {
		return strings.HasPrefix(entry, "PG") || strings.HasPrefix(entry, "LC_") || strings.HasPrefix(entry, "LANG")
	})
	return append(kept, "LC_ALL=C")
}
