package main

import (
	"errors"
	"fmt"
	"io"
	"math"

	"github.com/pgcmd/pgcmd/bench/internal/compilecost"
	"github.com/pgcmd/pgcmd/internal/measure"
	"github.com/pgcmd/pgcmd/internal/workload"
)

// A budget is a bound on a figure, from section 5 of the design and what the project promises beyond it.
type budget struct {
	what    string
	bound   float64
	atLeast bool // else at most
	exact   bool // an allocation, a round trip or a function: no margin
	figure  func(r *results) (float64, bool)
}

// The margins within which a time may miss its bound.
const (
	margin      = 0.03
	shortMargin = 0.50 // for machines of which nothing is known
)

// clientBudgets are of figures that need no PostgreSQL.
func clientBudgets() []budget {
	client := func(r *results) []table { return r.client }
	definition := func(r *results) []table { return r.definition }
	return []budget{
		{what: "New over a direct call, ns at the reference's speed", bound: 60, figure: scaled(overhead(definition, workNew, ours))},
		{what: "Try over a direct call, ns at the reference's speed", bound: 130, figure: scaled(overhead(definition, workNew, nameTry))},
		{what: "New, allocations", bound: 0, exact: true, figure: allocations(definition, workNew, ours)},
		{what: "Try, allocations", bound: 0, exact: true, figure: allocations(definition, workNew, nameTry)},
		{what: "QueryOne, time of pgx by hand", bound: 1.05, figure: ratio(client, workload.One.Name, byHand)},
		{what: "QueryOne, allocations beyond those by hand", bound: 1, exact: true, figure: extra(client, workload.One.Name, byHand)},
		{what: "QueryOne in a new goroutine, mean over the depths of the stack, time of pgx by hand", bound: 1.1, figure: goroutineMean},
		{what: "QueryOne in a new goroutine, depths with more than 1.5 times the time of pgx by hand", bound: 2, figure: slowGoroutines},
		{what: "Query of 10 rows, time of pgx by hand", bound: 0.60, figure: ratio(client, workload.Simple.Name, byHand)},
		{what: "Query of 10 rows, allocations of those by hand", bound: 0.70, exact: true, figure: share(client, workload.Simple.Name, byHand)},
		{what: "Query of 10 rows, time of RowToStructByName", bound: 0.45, figure: ratio(client, workload.Simple.Name, nameHelpers)},
		{what: "Query of 1,000 rows, time of pgx by hand", bound: 0.80, figure: ratio(client, workload.Many.Name, byHand)},
		{what: "Query of 1,000 rows, allocations of those by hand", bound: 0.70, exact: true, figure: share(client, workload.Many.Name, byHand)},
		{what: "Query of 1,000 rows, time of RowToStructByName", bound: 0.45, figure: ratio(client, workload.Many.Name, nameHelpers)},
		{what: "named arguments, time of NamedArgs", bound: 1, figure: ratio(client, workload.Named.Name, nameNamed)},
		{what: "named arguments, time of StructArgs", bound: 1, figure: ratio(client, workload.Named.Name, nameStruct)},
		{what: "transaction of three statements, time of pgx.BeginFunc", bound: 1, figure: ratio(client, workload.Three.Name, byHand)},
		{what: "transaction of three statements, allocations beyond those of pgx.BeginFunc", bound: 0, exact: true, figure: extra(client, workload.Three.Name, byHand)},
		{what: "batch of 100, time of pgx.Batch", bound: 0.9, figure: ratio(client, workload.Hundred.Name, byHand)},
		{what: "statement that fails, time of pgx by hand", bound: 1, figure: ratio(client, workload.Failed.Name, byHand)},
		{what: "an input refused for three reasons, time of the same by hand", bound: 1.2, figure: ratio(definition, workRefused, byHand)},
		{what: "an error to JSON, time of an error type by hand", bound: 2, figure: ratio(definition, workJSON, nameErrorType)},
		{what: "a command by Catalog.Run, less the command, time of encoding/json both ways", bound: 1.5, figure: catalogRatio},
		{what: "NewCatalog, ns for each command of new types, at the reference's speed", bound: 30_000,
			figure: scaled(func(r *results) (float64, bool) { return r.newCatalog, r.newCatalog > 0 })},
		{what: "functions that the compiler makes of a command", bound: compilecost.MaxFunctionsPerCommand, exact: true,
			figure: func(r *results) (float64, bool) { return r.functions, r.functions > 0 }},
	}
}

// compileBudgets are of what a package of commands costs to compile.
func compileBudgets() []budget {
	return []budget{
		{what: "compiling 200 commands, CPU of the same by hand", bound: 2.5, figure: ofCompiling(200, func(p compiled) measure.Times { return p.cpu })},
		{what: "compiling 200 commands, memory of the same by hand", bound: 2, figure: ofCompiling(200, func(p compiled) measure.Times { return p.memory })},
		{what: "compiling 200 commands, archive of the same by hand", bound: 3, figure: ofCompiling(200, func(p compiled) measure.Times { return measure.Times{p.archive} })},
		{what: "compiling, CPU of each command from 50 to 500, of each from 50 to 200", bound: 1.3,
			figure: func(r *results) (float64, bool) {
				large, ok := cpuPerCommand(r, 50, 500)
				small, too := cpuPerCommand(r, 50, 200)
				return large / small, ok && too
			}},
	}
}

// ofCompiling is the ratio of a figure of pgcmd's package of n commands to that of the package by hand.
func ofCompiling(n int, figure func(compiled) measure.Times) func(r *results) (float64, bool) {
	return func(r *results) (float64, bool) {
		us, ok := findCompiled(r, n, ours)
		hand, too := findCompiled(r, n, byHand)
		if !ok || !too {
			return 0, false
		}
		return figure(us).Over(figure(hand)).Median, true
	}
}

// cpuPerCommand is the compiler's CPU for each command that pgcmd's package of more has beyond that of fewer.
func cpuPerCommand(r *results, fewer, more int) (float64, bool) {
	small, ok := findCompiled(r, fewer, ours)
	large, too := findCompiled(r, more, ours)
	return (large.cpu.Spread().Median - small.cpu.Spread().Median) / float64(more-fewer), ok && too
}

// serverBudgets are of figures with PostgreSQL.
func serverBudgets() []budget {
	distant := func(r *results) []table { return r.distant }
	server := func(r *results) []table { return r.server }
	peersInProcess := func(r *results) []table { return r.peers }
	crowded := func(r *results) []table { return []table{r.hundred} } // by hand is the first
	multiplexed := func(r *results) []table { return r.shared }       // by hand is the first
	benched := func(r *results) []table { return r.pgbench }
	large := func(r *results) []table { return r.large }
	three := workload.Three.Name + ", "
	hundred := workload.Hundred.Name + ", "
	budgets := []budget{
		{what: "Query of 100,000 rows, time of pgx by hand", bound: 0.80, figure: ratio(large, workload.Large.Name, byHand)},
		{what: "1,000,000 rows, time a row of that at 1,000", bound: 1.5, figure: perRow(func(r row) float64 { return r.time.Median })},
		{what: "1,000,000 rows, memory a row of that at 1,000", bound: 2, exact: true, figure: perRow(func(r row) float64 { return r.bytes })},
		{what: "transaction of three statements, round trips fewer than by hand", bound: 1, exact: true, atLeast: true,
			figure: func(r *results) (float64, bool) {
				us, ok := r.trips[three+ours]
				them, too := r.trips[three+byHand]
				return float64(them - us), ok && too
			}},
		{what: "QueryOne on PostgreSQL, time of pgx by hand", bound: 1.05, figure: ratio(server, workload.One.Name, byHand)},
		{what: "100 goroutines, time of a pgxpool by hand", bound: 1, figure: inverse(ratio(crowded, "100", ours))},
		{what: "100 goroutines on the Pool, time of a pgxpool by hand", bound: 1, figure: inverse(ratio(crowded, "100", pooled))},
		{what: "100 callers on the Pool, CPU of a pgxpool by hand", bound: 1, figure: underLoad(100, func(l load) table { return l.cpu })},
		{what: "1,024 callers on the Pool, time of a pgxpool by hand", bound: 1, figure: underLoad(1024, func(l load) table { return l.time })},
		{what: "1,024 callers on the Pool, CPU of a pgxpool by hand", bound: 1, figure: underLoad(1024, func(l load) table { return l.cpu })},
		{what: "a goroutine that waits for a connection of the Pool, memory of one by hand", bound: 1.02, figure: func(r *results) (float64, bool) { return r.waiting[0] / r.waiting[1], r.waiting[1] > 0 }},
		{what: "a new goroutine that has run a statement on the Pool, stack of one by hand", bound: 1.25, figure: func(r *results) (float64, bool) { return r.stack[0] / r.stack[1], r.stack[1] > 0 }},
		{what: "100 goroutines, Multiplex, times as fast as a pgxpool by hand", bound: 1.5, atLeast: true, figure: ratio(multiplexed, "0s", sharer)},
		{what: "100 goroutines, Multiplex at 1 ms, times as fast as a pgxpool by hand", bound: 5, atLeast: true, figure: ratio(multiplexed, "1ms", sharer)},
	}
	for _, mode := range []string{"atomic", "isolated", "independent"} {
		budgets = append(budgets,
			budget{what: "batch of 100, " + mode + ", round trips", bound: 1, exact: true,
				figure: func(r *results) (float64, bool) { n, ok := r.trips[hundred+"pgcmd, "+mode]; return float64(n), ok }},
			budget{what: "batch of 100, " + mode + ", at 1 ms, times as fast as a loop", bound: 10, atLeast: true,
				figure: func(r *results) (float64, bool) {
					slower, ok := between(distant, workload.Hundred.Name, "pgcmd, "+mode, nameLoop)(r)
					return 1 / slower, ok
				}})
	}
	// A few clients do not fill a shared connection: no budget compares them with pgbench by Multiplex.
	for _, b := range []struct{ work, together string }{{workTPCB, sidePipeline}, {workSelectMany, sharer}} {
		budgets = append(budgets,
			budget{what: b.work + " by " + b.together + ", of pgbench's transactions a second", bound: 0.9, atLeast: true,
				figure: func(r *results) (float64, bool) {
					slower, ok := between(benched, b.work, b.together, namePgbench)(r)
					return 1 / slower, ok
				}})
	}
	for _, work := range []string{workTPCB, workSelect, workSelectMany} {
		budgets = append(budgets, budget{what: work + ", statement by statement, time of pgx by hand", bound: 1.05, figure: ratio(benched, work, byHand)})
	}
	for _, w := range []workload.Work{workload.Simple, workload.Many} {
		for _, p := range peers() {
			budgets = append(budgets,
				budget{what: w.Name + ", client work, time of " + p.name, bound: 1, figure: ratio(peersInProcess, w.Name, p.name)},
				budget{what: w.Name + ", PostgreSQL, time of " + p.name, bound: 1, figure: ratio(server, w.Name, p.name)},
				budget{what: w.Name + ", allocations beyond those of " + p.name, bound: -1, exact: true, figure: extra(peersInProcess, w.Name, p.name)})
		}
	}
	return budgets
}

type tables = func(r *results) []table

func pick(of tables, work, name string) func(r *results) (first, other row, ok bool) {
	return func(r *results) (row, row, bool) {
		t, ok := find(of(r), work)
		if !ok {
			return row{}, row{}, false
		}
		other, ok := t.row(name)
		return t.rows[0], other, ok
	}
}

// ratio is the first side's time over that of another.
func ratio(of tables, work, name string) func(r *results) (float64, bool) {
	return func(r *results) (float64, bool) {
		_, other, ok := pick(of, work, name)(r)
		return other.ratio.Median, ok
	}
}

// inverse is of a ratio to what is first in its table.
func inverse(f func(r *results) (float64, bool)) func(r *results) (float64, bool) {
	return func(r *results) (float64, bool) {
		x, ok := f(r)
		return 1 / x, ok
	}
}

// between is the ratio of two that may both not be the first: each was compared with that within a turn.
func between(of tables, work, a, b string) func(r *results) (float64, bool) {
	return func(r *results) (float64, bool) {
		_, one, ok := pick(of, work, a)(r)
		_, two, too := pick(of, work, b)(r)
		return two.ratio.Median / one.ratio.Median, ok && too
	}
}

func took(of tables, work, name string) func(r *results) (float64, bool) {
	return func(r *results) (float64, bool) {
		_, side, ok := pick(of, work, name)(r)
		return side.time.Median, ok
	}
}

func overhead(of tables, work, name string) func(r *results) (float64, bool) {
	return func(r *results) (float64, bool) {
		all, ok := took(of, work, name)(r)
		direct, too := took(of, work, nameDirect)(r)
		return all - direct, ok && too
	}
}

// referenceRow is how long one row takes by hand, on the in-process server, on the machine that
// the budgets in nanoseconds are of.
const referenceRow = 1750

// scaled is a time in nanoseconds as it would be on that machine: this one may be several times
// as slow, and that at every thing alike.
func scaled(f func(r *results) (float64, bool)) func(r *results) (float64, bool) {
	return func(r *results) (float64, bool) {
		x, ok := f(r)
		hand, ok2 := took(func(r *results) []table { return r.client }, workload.One.Name, byHand)(r)
		return x * referenceRow / hand, ok && ok2
	}
}

func allocations(of tables, work, name string) func(r *results) (float64, bool) {
	return func(r *results) (float64, bool) {
		_, side, ok := pick(of, work, name)(r)
		return side.allocs, ok
	}
}

func extra(of tables, work, name string) func(r *results) (float64, bool) {
	return func(r *results) (float64, bool) {
		first, other, ok := pick(of, work, name)(r)
		return first.allocs - other.allocs, ok
	}
}

func share(of tables, work, name string) func(r *results) (float64, bool) {
	return func(r *results) (float64, bool) {
		first, other, ok := pick(of, work, name)(r)
		return first.allocs / other.allocs, ok
	}
}

// A verdict is what became of a budget.
type verdict struct {
	budget
	got  float64
	held bool
}

// judge compares figures with their budgets. One that was not measured is broken.
func judge(budgets []budget, r *results, margin float64) []verdict {
	verdicts := make([]verdict, len(budgets))
	for i, b := range budgets {
		m := margin
		if b.exact {
			m = 0
		}
		got, ok := b.figure(r)
		held := got <= b.bound*(1+m)
		if b.atLeast {
			held = got >= b.bound*(1-m)
		}
		verdicts[i] = verdict{b, got, ok && held && !math.IsNaN(got)}
	}
	return verdicts
}

var errBroken = errors.New("a budget is broken")

// report prints each budget, and returns errBroken if one is.
func report(out io.Writer, verdicts []verdict) error {
	broken := 0
	for _, v := range verdicts {
		state := "ok    "
		if !v.held {
			state = "BROKEN"
			broken++
		}
		fmt.Fprintf(out, "%s %-75s %s %s: %s\n", state, v.what, v.side(), number(v.bound), number(v.got))
	}
	if broken > 0 {
		return fmt.Errorf("%w: %d of %d", errBroken, broken, len(verdicts))
	}
	return nil
}

func (b budget) side() string {
	if b.atLeast {
		return "at least"
	}
	return "at most"
}
