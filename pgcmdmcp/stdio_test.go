package pgcmdmcp_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgcmd/pgcmd/pgcmdmcp"
	"github.com/pgcmd/pgcmd/pgcmdtest"
)

// It is not parallel, because the process has one standard input and one output.
func TestStandardInputTakesWhatTheToolsTake(t *testing.T) {
	server, err := pgcmdmcp.New(catalog, pgcmdtest.Pool(t, shopDDL), pgcmdmcp.Options{
		Limits: pgcmdmcp.Limits{InputBytes: 20 << 20}, Tools: []pgcmdmcp.Tool{{Command: "customers.search"}}})
	require.NoError(t, err)
	in, toServer, err := os.Pipe()
	require.NoError(t, err)
	fromServer, out, err := os.Pipe()
	require.NoError(t, err)
	stdin, stdout := os.Stdin, os.Stdout
	os.Stdin, os.Stdout = in, out
	ended := make(chan error, 1)
	go func() {
		err := server.ServeStdio(context.WithoutCancel(t.Context()))
		in.Close() // so that nobody waits for a server that has ended
		out.Close()
		ended <- err
	}()
	lines := bufio.NewScanner(fromServer)
	fmt.Fprintln(toServer, `{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{},"clientInfo":{"name":"x","version":"1"}}}`)
	lines.Scan()
	os.Stdin, os.Stdout = stdin, stdout
	require.Contains(t, lines.Text(), `"id":0`)
	fmt.Fprintln(toServer, `{"jsonrpc":"2.0","method":"notifications/initialized"}`)
	for id, text := range []string{strings.Repeat("x", 20<<20-100), strings.Repeat("x", 20<<20), "nobody noted it"} {
		fmt.Fprintf(toServer, `{"jsonrpc":"2.0","id":%d,"method":"tools/call","params":{"name":"customers_search","arguments":{"text":%q}}}`+"\n", id+1, text)
		require.True(t, lines.Scan())
		require.Contains(t, lines.Text(), fmt.Sprintf(`"id":%d`, id+1))
		assert.Contains(t, lines.Text(), []string{"text must be a maximum of 10,000 characters", "at most 20971520 at once", `"output":[]`}[id])
	}
	require.NoError(t, toServer.Close())
	assert.NoError(t, <-ended)
	require.NoError(t, fromServer.Close())
}
