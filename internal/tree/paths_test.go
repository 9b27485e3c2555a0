package tree

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var (
	quoted  = regexp.MustCompile("`([A-Za-z0-9_./-]+)`")
	named   = regexp.MustCompile("`([a-z_]+\\.go)`: ([^;|]+)")
	layered = regexp.MustCompile(`(?m)^\| ([a-z, ]+) \|`)
)

// The documents name files and packages, which move.
func TestTheFilesThatDocumentsNameExist(t *testing.T) {
	t.Parallel()
	found := 0
	for _, path := range texts(t) {
		if filepath.Ext(path) != ".md" || filepath.Base(path) == "CHANGELOG.md" {
			continue
		}
		text, err := os.ReadFile(path)
		require.NoError(t, err)
		for _, match := range quoted.FindAllStringSubmatch(string(text), -1) {
			name := match[1]
			if !strings.HasSuffix(name, ".go") && !strings.HasPrefix(name, "internal/") && !strings.HasPrefix(name, "scripts/") {
				continue
			}
			if strings.Contains(string(text), "\n`"+name+"`:\n") { // a file that the page has its reader write
				continue
			}
			found++
			_, inRoot := os.Stat(filepath.Join(root, name))
			_, beside := os.Stat(filepath.Join(filepath.Dir(path), name))
			assert.True(t, inRoot == nil || beside == nil, "%s names %s, which does not exist", path, name)
		}
	}
	assert.Greater(t, found, 10)
}

// docs/architecture.md lists every package of internal/.
func TestTheDocumentOfTheArchitectureListsEveryPackage(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join(root, "docs", "architecture.md"))
	require.NoError(t, err)
	listed := map[string]bool{}
	for _, line := range layered.FindAllStringSubmatch(string(text), -1) {
		for name := range strings.SplitSeq(line[1], ", ") {
			listed[name] = true
		}
	}
	for _, match := range quoted.FindAllStringSubmatch(string(text), -1) {
		listed[match[1]] = true
	}
	packages, err := os.ReadDir(filepath.Join(root, "internal"))
	require.NoError(t, err)
	for _, folder := range packages {
		assert.True(t, listed[folder.Name()], "docs/architecture.md does not list internal/%s", folder.Name())
	}
}

// docs/architecture.md names functions of the root, by the file that they are in.
func TestTheFunctionsThatTheDocumentOfTheArchitectureNamesExist(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join(root, "docs", "architecture.md"))
	require.NoError(t, err)
	_, section, found := strings.Cut(string(text), "\n## Where it is decided\n")
	require.True(t, found)
	section, _, _ = strings.Cut(section, "\n## ")
	functions := 0
	for _, list := range named.FindAllStringSubmatch(section, -1) {
		source, err := os.ReadFile(filepath.Join(root, list[1]))
		require.NoError(t, err)
		for _, match := range quoted.FindAllStringSubmatch(list[2], -1) {
			functions++
			declared := regexp.MustCompile(`(?m)^func (\([^)]*\) )?` + match[1] + `\(`).Match(source)
			assert.True(t, declared, "docs/architecture.md names %s of %s, which has no such function", match[1], list[1])
		}
	}
	assert.Greater(t, functions, 20)
}
