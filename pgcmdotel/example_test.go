package pgcmdotel_test

import (
	"context"
	"fmt"
	"log"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/pgcmd/pgcmd"
	"github.com/pgcmd/pgcmd/pgcmdotel"
	"github.com/pgcmd/pgcmd/pgcmdtest"
)

// A service has set OpenTelemetry's global providers, and needs no option but WithServer.
func Example() {
	ctx := context.Background()
	server, err := pgcmdtest.Start(ctx)
	if err != nil {
		log.Fatal(err)
	}
	defer server.Close()
	spans := tracetest.NewInMemoryExporter()
	provider := sdktrace.NewTracerProvider(sdktrace.WithSyncer(spans))

	cfg := pgcmd.Config{URL: server.URL()}
	cfg.Middleware = append(cfg.Middleware, pgcmdotel.Middleware(pgcmdotel.WithServer(cfg), pgcmdotel.WithTracerProvider(provider)))
	pool, err := pgcmd.Connect(ctx, cfg)
	if err != nil {
		log.Fatal(err)
	}
	defer pool.Close(ctx)
	unregister, err := pgcmdotel.RegisterPool(pool)
	if err != nil {
		log.Fatal(err)
	}
	defer unregister()

	double := pgcmd.QueryOne[int, int]("numbers.double", `select 2 * $1::int`)
	if _, err := double.Run(ctx, pool, 21); err != nil {
		log.Fatal(err)
	}
	span := spans.GetSpans()[0]
	fmt.Println(span.SpanKind, span.Name)
	for _, kv := range span.Attributes {
		if kv.Key == "db.system.name" || kv.Key == "pgcmd.rows" {
			fmt.Println(kv.Key, "=", kv.Value.String())
		}
	}
	// Output:
	// client numbers.double
	// db.system.name = postgresql
	// pgcmd.rows = 1
}
