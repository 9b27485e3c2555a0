package stmtcache_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgconn/ctxwatch"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgcmd/pgcmd/internal/stmtcache"
	"github.com/pgcmd/pgcmd/pgcmdtest"
)

type countCancels struct{ n *atomic.Int32 }

func (c countCancels) HandleCancel(context.Context) { c.n.Add(1) }
func (c countCancels) HandleUnwatchAfterCancel()    {}

// After a panic of OnNotice while a statement is sent, the context keeps nothing of the connection.
func TestAPanicOfOnNoticeEndsTheWatchOfTheContext(t *testing.T) {
	t.Parallel()
	cfg, err := pgx.ParseConfig(pgcmdtest.URL(t, `create function noisy() returns int immutable language plpgsql as $$ begin raise notice 'planned'; return 1; end $$`))
	require.NoError(t, err)
	var cancels atomic.Int32
	loud := false
	cfg.BuildContextWatcherHandler = func(*pgconn.PgConn) ctxwatch.Handler { return countCancels{&cancels} }
	cfg.OnNotice = func(*pgconn.PgConn, *pgconn.Notice) {
		if loud {
			panic("notice")
		}
	}
	conn, err := pgx.ConnectConfig(t.Context(), cfg)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	loud = true
	var reply stmtcache.Reply
	reply.To(conn, `select noisy()`, nil, nil)
	require.PanicsWithValue(t, "notice", func() { _ = reply.Send(ctx) })
	ended := make(chan struct{})
	context.AfterFunc(ctx, func() { close(ended) })
	cancel()
	<-ended
	assert.Never(t, func() bool { return cancels.Load() > 0 }, 50*time.Millisecond, 10*time.Millisecond)
}
