package pgcmdotel_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/pgcmd/pgcmd"
	"github.com/pgcmd/pgcmd/pgcmdotel"
	"github.com/pgcmd/pgcmd/pgcmdtest"
)

const usersDDL = `create table users (id bigint generated always as identity primary key, email text not null unique);
	insert into users (email) values ('ann@example.com'), ('bob@example.com')`

type findUser struct {
	Email string `validate:"required,email"`
}

type user struct {
	ID    int64
	Email string
}

var (
	find    = pgcmd.QueryOne[findUser, user]("users.find", `select id, email from users where email = @email`).With(pgcmd.Options{ReadOnly: true})
	anyUser = pgcmd.QueryOne[struct{}, user]("users.any", `select id, email from users`)
	list    = pgcmd.Query[struct{}, user]("users.list", `select id, email from users order by id`)
	create  = pgcmd.Exec[findUser]("users.create", `insert into users (email) values (@email)`)
	broken  = pgcmd.Exec[struct{}]("users.break", `update no_such_table set x = 1`)
	sleep   = pgcmd.Exec[float64]("users.sleep", `select pg_sleep($1)`)
)

// A telemetry keeps what it is sent.
type telemetry struct {
	t      testing.TB
	spans  *tracetest.InMemoryExporter
	tracer *sdktrace.TracerProvider
	reader *sdkmetric.ManualReader
	meter  *sdkmetric.MeterProvider
}

func newTelemetry(t testing.TB) *telemetry {
	s := &telemetry{t: t, spans: tracetest.NewInMemoryExporter(), reader: sdkmetric.NewManualReader()}
	s.tracer = sdktrace.NewTracerProvider(sdktrace.WithSyncer(s.spans))
	s.meter = sdkmetric.NewMeterProvider(sdkmetric.WithReader(s.reader))
	return s
}

func (s *telemetry) options(more ...pgcmdotel.Option) []pgcmdotel.Option {
	return append([]pgcmdotel.Option{pgcmdotel.WithTracerProvider(s.tracer), pgcmdotel.WithMeterProvider(s.meter)}, more...)
}

// one returns the only span that has ended since it was last asked.
func (s *telemetry) one() tracetest.SpanStub {
	s.t.Helper()
	spans := s.spans.GetSpans()
	s.spans.Reset()
	require.Len(s.t, spans, 1)
	return spans[0]
}

func (s *telemetry) metric(name string) metricdata.Metrics {
	s.t.Helper()
	var all metricdata.ResourceMetrics
	require.NoError(s.t, s.reader.Collect(context.Background(), &all))
	for _, scope := range all.ScopeMetrics {
		for _, m := range scope.Metrics {
			if m.Name == name {
				return m
			}
		}
	}
	s.t.Fatalf("there is no metric %s", name)
	return metricdata.Metrics{}
}

// numbers are the data points of a sum or a gauge, by their attributes.
func (s *telemetry) numbers(name string, without ...attribute.Key) map[string]float64 {
	s.t.Helper()
	n := map[string]float64{}
	text := func(set attribute.Set) string {
		rest, _ := set.Filter(func(kv attribute.KeyValue) bool { return !slices.Contains(without, kv.Key) })
		return rest.Encoded(attribute.DefaultEncoder())
	}
	switch data := s.metric(name).Data.(type) {
	case metricdata.Sum[int64]:
		for _, p := range data.DataPoints {
			n[text(p.Attributes)] = float64(p.Value)
		}
	case metricdata.Gauge[int64]:
		for _, p := range data.DataPoints {
			n[text(p.Attributes)] = float64(p.Value)
		}
	case metricdata.Sum[float64]:
		for _, p := range data.DataPoints {
			n[text(p.Attributes)] = p.Value
		}
	case metricdata.Gauge[float64]:
		for _, p := range data.DataPoints {
			n[text(p.Attributes)] = p.Value
		}
	default:
		s.t.Fatalf("%s is a %T", name, data)
	}
	return n
}

func (s *telemetry) durations() []metricdata.HistogramDataPoint[float64] {
	s.t.Helper()
	return s.metric("db.client.operation.duration").Data.(metricdata.Histogram[float64]).DataPoints
}

func attributesOf(list []attribute.KeyValue) map[string]any {
	m := map[string]any{}
	for _, kv := range list {
		m[string(kv.Key)] = kv.Value.AsInterface()
	}
	return m
}

func connect(t testing.TB, cfg pgcmd.Config) *pgcmd.Pool {
	t.Helper()
	pool, err := pgcmd.Connect(t.Context(), cfg)
	require.NoError(t, err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		assert.NoError(t, pool.Close(ctx))
	})
	return pool
}

// observed is a pool with the middleware, on a database with two users.
func observed(t testing.TB, s *telemetry, more ...pgcmdotel.Option) *pgcmd.Pool {
	t.Helper()
	return connect(t, pgcmd.Config{URL: pgcmdtest.URL(t, usersDDL), MaxConns: 4,
		Middleware: []pgcmd.Middleware{pgcmdotel.Middleware(s.options(more...)...)}})
}

func TestARunHasASpan(t *testing.T) {
	t.Parallel()
	s := newTelemetry(t)
	cfg := pgcmd.Config{URL: pgcmdtest.URL(t, usersDDL)}
	cfg.Middleware = []pgcmd.Middleware{pgcmdotel.Middleware(s.options(pgcmdotel.WithServer(cfg), pgcmdotel.WithAttributes(attribute.String("tenant", "blue")))...)}
	pool := connect(t, cfg)
	settings := pool.Config().ConnConfig

	ctx, parent := s.tracer.Tracer("test").Start(t.Context(), "request")
	_, err := list.Run(ctx, pool, struct{}{})
	require.NoError(t, err)

	span := s.one()
	assert.Equal(t, "users.list", span.Name)
	assert.Equal(t, trace.SpanKindClient, span.SpanKind)
	assert.Equal(t, parent.SpanContext().SpanID(), span.Parent.SpanID())
	assert.Equal(t, sdktrace.Status{}, span.Status)
	assert.Empty(t, span.Events)
	assert.Equal(t, map[string]any{
		"db.system.name": "postgresql", "db.operation.name": "users.list", "db.query.summary": "users.list",
		"db.namespace": settings.Database, "server.address": fmt.Sprintf("%s/.s.PGSQL.%d", settings.Host, settings.Port), "tenant": "blue",
		"pgcmd.attempts": int64(1), "pgcmd.rows": int64(2),
	}, attributesOf(span.Attributes))

	m := s.metric("db.client.operation.duration")
	assert.Equal(t, "s", m.Unit)
	points := s.durations()
	require.Len(t, points, 1)
	assert.Equal(t, []float64{0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10}, points[0].Bounds)
	assert.EqualValues(t, 1, points[0].Count)
	assert.InDelta(t, span.EndTime.Sub(span.StartTime).Seconds(), points[0].Sum, 0.005)
	assert.Equal(t, map[string]any{
		"db.system.name": "postgresql", "db.operation.name": "users.list", "db.namespace": settings.Database,
		"server.address": fmt.Sprintf("%s/.s.PGSQL.%d", settings.Host, settings.Port), "tenant": "blue",
	}, attributesOf(points[0].Attributes.ToSlice()))
}

func TestTheServerIsToldIfItIsCertain(t *testing.T) {
	t.Parallel()
	noop := pgcmd.New("test.noop", func(ctx context.Context, db pgcmd.DB, in int) (int, error) { return in, nil })
	pool := pgcmdtest.Pool(t)
	for name, test := range map[string]struct {
		cfg  pgcmd.Config
		want map[string]any
	}{
		"a URL":       {pgcmd.Config{URL: "postgres://app:hush@db.example.com:5433/shop"}, map[string]any{"db.namespace": "shop", "server.address": "db.example.com", "server.port": int64(5433)}},
		"fields":      {pgcmd.Config{Host: "db.example.com", Database: "my 'shop'", User: "app"}, map[string]any{"db.namespace": "my 'shop'", "server.address": "db.example.com", "server.port": int64(5432)}},
		"no database": {pgcmd.Config{Host: "::1", Port: 5433, User: "app"}, map[string]any{"db.namespace": "app", "server.address": "::1", "server.port": int64(5433)}},
		"a socket":    {pgcmd.Config{Host: "/run/pg", Database: "shop", User: "app"}, map[string]any{"db.namespace": "shop", "server.address": "/run/pg/.s.PGSQL.5432"}},
		"hosts":       {pgcmd.Config{URL: "postgres://app@a.example.com,b.example.com/shop"}, map[string]any{"db.namespace": "shop"}},
		"replicas":    {pgcmd.Config{URL: "postgres://app@a.example.com/shop", Replicas: []string{"postgres://app@b.example.com/shop"}}, map[string]any{"db.namespace": "shop"}},
		"nonsense":    {pgcmd.Config{URL: "postgres://%%%"}, map[string]any{}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newTelemetry(t)
			_, err := noop.With(pgcmd.Options{Middleware: []pgcmd.Middleware{pgcmdotel.Middleware(s.options(pgcmdotel.WithServer(test.cfg))...)}}).Run(t.Context(), pool, 1)
			require.NoError(t, err)
			got := attributesOf(s.one().Attributes)
			for _, key := range []string{"db.system.name", "db.operation.name", "db.query.summary", "pgcmd.attempts", "pgcmd.rows"} {
				require.Contains(t, got, key)
				delete(got, key)
			}
			assert.Equal(t, test.want, got)
		})
	}
}

func TestWhatIsAnError(t *testing.T) {
	t.Parallel()
	s := newTelemetry(t)
	pool := observed(t, s)
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	body := func(err error) *pgcmd.Command[struct{}, int] {
		return pgcmd.New("users.body", func(context.Context, pgcmd.DB, struct{}) (int, error) { return 0, err })
	}
	for _, test := range []struct {
		name     string
		run      func(ctx context.Context) error
		code     string
		sqlState string
		system   bool
	}{
		{"an input is refused", func(ctx context.Context) error {
			_, err := find.Run(ctx, pool, findUser{"nobody"})
			return err
		}, "invalid", "", false},
		{"the server refuses a value", func(ctx context.Context) error {
			_, err := pgcmd.Exec[string]("users.cast", `select $1::text::int`).Run(ctx, pool, "x")
			return err
		}, "invalid", "22P02", false},
		{"no row", func(ctx context.Context) error {
			_, err := find.Run(ctx, pool, findUser{"carl@example.com"})
			return err
		}, "not_found", "", false},
		{"a constraint", func(ctx context.Context) error {
			_, err := create.Run(ctx, pool, findUser{"ann@example.com"})
			return err
		}, "conflict", "23505", false},
		{"the caller gave up", func(context.Context) error {
			_, err := list.Run(canceled, pool, struct{}{})
			return err
		}, "canceled", "", false},
		{"two rows for one", func(ctx context.Context) error {
			_, err := anyUser.Run(ctx, pool, struct{}{})
			return err
		}, "too_many_rows", "", true},
		{"a deadline", func(ctx context.Context) error {
			_, err := sleep.With(pgcmd.Options{Timeout: 20 * time.Millisecond, ReadOnly: true}).Run(ctx, pool, 5)
			return err
		}, "timeout", "", true},
		{"bad SQL", func(ctx context.Context) error {
			_, err := broken.Run(ctx, pool, struct{}{})
			return err
		}, "internal", "42P01", true},
		{"a body's own error", func(ctx context.Context) error {
			_, err := body(errors.New("smtp")).Run(ctx, pool, struct{}{})
			return err
		}, "failed", "", true},
		{"a body's own code", func(ctx context.Context) error {
			_, err := body(pgcmd.Errorf(pgcmd.CodeConflict, "insufficient funds")).Run(ctx, pool, struct{}{})
			return err
		}, "conflict", "", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			err := test.run(t.Context())
			e, ok := errors.AsType[*pgcmd.Error](err)
			require.True(t, ok)
			span := s.one()
			got := attributesOf(span.Attributes)
			assert.Equal(t, test.code, got["pgcmd.code"])
			assert.Equal(t, e.Effect.String(), got["pgcmd.effect"])
			assert.EqualValues(t, e.Attempts, got["pgcmd.attempts"])
			assert.NotContains(t, got, "pgcmd.path")
			if test.sqlState != "" {
				assert.Equal(t, test.sqlState, got["db.response.status_code"])
			}
			if !test.system {
				assert.Equal(t, sdktrace.Status{}, span.Status)
				assert.NotContains(t, got, "error.type")
				return
			}
			assert.Equal(t, sdktrace.Status{Code: codes.Error, Description: e.Message}, span.Status)
			want := test.code
			if e.SQLState != "" {
				want = e.SQLState
			}
			assert.Equal(t, want, got["error.type"])
		})
	}
	var kinds []string
	for _, p := range s.durations() {
		assert.False(t, p.Attributes.HasValue("pgcmd.effect"))
		command, _ := p.Attributes.Value("db.operation.name")
		code, _ := p.Attributes.Value("pgcmd.code")
		kind, _ := p.Attributes.Value("error.type")
		kinds = append(kinds, command.AsString()+" "+code.AsString()+" "+kind.AsString())
	}
	assert.ElementsMatch(t, []string{"users.find invalid ", "users.cast invalid ", "users.find not_found ", "users.create conflict ",
		"users.list canceled ", "users.any too_many_rows too_many_rows", "users.sleep timeout timeout", "users.break internal 42P01",
		"users.body failed failed", "users.body conflict "}, kinds)
}

func TestSpansNestByTheContext(t *testing.T) {
	t.Parallel()
	s := newTelemetry(t)
	pool := observed(t, s)
	traced := pgcmd.Options{Middleware: []pgcmd.Middleware{pgcmdotel.Middleware(s.options()...)}}
	find := find.With(traced)
	outer := pgcmd.Transaction("users.swap", func(ctx context.Context, tx *pgcmd.Tx, email string) (user, error) {
		if _, err := list.Run(ctx, tx, struct{}{}); err != nil { // has no middleware
			return user{}, err
		}
		return find.Run(ctx, tx, findUser{email})
	}).With(traced)

	_, err := outer.Run(t.Context(), pool, "ann@example.com")
	require.NoError(t, err)
	spans := s.spans.GetSpans()
	require.Len(t, spans, 2, "the pool's middleware and the command's own are one span")
	assert.Equal(t, "users.find", spans[0].Name)
	assert.Equal(t, "users.swap", spans[1].Name)
	assert.Equal(t, spans[1].SpanContext.SpanID(), spans[0].Parent.SpanID())

	s.spans.Reset()
	_, err = outer.Run(t.Context(), pool, "carl@example.com")
	require.Error(t, err)
	spans = s.spans.GetSpans()
	require.Len(t, spans, 2)
	assert.NotContains(t, attributesOf(spans[0].Attributes), "pgcmd.path")
	assert.Equal(t, "users.swap > users.find", attributesOf(spans[1].Attributes)["pgcmd.path"])

	// A command that calls itself has a span for each time.
	s.spans.Reset()
	var countdown *pgcmd.Command[int, int]
	countdown = pgcmd.New("users.countdown", func(ctx context.Context, db pgcmd.DB, n int) (int, error) {
		if n == 0 {
			return 0, nil
		}
		return countdown.Run(ctx, db, n-1)
	}).With(traced)
	_, err = countdown.Run(t.Context(), pool, 2)
	require.NoError(t, err)
	assert.Len(t, s.spans.GetSpans(), 3)

	// Without the pool's, its own is the one.
	s.spans.Reset()
	_, err = find.Run(t.Context(), pool.Pool, findUser{"ann@example.com"})
	require.NoError(t, err)
	assert.Equal(t, "users.find", s.one().Name)

	// A batch is one span, and a stream its command's.
	_, err = pgcmd.Batch(create, pgcmd.Isolated).Run(t.Context(), pool, []findUser{{"carl@example.com"}, {"dora@example.com"}})
	require.NoError(t, err)
	span := s.one()
	assert.Equal(t, "users.create[]", span.Name)
	assert.EqualValues(t, 2, attributesOf(span.Attributes)["pgcmd.rows"])
	for _, err := range pgcmd.Stream(t.Context(), pool, list.With(traced), struct{}{}) {
		require.NoError(t, err)
	}
	span = s.one()
	assert.Equal(t, "users.list", span.Name)
	assert.EqualValues(t, 4, attributesOf(span.Attributes)["pgcmd.rows"])

	// On the pool a stream and a pipeline have the pool's.
	for _, err := range pgcmd.Stream(t.Context(), pool, list, struct{}{}) {
		require.NoError(t, err)
	}
	assert.Equal(t, "users.list", s.one().Name)
	var p pgcmd.Pipeline
	pgcmd.Queue(&p, list, struct{}{})
	require.NoError(t, p.Run(t.Context(), pool, pgcmd.Atomic))
	assert.Equal(t, "pipeline", s.one().Name)
}

func TestAPanicEndsTheSpan(t *testing.T) {
	t.Parallel()
	s := newTelemetry(t)
	pool := observed(t, s)
	panics := pgcmd.New("users.panic", func(context.Context, pgcmd.DB, struct{}) (int, error) { panic(canary) })
	assert.PanicsWithValue(t, canary, func() { _, _ = panics.Run(t.Context(), pool, struct{}{}) })
	span := s.one()
	assert.Equal(t, codes.Error, span.Status.Code)
	assert.Equal(t, "panic", attributesOf(span.Attributes)["error.type"])
	assert.NotContains(t, fmt.Sprintf("%+v", span), canary)
	require.Len(t, s.durations(), 1)
}

func TestAnotherMiddlewaresError(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		err  error
		code string
	}{
		"its own":    {errors.New(canary), "failed"},
		"a deadline": {fmt.Errorf("%s: %w", canary, context.DeadlineExceeded), "timeout"},
		"the caller": {fmt.Errorf("%s: %w", canary, context.Canceled), "canceled"},
		"with code":  {fmt.Errorf("%s: %w", canary, pgcmd.Errorf(pgcmd.CodeExhausted, "too many at once")), "exhausted"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newTelemetry(t)
			refuse := func(pgcmd.Handler) pgcmd.Handler {
				return func(context.Context, *pgcmd.Call) error { return test.err }
			}
			_, err := list.With(pgcmd.Options{Middleware: []pgcmd.Middleware{pgcmdotel.Middleware(s.options()...), refuse}}).
				Run(t.Context(), pgcmdtest.Pool(t), struct{}{})
			require.Equal(t, test.code, string(pgcmd.CodeOf(err)))
			span := s.one()
			assert.Equal(t, test.code, attributesOf(span.Attributes)["pgcmd.code"])
			assert.NotContains(t, fmt.Sprintf("%+v", span), canary)
		})
	}
}

func TestWithoutAProviderNothingIsSaid(t *testing.T) {
	t.Parallel()
	pool := connect(t, pgcmd.Config{URL: pgcmdtest.URL(t, usersDDL),
		Middleware: []pgcmd.Middleware{pgcmdotel.Middleware(nil, pgcmdotel.WithTracerProvider(nil), pgcmdotel.WithMeterProvider(nil))}})
	unregister, err := pgcmdotel.RegisterPool(pool)
	require.NoError(t, err)
	found, err := find.Run(t.Context(), pool, findUser{"ann@example.com"})
	require.NoError(t, err)
	assert.Equal(t, "ann@example.com", found.Email)
	_, err = find.Run(t.Context(), pool, findUser{"carl@example.com"})
	assert.Equal(t, pgcmd.CodeNotFound, pgcmd.CodeOf(err))
	require.NoError(t, unregister())
}

func TestWhatIsNotSampledIsMeasured(t *testing.T) {
	t.Parallel()
	s := newTelemetry(t)
	s.tracer = sdktrace.NewTracerProvider(sdktrace.WithSyncer(s.spans), sdktrace.WithSampler(sdktrace.NeverSample()))
	pool := observed(t, s)
	_, err := list.With(pgcmd.Options{Middleware: []pgcmd.Middleware{pgcmdotel.Middleware(s.options()...)}}).Run(t.Context(), pool, struct{}{})
	require.NoError(t, err)
	assert.Empty(t, s.spans.GetSpans())
	require.Len(t, s.durations(), 1)
	assert.EqualValues(t, 1, s.durations()[0].Count)
}
