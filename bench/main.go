// Bench measures pgcmd beside pgx by hand and beside its peers.
//
//	go run . report   # everything, into REPORT.md, the plots and the README
//	go run . check    # whether the budgets hold; the exit status says so
//	go run . soak     # 10,000 operations a second for a minute
//
// With BENCH_SHORT=1 a report is quick and rough, and a check is of the in-process server alone: allocations exactly,
// time with a wide margin.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	what := ""
	if len(os.Args) > 1 {
		what = os.Args[1]
	}
	if err := do(ctx, what, os.Getenv("BENCH_SHORT") != "", os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func do(ctx context.Context, what string, short bool, out io.Writer) error {
	p := full
	if short {
		p = brief
	}
	say := func(format string, args ...any) { fmt.Fprintf(out, format, args...) }
	switch what {
	case "report":
		r, err := run(ctx, everything, p, say)
		if err != nil {
			return err
		}
		return write("..", r, p)
	case "check":
		return check(ctx, short, clientBudgets(), serverBudgets(), out)
	case "soak":
		r, err := run(ctx, []section{{"soak", soak}}, p, say)
		if err != nil {
			return err
		}
		say("%s\n", soakLine(r))
		return nil
	}
	return fmt.Errorf("say what: report, check or soak, and not %q", what)
}

var (
	clientSections = []section{{"client work", clientWork}, {"without a server", definitions}}
	serverSections = []section{
		{"peers, client work", clientPeers}, {"peers, PostgreSQL", serverWork}, {"at 1 ms", distantWork},
		{"callers", callers}, {"pgbench", besidePgbench}, {"shared connections", sharedConnections}}
	everything = append(append(append([]section{}, clientSections...), serverSections...),
		section{"cost by component", costs}, section{"connect", connecting}, section{"soak", soak})
)

// check measures what the budgets are of, and returns errBroken if one is broken. The short form is of the first kind
// alone.
func check(ctx context.Context, short bool, client, server []budget, out io.Writer) error {
	sections, p, m := append(append([]section{}, clientSections...), serverSections...), full, margin
	budgets := append(append([]budget{}, client...), server...)
	if short {
		sections, p, m, budgets = clientSections, brief, shortMargin, client
	}
	p.latencies = 0
	r, err := run(ctx, sections, p, func(string, ...any) {})
	if err != nil {
		return err
	}
	return report(out, judge(budgets, r, m))
}
