package main

import (
	"bytes"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/pgcmd/pgcmd/internal/measure"
	"github.com/pgcmd/pgcmd/internal/workload"
)

// What the report that started the project predicted of commands over pgx by hand.
const (
	predictedOverhead = "154 µs"
	predictedLoss     = "84%"
)

// write makes bench/REPORT.md and its plots, and puts its table into the README and its summary into docs/performance.md.
func write(root string, r *results, p pace) error {
	if err := plots(filepath.Join(root, "bench"), r); err != nil {
		return err
	}
	short, summary := shortTable(r), summaryOf(r)
	if err := os.WriteFile(filepath.Join(root, "bench", "REPORT.md"), []byte(render(r, p, short, summary)), 0o644); err != nil {
		return err
	}
	if err := replaceBlock(filepath.Join(root, "README.md"), shortBlock, short); err != nil {
		return err
	}
	return replaceBlock(filepath.Join(root, "docs", "performance.md"), summaryBlock, summary)
}

func replaceBlock(file string, b block, inside string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	_, before, after, ok := b.split(string(text))
	if !ok {
		return fmt.Errorf("%s has not the markers %s and %s", file, b.begin(), b.end())
	}
	return os.WriteFile(file, []byte(before+inside+after), 0o644)
}

// A block is a part of a text that is made here, by its name in the two markers around it.
type block string

const (
	shortBlock   block = "make bench"
	summaryBlock block = "make bench, summary"
)

func (b block) begin() string { return "<!-- " + string(b) + ": begin -->" }
func (b block) end() string   { return "<!-- " + string(b) + ": end -->" }

// split returns what is between the two markers, before the first and after the second, both markers with the latter.
func (b block) split(text string) (inside, before, after string, ok bool) {
	begin, end := strings.Index(text, b.begin()), strings.Index(text, b.end())
	if begin < 0 || end < begin {
		return "", "", "", false
	}
	begin += len(b.begin())
	return text[begin:end], text[:begin], text[end:], true
}

// A page is Markdown in the making.
type page struct{ bytes.Buffer }

func (p *page) line(format string, args ...any) { fmt.Fprintf(p, format+"\n", args...) }

func (p *page) head(columns ...string) {
	p.line("\n| %s |", strings.Join(columns, " | "))
	p.line("|%s", strings.Repeat("---|", len(columns)))
}

func (p *page) row(cells ...string) { p.line("| %s |", strings.Join(cells, " | ")) }

// shortTable is the README's part.
func shortTable(r *results) string {
	p := new(page)
	p.line("\nOne run of `make bench` (%s): what the client computes, in CPU time.", machine())
	p.head("Work, rows of 5 columns", "pgcmd", "pgx by hand", "ratio", "allocations", "by hand")
	for _, w := range []workload.Work{workload.One, workload.Simple, workload.Many, workload.Three, workload.Hundred, workload.Failed} {
		if t, ok := find(r.client, w.Name); ok {
			us, hand := t.rows[0], t.rows[1]
			p.row(w.Name, ns(us.time.Median), ns(hand.time.Median), number(hand.ratio.Median), number(us.allocs), number(hand.allocs))
		}
	}
	pool, _ := r.hundred.row(pooled)
	hand, _ := r.hundred.row(byHand)
	shared, _ := find(r.shared, "0s")
	multiplexed, _ := shared.row(sharer)
	p.line("\n100 callers on ten connections find %s rows a second on a `*pgcmd.Pool`, %s by hand on a pgxpool, and %s times as many as by hand on the %d that `Config.Multiplex` shares.",
		perSecond(pool.time.Median), perSecond(hand.time.Median), number(multiplexed.ratio.Median), sharedConns)
	p.line("")
	return p.String()
}

// summaryOf is the part of docs/performance.md.
func summaryOf(r *results) string {
	p := new(page)
	p.line("\nOne run of `make bench` (%s). Times are medians: of the CPU on the in-process server, else of all that passes. A ratio is pgcmd's time divided by the other's, so below 1 pgcmd is faster; the range in brackets holds the middle half of the measured ratios.", machine())
	p.head("Work, 5 columns", "pgcmd", "pgx by hand", "ratio", "allocations", "pgx's helpers¹", "ratio")
	p.row("*Client work alone, on an in-process server*", "", "", "", "", "", "")
	for _, w := range []workload.Work{workload.One, workload.Named, workload.Simple, workload.Many} {
		if t, ok := find(r.client, w.Name); ok {
			us, hand := t.rows[0], t.rows[1]
			helper := t.rows[2]
			p.row(w.Name, ns(us.time.Median), ns(hand.time.Median), spread(hand.ratio), fmt.Sprintf("%s, by hand %s", number(us.allocs), number(hand.allocs)), ns(helper.time.Median), number(helper.ratio.Median))
		}
	}
	p.row("*On PostgreSQL, over a Unix socket, on a pool of ten*", "", "", "", "", "", "")
	for _, w := range workload.All {
		if t, ok := find(r.server, w.Name); ok {
			us := t.rows[0]
			hand, _ := t.row(byHand)
			helper, _ := t.row(nameHelpers)
			p.row(w.Name, ns(us.time.Median), ns(hand.time.Median), spread(hand.ratio), fmt.Sprintf("%s, by hand %s", number(us.allocs), number(hand.allocs)), ns(helper.time.Median), number(helper.ratio.Median))
		}
	}
	p.line("\n¹ `RowToStructByName`, `NamedArgs`.")
	new := definitionOf(r, workNew)
	direct, _ := new.row(nameDirect)
	try, _ := new.row(nameTry)
	pool, _ := r.hundred.row(pooled)
	hand, _ := r.hundred.row(byHand)
	multiplexed := func(delay string) measure.Spread {
		t, _ := find(r.shared, delay)
		row, _ := t.row(sharer)
		return row.ratio
	}
	tpcb, _ := find(r.pgbench, workTPCB)
	sel, _ := find(r.pgbench, workSelect)
	many, _ := find(r.pgbench, workSelectMany)
	p.head("Other work", "pgcmd", "compare")
	p.row("a `New` command, over a direct call of its body", ns(new.rows[0].time.Median-direct.time.Median), "no allocation")
	p.row("the same by `Try` instead of `Run`", ns(try.time.Median-direct.time.Median), "")
	p.row("an input refused for three reasons, to an `*Error`", ns(definitionOf(r, workRefused).rows[0].time.Median), "")
	p.row("100 goroutines on ten connections, rows a second", perSecond(pool.time.Median)+" on a `*pgcmd.Pool`", perSecond(hand.time.Median)+" by hand on a pgxpool")
	p.row(fmt.Sprintf("100 goroutines on %d connections, shared by `Config.Multiplex`", sharedConns), spread(multiplexed("0s"))+" times by hand", "")
	p.row("the same at a round trip of 1 ms", spread(multiplexed("1ms"))+" times by hand", "")
	p.head("Transactions, as a multiple of `pgbench -M prepared` (the C client)", "pgcmd", "pgx by hand", "pgcmd in its fastest form")
	p.row("TPC-B-like", ofPgbench(tpcb, ours), ofPgbench(tpcb, byHand), ofPgbench(tpcb, sidePipeline)+", as a Pipeline")
	p.row("select-only", ofPgbench(sel, ours), ofPgbench(sel, byHand), ofPgbench(sel, sharer)+", with Multiplex")
	p.row(workSelectMany, ofPgbench(many, ours), ofPgbench(many, byHand), ofPgbench(many, sharer)+", with Multiplex")
	p.line("")
	return p.String()
}

func definitionOf(r *results, work string) table {
	t, _ := find(r.definition, work)
	return t
}

func render(r *results, pace pace, short, summary string) string {
	p := new(page)
	p.line("# What it costs\n")
	p.line("Made by `make bench`. %s. The server shares the cores with whatever is measured.", machine())
	if pace != full {
		p.line("\n**A short and rough run (`BENCH_SHORT=1`): its figures are for trying out the program, not for quoting.**")
	}
	p.line("\nHow it is measured: all sides of a comparison take turns in one process, in an order drawn anew for each turn, and a ratio is the median of the ratios within the turns, with the interval that holds the middle half of them. " +
		"A ratio is pgcmd's time to the other's: below 1, pgcmd is faster. A turn is a millisecond or so of one side. Percentiles are of single runs, timed in a separate race. Allocations and bytes are averages over runs in the client's process, everything included. The context can be cancelled, as a request's can: pgx watches it, for 4 allocations a round trip on every side.")
	p.line("\n## In short\n\n%s%s%s", shortBlock.begin(), short, shortBlock.end())
	p.line("\n## Summary\n\n%s%s%s", summaryBlock.begin(), summary, summaryBlock.end())

	p.faster(r)

	p.line("\n## What was predicted")
	p.line("\nThe report that the project began with predicted %s of overhead for each command and a loss of %s at 100 concurrent callers, and advised a bypass for hot paths. Measured, the difference of medians to pgx by hand:", predictedOverhead, predictedLoss)
	p.head("Work", "predicted", "client work alone", "on PostgreSQL")
	for _, w := range workload.All {
		client, _ := find(r.client, w.Name)
		server, _ := find(r.server, w.Name)
		p.row(w.Name, predictedOverhead, difference(client), difference(server))
	}
	us, _ := r.hundred.row(ours)
	pool, _ := r.hundred.row(pooled)
	p.row("100 concurrent callers, throughput", "−"+predictedLoss, "", fmt.Sprintf("%+.0f%% on a pgxpool, %+.0f%% on the Pool", 100*(us.ratio.Median-1), 100*(pool.ratio.Median-1)))

	p.line("\n## Client work alone")
	p.line("\nOn an in-process server that answers from memory (`internal/canned`), on one connection. The time is that of the CPU, the garbage collector included, but for percentiles.")
	for _, t := range append(append([]table{}, r.client...), r.definition...) {
		p.comparison(t)
	}

	p.line("\n### Large results\n\n![large results](large.svg)\n\nThe CPU's time and the memory of all that is allocated, garbage included, for each row.")
	p.head("rows", "pgcmd", byHand, "ratio", "bytes a row", "by hand")
	for i, t := range r.large {
		rows := float64(largeWorks[i].Rows)
		p.row(number(rows), ns(t.rows[0].time.Median/rows), ns(t.rows[1].time.Median/rows), spread(t.rows[1].ratio), number(t.rows[0].bytes/rows), number(t.rows[1].bytes/rows))
	}

	p.line("\n### In a new goroutine\n\nOne row, in a goroutine of its own for every run, by how much of its stack the caller uses. What pgx needs makes the stack grow, and what pgcmd has above it decides at which depths it grows once more.")
	p.head("bytes of the stack", "pgcmd", byHand, "ratio")
	for depth, t := range r.goroutines {
		p.row(fmt.Sprint(120*depth), ns(t.rows[0].time.Median), ns(t.rows[1].time.Median), spread(t.rows[1].ratio))
	}

	p.line("\n## Where the time goes\n\n![cost by component](components.svg)\n\nOf a `QueryOne` of five columns, by differences of medians: all but the last two on the in-process server, those on PostgreSQL.")
	p.head("What", "Time")
	for _, c := range r.components {
		p.row(c.name, ns(c.took))
	}

	p.line("\n## Beside its peers")
	p.line("\nEach as its own documentation advises, with prepared statements on, on a pool of %d connections.", maxConns)
	p.head("", "version", "used")
	for _, peer := range append(mains(), peers()...) {
		p.row(peer.name, version(peer.module), peer.how)
	}
	p.line("\n### Client work alone")
	for _, t := range r.peers {
		p.comparison(t)
	}
	p.line("\n### On PostgreSQL\n\n![latency](latency.svg)\n\nA transaction by pgcmd has a round trip fewer. A batch is 100 statements by pgcmd, pgx, scany, scan and sqlc, in one round trip; sqlx, bun and gorm write one statement of 300 values, which says nothing about single items; database/sql has only the loop.")
	for _, t := range r.server {
		p.comparison(t)
	}
	p.line("\n### Connecting")
	p.comparison(r.connect)

	p.line("\n## At a round trip of 1 ms\n\nA proxy delays what passes.")
	for _, t := range r.distant {
		p.line("\n**%s**", t.work)
		p.head("", "time", "ratio", "round trips")
		for _, row := range t.rows {
			p.row(row.name, ns(row.time.Median), spread(row.ratio), fmt.Sprint(r.trips[t.work+", "+row.name]))
		}
	}

	p.line("\n## Many callers\n\n![throughput](throughput.svg)\n\nGoroutines that find single rows, on a pool of %d connections: rows a second.", maxConns)
	columns := []string{"goroutines"}
	for _, row := range r.callers[0].rows {
		columns = append(columns, row.name)
	}
	p.head(append(columns, "ratio to pgx by hand", "of the Pool")...)
	for _, t := range r.callers {
		cells := []string{t.work}
		for _, row := range t.rows {
			cells = append(cells, perSecond(row.time.Median))
		}
		hand, _ := t.row(byHand)
		pool, _ := t.row(pooled)
		p.row(append(cells, spread(hand.ratio), number(hand.ratio.Median/pool.ratio.Median))...)
	}
	p.line("\n100 goroutines in a race of their own, %s long, with the latency of a row; the commands and pgx by hand are on the very same pgxpool.", 6*pace.race)
	p.head("", "rows a second", "times that of pgx by hand", "p50", "p95", "p99", "max")
	for _, row := range r.hundred.rows {
		p.row(append([]string{row.name, perSecond(row.time.Median), spread(row.ratio)}, percentiles(row.latency)...)...)
	}
	p.loads(r)
	p.line("\n100 goroutines on %d connections, or on %d by `Multiplex`, by round trip: rows a second.", maxConns, sharedConns)
	for _, t := range r.shared {
		p.line("\n**%s more**", t.work)
		p.head("", "rows a second", "times that of pgx by hand", "p50", "p99")
		for _, row := range t.rows {
			p.row(row.name, perSecond(row.time.Median), spread(row.ratio), micro(row.latency.At(0.5)), micro(row.latency.At(0.99)))
		}
	}

	p.line("\n## Beside pgbench\n\n`pgbench -M prepared`, the C client: scale %d, %d clients if it does not say another number, `-j 2`, against as many goroutines that run the same statements as commands, each on a connection of its own; %d rounds of %s each, in turns. "+
		"All share the cores with the server, so what a client computes the server cannot: on these machines Go's clients, by hand too, do not reach pgbench statement by statement. "+
		"BEGIN travels with the first statement of a Transaction (6 round trips, pgbench and by hand 7). None of the statements waits for another's result, so that a Pipeline can send them all in one round trip; and reads can share %d connections by `Multiplex`. "+
		"pgbench makes its own random numbers.", pgbenchScale, pgbenchClients, pace.rounds, pace.pgbench, sharedConns)
	p.head("", "", "transactions a second", "of pgbench's")
	for _, t := range r.pgbench {
		for _, row := range t.rows {
			p.row(t.work, row.name, perSecond(row.time.Median), ofPgbench(t, row.name))
		}
	}

	p.postgresJS(r)
	p.compileCosts(r)

	p.line("\n## Soak\n\n%s", soakLine(r))

	p.line("\n## Budgets\n\nOf DESIGN.md, section 5, and what goes beyond it. `make bench-check` measures them anew and fails if one is broken: a time by more than %.0f%%, an allocation, a round trip or a function by any.", 100*margin)
	p.head("", "bound", "measured", "")
	for _, v := range judge(slices.Concat(clientBudgets(), compileBudgets(), serverBudgets()), r, margin) {
		state := "held"
		if !v.held {
			state = "**broken**"
		}
		p.row(v.what, v.side()+" "+number(v.bound), number(v.got), state)
	}
	return p.String()
}

// faster lists the rows of the report in which another is faster than pgcmd.
func (p *page) faster(r *results) {
	p.line("\n## Where another is faster")
	p.head("Where", "Work", "Faster", "pgcmd's time, of its")
	found := false
	for _, part := range []struct {
		name   string
		tables []table
	}{
		{"client work", r.client}, {"large results", r.large}, {"without a server", r.definition}, {"peers, client work", r.peers},
		{"peers, PostgreSQL", r.server}, {"beside pgbench", r.pgbench},
	} {
		for _, t := range part.tables {
			for _, row := range t.rows[1:] {
				mine := strings.HasPrefix(row.name, ours) || slices.Contains([]string{nameDirect, nameTry, nameOfCommand, nameOfEncoding}, row.name)
				if row.ratio.Median > 1+margin && !mine {
					p.row(part.name, t.work, row.name, spread(row.ratio))
					found = true
				}
			}
		}
	}
	if !found {
		p.row("nowhere", "", "", "")
	}
	p.line("\nA difference below %.0f%% is none. The interval holds the middle half of the ratios: where it holds 1, another run may say otherwise.", 100*margin)
}

func (p *page) comparison(t table) {
	p.line("\n**%s**", t.work)
	p.head("", "time", "ratio", "allocations", "bytes", "p50", "p95", "p99", "max")
	for i, row := range t.rows {
		ratio := spread(row.ratio)
		if i == 0 {
			ratio = ""
		}
		p.row(append([]string{row.name, ns(row.time.Median), ratio, number(row.allocs), number(row.bytes)}, percentiles(row.latency)...)...)
	}
}

func percentiles(l measure.Latency) []string {
	if len(l) == 0 {
		return []string{"", "", "", ""}
	}
	return []string{micro(l.At(0.5)), micro(l.At(0.95)), micro(l.At(0.99)), micro(l.Max())}
}

func soakLine(r *results) string {
	return fmt.Sprintf("%s operations a second for %s on a `*pgcmd.Pool` of %d connections, open-loop: ten start at each millisecond whether the ones before have ended or not, and each is timed from when it was meant to start. p50 %s, p95 %s, p99 %s, max %s.",
		number(soakRate), r.soaked, maxConns, micro(r.soak.At(0.5)), micro(r.soak.At(0.95)), micro(r.soak.At(0.99)), micro(r.soak.Max()))
}

// difference is the median of the first less that of pgx by hand.
func difference(t table) string {
	hand, ok := t.row(byHand)
	if !ok {
		return ""
	}
	d := t.rows[0].time.Median - hand.time.Median
	if d < 0 {
		return "−" + ns(-d)
	}
	return ns(d)
}

func micro(d time.Duration) string { return ns(float64(d)) }

// ns renders nanoseconds to three digits.
func ns(n float64) string {
	switch abs := math.Abs(n); {
	case abs < 999.5:
		return number(n) + " ns"
	case abs < 999_500:
		return number(n/1e3) + " µs"
	case abs < 999_500_000:
		return number(n/1e6) + " ms"
	}
	return number(n/1e9) + " s"
}

// number renders to three digits, with commas between thousands.
func number(v float64) string {
	switch abs := math.Abs(v); {
	case v == math.Trunc(v) && abs < 1000:
		return fmt.Sprintf("%.0f", v)
	case abs < 9.995:
		return fmt.Sprintf("%.2f", v)
	case abs < 99.95:
		return fmt.Sprintf("%.1f", v)
	case abs < 999.5:
		return fmt.Sprintf("%.0f", v)
	}
	text := fmt.Sprintf("%.0f", v)
	for i := len(text) - 3; i > 0 && text[i-1] != '-'; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}

func spread(s measure.Spread) string {
	return fmt.Sprintf("%.2f (%.2f–%.2f)", s.Median, s.Low, s.High)
}

// ofPgbench is how many transactions the side makes for one of pgbench's.
func ofPgbench(t table, name string) string {
	side, _ := t.row(name)
	them, _ := t.row(namePgbench)
	return number(them.time.Median / side.time.Median)
}

func perSecond(took float64) string { return number(math.Round(1e9 / took)) }

// machine is where and with what this runs.
func machine() string {
	cpu := runtime.GOARCH
	if info, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		if m := regexp.MustCompile(`model name\s*: (.*)`).FindSubmatch(info); m != nil {
			cpu = strings.TrimSpace(string(m[1]))
		}
	}
	server := "PostgreSQL"
	if program, err := findPgbench(); err == nil {
		if out, err := exec.Command(program, "--version").Output(); err == nil {
			if m := regexp.MustCompile(`\d+(\.\d+)?`).Find(out); m != nil {
				server += " " + string(m)
			}
		}
	}
	return fmt.Sprintf("%s, pgx %s, %s, %d cores of an %s", strings.Replace(runtime.Version(), "go", "Go ", 1), strings.TrimPrefix(version("github.com/jackc/pgx/v5"), "v"), server, runtime.NumCPU(), cpu)
}

func version(module string) string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	for _, d := range info.Deps {
		if d.Path == module && d.Replace == nil {
			return d.Version
		}
	}
	return ""
}
