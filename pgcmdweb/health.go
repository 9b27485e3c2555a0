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
	health := func(ctx context.Context) pgcmd.Health {
		mu.Lock()
		defer mu.Unlock()
		if time.Since(asked) > time.Second {
			last, asked = pool.Health(context.WithoutCancel(ctx)), time.Now()
		}
		return last
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := health(r.Context())
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-store")
		if h.Status == pgcmd.HealthDown {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		_ = json.NewEncoder(w).Encode(h)
	})
}
