package pgcmdweb_test

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgcmd/pgcmd"
	"github.com/pgcmd/pgcmd/pgcmdtest"
	"github.com/pgcmd/pgcmd/pgcmdweb"
)

const canary = "canary-hunter2"

type byEmail struct {
	Email  string `validate:"required"`
	Secret string `secret:"true"`
}

var (
	find   = pgcmd.QueryOne[byEmail, string]("users.find", `select email from users where email = @email`)
	create = pgcmd.Exec[byEmail]("users.create", `insert into users (email, secret) values (@email, @secret)`)
	broken = pgcmd.Exec[struct{}]("users.broken", `select nothing from nowhere`)
	odd    = pgcmd.New("users.odd", func(context.Context, pgcmd.DB, byEmail) (int, error) {
		return 0, pgcmd.Errorf(pgcmd.CodeFailed, "<script>alert(1)</script>: %w", errors.New("it was "+canary))
	})
)

func connect(t *testing.T) *pgcmd.Pool {
	t.Helper()
	return pgcmdtest.Connect(t, pgcmd.Config{MaxConns: 4}, `create table users (email text primary key, secret text)`)
}

// work runs commands that succeed and that fail, with canaries wherever a value can be.
func work(t *testing.T, pool *pgcmd.Pool) {
	t.Helper()
	ctx := context.Background()
	in := byEmail{Email: canary + "@example.com", Secret: canary}
	_, err := create.Run(ctx, pool, in)
	require.NoError(t, err)
	_, err = find.Run(ctx, pool, in)
	require.NoError(t, err)
	_, err = create.Run(ctx, pool, in) // a conflict, whose detail holds the value
	require.Error(t, err)
	_, err = broken.Run(ctx, pool, struct{}{})
	require.Error(t, err)
	_, err = odd.Run(ctx, pool, in)
	require.Error(t, err)
	_, err = find.Run(ctx, pool, byEmail{Secret: canary})
	require.Error(t, err)
}

func ask(t *testing.T, h http.Handler, method, target string) *http.Response {
	t.Helper()
	w := httptest.NewRecorder()
	request := httptest.NewRequest(method, target, nil)
	request.Host = "localhost:8081"
	h.ServeHTTP(w, request)
	return w.Result()
}

func body(t *testing.T, r *http.Response) string {
	t.Helper()
	text, err := io.ReadAll(r.Body)
	require.NoError(t, err)
	return string(text)
}

func TestThePageOnlyShows(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(pgcmdweb.Handler(connect(t)))
	t.Cleanup(server.Close)
	for _, method := range []string{"POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND"} {
		request, err := http.NewRequest(method, server.URL, nil)
		require.NoError(t, err)
		r, err := http.DefaultClient.Do(request)
		require.NoError(t, err)
		require.NoError(t, r.Body.Close())
		assert.Equal(t, http.StatusMethodNotAllowed, r.StatusCode, method)
		assert.Equal(t, "GET, HEAD", r.Header.Get("Allow"), method)
	}
	r, err := http.Head(server.URL)
	require.NoError(t, err)
	assert.Equal(t, http.StatusOK, r.StatusCode)
	assert.Empty(t, body(t, r))
	assert.Equal(t, http.StatusBadRequest, ask(t, pgcmdweb.Handler(connect(t)), "GET", "/?format=xml").StatusCode)
}

func TestThePagesPolicyAllowsWhatIsEmbeddedAndNothingElse(t *testing.T) {
	t.Parallel()
	pool := connect(t)
	work(t, pool)
	r := ask(t, pgcmdweb.Handler(pool), "GET", "/debug/pgcmd")
	policy, page := r.Header.Get("Content-Security-Policy"), body(t, r)
	assert.NotContains(t, policy, "unsafe")
	for _, part := range []string{"default-src 'none'", "base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'"} {
		assert.Contains(t, policy, part)
	}
	for _, kind := range []string{"style", "script"} {
		found := regexp.MustCompile(`(?s)<`+kind+`>(.*?)</`+kind+`>`).FindAllStringSubmatch(page, -1)
		require.Len(t, found, 1)
		sum := sha256.Sum256([]byte(found[0][1]))
		assert.Contains(t, policy, fmt.Sprintf("%s-src 'sha256-%s'", kind, base64.StdEncoding.EncodeToString(sum[:])))
	}
	rest := regexp.MustCompile(`(?s)<(style|script)>.*?</(style|script)>`).ReplaceAllString(page, "")
	assert.NotRegexp(t, `\sstyle=|\son[a-z]+="|\ssrc=`, rest, "the policy would refuse it")
	for _, target := range regexp.MustCompile(`href="([^"]*)"`).FindAllStringSubmatch(rest, -1) {
		assert.Regexp(t, `^(\?|data:image/svg)`, target[1], "works under any prefix, and loads nothing")
	}
	assert.Equal(t, "no-store", r.Header.Get("Cache-Control"))
	assert.Equal(t, "nosniff", r.Header.Get("X-Content-Type-Options"))
	assert.Equal(t, "no-referrer", r.Header.Get("Referrer-Policy"))
}

func TestNoValueIsOnThePage(t *testing.T) {
	t.Parallel()
	pool := connect(t)
	work(t, pool)
	h := pgcmdweb.Handler(pool)
	for _, target := range []string{"/", "/?sort=name", "/?format=json", "/?sort=" + canary, "/?format=" + canary + "&x=" + canary} {
		text := body(t, ask(t, h, "GET", target))
		assert.NotContains(t, text, canary, target)
		assert.NotContains(t, text, "<script>alert", target)
	}
	page := body(t, ask(t, h, "GET", "/"))
	for _, part := range []string{"users.create", "users.broken", "violates unique constraint", "23505", "42P01", "not applied", "&lt;script&gt;alert(1)"} {
		assert.Contains(t, page, part)
	}
}

func TestTheJSONHoldsWhatThePageShows(t *testing.T) {
	t.Parallel()
	pool := connect(t)
	h := pgcmdweb.Handler(pool)
	work(t, pool)
	r := ask(t, h, "GET", "/any/path?format=json&sort=errors")
	assert.Equal(t, "application/json", r.Header.Get("Content-Type"))
	var got struct {
		At      time.Time `json:"at"`
		Status  string    `json:"status"`
		Ping    float64   `json:"ping_ms"`
		Rate    float64   `json:"rate"`
		Errors  int       `json:"errors"`
		Wrong   []map[string]string
		Pool    struct{ Max, Idle, RetryTokens int }
		History []any

		Replicas []any
		Commands []struct {
			Name        string         `json:"name"`
			Level       string         `json:"level"`
			Runs        int            `json:"runs"`
			RunsTotal   int            `json:"runs_total"`
			Errors      map[string]int `json:"errors"`
			ErrorsTotal map[string]int `json:"errors_total"`
			P50         float64        `json:"p50_ms"`
			P99         float64        `json:"p99_ms"`
		}
		Failures []struct {
			Command, Code, Effect, SQLState, Message string
			Attempts                                 int
			At                                       time.Time
		}
		Slowest []struct{ Command string }
	}
	text := body(t, r)
	require.NoError(t, json.Unmarshal([]byte(text), &got), text)
	assert.WithinDuration(t, time.Now(), got.At, time.Minute)
	assert.Equal(t, "up", got.Status)
	assert.Positive(t, got.Ping)
	assert.Equal(t, 4, got.Pool.Max)
	assert.Equal(t, 4, got.Errors)
	assert.NotNil(t, got.Replicas, "an empty list, not null")

	byName := map[string]int{}
	for i, c := range got.Commands {
		byName[c.Name] = i
	}
	created := got.Commands[byName["users.create"]]
	assert.Equal(t, 2, created.Runs)
	assert.Equal(t, 2, created.RunsTotal)
	assert.Equal(t, map[string]int{"conflict": 1}, created.Errors)
	assert.Equal(t, map[string]int{"conflict": 1}, created.ErrorsTotal)
	assert.Positive(t, created.P50)
	assert.Empty(t, created.Level, "a conflict is the caller's own business")
	require.Len(t, got.Wrong, 1)
	assert.Equal(t, map[string]string{"level": "bad", "subject": "users.broken", "text": "1 of 1 runs failed: internal 1",
		"detail": `the SQL names a table that does not exist (line 1 of the SQL, at "nowhere"): is it dropped or renamed, or in a schema that is not in the search_path?`}, got.Wrong[0])
	require.Len(t, got.Failures, 4)
	assert.Equal(t, "users.find", got.Failures[0].Command)
	assert.Equal(t, "42P01", got.Failures[2].SQLState)
	assert.NotEmpty(t, got.Slowest)
}

// The text of a program's own error may be as long as what a caller sends.
func TestALongMessageIsShownInPart(t *testing.T) {
	t.Parallel()
	pool := connect(t)
	taken := pgcmd.New("users.taken", func(_ context.Context, _ pgcmd.DB, name string) (int, error) {
		return 0, pgcmd.Errorf(pgcmd.CodeInternal, "taken: %s", name)
	})
	for i := range 20 {
		_, err := taken.Run(t.Context(), pool, fmt.Sprint(i)+strings.Repeat("é", 1<<20))
		require.Error(t, err)
	}
	h := pgcmdweb.Handler(pool)
	for _, target := range []string{"/", "/?format=json"} {
		text := body(t, ask(t, h, "GET", target))
		assert.Less(t, len(text), 200_000, target)
		assert.Contains(t, text, "taken: 19éé", target)
		assert.Contains(t, text, "éé…", target)
		assert.True(t, utf8.ValidString(text), target)
	}
}

func TestAPageThatHasNothingToShow(t *testing.T) {
	t.Parallel()
	page := body(t, ask(t, pgcmdweb.Handler(connect(t)), "GET", "/"))
	assert.Contains(t, page, "Nothing is wrong")
	assert.Contains(t, page, "No command has run yet.")
	assert.Contains(t, page, "a snapshot: reload for a newer one", "without JavaScript")
}

func TestAServerThatIsDownIsTheFirstThingOnThePage(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	server, err := pgcmdtest.Start(ctx)
	require.NoError(t, err)
	t.Cleanup(func() { _ = server.Close() })
	pool, err := pgcmd.Connect(ctx, pgcmd.Config{URL: server.URL(), ConnectTimeout: time.Second})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, pool.Close(ctx)) })
	h := pgcmdweb.Handler(pool)
	require.Contains(t, body(t, ask(t, h, "GET", "/")), "Nothing is wrong")
	require.NoError(t, server.Stop(ctx, pgcmdtest.Immediate))
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		start := time.Now()
		page := body(t, ask(t, h, "GET", "/"))
		assert.Less(c, time.Since(start), time.Second, "the page does not wait for the server")
		assert.Contains(c, page, "<b>primary</b> does not answer")
	}, 15*time.Second, 100*time.Millisecond)
}

func TestAPoolThatIsNilIsAMistake(t *testing.T) {
	t.Parallel()
	for name, make := range map[string]func(){
		"Handler":       func() { pgcmdweb.Handler(nil) },
		"HealthHandler": func() { pgcmdweb.HealthHandler(nil) },
	} {
		assert.PanicsWithValue(t, "pgcmdweb: the pool is nil: make one with pgcmd.Connect", make, name)
	}
}

func Example() {
	pool, err := pgcmd.Connect(context.Background(), pgcmd.Config{URL: os.Getenv("DATABASE_URL")})
	if err != nil {
		log.Fatal(err)
	}
	private := http.NewServeMux() // not where the world can come
	private.Handle("/debug/pgcmd", pgcmdweb.Handler(pool))
	log.Fatal(http.ListenAndServe("localhost:8081", private))
}

func TestRequestsForOtherHostsAreRefused(t *testing.T) {
	t.Parallel()
	pool := connect(t)
	local, public := pgcmdweb.Handler(pool), pgcmdweb.Handler(pool, "ops.example.com")
	ported := pgcmdweb.Handler(pool, "ops.example.com:8081", "[::1]:8081", ":8081")
	for name, c := range map[string]struct {
		h    http.Handler
		host string
		want int
	}{
		"its address":                          {local, "127.0.0.1:8081", 200},
		"its address, the newer":               {local, "[::1]:8081", 200},
		"the same without a port":              {local, "[::1]", 200},
		"its name":                             {local, "localhost:8081", 200},
		"a name that was pointed here":         {local, "evil.example:8081", 403},
		"a name that begins like its own":      {local, "localhost.evil.example", 403},
		"a name that looks like its address":   {local, "127.0.0.1.evil.example", 403},
		"another address":                      {local, "192.0.2.7", 403},
		"no name":                              {local, "", 403},
		"its public name":                      {public, "OPS.example.com:443", 200},
		"its address, which was not named":     {public, "127.0.0.1:8081", 403},
		"its public name, given with a port":   {ported, "ops.example.com:443", 200},
		"its address, given with a port":       {ported, "[::1]", 200},
		"no name, where a port was given":      {ported, "", 403},
		"another name, that has the port":      {ported, "evil.example:8081", 403},
		"a name that ends like its public one": {public, "evil.ops.example.com", 403},
	} {
		for _, target := range []string{"/", "/?format=json", "/debug/pgcmd?sort=p99"} {
			w := httptest.NewRecorder()
			request := httptest.NewRequest("GET", target, nil)
			request.Host = c.host
			c.h.ServeHTTP(w, request)
			assert.Equal(t, c.want, w.Code, "%s %s", name, target)
			if c.want == 403 {
				assert.Equal(t, "the Host header names no host of this server: add it to those of Handler, if it is one\n", w.Body.String())
			}
		}
	}
}
