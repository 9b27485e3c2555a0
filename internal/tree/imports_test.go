package tree

import (
	"go/parser"
	"go/token"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const module = "github.com/pgcmd/pgcmd"

// helpers are packages for tests and benchmarks: they use the library.
var helpers = []string{"internal/workload"}

// A program that talks to PostgreSQL alone need not link an HTTP server and client.
func TestTheLibraryLinksNoHTTP(t *testing.T) {
	t.Parallel()
	out, err := exec.CommandContext(t.Context(), "go", "list", "-deps", module).Output()
	require.NoError(t, err)
	deps := strings.Fields(string(out))
	require.Contains(t, deps, module)
	assert.NotContains(t, deps, "net/http")
}

// The compiler refuses an import cycle, but a package that the library does not import yet could import it.
func TestNoInternalPackageImportsTheLibrary(t *testing.T) {
	t.Parallel()
	imports := map[string][]string{} // by the folder of a package
	for _, path := range texts(t) {
		if filepath.Ext(path) != ".go" || strings.HasSuffix(path, "_test.go") {
			continue
		}
		folder, err := filepath.Rel(root, filepath.Dir(path))
		require.NoError(t, err)
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
		require.NoError(t, err)
		for _, spec := range file.Imports {
			imported, err := strconv.Unquote(spec.Path.Value)
			require.NoError(t, err)
			if imported == module {
				imports[folder] = append(imports[folder], ".")
			} else if inside, ok := strings.CutPrefix(imported, module+"/"); ok {
				imports[folder] = append(imports[folder], inside)
			}
		}
	}
	var chain func(folder string, seen map[string]bool) []string
	chain = func(folder string, seen map[string]bool) []string {
		if folder == "." {
			return []string{"the library"}
		}
		seen[folder] = true
		for _, next := range imports[folder] {
			if !seen[next] {
				if rest := chain(next, seen); rest != nil {
					return append([]string{folder}, rest...)
				}
			}
		}
		return nil
	}
	internal := 0
	for folder := range imports {
		if !strings.HasPrefix(folder, "internal/") {
			continue
		}
		internal++
		path := chain(folder, map[string]bool{})
		if isHelper(folder) {
			assert.NotNil(t, path, "%s does not import the library: take it from the list of helpers", folder)
			continue
		}
		assert.Nil(t, path, "an internal package imports the library: %s", strings.Join(path, ", which imports "))
	}
	assert.Greater(t, internal, 5)
	assert.NotNil(t, chain("pgcmdtest", map[string]bool{}), "imports are found")
}

func isHelper(folder string) bool {
	for _, helper := range helpers {
		if folder == helper {
			return true
		}
	}
	return false
}

// An example is code to begin from: it must compile in a module of its reader.
func TestNoExampleImportsAnInternalPackage(t *testing.T) {
	t.Parallel()
	examples := 0
	for _, path := range texts(t) {
		folder, err := filepath.Rel(root, filepath.Dir(path))
		require.NoError(t, err)
		if filepath.Ext(path) != ".go" || !strings.HasPrefix(filepath.ToSlash(folder), "examples/") {
			continue
		}
		examples++
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
		require.NoError(t, err)
		for _, spec := range file.Imports {
			assert.NotContains(t, spec.Path.Value, module+"/internal/", path)
		}
	}
	assert.Greater(t, examples, 10)
}
