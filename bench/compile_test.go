package main

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/pgcmd/pgcmd/internal/measure"
)

func packages(cpu map[int]float64) *results {
	r := new(results)
	for _, n := range packageSizes {
		r.compiled = append(r.compiled,
			compiled{commands: n, name: byHand, cpu: measure.Times{1e9, 1e9, 4e9}, memory: measure.Times{100e6, 100e6, 100e6}, archive: 10e6, binary: 20e6},
			compiled{commands: n, name: ours, cpu: measure.Times{cpu[n], cpu[n], 4 * cpu[n]}, memory: measure.Times{150e6, 150e6, 300e6}, archive: 25e6, binary: 30e6})
	}
	return r
}

// Ratios are within a turn, so that a slow one does not count.
func TestBudgetsOfCompiling(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		cpu    map[int]float64
		broken []string
	}{
		{"within", map[int]float64{0: 0.5e9, 50: 1e9, 200: 2.5e9, 500: 5.5e9}, nil},
		{"slow", map[int]float64{0: 0.5e9, 50: 1e9, 200: 2.7e9, 500: 5.5e9}, []string{"compiling 200 commands, CPU of the same by hand"}},
		{"not linear", map[int]float64{0: 0.5e9, 50: 1e9, 200: 2.5e9, 500: 7.5e9}, []string{"compiling, CPU of each command from 50 to 500, of each from 50 to 200"}},
	} {
		var broken []string
		for _, v := range judge(compileBudgets(), packages(c.cpu), margin) {
			if !v.held {
				broken = append(broken, v.what)
			}
		}
		assert.Equal(t, c.broken, broken, c.name)
	}
	for _, v := range judge(compileBudgets(), new(results), margin) {
		assert.False(t, v.held, "%s: not measured", v.what)
	}
}

func TestTheReportHasWhatCompilingCosts(t *testing.T) {
	t.Parallel()
	p := new(page)
	p.compileCosts(packages(map[int]float64{0: 0.5e9, 50: 1e9, 200: 2.5e9, 500: 5.5e9}))
	assert.Contains(t, p.String(), "medians of 3 turns")
	assert.Contains(t, p.String(), "| 200 | pgx by hand | 1 s |  | 100 MB |  | 10 MB |  | 20 MB |  |")
	assert.Contains(t, p.String(), "| 200 | pgcmd | 2.50 s | 2.50 | 150 MB | 1.50 | 25 MB | 2.50 | 30 MB | 1.50 |")
}
