package pgcmdmcp_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgcmd/pgcmd/pgcmdmcp"
	"github.com/pgcmd/pgcmd/pgcmdtest"
)

// versions are all that the SDK speaks.
var versions = []string{"2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25", "2026-07-28"}

// waiting is a server by HTTP whose calls wait for a minute, if nothing ends them.
type waiting struct {
	t      testing.TB
	pool   *pgxpool.Pool
	watch  *pgxpool.Pool
	server *pgcmdmcp.Server
	http   *httptest.Server
}

func newWaiting(t testing.TB) *waiting {
	pool := pgcmdtest.Pool(t, shopDDL)
	server, err := pgcmdmcp.New(catalog, pool, pgcmdmcp.Options{Limits: pgcmdmcp.Limits{Time: time.Minute},
		Tools: []pgcmdmcp.Tool{{Command: "wait"}, {Command: "numbers"}}})
	require.NoError(t, err)
	h := httptest.NewServer(server.Handler())
	t.Cleanup(h.Close)
	watch, err := pgxpool.NewWithConfig(t.Context(), pool.Config()) // of its own: the calls may take all connections
	require.NoError(t, err)
	t.Cleanup(watch.Close)
	return &waiting{t, pool, watch, server, h}
}

// queries counts the calls that sleep on the server: one that is being prepared may not be seen a moment later.
func (w *waiting) queries() (n int) {
	require.NoError(w.t, w.watch.QueryRow(w.t.Context(), `select count(*) from pg_stat_activity
		where datname = current_database() and wait_event = 'PgSleep'`).Scan(&n))
	return n
}

func (w *waiting) await(queries int) {
	w.t.Helper()
	require.Eventually(w.t, func() bool { return w.queries() == queries }, 20*time.Second, 5*time.Millisecond, "%d of them", queries)
}

// client is a raw one of a version.
type rawClient struct {
	*waiting
	version, session string
}

func (w *waiting) client(version string) *rawClient {
	c := &rawClient{waiting: w, version: version}
	if version < "2026" {
		res := c.do(w.t.Context(), http.MethodPost, fmt.Sprintf(
			`{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":%q,"capabilities":{},"clientInfo":{"name":"x","version":"1"}}}`, version))
		require.Equal(w.t, 200, res.StatusCode)
		c.session = res.Header.Get("Mcp-Session-Id")
		require.NotEmpty(w.t, c.session)
		drain(res)
	}
	return c
}

func drain(res *http.Response) string {
	text, _ := io.ReadAll(res.Body)
	res.Body.Close()
	return string(text)
}

func (c *rawClient) do(ctx context.Context, method, body string) *http.Response {
	req, err := http.NewRequestWithContext(ctx, method, c.http.URL, strings.NewReader(body))
	require.NoError(c.t, err)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json, text/event-stream")
	if !strings.Contains(body, `"initialize"`) {
		req.Header.Set("Mcp-Protocol-Version", c.version)
	}
	if c.version >= "2026" && strings.Contains(body, "tools/call") {
		req.Header.Set("Mcp-Method", "tools/call")
		req.Header.Set("Mcp-Name", "wait")
	}
	if c.session != "" {
		req.Header.Set("Mcp-Session-Id", c.session)
	}
	res, err := c.http.Client().Do(req)
	if err != nil {
		return nil
	}
	return res
}

func (c *rawClient) call(id string) string {
	meta := ""
	if c.version >= "2026" {
		meta = fmt.Sprintf(`"_meta":{"io.modelcontextprotocol/protocolVersion":%q,"io.modelcontextprotocol/clientCapabilities":{},"io.modelcontextprotocol/clientInfo":{"name":"x","version":"1"}},`, c.version)
	}
	return fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"method":"tools/call","params":{%s"name":"wait","arguments":{"input":3600}}}`, id, meta)
}

func cancelled(id string) string {
	return fmt.Sprintf(`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":%s,"reason":"enough"}}`, id)
}

// start makes a request in the background. Its answer, if there is one, is the result.
func (c *rawClient) start(body string) (disconnect context.CancelFunc, answer chan string) {
	ctx, disconnect := context.WithCancel(context.WithoutCancel(c.t.Context()))
	answer = make(chan string, 1)
	go func() {
		defer close(answer)
		if res := c.do(ctx, http.MethodPost, body); res != nil {
			answer <- drain(res)
		}
	}()
	c.t.Cleanup(func() { disconnect(); <-answer })
	return disconnect, answer
}

func TestAClientThatDisconnectsEndsItsQueryOnTheServer(t *testing.T) {
	t.Parallel()
	for _, version := range versions {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			c := newWaiting(t).client(version)
			disconnect, _ := c.start(c.call("1"))
			c.await(1)
			disconnect()
			c.await(0)
		})
	}
}

func TestACancelledCallEndsItsQueryOnTheServer(t *testing.T) {
	t.Parallel()
	for _, version := range versions[:4] { // the last has no other way than to disconnect
		for _, id := range []string{"7", `"seven"`} {
			t.Run(version+" "+id, func(t *testing.T) {
				t.Parallel()
				w := newWaiting(t)
				c, other := w.client(version), w.client(version)
				_, answer := c.start(c.call(id))
				_, others := other.start(other.call(id))
				w.await(2)
				stranger := &rawClient{waiting: w, version: version}
				for _, body := range []string{cancelled("8"), cancelled(`"eight"`)} { // no call's
					assert.Equal(t, 202, c.do(t.Context(), http.MethodPost, body).StatusCode)
				}
				assert.Equal(t, 202, stranger.do(t.Context(), http.MethodPost, cancelled(id)).StatusCode, "without the session")
				assert.Equal(t, 2, w.queries())
				assert.Equal(t, 202, c.do(t.Context(), http.MethodPost, cancelled(id)).StatusCode)
				text := <-answer
				assert.Contains(t, text, `"isError":true`)
				assert.Contains(t, text, `canceled`)
				w.await(1)
				assert.Empty(t, others, "another client's call goes on")
			})
		}
	}
}

func TestACallWithoutASessionIsCancelledIfThereIsOneOfItsName(t *testing.T) {
	t.Parallel()
	w := newWaiting(t)
	c := &rawClient{waiting: w, version: "2025-06-18"}
	c.start(c.call("1"))
	c.start(c.call("2"))
	c.start(c.call("2"))
	w.await(3)
	c.do(t.Context(), http.MethodPost, cancelled("2"))
	c.do(t.Context(), http.MethodPost, cancelled("1"))
	w.await(2)
}

func TestCallsThatCameTogetherEndWhenAllAreCancelled(t *testing.T) {
	t.Parallel()
	for _, version := range versions[:2] {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			w := newWaiting(t)
			c := w.client(version)
			c.start("[" + c.call("1") + "," + c.call("2") + "]")
			w.await(2)
			c.do(t.Context(), http.MethodPost, cancelled("1"))
			assert.Equal(t, 2, w.queries())
			c.do(t.Context(), http.MethodPost, "["+cancelled("1")+","+cancelled("2")+"]")
			w.await(0)
		})
	}
}

func TestTheEndOfASessionEndsItsCalls(t *testing.T) {
	t.Parallel()
	for _, version := range versions[:4] {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			w := newWaiting(t)
			c, other := w.client(version), w.client(version)
			c.start(c.call("1"))
			c.start(c.call("2"))
			other.start(other.call("1"))
			w.await(3)
			assert.Equal(t, 204, c.do(t.Context(), http.MethodDelete, "").StatusCode)
			w.await(1)
		})
	}
}

func TestAServerThatShutsDownEndsItsCalls(t *testing.T) {
	t.Parallel()
	for _, version := range versions {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			w := newWaiting(t)
			w.http.Config.RegisterOnShutdown(w.server.Close)
			c := w.client(version)
			_, answer := c.start(c.call("1"))
			w.await(1)
			require.NoError(t, w.http.Config.Shutdown(t.Context()), "it waits for no call")
			assert.Contains(t, <-answer, "canceled")
			w.await(0)
		})
	}
	t.Run("calls that come later", func(t *testing.T) {
		t.Parallel()
		w := newWaiting(t)
		w.server.Close()
		c := w.client("2025-06-18")
		_, answer := c.start(c.call("1"))
		assert.Contains(t, <-answer, `the server is shutting down`)
	})
}

func TestAbandonedCallsFreeTheirPlaces(t *testing.T) {
	t.Parallel()
	for _, version := range versions {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			w := newWaiting(t)
			c := w.client(version)
			var all []context.CancelFunc
			for i := range 8 {
				disconnect, _ := c.start(c.call(fmt.Sprint(i)))
				all = append(all, disconnect)
			}
			w.await(int(min(w.pool.Config().MaxConns, 8)))
			for _, disconnect := range all {
				disconnect()
			}
			session, err := mcp.NewClient(&mcp.Implementation{Name: "test", Version: "1"}, nil).
				Connect(t.Context(), &mcp.StreamableClientTransport{Endpoint: w.http.URL, HTTPClient: w.http.Client()}, nil)
			require.NoError(t, err)
			require.Eventually(t, func() bool { return !call(t, session, "numbers", `{"input":1}`).IsError }, 20*time.Second, 5*time.Millisecond)
			require.NoError(t, session.Close())
			w.await(0)
		})
	}
}

// By standard input and output, and every other transport that lasts.
func TestACallByAPipeEndsWithWhatCarriesIt(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(w *waiting, toServer io.WriteCloser, stop context.CancelFunc){
		"the client cancels it":   func(_ *waiting, to io.WriteCloser, _ context.CancelFunc) { fmt.Fprintln(to, cancelled("1")) },
		"the client goes":         func(_ *waiting, to io.WriteCloser, _ context.CancelFunc) { to.Close() },
		"the context of Run ends": func(_ *waiting, _ io.WriteCloser, stop context.CancelFunc) { stop() },
		"the server is closed":    func(w *waiting, _ io.WriteCloser, _ context.CancelFunc) { w.server.Close() },
	} {
		for _, version := range versions {
			t.Run(name+" "+version, func(t *testing.T) {
				t.Parallel()
				w := newWaiting(t)
				in, toServer := io.Pipe()
				fromServer, out := io.Pipe()
				ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
				ended := make(chan error, 1)
				go func() { ended <- w.server.Run(ctx, &mcp.IOTransport{Reader: in, Writer: out}) }()
				said := make(chan struct{})
				go func() {
					defer close(said)
					for lines := bufio.NewScanner(fromServer); lines.Scan(); {
					}
				}()
				c := &rawClient{waiting: w, version: version}
				if version < "2026" {
					fmt.Fprintf(toServer, `{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":%q,"capabilities":{},"clientInfo":{"name":"x","version":"1"}}}`+"\n", version)
					fmt.Fprintln(toServer, `{"jsonrpc":"2.0","method":"notifications/initialized"}`)
				}
				fmt.Fprintln(toServer, c.call("1"))
				w.await(1)
				end(w, toServer, stop)
				w.await(0)
				toServer.Close()
				stop()
				<-ended
				out.Close()
				<-said
			})
		}
	}
}
