package pgcmdmcp_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/pgcmd/pgcmd"
	"github.com/pgcmd/pgcmd/pgcmdmcp"
	"github.com/pgcmd/pgcmd/pgcmdtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// canary stands in rows and inputs that no error may show.
const canary = "canary-7f3a9c"

// secretWord stands in a table that no command reads.
const secretWord = "secret-word-9921"

const shopDDL = `
	create type mood as enum ('glad', 'sad');
	create table customers (
		id    bigint generated always as identity primary key,
		email text not null constraint customers_email_key unique,
		mood  mood not null default 'glad',
		note  text,
		token text
	);
	comment on table customers is 'who buys';
	comment on column customers.note is 'what was said';
	create table orders (
		id          bigint primary key,
		customer_id bigint not null references customers,
		cents       int not null constraint orders_cents_check check (cents > 0)
	);
	create table secrets (word text primary key);
	insert into secrets values ('` + secretWord + `');
	insert into customers (email, note, token) values ('ada@example.com', '` + canary + `', 'x'), ('bob@example.com', null, null);` + pgcmd.OnceSchema

type (
	byEmail struct {
		Email string `json:"email" validate:"required,email"`
	}
	customer struct {
		ID    int64   `json:"id"`
		Email string  `json:"email"`
		Note  *string `json:"note"`
	}
	search struct {
		Text string `json:"text" validate:"required,max=10000"`
		By   string `json:"by" validate:"omitempty,oneof=email id"`
	}
	create struct {
		Email string `json:"email" validate:"required,email"`
		Note  string `json:"note"`
		Token string `json:"token" secret:"true"`
	}
	order struct {
		Key      string `json:"key" validate:"required,max=100"`
		ID       int64  `json:"id" validate:"required"`
		Customer int64  `json:"customer" validate:"required"`
		Cents    int32  `json:"cents"`
	}
)

var errTaken = errors.New("email is already registered")

var (
	find = pgcmd.QueryOne[byEmail, customer]("customers.find", `select id, email, note from customers where email = @email`).
		With(pgcmd.Options{ReadOnly: true, Description: "Finds a customer by email."})
	list = pgcmd.Query[search, customer]("customers.search",
		`select id, email, note from customers where email like '%' || @text || '%' or note = @text order by case when @by = 'email' then email end, id`).
		With(pgcmd.Options{ReadOnly: true, Description: "Searches customers for a text"})
	add = pgcmd.QueryOne[create, customer]("customers.create",
		`insert into customers (email, note, token) values (@email, nullif(@note, ''), @token) returning id, email, note`).
		With(pgcmd.Options{Description: "Registers a customer.", OnConstraint: map[string]error{"customers_email_key": errTaken}})
	remove = pgcmd.Exec[int64]("customers.delete", `delete from customers where id = $1`).With(pgcmd.Options{Description: "Deletes a customer by its id."})
	place  = pgcmd.Once(pgcmd.Transaction("orders.place", func(ctx context.Context, tx *pgcmd.Tx, in order) (int64, error) {
		_, err := insertOrder.Run(ctx, tx, in)
		return in.ID, err
	}), func(in order) string { return in.Key }).With(pgcmd.Options{Description: "Places an order.", Retry: pgcmd.Retry{Attempts: 3}})
	insertOrder = pgcmd.Exec[order]("orders.insert", `insert into orders (id, customer_id, cents) values (@id, @customer, @cents)`)
	numbers     = pgcmd.Query[int, int]("numbers", `select n from generate_series(1, $1) n`).With(pgcmd.Options{ReadOnly: true, Description: "Counts up to a number."})
	maybe       = pgcmd.New("maybe", func(_ context.Context, _ pgcmd.DB, in *int) (map[string]int, error) {
		if in == nil {
			return nil, nil
		}
		return map[string]int{"n": *in}, nil
	}).With(pgcmd.Options{ReadOnly: true, Description: "Gives back what it is given, if anything."})
	boom = pgcmd.New("boom", func(context.Context, pgcmd.DB, struct{}) (int, error) { panic(canary) }).
		With(pgcmd.Options{ReadOnly: true, Description: "Panics."})
	wait    = pgcmd.QueryOne[float64, string]("wait", `select pg_sleep($1)::text`).With(pgcmd.Options{ReadOnly: true, Description: "Waits."})
	addAll  = pgcmd.Batch(add, pgcmd.Atomic)
	addGood = pgcmd.Batch(add.With(pgcmd.Options{Description: "Registers many customers."}), pgcmd.Isolated)
	catalog = pgcmd.NewCatalog(find, list, add, remove, place, numbers, maybe, boom, wait, addGood, insertOrder, pgcmd.AdHoc, pgcmd.Batch(pgcmd.AdHoc, pgcmd.Sequential))
)

// all serves everything that may be served.
var all = pgcmdmcp.Options{
	Tools: []pgcmdmcp.Tool{
		{Command: "customers.find"}, {Command: "customers.search"}, {Command: "numbers"}, {Command: "maybe"}, {Command: "boom"}, {Command: "wait"},
		{Command: "customers.create", AllowWrites: true, Additive: true},
		{Command: "customers.create[]", AllowWrites: true},
		{Command: "customers.delete", AllowWrites: true},
		{Command: "orders.place", AllowWrites: true, Additive: true},
	},
	Schemas: []string{"public"},
}

// connect serves options on a database of the test's own to the SDK's client, through a
// transport in memory.
func connect(t testing.TB, o pgcmdmcp.Options, heard ...func(*mcp.ProgressNotificationParams)) (*mcp.ClientSession, *pgxpool.Pool) {
	t.Helper()
	pool := pgcmdtest.Pool(t, shopDDL)
	return connectTo(t, pool, catalog, o, heard...), pool
}

func connectTo(t testing.TB, db pgcmd.DB, c *pgcmd.Catalog, o pgcmdmcp.Options, heard ...func(*mcp.ProgressNotificationParams)) *mcp.ClientSession {
	t.Helper()
	server, err := pgcmdmcp.New(c, db, o)
	require.NoError(t, err)
	near, far := mcp.NewInMemoryTransports()
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error)
	go func() { ended <- server.Run(ctx, far) }()
	session, err := mcp.NewClient(&mcp.Implementation{Name: "test", Version: "1"}, &mcp.ClientOptions{
		ProgressNotificationHandler: func(_ context.Context, req *mcp.ProgressNotificationClientRequest) {
			for _, f := range heard {
				f(req.Params)
			}
		},
	}).Connect(ctx, near, nil)
	require.NoError(t, err)
	t.Cleanup(func() {
		_ = session.Close()
		stop()
		<-ended
	})
	return session
}

// call calls a tool with arguments in JSON.
func call(t testing.TB, session *mcp.ClientSession, tool, arguments string) *mcp.CallToolResult {
	t.Helper()
	params := &mcp.CallToolParams{Name: tool}
	if arguments != "" {
		params.Arguments = json.RawMessage(arguments)
	}
	r, err := session.CallTool(t.Context(), params)
	require.NoError(t, err)
	return r
}

// output is the text of a call that worked, which is its structured content too.
func output(t testing.TB, r *mcp.CallToolResult) string {
	t.Helper()
	require.Len(t, r.Content, 1)
	text := r.Content[0].(*mcp.TextContent).Text
	require.False(t, r.IsError, text)
	structured, err := json.Marshal(r.StructuredContent)
	require.NoError(t, err)
	require.JSONEq(t, text, string(structured))
	return text
}

type failureJSON struct {
	Code, Effect, Command, Message, SQLState, Constraint string
	Problems                                             []pgcmd.Problem
}

// failure is the error of a call that failed.
func failure(t testing.TB, r *mcp.CallToolResult) (e failureJSON) {
	t.Helper()
	text := r.Content[0].(*mcp.TextContent).Text
	require.True(t, r.IsError, text)
	require.Nil(t, r.StructuredContent, "it would have to fit the output schema")
	require.NoError(t, json.Unmarshal([]byte(text), &e))
	require.NotContains(t, text, canary)
	return e
}

func TestEveryToolIsListedAsItsCommandIsDefined(t *testing.T) {
	t.Parallel()
	session, _ := connect(t, all)
	listed, err := session.ListTools(t.Context(), nil)
	require.NoError(t, err)
	got := map[string]string{}
	for _, tool := range listed.Tools {
		a := tool.Annotations
		assert.Equal(t, tool.Title, a.Title)
		assert.False(t, *a.OpenWorldHint)
		got[tool.Name] = fmt.Sprintf("%s read=%v destroy=%v idempotent=%v: %s", tool.Title, a.ReadOnlyHint, *a.DestructiveHint, a.IdempotentHint, tool.Description)
	}
	assert.Equal(t, map[string]string{
		"customers_find":         "customers.find read=true destroy=false idempotent=true: Finds a customer by email.",
		"customers_search":       "customers.search read=true destroy=false idempotent=true: Searches customers for a text.",
		"customers_create":       "customers.create read=false destroy=false idempotent=false: Registers a customer. Changes data. Can be refused: email is already registered.",
		"customers_create_batch": "customers.create[] read=false destroy=true idempotent=false: Registers many customers. Changes data. Can be refused: email is already registered.",
		"customers_delete":       "customers.delete read=false destroy=true idempotent=false: Deletes a customer by its id. Changes data.",
		"orders_place": "orders.place read=false destroy=false idempotent=true: Places an order. " +
			"Changes data, once for each key of its input: the same call again changes nothing more.",
		"numbers": "numbers read=true destroy=false idempotent=true: Counts up to a number.",
		"maybe":   "maybe read=true destroy=false idempotent=true: Gives back what it is given, if anything.",
		"boom":    "boom read=true destroy=false idempotent=true: Panics.",
		"wait":    "wait read=true destroy=false idempotent=true: Waits.",
	}, got)
	assert.Contains(t, session.InitializeResult().Instructions, "There is none that takes SQL")
}

// A command that counts as a read by its text is served as one, and so is its null.
func TestAPlainSelectIsServedAsARead(t *testing.T) {
	t.Parallel()
	seek := pgcmd.QueryOne[byEmail, *customer]("customers.seek", `select id, email, note from customers where lower(email) = lower(@email)`).
		With(pgcmd.Options{Description: "Finds a customer, if there is one."})
	o := pgcmdmcp.Options{Tools: []pgcmdmcp.Tool{{Command: "customers.seek"}}}
	pool := pgcmdtest.Pool(t, shopDDL)
	session := connectTo(t, pool, pgcmd.NewCatalog(seek), o)
	listed, err := session.ListTools(t.Context(), nil)
	require.NoError(t, err)
	a := listed.Tools[0].Annotations
	assert.Equal(t, [3]bool{true, false, true}, [3]bool{a.ReadOnlyHint, *a.DestructiveHint, a.IdempotentHint})
	assert.Equal(t, "Finds a customer, if there is one.", listed.Tools[0].Description)
	for email, want := range map[string]string{
		"BOB@example.com":    `{"output":{"id":2,"email":"bob@example.com","note":null}}`,
		"nobody@example.com": `{"output":null}`,
	} {
		assert.Equal(t, want, output(t, call(t, session, "customers_seek", `{"email":"`+email+`"}`)))
	}
	_, err = pgcmdmcp.New(pgcmd.NewCatalog(seek.With(pgcmd.Options{Writes: true})), pool, o)
	assert.ErrorContains(t, err, "customers.seek may change data: set Tool.AllowWrites")
}

func TestCallsTakeAndGiveJSON(t *testing.T) {
	t.Parallel()
	session, pool := connect(t, all)
	for _, c := range []struct{ tool, arguments, want string }{
		{"customers_find", `{"email":"bob@example.com"}`, `{"id":2,"email":"bob@example.com","note":null}`},
		{"customers_search", `{"text":"example","by":"email"}`, `{"output":[{"id":1,"email":"ada@example.com","note":"` + canary + `"},{"id":2,"email":"bob@example.com","note":null}]}`},
		{"customers_create", `{"email":"eve@example.com","note":"<b>","token":"` + canary + `"}`, `{"id":3,"email":"eve@example.com","note":"<b>"}`},
		{"customers_delete", `{"input":3}`, `{"output":1}`},
		{"numbers", `{"input":3}`, `{"output":[1,2,3]}`},
		{"numbers", `{"input":0}`, `{"output":[]}`},
		{"maybe", `{"input":5}`, `{"output":{"n":5}}`},
		{"maybe", `{"input":null}`, `{"output":null}`},
		{"orders_place", `{"key":"k1","id":9007199254740993,"customer":1,"cents":5}`, `{"output":9007199254740993}`},
	} {
		assert.Equal(t, c.want, output(t, call(t, session, c.tool, c.arguments)))
	}
	var token string
	require.NoError(t, pool.QueryRow(t.Context(), `select count(*) from orders where id = 9007199254740993`).Scan(&token))
	assert.Equal(t, "1", token)
}

func TestARefusedCallSaysWhatIsWrongAndChangesNothing(t *testing.T) {
	t.Parallel()
	o := all
	core, logged := observer.New(zap.InfoLevel)
	o.Logger = zap.New(core)
	session, pool := connect(t, o)
	before := fingerprint(t, pool)
	for _, c := range []struct{ tool, arguments, code, want string }{
		{"customers_find", `{"email":"` + canary + `"}`, "invalid", "email: email must be a valid email address"},
		{"customers_find", `{}`, "invalid", "email: email is a required field"},
		{"customers_find", ``, "invalid", "email: email is a required field"},
		{"customers_find", `{"email":"ada@example.com","sql":"select 1"}`, "invalid", "is not a field"},
		{"customers_find", `{"email":5}`, "invalid", "email: must be a string"},
		{"customers_find", `{"email":"none@example.com"}`, "not_found", ""},
		{"customers_create", `{"email":"ada@example.com","note":"` + canary + `"}`, "conflict", "email is already registered"},
		{"customers_create", `{"email":"ada@example.com","note":"` + canary + `\u0000"}`, "invalid", ""},
		{"customers_delete", `{"input":"` + canary + `"}`, "invalid", "input: must be an integer"},
		{"customers_delete", `{"input":1.5}`, "invalid", "input: must be an integer"},
		{"customers_delete", `{"input":1,"` + canary + `":2}`, "invalid", "has a field that is not known: there is input alone"},
		{"customers_delete", `{"input":1,"input":2}`, "invalid", "input: is given twice"},
		{"customers_delete", `{}`, "invalid", "input: input is a required field"},
		{"orders_place", `{"key":"k","id":1,"customer":1,"cents":0}`, "invalid", "orders_cents_check"},
		{"orders_place", `{"key":"k","id":1,"customer":77,"cents":1}`, "conflict", "orders_customer_id_fkey"},
		{"customers_create_batch", `{"input":[{"email":"x@example.com"},{"email":"` + canary + `"}],"input":[]}`, "invalid", "input: is given twice"},
		{"customers_create_batch", `{"input":[{"emial":"x@example.com"}]}`, "invalid", "input[0].emial: is not a field: did you mean email?"},
		{"customers_create_batch", `{"input":{}}`, "invalid", "input: must be an array"},
		{"boom", `{}`, "internal", "the command panicked"},
	} {
		e := failure(t, call(t, session, c.tool, c.arguments))
		assert.Equal(t, c.code, e.Code, "%s %s", c.tool, c.arguments)
		text := e.Message + " " + e.Constraint
		for _, p := range e.Problems {
			text += "; " + p.Field + ": " + p.Message
		}
		assert.Contains(t, text, c.want, "%s %s", c.tool, c.arguments)
		assert.Equal(t, "not_applied", e.Effect)
	}
	assert.Equal(t, before, fingerprint(t, pool))

	assert.Equal(t, 1, logged.FilterMessage("tool panicked").Len())
	assert.Equal(t, logged.Len()-1, logged.FilterMessage("tool call failed").FilterFieldKey("error").Len())
	text, err := json.Marshal(logged.All())
	require.NoError(t, err)
	assert.NotContains(t, string(text), canary)
}

func TestABatchTellsOfEachItemAndOfItsProgress(t *testing.T) {
	t.Parallel()
	told := make(chan *mcp.ProgressNotificationParams, 100)
	session, pool := connect(t, all, func(p *mcp.ProgressNotificationParams) { told <- p })
	var items []string
	for i := range 1000 {
		items = append(items, fmt.Sprintf(`{"email":"c%d@example.com"}`, i))
	}
	items[7] = `{"email":"ada@example.com"}`
	params := &mcp.CallToolParams{Name: "customers_create_batch", Arguments: json.RawMessage(`{"input":[` + strings.Join(items, ",") + `]}`)}
	params.SetProgressToken("mine")
	r, err := session.CallTool(t.Context(), params)
	require.NoError(t, err)
	var result struct {
		Outcomes          []struct{ OK bool }
		Succeeded, Failed int
	}
	require.NoError(t, json.Unmarshal([]byte(output(t, r)), &result))
	assert.Equal(t, 999, result.Succeeded)
	assert.Equal(t, 1, result.Failed)
	assert.False(t, result.Outcomes[7].OK)
	var n int
	require.NoError(t, pool.QueryRow(t.Context(), `select count(*) from customers`).Scan(&n))
	assert.Equal(t, 1001, n)
	for last := (&mcp.ProgressNotificationParams{}); last.Progress < 1000; {
		p := <-told
		assert.Equal(t, "mine", p.ProgressToken)
		assert.Equal(t, 1000.0, p.Total)
		assert.Greater(t, p.Progress, last.Progress)
		last = p
	}
}

func TestABatchThatFailsSaysWhatBecameOfTheItems(t *testing.T) {
	t.Parallel()
	pool := pgcmdtest.Pool(t, shopDDL)
	session := connectTo(t, pool, pgcmd.NewCatalog(addAll), pgcmdmcp.Options{Tools: []pgcmdmcp.Tool{{Command: "customers.create[]", AllowWrites: true}}})
	r := call(t, session, "customers_create_batch", `{"input":[{"email":"x@example.com"},{"email":"ada@example.com"}]}`)
	e := failure(t, r)
	assert.Equal(t, "conflict", e.Code)
	assert.Equal(t, "customers.create[1]", e.Command)
	require.Len(t, r.Content, 2)
	assert.Contains(t, r.Content[1].(*mcp.TextContent).Text, `"skipped":1`)
}

func TestTwoCallsWithOneKeyAreOneChange(t *testing.T) {
	t.Parallel()
	session, pool := connect(t, all)
	const arguments = `{"key":"order-7","id":7,"customer":1,"cents":5}`
	assert.Equal(t, `{"output":7}`, output(t, call(t, session, "orders_place", arguments)))
	assert.Equal(t, `{"output":7}`, output(t, call(t, session, "orders_place", arguments)), "and no conflict of the orders' key")
	e := failure(t, call(t, session, "orders_place", `{"key":"order-7","id":8,"customer":1,"cents":5}`))
	assert.Equal(t, "conflict", e.Code)
	assert.Contains(t, e.Message, "the key was used before, with another input")
	assert.Equal(t, "invalid", failure(t, call(t, session, "orders_place", `{"id":8,"customer":1,"cents":5}`)).Code, "there is no key but the client's")
	var n int
	require.NoError(t, pool.QueryRow(t.Context(), `select count(*) from orders`).Scan(&n))
	assert.Equal(t, 1, n)
}

// fingerprint is what is in the tables, and who the superusers are: other tests on the server make roles too, but none of
// these.
func fingerprint(t testing.TB, pool *pgxpool.Pool) (text string) {
	t.Helper()
	require.NoError(t, pool.QueryRow(t.Context(), `
		select concat_ws(E'\n', (select string_agg(c::text, ',' order by id) from customers c), (select string_agg(o::text, ',' order by id) from orders o),
			(select string_agg(s::text, ',') from secrets s), (select string_agg(o::text, ',' order by key) from pgcmd.once o),
			(select string_agg(nspname || '.' || relname, ',' order by c.oid) from pg_class c join pg_namespace n on n.oid = relnamespace where nspname !~ '^pg_'),
			(select string_agg(rolname, ',' order by rolname) from pg_roles where rolsuper))`).Scan(&text))
	return text
}
