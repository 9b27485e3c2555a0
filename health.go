package pgcmd

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgcmd/pgcmd/internal/connpool"
)

// A HealthStatus says whether a pool can be used.
type HealthStatus string

const (
	HealthUp       HealthStatus = "up"       // it answers
	HealthDegraded HealthStatus = "degraded" // it answers, but is saturated, or a replica is left out
	HealthDown     HealthStatus = "down"     // it does not answer
)

// Health is how a pool is. It holds no value and no secret.
type Health struct {
	Status     HealthStatus
	Reason     string           // why it is not up, in words
	Latency    time.Duration    // of a round trip to the primary; zero if it is down
	Saturation float64          // the share of the primary's connections that are in use, 0 to 1
	LastError  *Run             // the latest error that says something of the server or the pool: not of an input, a body or SQL; nil if there was none
	Replicas   []ReplicaMetrics // in the order of Config.Replicas
}

// MarshalJSON renders durations in milliseconds.
func (h Health) MarshalJSON() ([]byte, error) {
	type replica struct {
		Fit    bool    `json:"fit"`
		Reason string  `json:"reason,omitempty"`
		LagMS  float64 `json:"lag_ms"`
	}
	type lastError struct {
		Command string    `json:"command"`
		At      time.Time `json:"at"`
		Code    Code      `json:"code"`
	}
	out := struct {
		Status     HealthStatus `json:"status"`
		Reason     string       `json:"reason,omitempty"`
		LatencyMS  float64      `json:"latency_ms"`
		Saturation float64      `json:"saturation"`
		LastError  *lastError   `json:"last_error,omitempty"`
		Replicas   []replica    `json:"replicas,omitempty"`
	}{Status: h.Status, Reason: h.Reason, LatencyMS: milliseconds(h.Latency), Saturation: h.Saturation}
	if h.LastError != nil {
		out.LastError = &lastError{h.LastError.Command, h.LastError.At, h.LastError.Code}
	}
	for _, r := range h.Replicas {
		out.Replicas = append(out.Replicas, replica{r.Fit, r.Reason, milliseconds(r.Lag)})
	}
	return json.Marshal(out)
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// probeTime bounds a probe whose context has no deadline.
const probeTime = 2 * time.Second

// Health asks the primary, by a round trip, and tells how the pool is. A pool whose
// connections are all in use is asked on one of its own, so that a full pool is not
// taken for a dead one.
func (p *Pool) Health(ctx context.Context) Health {
	ctx, cancel := context.WithTimeout(ctx, probeTime)
	defer cancel()
	m := p.Metrics()
	h := Health{Status: HealthUp, Replicas: m.Replicas, Saturation: float64(m.Pool.Acquired) / float64(m.Pool.Max)}
	h.LastError = p.metrics.lastUnavailable()
	saturated := m.Pool.Acquired >= m.Pool.Max
	latency, e := p.probe(ctx, saturated)
	switch {
	case e != nil:
		h.Status, h.Reason = HealthDown, e.Message
		return h
	case saturated:
		h.Status, h.Reason = HealthDegraded, "all connections are in use: "+p.tracker.Leases()
	}
	if p.mux != nil && h.Status == HealthUp {
		if load, full := p.mux.Full(); full {
			h.Status, h.Reason = HealthDegraded, fmt.Sprintf("the shared connections are full, %d reads wait%s", load.Waiting, commandsText(load))
		}
	}
	h.Latency = latency
	for _, r := range h.Replicas {
		if !r.Fit && h.Status == HealthUp {
			h.Status, h.Reason = HealthDegraded, "a replica is left out: "+r.Reason
		}
	}
	return h
}

// probe makes one round trip to the primary, on a spare connection if the pool has
// none to give.
func (p *Pool) probe(ctx context.Context, spare bool) (time.Duration, *Error) {
	var conn *pgx.Conn
	if spare {
		var err error
		if conn, err = pgx.ConnectConfig(ctx, p.Pool.Config().ConnConfig); err != nil {
			return 0, newAcquireError(ctx, p.Pool, p.tracker, err)
		}
		defer conn.Close(context.WithoutCancel(ctx))
	} else {
		pooled, err := p.Acquire(ctx)
		if err != nil {
			return 0, newAcquireError(ctx, p.Pool, p.tracker, err)
		}
		defer connpool.Release(pooled, connpool.Of(pooled.Conn()))
		conn = pooled.Conn()
	}
	start := time.Now()
	if err := conn.Ping(ctx); err != nil {
		e := newUnsentError(ctx, err)
		if e.Code == CodeFailed {
			e.Message = "the server does not answer"
		}
		return 0, e
	}
	return time.Since(start), nil
}
