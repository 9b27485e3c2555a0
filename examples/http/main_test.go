package main

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgcmd/pgcmd"
	"github.com/pgcmd/pgcmd/pgcmdtest"
)

func TestRequestsBecomeRunsAndRunsBecomeAnswers(t *testing.T) {
	t.Parallel()
	pool := pgcmdtest.Connect(t, pgcmd.Config{}, schema, pgcmd.OnceSchema)
	server := httptest.NewServer(routes(pool))
	t.Cleanup(server.Close)

	ask := func(method, path, key, body string) (status int, answer string) {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), method, server.URL+path, strings.NewReader(body))
		require.NoError(t, err)
		if key != "" {
			r.Header.Set("Idempotency-Key", key)
		}
		res, err := server.Client().Do(r)
		require.NoError(t, err)
		defer res.Body.Close()
		text, err := io.ReadAll(res.Body)
		require.NoError(t, err)
		return res.StatusCode, strings.TrimSpace(string(text))
	}
	for _, c := range []struct {
		method, path, key, body string
		status                  int
		answer                  string
	}{
		{"POST", "/users", "", `{"email":"ada@example.com","age":36}`, 201, `{"id":1,"email":"ada@example.com","age":36}`},
		{"POST", "/users", "", `{"email":"ada@example.com","age":36}`, 409, `{"code":"conflict","effect":"not_applied","message":"email is already registered"}`},
		{"POST", "/users", "", `{"email":"ada","age":3}`, 400, `{"code":"invalid","effect":"not_applied","message":"the input was refused for 2 reasons",` +
			`"problems":[{"field":"Email","rule":"email","message":"Email must be a valid email address"},{"field":"Age","rule":"gte","message":"Age must be 18 or greater"}]}`},
		{"POST", "/users", "", `{"email":"eve@example.com","age":36,"admin":true}`, 400, `the body is not the JSON object that is wanted`},
		{"POST", "/users", "", `{"email":"eve@example.com","age":36}{}`, 400, `the body is not the JSON object that is wanted`},
		{"POST", "/users", "", ``, 400, `the body is not the JSON object that is wanted`},
		{"POST", "/users", "", `{"email":"` + strings.Repeat("x", 70_000) + `"}`, 413, `"message":"the body is larger than 64 KiB"`},
		{"GET", "/users/ada@example.com", "", ``, 200, `{"id":1,"email":"ada@example.com","age":36}`},
		{"GET", "/users/eve@example.com", "", ``, 404, `{"code":"not_found"`},
		{"POST", "/orders", "order-7", `{"email":"ada@example.com","cents":500}`, 201, `{"id":1,"cents":500}`},
		{"POST", "/orders", "order-7", `{"email":"ada@example.com","cents":500}`, 201, `{"id":1,"cents":500}`},
		{"POST", "/orders", "order-7", `{"email":"ada@example.com","cents":600}`, 409, `the key was used before, with another input`},
		{"POST", "/orders", "", `{"email":"ada@example.com","cents":500}`, 400, `"field":"Key"`},
		{"POST", "/orders", "order-8", `{"email":"eve@example.com","cents":500}`, 404, `not_found`},
		{"GET", "/health", "", ``, 200, `"status"`},
		{"DELETE", "/users", "", ``, 405, ``},
	} {
		status, answer := ask(c.method, c.path, c.key, c.body)
		assert.Equal(t, c.status, status, "%s %s %.80s: %s", c.method, c.path, c.body, answer)
		assert.Contains(t, answer, c.answer)
	}
	_, err := pool.Exec(t.Context(), `alter table users rename age to years`)
	require.NoError(t, err)
	status, answer := ask("GET", "/users/ada@example.com", "", "")
	assert.Equal(t, 500, status)
	assert.Equal(t, `{"code":"internal","effect":"not_applied"}`, answer, "what only the log says")
}

func TestEveryCodeHasAStatus(t *testing.T) {
	t.Parallel()
	for code, want := range map[pgcmd.Code]int{
		pgcmd.CodeUnavailable: 503, pgcmd.CodeExhausted: 503, pgcmd.CodeAborted: 503, pgcmd.CodeTimeout: 504, pgcmd.CodeCanceled: 499,
		pgcmd.CodeTooManyRows: 422, pgcmd.CodeSkipped: 424, pgcmd.CodeUnknownEffect: 500, pgcmd.CodePermission: 500, pgcmd.CodeFailed: 500, pgcmd.CodeInternal: 500, pgcmd.CodeNestedAcquire: 500,
	} {
		w := httptest.NewRecorder()
		fail(w, pgcmd.Errorf(code, "why"))
		assert.Equal(t, want, w.Code, code)
		assert.Equal(t, want < 500, strings.Contains(w.Body.String(), "why"))
		assert.Equal(t, want == 503, w.Header().Get("Retry-After") == "1")
	}
}

// TestARequestThatIsUnderWayEnds stops the service while it answers.
func TestARequestThatIsUnderWayEnds(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	arrived, goOn := make(chan struct{}), make(chan struct{})
	slow := pgcmd.New("slow", func(context.Context, pgcmd.DB, struct{}) (string, error) {
		close(arrived)
		<-goOn
		return "done", nil
	})
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- serve(ctx, listener, handle(nobody{}, slow, http.StatusOK, func(*http.Request) (struct{}, error) { return struct{}{}, nil }))
	}()
	answered := make(chan string, 1)
	go func() {
		res, err := http.Get("http://" + listener.Addr().String())
		if !assert.NoError(t, err) {
			answered <- ""
			return
		}
		defer res.Body.Close()
		text, _ := io.ReadAll(res.Body)
		answered <- strings.TrimSpace(string(text))
	}()
	<-arrived
	stop()
	require.Eventually(t, func() bool {
		conn, err := net.Dial("tcp", listener.Addr().String())
		if err == nil {
			conn.Close()
		}
		return err != nil
	}, 10*time.Second, time.Millisecond, "nobody new is let in")
	close(goOn)
	assert.Equal(t, `"done"`, <-answered)
	assert.NoError(t, <-ended)
}

// nobody is a DB that no command of the test uses.
type nobody struct{ pgcmd.DB }

func TestTheServiceStartsAndStops(t *testing.T) {
	t.Parallel()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	said, out := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		err := run(ctx, "127.0.0.1:0", out)
		out.CloseWithError(err)
		ended <- err
	}()
	buf := make([]byte, 4096)
	n, err := said.Read(buf)
	require.NoError(t, err)
	address := regexp.MustCompile(`http://[0-9.:]+`).FindString(string(buf[:n]))
	res, err := http.Get(address + "/health")
	require.NoError(t, err)
	defer res.Body.Close()
	assert.Equal(t, http.StatusOK, res.StatusCode)
	stop()
	assert.NoError(t, <-ended)
}

func TestTheCommandsFitTheTables(t *testing.T) {
	t.Parallel()
	pgcmdtest.VerifyOn(t, pgcmdtest.Pool(t, schema, pgcmd.OnceSchema), createUser, findUser, insertOrder, placeOrder)
}
