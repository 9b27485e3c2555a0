package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgcmd/pgcmd"
	"github.com/pgcmd/pgcmd/internal/measure"
)

const (
	pgbenchScale   = 10
	pgbenchClients = 8
	manyClients    = 100 // for whom Multiplex is
	sidePipeline   = "pgcmd, Pipeline"
	namePgbench    = "pgbench"
	workTPCB       = "TPC-B-like"
	workSelect     = "select-only"
	workSelectMany = "select-only, 100 clients"
)

// A tpcb is the input of pgbench's transactions.
type tpcb struct{ AID, TID, BID, Delta int64 }

func anyTPCB() tpcb {
	return tpcb{AID: rand.Int64N(100_000*pgbenchScale) + 1, TID: rand.Int64N(10*pgbenchScale) + 1, BID: rand.Int64N(pgbenchScale) + 1, Delta: rand.Int64N(10_001) - 5000}
}

// The statements are pgbench's own.
var (
	updateAccount = pgcmd.Exec[tpcb]("pgbench.account", `UPDATE pgbench_accounts SET abalance = abalance + @delta WHERE aid = @aid`)
	selectBalance = pgcmd.QueryOne[tpcb, int64]("pgbench.balance", `SELECT abalance FROM pgbench_accounts WHERE aid = @aid`).With(pgcmd.Options{ReadOnly: true})
	updateTeller  = pgcmd.Exec[tpcb]("pgbench.teller", `UPDATE pgbench_tellers SET tbalance = tbalance + @delta WHERE tid = @tid`)
	updateBranch  = pgcmd.Exec[tpcb]("pgbench.branch", `UPDATE pgbench_branches SET bbalance = bbalance + @delta WHERE bid = @bid`)
	insertHistory = pgcmd.Exec[tpcb]("pgbench.history", `INSERT INTO pgbench_history (tid, bid, aid, delta, mtime) VALUES (@tid, @bid, @aid, @delta, CURRENT_TIMESTAMP)`)
	listBalance   = pgcmd.Query[tpcb, int64]("pgbench.balances", `SELECT abalance FROM pgbench_accounts WHERE aid = @aid`)
	tpcbLike      = pgcmd.Transaction("pgbench.tpcb", runTPCB)
)

func runTPCB(ctx context.Context, tx *pgcmd.Tx, in tpcb) (int64, error) {
	if _, err := updateAccount.Run(ctx, tx, in); err != nil {
		return 0, err
	}
	balance, err := selectBalance.Run(ctx, tx, in)
	if err != nil {
		return 0, err
	}
	if _, err := updateTeller.Run(ctx, tx, in); err != nil {
		return 0, err
	}
	if _, err := updateBranch.Run(ctx, tx, in); err != nil {
		return 0, err
	}
	_, err = insertHistory.Run(ctx, tx, in)
	return balance, err
}

// besidePgbench runs pgbench, the C client, and the same transactions as commands, statement by statement and together,
// and by hand, in turns.
func besidePgbench(ctx context.Context, r *results, p pace) error {
	server, err := startServer()
	if err != nil {
		return err
	}
	url, err := server.Database(ctx)
	if err != nil {
		return err
	}
	program, err := findPgbench()
	if err != nil {
		return err
	}
	if out, err := exec.CommandContext(ctx, program, "-i", "-q", "-s", strconv.Itoa(pgbenchScale), url).CombinedOutput(); err != nil {
		return fmt.Errorf("pgbench -i: %w: %s", err, out)
	}
	pool, err := pgcmd.Connect(ctx, pgcmd.Config{URL: url, MaxConns: 2, Multiplex: sharedConns})
	if err != nil {
		return err
	}
	defer pool.Pool.Close()
	selects := [...]transaction{
		selectCommand,
		func(ctx context.Context, _ pgcmd.DB, _ *pgx.Conn, in tpcb) error {
			return selectCommand(ctx, pool, nil, in)
		},
		selectByHand,
	}
	for _, c := range []struct {
		work     string
		clients  int
		flags    []string
		together string // what the second way is called
		sides    [3]transaction
	}{
		{workTPCB, pgbenchClients, nil, sidePipeline, [...]transaction{tpcbCommands, tpcbPipeline, tpcbByHand}},
		{workSelect, pgbenchClients, []string{"-S"}, sharer, selects},
		{workSelectMany, manyClients, []string{"-S"}, sharer, selects},
	} {
		names := []string{ours, c.together, byHand, namePgbench}
		times := make([]measure.Times, len(names)) // of a transaction of all clients together
		for round := range p.rounds + 1 {
			for turn := range names {
				i := (turn + round) % len(names)
				var tps float64
				var err error
				if names[i] == namePgbench {
					tps, err = runPgbench(ctx, program, url, c.clients, p.pgbench, c.flags...)
				} else {
					tps, err = runClients(ctx, url, c.clients, p.pgbench, c.sides[i])
				}
				if err != nil {
					return fmt.Errorf("%s, %s: %w", c.work, names[i], err)
				}
				if round > 0 { // the first fills the caches
					times[i] = append(times[i], 1e9/tps)
				}
			}
		}
		t := table{work: c.work}
		for i, name := range names {
			t.rows = append(t.rows, row{name: name, time: times[i].Spread(), ratio: times[0].Over(times[i])})
		}
		r.pgbench = append(r.pgbench, t)
	}
	return nil
}

// A transaction is pgbench's, on one client's connection: as commands on db, or by hand on conn.
type transaction func(ctx context.Context, db pgcmd.DB, conn *pgx.Conn, in tpcb) error

func tpcbCommands(ctx context.Context, db pgcmd.DB, _ *pgx.Conn, in tpcb) error {
	_, err := tpcbLike.Run(ctx, db, in)
	return err
}

func selectCommand(ctx context.Context, db pgcmd.DB, _ *pgx.Conn, in tpcb) error {
	_, err := selectBalance.Run(ctx, db, in)
	return err
}

// tpcbPipeline is what none of whose statements waits for another: a transaction in one round trip. It is a Query that
// reads the balance, as for pgbench no row is no error: before COMMIT a QueryOne would have to be looked at.
func tpcbPipeline(ctx context.Context, db pgcmd.DB, _ *pgx.Conn, in tpcb) error {
	var p pgcmd.Pipeline
	pgcmd.Queue(&p, updateAccount, in)
	balance := pgcmd.Queue(&p, listBalance, in)
	pgcmd.Queue(&p, updateTeller, in)
	pgcmd.Queue(&p, updateBranch, in)
	pgcmd.Queue(&p, insertHistory, in)
	if err := p.Run(ctx, db, pgcmd.Atomic); err != nil {
		return err
	}
	_, err := balance.Get()
	return err
}

func tpcbByHand(ctx context.Context, _ pgcmd.DB, conn *pgx.Conn, in tpcb) error {
	return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `UPDATE pgbench_accounts SET abalance = abalance + $1 WHERE aid = $2`, in.Delta, in.AID); err != nil {
			return err
		}
		var balance int64
		if err := tx.QueryRow(ctx, selectSQL, in.AID).Scan(&balance); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `UPDATE pgbench_tellers SET tbalance = tbalance + $1 WHERE tid = $2`, in.Delta, in.TID); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `UPDATE pgbench_branches SET bbalance = bbalance + $1 WHERE bid = $2`, in.Delta, in.BID); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, `INSERT INTO pgbench_history (tid, bid, aid, delta, mtime) VALUES ($1, $2, $3, $4, CURRENT_TIMESTAMP)`, in.TID, in.BID, in.AID, in.Delta)
		return err
	})
}

const selectSQL = `SELECT abalance FROM pgbench_accounts WHERE aid = $1`

func selectByHand(ctx context.Context, _ pgcmd.DB, conn *pgx.Conn, in tpcb) error {
	var balance int64
	return conn.QueryRow(ctx, selectSQL, in.AID).Scan(&balance)
}

// runClients lets as many goroutines as pgbench has clients run transactions, each on a connection of its own, and
// returns how many a second they made. Connecting does not count; pgbench leaves it out too. The context of a
// transaction cannot be cancelled, as little as pgbench's.
func runClients(ctx context.Context, url string, clients int, length time.Duration, run transaction) (float64, error) {
	conns := make([]*pgx.Conn, clients)
	for i := range conns {
		var err error
		if conns[i], err = pgx.Connect(ctx, url); err != nil {
			return 0, err
		}
		defer conns[i].Close(ctx)
	}
	ctx = context.WithoutCancel(ctx)
	made := make([]int, len(conns))
	errs := make([]error, len(conns))
	var all sync.WaitGroup
	start := time.Now()
	for i, conn := range conns {
		all.Go(func() {
			for time.Since(start) < length && errs[i] == nil {
				errs[i] = run(ctx, conn, conn, anyTPCB())
				made[i]++
			}
		})
	}
	all.Wait()
	took := time.Since(start)
	total := 0
	for i := range conns {
		if errs[i] != nil {
			return 0, errs[i]
		}
		total += made[i]
	}
	return float64(total) / took.Seconds(), nil
}

var tps = regexp.MustCompile(`(?m)^tps = ([0-9.]+)`)

func runPgbench(ctx context.Context, program, url string, clients int, length time.Duration, flags ...string) (float64, error) {
	args := append(flags, "-n", "-M", "prepared", "-c", strconv.Itoa(clients), "-j", "2", "-T", strconv.Itoa(int(length.Seconds())), url)
	out, err := exec.CommandContext(ctx, program, args...).CombinedOutput()
	if err != nil {
		return 0, fmt.Errorf("pgbench: %w: %s", err, out)
	}
	found := tps.FindSubmatch(out)
	if found == nil {
		return 0, fmt.Errorf("pgbench said no tps: %s", out)
	}
	return strconv.ParseFloat(string(found[1]), 64)
}

// findPgbench looks where scripts/ensure-postgres does.
func findPgbench() (string, error) {
	var places []string
	if folder := os.Getenv("PGCMD_TEST_POSTGRES_BIN"); folder != "" {
		places = append(places, folder)
	}
	for _, pattern := range []string{"/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/opt/homebrew/opt/postgresql*/bin", "/usr/local/opt/postgresql*/bin"} {
		found, _ := filepath.Glob(pattern)
		slices.Reverse(found)
		places = append(places, found...)
	}
	for _, folder := range places {
		if program := filepath.Join(folder, "pgbench"); exec.Command(program, "--version").Run() == nil {
			return program, nil
		}
	}
	program, err := exec.LookPath("pgbench")
	if err != nil {
		return "", fmt.Errorf("pgbench is not found: run scripts/ensure-postgres: %w", err)
	}
	return program, nil
}
