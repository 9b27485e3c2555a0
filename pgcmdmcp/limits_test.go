package pgcmdmcp_test

import (
	"context"
	"encoding/json"
	"fmt"
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

func TestWrongOptionsAreToldAllAtOnce(t *testing.T) {
	t.Parallel()
	type holds struct{ Query []pgcmd.AdHocQuery }
	sneaky := pgcmd.New("reports.run", func(ctx context.Context, db pgcmd.DB, in pgcmd.AdHocQuery) (pgcmd.AdHocResult, error) {
		return pgcmd.AdHoc.Run(ctx, db, in)
	}).With(pgcmd.Options{ReadOnly: true, Description: "x"})
	sneakier := pgcmd.New("reports.all", func(context.Context, pgcmd.DB, holds) (int, error) { return 0, nil }).With(pgcmd.Options{ReadOnly: true, Description: "x"})
	long := pgcmd.Query[struct{}, int](strings.Repeat("x", 65), `select 1`).With(pgcmd.Options{ReadOnly: true, Description: "x"})
	twin := pgcmd.Query[struct{}, int]("customers_find", `select 1`).With(pgcmd.Options{ReadOnly: true, Description: "x"})
	silent := pgcmd.Query[struct{}, int]("silent", `select 1`).With(pgcmd.Options{ReadOnly: true})
	careful := pgcmd.AdHoc.With(pgcmd.Options{ReadOnly: true, Description: "Reads."})
	pool := pgcmdtest.Pool(t)
	plain := pgcmd.NewCatalog(find, remove, sneaky, sneakier, long, twin, silent, careful, pgcmd.Batch(careful, pgcmd.Sequential))
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
			{Command: "reports.run"}, {Command: "reports.all"}}}, []string{
			"pgcmdmcp: pgcmd.adhoc takes SQL, and anyone who talks to the model could write it: make commands of what is to be asked, and serve these",
			"pgcmdmcp: pgcmd.adhoc[] takes SQL, and anyone who talks to the model could write it: make commands of what is to be asked, and serve these",
			"pgcmdmcp: reports.run takes SQL, and anyone who talks to the model could write it: make commands of what is to be asked, and serve these",
			"pgcmdmcp: reports.all takes SQL, and anyone who talks to the model could write it: make commands of what is to be asked, and serve these",
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
