package pgcmdweb

import (
	"context"
	"encoding/json"
	"net/http"
	"sync"
	"time"

	"github.com/pgcmd/pgcmd"
)

// HealthHandler serves the pool's [pgcmd.Pool.Health] as JSON, for a readiness probe: with
// status 200 if it is up or degraded, 503 if it is down. However many requests there are,
// the server is asked once a second. It panics if pool is nil.
func HealthHandler(pool *pgcmd.Pool) http.Handler {
	if pool == nil {
		panic("pgcmdweb: the pool is nil: make one with pgcmd.Connect")
	}
	var mu sync.Mutex
	var last pgcmd.Health
	var asked time.Time
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		if time.Since(asked) > time.Second {
			last, asked = pool.Health(context.WithoutCancel(r.Context())), time.Now()
		}
		h := last
		mu.Unlock()
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-store")
		if h.Status == pgcmd.HealthDown {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		_ = json.NewEncoder(w).Encode(h)
	})
}
