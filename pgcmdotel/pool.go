package pgcmdotel

import (
	"context"
	"errors"
	"fmt"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/semconv/v1.43.0/dbconv"

	"github.com/pgcmd/pgcmd"
)

// RegisterPool reports the state of a pool, as [pgcmd.Pool.Metrics] has it, whenever
// metrics are collected, until unregister is called:
//
//	db.client.connection.count   connections, by db.client.connection.state: "idle", "used", "constructing"
//	db.client.connection.max     the most that there may be
//	pgcmd.pool.acquires          connections that were taken
//	pgcmd.pool.waits             those of them that had to be waited for
//	pgcmd.pool.wait_time         for how long in all, in seconds
//	pgcmd.pool.resets            how often all connections were made anew
//	pgcmd.pool.retry_tokens      left in the retry budget; nothing if it has no limit
//	pgcmd.replica.fit            1 if commands go there, else 0, by pgcmd.replica: its place in Config.Replicas
//	pgcmd.replica.lag            behind the primary, in seconds; nothing while it is not known
//	pgcmd.command.runs           that have ended, by db.operation.name
//	pgcmd.command.in_flight      that have not
//	pgcmd.command.retries        attempts beyond the first
//	pgcmd.command.errors         by db.operation.name and pgcmd.code
//
// Each has db.client.connection.pool.name, and a replica's connections have its pool's
// with " replica 0" and so on added. Call unregister before the pool is closed, or
// leave it: a closed pool can be read. Register a pool once.
func RegisterPool(pool *pgcmd.Pool, opts ...Option) (unregister func() error, err error) {
	if pool == nil || pool.Pool == nil {
		return nil, errors.New("pgcmdotel: RegisterPool was given no pool: pass what pgcmd.Connect returned")
	}
	c := configOf(opts)
	if c.pool == "" {
		c.pool = serverOf(pool.Config().ConnConfig).name()
	}
	m := &maker{meter: c.meter()}
	r := &readings{
		pool: pool, name: c.pool, common: c.attributes,

		acquires:    m.counter("pgcmd.pool.acquires", "{connection}", "How often a connection was taken."),
		waits:       m.counter("pgcmd.pool.waits", "{connection}", "How often a connection had to be waited for."),
		resets:      m.counter("pgcmd.pool.resets", "{reset}", "How often all connections were made anew."),
		retryTokens: m.gauge("pgcmd.pool.retry_tokens", "{token}", "What is left in the budget for retries."),
		replicaFit:  m.gauge("pgcmd.replica.fit", "1", "Whether commands go to the replica."),
		runs:        m.counter("pgcmd.command.runs", "{run}", "The runs of a command that have ended."),
		retries:     m.counter("pgcmd.command.retries", "{attempt}", "The attempts of a command beyond the first of each run."),
		failures:    m.counter("pgcmd.command.errors", "{run}", "The runs of a command that failed, by code."),
	}
	connections, err := dbconv.NewClientConnectionCountObservable(m.meter)
	m.note(connections.Inst(), err)
	most, err := dbconv.NewClientConnectionMaxObservable(m.meter)
	m.note(most.Inst(), err)
	r.connections, r.most = connections.Inst(), most.Inst()
	r.inFlight, err = m.meter.Int64ObservableUpDownCounter("pgcmd.command.in_flight",
		metric.WithUnit("{run}"), metric.WithDescription("The runs of a command that have not ended."))
	m.note(r.inFlight, err)
	r.waitTime, err = m.meter.Float64ObservableCounter("pgcmd.pool.wait_time",
		metric.WithUnit("s"), metric.WithDescription("How long connections were waited for, in all."))
	m.note(r.waitTime, err)
	r.replicaLag, err = m.meter.Float64ObservableGauge("pgcmd.replica.lag",
		metric.WithUnit("s"), metric.WithDescription("How far the replica is behind the primary."))
	m.note(r.replicaLag, err)
	if m.err != nil {
		return nil, fmt.Errorf("pgcmdotel: the metrics of a pool cannot be made: %w", m.err)
	}
	registration, err := m.meter.RegisterCallback(r.observe, m.made...)
	if err != nil {
		return nil, fmt.Errorf("pgcmdotel: the metrics of a pool cannot be registered: %w", err)
	}
	return registration.Unregister, nil
}

// A maker makes instruments and keeps what went wrong.
type maker struct {
	meter metric.Meter
	made  []metric.Observable
	err   error
}

func (m *maker) note(o metric.Observable, err error) {
	m.made, m.err = append(m.made, o), errors.Join(m.err, err)
}

func (m *maker) counter(name, unit, description string) metric.Int64Observable {
	o, err := m.meter.Int64ObservableCounter(name, metric.WithUnit(unit), metric.WithDescription(description))
	m.note(o, err)
	return o
}

func (m *maker) gauge(name, unit, description string) metric.Int64Observable {
	o, err := m.meter.Int64ObservableGauge(name, metric.WithUnit(unit), metric.WithDescription(description))
	m.note(o, err)
	return o
}

// readings reads a pool into the instruments.
type readings struct {
	pool   *pgcmd.Pool
	name   string
	common []attribute.KeyValue

	connections, most, inFlight                                               metric.Int64Observable
	acquires, waits, resets, retryTokens, replicaFit, runs, retries, failures metric.Int64Observable
	waitTime, replicaLag                                                      metric.Float64Observable
}

func (r *readings) observe(_ context.Context, o metric.Observer) error {
	m := r.pool.Metrics()
	r.observePool(o, r.name, m.Pool)
	of := r.attributes(r.name)
	if m.Pool.RetryTokens >= 0 {
		o.ObserveInt64(r.retryTokens, int64(m.Pool.RetryTokens), of)
	}
	for i, replica := range m.Replicas {
		r.observePool(o, fmt.Sprintf("%s replica %d", r.name, i), replica.Pool)
		of := r.attributes(r.name, replicaKey.Int(i))
		fit := int64(0)
		if replica.Fit {
			fit = 1
		}
		o.ObserveInt64(r.replicaFit, fit, of)
		if replica.Fit || replica.Lag > 0 { // of one that does not answer it is not known
			o.ObserveFloat64(r.replicaLag, replica.Lag.Seconds(), of)
		}
	}
	for _, c := range m.Commands {
		of := r.attributes(r.name, semconv.DBOperationName(c.Name))
		o.ObserveInt64(r.runs, c.Runs, of)
		o.ObserveInt64(r.inFlight, c.InFlight, of)
		o.ObserveInt64(r.retries, c.Retries, of)
		for code, n := range c.Errors {
			o.ObserveInt64(r.failures, n, r.attributes(r.name, semconv.DBOperationName(c.Name), codeKey.String(string(code))))
		}
	}
	return nil
}

func (r *readings) observePool(o metric.Observer, name string, p pgcmd.PoolMetrics) {
	of := r.attributes(name)
	o.ObserveInt64(r.most, int64(p.Max), of)
	o.ObserveInt64(r.acquires, p.Acquires, of)
	o.ObserveInt64(r.waits, p.EmptyAcquires, of)
	o.ObserveFloat64(r.waitTime, p.Waited.Seconds(), of)
	o.ObserveInt64(r.resets, p.Resets, of)
	for _, count := range [...]struct {
		state attribute.KeyValue
		n     int32
	}{
		{semconv.DBClientConnectionStateIdle, p.Idle},
		{semconv.DBClientConnectionStateUsed, p.Acquired},
		{semconv.DBClientConnectionStateKey.String("constructing"), p.Constructing},
	} {
		o.ObserveInt64(r.connections, int64(count.n), r.attributes(name, count.state))
	}
}

const replicaKey = attribute.Key("pgcmd.replica")

func (r *readings) attributes(pool string, more ...attribute.KeyValue) metric.MeasurementOption {
	all := make([]attribute.KeyValue, 0, len(r.common)+1+len(more))
	all = append(append(append(all, r.common...), semconv.DBClientConnectionPoolName(pool)), more...)
	return metric.WithAttributeSet(attribute.NewSet(all...))
}
