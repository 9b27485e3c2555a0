package pgcmdotel_test

import (
	"context"
	"testing"

	"go.opentelemetry.io/otel/metric"
	metricnoop "go.opentelemetry.io/otel/metric/noop"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
	tracenoop "go.opentelemetry.io/otel/trace/noop"

	"github.com/pgcmd/pgcmd"
	"github.com/pgcmd/pgcmd/pgcmdotel"
	"github.com/pgcmd/pgcmd/pgcmdtest"
)

// BenchmarkMiddleware is what a run costs: of a body that does nothing, so that all the
// rest is seen, and of a query on a server on this machine.
func BenchmarkMiddleware(b *testing.B) {
	nothing := pgcmd.New("bench.nothing", func(_ context.Context, _ pgcmd.DB, in int) (int, error) { return in, nil })
	query := pgcmd.QueryOne[int, int]("bench.query", `select $1::int`)
	url := pgcmdtest.URL(b)
	with := func(tracers trace.TracerProvider, meters metric.MeterProvider) []pgcmd.Middleware {
		return []pgcmd.Middleware{pgcmdotel.Middleware(pgcmdotel.WithTracerProvider(tracers), pgcmdotel.WithMeterProvider(meters))}
	}
	meters := sdkmetric.NewMeterProvider(sdkmetric.WithReader(sdkmetric.NewManualReader()))
	exporter := tracetest.NewInMemoryExporter()
	for _, provider := range []struct {
		name       string
		middleware []pgcmd.Middleware
	}{
		{"none", nil},
		{"empty", []pgcmd.Middleware{func(next pgcmd.Handler) pgcmd.Handler {
			return func(ctx context.Context, call *pgcmd.Call) error { return next(ctx, call) }
		}}},
		{"noop", with(tracenoop.NewTracerProvider(), metricnoop.NewMeterProvider())},
		{"global", with(nil, nil)}, // without an SDK
		{"metrics", with(tracenoop.NewTracerProvider(), meters)},
		{"unsampled", with(sdktrace.NewTracerProvider(sdktrace.WithSampler(sdktrace.NeverSample())), meters)},
		{"recorded", with(sdktrace.NewTracerProvider(), meters)},
		{"exported", with(sdktrace.NewTracerProvider(sdktrace.WithSyncer(exporter)), meters)},
	} {
		pool := connect(b, pgcmd.Config{URL: url, Middleware: provider.middleware})
		for _, work := range []struct {
			name    string
			command *pgcmd.Command[int, int]
		}{{"nothing", nothing}, {"query", query}} {
			b.Run(work.name+"/"+provider.name, func(b *testing.B) {
				b.ReportAllocs()
				ctx, n := context.Background(), 0
				for b.Loop() {
					if _, err := work.command.Run(ctx, pool, 1); err != nil {
						b.Fatal(err)
					}
					if n++; n%1000 == 0 {
						exporter.Reset()
					}
				}
			})
		}
	}
}
