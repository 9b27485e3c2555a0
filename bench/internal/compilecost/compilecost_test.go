package compilecost

import (
	"os/exec"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Both forms compile, link and start: the definitions panic at start if a statement does not match its types.
func TestBothFormsCompileAndStart(t *testing.T) {
	t.Parallel()
	c := compiler(t)
	for _, form := range []Form{ByHand, Pgcmd} {
		for _, n := range []int{0, 3} {
			p, err := c.Compile(t.Context(), form, n)
			require.NoError(t, err, "%s, %d commands", form, n)
			assert.Positive(t, p.CPU)
			assert.Greater(t, p.MaxRSS, int64(10<<20), "more than 10 MB")
			assert.Greater(t, p.ArchiveSize, int64(10<<10), "more than 10 kB")
			program, length, err := c.Link(t.Context(), p)
			require.NoError(t, err, "%s, %d commands", form, n)
			assert.Greater(t, length, p.ArchiveSize/10)
			assert.NoError(t, exec.CommandContext(t.Context(), program).Run(), "%s, %d commands", form, n)
		}
	}
}

// The budget holds. The number is exact for a version of Go: the compiler makes the same functions on every machine.
func TestFunctionsOfACommand(t *testing.T) {
	t.Parallel()
	c := compiler(t)
	got, err := c.FunctionsPerCommand(t.Context(), Pgcmd)
	require.NoError(t, err)
	hand, err := c.FunctionsPerCommand(t.Context(), ByHand)
	require.NoError(t, err)
	t.Logf("functions of a command: %.1f, by hand %.1f", got, hand)
	assert.LessOrEqual(t, got, float64(MaxFunctionsPerCommand))
	assert.Greater(t, got, 2.0, "the functions are not found")
}

func compiler(t *testing.T) *Compiler {
	t.Helper()
	c, err := New(t.Context())
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, c.Close()) })
	return c
}
