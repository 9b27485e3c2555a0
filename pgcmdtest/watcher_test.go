package pgcmdtest

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

const childVariable = "PGCMDTEST_CHILD"

// child is a process that starts a server, prints what it is, and ends in one of the ways that run no clean-up.
func child(end string) {
	server, err := Start(context.Background())
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(server.PID(), server.watcher.folder)
	switch end {
	case "panic":
		panic("as the test wants")
	case "exit":
		os.Exit(0)
	default:
		select {} // until the signal
	}
}

func TestServerEndsWithItsProcess(t *testing.T) {
	t.Parallel()
	for end, signal := range map[string]syscall.Signal{
		"panic":       0,
		"exit":        0,
		"killed":      syscall.SIGKILL,
		"interrupted": syscall.SIGINT,
	} {
		t.Run(end, func(t *testing.T) {
			t.Parallel()
			process := exec.CommandContext(t.Context(), os.Args[0])
			process.Env = append(os.Environ(), childVariable+"="+end)
			process.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
			output, err := process.StdoutPipe()
			require.NoError(t, err)
			require.NoError(t, process.Start())

			line, err := bufio.NewReader(output).ReadString('\n')
			require.NoError(t, err)
			var pid int
			var folder string
			_, err = fmt.Sscan(line, &pid, &folder)
			require.NoError(t, err)
			if signal != 0 {
				require.NoError(t, syscall.Kill(pid, 0), "it runs")
				// The whole group, as Ctrl-C in a terminal does.
				require.NoError(t, syscall.Kill(-process.Process.Pid, signal))
			}
			process.Wait()
			requireGone(t, pid, folder)
		})
	}
}
