package pgcmdtest

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

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
	case "killed with others":
		standby, err := server.Standby(context.Background())
		if err != nil {
			panic(err)
		}
		bouncer, err := PgBouncer(context.Background(), server.URL())
		if err != nil {
			panic(err)
		}
		fmt.Println(standby.PID(), standby.watcher.folder)
		fmt.Println(bouncer.URL(), bouncer.watcher.folder)
		select {}
	case "panic":
		panic("as the test wants")
	case "exit":
		os.Exit(0)
	default:
		select {} // until the signal
	}
}

func TestStandbyAndPgBouncerEndWithTheirProcess(t *testing.T) {
	t.Parallel()
	process := exec.CommandContext(t.Context(), os.Args[0])
	process.Env = append(os.Environ(), childVariable+"=killed with others")
	output, err := process.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, process.Start())

	var pid, standbyPID int
	var folder, standbyFolder, address, bouncerFolder string
	_, err = fmt.Fscan(output, &pid, &folder, &standbyPID, &standbyFolder, &address, &bouncerFolder)
	require.NoError(t, err)
	require.NoError(t, ping(t.Context(), address), "it runs")
	require.NoError(t, process.Process.Kill())
	process.Wait()
	requireGone(t, pid, folder)
	requireGone(t, standbyPID, standbyFolder)
	require.Eventually(t, func() bool {
		_, err := os.Lstat(bouncerFolder)
		return os.IsNotExist(err) && ping(t.Context(), address) != nil
	}, 20*time.Second, 10*time.Millisecond, "PgBouncer or its folder %s is left", bouncerFolder)
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
