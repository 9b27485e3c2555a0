package pgcmdmcp

import (
	"context"
	"sync"

	"github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/pgcmd/pgcmd"
)

// progressOf returns a context whose batches tell the client of their progress, if it
// has asked for that, and a function to call before it is answered.
//
// A client that is slow to read must not hold up a transaction: what it has not read
// yet makes place for what is newer. Nor does it hold up the call when ctx is done.
func progressOf(ctx context.Context, req *mcp.CallToolRequest) (context.Context, func()) {
	token := req.Params.GetProgressToken()
	if token == nil {
		return ctx, func() {}
	}
	type state struct{ done, total int }
	var mu sync.Mutex
	var ended bool
	latest := make(chan state, 1)
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		last := 0
		for now := range latest {
			if now.done <= last { // of the second batch of a body, or of a second attempt: it may only rise
				continue
			}
			last = now.done
			_ = req.Session.NotifyProgress(ctx, &mcp.ProgressNotificationParams{
				ProgressToken: token, Progress: float64(now.done), Total: float64(max(now.total, 0)),
			}) // a client that has gone will not miss it
		}
	}()
	tell := func(done, total int) {
		mu.Lock()
		defer mu.Unlock()
		if ended {
			return
		}
		select {
		case <-latest:
		default:
		}
		latest <- state{done, total}
	}
	return pgcmd.WithProgress(ctx, tell), func() {
		mu.Lock()
		ended = true
		close(latest)
		mu.Unlock()
		select {
		case <-sent:
		case <-ctx.Done():
		}
	}
}
