package pgcmdotel_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/pgcmd/pgcmd"
	"github.com/pgcmd/pgcmd/pgcmdotel"
	"github.com/pgcmd/pgcmd/pgcmdtest"
)

const canary = "canary-1b7e"

type secretIn struct {
	Email string `validate:"max=60"`
	Token string `secret:"true"`
}

// No value of an input, a row, an error's text or the URL, and no SQL, comes into
// telemetry, however a run ends.
func TestNoValueComesIntoTelemetry(t *testing.T) {
	t.Parallel()
	s := newTelemetry(t)
	url := pgcmdtest.URL(t, usersDDL+`; create table parents (id text primary key); create table children (parent text references parents)`)
	if strings.Contains(url, "?") {
		url += "&password=" + canary
	} else {
		url += " password=" + canary
	}
	cfg := pgcmd.Config{URL: url, MaxConns: 2, AcquireTimeout: 50 * time.Millisecond}
	o := s.options(pgcmdotel.WithServer(cfg))
	cfg.Middleware = []pgcmd.Middleware{pgcmdotel.Middleware(o...)}
	pool := connect(t, cfg)
	_, err := pgcmdotel.RegisterPool(pool, o...)
	require.NoError(t, err)
	own := pgcmd.Options{Middleware: []pgcmd.Middleware{pgcmdotel.Middleware(o...)}}

	ctx := t.Context()
	in := secretIn{Email: canary + "@example.com", Token: canary}
	long := secretIn{Email: strings.Repeat(canary, 10)}
	runs := 0
	run := func(want pgcmd.Code, err error) {
		t.Helper()
		runs++
		require.Equal(t, want, pgcmd.CodeOf(err), "%v", err)
	}
	insert := pgcmd.Exec[secretIn]("canary.insert", `insert into users (email) values (@email)`).With(own)
	_, err = insert.Run(ctx, pool, in)
	run("", err)
	_, err = insert.Run(ctx, pool, in)
	run(pgcmd.CodeConflict, err)
	_, err = insert.Run(ctx, pool, long)
	run(pgcmd.CodeInvalid, err)
	rows, err := list.Run(ctx, pool, struct{}{})
	run("", err)
	require.Contains(t, fmt.Sprint(rows), canary)
	_, err = pgcmd.Query[string, string]("canary.cast", `select $1::text::int::text`).Run(ctx, pool, canary)
	run(pgcmd.CodeInvalid, err)
	_, err = pgcmd.Query[struct{}, int]("canary.scan", `select email from users`).Run(ctx, pool, struct{}{})
	run(pgcmd.CodeInternal, err)
	_, err = pgcmd.Exec[string]("canary.parent", `insert into children values ($1)`).Run(ctx, pool, canary)
	run(pgcmd.CodeConflict, err)
	_, err = pgcmd.Exec[struct{}]("canary.sql", `select '`+canary+`' from no_such_table`).Run(ctx, pool, struct{}{})
	run(pgcmd.CodeInternal, err)
	_, err = pgcmd.Exec[string]("canary.raise", `select 1/(length($1) - length($1))`).Run(ctx, pool, canary)
	run(pgcmd.CodeInvalid, err)
	_, err = pgcmd.AdHoc.Run(ctx, pool, pgcmd.AdHocQuery{SQL: `select '` + canary + `' where @x::int = '` + canary + `'`, Args: map[string]any{"x": canary}})
	run(pgcmd.CodeInvalid, err)
	_, err = pgcmd.New("canary.body", func(context.Context, pgcmd.DB, secretIn) (string, error) { return canary, errors.New(canary) }).Run(ctx, pool, in)
	run(pgcmd.CodeFailed, err)
	_, err = pgcmd.Transaction("canary.tx", func(ctx context.Context, tx *pgcmd.Tx, in secretIn) (string, error) {
		_, err := insert.Run(ctx, tx, in)
		runs++
		return canary, err
	}).With(own).Run(ctx, pool, in)
	run(pgcmd.CodeConflict, err)
	_, err = pgcmd.Batch(insert, pgcmd.Isolated).Run(ctx, pool, []secretIn{in, long, in})
	runs += 3 // at the most
	run("", err)
	_, err = pgcmd.Exec[string]("canary.slow", `select pg_sleep(5), $1::text`).With(pgcmd.Options{Timeout: 20 * time.Millisecond, ReadOnly: true}).Run(ctx, pool, canary)
	run(pgcmd.CodeTimeout, err)
	for range 2 {
		held, err := pool.Acquire(ctx)
		require.NoError(t, err)
		defer held.Release()
	}
	_, err = insert.Run(ctx, pool, in)
	run(pgcmd.CodeExhausted, err)

	spans := s.spans.GetSpans()
	assert.GreaterOrEqual(t, len(spans), 15)
	assert.LessOrEqual(t, len(spans), runs)
	text := fmt.Sprintf("%+v", spans)
	for _, span := range spans { // what %+v does not reach into
		assert.Empty(t, span.Events)
		for _, kv := range span.Attributes {
			text += fmt.Sprintln(kv.Key, kv.Value.String())
		}
	}
	var all metricdata.ResourceMetrics
	require.NoError(t, s.reader.Collect(ctx, &all))
	metrics, err := json.Marshal(all)
	require.NoError(t, err)
	text += string(metrics)
	require.Contains(t, text, "canary.insert")
	require.Contains(t, text, "db.client.connection.max")
	for _, part := range []string{canary, "select", "insert into", "values (", "password"} {
		if i := strings.Index(text, part); i >= 0 {
			t.Errorf("%q is in the telemetry: ...%s...", part, text[max(0, i-200):min(len(text), i+100)])
		}
	}
}
