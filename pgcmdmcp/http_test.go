package pgcmdmcp_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgcmd/pgcmd/pgcmdmcp"
	"github.com/pgcmd/pgcmd/pgcmdtest"
)

// serve serves everything by HTTP on loopback.
func serve(t testing.TB, hosts ...string) *httptest.Server {
	t.Helper()
	server, err := pgcmdmcp.New(catalog, pgcmdtest.Pool(t, shopDDL), all)
	require.NoError(t, err)
	h := httptest.NewServer(server.Handler(hosts...))
	t.Cleanup(h.Close)
	return h
}

func TestClientsAreServedByHTTP(t *testing.T) {
	t.Parallel()
	h := serve(t)
	told := make(chan float64, 100)
	for range 2 { // there are no sessions, so that nothing of one is another's
		session, err := mcp.NewClient(&mcp.Implementation{Name: "test", Version: "1"}, &mcp.ClientOptions{
			ProgressNotificationHandler: func(_ context.Context, req *mcp.ProgressNotificationClientRequest) { told <- req.Params.Progress },
		}).Connect(t.Context(), &mcp.StreamableClientTransport{Endpoint: h.URL, HTTPClient: h.Client()}, nil)
		require.NoError(t, err)
		assert.Equal(t, `{"output":[1,2]}`, output(t, call(t, session, "numbers", `{"input":2}`)))
		assert.Equal(t, "not_found", failure(t, call(t, session, "customers_find", `{"email":"none@example.com"}`)).Code)
		assert.Contains(t, read(t, session, "pgcmd://schema"), `"customers"`)
		params := &mcp.CallToolParams{Name: "customers_create_batch", Arguments: map[string]any{"input": []any{map[string]any{"email": "x@example.com"}}}}
		params.SetProgressToken("t")
		r, err := session.CallTool(t.Context(), params)
		require.NoError(t, err)
		assert.False(t, r.IsError)
		assert.Equal(t, 1.0, <-told)
		require.NoError(t, session.Close())
	}
}

// The protocols up to 2025-03-26 allow a list of messages. One of 4 MiB would hold 90,000 of
// them.
func TestARequestHoldsOnlySoManyMessages(t *testing.T) {
	t.Parallel()
	h := serve(t)
	pings := func(n int) string {
		var list []string
		for i := range n {
			list = append(list, fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"method":"ping"}`, i))
		}
		return strings.Join(list, ",")
	}
	for name, c := range map[string]struct {
		body string
		want int
		says string
	}{
		"as many as it may":                 {"[" + pings(100) + "]", 200, `"id":99,"result":{}`},
		"one more":                          {"[" + pings(101) + "]", 413, "request body has more than 100 messages"},
		"many behind one that is none":      {`[{"method":1,"params":[]},` + pings(100) + "]", 413, "request body has more than 100 messages"},
		"many behind white space":           {" \n\t[ " + pings(101) + "]", 413, "request body has more than 100 messages"},
		"many, of which one is not JSON":    {`[` + pings(50) + `,{"id":01},` + pings(100) + "]", 400, "malformed payload"},
		"no end":                            {`[` + pings(50), 400, "malformed payload"},
		"nested, which is one that is none": {strings.Repeat("[", 100_000), 400, "malformed payload"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, version := range []string{"2025-03-26", "2025-06-18"} {
				req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, h.URL, strings.NewReader(c.body))
				require.NoError(t, err)
				req.Header.Set("Content-Type", "application/json")
				req.Header.Set("Accept", "application/json, text/event-stream")
				req.Header.Set("Mcp-Protocol-Version", version)
				res, err := h.Client().Do(req)
				require.NoError(t, err)
				text := drain(res)
				if c.want == 200 && version > "2025-03-26" {
					assert.Equal(t, 400, res.StatusCode, "it has no lists")
					continue
				}
				assert.Equal(t, c.want, res.StatusCode, "%s", text)
				assert.Contains(t, text, c.says)
			}
		})
	}
}

func TestRequestsOfOtherPagesAndForOtherNamesAreRefused(t *testing.T) {
	t.Parallel()
	local, public := serve(t), serve(t, "mcp.example.com")
	const initialize = `{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{},"clientInfo":{"name":"x","version":"1"}}}`
	for name, c := range map[string]struct {
		to           *httptest.Server
		method, host string
		header       map[string]string
		body         string
		want         int
		says         string
	}{
		"by its address":                      {to: local, want: 200},
		"by its name":                         {to: local, host: "localhost:1234", want: 200},
		"by a name that was pointed here":     {to: local, host: "evil.example", want: 403, says: "the Host header names no host of this server"},
		"the same, and so is the page":        {to: local, host: "evil.example:80", header: map[string]string{"Origin": "http://evil.example:80"}, want: 403},
		"a name that begins like one":         {to: local, host: "localhost.evil.example", want: 403},
		"from another page":                   {to: local, header: map[string]string{"Origin": "https://evil.example"}, want: 403},
		"from another page, as browsers say":  {to: local, header: map[string]string{"Sec-Fetch-Site": "cross-site"}, want: 403},
		"from a page without an origin":       {to: local, header: map[string]string{"Origin": "null"}, want: 403},
		"by a form, which asks nobody first":  {to: local, header: map[string]string{"Content-Type": "text/plain"}, want: 415},
		"by GET":                              {to: local, method: http.MethodGet, want: 405},
		"by its public name":                  {to: public, host: "MCP.example.com", want: 200},
		"by its public name and port":         {to: public, host: "mcp.example.com:443", want: 200},
		"by another one":                      {to: public, host: "evil.example", want: 403},
		"by its address, which was not named": {to: public, want: 403},
		"more than it takes":                  {to: local, body: `{"x":"` + strings.Repeat("x", 5<<20) + `"}`, want: 413},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			method, body := http.MethodPost, initialize
			if c.method != "" {
				method = c.method
			}
			if c.body != "" {
				body = c.body
			}
			req, err := http.NewRequestWithContext(t.Context(), method, c.to.URL, strings.NewReader(body))
			require.NoError(t, err)
			req.Header.Set("Content-Type", "application/json")
			req.Header.Set("Accept", "application/json, text/event-stream")
			for key, value := range c.header {
				req.Header.Set(key, value)
			}
			req.Host = c.host
			res, err := c.to.Client().Do(req)
			require.NoError(t, err)
			defer res.Body.Close()
			text, err := io.ReadAll(res.Body)
			require.NoError(t, err)
			assert.Equal(t, c.want, res.StatusCode, "%s", text)
			assert.Contains(t, string(text), c.says)
		})
	}
}
