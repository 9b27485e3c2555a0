package pgcmdmcp_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/pgcmd/pgcmd"
	"github.com/pgcmd/pgcmd/pgcmdmcp"
	"github.com/pgcmd/pgcmd/pgcmdtest"
)

func TestWhatGoesBeyondALimitIsAnError(t *testing.T) {
	t.Parallel()
	touch := pgcmd.Query[int, int64]("touch", `update customers set mood = 'sad' where id <= $1 returning id`).With(pgcmd.Options{Description: "Saddens customers."})
	pool := pgcmdtest.Pool(t, shopDDL)
	session := connectTo(t, pool, pgcmd.NewCatalog(numbers, find, wait, addGood, touch), pgcmdmcp.Options{
		Limits: pgcmdmcp.Limits{Rows: 3, OutputBytes: 150, InputBytes: 400},
		Tools: []pgcmdmcp.Tool{
			{Command: "numbers", Limits: pgcmdmcp.Limits{Rows: 100}},
			{Command: "customers.find", Limits: pgcmdmcp.Limits{OutputBytes: 20}},
			{Command: "wait", Limits: pgcmdmcp.Limits{Time: 20 * time.Millisecond}},
			{Command: "customers.create[]", AllowWrites: true},
			{Command: "touch", AllowWrites: true, Limits: pgcmdmcp.Limits{Rows: 1}},
		},
	})
	for _, c := range []struct{ tool, arguments, code, effect, want string }{
		{"numbers", `{"input":101}`, "too_many_rows", "not_applied", "the result has more than 100 rows, and a client is given at most 100: ask for less"},
		{"numbers", `{"input":100}`, "too_many_rows", "not_applied", "the result has 293 bytes, and a client is given at most 150: ask for less"},
		{"numbers", `{"input":10001}`, "too_many_rows", "not_applied", "the result has more than 100 rows, and a client is given at most 100: ask for less"},
		{"customers_find", `{"email":"ada@example.com"}`, "too_many_rows", "not_applied", "bytes, and a client is given at most 20"},
		{"customers_find", `{"email":"` + strings.Repeat("a", 400) + `"}`, "invalid", "not_applied", "has 412 bytes of JSON: at most 400 at once"},
		{"wait", `{"input":600}`, "timeout", "not_applied", ""},
		{"customers_create_batch", `{"input":[{},{},{},{}]}`, "invalid", "not_applied", "has 4 items: at most 3 at once"},
	} {
		e := failure(t, call(t, session, c.tool, c.arguments))
		assert.Equal(t, c.code, e.Code, "%s: %s", c.tool, e.Message)
		assert.Equal(t, c.effect, e.Effect, c.tool)
		text := e.Message
		for _, p := range e.Problems {
			text += "; " + p.Message
		}
		assert.Contains(t, text, c.want)
	}
	assert.JSONEq(t, `{"output":[1],"shortened":"It was applied. Of 2 rows the first 1 are shown: a client is given at most 1 rows and 150 bytes. Do not repeat the call."}`,
		output(t, call(t, session, "touch", `{"input":2}`)), "it is no error to have done what was asked")
	var sad int
	require.NoError(t, pool.QueryRow(t.Context(), `select count(*) from customers where mood = 'sad'`).Scan(&sad))
	assert.Equal(t, 2, sad, "applied, as it said")
	tools, err := session.ListTools(t.Context(), nil)
	require.NoError(t, err)
	schema, err := json.Marshal(tools.Tools[0].InputSchema)
	require.NoError(t, err)
	assert.Equal(t, "customers_create_batch", tools.Tools[0].Name)
	assert.Contains(t, string(schema), `"maxItems":3`, "a client is told beforehand")
}

// blocking is a command that says when it runs, and ends when it is let go or its
// context ends.
func blocking(name string) (c *pgcmd.Command[struct{}, string], running chan struct{}, letGo chan struct{}) {
	running, letGo = make(chan struct{}), make(chan struct{})
	return pgcmd.New(name, func(ctx context.Context, _ pgcmd.DB, _ struct{}) (string, error) {
		running <- struct{}{}
		select {
		case <-letGo:
			return "done", nil
		case <-ctx.Done():
			return "", ctx.Err()
		}
	}).With(pgcmd.Options{ReadOnly: true, Description: "Waits for the test."}), running, letGo
}

func TestCallsBeyondTheConcurrentOnesAreTurnedAway(t *testing.T) {
	t.Parallel()
	for name, o := range map[string]pgcmdmcp.Options{
		"the server": {Limits: pgcmdmcp.Limits{Concurrent: 1}, Tools: []pgcmdmcp.Tool{{Command: "block"}, {Command: "numbers"}}},
		"the tool":   {Tools: []pgcmdmcp.Tool{{Command: "block", Limits: pgcmdmcp.Limits{Concurrent: 1}}, {Command: "numbers"}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			block, running, letGo := blocking("block")
			session := connectTo(t, pgcmdtest.Pool(t), pgcmd.NewCatalog(block, numbers), o)
			first := make(chan *mcp.CallToolResult)
			go func() {
				r, err := session.CallTool(t.Context(), &mcp.CallToolParams{Name: "block"})
				assert.NoError(t, err)
				first <- r
			}()
			<-running
			e := failure(t, call(t, session, "block", ""))
			assert.Equal(t, "exhausted", e.Code)
			assert.Equal(t, "not_applied", e.Effect)
			assert.Equal(t, name+" runs 1 calls at once already, the most that it may: try again when one has ended", e.Message)
			other := call(t, session, "numbers", `{"input":1}`)
			assert.Equal(t, name == "the server", other.IsError)
			letGo <- struct{}{}
			assert.Equal(t, `{"output":"done"}`, output(t, <-first))
			assert.Equal(t, `{"output":[1]}`, output(t, call(t, session, "numbers", `{"input":1}`)))
		})
	}
}

func TestAClientThatGivesUpEndsItsCall(t *testing.T) {
	t.Parallel()
	block, running, letGo := blocking("block")
	session := connectTo(t, pgcmdtest.Pool(t), pgcmd.NewCatalog(block, numbers), pgcmdmcp.Options{
		Limits: pgcmdmcp.Limits{Concurrent: 1, Time: time.Hour}, Tools: []pgcmdmcp.Tool{{Command: "block"}, {Command: "numbers"}}})
	ctx, giveUp := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() {
		_, err := session.CallTool(ctx, &mcp.CallToolParams{Name: "block"})
		ended <- err
	}()
	<-running
	giveUp()
	require.ErrorIs(t, <-ended, context.Canceled)
	require.Eventually(t, func() bool { return !call(t, session, "numbers", `{"input":1}`).IsError }, 10*time.Second, time.Millisecond, "its place is free again")
	close(letGo)
}

// pipeClient starts a session of the server with a client that has read nothing but the
// answer to initialize.
func pipeClient(t testing.TB, server *pgcmdmcp.Server) (toServer io.Writer, fromServer *bufio.Scanner) {
	t.Helper()
	in, to := io.Pipe()
	from, out := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		ended <- server.Run(context.WithoutCancel(t.Context()), &mcp.IOTransport{Reader: in, Writer: out})
	}()
	t.Cleanup(func() {
		to.Close()
		from.Close()
		<-ended
	})
	lines := bufio.NewScanner(from)
	fmt.Fprintln(to, `{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{},"clientInfo":{"name":"x","version":"1"}}}`)
	require.True(t, lines.Scan())
	fmt.Fprintln(to, `{"jsonrpc":"2.0","method":"notifications/initialized"}`)
	return to, lines
}

const callWithProgress = `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"_meta":{"progressToken":1},"name":"customers_create_batch",` +
	`"arguments":{"input":[{"email":"c1@example.com"},{"email":"c2@example.com"}]}}}`

func TestAClientThatDoesNotReadItsProgressHoldsNoPlace(t *testing.T) {
	t.Parallel()
	pool := pgcmdtest.Pool(t, shopDDL)
	server, err := pgcmdmcp.New(catalog, pool, pgcmdmcp.Options{Limits: pgcmdmcp.Limits{Concurrent: 1, Time: time.Hour},
		Tools: []pgcmdmcp.Tool{{Command: "customers.create[]", AllowWrites: true}, {Command: "numbers"}}})
	require.NoError(t, err)
	deaf, _ := pipeClient(t, server)
	fmt.Fprintln(deaf, callWithProgress)
	require.Eventually(t, func() bool {
		var n int
		require.NoError(t, pool.QueryRow(t.Context(), `select count(*) from customers where email like 'c%'`).Scan(&n))
		return n == 2
	}, 20*time.Second, 5*time.Millisecond)
	require.Eventually(t, func() bool {
		to, from := pipeClient(t, server)
		fmt.Fprintln(to, `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"numbers","arguments":{"input":1}}}`)
		return from.Scan() && strings.Contains(from.Text(), `"output":[1]`)
	}, 20*time.Second, 5*time.Millisecond, "the one place is free, though the client has not read that its batch is done")
}

func TestACallWhoseProgressIsNotReadEndsInTime(t *testing.T) {
	t.Parallel()
	core, logs := observer.New(zap.InfoLevel)
	server, err := pgcmdmcp.New(catalog, pgcmdtest.Pool(t, shopDDL), pgcmdmcp.Options{Limits: pgcmdmcp.Limits{Time: time.Second}, Logger: zap.New(core),
		Tools: []pgcmdmcp.Tool{{Command: "customers.create[]", AllowWrites: true}}})
	require.NoError(t, err)
	deaf, _ := pipeClient(t, server)
	fmt.Fprintln(deaf, callWithProgress)
	require.Eventually(t, func() bool { return logs.Len() == 1 }, 20*time.Second, 5*time.Millisecond)
}

// A client's own bounds on what it reads are to be met: a message that is nested deeper
// ends the connection.
func TestAResultThatIsNestedTooDeepIsNotShown(t *testing.T) {
	t.Parallel()
	type doc struct {
		J json.RawMessage `json:"j"`
	}
	const nested = `(repeat('[', $1) || '"[\\\"]"' || repeat(']', $1))::json`
	described := pgcmd.Options{Description: "Gives nested JSON."}
	write := pgcmd.QueryOne[int, doc]("write", `insert into docs values (`+nested+`) returning j`).With(described)
	read := pgcmd.QueryOne[int, doc]("read", `select `+nested+` as j`).With(described)
	c := pgcmd.NewCatalog(read, write, pgcmd.Batch(read, pgcmd.Independent), pgcmd.Batch(write, pgcmd.Isolated),
		pgcmd.Query[int, doc]("writes", `insert into docs values (`+nested+`), ('1') returning j`).With(described),
		pgcmd.QueryOne[int, map[string]any]("map", `select `+nested+` as j`).With(described))
	pool := pgcmdtest.Pool(t, `create table docs (j json)`)
	var o pgcmdmcp.Options
	for _, info := range c.Manifest().Commands {
		o.Tools = append(o.Tools, pgcmdmcp.Tool{Command: info.Name, AllowWrites: true})
	}
	session := connectTo(t, pool, c, o)
	assert.Contains(t, output(t, call(t, session, "read", `{"input":499}`)), `[["[\\\"]"]]`, "500 levels with the row")
	for _, depth := range []int{500, 998, 5000} {
		for tool, want := range map[string]string{
			"write":       `{"shortened":"It was applied. It returned JSON that is nested more than 500 levels deep, of which none is shown. Do not repeat the call."}`,
			"writes":      `{"output":[],"shortened":"It was applied. It returned JSON that is nested more than 500 levels deep, of which none is shown. Do not repeat the call."}`,
			"write_batch": `{"outcomes":[],"succeeded":1,"failed":0,"skipped":0,"failures":[],"others":[],"shortened":"The result is nested more than 500 levels deep, which clients do not read. failures lists 0 of the 0 items that failed, by index from 0; others has the indexes of the rest. Every other item succeeded."}`,
		} {
			_, err := pool.Exec(t.Context(), `truncate docs`)
			require.NoError(t, err)
			argument := fmt.Sprintf(`{"input":%d}`, depth)
			if tool == "write_batch" {
				argument = fmt.Sprintf(`{"input":[%d]}`, depth)
			}
			r := call(t, session, tool, argument)
			assert.JSONEq(t, want, output(t, r), "%s %d", tool, depth)
			fits(t, session, tool, r)
			var n int
			require.NoError(t, pool.QueryRow(t.Context(), `select count(*) from docs`).Scan(&n))
			assert.NotZero(t, n, "applied, as it said")
		}
		for tool, argument := range map[string]string{"read": `{"input":%d}`, "map": `{"input":%d}`, "read_batch": `{"input":[%d]}`} {
			e := failure(t, call(t, session, tool, fmt.Sprintf(argument, depth)))
			assert.Equal(t, "too_many_rows", e.Code, "%s %d", tool, depth)
			assert.Equal(t, "not_applied", e.Effect)
			assert.Equal(t, "the result is nested more than 500 levels deep, which clients do not read", e.Message)
		}
	}
}

func TestAResultWithANumberThatIsTooLargeIsNotShown(t *testing.T) {
	t.Parallel()
	type doc struct {
		J json.RawMessage `json:"j"`
	}
	described := pgcmd.Options{Description: "Gives JSON."}
	c := pgcmd.NewCatalog(
		pgcmd.QueryOne[string, doc]("read", `select $1::text::json as j`).With(described),
		pgcmd.QueryOne[string, map[string]any]("map", `select $1::text::numeric as j`).With(described),
		pgcmd.QueryOne[string, doc]("write", `insert into docs values ($1::text::json) returning j`).With(described))
	session := connectTo(t, pgcmdtest.Pool(t, `create table docs (j json)`), c, pgcmdmcp.Options{Tools: []pgcmdmcp.Tool{
		{Command: "read"}, {Command: "map"}, {Command: "write", AllowWrites: true}}})
	const why = "holds a number that is too large for a 64-bit float"
	for j, bad := range map[string]bool{
		`1e309`: true, `-1e309`: true, `[1, 1E+999999 ]`: true, `{"a":{"b":2e308}}`: true, strings.Repeat("9", 400): true, `1` + strings.Repeat("0", 400) + `.5`: true,
		`1.7e308`: false, `1e-999999`: false, `"1e309"`: false, `{"1e309":"\\\"1e309"}`: false, strings.Repeat("9", 308): false, `0.` + strings.Repeat("1", 400): false, `[ 1 , true ]`: false,
	} {
		input := `{"input":` + quoted(j) + `}`
		if !bad {
			assert.Equal(t, `{"j":`+strings.ReplaceAll(j, " ", "")+`}`, output(t, call(t, session, "read", input)))
			continue
		}
		e := failure(t, call(t, session, "read", input))
		assert.Equal(t, "the result "+why+", which clients do not read", e.Message, j)
		assert.Equal(t, "not_applied", e.Effect)
		assert.Equal(t, `{"shortened":"It was applied. It returned JSON that `+why+`, of which none is shown. Do not repeat the call."}`, output(t, call(t, session, "write", input)), j)
	}
	assert.Equal(t, "the result "+why+", which clients do not read", failure(t, call(t, session, "map", `{"input":"1e400"}`)).Message)
}

func TestToolsOfOneCommandHaveLimitsOfTheirOwn(t *testing.T) {
	t.Parallel()
	session, _ := connect(t, pgcmdmcp.Options{Tools: []pgcmdmcp.Tool{
		{Command: "numbers", Name: "few", Limits: pgcmdmcp.Limits{Rows: 2}},
		{Command: "numbers", Name: "many", Limits: pgcmdmcp.Limits{Rows: 5}},
		{Command: "numbers", Name: "short", Limits: pgcmdmcp.Limits{OutputBytes: 3}},
		{Command: "customers.find"},
	}})
	assert.Equal(t, `{"output":[1,2]}`, output(t, call(t, session, "few", `{"input":2}`)))
	assert.Equal(t, "the result has more than 2 rows, and a client is given at most 2: ask for less", failure(t, call(t, session, "few", `{"input":3}`)).Message)
	assert.Equal(t, `{"output":[1,2,3,4,5]}`, output(t, call(t, session, "many", `{"input":5}`)))
	assert.Equal(t, "the result has more than 5 rows, and a client is given at most 5: ask for less", failure(t, call(t, session, "many", `{"input":6}`)).Message)
	assert.Equal(t, "the result has more than 3 bytes: ask for less", failure(t, call(t, session, "short", `{"input":100}`)).Message)
	assert.Equal(t, 1, strings.Count(read(t, session, "pgcmd://manifest"), `"name":"numbers"`))
}

// A command may allow less than the tool does: then that is no limit of the client's.
func TestACommandsOwnMaxBytesIsNotToldAsTheTools(t *testing.T) {
	t.Parallel()
	o := pgcmd.Options{Description: "Gives texts.", MaxBytes: 100}
	c := pgcmd.NewCatalog(
		pgcmd.Query[int, string]("texts", `select repeat('x', $1)`).With(o),
		pgcmd.Query[int, string]("notes", `update customers set note = repeat('x', $1) returning note`).With(o))
	session := connectTo(t, pgcmdtest.Pool(t, shopDDL), c, pgcmdmcp.Options{Tools: []pgcmdmcp.Tool{{Command: "texts"}, {Command: "notes", AllowWrites: true}}})
	assert.Equal(t, "the result has more bytes than the command may return: ask for less", failure(t, call(t, session, "texts", `{"input":101}`)).Message)
	assert.JSONEq(t, `{"output":[],"shortened":"It was applied. It returned more bytes than the command may return, of which none is shown. Do not repeat the call."}`,
		output(t, call(t, session, "notes", `{"input":101}`)))
}

func TestWrongOptionsAreToldAllAtOnce(t *testing.T) {
	t.Parallel()
	type holds struct{ Query []pgcmd.AdHocQuery }
	type embeds struct {
		pgcmd.AdHocQuery
		Report string
	}
	sneaky := pgcmd.New("reports.run", func(ctx context.Context, db pgcmd.DB, in pgcmd.AdHocQuery) (pgcmd.AdHocResult, error) {
		return pgcmd.AdHoc.Run(ctx, db, in)
	}).With(pgcmd.Options{ReadOnly: true, Description: "x"})
	sneakier := pgcmd.New("reports.all", func(context.Context, pgcmd.DB, holds) (int, error) { return 0, nil }).With(pgcmd.Options{ReadOnly: true, Description: "x"})
	sneakiest := pgcmd.New("reports.one", func(context.Context, pgcmd.DB, []embeds) (int, error) { return 0, nil }).With(pgcmd.Options{ReadOnly: true, Description: "x"})
	long := pgcmd.Query[struct{}, int](strings.Repeat("x", 65), `select 1`).With(pgcmd.Options{ReadOnly: true, Description: "x"})
	twin := pgcmd.Query[struct{}, int]("customers_find", `select 1`).With(pgcmd.Options{ReadOnly: true, Description: "x"})
	silent := pgcmd.Query[struct{}, int]("silent", `select 1`).With(pgcmd.Options{ReadOnly: true})
	careful := pgcmd.AdHoc.With(pgcmd.Options{ReadOnly: true, Description: "Reads."})
	pool := pgcmdtest.Pool(t)
	plain := pgcmd.NewCatalog(find, remove, sneaky, sneakier, sneakiest, long, twin, silent, careful, pgcmd.Batch(careful, pgcmd.Sequential))
	for name, c := range map[string]struct {
		o    pgcmdmcp.Options
		want []string
	}{
		"nothing": {pgcmdmcp.Options{}, []string{"pgcmdmcp: Options.Tools names no command, and nothing is served unless it is named"}},
		"many": {pgcmdmcp.Options{
			Tools:  []pgcmdmcp.Tool{{Command: "customers.fnid"}, {Command: "customers.delete"}, {Command: "silent", Limits: pgcmdmcp.Limits{Rows: -1}}},
			Limits: pgcmdmcp.Limits{Time: -1}, Schemas: []string{""},
		}, []string{
			"pgcmdmcp: Options.Limits has a negative limit: zero is the default, and there is no way to be without",
			"pgcmdmcp: Options.Schemas has an empty name",
			`pgcmdmcp: Options.Tools[0]: the catalog has no command "customers.fnid"`,
			"pgcmdmcp: customers.delete may change data: set Tool.AllowWrites, or, if it does not, Options.ReadOnly of the command",
			"pgcmdmcp: silent has a negative limit: zero is the default, and there is no way to be without",
			"pgcmdmcp: silent has no description, and a model has nothing else to go by: set Options.Description of the command",
		}},
		"names": {pgcmdmcp.Options{Tools: []pgcmdmcp.Tool{{Command: "customers.find"}, {Command: "customers_find"}, {Command: strings.Repeat("x", 65)}, {Command: "customers.delete", Name: "a.b", AllowWrites: true}}}, []string{
			"pgcmdmcp: customers.find and customers_find would both be the tool customers_find: set Tool.Name of one",
			fmt.Sprintf("pgcmdmcp: %[1]s would be the tool %[1]q: set Tool.Name to 1 to 64 letters, digits, _ or -, of which the first is a letter or _", strings.Repeat("x", 65)),
			`pgcmdmcp: customers.delete would be the tool "a.b": set Tool.Name to 1 to 64 letters, digits, _ or -, of which the first is a letter or _`,
		}},
		"SQL": {pgcmdmcp.Options{Tools: []pgcmdmcp.Tool{
			{Command: "pgcmd.adhoc", AllowWrites: true}, {Command: "pgcmd.adhoc[]", AllowWrites: true},
			{Command: "reports.run"}, {Command: "reports.all"}, {Command: "reports.one"}}}, []string{
			"pgcmdmcp: pgcmd.adhoc takes SQL, and anyone who talks to the model could write it: make commands of what is to be asked, and serve these",
			"pgcmdmcp: pgcmd.adhoc[] takes SQL, and anyone who talks to the model could write it: make commands of what is to be asked, and serve these",
			"pgcmdmcp: reports.run takes SQL, and anyone who talks to the model could write it: make commands of what is to be asked, and serve these",
			"pgcmdmcp: reports.all takes SQL, and anyone who talks to the model could write it: make commands of what is to be asked, and serve these",
			"pgcmdmcp: reports.one takes SQL, and anyone who talks to the model could write it: make commands of what is to be asked, and serve these",
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := pgcmdmcp.New(plain, pool, c.o)
			assert.EqualError(t, err, strings.Join(c.want, "\n"))
		})
	}
	_, err := pgcmdmcp.New(nil, nil, all)
	assert.EqualError(t, err, "pgcmdmcp: New was given a nil Catalog or a nil DB")
}
