package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgcmd/pgcmd"
	"github.com/pgcmd/pgcmd/pgcmdmcp"
	"github.com/pgcmd/pgcmd/pgcmdtest"
)

func TestTheCommandsFitTheTables(t *testing.T) {
	t.Parallel()
	server, err := pgcmdtest.Start(t.Context())
	require.NoError(t, err)
	defer server.Close()
	pool, err := openBank(t.Context(), server)
	require.NoError(t, err)
	defer pool.Close(context.WithoutCancel(t.Context()))
	assert.NoError(t, pgcmd.Verify(t.Context(), pool, findAccount, listRichest, listBranches, listBookings, openAccount, deposit, withdraw, transfer))
}

// TestTheSDKsClientTalksToTheExample starts it as clients do, by its command.
func TestTheSDKsClientTalksToTheExample(t *testing.T) {
	t.Parallel()
	program := filepath.Join(t.TempDir(), "bank")
	out, err := exec.Command("go", "build", "-o", program, ".").CombinedOutput()
	require.NoError(t, err, "%s", out)

	t.Run("by standard input and output", func(t *testing.T) {
		t.Parallel()
		command := exec.Command(program)
		command.Stderr = os.Stderr
		session, err := client().Connect(t.Context(), &mcp.CommandTransport{Command: command, TerminateDuration: time.Minute}, nil)
		require.NoError(t, err)
		talk(t, session)
		require.NoError(t, session.Close(), "it ends when its client goes")
	})

	t.Run("by HTTP", func(t *testing.T) {
		t.Parallel()
		command := exec.Command(program, "-http", "127.0.0.1:0")
		said, err := command.StderrPipe()
		require.NoError(t, err)
		require.NoError(t, command.Start())
		lines := bufio.NewReader(said)
		endpoint := strings.TrimPrefix(line(t, lines), "serving ")
		token := strings.TrimPrefix(line(t, lines), "Authorization: ")
		session, err := client().Connect(t.Context(), &mcp.StreamableClientTransport{Endpoint: endpoint, HTTPClient: &http.Client{Transport: bearer(token)}}, nil)
		require.NoError(t, err)
		talk(t, session)
		require.NoError(t, session.Close())

		_, err = client().Connect(t.Context(), &mcp.StreamableClientTransport{Endpoint: endpoint}, nil)
		assert.ErrorContains(t, err, "Unauthorized")

		require.NoError(t, command.Process.Signal(os.Interrupt))
		rest, err := io.ReadAll(lines)
		require.NoError(t, err)
		assert.Empty(t, string(rest))
		require.NoError(t, command.Wait(), "it ends by itself")
	})
}

func client() *mcp.Client {
	return mcp.NewClient(&mcp.Implementation{Name: "test", Version: "1"}, nil)
}

func line(t *testing.T, r *bufio.Reader) string {
	t.Helper()
	text, err := r.ReadString('\n')
	require.NoError(t, err, "%s", text)
	return strings.TrimSpace(text)
}

type bearer string

func (b bearer) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", string(b))
	return http.DefaultTransport.RoundTrip(r)
}

// talk does what a client does: it lists, calls, is refused in both ways, reads, and asks
// for the prompt.
func talk(t *testing.T, session *mcp.ClientSession) {
	ctx := t.Context()
	tools, err := session.ListTools(ctx, nil)
	require.NoError(t, err)
	var names []string
	for _, tool := range tools.Tools {
		names = append(names, tool.Name)
	}
	assert.Equal(t, []string{"accounts_bookings", "accounts_deposit_batch", "accounts_find", "accounts_open", "accounts_richest", "bank_transfer", "branches_list"}, names)

	call := func(tool, arguments string) (string, bool) {
		t.Helper()
		r, err := session.CallTool(ctx, &mcp.CallToolParams{Name: tool, Arguments: json.RawMessage(arguments)})
		require.NoError(t, err)
		return r.Content[0].(*mcp.TextContent).Text, r.IsError
	}
	for _, c := range []struct {
		tool, arguments, want string
		failed                bool
	}{
		{"accounts_find", `{"account":7}`, `{"account":7,"branch":1,"balance":1000}`, false},
		{"accounts_find", `{"account":-7}`, `"problems":[{"field":"account","rule":"gt","message":"account must be greater than 0"}]`, true},
		{"accounts_find", `{"account":7777}`, `"code":"not_found"`, true},
		{"accounts_open", `{"account":7,"branch":1}`, `"message":"the account is open already"`, true},
		{"accounts_open", `{"account":777,"branch":9}`, `"message":"there is no such branch"`, true},
		{"accounts_open", `{"account":777,"branch":2}`, `{"account":777,"branch":2,"balance":0}`, false},
		{"bank_transfer", `{"key":"a","from":1,"to":2,"amount":5000}`, `"message":"insufficient funds"`, true},
		{"bank_transfer", `{"key":"b","from":1,"to":2,"amount":500}`, `{"from":{"account":1,"branch":1,"balance":500},"to":{"account":2,"branch":1,"balance":1500}}`, false},
		{"bank_transfer", `{"key":"b","from":1,"to":2,"amount":500}`, `{"from":{"account":1,"branch":1,"balance":500},"to":{"account":2,"branch":1,"balance":1500}}`, false},
		{"accounts_bookings", `{"account":1,"limit":5}`, `"amount":-500`, false},
		{"accounts_deposit_batch", `{"input":[{"account":3,"amount":1},{"account":4444,"amount":1}]}`, `"succeeded":1,"failed":1`, false},
		{"branches_list", `{}`, `{"output":[{"branch":1,"balance":100001,"accounts":100},{"branch":2,"balance":100000,"accounts":101}]}`, false},
	} {
		text, failed := call(c.tool, c.arguments)
		assert.Equal(t, c.failed, failed, "%s %s: %s", c.tool, c.arguments, text)
		assert.Contains(t, text, c.want, "%s %s", c.tool, c.arguments)
	}
	_, err = session.CallTool(ctx, &mcp.CallToolParams{Name: "accounts_close", Arguments: json.RawMessage(`{"account":7}`)})
	assert.ErrorContains(t, err, "unknown tool", "it was not named")

	schema, err := session.ReadResource(ctx, &mcp.ReadResourceParams{URI: "pgcmd://schema/public/pgbench_accounts"})
	require.NoError(t, err)
	assert.Contains(t, schema.Contents[0].Text, "in cents; never below zero")
	prompt, err := session.GetPrompt(ctx, &mcp.GetPromptParams{Name: "use_commands"})
	require.NoError(t, err)
	assert.Contains(t, fmt.Sprint(prompt.Messages[0].Content.(*mcp.TextContent).Text), "bank_transfer: Moves an amount")
}

// TestALargeBatchTellsWhichOfItsItemsWereNotApplied is what an agent needs to pay the
// others once.
func TestALargeBatchTellsWhichOfItsItemsWereNotApplied(t *testing.T) {
	t.Parallel()
	database, err := pgcmdtest.Start(t.Context())
	require.NoError(t, err)
	defer database.Close()
	pool, err := openBank(t.Context(), database)
	require.NoError(t, err)
	defer pool.Close(context.WithoutCancel(t.Context()))
	server, err := pgcmdmcp.New(bank, pool, served)
	require.NoError(t, err)
	near, far := mcp.NewInMemoryTransports()
	ended := make(chan error, 1)
	go func() { ended <- server.Run(t.Context(), far) }()
	session, err := client().Connect(t.Context(), near, nil)
	require.NoError(t, err)

	type deposited struct {
		Account int `json:"account"`
		Amount  int `json:"amount"`
	}
	var deposits []deposited
	var absent []int
	for i := range 4000 {
		d := deposited{1 + i%10, 1}
		if i%5 == 0 {
			d.Account = 100_000 + i // which nobody has
			absent = append(absent, i)
		}
		deposits = append(deposits, d)
	}
	r, err := session.CallTool(t.Context(), &mcp.CallToolParams{Name: "accounts_deposit_batch", Arguments: map[string]any{"input": deposits}})
	require.NoError(t, err)
	text := r.Content[0].(*mcp.TextContent).Text
	require.False(t, r.IsError, "%.300s", text)
	assert.LessOrEqual(t, len(text), 256<<10)
	var told struct {
		Succeeded, Failed int
		Failures          []struct {
			Index        int
			Code, Effect string
		}
		Others []struct{ Items string }
	}
	require.NoError(t, json.Unmarshal([]byte(text), &told))
	assert.Equal(t, 3200, told.Succeeded)
	assert.Equal(t, 800, told.Failed)
	assert.Empty(t, told.Others, "all that failed fit")
	var failed []int
	for _, f := range told.Failures {
		failed = append(failed, f.Index)
		assert.Equal(t, "not_found", f.Code)
		assert.Equal(t, "not_applied", f.Effect)
	}
	assert.Equal(t, absent, failed)
	require.NoError(t, session.Close())
	require.NoError(t, <-ended)
}
