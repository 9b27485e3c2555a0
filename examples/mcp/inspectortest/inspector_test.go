// Package inspectortest lets the command line of the MCP inspector talk to the example. Others made the inspector, in
// another language: other clients will understand what it understands.
package inspectortest

import (
	"bufio"
	"bytes"
	"encoding/json"
	"flag"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var useInspector = flag.Bool("inspector", false, "install the MCP inspector if it is missing, and run the test")

// An inspector runs the inspector's command line on one server.
type inspector struct {
	node, script string
	home         string // so that nothing is kept in the user's
	server       []string
}

type reply struct {
	Result struct {
		Tools []struct {
			Name        string
			Annotations struct{ ReadOnlyHint, DestructiveHint, IdempotentHint bool }
		}
		Resources, ResourceTemplates []struct{ URI, URITemplate string }
		Prompts                      []struct{ Name string }
		Content                      []struct{ Text string }
		StructuredContent            json.RawMessage
		IsError                      bool
		Contents                     []struct{ Text string }
		Messages                     []struct{ Content struct{ Text string } }
	}
}

// run invokes a method, and returns the answer, what else was said, and the exit code.
func (i inspector) run(t *testing.T, method string, args ...string) (r reply, said string, code int) {
	t.Helper()
	command := exec.Command(i.node, append([]string{i.script, "--cli", "--format", "json", "--method", method}, append(args, i.server...)...)...)
	command.Env = append(os.Environ(), "HOME="+i.home)
	var out, err bytes.Buffer
	command.Stdout, command.Stderr = &out, &err
	if failed := command.Run(); failed != nil {
		require.IsType(t, &exec.ExitError{}, failed)
	}
	require.NoError(t, json.Unmarshal(out.Bytes(), &r), "%s %s: %s%s", method, args, &out, &err)
	return r, err.String(), command.ProcessState.ExitCode()
}

func (i inspector) call(t *testing.T, tool, arguments string) (r reply, code int) {
	t.Helper()
	r, _, code = i.run(t, "tools/call", "--tool-name", tool, "--tool-args-json", arguments)
	return r, code
}

func TestTheInspectorTalksToTheExample(t *testing.T) {
	if !*useInspector {
		t.Skip("it needs the MCP inspector, from the npm registry: run make inspector")
	}
	paths, err := exec.Command("../../../scripts/ensure-inspector").Output()
	require.NoError(t, err, "%s", paths)
	node, script, _ := strings.Cut(strings.TrimSpace(string(paths)), "\n")
	program := filepath.Join(t.TempDir(), "bank")
	build := exec.Command("go", "build", "-o", program, ".")
	build.Dir = ".."
	out, err := build.CombinedOutput()
	require.NoError(t, err, "%s", out)

	t.Run("by standard input and output", func(t *testing.T) {
		talk(t, inspector{node, script, t.TempDir(), []string{"--", program}}) // each run starts a bank of its own
	})
	address, token := serve(t, program)
	for _, era := range []string{"legacy", "modern"} { // with the initialize of old, and without
		t.Run("by HTTP, "+era, func(t *testing.T) {
			talk(t, inspector{node, script, t.TempDir(), []string{"--transport", "http", "--server-url", address, "--header", token, "--protocol-era", era}})
		})
	}
	t.Run("by HTTP without the token", func(t *testing.T) {
		i := inspector{node, script, t.TempDir(), []string{"--transport", "http", "--server-url", address, "--stored-auth-only"}}
		command := exec.Command(node, append([]string{script, "--cli", "--format", "json", "--method", "tools/list"}, i.server...)...)
		command.Env = append(os.Environ(), "HOME="+i.home)
		assert.Error(t, command.Run())
	})
}

// serve starts the example by HTTP.
func serve(t *testing.T, program string) (address, token string) {
	t.Helper()
	command := exec.Command(program, "-http", "127.0.0.1:0")
	said, err := command.StderrPipe()
	require.NoError(t, err)
	require.NoError(t, command.Start())
	t.Cleanup(func() {
		assert.NoError(t, command.Process.Signal(os.Interrupt))
		_, _ = io.Copy(io.Discard, said)
		assert.NoError(t, command.Wait())
	})
	lines := bufio.NewScanner(said)
	require.True(t, lines.Scan())
	address = strings.TrimPrefix(lines.Text(), "serving ")
	require.True(t, lines.Scan())
	return address, lines.Text()
}

func talk(t *testing.T, i inspector) {
	const succeeded, toolFailed = 0, 5 // the inspector's exit codes

	listed, said, code := i.run(t, "tools/list", "--strict")
	assert.Equal(t, succeeded, code)
	assert.Empty(t, strings.TrimSpace(said), "no client has cause to complain of the schemas")
	hints := map[string][3]bool{}
	for _, tool := range listed.Result.Tools {
		a := tool.Annotations
		hints[tool.Name] = [...]bool{a.ReadOnlyHint, a.DestructiveHint, a.IdempotentHint}
	}
	assert.Equal(t, map[string][3]bool{
		"accounts_find": {true, false, true}, "accounts_richest": {true, false, true}, "accounts_bookings": {true, false, true}, "branches_list": {true, false, true},
		"accounts_open": {false, false, false}, "accounts_deposit_batch": {false, false, false}, "bank_transfer": {false, true, true},
	}, hints)

	found, code := i.call(t, "accounts_find", `{"account":7}`)
	assert.Equal(t, succeeded, code)
	assert.JSONEq(t, `{"account":7,"branch":1,"balance":1000}`, string(found.Result.StructuredContent))

	richest, code := i.call(t, "accounts_richest", `{"branch":2,"limit":1}`)
	assert.Equal(t, succeeded, code)
	assert.JSONEq(t, `{"output":[{"account":101,"branch":2,"balance":1000}]}`, string(richest.Result.StructuredContent))

	for arguments, want := range map[string]string{
		`{"account":-7}`:             `"message":"account must be greater than 0"`, // by validation
		`{"account":7,"branch":1}`:   `"message":"the account is open already"`,    // by a unique constraint
		`{"account":777,"branch":9}`: `"message":"there is no such branch"`,        // by a foreign key
	} {
		tool := "accounts_open"
		if !strings.Contains(arguments, "branch") {
			tool = "accounts_find"
		}
		refused, code := i.call(t, tool, arguments)
		assert.Equal(t, toolFailed, code)
		assert.True(t, refused.Result.IsError)
		assert.Contains(t, refused.Result.Content[0].Text, want)
		assert.Contains(t, refused.Result.Content[0].Text, `"effect":"not_applied"`)
	}

	resources, _, code := i.run(t, "resources/list")
	assert.Equal(t, succeeded, code)
	assert.Len(t, resources.Result.Resources, 2)
	table, _, code := i.run(t, "resources/read", "--uri", "pgcmd://schema/public/pgbench_accounts")
	assert.Equal(t, succeeded, code)
	assert.Contains(t, table.Result.Contents[0].Text, "in cents; never below zero")
	manifest, _, code := i.run(t, "resources/read", "--uri", "pgcmd://manifest")
	assert.Equal(t, succeeded, code)
	assert.Contains(t, manifest.Result.Contents[0].Text, `"name":"bank.transfer"`)

	prompts, _, code := i.run(t, "prompts/list")
	assert.Equal(t, succeeded, code)
	assert.Len(t, prompts.Result.Prompts, 1)
	prompt, _, code := i.run(t, "prompts/get", "--prompt-name", "use_commands", "--prompt-args", "task=Who is rich?")
	assert.Equal(t, succeeded, code)
	assert.Contains(t, prompt.Result.Messages[0].Content.Text, "bank_transfer: Moves an amount")
	assert.Equal(t, "Who is rich?", prompt.Result.Messages[1].Content.Text)
}
