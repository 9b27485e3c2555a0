package main

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pgcmd/pgcmd"
	"github.com/pgcmd/pgcmd/internal/faults"
	"github.com/pgcmd/pgcmd/internal/measure"
	"github.com/pgcmd/pgcmd/internal/workload"
	"github.com/pgcmd/pgcmd/pgcmdtest"
)

// startServer starts the server of a whole run: on the same machine, over a Unix socket, with memory for the data.
var startServer = sync.OnceValues(func() (*pgcmdtest.Server, error) {
	return pgcmdtest.Start(context.Background(), pgcmdtest.WithSetting("shared_buffers", "256MB"), pgcmdtest.WithSetting("max_connections", "200"))
})

// database is the address of a new one with the workload's tables.
func database(ctx context.Context) (string, error) {
	server, err := startServer()
	if err != nil {
		return "", err
	}
	return server.Database(ctx, workload.DDL)
}

// databaseConfig is the configuration of connections to a new one.
func databaseConfig(ctx context.Context) (*pgx.ConnConfig, error) {
	url, err := database(ctx)
	if err != nil {
		return nil, err
	}
	return pgx.ParseConfig(url)
}

// serverWork measures everybody on PostgreSQL.
func serverWork(ctx context.Context, r *results, p pace) error {
	cfg, err := databaseConfig(ctx)
	if err != nil {
		return err
	}
	for _, w := range workload.All {
		t, err := race(ctx, w, append(mains(), peers()...), func(peer) *pgx.ConnConfig { return cfg }, w.Turn(), p, measure.Wall)
		if err != nil {
			return err
		}
		r.server = append(r.server, t)
	}
	return nil
}

// connecting compares what is ready for use: Connect, which validates and pings, and others that are pinged.
func connecting(ctx context.Context, r *results, p pace) (err error) {
	cfg, err := databaseConfig(ctx)
	if err != nil {
		return err
	}
	r.connect, err = compare("connect, ping, close", []measure.Side{
		{Name: ours, Run: func(int) error {
			pool, err := pgcmd.Connect(ctx, pgcmd.Config{URL: cfg.ConnString(), MaxConns: maxConns})
			if err != nil {
				return err
			}
			return pool.Close(ctx)
		}},
		{Name: byHand, Run: func(int) error {
			pool, err := pgxpool.NewWithConfig(ctx, poolConfig(cfg))
			if err != nil {
				return err
			}
			defer pool.Close()
			return pool.Ping(ctx)
		}},
		{Name: "database/sql", Run: func(int) error {
			db := openSQL(cfg)
			defer db.Close()
			return db.PingContext(ctx)
		}},
	}, 1, p, measure.Wall)
	return err
}

// distantWork measures what saves round trips, where one takes a millisecond, and counts them.
func distantWork(ctx context.Context, r *results, p pace) error {
	url, err := database(ctx)
	if err != nil {
		return err
	}
	proxy, err := faults.Start(url)
	if err != nil {
		return err
	}
	defer proxy.Close()
	proxy.Latency(time.Millisecond)
	conn, err := pgx.Connect(ctx, proxy.URL())
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	commands, hand := workload.Commands{DB: conn}, workload.Hand{DB: conn}
	in := func(mode pgcmd.BatchMode) measure.Side {
		return measure.Side{Name: "pgcmd, " + mode.String(), Run: func(int) error { return commands.ImportIn(ctx, mode, workload.Items) }}
	}
	for _, c := range []struct {
		work  string
		sides []measure.Side
	}{
		{workload.Three.Name, []measure.Side{workload.Three.Side(ctx, ours, commands), workload.Three.Side(ctx, byHand, hand)}},
		{workload.Hundred.Name, []measure.Side{in(pgcmd.Atomic), in(pgcmd.Isolated), in(pgcmd.Independent),
			workload.Hundred.Side(ctx, nameBatch, hand), workload.Hundred.Side(ctx, nameLoop, workload.Loop{Hand: hand})}},
	} {
		t, err := compete(c.work, c.sides, 1, p.race, measure.Wall)
		if err != nil {
			return err
		}
		r.distant = append(r.distant, t)
		for _, side := range c.sides {
			before := proxy.Counts().RoundTrips
			if err := side.Run(0); err != nil {
				return err
			}
			r.trips[c.work+", "+side.Name] = int(proxy.Counts().RoundTrips - before)
		}
	}
	return nil
}

const (
	nameBatch = "pgx.Batch"
	nameLoop  = "a loop"
)

// manyCallers are so many goroutines on one pool of ten connections.
var manyCallers = []int{1, 2, 4, 8, 16, 32, 64, 100}

// runsATurn is how many rows so many callers together find in a turn: enough that the growth of their stacks, which
// "a row in a new goroutine" measures, is a small part of it.
func runsATurn(callers int) int { return max(2000, 20*callers) }

// callers measures throughput by the number of goroutines.
func callers(ctx context.Context, r *results, p pace) error {
	cfg, err := databaseConfig(ctx)
	if err != nil {
		return err
	}
	all := mains()
	for _, peer := range peers() {
		if peer.name == "database/sql" || peer.name == "gorm" {
			all = append(all, peer)
		}
	}
	stores, done, err := openAll(ctx, all, cfg)
	if err != nil {
		return err
	}
	defer done()
	for _, goroutines := range manyCallers {
		t, err := crowd(ctx, goroutines, all, stores, p, measure.Wall)
		if err != nil {
			return err
		}
		r.callers = append(r.callers, t)
	}
	return hundred(ctx, r, cfg, p)
}

// hundred measures 100 callers for so much longer that a percent shows. Commands and pgx by hand are on the very same
// pgxpool, since no two of them are as fast.
func hundred(ctx context.Context, r *results, cfg *pgx.ConnConfig, p pace) error {
	plain, err := pgxpool.NewWithConfig(ctx, poolConfig(cfg))
	if err != nil {
		return err
	}
	defer plain.Close()
	m := mains()
	own, done, err := m[1].open(ctx, cfg)
	if err != nil {
		return err
	}
	defer done()
	p.race *= 6
	r.hundred, err = crowd(ctx, 100, []peer{m[2], m[0], m[1]}, []workload.Store{workload.Hand{DB: plain}, workload.Commands{DB: plain}, own}, p, measure.Wall)
	return err
}

func openAll(ctx context.Context, peers []peer, cfg *pgx.ConnConfig) ([]workload.Store, func(), error) {
	var stores []workload.Store
	var ends []func()
	done := func() {
		for _, end := range ends {
			end()
		}
	}
	for _, p := range peers {
		s, end, err := p.open(ctx, cfg)
		if err != nil {
			done()
			return nil, nil, err
		}
		stores, ends = append(stores, s), append(ends, end)
	}
	return stores, done, nil
}

// crowd lets goroutines find rows, in turns of runsATurn; the latency is that of each row.
func crowd(ctx context.Context, goroutines int, peers []peer, stores []workload.Store, p pace, clock measure.Clock) (table, error) {
	runs := runsATurn(goroutines)
	latencies := make([]measure.Latency, len(stores))
	sides := make([]measure.Side, len(stores))
	for s, store := range stores {
		sides[s] = measure.Side{Name: peers[s].name, Run: func(turn int) error {
			own := make([]measure.Latency, goroutines)
			err := measure.Concurrently(goroutines, runs, func(g, i int) error {
				start := time.Now()
				err := workload.One.Run(ctx, store, i)
				own[g] = append(own[g], time.Since(start))
				return err
			})
			if turn > 0 { // the first warms up
				latencies[s] = append(latencies[s], slices.Concat(own...)...)
			}
			return err
		}}
	}
	t, err := compete(fmt.Sprint(goroutines), sides, 1, p.race, clock)
	for s, l := range latencies {
		if err == nil {
			slices.Sort(l)
			t.rows[s].latency = l
		}
	}
	for i := range t.rows { // of one row, not of a turn
		took := &t.rows[i].time
		n := float64(runs)
		*took = measure.Spread{Low: took.Low / n, Median: took.Median / n, High: took.High / n}
	}
	return t, err
}

// sharedConnections compares what 100 goroutines get out of ten connections, and of fewer that they share, at no delay
// and at 1 ms.
func sharedConnections(ctx context.Context, r *results, p pace) error {
	url, err := database(ctx)
	if err != nil {
		return err
	}
	proxy, err := faults.Start(url)
	if err != nil {
		return err
	}
	defer proxy.Close()
	p.race *= 3 // its sides differ from turn to turn
	for _, delay := range []time.Duration{0, time.Millisecond} {
		address := url
		if delay > 0 {
			proxy.Latency(delay)
			address = proxy.URL()
		}
		cfg, err := pgx.ParseConfig(address)
		if err != nil {
			return err
		}
		m := mains()
		sharers := []peer{m[2], m[1], sharing()} // by hand is the reference
		stores, done, err := openAll(ctx, sharers, cfg)
		if err != nil {
			return err
		}
		t, err := crowd(ctx, 100, sharers, stores, p, measure.Wall)
		done()
		if err != nil {
			return err
		}
		t.work = delay.String()
		r.shared = append(r.shared, t)
	}
	return nil
}

// soak finds 10,000 rows a second on a Pool, open-loop.
func soak(ctx context.Context, r *results, p pace) error {
	url, err := database(ctx)
	if err != nil {
		return err
	}
	pool, err := pgcmd.Connect(ctx, pgcmd.Config{URL: url, MaxConns: maxConns, MinConns: maxConns})
	if err != nil {
		return err
	}
	defer pool.Pool.Close()
	s := workload.Commands{DB: pool}
	r.soaked = p.soak
	r.soak, err = measure.OpenLoop(ctx, soakRate, 100, p.soak, func(ctx context.Context, i int) error { return workload.One.Run(ctx, s, i) })
	return err
}

const soakRate = 10_000
