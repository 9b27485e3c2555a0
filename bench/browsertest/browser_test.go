// Package browsertest opens the page of pgcmdweb in a headless Chromium. It is in this module because of its dependency,
// which drives the browser. go test -short leaves it out.
package browsertest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgcmd/pgcmd"
	"github.com/pgcmd/pgcmd/pgcmdtest"
	"github.com/pgcmd/pgcmd/pgcmdweb"
)

// chromium starts a browser with a profile of its own.
func chromium(t *testing.T) context.Context {
	t.Helper()
	if testing.Short() {
		t.Skip("it needs Chromium: run make web-test")
	}
	var program string
	for _, name := range []string{os.Getenv("PGCMD_TEST_CHROMIUM"), "chromium", "chromium-browser", "google-chrome", "google-chrome-stable"} {
		if found, err := exec.LookPath(name); err == nil && name != "" {
			program = found
			break
		}
	}
	require.NotEmpty(t, program, "no Chromium on the PATH: run scripts/ensure-chromium")
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewExecAllocator(ctx,
		chromedp.ExecPath(program), chromedp.UserDataDir(t.TempDir()), chromedp.Headless, chromedp.NoSandbox, chromedp.DisableGPU,
		chromedp.NoFirstRun, chromedp.NoDefaultBrowserCheck, chromedp.Flag("disable-quic", true), chromedp.Flag("disable-background-networking", true),
		chromedp.Flag("disable-component-update", true), chromedp.Flag("disable-sync", true), chromedp.Flag("disable-dev-shm-usage", true))
	t.Cleanup(cancel)
	return ctx
}

type step = chromedp.Action[chromedp.Void]

// command is a step that sends a command of the protocol.
func command[P, R any](c cdp.Command[P, R], params P) step {
	return chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		_, err := cdp.Call(ctx, t, c, params)
		return err
	})
}

// tab is one tab, and what went wrong or was asked for in it.
type tab struct {
	t   *testing.T
	ctx context.Context

	mu       sync.Mutex
	troubles []string
	requests []string
}

func open(t *testing.T, browser context.Context, before ...step) *tab {
	t.Helper()
	ctx, cancel := chromedp.NewContext(browser)
	t.Cleanup(cancel)
	tb := &tab{t: t, ctx: ctx}
	require.NoError(t, chromedp.Listen(ctx, func(event any) {
		tb.mu.Lock()
		defer tb.mu.Unlock()
		switch e := event.(type) {
		case *runtime.EventExceptionThrown:
			tb.troubles = append(tb.troubles, e.ExceptionDetails.Text)
		case *runtime.EventConsoleAPICalled:
			tb.troubles = append(tb.troubles, fmt.Sprint(e.Type, e.Args))
		case *log.EventEntryAdded: // what the policy refuses is here, and what cannot be loaded
			tb.troubles = append(tb.troubles, e.Entry.Text+" "+e.Entry.URL)
		case *network.EventRequestWillBeSent:
			tb.requests = append(tb.requests, e.Request.URL)
		}
	}))
	tb.do(command(network.Enable, network.EnableParams{}))
	tb.do(before...)
	return tb
}

func (tb *tab) do(actions ...step) {
	tb.t.Helper()
	require.NoError(tb.t, chromedp.Do(tb.ctx, actions...))
}

func (tb *tab) eval(script string) string {
	tb.t.Helper()
	result, err := chromedp.Run(tb.ctx, chromedp.Evaluate[string]("String("+script+")"))
	require.NoError(tb.t, err)
	return result
}

// sees waits until the text is on the page.
func (tb *tab) sees(text string) {
	tb.t.Helper()
	require.Eventually(tb.t, func() bool {
		found, err := chromedp.Run(tb.ctx, chromedp.Evaluate[string]("document.body.innerText"))
		return err == nil && strings.Contains(strings.ToLower(found), strings.ToLower(text))
	}, 15*time.Second, 50*time.Millisecond, text)
}

func (tb *tab) asked() int {
	tb.mu.Lock()
	defer tb.mu.Unlock()
	return len(tb.requests)
}

// fits asserts that nothing is wider than the window.
func (tb *tab) fits() {
	tb.t.Helper()
	assert.Equal(tb.t, "true", tb.eval("document.documentElement.scrollWidth <= document.documentElement.clientWidth"), "it does not scroll sideways")
}

// clean asserts that nothing went wrong, and that nothing was loaded from elsewhere.
func (tb *tab) clean(from string) {
	tb.t.Helper()
	tb.mu.Lock()
	defer tb.mu.Unlock()
	assert.Empty(tb.t, tb.troubles)
	for _, url := range tb.requests {
		assert.Truef(tb.t, strings.HasPrefix(url, from) || strings.HasPrefix(url, "data:"), "it asked for %s", url)
	}
}

// shot saves a picture of the page in the folder of PGCMD_TEST_SHOTS, if that is set.
func (tb *tab) shot(name string) {
	tb.t.Helper()
	folder := os.Getenv("PGCMD_TEST_SHOTS")
	if folder == "" {
		return
	}
	picture, err := chromedp.Run(tb.ctx, chromedp.FullScreenshot(100))
	require.NoError(tb.t, err)
	require.NoError(tb.t, os.WriteFile(filepath.Join(folder, name+".png"), picture, 0o644))
}

func scheme(name string) step {
	return command(emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
		Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: name}}})
}

// serve connects a pool, and serves its page under a prefix, as a proxy would.
func serve(t *testing.T, cfg pgcmd.Config) (*pgcmd.Pool, *httptest.Server, string) {
	t.Helper()
	ctx := context.Background()
	if cfg.URL == "" {
		cfg.URL = pgcmdtest.URL(t, `create table users (email text primary key)`)
	}
	pool, err := pgcmd.Connect(ctx, cfg)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, pool.Close(ctx)) })
	mux := http.NewServeMux()
	mux.Handle("/ops/eu/debug/pgcmd", pgcmdweb.Handler(pool))
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	return pool, server, server.URL + "/ops/eu/debug/pgcmd"
}

type byEmail struct{ Email string }

var (
	find   = pgcmd.QueryOne[byEmail, string]("users.find", `select email from users where email = @email`)
	create = pgcmd.Exec[byEmail]("users.create", `insert into users (email) values (@email)`)
	broken = pgcmd.Exec[struct{}]("users.export", `select revenue from nowhere`)
)

func TestThePageInABrowser(t *testing.T) {
	ctx := context.Background()
	pool, server, url := serve(t, pgcmd.Config{MaxConns: 4})
	browser := chromium(t)
	tb := open(t, browser, chromedp.EmulateViewport(1280, 900), chromedp.Navigate(url))
	tb.sees("Nothing is wrong")
	tb.sees("No command has run yet.")
	tb.eval("window.mark = 'not reloaded'")

	_, err := create.Run(ctx, pool, byEmail{"ada@example.com"})
	require.NoError(t, err)
	tb.sees("users.create")
	tb.shot("calm")
	_, err = broken.Run(ctx, pool, struct{}{})
	require.Error(t, err)
	tb.sees("One thing is wrong")
	tb.sees("1 of 1 runs failed: internal 1")
	assert.Equal(t, "(1) pgcmd", tb.eval("document.title"))
	assert.Equal(t, "not reloaded", tb.eval("window.mark"))

	for _, name := range []string{"dark", "light"} {
		tb.do(scheme(name))
		assert.Equal(t, map[string]string{"dark": "rgb(18, 21, 24)", "light": "rgb(246, 246, 244)"}[name], tb.eval("getComputedStyle(document.body).backgroundColor"))
	}
	tb.fits()

	// A column's head sorts without a reload, and the address can be shared.
	assert.Equal(t, "users.export", tb.eval("document.querySelector('.commands tbody .name').textContent"), "the worst is first")
	tb.do(chromedp.Click(chromedp.CSS(`.commands thead a[href="?sort=name"]`)))
	require.Eventually(t, func() bool {
		return tb.eval("document.querySelector('.commands tbody .name').textContent") == "users.create" && strings.HasSuffix(tb.eval("location.href"), "/debug/pgcmd?sort=name")
	}, 5*time.Second, 50*time.Millisecond)
	assert.Equal(t, "ascending", tb.eval("document.querySelector('th[aria-sort]').getAttribute('aria-sort')"))
	tb.do(chromedp.NavigateBack())
	require.Eventually(t, func() bool { return tb.eval("document.querySelector('th[aria-sort]')") == "null" }, 5*time.Second, 50*time.Millisecond)
	assert.Equal(t, "not reloaded", tb.eval("window.mark"))

	// What is selected to be copied survives the updates.
	tb.eval("getSelection().selectAllChildren(document.querySelector('.runs .what'))")
	before := tb.asked()
	require.Eventually(t, func() bool { return tb.asked() >= before+2 }, 10*time.Second, 50*time.Millisecond)
	assert.Contains(t, tb.eval("getSelection()"), "names a table that does not exist")

	// Paused, it asks for nothing.
	tb.do(chromedp.Click(chromedp.CSS("#pause")))
	time.Sleep(300 * time.Millisecond) // for one that is under way
	before = tb.asked()
	time.Sleep(2500 * time.Millisecond)
	assert.Equal(t, before, tb.asked())
	tb.do(chromedp.Click(chromedp.CSS("#pause")))
	require.Eventually(t, func() bool { return tb.asked() > before }, 5*time.Second, 50*time.Millisecond)

	// Nor does it in a tab that is hidden.
	hide := func(hidden bool) {
		tb.eval(fmt.Sprintf("Object.defineProperty(document, 'hidden', {value: %v, configurable: true}), document.dispatchEvent(new Event('visibilitychange'))", hidden))
	}
	time.Sleep(300 * time.Millisecond)
	hide(true)
	before = tb.asked()
	time.Sleep(2500 * time.Millisecond)
	assert.Equal(t, before, tb.asked())
	hide(false)
	require.Eventually(t, func() bool { return tb.asked() > before }, 5*time.Second, 50*time.Millisecond)
	tb.clean(server.URL)

	// A server that went away does not leave old news looking new.
	server.CloseClientConnections()
	server.Close()
	tb.sees("no answer since")
}

func TestThePageWithoutJavaScript(t *testing.T) {
	pool, server, url := serve(t, pgcmd.Config{MaxConns: 4})
	_, err := create.Run(context.Background(), pool, byEmail{"ada@example.com"})
	require.NoError(t, err)
	tb := open(t, chromium(t), command(emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: true}), chromedp.Navigate(url))
	tb.sees("users.create")
	tb.sees("a snapshot: reload for a newer one")
	assert.Equal(t, "none", tb.eval("getComputedStyle(document.getElementById('pause')).display"))
	tb.do(chromedp.Navigate(url + "?sort=p99")) // a click is simulated by a script, which would not run
	assert.Equal(t, "p99", tb.eval("document.querySelector('th[aria-sort=descending]').textContent"))
	tb.clean(server.URL)
}

// TestAnIncident makes the page show all that it can, at the width of a phone and of a
// desk.
func TestAnIncident(t *testing.T) {
	ctx := context.Background()
	primary, err := pgcmdtest.Start(ctx)
	require.NoError(t, err)
	t.Cleanup(func() { _ = primary.Close() })
	standby, err := primary.Standby(ctx)
	require.NoError(t, err)
	t.Cleanup(func() { _ = standby.Close() })
	url, err := primary.Database(ctx, `create table users (email text primary key); insert into users select 'user' || i from generate_series(1, 500) i`)
	require.NoError(t, err)
	pool, server, address := serve(t, pgcmd.Config{URL: url, MaxConns: 4, Replicas: []string{standby.URL()}, MaxReplicaLag: time.Minute})

	working, stop := context.WithCancel(ctx)
	var workers sync.WaitGroup
	load := func(pause time.Duration, run func()) {
		workers.Go(func() {
			for {
				select {
				case <-working.Done():
					return
				case <-time.After(time.Duration(float64(pause) * (0.5 + rand.Float64()))):
					run()
				}
			}
		})
	}
	t.Cleanup(func() { stop(); workers.Wait() })
	export := pgcmd.Exec[struct{}]("billing.export-invoices", `select pg_sleep(0.02 + random() * 0.2)`)
	slow := export.With(pgcmd.Options{Timeout: 90 * time.Millisecond})
	charge := pgcmd.New("billing.charge", func(ctx context.Context, db pgcmd.DB, in byEmail) (int, error) {
		if rand.IntN(3) == 0 {
			return 0, pgcmd.Errorf(pgcmd.CodeUnknownEffect, "the payment was sent, and no reply came")
		}
		return 1, nil
	})
	load(5*time.Millisecond, func() { _, _ = find.Run(working, pool, byEmail{fmt.Sprint("user", rand.IntN(510))}) })
	load(20*time.Millisecond, func() { _, _ = create.Run(working, pool, byEmail{fmt.Sprint("user", rand.IntN(100000))}) })
	load(150*time.Millisecond, func() { _, _ = slow.Run(working, pool, struct{}{}) })
	load(900*time.Millisecond, func() { _, _ = charge.Run(working, pool, byEmail{}) })
	load(3*time.Second, func() { _, _ = broken.Run(working, pool, struct{}{}) })

	tb := open(t, chromium(t), chromedp.EmulateViewport(1280, 900), chromedp.Navigate(address))
	if history, err := time.ParseDuration(os.Getenv("PGCMD_TEST_SHOTS_AFTER")); err == nil {
		time.Sleep(history) // for pictures with some of it
	}
	tb.sees("billing.charge")
	tb.sees("unknown effect")
	tb.sees("timeout")
	tb.sees("Replica 0")
	require.NoError(t, standby.Stop(ctx, pgcmdtest.Immediate))
	tb.sees("is left out")
	for _, name := range []string{"light", "dark"} {
		tb.do(scheme(name), chromedp.EmulateViewport(1280, 900))
		tb.fits()
		tb.shot("desk-" + name)
		tb.do(chromedp.EmulateViewport(390, 844, chromedp.EmulateMobile, chromedp.EmulateScale(2)))
		tb.fits()
		tb.shot("phone-" + name)
	}
	tb.do(scheme("light"), chromedp.EmulateViewport(820, 1100))
	tb.fits()
	tb.shot("tablet-light")
	tb.clean(server.URL)
}
