package main

import (
	"bytes"
	"fmt"
	"os"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgcmd/pgcmd/internal/measure"
	"github.com/pgcmd/pgcmd/internal/workload"
)

// The short check, as CI runs it, holds its exact budgets and fails on one that is planted. It looks at no time: that
// is not for tests.
func TestACheckCanFail(t *testing.T) {
	exact := func(budgets []budget) (kept []budget) {
		for _, b := range budgets {
			if b.exact {
				kept = append(kept, b)
			}
		}
		return kept
	}
	var out bytes.Buffer
	if !testing.Short() { // the next check measures them too
		require.NoError(t, check(t.Context(), true, exact(clientBudgets()), nil, &out))
		assert.NotContains(t, out.String(), "BROKEN")
	}

	planted := append(exact(clientBudgets()), budget{what: "planted", bound: 0, exact: true,
		figure: allocations(func(r *results) []table { return r.client }, workload.One.Name, ours)})
	out.Reset()
	err := check(t.Context(), true, planted, nil, &out)
	require.ErrorIs(t, err, errBroken)
	assert.Contains(t, out.String(), "BROKEN planted ")
	assert.EqualError(t, err, fmt.Sprintf("a budget is broken: 1 of %d", len(planted)))
}

func TestVerdicts(t *testing.T) {
	t.Parallel()
	is := func(v float64) func(*results) (float64, bool) {
		return func(*results) (float64, bool) { return v, true }
	}
	for _, c := range []struct {
		name string
		b    budget
		held bool
	}{
		{"at its bound", budget{bound: 1, figure: is(1)}, true},
		{"within the margin", budget{bound: 1, figure: is(1.029)}, true},
		{"beyond the margin", budget{bound: 1, figure: is(1.031)}, false},
		{"exact, beyond", budget{bound: 1, exact: true, figure: is(1.001)}, false},
		{"at least, within the margin", budget{bound: 10, atLeast: true, figure: is(9.8)}, true},
		{"at least, below", budget{bound: 10, atLeast: true, figure: is(9.6)}, false},
		{"not measured", budget{bound: 1, figure: ratio(func(r *results) []table { return r.client }, "nothing", ours)}, false},
	} {
		assert.Equal(t, c.held, judge([]budget{c.b}, new(results), margin)[0].held, c.name)
	}
}

func TestBetweenTwoThatAreNotTheFirst(t *testing.T) {
	t.Parallel()
	times := func(name string, ratio float64) row { return row{name: name, ratio: measure.Spread{Median: ratio}} }
	tables := func(*results) []table {
		return []table{{"w", []row{times("first", 1), times("a", 0.5), times("b", 0.25)}}}
	}
	got, ok := between(tables, "w", "a", "b")(nil)
	assert.True(t, ok)
	assert.Equal(t, 0.5, got, "a takes 2, b takes 4")
}

// The figures of the README and of docs/performance.md are the report's.
func TestTheFiguresOfTheDocumentsAreTheReports(t *testing.T) {
	t.Parallel()
	inside := func(file string, b block) string {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		part, _, _, ok := b.split(string(text))
		require.True(t, ok, file)
		require.NotEmpty(t, part, file)
		return part
	}
	assert.Equal(t, inside("REPORT.md", shortBlock), inside("../README.md", shortBlock))
	assert.Equal(t, inside("REPORT.md", summaryBlock), inside("../docs/performance.md", summaryBlock))
}

func TestFiguresReadWell(t *testing.T) {
	t.Parallel()
	for v, want := range map[float64]string{0: "0", 6: "6", 0.5: "0.50", 12.34: "12.3", 123.4: "123", 2005: "2,005", -1234567: "-1,234,567", 999.6: "1,000"} {
		assert.Equal(t, want, number(v))
	}
	for v, want := range map[float64]string{4.6: "4.60 ns", 1760: "1.76 µs", 109_000: "109 µs", 3.4e6: "3.40 ms", 2e9: "2 s"} {
		assert.Equal(t, want, ns(v))
	}
}
