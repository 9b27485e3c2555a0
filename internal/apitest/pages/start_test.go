// Package pages_test compiles and runs the code of the documents.
package pages_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const root = "../../.."

// fileOf finds the blocks of a page that are files: the line before names it.
var fileOf = regexp.MustCompile("(?ms)^`([a-z_]+\\.(?:go|sql))`:\n\n```[a-z]+\n(.*?)^```")

// A reader who follows the page has a module that compiles, passes go vet, and whose test passes.
func TestTheServiceOfTheStartPageWorksInAnEmptyFolder(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile(filepath.Join(root, "docs", "start.md"))
	require.NoError(t, err)
	folder := t.TempDir()
	files := fileOf.FindAllStringSubmatch(string(page), -1)
	require.Len(t, files, 4)
	for _, file := range files {
		require.NoError(t, os.WriteFile(filepath.Join(folder, file[1]), []byte(file[2]), 0o644))
	}
	assert.Len(t, regexp.MustCompile("(?m)^```go").FindAllString(string(page), -1), 3, "each block of Go is a file of the service")

	// The library as it is here, and the modules that it needs.
	library, err := filepath.Abs(root)
	require.NoError(t, err)
	mod, err := os.ReadFile(filepath.Join(root, "go.mod"))
	require.NoError(t, err)
	requires := regexp.MustCompile(`(?s)\ngo .*`).Find(mod)
	require.NotEmpty(t, requires)
	require.NoError(t, os.WriteFile(filepath.Join(folder, "go.mod"), fmt.Appendf(nil,
		"module example.com/shop\n%s\nrequire github.com/pgcmd/pgcmd v0.0.0\n\nreplace github.com/pgcmd/pgcmd => %s\n", requires, library), 0o644))
	sums, err := os.ReadFile(filepath.Join(root, "go.sum"))
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(folder, "go.sum"), sums, 0o644))

	for _, command := range [][]string{{"gofmt", "-l", "."}, {"go", "test", "-vet=all", "-mod=mod", "-count=1", "."}} {
		run := exec.CommandContext(t.Context(), command[0], command[1:]...)
		run.Dir = folder
		run.Env = append(os.Environ(), "GOWORK=off", "GOFLAGS=", "GOPROXY=off")
		output, err := run.CombinedOutput()
		require.NoError(t, err, "%v: %s", command, output)
		if command[0] == "gofmt" {
			assert.Empty(t, string(output), "gofmt would change these")
		}
	}
}
