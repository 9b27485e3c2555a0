// Bench measures pgcmd beside pgx by hand and beside its peers.
//
//	go run . report    # everything, into REPORT.md, the plots and the README
//	go run . check     # whether the budgets hold; the exit status says so
//	go run . compile   # what a package of commands costs to compile, alone
//	go run . soak      # 10,000 operations a second for a minute
//	go run . recovery  # how soon a pool works again after its server failed
//	go run . compare   # what becomes of the same inserts under the same faults
//
// With BENCH_SHORT=1 a report is quick and rough, and a check is of the in-process server and of the functions that the
// compiler makes of a command: allocations and functions exactly, time with a wide margin. It shortens recovery and
// compare as well.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"

	"github.com/pgcmd/pgcmd/bench/internal/faultcompare"
	"github.com/pgcmd/pgcmd/bench/internal/recovery"
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
		return check(ctx, short, clientBudgets(), append(compileBudgets(), serverBudgets()...), out)
	case "compile":
		r, err := run(ctx, []section{compileSection, functionsSection}, p, say)
		if err != nil {
			return err
		}
		text := new(page)
		text.compileCosts(r)
		say("%s", text)
		return nil
	case "soak":
		r, err := run(ctx, []section{{"soak", soak}}, p, say)
		if err != nil {
			return err
		}
		say("%s\n", soakLine(r))
		return nil
	case "recovery":
		return recovery.Run(ctx, short, out)
	case "compare":
		operations := 20_000
		if short {
			operations = 1000
		}
		return faultcompare.Run(ctx, operations, out)
	}
	return fmt.Errorf("the argument is %q: it must be report, check, compile, soak, recovery or compare", what)
}

var (
	compileSection   = section{"compile", compilePackages}
	functionsSection = section{"functions of a command", countFunctions}

	clientSections = []section{{"client work", clientWork}, {"without a server", definitions}, {"catalogs", catalogs}, {"new goroutines", newGoroutines}, functionsSection}
	serverSections = []section{
		{"large results", largeResults},
		{"peers, client work", clientPeers}, {"peers, PostgreSQL", serverWork}, {"at 1 ms", distantWork},
		{"callers", callers}, {"load", loads}, {"pgbench", besidePgbench}, {"shared connections", sharedConnections}}
	// checkSections begins with compileSection, because the compiler's peak memory is not measured below that of this process.
	checkSections = slices.Concat([]section{compileSection}, clientSections, serverSections)
	everything    = append(slices.Clone(checkSections), section{"cost by component", costs}, section{"connect", connecting},
		section{"postgres.js", besidePostgresJS}, section{"soak", soak})
)

// check measures what the budgets are of, and returns errBroken if one is broken. The short form is of the first kind
// alone.
func check(ctx context.Context, short bool, client, others []budget, out io.Writer) error {
	sections, p, m := checkSections, full, margin
	budgets := slices.Concat(client, others)
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
