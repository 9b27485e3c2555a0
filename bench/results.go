package main

import (
	"context"
	"fmt"
	"time"

	"github.com/pgcmd/pgcmd/internal/measure"
)

// A pace is how long things are measured.
type pace struct {
	race      time.Duration // of the sides of one work
	latencies time.Duration
	allocs    int
	pgbench   time.Duration // of one run
	rounds    int           // of pgbench, and of throughput
	soak      time.Duration
	compiles  int // of each package of commands
}

var (
	full  = pace{race: 6 * time.Second, latencies: 3 * time.Second, allocs: 200, pgbench: time.Second, rounds: 21, soak: time.Minute, compiles: 3}
	brief = pace{race: 800 * time.Millisecond, latencies: 300 * time.Millisecond, allocs: 100, pgbench: time.Second, rounds: 3, soak: 3 * time.Second, compiles: 1}
)

// Results are what one run measured.
type results struct {
	client     []table // on the in-process server, on one connection
	large      []table // there too, by number of rows
	definition []table // without any server
	goroutines []table // one row in a new goroutine, by the depth of the stack
	peers      []table // on the in-process server, on everybody's pool
	server     []table // on PostgreSQL, on everybody's pool
	connect    table
	distant    []table // at a round trip of 1 ms
	callers    []table // by number of goroutines
	hundred    table   // 100 goroutines, in the race that has budgets
	loads      []load
	waiting    [2]float64 // bytes of a goroutine that waits for a connection, on the Pool and by hand
	stack      [2]float64 // bytes of the stack of a new goroutine that has found a row, on the Pool and by hand
	shared     []table    // 100 goroutines on ten connections or fewer that are shared, by round trip
	components []component
	pgbench    []table
	postgresJS []crowdRow
	soak       measure.Latency
	soaked     time.Duration
	trips      map[string]int // round trips, by what takes them
	compiled   []compiled     // packages of commands, by number of commands and form
	newCatalog float64        // nanoseconds for each command of new types
	functions  float64        // that the compiler makes of a command
}

// A table is a work, and what each side took for it.
type table struct {
	work string
	rows []row
}

type row struct {
	name          string
	time          measure.Spread // of one run, in nanoseconds
	ratio         measure.Spread // of the first row's time to this one's: below 1, the first is faster
	allocs, bytes float64
	latency       measure.Latency // of single runs; nil if they were not timed
}

// row returns the one of that name.
func (t table) row(name string) (row, bool) {
	for _, r := range t.rows {
		if r.name == name {
			return r, true
		}
	}
	return row{}, false
}

func find(tables []table, work string) (table, bool) {
	for _, t := range tables {
		if t.work == work {
			return t, true
		}
	}
	return table{}, false
}

// compare lets the sides race, and then looks at what single runs took and allocated.
func compare(work string, sides []measure.Side, size int, p pace, clock measure.Clock) (table, error) {
	t, err := compete(work, sides, size, p.race, clock)
	if err != nil {
		return t, err
	}
	for i, side := range sides {
		if t.rows[i].allocs, t.rows[i].bytes, err = measure.Allocs(side, 0, max(5, min(p.allocs, 20*size))); err != nil {
			return t, err
		}
	}
	if p.latencies == 0 {
		return t, nil
	}
	latencies, err := measure.Latencies(sides, size, p.latencies)
	for i := range latencies {
		t.rows[i].latency = latencies[i]
	}
	return t, err
}

// compete lets the sides race, for as long as it takes.
func compete(work string, sides []measure.Side, size int, about time.Duration, clock measure.Clock) (table, error) {
	times, err := measure.Turns(sides, size, about, clock)
	if err != nil {
		return table{}, fmt.Errorf("%s: %w", work, err)
	}
	t := table{work: work}
	for i, side := range sides {
		t.rows = append(t.rows, row{name: side.Name, time: times[i].Spread(), ratio: times[0].Over(times[i])})
	}
	return t, nil
}

// a section measures a part of the results.
type section struct {
	name string
	run  func(ctx context.Context, r *results, p pace) error
}

func run(ctx context.Context, sections []section, p pace, say func(format string, args ...any)) (*results, error) {
	r := &results{trips: map[string]int{}}
	for _, s := range sections {
		start := time.Now()
		if err := s.run(ctx, r, p); err != nil {
			return nil, fmt.Errorf("%s: %w", s.name, err)
		}
		say("%-40s %s\n", s.name, time.Since(start).Round(100*time.Millisecond))
	}
	return r, nil
}
