package main

import (
	"encoding/xml"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgcmd/pgcmd/internal/measure"
	"github.com/pgcmd/pgcmd/internal/workload"
)

func TestPlotsAreSmallAndWhole(t *testing.T) {
	t.Parallel()
	latency := measure.Latency{10 * time.Microsecond, 20 * time.Microsecond, 3 * time.Millisecond}
	rows := []row{{name: ours, time: measure.Spread{Median: 40_000}, latency: latency}, {name: byHand, time: measure.Spread{Median: 50_000}, latency: latency}}
	r := &results{server: []table{{workload.One.Name, rows}}, components: []component{{"calling", 4}, {"the server", 50_000}, {"less than nothing", -300}}}
	for range manyCallers {
		r.callers = append(r.callers, table{"1", rows})
	}
	for _, w := range largeWorks {
		r.large = append(r.large, table{w.Name, []row{{name: ours, time: measure.Spread{Median: 2000}, bytes: 1000}, {name: byHand, time: measure.Spread{Median: 3000}, bytes: 2000}}})
	}
	folder := t.TempDir()
	require.NoError(t, plots(folder, r))
	for _, name := range []string{"latency.svg", "throughput.svg", "components.svg", "large.svg"} {
		text, err := os.ReadFile(filepath.Join(folder, name))
		require.NoError(t, err)
		assert.NoError(t, xml.Unmarshal(text, new(struct{})), name)
		assert.Less(t, len(text), 100_000, name)
	}
}
