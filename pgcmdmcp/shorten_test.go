package pgcmdmcp_test

import (
	"context"
	"encoding/json"
	"fmt"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"github.com/google/jsonschema-go/jsonschema"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgcmd/pgcmd"
	"github.com/pgcmd/pgcmd/pgcmdmcp"
	"github.com/pgcmd/pgcmd/pgcmdtest"
)

// told is what a client learns of a batch that is too long.
type told struct {
	Outcomes                   []any
	Succeeded, Failed, Skipped int
	Failures                   []struct {
		Index                 int
		Code, Effect, Message string
	}
	Others []struct {
		Code, Effect, Items string
		Count               int
	}
	Shortened string
}

// without returns the indexes of the items that did not succeed, as code and effect.
func (r told) without(t testing.TB) map[int]string {
	t.Helper()
	m := map[int]string{}
	for _, f := range r.Failures {
		m[f.Index] = f.Code + " " + f.Effect
		assert.NotEmpty(t, f.Message)
	}
	for _, o := range r.Others {
		n := 0
		for part := range strings.SplitSeq(o.Items, ",") {
			from, to, many := strings.Cut(part, "-")
			if !many {
				to = from
			}
			first, err := strconv.Atoi(from)
			require.NoError(t, err)
			last, err := strconv.Atoi(to)
			require.NoError(t, err)
			for i := first; i <= last; i++ {
				assert.NotContains(t, m, i)
				m[i] = o.Code + " " + o.Effect
				n++
			}
		}
		assert.Equal(t, o.Count, n)
	}
	return m
}

// fits asserts that the structured content is what the output schema of the tool says.
func fits(t testing.TB, session *mcp.ClientSession, tool string, r *mcp.CallToolResult) {
	t.Helper()
	tools, err := session.ListTools(t.Context(), nil)
	require.NoError(t, err)
	for _, listed := range tools.Tools {
		if listed.Name != tool {
			continue
		}
		text, err := json.Marshal(listed.OutputSchema)
		require.NoError(t, err)
		var schema jsonschema.Schema
		require.NoError(t, json.Unmarshal(text, &schema))
		resolved, err := schema.Resolve(nil)
		require.NoError(t, err)
		require.NoError(t, resolved.Validate(r.StructuredContent))
		return
	}
	t.Fatalf("there is no tool %s", tool)
}

func TestABatchThatIsTooLongTellsWhatBecameOfEveryItem(t *testing.T) {
	t.Parallel()
	const items = 1000
	bad := func(i int) string { // every fifth, in three ways
		switch {
		case i%5 != 0:
			return ""
		case i%15 == 0:
			return "invalid not_applied"
		}
		return "conflict not_applied"
	}
	var list []string
	want := map[int]string{}
	for i := range items {
		item := fmt.Sprintf(`{"email":"c%d@example.com"}`, i)
		switch bad(i) {
		case "invalid not_applied":
			item = `{"email":"` + canary + `"}`
		case "conflict not_applied":
			item = `{"email":"ada@example.com"}`
		}
		if bad(i) != "" {
			want[i] = bad(i)
		}
		list = append(list, item)
	}
	arguments := `{"input":[` + strings.Join(list, ",") + `]}`
	for _, mode := range []pgcmd.BatchMode{pgcmd.Isolated, pgcmd.Independent} {
		for _, limit := range []int{100, 3000, 20_000, 60_000} {
			t.Run(fmt.Sprint(mode, " ", limit), func(t *testing.T) {
				t.Parallel()
				pool := pgcmdtest.Pool(t, shopDDL)
				session := connectTo(t, pool, pgcmd.NewCatalog(pgcmd.Batch(add, mode)), pgcmdmcp.Options{
					Limits: pgcmdmcp.Limits{OutputBytes: limit}, Tools: []pgcmdmcp.Tool{{Command: "customers.create[]", AllowWrites: true}}})
				r := call(t, session, "customers_create_batch", arguments)
				text := output(t, r)
				fits(t, session, "customers_create_batch", r)
				assert.NotContains(t, text, canary)
				var result told
				require.NoError(t, json.Unmarshal([]byte(text), &result))
				assert.Equal(t, items-len(want), result.Succeeded)
				assert.Equal(t, len(want), result.Failed)
				assert.Empty(t, result.Outcomes)
				assert.Contains(t, result.Shortened, "Every other item succeeded")
				assert.Equal(t, want, result.without(t))
				if limit > 2000 && len(result.Others) > 0 { // the indexes alone are longer than 100
					assert.LessOrEqual(t, len(text), limit)
					assert.Greater(t, len(text), limit/2)
				}
				if limit >= 60_000 {
					assert.LessOrEqual(t, len(text), limit)
					assert.Empty(t, result.Others)
				}
				var n int
				require.NoError(t, pool.QueryRow(t.Context(), `select count(*) from customers where email like 'c%'`).Scan(&n))
				assert.Equal(t, result.Succeeded, n)
			})
		}
	}
}

func TestABatchThatStoppedTellsItsItemsHoweverLong(t *testing.T) {
	t.Parallel()
	for mode, effect := range map[pgcmd.BatchMode]string{pgcmd.Atomic: "", pgcmd.Sequential: ""} {
		t.Run(mode.String(), func(t *testing.T) {
			t.Parallel()
			session := connectTo(t, pgcmdtest.Pool(t, shopDDL), pgcmd.NewCatalog(pgcmd.Batch(add, mode)), pgcmdmcp.Options{
				Limits: pgcmdmcp.Limits{OutputBytes: 1000}, Tools: []pgcmdmcp.Tool{{Command: "customers.create[]", AllowWrites: true}}})
			var list []string
			for i := range 500 {
				list = append(list, fmt.Sprintf(`{"email":"c%d@example.com"}`, i))
			}
			list[100] = `{"email":"ada@example.com"}`
			r := call(t, session, "customers_create_batch", `{"input":[`+strings.Join(list, ",")+`]}`)
			assert.Equal(t, "conflict", failure(t, r).Code, effect)
			require.Len(t, r.Content, 2)
			var result told
			require.NoError(t, json.Unmarshal([]byte(r.Content[1].(*mcp.TextContent).Text), &result))
			assert.Equal(t, 1, result.Failed)
			require.Len(t, result.Failures, 1)
			assert.Equal(t, 100, result.Failures[0].Index)
			assert.Equal(t, 499, result.Succeeded+result.Skipped)
			assert.Len(t, result.without(t), 500-result.Succeeded)
			assert.Equal(t, map[pgcmd.BatchMode]int{pgcmd.Atomic: 0, pgcmd.Sequential: 100}[mode], result.Succeeded)
		})
	}
}

// A write that was applied is told so, whatever its result.
func TestAWriteWhoseResultIsTooLongIsNoError(t *testing.T) {
	t.Parallel()
	type row struct {
		ID        int64  `json:"id"`
		Note      string `json:"note"`
		Shortened string `json:"shortened" db:"-"`
	}

	const sql = `update customers set note = repeat('x', 300) where id <= $1 returning `
	described := pgcmd.Options{Description: "Notes."}
	c := pgcmd.NewCatalog(
		pgcmd.Query[int, row]("rows", sql+`id, note`).With(described),
		pgcmd.Query[int, row]("limited", sql+`id, note`).With(described).With(pgcmd.Options{MaxRows: 1}),
		pgcmd.QueryOne[int, row]("row", sql+`id, note`).With(described),
		pgcmd.QueryOne[int, string]("text", sql+`note`).With(described),
		pgcmd.New("map", func(ctx context.Context, db pgcmd.DB, in int) (map[string]string, error) {
			_, err := db.Exec(ctx, `update customers set note = 'y' where id <= $1`, in)
			return map[string]string{"a": strings.Repeat("x", 300)}, err
		}).With(described))
	for tool, wants := range map[string]string{
		"rows":    `{"output":[{"id":1,"note":"` + strings.Repeat("x", 300) + `","shortened":""}],"shortened":"It was applied. Of 2 rows the first 1 are shown: a client is given at most 1000 rows and 550 bytes. Do not repeat the call."}`,
		"limited": `{"output":[],"shortened":"It was applied. It returned more than 1 rows, of which none is shown. Do not repeat the call."}`,
		"row":     `{"shortened_":"It was applied. Its result has 333 bytes, and a client is given at most 250. Do not repeat the call."}`,
		"text":    `{"shortened":"It was applied. Its result has 302 bytes, and a client is given at most 250. Do not repeat the call."}`,
		"map":     `{"shortened":"It was applied. Its result has 308 bytes, and a client is given at most 250. Do not repeat the call."}`,
	} {
		t.Run(tool, func(t *testing.T) {
			t.Parallel()
			pool := pgcmdtest.Pool(t, shopDDL)
			limit, argument := 250, `{"input":1}`
			if tool == "rows" || tool == "limited" {
				limit, argument = 550, `{"input":2}`
			}
			session := connectTo(t, pool, c, pgcmdmcp.Options{Limits: pgcmdmcp.Limits{OutputBytes: limit}, Tools: []pgcmdmcp.Tool{{Command: tool, AllowWrites: true}}})
			r := call(t, session, tool, argument)
			assert.JSONEq(t, wants, output(t, r))
			fits(t, session, tool, r)
			var n int
			require.NoError(t, pool.QueryRow(t.Context(), `select count(*) from customers where note like 'x%' or note = 'y'`).Scan(&n))
			assert.NotZero(t, n)
		})
	}
}

// What is too long is not read: a client must not be able to take the server's memory.
func TestAValueThatIsTooLongTakesNoMemory(t *testing.T) {
	pool := pgcmdtest.Pool(t, shopDDL)
	config := pool.Config()
	pgcmd.Instrument(config) // which leaves out what is too long
	instrumented, err := pgxpool.NewWithConfig(t.Context(), config)
	require.NoError(t, err)
	t.Cleanup(instrumented.Close)
	described := pgcmd.Options{Description: "Is long."}
	read := described
	read.ReadOnly = true
	c := pgcmd.NewCatalog(
		pgcmd.QueryOne[int, string]("one", `select repeat('x', $1)`).With(read),
		pgcmd.Query[int, string]("many", `select repeat('x', $1)`).With(read),
		pgcmd.Batch(pgcmd.QueryOne[int, string]("each", `select repeat('x', $1)`).With(read), pgcmd.Independent).With(read),
		pgcmd.QueryOne[int, string]("write", `update customers set note = 'y' where id = 1 returning repeat('x', $1)`).With(described))
	session := connectTo(t, instrumented, c, pgcmdmcp.Options{
		Tools: []pgcmdmcp.Tool{{Command: "one"}, {Command: "many"}, {Command: "each[]"}, {Command: "write", AllowWrites: true}}})
	const length = 100_000_000
	for tool, arguments := range map[string]string{"one": `{"input":%d}`, "many": `{"input":%d}`, "each_batch": `{"input":[%d]}`, "write": `{"input":%d}`} {
		t.Run(tool, func(t *testing.T) {
			call(t, session, tool, fmt.Sprintf(arguments, 1)) // what is made once
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			r := call(t, session, tool, fmt.Sprintf(arguments, length))
			runtime.ReadMemStats(&after)
			assert.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(length/10))
			switch tool {
			case "write":
				assert.JSONEq(t, `{"shortened":"It was applied. It returned more than 262144 bytes, of which none is shown. Do not repeat the call."}`, output(t, r))
				fits(t, session, tool, r)
			case "each_batch":
				assert.Contains(t, output(t, r), "more than MaxBytes")
			default:
				e := failure(t, r)
				assert.Equal(t, "too_many_rows not_applied", e.Code+" "+e.Effect)
				assert.Equal(t, "the result has more than 262144 bytes: ask for less", e.Message)
			}
		})
	}
	t.Run("numbers are shorter as JSON", func(t *testing.T) {
		session := connectTo(t, instrumented, pgcmd.NewCatalog(pgcmd.Query[int, []int64]("zeros", `select array[0::int8] from generate_series(1, $1)`).With(read)),
			pgcmdmcp.Options{Limits: pgcmdmcp.Limits{OutputBytes: 1000}, Tools: []pgcmdmcp.Tool{{Command: "zeros"}}})
		assert.Len(t, output(t, call(t, session, "zeros", `{"input":249}`)), 1008)
	})
}
