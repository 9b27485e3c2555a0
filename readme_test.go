package pgcmd_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Every Go block of the README is code that compiles and runs: it stands, to the
// letter but for its indentation, in an example.
func TestTheREADMEsCodeIsThatOfTheExamples(t *testing.T) {
	t.Parallel()
	var code strings.Builder
	files, err := filepath.Glob("example_*_test.go")
	require.NoError(t, err)
	for _, file := range files {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		code.WriteString(unindented(string(text)))
	}
	readme, err := os.ReadFile("README.md")
	require.NoError(t, err)
	blocks := regexp.MustCompile("(?s)```go\n(.*?)```").FindAllStringSubmatch(string(readme), -1)
	require.NotEmpty(t, blocks)
	for _, block := range blocks {
		for part := range strings.SplitSeq(block[1], "\n\n") {
			part = unindented(part)
			assert.True(t, strings.Contains(code.String(), strings.TrimSpace(part)), "not in an example:\n%s", part)
		}
	}
}

func unindented(text string) string {
	return regexp.MustCompile(`(?m)^[\t ]+`).ReplaceAllString(text, "")
}
