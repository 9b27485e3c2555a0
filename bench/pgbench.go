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
	namePgbench    = "pgbench"
	workTPCB       = "TPC-B-like"
	workSelect     = "select-only"
)

// A tpcb is the input of pgbench's transactions.
type tpcb struct{ AID, TID, BID, Delta int64 }

func anyTPCB() tpcb {
	return tpcb{AID: rand.Int64N(100_000*pgbenchScale) + 1, TID: rand.Int64N(10*pgbenchScale) + 1, BID: rand.Int64N(pgbenchScale) + 1, Delta: rand.Int64N(10_001) - 5000}
}

// The statements are pgbench's own.
var (
	updateAccount = pgcmd.Exec[tpcb]("pgbench.account", `UPDATE pgbench_accounts SET abalance = abalance + @delta WHERE aid = @aid`)
	selectBalance = pgcmd.QueryOne[tpcb, int64]("pgbench.balance", `SELECT abalance FROM pgbench_accounts WHERE aid = @aid`)
	updateTeller  = pgcmd.Exec[tpcb]("pgbench.teller", `UPDATE pgbench_tellers SET tbalance = tbalance + @delta WHERE tid = @tid`)
	updateBranch  = pgcmd.Exec[tpcb]("pgbench.branch", `UPDATE pgbench_branches SET bbalance = bbalance + @delta WHERE bid = @bid`)
	insertHistory = pgcmd.Exec[tpcb]("pgbench.history", `INSERT INTO pgbench_history (tid, bid, aid, delta, mtime) VALUES (@tid, @bid, @aid, @delta, CURRENT_TIMESTAMP)`)
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

// besidePgbench runs pgbench, the C client, and the same transactions as commands, in turns.
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
	for _, c := range []struct {
		work    string
		flags   []string
		command func(ctx context.Context, conn *pgx.Conn) error
	}{
		{workTPCB, nil, func(ctx context.Context, conn *pgx.Conn) error {
			_, err := tpcbLike.Run(ctx, conn, anyTPCB())
			return err
		}},
		{workSelect, []string{"-S"}, func(ctx context.Context, conn *pgx.Conn) error {
			_, err := selectBalance.Run(ctx, conn, tpcb{AID: rand.Int64N(100_000*pgbenchScale) + 1})
			return err
		}},
	} {
		var us, them measure.Times // a transaction of all clients together
		for round := range p.rounds + 1 {
			var ourTPS, theirTPS float64
			ours := func() (err error) { ourTPS, err = asCommands(ctx, url, p.pgbench, c.command); return err }
			theirs := func() (err error) { theirTPS, err = runPgbench(ctx, program, url, p.pgbench, c.flags...); return err }
			turn := []func() error{ours, theirs}
			if round%2 == 1 {
				slices.Reverse(turn)
			}
			for _, run := range turn {
				if err := run(); err != nil {
					return err
				}
			}
			if round > 0 { // the first fills the caches
				us, them = append(us, 1e9/ourTPS), append(them, 1e9/theirTPS)
			}
		}
		r.pgbench = append(r.pgbench, table{c.work, []row{
			{name: ours, time: us.Spread(), ratio: us.Over(us)},
			{name: namePgbench, time: them.Spread(), ratio: us.Over(them)},
		}})
	}
	return nil
}

// asCommands lets as many goroutines as pgbench has clients run transactions, each on a connection of its own, and
// returns how many a second they made. Connecting does not count; pgbench leaves it out too. The context of a
// transaction cannot be cancelled, as little as pgbench's.
func asCommands(ctx context.Context, url string, length time.Duration, run func(ctx context.Context, conn *pgx.Conn) error) (float64, error) {
	conns := make([]*pgx.Conn, pgbenchClients)
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
				errs[i] = run(ctx, conn)
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

func runPgbench(ctx context.Context, program, url string, length time.Duration, flags ...string) (float64, error) {
	args := append(flags, "-n", "-M", "prepared", "-c", strconv.Itoa(pgbenchClients), "-j", "2", "-T", strconv.Itoa(int(length.Seconds())), url)
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
