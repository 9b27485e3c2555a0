package reliability_test

import (
	"context"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/pgcmd/pgcmd/internal/mutant"
	"github.com/pgcmd/pgcmd/pgcmdtest"
)

// TestMutants plants the classic mistakes, and wants each to be noticed by a part of this suite, which passes without
// it. A mutant is the process's: each has one of its own.
func TestMutants(t *testing.T) {
	t.Parallel()
	server := pgcmdtest.URL(t)
	sound := map[string]bool{}
	for _, m := range []struct {
		name   string
		mutant mutant.Mutant
		run    string // the tests
		says   string // that it was noticed
	}{
		{"pgconn.SafeToRetry is believed", mutant.TrustSafeToRetry,
			"^TestEnumerateFaults$/^three_commands$", "said not to be applied, and it is there"},
		{"COMMIT is on the caller's context", mutant.CommitOnCallersCtx,
			"^TestEnumerateFaults$/^three_commands$", "the caller gave up after COMMIT had left, and tore it"},
		{"the ledger is read, and not written, first", mutant.VerifyBySelect,
			"^TestOnceWaitsForAnAttemptInFlight$", "done more than once"},
		{"a panic does not roll back", mutant.NoRollbackOnPanic,
			"^TestNothingIsLeft$", "the connection came back with the status T"},
		{"a transaction is repeated after COMMIT was sent", mutant.RetryAfterCommit,
			"^TestEnumerateFaults$/^three_commands$", "applied in part or more than once"},
		{"an error that the body swallowed is success", mutant.SwallowAborted,
			"^TestEnumerateFaults$/^a_body_that_swallows_an_error$", "success, of what cannot succeed"},
	} {
		t.Run(m.name, func(t *testing.T) {
			if !sound[m.run] {
				sound[m.run] = true
				output, err := carrying(t, mutant.None, server, m.run)
				assert.NoError(t, err, "without the mistake: %s", output)
			}
			output, err := carrying(t, m.mutant, server, m.run)
			assert.Error(t, err, "nothing was noticed: %s", output)
			assert.True(t, strings.Contains(output, m.says), "it was not noticed by %q: %s", m.says, output)
		})
	}
}

// carrying runs tests of this binary in a process that carries the mutant.
func carrying(t *testing.T, m mutant.Mutant, server, run string) (output string, err error) {
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	child := exec.CommandContext(ctx, os.Args[0], "-test.run="+run, "-test.count=1", "-test.timeout=4m")
	child.Env = append(os.Environ(), mutantVariable+"="+strconv.Itoa(int(m)), "PGCMD_FAULTS=", "PGCMD_TEST_DATABASE_URL="+server)
	all, err := child.CombinedOutput()
	if len(all) > 10_000 {
		all = all[:10_000]
	}
	return string(all), err
}
