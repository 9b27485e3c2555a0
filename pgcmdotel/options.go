package pgcmdotel

import (
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/semconv/v1.43.0/dbconv"
	"go.opentelemetry.io/otel/trace"

	"github.com/pgcmd/pgcmd"
)

// An Option changes what [Middleware] and [RegisterPool] report, and where to.
type Option func(*config)

// WithTracerProvider makes the spans come from a provider of yours. Nil, and without the
// option: the global one.
func WithTracerProvider(p trace.TracerProvider) Option {
	return func(c *config) { c.tracers = p }
}

// WithMeterProvider makes the metrics come from a provider of yours. Nil, and without
// the option: the global one.
func WithMeterProvider(p metric.MeterProvider) Option {
	return func(c *config) { c.meters = p }
}

// WithAttributes adds attributes to every span and every metric: few, and of few values.
func WithAttributes(attributes ...attribute.KeyValue) Option {
	return func(c *config) { c.attributes = append(c.attributes, attributes...) }
}

// WithServer tells [Middleware] what cfg says of the server: db.namespace, which is the
// database that is connected to, without a schema; server.address and server.port,
// unless there are several hosts or replicas, since a run does not tell which of them
// it went to. Nothing else of cfg is shown. [RegisterPool] asks the pool.
func WithServer(cfg pgcmd.Config) Option {
	// What cannot be parsed is for Connect to refuse.
	var s server
	if settings, err := pgx.ParseConfig(sourceOf(cfg)); err == nil {
		s = serverOf(settings)
		if len(cfg.Replicas) > 0 {
			s.addresses = nil
		}
	}
	return func(c *config) { c.server = s }
}

// WithPoolName names the pool in the metrics of [RegisterPool]. Empty, and without the
// option, it is named after its server, as in "db.example.com:5432/shop". Two pools of
// one program must not have the same name.
func WithPoolName(name string) Option {
	return func(c *config) { c.pool = name }
}

type config struct {
	tracers    trace.TracerProvider
	meters     metric.MeterProvider
	attributes []attribute.KeyValue
	server     server
	pool       string
}

func configOf(opts []Option) config {
	var c config
	for _, o := range opts {
		if o != nil {
			o(&c)
		}
	}
	if c.tracers == nil {
		c.tracers = otel.GetTracerProvider()
	}
	if c.meters == nil {
		c.meters = otel.GetMeterProvider()
	}
	return c
}

// scope is the name under which telemetry comes from this package.
const scope = "github.com/pgcmd/pgcmd/pgcmdotel"

func (c *config) tracer() trace.Tracer {
	return c.tracers.Tracer(scope, trace.WithSchemaURL(semconv.SchemaURL))
}

func (c *config) meter() metric.Meter {
	return c.meters.Meter(scope, metric.WithSchemaURL(semconv.SchemaURL))
}

// durationBounds are those that the conventions give for db.client.operation.duration.
var durationBounds = []float64{0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10}

func (c *config) duration() metric.Float64Histogram {
	h, err := dbconv.NewClientOperationDuration(c.meter(), metric.WithExplicitBucketBoundaries(durationBounds...))
	if err != nil {
		otel.Handle(err) // h does nothing
	}
	return h.Inst()
}

// A server is where a pool's connections lead.
type server struct {
	database  string
	addresses []address // several for a URL with several hosts
}

type address struct {
	host string // or the path of a Unix socket
	port int    // 0 for a socket
}

func (a address) String() string {
	switch {
	case a.port == 0:
		return a.host
	case strings.Contains(a.host, ":"):
		return fmt.Sprintf("[%s]:%d", a.host, a.port)
	}
	return fmt.Sprintf("%s:%d", a.host, a.port)
}

func serverOf(settings *pgx.ConnConfig) server {
	s := server{database: settings.Database}
	if s.database == "" {
		s.database = settings.User // which is the server's rule
	}
	add := func(host string, port uint16) {
		a := address{host, int(port)}
		if strings.HasPrefix(host, "/") {
			a = address{host: fmt.Sprintf("%s/.s.PGSQL.%d", host, port)}
		}
		for _, known := range s.addresses { // a host is listed once with TLS and once without
			if known == a {
				return
			}
		}
		s.addresses = append(s.addresses, a)
	}
	add(settings.Host, settings.Port)
	for _, f := range settings.Fallbacks {
		add(f.Host, f.Port)
	}
	return s
}

// sourceOf is the URL, or what the fields say in its form, as Connect reads them.
func sourceOf(cfg pgcmd.Config) string {
	if cfg.URL != "" {
		return cfg.URL
	}
	port := cfg.Port
	if port == 0 {
		port = 5432
	}
	source := fmt.Sprintf("port=%d", port)
	escape := strings.NewReplacer(`\`, `\\`, `'`, `\'`)
	for _, pair := range [...][2]string{{"host", cfg.Host}, {"dbname", cfg.Database}, {"user", cfg.User}} {
		if pair[1] != "" {
			source += fmt.Sprintf(" %s='%s'", pair[0], escape.Replace(pair[1]))
		}
	}
	return source
}

// known lists the attributes that are certain of every run.
func (s server) known() (attributes []attribute.KeyValue) {
	if s.database != "" {
		attributes = append(attributes, semconv.DBNamespace(s.database))
	}
	if len(s.addresses) == 1 {
		attributes = append(attributes, semconv.ServerAddress(s.addresses[0].host))
		if port := s.addresses[0].port; port != 0 {
			attributes = append(attributes, semconv.ServerPort(port))
		}
	}
	return attributes
}

// name is the name that the conventions give to a pool that has none.
func (s server) name() string {
	addresses := make([]string, len(s.addresses))
	for i, a := range s.addresses {
		addresses[i] = a.String()
	}
	return strings.Join(addresses, ",") + "/" + s.database
}
