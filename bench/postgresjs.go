package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgcmd/pgcmd/internal/measure"
	"github.com/pgcmd/pgcmd/internal/workload"
)

const (
	namePostgresJS    = "postgres.js"
	postgresJSCallers = 100
	postgresJSRounds  = 9
)

// A crowdResult is what callers found in a turn of one program.
type crowdResult struct {
	Rows     int     `json:"rows"`
	Seconds  float64 `json:"seconds"`
	P50, P99 float64 // microseconds
}

// besidePostgresJS lets 100 callers find rows on ten connections, of Node's postgres.js, which pipelines, and of this
// process, in turns.
func besidePostgresJS(ctx context.Context, r *results, p pace) error {
	out, err := exec.CommandContext(ctx, filepath.Join("..", "scripts", "ensure-postgresjs")).Output()
	if err != nil {
		if exit, ok := errors.AsType[*exec.ExitError](err); ok {
			err = fmt.Errorf("%w: %s", err, exit.Stderr)
		}
		return err
	}
	folder := strings.TrimSpace(string(out))
	cfg, err := databaseConfig(ctx)
	if err != nil {
		return err
	}
	m := mains()
	all := []peer{sharing(), m[1], m[2]} // the one that pipelines too is the reference
	stores, done, err := openAll(ctx, all, cfg)
	if err != nil {
		return err
	}
	defer done()
	turns := []func() (crowdResult, error){}
	for _, store := range stores {
		turns = append(turns, func() (crowdResult, error) { return crowdFor(ctx, store, p.pgbench) })
	}
	turns = append(turns, func() (crowdResult, error) { return runPostgresJS(ctx, folder, cfg, p.pgbench) })
	names := []string{sharer, pooled, byHand, namePostgresJS}
	times := make([]measure.Times, len(turns))
	p50, p99 := make([][]float64, len(turns)), make([][]float64, len(turns))
	for round := range min(p.rounds, postgresJSRounds) + 1 {
		for turn := range turns {
			i := (turn + round) % len(turns)
			got, err := turns[i]()
			if err != nil {
				return fmt.Errorf("%s: %w", names[i], err)
			}
			if round > 0 { // the first fills the caches
				times[i] = append(times[i], 1e9*got.Seconds/float64(got.Rows))
				p50[i], p99[i] = append(p50[i], got.P50), append(p99[i], got.P99)
			}
		}
	}
	for i, name := range names {
		r.postgresJS = append(r.postgresJS, crowdRow{row{name: name, time: times[i].Spread(), ratio: times[0].Over(times[i])},
			measure.SpreadOf(p50[i]).Median, measure.SpreadOf(p99[i]).Median})
	}
	return nil
}

// A crowdRow is a side with the medians of its percentiles, in microseconds.
type crowdRow struct {
	row
	p50, p99 float64
}

// crowdFor lets the callers find rows for so long.
func crowdFor(ctx context.Context, store workload.Store, length time.Duration) (crowdResult, error) {
	own := make([]measure.Latency, postgresJSCallers)
	start := time.Now()
	err := measure.Concurrently(postgresJSCallers, postgresJSCallers, func(g, _ int) error {
		for i := g; time.Since(start) < length; i++ {
			began := time.Now()
			if err := workload.One.Run(ctx, store, i); err != nil {
				return err
			}
			own[g] = append(own[g], time.Since(began))
		}
		return nil
	})
	took := time.Since(start)
	all := measure.Sorted(own...)
	return crowdResult{len(all), took.Seconds(), float64(all.At(0.5).Microseconds()), float64(all.At(0.99).Microseconds())}, err
}

func runPostgresJS(ctx context.Context, folder string, cfg *pgx.ConnConfig, length time.Duration) (got crowdResult, err error) {
	options, err := json.Marshal(map[string]any{"path": fmt.Sprintf("%s/.s.PGSQL.%d", cfg.Host, cfg.Port), "port": cfg.Port, "username": cfg.User,
		"database": cfg.Database, "connections": maxConns, "callers": postgresJSCallers, "milliseconds": length.Milliseconds()})
	if err != nil {
		return got, err
	}
	cmd := exec.CommandContext(ctx, "node", filepath.Join("postgresjs", "callers.mjs"), folder, string(options))
	var failure bytes.Buffer
	cmd.Stderr = &failure
	out, err := cmd.Output()
	if err != nil {
		return got, fmt.Errorf("%w: %s", err, failure.String())
	}
	return got, json.Unmarshal(out, &got)
}

func (p *page) postgresJS(r *results) {
	p.line("\n## Beside postgres.js\n\n%d callers that find single rows on %d connections: [postgres.js](https://github.com/porsager/postgres) 3.4.9 on Node, which prepares statements and sends several on a connection before it reads a reply, in a process of its own, and this one, in turns of %s.",
		postgresJSCallers, maxConns, full.pgbench)
	p.head("", "rows a second", "pgcmd's time, of this", "p50", "p99")
	for _, row := range r.postgresJS {
		p.row(row.name, perSecond(row.time.Median), spread(row.ratio), ns(1e3*row.p50), ns(1e3*row.p99))
	}
}
