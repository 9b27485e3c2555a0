// Package pgcmdweb shows a pool on a web page, for people on call.
//
//	mux.Handle("/debug/pgcmd", pgcmdweb.Handler(pool))
//
// The page says first what is wrong now; then how the pool and its replicas are, what
// each command does, and which runs failed or were slow. It updates itself every two
// seconds while its tab is visible, and is a snapshot without JavaScript. It loads
// nothing from elsewhere. ?format=json is the same for programs.
//
// # Who may see it
//
// The page holds names, codes, numbers and the messages of errors, which are safe to
// show, and no value of an input or a row. It changes nothing. It asks for no password
// either: mount it where only your own people come. A web page that they look at cannot
// read it: a request whose Host header names another host than this machine, or than the
// hosts that the handler is made with, is refused.
//
// # What is red
//
// What callers get wrong and what a command is there to say are ordinary outcomes, and
// drawn grey: invalid, not_found, too_many_rows, conflict, canceled, skipped, failed, and
// every code of the program's own. Amber is worth a look: aborted, timeout, unavailable,
// exhausted; they turn red when one run in ten, and three at least, ends so. Red is what
// is unknown or wrong whatever its number: unknown_effect, permission, nested_acquire,
// internal. The red of the charts is all that is not ordinary.
//
// # The history
//
// The sparklines and the comparison with before come from readings of
// [pgcmd.Pool.Metrics] that the handler takes every five seconds from when it is made,
// so that they are there when somebody looks, and keeps for ten minutes: about 3 kB for
// each command. A timer takes them, and no goroutine waits in between. There is
// nothing to close: the readings end when the handler is no longer in use.
package pgcmdweb

import (
	"bytes"
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"encoding/json"
	"html/template"
	"net/http"
	"sync"
	"time"

	"github.com/pgcmd/pgcmd"
	"github.com/pgcmd/pgcmd/internal/hosts"
)

// Handler serves the page of a pool. It answers whatever the path, so that it can be
// mounted anywhere, with or without [http.StripPrefix], and behind a proxy.
//
// A request has to name one of the names in its Host header, whatever the port, else it
// is a 403: so a web page whose name was pointed at this machine (DNS rebinding) gets
// nowhere. Without names those of the machine itself will do: localhost and its
// addresses. Behind a proxy that keeps the Host header, give its public name.
//
//	GET ?sort=p99     the page, its commands by p99: worst (the default), name, rate, errors, p50, p95, p99, retries, in_flight
//	GET ?format=json  the same as JSON
//
// While somebody looks, it asks the server by [pgcmd.Pool.Health], at most every two
// seconds. It panics if pool is nil.
func Handler(pool *pgcmd.Pool, names ...string) http.Handler {
	if pool == nil {
		panic("pgcmdweb: the pool is nil: make one with pgcmd.Connect")
	}
	h := newHistory(pool.Metrics)
	h.follow(sampleEvery)
	return hosts.Only(names, &page{history: h, prober: prober{ask: pool.Health}})
}

type page struct {
	history *history
	prober  prober
}

func (p *page) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	header := w.Header()
	header.Set("Cache-Control", "no-store")
	header.Set("Content-Security-Policy", assets().policy)
	header.Set("Referrer-Policy", "no-referrer")
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("X-Frame-Options", "DENY") // for browsers that do not know frame-ancestors
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		header.Set("Allow", "GET, HEAD")
		http.Error(w, "this page only shows: use GET", http.StatusMethodNotAllowed)
		return
	}
	query := r.URL.Query()
	v := p.history.view(p.prober.health(r.Context()))
	v.sort(query.Get("sort"))
	var body bytes.Buffer
	var err error
	switch format := query.Get("format"); format {
	case "json":
		header.Set("Content-Type", "application/json")
		err = json.NewEncoder(&body).Encode(v)
	case "":
		header.Set("Content-Type", "text/html; charset=utf-8")
		err = assets().page.Execute(&body, v)
	default:
		http.Error(w, "there is no such format: leave it out for the page, or use format=json", http.StatusBadRequest)
		return
	}
	if err != nil { // none is known to happen; its text would say nothing to people on call
		http.Error(w, "the page could not be made", http.StatusInternalServerError)
		return
	}
	_, _ = w.Write(body.Bytes())
}

var (
	//go:embed page.html
	pageHTML string
	//go:embed page.css
	pageCSS string
	//go:embed page.js
	pageJS string
)

type parsed struct {
	page   *template.Template
	policy string
}

// assets is parsed when first needed: a program may import the package and never serve
// the page.
var assets = sync.OnceValue(func() parsed {
	funcs := template.FuncMap{
		"css": func() template.CSS { return template.CSS(pageCSS) },
		"js":  func() template.JS { return template.JS(pageJS) },
		"ms":  shownTime, "rate": shownRate, "count": shownCount, "percent": percent, "ago": shownAge,
		"rateSpark": rateSpark, "timeSpark": timeSpark, "useSpark": useSpark, "icon": icon,
		"severity": severity, "words": words,
	}
	return parsed{
		page: template.Must(template.New("page").Funcs(funcs).Parse(pageHTML)),
		// Nothing runs and nothing styles but what is embedded here, by its hash.
		policy: "default-src 'none'; script-src " + hash(pageJS) + "; style-src " + hash(pageCSS) +
			"; img-src data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
	}
})

func hash(text string) string {
	sum := sha256.Sum256([]byte(text))
	return "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
}

// prober asks how the pool is, once for all who look.
type prober struct {
	ask func(context.Context) pgcmd.Health

	mu    sync.Mutex
	last  pgcmd.Health
	at    time.Time     // of the answer
	asked chan struct{} // closed with the answer; nil if nobody asks
}

const (
	askEvery  = 1900 * time.Millisecond // a bit less than the page's own two seconds
	waitForIt = 400 * time.Millisecond  // a page that is late is worse than a page that is not sure
)

// health returns what is known of the pool: a status that is empty if nothing is, yet.
func (p *prober) health(ctx context.Context) pgcmd.Health {
	p.mu.Lock()
	if p.asked == nil && time.Since(p.at) > askEvery {
		done := make(chan struct{})
		p.asked = done
		go func() { // ends within the two seconds that Health takes at most
			h := p.ask(context.WithoutCancel(ctx))
			p.mu.Lock()
			defer p.mu.Unlock()
			p.last, p.at, p.asked = h, time.Now(), nil
			close(done)
		}()
	}
	asked := p.asked
	p.mu.Unlock()
	if asked != nil {
		select {
		case <-asked:
		case <-time.After(waitForIt):
		case <-ctx.Done():
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.last
}
