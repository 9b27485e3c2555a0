package mutant_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgcmd/pgcmd/pgcmdtest"
)

// A mutant is a mistake, and the test that must fail with it.
type mutant struct {
	name  string
	test  string
	edits []edit
}

// An edit replaces a text that the library's source holds once. In the replacement, MUTANT stands for whether the mutant
// was chosen, so that all mutants are compiled as one.
type edit struct{ old, new string }

const sendCommit = "func (s *serverTx) sendCommit(ctx context.Context) (tag pgconn.CommandTag, err error) {\n"

var mutants = []mutant{
	{"believe pgconn.SafeToRetry of a COMMIT without a reply", "TestACommitWithoutAReplyIsNotReportedAsNotApplied", []edit{
		{sendCommit, sendCommit + "if MUTANT { return s.Conn.Exec(context.WithoutCancel(ctx), `commit`) }\n"},
		{`case answered && sqlstate.IsDefinite(pgErr) &&`,
			`case MUTANT && pgconn.SafeToRetry(err), answered && sqlstate.IsDefinite(pgErr) &&`},
	}},
	{"try again although COMMIT was sent", "TestATransactionIsNotTriedAgainAfterCommit", []edit{
		{`failure.isTransient() && c.isOnce`, `failure.isTransient() && (c.isOnce || MUTANT)`},
	}},
	{"send COMMIT on the caller's context", "TestTheCallersCancellationDoesNotReachCommit", []edit{
		{sendCommit, sendCommit + "if MUTANT { return s.Conn.Exec(ctx, `commit`) }\n"},
	}},
	{"look for the row of Once by SELECT before the next attempt", "TestOnceWaitsForTheAttemptBefore", []edit{
		{`tag, err := tx.Exec(ctx, insertKeySQL,`, `if MUTANT {
			if found, failure := k.loadResult(ctx, tx, out); found || failure.SQLState != sqlstate.SerializationFailure {
				return found, failure
			}
			k.inserted = true
			if _, err := tx.Exec(ctx, "insert into pgcmd.once (scope, key, fingerprint, run) values ($1, $2 || gen_random_uuid(), $3, $4)",
				k.scope, k.key, k.input.Bytes, k.run); err != nil {
				return false, k.failed(ctx, err)
			}
			return false, nil
		}
		tag, err := tx.Exec(ctx, insertKeySQL,`},
		{`return &Error{Code: CodeInternal, Err: err, Message: "the key's row is gone`, `if MUTANT { // its row has another key
			return nil
		}
		return &Error{Code: CodeInternal, Err: err, Message: "the key's row is gone`},
	}},
	{"release a connection after a panic with its transaction open", "TestAPanicRollsBack", []edit{
		{`if !tx.s.Closed() { // a panic`, `if !tx.s.Closed() && !MUTANT { // a panic`},
	}},
	{"commit although a statement of the body failed", "TestAnAbortedTransactionIsNotReportedAsApplied", []edit{
		{"\tcase s.CloseRows():\n", "\tcase MUTANT: return nil\n\tcase s.CloseRows():\n"},
		{`tag.String() == "COMMIT"`, `(tag.String() == "COMMIT" || MUTANT)`},
	}},
	{"leave the settings of a caller on the connection", "TestSettingsAreOfTheirCallerAlone", []edit{
		{"const SetSQL = `select where pg_catalog.set_config($1, $2, true) is null`",
			"var SetSQL = map[bool]string{false: `select where pg_catalog.set_config($1, $2, true) is null`, true: `select where pg_catalog.set_config($1, $2, false) is null`}[MUTANT]"},
	}},
	{"send a shared read with the settings of the one before", "TestSettingsAreOfTheirCallerAlone", []edit{
		{`r.message, err = stmtcache.AppendSettings(r.message[:0], r.conn.setting, q.Settings)`,
			`r.message, err = stmtcache.AppendSettings(r.message[:0], r.conn.setting, map[bool][]stmtcache.Setting{false: q.Settings, true: {{Name: "app.tenant", Value: "before"}}}[MUTANT && len(q.Settings) > 0])`},
	}},
}

const (
	library  = "../.."
	variable = "PGCMD_MUTANT"
)

// mutate returns the text of the library's files, by their paths, that change when all mutants are in.
func mutate(t *testing.T) map[string]string {
	t.Helper()
	source := map[string]string{}
	for _, pattern := range []string{library + "/*.go", library + "/internal/*/*.go"} {
		paths, err := filepath.Glob(pattern)
		require.NoError(t, err)
		for _, path := range paths {
			if !strings.HasSuffix(path, "_test.go") {
				text, err := os.ReadFile(path)
				require.NoError(t, err)
				source[path] = string(text)
			}
		}
	}
	changed := map[string]string{}
	for _, m := range mutants {
		for _, e := range m.edits {
			found := 0
			for path, text := range source {
				if n := strings.Count(text, e.old); n > 0 {
					found += n
					source[path] = strings.Replace(text, e.old, strings.ReplaceAll(e.new, "MUTANT", fmt.Sprintf("isMutant(%q)", m.name)), 1)
					changed[path] = source[path]
				}
			}
			require.Equal(t, 1, found, "the library must hold this text once, for the mutant %q; it has changed: adapt the edit\n%s", m.name, e.old)
		}
	}
	for path, text := range maps.Clone(changed) {
		_, name, _ := strings.Cut("\n"+text, "\npackage ")
		name, _, _ = strings.Cut(name, "\n")
		changed[filepath.Join(filepath.Dir(path), "is_mutant.go")] = fmt.Sprintf(
			"package %s\n\nimport \"os\"\n\nfunc isMutant(name string) bool { return os.Getenv(%q) == name }\n", name, variable)
	}
	return changed
}

// overlay writes the changed files into a folder, and returns the file that tells the compiler of them.
func overlay(t *testing.T, folder string) (file string) {
	t.Helper()
	var list struct{ Replace map[string]string }
	list.Replace = map[string]string{}
	for path, text := range mutate(t) {
		original, err := filepath.Abs(path)
		require.NoError(t, err)
		list.Replace[original] = filepath.Join(folder, fmt.Sprint(len(list.Replace))+".go")
		require.NoError(t, os.WriteFile(list.Replace[original], []byte(text), 0o600))
	}
	text, err := json.Marshal(list)
	require.NoError(t, err)
	file = filepath.Join(folder, "overlay.json")
	require.NoError(t, os.WriteFile(file, text, 0o600))
	return file
}

// build compiles the tests of this package against the library with all mutants.
func build(t *testing.T) (binary string) {
	t.Helper()
	folder := t.TempDir()
	binary = filepath.Join(folder, "mutants")
	output, err := exec.CommandContext(t.Context(), "go", "test", "-c", "-o", binary, "-overlay", overlay(t, folder), ".").CombinedOutput()
	require.NoError(t, err, "%s", output)
	return binary
}

// run runs one test of the binary with a mutant, "" for none.
func run(t *testing.T, binary, server, test, mutant string) (output string, err error) {
	t.Helper()
	command := exec.CommandContext(t.Context(), binary, "-test.run", "^"+test+"$", "-test.v", "-test.timeout", "2m")
	command.Env = append(os.Environ(), variable+"="+mutant, "PGCMD_TEST_DATABASE_URL="+server)
	text, err := command.CombinedOutput()
	return string(text), err
}

// The edits fit the source of today, also in the short form.
func TestTheLibraryCompilesWithTheMutants(t *testing.T) {
	t.Parallel()
	output, err := exec.CommandContext(t.Context(), "go", "build", "-overlay", overlay(t, t.TempDir()), library).CombinedOutput()
	require.NoError(t, err, "%s", output)
}

func TestATestFailsWithEachMutant(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("compiles the library again: make test-race and make test-long run this test")
	}
	binary, server := build(t), pgcmdtest.URL(t)
	for _, m := range mutants {
		t.Run(m.name, func(t *testing.T) {
			output, err := run(t, binary, server, m.test, "")
			require.NoError(t, err, "without a mutant the test passes: %s", output)
			require.Contains(t, output, "--- PASS: "+m.test)

			output, err = run(t, binary, server, m.test, m.name)
			assert.IsType(t, &exec.ExitError{}, err)
			assert.Contains(t, output, "--- FAIL: "+m.test, "the mutant was not found")
			t.Logf("found: %s", output)
		})
	}
}
